//! What the agent knows: certificates, HAProxies, disks. Data and small questions about it; no IO.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use litemap::LiteMap;

use super::asking::{Whom, Wishes, responders};
use super::cadence::Cadence;
use super::identity::Identity;
use super::peer::Peer;
use super::places::{Home, IssuerAtStart};
use super::probes::Probe;
use super::troubles;
use super::validity::Validity;
use crate::certificate::{Certificate, Fingerprint, Issuer, IssuerSource};
use crate::clock::{Moment, Monotonic};
use crate::discovery::{CertificateFile, Content, FileError};
use crate::fetch::Method;
use crate::haproxy::CertIdKey;
use crate::listings::Directories;
use crate::ocsp::{Request, Staple};
use crate::responder::caching::Validator;
use crate::schedule::{Budget, Jitter, Life, Progress};
use crate::settings::{OnRevoked, Settings};
use crate::status::{OcspStatus, Trouble};
use crate::uri;

/// HAProxies that answer have said what they have loaded long before.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Arc<Settings>,
    pub(super) cadence: Cadence,
    pub(super) files: BTreeMap<PathBuf, Result<Arc<Content>, FileError>>,
    pub(super) scan_troubles: Vec<Trouble>,
    pub(super) leaves: Leaves,
    pub(super) peers: Vec<Peer>,
    pub(super) probes: Vec<Probe>,
    pub(super) agenda: BTreeSet<(Monotonic, Fingerprint)>,
    pub(super) waiting: BTreeMap<String, VecDeque<Fingerprint>>,
    pub(super) in_flight: BTreeMap<String, usize>,
    /// Who wants to be left alone.
    pub(super) wishes: Wishes,
    /// Leaves whose files on disk may have to follow.
    pub(super) changed: BTreeSet<Fingerprint>,
    pub(super) disk: Disk,
    pub(super) scan: Scan,
    pub(super) agenda_made: Moment,
    /// When to see whether it has to be made anew.
    pub(super) agenda_next: Monotonic,
    pub(super) sweep_again: Monotonic,
    /// When everything that is kept is read again: somebody may have been there.
    pub(super) inspect_again: Monotonic,
    pub(super) started_at: Timestamp,
    /// Until then, CAs are not asked before every HAProxy has said what it has loaded.
    pub(super) introduced_by: Monotonic,
    pub(super) last_pass_at: Option<Timestamp>,
    pub(super) pass_started: Option<Monotonic>,
    /// Whether anything but the end of a pass may have changed since the last snapshot.
    pub(super) is_news: bool,
    /// How long the last snapshot holds without news.
    pub(super) snapshot_validity: Option<Validity>,
}

/// Every leaf, whatever files and HAProxies it is in. Each has its own place in memory: the nodes of the tree are never full.
pub(super) type Leaves = BTreeMap<Fingerprint, Box<Leaf>>;

/// The look at the disk.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) running: bool,
    /// Something was learnt while one was running: it may have come too late for it.
    pub(super) again: bool,
    pub(super) next: Monotonic,
    pub(super) done_once: bool,
    /// HAProxy has loaded something else since the last one: also what is on disk unchanged may mean something else.
    pub(super) outdated: bool,
    /// What HAProxy runs and no file holds, as far as it was worked out since either changed.
    pub(super) also: Option<Vec<PathBuf>>,
    /// Where files are kept, as it was when they were looked for there.
    pub(super) kept_in: Directories,
    /// Something was kept since they were listed to be looked for.
    pub(super) kept_anew: bool,
}

/// The one lane to the disk: tasks run in order, so that a file is never written by two at once.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) queue: VecDeque<DiskTask>,
    pub(super) running: bool,
    /// What is wrong with it, by what could not be done: gone when that succeeds or is not wanted any more.
    pub(super) troubles: BTreeMap<Kept, Trouble>,
}

/// What this program has on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// The staple of a leaf, in the state directory.
    Staple(Fingerprint),
    /// The downloaded issuer of a leaf, in the state directory.
    Issuer(Fingerprint),
    /// This `.ocsp` file for HAProxy's next start.
    Beside(PathBuf),
    /// The state directory as a whole.
    Directory,
    /// Which transactions are about to be opened, in the state directory.
    Journal,
}

