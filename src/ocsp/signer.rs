//! Who signed a response, and whether the issuer lets them (RFC 6960 section 4.2.2.2).

use der::Decode;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::ocsp::{OcspBasicResponse, OcspFlag, OcspResponse};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509Ref};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_ocsp::BasicOcspResponse;

use super::parts::basic_parts;
use super::verify::weak_signature;
use super::{ResponderId, Signer, VerifyError, hex};
use crate::certificate::{Certificate, openssl_reason};

/// id-kp-OCSPSigning, RFC 6960 section 4.2.2.2.
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");

/// The critical extensions that a delegate's certificate may have, RFC 5280 section 4.2.1: those that OpenSSL and we
/// understand.
const KNOWN_CRITICAL: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"), // keyUsage
    ObjectIdentifier::new_unwrap("2.5.29.17"), // subjectAltName
    ObjectIdentifier::new_unwrap("2.5.29.19"), // basicConstraints
    ObjectIdentifier::new_unwrap("2.5.29.32"), // certificatePolicies
    ObjectIdentifier::new_unwrap("2.5.29.37"), // extKeyUsage
];

/// Why a certificate may not sign responses for an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unauthorized {
    /// It is a CA, and a delegate must be an end entity.
    #[error("it is a CA, not a responder")]
    IsCa,
    /// Its keyUsage does not let it sign.
    #[error("its keyUsage lacks digitalSignature")]
    KeyUsageWithoutDigitalSignature,
    /// One of its extensions does not parse.
    #[error("an extension of its certificate is malformed: {reason}")]
    Malformed {
        /// The parser's reason.
        reason: String,
    },
    /// Its extKeyUsage does not make it a responder.
    #[error("its extKeyUsage lacks id-kp-OCSPSigning")]
    MissingOcspSigning,
    /// The issuer did not sign it, whoever else did.
    #[error("the issuer itself did not issue it")]
    NotIssuedByIssuer,
    /// It is not valid now.
    #[error("it is valid from {not_before} to {not_after}, and now is {now}")]
    OutsideValidity {
        /// The instant of the judgement.
        now: Timestamp,
        /// First instant of validity.
        not_before: Timestamp,
        /// Last instant of validity.
        not_after: Timestamp,
    },
    /// OpenSSL does not agree, although we found nothing.
    #[error("OpenSSL says: {reason}")]
    RefusedByOpenssl {
        /// OpenSSL's reason.
        reason: String,
    },
    /// It carries an extension that must be understood and is not.
    #[error("it carries the critical extension {oid}, which is unknown")]
    UnknownCriticalExtension {
        /// Which.
        oid: String,
    },
    /// Its own signature can be forged.
    #[error("it is signed with {algorithm}, which can be forged")]
    WeakSignature {
        /// How it is signed.
        algorithm: &'static str,
    },
}

