//! A shallow walk over DER, for what the typed parsers cannot give: the exact bytes of a part.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

/// The elements of a constructed value.
pub(crate) fn children(any: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    encodings(any.value())?.into_iter().map(first).collect()
}

/// Whether this is the context-specific tag `number`, of whatever form.
pub(crate) fn context(any: AnyRef<'_>, number: u8) -> bool {
    matches!(any.tag(), Tag::ContextSpecific { number: found, .. } if found == TagNumber::new(number))
}

/// The first element of `bytes`.
pub(crate) fn first(bytes: &[u8]) -> Option<AnyRef<'_>> {
    AnyRef::decode(&mut SliceReader::new(bytes).ok()?).ok()
}

/// Each element of `bytes`, with its tag and length.
pub(crate) fn encodings(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes().ok()?);
    }
    Some(found)
}

/// The parts of a certificate (RFC 5280 section 4.1) that make a CertID, as they are encoded.
pub(crate) struct CertificateParts<'a> {
    /// The serial number, an INTEGER.
    pub(crate) serial_number: &'a [u8],
    /// The issuer's Name.
    pub(crate) issuer: &'a [u8],
    /// The subject's Name.
    pub(crate) subject: &'a [u8],
    /// The bits of the subject's public key.
    pub(crate) subject_public_key: &'a [u8],
}

/// Cuts a certificate.
pub(crate) fn certificate_parts(der: &[u8]) -> Option<CertificateParts<'_>> {
    let tbs = encodings(first(first(der)?.value())?.value())?;
    // The version is tagged, and may be absent.
    let mut fields = tbs.into_iter().skip_while(|field| first(field).is_some_and(|field| context(field, 0)));
    let (serial_number, _signature, issuer) = (fields.next()?, fields.next()?, fields.next()?);
    let (_validity, subject, key) = (fields.next()?, fields.next()?, fields.next()?);
    // Before the bits stands the number of those in the last octet that do not count.
    let (_unused, subject_public_key) = children(first(key)?)?.get(1)?.value().split_first()?;
    Some(CertificateParts { serial_number, issuer, subject, subject_public_key })
}