/// One thing to do on disk.
#[derive(Clone, Debug)]
pub(super) enum DiskTask {
    /// Read back what is kept for a leaf, also in these `.ocsp` files. What is `known` needs no second judgement.
    Restore { leaf: Certificate, issuer: Option<Issuer>, beside: Vec<PathBuf>, known: Option<Staple> },
    /// Keep a staple in the state directory and in these `.ocsp` files, each as readable as a certificate.
    Keep { fingerprint: Fingerprint, staple: Staple, beside: BTreeMap<PathBuf, PathBuf> },
    /// Keep a downloaded issuer in the state directory.
    KeepIssuer { fingerprint: Fingerprint, issuer: Issuer },
    /// See what of this is gone: somebody's deployment may have tidied it away.
    FindLost { kept: Vec<Kept> },
    /// Remove from the state directory what belonged to certificates that are long gone.
    Sweep { keep: BTreeSet<Fingerprint> },
    /// See whether journals, which could not be written, can be written now.
    TryDirectory,
    /// Remove a file of ours that would do harm at HAProxy's next start.
    Discard { fingerprint: Fingerprint, ocsp: PathBuf, staple: Staple },
}

/// One leaf certificate, whatever files and HAProxies it is in.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) certificate: Certificate,
    pub(super) identity: Identity,
    pub(super) issuer: Option<Issuer>,
    pub(super) ask: Option<Ask>,
    pub(super) responders: Vec<Whom>,
    pub(super) restored: bool,
    pub(super) staple: Option<Staple>,
    pub(super) ocsp_status: OcspStatus,
    pub(super) trouble: Option<Trouble>,
    pub(super) progress: Progress,
    pub(super) issuer_progress: Progress,
    /// What both cost.
    pub(super) budget: Budget,
    pub(super) method: Method,
    /// The name of the staple in hand, if it came with one.
    pub(super) validator: Option<Validator>,
    /// Whether what caches gave was of no use, and they are to be passed by.
    pub(super) past_caches: bool,
    pub(super) errand: Errand,
    pub(super) due: Option<Monotonic>,
    pub(super) last_attempt_at: Option<Timestamp>,
    pub(super) last_success_at: Option<Timestamp>,
    /// The files that hold it now.
    pub(super) files: LiteMap<PathBuf, Home>,
    /// What was kept where, as far as this process knows.
    pub(super) kept: Option<Staple>,
    pub(super) kept_issuer: bool,
    /// By the `.ocsp` file.
    pub(super) kept_beside: LiteMap<PathBuf, Staple>,
    /// Whether there was something to install when it was last decided what belongs on disk.
    pub(super) had_installable: bool,
    /// Whether the settings leave it out or HAProxy updates it by itself, everywhere it is.
    pub(super) hands_off: Option<HandsOff>,
}

/// Why a leaf is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandsOff {
    Excluded,
    NativeUpdate,
    /// A CA's certificate that no HAProxy has loaded: it is there to be found as an issuer.
    Authority,
}

/// Where a leaf stands with the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Errand {
    #[default]
    Idle,
    /// Due, but its responder's host is busy enough.
    Waiting,
    Running,
}

/// What is needed to ask about a leaf.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) request: Arc<Request>,
    pub(super) key: CertIdKey,
    pub(super) jitter: Jitter,
}

impl World {
    pub(super) fn new(settings: Arc<Settings>, cadence: Cadence, now: Moment) -> Self {
        let peers = settings.sockets.iter().map(|address| Peer::new(address, now.monotonic)).collect();
        let probes = settings.probes.iter().map(|target| Probe::new(target.clone(), now.monotonic)).collect();
        Self {
            settings,
            cadence,
            probes,
            files: BTreeMap::new(),
            scan_troubles: Vec::new(),
            leaves: Leaves::new(),
            peers,
            agenda: BTreeSet::new(),
            waiting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            wishes: Wishes::default(),
            changed: BTreeSet::new(),
            disk: Disk::default(),
            scan: Scan {
                running: false,
                again: false,
                next: now.monotonic,
                done_once: false,
                outdated: true,
                also: None,
                kept_in: Directories::default(),
                kept_anew: false,
            },
            agenda_made: now,
            agenda_next: now.monotonic.after(cadence.agenda()),
            sweep_again: now.monotonic,
            inspect_again: now.monotonic,
            started_at: now.wall,
            introduced_by: now.monotonic.after(INTRODUCTION),
            last_pass_at: None,
            pass_started: None,
            is_news: true,
            snapshot_validity: None,
        }
    }

