//! A whole site at once: a CA that answers, a HAProxy that serves its certificates, and the program before both.
//!
//! Not part of the kit that the demo shares: only integration tests know where the program is.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "as the kit: each user takes a part of it"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::haproxy::{Builder as HaproxyBuilder, Haproxy};
use crate::support::pki::Identity;
use crate::support::responder::Responder;
use crate::support::stapler::{self, Stapler, certificate, http_get};
use crate::support::{PATIENCE, wait_for};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

/// A CA and its responder.
pub struct Authority {
    /// Where its certificates say it answers.
    pub responder: Responder,
    /// Its own certificate.
    pub root: Identity,
}

impl Authority {
    /// Starts a responder that knows nobody yet.
    pub fn start() -> Self {
        Self { responder: Responder::start(), root: Identity::root("Site Root") }
    }

    /// A certificate for `name` that the responder calls good.
    pub fn leaf(&self, name: &str) -> Identity {
        let leaf = self.root.leaf(name).ocsp(&self.responder.url()).issue();
        self.responder.register(&leaf, &self.root);
        leaf
    }
}

/// A HAProxy that is about to start with a certificate `good.pem` that nothing is wrong with.
pub fn haproxy_with_good(authority: &Authority) -> HaproxyBuilder {
    Haproxy::builder().file("good.pem", authority.leaf("good.test").combined_pem())
}

/// The program before `haproxy` and the directory it loads, eager to look again.
pub fn stapler_for(haproxy: &Haproxy) -> stapler::Builder {
    impatient(BINARY).env("STAPLER_CERTS", haproxy.certs_dir()).env("STAPLER_SOCKETS", haproxy.socket())
}

/// The program with short intervals; `binary` may be a wrapper around it.
pub fn impatient(binary: impl AsRef<Path>) -> stapler::Builder {
    Stapler::builder(binary).env("STAPLER_SCAN_INTERVAL", "1s").env("STAPLER_TIMEOUT", "1s")
}

/// The program as it comes, for its other commands.
pub fn plain() -> stapler::Builder {
    Stapler::builder(BINARY)
}

/// The path of the program.
pub fn binary() -> PathBuf {
    PathBuf::from(BINARY)
}

/// Waits until the certificate whose name ends with `name` is in `state`, and gives its entry of `/status`.
pub fn wait_for_state(stapler: &mut Stapler, name: &str, state: &str) -> Value {
    let is = |status: &Value| certificate(status, name).is_some_and(|entry| entry["state"] == state);
    let status = stapler.wait_until(&format!("{name} to be {state}"), is);
    certificate(&status, name).expect("it was there").clone()
}

/// Waits until the looks at the disk and at HAProxy that are due now are over, and some more.
pub fn wait_for_passes(stapler: &mut Stapler, more: u32) {
    let passes =
        |stapler: &Stapler| metric(&stapler.get("/metrics").text(), "haproxy_stapler_passes_total").unwrap_or(0.0);
    let wanted = passes(stapler) + f64::from(more);
    wait_for("more passes", PATIENCE, || (passes(stapler) >= wanted).then_some(()));
}

/// How many lines of the log say this.
pub fn said(stapler: &Stapler, words: &str) -> usize {
    stapler.log().lines().filter(|line| line.contains(words)).count()
}

/// Waits until the log says this.
pub fn wait_until_said(stapler: &Stapler, words: &str) {
    wait_for(&format!("the log to say '{words}'"), PATIENCE, || (said(stapler, words) > 0).then_some(()));
}

/// The value of one series, named as `/metrics` writes it.
pub fn metric(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until one series has this value.
pub fn wait_for_metric(stapler: &Stapler, series: &str, value: f64) {
    wait_for(&format!("{series} to be {value}"), PATIENCE, || {
        let text = http_get(stapler.port(), "/metrics").ok()?.text();
        metric(&text, series).filter(|now| (now - value).abs() < f64::EPSILON)
    });
}

/// Time for a peer that hangs to show that it delays nobody.
pub const SOON: Duration = Duration::from_secs(4);
