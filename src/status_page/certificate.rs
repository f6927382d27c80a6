//! One certificate's row.

use jiff::Timestamp;

use super::life::{Life, Times};
use super::query::words;
use super::text::{Instant, NAME, SENTENCE, outside, so_many, span};
use super::tone::Tone;
use crate::clock::between;
use crate::explain::{Finding, Outcome, explain};
use crate::status::{CertificateStatus, OcspStatus, Presence, ServedStatus, State, Status, Trouble};

/// HAProxies of one row.
const MOST_HAPROXIES: usize = 8;

/// What a person sees of it.
pub(super) struct Row {
    /// With its last slash.
    pub(super) directory: String,
    pub(super) file: String,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial_number: String,
    pub(super) fingerprint: String,
    pub(super) state: String,
    pub(super) tone: Tone,
    pub(super) ca_says: &'static str,
    pub(super) must_staple: bool,
    pub(super) detail: String,
    /// What to do first; the steps tell the rest.
    pub(super) remedy: String,
    pub(super) is_trouble: bool,
    /// Whether the picture says it all.
    pub(super) is_plain: bool,
    pub(super) noticed: Option<Noticed>,
    pub(super) since: String,
    pub(super) life: Option<Life>,
    pub(super) due: Option<Instant>,
    pub(super) haproxies: Vec<Seat>,
    pub(super) more_haproxies: usize,
    pub(super) steps: Vec<StepRow>,
}

/// One HAProxy that has loaded it.
pub(super) struct Seat {
    pub(super) haproxy: String,
    /// Until when it serves one; empty if that is what the picture shows.
    pub(super) until: Option<String>,
    pub(super) tone: Tone,
}

/// One step of `explain`.
pub(super) struct StepRow {
    pub(super) step: String,
    pub(super) outcome: &'static str,
    pub(super) tone: Tone,
    pub(super) evidence: String,
    pub(super) remedy: String,
}

/// When clients notice that something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    /// They do now, and this is how.
    Now(&'static str),
    /// Then, unless it is mended.
    Later(Timestamp, Instant),
}

impl Noticed {
    /// Nothing is said of a certificate that is well, and of one that no client can be shown.
    pub(super) fn of(certificate: &CertificateStatus, now: Timestamp) -> Option<Self> {
        if !certificate.state.is_trouble() || certificate.loaded.is_empty() {
            return None;
        }
        let is_bare = certificate.loaded.iter().any(|presence| served(certificate, presence).is_none());
        match certificate.state {
            State::Expired => Some(Self::Now("Clients refuse it: it has expired.")),
            _ if is_bare && certificate.must_staple => {
                Some(Self::Now("Clients get no staple, and those that honour must-staple refuse the site."))
            }
            _ if is_bare => Some(Self::Now("Clients get no staple.")),
            State::Revoked => Some(Self::Now("Clients that check revocation refuse it.")),
            _ => match Times::of(certificate) {
                Some(times) if times.effective_end > now => {
                    Some(Self::Later(times.effective_end, Instant::new(times.effective_end, now)))
                }
                _ => Some(Self::Now("Clients get no staple.")),
            },
        }
    }
}

impl Noticed {
    /// When they do: what they notice already comes before everything, and what they do not after it.
    pub(super) fn at(certificate: &CertificateStatus, now: Timestamp) -> Timestamp {
        match Self::of(certificate, now) {
            Some(Self::Now(_)) => Timestamp::MIN,
            Some(Self::Later(at, _)) => at,
            None => Timestamp::MAX,
        }
    }
}

fn served<'a>(certificate: &'a CertificateStatus, presence: &Presence) -> Option<&'a ServedStatus> {
    certificate.served.iter().find(|served| served.haproxy == presence.haproxy)
}

