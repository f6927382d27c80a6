//! Certificates that HAProxy (2.8 and later) updates by itself: watched and reported, never touched. Before 2.8 these
//! tests see that HAProxy knows nothing of it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test in real time")]

#[path = "support/site.rs"]
mod site;
#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;

use serde_json::Value;
use site::{Authority, metric, stapler_for, wait_for_state};
use support::client::{openssl_judges, stapled_bytes};
use support::haproxy::{Haproxy, is_before};
use support::pki::Identity;
use support::responder::Behaviour;
use support::stapler::Stapler;
use support::{PATIENCE, wait_for};

/// A HAProxy that updates native.pem by itself, and ours.pem not.
struct Scene {
    authority: Authority,
    native: Identity,
    ours: Identity,
    haproxy: Haproxy,
    list: PathBuf,
}

impl Scene {
    /// None before 2.8, which refuses such a crt-list.
    fn new(native: impl FnOnce(&Authority) -> (Identity, String)) -> Option<Self> {
        let authority = Authority::start();
        let (native, pem) = native(&authority);
        let ours = authority.leaf("ours.test");
        let builder = Haproxy::builder().file("native.pem", pem).file("ours.pem", ours.combined_pem());
        let list = builder.certs_dir().with_file_name("list");
        let write = |update: &str| {
            let path = |name: &str| list.with_file_name("certs").join(name).display().to_string();
            std::fs::write(&list, format!("{}{update}\n{}\n", path("native.pem"), path("ours.pem"))).unwrap();
        };
        write("");
        let mut haproxy = builder.bind(&format!("crt-list {}", list.display())).start();
        write(" [ocsp-update on]");
        if is_before(&haproxy.version(), 2, 8) {
            let (fine, words) = haproxy.check();
            assert!(!fine && words.contains("ocsp-update"), "{words}");
            return None;
        }
        haproxy.restart();
        Some(Self { authority, native, ours, haproxy, list })
    }

    fn good() -> Option<Self> {
        Self::new(|authority| {
            let leaf = authority.leaf("native.test");
            let pem = leaf.combined_pem();
            (leaf, pem)
        })
    }

    fn stapler(&self) -> Stapler {
        stapler_for(&self.haproxy).start()
    }

    /// Has HAProxy fetch the response now.
    fn update(&self) {
        let path = self.haproxy.certificate("native.pem");
        self.haproxy.command(&format!("update ssl ocsp-response {}", path.display()));
    }

    fn set(&self, behaviour: Behaviour) {
        self.authority.responder.set(&self.native, behaviour);
    }

    /// Whoever asked about the native one was HAProxy, and there is no file of ours beside it.
    fn assert_untouched(&self) {
        for received in self.authority.responder.received() {
            if received.serial == Some(self.native.serial()) {
                let agent = received.headers.get("user-agent").unwrap().to_str().unwrap();
                assert_eq!(agent, "HAProxy", "only HAProxy asks about it");
            }
        }
        assert!(!self.haproxy.certificate("native.pem.ocsp").exists());
    }
}

/// The entry of the native certificate, once it is in this state and served or not.
fn wait_for_native(stapler: &mut Stapler, state: &str, served: bool) -> Value {
    let status = stapler.wait_until(&format!("native.pem to be {state}, served: {served}"), |status| {
        let entry = support::stapler::certificate(status, "/native.pem");
        entry.is_some_and(|entry| {
            entry["state"] == state && entry["served"].as_array().is_some_and(|list| list.is_empty() != served)
        })
    });
    support::stapler::certificate(&status, "/native.pem").unwrap().clone()
}

/// What became of one step of its way.
fn outcome<'a>(entry: &'a Value, step: &str) -> &'a str {
    let steps = entry["steps"].as_array().unwrap();
    steps.iter().find(|each| each["step"] == step).unwrap()["outcome"].as_str().unwrap()
}

