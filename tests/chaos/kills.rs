//! SIGKILL at random moments of real runs: nothing torn, nothing left that harms, HAProxy starts from what lies on disk,
//! and everything comes back.
//!
//! `KILLS=200 KILLS_SEED=42 cargo test --test chaos kill` kills so often, at the moments of seed 42: most of them while the
//! program has its hands full, some at any time of its start.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use haproxy_stapler::haproxy::Journal;

use super::site::{CERTIFICATES, Site};
use super::support::dice::Dice;
use super::support::haproxy::Mode;
use super::support::{PATIENCE, wait_for};
use super::{number, promises, transaction};

/// In `cargo test`; `make kills` has 200.
const KILLS: usize = 20;
const SEED: u64 = 1;
/// After so many kills everything must come back before the next one.
const ROUND: usize = 10;

/// What runs when the kill comes: mostly the daemon.
const COMMANDS: [&[&str]; 5] = [&["run"], &["run"], &["run"], &["once"], &["prepare"]];

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind_that_harms() {
    let (seed, kills) = (number("KILLS_SEED").unwrap_or(SEED), number("KILLS").unwrap_or(KILLS));
    let mut dice = Dice::new(seed);
    let start = Instant::now();
    let mut site = Site::start(Mode::Single, false);
    eprintln!("KILLS_SEED={seed} KILLS={kills}, HAProxy {}", site.haproxy.version());
    promises::assert_stapled(&mut site, PATIENCE);
    let mut tally = Tally { whole: start.elapsed(), ..Tally::default() };
    for kill in 1..=kills {
        play(&mut site, &mut dice, &mut tally);
        if kill % ROUND == 0 || kill == kills {
            come_back(&mut site, &mut tally);
        }
    }
    eprintln!("{:7.3} s  done: {tally:?}", start.elapsed().as_secs_f64());
}

/// What was found after the kills, and how long a start takes from nothing to everything.
#[derive(Debug, Default)]
struct Tally {
    whole: Duration,
    temporary_files: usize,
    journals: usize,
    transactions_left: usize,
    incomplete_states: usize,
    starts_of_haproxy: usize,
}

/// When the kill comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so many thousandths of the time that the first start took.
    Thousandths(u32),
    /// So many milliseconds after the CA was asked so often.
    Asked(usize, u64),
    /// So many milliseconds after so many files lay in the state directory.
    Kept(usize, u64),
    /// With a transaction open.
    InTransaction,
}

impl Moment {
    fn draw(dice: &mut Dice) -> Self {
        let delay = u64::try_from(dice.below(20)).unwrap();
        match dice.below(8) {
            0 => Self::Thousandths(u32::try_from(dice.below(1000)).unwrap()),
            1..=3 => Self::Asked(1 + dice.below(CERTIFICATES.len()), delay),
            4..=6 => Self::Kept(1 + dice.below(CERTIFICATES.len()), delay / 4),
            _ => Self::InTransaction,
        }
    }

    /// Waits for it; what never comes, as the requests of a program that needs none, is not waited for for ever.
    fn wait(self, site: &Site, whole: Duration) {
        let start = Instant::now();
        let asked = site.responder.total_requests();
        let has_come = || match self {
            Self::Thousandths(part) => start.elapsed() >= whole * part / 1000,
            Self::Asked(count, _) => site.responder.total_requests() >= asked + count,
            Self::Kept(count, _) => names(&site.stapler.state_dir()).len() >= count,
            Self::InTransaction => transaction::open_transaction(site).is_some(),
        };
        while start.elapsed() < whole && !has_come() {}
        if let Self::Asked(_, delay) | Self::Kept(_, delay) = self {
            std::thread::sleep(Duration::from_millis(delay));
        }
    }
}

