//! Simulation: the agent through months of everything that can go wrong, and a judge that looks on.
//!
//! Each seed is a site, a month of faults, and an end in which everybody behaves and all must be well. The CAs, HAProxy,
//! the clocks and the order of everything are scripted; the disk is a real one. A seed replays exactly:
//! `make simulation SEED=42` plays that one and prints what happens, `make simulation SEEDS=100000` so many.

#![allow(
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../support/scripted_haproxy/mod.rs"]
mod scripted_haproxy;
#[path = "../support/mod.rs"]
mod support;

mod authority;
mod director;
mod events;
mod healing;
mod oracle;
mod plan;
mod pool;
mod program;
mod site;
mod stage;
mod trace;
mod wires;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use director::{Director, Failure, Outcome, Play, Tally};
use site::Disks;
use trace::Echo;

const DAY: Duration = Duration::from_secs(86_400);

/// A month, with a look at HAProxy every ten minutes instead of every second: everything that is promised in looks takes
/// that much longer, and the rest does not.
const MONTH: Play = Play { span: DAY.saturating_mul(30), events: 70, look: Duration::from_secs(600) };
/// A night at the product's own pace.
const NIGHT: Play = Play { span: Duration::from_secs(6 * 3600), events: 25, look: Duration::from_secs(1) };

/// After so many failures nobody wants to see more; `SIMULATION_ENOUGH` says otherwise.
const FAILURES: u64 = 20;

/// In every test run.
const MONTHS: u64 = 1000;
const NIGHTS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} wants a number, not '{text}'")))
}

/// Plays one seed.
fn play(seed: u64, play: Play, disks: &Arc<Disks>, echo: Echo) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let run = || runtime.block_on(async { Director::new(seed, play, disks, echo).play().await });
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Failure { promise: "the simulation itself panicked, see above".to_owned(), tail: String::new() })
    })
}

/// Plays seeds on every core, until one fails or all are through.
fn play_all(name: &str, what: Play, seeds: std::ops::Range<u64>) {
    if let Some(seed) = number("SIMULATION_SEED") {
        let outcome = play(seed, what, &Arc::new(Disks::mount()), Echo::On);
        report(name, seed, outcome.err());
        return;
    }
    let enough = number("SIMULATION_ENOUGH").unwrap_or(FAILURES);
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let total: Mutex<Tally> = Mutex::default();
    let failed: Mutex<BTreeMap<u64, Failure>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let disks = Arc::new(Disks::mount());
                while u64::try_from(failed.lock().unwrap().len()).unwrap() < enough {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    match play(seed, what, &disks, Echo::Off) {
                        Ok(outcome) => {
                            let mut total = total.lock().unwrap();
                            outcome
                                .tally
                                .into_iter()
                                .for_each(|(what, count)| *total.entry(what).or_default() += count);
                        }
                        Err(failure) => {
                            failed.lock().unwrap().insert(seed, failure);
                        }
                    }
                }
            });
        }
    });
    let played = next.load(Ordering::Relaxed).min(seeds.end) - seeds.start;
    eprintln!("{played} {name}s in {:.1} s: {:?}", started.elapsed().as_secs_f64(), total.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    for (seed, failure) in &failed {
        eprintln!("{name} {seed}: {}", failure.promise);
    }
    if let Some((seed, failure)) = failed.into_iter().next() {
        report(name, seed, Some(failure));
    }
}

fn report(name: &str, seed: u64, failure: Option<Failure>) {
    if let Some(Failure { promise, tail }) = failure {
        panic!("{tail}\n{name} {seed}: {promise}\nAgain: make simulation SEED={seed} PLAY={name}\n");
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    first..first + number("SIMULATION_SEEDS").unwrap_or(default)
}

#[test]
fn months_of_faults_break_no_promise() {
    play_all("month", MONTH, seeds(MONTHS));
}

#[test]
fn nights_at_the_real_pace_break_no_promise() {
    play_all("night", NIGHT, seeds(NIGHTS));
}

#[test]
fn a_seed_replays_exactly() {
    let (one, two) = (Arc::new(Disks::mount()), Arc::new(Disks::mount()));
    for seed in 1..=10 {
        let once = play(seed, MONTH, &one, Echo::Off).unwrap_or_else(|failure| panic!("{seed}: {failure:?}"));
        let again = std::thread::scope(|scope| {
            scope.spawn(|| play(seed, MONTH, &two, Echo::Off).map(|outcome| outcome.digest)).join().unwrap()
        });
        assert_eq!(once.digest, again.unwrap_or_else(|failure| panic!("{seed}: {failure:?}")), "seed {seed}");
        assert!(once.digest.events > 1000, "{:?}", once.digest);
    }
}
