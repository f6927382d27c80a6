//! What is shipped to watch the program with: alert rules, their runbooks, the dashboard, the list of metrics. Each is held
//! against a real /metrics and judged by Prometheus's own tools, and one test has real alarms delivered.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "monitoring/dashboard.rs"]
mod dashboard;
#[path = "monitoring/delivery.rs"]
mod delivery;
#[path = "monitoring/documents.rs"]
mod documents;
#[path = "support/everything.rs"]
mod everything;
#[path = "monitoring/promql.rs"]
mod promql;
#[path = "monitoring/rules.rs"]
mod rules;

#[path = "support/site.rs"]
mod site;
mod support;
