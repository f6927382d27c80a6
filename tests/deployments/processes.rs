//! How HAProxy's processes come and go.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use crate::site::{Authority, metric, stapler_for, wait_for_metric, wait_for_passes, wait_for_state};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::{Haproxy, Mode};
use crate::support::pki::Identity;
use crate::support::process::put_program;
use crate::support::stapler::Stapler;
use crate::support::{PATIENCE, wait_for};
use crate::{wait_for_all, wait_for_staple, warnings};

/// A site with one certificate, and the program before it that keeps nothing beside it.
fn site(mode: Mode, socket: Which) -> (Authority, Identity, Haproxy, Stapler) {
    let authority = Authority::start();
    let leaf = authority.leaf("site.test");
    let haproxy = Haproxy::builder().mode(mode).file("site.pem", leaf.combined_pem()).start();
    let program = stapler_for(&haproxy).env("STAPLER_SOCKETS", socket(&haproxy));
    let stapler = program.env("STAPLER_OCSP_FILES", "never").start();
    (authority, leaf, haproxy, stapler)
}

/// Which of HAProxy's sockets the program is given.
type Which = fn(&Haproxy) -> PathBuf;

const SHAPES: [(Mode, Which); 3] = [
    (Mode::Single, Haproxy::socket),
    (Mode::MasterWorker, Haproxy::socket),
    (Mode::MasterWorker, Haproxy::master_socket),
];

/// The same for every shape, all at once: most of it is waiting.
fn for_every_shape(test: fn(Mode, Which)) {
    std::thread::scope(|scope| {
        for (mode, socket) in SHAPES {
            scope.spawn(move || test(mode, socket));
        }
    });
}

fn value(stapler: &Stapler, name: &str, haproxy: &str) -> f64 {
    let series = format!("haproxy_stapler_{name}{{haproxy=\"{haproxy}\"}}");
    metric(&stapler.get("/metrics").text(), &series).unwrap_or_default()
}

#[test]
fn a_reload_that_fails_costs_nothing() {
    for_every_shape(|mode, socket| {
        let (authority, leaf, mut haproxy, mut stapler) = site(mode, socket);
        let staple = wait_for_staple(haproxy.port(), &leaf);
        wait_for_all(&mut stapler, 1);
        let (pid, address) = (haproxy.pid(), socket(&haproxy).display().to_string());
        haproxy.reload_in_vain();
        wait_for_passes(&mut stapler, 2);
        assert_eq!(haproxy.pid(), pid, "the old process keeps serving");
        assert_eq!(stapled_bytes(haproxy.port(), "site.test").as_ref(), Some(&staple));
        stapler.wait_until("all to be well", |status| status["status"] == "ok" && status["haproxy"][0]["pid"] == pid);
        assert_eq!(value(&stapler, "haproxy_reloads_total", &address), 0.0);
        assert_eq!(value(&stapler, "staple_installs_total", &address), 1.0);

        haproxy.reload();
        assert_eq!(wait_for_staple(haproxy.port(), &leaf), staple);
        assert_eq!(authority.responder.requests(&leaf), 1);
    });
}

/// A client in the middle of a request: its worker cannot leave.
fn lingering_client(haproxy: &Haproxy) -> SslStream<TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let ssl = connector.build().configure().unwrap().verify_hostname(false);
    let mut stream = ssl.connect("site.test", TcpStream::connect(("127.0.0.1", haproxy.port())).unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: site.test\r\n").unwrap();
    stream
}

