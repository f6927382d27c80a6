//! Names and sentences: each thing has one, stable and its own.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_refusal_of_haproxys_has_a_name_and_a_sentence() {
    let (now, next_update) = (now(), at(299));
    let refusals = [
        (Refusal::CertIdHash { algorithm: "sha256".to_owned() }, "cert_id_hash", "sha256"),
        (Refusal::CertStatusUnknown, "cert_status_unknown", "unknown"),
        (Refusal::InvalidTime { field: "nextUpdate" }, "invalid_time", "nextUpdate"),
        (Refusal::LessThan300sLeft { now, next_update }, "less_than_300s_left", "12:04:59"),
        (Refusal::MultipleSingleResponses { count: 7 }, "multiple_single_responses", "7"),
        (Refusal::NextUpdateMissing, "next_update_missing", "nextUpdate"),
        (Refusal::NoSingleResponse, "no_single_response", "no single"),
        (Refusal::NoSuccessfulBasicResponse, "no_successful_basic_response", "basic"),
        (Refusal::NotYetValid { now, this_update: at(301) }, "not_yet_valid", "12:05:01"),
    ];
    for (refusal, kind, evidence) in &refusals {
        assert_eq!(refusal.kind(), *kind);
        assert!(refusal.to_string().contains(evidence), "{refusal}");
    }
    let several: Vec<Refusal> = refusals.iter().map(|(refusal, ..)| refusal.clone()).collect();
    let unloadable = Unloadable::Refused { refusals: several };
    assert_eq!(unloadable.kind(), "cert_id_hash", "the first");
    let text = unloadable.to_string();
    assert!(refusals.iter().all(|(refusal, ..)| text.contains(&refusal.to_string())), "{text}");
}

#[test]
fn what_cannot_be_loaded_has_a_name_and_a_remedy() {
    let spelt = || ("AA".to_owned(), "BB".to_owned());
    let (expected, found) = spelt();
    let encoding = Unloadable::CertIdEncoding { expected, found };
    let expiring = Unloadable::Expiring { now: now(), next_update: at(300) };
    let refused = Unloadable::Refused { refusals: vec![Refusal::NextUpdateMissing] };
    let kinds = [&encoding, &expiring, &refused].map(Unloadable::kind);
    assert_eq!(kinds, ["cert_id_encoding", "less_than_300s_left", "next_update_missing"]);
    assert!(encoding.remedy().contains("CertID") && expiring.remedy().contains("CA"));
}

#[test]
fn every_error_has_a_name_of_its_own() {
    let (this_update, next_update, text) = (now(), now(), || "x".to_owned());
    let errors = [
        VerifyError::CertIdHashUnsupported { algorithm: text() },
        VerifyError::CertIdMismatch { field: CertIdField::SerialNumber, expected: text(), found: text() },
        VerifyError::IssuerNameMismatch { expected: text(), found: text() },
        VerifyError::Malformed { reason: text() },
        VerifyError::MultipleSingleResponses { count: 2 },
        VerifyError::NextUpdateBeforeThisUpdate { this_update, next_update },
        VerifyError::NoSingleResponse,
        VerifyError::NotBasic { response_type: None },
        VerifyError::NotYetValid { now: now(), this_update },
        VerifyError::Openssl { reason: text() },
        VerifyError::ProducedInFuture { now: now(), produced_at: now() },
        VerifyError::ResponderNotFound { responder_id: ResponderId::ByKey(text()) },
        VerifyError::ResponderUnauthorized { responder: text(), reason: Unauthorized::IsCa },
        VerifyError::SignatureInvalid { responder: text() },
        VerifyError::Stale { now: now(), next_update },
        VerifyError::UnknownCriticalExtension { place: ExtensionPlace::Single, oid: text() },
        VerifyError::WeakSignature { algorithm: "x" },
    ];
    let kinds: BTreeSet<&str> = errors.iter().map(VerifyError::kind).collect();
    assert_eq!(kinds.len(), errors.len());
    assert!(kinds.iter().all(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')), "{kinds:?}");
}

#[test]
fn a_status_a_responder_and_a_signer_are_told_in_words() {
    let revoked = |reason: Option<&str>| CertStatus::Revoked {
        revocation_time: at(0),
        revocation_reason: reason.map(str::to_owned),
    };
    assert_eq!(revoked(Some("superseded")).to_string(), "revoked at 2026-11-23T12:00:00Z (superseded)");
    assert_eq!(revoked(None).to_string(), "revoked at 2026-11-23T12:00:00Z");
    assert_eq!((CertStatus::Good.to_string(), CertStatus::Unknown.to_string()), ("good".into(), "unknown".into()));
    assert_eq!(ResponderId::ByKey("AB".to_owned()).to_string(), "key AB");
    let delegated = Signer::Delegated { subject: "CN=x".to_owned(), not_after: at(0) };
    assert_eq!((Signer::Issuer.label(), delegated.label()), ("issuer", "delegated"));
}

#[test]
fn every_reason_of_a_revocation_has_its_name_of_rfc_5280() {
    let reasons = [
        (CrlReason::Unspecified, "unspecified"),
        (CrlReason::KeyCompromise, "keyCompromise"),
        (CrlReason::CaCompromise, "cACompromise"),
        (CrlReason::AffiliationChanged, "affiliationChanged"),
        (CrlReason::Superseded, "superseded"),
        (CrlReason::CessationOfOperation, "cessationOfOperation"),
        (CrlReason::CertificateHold, "certificateHold"),
        (CrlReason::RemoveFromCRL, "removeFromCRL"),
        (CrlReason::PrivilegeWithdrawn, "privilegeWithdrawn"),
        (CrlReason::AaCompromise, "aACompromise"),
    ];
    for (reason, name) in reasons {
        let mut draft = WORLD.good();
        let info = RevokedInfo { revocation_time: generalized(at(-DAY)), revocation_reason: Some(reason) };
        draft.single().cert_status = x509_ocsp::CertStatus::Revoked(info);
        let response = WORLD.verify(&draft.sign()).unwrap();
        let CertStatus::Revoked { revocation_reason, .. } = response.cert_status() else { panic!("{response:?}") };
        assert_eq!(revocation_reason.as_deref(), Some(name));
    }
}

#[test]
fn a_response_shows_what_it_says_and_not_its_bytes() {
    let shown = format!("{:?}", WORLD.verify(&WORLD.good().sign()).unwrap());
    assert!(shown.contains("Good") && shown.contains("2026-11-30T12:00:00Z") && shown.contains("Issuer"), "{shown}");
    assert!(!shown.contains("der:"), "{shown}");
}
