//! What the agent knows of one HAProxy. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::native::{Native, Verdict};
use crate::certificate::Fingerprint;
use crate::clock::Monotonic;
use crate::haproxy::{
    Address, CertIdKey, Entries, Known, LoadedCertificate, LoadedStatus, NativeUpdate, Process, Stapling,
};
use crate::ocsp::Staple;
use crate::status::{ServedStatus, Trouble};

/// One HAProxy.
#[derive(Debug)]
pub(super) struct Peer {
    label: Arc<str>,
    pub(super) running: bool,
    pub(super) up: Option<bool>,
    pub(super) process: Option<Process>,
    pub(super) trouble: Option<Trouble>,
    pub(super) next_look: Monotonic,
    pub(super) next_survey: Monotonic,
    pub(super) read_back_again: Monotonic,
    pub(super) reloads: u64,
    /// Whether what it has loaded was seen, in this process or an earlier one.
    pub(super) surveyed: bool,
    /// The same of this very process: what an earlier one had loaded says nothing about how to install.
    pub(super) introduced: bool,
    /// What it has loaded, by HAProxy's name. One certificate may have several names, and each is stapled by itself.
    pub(super) loaded: BTreeMap<String, LoadedCertificate>,
    pub(super) by_fingerprint: BTreeMap<Fingerprint, Vec<String>>,
    pub(super) entries: Option<Entries>,
    /// What need not be asked for again.
    pub(super) known: Known,
    /// What HAProxy updates by itself, and the names that are meant.
    pub(super) updates: Vec<NativeUpdate>,
    pub(super) native: BTreeMap<String, Native>,
    pub(super) served: BTreeMap<String, Served>,
    /// Names whose staple was put there a while ago: whether it still is will be read.
    pub(super) reread: BTreeSet<String>,
    pub(super) refused: BTreeMap<String, Refused>,
    /// Names whose issuer HAProxy did not find where the file has it: the file it loaded was another.
    pub(super) chainless: BTreeSet<String>,
    /// Names that took a staple and have no place for it: no frontend serves them.
    pub(super) idle: BTreeSet<String>,
    /// Names with something to install.
    pub(super) pending: BTreeSet<String>,
    /// Names for which nothing is in hand: HAProxy may hold what an earlier run of ours, or somebody else, put there.
    pub(super) unread: BTreeSet<String>,
    /// Those of them that were read.
    pub(super) read: BTreeSet<String>,
}

/// What a HAProxy serves under a name.
#[derive(Clone, Debug)]
pub(super) enum Served {
    /// A staple of ours.
    Ours(Staple),
    /// Something newer than ours that this version of HAProxy does not let us read back.
    Newer { this_update: Timestamp, next_update: Option<Timestamp> },
}

/// A staple that a HAProxy did not take.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) trouble: Trouble,
    pub(super) times: u32,
    pub(super) again: Monotonic,
    /// Because of a transaction of somebody else, which says nothing about the staple.
    pub(super) busy: bool,
}

impl Peer {
    pub(super) fn new(address: &Address, now: Monotonic) -> Self {
        Self {
            label: address.to_string().into(),
            running: false,
            up: None,
            process: None,
            trouble: None,
            next_look: now,
            next_survey: now,
            read_back_again: now,
            reloads: 0,
            surveyed: false,
            introduced: false,
            loaded: BTreeMap::new(),
            by_fingerprint: BTreeMap::new(),
            entries: None,
            known: Known::default(),
            updates: Vec::new(),
            native: BTreeMap::new(),
            served: BTreeMap::new(),
            reread: BTreeSet::new(),
            refused: BTreeMap::new(),
            chainless: BTreeSet::new(),
            idle: BTreeSet::new(),
            pending: BTreeSet::new(),
            unread: BTreeSet::new(),
            read: BTreeSet::new(),
        }
    }

