//! Chaos: everything that happens to a HAProxy, its certificates, its CA and the program, in an order that nobody would
//! think of, and after every step the promises that hold whatever happens.
//!
//! `CHAOS_STEPS=200 CHAOS_SEED=42 cargo test --test chaos` plays 200 steps of seed 42; without a seed it takes the same
//! one each time, so that a change is judged by what it changes. `make chaos` takes another one each time. The steps are
//! drawn before the first one happens, so that a seed always means the same ones; what takes how long is the machine's
//! affair. A failing run shows its seed, its steps so far and everybody's log.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test in real time"
)]

#[path = "../support/mod.rs"]
mod support;

mod kills;
mod plan;
mod promises;
mod site;
mod transaction;

use std::time::{Duration, Instant};

use self::plan::{Step, plan};
use self::site::{CERTIFICATES, Site};
use self::support::dice::Dice;
use self::support::haproxy::Mode;
use self::support::{PATIENCE, wait_for};
use self::transaction::{Holding, Transaction};

/// In `cargo test`; `make chaos` plays more.
const STEPS: usize = 30;
/// A reload is noticed within two seconds; what is not installed anew by then needs no installing.
const BUSY_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn a_single_process_survives_chaos() {
    play(Mode::Single);
}

#[test]
fn a_master_with_its_worker_survives_chaos() {
    play(Mode::MasterWorker);
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} wants a number, not '{text}'")))
}

/// What is played when nobody asks for another.
const SEED: u64 = 1;

fn play(mode: Mode) {
    let seed = number("CHAOS_SEED").unwrap_or(SEED);
    let steps = number("CHAOS_STEPS").unwrap_or(STEPS);
    let mut dice = Dice::new(seed);
    let through_master = dice.below(2) == 0 && mode == Mode::MasterWorker;
    let socket = if through_master { "master" } else { "admin" };
    let site = Site::start(mode, through_master);
    let version = site.haproxy.version();
    eprintln!("CHAOS_SEED={seed} CHAOS_STEPS={steps}, HAProxy {version}, {mode:?}, {socket} socket");
    let start = Instant::now();
    let mut run = Run { pid: site.haproxy.pid(), site, open: None, removed: Vec::new(), tally: Tally::default() };
    promises::assert_stapled(&mut run.site, PATIENCE);
    for (index, step) in plan(&mut dice, steps).into_iter().enumerate() {
        eprintln!("{:7.3} s  {index:3} {step:?}", start.elapsed().as_secs_f64());
        run.happen(step);
        run.look();
    }
    run.heal();
    eprintln!("{:7.3} s  done: {:?}", start.elapsed().as_secs_f64(), run.tally);
}

/// What was played.
#[derive(Debug, Default)]
struct Tally {
    reloads: usize,
    failed_reloads: usize,
    restarts: usize,
    rotations_on_disk: usize,
    rotations_at_run_time: usize,
    transactions: usize,
    transactions_lost_in_reloads: usize,
    stapler_kills: usize,
    stapler_stops: usize,
    transactions_left_by_kills: usize,
}

struct Run {
    site: Site,
    /// HAProxy's process that answers.
    pid: u32,
    /// A transaction that is not the program's.
    open: Option<Transaction>,
    /// Certificates whose file is away, and for how many steps.
    removed: Vec<(usize, usize)>,
    tally: Tally,
}

impl Run {
    fn happen(&mut self, step: Step) {
        self.site.calm(false);
        if self.open.as_ref().is_some_and(|open| open.steps == 0) {
            self.end_transaction();
        }
        if let Some(open) = &mut self.open {
            open.steps -= 1;
        }
        for (_, steps) in &mut self.removed {
            *steps = steps.saturating_sub(1);
        }
        self.put_back(false);
        match step {
            Step::Reload => self.reload(),
            Step::FailedReload => {
                self.site.haproxy.reload_in_vain();
                self.tally.failed_reloads += 1;
            }
            Step::Crash { away } => self.crash(away),
            Step::RotateFile { certificate, reload } => {
                let leaf = self.site.renew(certificate);
                self.site.write(certificate, &leaf);
                self.tally.rotations_on_disk += 1;
                if reload {
                    self.reload();
                }
            }
            Step::RotateAtRunTime { certificate, file_first } => self.rotate_at_run_time(certificate, file_first),
            Step::Transaction { certificate, content, hold, steps, commit } => {
                self.end_transaction();
                let holding = Holding { time: hold, steps, commit };
                self.open = transaction::open(&mut self.site, certificate, content, holding);
                self.tally.transactions += usize::from(self.open.is_some());
            }
            Step::Authority { mood, lasting } => self.site.set_mood(mood, lasting),
            Step::Stapler { kill, away } => self.restart_stapler(kill, away),
            Step::KillWhileBusy { away } => {
                // Without files to start from, everything has to be installed anew.
                promises::remove_ocsp_files(&self.site);
                self.reload();
                let start = Instant::now();
                while transaction::open_transaction(&self.site).is_none() && start.elapsed() < BUSY_WITHIN {}
                self.restart_stapler(true, away);
            }
            Step::LoseOcspFiles => {
                promises::remove_ocsp_files(&self.site);
            }
            Step::LoseState => {
                let state = self.site.stapler.state_dir();
                // The program may be about to write there.
                wait_for("the state directory to go", PATIENCE, || {
                    let _ = std::fs::remove_dir_all(&state);
                    (!state.exists()).then_some(())
                });
            }
            Step::Remove { certificate, steps } => {
                if CERTIFICATES[certificate].may_go() && !self.site.now[certificate].away {
                    std::fs::remove_file(self.site.path(certificate)).unwrap();
                    self.site.now[certificate].away = true;
                    self.removed.push((certificate, steps));
                }
            }
            Step::Pass { time } => std::thread::sleep(time),
        }
    }