    /// Whether some HAProxy has yet to say what it has loaded, and may do so at any moment.
    pub(super) fn awaits_haproxy(&self) -> bool {
        self.peers.iter().any(|peer| !peer.surveyed && peer.up != Some(false) && peer.trouble.is_none())
    }

    /// Whether CAs are not asked yet, because a HAProxy may be about to say that it asks by itself.
    pub(super) fn awaits_introduction(&self, now: Monotonic) -> bool {
        now < self.introduced_by && self.awaits_haproxy()
    }

    /// Whether these files are the known ones, unchanged since: then they are the same allocations.
    pub(super) fn has_files(&self, files: &[CertificateFile]) -> bool {
        let is_same = |(known, file): ((&PathBuf, &Result<Arc<Content>, FileError>), &CertificateFile)| {
            let content = match (known.1, &file.content) {
                (Ok(known), Ok(content)) => Arc::ptr_eq(known, content),
                (known, content) => known == content,
            };
            content && *known.0 == file.path
        };
        self.files.len() == files.len() && self.files.iter().zip(files).all(is_same)
    }

    /// Puts a leaf on the agenda where it belongs now.
    pub(super) fn reschedule(&mut self, fingerprint: Fingerprint, now: Moment) {
        let Some(leaf) = self.leaves.get_mut(&fingerprint) else { return };
        if let Some(due) = leaf.due.take() {
            self.agenda.remove(&(due, fingerprint));
        }
        if leaf.errand == Errand::Idle {
            leaf.due = leaf.next_errand(self.settings.refresh_interval, &self.wishes, now);
            self.agenda.extend(leaf.due.map(|due| (due, fingerprint)));
        }
    }

    /// The staple to install for a leaf, if there is one worth it.
    pub(super) fn installable(&self, fingerprint: Fingerprint, now: Timestamp) -> Option<&Staple> {
        let leaf = self.leaves.get(&fingerprint).filter(|leaf| leaf.hands_off.is_none())?;
        leaf.installable(self.settings.on_revoked, now)
    }

    /// Whether what is on disk for a leaf is what was right when it was last looked at, and time has changed nothing: a
    /// staple ends, and its `.ocsp` file goes; a clock is put back, and it goes until its time has come.
    pub(super) fn is_kept_right(&self, fingerprint: Fingerprint, now: Timestamp) -> bool {
        self.leaves.get(&fingerprint).is_none_or(|leaf| {
            let installable = leaf.installable(self.settings.on_revoked, now);
            leaf.kept.as_ref() == leaf.serving(now)
                && leaf.had_installable == installable.is_some()
                && leaf.kept_beside.values().all(|kept| installable == Some(kept))
        })
    }

    /// Marks, at every HAProxy that has this leaf loaded, whether there is something to install.
    pub(super) fn offer(&mut self, fingerprint: Fingerprint, now: Timestamp) {
        let staple = self.installable(fingerprint, now).cloned();
        for peer in &mut self.peers {
            peer.offer(fingerprint, staple.as_ref());
        }
    }
}

impl Leaf {
    pub(super) fn new(certificate: Certificate, settings: &Settings) -> Self {
        let responders = responders(&certificate, settings);
        Self {
            identity: Identity::new(&certificate, &responders),
            certificate,
            issuer: None,
            ask: None,
            responders,
            restored: false,
            staple: None,
            ocsp_status: OcspStatus::None,
            trouble: None,
            progress: Progress::default(),
            issuer_progress: Progress::default(),
            budget: Budget::default(),
            method: Method::default(),
            validator: None,
            past_caches: false,
            errand: Errand::default(),
            due: None,
            last_attempt_at: None,
            last_success_at: None,
            files: LiteMap::with_capacity(1),
            kept: None,
            kept_issuer: false,
            kept_beside: LiteMap::with_capacity(1),
            had_installable: false,
            hands_off: None,
        }
    }

