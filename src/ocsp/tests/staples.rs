//! What is given to HAProxy, and instead of what.

use super::*;

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
