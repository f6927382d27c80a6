//! The hands of the agent: each job becomes one task that does its IO within bounds and returns what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Peers;
use super::fold::{DiskDone, Done, Installed, Restored};
use super::journal::{Journalled, Journals};
use super::means::{Means, Threads};
use super::native::Holds;
use super::plan::{Item, Job, Watched};
use super::world::{DiskTask, Kept};
use crate::ca_issuers;
use crate::certificate::{Certificate, Issuer, IssuerSource};
use crate::clock::{Clock, earlier};
use crate::discovery::Scanner;
use crate::fetch;
use crate::haproxy::{
    self, Entries, Held, HeldResponse, Installation, IssuerKnowledge, Journal, Outcome, OverwritePolicy, Process,
    RuntimeApi, StapleView,
};
use crate::listings::{Directories, Listings};
use crate::ocsp::{self, CertId, Staple};
use crate::probe::{self, Trust};
use crate::responder::Responder;
use crate::settings::Settings;
use crate::store::{Store, StoreError, Written};

/// What the state directory holds of a certificate that is gone is kept this long: it may come back.
const STATE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// The peers, the disk and the clock, shared with the tasks.
#[derive(Debug)]
pub(super) struct Hands<R, H, T> {
    clock: Clock,
    responder: Arc<R>,
    haproxies: Vec<Arc<H>>,
    threads: T,
    store: Arc<Store>,
    journals: Journals<T>,
    /// Only one scan runs at a time; the lock is never waited for.
    scanner: Arc<Mutex<Scanner>>,
}

impl<R: Responder, H: RuntimeApi, T: Threads> Hands<R, H, T> {
    pub(super) fn new(settings: &Settings, means: Means<T>, peers: Peers<R, H>) -> Self {
        let store = Arc::new(Store::new(settings.state_dir.clone(), settings.ocsp_files));
        Self {
            clock: means.clock,
            journals: Journals::new(store.clone(), means.threads.clone()),
            threads: means.threads,
            responder: Arc::new(peers.responder),
            haproxies: peers.haproxies.into_iter().map(Arc::new).collect(),
            store,
            scanner: Arc::new(Mutex::new(Scanner::new(settings.certs.clone(), settings.path_map.clone()))),
        }
    }

    /// Starts a job.
    pub(super) fn start(&self, job: Job, jobs: &mut JoinSet<Done>) {
        let clock = self.clock.clone();
        match job {
            Job::Scan { also, kept_in } => {
                let scanner = self.scanner.clone();
                self.on_thread(jobs, move || {
                    let now = clock.stamps_now();
                    let mut scanner = scanner.lock().unwrap_or_else(PoisonError::into_inner);
                    Done::Scan { scan: scanner.look(&also, now), in_place: kept_in.are_unchanged(now) }
                });
            }
            Job::Disk { tasks } => {
                let store = self.store.clone();
                self.on_thread(jobs, move || {
                    let (now, stamps_now) = (clock.now().wall, clock.stamps_now());
                    Done::Disk(tasks.into_iter().map(|task| disk(&store, task, now, stamps_now)).collect())
                });
            }
            Job::Fetch { fingerprint, host, errand } => {
                let responder = self.responder.clone();
                jobs.spawn(async move {
                    let report = fetch::fetch(&*responder, &clock, &errand).await;
                    Done::Fetch { fingerprint, host, report }
                });
            }
            Job::DownloadIssuer { host, errand } => {
                let responder = self.responder.clone();
                jobs.spawn(async move {
                    let report = fetch::issuer(&*responder, &clock, &errand).await;
                    Done::DownloadIssuer { fingerprint: errand.leaf.fingerprint(), host, report }
                });
            }
            Job::Look { peer } => {
                self.with_haproxy(peer, jobs, async move |api| Done::Look { peer, outcome: haproxy::look(&*api).await })
            }
            Job::Survey { peer, address, process, known, first } => {
                let journals = self.journals.clone();
                self.with_haproxy(peer, jobs, async move |api| Done::Survey {
                    peer,
                    surveyed: journals.survey(&*api, &address, &process, &known, first, &clock).await,
                });
            }
            Job::Probe { index, target, issuers, deadline } => {
                jobs.spawn(async move {
                    let report = probe::probe(&target, &Trust::Issuers(issuers), deadline, &clock).await;
                    Done::Probe { index, report }
                });
            }
            Job::Watch { peer, process, watched } => self.with_haproxy(peer, jobs, async move |api| Done::Watch {
                peer,
                read: watch(&*api, &process, watched, clock.now().wall).await,
            }),
            Job::Install { peer, address, process, mut entries, items } => {
                let journals = self.journals.clone();
                self.with_haproxy(peer, jobs, async move |api| {
                    let planned = items.iter().map(|item| (item.name.as_str(), StapleView::from(&item.staple)));
                    let journal = Journal::new(&address, &process, planned, clock.now().wall);
                    let api = Journalled::new(api, journals, journal, &process, clock.clone());
                    let outcomes = install(&api, &process, &mut entries, items, &clock).await;
                    Done::Install { peer, entries, outcomes, journal: api.close().await }
                });
            }
        }
    }

