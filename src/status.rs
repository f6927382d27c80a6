//! The snapshot that every reader sees: what is known about each certificate and each HAProxy at one instant.
//!
//! The agent publishes it, the server and the metrics render it; nobody else holds state. Ages are not stored: they are
//! computed from the reader's own `now`.

mod probe;
mod progress;
mod pulse;
mod step;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub use self::probe::{HandshakeStatus, ProbeStatus, Sight};
pub use self::progress::{Care, KeptStatus, NoOcspFile, NoResponder, Presence};
pub use self::pulse::{Progress, Pulse};
pub use self::step::Step;
use crate::certificate::IssuerSource;
use crate::clock::between;
use crate::ocsp::CertStatus;

/// The state of one certificate. Worst first: this is the order in which a person wants to see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It should be stapled and is not.
    Unstapled,
    /// The CA says it is revoked.
    Revoked,
    /// The CA says it does not know it.
    Unknown,
    /// Still served, but refreshes fail.
    RefreshFailing,
    /// Its issuer is not to be found, so no request can be made.
    NoIssuer,
    /// The file cannot be read as a certificate.
    Unreadable,
    /// The certificate itself has expired.
    Expired,
    /// Not looked at yet.
    Pending,
    /// On disk, not in HAProxy.
    NotLoaded,
    /// HAProxy updates this one by itself: watched, not touched.
    NativeUpdate,
    /// It names no OCSP responder: nothing to do, never an alarm.
    NoResponder,
    /// Left out by the settings.
    Excluded,
    /// A verified, fresh staple is served.
    Stapled,
}

impl State {
    /// Every state, worst first.
    pub const ALL: [Self; 13] = [
        Self::Unstapled,
        Self::Revoked,
        Self::Unknown,
        Self::RefreshFailing,
        Self::NoIssuer,
        Self::Unreadable,
        Self::Expired,
        Self::Pending,
        Self::NotLoaded,
        Self::NativeUpdate,
        Self::NoResponder,
        Self::Excluded,
        Self::Stapled,
    ];

    /// The name in JSON, metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unstapled => "unstapled",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::RefreshFailing => "refresh_failing",
            Self::NoIssuer => "no_issuer",
            Self::Unreadable => "unreadable",
            Self::Expired => "expired",
            Self::Pending => "pending",
            Self::NotLoaded => "not_loaded",
            Self::NativeUpdate => "native_update",
            Self::NoResponder => "no_responder",
            Self::Excluded => "excluded",
            Self::Stapled => "stapled",
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Unstapled
                | Self::Revoked
                | Self::Unknown
                | Self::RefreshFailing
                | Self::NoIssuer
                | Self::Unreadable
                | Self::Expired
        )
    }

    /// Whether there is nothing to staple: what a HAProxy may still hold for it is let be, and no loss when it ends.
    #[must_use]
    pub fn is_let_be(self) -> bool {
        matches!(self, Self::Expired | Self::NotLoaded | Self::NoResponder | Self::Excluded)
    }
}

/// What the CA's last genuine answer says. There is no default that reads as good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OcspStatus {
    /// Good.
    Good,
    /// Revoked.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
    /// There is no answer.
    #[default]
    None,
}

impl OcspStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Good, Self::Revoked, Self::Unknown, Self::None];

    /// The name in JSON, metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

impl From<&CertStatus> for OcspStatus {
    fn from(status: &CertStatus) -> Self {
        match status {
            CertStatus::Good => Self::Good,
            CertStatus::Revoked { .. } => Self::Revoked,
            CertStatus::Unknown => Self::Unknown,
        }
    }
}

/// Something that is wrong: a stable name, what happened, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Where on the way from the file to the handshake it stands, if it is about that.
    pub step: Option<Step>,
    /// The stable name, fit for a label.
    pub kind: &'static str,
    /// What happened, to what.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

impl Trouble {
    /// A remedy as a sentence of its own.
    #[must_use]
    pub fn sentence(remedy: &str) -> String {
        let mut letters = remedy.trim_end_matches('.').chars();
        letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
    }
}

/// Two sentences for a person: what happened, what to do.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(one_line(&self.detail).trim_end_matches('.'))?;
        match Self::sentence(&self.remedy).trim_end_matches('.') {
            "" => Ok(()),
            remedy => write!(f, ". {remedy}"),
        }
    }
}

/// Text from outside as it may stand in a log or on a terminal: a subject or a file name cannot forge a line, nor
/// command the terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_debug());
        } else {
            line.push(letter);
        }
    }
    line
}

/// The verified staple in hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StapleStatus {
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// producedAt.
    pub produced_at: Timestamp,
    /// When HAProxy stops serving it.
    pub effective_end: Timestamp,
    /// Who signed: `issuer` or `delegated`.
    pub signer: &'static str,
    /// The responderID.
    pub responder_id: String,
}

/// What one HAProxy serves for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServedStatus {
    /// The socket's address.
    pub haproxy: Arc<str>,
    /// thisUpdate of the staple it holds.
    pub this_update: Timestamp,
    /// nextUpdate of the staple it holds.
    pub next_update: Timestamp,
}

