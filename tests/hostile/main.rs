//! The world against the program: responders that misbehave in every way there is, certificates that point where they
//! must not, names that do not resolve, clients that never finish.
//!
//! Everything happens at once to one process before a live HAProxy (`HAPROXY_BIN`, or the one on the PATH), because what
//! must hold is that no trouble is another's. What each came to is printed: `-- --nocapture` shows it.

#![allow(
    dead_code,
    unreachable_pub,
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

mod answers;
mod cast;
mod clients;
mod dns;
mod modes;
mod network;
mod recovery;
mod stage;
mod wire;
