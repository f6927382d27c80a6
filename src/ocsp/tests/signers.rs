//! Who may sign.

use super::*;

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
fn what_openssl_refuses_of_the_issuer_is_not_blamed_on_its_copy_in_the_response() {
    let mut params = ca("Odd Root");
    let mut strange = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    strange.set_criticality(true);
    params.custom_extensions.push(strange);
    let root = Entity::self_signed(params, rcgen::KeyPair::generate().unwrap());
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut draft = Draft::good(&leaf, &root);
    draft.certs = vec![root.certificate.clone()];
    let error = verify(&draft.sign(), &leaf, &root.certificate, now()).unwrap_err();
    let reason = "Verify error: unhandled critical extension".to_owned();
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
