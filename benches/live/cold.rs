//! From a start without anything to all staples, and what that takes.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::options::Options;
use crate::report::{Report, Row, Target, Time, Unit, load};
use crate::scene::{Scene, settle, usage};
use crate::site::Site;
use crate::support::haproxy::Mode;

/// `STAPLER_CONCURRENCY`'s default: the requests of one host that are under way at once.
const IN_FLIGHT: f64 = 32.0;

/// What HAProxy has for staples when the program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// Nothing: each certificate gets its place by a transaction.
    None,
    /// A place for each, made of an empty `.ocsp` file.
    Empty,
}

/// Runs it and gives the time to the last staple.
pub fn measure(site: &Site, options: &Options, latency: Duration, places: Places, report: &mut Report) -> Time {
    let count = site.leaves.len();
    let certificates = f64::from(u32::try_from(count).expect("a count"));
    let mut samples = Samples::default();
    for run in 0..options.runs {
        site.ca.open(latency);
        let scene = match places {
            Places::None => Scene::new(site, options, Mode::Single),
            Places::Empty => Scene::placed(site, options, Mode::Single),
        };
        let start = Instant::now();
        let mut stapler = scene.stapler().start();
        let sight = scene.watch(start);
        settle(&mut stapler);
        let settled = start.elapsed();
        let used = usage(&mut stapler);
        println!(
            "    run {}: {:.2} s, {:.2} s of CPU, load {}",
            run + 1,
            settled.as_secs_f64(),
            used.cpu.as_secs_f64(),
            load()
        );
        samples.first.push(milliseconds(sight.first.expect("a staple")));
        samples.all.push(sight.all.expect("all staples").as_secs_f64());
        samples.settled.push(settled.as_secs_f64());
        samples.cpu.push(milliseconds(used.cpu) / certificates);
        samples.memory.push(mebibytes(used.peak_memory));
        let asked = site.ca.asked();
        samples.requests.push(count_of(asked.requests));
        samples.in_flight.push(count_of(asked.peak_in_flight));
        samples.connections.push(count_of(asked.connections));
        scene.check_by_handshake();
        if run == 0 && count >= 1000 && places == Places::None {
            let status = stapler.status().expect("it answers");
            spread(&status, count);
        }
        stapler.stop();
    }
    samples.report(count, certificates, latency, places, report)
}

#[derive(Default)]
struct Samples {
    first: Vec<f64>,
    all: Vec<f64>,
    settled: Vec<f64>,
    cpu: Vec<f64>,
    memory: Vec<f64>,
    requests: Vec<f64>,
    in_flight: Vec<f64>,
    connections: Vec<f64>,
}

impl Samples {
    fn report(self, count: usize, certificates: f64, latency: Duration, places: Places, report: &mut Report) -> Time {
        let before = match places {
            Places::None => "",
            Places::Empty => ", HAProxy has a place for each",
        };
        let what = |what: &str| format!("{count} certificates, {latency:?}{before}: {what}");
        let floor = (certificates / IN_FLIGHT).ceil() * latency.as_secs_f64();
        let at_most = |limit, holds: bool| holds.then_some(Target::AtMost(limit));
        let few = count <= 10;
        let all = Row::new(what("start to all stapled"), Unit::Seconds, self.all.clone());
        let seconds = all.median();
        let (thousand, at_once) = (count == 1000, latency.is_zero());
        report.add(all.target(at_most(if at_once { 0.6 } else { 2.0 }, thousand)));
        if floor > 0.0 && !few {
            let ratios = self.all.iter().map(|all| all / floor).collect();
            let row = Row::new(what("the same, in times of the floor"), Unit::Times, ratios);
            report.add(row.target(at_most(1.3, thousand)));
        }
        if few {
            let row = Row::new(what("start to first staple"), Unit::Milliseconds, self.first);
            report.add(row.target(at_most(150.0, at_once)));
        }
        report.add(Row::new(what("start to all stapled and all files written"), Unit::Seconds, self.settled));
        let row = Row::new(what("CPU a certificate, files included"), Unit::Milliseconds, self.cpu);
        report.add(row.target(at_most(0.6, thousand && at_once)));
        let most = if few { Some(12.0) } else { Some(64.0).filter(|_| count >= 10_000) };
        report.add(Row::new(what("peak memory"), Unit::Mebibytes, self.memory).target(most.map(Target::AtMost)));
        let row = Row::new(what("requests to the CA"), Unit::Plain, self.requests);
        report.add(row.target(Some(Target::AtMost(certificates))));
        report.add(Row::new(what("connections to the CA"), Unit::Plain, self.connections));
        report.add(Row::new(what("requests under way at once"), Unit::Plain, self.in_flight));
        Time { seconds, extrapolated: false }
    }
}

/// A histogram of when the certificates will be refreshed. All of them were issued and answered within the same minute.
fn spread(status: &serde_json::Value, count: usize) {
    let due: Vec<Timestamp> = status["certificates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|certificate| certificate["refresh_due_at"].as_str()?.parse().ok())
        .collect();
    let (Some(first), Some(last)) = (due.iter().min(), due.iter().max()) else { return };
    const BINS: i64 = 16;
    let width = (first.duration_until(*last).as_secs() / BINS + 1).max(1);
    println!("\n  refreshes of {} of {count} certificates, each line {} min:", due.len(), width / 60);
    for bin in 0..BINS {
        let inside = |at: &&Timestamp| first.duration_until(**at).as_secs() / width == bin;
        let found = due.iter().filter(inside).count();
        let start = *first + jiff::SignedDuration::from_secs(bin * width);
        println!("  {start:.0} {found:6} {}", "#".repeat(found * 800 / count.max(1)));
    }
    println!();
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

pub fn mebibytes(bytes: u64) -> f64 {
    count_of(bytes / 1024) / 1024.0
}

pub fn count_of(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
