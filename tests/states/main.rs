//! One site with a certificate in every state there is, and one truth about each of them: in /metrics, in /healthz, in
//! /status, from `explain` in words and as data, on the status page, and on the wire.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test in real time"
)]

#[path = "../support/everything.rs"]
mod everything;
#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;

mod page;
mod truth;

use std::fs;

use jiff::SignedDuration;
use serde_json::Value;
use x509_ocsp::OcspResponseStatus;

use crate::everything::samples;
use crate::page::Page;
use crate::site::{Authority, stapler_for, wait_for_state};
use crate::support::client::{handshake, openssl_judges, s_client};
use crate::support::haproxy::{Haproxy, is_before};
use crate::support::now;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::stapler::{Stapler, certificate};
use crate::truth::{Said, explained_in_words, of_healthz, of_metrics, of_row, steps};

/// A state; what the CA says; the step where its way stops, and why; whether a staple is served; a word of the remedy.
struct Expected {
    state: &'static str,
    ocsp_status: &'static str,
    stops: Option<(&'static str, &'static str)>,
    is_served: bool,
    remedy: &'static str,
}

const fn expected(
    state: &'static str,
    ocsp_status: &'static str,
    stops: Option<(&'static str, &'static str)>,
    is_served: bool,
    remedy: &'static str,
) -> Expected {
    Expected { state, ocsp_status, stops, is_served, remedy }
}

/// The whole contract, worst first.
const STATES: [Expected; 13] = [
    expected("unstapled", "none", Some(("verified", "unauthorized")), false, "ask the CA"),
    expected("revoked", "revoked", Some(("verified", "revoked")), true, "Replace the certificate"),
    expected("unknown", "unknown", Some(("verified", "cert_status_unknown")), false, "Ask the CA why it does not know"),
    expected("refresh_failing", "good", Some(("fetched", "http_status")), true, "asked again by itself"),
    expected("no_issuer", "none", Some(("issuer", "no_url")), false, "after the leaf in the PEM file"),
    expected("unreadable", "none", Some(("parsed", "no_certificate")), false, "one PEM file"),
    expected("expired", "none", Some(("parsed", "expired")), false, "Renew the certificate"),
    expected("pending", "none", None, false, ""),
    expected("not_loaded", "good", None, false, "name it on a bind line"),
    expected("native_update", "good", None, true, ""),
    expected("no_responder", "none", None, false, ""),
    expected("excluded", "none", None, false, ""),
    expected("stapled", "good", None, true, ""),
];

/// A life of a week, of which more than three quarters are over: it is due, wherever its jitter puts it.
fn due() -> Behaviour {
    Behaviour::GoodAt(now() - SignedDuration::from_hours(130), SignedDuration::from_hours(168))
}

fn file(state: &str) -> String {
    format!("{state}.pem")
}

fn server_name(state: &str) -> String {
    format!("{}.test", state.replace('_', "-"))
}

