//! What a finished job changes: pure folding of results into the [`World`].

mod answers;
mod disk;
mod peers;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::disk::{DiskDone, Restored};
pub(super) use self::peers::Installed;
use super::journal::Surveyed;
use super::native::Holds;
use super::places::Home;
use super::probes;
use super::troubles;
use super::world::{DiskTask, HandsOff, Kept, Leaf, World};
use crate::certificate::{Certificate, Fingerprint, Issuer, IssuerSource};
use crate::clock::Moment;
use crate::discovery::{CertificateFile, FileError, Scan};
use crate::fetch::{IssuerReport, Report};
use crate::haproxy::{Entries, HaproxyError, Process};
use crate::metrics::Counters;
use crate::ocsp::Staple;
use crate::probe;
use crate::status::{OcspStatus, Trouble};
use crate::store::StoreError;

/// How often the state directory is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(86_400);

/// What a job came to.
#[derive(Debug)]
pub(super) enum Done {
    /// No scan where all is as it was; whether anything came or went where files are kept.
    Scan {
        scan: Option<Scan>,
        in_place: bool,
    },
    Disk(Vec<DiskDone>),
    Fetch {
        fingerprint: Fingerprint,
        host: String,
        report: Report,
    },
    DownloadIssuer {
        fingerprint: Fingerprint,
        host: String,
        report: IssuerReport,
    },
    Look {
        peer: usize,
        outcome: Result<Process, HaproxyError>,
    },
    Survey {
        peer: usize,
        surveyed: Surveyed,
    },
    Install {
        peer: usize,
        entries: Option<Entries>,
        outcomes: Vec<(String, Installed)>,
        /// Whether its transactions were written down; none if there were none.
        journal: Option<Result<(), StoreError>>,
    },
    Probe {
        index: usize,
        report: probe::Report,
    },
    /// None where HAProxy did not answer.
    Watch {
        peer: usize,
        read: Vec<(String, Option<Holds>)>,
    },
}

/// Folds one result. Looks, scans and surveys come all the time and rarely bring news.
pub(super) fn fold(world: &mut World, done: Done, counters: &Counters, now: Moment) {
    world.is_news |= match done {
        Done::Scan { scan, in_place } => scanned(world, scan, in_place, now),
        Done::Disk(results) => {
            world.disk.running = false;
            let mut is_news = false;
            for result in results {
                is_news |= disk::disk(world, result, counters, now);
            }
            is_news
        }
        Done::Fetch { fingerprint, host, report } => {
            release(world, &host);
            answers::fetched(world, fingerprint, report, counters, now);
            true
        }
        Done::DownloadIssuer { fingerprint, host, report } => {
            release(world, &host);
            answers::issuer_downloaded(world, fingerprint, report, now);
            true
        }
        Done::Look { peer, outcome } => {
            let is_as_before = outcome.is_ok() && world.peers.iter().all(|peer| peer.up == Some(true));
            peers::looked(world, peer, outcome, counters, now);
            !is_as_before
        }
        Done::Survey { peer, surveyed } => {
            let is_trouble = surveyed.trouble.is_some();
            disk::journal(world, surveyed.trouble.map(Err));
            survey::surveyed(world, peer, surveyed.outcome, surveyed.aborted, now) || is_trouble
        }
        Done::Install { peer, entries, outcomes, journal } => {
            disk::journal(world, journal);
            peers::installed(world, peer, entries, outcomes, counters, now);
            true
        }
        Done::Probe { index, report } => {
            probes::probed(world, index, &report, now.monotonic);
            true
        }
        Done::Watch { peer, read } => {
            peers::watched(world, peer, read, now);
            true
        }
    };
}

fn release(world: &mut World, host: &str) {
    if let Some(count) = world.in_flight.get_mut(host) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            world.in_flight.remove(host);
        }
    }
}

