//! What to do next: pure decisions over the [`World`]. Whatever is handed out is marked as running.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::asking::Wishes;
use super::peer::Peer;
use super::probes::{self, Probe};
use super::world::{DiskTask, Errand, Kept, Leaf, Leaves, World};
use crate::certificate::{Certificate, Fingerprint, Issuer, IssuerSource};
use crate::clock::{Moment, Monotonic};
use crate::fetch;
use crate::haproxy::{self, CertIdKey, Entries, EntryName, Known, LoadedCertificate, Process, Stapling};
use crate::listings::Directories;
use crate::ocsp::Staple;
use crate::probe::Target;
use crate::settings::{OcspFiles, OnRevoked};

/// Staples installed between two looks: a reload in the middle of many is noticed in time.
const INSTALLATIONS_AT_ONCE: usize = 64;
/// Disk tasks in one go.
const DISK_TASKS_AT_ONCE: usize = 128;

/// One piece of IO to execute.
#[derive(Debug)]
pub(super) enum Job {
    /// Look at the certificate files, and whether anything came or went where files are kept.
    Scan { also: Vec<PathBuf>, kept_in: Directories },
    /// Work through disk tasks, in order.
    Disk { tasks: Vec<DiskTask> },
    /// Ask the CA about a leaf.
    Fetch { fingerprint: Fingerprint, host: String, errand: fetch::Errand },
    /// Download a leaf's issuer.
    DownloadIssuer { host: String, errand: fetch::IssuerErrand },
    /// See whether HAProxy is still the same process.
    Look { peer: usize },
    /// See what HAProxy has loaded; `first` since our start, perhaps after a crash of ours.
    Survey { peer: usize, address: String, process: Process, known: Known, first: bool },
    /// Bring staples into HAProxy.
    Install { peer: usize, address: String, process: Process, entries: Option<Entries>, items: Vec<Item> },
    /// See what a client of a frontend sees. Not every server sends its issuer.
    Probe { index: usize, target: Target, issuers: Vec<Certificate>, deadline: Duration },
    /// See what HAProxy holds where it updates by itself.
    Watch { peer: usize, process: Process, watched: Vec<Watched> },
}

/// One certificate that HAProxy updates by itself, or for which nothing is in hand.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) entry: EntryName,
    /// The certificate and its issuer, as far as they are known.
    pub(super) identity: Option<(Certificate, Certificate)>,
}

/// One staple for one HAProxy.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) stapling: Stapling,
    pub(super) leaf: Certificate,
    pub(super) issuer: Issuer,
    /// Whether HAProxy finds the issuer by itself.
    pub(super) chained: bool,
    pub(super) id: CertIdKey,
    pub(super) staple: Staple,
}

/// Hands out everything that is due and not held back.
pub(super) fn plan(world: &mut World, now: Moment) -> Vec<Job> {
    let mut jobs = Vec::new();
    if world.agenda_next <= now.monotonic {
        world.agenda_next = now.monotonic.after(world.cadence.agenda());
        world.is_news |= world.is_snapshot_over(now);
        if !world.is_at_rest(now) {
            remake_agenda(world, now);
        }
    }
    plan_scan(world, now.monotonic, &mut jobs);
    plan_keeping(world, now);
    plan_disk(world, &mut jobs);
    plan_errands(world, now, &mut jobs);
    plan_peers(world, now, &mut jobs);
    probes::plan(world, now.monotonic, &mut jobs);
    jobs
}

/// When to look again if nothing happens before.
pub(super) fn next_wake(world: &World, now: Monotonic) -> Monotonic {
    let peers = world.peers.iter().filter(|peer| !peer.running).flat_map(|peer| {
        let survey = (peer.up == Some(true)).then_some(peer.next_survey);
        let refused = peer.refused.iter().filter(|(name, _)| peer.pending.contains(*name));
        let retry = refused.map(|(_, refused)| refused.again).filter(|again| *again > now).min();
        [Some(peer.next_look), survey, retry]
    });
    // What waits for an introduction is not due before it is over, or a HAProxy's word ends it.
    let introduced = if world.awaits_introduction(now) { world.introduced_by } else { now };
    let errand = world.agenda.first().map(|(due, _)| (*due).max(introduced));
    let scan = (!world.scan.running).then_some(world.scan.next);
    let latest = now.after(world.cadence.look());
    let probes = world.probes.iter().map(Probe::due);
    peers.chain([errand, scan]).chain(probes).flatten().fold(latest, Monotonic::min)
}

