//! What the CAs said.

use super::after_change;
use crate::agent::troubles;
use crate::agent::world::{Errand, World, life};
use crate::certificate::{Fingerprint, Issuer};
use crate::clock::Moment;
use crate::fetch::{Answer, IssuerReport, Report};
use crate::metrics::Counters;
use crate::schedule::{self, Attempt};
use crate::uri::host_of;

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
    for wish in &report.wishes {
        world.wishes.hear(leaf.host_behind(&wish.url), wish.retry_after, now.monotonic);
    }
    leaf.past_caches |= report.outdated;
    let (attempt, fresh_for) = match report.outcome {
        Ok(Answer::Staple { staple, method, validator, caching }) => {
            leaf.method = method;
            leaf.trouble = None;
            leaf.last_success_at = Some(now.wall);
            // The news may be older than what is held: then what is held stands.
            let is_news = leaf.adopt(&staple, now);
            let held = leaf.staple.as_ref();
            let is_older = held.is_some_and(|held| held.supersedes(&staple));
            let is_overdue = held.is_some_and(|held| schedule::is_overdue(life(held), now.wall));
            if held == Some(&staple) {
                leaf.validator = validator;
            }
            // A cache that gives something older, or what has outlived its own freshness, or still nothing newer when that
            // is overdue, is passed by next time: a fleet asks so rarely in that way that it costs the CA nothing, and
            // whatever is said about freshness, no cache that does as it is told can keep a renewal away.
            leaf.past_caches = report.outdated || !is_news && (is_older || caching.is_stale() || is_overdue);
            (if is_news { Attempt::Renewed } else { Attempt::Unchanged }, caching.fresh_for())
        }
        Ok(Answer::Unloadable { response, reason }) => {
            leaf.ocsp_status = response.cert_status().into();
            leaf.trouble = Some(troubles::unloadable(&reason));
            (Attempt::Failed, None)
        }
        Err(error) => {
            leaf.trouble = Some(troubles::fetch(&error));
            (Attempt::Failed, None)
        }
    };
    leaf.budget.record(report.sent.iter().map(|sent| sent.at.after(sent.took)));
    leaf.progress.record(attempt, report.sent.len(), fresh_for, now.monotonic);
    after_change(world, fingerprint, now);
}

pub(super) fn issuer_downloaded(world: &mut World, fingerprint: Fingerprint, report: IssuerReport, now: Moment) {
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    leaf.errand = Errand::Idle;
    leaf.last_attempt_at = Some(now.wall);
    let attempt = if report.outcome.is_ok() { Attempt::Renewed } else { Attempt::Failed };
    leaf.issuer_progress.record(attempt, report.sent.len(), None, now.monotonic);
    for wish in &report.wishes {
        world.wishes.hear(host_of(&wish.url), wish.retry_after, now.monotonic);
    }
    leaf.budget.record(report.sent);
    match report.outcome {
        Ok(issuer) => {
            leaf.trouble = None;
            share_issuer(world, &issuer, now);
            // If another leaf's download was faster, this one is no orphan any more and was passed over.
            world.reschedule(fingerprint, now);
        }
        Err(error) => {
            leaf.trouble = Some(troubles::issuer(&error));
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
