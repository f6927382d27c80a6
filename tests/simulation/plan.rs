//! What will happen and when, decided before anything happens: the same seed gives the same events.

use std::time::Duration;

use super::authority::{LIES, Lie, Mood, Style};
use super::pool::{HOSTS, KINDS};
use super::scripted_haproxy::{ExtraFiles, Version};
use super::site::{Content, Health, Which};
use super::stage::{Doom, Moment, Trouble};
use super::support::dice::Dice;
use jiff::SignedDuration;

/// One thing that happens. Some of it ends by itself.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A responder's host behaves so.
    Host {
        host: usize,
        mood: Mood,
        lasting: Duration,
    },
    /// All of them do.
    Outage {
        mood: Mood,
        lasting: Duration,
    },
    /// Everybody behaves so about one certificate.
    About {
        place: usize,
        mood: Mood,
        lasting: Duration,
    },
    /// A certificate is revoked, and that is true.
    Revoke {
        place: usize,
    },
    Reload {
        machine: usize,
    },
    /// A new process under the old process id, as in a container, perhaps of another version.
    Restart {
        machine: usize,
        away: Duration,
        version: Option<Version>,
    },
    Unreachable {
        machine: usize,
        trouble: Trouble,
        lasting: Duration,
    },
    /// So many replies are lost.
    Losses {
        machine: usize,
        count: usize,
    },
    Slow {
        machine: usize,
        milliseconds: u64,
        lasting: Duration,
    },
    Locked {
        machine: usize,
        commands: usize,
    },
    /// Somebody opens a transaction and ends it after a while.
    Transaction {
        machine: usize,
        place: usize,
        put: Put,
        lasting: Duration,
        commit: bool,
    },
    /// Somebody else brings a response.
    Push {
        machine: usize,
        place: usize,
        what: Pushed,
    },
    /// A certificate follows another one in its file.
    Renew {
        place: usize,
        reload: bool,
    },
    /// A certificate's file is not as it should be.
    Damage {
        place: usize,
        content: Content,
        lasting: Duration,
    },
    LoseOcspFiles,
    CorruptOcspFile {
        place: usize,
    },
    Disk {
        which: Which,
        health: Health,
        lasting: Duration,
    },
    SlowDisk {
        delay: Duration,
        lasting: Duration,
    },
    LoseState,
    CorruptState,
    /// The wall clock is wrong.
    Step {
        by: SignedDuration,
        lasting: Duration,
    },
    Suspend {
        time: Duration,
    },
    /// The program is killed, is told to stop, or will be killed at a certain point; and starts again.
    Kill {
        away: Duration,
    },
    Stop {
        away: Duration,
    },
    Doom {
        doom: Doom,
        provoked: bool,
        away: Duration,
    },
}

/// What somebody puts into a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Certificate,
    Issuer,
    Response,
}

/// What somebody pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Older,
    Newer,
    Forged,
}

/// What a site is from beginning to end.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) places: Vec<usize>,
    pub(crate) machines: Vec<(Version, ExtraFiles)>,
    /// By place.
    pub(crate) styles: Vec<Style>,
    pub(crate) withhold: bool,
    pub(crate) no_files: bool,
    pub(crate) refresh: Duration,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const HOUR: Duration = seconds(3600);

impl Setting {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut places: Vec<usize> = (0..KINDS.len()).filter(|_| dice.below(2) == 0).collect();
        if !places.iter().any(|place| !KINDS[*place].hosts.is_empty()) {
            places = vec![0, dice.below(3) + 1];
        }
        let machine = |dice: &mut Dice| {
            let files = if dice.below(4) == 0 { ExtraFiles::None } else { ExtraFiles::All };
            (dice.pick(&Version::ALL), files)
        };
        let machines = (0..1 + usize::from(dice.below(3) == 0)).map(|_| machine(dice)).collect();
        Self {
            places,
            machines,
            styles: KINDS.iter().map(|kind| style(dice, kind.delegated)).collect(),
            withhold: dice.below(4) == 0,
            no_files: dice.below(6) == 0,
            refresh: dice.pick(&[HOUR, 6 * HOUR, 24 * HOUR]),
            timeout: dice.pick(&[seconds(2), seconds(10), seconds(10)]),
            concurrency: dice.pick(&[1, 4, 32]),
        }
    }
}

fn style(dice: &mut Dice, delegated: bool) -> Style {
    let minutes = |count: i64| SignedDuration::from_mins(count);
    let lifetime = dice.pick(&[4 * 60, 12 * 60, 24 * 60, 24 * 60, 4 * 24 * 60, 7 * 24 * 60]);
    // Some are stapled for minutes only.
    let lifetime = if dice.below(40) == 0 { 40 } else { lifetime };
    // Those that sign all at once do so at least twice in a response's life.
    let every = (dice.coin() && lifetime > 60).then(|| lifetime / dice.pick(&[2, 4]));
    // A delegate's turn is over after two days.
    let every = every.map(|every| minutes(if delegated { every.min(24 * 60) } else { every }));
    Style { every, lifetime: minutes(lifetime) }
}

