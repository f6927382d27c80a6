//! What the tests and the demo share: certificates minted on the spot, responders, a real HAProxy, real TLS clients.
//!
//! Everything that is started is owned by a value and is killed and waited for when that value is dropped. Everything
//! listens on a port that was free a moment ago. A peer that is not installed is a failure that names the command.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a kit: each user takes a part of it, runs it in real time, and wants a broken peer to fail loudly"
)]

pub mod client;
pub mod dice;
pub mod haproxy;
pub mod openssl_responder;
pub mod pki;
pub mod process;
pub mod responder;
pub mod response;
pub mod stapler;
pub mod tls_server;
pub mod volume;

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How long a peer may take to do what it normally does at once: generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The wall clock, in whole seconds as OCSP has it.
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// Below what systems give out by themselves: no client's connection takes a port between our look and its use.
const PORTS: Range<u32> = 10_200..32_000;

/// A loopback port that was free a moment ago; never the same one twice in a process, and other processes start to look
/// elsewhere.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    loop {
        let step = GIVEN.fetch_add(1, Ordering::Relaxed);
        let offset = start.wrapping_add(step) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + offset).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Asks `probe` again and again until it has an answer; panics with `what` when patience ends.
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
