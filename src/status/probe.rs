//! What a client saw, for the snapshot.

use jiff::Timestamp;
use serde::Serialize;

use super::{OcspStatus, Trouble};

/// What a client sees in a handshake. Worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// No handshake came about.
    NoHandshake,
    /// A certificate without a staple.
    NotStapled,
    /// A staple, and yet a strict client would turn away.
    Refused,
    /// A staple that a strict client is content with.
    Good,
    /// The server has other certificates under this name, and none for such a client.
    NotOffered,
}

impl Sight {
    /// The name in JSON and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoHandshake => "no_handshake",
            Self::NotStapled => "not_stapled",
            Self::Refused => "refused",
            Self::Good => "good",
            Self::NotOffered => "not_offered",
        }
    }

    /// The same for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoHandshake => "no handshake",
            Self::NotStapled => "not stapled",
            Self::Refused => "refused",
            Self::Good => "good",
            Self::NotOffered => "not offered",
        }
    }
}

/// What a server shows under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeStatus {
    /// Whom: `HOST:PORT`.
    pub target: String,
    /// For which name; empty if none was asked for.
    pub servername: String,
    /// When; none before the first time.
    pub probed_at: Option<Timestamp>,
    /// The worst that any client sees; none before the first time.
    pub sight: Option<Sight>,
    /// One sentence for a person.
    pub detail: String,
    /// The earliest nextUpdate of the verified staples.
    pub next_update: Option<Timestamp>,
    /// One for each kind of client.
    pub handshakes: Vec<HandshakeStatus>,
}

impl ProbeStatus {
    /// Before the first probe.
    #[must_use]
    pub fn pending(target: String, servername: String) -> Self {
        Self {
            target,
            servername,
            probed_at: None,
            sight: None,
            detail: "not looked at yet".to_owned(),
            next_update: None,
            handshakes: Vec::new(),
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.sight.is_some_and(|sight| sight != Sight::Good)
    }

    /// Target and name for people, as the settings write them.
    #[must_use]
    pub fn label(&self) -> String {
        if self.servername.is_empty() { self.target.clone() } else { format!("{}/{}", self.target, self.servername) }
    }
}

/// What one kind of client sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandshakeStatus {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// `ecdsa` or `rsa`.
    pub key_type: &'static str,
    /// What it sees.
    pub sight: Sight,
    /// The same as the end of a sentence.
    pub detail: String,
    /// Why a strict client would turn away.
    pub troubles: Vec<Trouble>,
    /// The subject of the certificate shown.
    pub subject: Option<String>,
    /// Its SHA-1, as `show ssl cert` has it.
    pub fingerprint: Option<String>,
    /// What the verified staple says.
    pub ocsp_status: OcspStatus,
    /// thisUpdate of the verified staple.
    pub this_update: Option<Timestamp>,
    /// nextUpdate of the verified staple.
    pub next_update: Option<Timestamp>,
}
