//! Getting one certificate's OCSP response: every responder in order, GET then POST, each answer verified on arrival.
//!
//! The whole errand has one deadline and a number of requests it may send, redirects included; a responder that hangs or
//! leads around costs its share of them, not the next responder's.

mod issuer;
mod pursuit;

use std::sync::Arc;
use std::time::Duration;

use openssl::base64;

pub use self::issuer::{IssuerErrand, IssuerError, IssuerReport, issuer};
use self::pursuit::{Bounds, Found, pursue};
use crate::certificate::Certificate;
use crate::clock::{Clock, Monotonic};
use crate::ocsp::{self, Request, Response, Staple, Unloadable, VerifyError};
use crate::responder::caching::{Caching, Validator};
use crate::responder::{Copies, Exchange, Fault, Responder};
use crate::schedule::Allowance;
use crate::uri::host_of;

/// Which HTTP method to try first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Cacheable on its way (RFC 5019 section 5, RFC 9919 section 6).
    #[default]
    Get,
    /// For responders that were seen to do better with it.
    Post,
}

/// One certificate's errand.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The certificate asked about.
    pub leaf: Certificate,
    /// Its issuer.
    pub issuer: Certificate,
    /// The OCSP request.
    pub request: Arc<Request>,
    /// Responder URLs, in order.
    pub responders: Vec<String>,
    /// What to try first; the other one is the fallback.
    pub method: Method,
    /// How many requests may be sent; a second method is a luxury.
    pub allowance: Allowance,
    /// The response in hand, where its sender gave it a name.
    pub in_hand: Option<InHand>,
    /// Whether caches on the way are to be passed by.
    pub past_caches: bool,
    /// For all of it.
    pub deadline: Duration,
}

/// A response that need not be sent again.
#[derive(Clone, Debug)]
pub struct InHand {
    /// The response.
    pub staple: Staple,
    /// Its name, and where it came from.
    pub validator: Validator,
}

/// What became of an errand.
#[derive(Debug)]
pub struct Report {
    /// Every request that was sent.
    pub sent: Vec<Sent>,
    /// What came of them.
    pub outcome: Result<Answer, FetchError>,
    /// Which responders want to be left alone, and for how long.
    pub wishes: Vec<Wish>,
    /// Whether a GET brought what is of no use any more: a cache on the way may be holding on to it.
    pub outdated: bool,
}

/// A host's wish to be left alone: Retry-After.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The URL that was asked.
    pub url: String,
    /// For how long.
    pub retry_after: Duration,
}

impl Wish {
    fn of(url: &str, fault: &Fault) -> Option<Self> {
        fault.retry_after().map(|retry_after| Self { url: url.to_owned(), retry_after })
    }
}

/// One request that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The responder's host, for labels.
    pub responder: String,
    /// When.
    pub at: Monotonic,
    /// How long the exchange took.
    pub took: Duration,
    /// The stable name of what went wrong, if anything did.
    pub failure: Option<&'static str>,
}

/// An answer that a strict client would accept.
#[derive(Clone, Debug)]
pub enum Answer {
    /// HAProxy can serve it.
    Staple {
        /// The staple.
        staple: Staple,
        /// The method to begin with next time.
        method: Method,
        /// The name that its sender gave it.
        validator: Option<Validator>,
        /// What was said about keeping it.
        caching: Caching,
    },
    /// It is genuine, but HAProxy will not serve it: an `unknown`, no nextUpdate, too little time left, and so on.
    Unloadable {
        /// The response.
        response: Response,
        /// Why not.
        reason: Unloadable,
    },
}

/// Why no answer came that is worth anything; of several responders, the last one's reason.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nothing came.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Something came, and it is no valid response.
    #[error("the answer of '{url}' is refused: {source}")]
    Refused {
        /// Who sent it.
        url: String,
        /// Why.
        source: VerifyError,
    },
    /// There is nobody to ask, or no request may be sent now.
    #[error("no request could be sent")]
    NothingSent,
}

impl FetchError {
    /// The stable name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.kind(),
            Self::Refused { source, .. } => source.kind(),
            Self::NothingSent => "nothing_sent",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.remedy(),
            Self::Refused { source, .. } => source.remedy(),
            Self::NothingSent => "it is asked again by itself",
        }
    }
}

