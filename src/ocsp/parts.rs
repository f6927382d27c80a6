//! The parts of a response that x509-ocsp does not give, or is too strict to read.

use der::asn1::AnyRef;
use der::{Tag, Tagged};

use crate::tlv::{children, context, encodings, first};

/// The contents of a BasicOCSPResponse (RFC 6960 section 4.2.1), cut but not read.
pub(super) struct BasicParts<'a> {
    /// The SingleResponses of `tbsResponseData`.
    pub(super) responses: Vec<AnyRef<'a>>,
    /// Each embedded certificate's DER.
    pub(super) certs: Vec<&'a [u8]>,
}

/// Cuts an OCSPResponse that carries a response of whatever type. Trailing bytes do not matter here.
pub(super) fn basic_parts(der: &[u8]) -> Option<BasicParts<'_>> {
    let response_bytes = children(first(der)?)?.into_iter().find(|field| context(*field, 0))?;
    let octets = *children(first(response_bytes.value())?)?.get(1)?;
    let basic = children(first(octets.value())?)?;
    let tbs = children(*basic.first()?)?;
    // The only SEQUENCE that stands directly in ResponseData: the version, the responderID and the extensions are
    // tagged.
    let responses = children(tbs.into_iter().find(|field| field.tag() == Tag::Sequence)?)?;
    let certs = match basic.into_iter().find(|field| context(*field, 0)) {
        Some(tagged) => encodings(first(tagged.value())?.value())?,
        None => Vec::new(),
    };
    Some(BasicParts { responses, certs })
}