    /// Takes an issuer, unless there is one that HAProxy is surer to find.
    pub(super) fn accept_issuer(&mut self, issuer: Issuer) {
        let better = self.issuer.as_ref().is_none_or(|held| rank(issuer.source()) < rank(held.source()));
        if !better {
            return;
        }
        match Request::new(&self.certificate, issuer.certificate()) {
            Ok(request) => {
                let id = request.cert_id();
                let jitter = Jitter::from_hash(&openssl::sha::sha1(id.der()));
                let key = CertIdKey::from(id);
                self.ask = Some(Ask { request: Arc::new(request), key, jitter });
                // Whatever was wrong was about finding it.
                if self.issuer.replace(issuer).is_none() {
                    self.trouble = None;
                }
            }
            Err(error) => {
                self.trouble = Some(troubles::request(&error));
            }
        }
    }

    /// The staple, while HAProxy would serve it.
    pub(super) fn serving(&self, now: Timestamp) -> Option<&Staple> {
        self.staple.as_ref().filter(|staple| staple.is_serving(now))
    }

    pub(super) fn installable(&self, on_revoked: OnRevoked, now: Timestamp) -> Option<&Staple> {
        self.staple
            .as_ref()
            .filter(|staple| staple.is_in_force(now))
            .filter(|staple| on_revoked == OnRevoked::Staple || !staple.is_revoked())
    }

    /// Whether the certificate says where its issuer can be downloaded.
    pub(super) fn names_its_issuer(&self) -> bool {
        uri::askable(self.certificate.ca_issuers()).next().is_some()
    }

    /// Whether HAProxy finds the issuer by itself. Files lose their chain, too, and what HAProxy has loaded since is not
    /// known: it is told once too often rather than not at all.
    pub(super) fn is_chained(&self) -> bool {
        let in_chain = self.issuer.as_ref().is_some_and(|issuer| issuer.source() == IssuerSource::Chain);
        in_chain && self.files.values().all(|home| home.issuer != IssuerAtStart::Nowhere)
    }

    /// What of this leaf is on disk, as far as this process knows.
    pub(super) fn kept(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Kept> {
        let staple = self.kept.as_ref().map(|_| Kept::Staple(fingerprint));
        let issuer = self.kept_issuer.then_some(Kept::Issuer(fingerprint));
        staple.into_iter().chain(issuer).chain(self.kept_beside.keys().cloned().map(Kept::Beside))
    }

    /// Has everything that is kept for this leaf read.
    pub(super) fn restore(&self) -> DiskTask {
        let homes = self.files.values().map(|home| &home.ocsp);
        let beside: BTreeSet<&PathBuf> = homes.chain(self.kept_beside.keys()).collect();
        DiskTask::Restore {
            leaf: self.certificate.clone(),
            issuer: self.issuer.clone(),
            beside: beside.into_iter().cloned().collect(),
            known: self.kept.clone(),
        }
    }

    /// What is gone is not kept any more: it is written again.
    pub(super) fn lose(&mut self, fingerprint: Fingerprint, lost: &BTreeSet<Kept>) {
        if lost.contains(&Kept::Staple(fingerprint)) {
            self.kept = None;
        }
        self.kept_issuer &= !lost.contains(&Kept::Issuer(fingerprint));
        self.kept_beside.retain(|path, _| !lost.contains(&Kept::Beside(path.clone())));
    }
}

/// A staple's life for the schedule.
pub(super) fn life(staple: &Staple) -> Life {
    Life { this_update: staple.this_update(), end: staple.end(), effective_end: staple.effective_end() }
}

fn rank(source: IssuerSource) -> u8 {
    match source {
        IssuerSource::Chain => 0,
        IssuerSource::IssuerFile => 1,
        IssuerSource::OtherFile => 2,
        IssuerSource::AuthorityInfoAccess => 3,
    }
}
