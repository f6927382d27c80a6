//! Keeps the OCSP staple of every certificate that HAProxy serves fresh, verified, persistent and visible.
//!
//! Modules in layer order; ARCHITECTURE.md has the picture, `tests/architecture.rs` holds the allowed imports.

pub mod certificate;
pub mod clock;
pub mod crt_list;
pub mod discovery;
pub mod pem;
pub mod settings;
pub mod store;
