//! Bringing a verified staple into HAProxy, and making sure that it is there.

use jiff::Timestamp;

use super::command::{Command, DEFAULT_BUFFER, response_limit};
use super::held::{Held, HeldResponse, Shown, StapleView};
use super::inventory::{CertIdKey, Details, Entries, EntryName, Stapling};
use super::process::Process;
use super::refusal::InstallError;
use super::session::{self, HaproxyError};
use super::socket::RuntimeApi;
use super::transaction;
use crate::certificate::Certificate;
use crate::clock::between;
use crate::ocsp::SKEW;

/// One staple for one certificate of one HAProxy.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// HAProxy's name for the certificate.
    pub name: &'a str,
    /// The certificate's CertID, as the responder was asked for it.
    pub id: &'a CertIdKey,
    /// What the survey said about the certificate; [`Stapling::On`] once an installation in the same process said that
    /// it switched it on.
    pub stapling: Stapling,
    /// The issuer's certificate.
    pub issuer: IssuerKnowledge<'a>,
    /// The staple, verified for this certificate and issuer.
    pub staple: StapleView<'a>,
    /// What to do about a staple in HAProxy that the CA made after this one.
    pub overwrite: OverwritePolicy,
}

/// Whether HAProxy can find the issuer of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum IssuerKnowledge<'a> {
    /// It is in the certificate's own chain.
    InChain,
    /// HAProxy has to be told.
    Told(&'a Certificate),
}

/// What to do when HAProxy holds a response with a later `thisUpdate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverwritePolicy {
    /// Leave it and report it.
    #[default]
    KeepNewer,
    /// Overwrite it: the caller has looked at it and it does not verify.
    Replace,
}

/// What became of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// HAProxy holds exactly this staple; nothing was written.
    AlreadyServed,
    /// HAProxy took it.
    Installed {
        /// Whether stapling had to be switched on by a transaction.
        enabled: bool,
        /// How that is known.
        proof: Proof,
    },
    /// HAProxy holds a later one, which nobody has verified; nothing was written.
    HoldsNewer(HeldResponse),
    /// It is not installed.
    Failed(InstallError),
}

/// How it is known that HAProxy holds a staple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It was read back.
    ReadBack,
    /// HAProxy said so; before 2.5 there is no way to read it back.
    Reply,
}

/// Brings one staple into HAProxy.
///
/// `entries` is the survey's list of entries; it is renewed when it proves to be out of date. HAProxy before 2.5 does
/// not show what it holds: there, every call writes, and the caller remembers what it installed in which process.
///
/// Await it to its end: a transaction that is dropped half-way stays open.
pub async fn reconcile(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
    now: Timestamp,
) -> Outcome {
    reconcile_many(api, process, entries, std::slice::from_ref(one), now)
        .await
        .pop()
        .unwrap_or(Outcome::Failed(InstallError::NoEntry))
}

