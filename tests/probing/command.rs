//! The command.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use jiff::SignedDuration;
use tempfile::TempDir;

use crate::site::plain;
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::{Identity, KeyKind};
use crate::support::response::{Response, revoked};
use crate::support::tls_server::TlsServer;
use crate::support::{free_port, now};
use crate::{code, good, probe};

const URL: &str = "http://ocsp.test";

fn leaf(root: &Identity, name: &str) -> Identity {
    root.leaf(name).ocsp(URL).issue()
}

/// Certificates in a file of their own.
fn pem_file(certificates: &[&Identity]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, certificates.iter().map(|each| each.pem()).collect::<String>()).unwrap();
    (dir, path)
}

#[test]
fn a_good_staple_is_seen_in_both_versions_of_tls_and_the_chain_is_checked() {
    let root = Identity::root("Probe Root");
    let issuing = root.intermediate("Probe Issuing CA");
    let site = leaf(&issuing, "site.test");
    let haproxy = Haproxy::builder().file("site.pem", site.combined_pem()).file("site.pem.ocsp", good(&site)).start();
    for arguments in [&["--servername", "site.test"][..], &[]] {
        let seen = probe(haproxy.port(), arguments);
        seen.assert_good();
        for (key_type, sight) in [("ecdsa", "good"), ("rsa", "not_offered")] {
            assert_eq!((seen.sight("TLSv1.2", key_type), seen.sight("TLSv1.3", key_type)), (sight, sight));
        }
        let shown = seen.handshake("TLSv1.3", "ecdsa");
        assert_eq!((&shown["subject"], &shown["ocsp_status"]), (&"CN=site.test".into(), &"good".into()));
    }
    // Any certificate of a CA file is an anchor, as for curl.
    for anchors in [&[&root][..], &[&issuing], &[&Identity::root("Other Root"), &root]] {
        let (_dir, file) = pem_file(anchors);
        probe(haproxy.port(), &["--servername", "site.test", "--ca-file", file.to_str().unwrap()]).assert_good();
    }
    let other = Identity::root("Other Root");
    let (_dir, file) = pem_file(&[&other]);
    let seen = probe(haproxy.port(), &["--servername", "site.test", "--ca-file", file.to_str().unwrap()]);
    seen.assert_bad("refused", "stapled, but the certificate does not lead to a certificate in the CA file");
    assert_eq!(seen.kinds("TLSv1.3", "ecdsa"), ["untrusted"]);
    assert!(seen.text.contains("  Put the certificates between"), "{}", seen.text);
}

#[test]
fn both_halves_of_a_bundle_are_seen_each_with_its_own_staple() {
    let root = Identity::root("Bundle Root");
    let rsa = root.leaf("both.test").key(KeyKind::Rsa).ocsp(URL).issue();
    let ecdsa = leaf(&root, "both.test");
    let builder = |staples: [Option<Vec<u8>>; 2]| {
        let mut builder = Haproxy::builder();
        let path = builder.certs_dir().join("both.pem");
        for ((kind, leaf), staple) in [("rsa", &rsa), ("ecdsa", &ecdsa)].into_iter().zip(staples) {
            builder = builder.file(&format!("both.pem.{kind}"), leaf.combined_pem());
            if let Some(staple) = staple {
                builder = builder.file(&format!("both.pem.{kind}.ocsp"), staple);
            }
        }
        builder.bind(&format!("crt {}", path.display())).start()
    };
    let both = builder([Some(good(&rsa)), Some(good(&ecdsa))]);
    let seen = probe(both.port(), &["--servername", "both.test"]);
    seen.assert_good();
    for key_type in ["rsa", "ecdsa"] {
        assert_eq!((seen.sight("TLSv1.2", key_type), seen.sight("TLSv1.3", key_type)), ("good", "good"));
    }
    let half = builder([None, Some(good(&ecdsa))]);
    let seen = probe(half.port(), &["--servername", "both.test"]);
    seen.assert_bad("not_stapled", "TLSv1.3 with rsa keys: nothing is stapled");
    assert_eq!((seen.sight("TLSv1.3", "ecdsa"), seen.sight("TLSv1.2", "rsa")), ("good", "not_stapled"));
}

/// Certificate, staple, what is seen, how the verdict begins, the kind of what is wrong.
type Case<'a> = (&'a Identity, Option<Vec<u8>>, &'static str, &'static str, &'static str);