/// Runs an errand.
pub async fn fetch<R: Responder>(responder: &R, clock: &Clock, errand: &Errand) -> Report {
    let whole = Bounds { most: errand.allowance.requests, end: clock.now().monotonic.after(errand.deadline) };
    let mut report =
        Report { sent: Vec::new(), outcome: Err(FetchError::NothingSent), wishes: Vec::new(), outdated: false };
    for (index, url) in errand.responders.iter().enumerate() {
        let waiting = errand.responders.len() - index - 1;
        let share = whole.share(0, waiting, clock.now().monotonic);
        for (fallback, method) in methods(errand, url).enumerate() {
            let now = clock.now().monotonic;
            let Bounds { most, .. } = whole.share(report.sent.len(), waiting, now);
            // Those still waiting have their first request before this one its second.
            let spared = fallback > 0 && report.sent.len() + waiting >= errand.allowance.luxuries;
            if most == 0 || spared || share.end <= now {
                break;
            }
            let bounds = Bounds { most, end: share.end };
            let attempt = ask(responder, clock, errand, url, method, bounds, &mut report.sent).await;
            let other_method_may_help = attempt.as_ref().is_err_and(|error| match error {
                FetchError::Fault(fault) => fault.may_be_about_the_method(),
                // A cache may hold an old answer to the GET; a POST goes past it.
                FetchError::Refused { .. } => true,
                FetchError::NothingSent => false,
            });
            match &attempt {
                Err(FetchError::Fault(fault)) => report.wishes.extend(Wish::of(url, fault)),
                Err(FetchError::Refused { source: VerifyError::Stale { .. }, .. })
                | Ok(Answer::Unloadable { reason: Unloadable::Expiring { .. }, .. }) => {
                    report.outdated |= method == Method::Get;
                }
                _ => {}
            }
            match attempt {
                Ok(Answer::Staple { staple, method, validator, caching }) => {
                    // That a copy was too old is no word against the method: with POST for good, no cache would be of use.
                    let method = if report.outdated { Method::Get } else { method };
                    report.outcome = Ok(Answer::Staple { staple, method, validator, caching });
                    return report;
                }
                // Genuine but useless: better than an error, and the next responder may do better still.
                Ok(answer) => report.outcome = Ok(answer),
                Err(error) if report.outcome.is_err() => report.outcome = Err(error),
                Err(_) => {}
            }
            if !other_method_may_help {
                break;
            }
        }
    }
    report
}

/// The methods to try on one responder, in order. A request that does not fit a GET has only POST.
fn methods(errand: &Errand, url: &str) -> impl Iterator<Item = Method> + use<> {
    let order = match (errand.request.get_url(url), errand.method) {
        (None, _) => [Some(Method::Post), None],
        (Some(_), Method::Get) => [Some(Method::Get), Some(Method::Post)],
        (Some(_), Method::Post) => [Some(Method::Post), Some(Method::Get)],
    };
    order.into_iter().flatten()
}

async fn ask<R: Responder>(
    responder: &R,
    clock: &Clock,
    errand: &Errand,
    url: &str,
    method: Method,
    bounds: Bounds,
    sent: &mut Vec<Sent>,
) -> Result<Answer, FetchError> {
    let get_url = errand.request.get_url(url).filter(|_| method == Method::Get);
    let mut exchange = match get_url {
        Some(url) => Exchange::get(url),
        None => Exchange::post(url.to_owned(), errand.request.der().to_vec()),
    };
    if errand.past_caches && method == Method::Get {
        exchange.copies = Copies::Unwanted;
    }
    let in_hand = errand.in_hand.as_ref().map(|in_hand| &in_hand.validator);
    let (steps, reply) = pursue(responder, clock, exchange, in_hand, bounds).await;
    let now = clock.now().wall;
    let answer = reply.map_err(|fault| fault.of(url).into()).and_then(|found| judge(found, errand, url, method, now));
    let failure = answer.as_ref().err().map(FetchError::kind);
    let last = steps.len().saturating_sub(1);
    // Whoever it was led to, it is this responder's answer: a stranger's host names are no labels.
    sent.extend(steps.into_iter().enumerate().map(|(index, step)| Sent {
        responder: host_of(url),
        at: step.at,
        took: step.took,
        failure: failure.filter(|_| index == last),
    }));
    answer
}

fn judge(found: Found, errand: &Errand, url: &str, method: Method, now: jiff::Timestamp) -> Result<Answer, FetchError> {
    // What is in our hand is judged like what comes: time has gone by since.
    let in_hand = errand.in_hand.as_ref().filter(|_| found.body.is_none());
    let body = match (&found.body, in_hand) {
        (Some(body), _) => body,
        (None, Some(in_hand)) => in_hand.staple.der(),
        (None, None) => return Err(FetchError::NothingSent),
    };
    let response = ocsp::verify(body, &errand.leaf, &errand.issuer, now).map_err(|source| {
        tracing::debug!(url, kind = source.kind(), body = base64::encode_block(body), "refused response");
        FetchError::Refused { url: url.to_owned(), source }
    })?;
    let tag = in_hand.map(|in_hand| in_hand.validator.tag.clone()).or_else(|| found.caching.tag.clone());
    let validator = tag.filter(|_| method == Method::Get).map(|tag| Validator { url: found.url, tag });
    Ok(match Staple::new(response.clone(), errand.request.cert_id(), now) {
        Ok(staple) => Answer::Staple { staple, method, validator, caching: found.caching },
        Err(reason) => Answer::Unloadable { response, reason },
    })
}