/// Brings staples into HAProxy, one after the other, and reads them back. One outcome for each installation, in their
/// order.
pub async fn reconcile_many(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    installations: &[Installation<'_>],
    now: Timestamp,
) -> Vec<Outcome> {
    let mut steps = Vec::with_capacity(installations.len());
    let held = shown(api, process, entries.as_ref(), installations.iter()).await;
    for one in installations {
        let step = write(api, process, entries, one, &held, now).await;
        steps.push(step.unwrap_or_else(|error| Step::Done(Outcome::Failed(error))));
    }
    // Together, and after all that is only asked or written: no transaction is open for longer than it takes.
    let off = installations.iter().zip(&mut steps).filter(|(_, step)| matches!(step, Step::Off));
    let (off, waiting): (Vec<_>, Vec<_>) = off.unzip();
    for (step, enabled) in waiting.into_iter().zip(transaction::enable(api, process, &off).await) {
        *step = enabled.map_or_else(|error| Step::Done(Outcome::Failed(error)), |()| Step::Enabled);
    }
    let enabled = installations.iter().zip(&steps).filter(|(_, step)| matches!(step, Step::Enabled));
    note_entries(api, process, entries, enabled.map(|(one, _)| one).collect()).await;
    let mut outcomes = Vec::with_capacity(installations.len());
    let written = installations.iter().zip(&steps).filter(|(_, step)| !matches!(step, Step::Done(_)));
    let held = shown(api, process, entries.as_ref(), written.map(|(one, _)| one)).await;
    for (one, step) in installations.iter().zip(steps) {
        let enabled = matches!(step, Step::Enabled);
        outcomes.push(match step {
            Step::Done(outcome) => outcome,
            // A result for each keeps this from happening.
            Step::Off => Outcome::Failed(InstallError::NoEntry),
            Step::Pushed | Step::Enabled if held.has(&one.staple) => {
                Outcome::Installed { enabled, proof: Proof::ReadBack }
            }
            Step::Pushed | Step::Enabled => match read_back(api, process, entries, one).await {
                Ok(proof) => Outcome::Installed { enabled, proof },
                Err(error) => Outcome::Failed(error),
            },
        });
    }
    outcomes
}

/// What the entries of these hold, asked for together: one exchange each would be most of the work. Of a single one it is
/// asked when it is needed.
async fn shown<'a>(
    api: &impl RuntimeApi,
    process: &Process,
    entries: Option<&Entries>,
    installations: impl Iterator<Item = &'a Installation<'a>>,
) -> Shown {
    let known: Vec<&EntryName> = installations.filter_map(|one| entries?.find(one.id)).collect();
    if known.len() > 1 { session::shown(api, process, &known).await } else { Shown::default() }
}

enum Step {
    Done(Outcome),
    /// To be switched on.
    Off,
    /// Written into an entry.
    Pushed,
    /// Switched on by a transaction.
    Enabled,
}

async fn write(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
    held: &Shown,
    now: Timestamp,
) -> Result<Step, InstallError> {
    let staple = &one.staple;
    let bytes = staple.der.len();
    if bytes > response_limit(one.name, DEFAULT_BUFFER) {
        // Rare enough to ask each time whether somebody made room for it.
        let limit = response_limit(one.name, session::buffer_size(api).await?);
        if bytes > limit {
            return Err(InstallError::TooLarge { bytes, limit });
        }
    }
    // It would replace the one before it and never be served.
    if between(now, staple.next_update) <= SKEW {
        return Err(InstallError::Expired { next_update: Some(staple.next_update) });
    }
    if !process.version.lists_entries() {
        if one.stapling == Stapling::Off {
            return Ok(Step::Off);
        }
        return match push(api, staple).await {
            Ok(()) => Ok(Step::Pushed),
            Err(InstallError::CertIdUnknown) => {
                is_still_there(api, one).await?;
                Ok(Step::Off)
            }
            Err(error) => Err(error),
        };
    }
    if one.stapling != Stapling::Off && held.has(staple) {
        return Ok(Step::Done(Outcome::AlreadyServed));
    }
    let was_listed = entries.as_ref().is_some_and(|list| list.find(one.id).is_some());
    match current(api, process, entries, one).await? {
        None => {
            if was_listed {
                is_still_there(api, one).await?;
            }
            Ok(Step::Off)
        }
        Some(Held::Response(held)) if held.is_newer_than(staple) && one.overwrite == OverwritePolicy::KeepNewer => {
            Ok(Step::Done(Outcome::HoldsNewer(held)))
        }
        // The entry is another name's: this one is not stapled yet.
        Some(_) if one.stapling == Stapling::Off => Ok(Step::Off),
        Some(Held::Response(held)) if held.is(staple) => Ok(Step::Done(Outcome::AlreadyServed)),
        Some(_) => push(api, staple).await.map(|()| Step::Pushed).inspect_err(|error| {
            if *error == InstallError::CertIdUnknown {
                *entries = None;
            }
        }),
    }
}