/// So many events in so much time, from these dice. What lasts, lasts a quarter of it at most.
pub(crate) fn plan(dice: &mut Dice, setting: &Setting, events: usize, span: Duration) -> Vec<(Duration, Event)> {
    let mut plan: Vec<(Duration, Event)> = (0..events)
        .map(|_| {
            let at = dice.at_most(usize::try_from(span.as_millis()).unwrap());
            (at, event(dice, setting, span / 4))
        })
        .collect();
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// From moments to days.
fn lasting(dice: &mut Dice, longest: Duration) -> Duration {
    let scale = dice.pick(&[seconds(3), seconds(15), seconds(60), seconds(600), HOUR, HOUR, 6 * HOUR, 24 * HOUR]);
    // Rarely for days.
    let scale = if dice.below(30) == 0 { 72 * HOUR } else { scale };
    let share = u32::try_from(dice.below(100)).unwrap() + 1;
    (scale * share / 100).min(longest)
}

fn mood(dice: &mut Dice) -> Mood {
    let lie = Mood::Lies(dice.pick(&LIES));
    dice.pick(&[
        Mood::Refuses,
        Mood::NoName,
        Mood::Silent,
        Mood::Slow(400),
        Mood::Slow(20_000),
        Mood::Http(500),
        Mood::Http(404),
        Mood::Later(5),
        Mood::Later(7200),
        Mood::Huge,
        Mood::BreaksOff,
        Mood::Garbage,
        Mood::Html,
        Mood::TryLater,
        Mood::Unauthorized,
        Mood::PostOnly,
        lie,
        lie,
        lie,
        lie,
        lie,
        lie,
        lie,
        Mood::Lies(Lie::Older),
        Mood::Lies(Lie::Expiring),
    ])
}

fn event(dice: &mut Dice, setting: &Setting, longest: Duration) -> Event {
    let place = dice.pick(&setting.places);
    let machine = dice.below(setting.machines.len());
    let host = dice.below(HOSTS.len());
    let long = lasting(dice, longest);
    // The program and HAProxy are not away for days.
    let away = lasting(dice, longest.min(2 * HOUR));
    match dice.below(100) {
        0..16 => Event::Host { host, mood: mood(dice), lasting: long },
        16..20 => Event::Outage { mood: mood(dice), lasting: long },
        20..28 => Event::About { place, mood: mood(dice), lasting: long },
        28 => Event::Revoke { place },
        29..37 => Event::Reload { machine },
        37..41 => {
            let version = (dice.below(4) == 0).then(|| dice.pick(&Version::ALL));
            Event::Restart { machine, away, version }
        }
        41..45 => {
            let trouble = dice.pick(&[Trouble::Refuses, Trouble::Hangs]);
            Event::Unreachable { machine, trouble, lasting: away }
        }
        45..49 => Event::Losses { machine, count: 1 + dice.below(6) },
        49..51 => {
            let milliseconds = dice.pick(&[100, 700, 4000]);
            Event::Slow { machine, milliseconds, lasting: away }
        }
        51..53 => Event::Locked { machine, commands: 1 + dice.below(8) },
        53..60 => {
            let put = dice.pick(&[Put::Certificate, Put::Certificate, Put::Issuer, Put::Response]);
            Event::Transaction { machine, place, put, lasting: away, commit: dice.coin() }
        }
        60..64 => Event::Push { machine, place, what: dice.pick(&[Pushed::Older, Pushed::Newer, Pushed::Forged]) },
        64..69 => Event::Renew { place, reload: dice.coin() },
        69..73 => {
            let content = dice.pick(&[Content::Chainless, Content::Half, Content::Away]);
            Event::Damage { place, content, lasting: long }
        }
        73..75 => Event::LoseOcspFiles,
        75..77 => Event::CorruptOcspFile { place },
        77..81 => {
            let which = dice.pick(&[Which::Certs, Which::State]);
            // A read-only disk is a mount of its own, and not for nothing in time.
            let health = if dice.below(4) == 0 { Health::ReadOnly } else { Health::Full };
            Event::Disk { which, health, lasting: long }
        }
        81..83 => {
            let delay = Duration::from_millis(dice.pick(&[200, 1500, 8000]));
            Event::SlowDisk { delay, lasting: away }
        }
        83..85 => Event::LoseState,
        85..87 => Event::CorruptState,
        87..90 => {
            let minutes = dice.pick(&[1_i64, 4, 6, 60, 600, 4000]);
            let by = SignedDuration::from_mins(if dice.coin() { minutes } else { -minutes });
            Event::Step { by, lasting: long }
        }
        90..92 => Event::Suspend { time: long },
        92..94 => Event::Kill { away },
        94..97 => {
            let moment = dice.pick(&[Moment::Before, Moment::After]);
            let (step, visit) = (1 + dice.below(8), 1 + dice.below(12));
            let doom =
                dice.pick(&[Doom::AtStep(step, moment), Doom::AtStep(step, moment), Doom::AtDisk(visit, moment)]);
            Event::Doom { doom, provoked: dice.below(3) > 0, away }
        }
        _ => Event::Stop { away },
    }
}
