//! STAPLER_PROBES: the daemon looks by itself.

use std::net::TcpListener;

use serde_json::Value;

use crate::site::{Authority, haproxy_with_good, metric, said, stapler_for, wait_for_state, wait_until_said};
use crate::support::haproxy::Haproxy;
use crate::support::responder::Behaviour;
use crate::support::stapler::{Stapler, certificate};
use crate::support::{PATIENCE, free_port, wait_for};

fn series(name: &str, target: &str, servername: &str) -> String {
    format!("haproxy_stapler_probe_{name}{{servername=\"{servername}\",target=\"{target}\"}}")
}

fn wait_for_sight(stapler: &mut Stapler, index: usize, sight: &str) -> Value {
    let status =
        stapler.wait_until(&format!("probe {index} to be {sight}"), |status| status["probes"][index]["sight"] == sight);
    status["probes"][index].clone()
}

#[test]
fn a_frontend_is_looked_at_after_the_first_pass_and_told_everywhere() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let target = format!("127.0.0.1:{}", haproxy.port());
    let mut stapler = stapler_for(&haproxy).env("STAPLER_PROBES", format!("{target}/good.test")).start();
    let probe = wait_for_sight(&mut stapler, 0, "good");
    assert_eq!((&probe["target"], &probe["servername"]), (&target.as_str().into(), &"good.test".into()));
    assert_eq!(probe["handshakes"].as_array().unwrap().len(), 4);
    let brief = &stapler.get("/healthz").json()["probes"][0];
    assert_eq!((&brief["sight"], &brief["handshakes"]), (&"good".into(), &Value::Null));
    let text = stapler.get("/metrics").text();
    assert_eq!(metric(&text, &series("stapled", &target, "good.test")), Some(1.0));
    let status = stapler.status().unwrap();
    let entry = certificate(&status, "/good.pem").unwrap();
    assert_eq!(probe["next_update"], entry["staple"]["next_update"]);
    let at: jiff::Timestamp = probe["next_update"].as_str().unwrap().parse().unwrap();
    let seconds = metric(&text, &series("staple_next_update_timestamp_seconds", &target, "good.test")).unwrap();
    assert_eq!(seconds.to_string(), at.as_second().to_string());
    let steps = entry["steps"].as_array().unwrap();
    assert_eq!((&steps[10]["step"], &steps[10]["outcome"]), (&"handshake".into(), &"done".into()), "{steps:#?}");
    wait_until_said(&stapler, "stapled, good until");
    assert_eq!(status["status"], "ok");

    // A revoked certificate is stapled, and no client is content with it.
    let renewed = authority.leaf("good.test");
    authority.responder.set(&renewed, Behaviour::Revoked);
    let path = haproxy.certificate("good.pem");
    std::fs::write(&path, renewed.combined_pem()).unwrap();
    let _ = std::fs::remove_file(haproxy.certificate("good.pem.ocsp"));
    let mut haproxy = haproxy;
    haproxy.reload();
    let probe = wait_for_sight(&mut stapler, 0, "refused");
    assert!(probe["detail"].as_str().unwrap().contains("revoked"), "{probe}");
    let text = stapler.get("/metrics").text();
    assert_eq!(metric(&text, &series("stapled", &target, "good.test")), Some(0.0));
    assert!(metric(&text, &series("staple_next_update_timestamp_seconds", &target, "good.test")).is_some());
    wait_until_said(&stapler, "a client is not served well: stapled, but the staple says");
}

