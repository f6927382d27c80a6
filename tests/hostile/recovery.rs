//! Every misbehaviour for fifteen seconds, then none: everybody is served again soon, whatever it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::modes::{FAULTS, FORGERIES, GOOD};
use crate::stage::{MOST_A_MINUTE, Stage, busiest_minute, stapler_for};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;

const FAULT: Duration = Duration::from_secs(15);
/// Promise 10.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn after_a_fault_of_fifteen_seconds_everybody_is_served_within_thirty() {
    let mut stage = Stage::new();
    for mode in FORGERIES.iter().chain(FAULTS) {
        stage.play(mode.name, mode.play);
    }
    let faulty: Vec<String> = stage.leaves.keys().cloned().collect();
    for (name, play) in GOOD {
        stage.play(name, play);
    }
    let haproxy = std::mem::replace(&mut stage.haproxy, Haproxy::builder()).start();
    let start = Instant::now();
    let mut stapler = stapler_for(&haproxy).start();
    let served = |name: &str| stapled_bytes(haproxy.port(), &format!("{name}.test")).is_some();
    for name in faulty.iter().cycle().take_while(|_| start.elapsed() < FAULT) {
        assert!(!served(name), "{name}");
    }
    let met = faulty.iter().all(|name| !stage.asked(name).is_empty());
    assert!(met, "in {FAULT:?}, somebody was not even asked");

    stage.recover();
    let recovery = Instant::now();
    let mut back: BTreeMap<&String, Duration> = BTreeMap::new();
    while back.len() < faulty.len() {
        for name in &faulty {
            if !back.contains_key(name) && served(name) {
                back.insert(name, recovery.elapsed());
            }
        }
        let missing: Vec<&String> = faulty.iter().filter(|name| !back.contains_key(*name)).collect();
        assert!(recovery.elapsed() < SERVED_WITHIN, "not served {SERVED_WITHIN:?} after the fault: {missing:?}");
    }
    for (name, after) in &back {
        eprintln!("{:5.1} s after the fault: {name}", after.as_secs_f64());
    }
    stapler.wait_until("nothing to be wrong", |status| {
        status["status"] == "ok" && status["states"]["stapled"] == stage.leaves.len()
    });
    for name in stage.leaves.keys() {
        let busiest = busiest_minute(&stage.asked(name));
        assert!(busiest <= MOST_A_MINUTE, "{name}: {busiest} requests in a minute");
    }
}