/// Whether anything is not as it was.
fn scanned(world: &mut World, scan: Option<Scan>, in_place: bool, now: Moment) -> bool {
    world.scan.running = false;
    world.scan.done_once = true;
    let pause = if std::mem::take(&mut world.scan.again) { Duration::ZERO } else { world.settings.scan_interval };
    world.scan.next = now.monotonic.after(pause);
    let found = scan.map(|scan| (scan.problems.iter().map(troubles::place).collect::<Vec<Trouble>>(), scan.files));
    let found = found.filter(|(troubles, files)| *troubles != world.scan_troubles || !world.has_files(files));
    let is_news = found.is_some() || world.scan.outdated;
    world.scan.outdated = false;
    if let Some((troubles, files)) = found {
        world.scan_troubles = troubles;
        take_files(world, files);
    }
    if is_news {
        match_files(world, now);
    }
    // A scan sees that a file is gone, not what is in it.
    if !in_place {
        world.scan.kept_anew = false;
        let kept: Vec<Kept> = world.leaves.iter().flat_map(|(fingerprint, leaf)| leaf.kept(*fingerprint)).collect();
        if !kept.is_empty() {
            world.disk.queue.push_back(DiskTask::FindLost { kept });
        }
    }
    if world.inspect_again <= now.monotonic {
        world.inspect_again = now.monotonic.after(world.settings.refresh_interval);
        let restored = world.leaves.values().filter(|leaf| leaf.restored);
        world.disk.queue.extend(restored.map(|leaf| leaf.restore()));
    }
    if world.sweep_again <= now.monotonic {
        world.sweep_again = now.monotonic.after(SWEEP_INTERVAL);
        world.disk.queue.push_back(DiskTask::Sweep { keep: world.leaves.keys().copied().collect() });
    }
    is_news
}

/// What is on disk is not what it was.
fn take_files(world: &mut World, files: Vec<CertificateFile>) {
    // A crt-list's relative name may lead elsewhere; HAProxy is about to tell.
    let early = world.awaits_haproxy();
    world.files = files
        .into_iter()
        .filter(|file| !early || file.content != Err(FileError::NotFound))
        .map(|file| (file.path, file.content))
        .collect();
}

/// What is on disk is not what it was, or is in another HAProxy than it was: files and leaves are brought together anew.
fn match_files(world: &mut World, now: Moment) {
    world.leaves.values_mut().for_each(|leaf| leaf.files.clear());
    let mut fresh: BTreeSet<Fingerprint> = BTreeSet::new();
    let mut found: BTreeSet<Fingerprint> = BTreeSet::new();
    for (path, content) in &world.files {
        let Ok(content) = content else { continue };
        let fingerprint = content.bundle.leaf.fingerprint();
        let leaf = world.leaves.entry(fingerprint).or_insert_with(|| {
            fresh.insert(fingerprint);
            Box::new(Leaf::new(content.bundle.leaf.clone(), &world.settings))
        });
        if let Some(issuer) = &content.issuer {
            if leaf.issuer.is_none() {
                found.insert(fingerprint);
            }
            leaf.accept_issuer(issuer.clone());
        }
        let home = Home::of(content, leaf.issuer.as_ref());
        leaf.files.insert(path.clone(), home);
    }
    found.extend(adopt_orphans(world));
    forget_what_is_gone(world);
    // Those whose issuer was just put there can be asked about at once.
    for fingerprint in found {
        world.reschedule(fingerprint, now);
    }
    for fingerprint in fresh {
        world.disk.queue.extend(world.leaves.get(&fingerprint).map(|leaf| leaf.restore()));
    }
    join(world, now);
}

