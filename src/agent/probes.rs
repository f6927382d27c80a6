//! Frontends that are looked at by handshake: when, and what came of it. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Job;
use super::world::World;
use crate::certificate::{Certificate, Fingerprint};
use crate::clock::Monotonic;
use crate::probe::{Report, Target};
use crate::status::ProbeStatus;

/// The longest time between two looks: a handshake costs little, and what clients see is what counts.
const INTERVAL: Duration = Duration::from_secs(60);
/// The first look after one that was not good; doubles up to the interval.
const RETRY: Duration = Duration::from_secs(10);
/// However often staples are installed, a frontend is not looked at more often.
const PAUSE: Duration = Duration::from_secs(5);
/// Before the first pass is over, there is nothing to see. One that does not end is not waited for.
const FIRST_PASS: Duration = Duration::from_secs(30);
/// So many at once, each of which is four handshakes.
const AT_ONCE: usize = 8;

/// One frontend and one name.
#[derive(Debug)]
pub(super) struct Probe {
    target: Target,
    running: bool,
    next: Monotonic,
    started: Option<Monotonic>,
    failures: u32,
    last: Option<ProbeStatus>,
}

impl Probe {
    pub(super) fn new(target: Target, now: Monotonic) -> Self {
        Self { target, running: false, next: now.after(FIRST_PASS), started: None, failures: 0, last: None }
    }

    /// Whether it has been looked at.
    pub(super) fn is_done(&self) -> bool {
        self.last.is_some()
    }

    /// When it is due, unless it is being looked at.
    pub(super) fn due(&self) -> Option<Monotonic> {
        (!self.running).then_some(self.next)
    }

    /// For the snapshot.
    pub(super) fn status(&self) -> ProbeStatus {
        let pending = || {
            let servername = self.target.server_name().unwrap_or_default().to_owned();
            ProbeStatus::pending(self.target.address(), servername)
        };
        self.last.clone().unwrap_or_else(pending)
    }
}

/// Hands out the probes that are due.
pub(super) fn plan(world: &mut World, now: Monotonic, jobs: &mut Vec<Job>) {
    let running = world.probes.iter().filter(|probe| probe.running).count();
    let due = |probe: &Probe| !probe.running && probe.next <= now;
    if !world.probes.iter().any(due) {
        return;
    }
    let issuers = issuers(world);
    let (interval, deadline) = (INTERVAL.min(world.settings.refresh_interval), world.settings.timeout);
    let due = world.probes.iter_mut().enumerate().filter(|(_, probe)| due(probe));
    for (index, probe) in due.take(AT_ONCE.saturating_sub(running)) {
        probe.running = true;
        probe.started = Some(now);
        probe.next = now.after(interval);
        let (target, issuers) = (probe.target.clone(), issuers.clone());
        jobs.push(Job::Probe { index, target, issuers, deadline });
    }
}

/// Who issued the certificates that are known here: not every server sends its issuer.
fn issuers(world: &World) -> Vec<Certificate> {
    let issuers = world.leaves.values().filter_map(|leaf| Some(leaf.issuer.as_ref()?.certificate()));
    let distinct: BTreeMap<Fingerprint, &Certificate> =
        issuers.map(|certificate| (certificate.fingerprint(), certificate)).collect();
    distinct.into_values().cloned().collect()
}

/// Something changed that clients may see. In the first pass much does, and what is seen before its end alarms for
/// nothing.
pub(super) fn hurry(world: &mut World, now: Monotonic) {
    if world.last_pass_at.is_none() {
        return;
    }
    for probe in &mut world.probes {
        let earliest = probe.started.map_or(now, |started| started.after(PAUSE).max(now));
        probe.next = probe.next.min(earliest);
    }
}

/// Takes note of what came of one.
pub(super) fn probed(world: &mut World, index: usize, report: &Report, now: Monotonic) {
    let Some(probe) = world.probes.get_mut(index) else { return };
    let status = report.status();
    probe.running = false;
    if status.is_trouble() {
        let wait = RETRY.saturating_mul(1 << probe.failures.min(3));
        probe.failures = probe.failures.saturating_add(1);
        probe.next = probe.next.min(now.after(wait));
    } else {
        probe.failures = 0;
    }
    probe.last = Some(status);
}
