//! Bits turned, bytes cut and added, other types and versions.

use super::*;

#[test]
fn no_flipped_bit_of_a_direct_response_changes_what_is_believed() {
    let world = &*WORLD;
    let draft = world.good();
    let (der, tbs) = (draft.sign(), draft.data.to_der().unwrap());
    let start = der.windows(tbs.len()).position(|window| window == tbs).unwrap();
    let signed = start..start + tbs.len();
    let original = world.verify(&der).unwrap();
    for index in 0..der.len() {
        for bit in 0..8 {
            flipped_bit_is_harmless(&der, index, bit, &original, signed.contains(&index));
        }
    }
}

#[test]
fn no_flipped_bit_of_a_delegated_response_changes_what_is_believed() {
    let world = &*WORLD;
    let der = world.delegated().sign();
    let original = world.verify(&der).unwrap();
    for index in 0..der.len() {
        flipped_bit_is_harmless(&der, index, index % 8, &original, false);
    }
}

fn flipped_bit_is_harmless(der: &[u8], index: usize, bit: usize, original: &Response, is_signed: bool) {
    let mut flipped = der.to_vec();
    flipped[index] ^= 1 << bit;
    if let Ok(response) = WORLD.verify(&flipped) {
        assert!(!is_signed, "bit {bit} of byte {index} is signed");
        assert_eq!(format!("{response:?}"), format!("{original:?}"), "bit {bit} of byte {index}");
    }
}

#[test]
fn a_truncated_response_is_refused_at_every_length() {
    let world = &*WORLD;
    for der in [world.good().sign(), world.delegated().sign()] {
        for length in 0..der.len() {
            let error = world.refuses(&der[..length]);
            assert!(malformed(&error), "{length}: {error:?}");
            let refusals = haproxy_refusals(&der[..length], now());
            assert_eq!(refusals, [Refusal::NoSuccessfulBasicResponse], "{length}");
        }
    }
}

#[test]
fn trailing_bytes_are_refused_everywhere_though_haproxy_ignores_them() {
    let world = &*WORLD;
    let draft = world.good();
    let basic = draft.basic(&draft.data.to_der().unwrap());
    let after = [draft.sign(), vec![0]].concat();
    let inside = wrap(&[basic.clone(), vec![5, 0]].concat());
    for der in [&after, &inside] {
        assert!(malformed(&world.refuses(der)));
        assert!(haproxy_refusals(der, now()).is_empty());
    }
    let body = der::asn1::AnyRef::from_der(&basic).unwrap().value();
    let further_in = wrap(&tlv(0x30, &[body, &[5, 0]].concat()));
    assert!(malformed(&world.refuses(&further_in)));
}

#[test]
fn garbage_is_refused() {
    for der in [&b""[..], b"\0", b"\x30", b"\x30\x00", b"<html>404</html>", &[0xff; 300]] {
        assert!(malformed(&WORLD.refuses(der)), "{der:?}");
        assert_eq!(haproxy_refusals(der, now()), [Refusal::NoSuccessfulBasicResponse], "{der:?}");
    }
}

#[test]
fn a_version_other_than_v1_is_refused() {
    let world = &*WORLD;
    let draft = world.good();
    let tbs = draft.data.to_der().unwrap();
    let fields = der::asn1::AnyRef::from_der(&tbs).unwrap().value();
    let v2 = tlv(0x30, &[&[0xa0, 3, 2, 1, 1], fields].concat());
    assert!(malformed(&world.refuses(&wrap(&draft.basic(&v2)))));
    // A default that is spelt out is not quite DER, but it is what some CAs sign.
    let v1 = tlv(0x30, &[&[0xa0, 3, 2, 1, 0], fields].concat());
    assert!(world.verify(&wrap(&draft.basic(&v1))).is_ok());
}

