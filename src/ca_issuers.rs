//! What a caIssuers URL gives: certificates in whichever of three forms the CA chose (RFC 5280 section 4.2.2.1).

use openssl::pkcs7::Pkcs7;

use crate::certificate::Certificate;
use crate::pem;

/// No CA sends more for one issuer; a hostile one shall not make us parse forever.
const MOST_CERTIFICATES: usize = 16;

/// The certificates in a download: one DER certificate, PEM, or a certs-only PKCS#7 (RFC 5272 section 4.1). Empty when it
/// is none of these.
#[must_use]
pub fn certificates(body: &[u8]) -> Vec<Certificate> {
    let mut found = if let Ok(certificate) = Certificate::from_der(body) {
        vec![certificate]
    } else if let Ok(certificates) = pem::certificates(body) {
        certificates
    } else {
        from_pkcs7(body)
    };
    found.truncate(MOST_CERTIFICATES);
    found
}

fn from_pkcs7(body: &[u8]) -> Vec<Certificate> {
    let Ok(pkcs7) = Pkcs7::from_der(body).or_else(|_| Pkcs7::from_pem(body)) else { return Vec::new() };
    let Some(certificates) = pkcs7.signed().and_then(|signed| signed.certificates()) else { return Vec::new() };
    certificates
        .iter()
        .take(MOST_CERTIFICATES)
        .filter_map(|certificate| certificate.to_der().ok())
        .filter_map(|der| Certificate::from_der(&der).ok())
        .collect()
}
