//! What HAProxy says it has loaded: certificates, entries for staples, native updates. Pure.

use std::collections::BTreeMap;

use super::native::NativeUpdate;
use crate::certificate::{Fingerprint, SerialNumber, parse_hex};
use crate::ocsp::CertId;

/// What identifies a certificate to an OCSP responder (RFC 6960 section 4.1.1), as far as HAProxy lists it. HAProxy's
/// own key is the DER of the CertID, which TLS libraries encode differently: it is never taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertIdKey {
    /// SHA-1 of the issuer's name.
    pub issuer_name_hash: [u8; 20],
    /// SHA-1 of the issuer's key.
    pub issuer_key_hash: [u8; 20],
    /// The certificate's serial number.
    pub serial_number: SerialNumber,
}

impl From<&CertId> for CertIdKey {
    fn from(id: &CertId) -> Self {
        Self {
            issuer_name_hash: *id.issuer_name_hash(),
            issuer_key_hash: *id.issuer_key_hash(),
            serial_number: id.serial_number().clone(),
        }
    }
}

/// A certificate as HAProxy runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedCertificate {
    /// HAProxy's name for it: a path in HAProxy's own file system, or `@store/alias`.
    pub name: String,
    /// The name that holds it in HAProxy 2.2 if it is one of several key types under one name.
    pub bundle: Option<String>,
    /// SHA-1 of its DER; none if HAProxy does not show it (bundles in 2.2, empty certificates).
    pub fingerprint: Option<Fingerprint>,
    /// Its serial number.
    pub serial_number: Option<SerialNumber>,
    /// Whether anything uses it.
    pub status: LoadedStatus,
    /// Whether HAProxy staples it.
    pub stapling: Stapling,
    /// The file it was loaded from, as configured, if that is not its name; 3.2 and later.
    pub file: Option<String>,
    /// The `.ocsp` file that HAProxy looked for, whether or not there is one; 3.2 and later.
    pub ocsp_file: Option<OcspFile>,
}

/// Where HAProxy looks for a certificate's response when it loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OcspFile {
    /// By the certificate's name: `NAME.ocsp`.
    Appended,
    /// The same where `.crt` is left out of such names (`ssl-load-extra-del-ext`).
    InPlaceOfCrt,
    /// Where the configuration says (a crt-store's or a crt-list's `ocsp`). HAProxy does not start without it.
    Configured(String),
}

impl OcspFile {
    fn new(path: &str, name: &str) -> Self {
        match path.strip_suffix(".ocsp") {
            Some(stem) if stem == name => Self::Appended,
            Some(stem) if name.strip_suffix(".crt") == Some(stem) => Self::InPlaceOfCrt,
            _ => Self::Configured(path.to_owned()),
        }
    }
}

impl LoadedCertificate {
    /// The `.ocsp` file that HAProxy looked for.
    #[must_use]
    pub fn ocsp_file(&self) -> Option<String> {
        Some(match self.ocsp_file.as_ref()? {
            OcspFile::Appended => format!("{}.ocsp", self.name),
            OcspFile::InPlaceOfCrt => format!("{}.ocsp", self.name.strip_suffix(".crt").unwrap_or(&self.name)),
            OcspFile::Configured(path) => path.clone(),
        })
    }

    /// The `.ocsp` file that HAProxy's configuration names for it, other than one that it looked for by the certificate's
    /// name. It does not start without it.
    #[must_use]
    pub fn required_ocsp_file(&self) -> Option<&str> {
        match self.ocsp_file.as_ref()? {
            OcspFile::Configured(path) => Some(path),
            OcspFile::Appended | OcspFile::InPlaceOfCrt => None,
        }
    }
}

/// `Status:` of a loaded certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedStatus {
    /// A bind line, a crt-list or a server uses it.
    Used,
    /// It is loaded and nothing uses it.
    Unused,
    /// It was made with `new ssl cert` and has no content yet.
    Empty,
    /// Something this program does not know.
    Other,
    /// HAProxy did not show it.
    NotShown,
}

