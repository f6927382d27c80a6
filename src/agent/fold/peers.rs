//! What the HAProxies said.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{after_change, join};
use crate::agent::native::{Holds, Native};
use crate::agent::peer::{Refused, Served};
use crate::agent::world::World;
use crate::certificate::Fingerprint;
use crate::clock::Moment;
use crate::haproxy::{CertIdKey, Entry, HaproxyError, InstallError, LoadedStatus, Process, Stapling, Survey};
use crate::metrics::Counters;
use crate::ocsp::Staple;
use crate::status::Trouble;

/// The first retry of an installation that HAProxy refused; doubles up to [`LONGEST_INSTALL_RETRY`].
const INSTALL_RETRY: Duration = Duration::from_secs(2);
const LONGEST_INSTALL_RETRY: Duration = Duration::from_secs(60);

/// What an installation came to.
#[derive(Debug)]
pub(in crate::agent) enum Installed {
    /// HAProxy serves it; whether anything was written.
    Serves { staple: Staple, written: bool, enabled: bool },
    /// HAProxy holds a newer one, which was verified.
    Adopt(Staple),
    /// HAProxy holds a newer one, which it does not let us read.
    Newer { this_update: Timestamp, next_update: Option<Timestamp> },
    /// HAProxy refused.
    Refused(InstallError),
}

pub(super) fn looked(
    world: &mut World,
    index: usize,
    outcome: Result<Process, HaproxyError>,
    counters: &Counters,
    now: Moment,
) {
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
        // The next connection reaches the new process.
        Err(HaproxyError::LeavingProcess { .. }) if peer.up == Some(true) => {}
        Err(error) => {
            peer.up = Some(false);
            peer.trouble = Some(haproxy_trouble(&error));
        }
    }
}

fn haproxy_trouble(error: &HaproxyError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() }
}

pub(super) fn surveyed(
    world: &mut World,
    index: usize,
    outcome: Result<Survey, HaproxyError>,
    aborted: Option<String>,
    now: Moment,
) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    if let Some(certificate) = aborted {
        tracing::warn!(
            haproxy = peer.label(),
            certificate,
            "a transaction that this program opened and left when it was killed is aborted; its staple is installed anew"
        );
    }
    match outcome {
        Ok(survey) => {
            peer.surveyed = true;
            peer.trouble = None;
            if survey.transaction_open.is_none() {
                peer.refused.values_mut().filter(|refused| refused.busy).for_each(|refused| {
                    refused.again = now.monotonic;
                });
            }
            let known: BTreeSet<Fingerprint> = peer.by_fingerprint.keys().copied().collect();
            peer.updates = survey.native_updates;
            let changed: BTreeSet<String> = survey
                .loaded
                .iter()
                .filter(|now| now.status != LoadedStatus::NotShown)
                .filter(|now| peer.loaded.get(&now.name).is_some_and(|then| then.fingerprint != now.fingerprint))
                .map(|certificate| certificate.name.clone())
                .collect();
            peer.set_loaded(survey.loaded);
            peer.entries = survey.entries;
            let readable = peer.process.as_ref().is_some_and(|process| process.version.lists_entries());
            if readable && peer.read_back_again <= now.monotonic {
                peer.read_back_again = now.monotonic.after(world.settings.refresh_interval);
                peer.reread = peer.served.keys().cloned().collect();
                peer.idle.clear();
                peer.native.values_mut().for_each(Native::read_again);
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
                entry && !changed.contains(name)
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

/// What HAProxy holds where it updates by itself.
pub(super) fn watched(world: &mut World, index: usize, read: Vec<(String, Option<Holds>)>) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    for (name, held) in read {
        if let Some(native) = peer.native.get_mut(&name) {
            native.read(held);
        }
    }
}

pub(super) fn installed(
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
        let was_there = peer.reread.remove(&name);
        match outcome {
            Installed::Serves { staple, written, enabled } => {
                if written {
                    counters.staple_installs.with_label_values(&[label.as_str()]).inc();
                }
                if let Some(loaded) = peer.loaded.get_mut(&name).filter(|_| enabled) {
                    loaded.stapling = Stapling::On;
                }
                peer.settle(&name);
                peer.served.insert(name, Served::Ours(staple));
            }
            Installed::Adopt(staple) => {
                peer.settle(&name);
                let fingerprint = peer.loaded.get(&name).and_then(|loaded| loaded.fingerprint);
                adopted.extend(fingerprint.map(|fingerprint| (fingerprint, staple.clone())));
                peer.served.insert(name, Served::Ours(staple));
            }
            Installed::Newer { this_update, next_update } => {
                peer.settle(&name);
                peer.served.insert(name, Served::Newer { this_update, next_update });
            }
            // A server's certificate, or one that nothing uses: HAProxy keeps no staple for it, and that is no fault.
            Installed::Refused(InstallError::NoEntry | InstallError::NotReferenced) => {
                peer.settle(&name);
                peer.idle.insert(name);
            }
            Installed::Refused(error) => {
                counters.staple_install_failures.with_label_values(&[label.as_str(), error.kind()]).inc();
                let times = peer.refused.get(&name).map_or(0, |refused| refused.times).saturating_add(1);
                let wait = INSTALL_RETRY.saturating_mul(1 << times.saturating_sub(1).min(5)).min(LONGEST_INSTALL_RETRY);
                let trouble =
                    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() };
                if was_there {
                    peer.served.remove(&name);
                }
                let (again, busy) = (now.monotonic.after(wait), matches!(error, InstallError::Busy { .. }));
                peer.refused.insert(name, Refused { trouble, times, again, busy });
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
