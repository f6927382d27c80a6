//! The judgement of a response, by RFC 6960 and by what strict clients add to it.

use der::Decode;
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;
use openssl::hash::MessageDigest;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{BasicOcspResponse, OcspGeneralizedTime, OcspResponse, OcspResponseStatus, SingleResponse};

use super::loader::{SHA1, SHA256, SHA384, SHA512, hash_name};
use super::response::Verified;
use super::{
    CertIdField, CertStatus, ExtensionPlace, Response, ResponseStatus, SKEW, VerifyError, hex, request, signer,
};
use crate::certificate::Certificate;
use crate::clock::between;

/// id-pkix-ocsp-basic, RFC 6960 section 4.2.1.
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");

/// Signature algorithms that anybody can forge: RSA with MD2, MD4 and MD5, by PKCS #1's and by OIW's identifiers.
const WEAK_SIGNATURES: [(ObjectIdentifier, &str); 6] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.2"), "md2WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.3"), "md4WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), "md5WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.2"), "md4WithRSA"),
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.3"), "md5WithRSA"),
    (ObjectIdentifier::new_unwrap("1.3.14.7.2.3.1"), "md2WithRSASignature"),
];
/// id-RSASSA-PSS, which names its hash in the parameters (RFC 4055 section 3.1).
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const WEAK_DIGESTS: [(ObjectIdentifier, &str); 3] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.2"), "RSASSA-PSS with MD2"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.4"), "RSASSA-PSS with MD4"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.5"), "RSASSA-PSS with MD5"),
];

/// Judges a response to the question whether `leaf`, as issued by `issuer`, is revoked (RFC 6960 section 3.2).
///
/// `Revoked` and `Unknown` are answers, not errors. So is a response without nextUpdate or with a SHA-2 CertID: that
/// HAProxy would not load it is for [`Staple::new`](super::Staple::new) to say.
///
/// # Errors
/// When a strict client would refuse it.
pub fn verify(der: &[u8], leaf: &Certificate, issuer: &Certificate, now: Timestamp) -> Result<Response, VerifyError> {
    let basic = basic_response(der)?;
    if let Some(algorithm) = weak_signature(&basic.signature_algorithm) {
        return Err(VerifyError::WeakSignature { algorithm });
    }
    let data = &basic.tbs_response_data;
    refuse_critical(data.response_extensions.as_deref(), ExtensionPlace::Response)?;
    let single = match data.responses.as_slice() {
        [] => return Err(VerifyError::NoSingleResponse),
        [single] => single,
        several => return Err(VerifyError::MultipleSingleResponses { count: several.len() }),
    };
    refuse_critical(single.single_extensions.as_deref(), ExtensionPlace::Single)?;
    check_cert_id(&single.cert_id, leaf, issuer)?;
    let produced_at = timestamp(&data.produced_at)?;
    if between(now, produced_at) > SKEW {
        return Err(VerifyError::ProducedInFuture { now, produced_at });
    }
    let (this_update, next_update) = check_times(single, now)?;
    let signer = signer::find(der, &basic, issuer, now)?;
    Ok(Response::new(Verified {
        der: der.to_vec(),
        cert_id: der::Encode::to_der(&single.cert_id).map_err(VerifyError::malformed)?,
        cert_status: cert_status(single)?,
        produced_at,
        this_update,
        next_update,
        responder_id: signer::responder_id(&data.responder_id),
        signer,
    }))
}

/// The parser refuses trailing bytes, outside and inside the OCTET STRING, and every version but v1.
fn basic_response(der: &[u8]) -> Result<BasicOcspResponse, VerifyError> {
    let response = OcspResponse::from_der(der).map_err(VerifyError::malformed)?;
    let status = match response.response_status {
        OcspResponseStatus::Successful => None,
        OcspResponseStatus::MalformedRequest => Some(ResponseStatus::MalformedRequest),
        OcspResponseStatus::InternalError => Some(ResponseStatus::InternalError),
        OcspResponseStatus::TryLater => Some(ResponseStatus::TryLater),
        OcspResponseStatus::SigRequired => Some(ResponseStatus::SigRequired),
        OcspResponseStatus::Unauthorized => Some(ResponseStatus::Unauthorized),
    };
    match (status, response.response_bytes) {
        (Some(status), _) => Err(VerifyError::NotSuccessful { status }),
        (None, Some(bytes)) if bytes.response_type == BASIC => {
            BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(VerifyError::malformed)
        }
        (None, bytes) => {
            Err(VerifyError::NotBasic { response_type: bytes.map(|bytes| bytes.response_type.to_string()) })
        }
    }
}

