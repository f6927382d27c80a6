//! Beside a running daemon, and for one certificate only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::site::{Authority, haproxy_with_good, impatient, stapler_for, wait_for_passes, wait_for_state};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::stapler::certificate;
use crate::{code, explain, find, stdout};

/// Names, inodes and times of change: what would show a write.
fn traces(directory: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut traces: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let (entry, name) = entry.map(|entry| (entry.metadata().unwrap(), entry.file_name())).unwrap();
            (name.into_string().unwrap(), entry.ino(), entry.mtime(), entry.mtime_nsec())
        })
        .collect();
    traces.sort();
    traces
}

#[test]
fn beside_a_daemon_that_does_well_it_changes_nothing_and_asks_nobody() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut daemon = stapler_for(&haproxy).start();
    wait_for_state(&mut daemon, "/good.pem", "stapled");
    wait_for_passes(&mut daemon, 1);
    let before = (traces(&daemon.state_dir()), traces(&haproxy.certs_dir()), authority.responder.total_requests());
    let served = stapled_bytes(haproxy.port(), "good.test").unwrap();
    // In the daemon's own environment, as `docker exec` has it.
    let output = daemon.run(&["explain", "--json"]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    let after = (traces(&daemon.state_dir()), traces(&haproxy.certs_dir()), authority.responder.total_requests());
    assert_eq!(before, after);
    assert_eq!(stapled_bytes(haproxy.port(), "good.test"), Some(served));
    // Both tell the same.
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = daemon.status().unwrap();
    for step in ["file", "parsed", "issuer", "responder", "verified", "kept", "entry", "installed", "read_back"] {
        let of = |status: &serde_json::Value| find(&certificate(status, "good.pem").unwrap()["steps"], step).clone();
        assert_eq!(of(&theirs), of(&ours), "{step}");
    }
    assert_eq!(daemon.state("/good.pem").as_deref(), Some("stapled"));
}

#[test]
fn one_certificate_is_known_by_the_end_of_its_name_and_no_other_is_touched() {
    let authority = Authority::start();
    let (one, other) = (authority.leaf("one.test"), authority.leaf("other.test"));
    let haproxy =
        Haproxy::builder().file("one.pem", one.combined_pem()).file("other.pem", other.combined_pem()).start();
    let stapler = stapler_for(&haproxy);
    let seen = explain(&stapler, &["one.pem"]);
    assert_eq!(seen.code, 0, "{}", seen.text);
    assert_eq!(seen.json["certificates"].as_array().unwrap().len(), 1);
    assert!(!seen.text.contains("other.pem"), "{}", seen.text);
    assert_eq!((authority.responder.requests(&one), authority.responder.requests(&other)), (1, 0));
    assert!(stapled_bytes(haproxy.port(), "one.test").is_some());
    assert_eq!(stapled_bytes(haproxy.port(), "other.test"), None);
    assert!(haproxy.certificate("one.pem.ocsp").exists() && !haproxy.certificate("other.pem.ocsp").exists());
    let whole = haproxy.certificate("one.pem").display().to_string();
    assert_eq!(explain(&stapler, &[&whole]).code, 0);
    // The end of a name is made of whole components.
    for wrong in ["ne.pem", "tow.pem", "certs"] {
        let output = stapler.run(&["explain", wrong]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((code(&output), stdout(&output)), (1, String::new()), "{said}");
        assert!(said.contains(&format!("there is no certificate '{wrong}'; the nearest is '")), "{said}");
    }
}

/// The commonest mistake with two containers.
#[test]
fn a_certificate_that_haproxy_serves_and_nobody_finds_here_has_its_remedy() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let elsewhere = tempfile::tempdir().unwrap();
    let certs = elsewhere.path().join("certs");
    fs::create_dir(&certs).unwrap();
    fs::write(certs.join("mine.pem"), authority.leaf("mine.test").combined_pem()).unwrap();
    // HAProxy's paths are not ours.
    let map = format!("{}=/nowhere", haproxy.certs_dir().display());
    let stapler = impatient(crate::site::binary())
        .env("STAPLER_CERTS", &certs)
        .env("STAPLER_SOCKETS", haproxy.socket())
        .env("STAPLER_PATH_MAP", map);
    let seen = explain(&stapler, &["good.pem"]);
    assert_eq!(seen.code, 1, "{}", seen.text);
    let finding = find(&seen.json["unmatched"][0]["steps"], "file");
    assert_eq!((&finding["outcome"], &finding["reason"]), (&"failed".into(), &"unmatched".into()));
    assert!(seen.text.contains("-> Mount its directory and name it in STAPLER_CERTS"), "{}", seen.text);
}
