//! From certificates that HAProxy loaded without any `.ocsp` file to staples that strict clients accept.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Instant;

use super::support::client::{stapled_bytes, stapled_bytes_to};
use super::support::haproxy::Haproxy;
use super::support::pki::{Identity, KeyKind};
use super::support::process::run_well;
use super::support::responder::Behaviour;
use super::support::response::by_key;
use super::support::{PATIENCE, wait_for};
use super::{
    Ca, assert_accepted, assert_genuine, assert_startable, beside, listing, say, staple, stapler_for, state,
    wait_for_staple, wait_for_staples, wait_for_state,
};
use crate::recorder::{Recorder, transactions};

/// A "certs-only" PKCS#7 message, as many CAs serve under caIssuers.
fn pkcs7(certificates: &[&Identity]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chain.pem");
    std::fs::write(&file, certificates.iter().map(|each| each.pem()).collect::<String>()).unwrap();
    run_well(Command::new("openssl").args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-certfile"]).arg(file))
}

#[test]
fn every_kind_of_certificate_is_stapled_at_run_time() {
    let ca = Ca::new();
    let delegate = ca.issuing.delegate("Main OCSP Signer").issue();
    let delegated = |name: &str| {
        let leaf = ca.draft(name).issue();
        ca.responder.register(&leaf, &delegate);
        leaf
    };
    let ecdsa = ca.leaf("ecdsa.test");
    let rsa = ca.known(ca.draft("rsa.test").key(KeyKind::Rsa).issue());
    let must = ca.known(ca.draft("must.test").must_staple().issue());
    let (by_name, keyed) = (delegated("by-name.test"), delegated("by-key.test"));
    let key_of = delegate.clone();
    ca.responder.set(&keyed, Behaviour::edited(move |response| response.responder_id = by_key(&key_of)));
    let direct = ca.known(ca.root.leaf("direct.test").ocsp(&ca.responder.url()).issue());
    let both_rsa = ca.known(ca.draft("both.test").key(KeyKind::Rsa).issue());
    let both_ecdsa = ca.leaf("both.test");
    let told = ca.leaf("told.test");
    // Each below an intermediate of its own, since what is downloaded for one certificate serves all of its issuer's.
    let orphan = |name: &str, content: fn(&Identity) -> Vec<u8>| {
        let issuing = ca.root.intermediate(&format!("Issuer of {name}"));
        let url = ca.responder.file(&format!("/{name}"), "application/octet-stream", &content(&issuing));
        ca.known(issuing.leaf(name).ocsp(&ca.responder.url()).ca_issuers(&url).issue())
    };
    let aia_der = orphan("aia-der.test", |issuer| issuer.der().to_vec());
    let aia_pem = orphan("aia-pem.test", |issuer| issuer.pem().into_bytes());
    let aia_pkcs7 = orphan("aia-pkcs7.test", |issuer| pkcs7(&[issuer.issuer(), issuer]));
    let silent = ca.issuing.leaf("silent.test").issue();

    let chained = [&ecdsa, &rsa, &must, &by_name, &keyed, &direct];
    let orphans = [&aia_der, &aia_pem, &aia_pkcs7];
    let mut builder = Haproxy::builder()
        .file("both.pem.rsa", both_rsa.combined_pem())
        .file("both.pem.ecdsa", both_ecdsa.combined_pem())
        .file("told.test.pem", told.chainless_pem())
        .file("told.test.pem.issuer", ca.issuing.pem())
        .file("silent.test.pem", silent.combined_pem());
    for leaf in chained {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.combined_pem());
    }
    for leaf in orphans {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.chainless_pem());
    }
    let haproxy = builder.start();
    let all: Vec<&Identity> = chained.into_iter().chain(orphans).chain([&told, &both_ecdsa]).collect();
    assert!(all.iter().all(|leaf| staple(&haproxy, leaf).is_none()), "nobody has stapled anything yet");

    let start = Instant::now();
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_SCAN_INTERVAL", "1h").start();
    wait_for_staples("11 kinds of certificates stapled after the start (promised: 3 s)", start, &haproxy, &all);
    let rsa_only = || stapled_bytes_to(haproxy.port(), "both.test", "RSA-PSS+SHA256:RSA+SHA256");
    let shown_to_rsa = wait_for("the RSA half of a pair", PATIENCE, rsa_only);
    let shown_to_ecdsa = stapled_bytes_to(haproxy.port(), "both.test", "ECDSA+SHA256").unwrap();
    assert_genuine(&shown_to_rsa, &both_rsa);
    assert_genuine(&shown_to_ecdsa, &both_ecdsa);
    for leaf in chained {
        assert_accepted(&haproxy, leaf, &ca.anchor());
    }
    for leaf in orphans.into_iter().chain([&told]) {
        assert_genuine(&staple(&haproxy, leaf).unwrap(), leaf);
    }
    assert_eq!(stapled_bytes(haproxy.port(), "silent.test"), None);

    let status = stapler.wait_until("/status to agree", |status| {
        status["states"]["stapled"] == 12 && status["states"]["no_responder"] == 1
    });
    assert_eq!(status["status"], "ok", "{status:#}");
    assert_eq!(status["haproxy"][0]["loaded"], 13);
    assert_eq!(status["haproxy"][0]["served"], 12);
    for (name, leaf) in [("ecdsa.test.pem", &ecdsa), ("told.test.pem", &told), ("both.pem.rsa", &both_rsa)] {
        let kept = wait_for("a .ocsp file", PATIENCE, || beside(&haproxy, name));
        assert_genuine(&kept, leaf);
    }
    for leaf in orphans {
        assert_eq!(beside(&haproxy, &format!("{}.pem", leaf.name())), None, "HAProxy could not find its issuer");
    }
    assert_startable(&haproxy);
}

