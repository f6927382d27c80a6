//! `run` that is told to stop, `once`, and `prepare`.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::haproxy::Haproxy;
use super::support::responder::Behaviour;
use super::support::stapler::{Builder, Stapler, certificate};
use super::support::{PATIENCE, wait_for};
use super::{Ca, PROGRAM, assert_accepted, assert_genuine, listing, say, staple, stapler_for, state, wait_for_staple};
use crate::recorder::Recorder;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The line of a table about one certificate.
fn line<'a>(table: &'a str, name: &str) -> &'a str {
    let of = |line: &&str| line.split_whitespace().next().is_some_and(|first| first.ends_with(name));
    table.lines().find(of).unwrap_or_else(|| panic!("no line about {name} in:\n{table}"))
}

fn assert_code(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
}

#[test]
fn signals_end_it_well_whatever_hangs() {
    let ca = Ca::new();
    let (hung, good) = (ca.leaf("hung.test"), ca.leaf("good.test"));
    ca.responder.set(&hung, Behaviour::Hang);
    let haproxy =
        Haproxy::builder().file("hung.pem", hung.combined_pem()).file("good.pem", good.combined_pem()).start();
    let silent = haproxy.socket().with_file_name("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let sockets = format!("{},{}", haproxy.socket().display(), silent.display());
    for signal in ["TERM", "INT"] {
        let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_SOCKETS", &sockets).start();
        wait_for("the responder to be asked", PATIENCE, || (ca.responder.requests(&hung) > 0).then_some(()));
        wait_for_staple(&haproxy, &good);
        // A client that keeps its connection open.
        let _visitor = std::net::TcpStream::connect(("127.0.0.1", stapler.port())).unwrap();
        let start = Instant::now();
        stapler.process().signal(signal);
        let status = stapler.process().wait(PATIENCE).unwrap();
        say(&format!("ended by SIG{signal} while a responder and a socket hang (promised: 5 s)"), start.elapsed());
        assert!(status.success() && start.elapsed() < Duration::from_secs(5), "{status}");
        ca.responder.forget();
    }
}

#[test]
fn an_idle_program_ends_at_once() {
    let ca = Ca::new();
    let good = ca.leaf("good.test");
    let haproxy = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    wait_for_staple(&haproxy, &good);
    stapler.wait_until_ready();
    let start = Instant::now();
    assert!(stapler.stop().success());
    say("ended by SIGTERM while idle", start.elapsed());
    assert_accepted(&haproxy, &good, &ca.anchor());
}

/// Names, inodes and times of change: what would show a write.
fn traces(directory: &Path) -> Vec<(String, u64, i64, i64)> {
    let trace = |name: String| {
        let metadata = directory.join(&name).metadata().unwrap();
        (name, metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    listing(directory).into_iter().map(trace).collect()
}

#[test]
fn once_staples_everything_and_says_so() {
    let ca = Ca::new();
    let (good, orphan) = (ca.leaf("good.test"), ca.orphan("orphan.test"));
    let haproxy = Haproxy::builder()
        .file("good.pem", good.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .file("plain.pem", ca.issuing.leaf("plain.test").issue().combined_pem())
        .start();
    let can_read_back = haproxy.command("help").contains("show ssl ocsp-response");
    let recorder = Recorder::start(&haproxy.socket());
    let state_dir = haproxy.socket().with_file_name("state");
    let stapler =
        stapler_for(&[&haproxy]).env("STAPLER_SOCKETS", recorder.socket()).env("STAPLER_STATE_DIR", &state_dir);
    let start = Instant::now();
    let first = stapler.run(&["once"]);
    say("`once`, with two certificates to staple", start.elapsed());
    assert_code(&first, 0);
    let table = text(&first.stdout);
    for (name, state, status) in
        [("good.pem", "stapled", "good"), ("orphan.pem", "stapled", "good"), ("plain.pem", "no_responder", "none")]
    {
        let columns: Vec<&str> = line(&table, name).split_whitespace().collect();
        assert_eq!(columns[1..3], [state, status], "{table}");
    }
    assert_accepted(&haproxy, &good, &ca.anchor());
    assert_genuine(&staple(&haproxy, &orphan).unwrap(), &orphan);
    assert_eq!(listing(&haproxy.certs_dir()), ["good.pem", "good.pem.ocsp", "orphan.pem", "plain.pem"]);

    let (on_disk, kept, writes) = (traces(&haproxy.certs_dir()), traces(&state_dir), recorder.writes());
    let asked = ca.responder.total_requests();
    let second = stapler.run(&["once", "--json"]);
    assert_code(&second, 0);
    let json: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(state(&json, "good.pem"), "stapled");
    assert_eq!(json["states"]["no_responder"], 1);
    assert_eq!((traces(&haproxy.certs_dir()), traces(&state_dir)), (on_disk, kept), "a second pass writes no file");
    if can_read_back {
        assert_eq!(recorder.writes(), writes, "and nothing to HAProxy");
    }
    assert_eq!(ca.responder.total_requests(), asked, "and asks nobody");
}

#[test]
fn once_fails_with_the_reason_in_the_table() {
    let ca = Ca::new();
    let (good, refused, hung) = (ca.leaf("good.test"), ca.leaf("refused.test"), ca.leaf("hung.test"));
    ca.responder.set(&refused, Behaviour::Refuses(x509_ocsp::OcspResponseStatus::Unauthorized));
    ca.responder.set(&hung, Behaviour::Hang);
    let haproxy = Haproxy::builder()
        .file("good.pem", good.combined_pem())
        .file("refused.pem", refused.combined_pem())
        .file("hung.pem", hung.combined_pem())
        .file("alone.pem", ca.draft("alone.test").issue().chainless_pem())
        .start();
    let stapler = stapler_for(&[&haproxy]).env("STAPLER_TIMEOUT", "1s");
    let output = stapler.run(&["once"]);
    assert_code(&output, 1);
    let table = text(&output.stdout);
    let states = ["refused.pem", "hung.pem", "alone.pem", "good.pem"]
        .map(|name| line(&table, name).split_whitespace().nth(1).unwrap());
    assert_eq!(states, ["unstapled", "unstapled", "no_issuer", "stapled"], "{table}");
    assert!(line(&table, "refused.pem").contains("unauthorized"), "{table}");
    assert!(line(&table, "hung.pem").contains("no whole answer within 1.0 s"), "{table}");
    assert!(line(&table, "alone.pem").contains(".issuer"), "{table}");
    assert_accepted(&haproxy, &good, &ca.anchor());

    let json: serde_json::Value = serde_json::from_slice(&stapler.run(&["once", "--json"]).stdout).unwrap();
    let entry = certificate(&json, "refused.pem").unwrap();
    assert_eq!((&entry["state"], &entry["trouble"]["kind"]), (&"unstapled".into(), &"unauthorized".into()));
}

#[test]
fn once_without_haproxy_fails_and_names_the_socket() {
    let ca = Ca::new();
    let good = ca.leaf("good.test");
    let mut haproxy = Haproxy::builder().file("good.pem", good.combined_pem()).start();
    haproxy.kill();
    let output = stapler_for(&[&haproxy]).run(&["once"]);
    assert_code(&output, 1);
    let table = text(&output.stdout);
    assert!(line(&table, "good.pem").contains("admin.sock"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("! ") && line.contains("start HAProxy")), "{table}");
}

/// The program before there is a HAProxy.
fn early(certs: &Path) -> Builder {
    Stapler::builder(PROGRAM).env("STAPLER_CERTS", certs).env("STAPLER_SOCKETS", certs.with_file_name("admin.sock"))
}

#[test]
fn prepare_makes_the_first_handshake_a_stapled_one() {
    let ca = Ca::new();
    let (good, hung, orphan) = (ca.leaf("good.test"), ca.leaf("hung.test"), ca.orphan("orphan.test"));
    ca.responder.set(&hung, Behaviour::Hang);
    let haproxy = Haproxy::builder()
        .file("good.pem", good.combined_pem())
        .file("hung.pem", hung.combined_pem())
        .file("orphan.pem", orphan.chainless_pem());
    let program = early(&haproxy.certs_dir());
    let start = Instant::now();
    assert_code(&program.run(&["prepare", "--deadline", "2s"]), 0);
    say("`prepare --deadline 2s` with a responder that hangs", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "the deadline is for all of it");
    assert_eq!(listing(&haproxy.certs_dir()), ["good.pem", "good.pem.ocsp", "hung.pem", "orphan.pem"]);
    let output = program.run(&["prepare", "--deadline", "2s", "--strict"]);
    assert_code(&output, 1);
    let table = text(&output.stdout);
    assert!(line(&table, "hung.pem").contains("pending") || line(&table, "hung.pem").contains("unstapled"), "{table}");
    let haproxy = haproxy.start();
    let first = staple(&haproxy, &good);
    assert_genuine(&first.unwrap(), &good);
    assert_accepted(&haproxy, &good, &ca.anchor());
    assert_eq!(ca.responder.requests(&good), 1, "the second time it was there already");

    ca.responder.set(&hung, Behaviour::Good);
    assert_code(&program.run(&["prepare", "--strict"]), 0);
}

#[test]
fn prepare_lets_haproxy_start_without_a_ca() {
    let ca = Ca::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = ca.issuing.leaf("dead.test").ocsp(&format!("http://127.0.0.1:{port}")).issue();
    let haproxy = Haproxy::builder().file("dead.pem", dead.combined_pem());
    let program = early(&haproxy.certs_dir());
    let output = program.run(&["prepare"]);
    assert_code(&output, 0);
    assert!(line(&text(&output.stdout), "dead.pem").contains("unstapled"), "{}", text(&output.stdout));
    assert_code(&program.run(&["prepare", "--strict"]), 1);
    assert_eq!(listing(&haproxy.certs_dir()), ["dead.pem"]);
    assert_eq!(staple(&haproxy.start(), &dead), None);
}

#[test]
fn a_long_pass_shows_a_bar_on_a_terminal_and_a_line_in_the_log_elsewhere() {
    let ca = Ca::new();
    let (quick, slow) = (ca.leaf("quick.test"), ca.leaf("slow.test"));
    ca.responder.set(&slow, Behaviour::Delayed(Duration::from_secs(6), Box::new(Behaviour::Good)));
    let (bar, count) = ("[==========          ] ", "1 of 2 certificates settled");
    let files = |directory: &Path| {
        std::fs::write(directory.join("quick.pem"), quick.combined_pem()).unwrap();
        std::fs::write(directory.join("slow.pem"), slow.combined_pem()).unwrap();
    };

    let certs = TempDir::new().unwrap();
    files(certs.path());
    let output = early(certs.path()).run(&["prepare", "--json"]);
    assert_code(&output, 0);
    let log = text(&output.stderr);
    assert!(log.contains(count) && !log.contains('\r') && !log.contains('\x1b') && !log.contains(bar), "{log}");
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok(), "nothing but the object");

    // `script` gives it a terminal and copies what comes there.
    for (term, shown) in [("xterm", true), ("dumb", false)] {
        let certs = TempDir::new().unwrap();
        files(certs.path());
        let program = Stapler::builder("script").env("STAPLER_CERTS", certs.path()).env("TERM", term);
        let output = program.run(&["-qec", &format!("{PROGRAM} prepare"), "/dev/null"]);
        assert_code(&output, 0);
        let screen = text(&output.stdout);
        assert_eq!(screen.contains(&format!("\r\x1b[K{bar}{count}")), shown, "{screen}");
        let (_, end) = screen.rsplit_once("CERTIFICATE ").unwrap();
        assert!(!end.contains(bar), "the table stands alone: {screen}");
        if shown {
            assert!(screen.contains("\r\x1b[KCERTIFICATE "), "and in the bar's place: {screen}");
        }
    }
}
