//! From the [`World`] to the snapshot that everybody reads.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::native::{Verdict, ocsp_status};
use super::peer::Peer;
use super::world::{HandsOff, Leaf, World};
use crate::certificate::Fingerprint;
use crate::clock::{Moment, later};
use crate::discovery::FileError;
use crate::haproxy::Process;
use crate::ocsp::Staple;
use crate::settings::OnRevoked;
use crate::status::{CertificateStatus, HaproxyStatus, OcspStatus, ServedStatus, StapleStatus, State, Status, Trouble};
use crate::uri;

/// Everything known under one name.
#[derive(Default)]
struct Row<'a> {
    leaf: Option<&'a Leaf>,
    loaded_at: Vec<&'a Peer>,
    /// HAProxy has it, and no frontend serves it.
    idle: bool,
    unreadable: Option<&'a FileError>,
    /// The file of this name holds another certificate than HAProxy runs, or cannot be read any more.
    note: Option<String>,
    files: Vec<String>,
}

impl World {
    /// The snapshot.
    pub(super) fn status(&self, now: Moment) -> Status {
        let rows = self.rows();
        let unread: BTreeSet<&String> =
            rows.iter().filter(|(_, row)| row.unreadable.is_some()).map(|(name, _)| name).collect();
        let haproxy = self.peers.iter().map(|peer| self.haproxy_status(peer, &unread, now.wall)).collect();
        let certificates = rows.iter().map(|(name, row)| self.certificate_status(name, row, now)).collect();
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
            troubles,
        }
    }

    /// One row a name. A name is HAProxy's; a file that no HAProxy has loaded goes by the name it would have there.
    fn rows(&self) -> BTreeMap<String, Row<'_>> {
        let mut rows: BTreeMap<String, Row<'_>> = BTreeMap::new();
        let mut loaded: BTreeSet<Fingerprint> = BTreeSet::new();
        for peer in &self.peers {
            for certificate in peer.loaded.values() {
                let leaf = certificate.fingerprint.and_then(|fingerprint| self.leaves.get(&fingerprint));
                let Some(leaf) = leaf else { continue };
                loaded.insert(leaf.certificate.fingerprint());
                let row = rows.entry(certificate.name.clone()).or_default();
                // Two HAProxies may run two certificates under one name while a rotation spreads: the one that is also
                // on disk is the one that stays.
                if row.leaf.is_none_or(|known| known.files.is_empty()) {
                    row.leaf = Some(leaf);
                }
                if peer.is_served(&certificate.name) {
                    row.loaded_at.push(peer);
                } else {
                    row.idle = true;
                }
                row.files = leaf.files.keys().map(|path| path.display().to_string()).collect();
            }
        }
        for (path, content) in &self.files {
            let name = self.settings.path_map.to_haproxy(path);
            match content {
                Ok(content) => {
                    let fingerprint = content.bundle.leaf.fingerprint();
                    // A CA's certificate beside those it issued is there to be found as an issuer.
                    let only_an_issuer =
                        content.bundle.leaf.is_ca() && content.bundle.leaf.ocsp_responders().is_empty();
                    if loaded.contains(&fingerprint) || only_an_issuer {
                        continue;
                    }
                    let row = rows.entry(name).or_default();
                    if row.loaded_at.is_empty() {
                        row.leaf = self.leaves.get(&fingerprint);
                        row.files.push(path.display().to_string());
                    } else {
                        row.note = Some(format!(
                            "the file holds another certificate (serial number {}) than HAProxy runs: reload HAProxy",
                            content.bundle.leaf.serial_number()
                        ));
                    }
                }
                Err(error) => {
                    let row = rows.entry(name).or_default();
                    if row.loaded_at.is_empty() {
                        row.unreadable = Some(error);
                        row.files.push(path.display().to_string());
                    } else {
                        row.note = Some(format!("its file cannot be read any more: {error}"));
                    }
                }
            }
        }
        rows
    }

    fn haproxy_status(&self, peer: &Peer, unread: &BTreeSet<&String>, now: Timestamp) -> HaproxyStatus {
        let unmatched = peer
            .loaded
            .values()
            .filter(|loaded| peer.is_served(&loaded.name))
            .filter(|loaded| loaded.fingerprint.is_none_or(|each| !self.leaves.contains_key(&each)))
            .filter(|loaded| !unread.contains(&loaded.name))
            .map(|loaded| loaded.name.clone())
            .collect();
        let served = peer.served.values().filter(|served| served.status("", now).is_some()).count();
        HaproxyStatus {
            haproxy: peer.label(),
            up: peer.up,
            version: peer.process.as_ref().map(|process| process.version.to_string()),
            pid: peer.process.as_ref().map(|process| process.pid),
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
        let fingerprint = leaf.certificate.fingerprint();
        let served: Vec<ServedStatus> = row.loaded_at.iter().filter_map(|peer| peer.serves(name, now.wall)).collect();
        // The worst that any HAProxy makes of updating it by itself.
        let verdict =
            row.loaded_at.iter().filter_map(|peer| peer.verdict(name, now.wall)).min_by_key(|each| each.state);
        let (state, mut detail) = self.judge(name, leaf, row, &served, verdict.as_ref(), now);
        if let Some(peer) = row.loaded_at.iter().find(|peer| peer.up == Some(false)) {
            detail = format!("{detail}; that is the last known, {} does not answer", peer.label());
        }
        if let Some(note) = &row.note {
            detail = format!("{detail}; {note}");
        }
        let refused = row.loaded_at.iter().find_map(|peer| peer.refused.get(name));
        let ours = || refused.map(|refused| &refused.trouble).or(leaf.trouble.as_ref()).cloned();
        let theirs = verdict.and_then(|verdict| verdict.trouble);
        let (ocsp_status, staple, trouble) = match leaf.hands_off {
            Some(HandsOff::NativeUpdate) => {
                let natives = row.loaded_at.iter().filter_map(|peer| peer.native.get(name));
                let staple = natives.filter_map(|native| native.staple(now.wall)).min_by_key(|each| each.this_update());
                (ocsp_status(staple), staple, theirs)
            }
            _ => {
                let staple = leaf.staple.as_ref().filter(|staple| staple.is_serving(now.wall));
                (leaf.ocsp_status, staple, theirs.or_else(ours))
            }
        };
        let certificate = &leaf.certificate;
        CertificateStatus {
            certificate: name.to_owned(),
            state,
            ocsp_status: match ocsp_status {
                // Nothing reads as good that nobody could check by now.
                OcspStatus::Good if served.is_empty() && staple.is_none() => OcspStatus::None,
                known => known,
            },
            detail,
            trouble,
            files: row.files.clone(),
            subject: certificate.subject().to_owned(),
            issuer: certificate.issuer().to_owned(),
            serial_number: certificate.serial_number().to_string(),
            fingerprint: fingerprint.to_string(),
            responders: leaf.responders.clone(),
            must_staple: certificate.must_staple(),
            not_after: Some(certificate.not_after()),
            staple: staple.map(staple_status),
            served,
            last_attempt_at: leaf.last_attempt_at,
            last_success_at: leaf.last_success_at,
            refresh_due_at: leaf.due.map(|due| later(now.wall, due.since(now.monotonic))),
            failures: leaf.progress.failures(),
        }
    }

    /// The state of a certificate and a sentence about it.
    fn judge(
        &self,
        name: &str,
        leaf: &Leaf,
        row: &Row<'_>,
        served: &[ServedStatus],
        native: Option<&Verdict>,
        now: Moment,
    ) -> (State, String) {
        let why = || leaf.trouble.as_ref().map(|trouble| trouble.detail.clone());
        if leaf.hands_off == Some(HandsOff::Excluded) {
            return (State::Excluded, "left out by STAPLER_INCLUDE or STAPLER_EXCLUDE".to_owned());
        }
        if leaf.certificate.not_after() < now.wall {
            let ended = leaf.certificate.not_after();
            return (State::Expired, format!("the certificate itself ended at {ended}: renew it"));
        }
        // Where only some HAProxies update it by themselves, theirs is told only if it is worse than ours.
        let all = leaf.hands_off == Some(HandsOff::NativeUpdate);
        if let Some(verdict) = native.filter(|verdict| all || verdict.state.is_trouble()) {
            return (verdict.state, verdict.detail.clone());
        }
        if row.loaded_at.is_empty() && self.peers.iter().any(|peer| peer.surveyed) {
            let text = if row.idle {
                "HAProxy has it, but no frontend serves it: a server's certificate, or one that nothing uses"
            } else {
                "on disk, but no HAProxy has loaded it"
            };
            return (State::NotLoaded, text.to_owned());
        }
        if leaf.responders.is_empty() {
            let named = leaf.certificate.ocsp_responders();
            let text = match (named.first(), named.iter().any(|url| uri::is_http(url))) {
                (None, _) => "it names no OCSP responder: there is nothing to staple".to_owned(),
                (Some(_), true) => "its OCSP responder is switched off by STAPLER_RESPONDERS".to_owned(),
                (Some(url), false) => format!("it names no OCSP responder that can be asked over HTTP, only '{url}'"),
            };
            return (State::NoResponder, text);
        }
        if leaf.issuer.is_none() {
            return self.judge_orphan(leaf, why());
        }
        let everywhere = !row.loaded_at.is_empty() && served.len() == row.loaded_at.len();
        match leaf.ocsp_status {
            OcspStatus::Revoked => {
                let stapled = everywhere && leaf.staple.as_ref().is_some_and(Staple::is_revoked);
                let text = match (self.settings.on_revoked, stapled) {
                    (OnRevoked::Withhold, _) => "the CA says it is revoked; as set, that answer is not stapled",
                    (OnRevoked::Staple, true) => "the CA says it is revoked, and that answer is stapled: replace it",
                    (OnRevoked::Staple, false) => "the CA says it is revoked: replace it",
                };
                return (State::Revoked, text.to_owned());
            }
            OcspStatus::Unknown => {
                let kept = if everywhere { "; the last good staple is still served" } else { "" };
                return (State::Unknown, format!("the CA says that it does not know this certificate{kept}"));
            }
            OcspStatus::Good | OcspStatus::None => {}
        }
        if everywhere {
            let until = served.iter().map(|served| served.next_update).min().unwrap_or(now.wall);
            let refused = row.loaded_at.iter().find_map(|peer| Some((peer, peer.refused.get(name)?)));
            let why = match refused {
                Some((peer, refused)) => {
                    Some(format!("{} did not take the next staple: {}", peer.label(), refused.trouble.detail))
                }
                None => why().filter(|_| leaf.progress.failures() > 0),
            };
            return match why {
                Some(why) => (State::RefreshFailing, format!("served until {until}, but refreshes fail: {why}")),
                None => (State::Stapled, format!("good until {until}")),
            };
        }
        self.judge_unserved(name, leaf, row, why(), now)
    }

    fn judge_orphan(&self, leaf: &Leaf, why: Option<String>) -> (State, String) {
        let findable = leaf.certificate.ca_issuers().iter().any(|url| uri::is_http(url));
        if !leaf.restored || (findable && leaf.issuer_progress.is_untried()) {
            return (State::Pending, "its issuer is being looked for".to_owned());
        }
        let missing = "its issuer is neither in the PEM file nor in a .issuer file";
        let why = why.unwrap_or_else(|| format!("{missing}, and the certificate names no URL for it"));
        (State::NoIssuer, why)
    }

    fn judge_unserved(
        &self,
        name: &str,
        leaf: &Leaf,
        row: &Row<'_>,
        why: Option<String>,
        now: Moment,
    ) -> (State, String) {
        let silent: Vec<String> = self.peers.iter().filter(|peer| peer.up == Some(false)).map(Peer::label).collect();
        if leaf.serving(now.wall).is_none() {
            return match why {
                Some(why) => (State::Unstapled, why),
                None if leaf.staple.is_some() => (State::Unstapled, "the last staple has expired".to_owned()),
                None => (State::Pending, "the CA is being asked".to_owned()),
            };
        }
        let refused = row.loaded_at.iter().find_map(|peer| Some((peer, peer.refused.get(name)?)));
        if let Some((peer, refused)) = refused {
            return (State::Unstapled, format!("{} did not take the staple: {}", peer.label(), refused.trouble.detail));
        }
        // Another HAProxy's silence is not to blame while this one is on its way.
        let on_its_way = row.loaded_at.iter().any(|peer| peer.up == Some(true) && peer.pending.contains(name));
        if on_its_way || self.awaits_haproxy() {
            return (State::Pending, "a verified staple is held and waits for HAProxy".to_owned());
        }
        if let Some(trouble) = self.peers.iter().find_map(|peer| peer.trouble.as_ref().filter(|_| !peer.surveyed)) {
            return (State::Unstapled, format!("a verified staple is held, but {}", trouble.detail));
        }
        if !silent.is_empty() {
            let who = silent.join(", ");
            return (State::Unstapled, format!("a verified staple is held, but {who} does not answer"));
        }
        (State::Pending, "a verified staple is held and waits for HAProxy".to_owned())
    }
}

/// What deserves a word about a HAProxy though everything works.
fn warnings(process: &Process) -> Vec<Trouble> {
    let mut warnings = Vec::new();
    if process.version.may_have_the_stapling_race() {
        warnings.push(Trouble {
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

fn unreadable(name: &str, row: &Row<'_>) -> CertificateStatus {
    let trouble = row.unreadable.map(|error| Trouble {
        kind: error.kind(),
        detail: error.to_string(),
        remedy: "it is read again as soon as it changes".to_owned(),
    });
    CertificateStatus {
        certificate: name.to_owned(),
        state: State::Unreadable,
        ocsp_status: OcspStatus::None,
        detail: trouble.as_ref().map(|trouble| trouble.detail.clone()).unwrap_or_default(),
        trouble,
        files: row.files.clone(),
        subject: String::new(),
        issuer: String::new(),
        serial_number: String::new(),
        fingerprint: String::new(),
        responders: Vec::new(),
        must_staple: false,
        not_after: None,
        staple: None,
        served: Vec::new(),
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