/// One certificate. What stays as it is from one snapshot to the next is shared by them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// The name HAProxy knows the file by.
    pub certificate: Arc<str>,
    /// Its state.
    pub state: State,
    /// Since when, as far as this process has seen; none in a snapshot that nobody has published.
    pub state_since: Option<Timestamp>,
    /// What the CA says.
    pub ocsp_status: OcspStatus,
    /// One sentence for a person.
    pub detail: String,
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
    /// Everything that is wrong on its way.
    pub troubles: Vec<Trouble>,
    /// Who fetches its responses.
    pub care: Care,
    /// The files it was found in, by this program's paths.
    pub files: Vec<String>,
    /// Subject, for people.
    pub subject: Arc<str>,
    /// Issuer, for people.
    pub issuer: Arc<str>,
    /// Where the issuer's certificate was found.
    pub issuer_source: Option<IssuerSource>,
    /// Serial number in hexadecimal.
    pub serial_number: Arc<str>,
    /// SHA-1 of the certificate, as `show ssl cert` has it.
    pub fingerprint: Arc<str>,
    /// The responder URLs that are asked, in order.
    pub responders: Arc<[String]>,
    /// Why there is nobody to ask, if so.
    pub no_responder: Option<NoResponder>,
    /// Whether the certificate demands a staple (RFC 7633).
    pub must_staple: bool,
    /// End of the certificate's validity.
    pub not_after: Option<Timestamp>,
    /// The verified staple in hand.
    pub staple: Option<StapleStatus>,
    /// What of it is on disk.
    pub kept: KeptStatus,
    /// The HAProxies in which a frontend may serve it.
    pub loaded: Vec<Presence>,
    /// What each HAProxy serves.
    pub served: Vec<ServedStatus>,
    /// What a HAProxy still holds and serves no more, because it has expired.
    pub expired: Vec<ServedStatus>,
    /// When the CA was last asked.
    pub last_attempt_at: Option<Timestamp>,
    /// When a valid response last came.
    pub last_success_at: Option<Timestamp>,
    /// When the CA will be asked next.
    pub refresh_due_at: Option<Timestamp>,
    /// Attempts that failed since the last success.
    pub failures: u32,
}

impl CertificateStatus {
    /// The oldest thisUpdate that a client may be served now; none when nothing is served.
    #[must_use]
    pub fn served_this_update(&self) -> Option<Timestamp> {
        self.served.iter().map(|served| served.this_update).min()
    }

    /// What each HAProxy holds, whether it serves it or not.
    pub fn held(&self) -> impl Iterator<Item = &ServedStatus> {
        self.served.iter().chain(&self.expired)
    }

    /// How old that is.
    #[must_use]
    pub fn staple_age(&self, now: Timestamp) -> Option<Duration> {
        self.served_this_update().map(|this_update| between(this_update, now))
    }

    /// The responder a label may name: the first one's host.
    #[must_use]
    pub fn responder(&self) -> Option<&String> {
        self.responders.first()
    }
}

/// One HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HaproxyStatus {
    /// The socket's address, as the settings have it.
    pub haproxy: Arc<str>,
    /// Whether the last look was answered; none before the first.
    pub up: Option<bool>,
    /// Its version.
    pub version: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Whether it shows what it holds; none before it was asked.
    pub reads_back: Option<bool>,
    /// New processes seen behind this socket.
    pub reloads: u64,
    /// Certificates it has loaded.
    pub loaded: usize,
    /// Certificates it serves a staple of ours for.
    pub served: usize,
    /// Loaded certificates that no file under `STAPLER_CERTS` holds.
    pub unmatched: Vec<String>,
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
    /// What deserves a word though everything works.
    pub warnings: Vec<Trouble>,
}

/// Everything, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When the program started.
    pub started_at: Option<Timestamp>,
    /// End of the last pass over all certificates.
    pub last_pass_at: Option<Timestamp>,
    /// The timer, for the metric of the same name.
    pub refresh_interval: Duration,
    /// Every HAProxy.
    pub haproxy: Vec<HaproxyStatus>,
    /// Every certificate, by name. One that is as it was is the same allocation as in the snapshot before.
    pub certificates: Vec<Arc<CertificateStatus>>,
    /// Every frontend that is looked at by handshake.
    pub probes: Vec<ProbeStatus>,
    /// What is wrong beyond one certificate: disks, directories.
    pub troubles: Vec<Trouble>,
}

/// The answer in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing needs a person.
    Ok,
    /// Something does; restarting this program would not help.
    Degraded,
    /// The worker makes no progress; restarting it may help.
    Stuck,
}

impl Status {
    /// How many certificates are in each state; every state is there.
    #[must_use]
    pub fn states(&self) -> BTreeMap<State, usize> {
        let mut states: BTreeMap<State, usize> = State::ALL.into_iter().map(|state| (state, 0)).collect();
        for certificate in &self.certificates {
            *states.entry(certificate.state).or_default() += 1;
        }
        states
    }

    /// The earliest nextUpdate of all that HAProxys hold, served or expired, for certificates that are to be stapled.
    #[must_use]
    pub fn min_next_update(&self) -> Option<Timestamp> {
        let stapled = self.certificates.iter().filter(|certificate| !certificate.state.is_let_be());
        stapled.flat_map(|certificate| certificate.held()).map(|held| held.next_update).min()
    }

    /// The answer in one word, given whether the worker makes progress.
    #[must_use]
    pub fn health(&self, progress: Progress) -> Health {
        let trouble = !self.troubles.is_empty()
            || self.haproxy.iter().any(|haproxy| haproxy.up == Some(false) || haproxy.trouble.is_some())
            || self.certificates.iter().any(|certificate| certificate.state.is_trouble())
            || self.probes.iter().any(ProbeStatus::is_trouble);
        match (progress, trouble) {
            (Progress::None, _) => Health::Stuck,
            (Progress::Made, true) => Health::Degraded,
            (Progress::Made, false) => Health::Ok,
        }
    }
}
