//! The life of a staple: fetched once, refreshed at half of its life, never replaced by a worse one.

use std::time::{Duration, Instant};

use axum::http::Method;
use jiff::SignedDuration;
use x509_ocsp::OcspResponseStatus;

use super::support::haproxy::Haproxy;
use super::support::pki::Identity;
use super::support::responder::Behaviour;
use super::support::{PATIENCE, now, wait_for};
use super::{
    Ca, assert_accepted, assert_genuine, beside, metric, say, staple, stapler_for, state, wait_for_staple,
    wait_for_staples, wait_for_state,
};

/// Good at first, in a response of 620 s whose refresh is due in a few seconds, and `later` from then on. HAProxy serves
/// such a response for 320 s, and three quarters of those are nearly over. That leaves some eighty until it is of no use.
fn nearly_due_then(later: Behaviour) -> Behaviour {
    let born = now() - SignedDuration::from_secs(236);
    Behaviour::First(Box::new(Behaviour::GoodAt(born, SignedDuration::from_secs(620))), Box::new(later))
}

#[test]
fn nothing_is_fetched_twice_while_it_is_fresh() {
    let ca = Ca::new();
    let leaves: Vec<Identity> = (0..3).map(|number| ca.leaf(&format!("site-{number}.test"))).collect();
    let long = format!("{}/{}", ca.responder.url(), "long/".repeat(50));
    let far = ca.known(ca.issuing.leaf("far.test").ocsp(&long).issue());
    let post = ca.leaf("post.test");
    let refusal = Behaviour::Http(405, Vec::new(), b"POST only\n".to_vec());
    ca.responder.set(&post, Behaviour::ByMethod(Box::new(refusal), Box::new(Behaviour::Good)));
    let mut builder = Haproxy::builder().file("far.pem", far.combined_pem()).file("post.pem", post.combined_pem());
    for leaf in &leaves {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.combined_pem());
    }
    let mut haproxy = builder.start();
    let stapler = stapler_for(&[&haproxy]).env("STAPLER_REFRESH_INTERVAL", "1s").start();
    let all: Vec<&Identity> = leaves.iter().chain([&far, &post]).collect();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    for _ in 0..2 {
        // The same certificate in a new file, as tools do that rewrite everything every day.
        std::fs::write(haproxy.certificate("site-0.test.pem"), leaves[0].combined_pem()).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        haproxy.reload();
        assert_eq!(wait_for_staples("after a reload", Instant::now(), &haproxy, &all), before);
    }
    let methods = |leaf: &Identity| -> Vec<Method> {
        let received = ca.responder.received().into_iter();
        received.filter(|one| one.serial == Some(leaf.serial())).map(|one| one.method).collect()
    };
    for leaf in &leaves {
        assert_eq!(methods(leaf), [Method::GET], "{leaf:?}");
    }
    assert_eq!(methods(&post), [Method::GET, Method::POST], "a responder that refuses GET");
    assert_eq!(methods(&far), [Method::POST], "too long for a GET (RFC 5019 section 5)");
    assert_eq!(metric(&stapler, "ocsp_requests_total"), 6.0);
    assert_eq!(metric(&stapler, "ocsp_request_failures_total"), 1.0);
    assert_accepted(&haproxy, &post, &ca.anchor());
    assert_accepted(&haproxy, &far, &ca.anchor());
}

