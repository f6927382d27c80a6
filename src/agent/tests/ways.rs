//! What the explanation makes of a certificate to which nothing bad has happened yet.

use super::{Scene, at, certificates};
use crate::agent::troubles;
use crate::explain::{Finding, Outcome, explain, explain_unmatched};
use crate::status::{
    CertificateStatus, HandshakeStatus, OcspStatus, ProbeStatus, ServedStatus, Sight, StapleStatus, State, Status, Step,
};
use Outcome::{Done as Ok, Failed, NotReached, Skipped, Waiting};

fn outcomes(certificate: &CertificateStatus, status: &Status) -> [Outcome; 11] {
    let outcomes: Vec<Outcome> = explain(certificate, status).into_iter().map(|finding| finding.outcome).collect();
    outcomes.try_into().unwrap()
}

fn finding(certificate: &CertificateStatus, status: &Status, step: Step) -> Finding {
    explain(certificate, status).into_iter().find(|finding| finding.step == step).unwrap()
}

/// Loaded and served, as the snapshot has it.
fn served() -> (CertificateStatus, Status) {
    let mut scene = Scene::new();
    scene.load();
    let (mut certificate, status) = scene.status();
    let (this_update, next_update) = (at(-1000), at(100_000));
    certificate.state = State::Stapled;
    certificate.ocsp_status = OcspStatus::Good;
    certificate.last_success_at = Some(at(-900));
    certificate.staple = Some(StapleStatus {
        this_update,
        next_update,
        produced_at: this_update,
        effective_end: at(99_700),
        signer: "issuer",
        responder_id: "CN=Root".to_owned(),
    });
    certificate.kept.in_state_directory = true;
    certificate.served = vec![ServedStatus { haproxy: "/s".into(), this_update, next_update }];
    (certificate, status)
}

#[test]
fn what_has_not_happened_yet_is_waited_for() {
    let scene = Scene::new();
    let (certificate, mut status) = scene.status();
    // HAProxy does not answer, which the fixture says; without that, it is only late.
    assert_eq!(outcomes(&certificate, &status)[7], Failed);
    status.haproxy[0].trouble = None;
    let expected = [Ok, Ok, Ok, Ok, Waiting, NotReached, NotReached, Waiting, NotReached, NotReached, Skipped];
    assert_eq!((certificate.state, outcomes(&certificate, &status)), (State::Pending, expected));
    status.haproxy.clear();
    assert_eq!(finding(&certificate, &status, Step::Entry).outcome, Skipped);

    let mut scene = Scene::new();
    scene.load();
    let (certificate, status) = scene.status();
    let expected = [Ok, Ok, Ok, Ok, Waiting, NotReached, NotReached, Ok, NotReached, NotReached, Skipped];
    assert_eq!(outcomes(&certificate, &status), expected);
}

#[test]
fn what_is_served_is_done_and_a_mute_haproxy_is_believed() {
    let (certificate, mut status) = served();
    assert_eq!(outcomes(&certificate, &status), [Ok, Ok, Ok, Ok, Ok, Ok, Ok, Ok, Ok, Ok, Skipped]);
    status.haproxy[0].reads_back = Some(false);
    let mute = finding(&certificate, &status, Step::ReadBack);
    assert!(mute.outcome == Skipped && mute.evidence.contains("it said that it took it"), "{mute:?}");
}

#[test]
fn a_staple_that_is_on_its_way_waits_for_each_haproxy() {
    let (mut certificate, status) = served();
    certificate.served.clear();
    certificate.loaded[0].entry = Some(false);
    assert_eq!(outcomes(&certificate, &status)[7..], [Waiting, Waiting, NotReached, Skipped]);
    certificate.ocsp_status = OcspStatus::Revoked;
    let withheld = finding(&certificate, &status, Step::Installed);
    assert!(withheld.outcome == Skipped && withheld.evidence.contains("STAPLER_ON_REVOKED"), "{withheld:?}");
}

#[test]
fn what_the_snapshot_shows_to_be_wrong_needs_no_error() {
    let (mut certificate, status) = served();
    let failed = |certificate: &CertificateStatus, step, reason| {
        let finding = finding(certificate, &status, step);
        assert_eq!((finding.outcome, finding.reason), (Failed, Some(reason)), "{finding:?}");
        assert!(finding.remedy.is_some_and(|remedy| remedy.ends_with('.')));
    };
    certificate.ocsp_status = OcspStatus::Revoked;
    failed(&certificate, Step::Verified, "revoked");
    (certificate.staple, certificate.ocsp_status) = (None, OcspStatus::None);
    failed(&certificate, Step::Verified, "staple_expired");
    certificate.files.clear();
    failed(&certificate, Step::File, "file_gone");
    certificate.state = State::Expired;
    failed(&certificate, Step::Parsed, "expired");
    assert_eq!(outcomes(&certificate, &status)[2..], [NotReached; 9]);
    let findings = explain_unmatched(&status.haproxy[0]);
    assert_eq!((findings.len(), findings[0].reason), (11, Some("unmatched")));
}

#[test]
fn the_worst_handshake_counts_and_those_of_other_certificates_do_not() {
    let (certificate, mut status) = served();
    let handshake = |sight, fingerprint: &str| HandshakeStatus {
        protocol: "TLSv1.3",
        key_type: "ecdsa",
        sight,
        detail: "as it is".to_owned(),
        troubles: Vec::new(),
        subject: None,
        fingerprint: Some(fingerprint.to_owned()),
        ocsp_status: OcspStatus::None,
        this_update: None,
        next_update: None,
    };
    let mut probe = ProbeStatus::pending("127.0.0.1:443".to_owned(), "site.test".to_owned());
    probe.handshakes = vec![handshake(Sight::NotStapled, "another"), handshake(Sight::Good, &certificate.fingerprint)];
    status.probes = vec![ProbeStatus::pending("127.0.0.1:444".to_owned(), String::new()), probe];
    let seen = finding(&certificate, &status, Step::Handshake);
    assert!(seen.outcome == Ok && seen.evidence.contains("127.0.0.1:443/site.test: as it is"), "{seen:?}");
    status.probes[1].handshakes.pop();
    let unseen = finding(&certificate, &status, Step::Handshake);
    let both = "looked at 127.0.0.1:444, 127.0.0.1:443/site.test";
    assert!(unseen.outcome == Skipped && unseen.evidence.contains(both), "{unseen:?}");
}

#[test]
fn a_file_that_holds_another_certificate_is_the_step_where_it_stops() {
    let (certificate, _) = certificates();
    let trouble = troubles::other_certificate(&certificate);
    assert_eq!((trouble.step, trouble.kind), (Some(Step::File), "other_certificate"));
    super::assert_is_told(&trouble);
}