    fn on_thread(&self, jobs: &mut JoinSet<Done>, work: impl FnOnce() -> Done + Send + 'static) {
        let threads = self.threads.clone();
        jobs.spawn(async move { threads.run(work).await });
    }

    fn with_haproxy<F>(&self, peer: usize, jobs: &mut JoinSet<Done>, work: impl FnOnce(Arc<H>) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        if let Some(api) = self.haproxies.get(peer) {
            jobs.spawn(work(api.clone()));
        }
    }
}

/// Installs staples and lists HAProxy's entries once for all of them.
async fn install<H: RuntimeApi>(
    api: &H,
    process: &Process,
    entries: &mut Option<Entries>,
    items: Vec<Item>,
    clock: &Clock,
) -> Vec<(String, Installed)> {
    let now = clock.now().wall;
    let installations: Vec<Installation<'_>> =
        items.iter().map(|item| installation(item, OverwritePolicy::KeepNewer)).collect();
    let outcomes = haproxy::reconcile_many(api, process, entries, &installations, now).await;
    let mut installed = Vec::with_capacity(items.len());
    for (item, outcome) in items.iter().zip(outcomes) {
        let what = match outcome {
            Outcome::HoldsNewer(held) => newer(api, process, entries, item, &held, now).await,
            other => settled(other, item),
        };
        installed.push((item.name.clone(), what));
    }
    installed
}

fn installation(item: &Item, overwrite: OverwritePolicy) -> Installation<'_> {
    // HAProxy reads a .issuer file only beside a .ocsp: of one that is not in the chain it may not know yet.
    let issuer = if item.chained { IssuerKnowledge::InChain } else { IssuerKnowledge::Told(item.issuer.certificate()) };
    Installation {
        name: &item.name,
        id: &item.id,
        stapling: item.stapling,
        issuer,
        staple: StapleView::from(&item.staple),
        overwrite,
    }
}

/// Somebody else was faster; whether they brought something genuine is for the verifier to say.
async fn newer<H: RuntimeApi>(
    api: &H,
    process: &Process,
    entries: &mut Option<Entries>,
    item: &Item,
    held: &HeldResponse,
    now: Timestamp,
) -> Installed {
    let Some(der) = &held.der else {
        return Installed::Newer { this_update: held.this_update, next_update: held.next_update };
    };
    match verified(der, &item.leaf, item.issuer.certificate(), now) {
        Some(staple) => Installed::Adopt(staple),
        None => {
            let replace = installation(item, OverwritePolicy::Replace);
            settled(haproxy::reconcile(api, process, entries, &replace, now).await, item)
        }
    }
}

fn settled(outcome: Outcome, item: &Item) -> Installed {
    let staple = item.staple.clone();
    match outcome {
        Outcome::AlreadyServed => Installed::Serves { staple, written: false, enabled: false },
        Outcome::Installed { enabled, .. } => Installed::Serves { staple, written: true, enabled },
        Outcome::HoldsNewer(held) => Installed::Newer { this_update: held.this_update, next_update: held.next_update },
        Outcome::Failed(error) => Installed::Refused(error),
    }
}

/// Bytes from anywhere but a CA's answer, judged all the same.
fn verified(der: &[u8], leaf: &Certificate, issuer: &Certificate, now: Timestamp) -> Option<Staple> {
    judged(der, leaf, issuer, now).ok()
}

/// The same with the reason of a refusal.
fn judged(
    der: &[u8],
    leaf: &Certificate,
    issuer: &Certificate,
    now: Timestamp,
) -> Result<Staple, (&'static str, String)> {
    let id = CertId::new(leaf, issuer).map_err(|error| (error.kind(), error.to_string()))?;
    let response = ocsp::verify(der, leaf, issuer, now).map_err(|error| (error.kind(), error.to_string()))?;
    Staple::new(response, &id, now).map_err(|error| (error.kind(), error.to_string()))
}

/// Reads what HAProxy holds where it updates by itself. If it stops answering, the others are not asked for.
async fn watch<H: RuntimeApi>(
    api: &H,
    process: &Process,
    watched: Vec<Watched>,
    now: Timestamp,
) -> Vec<(String, Option<Holds>)> {
    let mut read = Vec::with_capacity(watched.len());
    let mut answers = true;
    for one in watched {
        let held = if answers { haproxy::held(api, process, &one.entry).await } else { Ok(None) };
        answers &= held.is_ok();
        let held = held.ok().filter(|_| answers).map(|held| holds(held, one.identity.as_ref(), now));
        read.push((one.name, held));
    }
    read
}

