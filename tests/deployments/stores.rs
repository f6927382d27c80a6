//! Certificates in several files: crt-stores, `ssl-load-extra-del-ext`, `issuers-chain-path`.

use std::fs;

use jiff::SignedDuration;

use crate::site::{Authority, impatient, stapler_for, wait_for_passes, wait_for_state};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::now;
use crate::support::responder::Behaviour;
use crate::{assert_startable, list, version, wait_for_all, wait_for_file, wait_for_staple, warnings, write};

const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

#[test]
fn a_crt_store_with_aliases() {
    if !version().is_at_least(3, 0) {
        eprintln!("crt-stores came with HAProxy 3.0");
        return;
    }
    let authority = Authority::start();
    let (split, listed, far) =
        (authority.leaf("split.test"), authority.leaf("listed.test"), authority.leaf("far.test"));
    let builder = Haproxy::builder();
    let store = builder.dir().join("store");
    write(&builder, "store/split.crt", format!("{}{}", split.pem(), authority.root.pem()));
    write(&builder, "store/split.key", split.key_pem());
    write(&builder, "store/listed.pem", listed.combined_pem());
    let far_pem = write(&builder, "elsewhere/far.pem", far.combined_pem());
    // HAProxy does not start without a file that its configuration names. An empty one is only a warning.
    let ocsp = write(&builder, "staples/split.ocsp", "");
    let crt_list = write(&builder, "list.txt", "@web/listed [alpn h2] listed.test\n");
    let mut haproxy = builder
        .preamble(&format!(
            "crt-store web\n    crt-base {store}\n    key-base {store}\n    load crt split.crt key split.key alias split \
             ocsp {ocsp}\n    load crt listed.pem alias listed\n    load crt {far} alias far\n",
            store = store.display(),
            ocsp = ocsp.display(),
            far = far_pem.display()
        ))
        .bind(&format!("crt @web/split crt @web/far crt-list {}", crt_list.display()))
        .start();
    // From 3.2 on, HAProxy says which files it has its certificates and staples from.
    let says_more = version().is_at_least(3, 2);
    let mut certs = store.display().to_string();
    if !says_more {
        certs.push_str(&format!(",{}", far_pem.display()));
    }
    // Good in a response that is due in a few seconds, and revoked from then on.
    let nearly_due = Behaviour::GoodAt(now() - SignedDuration::from_secs(236), SignedDuration::from_secs(620));
    authority.responder.set(&split, Behaviour::First(Box::new(nearly_due), Box::new(Behaviour::Revoked)));
    let mut stapler = impatient(BINARY)
        .env("STAPLER_CERTS", certs)
        .env("STAPLER_SOCKETS", haproxy.socket())
        .env("STAPLER_ON_REVOKED", "withhold")
        .start();
    let staples = [&split, &listed, &far].map(|leaf| wait_for_staple(haproxy.port(), leaf));
    for name in ["@web/listed", "@web/far"] {
        wait_for_state(&mut stapler, name, "stapled");
    }
    if !says_more {
        return;
    }
    wait_for_file(&ocsp, &staples[0]);
    haproxy.reload();
    assert_eq!(stapled_bytes(haproxy.port(), "split.test").as_ref(), Some(&staples[0]), "from the file, at once");
    // What would otherwise be removed stays, because HAProxy would not start.
    wait_for_state(&mut stapler, "@web/split", "revoked");
    wait_for_passes(&mut stapler, 2);
    wait_for_file(&ocsp, &staples[0]);
    assert_startable(&haproxy);
}

#[test]
fn files_named_without_the_certificates_extension() {
    if !version().is_at_least(2, 3) {
        eprintln!("ssl-load-extra-del-ext came with HAProxy 2.3");
        return;
    }
    let authority = Authority::start();
    let (site, chained, whole) =
        (authority.leaf("site.test"), authority.leaf("chained.test"), authority.leaf("whole.test"));
    let builder = Haproxy::builder()
        .global("ssl-load-extra-del-ext")
        .file("site.crt", site.pem())
        .file("site.key", site.key_pem())
        .file("site.issuer", authority.root.pem())
        .file("chained.crt", format!("{}{}", chained.pem(), authority.root.pem()))
        .file("chained.key", chained.key_pem())
        .file("whole.crt", whole.combined_pem());
    let mut haproxy = builder.start();
    let mut stapler = stapler_for(&haproxy).start();
    let staples = [&site, &chained, &whole].map(|leaf| wait_for_staple(haproxy.port(), leaf));
    wait_for_all(&mut stapler, 3);
    // A certificate with its key inside shows nothing of the setting; HAProxy 3.2 and later tell it themselves.
    let told = version().is_at_least(3, 2);
    let names = ["site.ocsp", "chained.ocsp", if told { "whole.ocsp" } else { "whole.crt.ocsp" }];
    for (name, staple) in names.iter().zip(&staples) {
        wait_for_file(&haproxy.certificate(name), staple);
    }
    assert!(!told || !haproxy.certificate("whole.crt.ocsp").exists());
    assert_startable(&haproxy);
    assert!(stapler.stop().success());
    haproxy.reload();
    for (leaf, staple) in [&site, &chained, &whole].iter().zip(&staples).take(if told { 3 } else { 2 }) {
        let first = stapled_bytes(haproxy.port(), &leaf.name());
        assert_eq!(first.as_ref(), Some(staple), "the first handshake after a reload, {leaf:?}");
    }

    // Another certificate takes its place on disk: its `.ocsp` is there before HAProxy is reloaded.
    stapler.start_again();
    wait_for_all(&mut stapler, 3);
    let renewed = authority.leaf("site.test");
    fs::write(haproxy.certificate("site.key"), renewed.key_pem()).unwrap();
    fs::write(haproxy.certificate("site.crt"), renewed.pem()).unwrap();
    let fresh = crate::wait_for("the renewed certificate's staple", crate::PATIENCE, || {
        fs::read(haproxy.certificate("site.ocsp")).ok().filter(|der| *der != staples[0])
    });
    haproxy.reload();
    assert_eq!(stapled_bytes(haproxy.port(), "site.test"), Some(fresh));
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}

#[test]
fn issuers_from_haproxys_own_directory_of_them() {
    let authority = Authority::start();
    let leaf = authority.leaf("site.test");
    let builder = Haproxy::builder().file("site.pem", leaf.chainless_pem());
    write(&builder, "chain/other.pem", Authority::start().root.pem());
    let root = write(&builder, "chain/root.pem", authority.root.pem());
    let chain = root.parent().unwrap();
    let haproxy = builder.global(&format!("issuers-chain-path {}", chain.display())).start();
    let without = stapler_for(&haproxy).run(&["once"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without.stdout).contains("no_issuer"));

    let certs = list(&[&haproxy.certs_dir().display(), &chain.display()]);
    let program = stapler_for(&haproxy).env("STAPLER_CERTS", certs);
    let once = program.run(&["once"]);
    assert_eq!(once.status.code(), Some(0), "{}", String::from_utf8_lossy(&once.stdout));
    let mut stapler = program.start();
    wait_for_staple(haproxy.port(), &leaf);
    wait_for_all(&mut stapler, 1);
    assert_startable(&haproxy);
    assert_eq!(fs::read_dir(chain).unwrap().count(), 2, "nothing is written beside CAs");
}
