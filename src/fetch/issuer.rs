//! Getting a certificate's issuer from where the certificate says it is.

use std::time::Duration;

use super::Wish;
use super::pursuit::{Bounds, pursue};
use crate::ca_issuers;
use crate::certificate::{Certificate, Issuer, IssuerSource};
use crate::clock::{Clock, Monotonic};
use crate::responder::{Exchange, Fault, Responder};

/// One download.
#[derive(Clone, Debug)]
pub struct IssuerErrand {
    /// The certificate without issuer.
    pub leaf: Certificate,
    /// Where it can be had, in order.
    pub urls: Vec<String>,
    /// How many requests may be sent.
    pub allowance: usize,
    /// For all of it.
    pub deadline: Duration,
}

/// What became of a download.
#[derive(Debug)]
pub struct IssuerReport {
    /// When each request was over.
    pub sent: Vec<Monotonic>,
    /// What came of them.
    pub outcome: Result<Issuer, IssuerError>,
    /// Which hosts want to be left alone, and for how long.
    pub wishes: Vec<Wish>,
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

    /// What to do about it: HAProxy needs the issuer too, so that beats mending the download.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Fault(_) | Self::NotTheIssuer { .. } | Self::NoUrl => {
                "put the issuer's certificate after the leaf in the PEM file, or into a .issuer file beside it"
            }
        }
    }
}

/// Downloads the issuer of a certificate from its caIssuers URLs, in order; accepted only if it really signed it. If none
/// of them has it, the last one's reason is told.
pub async fn issuer<R: Responder>(responder: &R, clock: &Clock, errand: &IssuerErrand) -> IssuerReport {
    let whole = Bounds { most: errand.allowance, end: clock.now().monotonic.after(errand.deadline) };
    let mut report = IssuerReport { sent: Vec::new(), outcome: Err(IssuerError::NoUrl), wishes: Vec::new() };
    for (index, url) in errand.urls.iter().enumerate() {
        let bounds = whole.share(report.sent.len(), errand.urls.len() - index - 1, clock.now().monotonic);
        if bounds.most == 0 {
            break;
        }
        let (steps, reply) = pursue(responder, clock, Exchange::get(url.clone()), None, bounds).await;
        report.sent.extend(steps.into_iter().map(|step| step.at.after(step.took)));
        report.wishes.extend(reply.as_ref().err().and_then(|fault| Wish::of(url, fault)));
        report.outcome = reply.map_err(|fault| fault.of(url).into()).and_then(|found| {
            let body = found.body.unwrap_or_default();
            Issuer::find(&errand.leaf, &ca_issuers::certificates(&body), IssuerSource::AuthorityInfoAccess).ok_or_else(
                || IssuerError::NotTheIssuer { url: url.clone(), subject: errand.leaf.subject().to_owned() },
            )
        });
        if report.outcome.is_ok() {
            break;
        }
    }
    report
}