/// Gives the program something to do, starts it, kills it, and looks.
fn play(site: &mut Site, dice: &mut Dice, tally: &mut Tally) {
    site.stapler.process().kill();
    if dice.below(4) > 0 {
        // It may be gone already.
        let _ = std::fs::remove_dir_all(site.stapler.state_dir());
        promises::remove_ocsp_files(site);
    }
    for _ in 0..dice.below(4) {
        let certificate = dice.below(CERTIFICATES.len());
        let leaf = site.renew(certificate);
        site.write(certificate, &leaf);
    }
    // With what lies there now, and unstapled where nothing does.
    if dice.below(2) == 0 {
        start_haproxy(site, tally);
    }
    let command = COMMANDS[dice.below(COMMANDS.len())];
    let moment = Moment::draw(dice);
    site.starts.push(Instant::now());
    site.stapler.start_instead(command);
    moment.wait(site, tally.whole);
    site.stapler.process().kill();
    eprintln!("{command:?} killed {moment:?}");
    look(site, tally);
}

/// HAProxy starts from what lies on disk, as after a power failure.
fn start_haproxy(site: &mut Site, tally: &mut Tally) {
    site.haproxy.crash();
    site.haproxy.start_again();
    site.loaded();
    tally.starts_of_haproxy += 1;
}

/// What must hold with the program just killed.
fn look(site: &mut Site, tally: &mut Tally) {
    assert!(!site.stapler.log().contains("panicked"), "the program panicked");
    for path in promises::ocsp_files(site) {
        site.assert_genuine_for_some(&std::fs::read(&path).unwrap(), &path);
    }
    for directory in site.directories() {
        for name in names(&directory) {
            let is_known = [".ocsp", ".issuer", ".pem", ".txt", ".ecdsa", ".rsa"].iter().any(|end| name.ends_with(end));
            assert!(is_known, "{name} in {}", directory.display());
            tally.temporary_files += usize::from(is_temporary(&name));
        }
    }
    look_at_state(site, tally);
    let (starts, words) = site.haproxy.accepts();
    assert!(starts, "HAProxy would not start: {words}");
    tally.transactions_left += usize::from(transaction::open_transaction(site).is_some());
}

/// Each file of the state directory is whole: a rename is all or nothing.
fn look_at_state(site: &Site, tally: &mut Tally) {
    let state = site.stapler.state_dir();
    let mut staples = 0;
    for name in names(&state) {
        let path = state.join(&name);
        let content = std::fs::read(&path).unwrap();
        if is_temporary(&name) {
            tally.temporary_files += 1;
        } else if name.ends_with(".ocsp") {
            site.assert_genuine_for_some(&content, &path);
            staples += 1;
        } else if name.ends_with(".issuer") {
            assert!(content.starts_with(site.issuing().der()), "{name}");
        } else if name.ends_with(".journal") {
            assert!(
                serde_json::from_slice::<Journal>(&content).is_ok(),
                "{name}: {}",
                String::from_utf8_lossy(&content)
            );
            tally.journals += 1;
        } else {
            panic!("{name} in {}", state.display());
        }
    }
    tally.incomplete_states += usize::from(staples < CERTIFICATES.len());
}

fn names(directory: &Path) -> BTreeSet<String> {
    // The state directory may not be there yet.
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.contains(".stapler") && name.ends_with(".ocsp")
}

/// The program stays: everything is stapled and tidy, and HAProxy starts with all of it.
fn come_back(site: &mut Site, tally: &mut Tally) {
    if transaction::open_transaction(site).is_some() && site.haproxy.version().starts_with("2.2.") {
        // There, the program cannot know whether its commit failed, and leaves the transaction alone.
        start_haproxy(site, tally);
    }
    site.start_stapler();
    // Certificates that were renewed on disk alone are not what HAProxy runs.
    start_haproxy(site, tally);
    promises::assert_stapled(site, 3 * PATIENCE);
    promises::assert_all_is_well(site);
    promises::assert_kept(site);
    let (state, temporary) = (site.stapler.state_dir(), |name: &String| is_temporary(name));
    wait_for("nothing temporary", PATIENCE, || (!names(&state).iter().any(temporary)).then_some(()));
    for directory in site.directories() {
        assert!(!names(&directory).iter().any(temporary), "left-over files in {}", directory.display());
    }
    assert!(site.stapler.stop().success(), "SIGTERM");
    start_haproxy(site, tally);
    promises::assert_stapled_by_files(site);
}