#[test]
fn fractions_of_a_second_are_refused_though_haproxy_reads_over_them() {
    let world = &*WORLD;
    let mut draft = world.good();
    let cert_id = draft.single().cert_id.to_der().unwrap();
    let responder_id = draft.data.responder_id.to_der().unwrap();
    let time = |text: &[u8]| tlv(0x18, text);
    let with = |next_update: &[u8]| {
        let next_update = tlv(0xa0, &time(next_update));
        let single = tlv(0x30, &[cert_id.clone(), vec![0x80, 0], time(b"20261123110000.5Z"), next_update].concat());
        let produced_at = time(b"20261123110000.5Z");
        let tbs = tlv(0x30, &[responder_id.clone(), produced_at, tlv(0x30, &single)].concat());
        wrap(&draft.basic(&tbs))
    };
    assert!(malformed(&world.refuses(&with(b"20261130110000.5Z"))));
    assert_eq!(haproxy_refusals(&with(b"20261130110000.5Z"), now()), []);
    let next_update = at(60);
    let refusals = [Refusal::LessThan300sLeft { now: now(), next_update }];
    assert_eq!(haproxy_refusals(&with(b"20261123120100.999Z"), now()), refusals);
    for nonsense in [&b"tomorrow"[..], b"20261123", b"20261323110000Z", b"20261123110000", b"202611301100Z"] {
        let refusals = [Refusal::InvalidTime { field: "nextUpdate" }];
        assert_eq!(haproxy_refusals(&with(nonsense), now()), refusals, "{nonsense:?}");
    }
}

#[test]
fn a_responder_that_gives_no_answer_is_told_apart() {
    let cases = [
        (OcspResponse::malformed_request(), ResponseStatus::MalformedRequest, "malformed_request"),
        (OcspResponse::internal_error(), ResponseStatus::InternalError, "internal_error"),
        (OcspResponse::try_later(), ResponseStatus::TryLater, "try_later"),
        (OcspResponse::sig_required(), ResponseStatus::SigRequired, "sig_required"),
        (OcspResponse::unauthorized(), ResponseStatus::Unauthorized, "unauthorized"),
    ];
    for (response, status, kind) in cases {
        let der = response.to_der().unwrap();
        let error = WORLD.refuses(&der);
        assert_eq!((&error, error.kind()), (&VerifyError::NotSuccessful { status }, kind));
        assert_eq!(haproxy_refusals(&der, now()), [Refusal::NoSuccessfulBasicResponse]);
    }
    for undefined in [4, 7] {
        assert!(malformed(&WORLD.refuses(&[0x30, 3, 0x0a, 1, undefined])));
    }
}

#[test]
fn an_answer_beside_a_refusal_is_no_answer() {
    let mut both = OcspResponse::from_der(&WORLD.good().sign()).unwrap();
    both.response_status = x509_ocsp::OcspResponseStatus::TryLater;
    let der = both.to_der().unwrap();
    assert_eq!(WORLD.refuses(&der), VerifyError::NotSuccessful { status: ResponseStatus::TryLater });
    assert_eq!(haproxy_refusals(&der, now()), [Refusal::NoSuccessfulBasicResponse]);
}

#[test]
fn a_response_of_another_type_or_of_none_is_refused() {
    let world = &*WORLD;
    let empty = [0x30, 3, 0x0a, 1, 0];
    assert_eq!(world.refuses(&empty), VerifyError::NotBasic { response_type: None });
    assert_eq!(haproxy_refusals(&empty, now()), [Refusal::NoSuccessfulBasicResponse]);
    let mut other = OcspResponse::from_der(&world.good().sign()).unwrap();
    other.response_bytes.as_mut().unwrap().response_type = oid(STRANGE);
    let der = other.to_der().unwrap();
    assert_eq!(world.refuses(&der), VerifyError::NotBasic { response_type: Some(STRANGE.to_owned()) });
    assert_eq!(haproxy_refusals(&der, now()), [Refusal::NoSuccessfulBasicResponse]);
}
