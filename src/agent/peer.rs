//! What the agent knows of one HAProxy. No IO.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::native::{Native, Verdict};
use crate::certificate::Fingerprint;
use crate::clock::Monotonic;
use crate::haproxy::{Address, CertIdKey, Entry, LoadedCertificate, LoadedStatus, NativeUpdate, Process};
use crate::ocsp::Staple;
use crate::status::{ServedStatus, Trouble};

/// One HAProxy.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Address,
    pub(super) running: bool,
    pub(super) up: Option<bool>,
    pub(super) process: Option<Process>,
    pub(super) trouble: Option<Trouble>,
    pub(super) next_look: Monotonic,
    pub(super) next_survey: Monotonic,
    pub(super) read_back_again: Monotonic,
    pub(super) reloads: u64,
    pub(super) surveyed: bool,
    /// What it has loaded, by HAProxy's name. One certificate may have several names, and each is stapled by itself.
    pub(super) loaded: BTreeMap<String, LoadedCertificate>,
    pub(super) by_fingerprint: BTreeMap<Fingerprint, Vec<String>>,
    pub(super) entries: Option<Vec<Entry>>,
    /// What HAProxy updates by itself, and the names that are meant.
    pub(super) updates: Vec<NativeUpdate>,
    pub(super) native: BTreeMap<String, Native>,
    pub(super) served: BTreeMap<String, Served>,
    /// Names whose staple was put there a while ago: whether it still is will be read.
    pub(super) reread: BTreeSet<String>,
    pub(super) refused: BTreeMap<String, Refused>,
    /// Names that took a staple and have no place for it: no frontend serves them.
    pub(super) idle: BTreeSet<String>,
    /// Names with something to install.
    pub(super) pending: BTreeSet<String>,
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
    pub(super) fn new(address: Address, now: Monotonic) -> Self {
        Self {
            address,
            running: false,
            up: None,
            process: None,
            trouble: None,
            next_look: now,
            next_survey: now,
            read_back_again: now,
            reloads: 0,
            surveyed: false,
            loaded: BTreeMap::new(),
            by_fingerprint: BTreeMap::new(),
            entries: None,
            updates: Vec::new(),
            native: BTreeMap::new(),
            served: BTreeMap::new(),
            reread: BTreeSet::new(),
            refused: BTreeMap::new(),
            idle: BTreeSet::new(),
            pending: BTreeSet::new(),
        }
    }

    /// The label of this HAProxy in metrics, logs and JSON.
    pub(super) fn label(&self) -> String {
        self.address.to_string()
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
            Some(native) => native.served(&self.label(), now),
            None => self.served.get(name)?.status(&self.label(), now),
        }
    }

    /// What to think of how it updates a name by itself, if it does.
    pub(super) fn verdict(&self, name: &str, now: Timestamp) -> Option<Verdict> {
        let uptime = self.process.as_ref().map(|process| process.uptime).unwrap_or_default();
        Some(self.native.get(name)?.verdict(uptime, now))
    }

    /// Takes note of what is loaded.
    pub(super) fn set_loaded(&mut self, loaded: Vec<LoadedCertificate>) {
        let before = std::mem::take(&mut self.loaded);
        for mut certificate in loaded {
            if certificate.fingerprint.is_none() {
                certificate.fingerprint = before.get(&certificate.name).and_then(|known| known.fingerprint);
            }
            self.loaded.insert(certificate.name.clone(), certificate);
        }
        self.index();
        let loaded = &self.loaded;
        self.served.retain(|name, _| loaded.contains_key(name));
        self.reread.retain(|name| loaded.contains_key(name));
        self.refused.retain(|name, _| loaded.contains_key(name));
        self.idle.retain(|name| loaded.contains_key(name));
        self.pending.retain(|name| loaded.contains_key(name));
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
                self.by_fingerprint.entry(fingerprint).or_default().push(certificate.name.clone());
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
        self.served.clear();
        self.reread.clear();
        self.refused.clear();
        self.idle.clear();
        self.pending.clear();
        self.entries = None;
        self.native.values_mut().for_each(Native::forget);
        for certificate in self.loaded.values_mut().filter(|each| each.status == LoadedStatus::NotShown) {
            certificate.fingerprint = None;
        }
        self.index();
    }

    /// Marks, for every name of a leaf, whether there is something to install.
    pub(super) fn offer(&mut self, fingerprint: Fingerprint, staple: Option<&Staple>) {
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
        }
    }
}

impl Served {
    /// What is served, while it is.
    pub(super) fn status(&self, haproxy: &str, now: Timestamp) -> Option<ServedStatus> {
        match self {
            Self::Ours(staple) if staple.is_serving(now) => Some(ServedStatus {
                haproxy: haproxy.to_owned(),
                this_update: staple.this_update(),
                next_update: staple.next_update(),
            }),
            Self::Ours(_) => None,
            Self::Newer { this_update, next_update } => {
                let next_update = next_update.filter(|next_update| *next_update > now)?;
                Some(ServedStatus { haproxy: haproxy.to_owned(), this_update: *this_update, next_update })
            }
        }
    }

    fn is_as_good_as(&self, staple: &Staple) -> bool {
        match self {
            Self::Ours(served) => served == staple,
            Self::Newer { this_update, .. } => *this_update > staple.this_update(),
        }
    }
}
