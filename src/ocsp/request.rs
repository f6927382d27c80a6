//! The question: which certificate, and how to ask about it.

use der::asn1::{Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use openssl::error::ErrorStack;
use openssl::hash::{self, MessageDigest};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{OcspRequest, TbsRequest};

use super::loader::SHA1;
use crate::certificate::{Certificate, SerialNumber, openssl_reason};
use crate::tlv::certificate_parts;

/// The longest URL that is asked with GET, whole and encoded (RFC 9919 section 6, RFC 5019 section 5).
const MAX_GET_URL: usize = 255;

/// Why no request can be made for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no OCSP request can be made for this certificate: {reason}")]
pub struct RequestError {
    reason: String,
}

impl RequestError {
    fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string() }
    }

    /// A stable name for metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        "no_request"
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        "please report this certificate as a bug"
    }
}

impl From<ErrorStack> for RequestError {
    fn from(stack: ErrorStack) -> Self {
        Self::new(openssl_reason(&stack))
    }
}

/// What HAProxy keys its tree of responses by: the CertID with SHA-1 and NULL parameters (RFC 6960 section 4.1.1), in
/// the very encoding that OpenSSL's `OCSP_cert_to_id` gives, because HAProxy compares these bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertId {
    der: Box<[u8]>,
    issuer_name_hash: [u8; 20],
    issuer_key_hash: [u8; 20],
    serial_number: SerialNumber,
}

impl CertId {
    /// The CertID of `leaf`, as issued by `issuer`.
    ///
    /// # Errors
    /// When OpenSSL or the DER parser refuses, as for a serial number longer than RFC 5280 allows.
    pub fn new(leaf: &Certificate, issuer: &Certificate) -> Result<Self, RequestError> {
        Ok(Request::new(leaf, issuer)?.cert_id)
    }

    /// The encoded CertID.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-1 of the issuer's name.
    #[must_use]
    pub const fn issuer_name_hash(&self) -> &[u8; 20] {
        &self.issuer_name_hash
    }

    /// SHA-1 of the issuer's public key.
    #[must_use]
    pub const fn issuer_key_hash(&self) -> &[u8; 20] {
        &self.issuer_key_hash
    }

    /// The certificate's serial number.
    #[must_use]
    pub fn serial_number(&self) -> &SerialNumber {
        &self.serial_number
    }
}

/// An OCSP request for one certificate, unsigned and without a nonce: a staple is meant to be cached (RFC 9919 section
/// 3.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    cert_id: CertId,
    der: Box<[u8]>,
}

impl Request {
    /// Asks for the status of `leaf`, as issued by `issuer`.
    ///
    /// # Errors
    /// When OpenSSL or the DER parser refuses, as for a serial number longer than RFC 5280 allows.
    pub fn new(leaf: &Certificate, issuer: &Certificate) -> Result<Self, RequestError> {
        let cert_id = cert_id(SHA1, MessageDigest::sha1(), leaf, issuer)?;
        let asked = x509_ocsp::Request { req_cert: cert_id.clone(), single_request_extensions: None };
        let tbs_request = TbsRequest { request_list: vec![asked], ..TbsRequest::default() };
        let der = OcspRequest { tbs_request, optional_signature: None }.to_der().map_err(RequestError::new)?;
        let cert_id = CertId {
            der: cert_id.to_der().map_err(RequestError::new)?.into(),
            issuer_name_hash: sha1(&cert_id.issuer_name_hash)?,
            issuer_key_hash: sha1(&cert_id.issuer_key_hash)?,
            serial_number: leaf.serial_number().clone(),
        };
        Ok(Self { cert_id, der: der.into() })
    }

    /// What is asked about.
    #[must_use]
    pub fn cert_id(&self) -> &CertId {
        &self.cert_id
    }

    /// The body of a POST.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The URL of a GET (RFC 6960 appendix A.1), where the responder's URL leaves room for one: not behind a query or a
    /// fragment, and not longer than caches are promised to cope with.
    #[must_use]
    pub fn get_url(&self, responder: &str) -> Option<String> {
        if responder.contains(['?', '#']) {
            return None;
        }
        let slash = if responder.ends_with('/') { "" } else { "/" };
        let request = openssl::base64::encode_block(&self.der);
        let request = request.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let url = format!("{responder}{slash}{request}");
        (url.len() <= MAX_GET_URL).then_some(url)
    }
}

fn sha1(hash: &OctetString) -> Result<[u8; 20], RequestError> {
    hash.as_bytes().try_into().map_err(RequestError::new)
}

/// The CertID of `leaf` (RFC 6960 section 4.1.1) with this hash: of the issuer's name as the leaf spells it, of the bits
/// of the issuer's key, and the serial number as it stands. Made from the certificates' own bytes, as OpenSSL does it,
/// whose parser is too dear to be asked about every certificate again and again.
pub(super) fn cert_id(
    algorithm: ObjectIdentifier,
    hash: MessageDigest,
    leaf: &Certificate,
    issuer: &Certificate,
) -> Result<x509_ocsp::CertId, RequestError> {
    let cut = |certificate| certificate_parts(certificate).ok_or_else(|| RequestError::new("malformed certificate"));
    let (own, theirs) = (cut(leaf.der())?, cut(issuer.der())?);
    let digest = |bytes: &[u8]| OctetString::new(&*hash::hash(hash, bytes)?).map_err(RequestError::new);
    Ok(x509_ocsp::CertId {
        // With the NULL that HAProxy's own keys have.
        hash_algorithm: AlgorithmIdentifierOwned { oid: algorithm, parameters: Some(Null.into()) },
        issuer_name_hash: digest(own.issuer)?,
        issuer_key_hash: digest(theirs.subject_public_key)?,
        serial_number: Decode::from_der(own.serial_number).map_err(RequestError::new)?,
    })
}
