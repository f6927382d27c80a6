mod pki;

use std::sync::LazyLock;

use der::asn1::Null;
use der::{Decode, Encode};
use jiff::Timestamp;
use openssl::hash::MessageDigest;
use proptest::prelude::*;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, KeyUsagePurpose, NameConstraints, SanType};
use x509_cert::ext::pkix::CrlReason;
use x509_ocsp::{OcspResponse, RevokedInfo};

use self::pki::{DAY, Draft, Entity, STRANGE, at, ca, date, end_entity, extension, generalized, now, oid, responder};
use self::pki::{rsa_key, tlv, wrap};
use super::*;
use crate::certificate::Certificate;

/// The usual cast. Tests that need a strange one mint it themselves.
struct World {
    root: Entity,
    leaf: Entity,
    delegate: Entity,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = Entity::root("Root");
    let (leaf, delegate) = (root.issue(end_entity("leaf.example")), root.issue(responder("Responder")));
    World { root, leaf, delegate }
});

impl World {
    fn good(&self) -> Draft {
        Draft::good(&self.leaf.certificate, &self.root)
    }

    fn delegated(&self) -> Draft {
        Draft::delegated(&self.leaf.certificate, &self.root, &self.delegate)
    }

    fn delegated_to(&self, delegate: &Entity) -> Draft {
        Draft::delegated(&self.leaf.certificate, &self.root, delegate)
    }

    fn verify(&self, der: &[u8]) -> Result<Response, VerifyError> {
        verify(der, &self.leaf.certificate, &self.root.certificate, now())
    }

    fn refuses(&self, der: &[u8]) -> VerifyError {
        self.verify(der).expect_err("it should have been refused")
    }

    fn cert_id(&self) -> CertId {
        CertId::new(&self.leaf.certificate, &self.root.certificate).unwrap()
    }

    fn staple(&self, draft: &Draft) -> Result<Staple, Unloadable> {
        Staple::new(self.verify(&draft.sign()).unwrap(), &self.cert_id(), now())
    }
}

fn malformed(error: &VerifyError) -> bool {
    matches!(error, VerifyError::Malformed { .. })
}

