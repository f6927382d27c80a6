//! Certificates that HAProxy has and no client ever sees: servers' own ones, and unused ones.

use crate::site::{Authority, impatient, wait_for_passes, wait_for_state};
use crate::support::haproxy::Haproxy;
use crate::{list, state, wait_for_staple, warnings, write};

const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

#[test]
fn the_certificate_of_a_server_line_is_no_failure() {
    let authority = Authority::start();
    let (front, back) = (authority.leaf("front.test"), authority.leaf("back.test"));
    let builder = Haproxy::builder().file("front.pem", front.combined_pem());
    let client = write(&builder, "servers/client.pem", back.combined_pem());
    let haproxy = builder
        .section(&format!("backend b\n    server s 127.0.0.1:1 ssl verify none crt {}\n", client.display()))
        .start();
    let certs = list(&[&haproxy.certs_dir().display(), &client.parent().unwrap().display()]);
    let program = impatient(BINARY).env("STAPLER_CERTS", certs).env("STAPLER_SOCKETS", haproxy.socket());
    let once = program.run(&["once"]);
    let table = String::from_utf8_lossy(&once.stdout).into_owned();
    assert_eq!(once.status.code(), Some(0), "{table}");
    let mut stapler = program.start();
    wait_for_staple(haproxy.port(), &front);
    wait_for_state(&mut stapler, "/front.pem", "stapled");
    wait_for_state(&mut stapler, "/client.pem", "not_loaded");
    wait_for_passes(&mut stapler, 2);
    let status = stapler.status().unwrap();
    assert_eq!((state(&status, "/client.pem").as_str(), &status["status"]), ("not_loaded", &"ok".into()), "{status:#}");
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}

#[test]
fn a_certificate_that_nothing_uses_is_no_failure() {
    let authority = Authority::start();
    let (front, idle) = (authority.leaf("front.test"), authority.leaf("idle.test"));
    let haproxy = Haproxy::builder().file("front.pem", front.combined_pem()).start();
    let idle_pem = haproxy.dir().join("idle.pem");
    std::fs::write(&idle_pem, idle.combined_pem()).unwrap();
    let (name, empty) = (idle_pem.display(), haproxy.dir().join("empty.pem"));
    assert!(haproxy.command(&format!("new ssl cert {}", empty.display())).contains("New empty"));
    assert!(haproxy.command(&format!("new ssl cert {name}")).contains("New empty"));
    assert!(haproxy.command(&format!("set ssl cert {name} <<\n{}", idle.combined_pem())).contains("Transaction"));
    assert!(haproxy.command(&format!("commit ssl cert {name}")).contains("Success!"));
    let certs = list(&[&haproxy.certs_dir().display(), &name]);
    let program = impatient(BINARY).env("STAPLER_CERTS", certs).env("STAPLER_SOCKETS", haproxy.socket());
    let once = program.run(&["once"]);
    assert_eq!(once.status.code(), Some(0), "{}", String::from_utf8_lossy(&once.stdout));
    let mut stapler = program.start();
    wait_for_staple(haproxy.port(), &front);
    wait_for_state(&mut stapler, "/idle.pem", "not_loaded");
    wait_for_passes(&mut stapler, 2);
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}
