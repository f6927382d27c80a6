//! What a finished job changes: pure folding of results into the [`World`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::world::{Disk, DiskTask, Errand, HandsOff, Kept, Leaf, Refused, Served, World, beside};
use jiff::Timestamp;

use crate::certificate::{Fingerprint, Issuer};
use crate::clock::{Moment, Monotonic};
use crate::discovery;
use crate::fetch::{Answer, FetchError, IssuerError, Report};
use crate::haproxy::{CertIdKey, Entry, HaproxyError, InstallError, LoadedCertificate, Process, Stapling, Survey};
use crate::metrics::Counters;
use crate::ocsp::{CertStatus, Response, Staple};
use crate::schedule::Attempt;
use crate::status::{OcspStatus, Trouble};
use crate::store::StoreError;

/// The first retry of an installation that HAProxy refused; doubles up to [`LONGEST_INSTALL_RETRY`].
const INSTALL_RETRY: Duration = Duration::from_secs(2);
const LONGEST_INSTALL_RETRY: Duration = Duration::from_secs(60);

/// What a job came to.
#[derive(Debug)]
pub(super) enum Done {
    Scan(discovery::Scan),
    Disk(Vec<DiskDone>),
    Fetch { fingerprint: Fingerprint, host: String, report: Report },
    DownloadIssuer { fingerprint: Fingerprint, host: String, sent: Monotonic, outcome: Result<Issuer, IssuerError> },
    Look { peer: usize, outcome: Result<Process, HaproxyError> },
    Survey { peer: usize, outcome: Result<Survey, HaproxyError> },
    Install { peer: usize, entries: Option<Vec<Entry>>, outcomes: Vec<(String, Installed)> },
}

/// What a disk task came to.
#[derive(Debug)]
pub(super) enum DiskDone {
    Restored(Box<Restored>),
    Kept {
        fingerprint: Fingerprint,
        staple: Staple,
        written: Vec<(PathBuf, Result<usize, StoreError>)>,
        state: Result<usize, StoreError>,
    },
    IssuerKept {
        fingerprint: Fingerprint,
        error: Option<StoreError>,
    },
    Discarded {
        fingerprint: Fingerprint,
        certificate: PathBuf,
        staple: Staple,
        error: Option<StoreError>,
    },
}

/// What an earlier run had kept for a leaf, verified again.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) fingerprint: Fingerprint,
    pub(super) issuer: Option<Issuer>,
    pub(super) state: Option<Staple>,
    pub(super) beside: BTreeMap<PathBuf, Staple>,
    pub(super) trouble: Option<StoreError>,
}

/// What an installation came to.
#[derive(Debug)]
pub(super) enum Installed {
    /// HAProxy serves it; whether anything was written.
    Serves { staple: Staple, written: bool, enabled: bool },
    /// HAProxy holds a newer one, which was verified.
    Adopt(Staple),
    /// HAProxy holds a newer one, which it does not let us read.
    Newer { this_update: Timestamp, next_update: Option<Timestamp> },
    /// HAProxy refused.
    Refused(InstallError),
}

/// Folds one result.
pub(super) fn fold(world: &mut World, done: Done, counters: &Counters, now: Moment) {
    match done {
        Done::Scan(result) => scanned(world, result, now),
        Done::Disk(results) => {
            world.disk.running = false;
            for result in results {
                disk(world, result, counters, now);
            }
        }
        Done::Fetch { fingerprint, host, report } => {
            release(world, &host);
            fetched(world, fingerprint, report, counters, now);
        }
        Done::DownloadIssuer { fingerprint, host, sent, outcome } => {
            release(world, &host);
            issuer_downloaded(world, fingerprint, sent, outcome, now);
        }
        Done::Look { peer, outcome } => looked(world, peer, outcome, counters, now),
        Done::Survey { peer, outcome } => surveyed(world, peer, outcome, now),
        Done::Install { peer, entries, outcomes } => installed(world, peer, entries, outcomes, counters, now),
    }
}

fn release(world: &mut World, host: &str) {
    if let Some(count) = world.in_flight.get_mut(host) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            world.in_flight.remove(host);
        }
    }
}

