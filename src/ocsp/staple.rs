//! The proof that a response may be given to HAProxy.

use jiff::Timestamp;

use super::loader::refusals_of_basic;
use super::{CertId, CertStatus, Refusal, Response, SKEW, Signer, hex};
use crate::clock::{between, earlier};

/// Why a verified response is of no use to HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unloadable {
    /// The CertID means the same but is spelt differently, as without the NULL parameters; HAProxy compares bytes.
    #[error("HAProxy would not find its certificate: the CertID is encoded as {found}, HAProxy looks for {expected}")]
    CertIdEncoding {
        /// HAProxy's spelling, in hexadecimal.
        expected: String,
        /// The response's spelling.
        found: String,
    },
    /// HAProxy would drop the staple it has for one that it will not serve.
    #[error("it has 300 s or less to live at {now}: nextUpdate is {next_update}")]
    Expiring {
        /// The instant of the question.
        now: Timestamp,
        /// The response's nextUpdate.
        next_update: Timestamp,
    },
    /// HAProxy's loader would say no.
    #[error("HAProxy would not load it: {}", sentences(.refusals))]
    Refused {
        /// Why; never empty.
        refusals: Vec<Refusal>,
    },
}

impl Unloadable {
    /// A stable name for metric labels: the first refusal's where HAProxy refuses.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CertIdEncoding { .. } => "cert_id_encoding",
            Self::Expiring { .. } => "less_than_300s_left",
            Self::Refused { refusals } => refusals.first().map_or("refused", Refusal::kind),
        }
    }
}

impl Unloadable {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Refused { refusals } => refusals.first().map_or("ask the CA", Refusal::remedy),
            Self::Expiring { .. } => "ask the CA to sign earlier; HAProxy keeps what it serves until then",
            Self::CertIdEncoding { .. } => "ask the CA to answer with the CertID it was asked for",
        }
    }
}

fn sentences(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A verified response that HAProxy would load and serve for a while: the only thing a `.ocsp` file or a socket takes.
#[derive(Clone, Debug)]
pub struct Staple {
    response: Response,
    next_update: Timestamp,
}

impl Staple {
    /// Decides whether HAProxy can serve `response` for the certificate that it knows by `cert_id`.
    ///
    /// # Errors
    /// When HAProxy would refuse it, or take it and serve nothing.
    pub fn new(response: Response, cert_id: &CertId, now: Timestamp) -> Result<Self, Unloadable> {
        let refusals = refusals_of_basic(response.der(), now);
        let next_update = match (response.next_update(), refusals.is_empty()) {
            (Some(next_update), true) => next_update,
            (None, true) => return Err(Unloadable::Refused { refusals: vec![Refusal::NextUpdateMissing] }),
            (_, false) => return Err(Unloadable::Refused { refusals }),
        };
        if response.cert_id() != cert_id.der() {
            return Err(Unloadable::CertIdEncoding { expected: hex(cert_id.der()), found: hex(response.cert_id()) });
        }
        if between(now, next_update) <= SKEW {
            return Err(Unloadable::Expiring { now, next_update });
        }
        Ok(Self { response, next_update })
    }

    /// The response.
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The CA's own bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.response.der()
    }

    /// The latest instant at which the status is known to be right.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.response.this_update()
    }

    /// When newer information will be available at the latest.
    #[must_use]
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// The end of its life: nextUpdate, or the end of the delegate's own certificate if that comes first.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        match self.response.signer() {
            Signer::Issuer => self.next_update,
            Signer::Delegated { not_after, .. } => self.next_update.min(*not_after),
        }
    }

    /// When it stops being of use: HAProxy serves it until 300 s before nextUpdate, and a client refuses it once the
    /// delegate's own certificate has expired.
    #[must_use]
    pub fn effective_end(&self) -> Timestamp {
        earlier(self.next_update, SKEW).min(self.end())
    }

    /// Whether the CA says that the certificate is revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        matches!(self.response.cert_status(), CertStatus::Revoked { .. })
    }

    /// Whether HAProxy still serves it and a client still accepts it.
    #[must_use]
    pub fn is_serving(&self, now: Timestamp) -> bool {
        now < self.effective_end()
    }

    /// Whether HAProxy takes it: its time has come, and is not over. A clock that is put back makes it one to come.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        earlier(self.this_update(), SKEW) <= now && self.is_serving(now)
    }

    /// Whether it should take the place of `other`. It must know better: a newer thisUpdate, be the news good or bad.
    /// Of two that know the same instant, `revoked` wins, then the longer life, then the later signature; never a tie.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let merit = |staple: &Self| {
            (staple.this_update(), staple.is_revoked(), staple.effective_end(), staple.response.produced_at())
        };
        merit(self) > merit(other)
    }
}

impl PartialEq for Staple {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Staple {}
