//! Why a strict client would refuse a response, each rule with its evidence.

use jiff::Timestamp;
use openssl::error::ErrorStack;

use super::{RequestError, ResponderId, Unauthorized};
use crate::certificate::openssl_reason;

/// Why the responder gave no answer (RFC 6960 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseStatus {
    /// It did not understand the request.
    #[error("malformedRequest")]
    MalformedRequest,
    /// It has trouble of its own.
    #[error("internalError")]
    InternalError,
    /// It is busy.
    #[error("tryLater")]
    TryLater,
    /// It wants signed requests.
    #[error("sigRequired")]
    SigRequired,
    /// It does not serve this client or this certificate (RFC 9919 section 3.2.3).
    #[error("unauthorized")]
    Unauthorized,
}

impl ResponseStatus {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::TryLater | Self::InternalError => {
                "the CA's responder is in trouble of its own; it is asked again by itself"
            }
            Self::Unauthorized => {
                "the CA does not answer for this certificate: it may be too new, or the responder is not its CA's; ask \
                 the CA"
            }
            Self::MalformedRequest | Self::SigRequired => "the CA's responder does not take plain requests; ask the CA",
        }
    }
}

/// A field of the CertID (RFC 6960 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertIdField {
    /// Hash of the issuer's name.
    #[error("issuerNameHash")]
    IssuerNameHash,
    /// Hash of the issuer's key.
    #[error("issuerKeyHash")]
    IssuerKeyHash,
    /// The serial number.
    #[error("serialNumber")]
    SerialNumber,
}

/// Where in a response extensions may stand (RFC 6960 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionPlace {
    /// About the response as a whole.
    #[error("responseExtensions")]
    Response,
    /// About the one certificate.
    #[error("singleExtensions")]
    Single,
}

/// Why a strict client would refuse a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The CertID uses a hash that is not SHA-1 or SHA-2.
    #[error("its CertID is hashed with {algorithm}, which is not SHA-1, SHA-256, SHA-384 or SHA-512")]
    CertIdHashUnsupported {
        /// The hash's object identifier.
        algorithm: String,
    },
    /// It is about another certificate.
    #[error("it is about another certificate: {field} is {found}, asked for {expected}")]
    CertIdMismatch {
        /// The first field that differs.
        field: CertIdField,
        /// What the certificate and its issuer make, in hexadecimal.
        expected: String,
        /// What the response says.
        found: String,
    },
    /// What is taken for the issuer has another name than the certificate says.
    #[error("the certificate was issued by '{expected}', but the issuer's certificate is that of '{found}'")]
    IssuerNameMismatch {
        /// The certificate's issuer.
        expected: String,
        /// The issuer's subject.
        found: String,
    },
    /// It is not exactly one DER encoded OCSP response.
    #[error("it is not a well-formed OCSP response: {reason}")]
    Malformed {
        /// The parser's reason.
        reason: String,
    },
    /// It speaks of several certificates.
    #[error("it holds {count} single responses instead of one")]
    MultipleSingleResponses {
        /// Of how many.
        count: usize,
    },
    /// Its times contradict each other.
    #[error("its nextUpdate {next_update} lies before its thisUpdate {this_update}")]
    NextUpdateBeforeThisUpdate {
        /// The response's thisUpdate.
        this_update: Timestamp,
        /// The response's nextUpdate.
        next_update: Timestamp,
    },
    /// It speaks of no certificate.
    #[error("it holds no single response")]
    NoSingleResponse,
    /// It is of a type that nobody defined, or empty.
    #[error("it is not of type id-pkix-ocsp-basic but {}", response_type.as_deref().unwrap_or("empty"))]
    NotBasic {
        /// The object identifier of its type; absent when it carries no response at all.
        response_type: Option<String>,
    },
    /// The responder gave no answer.
    #[error("the responder answered {status}")]
    NotSuccessful {
        /// What it answered.
        status: ResponseStatus,
    },
    /// Its thisUpdate is more than 300 s ahead.
    #[error("it is not yet valid: thisUpdate is {this_update}, now is {now}; is a clock wrong?")]
    NotYetValid {
        /// The instant of the judgement.
        now: Timestamp,
        /// The response's thisUpdate.
        this_update: Timestamp,
    },
    /// OpenSSL could not be set up.
    #[error("OpenSSL failed: {reason}")]
    Openssl {
        /// OpenSSL's reason.
        reason: String,
    },
    /// Its producedAt is more than 300 s ahead.
    #[error("it was signed in the future: producedAt is {produced_at}, now is {now}; is a clock wrong?")]
    ProducedInFuture {
        /// The instant of the judgement.
        now: Timestamp,
        /// The response's producedAt.
        produced_at: Timestamp,
    },
    /// No CertID can be made of the certificate.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Neither the issuer nor an embedded certificate is the one it says it is from.
    #[error("its responder '{responder_id}' is neither the issuer nor among the certificates it carries")]
    ResponderNotFound {
        /// Who it says it is from.
        responder_id: ResponderId,
    },
    /// The certificate it says it is from may not sign for this issuer.
    #[error("'{responder}' may not sign for this issuer: {reason}")]
    ResponderUnauthorized {
        /// The subject of that certificate.
        responder: String,
        /// Why not.
        reason: Unauthorized,
    },
    /// The signature is not that of the certificate it says it is from.
    #[error("its signature is not that of '{responder}'")]
    SignatureInvalid {
        /// The subject of that certificate.
        responder: String,
    },
    /// Its nextUpdate is more than 300 s past.
    #[error("it is stale: nextUpdate was {next_update}, now is {now}")]
    Stale {
        /// The instant of the judgement.
        now: Timestamp,
        /// The response's nextUpdate.
        next_update: Timestamp,
    },
    /// It carries an extension that must be understood and that nobody understands.
    #[error("it carries the critical extension {oid} in {place}, which no client is known to understand")]
    UnknownCriticalExtension {
        /// Where.
        place: ExtensionPlace,
        /// Which.
        oid: String,
    },
    /// It is signed with MD2, MD4 or MD5.
    #[error("it is signed with {algorithm}, which can be forged")]
    WeakSignature {
        /// How it is signed.
        algorithm: &'static str,
    },
}