fn scanned(world: &mut World, result: discovery::Scan, now: Moment) {
    world.scan.running = false;
    world.scan.done_once = true;
    let pause = if std::mem::take(&mut world.scan.again) { Duration::ZERO } else { world.settings.scan_interval };
    world.scan.next = now.monotonic.after(pause);
    world.scan_troubles = result.problems.iter().map(scan_trouble).collect();
    for leaf in world.leaves.values_mut() {
        leaf.files.clear();
    }
    world.files = result.files.into_iter().map(|file| (file.path, file.content)).collect();
    let mut fresh: BTreeSet<Fingerprint> = BTreeSet::new();
    let mut found: BTreeSet<Fingerprint> = BTreeSet::new();
    for (path, content) in &world.files {
        let Ok(content) = content else { continue };
        let fingerprint = content.bundle.leaf.fingerprint();
        let leaf = world.leaves.entry(fingerprint).or_insert_with(|| {
            fresh.insert(fingerprint);
            Leaf::new(content.bundle.leaf.clone(), &world.settings)
        });
        if let Some(issuer) = content.bundle.issuer(&content.issuer_file) {
            if leaf.issuer.is_none() {
                found.insert(fingerprint);
            }
            leaf.accept_issuer(issuer);
        }
        let safe = beside(&content.bundle, &content.issuer_file, leaf.issuer.as_ref());
        leaf.files.insert(path.clone(), safe);
    }
    forget_what_is_gone(world);
    // Those whose issuer was just put there can be asked about at once.
    for fingerprint in found {
        world.reschedule(fingerprint, now);
    }
    for fingerprint in fresh {
        let Some(leaf) = world.leaves.get(&fingerprint) else { continue };
        let files = leaf.files.keys().cloned().collect();
        let task = DiskTask::Restore { leaf: leaf.certificate.clone(), issuer: leaf.issuer.clone(), beside: files };
        world.disk.queue.push_back(task);
    }
    join(world, now);
}

fn scan_trouble(problem: &discovery::Problem) -> Trouble {
    let remedy = "it is looked at again by itself".to_owned();
    Trouble { kind: problem.error.kind(), detail: problem.to_string(), remedy }
}

/// Leaves that are neither on disk nor in any HAProxy are gone, and what was kept beside them is not wanted.
fn forget_what_is_gone(world: &mut World) {
    let loaded: BTreeSet<Fingerprint> =
        world.peers.iter().flat_map(|peer| peer.by_fingerprint.keys()).copied().collect();
    let gone: Vec<Fingerprint> = world
        .leaves
        .iter()
        .filter(|(fingerprint, leaf)| leaf.files.is_empty() && !loaded.contains(*fingerprint))
        .map(|(fingerprint, _)| *fingerprint)
        .collect();
    for fingerprint in gone {
        let Some(leaf) = world.leaves.remove(&fingerprint) else { continue };
        if let Some(due) = leaf.due {
            world.agenda.remove(&(due, fingerprint));
        }
        let discards = leaf.kept_beside.into_iter().map(|(certificate, staple)| DiskTask::Discard {
            fingerprint,
            certificate,
            staple,
        });
        world.disk.queue.extend(discards);
    }
    let (leaves, files) = (&world.leaves, &world.files);
    world.disk.troubles.retain(|what, _| match what {
        Kept::Staple(fingerprint) | Kept::Issuer(fingerprint) => leaves.contains_key(fingerprint),
        Kept::Beside(certificate) => files.contains_key(certificate),
    });
}

/// Brings together what is on disk and what is loaded: who is left alone, who is offered what.
fn join(world: &mut World, now: Moment) {
    let fingerprints: Vec<Fingerprint> = world.leaves.keys().copied().collect();
    for fingerprint in fingerprints {
        let hands_off = hands_off(world, fingerprint);
        let Some(leaf) = world.leaves.get_mut(&fingerprint) else { continue };
        if leaf.hands_off != hands_off || leaf.due.is_none() {
            leaf.hands_off = hands_off;
            world.reschedule(fingerprint, now);
        }
        world.offer(fingerprint, now.wall);
        world.changed.insert(fingerprint);
    }
}

fn hands_off(world: &World, fingerprint: Fingerprint) -> Option<HandsOff> {
    let leaf = world.leaves.get(&fingerprint)?;
    let mut loaded = world.peers.iter().filter(|peer| !peer.names(fingerprint).is_empty()).peekable();
    let is_loaded = loaded.peek().is_some();
    let native = is_loaded && loaded.all(|peer| peer.updates_natively(fingerprint));
    let filter = &world.settings.filter;
    let mut names: Vec<String> = world.peers.iter().flat_map(|peer| peer.names(fingerprint)).cloned().collect();
    if names.is_empty() {
        names.extend(leaf.files.keys().map(|path| world.settings.path_map.to_haproxy(path)));
    }
    let excluded = !names.is_empty() && !names.iter().any(|name| filter.matches(name));
    if excluded { Some(HandsOff::Excluded) } else { native.then_some(HandsOff::NativeUpdate) }
}