/// Looks for the issuers of leaves that have none among the files of CA certificates: HAProxy's `issuers-chain-path` is a
/// directory of them, and may be named in STAPLER_CERTS. Says whose was found.
fn adopt_orphans(world: &mut World) -> Vec<Fingerprint> {
    let orphans: Vec<Fingerprint> =
        world.leaves.iter().filter(|(_, leaf)| leaf.issuer.is_none()).map(|(fingerprint, _)| *fingerprint).collect();
    if orphans.is_empty() {
        return orphans;
    }
    let mut authorities: BTreeMap<&str, Vec<Certificate>> = BTreeMap::new();
    for content in world.files.values().flatten() {
        let (first, others) = (&content.bundle.leaf, &content.bundle.chain);
        for certificate in [first].into_iter().chain(others).filter(|_| first.is_ca()) {
            authorities.entry(certificate.subject()).or_default().push(certificate.clone());
        }
    }
    let mut adopted = Vec::new();
    for fingerprint in orphans {
        let Some(leaf) = world.leaves.get_mut(&fingerprint) else { continue };
        let candidates = authorities.get(leaf.certificate.issuer()).map(Vec::as_slice).unwrap_or_default();
        if let Some(issuer) = Issuer::find(&leaf.certificate, candidates, IssuerSource::OtherFile) {
            leaf.accept_issuer(issuer);
            adopted.push(fingerprint);
        }
    }
    adopted
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
        for (ocsp, staple) in leaf.kept_beside {
            if !world.is_required(&ocsp) {
                world.disk.queue.push_back(DiskTask::Discard { fingerprint, ocsp, staple });
            }
        }
    }
    let mut beside: BTreeSet<PathBuf> = BTreeSet::new();
    if world.disk.troubles.keys().any(|what| matches!(what, Kept::Beside(_))) {
        for leaf in world.leaves.values() {
            beside.extend(world.places(leaf).into_keys());
            beside.extend(leaf.kept_beside.keys().cloned());
        }
    }
    let leaves = &world.leaves;
    world.disk.troubles.retain(|what, _| match what {
        Kept::Staple(fingerprint) | Kept::Issuer(fingerprint) => leaves.contains_key(fingerprint),
        Kept::Beside(ocsp) => beside.contains(ocsp),
        Kept::Directory | Kept::Journal => true,
    });
}

/// Brings together what is on disk and what is loaded: who is left alone, who is offered what.
fn join(world: &mut World, now: Moment) {
    world.scan.also = None;
    let (files, leaves, path_map) = (&world.files, &world.leaves, &world.settings.path_map);
    for peer in &mut world.peers {
        peer.assume(|name| {
            let content = files.get(&path_map.to_own(name))?.as_ref().ok()?;
            Some(content.bundle.leaf.fingerprint())
        });
        let id = |fingerprint| Some(&leaves.get(&fingerprint)?.ask.as_ref()?.key);
        peer.find_native(id);
        peer.find_unlisted(id);
    }
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
    match (excluded, leaf.certificate.is_ca() && !is_loaded) {
        (true, _) => Some(HandsOff::Excluded),
        (false, true) => Some(HandsOff::Authority),
        (false, false) => native.then_some(HandsOff::NativeUpdate),
    }
}

/// A leaf has another staple or another issuer: everything that hangs on it follows.
fn after_change(world: &mut World, fingerprint: Fingerprint, now: Moment) {
    if let Some(ask) = world.leaves.get(&fingerprint).and_then(|leaf| leaf.ask.as_ref()) {
        world.peers.iter_mut().for_each(|peer| peer.find_native_of(fingerprint, &ask.key));
    }
    world.reschedule(fingerprint, now);
    world.offer(fingerprint, now.wall);
    world.changed.insert(fingerprint);
}

impl Leaf {
    /// Takes a verified staple if it is no step back (promise 2). Returns whether it was taken.
    fn adopt(&mut self, staple: &Staple, now: Moment) -> bool {
        let better = self.serving(now.wall).is_none_or(|held| staple.supersedes(held));
        if better {
            self.staple = Some(staple.clone());
            self.validator = None;
        }
        // Also where the answer brought nothing newer: an `unknown` in between is over.
        let revoked = self.staple.as_ref().is_some_and(Staple::is_revoked);
        self.ocsp_status = if revoked { OcspStatus::Revoked } else { OcspStatus::Good };
        better
    }
}