#[test]
fn what_a_strict_client_would_refuse_is_refused_with_its_reason() {
    let root = Identity::root("Strict Root");
    let (site, other, plain) = (leaf(&root, "site.test"), leaf(&root, "other.test"), root.leaf("plain.test").issue());
    let day = SignedDuration::from_hours(24);
    let response = || Response::good(&site, &root);
    let forger = Identity::root("Strict Root");
    let forged = response().with(|response| response.signer = forger).der();
    let stale = Response::good_at(&site, &root, now() - day, day / 2).der();
    let is_revoked = response().status(revoked(now() - day)).der();
    let unknown = response().status(x509_ocsp::CertStatus::unknown()).der();
    let cases: [Case<'_>; 7] = [
        (&site, None, "not_stapled", "nothing is stapled", "not_stapled"),
        (&plain, None, "not_stapled", "nothing is stapled, and the certificate names no OCSP", "nothing_to_staple"),
        (
            &site,
            Some(is_revoked),
            "refused",
            "stapled, but the staple says that the certificate is revoked at",
            "revoked",
        ),
        (&site, Some(unknown), "refused", "stapled, but the staple says that the certificate is unknown", "unknown"),
        (
            &site,
            Some(forged),
            "refused",
            "stapled, but the staple is refused: its signature is not",
            "signature_invalid",
        ),
        (
            &site,
            Some(good(&other)),
            "refused",
            "stapled, but the staple is refused: it is about another",
            "cert_id_mismatch",
        ),
        (&site, Some(stale), "refused", "stapled, but the staple is refused: it is stale", "stale"),
    ];
    for (leaf, staple, sight, words, kind) in cases {
        let server = TlsServer::start(leaf, staple.as_deref(), &[]);
        let seen = probe(server.port(), &["--servername", &leaf.name()]);
        seen.assert_bad(sight, words);
        assert_eq!(seen.kinds("TLSv1.3", "ecdsa"), [kind], "{}", seen.text);
        assert_eq!(seen.sight("TLSv1.2", "ecdsa"), sight, "{}", seen.text);
    }
}

/// HAProxy checks no signature and reads over what follows the response.
#[test]
fn what_haproxy_was_made_to_staple_is_judged_all_the_same() {
    let root = Identity::root("Strict Root");
    let (forged, trailed) = (leaf(&root, "forged.test"), leaf(&root, "trailed.test"));
    let forger = Identity::root("Strict Root");
    let haproxy = Haproxy::builder()
        .file("forged.pem", forged.combined_pem())
        .file("forged.pem.ocsp", Response::good(&forged, &root).with(|response| response.signer = forger).der())
        .file("trailed.pem", trailed.combined_pem())
        .file("trailed.pem.ocsp", Response::good(&trailed, &root).with(|response| response.trailing = vec![0; 9]).der())
        .start();
    let seen = probe(haproxy.port(), &["--servername", "forged.test"]);
    seen.assert_bad("refused", "stapled, but the staple is refused: its signature is not that of");
    let seen = probe(haproxy.port(), &["--servername", "trailed.test"]);
    // HAProxy 3.4 leaves off what follows the response.
    if stapled_bytes(haproxy.port(), "trailed.test").unwrap().ends_with(&[0; 9]) {
        seen.assert_bad("refused", "stapled, but the staple is refused: it is not a well-formed");
    } else {
        seen.assert_good();
    }
    // Several names, one after the other, each with its own verdict; the worst decides.
    let seen = probe(haproxy.port(), &["--servername", "trailed.test", "--servername", "forged.test"]);
    assert_eq!((seen.code, seen.json["probes"].as_array().unwrap().len()), (1, 2));
    assert_eq!(seen.json["probes"][1]["servername"], "forged.test");
}

#[test]
fn the_names_that_a_certificate_is_for_are_checked() {
    let root = Identity::root("Name Root");
    let default = leaf(&root, "default.test");
    let wild = root.leaf("*.wild.test").ocsp(URL).issue();
    let mut builder = Haproxy::builder();
    for (name, leaf) in [("a-default", &default), ("wild", &wild)] {
        builder = builder.file(&format!("{name}.pem"), leaf.combined_pem());
        builder = builder.file(&format!("{name}.pem.ocsp"), good(leaf));
    }
    let haproxy = builder.start();
    probe(haproxy.port(), &["--servername", "www.wild.test"]).assert_good();
    let seen = probe(haproxy.port(), &["--servername", "elsewhere.test"]);
    seen.assert_bad("refused", "stapled, but the certificate shown is that of 'CN=default.test', which is not for");
    assert_eq!(seen.kinds("TLSv1.2", "ecdsa"), ["name_mismatch"]);
    // Nobody was asked for: the default certificate is right.
    probe(haproxy.port(), &[]).assert_good();

    let strict = Haproxy::builder()
        .file("site.pem", default.combined_pem())
        .file("site.pem.ocsp", good(&default))
        .bind_options("strict-sni")
        .start();
    probe(strict.port(), &["--servername", "default.test"]).assert_good();
    let seen = probe(strict.port(), &["--servername", "elsewhere.test"]);
    seen.assert_bad("no_handshake", "the server has nothing under the name 'elsewhere.test'");
    assert_eq!(seen.kinds("TLSv1.3", "ecdsa"), ["name_refused"]);
}

