//! Several sidecars, each with a HAProxy of its own, that share one state directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::haproxy::Journal;
use haproxy_stapler::ocsp;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::site::{Authority, haproxy_with_good, impatient, stapler_for};
use crate::support::client::stapled_bytes;
use crate::support::dice::Dice;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::stapler::{Stapler, certificate};
use crate::support::{PATIENCE, wait_for};

const NAMES: [&str; 4] = ["a.test", "b.test", "c.test", "d.test"];
const KILLS: usize = 40;

/// A CA, and certificates that every HAProxy of the fleet serves.
struct Fleet {
    authority: Authority,
    leaves: Vec<Identity>,
    state: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let authority = Authority::start();
        let leaves = NAMES.iter().map(|name| authority.leaf(name)).collect();
        Self { authority, leaves, state: TempDir::new().unwrap() }
    }

    fn haproxy(&self) -> Haproxy {
        let builder = NAMES.iter().zip(&self.leaves).fold(Haproxy::builder(), |builder, (name, leaf)| {
            builder.file(&format!("{name}.pem"), leaf.combined_pem())
        });
        builder.start()
    }

    fn sidecar(&self, haproxy: &Haproxy) -> Stapler {
        // `.ocsp` files would give each HAProxy a memory of its own.
        stapler_for(haproxy).env("STAPLER_STATE_DIR", self.state.path()).env("STAPLER_OCSP_FILES", "never").start()
    }

    fn requests(&self) -> usize {
        self.leaves.iter().map(|leaf| self.authority.responder.requests(leaf)).sum()
    }

    /// Looks at every file in the state directory; says for which certificates there is a staple. A torn or foreign one is
    /// a failure.
    fn look(&self) -> BTreeSet<String> {
        let root = Certificate::from_der(self.authority.root.der()).unwrap();
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(self.state.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // Replaced or removed since the directory was listed.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            if name.starts_with('.') {
                continue;
            }
            if name.ends_with(".journal") {
                assert!(serde_json::from_slice::<Journal>(&bytes).is_ok(), "{name} is torn");
                continue;
            }
            let is_whole = self.leaves.iter().any(|leaf| {
                let leaf = Certificate::from_der(leaf.der()).unwrap();
                name.starts_with(&leaf.fingerprint().to_string())
                    && ocsp::verify(&bytes, &leaf, &root, Timestamp::now()).is_ok()
            });
            assert!(is_whole, "{name}: {} bytes", bytes.len());
            found.insert(name);
        }
        found
    }
}

fn all_stapled(sidecar: &mut Stapler, haproxy: &Haproxy) {
    sidecar.wait_until("everything to be stapled", |status| {
        NAMES
            .iter()
            .all(|name| certificate(status, &format!("{name}.pem")).is_some_and(|row| row["state"] == "stapled"))
    });
    for name in NAMES {
        wait_for(name, PATIENCE, || stapled_bytes(haproxy.port(), name));
    }
}

fn has_temporary(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.'))
}

#[test]
fn a_second_sidecar_starts_from_what_the_first_one_fetched() {
    let fleet = Fleet::new();
    let (first, second) = (fleet.haproxy(), fleet.haproxy());
    let mut one = fleet.sidecar(&first);
    all_stapled(&mut one, &first);
    assert_eq!(fleet.requests(), NAMES.len());
    wait_for("everything to be kept", PATIENCE, || (fleet.look().len() == NAMES.len()).then_some(()));
    // Even with the CA gone.
    fleet.authority.responder.set_all(&Behaviour::Hang);
    let mut two = fleet.sidecar(&second);
    all_stapled(&mut two, &second);
    assert_eq!(fleet.requests(), NAMES.len(), "nobody was asked again");
    for name in NAMES {
        assert_eq!(stapled_bytes(first.port(), name), stapled_bytes(second.port(), name));
    }
}

