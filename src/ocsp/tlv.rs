//! A shallow walk over the encoding, for what the typed parsers cannot give: the exact bytes of an embedded
//! certificate, and the fields of a response that x509-ocsp is too strict to read.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

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

/// The elements of a constructed value.
pub(super) fn children(any: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    encodings(any.value())?.into_iter().map(first).collect()
}

/// Whether this is the context-specific tag `number`, of whatever form.
pub(super) fn context(any: AnyRef<'_>, number: u8) -> bool {
    matches!(any.tag(), Tag::ContextSpecific { number: found, .. } if found == TagNumber::new(number))
}

/// The first element of `bytes`.
pub(super) fn first(bytes: &[u8]) -> Option<AnyRef<'_>> {
    AnyRef::decode(&mut SliceReader::new(bytes).ok()?).ok()
}

fn encodings(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes().ok()?);
    }
    Some(found)
}