#[test]
fn certificates_of_one_issuer_share_its_download() {
    let ca = Ca::new();
    let leaves: Vec<Identity> = (0..6).map(|number| ca.orphan(&format!("site-{number}.test"))).collect();
    let mut builder = Haproxy::builder();
    for leaf in &leaves {
        builder = builder.file(&format!("{}.pem", leaf.name()), leaf.chainless_pem());
    }
    let haproxy = builder.start();
    let start = Instant::now();
    // No other look at the disk may be needed, nor any luck with the order of the answers.
    let _stapler = stapler_for(&[&haproxy]).env("STAPLER_CONCURRENCY", "4").env("STAPLER_SCAN_INTERVAL", "1h").start();
    let all: Vec<&Identity> = leaves.iter().collect();
    wait_for_staples("6 certificates whose issuer had to be downloaded", start, &haproxy, &all);
    assert!((1..=4).contains(&ca.responder.file_requests("/issuing.der")));
}

#[test]
fn a_hung_responder_delays_nobody_else_and_is_asked_again() {
    let ca = Ca::new();
    // Connections are made and never answered.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_url = format!("http://{}", dead.local_addr().unwrap());
    let good: Vec<Identity> = (0..4).map(|number| ca.leaf(&format!("good-{number}.test"))).collect();
    let hung = ca.leaf("hung.test");
    ca.responder.set(&hung, Behaviour::Hang);
    let mut builder = Haproxy::builder().file("hung.pem", hung.combined_pem());
    for (number, leaf) in good.iter().enumerate() {
        builder = builder.file(&format!("good-{number}.pem"), leaf.combined_pem());
    }
    for number in 0..2 {
        let dead = ca.issuing.leaf(&format!("dead-{number}.test")).ocsp(&dead_url).issue();
        builder = builder.file(&format!("a-dead-{number}.pem"), dead.combined_pem());
        let lost = ca.draft(&format!("lost-{number}.test")).ca_issuers(&format!("{dead_url}/ca.der")).issue();
        builder = builder.file(&format!("a-lost-{number}.pem"), lost.chainless_pem());
    }
    let haproxy = builder.start();
    let start = Instant::now();
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_CONCURRENCY", "2").env("STAPLER_TIMEOUT", "6s").start();
    let leaves: Vec<&Identity> = good.iter().collect();
    wait_for_staples("4 certificates stapled beside 5 that hang (promised: 3 s)", start, &haproxy, &leaves);
    let hanging = ["hung.pem", "a-dead-0.pem", "a-dead-1.pem", "a-lost-0.pem", "a-lost-1.pem"];
    stapler.wait_until("four to be stapled while nobody's deadline is over yet", |status| {
        status["states"]["stapled"] == 4 && hanging.iter().all(|name| state(status, name) == "pending")
    });
    for leaf in leaves {
        assert_accepted(&haproxy, leaf, &ca.anchor());
    }
    assert_eq!(staple(&haproxy, &hung), None);
    let entry = wait_for_state(&mut stapler, "hung.pem", "unstapled");
    assert_eq!(entry["trouble"]["kind"], "timeout", "{entry:#}");
    let orphan = wait_for_state(&mut stapler, "a-lost-0.pem", "no_issuer");
    assert_eq!(orphan["trouble"]["kind"], "timeout", "{orphan:#}");
    let healed = Instant::now();
    ca.responder.set(&hung, Behaviour::Good);
    wait_for_staple(&haproxy, &hung);
    say("a responder that recovered is stapled again (promised: 30 s)", healed.elapsed());
}