#[test]
fn what_one_fetches_later_reaches_the_other_by_the_directory() {
    let fleet = Fleet::new();
    let (first, second) = (fleet.haproxy(), fleet.haproxy());
    // Its refresh is due at every start, whatever its jitter.
    let hours = SignedDuration::from_hours;
    fleet.authority.responder.set_all(&Behaviour::GoodAt(crate::support::now() - hours(7), hours(10)));
    let mut one = fleet.sidecar(&first);
    all_stapled(&mut one, &first);
    // The second one looks at what is kept every few seconds, and asks nobody: its own way to the CA is cut.
    let patient = impatient(crate::site::binary())
        .env("STAPLER_CERTS", second.certs_dir())
        .env("STAPLER_SOCKETS", second.socket())
        .env("STAPLER_STATE_DIR", fleet.state.path())
        .env("STAPLER_OCSP_FILES", "never")
        .env("STAPLER_REFRESH_INTERVAL", "2s")
        .env("HTTP_PROXY", "http://127.0.0.1:9");
    let two = patient.start();
    let is_installed = || NAMES.iter().all(|name| stapled_bytes(second.port(), name).is_some());
    wait_for("what was kept", PATIENCE, || is_installed().then_some(()));
    let old = stapled_bytes(second.port(), NAMES[0]);
    fleet.authority.responder.set_all(&Behaviour::Good);
    one.start_again();
    all_stapled(&mut one, &first);
    let new = wait_for("the new one in the first HAProxy", PATIENCE, || {
        stapled_bytes(first.port(), NAMES[0]).filter(|new| Some(new) != old.as_ref())
    });
    wait_for("the new one in the second HAProxy", PATIENCE, || {
        two.status()?;
        (stapled_bytes(second.port(), NAMES[0]).as_ref() == Some(&new)).then_some(())
    });
}

#[test]
fn two_sidecars_killed_at_random_tear_nothing_and_lose_nothing() {
    let fleet = Fleet::new();
    // Signed anew for every request, and so old already that every start asks again and writes what comes.
    let aged = Behaviour::edited(|response| {
        let hours = SignedDuration::from_hours;
        response.singles[0].this_update -= hours(6);
        let end = response.singles[0].this_update + hours(10);
        response.singles[0].next_update = Some(end);
    });
    fleet.authority.responder.set_all(&aged);
    let haproxies = [fleet.haproxy(), fleet.haproxy()];
    let mut sidecars = haproxies.each_ref().map(|haproxy| fleet.sidecar(haproxy));
    for (sidecar, haproxy) in sidecars.iter_mut().zip(&haproxies) {
        all_stapled(sidecar, haproxy);
    }
    wait_for("everything to be kept", PATIENCE, || (fleet.look().len() == NAMES.len()).then_some(()));
    let before = fleet.requests();
    let (is_over, mut dice) = (AtomicBool::new(false), Dice::new(7));
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(fleet.look().len(), NAMES.len(), "a staple is lost");
                looks += 1;
            }
            looks
        });
        for _ in 0..KILLS {
            let one = dice.below(2);
            std::thread::sleep(Duration::from_millis(u64::try_from(dice.below(250)).unwrap()));
            sidecars[one].process().kill();
            if watch.is_finished() {
                break;
            }
            sidecars[one].start_again();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(watch.join().unwrap() > KILLS);
    });
    assert!(fleet.requests() > before + KILLS / 2, "they had something to write");
    for (sidecar, haproxy) in sidecars.iter_mut().zip(&haproxies) {
        all_stapled(sidecar, haproxy);
        assert!(!sidecar.log().contains("panicked"));
    }
    // What the killed ones left behind goes with the next start's first look, and no journal stays.
    for sidecar in &mut sidecars {
        assert!(sidecar.stop().success());
    }
    let mut last = fleet.sidecar(&haproxies[0]);
    all_stapled(&mut last, &haproxies[0]);
    wait_for("nothing left over", PATIENCE, || {
        let journals = fleet.look().len() == NAMES.len();
        (journals && !has_temporary(fleet.state.path())).then_some(())
    });
    assert!(haproxies.iter().all(|haproxy| haproxy.command("abort ssl cert /").contains("No ongoing")));
}

#[test]
fn sidecars_with_different_certificates_leave_each_others_alone() {
    let fleet = Fleet::new();
    let (all, some) = (fleet.haproxy(), haproxy_with_good(&fleet.authority).start());
    let mut one = fleet.sidecar(&all);
    all_stapled(&mut one, &all);
    let mut other = stapler_for(&some).env("STAPLER_STATE_DIR", fleet.state.path()).start();
    other.wait_until("its own to be stapled", |status| {
        certificate(status, "good.pem").is_some_and(|row| row["state"] == "stapled")
    });
    let kept = std::fs::read_dir(fleet.state.path()).unwrap().count();
    assert_eq!(kept, NAMES.len() + 1);
}