fn disk(world: &mut World, done: DiskDone, counters: &Counters, now: Moment) {
    match done {
        DiskDone::Restored(restored) => restore(world, *restored, now),
        DiskDone::Kept { fingerprint, staple, written, state } => {
            let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
            if state.is_ok() {
                leaf.kept = Some(staple.clone());
            }
            for (certificate, result) in &written {
                if result.is_ok() {
                    leaf.kept_beside.insert(certificate.clone(), staple.clone());
                }
            }
            world.disk.note(Kept::Staple(fingerprint), state, counters);
            for (certificate, result) in written {
                world.disk.note(Kept::Beside(certificate), result, counters);
            }
        }
        DiskDone::IssuerKept { fingerprint, error } => {
            if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
                leaf.kept_issuer = error.is_none();
                world.disk.note(Kept::Issuer(fingerprint), error.map_or(Ok(0), Err), counters);
            }
        }
        DiskDone::Discarded { fingerprint, certificate, staple, error } => {
            // It is tried again as long as anybody knows whose it is.
            if let Some(leaf) = world.leaves.get_mut(&fingerprint).filter(|_| error.is_some()) {
                leaf.kept_beside.entry(certificate.clone()).or_insert(staple);
            }
            world.disk.note(Kept::Beside(certificate), error.map_or(Ok(0), Err), counters);
        }
    }
}

impl Disk {
    /// Takes note of what came of keeping something: how many files were written, or why not.
    fn note(&mut self, what: Kept, result: Result<usize, StoreError>, counters: &Counters) {
        match result {
            Ok(count) => {
                counters.staple_writes.inc_by(u64::try_from(count).unwrap_or(0));
                self.troubles.remove(&what);
            }
            Err(error) => {
                counters.staple_write_failures.with_label_values(&[error.kind()]).inc();
                tracing::debug!(%error, "not kept");
                self.troubles.insert(what, store_trouble(&error));
            }
        }
    }
}

fn store_trouble(error: &StoreError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.summary(), remedy: error.remedy().to_owned() }
}

fn restore(world: &mut World, restored: Restored, now: Moment) {
    let fingerprint = restored.fingerprint;
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    if let Some(issuer) = restored.issuer {
        leaf.accept_issuer(issuer);
        leaf.kept_issuer = true;
    }
    leaf.restored = true;
    for staple in restored.beside.values().chain(&restored.state) {
        leaf.adopt(staple, now);
    }
    leaf.kept = restored.state;
    // Only what this program kept is its to remove later: the state directory holds the same bytes.
    leaf.kept_beside = restored.beside.into_iter().filter(|(_, staple)| leaf.kept.as_ref() == Some(staple)).collect();
    if let Some(error) = restored.trouble {
        world.disk.troubles.insert(Kept::Staple(fingerprint), store_trouble(&error));
    }
    after_change(world, fingerprint, now);
}

/// A leaf has another staple or another issuer: everything that hangs on it follows.
fn after_change(world: &mut World, fingerprint: Fingerprint, now: Moment) {
    world.reschedule(fingerprint, now);
    world.offer(fingerprint, now.wall);
    world.changed.insert(fingerprint);
}

impl Leaf {
    /// Takes a verified staple if it is no step back (promise 2). Returns whether it was taken.
    fn adopt(&mut self, staple: &Staple, now: Moment) -> bool {
        let better = self.serving(now.wall).is_none_or(|held| staple.supersedes(held));
        if better {
            self.ocsp_status = if staple.is_revoked() { OcspStatus::Revoked } else { OcspStatus::Good };
            self.staple = Some(staple.clone());
        }
        better
    }
}