fn series(scene: &Scene, name: &str, more: &str) -> String {
    let path = scene.haproxy.certificate("native.pem");
    format!("haproxy_stapler_{name}{{certificate=\"{}\"{more}}}", path.display())
}

#[test]
#[ignore = "needs HAProxy 2.8: make matrix"]
fn what_haproxy_updates_is_shown_and_its_failures_are_told() {
    let Some(mut scene) = Scene::good() else { return };
    let mut stapler = scene.stapler();
    let entry = wait_for_native(&mut stapler, "native_update", true);
    assert_eq!((&entry["ocsp_status"], &entry["trouble"]), (&"good".into(), &Value::Null), "{entry:#}");
    assert!(entry["staple_age_seconds"].as_u64().is_some_and(|age| (60..300).contains(&age)), "{entry:#}");
    assert_eq!(entry["served"][0]["next_update"], entry["staple_next_update"]);
    assert!(entry["detail"].as_str().unwrap().contains("set 'ocsp-update off' to hand it over"), "{entry:#}");
    let way = ["fetched", "verified", "kept", "entry", "installed"].map(|step| outcome(&entry, step));
    assert_eq!(way, ["done", "done", "skipped", "done", "done"], "{entry:#}");
    wait_for_state(&mut stapler, "/ours.pem", "stapled");
    let response = stapled_bytes(scene.haproxy.port(), "native.test").unwrap();
    assert!(openssl_judges(&response, &scene.native).0);
    let text = stapler.get("/metrics").text();
    let socket = format!(",haproxy=\"{}\"", scene.haproxy.socket().display());
    assert!(metric(&text, &series(&scene, "staple_age_seconds", "")).is_some_and(|age| age >= 60.0), "{text}");
    let next = |name: &str, more: &str| metric(&text, &series(&scene, name, more)).unwrap();
    assert_eq!(
        next("served_staple_next_update_timestamp_seconds", &socket).to_bits(),
        next("staple_next_update_timestamp_seconds", "").to_bits()
    );
    assert!((next("ocsp_status", ",status=\"good\"") - 1.0).abs() < f64::EPSILON);
    scene.assert_untouched();

    // A CA that fails: what is held is served, and somebody is told.
    scene.set(Behaviour::Http(500, vec![], vec![]));
    scene.update();
    let entry = wait_for_native(&mut stapler, "refresh_failing", true);
    let detail = entry["detail"].as_str().unwrap();
    assert!(detail.contains("served until") && detail.contains("HTTP error"), "{detail}");
    assert!(detail.contains("set 'ocsp-update off' to hand it over"), "{detail}");
    assert_eq!((&entry["ocsp_status"], &entry["trouble"]["kind"]), (&"good".into(), &"native_update".into()));
    assert_eq!((outcome(&entry, "fetched"), outcome(&entry, "installed")), ("failed", "done"), "{entry:#}");
    assert_eq!(stapler.status().unwrap()["status"], "degraded");
    assert_eq!(stapled_bytes(scene.haproxy.port(), "native.test"), Some(response.clone()));

    // It recovers, and the newer response is seen.
    scene.set(Behaviour::Good);
    scene.update();
    let entry = wait_for_native(&mut stapler, "native_update", true);
    assert_eq!(stapler.status().unwrap()["status"], "ok");
    let renewed = stapled_bytes(scene.haproxy.port(), "native.test").unwrap();
    assert_ne!(renewed, response);
    let shown = wait_for("the newer response in /status", PATIENCE, || {
        let status = stapler.status()?;
        let now = support::stapler::certificate(&status, "/native.pem")?["staple"]["this_update"].clone();
        Some(now).filter(|now| *now != Value::Null)
    });
    assert!(shown.as_str() >= entry["staple"]["this_update"].as_str(), "{shown}");
    scene.assert_untouched();
    let lines = |stapler: &Stapler| {
        let log = stapler.log();
        log.lines().filter(|line| line.contains("state=\"native_update\"")).count()
    };
    assert_eq!(lines(&stapler), 2, "one line at the start and one after the recovery: {}", stapler.log());
    let installs = format!("haproxy_stapler_staple_installs_total{{haproxy=\"{}\"}}", scene.haproxy.socket().display());
    assert_eq!(
        metric(&stapler.get("/metrics").text(), &installs).map(f64::to_bits),
        Some(1.0_f64.to_bits()),
        "ours.pem"
    );

    // Handed over, it is ours.
    let list = std::fs::read_to_string(&scene.list).unwrap().replace("ocsp-update on", "ocsp-update off");
    std::fs::write(&scene.list, list).unwrap();
    scene.haproxy.reload();
    wait_for_state(&mut stapler, "/native.pem", "stapled");
    let handed_over = wait_for("a staple of ours", PATIENCE, || stapled_bytes(scene.haproxy.port(), "native.test"));
    assert!(openssl_judges(&handed_over, &scene.native).0);
    let ours = stapled_bytes(scene.haproxy.port(), "ours.test").unwrap();
    assert!(openssl_judges(&ours, &scene.ours).0);
}

