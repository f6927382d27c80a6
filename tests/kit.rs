//! The test kit, proven by peers that know nothing of it: what we sign, OpenSSL accepts; what we start, serves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::path::Path;
use std::process::Command;

use jiff::SignedDuration;
use support::client::{Strict, openssl_asks, openssl_judges, s_client, stapled_bytes, strict, write_root};
use support::haproxy::{Haproxy, Mode};
use support::openssl_responder::OpensslResponder;
use support::pki::{Identity, KeyKind};
use support::process::run;
use support::responder::{Behaviour, Responder};
use support::response::{Digest, Response, by_key, by_name, cert_id, unknown_extension};
use support::stapler::http_get;
use x509_ocsp::OcspResponseStatus;

#[test]
fn openssl_accepts_what_our_responder_signs() {
    let responder = Responder::start();
    let root = Identity::root("Kit Root");
    let below = root.intermediate("Kit Intermediate");
    for issuer in [&root, &below, &Identity::root_with("Kit RSA Root", KeyKind::Rsa)] {
        let leaf = issuer.leaf("leaf.test").ocsp(&responder.url()).issue();
        let delegate = issuer.delegate("Kit Delegate").issue();
        for signer in [issuer, &delegate] {
            responder.register(&leaf, signer);
            for (behaviour, word) in
                [(Behaviour::Good, "good"), (Behaviour::Revoked, "revoked"), (Behaviour::Unknown, "unknown")]
            {
                responder.set(&leaf, behaviour);
                let (verified, text) = openssl_asks(&responder.url(), &leaf);
                assert!(verified, "{issuer:?} {signer:?} {word}: {text}");
                assert!(text.contains(&format!("leaf.pem: {word}")), "{text}");
            }
        }
        assert_eq!(responder.requests(&leaf), 6);
    }
    assert_eq!(responder.total_requests(), 18);
}

#[test]
fn openssl_refuses_what_our_responder_spoils() {
    let responder = Responder::start();
    let root = Identity::root("Kit Root");
    let leaf = root.leaf("leaf.test").issue();
    responder.register(&leaf, &root.delegate("Kit Delegate").without_extended_key_usage().issue());
    assert!(!openssl_asks(&responder.url(), &leaf).0, "a delegate without id-kp-OCSPSigning");
    responder.register(&leaf, &root.delegate("Kit Delegate").expired().issue());
    assert!(!openssl_asks(&responder.url(), &leaf).0, "a delegate that has expired");
    responder.register(&leaf, &root);
    responder.set(&leaf, Behaviour::edited(|response| response.break_signature = true));
    assert!(!openssl_asks(&responder.url(), &leaf).0, "a broken signature");
    responder.set(&leaf, Behaviour::Refuses(OcspResponseStatus::TryLater));
    assert!(openssl_asks(&responder.url(), &leaf).1.contains("trylater"));
    responder.set(&leaf, Behaviour::Http(503, Vec::new(), b"no".to_vec()));
    assert!(!openssl_asks(&responder.url(), &leaf).0, "an HTTP error");
}

#[test]
fn openssl_reads_every_field_we_can_set() {
    let root = Identity::root_with("Kit RSA Root", KeyKind::Rsa);
    let leaf = root.leaf("leaf.test").issue();
    for digest in [Digest::Md5, Digest::Sha1, Digest::Sha256, Digest::Sha384] {
        for responder_id in [by_name(&root), by_key(&root)] {
            let response = Response::good(&leaf, &root).with(|response| {
                response.digest = digest;
                response.responder_id = responder_id.clone();
                response.response_extensions.push(unknown_extension(false));
                response.singles[0].extensions.push(unknown_extension(false));
                response.certs.push(root.der().to_vec());
            });
            let (verified, text) = openssl_judges(&response.der(), &leaf);
            assert!(verified && text.contains("leaf.pem: good"), "{digest:?}: {text}");
        }
    }
    let other_id = cert_id(Digest::Sha256, &leaf);
    let sha256 = Response::good(&leaf, &root).with(|response| response.singles[0].cert_id = other_id);
    assert!(openssl_judges(&sha256.der(), &leaf).1.contains("ERROR: No Status found."));
    let endless = Response::good(&leaf, &root).with(|response| response.singles[0].next_update = None);
    assert!(!openssl_judges(&endless.der(), &leaf).1.contains("Next Update"));
    let twice = Response::good(&leaf, &root).with(|response| response.singles.push(response.singles[0].clone()));
    assert!(twice.der().len() > sha256.der().len());
    let junk = Response::good(&leaf, &root).with(|response| response.trailing = vec![0; 7]);
    assert!(junk.der().ends_with(&[0; 7]));
}

#[test]
fn our_responder_reads_get_and_serves_files() {
    let responder = Responder::start();
    let root = Identity::root("Kit Root");
    let url = responder.file("/ca.der", "application/pkix-cert", root.der());
    let port = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let reply = http_get(port, "/ca.der").unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, root.der()));
    assert_eq!(responder.file_requests("/ca.der"), 1);

    let leaf = root.leaf("leaf.test").serial(0x00ff_1234).issue();
    responder.register(&leaf, &root);
    let id = openssl::ocsp::OcspCertId::from_cert(
        openssl::hash::MessageDigest::sha1(),
        &openssl::x509::X509::from_der(leaf.der()).unwrap(),
        &openssl::x509::X509::from_der(root.der()).unwrap(),
    );
    let mut request = openssl::ocsp::OcspRequest::new().unwrap();
    request.add_id(id.unwrap()).unwrap();
    let encoded = openssl::base64::encode_block(&request.to_der().unwrap());
    let escaped = encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let reply = http_get(port, &format!("/some/where/{escaped}")).unwrap();
    assert!(openssl_judges(&reply.body, &leaf).0);
    assert!(!openssl_judges(&reply.body, &root.leaf("leaf.test").issue()).1.contains("leaf.pem: good"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.headers.iter().any(|line| line.eq_ignore_ascii_case("content-type: application/ocsp-response")));
    assert_eq!(responder.requests(&leaf), 1);
    assert_eq!(http_get(port, "/nothing").unwrap().status, 404);
}

