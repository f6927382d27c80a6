//! Why a staple did not get into HAProxy, in HAProxy's own words and in ours. Pure.

use jiff::Timestamp;

use super::command::Unsendable;
use super::socket::SocketError;

/// Why a staple was not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Someone's transaction is open; HAProxy has room for one.
    #[error("a transaction on {} is open", .by.as_deref().unwrap_or("certificates"))]
    Busy {
        /// The certificate it is about.
        by: Option<String>,
    },
    /// There is no entry for the response's CertID.
    #[error("HAProxy has no place for a staple with this CertID")]
    CertIdUnknown,
    /// `commit ssl cert` failed.
    #[error("HAProxy did not commit the transaction: {reply}")]
    CommitFailed {
        /// What it said.
        reply: String,
    },
    /// HAProxy, or this program in its stead, found the response too close to its end.
    #[error("the response is no longer valid for HAProxy{}", .next_update.map(|time| format!(": nextUpdate is {time}")).unwrap_or_default())]
    Expired {
        /// Its `nextUpdate`, if this program looked.
        next_update: Option<Timestamp>,
    },
    /// HAProxy put our data into a transaction that was not ours (a fault of 2.6 and earlier).
    #[error("HAProxy put the data into a foreign transaction on {certificate}")]
    ForeignTransaction {
        /// The certificate whose transaction was changed.
        certificate: String,
    },
    /// HAProxy did not take the issuer's certificate.
    #[error("HAProxy refused the issuer's certificate: {reply}")]
    IssuerRefused {
        /// What it said.
        reply: String,
    },
    /// More than one SingleResponse.
    #[error("HAProxy refuses a response with several SingleResponses")]
    MultipleSingleResponses,
    /// The certificate's name cannot be sent.
    #[error(transparent)]
    Name(#[from] Unsendable),
    /// No `nextUpdate`.
    #[error("HAProxy refuses a response without nextUpdate")]
    NextUpdateMissing,
    /// A `nextUpdate` that HAProxy cannot represent.
    #[error("HAProxy cannot represent the response's nextUpdate")]
    NextUpdateInvalid,
    /// The transaction was committed and there is still no entry.
    #[error("HAProxy committed the certificate with its response and has no place for a staple all the same")]
    NoEntry,
    /// HAProxy has no OCSP.
    #[error("this HAProxy was built without OCSP stapling")]
    NoOcspSupport,
    /// HAProxy no longer has this certificate.
    #[error("HAProxy has no certificate with this name")]
    NotReferenced,
    /// An OCSP error response.
    #[error("HAProxy refuses a response whose status is not successful")]
    NotSuccessful,
    /// The socket's level is too low.
    #[error("the socket may not do this: permission denied")]
    PermissionDenied,
    /// HAProxy holds something else than what it said it took.
    #[error("HAProxy said it took the response, and holds {held}")]
    ReadBack {
        /// What it holds.
        held: String,
    },
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Certificate status unknown.
    #[error("HAProxy refuses a response with the status unknown")]
    StatusUnknown,
    /// Larger than HAProxy's buffers.
    #[error("the response has {bytes} bytes, and HAProxy takes at most {limit} (its `tune.bufsize`)")]
    TooLarge {
        /// The size of its DER.
        bytes: usize,
        /// What fits its buffers.
        limit: usize,
    },
    /// HAProxy said it is too big.
    #[error("HAProxy found the command too big: {reply}")]
    TooLargeForHaproxy {
        /// What it said.
        reply: String,
    },
    /// A reply that this program does not know.
    #[error("unexpected reply to '{command}': {reply}")]
    UnexpectedReply {
        /// What was asked, without payload.
        command: String,
        /// The start of the answer.
        reply: String,
    },
    /// HAProxy's TLS library cannot parse it.
    #[error("HAProxy cannot parse the response: {reply}")]
    Unparsable {
        /// What it said.
        reply: String,
    },
    /// HAProxy's TLS library failed while storing it.
    #[error("HAProxy failed to store the response")]
    UpdateFailed,
}