    /// The label of this HAProxy in metrics, logs and JSON.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The names this HAProxy knows a leaf by.
    pub(super) fn names(&self, fingerprint: Fingerprint) -> &[String] {
        self.by_fingerprint.get(&fingerprint).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a frontend may serve this name: nothing uses it, or only a server line does, are no reason to worry.
    pub(super) fn is_served(&self, name: &str) -> bool {
        let status = self.loaded.get(name).map(|loaded| loaded.status);
        let unused = matches!(status, Some(LoadedStatus::Unused | LoadedStatus::Empty));
        !unused && !self.idle.contains(name)
    }

    /// Whether HAProxy fetches this leaf's responses by itself, under every name.
    pub(super) fn updates_natively(&self, fingerprint: Fingerprint) -> bool {
        self.names(fingerprint).iter().all(|name| self.native.contains_key(name))
    }

    /// What it serves under a name, while it does.
    pub(super) fn serves(&self, name: &str, now: Timestamp) -> Option<ServedStatus> {
        match self.native.get(name) {
            Some(native) => native.served(&self.label, now),
            None => self.served.get(name)?.status(&self.label, now),
        }
    }

    /// What it still holds under a name and serves no more, because that has expired.
    pub(super) fn expired(&self, name: &str, now: Timestamp) -> Option<ServedStatus> {
        let held = match self.native.get(name) {
            Some(native) => native.held(&self.label),
            None => self.served.get(name)?.held(&self.label),
        };
        held.filter(|_| self.serves(name, now).is_none())
    }

    /// What to think of how it updates a name by itself, if it does.
    pub(super) fn verdict(&self, name: &str, now: Timestamp) -> Option<Verdict> {
        let uptime = self.process.as_ref().map(|process| process.uptime).unwrap_or_default();
        Some(self.native.get(name)?.verdict(uptime, now))
    }

    /// Takes note of what is loaded.
    pub(super) fn set_loaded(&mut self, loaded: Vec<LoadedCertificate>) {
        let before = std::mem::take(&mut self.loaded);
        self.update(loaded, &before);
        let loaded = &self.loaded;
        self.served.retain(|name, _| loaded.contains_key(name));
        self.reread.retain(|name| loaded.contains_key(name));
        self.refused.retain(|name, _| loaded.contains_key(name));
        self.idle.retain(|name| loaded.contains_key(name));
        self.pending.retain(|name| loaded.contains_key(name));
    }

    /// Takes note of what some certificates turned out to be.
    pub(super) fn update_loaded(&mut self, loaded: Vec<LoadedCertificate>) {
        let before = loaded.iter().filter_map(|certificate| self.loaded.remove_entry(&certificate.name)).collect();
        self.update(loaded, &before);
    }

    fn update(&mut self, loaded: Vec<LoadedCertificate>, before: &BTreeMap<String, LoadedCertificate>) {
        let known = |name: &str| before.get(name).and_then(|known| known.fingerprint);
        let told = loaded.into_iter().map(|certificate| {
            let fingerprint = certificate.fingerprint.or_else(|| known(&certificate.name));
            (certificate.name.clone(), LoadedCertificate { fingerprint, ..certificate })
        });
        // Appended together, they fill the nodes of the tree; one by one and in order, each would stay half empty.
        self.loaded.append(&mut told.collect());
        self.index();
    }

    /// Finds the certificates whose replacement at run time no list would show: those without an entry of their own.
    pub(super) fn find_unlisted<'a>(&mut self, id: impl Fn(Fingerprint) -> Option<&'a CertIdKey>) {
        let Some(entries) = &self.entries else { return };
        let has_its_own = |loaded: &&LoadedCertificate| {
            let id = loaded.fingerprint.filter(|each| self.names(*each).len() == 1).and_then(&id);
            id.is_some_and(|id| entries.find(id).is_some())
        };
        let unlisted = self.loaded.values().filter(|loaded| !has_its_own(loaded)).map(|loaded| loaded.name.clone());
        self.known.unlisted = unlisted.collect();
    }

    /// HAProxy 2.2 shows nothing of the parts of a bundle. What is on disk under their names when they are first seen
    /// in a process is taken for what it loaded.
    pub(super) fn assume(&mut self, on_disk: impl Fn(&str) -> Option<Fingerprint>) {
        let mut assumed = false;
        for (name, certificate) in &mut self.loaded {
            if certificate.status == LoadedStatus::NotShown && certificate.fingerprint.is_none() {
                certificate.fingerprint = on_disk(name);
                assumed |= certificate.fingerprint.is_some();
            }
        }
        if assumed {
            self.index();
        }
    }

