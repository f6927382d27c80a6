//! `make demo`: a CA, a real HAProxy with six certificates, and haproxy-stapler at work.
//!
//! Everything runs on the loopback in temporary directories and ends with this program.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person at a terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::client::{Strict, openssl_judges, s_client, stapled_bytes, strict, write_root};
use support::haproxy::Haproxy;
use support::openssl_responder::OpensslResponder;
use support::pki::Identity;
use support::responder::Responder;
use support::stapler::{Stapler, certificate, http_get};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long the stapler may take to settle: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What must be seen in the end for one of the six.
struct Case {
    file: &'static str,
    host: &'static str,
    about: &'static str,
    identity: Identity,
    state: &'static str,
    client: Client,
}

/// What a strict client must make of it.
#[derive(Clone, Copy)]
enum Client {
    /// `curl --cert-status` accepts.
    Curl,
    /// The server does not send its issuer, and curl needs that; `openssl ocsp` judges the stapled bytes instead.
    Openssl,
    /// Refused, because the staple says revoked.
    Revoked,
    /// Refused, because there is no staple.
    NoStaple,
}

impl Case {
    fn is_stapled(&self) -> bool {
        !matches!(self.client, Client::NoStaple)
    }
}

/// Everything that runs. The order of the fields is the order in which it ends.
struct Stage {
    stapler: Stapler,
    haproxy: Haproxy,
    _cas: Vec<OpensslResponder>,
    _files: Responder,
    root: PathBuf,
}