fn remake_agenda(world: &mut World, now: Moment) {
    world.agenda_made = now;
    let fingerprints: Vec<Fingerprint> = world.leaves.keys().copied().collect();
    let disk_is_well = world.disk.troubles.is_empty();
    for fingerprint in fingerprints {
        world.reschedule(fingerprint, now);
        world.offer(fingerprint, now.wall);
        if !disk_is_well || !world.is_kept_right(fingerprint, now.wall) {
            world.changed.insert(fingerprint);
        }
    }
    if world.disk.troubles.contains_key(&Kept::Journal) {
        world.disk.queue.push_back(DiskTask::TryDirectory);
    }
}

fn plan_scan(world: &mut World, now: Monotonic, jobs: &mut Vec<Job>) {
    if world.scan.running || world.scan.next > now {
        return;
    }
    world.scan.running = true;
    world.pass_started.get_or_insert(now);
    let also = world.scan.also.take().unwrap_or_else(|| elsewhere(world));
    world.scan.also = Some(also.clone());
    let kept_in = if world.scan.kept_anew { Directories::default() } else { world.scan.kept_in.clone() };
    jobs.push(Job::Scan { also, kept_in });
}

/// What HAProxy runs and no file under STAPLER_CERTS holds may still be readable under its own path.
fn elsewhere(world: &World) -> Vec<PathBuf> {
    let mut also: Vec<PathBuf> = world
        .peers
        .iter()
        .flat_map(|peer| peer.loaded.values())
        .filter(|loaded| loaded.fingerprint.is_none_or(|each| !is_on_disk(world.leaves.get(&each).map(Box::as_ref))))
        .flat_map(|loaded| [Some(loaded.name.as_str()), loaded.file.as_deref()])
        .flatten()
        .filter_map(|path| world.own_path(path))
        .collect();
    also.sort_unstable();
    also.dedup();
    also
}

fn is_on_disk(leaf: Option<&Leaf>) -> bool {
    leaf.is_some_and(|leaf| !leaf.files.is_empty())
}

/// For leaves that changed: finds staples that are not kept where they should be, and kept ones that should not be.
fn plan_keeping(world: &mut World, now: Moment) {
    let auto = world.settings.ocsp_files == OcspFiles::Auto;
    for fingerprint in std::mem::take(&mut world.changed) {
        let Some(leaf) = world.leaves.get(&fingerprint).filter(|leaf| leaf.restored) else { continue };
        let installable = leaf.installable(world.settings.on_revoked, now.wall).cloned();
        // A response that does not fit HAProxy's buffer would be cut off, and be a warning at its next start.
        let wanted = auto && installable.as_ref().is_some_and(|staple| staple.der().len() <= haproxy::FILE_LIMIT);
        let places = if wanted { world.places(leaf) } else { BTreeMap::new() };
        // Of a file that is gone, holds another certificate or lost its issuer, expired, or withheld: at HAProxy's next
        // start it would be a warning at best, and with `zero-warning` or without an issuer no start at all.
        let harmful: Vec<PathBuf> = leaf
            .kept_beside
            .keys()
            .filter(|ocsp| !places.contains_key(*ocsp) && !world.is_required(ocsp))
            .cloned()
            .collect();
        let Some(leaf) = world.leaves.get_mut(&fingerprint) else { continue };
        leaf.had_installable = installable.is_some();
        if let Some(staple) = leaf.serving(now.wall).cloned().filter(|_| leaf.hands_off.is_none()) {
            let mut beside = places;
            beside.retain(|ocsp, _| leaf.kept_beside.get(ocsp) != Some(&staple));
            if leaf.kept.as_ref() != Some(&staple) || !beside.is_empty() {
                world.disk.queue.push_back(DiskTask::Keep { fingerprint, staple, beside });
            }
        }
        let downloaded = leaf.issuer.clone().filter(|issuer| issuer.source() == IssuerSource::AuthorityInfoAccess);
        if let Some(issuer) = downloaded.filter(|_| !leaf.kept_issuer) {
            leaf.kept_issuer = true;
            world.disk.queue.push_back(DiskTask::KeepIssuer { fingerprint, issuer });
        }
        for ocsp in harmful {
            let staple = leaf.kept_beside.remove(&ocsp);
            world.disk.queue.extend(staple.map(|staple| DiskTask::Discard { fingerprint, ocsp, staple }));
        }
    }
}

