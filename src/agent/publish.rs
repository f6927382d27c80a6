//! From the [`World`] to the snapshot that everybody reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{Timestamp, Unit};

use super::native::ocsp_status;
use super::peer::Peer;
use super::probes::Probe;
use super::rows::Row;
use super::since::Predecessors;
use super::troubles;
use super::world::{HandsOff, World};
use crate::certificate::Issuer;
use crate::clock::{Moment, Monotonic, later};
use crate::haproxy::Process;
use crate::ocsp::Staple;
use crate::status::{
    Care, CertificateStatus, HaproxyStatus, KeptStatus, OcspStatus, ServedStatus, StapleStatus, State, Status, Trouble,
};

impl World {
    /// The snapshot that follows `before`.
    pub(super) fn status(&self, before: &Status, now: Moment) -> Status {
        let rows = self.rows();
        let unread: BTreeSet<&str> =
            rows.iter().filter(|(_, row)| row.unreadable.is_some()).map(|(name, _)| &**name).collect();
        let haproxy = self.peers.iter().map(|peer| self.haproxy_status(peer, &unread, now.wall)).collect();
        let mut before = Predecessors::new(before);
        let certificates = rows
            .iter()
            .map(|(name, row)| before.hand_down(self.certificate_status(name, row, now), now.wall))
            .collect();
        // A full disk is one trouble, however many files it did not take.
        let mut troubles: Vec<Trouble> = self.scan_troubles.clone();
        for trouble in self.disk.troubles.values() {
            if !troubles.contains(trouble) {
                troubles.push(trouble.clone());
            }
        }
        Status {
            started_at: Some(self.started_at),
            last_pass_at: self.last_pass_at,
            refresh_interval: self.settings.refresh_interval,
            haproxy,
            certificates,
            probes: self.probes.iter().map(Probe::status).collect(),
            troubles,
        }
    }

    fn haproxy_status(&self, peer: &Peer, unread: &BTreeSet<&str>, now: Timestamp) -> HaproxyStatus {
        let unmatched = peer
            .loaded
            .values()
            .filter(|loaded| peer.is_served(&loaded.name))
            .filter(|loaded| loaded.fingerprint.is_none_or(|each| !self.leaves.contains_key(&each)))
            .filter(|loaded| !unread.contains(loaded.name.as_str()))
            .map(|loaded| loaded.name.clone())
            .collect();
        let served = peer.served.values().filter(|served| served.is_served(now)).count();
        HaproxyStatus {
            haproxy: peer.label().clone(),
            up: peer.up,
            version: peer.process.as_ref().map(|process| process.version.to_string()),
            pid: peer.process.as_ref().map(|process| process.pid),
            reads_back: peer.process.as_ref().map(|process| process.version.lists_entries()),
            reloads: peer.reloads,
            loaded: peer.loaded.len(),
            served,
            unmatched,
            trouble: peer.trouble.clone(),
            warnings: peer.process.as_ref().map(warnings).unwrap_or_default(),
        }
    }