/// How a signature can be forged, if it can.
pub(super) fn weak_signature(algorithm: &AlgorithmIdentifierOwned) -> Option<&'static str> {
    let named = |(oid, name): &(ObjectIdentifier, &'static str)| (algorithm.oid == *oid).then_some(*name);
    if algorithm.oid != RSASSA_PSS {
        return WEAK_SIGNATURES.iter().find_map(named);
    }
    // The identifier of a broken hash anywhere in the parameters is enough to refuse them.
    let parameters = algorithm.parameters.as_ref().map(|parameters| parameters.value()).unwrap_or_default();
    WEAK_DIGESTS.iter().find_map(|(oid, name)| {
        parameters.windows(oid.as_bytes().len()).any(|window| window == oid.as_bytes()).then_some(*name)
    })
}

/// Refuses every critical extension. RFC 6960 section 4.4 defines none for a response that must be critical, except
/// certificateIssuer among the CRL entry extensions, which would change what the response is about.
fn refuse_critical(extensions: Option<&[Extension]>, place: ExtensionPlace) -> Result<(), VerifyError> {
    match extensions.unwrap_or_default().iter().find(|extension| extension.critical) {
        None => Ok(()),
        Some(extension) => Err(VerifyError::UnknownCriticalExtension { place, oid: extension.extn_id.to_string() }),
    }
}

/// RFC 6960 section 3.2, rule 1: it is about the certificate in question, under the hash that the response chose.
fn check_cert_id(found: &x509_ocsp::CertId, leaf: &Certificate, issuer: &Certificate) -> Result<(), VerifyError> {
    // The CertID is made of the issuer's name as the leaf spells it, so it says nothing about what was handed in as
    // the issuer's certificate.
    if !leaf.names_as_issuer(issuer) {
        return Err(VerifyError::IssuerNameMismatch {
            expected: leaf.issuer().to_owned(),
            found: issuer.subject().to_owned(),
        });
    }
    let hash = match found.hash_algorithm.oid {
        SHA1 => MessageDigest::sha1(),
        SHA256 => MessageDigest::sha256(),
        SHA384 => MessageDigest::sha384(),
        SHA512 => MessageDigest::sha512(),
        other => return Err(VerifyError::CertIdHashUnsupported { algorithm: hash_name(other) }),
    };
    let expected = request::cert_id(found.hash_algorithm.oid, hash, leaf, issuer)?;
    let fields = [
        (CertIdField::IssuerNameHash, expected.issuer_name_hash.as_bytes(), found.issuer_name_hash.as_bytes()),
        (CertIdField::IssuerKeyHash, expected.issuer_key_hash.as_bytes(), found.issuer_key_hash.as_bytes()),
        (CertIdField::SerialNumber, expected.serial_number.as_bytes(), found.serial_number.as_bytes()),
    ];
    match fields.into_iter().find(|(_, expected, found)| expected != found) {
        None => Ok(()),
        Some((field, expected, found)) => {
            Err(VerifyError::CertIdMismatch { field, expected: hex(expected), found: hex(found) })
        }
    }
}

/// RFC 6960 section 3.2, rules 5 and 6, and section 4.2.2.1.
fn check_times(single: &SingleResponse, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>), VerifyError> {
    let this_update = timestamp(&single.this_update)?;
    let next_update = single.next_update.as_ref().map(timestamp).transpose()?;
    if between(now, this_update) > SKEW {
        return Err(VerifyError::NotYetValid { now, this_update });
    }
    if let Some(next_update) = next_update {
        if next_update < this_update {
            return Err(VerifyError::NextUpdateBeforeThisUpdate { this_update, next_update });
        }
        if between(next_update, now) > SKEW {
            return Err(VerifyError::Stale { now, next_update });
        }
    }
    Ok((this_update, next_update))
}

fn cert_status(single: &SingleResponse) -> Result<CertStatus, VerifyError> {
    Ok(match &single.cert_status {
        x509_ocsp::CertStatus::Good(_) => CertStatus::Good,
        x509_ocsp::CertStatus::Unknown(_) => CertStatus::Unknown,
        x509_ocsp::CertStatus::Revoked(info) => CertStatus::Revoked {
            revocation_time: timestamp(&info.revocation_time)?,
            revocation_reason: info.revocation_reason.map(|reason| reason_name(reason).to_owned()),
        },
    })
}

/// RFC 5280 section 5.3.1.
const fn reason_name(reason: CrlReason) -> &'static str {
    match reason {
        CrlReason::Unspecified => "unspecified",
        CrlReason::KeyCompromise => "keyCompromise",
        CrlReason::CaCompromise => "cACompromise",
        CrlReason::AffiliationChanged => "affiliationChanged",
        CrlReason::Superseded => "superseded",
        CrlReason::CessationOfOperation => "cessationOfOperation",
        CrlReason::CertificateHold => "certificateHold",
        CrlReason::RemoveFromCRL => "removeFromCRL",
        CrlReason::PrivilegeWithdrawn => "privilegeWithdrawn",
        CrlReason::AaCompromise => "aACompromise",
    }
}

fn timestamp(time: &OcspGeneralizedTime) -> Result<Timestamp, VerifyError> {
    Timestamp::try_from(time.0.to_system_time()).map_err(VerifyError::malformed)
}