/// The reason why the response's signer may not sign.
fn unauthorized(error: VerifyError) -> Unauthorized {
    match error {
        VerifyError::ResponderUnauthorized { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

// The request.

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

// Responses as they should be.

#[test]
fn a_direct_response_without_embedded_certificates_is_good() {
    let world = &*WORLD;
    let der = world.good().sign();
    let response = world.verify(&der).unwrap();
    assert_eq!(response.der(), der);
    assert_eq!(response.cert_status(), &CertStatus::Good);
    assert_eq!(response.signer(), &Signer::Issuer);
    assert_eq!((response.produced_at(), response.this_update()), (at(-3600), at(-3600)));
    assert_eq!(response.next_update(), Some(at(7 * DAY)));
    assert!(matches!(response.responder_id(), ResponderId::ByKey(hash) if hash.len() == 40));
}

#[test]
fn a_direct_response_may_name_the_issuer_and_carry_its_certificate() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.data.responder_id = world.root.responder_by_name();
    draft.certs = vec![world.root.certificate.clone()];
    let response = world.verify(&draft.sign()).unwrap();
    assert_eq!(response.signer(), &Signer::Issuer);
    assert_eq!(response.responder_id().to_string(), "CN=Root");
}

#[test]
fn a_delegate_may_be_named_by_key_or_by_name() {
    let world = &*WORLD;
    let not_after = world.delegate.certificate.not_after();
    let delegated = Signer::Delegated { subject: "CN=Responder".to_owned(), not_after };
    assert_eq!(world.verify(&world.delegated().sign()).unwrap().signer(), &delegated);
    let mut by_name = world.delegated();
    by_name.data.responder_id = world.delegate.responder_by_name();
    let response = world.verify(&by_name.sign()).unwrap();
    assert_eq!(response.signer(), &delegated);
    assert_eq!(response.responder_id(), &ResponderId::ByName("CN=Responder".to_owned()));
}

#[test]
fn an_intermediate_issuer_needs_no_root() {
    let intermediate = WORLD.root.issue(ca("Intermediate"));
    let leaf = intermediate.issue(end_entity("leaf.example")).certificate;
    let delegate = intermediate.issue(responder("Responder"));
    for draft in [Draft::good(&leaf, &intermediate), Draft::delegated(&leaf, &intermediate, &delegate)] {
        let response = verify(&draft.sign(), &leaf, &intermediate.certificate, now()).unwrap();
        assert_eq!(response.cert_status(), &CertStatus::Good);
    }
}

#[test]
fn rsa_works_as_well_also_with_sha1_and_an_rsa_delegate() {
    let root = Entity::rsa_root("RSA Root");
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut sha1 = Draft::good(&leaf, &root);
    sha1.digest = MessageDigest::sha1();
    let delegate = root.certify(responder("RSA Responder"), rsa_key());
    for draft in [Draft::good(&leaf, &root), sha1, Draft::delegated(&leaf, &root, &delegate)] {
        assert!(verify(&draft.sign(), &leaf, &root.certificate, now()).is_ok());
    }
}

#[test]
fn revoked_is_an_answer_with_its_time_and_reason() {
    let world = &*WORLD;
    let mut draft = world.good();
    let info =
        RevokedInfo { revocation_time: generalized(at(-DAY)), revocation_reason: Some(CrlReason::KeyCompromise) };
    draft.single().cert_status = x509_ocsp::CertStatus::Revoked(info);
    let response = world.verify(&draft.sign()).unwrap();
    let revocation_reason = Some("keyCompromise".to_owned());
    assert_eq!(response.cert_status(), &CertStatus::Revoked { revocation_time: at(-DAY), revocation_reason });
    assert_eq!(response.cert_status().label(), "revoked");
    assert!(world.staple(&draft).unwrap().is_revoked());
}

#[test]
fn unknown_is_an_answer_that_haproxy_does_not_load() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().cert_status = x509_ocsp::CertStatus::Unknown(Null);
    assert_eq!(world.verify(&draft.sign()).unwrap().cert_status(), &CertStatus::Unknown);
    let refusals = vec![Refusal::CertStatusUnknown];
    assert_eq!(world.staple(&draft), Err(Unloadable::Refused { refusals }));
}

#[test]
fn a_next_update_after_2038_is_no_trouble() {
    let world = &*WORLD;
    let mut draft = world.good();
    let next_update: Timestamp = "2040-06-01T00:00:00Z".parse().unwrap();
    draft.single().next_update = Some(generalized(next_update));
    assert_eq!(world.staple(&draft).unwrap().next_update(), next_update);
}

#[test]
fn extensions_that_are_not_critical_do_not_matter() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.data.response_extensions = Some(vec![extension(false, b"x")]);
    draft.single().single_extensions = Some(vec![extension(false, b"x")]);
    assert!(world.verify(&draft.sign()).is_ok());
}

#[test]
fn every_matching_certificate_is_tried() {
    let world = &*WORLD;
    let namesake = Entity::root("Elsewhere").issue(responder("Responder"));
    let mut draft = world.delegated();
    draft.data.responder_id = world.delegate.responder_by_name();
    draft.certs = vec![namesake.certificate, world.delegate.certificate.clone()];
    assert_eq!(world.verify(&draft.sign()).unwrap().signer().label(), "delegated");
}

#[test]
fn another_certificate_of_the_issuers_key_is_still_the_issuer() {
    let world = &*WORLD;
    let key = rcgen::KeyPair::try_from(world.root.key.serialized_der()).unwrap();
    let cross = Entity::root("Elsewhere").certify(ca("Root"), key);
    let mut draft = world.good();
    draft.certs = vec![cross.certificate];
    assert_eq!(world.verify(&draft.sign()).unwrap().signer(), &Signer::Issuer);
}

// What it is about.

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

#[test]
fn sha2_cert_ids_are_right_and_not_loadable() {
    let world = &*WORLD;
    let hashes =
        [(MessageDigest::sha256(), "sha256"), (MessageDigest::sha384(), "sha384"), (MessageDigest::sha512(), "sha512")];
    for (hash, name) in hashes {
        let mut draft = world.good();
        draft.single().cert_id = request::cert_id(hash, &world.leaf.certificate, &world.root.certificate).unwrap();
        assert!(world.verify(&draft.sign()).is_ok());
        let refusals = vec![Refusal::CertIdHash { algorithm: name.to_owned() }];
        assert_eq!(world.staple(&draft), Err(Unloadable::Refused { refusals }));
    }
}

#[test]
fn a_cert_id_with_a_broken_hash_is_refused() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().cert_id =
        request::cert_id(MessageDigest::md5(), &world.leaf.certificate, &world.root.certificate).unwrap();
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

