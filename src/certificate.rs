//! One X.509 certificate, parsed once, and the proof that another one issued it.
//!
//! OpenSSL answers what HAProxy will also ask OpenSSL (names, keys, validity); x509-cert answers what rust-openssl
//! cannot reach (extensions, exact times). Both read the same bytes, and the bytes are kept as they came.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use der::Decode;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509VerifyResult};
use serde::Serialize;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, BasicConstraints};

use crate::tlv::certificate_parts;

/// id-pe-tlsfeature, RFC 7633 section 4.
const TLS_FEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// The TLS extension number of `status_request`, RFC 7633 section 4.2.2.
const STATUS_REQUEST: u16 = 5;
/// id-pe-authorityInfoAccess, RFC 5280 section 4.2.2.1.
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
/// id-ce-basicConstraints, RFC 5280 section 4.2.1.9.
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const ID_AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const ID_AD_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

/// Why bytes are not a certificate this program can work with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("not a usable X.509 certificate: {reason}")]
pub struct CertificateError {
    reason: String,
}

/// The SHA-1 hash of a certificate's DER: how HAProxy's `show ssl cert` names what it runs. An identifier here, not a
/// security measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// The twenty bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not forty hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-1 fingerprint in hexadecimal: '{0}'")]
pub struct NotAFingerprint(String);

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| NotAFingerprint(text.to_owned()))
    }
}

/// A certificate's serial number, without leading zero bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    /// From big-endian bytes; leading zeros do not count.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes.get(zeros..).unwrap_or_default().into())
    }

    /// From hexadecimal digits as HAProxy and OpenSSL print them, with or without a leading zero.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_owned() };
        parse_hex(&padded).map(|bytes| Self::from_bytes(&bytes))
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("00") } else { write_hex(f, &self.0) }
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One parsed certificate; cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: Box<[u8]>,
    /// Kept of a CA, which is asked again and again. Of the others, as long as there are questions to be expected: it
    /// has ten times the size of the bytes.
    x509: Mutex<Option<X509>>,
    fingerprint: Fingerprint,
    subject: Arc<str>,
    issuer: Arc<str>,
    serial_number: SerialNumber,
    not_before: Timestamp,
    not_after: Timestamp,
    ocsp_responders: Box<[String]>,
    ca_issuers: Box<[String]>,
    must_staple: bool,
    is_ca: bool,
}

impl Certificate {
    /// Parses exactly one DER certificate.
    ///
    /// # Errors
    /// When either parser refuses the bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let refuse = |reason: String| CertificateError { reason };
        let x509 = X509::from_der(der).map_err(|error| refuse(openssl_reason(&error)))?;
        // `Raw`: a serial number of more than 20 octets (RFC 5280 section 4.1.2.2) is the CA's sin, not a reason to
        // leave its customer unstapled; HAProxy loads it too.
        let parsed = CertificateInner::<Raw>::from_der(der).map_err(|error| refuse(error.to_string()))?;
        let tbs = &parsed.tbs_certificate;
        let extension = |oid: ObjectIdentifier| {
            tbs.extensions.iter().flatten().find(|extension| extension.extn_id == oid).map(|e| e.extn_value.as_bytes())
        };
        let access = extension(AUTHORITY_INFO_ACCESS)
            .map(AuthorityInfoAccessSyntax::from_der)
            .transpose()
            .map_err(|error| refuse(format!("authorityInfoAccess: {error}")))?
            .map(|access| access.0)
            .unwrap_or_default();
        let uris = |method: ObjectIdentifier| {
            access
                .iter()
                .filter(|description| description.access_method == method)
                .filter_map(|description| match &description.access_location {
                    GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().trim().to_owned()),
                    _ => None,
                })
                .filter(|uri| !uri.is_empty())
                .collect()
        };
        let must_staple = extension(TLS_FEATURE)
            .map(Vec::<u16>::from_der)
            .transpose()
            .map_err(|error| refuse(format!("TLS feature: {error}")))?
            .is_some_and(|features| features.contains(&STATUS_REQUEST));
        let is_ca = extension(BASIC_CONSTRAINTS)
            .and_then(|content| BasicConstraints::from_der(content).ok())
            .is_some_and(|constraints| constraints.ca);
        let time = |time: x509_cert::time::Time| {
            Timestamp::try_from(time.to_system_time()).map_err(|error| refuse(error.to_string()))
        };
        Ok(Self(Arc::new(Parsed {
            fingerprint: Fingerprint(openssl::sha::sha1(der)),
            subject: distinguished_name(x509.subject_name()).into(),
            issuer: distinguished_name(x509.issuer_name()).into(),
            serial_number: SerialNumber::from_bytes(tbs.serial_number.as_bytes()),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            ocsp_responders: uris(ID_AD_OCSP),
            ca_issuers: uris(ID_AD_CA_ISSUERS),
            must_staple,
            is_ca,
            x509: Mutex::new(Some(x509)),
            der: der.into(),
        })))
    }

    /// The bytes as they came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// OpenSSL's view of the certificate.
    ///
    /// # Errors
    /// When OpenSSL is out of memory: it took these bytes before.
    pub fn x509(&self) -> Result<X509, ErrorStack> {
        let kept = self.0.x509.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.map_or_else(|| X509::from_der(&self.0.der), Ok)
    }

    /// No more questions to OpenSSL are to be expected, unless it is a CA: it will be made anew for those that come.
    pub fn settle(&self) {
        if !self.is_ca() {
            *self.0.x509.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether `issuer` has the name that this certificate has for its issuer (RFC 5280 section 7.1).
    #[must_use]
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        let (own, theirs) = (certificate_parts(&self.0.der), certificate_parts(&issuer.0.der));
        // Nearly always they are spelt the same. OpenSSL knows what else counts as the same.
        own.zip(theirs).is_some_and(|(own, theirs)| own.issuer == theirs.subject)
            || self.with(issuer, |own, issuer| Ok(own.issuer_name().try_cmp(issuer.subject_name())?.is_eq()))
    }

    /// SHA-1 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The subject's distinguished name, for people: `CN=example.com, O=Example`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The issuer's distinguished name, for people.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Both, shared with whoever keeps them.
    pub(crate) fn names(&self) -> (Arc<str>, Arc<str>) {
        (self.0.subject.clone(), self.0.issuer.clone())
    }

    /// The serial number.
    #[must_use]
    pub fn serial_number(&self) -> &SerialNumber {
        &self.0.serial_number
    }

    /// First instant of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// Last instant of validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The OCSP responders named by authorityInfoAccess, in the CA's order of preference (RFC 5280 section 4.2.2.1).
    #[must_use]
    pub fn ocsp_responders(&self) -> &[String] {
        &self.0.ocsp_responders
    }

    /// Where authorityInfoAccess says the issuer's certificate can be had.
    #[must_use]
    pub fn ca_issuers(&self) -> &[String] {
        &self.0.ca_issuers
    }

    /// Whether the TLS feature extension asks for `status_request` (RFC 7633): clients refuse it unstapled.
    #[must_use]
    pub fn must_staple(&self) -> bool {
        self.0.must_staple
    }

    /// Whether it is the certificate of a CA (RFC 5280 section 4.2.1.9).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.is_ca
    }

    /// Whether `candidate` signed this certificate: names, key identifiers and key usage agree (OpenSSL's
    /// `X509_check_issued`, which is what HAProxy asks) and the signature verifies.
    #[must_use]
    pub fn is_signed_by(&self, candidate: &Self) -> bool {
        let verifies =
            |own: &X509, candidate: &X509| Ok(is_issued_by(own, candidate) && own.verify(&*candidate.public_key()?)?);
        self.with(candidate, verifies)
    }

    /// Only `X509_check_issued`, without the signature: how HAProxy picks an issuer from a chain.
    #[must_use]
    pub fn looks_issued_by(&self, candidate: &Self) -> bool {
        self.with(candidate, |own, candidate| Ok(is_issued_by(own, candidate)))
    }

    /// Whether both certificates have the same public key.
    #[must_use]
    pub fn has_key_of(&self, other: &Self) -> bool {
        self == other || self.with(other, |own, other| Ok(own.public_key()?.public_eq(&*other.public_key()?)))
    }

    /// A question about two certificates; an error of OpenSSL's is a no.
    fn with(&self, other: &Self, question: impl FnOnce(&X509, &X509) -> Result<bool, ErrorStack>) -> bool {
        let answer = self.x509().and_then(|own| question(&own, &other.x509()?));
        answer.unwrap_or(false)
    }

    /// Whether somebody else holds it, too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