/// Whether HAProxy looks for a staple when it serves a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stapling {
    /// It does: a push is enough.
    On,
    /// It does not, whatever entries exist: a transaction has to switch it on. The same certificate under another name
    /// may be stapled all the same.
    Off,
    /// HAProxy does not say; the list of entries tells (2.5 to 2.7), or the reply to a push.
    Unknown,
}

/// The places for staples: HAProxy has one a CertID. By what HAProxy calls each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<CertIdKey, EntryName>);

/// What a command calls an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryName {
    /// HAProxy's key for it: hexadecimal, opaque.
    Key(String),
    /// The name of a certificate that it serves; 2.8 and later.
    Certificate(String),
}

impl Entries {
    /// The entry for a certificate, if there is one.
    #[must_use]
    pub fn find(&self, id: &CertIdKey) -> Option<&EntryName> {
        self.0.get(id)
    }

    /// Takes note of an entry that was made since they were listed.
    pub(super) fn note(&mut self, id: &CertIdKey, name: EntryName) {
        self.0.entry(id.clone()).or_insert(name);
    }

    /// By their keys.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<&str, &CertIdKey> {
        let named = self.0.iter().filter_map(|(id, name)| match name {
            EntryName::Key(key) => Some((key.as_str(), id)),
            EntryName::Certificate(_) => None,
        });
        named.collect()
    }

    /// Says of each update which certificate it is for, as far as its entry is listed.
    #[must_use]
    pub fn identify(&self, updates: Vec<NativeUpdate>) -> Vec<NativeUpdate> {
        // Mostly there are none, and thousands of entries.
        if updates.is_empty() {
            return updates;
        }
        let ids = self.ids();
        let identified = |update: NativeUpdate| {
            let id = ids.get(update.key.as_str()).map(|id| (*id).clone());
            NativeUpdate { id, ..update }
        };
        updates.into_iter().map(identified).collect()
    }
}

/// All of it, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What is loaded.
    pub news: News,
    /// What HAProxy updates by itself, not identified yet; 2.8 and later.
    pub native_updates: Vec<NativeUpdate>,
    /// The certificate that someone's open transaction is about.
    pub transaction_open: Option<String>,
}

impl Survey {
    /// The certificates that were looked at.
    #[must_use]
    pub fn loaded(&self) -> &[LoadedCertificate] {
        let (News::Whole { loaded, .. } | News::Same { loaded }) = &self.news;
        loaded
    }

    /// Every entry, if they were looked at.
    #[must_use]
    pub const fn entries(&self) -> Option<&Entries> {
        match &self.news {
            News::Whole { entries, .. } => entries.as_ref(),
            News::Same { .. } => None,
        }
    }
}

/// What a survey found to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Everything was looked at.
    Whole {
        /// Every certificate, in HAProxy's order.
        loaded: Vec<LoadedCertificate>,
        /// Every entry; none before 2.5, which does not list them.
        entries: Option<Entries>,
        /// What it was read from; none before 2.5.
        seen: Option<Seen>,
    },
    /// The lists of names and entries are those of an earlier survey. These certificates were looked at again.
    Same {
        /// In no particular order.
        loaded: Vec<LoadedCertificate>,
    },
}

/// What earlier lists looked like: the same text says the same. A certificate that is replaced at run time loses its
/// entry, so that the list of entries shows it, unless it has none, or shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    names: [u8; 32],
    entries: [u8; 32],
}

impl Seen {
    pub(super) fn new(listing: &str, entries: &str) -> Self {
        // What is no list at all is something else than an empty one.
        let names = split_at_names(listing).map_or(listing, |(_, names)| names);
        Self { names: openssl::sha::sha256(names.as_bytes()), entries: openssl::sha::sha256(entries.as_bytes()) }
    }
}

/// The reply to `show ssl cert`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) transaction: Option<String>,
    /// Name and bundle.
    pub(super) names: Vec<(String, Option<String>)>,
}

/// What stands before all names.
const NAMES: &str = "# filename";

/// The certificate that the open transaction is about, from the reply to `show ssl cert`.
pub(super) fn transaction(reply: &str) -> Option<String> {
    Listing::parse(split_at_names(reply).map_or(reply, |(before, _)| before))?.transaction
}

