//! The CertID: a response is about one certificate.

use super::*;

#[test]
fn a_response_about_another_serial_number_is_refused() {
    let world = &*WORLD;
    let other = world.root.issue(end_entity("leaf.example")).certificate;
    let error = world.refuses(&Draft::good(&other, &world.root).sign());
    assert!(matches!(error, VerifyError::CertIdMismatch { field: CertIdField::SerialNumber, .. }), "{error:?}");
}

#[test]
fn mixed_issuer_hashes_are_refused() {
    let world = &*WORLD;
    let other = Entity::root("Other Root");
    let foreign = Draft::good(&world.leaf.certificate, &other).single().cert_id.clone();

    let mut name_only = world.good();
    name_only.single().cert_id.issuer_key_hash = foreign.issuer_key_hash.clone();
    let error = world.refuses(&name_only.sign());
    assert!(matches!(error, VerifyError::CertIdMismatch { field: CertIdField::IssuerKeyHash, .. }), "{error:?}");

    let mut key_only = world.good();
    key_only.single().cert_id.issuer_name_hash = foreign.issuer_key_hash;
    let error = world.refuses(&key_only.sign());
    assert!(matches!(error, VerifyError::CertIdMismatch { field: CertIdField::IssuerNameHash, .. }), "{error:?}");
}

#[test]
fn an_issuer_with_another_name_is_refused_even_where_the_cert_id_fits() {
    let world = &*WORLD;
    let key = rcgen::KeyPair::try_from(world.root.key.serialized_der()).unwrap();
    let renamed = Entity::self_signed(ca("Renamed"), key);
    let error = verify(&world.good().sign(), &world.leaf.certificate, &renamed.certificate, now()).unwrap_err();
    let (expected, found) = ("CN=Root".to_owned(), "CN=Renamed".to_owned());
    assert_eq!(error, VerifyError::IssuerNameMismatch { expected, found });
}

fn cert_id(hash: MessageDigest, world: &World) -> x509_ocsp::CertId {
    openssl_cert_id(hash, &world.leaf.certificate, &world.root.certificate)
}

#[test]
fn a_request_is_the_one_that_openssl_would_make() {
    let world = &*WORLD;
    let (leaf, issuer) = (&world.leaf.certificate, &world.root.certificate);
    let id = OcspCertId::from_cert(MessageDigest::sha1(), &leaf.x509().unwrap(), &issuer.x509().unwrap()).unwrap();
    let mut theirs = OcspRequest::new().unwrap();
    theirs.add_id(id).unwrap();
    let ours = Request::new(leaf, issuer).unwrap();
    assert_eq!(ours.der(), theirs.to_der().unwrap());
    assert_eq!(ours.cert_id().der(), openssl_cert_id(MessageDigest::sha1(), leaf, issuer).to_der().unwrap());
}

#[test]
fn sha2_cert_ids_are_right_and_not_loadable() {
    let world = &*WORLD;
    let hashes =
        [(MessageDigest::sha256(), "sha256"), (MessageDigest::sha384(), "sha384"), (MessageDigest::sha512(), "sha512")];
    for (hash, name) in hashes {
        let mut draft = world.good();
        draft.single().cert_id = cert_id(hash, world);
        assert!(world.verify(&draft.sign()).is_ok());
        let refusals = vec![Refusal::CertIdHash { algorithm: name.to_owned() }];
        assert_eq!(world.staple(&draft), Err(Unloadable::Refused { refusals }));
    }
}

#[test]
fn a_cert_id_with_a_broken_hash_is_refused() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().cert_id = cert_id(MessageDigest::md5(), world);
    let algorithm = "1.2.840.113549.2.5".to_owned();
    assert_eq!(world.refuses(&draft.sign()), VerifyError::CertIdHashUnsupported { algorithm });
}

#[test]
fn a_cert_id_without_null_is_right_and_not_loadable() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().cert_id.hash_algorithm.parameters = None;
    assert!(haproxy_refusals(&draft.sign(), now()).is_empty());
    let error = world.staple(&draft).unwrap_err();
    assert!(matches!(&error, Unloadable::CertIdEncoding { expected, .. } if expected.contains("2B0E03021A0500")));
    assert_eq!(error.kind(), "cert_id_encoding");
}

#[test]
fn several_single_responses_are_refused_even_if_one_fits() {
    let world = &*WORLD;
    let mut draft = world.good();
    let again = draft.single().clone();
    draft.data.responses.push(again);
    let der = draft.sign();
    assert_eq!(world.refuses(&der), VerifyError::MultipleSingleResponses { count: 2 });
    assert_eq!(haproxy_refusals(&der, now()), [Refusal::MultipleSingleResponses { count: 2 }]);
    draft.data.responses.clear();
    let der = draft.sign();
    assert_eq!(world.refuses(&der), VerifyError::NoSingleResponse);
    assert_eq!(haproxy_refusals(&der, now()), [Refusal::NoSingleResponse]);
}
