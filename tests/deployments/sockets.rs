//! Sockets of every kind, several at once.

use crate::site::{Authority, impatient, wait_for_passes};
use crate::support::haproxy::{Haproxy, Mode};
use crate::support::pki::Identity;
use crate::support::{PATIENCE, free_port, wait_for};
use crate::{list, wait_for_staple};

const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

fn builder_with(leaf: &Identity) -> crate::Builder {
    Haproxy::builder().file("site.pem", leaf.combined_pem())
}

#[test]
fn a_path_tcp_and_a_master_beside_two_that_are_dead() {
    let authority = Authority::start();
    let [by_path, by_tcp, by_master] = ["path", "tcp", "master"].map(|name| authority.leaf(&format!("{name}.test")));
    let port = free_port();
    let mut path = builder_with(&by_path).start();
    let tcp = builder_with(&by_tcp).global(&format!("stats socket ipv4@127.0.0.1:{port} level admin")).start();
    let mut master = builder_with(&by_master).mode(Mode::MasterWorker).start();
    let sockets = [
        format!("ipv4@127.0.0.1:{}", free_port()),
        format!("unix@{}", path.socket().display()),
        format!("ipv4@127.0.0.1:{port}"),
        path.dir().join("nowhere.sock").display().to_string(),
        master.master_socket().display().to_string(),
    ];
    let certs = list(&[&path.certs_dir().display(), &tcp.certs_dir().display(), &master.certs_dir().display()]);
    let mut stapler = impatient(BINARY)
        .env("STAPLER_CERTS", certs)
        .env("STAPLER_SOCKETS", sockets.join(","))
        .env("STAPLER_OCSP_FILES", "never")
        .start();
    for (haproxy, leaf) in [(&path, &by_path), (&tcp, &by_tcp), (&master, &by_master)] {
        wait_for_staple(haproxy.port(), leaf);
    }
    let status = stapler.wait_until("each to have its own state", |status| {
        let haproxies = status["haproxy"].as_array().unwrap();
        let up: Vec<_> = haproxies.iter().map(|each| each["up"].clone()).collect();
        let served: Vec<_> = haproxies.iter().map(|each| each["served"].clone()).collect();
        up == [false, true, true, false, true] && served == [0, 1, 1, 0, 1] && status["states"]["stapled"] == 3
    });
    let kind = |index: usize| status["haproxy"][index]["trouble"]["kind"].clone();
    assert_eq!((kind(0), kind(3)), ("refused".into(), "not_found".into()));

    // Each is looked after by itself.
    path.reload();
    master.reload();
    wait_for_staple(path.port(), &by_path);
    wait_for_staple(master.port(), &by_master);
    wait_for("the reloads to be counted", PATIENCE, || {
        let status = stapler.status()?;
        let reloads: Vec<_> = status["haproxy"].as_array()?.iter().map(|each| each["reloads"].clone()).collect();
        (reloads == [0, 1, 0, 0, 1]).then_some(())
    });
    wait_for_passes(&mut stapler, 1);
    assert_eq!(authority.responder.total_requests(), 3, "nobody asked a CA again");
}

#[test]
fn every_stats_socket_line_of_the_documents_is_one_that_haproxy_takes() {
    let pages = [include_str!("../../README.md"), include_str!("../../docs/haproxy.md")];
    let lines: Vec<&str> =
        pages.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("    stats socket ")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    let haproxy = Haproxy::builder().file("site.pem", Identity::root("Site").chainless_pem()).start();
    let config = std::fs::read_to_string(haproxy.config_file()).unwrap();
    for line in lines {
        std::fs::write(
            haproxy.config_file(),
            config.replacen("global", &format!("global\n    stats socket {line}"), 1),
        )
        .unwrap();
        let (fine, words) = haproxy.check();
        assert!(fine && line.contains("level admin"), "{line}: {words}");
    }
}
