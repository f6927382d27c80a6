//! The loop: plan (pure) → execute (bounded IO) → fold (pure) → publish a snapshot.
//!
//! Every job runs on its own and comes back by itself, so that one certificate's trouble never delays another's: a
//! responder that hangs holds one place in its host's queue, a dead socket holds its own HAProxy, a slow disk holds the
//! disk. The agent is the only owner of state.

mod asking;
mod cadence;
mod execute;
mod fold;
mod identity;
mod journal;
mod judge;
mod means;
mod native;
mod peer;
mod places;
mod plan;
mod probes;
mod progress;
mod publish;
mod rows;
mod since;
mod storms;
#[cfg(test)]
mod tests;
mod transitions;
mod troubles;
mod validity;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::cadence::Cadence;
use self::execute::Hands;
use self::fold::Done;
pub use self::means::{BlockingThreads, Means, Threads};
use self::probes::Probe;
use self::transitions::Transitions;
use self::validity::Validity;
use self::world::World;
use crate::clock::{Clock, Moment, Monotonic};
use crate::haproxy::RuntimeApi;
use crate::metrics::Counters;
use crate::responder::Responder;
use crate::settings::Settings;
use crate::status::{Pulse, Status};

/// Snapshots are published at most this often, and the more there is in one the less often, so that ten thousand results
/// are not ten thousand snapshots.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
const PUBLISH_INTERVAL_PER_CERTIFICATE: Duration = Duration::from_micros(100);
/// A job that holds a HAProxy transaction or a file is given this long to finish when the program is told to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Whom the agent talks to.
#[derive(Debug)]
pub struct Peers<R, H> {
    /// The CAs.
    pub responder: R,
    /// The HAProxies, in the order of the settings.
    pub haproxies: Vec<H>,
}

/// What the agent reports to.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The snapshot.
    pub status: watch::Sender<Arc<Status>>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The sign of life.
    pub pulse: Arc<Pulse>,
}

/// How long the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is told to stop.
    Stopped,
    /// Until one pass over all certificates is done, or it is told to stop.
    PassDone,
    /// The same, and every frontend of STAPLER_PROBES has been looked at.
    Probed,
}

