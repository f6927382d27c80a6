//! What will happen, decided before anything happens: the same seed gives the same steps.

use std::time::Duration;

use super::site::CERTIFICATES;
use super::support::dice::Dice;

/// One thing that happens. Certificates go by their place in [`CERTIFICATES`].
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// HAProxy loads everything again, the way its mode does it.
    Reload,
    /// HAProxy is to load a configuration that is broken, which is mended afterwards.
    FailedReload,
    /// HAProxy is killed with SIGKILL, is away for a while, and starts again.
    Crash { away: Duration },
    /// A new certificate in the file.
    RotateFile { certificate: usize, reload: bool },
    /// A new certificate by `set ssl cert` and `commit ssl cert`, and in the file, either way round.
    RotateAtRunTime { certificate: usize, file_first: bool },
    /// Somebody opens a transaction, keeps it open for some time and some steps, and ends it.
    Transaction { certificate: usize, content: Content, hold: Duration, steps: usize, commit: bool },
    /// The CA behaves so for a while.
    Authority { mood: Mood, lasting: Duration },
    /// The program is ended with SIGKILL, or with SIGTERM, and starts again.
    Stapler { kill: bool, away: Duration },
    /// HAProxy reloads, which keeps the program busy, and the program is killed as soon as a transaction of its own is
    /// seen.
    KillWhileBusy { away: Duration },
    /// All `.ocsp` files are gone.
    LoseOcspFiles,
    /// The state directory is gone.
    LoseState,
    /// A certificate's file is gone for some steps.
    Remove { certificate: usize, steps: usize },
    /// Nothing.
    Pass { time: Duration },
}

/// What somebody puts into a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A new certificate with its key, and its chain if the old one had it.
    Certificate,
    /// The issuer's certificate.
    Issuer,
    /// A response that is genuine and older than ours.
    Response,
}

/// What a CA's responder may do all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Down,
    Silent,
    Slow,
    Garbage,
    Html,
    TryLater,
    Unknown,
    BrokenSignature,
    Expired,
    Older,
    ShortLived,
}

const MOODS: [Mood; 11] = [
    Mood::Down,
    Mood::Silent,
    Mood::Slow,
    Mood::Garbage,
    Mood::Html,
    Mood::TryLater,
    Mood::Unknown,
    Mood::BrokenSignature,
    Mood::Expired,
    Mood::Older,
    Mood::ShortLived,
];

/// So many steps, from these dice.
pub(crate) fn plan(dice: &mut Dice, steps: usize) -> Vec<Step> {
    (0..steps).map(|_| step(dice)).collect()
}

fn step(dice: &mut Dice) -> Step {
    let certificate = dice.below(CERTIFICATES.len());
    match dice.below(100) {
        0..14 => Step::Reload,
        14..19 => Step::FailedReload,
        19..25 => Step::Crash { away: dice.at_most(2500) },
        25..37 => Step::RotateFile { certificate, reload: dice.coin() },
        37..49 => Step::RotateAtRunTime { certificate, file_first: dice.coin() },
        49..67 => Step::Transaction {
            certificate,
            content: dice.pick(&[Content::Certificate, Content::Certificate, Content::Issuer, Content::Response]),
            hold: dice.at_most(1500),
            steps: dice.below(4),
            commit: dice.coin(),
        },
        // What lasts 15 s at most is made good again within 30 s.
        67..75 => Step::Authority { mood: dice.pick(&MOODS), lasting: dice.at_most(15_000) },
        75..79 => Step::Stapler { kill: true, away: dice.at_most(1000) },
        79..82 => Step::KillWhileBusy { away: dice.at_most(1000) },
        82..86 => Step::Stapler { kill: false, away: dice.at_most(1000) },
        86..90 => Step::LoseOcspFiles,
        90..92 => Step::LoseState,
        92..95 => Step::Remove { certificate, steps: 1 + dice.below(3) },
        _ => Step::Pass { time: dice.at_most(1500) },
    }
}
