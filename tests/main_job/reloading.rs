//! HAProxy comes and goes: reloads, restarts, crashes, and restarts of the program itself.

use std::time::Instant;

use openssl::base64::encode_block;

use super::support::haproxy::{Haproxy, Mode, is_before};
use super::support::pki::Identity;
use super::support::response::Response;
use super::support::{PATIENCE, wait_for};
use super::{
    Ca, assert_accepted, assert_genuine, beside, listing, metric, say, staple, stapler_for, wait_for_staple,
    wait_for_staples,
};
use crate::recorder::{Recorder, transactions};

/// Two certificates with their chain and one without.
fn three(ca: &Ca) -> [Identity; 3] {
    [ca.leaf("one.test"), ca.leaf("two.test"), ca.orphan("orphan.test")]
}

fn haproxy_with(leaves: &[Identity; 3], mode: Mode) -> Haproxy {
    let [one, two, orphan] = leaves;
    Haproxy::builder()
        .mode(mode)
        .file("one.pem", one.combined_pem())
        .file("two.pem", two.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .start()
}

/// Which socket the program is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Admin,
    Master,
}

fn a_reload_brings_everything_back_from_memory(mode: Mode, socket: Socket) {
    let ca = Ca::new();
    let leaves = three(&ca);
    let all: Vec<&Identity> = leaves.iter().collect();
    let mut haproxy = haproxy_with(&leaves, mode);
    let path = if socket == Socket::Master { haproxy.master_socket() } else { haproxy.socket() };
    let stapler = stapler_for(&[&haproxy])
        .env("STAPLER_SOCKETS", path)
        .env("STAPLER_OCSP_FILES", "never")
        .env("STAPLER_SCAN_INTERVAL", "1h")
        .start();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    let asked = ca.responder.total_requests();
    for reloads in 1..=2 {
        haproxy.reload();
        let start = Instant::now();
        let what = format!("stapled after a reload, {mode:?}, {socket:?} socket (promised: 4 s)");
        assert_eq!(wait_for_staples(&what, start, &haproxy, &all), before);
        assert_eq!(f64::from(reloads), metric(&stapler, "haproxy_reloads_total"));
    }
    assert_accepted(&haproxy, &leaves[0], &ca.anchor());
    assert_eq!(ca.responder.total_requests(), asked, "a reload is no reason to ask a CA");
    assert_eq!(listing(&haproxy.certs_dir()), ["one.pem", "orphan.pem", "two.pem"], "STAPLER_OCSP_FILES=never");
}

#[test]
fn a_reload_of_a_single_process() {
    a_reload_brings_everything_back_from_memory(Mode::Single, Socket::Admin);
}

#[test]
fn a_reload_by_the_master() {
    a_reload_brings_everything_back_from_memory(Mode::MasterWorker, Socket::Admin);
}

#[test]
fn a_reload_by_the_master_seen_through_its_own_socket() {
    a_reload_brings_everything_back_from_memory(Mode::MasterWorker, Socket::Master);
}

#[test]
fn files_make_the_next_start_a_stapled_one_without_the_program() {
    let ca = Ca::new();
    let leaves = three(&ca);
    let [one, two, orphan] = &leaves;
    for mode in [Mode::Single, Mode::MasterWorker] {
        let mut haproxy = haproxy_with(&leaves, mode);
        let mut stapler = stapler_for(&[&haproxy]).start();
        let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &[one, two, orphan]);
        let on_disk = || [beside(&haproxy, "one.pem"), beside(&haproxy, "two.pem")];
        wait_for("the .ocsp files", PATIENCE, || on_disk().iter().all(Option::is_some).then_some(()));
        assert!(stapler.stop().success());
        haproxy.reload();
        assert_eq!(staple(&haproxy, one).as_ref(), before.first(), "the first handshake after a reload, {mode:?}");
        haproxy.restart();
        assert_eq!(staple(&haproxy, two).as_ref(), before.get(1), "the first handshake after a restart, {mode:?}");
        assert_eq!(staple(&haproxy, orphan), None, "there is no safe place for its file");
        assert_accepted(&haproxy, one, &ca.anchor());
    }
}

#[test]
fn a_haproxy_that_dies_and_returns_is_seen_and_stapled() {
    let ca = Ca::new();
    let leaves = three(&ca);
    let all: Vec<&Identity> = leaves.iter().collect();
    let mut haproxy = haproxy_with(&leaves, Mode::Single);
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_OCSP_FILES", "never").start();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    let asked = ca.responder.total_requests();
    for (kind, remove) in [("refused", false), ("not_found", true)] {
        haproxy.kill();
        if remove {
            std::fs::remove_file(haproxy.socket()).unwrap();
        }
        let start = Instant::now();
        let status = stapler.wait_until("HAProxy to be missed", |status| {
            status["haproxy"][0]["up"] == false && status["haproxy"][0]["trouble"]["kind"] == kind
        });
        say("a dead HAProxy is seen (promised: 2 s)", start.elapsed());
        assert_eq!((&status["status"], stapler.get("/healthz").status), (&"degraded".into(), 200));
        assert!(stapler.run(&["healthcheck"]).status.success());
        let trouble = &status["haproxy"][0]["trouble"];
        assert!(trouble["detail"].as_str().unwrap().contains("admin.sock"), "{trouble:#}");

        haproxy.start_again();
        let start = Instant::now();
        assert_eq!(wait_for_staples("stapled after its return (promised: 4 s)", start, &haproxy, &all), before);
        stapler.wait_until("all to be well", |status| status["status"] == "ok" && status["haproxy"][0]["up"] == true);
    }
    assert_eq!(ca.responder.total_requests(), asked);
    assert_eq!(metric(&stapler, "haproxy_reloads_total"), 2.0);
}