    fn certificate_status(&self, name: &str, row: &Row<'_>, now: Moment) -> CertificateStatus {
        let Some(leaf) = row.leaf else { return unreadable(name, row) };
        let mut served: Vec<ServedStatus> =
            row.loaded_at.iter().filter_map(|peer| peer.serves(name, now.wall)).collect();
        // Ten thousand rows are kept, and nearly all have one.
        served.shrink_to_fit();
        let expired = row.loaded_at.iter().filter_map(|peer| peer.expired(name, now.wall)).collect();
        // The worst that any HAProxy makes of updating it by itself.
        let verdict =
            row.loaded_at.iter().filter_map(|peer| peer.verdict(name, now.wall)).min_by_key(|each| each.state);
        let (state, mut detail) = self.judge(name, leaf, row, &served, verdict.as_ref(), now);
        if let Some(peer) = row.loaded_at.iter().find(|peer| peer.up == Some(false)) {
            detail = format!("{detail}; that is the last known, {} does not answer", peer.label());
        }
        if let Some(note) = &row.note {
            detail = format!("{detail}; {}: {}", note.detail, note.remedy);
        }
        let troubles = self.troubles(name, leaf, row, verdict.as_ref());
        let refused = row.loaded_at.iter().find_map(|peer| peer.refused.get(name));
        let ours = || refused.map(|refused| &refused.trouble).or(leaf.trouble.as_ref()).cloned();
        let theirs = verdict.and_then(|verdict| verdict.trouble);
        let (ocsp_status, staple, trouble) = match leaf.hands_off {
            Some(HandsOff::NativeUpdate) => {
                let natives = row.loaded_at.iter().filter_map(|peer| peer.native.get(name));
                let staple = natives.filter_map(|native| native.staple(now.wall)).min_by_key(|each| each.this_update());
                (ocsp_status(staple), staple, theirs.or_else(|| leaf.trouble_of(state)))
            }
            _ => {
                let staple = leaf.staple.as_ref().filter(|staple| staple.is_serving(now.wall));
                (leaf.ocsp_status, staple, theirs.or_else(|| leaf.trouble_of(state)).or_else(ours))
            }
        };
        let (certificate, identity) = (&leaf.certificate, &leaf.identity);
        CertificateStatus {
            certificate: name.into(),
            state,
            state_since: None,
            ocsp_status: match ocsp_status {
                // Nothing reads as good that nobody could check by now.
                OcspStatus::Good if served.is_empty() && staple.is_none() => OcspStatus::None,
                known => known,
            },
            detail,
            trouble,
            troubles,
            care: leaf.care(),
            files: row.files(),
            subject: identity.subject.clone(),
            issuer: identity.issuer.clone(),
            issuer_source: leaf.issuer.as_ref().map(Issuer::source),
            serial_number: identity.serial_number.clone(),
            fingerprint: identity.fingerprint.clone(),
            responders: identity.responders.clone(),
            no_responder: identity.no_responder.clone(),
            must_staple: certificate.must_staple(),
            not_after: Some(certificate.not_after()),
            staple: staple.map(staple_status),
            kept: self.kept_status(leaf),
            loaded: row.loaded_at.iter().map(|peer| peer.presence(name, leaf)).collect(),
            served,
            expired,
            last_attempt_at: leaf.last_attempt_at,
            last_success_at: leaf.last_success_at,
            refresh_due_at: leaf.due.and_then(|due| due_at(due, now)),
            failures: leaf.progress.failures(),
        }
    }
}

/// What deserves a word about a HAProxy though everything works.
fn warnings(process: &Process) -> Vec<Trouble> {
    let mut warnings = Vec::new();
    if process.version.may_have_the_stapling_race() {
        warnings.push(Trouble {
            step: None,
            kind: "stapling_race",
            detail: format!(
                "HAProxy {} is older than the fix (July 2026, commit 26e74f140) of a race in which a handshake may read \
                 freed memory while a staple is replaced",
                process.version
            ),
            remedy: "Update to 2.6.32, 2.8.27, 3.0.26, 3.2.22, 3.3.13, 3.4.3 or later, or ask your distribution whether it \
                     has the fix; staples are only written when they differ, to keep the window small."
                .to_owned(),
        });
    }
    if process.processes > 1 {
        warnings.push(Trouble {
            step: None,
            kind: "several_processes",
            detail: format!(
                "HAProxy runs as {} processes (nbproc), and each has staples of its own",
                process.processes
            ),
            remedy: "Give each process its own stats socket and name them all in STAPLER_SOCKETS, or use threads."
                .to_owned(),
        });
    }
    warnings
}

/// A monotonic instant on the wall clock. Two readings of the clocks are never of the same instant: to the second, it is
/// the same in each snapshot.
fn due_at(due: Monotonic, now: Moment) -> Option<Timestamp> {
    later(now.wall, due.since(now.monotonic)).round(Unit::Second).ok()
}

fn unreadable(name: &str, row: &Row<'_>) -> CertificateStatus {
    let trouble = row.unreadable.map(troubles::file);
    CertificateStatus {
        certificate: name.into(),
        state: State::Unreadable,
        state_since: None,
        ocsp_status: OcspStatus::None,
        detail: trouble.as_ref().map(|trouble| trouble.detail.clone()).unwrap_or_default(),
        troubles: trouble.iter().cloned().collect(),
        trouble,
        care: Care::Nobody,
        files: row.files(),
        subject: Arc::default(),
        issuer: Arc::default(),
        issuer_source: None,
        serial_number: Arc::default(),
        fingerprint: Arc::default(),
        responders: Arc::default(),
        no_responder: None,
        must_staple: false,
        not_after: None,
        staple: None,
        kept: KeptStatus::default(),
        loaded: Vec::new(),
        served: Vec::new(),
        expired: Vec::new(),
        last_attempt_at: None,
        last_success_at: None,
        refresh_due_at: None,
        failures: 0,
    }
}

fn staple_status(staple: &Staple) -> StapleStatus {
    let response = staple.response();
    StapleStatus {
        this_update: staple.this_update(),
        next_update: staple.next_update(),
        produced_at: response.produced_at(),
        effective_end: staple.effective_end(),
        signer: response.signer().label(),
        responder_id: response.responder_id().to_string(),
    }
}