    /// Finds the names that HAProxy updates by itself. `id` is the CertID of a leaf, which another name may have, too.
    pub(super) fn find_native<'a>(&mut self, id: impl Fn(Fingerprint) -> Option<&'a CertIdKey>) {
        let before = std::mem::take(&mut self.native);
        if self.updates.is_empty() {
            return;
        }
        let by_path: BTreeMap<&str, &NativeUpdate> =
            self.updates.iter().map(|each| (each.path.as_str(), each)).collect();
        let by_id: BTreeMap<&CertIdKey, &NativeUpdate> =
            self.updates.iter().filter_map(|each| Some((each.id.as_ref()?, each))).collect();
        for (name, loaded) in &self.loaded {
            let same_id = || by_id.get(id(loaded.fingerprint?)?);
            if let Some(update) = by_path.get(name.as_str()).or_else(same_id) {
                self.native.insert(name.clone(), Native::new((*update).clone(), before.get(name)));
            }
        }
    }

    /// The same for a leaf whose CertID was just learnt.
    pub(super) fn find_native_of(&mut self, fingerprint: Fingerprint, id: &CertIdKey) {
        let Some(update) = self.updates.iter().find(|update| update.id.as_ref() == Some(id)) else { return };
        for name in self.by_fingerprint.get(&fingerprint).into_iter().flatten() {
            self.native.entry(name.clone()).or_insert_with(|| Native::new(update.clone(), None));
        }
    }

    fn index(&mut self) {
        self.by_fingerprint.clear();
        for certificate in self.loaded.values() {
            if let Some(fingerprint) = certificate.fingerprint {
                // Nearly always it is the only one.
                let names = self.by_fingerprint.entry(fingerprint).or_insert_with(|| Vec::with_capacity(1));
                names.push(certificate.name.clone());
            }
        }
    }

    /// A name has what it can have: there is nothing to install or to try again.
    pub(super) fn settle(&mut self, name: &str) {
        self.refused.remove(name);
        self.pending.remove(name);
    }

    /// A new process knows nothing of what the old one was told.
    pub(super) fn forget_what_was_served(&mut self) {
        self.introduced = false;
        self.served.clear();
        self.reread.clear();
        self.refused.clear();
        self.chainless.clear();
        self.idle.clear();
        self.pending.clear();
        self.unread.clear();
        self.read.clear();
        self.entries = None;
        self.known = Known::default();
        self.native.values_mut().for_each(Native::forget);
        for certificate in self.loaded.values_mut().filter(|each| each.status == LoadedStatus::NotShown) {
            certificate.fingerprint = None;
        }
        self.index();
    }

    /// Marks, for every name of a leaf, whether there is something to install, or else something to read.
    pub(super) fn offer(&mut self, fingerprint: Fingerprint, staple: Option<&Staple>) {
        let shows = self.process.as_ref().is_some_and(|process| process.version.shows_der());
        for name in self.by_fingerprint.get(&fingerprint).into_iter().flatten() {
            let wanted =
                staple.filter(|_| self.is_served(name) && !self.native.contains_key(name)).is_some_and(|staple| {
                    let served = self.served.get(name).filter(|_| !self.reread.contains(name));
                    served.is_none_or(|served| !served.is_as_good_as(staple))
                });
            if wanted {
                self.pending.insert(name.clone());
            } else {
                self.pending.remove(name);
            }
            // Most of those without a staple are not stapled at all, and these are looked through at every turn.
            let may_hold = shows
                && staple.is_none()
                && self.loaded.get(name).is_some_and(|loaded| loaded.stapling != Stapling::Off)
                && !self.native.contains_key(name)
                && !self.served.contains_key(name)
                && !self.read.contains(name);
            if may_hold {
                self.unread.insert(name.clone());
            } else {
                self.unread.remove(name);
            }
        }
    }
}

impl Served {
    /// What is served, while it is.
    pub(super) fn status(&self, haproxy: &Arc<str>, now: Timestamp) -> Option<ServedStatus> {
        self.held(haproxy).filter(|_| self.is_served(now))
    }

    /// Whether it is served still.
    pub(super) fn is_served(&self, now: Timestamp) -> bool {
        self.end().is_some_and(|end| now < end)
    }

    /// When it stops being served.
    pub(super) fn end(&self) -> Option<Timestamp> {
        match self {
            Self::Ours(staple) => Some(staple.effective_end()),
            Self::Newer { next_update, .. } => *next_update,
        }
    }

    /// The same, however old it is: HAProxy keeps what has expired, and serves nothing.
    fn held(&self, haproxy: &Arc<str>) -> Option<ServedStatus> {
        let (this_update, next_update) = match self {
            Self::Ours(staple) => (staple.this_update(), staple.next_update()),
            Self::Newer { this_update, next_update } => (*this_update, (*next_update)?),
        };
        Some(ServedStatus { haproxy: haproxy.clone(), this_update, next_update })
    }

    fn is_as_good_as(&self, staple: &Staple) -> bool {
        match self {
            Self::Ours(served) => served == staple,
            Self::Newer { this_update, .. } => *this_update > staple.this_update(),
        }
    }
}
