//! OCSP, the pure part: the request, the judgement of a response, and the proof that it may be served.
//!
//! A [`Response`] exists only because [`verify`] found that a strict client would accept it. A [`Staple`] exists only
//! because HAProxy would load that response and serve it for a while. Files and sockets take nothing else. The CA's
//! own bytes are kept beside what was read from them and are never encoded again.
//!
//! Two libraries read the same bytes and both must agree: x509-ocsp reads the fields and is strict about DER, OpenSSL
//! checks signatures and is what HAProxy and many clients use.

mod error;
mod loader;
mod parts;
mod request;
mod response;
mod signer;
mod staple;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use error::{CertIdField, ExtensionPlace, ResponseStatus, VerifyError};
pub use loader::{Refusal, haproxy_refusals};
pub use request::{CertId, Request, RequestError};
pub use response::{CertStatus, ResponderId, Response, Signer};
pub use signer::Unauthorized;
pub use staple::{Staple, Unloadable};
pub use verify::verify;

/// How far two clocks may be apart: what HAProxy tolerates (`OCSP_MAX_RESPONSE_TIME_SKEW`), and how long before
/// nextUpdate it stops serving a response.
pub const SKEW: Duration = Duration::from_secs(300);

/// Bytes as upper case hexadecimal digits, as HAProxy and OpenSSL print them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
