//! What HAProxy cannot take, and what deserves a word though everything works.

use crate::site::{Authority, said, stapler_for, wait_for_passes, wait_for_state, wait_until_said};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::{assert_startable, version, wait_for_all, wait_for_staple};

/// A genuine answer of at least this many bytes, for all the certificates that it carries along.
fn at_least(bytes: usize) -> Behaviour {
    let ballast = Identity::root("Ballast").der().to_vec();
    Behaviour::edited(move |response| response.certs = vec![ballast.clone(); bytes.div_ceil(ballast.len())])
}

#[test]
fn a_response_too_large_for_haproxy_is_told_with_its_size_and_the_tunable() {
    const BYTES: usize = 20_000;
    let authority = Authority::start();
    let (large, small) = (authority.leaf("large.test"), authority.leaf("small.test"));
    authority.responder.set(&large, at_least(BYTES));
    let files = |builder: crate::Builder| {
        builder.file("large.pem", large.combined_pem()).file("small.pem", small.combined_pem())
    };
    let haproxy = files(Haproxy::builder()).start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_staple(haproxy.port(), &small);
    let entry = wait_for_state(&mut stapler, "/large.pem", "unstapled");
    assert_eq!(entry["trouble"]["kind"], "too_large", "{entry:#}");
    let detail = entry["detail"].as_str().unwrap();
    let size: usize = detail.split(" bytes").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(size >= BYTES && detail.contains("tune.bufsize"), "{detail}");
    assert!(entry["trouble"]["remedy"].as_str().unwrap().contains("larger `tune.bufsize`"), "{entry:#}");
    wait_for_passes(&mut stapler, 2);
    assert_eq!(said(&stapler, "takes at most"), 1, "{}", stapler.log());
    assert_eq!(stapled_bytes(haproxy.port(), "large.test"), None);
    assert!(!haproxy.certificate("large.pem.ocsp").exists(), "HAProxy would read a part of it only");
    assert_startable(&haproxy);

    let roomy = files(Haproxy::builder().global("tune.bufsize 32768")).start();
    let mut stapler = stapler_for(&roomy).start();
    wait_for_staple(roomy.port(), &large);
    wait_for_all(&mut stapler, 2);
    assert_startable(&roomy);
}

#[test]
fn a_release_with_the_stapling_race_is_told_once() {
    let authority = Authority::start();
    let haproxy = Haproxy::builder().file("site.pem", authority.leaf("site.test").combined_pem()).start();
    let mut stapler = stapler_for(&haproxy).start();
    let status = wait_for_all(&mut stapler, 1);
    let warnings = status["haproxy"][0]["warnings"].as_array().unwrap();
    assert_eq!(
        warnings.iter().any(|warning| warning["kind"] == "stapling_race"),
        version().may_have_the_stapling_race()
    );
    assert_eq!(status["status"], "ok", "a word, not an alarm");
    if version().may_have_the_stapling_race() {
        wait_until_said(&stapler, "26e74f140");
        wait_for_passes(&mut stapler, 2);
        assert_eq!(said(&stapler, "26e74f140"), 1, "{}", stapler.log());
    } else {
        assert_eq!(said(&stapler, "26e74f140"), 0, "{}", stapler.log());
    }
}
