//! The log: one line a change of state, none for what stays as it is, and one for all where many change at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::storms::{Kind, Storms, Summary};
use crate::clock::Monotonic;
use crate::status::{CertificateStatus, Sight, State, Status, Trouble, one_line};
use crate::uri::host_of;

/// What was said last, so that only changes are said.
#[derive(Debug, Default)]
pub(super) struct Transitions {
    certificates: Arc<Status>,
    storms: Storms,
    haproxies: BTreeMap<Arc<str>, (Option<bool>, Option<&'static str>)>,
    troubles: BTreeSet<String>,
    unmatched: BTreeMap<Arc<str>, BTreeSet<String>>,
    warned: BTreeSet<(Arc<str>, String)>,
    probes: BTreeMap<String, Sight>,
    last_pass_at: Option<Timestamp>,
}

impl Transitions {
    /// One line a change, or for many.
    pub(super) fn log(&mut self, status: &Arc<Status>, now: Monotonic) {
        self.log_certificates(status, now);
        for haproxy in &status.haproxy {
            let kind = haproxy.trouble.as_ref().map(|trouble| trouble.kind);
            let before = self.haproxies.insert(haproxy.haproxy.clone(), (haproxy.up, kind));
            if before == Some((haproxy.up, kind)) || haproxy.up.is_none() {
                continue;
            }
            let name = &*haproxy.haproxy;
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
                    tracing::warn!(haproxy = &*haproxy.haproxy, reason = warning.kind, "{warning}");
                }
            }
        }
        self.log_probes(status);
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

    fn log_probes(&mut self, status: &Status) {
        for probe in &status.probes {
            let Some(sight) = probe.sight else { continue };
            let label = probe.label();
            if self.probes.insert(label.clone(), sight) == Some(sight) {
                continue;
            }
            let detail = one_line(&probe.detail);
            if probe.is_trouble() {
                tracing::warn!(probe = label, sight = sight.label(), "a client is not served well: {detail}");
            } else {
                tracing::info!(probe = label, sight = sight.label(), "{detail}");
            }
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
                    haproxy = &*haproxy.haproxy,
                    "HAProxy serves '{first}'{more}, and no file found here holds it, so it is not stapled. Mount its \
                     directory and name it in STAPLER_CERTS, or set STAPLER_PATH_MAP"
                );
            }
        }
    }

    fn log_certificates(&mut self, status: &Arc<Status>, now: Monotonic) {
        let mut changed: BTreeMap<Kind, Vec<&CertificateStatus>> = BTreeMap::new();
        let mut gone: Vec<&str> = Vec::new();
        let known = std::mem::replace(&mut self.certificates, status.clone());
        // Both by name.
        let mut before = known.certificates.iter().peekable();
        for certificate in &status.certificates {
            while let Some(each) = before.next_if(|each| each.certificate < certificate.certificate) {
                gone.push(&each.certificate);
            }
            let before = before.next_if(|each| each.certificate == certificate.certificate).map(|each| each.state);
            if before != Some(certificate.state) && !(before.is_none() && certificate.state == State::Pending) {
                changed.entry(kind(certificate)).or_default().push(certificate);
            }
        }
        gone.extend(before.map(|each| &*each.certificate));
        if !gone.is_empty() {
            let named = self.storms.take(&Kind { state: None, reason: None, responder: None }, &gone, now);
            for name in gone.into_iter().take(named) {
                tracing::info!(certificate = name, "gone");
            }
        }
        for (kind, certificates) in changed {
            let names: Vec<&str> = certificates.iter().map(|each| &*each.certificate).collect();
            let named = self.storms.take(&kind, &names, now);
            for certificate in certificates.into_iter().take(named) {
                log_certificate(certificate, &kind);
            }
        }
        self.log_storms(now);
    }

    /// What is owed about storms and has become due.
    pub(super) fn log_storms(&mut self, now: Monotonic) {
        self.storms.due(now).iter().for_each(log_summary);
    }

    /// What is owed, before the end.
    pub(super) fn log_rest(&mut self) {
        self.storms.rest().iter().for_each(log_summary);
    }
}

fn kind(certificate: &CertificateStatus) -> Kind {
    let trouble = certificate.trouble.as_ref().filter(|_| certificate.state.is_trouble());
    Kind {
        state: Some(certificate.state),
        reason: trouble.map(|trouble| trouble.kind),
        responder: certificate.responder().map(|url| host_of(url)),
    }
}

fn log_certificate(certificate: &CertificateStatus, kind: &Kind) {
    let (name, state, reason) = (&*certificate.certificate, certificate.state, kind.reason);
    let responder = kind.responder.as_deref();
    if state.is_trouble() {
        let remedy = certificate.trouble.as_ref().map(|trouble| trouble.remedy.clone()).unwrap_or_default();
        let message = Trouble { step: None, kind: state.label(), detail: certificate.detail.clone(), remedy };
        tracing::warn!(certificate = name, state = state.label(), reason, responder, "{message}");
    } else {
        tracing::info!(certificate = name, state = state.label(), responder, "{}", one_line(&certificate.detail));
    }
}

fn log_summary(summary: &Summary) {
    let Summary { kind: Kind { state, reason, responder }, count, names } = summary;
    let (responder, label) = (responder.as_deref(), state.map_or("gone", State::label));
    let alike: Vec<&str> = [Some(label), *reason, responder].into_iter().flatten().collect();
    let noun = if *count == 1 { "certificate" } else { "certificates" };
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let message = one_line(&format!("and {count} more {noun}: {}{names}", alike.join(", ")));
    let state = state.map(State::label);
    if summary.kind.state.is_some_and(State::is_trouble) {
        tracing::warn!(count, state, reason, responder, "{message}; /status has them all");
    } else {
        tracing::info!(count, state, reason, responder, "{message}");
    }
}
