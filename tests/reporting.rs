//! What the program says about itself: /metrics as Prometheus reads it, the JSON endpoints as the dashboards read
//! them, the log as people do.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "reporting/endpoints.rs"]
mod endpoints;
#[path = "support/everything.rs"]
mod everything;
#[path = "reporting/log.rs"]
mod log;
#[path = "reporting/metrics.rs"]
mod metrics;

#[path = "support/site.rs"]
mod site;
mod support;