/// A job of the agent panicked: a fault of this program. What the job held cannot be told free again, so the agent stops;
/// whoever supervises the process starts it anew, from a warm state directory.
#[derive(Debug, thiserror::Error)]
#[error("a job failed, which is a fault of this program, please report it: {0}")]
pub struct JobFailed(#[from] JoinError);

/// Keeps staples fresh until told to stop.
///
/// # Errors
/// When a job panicked.
pub async fn run<R: Responder, H: RuntimeApi, T: Threads>(
    settings: Arc<Settings>,
    means: Means<T>,
    peers: Peers<R, H>,
    reports: Reports,
    until: Until,
    shutdown: CancellationToken,
) -> Result<(), JobFailed> {
    let clock = means.clock.clone();
    let now = clock.now();
    let mut agent = Agent {
        world: World::new(settings.clone(), means.cadence, now),
        hands: Hands::new(&settings, means, peers),
        jobs: JoinSet::new(),
        transitions: Transitions::default(),
        published: None,
        clock: clock.clone(),
        reports,
    };
    for peer in &agent.world.peers {
        agent.reports.counters.know_haproxy(peer.label());
    }
    agent.publish(now);
    while !shutdown.is_cancelled() {
        let wake = agent.turn();
        if agent.world.is_done(until) {
            break;
        }
        tokio::select! {
            // In this order, so that a run with scripted peers replays exactly.
            biased;
            () = shutdown.cancelled() => break,
            Some(done) = agent.jobs.join_next() => agent.take(done)?,
            () = clock.sleep_until(wake) => {}
        }
    }
    agent.finish().await
}

struct Agent<R, H, T> {
    world: World,
    hands: Hands<R, H, T>,
    jobs: JoinSet<Done>,
    transitions: Transitions,
    published: Option<Monotonic>,
    clock: Clock,
    reports: Reports,
}

impl<R: Responder, H: RuntimeApi, T: Threads> Agent<R, H, T> {
    /// Plans and starts what is due; returns when to turn again if nothing comes back before.
    fn turn(&mut self) -> Monotonic {
        let now = self.clock.now();
        self.reports.pulse.turn(now.monotonic);
        let jobs = plan::plan(&mut self.world, now);
        for job in jobs {
            self.hands.start(job, &mut self.jobs);
        }
        self.end_pass(now);
        self.transitions.log_storms(now.monotonic);
        let certificates = u32::try_from(self.world.leaves.len()).unwrap_or(u32::MAX);
        let pause = PUBLISH_INTERVAL.saturating_add(PUBLISH_INTERVAL_PER_CERTIFICATE.saturating_mul(certificates));
        let due = self.published.map_or(now.monotonic, |at| at.after(pause));
        let next = plan::next_wake(&self.world, now.monotonic);
        if self.world.is_news && due <= now.monotonic {
            self.publish(now);
            next
        } else if self.world.is_news {
            next.min(due)
        } else {
            next
        }
    }

    /// Folds a finished job, and all others that finished meanwhile.
    fn take(&mut self, first: Result<Done, JoinError>) -> Result<(), JobFailed> {
        let now = self.clock.now();
        let mut next = Some(first);
        while let Some(done) = next {
            let done = done?;
            if matches!(done, Done::Scan { .. }) {
                self.reports.pulse.scan(now.monotonic);
            }
            fold::fold(&mut self.world, done, &self.reports.counters, now);
            next = self.jobs.try_join_next();
        }
        Ok(())
    }

    /// A pass is over when everything that was due has been tried.
    fn end_pass(&mut self, now: Moment) {
        let Some(started) = self.world.pass_started.filter(|_| self.world.is_settled()) else { return };
        self.world.pass_started = None;
        if self.world.last_pass_at.replace(now.wall).is_none() {
            probes::hurry(&mut self.world, now.monotonic);
        }
        self.reports.counters.passes.inc();
        self.reports.counters.pass_duration.observe(now.monotonic.since(started).as_secs_f64());
        self.publish(now);
    }

    fn publish(&mut self, now: Moment) {
        self.published = Some(now.monotonic);
        let before = self.reports.status.borrow().clone();
        let status = Arc::new(self.world.snapshot(&before, now));
        self.transitions.log(&status, now.monotonic);
        self.reports.status.send_replace(status);
    }

    /// Lets jobs that hold a transaction or a file finish; the others are dropped.
    async fn finish(mut self) -> Result<(), JobFailed> {
        let deadline = self.clock.now().monotonic.after(SHUTDOWN_GRACE);
        while self.world.disk.running || self.world.peers.iter().any(|peer| peer.running) {
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next() => self.take(done)?,
                () = self.clock.sleep_until(deadline) => {
                    tracing::warn!("stopped without waiting for HAProxy or the disk any longer");
                    break;
                }
                else => break,
            }
        }
        let now = self.clock.now();
        self.publish(now);
        self.transitions.log_rest();
        Ok(())
    }
}

impl World {
    /// The snapshot that follows `before`, in which all may be new, or nothing but the end of a pass.
    fn snapshot(&mut self, before: &Status, now: Moment) -> Status {
        if std::mem::take(&mut self.is_news) || self.is_snapshot_over(now) {
            self.snapshot_validity = Some(Validity::of(self, now));
            self.status(before, now)
        } else {
            Status { last_pass_at: self.last_pass_at, ..before.clone() }
        }
    }

    /// Whether there is no reason to go on.
    fn is_done(&self, until: Until) -> bool {
        match until {
            Until::Stopped => false,
            Until::PassDone => self.last_pass_at.is_some(),
            Until::Probed => self.last_pass_at.is_some() && self.probes.iter().all(Probe::is_done),
        }
    }

    /// Whether everything that was due has been tried: the disk was looked at, nothing is under way or waiting, and each
    /// HAProxy has been asked and has what it can have.
    fn is_settled(&self) -> bool {
        let peers_settled = self.peers.iter().all(|peer| match peer.up {
            None => false,
            Some(false) => true,
            Some(true) => {
                (peer.surveyed || peer.trouble.is_some())
                    && peer.pending.iter().all(|each| peer.refused.contains_key(each))
                    && peer.native.values().all(|native| !native.is_unread())
            }
        });
        let errands_settled = self.in_flight.is_empty() && self.waiting.is_empty();
        let disk_settled = !self.disk.running && self.disk.queue.is_empty();
        self.scan.done_once && !self.scan.running && disk_settled && errands_settled && peers_settled
    }
}
