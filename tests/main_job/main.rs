//! The main job from end to end: the built program, a real HAProxy, a CA that counts who asks, and clients that judge.
//!
//! Nothing here looks inside the program: what counts is what a TLS client gets, what HAProxy says it holds, what lies
//! on disk, and what `/status` and `/metrics` tell. Measured times are printed; only waiting has bounds.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test in real time"
)]

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod commands;
mod crashing;
mod keeping;
mod recorder;
mod refreshing;
mod reloading;
mod stapling;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::client::{Strict, openssl_judges, stapled_bytes, stapled_bytes_by_now, strict, write_root};
use support::haproxy::Haproxy;
use support::pki::{Draft, Identity};
use support::responder::Responder;
use support::stapler::{Stapler, certificate};
use support::{PATIENCE, stapler, wait_for};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

/// A root, an intermediate below it that issues, and the responder of both.
struct Ca {
    root: Identity,
    issuing: Identity,
    responder: Responder,
    dir: TempDir,
}

impl Ca {
    fn new() -> Self {
        let root = Identity::root("Main Root");
        let issuing = root.intermediate("Main Issuing CA");
        let dir = TempDir::new().unwrap();
        write_root(&issuing, &dir.path().join("root.pem"));
        Self { root, issuing, responder: Responder::start(), dir }
    }

    /// The trust anchor in a file, for curl.
    fn anchor(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// The draft of a certificate that names the responder.
    fn draft(&self, name: &str) -> Draft {
        self.issuing.leaf(name).ocsp(&self.responder.url())
    }

    /// A certificate that the responder knows as good.
    fn leaf(&self, name: &str) -> Identity {
        self.known(self.draft(name).issue())
    }

    /// The same, without the issuer's certificate at hand: it has to be downloaded.
    fn orphan(&self, name: &str) -> Identity {
        let url = self.responder.file("/issuing.der", "application/pkix-cert", self.issuing.der());
        self.known(self.draft(name).ca_issuers(&url).issue())
    }

    fn known(&self, leaf: Identity) -> Identity {
        self.responder.register(&leaf, leaf.issuer());
        leaf
    }
}

/// The program, set up for these HAProxies and their certificate directories.
fn stapler_for(haproxies: &[&Haproxy]) -> stapler::Builder {
    let list = |path: fn(&Haproxy) -> PathBuf| {
        haproxies.iter().map(|haproxy| path(haproxy).display().to_string()).collect::<Vec<_>>().join(",")
    };
    Stapler::builder(PROGRAM)
        .env("STAPLER_CERTS", list(Haproxy::certs_dir))
        .env("STAPLER_SOCKETS", list(Haproxy::socket))
        .env("STAPLER_SCAN_INTERVAL", "1s")
}

/// What a client gets stapled for this certificate, as soon as it gets anything.
fn wait_for_staple(haproxy: &Haproxy, leaf: &Identity) -> Vec<u8> {
    let what = format!("a staple for {}", leaf.name());
    wait_for(&what, PATIENCE, || stapled_bytes_by_now(haproxy.port(), &leaf.name()))
}

/// What a client gets stapled right now.
fn staple(haproxy: &Haproxy, leaf: &Identity) -> Option<Vec<u8>> {
    stapled_bytes(haproxy.port(), &leaf.name())
}

/// The staples of all of these, once they are there; says how long that took since `start`.
fn wait_for_staples(what: &str, start: Instant, haproxy: &Haproxy, leaves: &[&Identity]) -> Vec<Vec<u8>> {
    let staples = leaves.iter().map(|leaf| wait_for_staple(haproxy, leaf)).collect();
    say(what, start.elapsed());
    staples
}

/// Prints a measured time: `cargo test -- --nocapture` shows it.
fn say(what: &str, time: Duration) {
    eprintln!("{:6} ms  {what}", time.as_millis());
}

/// Insists that a client which refuses servers without a good staple accepts this one.
fn assert_accepted(haproxy: &Haproxy, leaf: &Identity, anchor: &Path) {
    assert_eq!(strict(haproxy.port(), &leaf.name(), anchor), Strict::Accepted, "{leaf:?}");
}

/// The same for a server that does not send its issuer, which curl would need: OpenSSL judges the bytes.
fn assert_genuine(response: &[u8], leaf: &Identity) {
    let (verified, text) = openssl_judges(response, leaf);
    assert!(verified && text.contains("leaf.pem: good"), "{leaf:?}: {text}");
}

/// The state of one certificate in `/status`.
fn state<'a>(status: &'a Value, name: &str) -> &'a str {
    certificate(status, name).and_then(|entry| entry["state"].as_str()).unwrap_or("absent")
}

/// The entry of one certificate in `/status`, once it is in this state.
fn wait_for_state(stapler: &mut Stapler, name: &str, wanted: &str) -> Value {
    let status = stapler.wait_until(&format!("{name} to be {wanted}"), |status| state(status, name) == wanted);
    certificate(&status, name).cloned().unwrap_or_default()
}

/// The sum of all series of a metric.
fn metric(stapler: &Stapler, name: &str) -> f64 {
    let text = stapler.get("/metrics").text();
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("haproxy_stapler_")?.strip_prefix(name)?;
        if rest.starts_with(['{', ' ']) { rest.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
    });
    series.sum()
}

/// The `.ocsp` file beside a certificate.
fn beside(haproxy: &Haproxy, name: &str) -> Option<Vec<u8>> {
    std::fs::read(haproxy.certificate(&format!("{name}.ocsp"))).ok()
}

/// What lies in a directory, by name.
fn listing(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Insists that HAProxy would start with what lies on disk now, without a single warning.
fn assert_startable(haproxy: &Haproxy) {
    let (fine, words) = haproxy.check();
    assert!(fine, "HAProxy would not start: {words}");
}