fn plan_disk(world: &mut World, jobs: &mut Vec<Job>) {
    if world.disk.running || world.disk.queue.is_empty() {
        return;
    }
    let most = DISK_TASKS_AT_ONCE.min(world.disk.queue.len());
    world.disk.running = true;
    jobs.push(Job::Disk { tasks: world.disk.queue.drain(..most).collect() });
}

/// Errands to the network: due ones queue for their host, and each host has so many at once.
fn plan_errands(world: &mut World, now: Moment, jobs: &mut Vec<Job>) {
    // Nobody asks for what a HAProxy fetches by itself. One that hangs is not waited for.
    if world.awaits_introduction(now.monotonic) {
        return;
    }
    let mut all_due = Vec::new();
    while let Some((due, fingerprint)) = world.agenda.first().copied().filter(|(due, _)| *due <= now.monotonic) {
        world.agenda.remove(&(due, fingerprint));
        all_due.push(fingerprint);
    }
    // When a host's wish is over, all its certificates are due at once. If it wishes again as soon as the first have been
    // asked about, those that were not must be the first next time.
    all_due.sort_by_key(|fingerprint| world.leaves.get(fingerprint).and_then(|leaf| leaf.last_asked()));
    for fingerprint in all_due {
        let Some(leaf) = world.leaves.get_mut(&fingerprint) else { continue };
        leaf.due = None;
        if leaf.is_held_back(&world.wishes, now) {
            // Its host was heard since, by another certificate's errand.
            world.reschedule(fingerprint, now);
            continue;
        }
        leaf.errand = Errand::Waiting;
        world.waiting.entry(leaf.host(&world.wishes, now)).or_default().push_back(fingerprint);
    }
    let concurrency = world.settings.concurrency.get();
    let mut started: BTreeMap<String, usize> = BTreeMap::new();
    let mut held_back = Vec::new();
    for (host, queue) in &mut world.waiting {
        let running = world.in_flight.get(host).copied().unwrap_or_default();
        let mut places = concurrency.saturating_sub(running);
        while places > 0 {
            let Some(fingerprint) = queue.pop_front() else { break };
            let Some(leaf) = world.leaves.get_mut(&fingerprint) else { continue };
            if leaf.is_held_back(&world.wishes, now) {
                leaf.errand = Errand::Idle;
                held_back.push(fingerprint);
                continue;
            }
            leaf.errand = Errand::Running;
            places -= 1;
            *started.entry(host.clone()).or_default() += 1;
            jobs.push(errand(leaf, host.clone(), world.settings.timeout, &world.wishes, now));
        }
    }
    for fingerprint in held_back {
        world.reschedule(fingerprint, now);
    }
    world.waiting.retain(|_, queue| !queue.is_empty());
    for (host, count) in started {
        *world.in_flight.entry(host).or_default() += count;
    }
}

fn errand(leaf: &Leaf, host: String, deadline: Duration, wishes: &Wishes, now: Moment) -> Job {
    let allowance = leaf.budget.allowance(now.monotonic);
    let mut responders = leaf.willing(wishes, now);
    if allowance.requests < responders.len() {
        // What does not reach all of them goes to another one each time.
        let failures = usize::try_from(leaf.progress.failures()).unwrap_or_default();
        let first = failures % responders.len();
        responders.rotate_left(first);
    }
    match (&leaf.ask, &leaf.issuer) {
        (Some(ask), Some(issuer)) => Job::Fetch {
            fingerprint: leaf.certificate.fingerprint(),
            host,
            errand: fetch::Errand {
                leaf: leaf.certificate.clone(),
                issuer: issuer.certificate().clone(),
                request: ask.request.clone(),
                responders,
                method: leaf.method,
                allowance,
                in_hand: leaf.in_hand(now),
                past_caches: leaf.past_caches,
                deadline,
            },
        },
        _ => Job::DownloadIssuer {
            host,
            errand: fetch::IssuerErrand {
                leaf: leaf.certificate.clone(),
                urls: responders,
                allowance: allowance.requests,
                deadline,
            },
        },
    }
}

