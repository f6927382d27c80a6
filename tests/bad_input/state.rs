//! A state directory that decayed: nothing of it is believed, nothing of it is in the way, and it is mended.
//!
//! Every byte of every kind of file is damaged in `src/agent/execute/tests.rs`; here the whole program starts with it.

use std::fs;
use std::path::Path;

use x509_ocsp::OcspResponseStatus;

use crate::site::{Authority, binary, impatient, wait_for_state};
use crate::support::client::{openssl_judges, stapled_bytes};
use crate::support::haproxy::Haproxy;
use crate::support::responder::Behaviour;
use crate::support::stapler::Stapler;
use crate::support::{PATIENCE, wait_for};

/// What becomes of every file of the directory.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 6] = [
    ("empty", |path| fs::write(path, []).unwrap()),
    ("half of it", |path| rewrite(path, |content| content.truncate(content.len() / 2))),
    ("its first byte", |path| rewrite(path, |content| content[0] ^= 1)),
    ("a byte in the middle", |path| rewrite(path, |content| *middle(content) ^= 0x10)),
    ("its last byte", |path| rewrite(path, |content| *content.last_mut().unwrap() ^= 0x80)),
    ("far too much", |path| fs::write(path, vec![0x30; 1 << 20]).unwrap()),
];

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    fs::write(path, content).unwrap();
}

fn middle(content: &mut [u8]) -> &mut u8 {
    let half = content.len() / 2;
    &mut content[half]
}

fn files(stapler: &Stapler, ending: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(stapler.state_dir()).unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

#[test]
fn a_state_directory_that_decayed_is_not_believed_and_is_mended() {
    let authority = Authority::start();
    // The issuer of this one is downloaded: both kinds of files are there.
    let url = authority.responder.file("/root.der", "application/pkix-cert", authority.root.der());
    let orphan = authority.root.leaf("orphan.test").ocsp(&authority.responder.url()).ca_issuers(&url).issue();
    authority.responder.register(&orphan, &authority.root);
    let mut haproxy = Haproxy::builder().file("orphan.pem", orphan.chainless_pem()).start();
    let mut stapler =
        impatient(binary()).env("STAPLER_CERTS", haproxy.certs_dir()).env("STAPLER_SOCKETS", haproxy.socket()).start();
    for (what, damage) in DAMAGES {
        wait_for_state(&mut stapler, "/orphan.pem", "stapled");
        wait_for("both files", PATIENCE, || {
            (files(&stapler, "ocsp").len() == 1 && files(&stapler, "issuer").len() == 1).then_some(())
        });
        let issuer = files(&stapler, "issuer");
        assert!(stapler.stop().success());
        for entry in fs::read_dir(stapler.state_dir()).unwrap() {
            damage(&entry.unwrap().path());
        }
        haproxy.restart();
        authority.responder.set(&orphan, Behaviour::Refuses(OcspResponseStatus::TryLater));
        authority.responder.forget();
        stapler.start_again();
        wait_for(&format!("the CA to be asked, with {what}"), PATIENCE, || {
            (authority.responder.requests(&orphan) > 0).then_some(())
        });
        if let Some(staple) = stapled_bytes(haproxy.port(), "orphan.test") {
            assert!(openssl_judges(&staple, &orphan).0, "{what}");
        }
        authority.responder.set(&orphan, Behaviour::Good);
        wait_for_state(&mut stapler, "/orphan.pem", "stapled");
        wait_for(&format!("the issuer to be mended, with {what}"), PATIENCE, || {
            (files(&stapler, "issuer") == issuer).then_some(())
        });
        assert!(!stapler.log().contains("panicked"), "{what}");
    }
}
