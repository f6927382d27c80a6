//! CAs that do not answer, or answer with something else.

use std::time::Duration;

use jiff::SignedDuration;
use x509_ocsp::OcspResponseStatus;

use crate::site::{
    Authority, haproxy_with_good, metric, stapler_for, wait_for_metric, wait_for_passes, wait_for_state,
};
use crate::support::client::stapled_bytes;
use crate::support::openssl_responder::OpensslResponder;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::stapler::certificate;
use crate::support::{free_port, now};

/// A name, what its responder does, the reason in the metrics, a word of what is said.
type Fault = (&'static str, fn() -> Behaviour, &'static str, &'static str);

const FAULTS: &[Fault] = &[
    (
        "html",
        || {
            let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
            Behaviour::Http(200, headers, b"<html>Please log in to the hotel</html>".to_vec())
        },
        "malformed",
        "not a well-formed OCSP response",
    ),
    ("empty", || Behaviour::Bytes(Vec::new()), "malformed", "not a well-formed OCSP response"),
    ("garbage", || Behaviour::Bytes([0x30, 0x80, 0xFF].repeat(500)), "malformed", "not a well-formed OCSP response"),
    ("huge", || Behaviour::Bytes(vec![0x30; 10 << 20]), "too_large", "sent more than 65536 bytes"),
    ("hung", || Behaviour::Hang, "timeout", "gave no whole answer within"),
    ("forbidden", || Behaviour::Http(403, Vec::new(), Vec::new()), "http_status", "answered HTTP 403"),
    (
        "lost",
        || Behaviour::Http(302, vec![("Location".to_owned(), "file:///etc/passwd".to_owned())], Vec::new()),
        "redirect",
        "redirects where this program does not go",
    ),
    ("busy", || Behaviour::Refuses(OcspResponseStatus::TryLater), "try_later", "the responder answered tryLater"),
    (
        "stale",
        || Behaviour::GoodAt(now() - SignedDuration::from_hours(99), SignedDuration::from_hours(9)),
        "stale",
        "it is stale",
    ),
    (
        "forged",
        || Behaviour::edited(|response| response.break_signature = true),
        "signature_invalid",
        "its signature is not that of",
    ),
];

#[test]
fn a_ca_that_misbehaves_costs_its_own_certificate_only_and_is_named_once() {
    let authority = Authority::start();
    let mut builder = haproxy_with_good(&authority);
    let leaves: Vec<Identity> = FAULTS.iter().map(|(name, ..)| authority.leaf(&format!("{name}.test"))).collect();
    for ((name, behaviour, ..), leaf) in FAULTS.iter().zip(&leaves) {
        authority.responder.set(leaf, behaviour());
        builder = builder.file(&format!("{name}.pem"), leaf.combined_pem());
    }
    let haproxy = builder.start();
    // As many at once as there are, so that the one that hangs holds nobody's place.
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    for (name, _, reason, words) in FAULTS {
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), "unstapled");
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.contains(words) && detail.contains(&authority.responder.url()), "{name}: {detail}");
        assert_eq!(entry["trouble"]["kind"], *reason, "{name}");
        assert!(!entry["trouble"]["remedy"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(entry["ocsp_status"], "none", "{name}");
        assert!(stapled_bytes(haproxy.port(), &format!("{name}.test")).is_none(), "{name}");
    }
    wait_for_passes(&mut stapler, 3);
    for (name, _, reason, words) in FAULTS {
        let lines: Vec<String> =
            stapler.log().lines().filter(|line| line.contains(&format!("/{name}.pem"))).map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:#?}");
        assert!(lines[0].contains(words) && lines[0].contains(&format!("reason=\"{reason}\"")), "{name}: {lines:#?}");
    }
    let metrics = stapler.get("/metrics").text();
    let host = authority.responder.url().replace("http://", "");
    for (name, _, reason, _) in FAULTS {
        let series = format!("haproxy_stapler_ocsp_request_failures_total{{reason=\"{reason}\",responder=\"{host}\"}}");
        assert!(metric(&metrics, &series).is_some_and(|count| count >= 1.0), "{name}: {metrics}");
    }

    authority.responder.set_all(&Behaviour::Good);
    for (name, ..) in FAULTS {
        wait_for_state(&mut stapler, &format!("/{name}.pem"), "stapled");
    }
    assert_eq!(stapler.get("/healthz").json()["status"], "ok");
}

