//! What the HAProxies said.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::after_change;
use crate::agent::native::Holds;
use crate::agent::peer::{Refused, Served};
use crate::agent::world::World;
use crate::agent::{probes, troubles};
use crate::clock::Moment;
use crate::haproxy::{Entries, HaproxyError, InstallError, Process, Stapling};
use crate::metrics::Counters;
use crate::ocsp::Staple;

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
                    counters.haproxy_reloads.with_label_values(&[&**peer.label()]).inc();
                    tracing::info!(haproxy = &**peer.label(), pid = process.pid, "HAProxy is a new process");
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
            peer.trouble = Some(troubles::haproxy(&error));
        }
    }
}

/// What HAProxy holds where it updates by itself, and where nothing is in hand: a staple that verifies is as good as one
/// of ours, whoever brought it there.
pub(super) fn watched(world: &mut World, index: usize, read: Vec<(String, Option<Holds>)>, now: Moment) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    let mut found = Vec::new();
    for (name, held) in read {
        if let Some(native) = peer.native.get_mut(&name) {
            native.read(held);
            continue;
        }
        peer.unread.remove(&name);
        if let Some(Holds::Genuine(staple)) = held {
            let fingerprint = peer.loaded.get(&name).and_then(|loaded| loaded.fingerprint);
            found.extend(fingerprint.map(|fingerprint| (fingerprint, staple.clone())));
            peer.served.insert(name.clone(), Served::Ours(staple));
        }
        peer.read.insert(name);
    }
    for (fingerprint, staple) in found {
        if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
            leaf.adopt(&staple, now);
        }
        after_change(world, fingerprint, now);
    }
}

pub(super) fn installed(
    world: &mut World,
    index: usize,
    entries: Option<Entries>,
    outcomes: Vec<(String, Installed)>,
    counters: &Counters,
    now: Moment,
) {
    let Some(peer) = world.peers.get_mut(index) else { return };
    peer.running = false;
    peer.entries = entries;
    let label = peer.label().clone();
    let mut adopted = Vec::new();
    let mut changed = false;
    let mut installed = BTreeSet::new();
    for (name, outcome) in outcomes {
        installed.extend(peer.loaded.get(&name).and_then(|loaded| loaded.fingerprint));
        let was_there = peer.reread.remove(&name);
        match outcome {
            Installed::Serves { staple, written, enabled } => {
                changed |= written;
                if written {
                    counters.staple_installs.with_label_values(&[&*label]).inc();
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
                counters.staple_install_failures.with_label_values(&[&*label, error.kind()]).inc();
                let times = peer.refused.get(&name).map_or(0, |refused| refused.times).saturating_add(1);
                let wait = INSTALL_RETRY.saturating_mul(1 << times.saturating_sub(1).min(5)).min(LONGEST_INSTALL_RETRY);
                if was_there {
                    peer.served.remove(&name);
                }
                if matches!(error, InstallError::CommitFailed { .. }) {
                    peer.chainless.insert(name.clone());
                }
                // What it had loaded it has no more.
                if error == InstallError::CertIdUnknown {
                    peer.next_survey = now.monotonic;
                }
                let (again, busy) = (now.monotonic.after(wait), matches!(error, InstallError::Busy { .. }));
                peer.refused.insert(name, Refused { trouble: troubles::install(&error), times, again, busy });
            }
        }
    }
    if changed {
        probes::hurry(world, now.monotonic);
    }
    // Meanwhile the CA may have sent a newer one.
    for fingerprint in installed {
        world.offer(fingerprint, now.wall);
    }
    for (fingerprint, staple) in adopted {
        if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
            leaf.adopt(&staple, now);
        }
        after_change(world, fingerprint, now);
    }
}
