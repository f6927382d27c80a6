//! What to measure, from the environment, so that a single figure takes a single line:
//! `BENCH=cold N=1000 LATENCY=50ms RUNS=5 make bench`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use crate::support::haproxy::Haproxy;

/// One figure, or several that come out of the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// From a start without anything to all staples.
    Cold,
    /// The same where HAProxy was started with empty `.ocsp` files, and so has a place for each staple.
    Placed,
    /// HAProxy's own updater.
    Native,
    /// A shell script around `openssl ocsp` and socat.
    Script,
    /// All back after a reload of HAProxy.
    Reload,
    /// From a start with a warm state directory to all staples, the CA being down.
    Warm,
    /// Nothing to do; scrapes.
    Steady,
}

impl Figure {
    const ALL: [(&'static str, Self); 7] = [
        ("cold", Self::Cold),
        ("placed", Self::Placed),
        ("native", Self::Native),
        ("script", Self::Script),
        ("reload", Self::Reload),
        ("warm", Self::Warm),
        ("steady", Self::Steady),
    ];
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// BENCH.
    pub figures: BTreeSet<Figure>,
    /// N; none for the usual ones.
    pub counts: Option<Vec<usize>>,
    /// LATENCY; none for the usual ones.
    pub latencies: Option<Vec<Duration>>,
    /// RUNS of each figure of ours.
    pub runs: usize,
    /// IDLE: how long nothing happens in the steady state.
    pub idle: Duration,
    /// LIMIT: how long the others are given.
    pub limit: Duration,
    /// SAMPLE: how many certificates the script is given.
    pub sample: usize,
    /// STAPLER_BIN.
    pub binary: PathBuf,
    /// HAPROXY_BIN, or the one on the PATH.
    pub haproxy: PathBuf,
}

impl Options {
    /// Reads them; everything that is wrong, or a call for help, is the error.
    pub fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, default: usize| match variable(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("{name}={value} is not a number")),
        };
        let seconds = |name: &str, default| variable(name).map_or(Ok(default), |value| duration(name, &value));
        let figures = match variable("BENCH") {
            None => Figure::ALL.into_iter().map(|(_, figure)| figure).collect(),
            Some(list) => list.split(',').map(figure).collect::<Result<_, _>>()?,
        };
        let counts = variable("N").map(|list| {
            let count = |text: &str| text.parse().map_err(|_| format!("N={list}: '{text}' is not a number"));
            list.split(',').map(count).collect::<Result<Vec<usize>, String>>()
        });
        let latencies = variable("LATENCY").map(|list| list.split(',').map(|text| duration("LATENCY", text)).collect());
        let binary =
            variable("STAPLER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_haproxy-stapler").into(), PathBuf::from);
        if !binary.is_file() {
            return Err(format!("STAPLER_BIN={} is no file", binary.display()));
        }
        Ok(Self {
            figures,
            counts: counts.transpose()?,
            latencies: latencies.transpose()?,
            runs: number("RUNS", 3)?.max(1),
            idle: seconds("IDLE", Duration::from_secs(60))?,
            limit: seconds("LIMIT", Duration::from_secs(120))?,
            sample: number("SAMPLE", 50)?.max(1),
            binary,
            haproxy: Haproxy::builder().binary().to_owned(),
        })
    }

    /// Whether this figure is wanted.
    pub fn wants(&self, figure: Figure) -> bool {
        self.figures.contains(&figure)
    }
}

fn figure(name: &str) -> Result<Figure, String> {
    let found = Figure::ALL.into_iter().find(|(known, _)| *known == name.trim());
    found.map(|(_, figure)| figure).ok_or_else(|| {
        let known: Vec<&str> = Figure::ALL.iter().map(|(name, _)| *name).collect();
        format!("BENCH={name} is not one of {}", known.join(", "))
    })
}

/// `50ms`, `60s`, `0`.
fn duration(name: &str, text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.trim().parse::<SignedDuration>().map_err(|error| error.to_string());
    let positive = parsed.and_then(|parsed| Duration::try_from(parsed).map_err(|error| error.to_string()));
    positive.map_err(|error| format!("{name}={text} is not like 50ms or 60s: {error}"))
}