    fn end_transaction(&mut self) {
        if let Some(open) = self.open.take() {
            open.end(&mut self.site);
        }
    }

    /// The process goes, and with it the transaction, whosever it is.
    fn lose_transaction(&mut self) {
        if let Some(open) = self.open.take() {
            open.assert_untouched(&self.site);
            self.tally.transactions_lost_in_reloads += 1;
        }
    }

    fn reload(&mut self) {
        self.lose_transaction();
        self.site.haproxy.reload();
        self.tally.reloads += 1;
        self.new_process();
    }

    fn crash(&mut self, away: Duration) {
        self.lose_transaction();
        self.site.haproxy.crash();
        std::thread::sleep(away);
        self.site.haproxy.start_again();
        self.tally.restarts += 1;
        self.new_process();
    }

    fn new_process(&mut self) {
        let pid = self.site.haproxy.pid();
        assert_ne!(pid, self.pid, "HAProxy is a new process");
        self.pid = pid;
        self.site.loaded();
    }

    fn rotate_at_run_time(&mut self, certificate: usize, file_first: bool) {
        self.end_transaction();
        let leaf = self.site.renew(certificate);
        let is_loaded = self.site.now[certificate].running.is_some();
        if file_first || !is_loaded {
            self.site.write(certificate, &leaf);
        }
        if is_loaded {
            transaction::replace(&mut self.site, certificate, &leaf);
            self.site.write(certificate, &leaf);
        }
        self.tally.rotations_at_run_time += 1;
    }

    fn restart_stapler(&mut self, kill: bool, away: Duration) {
        if kill {
            self.site.stapler.process().kill();
            self.tally.stapler_kills += 1;
        } else {
            assert!(self.site.stapler.stop().success(), "SIGTERM");
            self.tally.stapler_stops += 1;
        }
        let left = transaction::open_transaction(&self.site).filter(|_| self.open.is_none());
        assert!(kill || left.is_none(), "ended by SIGTERM, it left a transaction on {left:?}");
        std::thread::sleep(away);
        self.site.start_stapler();
        if left.is_some() {
            self.tally.transactions_left_by_kills += 1;
            if self.site.haproxy.version().starts_with("2.2.") {
                // There, the program cannot know whether its commit failed, and to abort would crash HAProxy then.
                self.reload();
                return;
            }
            // By the program itself: nobody else could tell that it is nobody's.
            wait_for("the transaction that a SIGKILL left open to be ended", PATIENCE, || {
                transaction::open_transaction(&self.site).is_none().then_some(())
            });
        }
    }

    /// Puts certificate files back whose time is over, or all of them.
    fn put_back(&mut self, all: bool) {
        for (certificate, steps) in std::mem::take(&mut self.removed) {
            if steps > 0 && !all {
                self.removed.push((certificate, steps));
            } else if self.site.now[certificate].away {
                let leaf = self.site.now[certificate].in_file.clone();
                self.site.write(certificate, &leaf);
            }
        }
    }

    /// What holds after every step.
    fn look(&mut self) {
        assert!(self.site.haproxy.is_running(), "HAProxy is gone");
        assert_eq!(self.site.haproxy.pid(), self.pid, "HAProxy is another process, and nobody meant it to be");
        if let Some(open) = &self.open {
            open.assert_untouched(&self.site);
        }
        promises::assert_kept(&mut self.site);
    }

    /// Everybody behaves again: everything must come back.
    fn heal(&mut self) {
        self.end_transaction();
        self.put_back(true);
        self.site.calm(true);
        promises::assert_stapled(&mut self.site, 3 * PATIENCE);
        self.reload();
        promises::assert_stapled(&mut self.site, PATIENCE);
        promises::assert_all_is_well(&mut self.site);
        assert_eq!(transaction::open_transaction(&self.site), None);
        self.look();
        assert!(self.site.stapler.stop().success(), "SIGTERM");
        promises::assert_no_storm(&self.site);
        self.crash(Duration::ZERO);
        promises::assert_stapled_by_files(&self.site);
    }
}
