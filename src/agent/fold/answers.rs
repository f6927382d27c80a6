//! What the CAs said.

use super::after_change;
use crate::agent::world::{Errand, World};
use crate::certificate::{Fingerprint, Issuer};
use crate::clock::{Moment, Monotonic};
use crate::fetch::{Answer, FetchError, IssuerError, Report};
use crate::metrics::Counters;
use crate::ocsp::{CertStatus, Response};
use crate::schedule::Attempt;
use crate::status::{OcspStatus, Trouble};

pub(super) fn fetched(world: &mut World, fingerprint: Fingerprint, report: Report, counters: &Counters, now: Moment) {
    for sent in &report.sent {
        let responder = [sent.responder.as_str()];
        counters.ocsp_requests.with_label_values(&responder).inc();
        counters.ocsp_request_duration.with_label_values(&responder).observe(sent.took.as_secs_f64());
        if let Some(reason) = sent.failure {
            counters.ocsp_request_failures.with_label_values(&[sent.responder.as_str(), reason]).inc();
        }
    }
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    leaf.errand = Errand::Idle;
    leaf.last_attempt_at = Some(now.wall);
    let attempt = match report.outcome {
        Ok(Answer::Staple { staple, method }) => {
            leaf.method = method;
            leaf.trouble = None;
            leaf.last_success_at = Some(now.wall);
            // The news may be older than what is held: then what is held stands.
            if leaf.adopt(&staple, now) { Attempt::Renewed } else { Attempt::Unchanged }
        }
        Ok(Answer::Unloadable { response, reason }) => {
            leaf.ocsp_status = status_of(&response);
            leaf.trouble = Some(Trouble {
                kind: reason.kind(),
                detail: format!("the CA's answer is genuine, but HAProxy would not serve it: {reason}"),
                remedy: reason.remedy().to_owned(),
            });
            Attempt::Failed
        }
        Err(error) => {
            leaf.trouble = Some(fetch_trouble(&error));
            Attempt::Failed
        }
    };
    let requests: Vec<Monotonic> = report.sent.iter().map(|sent| sent.at).collect();
    leaf.progress.record(attempt, requests, report.retry_after, now.monotonic);
    after_change(world, fingerprint, now);
}

fn status_of(response: &Response) -> OcspStatus {
    match response.cert_status() {
        CertStatus::Good => OcspStatus::Good,
        CertStatus::Revoked { .. } => OcspStatus::Revoked,
        CertStatus::Unknown => OcspStatus::Unknown,
    }
}

fn fetch_trouble(error: &FetchError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() }
}

pub(super) fn issuer_downloaded(
    world: &mut World,
    fingerprint: Fingerprint,
    sent: Monotonic,
    outcome: Result<Issuer, IssuerError>,
    now: Moment,
) {
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    leaf.errand = Errand::Idle;
    leaf.last_attempt_at = Some(now.wall);
    let attempt = if outcome.is_ok() { Attempt::Renewed } else { Attempt::Failed };
    leaf.issuer_progress.record(attempt, [sent], None, now.monotonic);
    match outcome {
        Ok(issuer) => {
            leaf.trouble = None;
            share_issuer(world, &issuer, now);
            // If another leaf's download was faster, this one is no orphan any more and was passed over.
            world.reschedule(fingerprint, now);
        }
        Err(error) => {
            leaf.trouble = Some(Trouble {
                kind: error.kind(),
                detail: format!("its issuer could not be downloaded: {error}"),
                remedy: "put the issuer's certificate after the leaf in the PEM file, or into a .issuer file beside it"
                    .to_owned(),
            });
            world.reschedule(fingerprint, now);
        }
    }
}

/// One download serves every leaf of the same issuer: proven for each.
fn share_issuer(world: &mut World, issuer: &Issuer, now: Moment) {
    let candidates = [issuer.certificate().clone()];
    let orphans: Vec<(Fingerprint, Issuer)> = world
        .leaves
        .values()
        .filter(|leaf| leaf.issuer.is_none() && leaf.certificate.issuer() == issuer.certificate().subject())
        .filter_map(|leaf| {
            Some((leaf.certificate.fingerprint(), Issuer::find(&leaf.certificate, &candidates, issuer.source())?))
        })
        .collect();
    for (fingerprint, issuer) in orphans {
        if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
            leaf.accept_issuer(issuer);
        }
        after_change(world, fingerprint, now);
    }
}
