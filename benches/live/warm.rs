//! The program and HAProxy both start anew, the state directory is warm, and the CA is down.

use std::time::{Duration, Instant};

use crate::cold::count_of;
use crate::options::Options;
use crate::report::{Report, Row, Target, Unit};
use crate::scene::{Scene, settle};
use crate::site::Site;
use crate::support::haproxy::Mode;

/// With `never`, HAProxy has no `.ocsp` files to help, and all it gets comes from the state directory.
pub fn measure(site: &Site, options: &Options, report: &mut Report) {
    for files in ["never", "auto"] {
        let (mut all, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            site.ca.open(Duration::ZERO);
            let mut scene = Scene::new(site, options, Mode::Single);
            let mut stapler = scene.stapler().env("STAPLER_OCSP_FILES", files).start();
            scene.watch(Instant::now());
            settle(&mut stapler);
            stapler.stop();
            scene.haproxy.restart();
            site.ca.open(Duration::ZERO);
            site.ca.close();
            let start = Instant::now();
            stapler.start_again();
            all.push(scene.watch(start).all.expect("all staples").as_secs_f64());
            requests.push(count_of(site.ca.asked().connections));
            scene.check_by_handshake();
            stapler.stop();
        }
        let count = site.leaves.len();
        let what = |what: &str| format!("{count} certificates, OCSP_FILES={files}, warm start, the CA down: {what}");
        report.add(Row::new(what("start to all stapled"), Unit::Seconds, all).target(Some(Target::AtMost(4.0))));
        report.add(Row::new(what("connections to the CA"), Unit::Plain, requests).target(Some(Target::AtMost(0.0))));
    }
}
