//! Any bytes as an OCSP response.

use std::time::Duration;

use der::Decode;
use der::asn1::ObjectIdentifier;
use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::ocsp::{
    CertStatus, Refusal, Response, SKEW, Signer, Staple, Unloadable, haproxy_refusals, verify,
};
use jiff::Timestamp;
use openssl::asn1::Asn1GeneralizedTimeRef;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspResponse};
use openssl::x509::X509;
use x509_ocsp::BasicOcspResponse;

use super::fixture::FIXTURE;

const SECOND: Duration = Duration::from_secs(1);

/// Judges the bytes, and holds what is accepted against another reader and against what a strict client wants.
pub fn check(der: &[u8]) -> bool {
    let fixture = &*FIXTURE;
    let refusals = haproxy_refusals(der, fixture.now);
    match verify(der, &fixture.leaf, &fixture.issuer, fixture.now) {
        Ok(response) => {
            hold(der, &response);
            hold_staple(der, &response, &refusals);
            true
        }
        Err(error) => {
            assert!(!error.kind().is_empty() && !error.to_string().is_empty());
            false
        }
    }
}

/// What a strict client would insist on.
fn hold(der: &[u8], response: &Response) {
    let fixture = &*FIXTURE;
    let again = |leaf, issuer, at| verify(response.der(), leaf, issuer, at);
    assert_eq!(response.der(), der, "the CA's own bytes");
    let second = again(&fixture.leaf, &fixture.issuer, fixture.now).expect("what was accepted is accepted again");
    assert_eq!(format!("{second:?}"), format!("{response:?}"));

    assert!(again(&fixture.other, &fixture.issuer, fixture.now).is_err(), "it is about one certificate");
    assert!(again(&fixture.leaf, &fixture.delegate, fixture.now).is_err(), "and one issuer");
    let longer = [der, &[0]].concat();
    assert!(verify(&longer, &fixture.leaf, &fixture.issuer, fixture.now).is_err(), "trailing bytes");

    let latest = fixture.now + SKEW;
    assert!(response.produced_at() <= latest && response.this_update() <= latest, "from the future");
    if let Some(next_update) = response.next_update() {
        assert!(next_update >= response.this_update() && next_update >= fixture.now - SKEW, "stale");
        // None, at the end of what a timestamp can say.
        if let Ok(stale) = next_update.checked_add(SKEW + SECOND) {
            assert!(again(&fixture.leaf, &fixture.issuer, stale).is_err(), "it is believed for ever");
        }
    }
    if let Signer::Delegated { not_after, .. } = response.signer() {
        assert!(*not_after >= fixture.now, "of an expired delegate");
        let late = *not_after + SECOND;
        assert!(again(&fixture.leaf, &fixture.issuer, late).is_err(), "it outlives its delegate");
    }
    agree_with_openssl(der, response);
}

/// OpenSSL finds the same certificate with the same status and the same times.
fn agree_with_openssl(der: &[u8], response: &Response) {
    let fixture = &*FIXTURE;
    let basic = OcspResponse::from_der(der).and_then(|response| response.basic()).expect("OpenSSL reads it");
    let x509 = |certificate: &Certificate| X509::from_der(certificate.der()).expect("a certificate of ours");
    let asked = OcspCertId::from_cert(hash_of(der), &x509(&fixture.leaf), &x509(&fixture.issuer)).expect("a CertID");
    let found = basic.find_status(&asked).expect("it is about the certificate that was asked about");
    let status = match response.cert_status() {
        CertStatus::Good => OcspCertStatus::GOOD,
        CertStatus::Revoked { .. } => OcspCertStatus::REVOKED,
        CertStatus::Unknown => OcspCertStatus::UNKNOWN,
    };
    assert!(found.status == status, "OpenSSL reads another status than {status:?}");
    assert_eq!(found.this_update.to_string(), openssl_time(response.this_update()));
    assert_eq!(found.next_update().map(Asn1GeneralizedTimeRef::to_string), response.next_update().map(openssl_time));
    if let CertStatus::Revoked { revocation_time, .. } = response.cert_status() {
        assert_eq!(found.revocation_time.map(Asn1GeneralizedTimeRef::to_string), Some(openssl_time(*revocation_time)));
    }
}

/// The one hash of the one CertID.
fn hash_of(der: &[u8]) -> MessageDigest {
    let response = x509_ocsp::OcspResponse::from_der(der).expect("DER");
    let bytes = response.response_bytes.expect("a response");
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).expect("DER");
    let [single] = basic.tbs_response_data.responses.as_slice() else { panic!("not one SingleResponse") };
    let oid = |text| ObjectIdentifier::new_unwrap(text);
    match single.cert_id.hash_algorithm.oid {
        sha1 if sha1 == oid("1.3.14.3.2.26") => MessageDigest::sha1(),
        sha256 if sha256 == oid("2.16.840.1.101.3.4.2.1") => MessageDigest::sha256(),
        sha384 if sha384 == oid("2.16.840.1.101.3.4.2.2") => MessageDigest::sha384(),
        sha512 if sha512 == oid("2.16.840.1.101.3.4.2.3") => MessageDigest::sha512(),
        other => panic!("a CertID with the hash {other}"),
    }
}

/// As OpenSSL prints a GeneralizedTime.
fn openssl_time(at: Timestamp) -> String {
    at.strftime("%b %e %H:%M:%S %Y GMT").to_string()
}

/// What HAProxy would do with it.
fn hold_staple(der: &[u8], response: &Response, refusals: &[Refusal]) {
    let fixture = &*FIXTURE;
    match Staple::new(response.clone(), &fixture.cert_id(), fixture.now) {
        Ok(staple) => {
            assert!(refusals.is_empty(), "HAProxy would not load it: {refusals:?}");
            assert_eq!(staple.der(), der);
            assert!(*staple.response().cert_status() != CertStatus::Unknown, "unknown is never stapled");
            assert!(staple.is_serving(fixture.now) && !staple.is_serving(staple.effective_end()));
            assert!(staple.effective_end() + SKEW <= staple.next_update(), "HAProxy stops earlier");
            assert!(staple.effective_end() <= staple.end() && staple.this_update() <= staple.end());
            assert!(!staple.supersedes(&staple));
        }
        Err(Unloadable::Refused { refusals: told }) => assert!(!told.is_empty() && told == refusals),
        Err(_) => assert!(refusals.is_empty()),
    }
}