impl VerifyError {
    /// A stable name for metric labels and JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CertIdHashUnsupported { .. } => "cert_id_hash_unsupported",
            Self::CertIdMismatch { .. } => "cert_id_mismatch",
            Self::IssuerNameMismatch { .. } => "issuer_name_mismatch",
            Self::Malformed { .. } => "malformed",
            Self::MultipleSingleResponses { .. } => "multiple_single_responses",
            Self::NextUpdateBeforeThisUpdate { .. } => "next_update_before_this_update",
            Self::NoSingleResponse => "no_single_response",
            Self::NotBasic { .. } => "not_basic",
            Self::NotSuccessful { status: ResponseStatus::MalformedRequest } => "malformed_request",
            Self::NotSuccessful { status: ResponseStatus::InternalError } => "internal_error",
            Self::NotSuccessful { status: ResponseStatus::TryLater } => "try_later",
            Self::NotSuccessful { status: ResponseStatus::SigRequired } => "sig_required",
            Self::NotSuccessful { status: ResponseStatus::Unauthorized } => "unauthorized",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Openssl { .. } => "openssl",
            Self::ProducedInFuture { .. } => "produced_in_future",
            Self::Request(error) => error.kind(),
            Self::ResponderNotFound { .. } => "responder_not_found",
            Self::ResponderUnauthorized { .. } => "responder_unauthorized",
            Self::SignatureInvalid { .. } => "signature_invalid",
            Self::Stale { .. } => "stale",
            Self::UnknownCriticalExtension { .. } => "unknown_critical_extension",
            Self::WeakSignature { .. } => "weak_signature",
        }
    }

    /// What to do about it. A strict client would refuse such a response too.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::CertIdHashUnsupported { .. } => "ask the CA to answer with the CertID it was asked for",
            Self::CertIdMismatch { .. } => {
                "the responder speaks of another certificate or another CA; ask the CA, and look at STAPLER_RESPONDERS"
            }
            Self::IssuerNameMismatch { .. } => "name the certificate of the CA that issued this one",
            Self::Malformed { .. } | Self::NotBasic { .. } => {
                "what answers there is no OCSP responder; look for a proxy or a login page on the way"
            }
            Self::MultipleSingleResponses { .. } | Self::NoSingleResponse => {
                "ask the CA to answer for exactly the one certificate it was asked about (RFC 9919 section 3.2)"
            }
            Self::NextUpdateBeforeThisUpdate { .. } => "ask the CA; its responder's times contradict each other",
            Self::NotSuccessful { status } => status.remedy(),
            Self::NotYetValid { .. } | Self::ProducedInFuture { .. } => {
                "look at the clock of this host first; if it is right, ask the CA"
            }
            Self::Openssl { .. } => "look at the memory of this host; if that is not it, please report it",
            Self::Request(error) => error.remedy(),
            Self::ResponderNotFound { .. } | Self::ResponderUnauthorized { .. } | Self::SignatureInvalid { .. } => {
                "a strict client would refuse this response too; ask the CA, or check what answers under its name"
            }
            Self::Stale { .. } => "ask the CA why it has not signed anew; look at the clock of this host, too",
            Self::UnknownCriticalExtension { .. } => {
                "ask the CA to leave the extension out, or not to mark it critical"
            }
            Self::WeakSignature { .. } => "ask the CA to sign with SHA-256 or better",
        }
    }

    pub(super) fn malformed(error: impl ToString) -> Self {
        Self::Malformed { reason: error.to_string() }
    }
}

/// OpenSSL ran out of memory, or something like it.
impl From<ErrorStack> for VerifyError {
    fn from(stack: ErrorStack) -> Self {
        Self::Openssl { reason: openssl_reason(&stack) }
    }
}
