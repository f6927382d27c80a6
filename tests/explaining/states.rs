//! One certificate in each state that a pass can end in.

use std::fs;

use jiff::SignedDuration;
use x509_ocsp::OcspResponseStatus;

use crate::site::{Authority, haproxy_with_good, stapler_for};
use crate::support::haproxy::Haproxy;
use crate::support::now;
use crate::support::responder::Behaviour;
use crate::support::stapler::certificate;
use crate::{Explained, explain};

fn state<'a>(explained: &'a Explained, name: &str) -> &'a str {
    certificate(&explained.json, name).unwrap()["state"].as_str().unwrap()
}

/// A life of a week, of which more than three quarters are over: it is due, wherever its jitter puts it.
fn due() -> Behaviour {
    Behaviour::GoodAt(now() - SignedDuration::from_hours(130), SignedDuration::from_hours(168))
}

#[test]
fn each_state_has_its_way_and_its_remedy() {
    let authority = Authority::start();
    let root = &authority.root;
    let with = |name: &str, behaviour: Behaviour| {
        let leaf = authority.leaf(&format!("{name}.test"));
        authority.responder.set(&leaf, behaviour);
        leaf
    };
    let failing = with("failing", due());
    let revoked = with("revoked", Behaviour::Revoked);
    let unknown = with("unknown", Behaviour::Unknown);
    let refusing = with("refusing", Behaviour::Refuses(OcspResponseStatus::Unauthorized));
    let hanging = with("hanging", Behaviour::Hang);
    let forged = with("forged", Behaviour::edited(|response| response.break_signature = true));
    let url = authority.responder.url();
    let issue = |draft: crate::support::pki::Draft| draft.issue();
    let silent = issue(root.leaf("silent.test"));
    let off = issue(root.leaf("off.test").ocsp("http://switched-off.test"));
    let orphan = issue(root.leaf("orphan.test").ocsp(&url));
    let lost = issue(root.leaf("lost.test").ocsp(&url).ca_issuers(&format!("{url}/nothing.der")));
    let expired = issue(root.leaf("expired.test").ocsp(&url).expired());
    let excluded = authority.leaf("excluded.test");
    let mut builder = haproxy_with_good(&authority);
    for leaf in [&failing, &revoked, &unknown, &refusing, &hanging, &forged, &silent, &off, &expired, &excluded] {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.combined_pem());
    }
    for leaf in [&orphan, &lost] {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.chainless_pem());
    }
    let haproxy = builder.start();
    fs::write(haproxy.certificate("unused.test.pem"), authority.leaf("unused.test").combined_pem()).unwrap();
    fs::write(haproxy.certificate("broken.test.pem"), "nothing").unwrap();
    let stapler =
        stapler_for(&haproxy).env("STAPLER_EXCLUDE", "excluded.*").env("STAPLER_RESPONDERS", "switched-off.test=off");
    // It has a staple by now, and cannot have the next.
    let _ = stapler.run(&["once"]);
    authority.responder.set(&failing, Behaviour::Http(500, Vec::new(), Vec::new()));

    let seen = explain(&stapler, &[]);
    assert_eq!(seen.code, 1);
    for (name, wanted, step, reason, remedy) in [
        ("failing", "refresh_failing", "fetched", "http_status", "asked again by itself"),
        ("revoked", "revoked", "verified", "revoked", "Replace the certificate."),
        ("unknown", "unknown", "verified", "cert_status_unknown", "Ask the CA why it does not know"),
        ("refusing", "unstapled", "verified", "unauthorized", "ask the CA"),
        ("hanging", "unstapled", "fetched", "timeout", "HTTP_PROXY"),
        ("forged", "unstapled", "verified", "signature_invalid", "a strict client would refuse"),
        ("orphan", "no_issuer", "issuer", "no_url", "after the leaf in the PEM file"),
        ("lost", "no_issuer", "issuer", "http_status", "after the leaf in the PEM file"),
        ("expired", "expired", "parsed", "expired", "Renew the certificate."),
        ("broken", "unreadable", "parsed", "no_certificate", "one PEM file"),
    ] {
        let name = format!("/{name}.test.pem");
        assert_eq!(state(&seen, &name), wanted, "{name}");
        seen.assert_stops(&name, step, reason, remedy);
    }
    for (name, wanted, step, outcome, words) in [
        ("/good.pem", "stapled", "installed", "done", "served by "),
        ("/failing.test.pem", "refresh_failing", "installed", "done", "served by "),
        ("/revoked.test.pem", "revoked", "installed", "done", "served by "),
        ("/silent.test.pem", "no_responder", "responder", "skipped", "it names no OCSP responder"),
        ("/off.test.pem", "no_responder", "responder", "skipped", "STAPLER_RESPONDERS"),
        ("/unused.test.pem", "not_loaded", "entry", "skipped", "no HAProxy has loaded it"),
        ("/excluded.test.pem", "excluded", "parsed", "done", "STAPLER_EXCLUDE"),
    ] {
        assert_eq!(state(&seen, name), wanted, "{name}");
        let finding = seen.step(name, step);
        assert_eq!(finding["outcome"], outcome, "{name}: {finding}");
        assert!(finding["evidence"].as_str().unwrap().contains(words), "{name}: {finding}");
    }
    // What was fetched before goes on, and says until when.
    assert!(seen.step("/failing.test.pem", "fetched")["evidence"].as_str().unwrap().contains("last tried at "));
    let way = seen.outcomes("/silent.test.pem");
    assert_eq!((way[3], way[4], way[10]), ("skipped", "not_reached", "not_reached"));
    // Worst first, and every step of every one.
    let names: Vec<&str> = seen.text.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(names.len(), 15, "{names:#?}");
    assert!(names[0].contains(": unstapled, ") && names[14].contains(": stapled, "), "{names:#?}");
    assert_eq!(seen.text.lines().filter(|line| line.starts_with("  handshake ")).count(), 15);
}

