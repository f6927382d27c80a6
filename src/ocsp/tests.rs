//! The verifier against responses that are right, and wrong in every way there is. Below, one file a kind.

mod about;
mod algorithms;
mod asking;
mod encoding;
pub(crate) mod pki;
mod signers;
mod staples;
mod times;
mod words;

use std::sync::LazyLock;

use der::asn1::Null;
use der::{Decode, Encode};
use jiff::Timestamp;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspRequest};
use proptest::prelude::*;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, KeyUsagePurpose, NameConstraints, SanType};
use x509_cert::ext::pkix::CrlReason;
use x509_ocsp::{OcspResponse, RevokedInfo};

use self::pki::{DAY, Draft, Entity, STRANGE, at, ca, date, end_entity, extension, generalized, now, oid, responder};
use self::pki::{openssl_cert_id, rsa_key, tlv, wrap};
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