/// Everything at work, each certificate in the state that its file is named after.
struct Site {
    authority: Authority,
    haproxy: Haproxy,
    stapler: Stapler,
    leaves: Vec<(&'static str, Identity)>,
}

impl Site {
    fn start() -> Self {
        let authority = Authority::start();
        let url = authority.responder.url();
        let updates_itself = !is_before(&Haproxy::builder().version(), 2, 8);
        let leaf = |state: &'static str| {
            let draft = authority.root.leaf(&server_name(state));
            let leaf = match state {
                "no_responder" => draft.issue(),
                "expired" => draft.ocsp(&url).expired().issue(),
                _ => draft.ocsp(&url).issue(),
            };
            authority.responder.register(&leaf, &authority.root);
            (state, leaf)
        };
        let present = STATES.iter().filter(|each| updates_itself || each.state != "native_update");
        let leaves: Vec<(&'static str, Identity)> = present.map(|each| leaf(each.state)).collect();
        let behave = |state: &str, behaviour: Behaviour| {
            let (_, leaf) = leaves.iter().find(|(each, _)| *each == state).unwrap();
            authority.responder.set(leaf, behaviour);
        };
        behave("unstapled", Behaviour::Refuses(OcspResponseStatus::Unauthorized));
        behave("revoked", Behaviour::Revoked);
        behave("unknown", Behaviour::Unknown);
        behave("refresh_failing", due());
        behave("pending", Behaviour::Http(500, Vec::new(), Vec::new()));
        let haproxy = haproxy(&leaves);
        // What HAProxy runs, and its file went bad; and what it never saw.
        fs::write(haproxy.certificate("unreadable.pem"), "nothing").unwrap();
        let (_, spare) = leaves.iter().find(|(state, _)| *state == "not_loaded").unwrap();
        fs::write(haproxy.certificate("not_loaded.pem"), spare.combined_pem()).unwrap();
        // Nothing but the one that hangs takes longer than a moment.
        let builder = stapler_for(&haproxy).env("STAPLER_EXCLUDE", "excluded.*").env("STAPLER_TIMEOUT", "2min");
        // One has a staple by now and cannot have the next; another has none, and nobody knows yet whether it will.
        let _ = builder.run(&["once"]);
        behave("refresh_failing", Behaviour::Http(500, Vec::new(), Vec::new()));
        behave("pending", Behaviour::Hang);
        let mut stapler = builder.start();
        for (state, _) in &leaves {
            wait_for_state(&mut stapler, &format!("/{}", file(state)), state);
        }
        if updates_itself {
            stapler.wait_until("HAProxy's own staple to be seen", |status| {
                certificate(status, "/native_update.pem").is_some_and(|entry| entry["ocsp_status"] == "good")
            });
        }
        stapler.wait_until("the one that no HAProxy has to be asked about", |status| {
            certificate(status, "/not_loaded.pem").is_some_and(|entry| entry["ocsp_status"] == "good")
        });
        Self { authority, haproxy, stapler, leaves }
    }

    fn name(&self, state: &str) -> String {
        self.haproxy.certificate(&file(state)).display().to_string()
    }

    /// What the command says about one certificate, as data and in words.
    fn explain(&self, state: &str) -> [Said; 2] {
        let name = self.name(state);
        let out = |arguments: &[&str]| String::from_utf8(self.stapler.run(arguments).stdout).unwrap();
        let data: Value = serde_json::from_str(&out(&["explain", &name, "--json"])).unwrap();
        assert_eq!(data["certificates"].as_array().unwrap().len(), 1, "{data}");
        [of_row(&data["certificates"][0]), explained_in_words(&name, &out(&["explain", &name]))]
    }