/// An entry that is gone may have gone with its certificate, which somebody replaced at run time: another one's response
/// would switch stapling on for nothing.
async fn is_still_there(api: &impl RuntimeApi, one: &Installation<'_>) -> Result<(), InstallError> {
    for command in Command::show_certificate_details([one.name]) {
        let details = Details::parse(&session::exchange_unlocked(api, &command).await?);
        let serial_number = details.get(one.name).and_then(Details::serial_number);
        // 2.2 does not show the parts of a bundle.
        if serial_number.is_some_and(|shown| *shown != one.id.serial_number) {
            return Err(InstallError::CertIdUnknown);
        }
    }
    Ok(())
}

/// What HAProxy holds for the CertID; none if it has no entry.
async fn current(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
) -> Result<Option<Held>, InstallError> {
    let known = entries.is_some();
    if let Some(entry) = find(api, entries, one.id).await? {
        if let Some(held) = session::held(api, process, &entry).await? {
            return Ok(Some(held));
        }
        // The list is out of date: HAProxy dropped the entry.
        *entries = None;
        if known && let Some(entry) = find(api, entries, one.id).await? {
            return Ok(session::held(api, process, &entry).await?);
        }
    }
    Ok(None)
}

async fn find(
    api: &impl RuntimeApi,
    entries: &mut Option<Entries>,
    id: &CertIdKey,
) -> Result<Option<EntryName>, InstallError> {
    let list = match entries {
        Some(list) => list,
        None => entries.insert(session::list_entries(api).await?),
    };
    Ok(list.find(id).cloned())
}

/// Takes note of the entries that were just made, without listing all there are: among ten thousand, that would be most
/// of the work. What cannot be found out this way is listed when it is needed.
async fn note_entries(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    enabled: Vec<&Installation<'_>>,
) {
    let Some(list) = entries else { return };
    if process.version.shows_der() {
        enabled.iter().for_each(|one| list.note(one.id, EntryName::Certificate(one.name.to_owned())));
    } else if process.version.lists_entries() {
        // 2.5 to 2.7 do not look an entry up by the certificate's name, and show its key with the certificate.
        for command in Command::show_certificate_details(enabled.iter().map(|one| one.name)) {
            let Ok(reply) = session::exchange_unlocked(api, &command).await else { continue };
            let details = Details::parse(&reply);
            for one in &enabled {
                if let Some(key) = details.get(one.name).and_then(Details::entry_key) {
                    list.note(one.id, EntryName::Key(key.to_owned()));
                }
            }
        }
    }
}

async fn push(api: &impl RuntimeApi, staple: &StapleView<'_>) -> Result<(), InstallError> {
    let command = Command::set_response(staple.der);
    let reply = api.exchange(&command).await?;
    if reply.trim() == "OCSP Response updated!" { Ok(()) } else { Err(InstallError::from_reply(&command, &reply)) }
}

async fn read_back(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
) -> Result<Proof, InstallError> {
    if !process.version.lists_entries() {
        return Ok(Proof::Reply);
    }
    match current(api, process, entries, one).await? {
        None => Err(InstallError::NoEntry),
        Some(Held::Response(held)) if held.is(&one.staple) => Ok(Proof::ReadBack),
        Some(Held::Response(held)) => {
            Err(InstallError::ReadBack { held: format!("one with thisUpdate {}", held.this_update) })
        }
        Some(Held::Nothing) => Err(InstallError::ReadBack { held: "none".to_owned() }),
        Some(Held::Unreadable) => Err(InstallError::ReadBack { held: "something unreadable".to_owned() }),
    }
}

impl From<HaproxyError> for InstallError {
    fn from(error: HaproxyError) -> Self {
        match error {
            HaproxyError::Socket(error) => Self::Socket(error),
            HaproxyError::Level { .. } => Self::PermissionDenied,
            HaproxyError::Locked => Self::Busy { by: None },
            HaproxyError::NoOcspSupport => Self::NoOcspSupport,
            HaproxyError::UnexpectedReply { command, reply } => Self::UnexpectedReply { command, reply },
            HaproxyError::LeavingProcess { pid } => {
                Self::UnexpectedReply { command: "show info".to_owned(), reply: format!("process {pid} is leaving") }
            }
        }
    }
}