#[test]
fn openssl_as_responder_answers_and_learns_of_a_revocation() {
    let root = Identity::root("Kit Root");
    let delegate = root.delegate("Kit Delegate").issue();
    for signer in [&root, &delegate] {
        let mut responder = OpensslResponder::new(&root, signer);
        let leaf = root.leaf("leaf.test").ocsp(&responder.url()).issue();
        let stranger = root.leaf("stranger.test").issue();
        responder.good(&leaf).start();
        let (verified, text) = openssl_asks(&responder.url(), &leaf);
        assert!(verified && text.contains("leaf.pem: good"), "{text}");
        assert!(openssl_asks(&responder.url(), &stranger).1.contains("leaf.pem: unknown"));
        responder.revoke(&leaf);
        let (verified, text) = openssl_asks(&responder.url(), &leaf);
        assert!(verified && text.contains("leaf.pem: revoked"), "{text}");
    }
}

#[test]
fn clients_tell_a_stapled_certificate_from_an_unstapled_one() {
    let root = Identity::root("Kit Root");
    let below = root.intermediate("Kit Intermediate");
    let leaf = |name: &str| below.leaf(name).ocsp("http://127.0.0.1:9").issue();
    let delegate = below.delegate("Kit Delegate").issue();
    let good = leaf("good.test");
    let must_staple = below.leaf("must.test").must_staple().issue();
    let delegated = leaf("delegated.test");
    let revoked = leaf("revoked.test");
    let plain = leaf("plain.test");
    let rsa = below.leaf("rsa.test").key(KeyKind::Rsa).issue();
    let good_response = Response::good(&good, &below).der();
    let yesterday = support::now() - SignedDuration::from_hours(24);
    let revoked_response = Response::good(&revoked, &below).status(support::response::revoked(yesterday)).der();
    let haproxy = Haproxy::builder()
        .file("good.pem", good.combined_pem())
        .file("good.pem.ocsp", &good_response)
        .file("must.pem", must_staple.combined_pem())
        .file("must.pem.ocsp", Response::good(&must_staple, &below).der())
        .file("delegated.pem", delegated.combined_pem())
        .file("delegated.pem.ocsp", Response::good(&delegated, &delegate).der())
        .file("revoked.pem", revoked.combined_pem())
        .file("revoked.pem.ocsp", &revoked_response)
        .file("plain.pem", plain.combined_pem())
        .file("rsa.pem", rsa.combined_pem())
        .start();
    let listed = haproxy.command("show ssl cert");
    assert_eq!(listed.lines().filter(|line| line.ends_with(".pem")).count(), 6, "{listed}");
    assert!(listed.contains(haproxy.certificate("good.pem").to_str().unwrap()), "{listed}");

    let ca = haproxy.certs_dir().join("../root.pem");
    write_root(&good, &ca);
    let look = |name: &str| (s_client(haproxy.port(), name), strict(haproxy.port(), name, &ca));
    for name in ["good.test", "must.test", "delegated.test"] {
        let (seen, verdict) = look(name);
        let seen = seen.unwrap();
        assert_eq!((seen.cert_status.as_str(), verdict), ("good", Strict::Accepted), "{name}");
        assert_eq!(seen.next_update.unwrap().duration_since(seen.this_update), support::response::LIFETIME);
    }
    let (seen, verdict) = look("revoked.test");
    assert_eq!(seen.unwrap().cert_status, "revoked");
    assert!(matches!(&verdict, Strict::Refused(reason) if reason.contains("revocation reason")), "{verdict:?}");
    for name in ["plain.test", "rsa.test"] {
        let (seen, verdict) = look(name);
        assert_eq!(seen, None);
        assert!(matches!(&verdict, Strict::Refused(reason) if reason.contains("No OCSP response")), "{verdict:?}");
        assert_eq!(stapled_bytes(haproxy.port(), name), None);
    }
    assert_eq!(stapled_bytes(haproxy.port(), "good.test"), Some(good_response));
}

#[test]
fn a_reload_and_a_restart_bring_another_process() {
    let leaf = Identity::root("Kit Root").leaf("good.test").issue();
    for mode in [Mode::Single, Mode::MasterWorker] {
        let mut haproxy = Haproxy::builder().mode(mode).file("good.pem", leaf.combined_pem()).start();
        assert!(haproxy.version().starts_with(|digit: char| digit.is_ascii_digit()));
        let first = haproxy.pid();
        haproxy.reload();
        let second = haproxy.pid();
        assert_ne!(first, second, "{mode:?}");
        haproxy.restart();
        assert_ne!(second, haproxy.pid(), "{mode:?}");
        if mode == Mode::MasterWorker {
            let answer = support::haproxy::ask(&haproxy.master_socket(), "show proc").unwrap();
            assert!(answer.contains("worker"), "{answer}");
        }
        let worker = haproxy.pid();
        haproxy.kill();
        assert!(!Path::new(&format!("/proc/{worker}/exe")).exists(), "{mode:?} left its process behind");
    }
}

#[test]
fn a_missing_program_says_how_to_install_it() {
    let missing = std::panic::catch_unwind(|| run(&mut Command::new("no-such-peer")));
    let message = *missing.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "no-such-peer is not installed: run `make setup`, or `apt-get install no-such-peer`");
}
