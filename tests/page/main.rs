//! The status page: what it says about every kind of trouble, what it makes of names that want to be markup, and how a
//! real browser shows it, narrow and wide, by day and by night, with two thousand certificates.

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
    reason = "a test in real time"
)]

#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;

mod browser;
mod chromium;
mod live;
mod looks;
mod samples;
mod words;
