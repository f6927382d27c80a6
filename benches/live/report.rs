//! What was measured, against its target, for a terminal and as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Mebibytes,
    Percent,
    Times,
    Plain,
}

impl Unit {
    fn write(self, value: f64) -> String {
        let number = match value {
            _ if self == Self::Plain => format!("{value:.0}"),
            small if small < 0.995 => format!("{small:.2}"),
            small if small < 9.95 => format!("{small:.2}"),
            middle if middle < 99.5 => format!("{middle:.1}"),
            large => format!("{large:.0}"),
        };
        let unit = match self {
            Self::Seconds => " s",
            Self::Milliseconds => " ms",
            Self::Mebibytes => " MiB",
            Self::Percent => " %",
            Self::Times => " ×",
            Self::Plain => "",
        };
        format!("{number}{unit}")
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One figure, measured once or several times.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    unit: Unit,
    samples: Vec<f64>,
    target: Option<Target>,
}

impl Row {
    /// A figure without a target.
    ///
    /// # Panics
    /// Without any sample.
    pub fn new(what: impl Into<String>, unit: Unit, mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure was measured");
        samples.sort_by(f64::total_cmp);
        Self { what: what.into(), unit, samples, target: None }
    }

    /// Gives it a target.
    pub fn target(mut self, target: Option<Target>) -> Self {
        self.target = target;
        self
    }

    /// The value in the middle.
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    /// The one that the machine's other work has disturbed least: the smallest, or the largest where more is better.
    fn best(&self) -> f64 {
        let (first, last) = (self.samples[0], self.samples[self.samples.len() - 1]);
        if matches!(self.target, Some(Target::AtLeast(_))) { last } else { first }
    }

    fn verdict(&self) -> String {
        let excess = |value: f64| match self.target {
            None => None,
            Some(Target::AtMost(limit)) => (value > limit).then(|| value / limit),
            Some(Target::AtLeast(limit)) => (value < limit).then(|| limit / value),
        };
        match (self.target, excess(self.best()), excess(self.median())) {
            (None, ..) => String::new(),
            (_, Some(best), _) => format!("missed by {best:.2} ×"),
            (_, None, Some(_)) => "met at best".to_owned(),
            (_, None, None) => "met".to_owned(),
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::AtMost(limit)) => format!("≤ {}", self.unit.write(limit)),
            Some(Target::AtLeast(limit)) => format!("≥ {}", self.unit.write(limit)),
        }
    }
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// How one contender did with this many certificates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// To the last staple.
    pub seconds: f64,
    /// Whether it was computed from a part of them.
    pub extrapolated: bool,
}

/// Three contenders on one site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Race {
    pub ours: Option<Time>,
    pub native: Option<Time>,
    pub script: Option<Time>,
}

/// Everything so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    races: Vec<(usize, Duration, Race)>,
}

impl Report {
    /// Takes a figure and shows it.
    pub fn add(&mut self, row: Row) {
        let Row { what, unit, samples, .. } = &row;
        let best = unit.write(row.best());
        let median = if samples.len() > 1 { format!(", median {}", unit.write(row.median())) } else { String::new() };
        println!("  {what}: {best}{median}  {} {}", row.target_text(), row.verdict());
        self.rows.push(row);
    }

    /// Takes a race and shows it.
    pub fn race(&mut self, count: usize, latency: Duration, race: Race) {
        if race != Race::default() {
            self.races.push((count, latency, race));
        }
    }

    /// How long the program took with so many certificates and this latency.
    pub fn ours(&self, count: usize, latency: Duration) -> Option<Time> {
        let race = self.races.iter().find(|(of, with, _)| (*of, *with) == (count, latency));
        race.and_then(|(.., race)| race.ours)
    }

    /// Both tables, ready for a document.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a string grows");
        if !self.races.is_empty() {
            line(
                "| certificates | the CA answers in | haproxy-stapler | HAProxy's `ocsp-update` | script |".to_owned(),
            );
            line("|---|---|---|---|---|".to_owned());
        }
        for (count, latency, Race { ours, native, script }) in &self.races {
            let other = |other: &Option<Time>| match (other, ours) {
                (None, _) => String::new(),
                (Some(time), Some(ours)) => format!("{} ({:.0} ×)", time.text(), time.seconds / ours.seconds),
                (Some(time), None) => time.text(),
            };
            let ours = ours.map(Time::text).unwrap_or_default();
            line(format!("| {count} | {latency:?} | {ours} | {} | {} |", other(native), other(script)));
        }
        line(String::new());
        line("| figure | best | median | target | |".to_owned());
        line("|---|---|---|---|---|".to_owned());
        for row in &self.rows {
            let (best, median) = (row.unit.write(row.best()), row.unit.write(row.median()));
            line(format!("| {} | {best} | {median} | {} | {} |", row.what, row.target_text(), row.verdict()));
        }
        text
    }
}

impl Time {
    fn text(self) -> String {
        let about = if self.extrapolated { "about " } else { "" };
        format!("{about}{}", Unit::Seconds.write(self.seconds))
    }
}

/// The load of the machine over the last minute: figures of a busy one say little.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
