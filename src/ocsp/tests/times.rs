//! When a response may be believed, to the second.

use super::*;

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
    assert_eq!(haproxy_refusals(&draft.sign(), now()), refusals);
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