/// What is said of the open transaction, and the names with their heading; none without it. A certificate may have any
/// name, and be called like the heading, too.
fn split_at_names(reply: &str) -> Option<(&str, &str)> {
    let before = reply.split_inclusive('\n').take_while(|line| line.lines().next() != Some(NAMES));
    reply.split_at_checked(before.map(str::len).sum()).filter(|(_, names)| !names.is_empty())
}

impl Listing {
    /// None if the reply is not a list of certificates.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let mut listing = Self::default();
        let mut in_transaction = None;
        for line in reply.lines().filter(|line| !line.is_empty()) {
            match (line, in_transaction) {
                ("# transaction", None) => in_transaction = Some(true),
                (NAMES, None | Some(true)) => in_transaction = Some(false),
                (line, Some(true)) => {
                    let name = line.strip_prefix('*').unwrap_or(line);
                    let name = bundle(name).map_or(name, |(base, _)| base);
                    listing.transaction.get_or_insert_with(|| name.to_owned());
                }
                (line, Some(false)) => {
                    // A name that starts with an asterisk is escaped.
                    let name = line.strip_prefix('\\').filter(|rest| rest.starts_with('*')).unwrap_or(line);
                    match bundle(name) {
                        Some((base, members)) => {
                            let members = members.into_iter().map(|member| (member.to_owned(), Some(base.to_owned())));
                            listing.names.extend(members);
                        }
                        None => listing.names.push((name.to_owned(), None)),
                    }
                }
                (_, None) => return None,
            }
        }
        // HAProxy without any certificate lists nothing, not even the heading.
        (in_transaction.is_some() || reply.trim().is_empty()).then_some(listing)
    }
}

/// `a.pem: a.pem.ecdsa a.pem.rsa`, as HAProxy 2.2 lists certificates of several key types.
fn bundle(line: &str) -> Option<(&str, Vec<&str>)> {
    let (base, rest) = line.split_once(": ")?;
    let suffixes = ["dsa", "ecdsa", "rsa"];
    // The names in `rest` may hold spaces, so look for the base instead of splitting at them.
    let starts: Vec<usize> = rest
        .match_indices(base)
        .map(|(at, _)| at)
        .filter(|at| {
            rest.get(at + base.len()..).is_some_and(|after| {
                after.strip_prefix('.').is_some_and(|after| {
                    suffixes.iter().any(|suffix| {
                        after.strip_prefix(suffix).is_some_and(|end| end.is_empty() || end.starts_with(' '))
                    })
                })
            })
        })
        .collect();
    if starts.first() != Some(&0) {
        return None;
    }
    let ends = starts.iter().skip(1).copied().chain([rest.len()]);
    let members = starts.iter().zip(ends).filter_map(|(start, end)| rest.get(*start..end)).map(str::trim_end);
    Some((base, members.collect()))
}

/// What `show ssl cert NAME` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Details {
    fingerprint: Option<Fingerprint>,
    serial_number: Option<SerialNumber>,
    status: LoadedStatus,
    /// `OCSP Response Key:`, which may be empty; 2.5 and later.
    response_key: Option<String>,
    /// `Crt filename:`, if it is not the name; 3.2 and later.
    file: Option<String>,
    /// `OCSP filename:`; 3.2 and later.
    ocsp_file: Option<OcspFile>,
}

impl Details {
    /// The key of the entry, as far as the version tells; none if there is none.
    pub(super) fn entry_key(&self) -> Option<&str> {
        self.response_key.as_deref().filter(|key| !key.is_empty())
    }

    /// The certificate's serial number.
    pub(super) const fn serial_number(&self) -> Option<&SerialNumber> {
        self.serial_number.as_ref()
    }

