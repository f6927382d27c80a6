//! The snapshot that every reader sees: what is known about each certificate and each HAProxy at one instant.
//!
//! The agent publishes it, the server and the metrics render it; nobody else holds state. Ages are not stored: they are
//! computed from the reader's own `now`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::{Monotonic, between};

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

/// Something that is wrong: a stable name, what happened, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The stable name, fit for a label.
    pub kind: &'static str,
    /// What happened, to what.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// Two sentences for a person: what happened, what to do.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(one_line(&self.detail).trim_end_matches('.'))?;
        let mut remedy = self.remedy.trim_end_matches('.').chars();
        match remedy.next() {
            Some(first) => write!(f, ". {}{}", first.to_uppercase(), remedy.as_str()),
            None => Ok(()),
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
    pub haproxy: String,
    /// thisUpdate of the staple it holds.
    pub this_update: Timestamp,
    /// nextUpdate of the staple it holds.
    pub next_update: Timestamp,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// The name HAProxy knows the file by.
    pub certificate: String,
    /// Its state.
    pub state: State,
    /// What the CA says.
    pub ocsp_status: OcspStatus,
    /// One sentence for a person.
    pub detail: String,
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
    /// The files it was found in, by this program's paths.
    pub files: Vec<String>,
    /// Subject, for people.
    pub subject: String,
    /// Issuer, for people.
    pub issuer: String,
    /// Serial number in hexadecimal.
    pub serial_number: String,
    /// SHA-1 of the certificate, as `show ssl cert` has it.
    pub fingerprint: String,
    /// The responder URLs that are asked, in order.
    pub responders: Vec<String>,
    /// Whether the certificate demands a staple (RFC 7633).
    pub must_staple: bool,
    /// End of the certificate's validity.
    pub not_after: Option<Timestamp>,
    /// The verified staple in hand.
    pub staple: Option<StapleStatus>,
    /// What each HAProxy serves.
    pub served: Vec<ServedStatus>,
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
    pub haproxy: String,
    /// Whether the last look was answered; none before the first.
    pub up: Option<bool>,
    /// Its version.
    pub version: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
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
    /// Every certificate, by name.
    pub certificates: Vec<CertificateStatus>,
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

    /// The earliest nextUpdate of all that is served.
    #[must_use]
    pub fn min_next_update(&self) -> Option<Timestamp> {
        self.certificates.iter().flat_map(|certificate| &certificate.served).map(|served| served.next_update).min()
    }

    /// The answer in one word, given whether the worker makes progress.
    #[must_use]
    pub fn health(&self, progress: Progress) -> Health {
        let trouble = !self.troubles.is_empty()
            || self.haproxy.iter().any(|haproxy| haproxy.up == Some(false) || haproxy.trouble.is_some())
            || self.certificates.iter().any(|certificate| certificate.state.is_trouble());
        match (progress, trouble) {
            (Progress::None, _) => Health::Stuck,
            (Progress::Made, true) => Health::Degraded,
            (Progress::Made, false) => Health::Ok,
        }
    }

    /// The JSON of `/healthz` and `/status`. `most` limits the certificates, the worst come first.
    #[must_use]
    pub fn to_json(&self, health: Health, most: Option<usize>, now: Timestamp) -> Value {
        let mut order: Vec<&CertificateStatus> = self.certificates.iter().collect();
        order.sort_by(|a, b| (a.state, &a.certificate).cmp(&(b.state, &b.certificate)));
        let certificates: Vec<Value> = match most {
            Some(most) => order.into_iter().take(most).map(|one| brief(one, now)).collect(),
            None => order.into_iter().map(|one| full(one, now)).collect(),
        };
        let states: BTreeMap<&str, usize> =
            self.states().into_iter().map(|(state, count)| (state.label(), count)).collect();
        json!({
            "status": health,
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": self.started_at,
            "last_pass_at": self.last_pass_at,
            "haproxy": self.haproxy,
            "states": states,
            "troubles": self.troubles,
            "certificates": certificates,
        })
    }
}

fn brief(certificate: &CertificateStatus, now: Timestamp) -> Value {
    json!({
        "certificate": certificate.certificate,
        "state": certificate.state,
        "ocsp_status": certificate.ocsp_status,
        "staple_age_seconds": certificate.staple_age(now).map(|age| age.as_secs()),
        "staple_next_update": certificate.staple.as_ref().map(|staple| staple.next_update),
        "detail": certificate.detail,
    })
}

fn full(certificate: &CertificateStatus, now: Timestamp) -> Value {
    let mut value = serde_json::to_value(certificate).unwrap_or(Value::Null);
    if let (Value::Object(all), Value::Object(brief)) = (&mut value, brief(certificate, now)) {
        all.extend(brief);
    }
    value
}

/// Whether the worker is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It turned its loop and finished its scans in time.
    Made,
    /// It did not.
    None,
}

/// The worker's sign of life. Only the worker stamps it; a reader only compares.
#[derive(Debug)]
pub struct Pulse {
    turned: AtomicU64,
    scanned: AtomicU64,
    longest_scan_gap: Duration,
}

/// The worker turns its loop at least once a second; this long without a turn is no delay but a fault.
const LONGEST_TURN_GAP: Duration = Duration::from_secs(30);

impl Pulse {
    /// For a worker that scans every `scan_interval`.
    #[must_use]
    pub fn new(scan_interval: Duration) -> Self {
        // Three scans missed, and a minute's grace for a slow disk.
        let longest_scan_gap = scan_interval.saturating_mul(3).saturating_add(Duration::from_secs(60));
        Self { turned: AtomicU64::new(0), scanned: AtomicU64::new(0), longest_scan_gap }
    }

    /// The worker turned its loop.
    pub fn turn(&self, now: Monotonic) {
        self.turned.store(millis(now), Ordering::Relaxed);
    }

    /// The worker finished a look at the disk.
    pub fn scan(&self, now: Monotonic) {
        self.scanned.store(millis(now), Ordering::Relaxed);
    }

    /// Whether both happened recently enough.
    #[must_use]
    pub fn progress(&self, now: Monotonic) -> Progress {
        let late = |stamp: &AtomicU64, most: Duration| {
            now.since(Monotonic::new(Duration::from_millis(stamp.load(Ordering::Relaxed)))) > most
        };
        if late(&self.turned, LONGEST_TURN_GAP) || late(&self.scanned, self.longest_scan_gap) {
            Progress::None
        } else {
            Progress::Made
        }
    }
}

fn millis(at: Monotonic) -> u64 {
    u64::try_from(at.since(Monotonic::default()).as_millis()).unwrap_or(u64::MAX)
}