// Times.

#[test]
fn this_update_and_produced_at_may_be_300_s_ahead_and_no_more() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().this_update = generalized(at(300));
    draft.data.produced_at = generalized(at(300));
    assert!(world.verify(&draft.sign()).is_ok());
    assert!(haproxy_refusals(&draft.sign(), now()).is_empty());

    draft.data.produced_at = generalized(at(301));
    let error = VerifyError::ProducedInFuture { now: now(), produced_at: at(301) };
    assert_eq!(world.refuses(&draft.sign()), error);

    draft.data.produced_at = generalized(at(0));
    draft.single().this_update = generalized(at(301));
    let der = draft.sign();
    assert_eq!(world.refuses(&der), VerifyError::NotYetValid { now: now(), this_update: at(301) });
    assert_eq!(haproxy_refusals(&der, now()), [Refusal::NotYetValid { now: now(), this_update: at(301) }]);
}

#[test]
fn next_update_may_be_300_s_past_and_no_more() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().next_update = Some(generalized(at(-300)));
    assert!(world.verify(&draft.sign()).is_ok());
    draft.single().next_update = Some(generalized(at(-301)));
    assert_eq!(world.refuses(&draft.sign()), VerifyError::Stale { now: now(), next_update: at(-301) });
}

#[test]
fn next_update_before_this_update_is_refused() {
    let world = &*WORLD;
    let mut draft = world.good();
    (draft.single().this_update, draft.single().next_update) = (generalized(at(-10)), Some(generalized(at(-11))));
    let error = VerifyError::NextUpdateBeforeThisUpdate { this_update: at(-10), next_update: at(-11) };
    assert_eq!(world.refuses(&draft.sign()), error);
}

#[test]
fn a_response_without_next_update_is_right_and_not_loadable() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().next_update = None;
    assert_eq!(world.verify(&draft.sign()).unwrap().next_update(), None);
    let refusals = vec![Refusal::NextUpdateMissing];
    assert_eq!(world.staple(&draft), Err(Unloadable::Refused { refusals }));
}

#[test]
fn three_hundred_seconds_to_live_are_too_few() {
    let world = &*WORLD;
    let with = |seconds: i64| {
        let mut draft = world.good();
        draft.single().next_update = Some(generalized(at(seconds)));
        draft
    };
    let refusals = vec![Refusal::LessThan300sLeft { now: now(), next_update: at(299) }];
    assert_eq!(world.staple(&with(299)), Err(Unloadable::Refused { refusals }));
    // HAProxy would take this one, and serve it for not even a second.
    assert!(haproxy_refusals(&with(300).sign(), now()).is_empty());
    assert_eq!(world.staple(&with(300)), Err(Unloadable::Expiring { now: now(), next_update: at(300) }));
    assert!(world.staple(&with(301)).unwrap().is_serving(now()));
}

// Extensions and algorithms.

#[test]
fn a_critical_extension_is_refused_wherever_it_stands() {
    let world = &*WORLD;
    let refusal = |place| VerifyError::UnknownCriticalExtension { place, oid: STRANGE.to_owned() };

    let mut draft = world.good();
    draft.data.response_extensions = Some(vec![extension(false, b"x"), extension(true, b"x")]);
    assert_eq!(world.refuses(&draft.sign()), refusal(ExtensionPlace::Response));

    let mut draft = world.good();
    draft.single().single_extensions = Some(vec![extension(true, b"x")]);
    assert_eq!(world.refuses(&draft.sign()), refusal(ExtensionPlace::Single));

    let mut params = responder("Responder");
    let mut strange = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    strange.set_criticality(true);
    params.custom_extensions.push(strange);
    let error = world.refuses(&world.delegated_to(&world.root.issue(params)).sign());
    assert_eq!(unauthorized(error), Unauthorized::UnknownCriticalExtension { oid: STRANGE.to_owned() });
}

#[test]
fn md5_is_refused_on_the_response() {
    let root = Entity::rsa_root("RSA Root");
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut draft = Draft::good(&leaf, &root);
    draft.digest = MessageDigest::md5();
    let error = verify(&draft.sign(), &leaf, &root.certificate, now()).unwrap_err();
    assert_eq!(error, VerifyError::WeakSignature { algorithm: "md5WithRSAEncryption" });
}