/// What the response says of its signer, for people.
pub(super) fn responder_id(id: &x509_ocsp::ResponderId) -> ResponderId {
    match id {
        x509_ocsp::ResponderId::ByName(name) => {
            ResponderId::ByName(name.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        x509_ocsp::ResponderId::ByKey(hash) => ResponderId::ByKey(hex(hash.as_bytes())),
    }
}

/// Finds the signer: the issuer, else an embedded certificate, that the response names, that may sign for the issuer and
/// that did sign.
///
/// Several certificates may have the name or the key that the response names; each is judged alone. The error is that
/// of the one which really signed, else of the one which could have.
pub(super) fn find(
    der: &[u8],
    basic: &BasicOcspResponse,
    issuer: &Certificate,
    now: Timestamp,
) -> Result<Signer, VerifyError> {
    let malformed = |reason: String| VerifyError::Malformed { reason };
    let claimed = &basic.tbs_response_data.responder_id;
    let issuer_fields =
        CertificateInner::<Raw>::from_der(issuer.der()).map_err(|error| malformed(error.to_string()))?.tbs_certificate;
    in_validity(issuer, now).map_err(|reason| unauthorized(issuer, reason))?;
    let openssl = Openssl::new(der, issuer, now)?;
    let mut failures = Vec::new();

    if is_named(claimed, &issuer_fields.subject, &issuer_fields.subject_public_key_info) {
        match openssl.judge(issuer, &openssl.issuer) {
            Ok(()) => return Ok(Signer::Issuer),
            Err(error) => failures.push((openssl.has_signed(&openssl.issuer), error)),
        }
    }
    let embedded = basic_parts(der).ok_or_else(|| malformed("embedded certificates".to_owned()))?.certs;
    for (fields, der) in basic.certs.iter().flatten().zip(embedded) {
        let tbs = &fields.tbs_certificate;
        let is_issuer = tbs.subject == issuer_fields.subject
            && tbs.subject_public_key_info == issuer_fields.subject_public_key_info;
        if is_issuer || !is_named(claimed, &tbs.subject, &tbs.subject_public_key_info) {
            continue;
        }
        let Ok(delegate) = Certificate::from_der(der) else {
            return Err(malformed(format!("the embedded certificate of '{}'", tbs.subject)));
        };
        let x509 = delegate.x509()?;
        let judged = authorize(&delegate, fields, issuer, now)
            .map_err(|reason| unauthorized(&delegate, reason))
            .and_then(|()| openssl.judge(&delegate, &x509));
        match judged {
            Ok(()) => {
                let subject = delegate.subject().to_owned();
                return Ok(Signer::Delegated { subject, not_after: delegate.not_after() });
            }
            Err(error) => failures.push((openssl.has_signed(&x509), error)),
        }
    }
    let most_telling = failures
        .into_iter()
        .max_by_key(|(has_signed, error)| (*has_signed, matches!(error, VerifyError::SignatureInvalid { .. })));
    Err(most_telling
        .map_or_else(|| VerifyError::ResponderNotFound { responder_id: responder_id(claimed) }, |(_, error)| error))
}

/// Whether a certificate is the one that the response says it is from (RFC 6960 section 4.2.2.3).
fn is_named(id: &x509_ocsp::ResponderId, subject: &Name, key: &SubjectPublicKeyInfoOwned) -> bool {
    match id {
        x509_ocsp::ResponderId::ByName(name) => name == subject,
        // "SHA-1 hash of responder's public key": of the BIT STRING's bits, without the count of unused ones.
        x509_ocsp::ResponderId::ByKey(hash) => {
            hash.as_bytes() == openssl::sha::sha1(key.subject_public_key.raw_bytes()).as_slice()
        }
    }
}

/// Whether `delegate` is a responder that the issuer itself appointed (RFC 6960 section 4.2.2.2).
fn authorize(
    delegate: &Certificate,
    fields: &x509_cert::Certificate,
    issuer: &Certificate,
    now: Timestamp,
) -> Result<(), Unauthorized> {
    if let Some(algorithm) = weak_signature(&fields.signature_algorithm) {
        return Err(Unauthorized::WeakSignature { algorithm });
    }
    let tbs = &fields.tbs_certificate;
    let malformed = |error: der::Error| Unauthorized::Malformed { reason: error.to_string() };
    if !delegate.is_signed_by(issuer) {
        return Err(Unauthorized::NotIssuedByIssuer);
    }
    if tbs.get::<BasicConstraints>().map_err(malformed)?.is_some_and(|(_, constraints)| constraints.ca) {
        return Err(Unauthorized::IsCa);
    }
    let usage = tbs.get::<ExtendedKeyUsage>().map_err(malformed)?;
    if !usage.is_some_and(|(_, usage)| usage.0.contains(&OCSP_SIGNING)) {
        return Err(Unauthorized::MissingOcspSigning);
    }
    if tbs.get::<KeyUsage>().map_err(malformed)?.is_some_and(|(_, usage)| !usage.digital_signature()) {
        return Err(Unauthorized::KeyUsageWithoutDigitalSignature);
    }
    let mut extensions = tbs.extensions.iter().flatten();
    let unknown = extensions.find(|extension| extension.critical && !KNOWN_CRITICAL.contains(&extension.extn_id));
    if let Some(extension) = unknown {
        return Err(Unauthorized::UnknownCriticalExtension { oid: extension.extn_id.to_string() });
    }
    in_validity(delegate, now)
}

fn in_validity(certificate: &Certificate, now: Timestamp) -> Result<(), Unauthorized> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if (not_before..=not_after).contains(&now) {
        Ok(())
    } else {
        Err(Unauthorized::OutsideValidity { now, not_before, not_after })
    }
}

fn unauthorized(certificate: &Certificate, reason: Unauthorized) -> VerifyError {
    VerifyError::ResponderUnauthorized { responder: certificate.subject().to_owned(), reason }
}

/// OpenSSL's opinion: it trusts the issuer and nothing else, at one instant.
struct Openssl {
    basic: OcspBasicResponse,
    issuer: X509,
    store: X509Store,
}

impl Openssl {
    fn new(der: &[u8], issuer: &Certificate, now: Timestamp) -> Result<Self, VerifyError> {
        let basic = OcspResponse::from_der(der)
            .and_then(|response| response.basic())
            .map_err(|stack| VerifyError::Malformed { reason: openssl_reason(&stack) })?;
        let issuer = issuer.x509()?;
        let store = trust_only(&issuer, now)?;
        Ok(Self { basic, issuer, store })
    }

    /// Whether OpenSSL accepts the response as signed by exactly this certificate.
    fn judge(&self, signer: &Certificate, x509: &X509Ref) -> Result<(), VerifyError> {
        // No embedded certificate may take the signer's place or help its chain, and no trust setting may replace the
        // issuer's word.
        let flags = OcspFlag::NO_INTERN | OcspFlag::NO_CHAIN | OcspFlag::NO_EXPLICIT;
        match self.verify(x509, flags) {
            Ok(()) => Ok(()),
            Err(_) if !self.has_signed(x509) => {
                Err(VerifyError::SignatureInvalid { responder: signer.subject().to_owned() })
            }
            Err(stack) => Err(unauthorized(signer, Unauthorized::RefusedByOpenssl { reason: reason(&stack) })),
        }
    }

    /// Whether the signature is this certificate's, whatever it is worth.
    fn has_signed(&self, signer: &X509Ref) -> bool {
        self.verify(signer, OcspFlag::NO_INTERN | OcspFlag::NO_VERIFY).is_ok()
    }

    fn verify(&self, signer: &X509Ref, flags: OcspFlag) -> Result<(), ErrorStack> {
        let mut certs = Stack::new()?;
        certs.push(signer.to_owned())?;
        self.basic.verify(&certs, &self.store, flags)
    }
}

fn trust_only(issuer: &X509Ref, now: Timestamp) -> Result<X509Store, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    // The issuer is mostly an intermediate: without this, OpenSSL insists on a self-signed root.
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    param.set_time(now.as_second());
    let mut store = X509StoreBuilder::new()?;
    store.set_param(&param)?;
    store.add_cert(issuer.to_owned())?;
    Ok(store.build())
}

/// OpenSSL keeps the reason of a failed chain in the error's data: `Verify error: certificate has expired`.
fn reason(stack: &ErrorStack) -> String {
    let data = stack.errors().iter().find_map(|error| error.data());
    data.map_or_else(|| openssl_reason(stack), str::to_owned)
}
