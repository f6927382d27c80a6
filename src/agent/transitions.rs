//! The log: one line a change of state, none for what stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::status::{CertificateStatus, State, Status, Trouble, one_line};

/// More changes to the same state at once than this are said in one line.
const MOST_LINES: usize = 20;

/// What was said last, so that only changes are said.
#[derive(Debug, Default)]
pub(super) struct Transitions {
    certificates: BTreeMap<String, State>,
    haproxies: BTreeMap<String, (Option<bool>, Option<&'static str>)>,
    troubles: BTreeSet<String>,
    unmatched: BTreeMap<String, BTreeSet<String>>,
    warned: BTreeSet<(String, String)>,
    last_pass_at: Option<Timestamp>,
}

impl Transitions {
    /// One line a change.
    pub(super) fn log(&mut self, status: &Arc<Status>) {
        self.log_certificates(status);
        for haproxy in &status.haproxy {
            let kind = haproxy.trouble.as_ref().map(|trouble| trouble.kind);
            let before = self.haproxies.insert(haproxy.haproxy.clone(), (haproxy.up, kind));
            if before == Some((haproxy.up, kind)) || haproxy.up.is_none() {
                continue;
            }
            let name = &haproxy.haproxy;
            match &haproxy.trouble {
                Some(trouble) => {
                    tracing::warn!(haproxy = name, reason = trouble.kind, "{trouble}");
                }
                None => {
                    let version = haproxy.version.as_deref().unwrap_or_default();
                    tracing::info!(haproxy = name, version, "HAProxy answers");
                }
            }
        }
        for haproxy in &status.haproxy {
            for warning in &haproxy.warnings {
                if self.warned.insert((haproxy.haproxy.clone(), warning.detail.clone())) {
                    tracing::warn!(haproxy = haproxy.haproxy, reason = warning.kind, "{warning}");
                }
            }
        }
        let now: BTreeSet<String> = status.troubles.iter().map(|trouble| trouble.detail.clone()).collect();
        for trouble in status.troubles.iter().filter(|trouble| !self.troubles.contains(&trouble.detail)) {
            tracing::warn!(reason = trouble.kind, "{trouble}");
        }
        for healed in self.troubles.difference(&now) {
            tracing::info!("no longer: {}", one_line(healed));
        }
        self.troubles = now;
        // In the middle of a pass a file may just not have been read yet.
        if self.last_pass_at != status.last_pass_at {
            self.last_pass_at = status.last_pass_at;
            self.log_unmatched(status);
        }
    }

    /// The commonest mistake with two containers: HAProxy has a certificate whose file this one does not see.
    fn log_unmatched(&mut self, status: &Status) {
        for haproxy in &status.haproxy {
            let now: BTreeSet<String> = haproxy.unmatched.iter().cloned().collect();
            let before = self.unmatched.insert(haproxy.haproxy.clone(), now.clone()).unwrap_or_default();
            let new: Vec<&str> = now.difference(&before).map(String::as_str).collect();
            if let Some((first, others)) = new.split_first() {
                let more = if others.is_empty() { String::new() } else { format!(" and {} others", others.len()) };
                tracing::warn!(
                    haproxy = haproxy.haproxy,
                    "HAProxy serves '{first}'{more}, and no file found here holds it, so it is not stapled. Mount its \
                     directory and name it in STAPLER_CERTS, or set STAPLER_PATH_MAP"
                );
            }
        }
    }

    fn log_certificates(&mut self, status: &Arc<Status>) {
        let mut changed: BTreeMap<State, Vec<&CertificateStatus>> = BTreeMap::new();
        for certificate in &status.certificates {
            let before = self.certificates.insert(certificate.certificate.clone(), certificate.state);
            if before != Some(certificate.state) && !(before.is_none() && certificate.state == State::Pending) {
                changed.entry(certificate.state).or_default().push(certificate);
            }
        }
        let present: BTreeSet<&String> = status.certificates.iter().map(|each| &each.certificate).collect();
        self.certificates.retain(|name, _| {
            let stays = present.contains(name);
            if !stays {
                tracing::info!(certificate = name, "gone");
            }
            stays
        });
        for (state, certificates) in changed {
            for certificate in certificates.iter().take(MOST_LINES) {
                let (name, detail) = (&certificate.certificate, &certificate.detail);
                if state.is_trouble() {
                    let reason = certificate.trouble.as_ref().map(|trouble| trouble.kind);
                    let remedy = certificate.trouble.as_ref().map(|trouble| trouble.remedy.clone()).unwrap_or_default();
                    let message = Trouble { kind: state.label(), detail: detail.clone(), remedy };
                    tracing::warn!(certificate = name, state = state.label(), reason, "{message}");
                } else {
                    tracing::info!(certificate = name, state = state.label(), "{}", one_line(detail));
                }
            }
            if let Some(more) = certificates.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
                tracing::info!(state = state.label(), more, "and as many others; /status has them all");
            }
        }
    }
}
