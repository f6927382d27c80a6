//! Keeps the OCSP staple of every certificate that HAProxy serves fresh, verified, persistent and visible.
//!
//! Modules in layer order; ARCHITECTURE.md has the picture, `tests/architecture.rs` holds the allowed imports.

pub mod agent;
pub mod ca_issuers;
pub mod certificate;
pub mod clock;
pub mod crt_list;
pub mod discovery;
pub mod explain;
pub mod fetch;
pub mod haproxy;
pub mod listings;
pub mod metrics;
pub mod ocsp;
pub mod pem;
pub mod probe;
pub mod report;
pub mod responder;
pub mod schedule;
pub mod server;
pub mod settings;
pub mod stamp;
pub mod status;
pub mod status_page;
pub mod store;
mod tlv;
pub mod uri;