#[test]
fn a_short_lived_response_is_refreshed_before_haproxy_drops_it() {
    let ca = Ca::new();
    let leaf = ca.leaf("short.test");
    let born = Instant::now();
    ca.responder.set(&leaf, nearly_due_then(Behaviour::Good));
    let haproxy = Haproxy::builder().file("short.pem", leaf.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    wait_for_staple(&haproxy, &leaf);
    let status = stapler.wait_until("a young staple", |status| {
        status["certificates"][0]["staple_age_seconds"].as_u64().is_some_and(|age| age < 120)
    });
    say("a staple that was due 4 s after its birth is refreshed", born.elapsed());
    assert_eq!(state(&status, "short.pem"), "stapled");
    let second = staple(&haproxy, &leaf).unwrap();
    assert_genuine(&second, &leaf);
    wait_for("the new .ocsp file", PATIENCE, || (beside(&haproxy, "short.pem")? == second).then_some(()));
    assert_accepted(&haproxy, &leaf, &ca.anchor());
    assert_eq!((ca.responder.requests(&leaf), metric(&stapler, "staple_installs_total")), (2, 2.0));
}

#[test]
fn a_staple_past_half_of_its_life_is_refreshed_at_once() {
    let ca = Ca::new();
    let leaf = ca.leaf("aged.test");
    // Past half of it and all of the jitter, an eighth more.
    let week = SignedDuration::from_hours(7 * 24);
    ca.responder.set(&leaf, Behaviour::GoodAt(now() - week * 16 / 25, week));
    let haproxy = Haproxy::builder().file("aged.pem", leaf.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    wait_for_staple(&haproxy, &leaf);
    stapler.wait_until_ready();
    wait_for("the aged staple to be kept", PATIENCE, || beside(&haproxy, "aged.pem"));
    assert!(stapler.stop().success());
    ca.responder.set(&leaf, Behaviour::Good);
    ca.responder.forget();
    let start = Instant::now();
    stapler.start_again();
    stapler.wait_until("a young staple", |status| {
        status["certificates"][0]["staple_age_seconds"].as_u64().is_some_and(|age| age < 3600)
    });
    say("an aged staple was refreshed after the start", start.elapsed());
    assert_eq!(ca.responder.requests(&leaf), 1);
}

#[test]
fn a_served_staple_is_never_replaced_by_a_worse_one_but_by_a_revocation() {
    let ca = Ca::new();
    let older = Behaviour::GoodAt(now() - SignedDuration::from_hours(2), SignedDuration::from_hours(24));
    let dying = SignedDuration::from_secs(60 + 299);
    let cases = [
        ("older", older, "stapled"),
        ("unknown", Behaviour::Unknown, "unknown"),
        ("garbage", Behaviour::Bytes(b"no DER at all".to_vec()), "refresh_failing"),
        ("forged", Behaviour::edited(|response| response.break_signature = true), "refresh_failing"),
        ("dying", Behaviour::GoodAt(now() - SignedDuration::from_secs(60), dying), "refresh_failing"),
        ("later", Behaviour::Refuses(OcspResponseStatus::TryLater), "refresh_failing"),
        ("error", Behaviour::Http(500, Vec::new(), b"oops".to_vec()), "refresh_failing"),
        ("hung", Behaviour::Hang, "refresh_failing"),
    ];
    let leaves: Vec<Identity> = cases.iter().map(|(name, ..)| ca.leaf(&format!("{name}.test"))).collect();
    let mut builder = Haproxy::builder();
    for (leaf, (_, behaviour, _)) in leaves.iter().zip(&cases) {
        ca.responder.set(leaf, nearly_due_then(behaviour.clone()));
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.combined_pem());
    }
    let haproxy = builder.start();
    let mut stapler =
        stapler_for(&[&haproxy]).env("STAPLER_REFRESH_INTERVAL", "5s").env("STAPLER_TIMEOUT", "1s").start();
    let all: Vec<&Identity> = leaves.iter().collect();
    let good = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    let file = |leaf: &Identity| format!("{}.pem", leaf.name());
    for (leaf, staple) in leaves.iter().zip(&good) {
        wait_for("its .ocsp file", PATIENCE, || (beside(&haproxy, &file(leaf))? == *staple).then_some(()));
    }
    let status = stapler.wait_until("every bad answer to have come", |status| {
        let settled = |(leaf, case): (&Identity, &(&str, Behaviour, &str))| {
            ca.responder.requests(leaf) > 1 && state(status, &file(leaf)) == case.2
        };
        leaves.iter().zip(&cases).all(settled)
    });
    assert_eq!(status["status"], "degraded");
    // A second longer, for whatever might still be written.
    std::thread::sleep(Duration::from_secs(1));
    for (leaf, before) in leaves.iter().zip(&good) {
        assert_eq!(staple(&haproxy, leaf).as_ref(), Some(before), "{leaf:?} is served as before");
        assert_eq!(beside(&haproxy, &file(leaf)).as_ref(), Some(before), "{leaf:?} is kept as before");
        assert_accepted(&haproxy, leaf, &ca.anchor());
    }
    assert_eq!(metric(&stapler, "staple_installs_total"), 8.0);

    ca.responder.set_all(&Behaviour::Revoked);
    let start = Instant::now();
    for (leaf, before) in leaves.iter().zip(&good) {
        let revoked = wait_for("the revocation", PATIENCE, || staple(&haproxy, leaf).filter(|now| now != before));
        wait_for("its .ocsp file", PATIENCE, || (beside(&haproxy, &file(leaf))? == revoked).then_some(()));
    }
    say("8 revocations replaced good staples", start.elapsed());
    stapler.wait_until("the states to agree", |status| status["states"]["revoked"] == 8);
    let seen = super::support::client::s_client(haproxy.port(), "garbage.test").unwrap();
    assert_eq!(seen.cert_status, "revoked");
}

#[test]
fn a_revocation_is_withheld_if_so_set() {
    let ca = Ca::new();
    let (fallen, born_bad) = (ca.leaf("fallen.test"), ca.leaf("born-bad.test"));
    ca.responder.set(&fallen, nearly_due_then(Behaviour::Revoked));
    ca.responder.set(&born_bad, Behaviour::Revoked);
    let haproxy = Haproxy::builder()
        .file("fallen.pem", fallen.combined_pem())
        .file("born-bad.pem", born_bad.combined_pem())
        .start();
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_ON_REVOKED", "withhold").start();
    let good = wait_for_staple(&haproxy, &fallen);
    wait_for_state(&mut stapler, "born-bad.pem", "revoked");
    let entry = wait_for_state(&mut stapler, "fallen.pem", "revoked");
    assert_eq!(entry["ocsp_status"], "revoked");
    wait_for("its .ocsp file to go", PATIENCE, || beside(&haproxy, "fallen.pem").is_none().then_some(()));
    assert_eq!(staple(&haproxy, &fallen), Some(good), "HAProxy cannot be told to staple nothing");
    assert_eq!(metric(&stapler, "staple_writes_total"), 4.0, "the .ocsp file was there, and three times the state");
    assert_eq!((staple(&haproxy, &born_bad), beside(&haproxy, "born-bad.pem")), (None, None));
    assert_eq!(metric(&stapler, "staple_installs_total"), 1.0);
    assert_eq!(stapler.get("/healthz").json()["status"], "degraded");
}
