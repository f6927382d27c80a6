//! Getting one certificate's OCSP response: every responder in order, GET then POST, each answer verified on arrival.
//!
//! The whole errand has one deadline and a number of requests it may send; a responder that hangs costs its share of the
//! deadline, not the next responder's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openssl::base64;

use crate::ca_issuers;
use crate::certificate::{Certificate, Issuer, IssuerSource};
use crate::clock::{Clock, Monotonic};
use crate::ocsp::{self, Request, Response, ResponseStatus, Staple, Unloadable, VerifyError};
use crate::responder::{Exchange, Fault, Responder};
use crate::uri::{host_of, is_http};

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
    /// How many requests may be sent.
    pub allowance: usize,
    /// For all of it.
    pub deadline: Duration,
}

/// What became of an errand.
#[derive(Debug)]
pub struct Report {
    /// Every request that was sent.
    pub sent: Vec<Sent>,
    /// What came of them.
    pub outcome: Result<Answer, FetchError>,
    /// How long the last responder wants to be left alone.
    pub retry_after: Option<Duration>,
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
        /// The method that got it.
        method: Method,
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
            Self::Refused { source: VerifyError::NotSuccessful { status }, .. } => match status {
                ResponseStatus::TryLater | ResponseStatus::InternalError => {
                    "the CA's responder is in trouble of its own; it is asked again by itself"
                }
                ResponseStatus::Unauthorized => {
                    "the CA does not answer for this certificate: it may be too new, or the responder is not its CA's; \
                     ask the CA"
                }
                ResponseStatus::MalformedRequest | ResponseStatus::SigRequired => {
                    "the CA's responder does not take plain requests; ask the CA"
                }
            },
            Self::Refused { source: VerifyError::Malformed { .. }, .. } => {
                "what answers there is no OCSP responder; look for a proxy or a login page on the way"
            }
            Self::Refused { .. } => {
                "a strict client would refuse this response too; ask the CA, or check what answers under its name"
            }
            Self::NothingSent => "it is asked again by itself",
        }
    }
}

/// Runs an errand.
pub async fn fetch<R: Responder>(responder: &R, clock: &Clock, errand: &Errand) -> Report {
    let end = clock.now().monotonic.after(errand.deadline);
    let mut report = Report { sent: Vec::new(), outcome: Err(FetchError::NothingSent), retry_after: None };
    for (index, url) in errand.responders.iter().enumerate() {
        let waiting = u32::try_from(errand.responders.len() - index).unwrap_or(u32::MAX);
        let share = end.since(clock.now().monotonic) / waiting;
        let share_end = clock.now().monotonic.after(share);
        for method in methods(errand, url) {
            let left = share_end.since(clock.now().monotonic);
            if report.sent.len() >= errand.allowance || left.is_zero() {
                break;
            }
            let attempt = ask(responder, clock, errand, url, method, left, &mut report.sent).await;
            let other_method_may_help = attempt.as_ref().is_err_and(|error| match error {
                FetchError::Fault(fault) => fault.may_be_about_the_method(),
                // A cache may hold an old answer to the GET; a POST goes past it.
                FetchError::Refused { .. } => true,
                FetchError::NothingSent => false,
            });
            report.retry_after = match &attempt {
                Err(FetchError::Fault(Fault::Status { retry_after, .. })) => *retry_after,
                _ => None,
            };
            match attempt {
                Ok(answer @ Answer::Staple { .. }) => {
                    report.outcome = Ok(answer);
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
    deadline: Duration,
    sent: &mut Vec<Sent>,
) -> Result<Answer, FetchError> {
    let get_url = errand.request.get_url(url).filter(|_| method == Method::Get);
    let exchange = match get_url {
        Some(url) => Exchange::Get { url },
        None => Exchange::Post { url: url.to_owned(), body: errand.request.der().to_vec() },
    };
    let at = clock.now().monotonic;
    let reply = responder.send(&exchange, deadline).await;
    let now = clock.now();
    let answer =
        reply.map_err(|fault| fault.of(url).into()).and_then(|body| judge(&body, errand, url, method, now.wall));
    let failure = answer.as_ref().err().map(FetchError::kind);
    sent.push(Sent { responder: host_of(url), at, took: now.monotonic.since(at), failure });
    answer
}

fn judge(body: &Bytes, errand: &Errand, url: &str, method: Method, now: jiff::Timestamp) -> Result<Answer, FetchError> {
    let response = ocsp::verify(body, &errand.leaf, &errand.issuer, now).map_err(|source| {
        tracing::debug!(url, kind = source.kind(), body = base64::encode_block(body), "refused response");
        FetchError::Refused { url: url.to_owned(), source }
    })?;
    Ok(match Staple::new(response.clone(), errand.request.cert_id(), now) {
        Ok(staple) => Answer::Staple { staple, method },
        Err(reason) => Answer::Unloadable { response, reason },
    })
}

/// Why no issuer could be downloaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// Nothing came.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// What came holds no certificate that signed this one.
    #[error("what '{url}' sent holds no certificate that signed '{subject}'")]
    NotTheIssuer {
        /// Who sent it.
        url: String,
        /// The certificate without issuer.
        subject: String,
    },
    /// The certificate names no http(s) caIssuers URL.
    #[error("the certificate names no http(s) URL for its issuer")]
    NoUrl,
}

impl IssuerError {
    /// The stable name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.kind(),
            Self::NotTheIssuer { .. } => "not_the_issuer",
            Self::NoUrl => "no_url",
        }
    }
}

/// Downloads the issuer of `leaf` from its caIssuers URLs, in order; accepted only if it really signed it.
///
/// # Errors
/// The last URL's reason when none of them gave it.
pub async fn issuer<R: Responder>(
    responder: &R,
    leaf: &Certificate,
    deadline: Duration,
) -> Result<Issuer, IssuerError> {
    let urls: Vec<&String> = leaf.ca_issuers().iter().filter(|url| is_http(url)).collect();
    let share = deadline / u32::try_from(urls.len().max(1)).unwrap_or(u32::MAX);
    let mut outcome = Err(IssuerError::NoUrl);
    for url in urls {
        match responder.send(&Exchange::Get { url: url.clone() }, share).await {
            Ok(body) => {
                let candidates = ca_issuers::certificates(&body);
                if let Some(issuer) = Issuer::find(leaf, &candidates, IssuerSource::AuthorityInfoAccess) {
                    return Ok(issuer);
                }
                outcome = Err(IssuerError::NotTheIssuer { url: url.clone(), subject: leaf.subject().to_owned() });
            }
            Err(fault) => outcome = Err(fault.into()),
        }
    }
    outcome
}
