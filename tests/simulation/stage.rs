//! Everything that a run shares: the machine's clocks, its HAProxies, the CAs, the disks, and what the oracle remembers.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haproxy_stapler::clock::{Clock, Monotonic};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::authority::Authorities;
use super::oracle::Oracle;
use super::pool::{EPOCH, KINDS, LeafId};
use super::scripted_haproxy::{ScriptedHaproxy, Speaker};
use super::site::Site;
use super::support::dice::Dice;
use super::trace::{Echo, Trace};

/// Clones are the same stage.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Mutex<Scene>>);

pub(crate) struct Scene {
    pub(crate) clock: Clock,
    /// What the machine's wall clock is ahead of the anchor, in milliseconds: the time it was suspended, and its error.
    ahead: Arc<AtomicI64>,
    suspended: Duration,
    error: SignedDuration,
    pub(crate) trace: Trace,
    /// For what takes how long; what happens is decided beforehand.
    pub(crate) dice: Dice,
    pub(crate) authorities: Authorities,
    pub(crate) machines: Vec<Machine>,
    pub(crate) site: Site,
    names: Vec<Arc<str>>,
    /// What paths begin with, which is another thing in each run.
    pub(crate) prefix: String,
    pub(crate) disk: Disk,
    pub(crate) oracle: Oracle,
    pub(crate) life: Life,
    /// Tells the director that the program was killed or that a promise was broken.
    pub(crate) news: Arc<Notify>,
    pub(crate) broken: Option<String>,
}

/// The program's lives.
#[derive(Default)]
pub(crate) struct Life {
    /// Which it is, or was last.
    pub(crate) number: u64,
    pub(crate) running: bool,
    /// It was told to stop.
    pub(crate) stopping: bool,
    pub(crate) killed: bool,
    pub(crate) doom: Option<Doom>,
}

/// Where the program will be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// At its so many-th command of a transaction, before HAProxy gets it or after it did.
    AtStep(usize, Moment),
    /// At its so many-th visit to the disk.
    AtDisk(usize, Moment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// One HAProxy, and what is between it and the program.
pub(crate) struct Machine {
    pub(crate) haproxy: ScriptedHaproxy,
    pub(crate) address: String,
    pub(crate) trouble: Trouble,
    /// So many replies are lost; the commands may be or not.
    pub(crate) losses: usize,
    /// Replies take so many milliseconds longer.
    pub(crate) slowness: u64,
    /// Commands so far, and which of them last told the program whether a transaction is open, or opened a stranger's.
    pub(crate) commands: u64,
    pub(crate) asked: u64,
    pub(crate) opened: u64,
}

/// Why no command comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    Refuses,
    Hangs,
}

/// What is wrong with the disks.
#[derive(Default)]
pub(crate) struct Disk {
    /// Each visit takes so long.
    pub(crate) delay: Duration,
}

impl Stage {
    pub(crate) fn new(seed: u64, echo: Echo, site: Site, authorities: Authorities, oracle: Oracle) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let certs = site.certs();
        let names = KINDS.iter().map(|kind| certs.join(kind.file).to_str().unwrap().into()).collect();
        let prefix = format!("{}/", certs.display());
        Self(Arc::new(Mutex::new(Scene {
            clock: Clock::steered(*EPOCH, ahead.clone()),
            ahead,
            suspended: Duration::ZERO,
            error: SignedDuration::ZERO,
            trace: Trace::new(echo),
            dice: Dice::new(!seed),
            authorities,
            machines: Vec::new(),
            site,
            names,
            prefix,
            disk: Disk::default(),
            oracle,
            life: Life::default(),
            news: Arc::default(),
            broken: None,
        })))
    }

    pub(crate) fn scene(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scene {
    /// Since the beginning, by a clock that never steps and stands still while the machine is suspended.
    pub(crate) fn at(&self) -> Duration {
        self.clock.now().monotonic.since(Monotonic::default())
    }

    /// The machine's wall clock.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// What time it really is.
    pub(crate) fn true_time(&self) -> Timestamp {
        *EPOCH + SignedDuration::try_from(self.at() + self.suspended).unwrap()
    }

    /// The machine sleeps so long.
    pub(crate) fn suspend(&mut self, time: Duration) {
        self.suspended += time;
        self.steer();
    }

    /// Its wall clock is wrong by this from now on.
    pub(crate) fn step(&mut self, error: SignedDuration) {
        self.error = error;
        self.steer();
    }

    fn steer(&mut self) {
        let ahead = SignedDuration::try_from(self.suspended).unwrap() + self.error;
        self.ahead.store(i64::try_from(ahead.as_millis()).unwrap(), Ordering::Relaxed);
        let at = self.at();
        self.oracle.clock_stepped(at);
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let at = self.at();
        self.trace.note(at, what);
    }

    /// A promise is broken. The first one counts.
    pub(crate) fn broke(&mut self, promise: fmt::Arguments<'_>) {
        if self.broken.is_none() {
            self.note(format_args!("BROKEN {promise}"));
            self.broken = Some(promise.to_string());
            self.news.notify_one();
        }
    }

    /// Kills the program at this very point.
    pub(crate) fn kill(&mut self) {
        let life = self.life.number;
        self.note(format_args!("program {life} is killed"));
        self.life.killed = true;
        self.life.running = false;
        self.life.doom = None;
        self.news.notify_one();
    }

    /// Whether a part of the program's life `number` may go on.
    pub(crate) fn is_alive(&self, number: u64) -> bool {
        self.life.number == number && !self.life.killed
    }

    /// The path of a certificate's file, which is also its name in HAProxy.
    pub(crate) fn name(&self, place: usize) -> Arc<str> {
        self.names[place].clone()
    }

    /// What HAProxy runs in a place.
    pub(crate) fn runs(&self, machine: usize, place: usize) -> Option<LeafId> {
        let der = self.machines[machine].haproxy.certificate(&self.name(place))?;
        self.site.leaf_of(&der)
    }

    /// The place of a path.
    pub(crate) fn place_of_path(&self, path: &Path) -> Option<usize> {
        let name = path.file_name()?.to_str()?;
        KINDS.iter().position(|kind| kind.file == name)
    }
}

impl Machine {
    pub(crate) fn new(haproxy: ScriptedHaproxy, address: String) -> Self {
        Self { haproxy, address, trouble: Trouble::None, losses: 0, slowness: 0, commands: 0, asked: 0, opened: 0 }
    }

    /// Whether a transaction of the program is open.
    pub(crate) fn has_ours(&self) -> bool {
        self.haproxy.transaction().is_some_and(|(_, owner)| owner == Speaker::Program)
    }
}