fn plan_peers(world: &mut World, now: Moment, jobs: &mut Vec<Job>) {
    let (leaves, look) = (&world.leaves, world.cadence.look());
    let on_revoked = world.settings.on_revoked;
    for (index, peer) in world.peers.iter_mut().enumerate().filter(|(_, peer)| !peer.running) {
        let job = if peer.next_look <= now.monotonic {
            peer.next_look = now.monotonic.after(look);
            Some(Job::Look { peer: index })
        } else if let Some(process) = peer.process.clone().filter(|_| peer.up == Some(true)) {
            if peer.next_survey <= now.monotonic {
                peer.next_survey = now.monotonic.after(world.settings.scan_interval);
                let (address, known) = (peer.label().to_string(), peer.known.clone());
                Some(Job::Survey { peer: index, address, process, known, first: !peer.surveyed })
            } else if !peer.introduced {
                None
            } else {
                let items = items(peer, leaves, on_revoked, now);
                let watched = if items.is_empty() { watched(peer, leaves) } else { Vec::new() };
                match (items.is_empty(), watched.is_empty()) {
                    (false, _) => {
                        let (address, entries) = (peer.label().to_string(), peer.entries.take());
                        Some(Job::Install { peer: index, address, process, entries, items })
                    }
                    (true, false) => Some(Job::Watch { peer: index, process, watched }),
                    (true, true) => None,
                }
            }
        } else {
            None
        };
        peer.running = job.is_some();
        jobs.extend(job);
    }
}

/// Whether a push is enough. HAProxy before 2.5 does not say which of several names of one certificate is stapled, and
/// takes a push for all of them if one is: until we switched it on in this process, a name counts as off.
fn stapling(peer: &Peer, loaded: &LoadedCertificate) -> Stapling {
    let is_mute = peer.process.as_ref().is_some_and(|process| !process.version.lists_entries());
    let shares = loaded.fingerprint.is_some_and(|fingerprint| peer.names(fingerprint).len() > 1);
    if is_mute && shares && !peer.served.contains_key(&loaded.name) { Stapling::Off } else { loaded.stapling }
}

fn items(peer: &Peer, leaves: &Leaves, on_revoked: OnRevoked, now: Moment) -> Vec<Item> {
    // A commit fails for want of an issuer, and the file that HAProxy loaded may have been another than is there now.
    let must_not_fail = peer.process.as_ref().is_none_or(|process| process.version.keeps_failed_transactions());
    peer.pending
        .iter()
        .filter(|name| peer.refused.get(*name).is_none_or(|refused| refused.again <= now.monotonic))
        .filter_map(|name| {
            let loaded = peer.loaded.get(name)?;
            let leaf = leaves.get(&loaded.fingerprint?)?;
            Some(Item {
                name: name.clone(),
                stapling: stapling(peer, loaded),
                leaf: leaf.certificate.clone(),
                issuer: leaf.issuer.clone()?,
                chained: leaf.is_chained() && !peer.chainless.contains(name) && !must_not_fail,
                id: leaf.ask.as_ref()?.key.clone(),
                staple: leaf.installable(on_revoked, now.wall)?.clone(),
            })
        })
        .take(INSTALLATIONS_AT_ONCE)
        .collect()
}

fn watched(peer: &Peer, leaves: &Leaves) -> Vec<Watched> {
    let leaf = |name: &str| peer.loaded.get(name).and_then(|loaded| leaves.get(&loaded.fingerprint?));
    let identity = |leaf: &Leaf| Some((leaf.certificate.clone(), leaf.issuer.as_ref()?.certificate().clone()));
    let native = peer.native.iter().filter(|(_, native)| native.is_unread()).map(|(name, native)| Watched {
        name: name.clone(),
        entry: EntryName::Key(native.update.key.clone()),
        identity: leaf(name).map(Box::as_ref).and_then(identity),
    });
    let found = peer.unread.iter().filter_map(|name| {
        let leaf = leaf(name).filter(|leaf| leaf.restored && leaf.hands_off.is_none())?;
        let entry = peer.entries.as_ref()?.find(&leaf.ask.as_ref()?.key)?.clone();
        Some(Watched { name: name.clone(), entry, identity: Some(identity(leaf)?) })
    });
    native.chain(found).take(INSTALLATIONS_AT_ONCE).collect()
}
