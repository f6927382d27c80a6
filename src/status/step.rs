//! The steps of a certificate's way.

use serde::Serialize;

/// One step on the way from a certificate's file to a handshake that carries its staple, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The certificate's file is there and can be read.
    File,
    /// What it holds is a certificate, and a valid one.
    Parsed,
    /// The issuer's certificate is known and proven.
    Issuer,
    /// There is somebody to ask.
    Responder,
    /// The responder answered.
    Fetched,
    /// A strict client would accept the answer, and it says good.
    Verified,
    /// The staple is on disk.
    Kept,
    /// HAProxy has the certificate, and a place for its staple.
    Entry,
    /// HAProxy took the staple.
    Installed,
    /// HAProxy shows the very staple it took.
    ReadBack,
    /// A TLS client was served it.
    Handshake,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 11] = [
        Self::File,
        Self::Parsed,
        Self::Issuer,
        Self::Responder,
        Self::Fetched,
        Self::Verified,
        Self::Kept,
        Self::Entry,
        Self::Installed,
        Self::ReadBack,
        Self::Handshake,
    ];

    /// The name in JSON and for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Parsed => "parsed",
            Self::Issuer => "issuer",
            Self::Responder => "responder",
            Self::Fetched => "fetched",
            Self::Verified => "verified",
            Self::Kept => "kept",
            Self::Entry => "entry",
            Self::Installed => "installed",
            Self::ReadBack => "read_back",
            Self::Handshake => "handshake",
        }
    }
}
