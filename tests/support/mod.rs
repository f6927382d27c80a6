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
pub mod haproxy;
pub mod openssl_responder;
pub mod pki;
pub mod process;
pub mod responder;
pub mod response;
pub mod stapler;
pub mod volume;

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How long a peer may take to do what it normally does at once: generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The wall clock, in whole seconds as OCSP has it.
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// A loopback port that was free a moment ago; never the same one twice in a process.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
        let port = listener.local_addr().expect("the port").port();
        if given.get_or_insert_default().insert(port) {
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