fn is_issued_by(certificate: &X509, candidate: &X509) -> bool {
    candidate.issued(certificate) == X509VerifyResult::OK
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.0.subject)
            .field("serial_number", &self.0.serial_number)
            .field("fingerprint", &self.0.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Where an issuer certificate was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerSource {
    /// In the PEM file, after the leaf: HAProxy finds it by itself.
    Chain,
    /// In the `.issuer` file beside the certificate: HAProxy finds it when it also finds a `.ocsp`.
    IssuerFile,
    /// In a file of CA certificates under `STAPLER_CERTS`, such as those of HAProxy's `issuers-chain-path`: HAProxy may
    /// know it.
    OtherFile,
    /// Downloaded from authorityInfoAccess: HAProxy does not know it unless it is told.
    AuthorityInfoAccess,
}

/// A certificate that was proven to have signed a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    certificate: Certificate,
    source: IssuerSource,
}

impl Issuer {
    /// The first of `candidates` that signed `leaf`.
    #[must_use]
    pub fn find(leaf: &Certificate, candidates: &[Certificate], source: IssuerSource) -> Option<Self> {
        candidates
            .iter()
            .find(|candidate| leaf.is_signed_by(candidate))
            .map(|certificate| Self { certificate: certificate.clone(), source })
    }

    /// The issuer's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Where it was found.
    #[must_use]
    pub fn source(&self) -> IssuerSource {
        self.source
    }
}

/// A distinguished name for people, in the certificate's own order.
fn distinguished_name(name: &X509NameRef) -> String {
    let attributes: Vec<String> = name
        .entries()
        .map(|entry| {
            let kind = entry.object().nid();
            let kind = if kind == Nid::UNDEF { Err(()) } else { kind.short_name().map_err(|_| ()) };
            let value = entry.data().to_string().unwrap_or_default();
            match kind {
                Ok(kind) => format!("{kind}={value}"),
                Err(()) => format!("{}={value}", entry.object()),
            }
        })
        .collect();
    attributes.join(", ")
}

/// The first reason in OpenSSL's error stack: the later ones only say which part of it was told.
pub(crate) fn openssl_reason(stack: &ErrorStack) -> String {
    stack.errors().iter().find_map(|error| error.reason()).unwrap_or("refused without a reason").to_owned()
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

/// Bytes from pairs of hexadecimal digits; `None` if the text is anything else.
pub(crate) fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}