/// Neither value would be true before the first look.
#[test]
fn a_frontend_that_was_not_looked_at_has_no_series() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let hung = authority.leaf("hung.test");
    authority.responder.set(&hung, Behaviour::Hang);
    std::fs::write(haproxy.certificate("hung.pem"), hung.combined_pem()).unwrap();
    let probes = format!("127.0.0.1:{}/good.test", haproxy.port());
    // The pass lasts as long as the responder hangs.
    let mut stapler = stapler_for(&haproxy).env("STAPLER_PROBES", probes).env("STAPLER_TIMEOUT", "1m").start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    let status = stapler.status().unwrap();
    assert_eq!(status["last_pass_at"], Value::Null);
    assert_eq!((&status["probes"][0]["sight"], &status["probes"][0]["probed_at"]), (&Value::Null, &Value::Null));
    assert!(!stapler.get("/metrics").text().contains("haproxy_stapler_probe_stapled{"));
    assert_eq!(status["status"], "ok", "nobody can say that anything is wrong");
}

#[test]
fn dead_and_silent_frontends_delay_nobody() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, dead) = (silent.local_addr().unwrap().to_string(), format!("127.0.0.1:{}", free_port()));
    let target = format!("127.0.0.1:{}", haproxy.port());
    let probes = format!("{silent}/a.test,{dead},{target}/good.test");
    let mut stapler = stapler_for(&haproxy).env("STAPLER_PROBES", probes).env("STAPLER_TIMEOUT", "3s").start();
    wait_for_sight(&mut stapler, 2, "good");
    let kind = |probe: &Value| probe["handshakes"][0]["troubles"][0]["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(&wait_for_sight(&mut stapler, 1, "no_handshake")), "connect");
    let probe = wait_for_sight(&mut stapler, 0, "no_handshake");
    assert!(probe["handshakes"][0]["troubles"][0]["remedy"].as_str().is_some());
    let text = stapler.get("/metrics").text();
    let value = |target: &str, name: &str| metric(&text, &series("stapled", target, name));
    assert_eq!(
        (value(&silent, "a.test"), value(&dead, ""), value(&target, "good.test")),
        (Some(0.0), Some(0.0), Some(1.0))
    );
    assert_eq!(metric(&text, &series("staple_next_update_timestamp_seconds", &dead, "")), None);
    assert_eq!(stapler.status().unwrap()["status"], "degraded");
    assert_eq!(stapler.state("/good.pem").as_deref(), Some("stapled"));
    // Said once, however often it is looked at.
    wait_for("another look", PATIENCE, || {
        let again = stapler.status()?["probes"][1]["probed_at"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        let first = probe["probed_at"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        (again > first).then_some(())
    });
    assert_eq!(said(&stapler, &format!("probe=\"{dead}\"")), 1, "{}", stapler.log());
    assert!(stapler.stop().success());
}

#[test]
fn after_a_restart_of_haproxy_the_staple_is_seen_to_be_back() {
    let authority = Authority::start();
    let mut haproxy = haproxy_with_good(&authority).start();
    let probes = format!("127.0.0.1:{}/good.test", haproxy.port());
    let mut stapler = stapler_for(&haproxy).env("STAPLER_PROBES", probes).env("STAPLER_OCSP_FILES", "never").start();
    let first = wait_for_sight(&mut stapler, 0, "good");
    haproxy.restart();
    let later = |status: &Value| {
        let at = |probe: &Value| probe["probed_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        status["probes"][0]["sight"] == "good" && at(&status["probes"][0]) > at(&first)
    };
    stapler.wait_until("a look at the new process", later);
}

/// HAProxy does not send an issuer that it does not have; the daemon knows it all the same.
#[test]
fn a_server_that_does_not_send_its_issuer_is_judged_with_what_is_known() {
    let authority = Authority::start();
    let url = authority.responder.file("/root.der", "application/pkix-cert", authority.root.der());
    let orphan = authority.root.leaf("orphan.test").ocsp(&authority.responder.url()).ca_issuers(&url).issue();
    authority.responder.register(&orphan, &authority.root);
    let haproxy = Haproxy::builder().file("orphan.pem", orphan.chainless_pem()).start();
    let probes = format!("127.0.0.1:{}/orphan.test", haproxy.port());
    let mut stapler = stapler_for(&haproxy).env("STAPLER_PROBES", probes).start();
    wait_for_sight(&mut stapler, 0, "good");
}