#[test]
fn md5_is_refused_on_the_delegate() {
    let root = Entity::rsa_root("RSA Root");
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut delegate = root.issue(responder("Responder"));
    delegate.certificate = resign_with_md5(&delegate.certificate, &root);
    let error = verify(&Draft::delegated(&leaf, &root, &delegate).sign(), &leaf, &root.certificate, now()).unwrap_err();
    let algorithm = "md5WithRSAEncryption";
    assert_eq!(unauthorized(error), Unauthorized::WeakSignature { algorithm });
}

fn resign_with_md5(certificate: &Certificate, issuer: &Entity) -> Certificate {
    let mut fields = x509_cert::Certificate::from_der(certificate.der()).unwrap();
    fields.signature_algorithm.oid = oid("1.2.840.113549.1.1.4");
    fields.tbs_certificate.signature = fields.signature_algorithm.clone();
    let key = issuer.pkey();
    let mut signer = openssl::sign::Signer::new(MessageDigest::md5(), &key).unwrap();
    let signature = signer.sign_oneshot_to_vec(&fields.tbs_certificate.to_der().unwrap()).unwrap();
    fields.signature = der::asn1::BitString::from_bytes(&signature).unwrap();
    Certificate::from_der(&fields.to_der().unwrap()).unwrap()
}

#[test]
fn a_broken_hash_hides_nowhere_in_the_parameters_of_pss() {
    use x509_cert::spki::AlgorithmIdentifierOwned;
    let pss = |hash: &str| {
        let hash = AlgorithmIdentifierOwned { oid: oid(hash), parameters: Some(Null.into()) };
        let parameters = tlv(0x30, &tlv(0xa0, &hash.to_der().unwrap()));
        let parameters = Some(der::Any::from_der(&parameters).unwrap());
        AlgorithmIdentifierOwned { oid: oid("1.2.840.113549.1.1.10"), parameters }
    };
    assert_eq!(verify::weak_signature(&pss("1.2.840.113549.2.5")), Some("RSASSA-PSS with MD5"));
    assert_eq!(verify::weak_signature(&pss("2.16.840.1.101.3.4.2.1")), None);
}

// The signer.

#[test]
fn a_strangers_signature_is_refused_whatever_he_calls_himself() {
    let world = &*WORLD;
    let stranger = Entity::root("Root");
    let by_issuers_key = world.good().signed_by(&stranger);
    let responder = "CN=Root".to_owned();
    assert_eq!(world.refuses(&by_issuers_key.sign()), VerifyError::SignatureInvalid { responder });

    let by_his_own_key = world.delegated_to(&stranger);
    assert_eq!(unauthorized(world.refuses(&by_his_own_key.sign())), Unauthorized::NotIssuedByIssuer);

    let mut by_the_cas_name = world.delegated_to(&stranger);
    by_the_cas_name.data.responder_id = stranger.responder_by_name();
    assert_eq!(unauthorized(world.refuses(&by_the_cas_name.sign())), Unauthorized::NotIssuedByIssuer);
}

#[test]
fn a_delegate_that_is_not_embedded_cannot_be_found() {
    let world = &*WORLD;
    let mut draft = world.delegated();
    draft.certs.clear();
    let error = world.refuses(&draft.sign());
    assert!(matches!(&error, VerifyError::ResponderNotFound { responder_id: ResponderId::ByKey(_) }), "{error:?}");
    draft.certs = vec![world.leaf.certificate.clone()];
    assert_eq!(world.refuses(&draft.sign()), error);
}

#[test]
fn a_delegates_name_without_its_signature_is_worth_nothing() {
    let world = &*WORLD;
    let draft = world.delegated().signed_by(&world.leaf);
    let responder = "CN=Responder".to_owned();
    assert_eq!(world.refuses(&draft.sign()), VerifyError::SignatureInvalid { responder });
}

