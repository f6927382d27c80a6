//! A verified response and what it says.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// What the CA says about the certificate (RFC 6960 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked, for good or on hold.
    Revoked {
        /// Since when.
        revocation_time: Timestamp,
        /// Why, by its name in RFC 5280 section 5.3.1: `keyCompromise`, `superseded`, …
        revocation_reason: Option<String>,
    },
    /// The responder does not know this certificate.
    Unknown,
}

impl CertStatus {
    /// The word for it, as the contract's `ocsp_status` and `verdict` spell it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked { .. } => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for CertStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked { revocation_time, revocation_reason: Some(reason) } => {
                write!(f, "revoked at {revocation_time} ({reason})")
            }
            Self::Revoked { revocation_time, revocation_reason: None } => write!(f, "revoked at {revocation_time}"),
            Self::Good | Self::Unknown => f.write_str(self.label()),
        }
    }
}

/// Who the response says it is from (RFC 6960 section 4.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponderId {
    /// The distinguished name of the signer's certificate.
    ByName(String),
    /// SHA-1 of the signer's public key, in hexadecimal.
    ByKey(String),
}

impl fmt::Display for ResponderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByName(name) => f.write_str(name),
            Self::ByKey(hash) => write!(f, "key {hash}"),
        }
    }
}

/// Who signed the response (RFC 6960 section 4.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The CA that issued the certificate.
    Issuer,
    /// A responder whose own certificate that CA issued for this.
    Delegated {
        /// The subject of the responder's certificate.
        subject: String,
        /// When that certificate expires: the response is worth nothing afterwards.
        not_after: Timestamp,
    },
}

impl Signer {
    /// The word for it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Delegated { .. } => "delegated",
        }
    }
}

/// An OCSP response that a strict client would accept; cheap to clone. Only [`verify`](super::verify()) makes one.
#[derive(Clone)]
pub struct Response(Arc<Verified>);

/// What [`verify`](super::verify()) read and believed.
pub(super) struct Verified {
    pub(super) der: Vec<u8>,
    pub(super) cert_id: Vec<u8>,
    pub(super) cert_status: CertStatus,
    pub(super) produced_at: Timestamp,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
    pub(super) responder_id: ResponderId,
    pub(super) signer: Signer,
}

impl Response {
    pub(super) fn new(verified: Verified) -> Self {
        Self(Arc::new(verified))
    }

    /// The CA's own bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The CertID as the response spells it; HAProxy needs exactly its own spelling.
    pub(super) fn cert_id(&self) -> &[u8] {
        &self.0.cert_id
    }

    /// The status of the certificate.
    #[must_use]
    pub fn cert_status(&self) -> &CertStatus {
        &self.0.cert_status
    }

    /// When the responder signed it.
    #[must_use]
    pub fn produced_at(&self) -> Timestamp {
        self.0.produced_at
    }

    /// The latest instant at which the status is known to be right.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.0.this_update
    }

    /// When newer information will be available at the latest; absent when the CA does not say.
    #[must_use]
    pub fn next_update(&self) -> Option<Timestamp> {
        self.0.next_update
    }

    /// Who it says it is from.
    #[must_use]
    pub fn responder_id(&self) -> &ResponderId {
        &self.0.responder_id
    }

    /// Who signed it.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("cert_status", &self.0.cert_status)
            .field("produced_at", &self.0.produced_at)
            .field("this_update", &self.0.this_update)
            .field("next_update", &self.0.next_update)
            .field("responder_id", &self.0.responder_id)
            .field("signer", &self.0.signer)
            .finish_non_exhaustive()
    }
}