fn fetched(world: &mut World, fingerprint: Fingerprint, report: Report, counters: &Counters, now: Moment) {
    for sent in &report.sent {
        let responder = [sent.responder.as_str()];
        counters.ocsp_requests.with_label_values(&responder).inc();
        counters.ocsp_request_duration.with_label_values(&responder).observe(sent.took.as_secs_f64());
        if let Some(reason) = sent.failure {
            counters.ocsp_request_failures.with_label_values(&[sent.responder.as_str(), reason]).inc();
        }
    }
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    leaf.errand = Errand::Idle;
    leaf.last_attempt_at = Some(now.wall);
    let attempt = match report.outcome {
        Ok(Answer::Staple { staple, method }) => {
            leaf.method = method;
            leaf.trouble = None;
            leaf.last_success_at = Some(now.wall);
            if leaf.adopt(&staple, now) { Attempt::Renewed } else { Attempt::Unchanged }
        }
        Ok(Answer::Unloadable { response, reason }) => {
            leaf.ocsp_status = status_of(&response);
            leaf.trouble = Some(Trouble {
                kind: reason.kind(),
                detail: format!("the CA's answer is genuine, but HAProxy would not serve it: {reason}"),
                remedy: reason.remedy().to_owned(),
            });
            Attempt::Failed
        }
        Err(error) => {
            leaf.trouble = Some(fetch_trouble(&error));
            Attempt::Failed
        }
    };
    let requests: Vec<Monotonic> = report.sent.iter().map(|sent| sent.at).collect();
    leaf.progress.record(attempt, requests, report.retry_after, now.monotonic);
    after_change(world, fingerprint, now);
}

fn status_of(response: &Response) -> OcspStatus {
    match response.cert_status() {
        CertStatus::Good => OcspStatus::Good,
        CertStatus::Revoked { .. } => OcspStatus::Revoked,
        CertStatus::Unknown => OcspStatus::Unknown,
    }
}

fn fetch_trouble(error: &FetchError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() }
}

fn issuer_downloaded(
    world: &mut World,
    fingerprint: Fingerprint,
    sent: Monotonic,
    outcome: Result<Issuer, IssuerError>,
    now: Moment,
) {
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    leaf.errand = Errand::Idle;
    leaf.last_attempt_at = Some(now.wall);
    let attempt = if outcome.is_ok() { Attempt::Renewed } else { Attempt::Failed };
    leaf.issuer_progress.record(attempt, [sent], None, now.monotonic);
    match outcome {
        Ok(issuer) => {
            leaf.trouble = None;
            share_issuer(world, &issuer, now);
        }
        Err(error) => {
            leaf.trouble = Some(Trouble {
                kind: error.kind(),
                detail: format!("its issuer could not be downloaded: {error}"),
                remedy: "put the issuer's certificate after the leaf in the PEM file, or into a .issuer file beside it"
                    .to_owned(),
            });
            world.reschedule(fingerprint, now);
        }
    }
}

/// One download serves every leaf of the same issuer: proven for each.
fn share_issuer(world: &mut World, issuer: &Issuer, now: Moment) {
    let candidates = [issuer.certificate().clone()];
    let orphans: Vec<(Fingerprint, Issuer)> = world
        .leaves
        .values()
        .filter(|leaf| leaf.issuer.is_none() && leaf.certificate.issuer() == issuer.certificate().subject())
        .filter_map(|leaf| {
            Some((leaf.certificate.fingerprint(), Issuer::find(&leaf.certificate, &candidates, issuer.source())?))
        })
        .collect();
    for (fingerprint, issuer) in orphans {
        if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
            leaf.accept_issuer(issuer);
        }
        after_change(world, fingerprint, now);
    }
}

fn looked(world: &mut World, index: usize, outcome: Result<Process, HaproxyError>, counters: &Counters, now: Moment) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    match outcome {
        Ok(process) => {
            if peer.process.as_ref().is_none_or(|known| !process.is_same_as(known)) {
                if peer.process.is_some() {
                    peer.reloads += 1;
                    counters.haproxy_reloads.with_label_values(&[peer.label().as_str()]).inc();
                    tracing::info!(haproxy = peer.label(), pid = process.pid, "HAProxy is a new process");
                }
                peer.forget_what_was_served();
                peer.next_survey = now.monotonic;
            }
            if peer.up != Some(true) {
                peer.next_survey = now.monotonic;
                peer.trouble = None;
            }
            peer.up = Some(true);
            peer.process = Some(process);
        }
        Err(error) => {
            peer.up = Some(false);
            peer.trouble = Some(haproxy_trouble(&error));
        }
    }
}

fn haproxy_trouble(error: &HaproxyError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() }
}