/// Asks on a connection that stays open.
fn ask_again(connection: &mut UnixStream, command: &str, until: &str) -> String {
    connection.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains(until) {
        let count = connection.read(&mut buffer).unwrap();
        assert!(count > 0, "closed before '{until}': {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_worker_that_leaves_and_still_answers_is_not_taken_for_the_one_that_serves() {
    for_every_shape(|mode, socket| {
        let (authority, leaf, mut haproxy, mut stapler) = site(mode, socket);
        let staple = wait_for_staple(haproxy.port(), &leaf);
        wait_for_all(&mut stapler, 1);
        let old = haproxy.pid();
        let _client = lingering_client(&haproxy);
        let mut kept = UnixStream::connect(haproxy.socket()).unwrap();
        kept.set_read_timeout(Some(PATIENCE)).unwrap();
        ask_again(&mut kept, "prompt\nshow info", "Pid:");
        haproxy.reload();
        let leaving = ask_again(&mut kept, "show info", "Stopping: 1");
        assert!(leaving.contains(&format!("Pid: {old}\n")), "the old one is still there: {leaving}");

        assert_eq!(wait_for_staple(haproxy.port(), &leaf), staple);
        let pid = haproxy.pid();
        assert_ne!(pid, old);
        stapler.wait_until("the new process to be the known one", |status| {
            status["haproxy"][0]["pid"] == pid && status["haproxy"][0]["reloads"] == 1 && status["status"] == "ok"
        });
        wait_for_passes(&mut stapler, 2);
        assert_eq!(stapler.status().unwrap()["haproxy"][0]["reloads"], 1, "and it stays so");
        assert_eq!(authority.responder.requests(&leaf), 1);
        drop(kept);
    });
}

#[test]
fn a_new_container_with_the_old_process_id_is_a_new_process() {
    let authority = Authority::start();
    let leaf = authority.leaf("site.test");
    // A process namespace each: HAProxy is process 1 in every container.
    let wrapper = tempfile::tempdir().unwrap();
    let program = wrapper.path().join("container");
    let binary = Haproxy::builder().binary().display().to_string();
    let script = format!("#!/bin/sh\nexec unshare --pid --fork --kill-child '{binary}' \"$@\"\n");
    put_program(&program, script.as_bytes());
    let mut haproxy = Haproxy::builder_for(&program).file("site.pem", leaf.combined_pem()).start();
    assert_eq!(haproxy.pid(), 1, "run this test as root, as in a container with CAP_SYS_ADMIN");
    let mut stapler = stapler_for(&haproxy).env("STAPLER_OCSP_FILES", "never").start();
    let staple = wait_for_staple(haproxy.port(), &leaf);
    wait_for_all(&mut stapler, 1);
    // HAProxy before 2.4 does not say when it started, only for how long it has been running.
    wait_for("HAProxy to have run for a while", PATIENCE, || {
        haproxy.info("Uptime_sec")?.parse::<u32>().ok().filter(|seconds| *seconds >= 4)
    });
    wait_for_passes(&mut stapler, 1);
    haproxy.restart();
    assert_eq!(haproxy.pid(), 1);
    assert_eq!(wait_for_staple(haproxy.port(), &leaf), staple);
    let address = haproxy.socket().display().to_string();
    wait_for_metric(&stapler, &format!("haproxy_stapler_haproxy_reloads_total{{haproxy=\"{address}\"}}"), 1.0);
    assert_eq!(authority.responder.requests(&leaf), 1);
}

#[test]
fn a_socket_that_disappears_and_returns_loses_nothing() {
    for_every_shape(|mode, socket| {
        let (authority, leaf, haproxy, mut stapler) = site(mode, socket);
        let staple = wait_for_staple(haproxy.port(), &leaf);
        wait_for_all(&mut stapler, 1);
        let (path, aside) = (socket(&haproxy), haproxy.dir().join("aside"));
        fs::rename(&path, &aside).unwrap();
        stapler.wait_until("the socket to be missed", |status| {
            status["haproxy"][0]["trouble"]["kind"] == "not_found" && status["status"] == "degraded"
        });
        fs::rename(&aside, &path).unwrap();
        stapler.wait_until("the socket to be back", |status| status["status"] == "ok");
        wait_for_passes(&mut stapler, 2);
        wait_for_state(&mut stapler, "/site.pem", "stapled");
        let address = path.display().to_string();
        assert_eq!(value(&stapler, "haproxy_reloads_total", &address), 0.0, "it is the same process");
        assert_eq!(value(&stapler, "staple_installs_total", &address), 1.0, "and has what it had");
        assert_eq!(stapled_bytes(haproxy.port(), "site.test"), Some(staple));
        assert_eq!(authority.responder.requests(&leaf), 1);
        assert_eq!(warnings(&stapler).len(), 1, "{:#?}", warnings(&stapler));
    });
}
