//! Every way people deploy HAProxy: where certificates live, how processes come and go, who else changes what they run.
//!
//! Each test is one layout on a live HAProxy (`HAPROXY_BIN`, or the one on the PATH), looked at from outside: what a TLS
//! client gets, what lies on disk, what `/status` says. What a version of HAProxy does not have is not asked of it.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test in real time"
)]

#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;

mod layouts;
mod limits;
mod processes;
mod rotation;
mod sockets;
mod stores;
mod unserved;
mod volumes;

use std::fs;
use std::path::{Path, PathBuf};

use haproxy_stapler::haproxy::Version;
use serde_json::Value;

use crate::support::client::{openssl_judges, stapled_bytes_by_now};
use crate::support::haproxy::{Builder, Haproxy};
use crate::support::pki::Identity;
use crate::support::stapler::{Stapler, certificate};
use crate::support::{PATIENCE, wait_for};

/// The version of HAProxy under test.
fn version() -> Version {
    Version::parse(&Haproxy::builder().version()).unwrap()
}

/// A file below HAProxy's own directory, with its directories.
fn write(builder: &Builder, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = builder.dir().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// One more frontend, on a port of its own.
fn frontend(name: &str, port: u16, certificates: &str) -> String {
    let answer = "http-request return status 200 content-type text/plain string ok";
    format!("frontend {name}\n    bind 127.0.0.1:{port} ssl {certificates}\n    {answer}\n")
}

/// What a client of this port gets stapled, as soon as it gets anything; OpenSSL calls it good.
fn wait_for_staple(port: u16, leaf: &Identity) -> Vec<u8> {
    let staple = wait_for(&format!("a staple for {leaf:?}"), PATIENCE, || stapled_bytes_by_now(port, &leaf.name()));
    let (verified, text) = openssl_judges(&staple, leaf);
    assert!(verified && text.contains("leaf.pem: good"), "{leaf:?}: {text}");
    staple
}

/// Waits until all certificates there are, this many, are stapled and nothing is wrong.
fn wait_for_all(stapler: &mut Stapler, count: usize) -> Value {
    stapler.wait_until(&format!("{count} certificates to be stapled"), |status| {
        status["states"]["stapled"] == count && status["certificates"].as_array().unwrap().len() == count
    })
}

/// The state of one certificate in `/status`.
fn state(status: &Value, name: &str) -> String {
    certificate(status, name).and_then(|entry| entry["state"].as_str()).unwrap_or("absent").to_owned()
}

/// Waits for a file to hold exactly this.
fn wait_for_file(path: &Path, content: &[u8]) {
    let what = format!("{} to hold the staple", path.display());
    wait_for(&what, PATIENCE, || (fs::read(path).ok()? == content).then_some(()));
}

/// What the log warns about, other than HAProxy's release.
fn warnings(stapler: &Stapler) -> Vec<String> {
    let is_one = |line: &&str| line.contains("WARN") && !line.contains("stapling_race");
    stapler.log().lines().filter(is_one).map(str::to_owned).collect()
}

/// Several paths or addresses for one variable.
fn list(items: &[&dyn std::fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Insists that HAProxy would start with what lies on disk now, without a single warning.
fn assert_startable(haproxy: &Haproxy) {
    let (fine, words) = haproxy.check();
    assert!(fine, "HAProxy would not start: {words}");
}