    /// SHA-1 of the certificate's DER.
    pub(super) const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Reads pipelined replies; a reply that shows no certificate is passed over.
    pub(super) fn parse(reply: &str) -> BTreeMap<String, Self> {
        let mut found = BTreeMap::new();
        let mut rest = reply.lines().peekable();
        while let Some(line) = rest.next() {
            let Some(name) = line.strip_prefix("Filename: ") else { continue };
            let mut details = Self {
                fingerprint: None,
                serial_number: None,
                status: LoadedStatus::NotShown,
                response_key: None,
                file: None,
                ocsp_file: None,
            };
            while let Some(line) = rest.next_if(|line| !line.starts_with("Filename: ")) {
                let Some((field, value)) = line.split_once(':') else { continue };
                let value = value.trim();
                match field {
                    "Status" => details.status = status(value),
                    "Serial" if details.serial_number.is_none() => {
                        details.serial_number = SerialNumber::from_hex(value);
                    }
                    "SHA1 FingerPrint" if details.fingerprint.is_none() => details.fingerprint = value.parse().ok(),
                    "OCSP Response Key" => details.response_key = Some(value.to_owned()),
                    "Crt filename" => details.file = Some(value).filter(|file| *file != name).map(str::to_owned),
                    "OCSP filename" => details.ocsp_file = Some(OcspFile::new(value, name)),
                    _ => {}
                }
            }
            found.insert(name.to_owned(), details);
        }
        found
    }
}

fn status(text: &str) -> LoadedStatus {
    match text {
        "Used" => LoadedStatus::Used,
        "Unused" => LoadedStatus::Unused,
        "Empty" => LoadedStatus::Empty,
        _ => LoadedStatus::Other,
    }
}

/// Joins names and details.
pub(super) fn join(
    names: Vec<(String, Option<String>)>,
    details: &BTreeMap<String, Details>,
    key_is_cert_id: bool,
) -> Vec<LoadedCertificate> {
    let mut uses: BTreeMap<Fingerprint, usize> = BTreeMap::new();
    for fingerprint in details.values().filter_map(|details| details.fingerprint) {
        *uses.entry(fingerprint).or_default() += 1;
    }
    let several = |details: &Details| {
        details.fingerprint.and_then(|fingerprint| uses.get(&fingerprint)).is_some_and(|uses| *uses > 1)
    };
    names
        .into_iter()
        .map(|(name, bundle)| {
            let shown = details.get(&name);
            let stapling = match shown.and_then(|details| Some((details, details.response_key.as_deref()?))) {
                Some((_, key)) if !key.is_empty() => Stapling::On,
                // Since 2.8 the key is the CertID of this very name. Before, it came from the response that was loaded
                // with it: an empty one leaves the key empty, and only the list of entries tells; that list cannot
                // tell two names of one certificate apart, though.
                Some((details, _)) if key_is_cert_id || several(details) => Stapling::Off,
                _ => Stapling::Unknown,
            };
            LoadedCertificate {
                bundle,
                fingerprint: shown.and_then(|details| details.fingerprint),
                serial_number: shown.and_then(|details| details.serial_number.clone()),
                status: shown.map_or(LoadedStatus::NotShown, |details| details.status),
                stapling,
                file: shown.and_then(|details| details.file.clone()),
                ocsp_file: shown.and_then(|details| details.ocsp_file.clone()),
                name,
            }
        })
        .collect()
}

/// The reply to `show ssl ocsp-response`; none if it is something else.
pub(super) fn parse_entries(reply: &str) -> Option<Entries> {
    if reply.trim().is_empty() {
        return Some(Entries::default());
    }
    let rest = reply.trim_start().strip_prefix("# Certificate IDs")?;
    let entries = rest.split("Certificate ID key : ").skip(1).filter_map(|block| {
        let mut lines = block.lines();
        let key = lines.next()?.trim().to_owned();
        let (mut name_hash, mut key_hash, mut serial) = (None, None, None);
        for line in lines {
            if let Some(text) = line.strip_prefix("   Issuer Name Hash: ") {
                name_hash = sha1(text);
            } else if let Some(text) = line.strip_prefix("   Issuer Key Hash: ") {
                key_hash = sha1(text);
            } else if let Some(text) = line.strip_prefix("   Serial Number: ") {
                serial = SerialNumber::from_hex(text.trim());
            }
        }
        let id = CertIdKey { issuer_name_hash: name_hash?, issuer_key_hash: key_hash?, serial_number: serial? };
        Some((id, EntryName::Key(key)))
    });
    Some(Entries(entries.collect()))
}

/// An entry by another hash is none that a staple of ours could be for.
fn sha1(text: &str) -> Option<[u8; 20]> {
    parse_hex(text.trim())?.try_into().ok()
}
