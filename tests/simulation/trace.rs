//! What happened, in order: the tail for people, and a number that is the same for the same run.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::time::Duration;

/// So much of it is kept.
const TAIL: usize = 150;

/// FNV-1a: no secret is at stake, and it is the same everywhere.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The whole of it is printed as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    On,
    Off,
}

pub(crate) struct Trace {
    echo: Echo,
    hash: u64,
    events: u64,
    tail: VecDeque<String>,
}

/// What two runs of one seed agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) events: u64,
    pub(crate) hash: u64,
}

impl Trace {
    pub(crate) fn new(echo: Echo) -> Self {
        Self { echo, hash: OFFSET, events: 0, tail: VecDeque::with_capacity(TAIL) }
    }

    /// Takes note of something.
    pub(crate) fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        let mut line = if self.tail.len() < TAIL { String::new() } else { self.tail.pop_front().unwrap_or_default() };
        line.clear();
        write!(line, "{} {what}", Time(at)).unwrap();
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        self.events += 1;
        if self.echo == Echo::On {
            println!("{line}");
        }
        self.tail.push_back(line);
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest { events: self.events, hash: self.hash }
    }

    /// The last that happened, a line each.
    pub(crate) fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// `day 12 03:04:05.678`.
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        write!(f, "day {days:2} {hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, self.0.subsec_millis())
    }
}