fn surveyed(world: &mut World, index: usize, outcome: Result<Survey, HaproxyError>, now: Moment) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    match outcome {
        Ok(survey) => {
            peer.surveyed = true;
            peer.trouble = None;
            let known: BTreeSet<Fingerprint> = peer.by_fingerprint.keys().copied().collect();
            peer.native = natively_updated(&survey, &world.leaves);
            let changed: BTreeSet<String> = survey
                .loaded
                .iter()
                .filter(|now| peer.loaded.get(&now.name).is_some_and(|then| then.fingerprint != now.fingerprint))
                .map(|certificate| certificate.name.clone())
                .collect();
            peer.set_loaded(survey.loaded);
            peer.entries = survey.entries;
            let read_back = peer.read_back_again <= now.monotonic;
            if read_back {
                peer.read_back_again = now.monotonic.after(world.settings.refresh_interval);
            }
            // Somebody may have replaced a certificate at run time: what HAProxy served for it went with it.
            let entries: Option<BTreeSet<&CertIdKey>> =
                peer.entries.as_ref().map(|entries| entries.iter().map(|entry| &entry.id).collect());
            let (leaves, loaded) = (&world.leaves, &peer.loaded);
            peer.served.retain(|name, _| {
                let certificate = loaded.get(name).filter(|loaded| loaded.stapling != Stapling::Off);
                let key = certificate
                    .and_then(|loaded| leaves.get(&loaded.fingerprint?))
                    .and_then(|leaf| leaf.ask.as_ref())
                    .map(|ask| &ask.key);
                let entry = key.is_some_and(|key| entries.as_ref().is_none_or(|entries| entries.contains(key)));
                entry && !changed.contains(name) && !read_back
            });
            if peer.by_fingerprint.keys().any(|each| !known.contains(each)) {
                // Perhaps a file that was not looked at so far.
                world.scan.next = now.monotonic;
                world.scan.again = world.scan.running;
            }
        }
        Err(error) => peer.trouble = Some(haproxy_trouble(&error)),
    }
    join(world, now);
}

/// The names whose responses HAProxy fetches by itself.
fn natively_updated(survey: &Survey, leaves: &BTreeMap<Fingerprint, Leaf>) -> BTreeSet<String> {
    if survey.native_updates.is_empty() {
        return BTreeSet::new();
    }
    let key = |loaded: &LoadedCertificate| Some(&leaves.get(&loaded.fingerprint?)?.ask.as_ref()?.key);
    survey
        .loaded
        .iter()
        .filter(|loaded| survey.is_updated_natively(&loaded.name, key(loaded)))
        .map(|loaded| loaded.name.clone())
        .collect()
}

fn installed(
    world: &mut World,
    index: usize,
    entries: Option<Vec<Entry>>,
    outcomes: Vec<(String, Installed)>,
    counters: &Counters,
    now: Moment,
) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    peer.entries = entries;
    let label = peer.label();
    let mut adopted = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Installed::Serves { staple, written, enabled } => {
                if written {
                    counters.staple_installs.with_label_values(&[label.as_str()]).inc();
                }
                if let Some(loaded) = peer.loaded.get_mut(&name).filter(|_| enabled) {
                    loaded.stapling = Stapling::On;
                }
                peer.refused.remove(&name);
                peer.pending.remove(&name);
                peer.served.insert(name, Served::Ours(staple));
            }
            Installed::Adopt(staple) => {
                peer.refused.remove(&name);
                peer.pending.remove(&name);
                let fingerprint = peer.loaded.get(&name).and_then(|loaded| loaded.fingerprint);
                adopted.extend(fingerprint.map(|fingerprint| (fingerprint, staple.clone())));
                peer.served.insert(name, Served::Ours(staple));
            }
            Installed::Newer { this_update, next_update } => {
                peer.refused.remove(&name);
                peer.pending.remove(&name);
                peer.served.insert(name, Served::Newer { this_update, next_update });
            }
            Installed::Refused(error) => {
                counters.staple_install_failures.with_label_values(&[label.as_str(), error.kind()]).inc();
                let times = peer.refused.get(&name).map_or(0, |refused| refused.times).saturating_add(1);
                let wait = INSTALL_RETRY.saturating_mul(1 << times.saturating_sub(1).min(5)).min(LONGEST_INSTALL_RETRY);
                let trouble =
                    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() };
                peer.refused.insert(name, Refused { trouble, times, again: now.monotonic.after(wait) });
            }
        }
    }
    for (fingerprint, staple) in adopted {
        if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
            leaf.adopt(&staple, now);
        }
        after_change(world, fingerprint, now);
    }
}
