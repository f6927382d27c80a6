//! What HAProxy's loader would say to a response, by HAProxy's rules alone.
//!
//! The same list at a push and at the load of a `.ocsp` file, and shorter than ours: HAProxy checks no signature and
//! ignores what follows the DER. Kept apart from [`verify`](super::verify()) on purpose: a response may be right and not
//! loadable, or loadable and forged.

use std::fmt;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Tag, Tagged};
use jiff::Timestamp;
use openssl::ocsp::{OcspResponse, OcspResponseStatus};

use super::SKEW;
use super::parts::basic_parts;
use crate::clock::between;
use crate::tlv;

pub(super) const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
pub(super) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
pub(super) const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
pub(super) const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// One reason why HAProxy would not load a response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The CertID is not hashed with SHA-1, so it matches no entry of HAProxy's tree.
    CertIdHash {
        /// The hash it uses: `sha256`, or a dotted object identifier.
        algorithm: String,
    },
    /// The status is `unknown`.
    CertStatusUnknown,
    /// A time is not in a form that HAProxy reads.
    InvalidTime {
        /// `thisUpdate` or `nextUpdate`.
        field: &'static str,
    },
    /// HAProxy stops serving a response 300 s before its nextUpdate.
    LessThan300sLeft {
        /// The instant of the question.
        now: Timestamp,
        /// The response's nextUpdate.
        next_update: Timestamp,
    },
    /// It speaks of several certificates.
    MultipleSingleResponses {
        /// Of how many.
        count: usize,
    },
    /// It does not say until when it holds.
    NextUpdateMissing,
    /// It speaks of no certificate.
    NoSingleResponse,
    /// It is not a successful response of the basic type, or not DER.
    NoSuccessfulBasicResponse,
    /// Its thisUpdate is more than 300 s ahead.
    NotYetValid {
        /// The instant of the question.
        now: Timestamp,
        /// The response's thisUpdate.
        this_update: Timestamp,
    },
}

impl Refusal {
    /// A stable name for metric labels and JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CertIdHash { .. } => "cert_id_hash",
            Self::CertStatusUnknown => "cert_status_unknown",
            Self::InvalidTime { .. } => "invalid_time",
            Self::LessThan300sLeft { .. } => "less_than_300s_left",
            Self::MultipleSingleResponses { .. } => "multiple_single_responses",
            Self::NextUpdateMissing => "next_update_missing",
            Self::NoSingleResponse => "no_single_response",
            Self::NoSuccessfulBasicResponse => "no_successful_basic_response",
            Self::NotYetValid { .. } => "not_yet_valid",
        }
    }

    /// What to do about it. HAProxy keeps what it serves until then.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::CertIdHash { .. } => {
                "ask the CA to answer with the CertID it was asked for, which is hashed with SHA-1"
            }
            Self::CertStatusUnknown => "ask the CA why it does not know this certificate; HAProxy keeps what it serves",
            Self::InvalidTime { .. } => "ask the CA to write its times as RFC 6960 section 4.2.2.1 has them",
            Self::LessThan300sLeft { .. } => "ask the CA to sign earlier; HAProxy keeps what it serves until then",
            Self::MultipleSingleResponses { .. } | Self::NoSingleResponse => {
                "ask the CA to answer for exactly the one certificate it was asked about (RFC 9919 section 3.2)"
            }
            Self::NextUpdateMissing => "ask the CA to send nextUpdate: HAProxy cannot use answers without an end",
            Self::NoSuccessfulBasicResponse => "ask the CA; this is no answer that HAProxy can read",
            Self::NotYetValid { .. } => {
                "look at the clocks of this host and of HAProxy first; if they are right, ask the CA"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertIdHash { algorithm } => {
                write!(f, "its CertID is hashed with {algorithm}, HAProxy looks for SHA-1")
            }
            Self::CertStatusUnknown => f.write_str("its status is unknown"),
            Self::InvalidTime { field } => write!(f, "its {field} is not a time HAProxy can read"),
            Self::LessThan300sLeft { now, next_update } => {
                write!(f, "less than 300 s are left at {now} before its nextUpdate {next_update}")
            }
            Self::MultipleSingleResponses { count } => write!(f, "it holds {count} single responses instead of one"),
            Self::NextUpdateMissing => f.write_str("it has no nextUpdate"),
            Self::NoSingleResponse => f.write_str("it holds no single response"),
            Self::NoSuccessfulBasicResponse => f.write_str("it is no successful basic OCSP response"),
            Self::NotYetValid { now, this_update } => {
                write!(f, "its thisUpdate {this_update} is more than 300 s ahead of {now}")
            }
        }
    }
}