impl InstallError {
    /// A stable name for metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::CertIdUnknown => "cert_id_unknown",
            Self::CommitFailed { .. } => "commit_failed",
            Self::Expired { .. } => "expired",
            Self::ForeignTransaction { .. } => "foreign_transaction",
            Self::IssuerRefused { .. } => "issuer_refused",
            Self::MultipleSingleResponses => "multiple_single_responses",
            Self::Name(_) => "name",
            Self::NextUpdateInvalid => "next_update_invalid",
            Self::NextUpdateMissing => "next_update_missing",
            Self::NoEntry => "no_entry",
            Self::NoOcspSupport => "no_ocsp_support",
            Self::NotReferenced => "not_referenced",
            Self::NotSuccessful => "not_successful",
            Self::PermissionDenied => "permission_denied",
            Self::ReadBack { .. } => "read_back",
            Self::Socket(_) => "socket",
            Self::StatusUnknown => "status_unknown",
            Self::TooLarge { .. } | Self::TooLargeForHaproxy { .. } => "too_large",
            Self::UnexpectedReply { .. } => "unexpected_reply",
            Self::Unparsable { .. } => "unparsable",
            Self::UpdateFailed => "update_failed",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Busy { .. } => {
                "Whoever opened it has to end it with `commit ssl cert` or `abort ssl cert`; until then no stapling can \
                 be switched on. If nobody did, it was left behind: abort it by hand or reload HAProxy."
            }
            Self::CertIdUnknown | Self::NotReferenced => {
                "HAProxy reloaded, or the certificate was replaced or removed meanwhile; the next pass looks again."
            }
            Self::CommitFailed { .. } => {
                "Read HAProxy's reason; if it names the issuer, add the issuer to the PEM file's chain and reload."
            }
            Self::Expired { .. } => {
                "The CA has to sign a fresh response: HAProxy stops stapling 300 s before nextUpdate. Check HAProxy's \
                 clock too."
            }
            Self::ForeignTransaction { .. } => {
                "Before its owner commits that transaction, it should be aborted and begun again: it now holds another \
                 certificate's response. Later HAProxy versions do not mix transactions: upgrade."
            }
            Self::IssuerRefused { .. } => "Add the issuer's certificate to the PEM file's chain and reload HAProxy.",
            Self::MultipleSingleResponses
            | Self::NextUpdateInvalid
            | Self::NextUpdateMissing
            | Self::NotSuccessful
            | Self::StatusUnknown => {
                "HAProxy cannot staple such a response, whoever delivers it; the CA would have to answer differently."
            }
            Self::Name(_) => "Rename the certificate's file and reload HAProxy.",
            Self::NoEntry => {
                "HAProxy staples only what a frontend serves: a certificate of a server line, or one that nothing uses, \
                 needs no staple; exclude it. Otherwise check that the issuer is in the chain."
            }
            Self::NoOcspSupport => "Use a HAProxy that is built with OpenSSL or another TLS library with OCSP.",
            Self::PermissionDenied => "Add `level admin` to the `stats socket` line.",
            Self::ReadBack { .. } => {
                "Someone else may push staples for this certificate too (a cron job, HAProxy's own ocsp-update): let \
                 one of them do it."
            }
            Self::Socket(error) => error.remedy(),
            Self::TooLarge { .. } | Self::TooLargeForHaproxy { .. } => {
                "Set a larger `tune.bufsize` in HAProxy's `global` section (the default is 16384; 32768 takes responses of \
                 up to 24000 bytes) and restart HAProxy, or have the CA send fewer certificates along."
            }
            Self::UnexpectedReply { .. } | Self::UpdateFailed => {
                "Look into HAProxy's own log at this time; if its version is newer than this program, please report it."
            }
            Self::Unparsable { .. } => {
                "HAProxy's TLS library reads OCSP differently from ours; upgrade HAProxy, and please report it."
            }
        }
    }

    /// What a refusal in HAProxy's words means.
    pub(super) fn from_reply(command: &impl std::fmt::Display, reply: &str) -> Self {
        let says = |text: &str| reply.contains(text);
        let quoted = || excerpt(reply);
        match () {
            () if says("Permission denied") => Self::PermissionDenied,
            () if says("doesn't support OCSP stapling") => Self::NoOcspSupport,
            () if says("certificate status is unknown") => Self::StatusUnknown,
            () if says("missing nextupdate") => Self::NextUpdateMissing,
            () if says("no longer valid") => Self::Expired { next_update: None },
            () if says("Invalid \"Next Update\" time") => Self::NextUpdateInvalid,
            () if says("contains multiple single responses") => Self::MultipleSingleResponses,
            () if says("OCSP response status not successful") => Self::NotSuccessful,
            () if says("Certificate ID does not match") || says("Certificate ID or path does not match") => {
                Self::CertIdUnknown
            }
            () if says("Unable to parse OCSP response")
                || says("Failed to get basic response")
                || says("in base64 encoding")
                || says("invalid base64 encoded response") =>
            {
                Self::Unparsable { reply: quoted() }
            }
            () if says("Failed to update OCSP response") => Self::UpdateFailed,
            () if says("too big") => Self::TooLargeForHaproxy { reply: quoted() },
            () if says("The ongoing transaction is about") => {
                let by = reply.split('\'').nth(1).map(str::to_owned);
                Self::Busy { by }
            }
            () if says("currently locked") => Self::Busy { by: None },
            () if says("not referenced by the configuration") => Self::NotReferenced,
            () => Self::UnexpectedReply { command: command.to_string(), reply: quoted() },
        }
    }
}

/// The start of a reply, on one line.
pub(super) fn excerpt(reply: &str) -> String {
    let line = reply.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", line.split_at(at).0),
        None if line.is_empty() => "nothing".to_owned(),
        None => line,
    }
}