#[test]
fn a_server_that_does_not_send_its_issuer_can_be_judged_with_a_ca_file() {
    let root = Identity::root("Chainless Root");
    let site = leaf(&root, "site.test");
    let haproxy = Haproxy::builder()
        .file("site.pem", site.chainless_pem())
        .file("site.pem.issuer", root.pem())
        .file("site.pem.ocsp", good(&site))
        .start();
    let seen = probe(haproxy.port(), &["--servername", "site.test"]);
    seen.assert_bad("refused", "stapled, but the staple cannot be verified: the server does not send");
    assert_eq!(seen.kinds("TLSv1.3", "ecdsa"), ["no_issuer"]);
    let (_dir, file) = pem_file(&[&root]);
    probe(haproxy.port(), &["--servername", "site.test", "--ca-file", file.to_str().unwrap()]).assert_good();
    // Of another issuer, the certificate in the file is no help.
    let (_dir, file) = pem_file(&[&Identity::root("Chainless Root")]);
    let seen = probe(haproxy.port(), &["--servername", "site.test", "--ca-file", file.to_str().unwrap()]);
    assert_eq!((seen.code, seen.kinds("TLSv1.3", "ecdsa")), (1, vec!["no_issuer", "untrusted"]));
}

#[test]
fn an_expired_certificate_is_told_with_and_without_a_ca_file() {
    let root = Identity::root("Old Root");
    let site = root.leaf("old.test").ocsp(URL).expired().issue();
    let server = TlsServer::start(&site, Some(&good(&site)), &[]);
    let seen = probe(server.port(), &["--servername", "old.test"]);
    seen.assert_bad("refused", "stapled, but the certificate itself ended at");
    let (_dir, file) = pem_file(&[&root]);
    let seen = probe(server.port(), &["--servername", "old.test", "--ca-file", file.to_str().unwrap()]);
    seen.assert_bad(
        "refused",
        "stapled, but the certificate does not lead to a certificate in the CA file: certificate has",
    );
}

#[test]
fn servers_of_one_version_of_tls_are_good_enough() {
    let root = Identity::root("Version Root");
    let site = leaf(&root, "site.test");
    for (option, offered, other) in [("-tls1_2", "TLSv1.2", "TLSv1.3"), ("-tls1_3", "TLSv1.3", "TLSv1.2")] {
        let server = TlsServer::start(&site, Some(&good(&site)), &[option]);
        let seen = probe(server.port(), &["--servername", "site.test"]);
        seen.assert_good();
        assert_eq!((seen.sight(offered, "ecdsa"), seen.sight(other, "ecdsa")), ("good", "not_offered"));
    }
    let haproxy = Haproxy::builder()
        .file("site.pem", site.combined_pem())
        .file("site.pem.ocsp", good(&site))
        .bind_options("ssl-max-ver TLSv1.2")
        .start();
    let seen = probe(haproxy.port(), &["--servername", "site.test"]);
    seen.assert_good();
    assert_eq!((seen.sight("TLSv1.2", "ecdsa"), seen.sight("TLSv1.3", "ecdsa")), ("good", "not_offered"));
}

#[test]
fn a_server_that_cannot_be_spoken_to_costs_one_deadline() {
    let seen = probe(free_port(), &["--servername", "a.test", "--servername", "b.test"]);
    seen.assert_bad("no_handshake", "cannot connect to 127.0.0.1:");
    assert_eq!(seen.kinds("TLSv1.2", "rsa"), ["connect"]);
    assert_eq!(seen.text.lines().count(), 4, "a verdict and a remedy for each name: {}", seen.text);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let names = ["a.test", "b.test", "c.test"].map(|name| format!("--servername={name}"));
    let arguments: Vec<&str> = ["probe", &target].into_iter().chain(names.iter().map(String::as_str)).collect();
    let output = plain().env("STAPLER_TIMEOUT", "1s").run(&arguments);
    assert_eq!(code(&output), 1);
    silent.set_nonblocking(true).unwrap();
    let visits = silent.incoming().take_while(Result::is_ok).count();
    assert_eq!(visits, 4, "what holds for one name of a silent server holds for all");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(words.matches("gave no whole handshake within 1.0 s").count(), 3, "{words}");

    let seen = probe(http_server().port(), &[]);
    seen.assert_bad("no_handshake", "the handshake failed: ");
    let seen = plain().run(&["probe", "nowhere.invalid:443"]);
    assert_eq!(code(&seen), 1);
    assert!(String::from_utf8_lossy(&seen.stdout).contains("nowhere.invalid"));
}

/// Something that listens and speaks no TLS.
fn http_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    address
}