/// Every reason why HAProxy would not load these bytes; none if it would. Whether they speak of a certificate that
/// HAProxy serves is another question.
#[must_use]
pub fn haproxy_refusals(der: &[u8], now: Timestamp) -> Vec<Refusal> {
    // HAProxy asks OpenSSL; so it is OpenSSL that decides what a response is.
    let is_basic = OcspResponse::from_der(der)
        .is_ok_and(|response| response.status() == OcspResponseStatus::SUCCESSFUL && response.basic().is_ok());
    if is_basic { refusals_of_basic(der, now) } else { vec![Refusal::NoSuccessfulBasicResponse] }
}

/// As [`haproxy_refusals`], for a response that OpenSSL is known to parse; its parser is what costs the time.
pub(super) fn refusals_of_basic(der: &[u8], now: Timestamp) -> Vec<Refusal> {
    // OpenSSL also reads BER with indefinite lengths, the walk does not. No CA sends that, and `verify` refuses it.
    let Some(parts) = basic_parts(der) else { return vec![Refusal::NoSuccessfulBasicResponse] };
    match parts.responses.as_slice() {
        [] => vec![Refusal::NoSingleResponse],
        [single] => refusals_of_single(*single, now).unwrap_or_else(|| vec![Refusal::NoSuccessfulBasicResponse]),
        several => vec![Refusal::MultipleSingleResponses { count: several.len() }],
    }
}

fn refusals_of_single(single: AnyRef<'_>, now: Timestamp) -> Option<Vec<Refusal>> {
    let fields = tlv::children(single)?;
    let [cert_id, cert_status, this_update, optional @ ..] = fields.as_slice() else { return None };
    let mut refusals = Vec::new();
    if tlv::context(*cert_status, 2) {
        refusals.push(Refusal::CertStatusUnknown);
    }
    match generalized_time(*this_update) {
        None => refusals.push(Refusal::InvalidTime { field: "thisUpdate" }),
        Some(this_update) if between(now, this_update) > SKEW => {
            refusals.push(Refusal::NotYetValid { now, this_update });
        }
        Some(_) => {}
    }
    match optional.iter().find(|field| tlv::context(**field, 0)) {
        None => refusals.push(Refusal::NextUpdateMissing),
        Some(tagged) => match tlv::first(tagged.value()).and_then(generalized_time) {
            None => refusals.push(Refusal::InvalidTime { field: "nextUpdate" }),
            Some(next_update) if between(now, next_update) < SKEW => {
                refusals.push(Refusal::LessThan300sLeft { now, next_update });
            }
            Some(_) => {}
        },
    }
    let algorithm = tlv::children(*cert_id)?.first().copied().and_then(tlv::children)?;
    let algorithm = algorithm.first()?.decode_as::<ObjectIdentifier>().ok()?;
    if algorithm != SHA1 {
        refusals.push(Refusal::CertIdHash { algorithm: hash_name(algorithm) });
    }
    Some(refusals)
}

pub(super) fn hash_name(algorithm: ObjectIdentifier) -> String {
    match algorithm {
        SHA1 => "sha1".to_owned(),
        SHA256 => "sha256".to_owned(),
        SHA384 => "sha384".to_owned(),
        SHA512 => "sha512".to_owned(),
        other => other.to_string(),
    }
}

/// A GeneralizedTime in UTC, with or without a fraction of a second: RFC 5280 section 4.1.2.5.2 forbids the fraction,
/// HAProxy reads over it.
fn generalized_time(any: AnyRef<'_>) -> Option<Timestamp> {
    if any.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(any.value()).ok()?.strip_suffix('Z')?;
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let digits = whole.len() == 14 && whole.bytes().all(|byte| byte.is_ascii_digit());
    let (date, time) = digits.then(|| whole.split_at_checked(8)).flatten()?;
    format!("{date}T{time}Z").parse().ok()
}
