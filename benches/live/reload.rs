//! HAProxy is reloaded: how long until its new worker has every staple again, and who was asked for it.

use std::time::{Duration, Instant};

use crate::cold::count_of;
use crate::options::Options;
use crate::report::{Report, Row, Target, Unit};
use crate::scene::{Scene, settle};
use crate::site::Site;
use crate::support::PATIENCE;
use crate::support::haproxy::{Mode, info};

/// For both settings of `STAPLER_OCSP_FILES`: with `auto` the new worker finds files when it starts.
pub fn measure(site: &Site, options: &Options, report: &mut Report) {
    for files in ["never", "auto"] {
        let (mut back, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            site.ca.open(Duration::ZERO);
            let mut scene = Scene::new(site, options, Mode::MasterWorker);
            let mut stapler = scene.stapler().env("STAPLER_OCSP_FILES", files).start();
            scene.watch(Instant::now());
            settle(&mut stapler);
            site.ca.open(Duration::ZERO);
            let first_answer = reload(&mut scene);
            back.push(scene.watch(first_answer).all.expect("all staples").as_secs_f64());
            scene.check_by_handshake();
            requests.push(count_of(site.ca.asked().requests));
            stapler.stop();
        }
        let what = |what: &str| format!("{} certificates, OCSP_FILES={files}: {what}", site.leaves.len());
        let row = Row::new(what("all back after a new worker's first answer"), Unit::Seconds, back);
        report.add(row.target(Some(Target::AtMost(2.0))));
        let row = Row::new(what("requests to the CA for that"), Unit::Plain, requests);
        report.add(row.target(Some(Target::AtMost(0.0))));
    }
}

/// Reloads HAProxy and says when its new worker answered first.
fn reload(scene: &mut Scene<'_>) -> Instant {
    let (socket, before) = (scene.haproxy.socket(), scene.haproxy.pid().to_string());
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| scene.haproxy.reload());
        let start = Instant::now();
        let first_answer = loop {
            if info(&socket, "Pid").is_some_and(|pid| pid != before) {
                break Instant::now();
            }
            assert!(start.elapsed() < 4 * PATIENCE, "HAProxy does not reload");
            std::thread::sleep(Duration::from_millis(2));
        };
        reloading.join().expect("HAProxy reloads");
        first_answer
    })
}
