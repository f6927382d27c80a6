//! `make bench`: the program, HAProxy's own updater and the classic script, on a real HAProxy and a CA with a latency.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it measures real time, talks to a person, and a broken peer ends it"
)]

mod ca;
mod cold;
mod eyes;
mod options;
mod others;
mod reload;
mod report;
mod scene;
mod site;
mod steady;
#[path = "../../tests/support/mod.rs"]
mod support;
mod usage;
mod warm;

use std::process::ExitCode;
use std::time::Duration;

use cold::Places;
use options::{Figure, Options};
use report::{Race, Report, Row, Target, Unit, load};
use site::Site;

/// Certificates, unless N says otherwise.
const COUNTS: [usize; 3] = [10, 1000, 10_000];
/// The CA's latencies, unless LATENCY says otherwise.
const LATENCIES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];
/// From here on the figures are taken that only many certificates make interesting.
const MANY: usize = 10_000;

fn main() -> ExitCode {
    let options = match Options::from_environment() {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(64);
        }
    };
    let version = scene::builder(&options).version();
    println!("{} before HAProxy {version} ({})", options.binary.display(), options.haproxy.display());
    let mut report = Report::default();
    for count in options.counts.clone().unwrap_or_else(|| COUNTS.to_vec()) {
        measure(count, &options, &mut report);
    }
    println!("\nHAProxy {version}, load average {}\n\n{}", load(), report.markdown());
    ExitCode::SUCCESS
}

/// Everything that is wanted of so many certificates.
fn measure(count: usize, options: &Options, report: &mut Report) {
    println!("\n{count} certificates, load average {}", load());
    let site = Site::new(count);
    for latency in options.latencies.clone().unwrap_or_else(|| LATENCIES.to_vec()) {
        let mut race = Race::default();
        if options.wants(Figure::Cold) {
            let ours = cold::measure(&site, options, latency, Places::None, report);
            if let Some(fewer) = report.ours(count / 10, latency).filter(|_| count == MANY && !latency.is_zero()) {
                let what = format!("{count} certificates, {latency:?}: in times of the time of a tenth");
                let row = Row::new(what, Unit::Times, vec![ours.seconds / fewer.seconds]);
                report.add(row.target(Some(Target::AtMost(10.5))));
            }
            race.ours = Some(ours);
        }
        // What is left of it without HAProxy's transactions.
        if options.wants(Figure::Placed) && latency.is_zero() {
            cold::measure(&site, options, latency, Places::Empty, report);
        }
        if options.wants(Figure::Native) {
            race.native = others::native(&site, options, latency);
        }
        if options.wants(Figure::Script) {
            race.script = Some(others::script(&site, options, latency));
        }
        if let (Some(ours), Some(native)) = (race.ours, race.native) {
            let what = format!("{count} certificates, {latency:?}: as fast as HAProxy's own updater");
            let wanted = (count == 1000 && !latency.is_zero()).then_some(Target::AtLeast(25.0));
            report.add(Row::new(what, Unit::Times, vec![native.seconds / ours.seconds]).target(wanted));
        }
        report.race(count, latency, race);
    }
    if count >= MANY || options.counts.is_some() {
        if options.wants(Figure::Reload) {
            reload::measure(&site, options, report);
        }
        if options.wants(Figure::Warm) {
            warm::measure(&site, options, report);
        }
        if options.wants(Figure::Steady) {
            steady::measure(&site, options, report);
        }
    }
}