fn holds(held: Option<Held>, identity: Option<&(Certificate, Certificate)>, now: Timestamp) -> Holds {
    match held {
        None | Some(Held::Nothing) => Holds::Nothing,
        Some(Held::Unreadable) => {
            Holds::Refused { kind: "malformed", reason: "it cannot be read as an OCSP response".to_owned() }
        }
        Some(Held::Response(held)) => match (&held.der, identity) {
            (Some(der), Some((leaf, issuer))) => judged(der, leaf, issuer, now)
                .map_or_else(|(kind, reason)| Holds::Refused { kind, reason }, Holds::Genuine),
            _ => Holds::Unjudged { this_update: held.this_update, next_update: held.next_update },
        },
    }
}

fn is_there(store: &Store, kept: &Kept, listings: &mut Listings) -> bool {
    match kept {
        Kept::Staple(fingerprint) => store.has_staple(*fingerprint, listings),
        Kept::Issuer(fingerprint) => store.has_issuer(*fingerprint, listings),
        Kept::Beside(ocsp) => listings.has(ocsp),
        Kept::Directory | Kept::Journal => true,
    }
}

fn disk(store: &Store, task: DiskTask, now: Timestamp, stamps_now: Option<Timestamp>) -> DiskDone {
    match task {
        DiskTask::Restore { leaf, issuer, beside, known } => {
            DiskDone::Restored(Box::new(restore(store, &leaf, issuer, beside, known.as_ref(), now)))
        }
        DiskTask::Keep { fingerprint, staple, beside } => {
            let count = |written| usize::from(written == Written::Replaced);
            let state = store.save(fingerprint, &staple).map(count);
            let written = beside
                .into_iter()
                .map(|(ocsp, certificate)| {
                    let result = store.keep_beside(&ocsp, &certificate, &staple).map(count);
                    (ocsp, result)
                })
                .collect();
            DiskDone::Kept { fingerprint, staple, written, state }
        }
        DiskTask::FindLost { kept } => {
            let mut listings = Listings::default();
            let lost = kept.into_iter().filter(|what| !is_there(store, what, &mut listings)).collect();
            DiskDone::Lost { lost, kept_in: Directories::of(&listings, stamps_now) }
        }
        DiskTask::Sweep { keep } => DiskDone::Swept(store.sweep(&keep, earlier(now, STATE_LIFETIME)).err()),
        DiskTask::KeepIssuer { fingerprint, issuer } => {
            DiskDone::IssuerKept { fingerprint, error: store.save_issuer(fingerprint, &issuer).err() }
        }
        DiskTask::TryDirectory => DiskDone::Tried(store.try_state_directory()),
        DiskTask::Discard { fingerprint, ocsp, staple } => {
            let error = store.remove_beside(&ocsp, &staple).err();
            DiskDone::Discarded { fingerprint, ocsp, staple, error }
        }
    }
}

fn restore(
    store: &Store,
    leaf: &Certificate,
    issuer: Option<Issuer>,
    beside: Vec<PathBuf>,
    kept: Option<&Staple>,
    now: Timestamp,
) -> Restored {
    let fingerprint = leaf.fingerprint();
    let mut trouble: Option<StoreError> = None;
    let mut note = |error: StoreError| {
        trouble = Some(error);
        None
    };
    let downloaded = issuer.as_ref().is_none_or(|issuer| issuer.source() == IssuerSource::AuthorityInfoAccess);
    let saved = downloaded.then(|| store.load_issuer(fingerprint).unwrap_or_else(&mut note)).flatten();
    let from_state = saved.as_deref().filter(|_| issuer.is_none());
    let from_state = from_state
        .and_then(|der| Issuer::find(leaf, &ca_issuers::certificates(der), IssuerSource::AuthorityInfoAccess));
    let known = issuer.or_else(|| from_state.clone());
    let kept_issuer =
        known.as_ref().is_some_and(|known| saved.as_deref().is_some_and(|saved| known.certificate().der() == saved));
    let judge = |der: Option<Vec<u8>>| {
        let der = der?;
        match kept.filter(|kept| kept.der() == der) {
            Some(kept) => Some(kept.clone()),
            None => verified(&der, leaf, known.as_ref()?.certificate(), now),
        }
    };
    let state = judge(store.load(fingerprint).unwrap_or_else(&mut note));
    let beside: BTreeMap<PathBuf, Staple> =
        beside.into_iter().filter_map(|path| Some((path.clone(), judge(read_beside(store, &path))?))).collect();
    Restored { fingerprint, issuer: from_state, kept_issuer, state, beside, trouble }
}

/// A `.ocsp` file that cannot be read is as good as none: it is HAProxy's to complain about, or ours to replace.
fn read_beside(store: &Store, ocsp: &Path) -> Option<Vec<u8>> {
    store.read_beside(ocsp).unwrap_or_else(|error| {
        tracing::debug!(%error, "unreadable .ocsp file");
        None
    })
}

#[cfg(test)]
mod tests;
