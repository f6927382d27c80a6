//! The way to a CA: proxies, https, several responders, overrides, redirects, the form of the URL.

use std::process::Command;

use jiff::SignedDuration;

use super::support::haproxy::Haproxy;
use super::support::pki::Identity;
use super::support::process::run_well;
use super::support::responder::{Behaviour, Responder};
use super::support::stapler::Builder;
use super::support::{PATIENCE, free_port, now, wait_for};
use super::{Ca, assert_genuine, stapler_for, wait_for_staple, wait_for_state};

/// A name that no resolver knows (RFC 6761): whoever reaches it had help.
const NOWHERE: &str = "http://ocsp.invalid";

fn site(leaf: &Identity) -> Haproxy {
    Haproxy::builder().file("site.pem", leaf.combined_pem()).start()
}

/// Starts the program and insists that the certificate gets a genuine staple.
fn assert_stapled(haproxy: &Haproxy, builder: Builder, leaf: &Identity) {
    let _stapler = builder.start();
    assert_genuine(&wait_for_staple(haproxy, leaf), leaf);
}

/// The request targets that a responder saw for a certificate.
fn targets(responder: &Responder, leaf: &Identity) -> Vec<String> {
    let received = responder.received().into_iter();
    received.filter(|one| one.serial == Some(leaf.serial())).map(|one| one.target).collect()
}

#[test]
fn a_proxy_from_the_environment_is_used_and_can_be_left_out() {
    let ca = Ca::new();
    let leaf = ca.known(ca.issuing.leaf("proxied.test").ocsp(NOWHERE).issue());
    // The proxy is the responder itself: it answers requests for any host.
    for (number, variable) in ["HTTP_PROXY", "http_proxy"].into_iter().enumerate() {
        let haproxy = site(&leaf);
        assert_stapled(&haproxy, stapler_for(&[&haproxy]).env(variable, ca.responder.url()), &leaf);
        assert_eq!(ca.responder.requests(&leaf), number + 1, "{variable}");
    }
    let haproxy = site(&leaf);
    let direct = stapler_for(&[&haproxy]).env("HTTP_PROXY", ca.responder.url()).env("NO_PROXY", "ocsp.invalid");
    let entry = wait_for_state(&mut direct.start(), "site.pem", "unstapled");
    assert_eq!(entry["trouble"]["kind"], "dns", "{entry:#}");
}

#[test]
fn an_https_responder_is_asked_where_its_own_ca_is_trusted() {
    let ca = Ca::new();
    let web = Identity::root("Web Root");
    let port = free_port();
    let front = Haproxy::builder().file("front.pem", web.leaf("localhost").issue().combined_pem());
    let bind = format!("127.0.0.1:{port} ssl crt {}", front.certs_dir().display());
    let responder = ca.responder.address();
    let _front = front.section(&format!("listen https\n  mode http\n  bind {bind}\n  server ca {responder}\n")).start();
    let leaf = ca.known(ca.issuing.leaf("secure.test").ocsp(&format!("https://localhost:{port}")).issue());
    let haproxy = site(&leaf);
    let entry = wait_for_state(&mut stapler_for(&[&haproxy]).start(), "site.pem", "unstapled");
    assert_eq!(entry["trouble"]["kind"], "connect", "{entry:#}");
    assert!(entry["trouble"]["detail"].as_str().unwrap().contains("certificate verify failed"), "{entry:#}");
    assert_eq!(ca.responder.requests(&leaf), 0);
    let trusted = ca.dir.path().join("web.pem");
    std::fs::write(&trusted, web.pem()).unwrap();
    assert_stapled(&haproxy, stapler_for(&[&haproxy]).env("SSL_CERT_FILE", trusted), &leaf);
}

#[test]
fn the_cas_of_the_system_are_read_for_an_https_responder_only() {
    let ca = Ca::new();
    // Nobody writes to it: whoever reads it waits for ever.
    let cas = ca.dir.path().join("cas");
    run_well(Command::new("mkfifo").arg(&cas));
    let plain = ca.leaf("plain.test");
    let secure = ca.known(ca.issuing.leaf("secure.test").ocsp("https://127.0.0.1:9").issue());
    let haproxy =
        Haproxy::builder().file("plain.pem", plain.combined_pem()).file("secure.pem", secure.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).env("SSL_CERT_FILE", &cas).env("STAPLER_TIMEOUT", "2s").start();
    wait_for_state(&mut stapler, "plain.pem", "stapled");
    let entry = wait_for_state(&mut stapler, "secure.pem", "unstapled");
    assert_eq!(entry["trouble"]["kind"], "timeout", "{entry:#}");
    assert!(stapler.stop().success(), "{}", stapler.log());
}

#[test]
fn every_responder_is_asked_in_the_order_of_the_certificate() {
    let ca = Ca::new();
    let dead = "http://127.0.0.1:9";
    let leaf = ca.known(ca.issuing.leaf("two.test").ocsp(dead).ocsp(&ca.responder.url()).issue());
    let haproxy = site(&leaf);
    let mut stapler = stapler_for(&[&haproxy]).start();
    wait_for_state(&mut stapler, "site.pem", "stapled");
    let metrics = stapler.get("/metrics").text();
    for responder in ["127.0.0.1:9", ca.responder.url().trim_start_matches("http://")] {
        let one = format!("haproxy_stapler_ocsp_requests_total{{responder=\"{responder}\"}} 1");
        assert!(metrics.contains(&one), "{one}");
    }
}

