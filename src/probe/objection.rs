//! What a strict client has to say against a handshake. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::CertificateError;
use crate::ocsp::{CertStatus, VerifyError};

/// Why a strict client would turn away from a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Objection {
    /// The host's name does not resolve.
    #[error("the name '{host}' does not resolve: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// The operating system's words.
        reason: String,
    },
    /// No whole handshake in time.
    #[error("{address} gave no whole handshake within {:.1} s", .deadline.as_secs_f64())]
    Timeout {
        /// Where.
        address: String,
        /// How long it had.
        deadline: Duration,
    },
    /// The server has no certificate for this client: no common protocol version, key type or signature.
    #[error("the server has no certificate or no TLS version for this client (alert: {alert})")]
    NothingInCommon {
        /// The alert it sent (RFC 8446 section 6).
        alert: String,
    },
    /// The server refuses the name.
    #[error("the server has nothing under the name '{server_name}' (alert: unrecognized name)")]
    NameRefused {
        /// The name.
        server_name: String,
    },
    /// The handshake failed in another way.
    #[error("the handshake failed: {reason}")]
    Handshake {
        /// OpenSSL's words.
        reason: String,
    },
    /// The server's certificate cannot be read.
    #[error("the server shows a certificate that cannot be read: {0}")]
    Certificate(CertificateError),
    /// The certificate is not for the name that was asked for.
    #[error("the certificate shown is that of '{subject}', which is not for '{server_name}'")]
    NameMismatch {
        /// The certificate's subject.
        subject: String,
        /// The name.
        server_name: String,
    },
    /// The certificate's validity is over.
    #[error("the certificate itself ended at {not_after}")]
    Expired {
        /// When.
        not_after: Timestamp,
    },
    /// There is no path from the certificate to the CA file.
    #[error("the certificate does not lead to a certificate in the CA file: {reason}")]
    Untrusted {
        /// OpenSSL's words.
        reason: String,
    },
    /// There is no staple.
    #[error("nothing is stapled")]
    NotStapled,
    /// There is no staple, and no responder that would make one.
    #[error("nothing is stapled, and the certificate names no OCSP responder that could be asked")]
    NothingToStaple,
    /// The staple cannot be judged.
    #[error("the staple cannot be verified: the server does not send the certificate of the issuer '{issuer}'")]
    NoIssuer {
        /// The certificate's issuer.
        issuer: String,
    },
    /// The staple is no answer that a strict client would accept.
    #[error("the staple is refused: {0}")]
    Staple(#[from] VerifyError),
    /// The staple is genuine, and it does not say good.
    #[error("the staple says that the certificate is {status}")]
    NotGood {
        /// What it says.
        status: CertStatus,
    },
}

impl Objection {
    /// A stable word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::NothingInCommon { .. } => "nothing_in_common",
            Self::NameRefused { .. } => "name_refused",
            Self::Handshake { .. } => "handshake",
            Self::Certificate(_) => "certificate",
            Self::NameMismatch { .. } => "name_mismatch",
            Self::Expired { .. } => "expired",
            Self::Untrusted { .. } => "untrusted",
            Self::NotStapled => "not_stapled",
            Self::NothingToStaple => "nothing_to_staple",
            Self::NoIssuer { .. } => "no_issuer",
            Self::Staple(error) => error.kind(),
            Self::NotGood { status } => status.label(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "check the name, and the resolver of this host",
            Self::Connect { .. } => "check that HAProxy listens there, and that this host may reach it",
            Self::Timeout { .. } => "check that what listens there speaks TLS and is not overloaded",
            Self::NothingInCommon { .. } => "look at the TLS versions and ciphers of the bind line",
            Self::NameRefused { .. } => {
                "give the frontend a certificate for this name (it has `strict-sni`), or ask for another name"
            }
            Self::Handshake { .. } => "check that what listens there speaks TLS (and no PROXY protocol before it)",
            Self::Certificate(_) => "have the certificate issued again",
            Self::NameMismatch { .. } => "give the frontend a certificate for this name, or ask for another name",
            Self::Expired { .. } => "renew the certificate and reload HAProxy",
            Self::Untrusted { .. } => {
                "put the certificates between this one and the root into the PEM file, or take the right CA file"
            }
            Self::NotStapled => "`haproxy-stapler explain` says where the staple got stuck",
            Self::NothingToStaple => "there is nothing to do: this CA offers no OCSP",
            Self::NoIssuer { .. } => {
                "put the issuer's certificate into the PEM file after the leaf, or name a file that holds it with --ca-file"
            }
            Self::Staple(_) => {
                "somebody else put it there, since haproxy-stapler installs none that it has not verified: a cron job, a \
                 `.ocsp` file, HAProxy's own ocsp-update; the next pass replaces it"
            }
            Self::NotGood { status: CertStatus::Revoked { .. } } => "replace the certificate",
            Self::NotGood { .. } => "ask the CA why it does not know this certificate",
        }
    }

    /// Whether there was no handshake at all.
    #[must_use]
    pub const fn is_about_the_handshake(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::NothingInCommon { .. }
            | Self::NameRefused { .. }
            | Self::Handshake { .. } => true,
            Self::Certificate(_)
            | Self::NameMismatch { .. }
            | Self::Expired { .. }
            | Self::Untrusted { .. }
            | Self::NotStapled
            | Self::NothingToStaple
            | Self::NoIssuer { .. }
            | Self::Staple(_)
            | Self::NotGood { .. } => false,
        }
    }

    /// Whether asking the same server for another name would come to the same.
    #[must_use]
    pub const fn is_about_the_address(&self) -> bool {
        matches!(self, Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. })
    }
}