#[test]
fn a_ca_that_is_down_is_asked_again_and_an_old_staple_serves_meanwhile() {
    let authority = Authority::start();
    let mut other = OpensslResponder::new(&authority.root, &authority.root);
    let leaf = authority.root.leaf("down.test").ocsp(&other.url()).issue();
    let unresolvable = authority.root.leaf("dns.test").ocsp("http://ocsp.invalid/").issue();
    let good = authority.leaf("failing.test");
    authority.responder.set(&good, Behaviour::GoodFor(SignedDuration::from_secs(312)));
    let haproxy = haproxy_with_good(&authority)
        .file("down.pem", leaf.combined_pem())
        .file("dns.pem", unresolvable.combined_pem())
        .file("failing.pem", good.combined_pem())
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    let entry = wait_for_state(&mut stapler, "/down.pem", "unstapled");
    assert!(entry["detail"].as_str().unwrap().starts_with(&format!("cannot connect to '{}", other.url())), "{entry}");
    let entry = wait_for_state(&mut stapler, "/dns.pem", "unstapled");
    assert!(entry["detail"].as_str().unwrap().contains("ocsp.invalid"), "{entry}");
    other.good(&leaf).start();
    // A staple that lives for seconds is served to its end; then nothing is.
    let entry = wait_for_state(&mut stapler, "/failing.pem", "stapled");
    assert_eq!(entry["ocsp_status"], "good");
    authority.responder.set(&good, Behaviour::Http(500, Vec::new(), Vec::new()));
    wait_for_state(&mut stapler, "/failing.pem", "refresh_failing");
    stapler.wait_at_most(Duration::from_secs(40), "the staple to end", |status| {
        certificate(status, "/failing.pem").is_some_and(|entry| entry["state"] == "unstapled")
    });
    let status = stapler.status().unwrap();
    let entry = certificate(&status, "/failing.pem").unwrap();
    assert_eq!((&entry["ocsp_status"], &entry["staple_age_seconds"]), (&"none".into(), &serde_json::Value::Null));
    let name = haproxy.certificate("failing.pem").display().to_string();
    let good = |value: f64| {
        wait_for_metric(
            &stapler,
            &format!("haproxy_stapler_ocsp_status{{certificate=\"{name}\",status=\"good\"}}"),
            value,
        );
    };
    good(0.0);
    wait_for_state(&mut stapler, "/down.pem", "stapled");
}

/// An issuer that cannot be had: the certificate names a place where something else is.
#[test]
fn an_issuer_that_cannot_be_downloaded_is_named_with_what_to_do() {
    let authority = Authority::start();
    let stranger = Identity::root("Stranger");
    let url = authority.responder.file("/ca.cer", "application/pkix-cert", stranger.der());
    let draft = |name: &str| authority.root.leaf(name).ocsp(&authority.responder.url());
    let nowhere = format!("http://127.0.0.1:{}/ca.cer", free_port());
    let haproxy = haproxy_with_good(&authority)
        .file("wrong.pem", draft("wrong.test").ca_issuers(&url).issue().chainless_pem())
        .file("nowhere.pem", draft("nowhere.test").ca_issuers(&nowhere).issue().chainless_pem())
        .file("silent.pem", draft("silent.test").issue().chainless_pem())
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    for (name, words) in [
        ("wrong", format!("what '{url}' sent holds no certificate that signed")),
        ("nowhere", format!("cannot connect to '{nowhere}'")),
        ("silent", "neither in the PEM file nor in a .issuer file".to_owned()),
    ] {
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), "no_issuer");
        assert!(entry["detail"].as_str().unwrap().contains(&words), "{entry}");
    }
    // The remedy works: the issuer's certificate beside the leaf.
    for name in ["wrong", "nowhere", "silent"] {
        std::fs::write(haproxy.certificate(&format!("{name}.pem.issuer")), authority.root.pem()).unwrap();
    }
    for name in ["wrong", "nowhere", "silent"] {
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), "unstapled");
        // The responder has never heard of them; that is its own trouble.
        assert_eq!(entry["trouble"]["kind"], "unauthorized", "{entry}");
    }
}