#[test]
#[ignore = "needs HAProxy 2.8: make matrix"]
fn an_update_that_never_succeeded_leaves_it_unstapled() {
    let Some(mut scene) = Scene::good() else { return };
    scene.set(Behaviour::Http(500, vec![], vec![]));
    scene.haproxy.restart();
    let mut stapler = scene.stapler();
    let entry = wait_for_native(&mut stapler, "unstapled", false);
    let detail = entry["detail"].as_str().unwrap();
    assert!(detail.contains("HTTP error") && detail.contains("ocsp-update off"), "{detail}");
    assert_eq!((&entry["ocsp_status"], &entry["staple"]), (&"none".into(), &Value::Null));
    assert_eq!(stapled_bytes(scene.haproxy.port(), "native.test"), None);
    wait_for_state(&mut stapler, "/ours.pem", "stapled");
    let once = stapler.run(&["once"]);
    assert_eq!(once.status.code(), Some(1), "{}", String::from_utf8_lossy(&once.stdout));
    scene.set(Behaviour::Good);
    scene.update();
    wait_for_native(&mut stapler, "native_update", true);
    let once = stapler.run(&["once"]);
    assert_eq!(once.status.code(), Some(0), "{}", String::from_utf8_lossy(&once.stdout));
    scene.assert_untouched();
}

#[test]
#[ignore = "needs HAProxy 2.8: make matrix"]
fn a_response_that_haproxy_took_and_a_strict_client_refuses_is_told() {
    // HAProxy takes the signature of any certificate in the PEM file: here the root's for a leaf of the intermediate.
    let scene = Scene::new(|authority| {
        let issuing = authority.root.intermediate("Issuing CA");
        let leaf = issuing.leaf("native.test").ocsp(&authority.responder.url()).issue();
        authority.responder.register(&leaf, &authority.root);
        let pem = format!("{}{}", leaf.combined_pem(), authority.root.pem());
        (leaf, pem)
    });
    let Some(scene) = scene else { return };
    wait_for("HAProxy to serve it", PATIENCE, || stapled_bytes(scene.haproxy.port(), "native.test"));
    let mut stapler = scene.stapler();
    let entry = wait_for_native(&mut stapler, "unstapled", false);
    assert!(entry["detail"].as_str().unwrap().contains("of no use"), "{entry:#}");
    assert_eq!(entry["trouble"]["kind"], "responder_unauthorized", "{entry:#}");
    assert_eq!((outcome(&entry, "verified"), outcome(&entry, "installed")), ("failed", "not_reached"), "{entry:#}");
    assert_eq!((&entry["ocsp_status"], &entry["staple_age_seconds"]), (&"none".into(), &Value::Null));
    scene.assert_untouched();
}