#[test]
fn a_program_that_starts_before_haproxy_waits_for_it() {
    let ca = Ca::new();
    let leaves = three(&ca);
    let all: Vec<&Identity> = leaves.iter().collect();
    let mut haproxy = haproxy_with(&leaves, Mode::Single);
    haproxy.kill();
    let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_OCSP_FILES", "never").start();
    stapler.wait_until_ready();
    assert_eq!(stapler.status().unwrap()["states"]["unstapled"], 3);
    haproxy.start_again();
    wait_for_staples("stapled after HAProxy's late start", Instant::now(), &haproxy, &all);
    assert_eq!(ca.responder.requests(&leaves[0]), 1);
}

fn several_looks_later() {
    std::thread::sleep(std::time::Duration::from_millis(2500));
}

#[test]
fn haproxy_is_written_to_only_when_the_bytes_differ() {
    let ca = Ca::new();
    let leaves = three(&ca);
    let all: Vec<&Identity> = leaves.iter().collect();
    let [one, two, orphan] = &leaves;
    let haproxy = Haproxy::builder()
        .file("one.pem", one.combined_pem())
        .file("two.pem.ecdsa", two.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .start();
    let can_read_back = haproxy.command("help").contains("show ssl ocsp-response");
    let recorder = Recorder::start(&haproxy.socket());
    let mut stapler = stapler_for(&[&haproxy])
        .env("STAPLER_SOCKETS", recorder.socket())
        .env("STAPLER_REFRESH_INTERVAL", "1s")
        .start();
    wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    stapler.wait_until_ready();
    stapler.wait_until("/status to agree", |status| status["states"]["stapled"] == 3);
    assert_eq!(metric(&stapler, "staple_installs_total"), 3.0);
    let writes = recorder.writes();
    // Three transactions of two commands each; the one that lacks its issuer needs a third. HAProxy before 2.4, which keeps a
    // transaction whose commit fails, is told each issuer.
    let commands = if is_before(&haproxy.version(), 2, 4) { 9 } else { 7 };
    assert_eq!(transactions(&writes).len(), commands, "{writes:#?}");
    several_looks_later();
    assert_eq!(recorder.writes(), writes);
    let pending = stapler.log().lines().filter(|line| line.contains("state=\"pending\"")).count();
    assert_eq!(pending, 0, "what HAProxy has is read again now and then, and that is no change of state");
    let asked = ca.responder.total_requests();

    stapler.stop();
    stapler.start_again();
    stapler.wait_until("all to be stapled", |status| status["states"]["stapled"] == 3);
    several_looks_later();
    if can_read_back {
        assert_eq!(metric(&stapler, "staple_installs_total"), 0.0);
        assert_eq!(recorder.writes(), writes);
    }
    assert_eq!(metric(&stapler, "staple_writes_total"), 0.0, "the files were right as well");
    assert_eq!(ca.responder.total_requests(), asked);
    let commands = recorder.commands();
    assert!(commands.len() > writes.len() && commands.iter().all(|command| !command.contains("PRIVATE KEY")));
    for leaf in all {
        assert_genuine(&wait_for_staple(&haproxy, leaf), leaf);
    }
}

#[test]
fn what_somebody_else_put_there_is_found_and_put_right() {
    let ca = Ca::new();
    let leaf = ca.leaf("site.test");
    let haproxy = Haproxy::builder().file("site.pem", leaf.combined_pem()).start();
    let _stapler = stapler_for(&[&haproxy]).env("STAPLER_REFRESH_INTERVAL", "1s").start();
    let ours = wait_for_staple(&haproxy, &leaf);
    let older = Response::good(&leaf, &ca.issuing).der();
    let push = || haproxy.command(&format!("set ssl ocsp-response {}", encode_block(&older)));
    assert!(push().contains("OCSP Response updated!"));
    // HAProxy before 2.5 does not show what it holds.
    if haproxy.command("help").contains("show ssl ocsp-response") {
        let start = Instant::now();
        wait_for("our staple to be back", PATIENCE, || (staple(&haproxy, &leaf)? == ours).then_some(()));
        say("an older staple pushed by somebody else was replaced (looked for every second here)", start.elapsed());
    }
    assert_eq!(ca.responder.requests(&leaf), 1);
}