    /// What a TLS client gets: the state of the staple and its end, if there is one.
    fn wire(&self, leaf: &Identity) -> Option<(String, jiff::Timestamp)> {
        let shown = handshake(self.haproxy.port(), &leaf.name(), "ECDSA+SHA256").unwrap();
        if shown.certificate != leaf.der() {
            return None;
        }
        let seen = s_client(self.haproxy.port(), &leaf.name());
        assert_eq!(seen.is_some(), shown.staple.is_some(), "{leaf:?}");
        if let Some(staple) = shown.staple {
            let (fine, words) = openssl_judges(&staple, leaf);
            assert!(fine, "{words}");
        }
        seen.map(|seen| (seen.cert_status, seen.next_update.unwrap()))
    }
}

/// It runs all that it can have; one of them it updates by itself where it can do that, since 2.8.
fn haproxy(leaves: &[(&'static str, Identity)]) -> Haproxy {
    let mut builder = Haproxy::builder();
    let list = builder.certs_dir().with_file_name("list");
    let mut lines = String::new();
    for (state, leaf) in leaves.iter().filter(|(state, _)| *state != "not_loaded") {
        let pem = if *state == "no_issuer" { leaf.chainless_pem() } else { leaf.combined_pem() };
        builder = builder.file(&file(state), pem);
        let update = if *state == "native_update" { " [ocsp-update on]" } else { "" };
        lines.push_str(&format!("{}{update}\n", builder.certs_dir().join(file(state)).display()));
    }
    fs::write(&list, lines).unwrap();
    builder.bind(&format!("crt-list {}", list.display())).start()
}

#[test]
fn every_state_is_the_same_truth_wherever_one_looks() {
    let site = Site::start();
    let stapler = &site.stapler;
    let present: Vec<&str> = site.leaves.iter().map(|(state, _)| *state).collect();
    let metrics = samples(&stapler.get("/metrics").text());
    let healthz = stapler.get("/healthz").json();
    let status = stapler.get("/status").json();
    let page = Page::read(&stapler.get("/").text());

    // The order, worst first, and the numbers.
    let order = |report: &Value| -> Vec<String> {
        let rows = report["certificates"].as_array().unwrap();
        rows.iter().map(|row| row["certificate"].as_str().unwrap().to_owned()).collect()
    };
    let names: Vec<String> = present.iter().map(|state| site.name(state)).collect();
    assert_eq!(order(&healthz), names);
    assert_eq!(order(&status), names);
    assert_eq!(page.names(), names);
    for Expected { state, .. } in &STATES {
        let count = u64::from(present.contains(state));
        let gauge: Vec<f64> = metrics
            .iter()
            .filter(|one| one.name == "haproxy_stapler_certificates" && one.labels["state"] == *state)
            .map(|one| one.value)
            .collect();
        assert_eq!(gauge, [f64::from(u8::from(count == 1))], "{state}");
        assert_eq!((&healthz["states"][state], &status["states"][state]), (&count.into(), &count.into()), "{state}");
        assert_eq!(page.count(state), count, "{state}");
    }
    assert_eq!((&healthz["status"], &status["status"]), (&"degraded".into(), &"degraded".into()));
    assert_eq!(page.headline, "Needs attention");

    for expected in STATES.iter().filter(|each| present.contains(&each.state)) {
        let (state, name) = (expected.state, site.name(expected.state));
        let row = certificate(&status, &format!("/{}", file(state))).unwrap();
        let in_status = of_row(row);
        in_status.assert_is(state, expected);
        in_status.assert_agrees(&of_metrics(&name, &metrics), state, "/metrics");
        in_status.assert_agrees(&of_healthz(certificate(&healthz, &name).unwrap()), state, "/healthz");
        in_status.assert_agrees(&page.row(&name), state, "the page");
        if state != "pending" {
            let [data, words] = site.explain(state);
            in_status.assert_agrees(&data, state, "explain --json");
            in_status.assert_agrees(&words, state, "explain");
        }

        let (_, leaf) = site.leaves.iter().find(|(each, _)| *each == state).unwrap();
        let wire = site.wire(leaf);
        assert_eq!(wire.is_some(), expected.is_served, "{state}: {wire:?}");
        if let Some((cert_status, next_update)) = wire {
            assert_eq!(cert_status, expected.ocsp_status, "{state}");
            assert_eq!(in_status.next_update, Some(Some(next_update)), "{state}");
            assert_eq!(in_status.served_until, Some(vec![next_update]), "{state}");
        }
    }
    assert_eq!(site.authority.responder.requests(&site.leaves[0].1) > 0, present[0] == "unstapled");
}

/// `explain` tries by itself, so it comes to an end where the daemon still waits: at the very same step.
#[test]
fn what_the_daemon_waits_for_is_where_explain_stops() {
    let site = Site::start();
    let status = site.stapler.status().unwrap();
    let row = certificate(&status, "/pending.pem").unwrap();
    assert_eq!((&row["state"], &row["trouble"]), (&"pending".into(), &Value::Null), "{row}");
    let waiting: Vec<&Value> = steps(row).iter().filter(|step| step["outcome"] == "waiting").collect();
    assert_eq!(waiting[0]["step"], "fetched", "{row}");
    let impatient = stapler_for(&site.haproxy).env("STAPLER_STATE_DIR", site.stapler.state_dir());
    let told = impatient.run(&["explain", "pending.pem", "--json"]);
    assert_eq!(told.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let said = of_row(&told["certificates"][0]);
    assert_eq!(said.state, "unstapled");
    assert_eq!(said.stops, Some(Some(("fetched".to_owned(), Some("timeout".to_owned())))), "{told}");
    assert!(said.remedy.unwrap().is_some());
    assert_eq!(site.stapler.state("/pending.pem").as_deref(), Some("pending"));
}
