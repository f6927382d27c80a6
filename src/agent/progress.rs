//! How far each certificate has come on its way from the file to the handshake. No IO.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::native::Verdict;
use super::peer::Peer;
use super::places::IssuerAtStart;
use super::rows::Row;
use super::world::{HandsOff, Kept, Leaf, World};
use crate::haproxy::{self, Stapling};
use crate::settings::OcspFiles;
use crate::status::{Care, KeptStatus, NoOcspFile, Presence, Trouble};

impl World {
    /// Everything that is wrong with a row, in the order of the steps.
    pub(super) fn troubles(&self, name: &str, leaf: &Leaf, row: &Row<'_>, verdict: Option<&Verdict>) -> Vec<Trouble> {
        let native = leaf.hands_off == Some(HandsOff::NativeUpdate);
        let mut troubles: Vec<Trouble> = row.note.iter().cloned().collect();
        troubles.extend(verdict.and_then(|verdict| verdict.trouble.clone()));
        if leaf.hands_off.is_none() {
            troubles.extend(leaf.orphaned().or_else(|| leaf.trouble.clone()));
        }
        for peer in row.loaded_at.iter().filter(|_| !native) {
            let Some(refused) = peer.refused.get(name) else { continue };
            let detail = format!("{} did not take the staple: {}", peer.label(), refused.trouble.detail);
            troubles.push(Trouble { detail, ..refused.trouble.clone() });
        }
        troubles.extend(self.disk_troubles(leaf));
        troubles.sort_by_key(|trouble| trouble.step);
        troubles
    }

    /// What the disk did not do for this leaf.
    fn disk_troubles(&self, leaf: &Leaf) -> Vec<Trouble> {
        if self.disk.troubles.is_empty() {
            return Vec::new();
        }
        let fingerprint = leaf.certificate.fingerprint();
        let beside: BTreeSet<PathBuf> = self.places(leaf).into_keys().chain(leaf.kept_beside.keys().cloned()).collect();
        let own = [Kept::Staple(fingerprint), Kept::Issuer(fingerprint)].into_iter();
        let mut found: Vec<Trouble> = Vec::new();
        for trouble in own.chain(beside.into_iter().map(Kept::Beside)).filter_map(|what| self.disk.troubles.get(&what))
        {
            if !found.contains(trouble) {
                found.push(trouble.clone());
            }
        }
        found
    }

    /// What of the staple is on disk.
    pub(super) fn kept_status(&self, leaf: &Leaf) -> KeptStatus {
        let reason = || {
            let too_large = leaf.staple.as_ref().is_some_and(|staple| staple.der().len() > haproxy::FILE_LIMIT);
            let findable = leaf.files.values().any(|home| home.issuer != IssuerAtStart::Nowhere);
            match self.settings.ocsp_files {
                OcspFiles::Never => Some(NoOcspFile::SwitchedOff),
                OcspFiles::Auto if too_large => Some(NoOcspFile::TooLarge),
                OcspFiles::Auto if !findable && leaf.issuer.is_some() => Some(NoOcspFile::IssuerNotFindable),
                OcspFiles::Auto => None,
            }
        };
        let mut ocsp_files: Vec<String> = leaf.kept_beside.keys().map(|path| path.display().to_string()).collect();
        // As of what is served, there is nearly always one.
        ocsp_files.shrink_to_fit();
        KeptStatus {
            in_state_directory: leaf.kept.is_some() && leaf.kept == leaf.staple,
            ocsp_files,
            no_ocsp_file: if leaf.kept_beside.is_empty() { reason() } else { None },
        }
    }
}

impl Leaf {
    /// Who fetches its responses.
    pub(super) fn care(&self) -> Care {
        match self.hands_off {
            None => Care::Stapler,
            Some(HandsOff::NativeUpdate) => Care::Haproxy,
            Some(HandsOff::Excluded | HandsOff::Authority) => Care::Nobody,
        }
    }
}

impl Peer {
    /// How far a name has come here.
    pub(super) fn presence(&self, name: &str, leaf: &Leaf) -> Presence {
        let stapling = self.loaded.get(name).map(|loaded| loaded.stapling);
        let listed = || {
            let (entries, ask) = (self.entries.as_ref()?, leaf.ask.as_ref()?);
            Some(entries.find(&ask.key).is_some())
        };
        let entry = match stapling {
            _ if self.served.contains_key(name) || self.native.contains_key(name) => Some(true),
            Some(Stapling::On) => Some(true),
            Some(Stapling::Off) => Some(false),
            Some(Stapling::Unknown) => listed(),
            None => None,
        };
        Presence { haproxy: self.label().clone(), entry, pending: self.pending.contains(name) }
    }
}
