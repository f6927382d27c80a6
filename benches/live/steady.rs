//! Nothing to do: what that costs, and what it costs to look.

use std::time::{Duration, Instant};

use crate::cold::{mebibytes, milliseconds};
use crate::options::Options;
use crate::report::{Report, Row, Target, Unit};
use crate::scene::{Scene, settle, usage};
use crate::site::Site;
use crate::support::haproxy::Mode;
use crate::support::stapler::{Stapler, http_get};

/// How often each path is asked for.
const SCRAPES: usize = 11;
/// Three scans at the default interval.
const SETTLED: Duration = Duration::from_secs(30);

/// With the defaults, and then without the series of each certificate.
pub fn measure(site: &Site, options: &Options, report: &mut Report) {
    site.ca.open(Duration::ZERO);
    let scene = Scene::new(site, options, Mode::Single);
    let mut stapler = scene.stapler().start();
    scene.watch(Instant::now());
    settle(&mut stapler);
    // Files that have just been written are looked at again, until their stamps are old enough to tell.
    std::thread::sleep(SETTLED);
    let what = |what: &str| format!("{} certificates, steady state: {what}", site.leaves.len());

    let (before, start) = (usage(&mut stapler), Instant::now());
    std::thread::sleep(options.idle);
    let after = usage(&mut stapler);
    let share = (after.cpu - before.cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    let row = Row::new(what(&format!("of one core over {:?}", options.idle)), Unit::Percent, vec![share]);
    report.add(row.target(Some(Target::AtMost(0.5))));

    let mut scrape = |stapler: &Stapler, path: &str, with: &str, limit: Option<f64>| {
        let row = Row::new(what(&format!("GET {path}{with}")), Unit::Milliseconds, scrapes(stapler, path));
        report.add(row.target(limit.map(Target::AtMost)));
    };
    scrape(&stapler, "/metrics", "", Some(150.0));
    scrape(&stapler, "/healthz", "", Some(10.0));
    scrape(&stapler, "/status", "", None);
    let memory = mebibytes(usage(&mut stapler).peak_memory);
    stapler.stop();

    let mut stapler = scene.stapler().env("STAPLER_METRICS_PER_CERTIFICATE", "false").start();
    settle(&mut stapler);
    scrape(&stapler, "/metrics", " without the series of each certificate", Some(10.0));
    report.add(Row::new(what("peak memory after the scrapes"), Unit::Mebibytes, vec![memory]));
    stapler.stop();
}

fn scrapes(stapler: &Stapler, path: &str) -> Vec<f64> {
    let one = |_| {
        let start = Instant::now();
        let reply = http_get(stapler.port(), path).expect("it answers");
        assert!(reply.status == 200 && !reply.body.is_empty(), "GET {path}: {}", reply.status);
        milliseconds(start.elapsed())
    };
    (0..SCRAPES).map(one).collect()
}