#[test]
fn a_responder_that_hangs_leaves_time_for_the_next_one() {
    let ca = Ca::new();
    let hung = Responder::start();
    let leaf = ca.known(ca.issuing.leaf("patient.test").ocsp(&hung.url()).ocsp(&ca.responder.url()).issue());
    hung.register(&leaf, leaf.issuer());
    hung.set(&leaf, Behaviour::Hang);
    let haproxy = site(&leaf);
    assert_stapled(&haproxy, stapler_for(&[&haproxy]).env("STAPLER_TIMEOUT", "2s"), &leaf);
}

#[test]
fn a_responder_may_be_asked_elsewhere_or_not_at_all() {
    let ca = Ca::new();
    let leaf = ca.known(ca.issuing.leaf("elsewhere.test").ocsp(&format!("{NOWHERE}/ocsp")).issue());
    let haproxy = site(&leaf);
    let instead = format!("ocsp.invalid={}/mirror/", ca.responder.url());
    assert_stapled(&haproxy, stapler_for(&[&haproxy]).env("STAPLER_RESPONDERS", instead), &leaf);
    assert!(targets(&ca.responder, &leaf)[0].starts_with("/mirror/M"), "{:?}", targets(&ca.responder, &leaf));
    let mut off = stapler_for(&[&haproxy]).env("STAPLER_RESPONDERS", "ocsp.invalid=off").start();
    let entry = wait_for_state(&mut off, "site.pem", "no_responder");
    assert!(entry["detail"].as_str().unwrap().contains("STAPLER_RESPONDERS"), "{entry:#}");
}

#[test]
fn the_request_is_appended_to_the_path_after_one_slash_and_escaped() {
    let ca = Ca::new();
    for path in ["", "/", "/ocsp", "/ocsp/", "/a/b"] {
        let leaf = ca.known(ca.issuing.leaf("path.test").ocsp(&format!("{}{path}", ca.responder.url())).issue());
        let haproxy = site(&leaf);
        assert_stapled(&haproxy, stapler_for(&[&haproxy]), &leaf);
        let target = targets(&ca.responder, &leaf).remove(0);
        let request = target.strip_prefix(path.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
        let request = request.unwrap_or_else(|| panic!("{path:?} became {target:?}"));
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '%';
        assert!(request.starts_with('M') && request.chars().all(plain), "{target:?}");
    }
}

#[test]
fn a_few_redirects_are_followed_and_a_loop_is_not() {
    let ca = Ca::new();
    let mirror = Responder::start();
    let moved = ca.leaf("moved.test");
    mirror.register(&moved, moved.issuer());
    let circling = ca.leaf("circling.test");
    let to = |url: String| Behaviour::Http(307, vec![("location".to_owned(), url)], Vec::new());
    ca.responder.set(&moved, Behaviour::ByMethod(Box::new(to(mirror.url())), Box::new(to(mirror.url()))));
    ca.responder.set(&circling, to(format!("{}/again", ca.responder.url())));
    // A GET that is redirected loses its request; the POST takes it along (RFC 9110 section 15.4.8).
    let haproxy = Haproxy::builder()
        .file("moved.pem", moved.combined_pem())
        .file("circling.pem", circling.combined_pem())
        .start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    wait_for_state(&mut stapler, "moved.pem", "stapled");
    assert_genuine(&wait_for_staple(&haproxy, &moved), &moved);
    assert!(mirror.requests(&moved) > 0);
    let entry = wait_for_state(&mut stapler, "circling.pem", "unstapled");
    assert!(["redirect", "http_status"].contains(&entry["trouble"]["kind"].as_str().unwrap()), "{entry:#}");
}

#[test]
fn what_is_in_hand_is_named_and_not_sent_again() {
    let ca = Ca::new();
    let leaf = ca.leaf("tagged.test");
    // Its refresh is due at once, past half of its life and all of the jitter, and the CA has nothing newer.
    let hours = SignedDuration::from_hours;
    let aged = Behaviour::GoodAt(now() - hours(7), hours(10));
    ca.responder.set(&leaf, aged.with("etag", "W/\"aged\"").with("cache-control", "max-age=5"));
    let haproxy = site(&leaf);
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_REFRESH_INTERVAL", "10s").start();
    let named = || {
        let received = ca.responder.received().into_iter();
        received.map(|one| one.headers.get("if-none-match").cloned()).collect::<Vec<_>>()
    };
    wait_for("another question", PATIENCE, || (named().len() > 1).then_some(()));
    assert_eq!(named()[..2], [None, Some("W/\"aged\"".parse().unwrap())]);
    // What is newer has another name, and comes.
    let aged = wait_for_staple(&haproxy, &leaf);
    ca.responder.set(&leaf, Behaviour::Good.with("etag", "\"new\""));
    wait_for("what is newer", PATIENCE, || (wait_for_staple(&haproxy, &leaf) != aged).then_some(()));
    let entry = wait_for_state(&mut stapler, "site.pem", "stapled");
    assert_eq!(entry["failures"], 0, "{entry:#}");
    let metrics = stapler.get("/metrics").text();
    assert!(!metrics.contains("haproxy_stapler_ocsp_request_failures_total{"), "a 304 is no failure");
}