fn main() -> ExitCode {
    let mut once = false;
    let mut binary = None;
    for argument in std::env::args_os().skip(1) {
        if argument == "--once" {
            once = true;
        } else {
            binary = Some(PathBuf::from(argument));
        }
    }
    let Some(binary) = binary.filter(|binary| binary.is_file()) else {
        eprintln!("usage: demo [--once] PATH_OF_HAPROXY_STAPLER (`make demo` knows it)");
        return ExitCode::from(64);
    };
    listen_for_interrupts();
    let passed = run(&binary, once);
    if once {
        println!("\n{}", if passed { "PASS" } else { "FAIL" });
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(binary: &Path, once: bool) -> bool {
    let mut verdicts = Verdicts::default();
    println!("A demo CA and three `openssl ocsp` responders, a web server for the CA's certificate,");
    println!("and a real HAProxy with six certificates that it loads without any .ocsp file:\n");
    let (cases, mut stage) = set_up(binary);
    for case in &cases {
        println!("  {:15} {}", case.file, case.about);
    }
    println!("\nHAProxy {} serves them on 127.0.0.1:{}.\n", stage.haproxy.version(), stage.haproxy.port());

    let settled = watch(&cases, &mut stage);
    verdicts.all_passed &= settled;
    println!();
    judge(&cases, &stage, &mut verdicts);
    verdicts.note("/healthz answers 200", stage.stapler.url(), http_status(&stage, "/healthz") == 200);
    let metrics = body(&stage, "/metrics");
    let counted = metrics.lines().any(|line| line == r#"haproxy_stapler_certificates{state="stapled"} 4"#);
    verdicts.note("/metrics counts four", r#"haproxy_stapler_certificates{state="stapled"} 4"#, counted);

    if settled && !interrupted() {
        let before = stage.haproxy.pid();
        stage.haproxy.reload();
        let back = soon(|| all_stapled(&cases, &stage.haproxy));
        let pids = format!("process {before} is now {}", stage.haproxy.pid());
        verdicts.note("HAProxy reloaded, staples back", pids, back);
    }
    if !once && !interrupted() && stage.stapler.process().exited().is_none() {
        invite(&cases, &stage);
        follow(&cases, &stage);
        println!("\nEnding.");
    }
    let alive = stage.stapler.process().exited().is_none();
    let status = stage.stapler.stop();
    verdicts.note("SIGTERM ends it with status 0", status, alive && status.success());
    verdicts.all_passed
}

fn set_up(binary: &Path) -> (Vec<Case>, Stage) {
    let root = Identity::root("Demo Root CA");
    let issuing = root.intermediate("Demo Issuing CA");
    let delegate = issuing.delegate("Demo OCSP Signer").issue();
    let mut ca = OpensslResponder::new(&issuing, &issuing);
    let mut delegated_ca = OpensslResponder::new(&issuing, &delegate);
    let mut root_ca = OpensslResponder::new(&root, &root);
    let files = Responder::start();
    let root_url = files.file("/root.der", "application/pkix-cert", root.der());

    let case = |host, file, about, identity, state, client| Case { file, host, about, identity, state, client };
    let cases = vec![
        case(
            "good.test",
            "good.pem",
            "signed by the CA itself",
            issuing.leaf("good.test").ocsp(&ca.url()).issue(),
            "stapled",
            Client::Curl,
        ),
        case(
            "must.test",
            "must.pem",
            "must-staple: browsers that honour it refuse it unstapled",
            issuing.leaf("must.test").ocsp(&ca.url()).must_staple().issue(),
            "stapled",
            Client::Curl,
        ),
        case(
            "delegated.test",
            "delegated.pem",
            "the CA lets another key sign its answers",
            issuing.leaf("delegated.test").ocsp(&delegated_ca.url()).issue(),
            "stapled",
            Client::Curl,
        ),
        case(
            "aia.test",
            "aia.pem",
            "no chain in the file: the issuer must be downloaded",
            root.leaf("aia.test").ocsp(&root_ca.url()).ca_issuers(&root_url).issue(),
            "stapled",
            Client::Openssl,
        ),
        case(
            "revoked.test",
            "revoked.pem",
            "revoked, and clients are told",
            issuing.leaf("revoked.test").ocsp(&ca.url()).issue(),
            "revoked",
            Client::Revoked,
        ),
        case(
            "plain.test",
            "plain.pem",
            "no OCSP URL, like most certificates today",
            issuing.leaf("plain.test").issue(),
            "no_responder",
            Client::NoStaple,
        ),
    ];
    let mut haproxy = Haproxy::builder();
    for Case { file, identity, client, .. } in &cases {
        let pem = if matches!(client, Client::Openssl) { identity.chainless_pem() } else { identity.combined_pem() };
        haproxy = haproxy.file(file, pem);
        if matches!(client, Client::Revoked) {
            ca.revoked(identity);
        } else {
            ca.good(identity);
            delegated_ca.good(identity);
            root_ca.good(identity);
        }
    }
    let mut cas = vec![ca, delegated_ca, root_ca];
    cas.iter_mut().for_each(OpensslResponder::start);
    let haproxy = haproxy.start();
    let anchor = haproxy.config_file().with_file_name("root.pem");
    write_root(&root, &anchor);
    assert!(cases.iter().all(|case| stapled_bytes(haproxy.port(), case.host).is_none()), "a staple before the start");
    let stapler = Stapler::builder(binary)
        .env("STAPLER_CERTS", haproxy.certs_dir())
        .env("STAPLER_SOCKETS", haproxy.socket())
        .start();
    (cases, Stage { stapler, haproxy, _cas: cas, _files: files, root: anchor })
}

/// Shows the table while it fills, until every certificate is in the state it must come to.
fn watch(cases: &[Case], stage: &mut Stage) -> bool {
    let mut table = Table::new();
    let start = Instant::now();
    loop {
        if let Some(status) = stage.stapler.process().exited() {
            println!("haproxy-stapler ended with {status}:\n{}", stage.stapler.log());
            return false;
        }
        let status = stage.stapler.status().unwrap_or_default();
        table.show(&rows(cases, &status));
        if cases.iter().all(|case| field(&status, case, "state") == case.state) {
            println!("\nSettled {:.1} s after haproxy-stapler started.", start.elapsed().as_secs_f32());
            return true;
        }
        if start.elapsed() > PATIENCE || interrupted() {
            println!("\nNot settled. What haproxy-stapler logged:\n{}", stage.stapler.log());
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Looks with the eyes of strict clients.
fn judge(cases: &[Case], stage: &Stage, verdicts: &mut Verdicts) {
    let port = stage.haproxy.port();
    let status = stage.stapler.status().unwrap_or_default();
    for case in cases {
        let state = field(&status, case, "state");
        let seen = s_client(port, case.host).map_or_else(|| "none".to_owned(), |seen| seen.cert_status);
        let (satisfied, words) = match case.client {
            Client::Openssl => {
                let staple = stapled_bytes(port, case.host).unwrap_or_default();
                let (verified, _) = openssl_judges(&staple, &case.identity);
                let words = if verified { "verify" } else { "do not verify" };
                (verified && seen == "good", format!("the stapled bytes {words} with `openssl ocsp`"))
            }
            wanted => match (strict(port, case.host, &stage.root), wanted) {
                (Strict::Accepted, Client::Curl) => (true, "accepted by `curl --cert-status`".to_owned()),
                (Strict::Accepted, _) => (false, "accepted by `curl --cert-status`".to_owned()),
                (Strict::Refused(why), Client::Revoked) => (seen == "revoked", format!("refused: {why}")),
                (Strict::Refused(why), Client::NoStaple) => (seen == "none", format!("refused: {why}")),
                (Strict::Refused(why), _) => (false, format!("refused: {why}")),
            },
        };
        verdicts.note(&format!("{} is {}", case.host, case.state), words, satisfied && state == case.state);
    }
}

fn invite(cases: &[Case], stage: &Stage) {
    let port = stage.haproxy.port();
    let host = cases.first().map_or("good.test", |case| case.host);
    println!("\nLook:");
    for path in ["/", "/status", "/metrics", "/healthz"] {
        if http_status(stage, path) == 200 {
            println!("  {}{path}", stage.stapler.url());
        }
    }
    println!("\nTry, in another terminal:");
    println!("  openssl s_client -connect 127.0.0.1:{port} -servername {host} -status </dev/null");
    println!(
        "  curl --cert-status --cacert {} --resolve {host}:{port}:127.0.0.1 https://{host}:{port}/",
        stage.root.display()
    );
    println!("  echo 'show ssl ocsp-response' | socat - {}", stage.haproxy.socket().display());
    println!("\nChanges of state are shown here. Ctrl-C ends everything and removes it.");
}

/// Says what changes until Ctrl-C.
fn follow(cases: &[Case], stage: &Stage) {
    let mut last = Vec::new();
    while !interrupted() {
        if let Some(status) = stage.stapler.status() {
            let states: Vec<String> = cases.iter().map(|case| field(&status, case, "state")).collect();
            if !last.is_empty() && states != last {
                rows(cases, &status).iter().for_each(|row| println!("{row}"));
            }
            last = states;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// One line for every certificate under a heading, narrow enough for a plain terminal.
fn rows(cases: &[Case], status: &Value) -> Vec<String> {
    let line = |file: &str, state: &str, ocsp: &str, age: &str, next: &str| {
        format!("{file:15} {state:16} {ocsp:9} {age:>6}  {next}")
    };
    let mut rows = vec![line("certificate", "state", "ocsp", "age", "next update")];
    rows.extend(cases.iter().map(|case| {
        let age = certificate(status, case.file).and_then(|entry| entry.get("staple_age_seconds")?.as_f64());
        line(
            case.file,
            &field(status, case, "state"),
            &field(status, case, "ocsp_status"),
            &age.map_or_else(|| "-".to_owned(), |age| format!("{age:.0} s")),
            &field(status, case, "staple_next_update"),
        )
    }));
    rows
}

fn field(status: &Value, case: &Case, name: &str) -> String {
    let value = certificate(status, &format!("/{}", case.file)).and_then(|entry| entry.get(name)?.as_str());
    value.unwrap_or("-").to_owned()
}

fn all_stapled(cases: &[Case], haproxy: &Haproxy) -> bool {
    cases.iter().filter(|case| case.is_stapled()).all(|case| stapled_bytes(haproxy.port(), case.host).is_some())
}

/// Whether it holds within the patience of this demo.
fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if interrupted() || start.elapsed() >= PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn http_status(stage: &Stage, path: &str) -> u16 {
    get(stage, path).map_or(0, |reply| reply.status)
}

fn body(stage: &Stage, path: &str) -> String {
    get(stage, path).map(|reply| reply.text()).unwrap_or_default()
}

fn get(stage: &Stage, path: &str) -> Option<support::stapler::Reply> {
    http_get(stage.stapler.port(), path).ok()
}

/// Rows that are drawn over themselves on a terminal, and printed when they change elsewhere.
struct Table {
    terminal: bool,
    shown: Vec<String>,
}

impl Table {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), shown: Vec::new() }
    }

    fn show(&mut self, rows: &[String]) {
        if self.shown == rows {
            return;
        }
        if self.terminal && !self.shown.is_empty() {
            // Up to the heading, and clear from there.
            print!("\x1b[{}A\x1b[J", self.shown.len());
        }
        for (number, row) in rows.iter().enumerate() {
            if self.terminal || self.shown.get(number) != Some(row) {
                println!("{row}");
            }
        }
        self.shown = rows.to_vec();
    }
}

/// A line for every expectation.
struct Verdicts {
    all_passed: bool,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { all_passed: true }
    }
}

impl Verdicts {
    fn note(&mut self, expectation: &str, evidence: impl std::fmt::Display, holds: bool) {
        self.all_passed &= holds;
        println!("{} {expectation:31} {evidence}", if holds { "ok  " } else { "FAIL" });
    }
}

fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ctrl-C and SIGTERM only raise a flag, so that everything that was started is ended and removed.
fn listen_for_interrupts() {
    std::thread::spawn(|| {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
}
