//! How far a certificate has come, for the snapshot.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Who fetches the responses for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Care {
    /// This program.
    Stapler,
    /// HAProxy itself (`ocsp-update on`), wherever it is loaded.
    Haproxy,
    /// Nobody: the settings leave it out, or it cannot be read.
    #[default]
    Nobody,
}

/// Why there is nobody to ask about a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoResponder {
    /// The certificate names none.
    NotNamed,
    /// STAPLER_RESPONDERS says so.
    SwitchedOff,
    /// It names one that is not asked over HTTP.
    NotHttp(String),
}

impl fmt::Display for NoResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNamed => f.write_str("it names no OCSP responder: there is nothing to staple"),
            Self::SwitchedOff => f.write_str("its OCSP responder is switched off by STAPLER_RESPONDERS"),
            Self::NotHttp(url) => write!(f, "it names no OCSP responder that can be asked over HTTP, only '{url}'"),
        }
    }
}

/// What of a certificate's staple is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptStatus {
    /// In the state directory, for this program's next start.
    pub in_state_directory: bool,
    /// The `.ocsp` files of its making, for HAProxy's next start.
    pub ocsp_files: Vec<String>,
    /// Why there is none, if that is on purpose.
    pub no_ocsp_file: Option<NoOcspFile>,
}

/// Why no `.ocsp` file is kept for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoOcspFile {
    /// `STAPLER_OCSP_FILES=never`.
    SwitchedOff,
    /// HAProxy could not find the issuer at its next start, and would not start.
    IssuerNotFindable,
    /// HAProxy would cut it off.
    TooLarge,
}

impl fmt::Display for NoOcspFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SwitchedOff => "STAPLER_OCSP_FILES=never",
            Self::IssuerNotFindable => "HAProxy would not find the issuer at its next start, and refuse to start",
            Self::TooLarge => "the response is larger than what HAProxy reads from a file",
        })
    }
}

/// A certificate in one HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The socket's address.
    pub haproxy: Arc<str>,
    /// Whether HAProxy has a place for its staple; none if it does not say.
    pub entry: Option<bool>,
    /// Whether there is something to install.
    pub pending: bool,
}
