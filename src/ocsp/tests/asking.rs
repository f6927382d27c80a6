//! What is asked, and how.

use super::*;

#[test]
fn a_request_asks_about_one_certificate_with_sha1_and_nothing_else() {
    let world = &*WORLD;
    let request = Request::new(&world.leaf.certificate, &world.root.certificate).unwrap();
    let decoded = x509_ocsp::OcspRequest::from_der(request.der()).unwrap();
    assert_eq!(decoded.optional_signature, None);
    assert_eq!(decoded.tbs_request.request_extensions, None, "no nonce");
    let [asked] = decoded.tbs_request.request_list.as_slice() else { panic!("one request") };
    assert_eq!(asked.single_request_extensions, None);
    assert_eq!(asked.req_cert.to_der().unwrap(), request.cert_id().der());
    // SEQUENCE { AlgorithmIdentifier { sha1, NULL }, … } as HAProxy spells it.
    let sha1_with_null = [0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
    assert_eq!(request.cert_id().der()[2..13], sha1_with_null);
    assert_eq!(request.cert_id().serial_number(), world.leaf.certificate.serial_number());
    assert_eq!(request.cert_id().issuer_name_hash(), asked.req_cert.issuer_name_hash.as_bytes());
    assert_eq!(request.cert_id().issuer_key_hash(), asked.req_cert.issuer_key_hash.as_bytes());
}

#[test]
fn a_get_url_keeps_the_responders_path_and_escapes_the_request() {
    let world = &*WORLD;
    let request = Request::new(&world.leaf.certificate, &world.root.certificate).unwrap();
    let url = request.get_url("http://ocsp.example/a").unwrap();
    let encoded = url.strip_prefix("http://ocsp.example/a/").unwrap().to_owned();
    assert!(!encoded.contains(['/', '+', '=']), "{encoded}");
    let base64 = encoded.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=");
    assert_eq!(openssl::base64::decode_block(&base64).unwrap(), request.der());
    assert_eq!(request.get_url("http://ocsp.example/a/"), Some(format!("http://ocsp.example/a/{encoded}")));
    assert_eq!(request.get_url("http://ocsp.example/"), Some(format!("http://ocsp.example/{encoded}")));
    assert_eq!(request.get_url("http://ocsp.example"), Some(format!("http://ocsp.example/{encoded}")));
}

#[test]
fn a_serial_number_that_no_request_can_carry_is_told() {
    let mut params = end_entity("leaf.example");
    // RFC 5280 section 4.1.2.2 allows 20 octets.
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x7f; 30]));
    let leaf = WORLD.root.issue(params).certificate;
    let error = Request::new(&leaf, &WORLD.root.certificate).unwrap_err();
    assert_eq!(error.kind(), "no_request");
    assert!(error.to_string().starts_with("no OCSP request can be made for this certificate: "), "{error}");
    let refused = verify(&WORLD.good().sign(), &leaf, &WORLD.root.certificate, now()).unwrap_err();
    assert_eq!((refused.kind(), &refused), ("no_request", &VerifyError::Request(error)));
}

#[test]
fn there_is_no_get_url_behind_a_query_or_a_fragment_or_over_255_bytes() {
    let world = &*WORLD;
    let request = Request::new(&world.leaf.certificate, &world.root.certificate).unwrap();
    assert_eq!(request.get_url("http://ocsp.example/?ca=1"), None);
    assert_eq!(request.get_url("http://ocsp.example/#ca"), None);
    let rest = request.get_url("http://h").unwrap().len();
    let fits = format!("http://h{}", "x".repeat(255 - rest));
    assert_eq!(request.get_url(&fits).unwrap().len(), 255);
    assert_eq!(request.get_url(&format!("{fits}x")), None);
}