impl Row {
    pub(super) fn new(certificate: &CertificateStatus, status: &Status, now: Timestamp) -> Self {
        let findings = explain(certificate, status);
        let due = certificate.refresh_due_at;
        let times = Times::of(certificate);
        let ends = |served: &ServedStatus| {
            let own = Times::served(served, certificate);
            if times == Some(own) { String::new() } else { Instant::new(own.effective_end, now).absolute }
        };
        let seat = |presence: &Presence| Seat {
            haproxy: outside(&presence.haproxy, NAME),
            until: served(certificate, presence).map(ends),
            tone: if certificate.state.is_trouble() { Tone::Bad } else { Tone::Quiet },
        };
        let (directory, file) = split_path(&certificate.certificate);
        Self {
            directory: outside(directory, NAME),
            file: outside(file, NAME),
            subject: outside(&certificate.subject, NAME),
            issuer: outside(&certificate.issuer, NAME),
            serial_number: outside(&certificate.serial_number, NAME),
            fingerprint: outside(&certificate.fingerprint, NAME),
            state: words(certificate.state),
            tone: Tone::from(certificate.state),
            ca_says: ca_says(certificate.ocsp_status),
            must_staple: certificate.must_staple,
            detail: outside(&Trouble::sentence(&certificate.detail), SENTENCE),
            remedy: remedy(certificate, &findings),
            is_trouble: certificate.state.is_trouble(),
            is_plain: certificate.state == State::Stapled,
            noticed: Noticed::of(certificate, now),
            since: since(certificate, now),
            life: times.map(|times| Life::new(times, due, now)),
            due: due.map(|due| Instant::new(due, now)),
            haproxies: certificate.loaded.iter().take(MOST_HAPROXIES).map(seat).collect(),
            more_haproxies: certificate.loaded.len().saturating_sub(MOST_HAPROXIES),
            steps: findings.into_iter().map(StepRow::new).collect(),
        }
    }
}

/// The directory and the file of a name; only the latter where it is none of a file.
pub(super) fn split_path(name: &str) -> (&str, &str) {
    name.rfind('/').and_then(|slash| name.split_at_checked(slash.saturating_add(1))).unwrap_or(("", name))
}

/// What the sentence is about comes first, then whatever else stands in the way.
fn remedy(certificate: &CertificateStatus, findings: &[Finding]) -> String {
    let own = certificate.trouble.as_ref().map(|trouble| Trouble::sentence(&trouble.remedy));
    let first = || findings.iter().find_map(|finding| finding.remedy.clone());
    own.filter(|remedy| !remedy.is_empty()).or_else(first).map(|remedy| outside(&remedy, SENTENCE)).unwrap_or_default()
}

fn ca_says(status: OcspStatus) -> &'static str {
    match status {
        OcspStatus::Good => "CA says good",
        OcspStatus::Revoked => "CA says revoked",
        OcspStatus::Unknown => "CA does not know it",
        OcspStatus::None => "no word of the CA",
    }
}

/// How long it has been so.
fn since(certificate: &CertificateStatus, now: Timestamp) -> String {
    let ago = |at: Timestamp| Instant::new(at, now).relative;
    let failures = usize::try_from(certificate.failures).unwrap_or(usize::MAX);
    let failed = so_many(failures, "attempt has", "attempts have");
    let so = certificate.state_since.map(|at| format!("So for {}. ", span(between(at, now)))).unwrap_or_default();
    let asked = match (certificate.last_success_at, certificate.last_attempt_at) {
        (Some(success), _) if failures > 0 => {
            format!("The last valid answer came {}; {failed} failed since.", ago(success))
        }
        (Some(success), _) => format!("The last valid answer came {}.", ago(success)),
        (None, Some(attempt)) if failures > 0 => {
            format!("No valid answer yet; {failed} failed, the last {}.", ago(attempt))
        }
        (None, Some(attempt)) => format!("No valid answer yet; last asked {}.", ago(attempt)),
        (None, None) => String::new(),
    };
    format!("{so}{asked}")
}

impl StepRow {
    fn new(finding: Finding) -> Self {
        Self {
            step: finding.step.label().replace('_', " "),
            outcome: outcome(finding.outcome),
            tone: Tone::from(finding.outcome),
            evidence: outside(&finding.evidence, SENTENCE),
            remedy: finding.remedy.as_deref().map(|remedy| outside(remedy, SENTENCE)).unwrap_or_default(),
        }
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Waiting => "waiting",
        Outcome::Skipped => "skipped",
        Outcome::NotReached => "not reached",
    }
}
