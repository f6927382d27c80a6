//! What is told of a certificate in every snapshot and never changes: made once, and shared by all of them. No IO.

use std::sync::Arc;

use super::asking::Whom;
use crate::certificate::Certificate;
use crate::status::NoResponder;
use crate::uri;

/// In letters, of a URL that cannot be asked.
const LONGEST_QUOTE: usize = 200;

/// A certificate in words.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) subject: Arc<str>,
    pub(super) issuer: Arc<str>,
    /// In hexadecimal, as the fingerprint.
    pub(super) serial_number: Arc<str>,
    pub(super) fingerprint: Arc<str>,
    /// Who is asked, in order.
    pub(super) responders: Arc<[String]>,
    /// Why nobody is, if so.
    pub(super) no_responder: Option<NoResponder>,
}

impl Identity {
    /// Of a certificate about which these are asked.
    pub(super) fn new(certificate: &Certificate, responders: &[Whom]) -> Self {
        let (subject, issuer) = certificate.names();
        Self {
            subject,
            issuer,
            serial_number: certificate.serial_number().to_string().into(),
            fingerprint: certificate.fingerprint().to_string().into(),
            responders: responders.iter().map(|whom| whom.url.clone()).collect(),
            no_responder: responders.is_empty().then(|| no_responder(certificate)),
        }
    }
}

fn no_responder(certificate: &Certificate) -> NoResponder {
    let named = certificate.ocsp_responders();
    let is_askable = named.iter().any(|url| uri::is_http(url));
    match named.first() {
        None => NoResponder::NotNamed,
        Some(_) if is_askable => NoResponder::SwitchedOff,
        Some(url) => NoResponder::NotHttp(uri::excerpt(url, LONGEST_QUOTE)),
    }
}