#[test]
fn a_certificate_of_the_same_ca_may_not_sign_without_ocsp_signing() {
    let world = &*WORLD;
    let error = world.refuses(&world.delegated_to(&world.leaf).sign());
    assert_eq!(unauthorized(error), Unauthorized::MissingOcspSigning);
    let mut params = responder("Server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    let error = world.refuses(&world.delegated_to(&world.root.issue(params)).sign());
    assert_eq!(unauthorized(error), Unauthorized::MissingOcspSigning);
}

#[test]
fn an_ancestor_and_its_delegate_may_not_sign_for_the_issuer() {
    let world = &*WORLD;
    let intermediate = world.root.issue(ca("Intermediate"));
    let leaf = intermediate.issue(end_entity("leaf.example")).certificate;
    for signer in [&world.root, &world.delegate] {
        let mut draft = Draft::delegated(&leaf, &intermediate, signer);
        draft.certs.extend([world.root.certificate.clone(), intermediate.certificate.clone()]);
        let error = verify(&draft.sign(), &leaf, &intermediate.certificate, now()).unwrap_err();
        assert_eq!(unauthorized(error), Unauthorized::NotIssuedByIssuer);
    }
}

#[test]
fn a_ca_may_not_be_a_delegate() {
    let world = &*WORLD;
    let mut params = ca("Sub CA");
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    let error = world.refuses(&world.delegated_to(&world.root.issue(params)).sign());
    assert_eq!(unauthorized(error), Unauthorized::IsCa);
}

#[test]
fn a_delegate_must_be_valid_to_the_second() {
    let world = &*WORLD;
    let valid = |from: i64, to: i64| {
        let mut params = responder("Responder");
        (params.not_before, params.not_after) = (date(at(from)), date(at(to)));
        world.verify(&world.delegated_to(&world.root.issue(params)).sign())
    };
    assert!(valid(0, DAY).is_ok());
    let outside = |from, to| Unauthorized::OutsideValidity { now: now(), not_before: at(from), not_after: at(to) };
    assert_eq!(unauthorized(valid(-DAY, -1).unwrap_err()), outside(-DAY, -1));
    assert_eq!(unauthorized(valid(1, DAY).unwrap_err()), outside(1, DAY));
}

#[test]
fn a_delegate_of_another_ca_with_the_same_name_is_refused() {
    let world = &*WORLD;
    let delegate = Entity::root("Root").issue(responder("Responder"));
    let error = world.refuses(&world.delegated_to(&delegate).sign());
    assert_eq!(unauthorized(error), Unauthorized::NotIssuedByIssuer);
}

#[test]
fn a_delegate_without_digital_signature_is_refused() {
    let world = &*WORLD;
    let mut params = responder("Responder");
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let error = world.refuses(&world.delegated_to(&world.root.issue(params)).sign());
    assert_eq!(unauthorized(error), Unauthorized::KeyUsageWithoutDigitalSignature);
    let mut params = responder("Responder");
    params.key_usages.clear();
    assert!(world.verify(&world.delegated_to(&world.root.issue(params)).sign()).is_ok());
}

#[test]
fn the_error_is_that_of_the_certificate_that_really_signed() {
    let world = &*WORLD;
    let mut params = responder("Responder");
    (params.not_before, params.not_after) = (date(at(-2 * DAY)), date(at(-DAY)));
    let retired = world.root.issue(params);
    let mut draft = world.delegated_to(&retired);
    draft.data.responder_id = retired.responder_by_name();
    for certs in [[&retired, &world.delegate], [&world.delegate, &retired]] {
        draft.certs = certs.map(|entity| entity.certificate.clone()).to_vec();
        let reason = unauthorized(world.refuses(&draft.sign()));
        assert!(matches!(reason, Unauthorized::OutsideValidity { .. }), "{reason:?}");
    }
}

#[test]
fn openssl_has_a_say_in_what_we_do_not_look_at() {
    let mut params = ca("Constrained Root");
    let permitted_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    let root = Entity::self_signed(params, rcgen::KeyPair::generate().unwrap());
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut params = responder("Responder");
    params.subject_alt_names = vec![SanType::DnsName("elsewhere.test".try_into().unwrap())];
    let draft = Draft::delegated(&leaf, &root, &root.issue(params));
    let error = verify(&draft.sign(), &leaf, &root.certificate, now()).unwrap_err();
    let reason = "Verify error: permitted subtree violation".to_owned();
    assert_eq!(unauthorized(error), Unauthorized::RefusedByOpenssl { reason });
}

#[test]
fn an_expired_issuer_vouches_for_nothing() {
    let mut params = ca("Old Root");
    params.not_after = date(at(-DAY));
    let root = Entity::self_signed(params, rcgen::KeyPair::generate().unwrap());
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let delegate = root.issue(responder("Responder"));
    for draft in [Draft::good(&leaf, &root), Draft::delegated(&leaf, &root, &delegate)] {
        let reason = unauthorized(verify(&draft.sign(), &leaf, &root.certificate, now()).unwrap_err());
        assert!(
            matches!(reason, Unauthorized::OutsideValidity { not_after, .. } if not_after == at(-DAY)),
            "{reason:?}"
        );
    }
}

// The encoding.

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
    for nonsense in [&b"tomorrow"[..], b"20261123", b"20261323110000Z", b"20261123110000"] {
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

// Staples.

#[test]
fn a_staple_ends_300_s_before_next_update_or_with_its_delegate() {
    let world = &*WORLD;
    let staple = world.staple(&world.good()).unwrap();
    assert_eq!(staple.effective_end(), at(7 * DAY - 300));
    assert!(staple.is_serving(at(7 * DAY - 301)));
    assert!(!staple.is_serving(at(7 * DAY - 300)));

    let mut params = responder("Responder");
    params.not_after = date(at(DAY));
    let staple = world.staple(&world.delegated_to(&world.root.issue(params))).unwrap();
    assert_eq!(staple.effective_end(), at(DAY));
}

#[test]
fn only_newer_knowledge_supersedes() {
    let world = &*WORLD;
    let staple = |this_update: i64, next_update: i64, is_revoked: bool| {
        let mut draft = world.good();
        draft.single().this_update = generalized(at(this_update));
        draft.single().next_update = Some(generalized(at(next_update)));
        if is_revoked {
            let info = RevokedInfo { revocation_time: generalized(at(-DAY)), revocation_reason: None };
            draft.single().cert_status = x509_ocsp::CertStatus::Revoked(info);
        }
        world.staple(&draft).unwrap()
    };
    let held = staple(-100, DAY, false);
    assert!(staple(-99, DAY, false).supersedes(&held));
    assert!(staple(-99, DAY / 2, false).supersedes(&held), "newer, though shorter");
    assert!(!staple(-101, 2 * DAY, false).supersedes(&held), "older, though longer");
    assert!(staple(-99, DAY, true).supersedes(&held));
    assert!(staple(-100, DAY, true).supersedes(&held), "revoked in the same second");
    assert!(!staple(-101, DAY, true).supersedes(&held), "revoked, but older");
    assert!(staple(-99, DAY, false).supersedes(&staple(-100, DAY, true)), "taken off hold");
    assert!(staple(-100, 2 * DAY, false).supersedes(&held), "as new, and longer");
    assert!(!staple(-100, DAY, false).supersedes(&held), "as good is not better");
    assert!(!held.supersedes(&held));
    assert_eq!(held, held.clone());
    assert_ne!(held, staple(-99, DAY, false));
}

#[test]
fn errors_say_what_happened() {
    let world = &*WORLD;
    let mut draft = world.good();
    draft.single().next_update = Some(generalized(at(-DAY)));
    draft.single().this_update = generalized(at(-2 * DAY));
    let text = world.refuses(&draft.sign()).to_string();
    assert_eq!(text, "it is stale: nextUpdate was 2026-11-22T12:00:00Z, now is 2026-11-23T12:00:00Z");
    let text = world.refuses(&world.delegated_to(&world.leaf).sign()).to_string();
    assert_eq!(text, "'CN=leaf.example' may not sign for this issuer: its extKeyUsage lacks id-kp-OCSPSigning");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(der in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(WORLD.verify(&der).is_err());
        prop_assert!(!haproxy_refusals(&der, now()).is_empty());
    }

    #[test]
    fn damaged_responses_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        is_delegated: bool,
    ) {
        static DIRECT: LazyLock<Vec<u8>> = LazyLock::new(|| WORLD.good().sign());
        static DELEGATED: LazyLock<Vec<u8>> = LazyLock::new(|| WORLD.delegated().sign());
        let mut der = if is_delegated { DELEGATED.clone() } else { DIRECT.clone() };
        for (index, byte) in damage {
            *index.get_mut(&mut der) = byte;
        }
        let refusals = haproxy_refusals(&der, now());
        if let Ok(response) = WORLD.verify(&der) {
            prop_assert_eq!(response.cert_status(), &CertStatus::Good);
            prop_assert!(refusals.is_empty());
        }
    }

    #[test]
    fn arbitrary_insides_never_panic(tbs in prop::collection::vec(any::<u8>(), 0..200)) {
        let draft = WORLD.good();
        for der in [wrap(&tbs), wrap(&draft.basic(&tlv(0x30, &tbs)))] {
            prop_assert!(WORLD.verify(&der).is_err());
            let _ = haproxy_refusals(&der, now());
        }
    }
}