#[test]
fn several_haproxies_are_served_beside_a_dead_and_a_silent_one() {
    let ca = Ca::new();
    let (shared, left, right) = (ca.leaf("shared.test"), ca.leaf("left.test"), ca.leaf("right.test"));
    let haproxy_with = |leaf: &Identity| {
        Haproxy::builder().file("shared.pem", shared.combined_pem()).file("own.pem", leaf.combined_pem()).start()
    };
    let (one, mut other) = (haproxy_with(&left), haproxy_with(&right));
    let nowhere = one.socket().with_file_name("nowhere.sock");
    let silent = one.socket().with_file_name("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let sockets = [nowhere.clone(), silent, one.socket(), other.socket()].map(|path| path.display().to_string());
    let start = Instant::now();
    let mut stapler = stapler_for(&[&one, &other]).env("STAPLER_SOCKETS", sockets.join(",")).start();
    wait_for_staples("the first HAProxy", start, &one, &[&shared, &left]);
    wait_for_staples("the second HAProxy, beside a dead and a silent one", start, &other, &[&shared, &right]);
    assert_accepted(&one, &left, &ca.anchor());
    assert_accepted(&other, &right, &ca.anchor());
    let status = stapler.wait_until("each HAProxy to have a state", |status| {
        let up: Vec<_> = status["haproxy"].as_array().unwrap().iter().map(|each| each["up"].clone()).collect();
        up == [false, false, true, true] && status["states"]["stapled"] == 4
    });
    let kinds = |index: usize| status["haproxy"][index]["trouble"]["kind"].clone();
    assert_eq!((kinds(0), kinds(1), kinds(2)), ("not_found".into(), "timeout".into(), serde_json::Value::Null));
    assert_eq!((&status["status"], stapler.get("/healthz").status), (&"degraded".into(), 200));
    assert_eq!(ca.responder.requests(&shared), 1, "one answer serves both");
    assert_ne!(status["haproxy"][2]["pid"], status["haproxy"][3]["pid"]);

    let up = |index: usize, up: &str| {
        let text = stapler.get("/metrics").text();
        text.contains(&format!("haproxy_stapler_haproxy_up{{haproxy=\"{}\"}} {up}", sockets[index]))
    };
    assert!(up(0, "0") && up(1, "0") && up(2, "1") && up(3, "1"));
    other.restart();
    wait_for_staples("the second HAProxy again", Instant::now(), &other, &[&shared, &right]);
    let status = stapler.status().unwrap();
    assert_eq!((&status["haproxy"][2]["reloads"], ca.responder.requests(&shared)), (&0.into(), 1));
}

#[test]
fn a_transaction_of_somebody_else_is_left_alone() {
    let ca = Ca::new();
    for end in ["commit", "abort"] {
        let (theirs, ours) = (ca.leaf("theirs.test"), ca.leaf("ours.test"));
        let haproxy =
            Haproxy::builder().file("theirs.pem", theirs.combined_pem()).file("ours.pem", ours.combined_pem()).start();
        let renewed = ca.known(ca.draft("theirs.test").issue());
        let path = haproxy.certificate("theirs.pem");
        let name = path.display();
        let reply = haproxy.command(&format!("set ssl cert {name} <<\n{}", renewed.combined_pem()));
        assert!(reply.contains("Transaction created"), "{reply}");

        let recorder = Recorder::start(&haproxy.socket());
        let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_SOCKETS", recorder.socket()).start();
        let entry = wait_for_state(&mut stapler, "ours.pem", "unstapled");
        assert_eq!(entry["trouble"]["kind"], "busy", "{entry:#}");
        assert!(entry["detail"].as_str().unwrap().contains("theirs.pem"), "{entry:#}");
        let writes = recorder.writes();
        assert!(transactions(&writes).is_empty(), "nothing may be written into somebody's transaction: {writes:#?}");
        assert!(haproxy.command("show ssl cert").contains(&format!("*{name}")), "their transaction is still open");

        let reply = haproxy.command(&format!("{end} ssl cert {name}"));
        assert!(reply.contains("Success!") || reply.contains("Transaction aborted"), "{reply}");
        let after = Instant::now();
        let now_theirs = if end == "commit" {
            std::fs::write(&path, renewed.combined_pem()).unwrap();
            &renewed
        } else {
            &theirs
        };
        wait_for_staples(&format!("stapled after their {end}"), after, &haproxy, &[&ours, now_theirs]);
        assert_accepted(&haproxy, &ours, &ca.anchor());
        assert_accepted(&haproxy, now_theirs, &ca.anchor());
        assert_eq!(state(&stapler.status().unwrap(), "unreadable"), "absent");
        assert!(listing(&haproxy.certs_dir()).iter().all(|name| !name.starts_with('.')));
    }
}