#[test]
fn a_good_way_is_good_from_the_file_to_the_handshake() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let reads_back = haproxy.command("help").contains("show ssl ocsp-response");
    let probes = format!("127.0.0.1:{}/good.test", haproxy.port());
    let stapler = stapler_for(&haproxy).env("STAPLER_PROBES", &probes);
    let seen = explain(&stapler, &["good.pem"]);
    assert_eq!(seen.code, 0, "{}", seen.text);
    let expected =
        STEPS_DONE.map(|(step, outcome)| if step == "read_back" && !reads_back { "skipped" } else { outcome });
    assert_eq!(seen.outcomes("/good.pem"), expected, "{}", seen.text);
    let evidence = seen.step("/good.pem", "handshake")["evidence"].as_str().unwrap();
    assert!(evidence.contains(&probes) && evidence.contains("stapled, good until"), "{evidence}");
    assert_eq!(seen.json["probes"][0]["sight"], "good");
    assert_eq!(seen.text.lines().filter(|line| line.contains("  ok ")).count(), 11 - usize::from(!reads_back));
}

const STEPS_DONE: [(&str, &str); 11] = [
    ("file", "done"),
    ("parsed", "done"),
    ("issuer", "done"),
    ("responder", "done"),
    ("fetched", "done"),
    ("verified", "done"),
    ("kept", "done"),
    ("entry", "done"),
    ("installed", "done"),
    ("read_back", "done"),
    ("handshake", "done"),
];

/// Everything is as it should be, except for what a client gets: another process serves on the port that was named.
#[test]
fn a_handshake_that_shows_something_else_fails_the_last_step() {
    let authority = Authority::start();
    let good = authority.leaf("good.test");
    let haproxy = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    let other = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    let stapler = stapler_for(&haproxy).env("STAPLER_PROBES", format!("127.0.0.1:{}/good.test", other.port()));
    let seen = explain(&stapler, &[]);
    assert_eq!((seen.code, state(&seen, "/good.pem")), (1, "stapled"), "{}", seen.text);
    seen.assert_stops("/good.pem", "handshake", "not_stapled", "explain` says where");
    // A frontend that shows other certificates says nothing about this one.
    let plain = Haproxy::builder().file("plain.pem", authority.leaf("plain.test").combined_pem()).start();
    let stapler = stapler_for(&haproxy).env("STAPLER_PROBES", format!("127.0.0.1:{}", plain.port()));
    let seen = explain(&stapler, &[]);
    assert_eq!((seen.code, &seen.step("/good.pem", "handshake")["outcome"]), (0, &"skipped".into()), "{}", seen.text);
}

#[test]
fn a_haproxy_that_cannot_be_worked_with_is_the_step_where_it_stops() {
    let authority = Authority::start();
    let good = authority.leaf("good.test");
    let operator = Haproxy::builder().file("good.pem", good.combined_pem()).level("operator").start();
    let seen = explain(&stapler_for(&operator), &[]);
    assert_eq!(seen.code, 1);
    seen.assert_stops("/good.pem", "entry", "level", "level admin");
    let mut dead = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    dead.kill();
    let seen = explain(&stapler_for(&dead), &[]);
    seen.assert_stops("/good.pem", "entry", "refused", "start HAProxy");
    // Somebody else's transaction keeps it out, and is left alone.
    let busy = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    let name = busy.certificate("good.pem").display().to_string();
    busy.command(&format!("set ssl cert {name} <<\n{}", fs::read_to_string(&name).unwrap()));
    let seen = explain(&stapler_for(&busy), &[]);
    seen.assert_stops("/good.pem", "installed", "busy", "abort ssl cert");
    assert!(busy.command("show ssl cert").contains(&format!("*{name}")), "the transaction is somebody else's");
}

#[test]
fn what_the_disk_refuses_is_told_and_ends_nothing() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let not_a_directory = haproxy.dir().join("state");
    fs::write(&not_a_directory, "in the way").unwrap();
    let seen = explain(&stapler_for(&haproxy).env("STAPLER_STATE_DIR", &not_a_directory), &[]);
    assert_eq!(seen.code, 0, "{}", seen.text);
    seen.assert_stops("/good.pem", "kept", "not_a_file", "what stands in the way");
    assert_eq!(seen.step("/good.pem", "installed")["outcome"], "done");
    let seen = explain(&stapler_for(&haproxy).env("STAPLER_OCSP_FILES", "never"), &[]);
    let kept = seen.step("/good.pem", "kept");
    assert_eq!(kept["outcome"], "done");
    assert!(kept["evidence"].as_str().unwrap().contains("STAPLER_OCSP_FILES=never"), "{kept}");
}
