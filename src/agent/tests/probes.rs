//! When frontends are looked at.

use std::time::Duration;

use super::{Scene, certificates, now};
use crate::agent::fold::Done;
use crate::agent::plan::{Job, plan};
use crate::agent::probes::hurry;
use crate::clock::{Moment, Monotonic};
use crate::pem::Bundle;
use crate::probe::{Handshake, KeyType, Objection, Outcome, Protocol, Report, Target};

const MINUTE: u64 = 60;
const NOBODY: [usize; 0] = [];

fn after(seconds: u64) -> Monotonic {
    now().monotonic.after(Duration::from_secs(seconds))
}

/// A world with so many frontends, whose first pass is over.
fn scene(frontends: usize) -> Scene {
    let targets: Vec<String> = (1..=frontends).map(|port| format!("127.0.0.1:{port}")).collect();
    let (leaf, root) = certificates();
    let bundle = Bundle { leaf: leaf.clone(), chain: vec![root] };
    let mut scene = Scene::with_settings(&[("STAPLER_PROBES", &targets.join(","))], Ok(bundle), leaf);
    scene.world.last_pass_at = Some(now().wall);
    hurry(&mut scene.world, after(0));
    scene
}

/// Which frontends are looked at now.
fn looked_at(scene: &mut Scene, at: Monotonic) -> Vec<usize> {
    let jobs = plan(&mut scene.world, Moment { monotonic: at, ..now() });
    jobs.iter().filter_map(|job| if let Job::Probe { index, .. } = job { Some(*index) } else { None }).collect()
}

fn answer(scene: &mut Scene, index: usize, outcome: Outcome, at: Monotonic) {
    let target: Target = "127.0.0.1:1".parse().unwrap();
    let handshake = Handshake { protocol: Protocol::Tls13, key_type: KeyType::Rsa, outcome };
    let report = Report { target, at: now().wall, handshakes: vec![handshake] };
    scene.fold_at(Done::Probe { index, report }, Moment { monotonic: at, ..now() });
}

fn good() -> Outcome {
    Outcome::Shown { certificate: certificates().0, response: None, objections: Vec::new() }
}

fn bad() -> Outcome {
    Outcome::Failed(Objection::Connect { address: "127.0.0.1:1".to_owned(), reason: "refused".to_owned() })
}

#[test]
fn a_good_frontend_is_looked_at_every_minute_and_soon_after_an_installation() {
    let mut scene = scene(1);
    assert_eq!(looked_at(&mut scene, after(0)), [0]);
    assert_eq!(looked_at(&mut scene, after(MINUTE)), NOBODY, "one look at a time");
    answer(&mut scene, 0, good(), after(1));
    assert_eq!(looked_at(&mut scene, after(MINUTE - 1)), NOBODY);
    assert_eq!(looked_at(&mut scene, after(MINUTE)), [0]);
    // While it is looked at, something is installed: there is another look, but not at once.
    hurry(&mut scene.world, after(MINUTE + 1));
    answer(&mut scene, 0, good(), after(MINUTE + 2));
    assert_eq!(looked_at(&mut scene, after(MINUTE + 4)), NOBODY);
    assert_eq!(looked_at(&mut scene, after(MINUTE + 5)), [0]);
    answer(&mut scene, 0, good(), after(MINUTE + 6));
    hurry(&mut scene.world, after(MINUTE + 30));
    assert_eq!(looked_at(&mut scene, after(MINUTE + 30)), [0]);
}

#[test]
fn a_bad_frontend_is_looked_at_sooner_and_then_more_patiently() {
    let mut scene = scene(1);
    let mut now = 0;
    for pause in [10, 20, 40, 60, 60] {
        assert_eq!(looked_at(&mut scene, after(now)), [0], "{now}");
        answer(&mut scene, 0, bad(), after(now));
        now += pause;
        assert_eq!(looked_at(&mut scene, after(now - 1)), NOBODY, "{now}");
    }
    assert_eq!(looked_at(&mut scene, after(now)), [0]);
    answer(&mut scene, 0, good(), after(now));
    assert_eq!(looked_at(&mut scene, after(now + MINUTE)), [0]);
    answer(&mut scene, 0, bad(), after(now + MINUTE));
    assert_eq!(looked_at(&mut scene, after(now + MINUTE + 10)), [0], "patience starts anew");
}

#[test]
fn only_so_many_are_looked_at_at_once_and_each_has_its_turn() {
    let mut scene = scene(20);
    let first = looked_at(&mut scene, after(0));
    assert_eq!(first, (0..8).collect::<Vec<_>>());
    assert_eq!(looked_at(&mut scene, after(1)), NOBODY);
    // Two that hang keep two places, and no more.
    let mut seen = first.clone();
    for index in first.into_iter().skip(2) {
        answer(&mut scene, index, good(), after(1));
    }
    while seen.len() < 20 {
        let next = looked_at(&mut scene, after(2));
        assert_eq!(next.len(), 6);
        next.iter().for_each(|index| answer(&mut scene, *index, good(), after(2)));
        seen.extend(next);
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[test]
fn before_the_first_pass_is_over_nobody_looks_unless_it_never_ends() {
    let (leaf, root) = certificates();
    let bundle = Bundle { leaf: leaf.clone(), chain: vec![root] };
    let mut early = Scene::with_settings(&[("STAPLER_PROBES", "127.0.0.1:1")], Ok(bundle), leaf);
    hurry(&mut early.world, after(1));
    assert_eq!(looked_at(&mut early, after(29)), NOBODY);
    assert_eq!(looked_at(&mut early, after(30)), [0]);
}
