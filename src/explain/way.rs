//! The steps of one certificate's way, each by what the snapshot says of it.

use super::{Finding, Outcome};
use crate::certificate::IssuerSource;
use crate::status::{
    Care, CertificateStatus, HandshakeStatus, HaproxyStatus, OcspStatus, ProbeStatus, Sight, State, Status, Step,
    Trouble,
};

/// One certificate's way.
pub(super) struct Way<'a> {
    pub(super) certificate: &'a CertificateStatus,
    pub(super) status: &'a Status,
}

impl Way<'_> {
    /// Whether nothing can come after it. A refresh that fails does not end the way: what was fetched before goes on.
    pub(super) fn ends_with(&self, finding: &Finding) -> bool {
        let failed = finding.outcome == Outcome::Failed;
        match finding.step {
            // A file that went bad says nothing about what HAProxy runs.
            Step::File => failed && self.certificate.state == State::Unreadable,
            Step::Parsed => failed || self.certificate.care == Care::Nobody,
            Step::Issuer => finding.outcome != Outcome::Done && self.certificate.care == Care::Stapler,
            Step::Responder => finding.outcome != Outcome::Done && self.certificate.care == Care::Stapler,
            Step::Fetched | Step::Verified | Step::Kept | Step::Installed | Step::ReadBack | Step::Handshake => false,
            Step::Entry => finding.outcome == Outcome::Skipped,
        }
    }

    /// What is known to be wrong at a step.
    pub(super) fn trouble(&self, step: Step) -> Option<Finding> {
        let troubles: Vec<&Trouble> =
            self.certificate.troubles.iter().filter(|trouble| trouble.step == Some(step)).collect();
        let first = troubles.first()?;
        let mut evidence = troubles.iter().map(|trouble| trouble.detail.as_str()).collect::<Vec<_>>().join("; ");
        match step {
            Step::Fetched if self.certificate.care == Care::Stapler => evidence.push_str(&self.attempts()),
            Step::Verified => evidence.push_str(&self.still_held()),
            _ => {}
        }
        Some(Finding::failed(step, first.kind, evidence, &first.remedy))
    }

    pub(super) fn finding(&self, step: Step) -> Finding {
        match step {
            Step::File => self.file(),
            Step::Parsed => self.parsed(),
            Step::Issuer => self.issuer(),
            Step::Responder => self.responder(),
            Step::Fetched => self.fetched(),
            Step::Verified => self.verified(),
            Step::Kept => self.kept(),
            Step::Entry => self.entry(),
            Step::Installed => self.installed(),
            Step::ReadBack => self.read_back(),
            Step::Handshake => self.handshake(),
        }
    }

    fn file(&self) -> Finding {
        if self.certificate.files.is_empty() {
            let (evidence, remedy) =
                ("no file holds it any more, HAProxy still runs it", "put the file back, or reload HAProxy");
            return Finding::failed(Step::File, "file_gone", evidence, remedy);
        }
        Finding::new(Step::File, Outcome::Done, self.certificate.files.join(", "))
    }

    fn parsed(&self) -> Finding {
        let Some(not_after) = self.certificate.not_after else {
            return Finding::new(Step::Parsed, Outcome::NotReached, "");
        };
        let evidence = format!(
            "{}, serial number {}, ends at {not_after}{}",
            self.certificate.subject,
            self.certificate.serial_number,
            if self.certificate.must_staple { ", must be stapled (RFC 7633)" } else { "" }
        );
        if self.certificate.state == State::Expired {
            return Finding::failed(
                Step::Parsed,
                "expired",
                format!("{evidence}: it is over"),
                "renew the certificate",
            );
        }
        let excluded = self.certificate.care == Care::Nobody;
        let aside = if excluded { "; left out by STAPLER_INCLUDE or STAPLER_EXCLUDE" } else { "" };
        Finding::new(Step::Parsed, Outcome::Done, format!("{evidence}{aside}"))
    }

    fn issuer(&self) -> Finding {
        let place = match self.certificate.issuer_source {
            Some(IssuerSource::Chain) => "in the PEM file",
            Some(IssuerSource::IssuerFile) => "in the .issuer file",
            Some(IssuerSource::OtherFile) => "in another file under STAPLER_CERTS",
            Some(IssuerSource::AuthorityInfoAccess) => "downloaded from where the certificate says",
            None => return Finding::new(Step::Issuer, Outcome::Waiting, "it is being looked for"),
        };
        Finding::new(Step::Issuer, Outcome::Done, format!("{}, {place}", self.certificate.issuer))
    }

    fn responder(&self) -> Finding {
        match &self.certificate.no_responder {
            Some(reason) => Finding::new(Step::Responder, Outcome::Skipped, reason.to_string()),
            None => Finding::new(Step::Responder, Outcome::Done, self.certificate.responders.join(", ")),
        }
    }

    fn fetched(&self) -> Finding {
        let certificate = self.certificate;
        let again = certificate.refresh_due_at.map(|due| format!("; asked again at {due:.0}")).unwrap_or_default();
        let is_refused = certificate.troubles.iter().any(|trouble| trouble.step == Some(Step::Verified));
        let (outcome, evidence) = match (certificate.care, certificate.last_success_at, certificate.last_attempt_at) {
            (Care::Haproxy, ..) => (Outcome::Done, "HAProxy's own ocsp-update takes care of it".to_owned()),
            (_, _, Some(at)) if is_refused => (Outcome::Done, format!("an answer came at {at:.0}{again}")),
            (_, Some(at), _) => (Outcome::Done, format!("a valid answer came at {at:.0}{again}")),
            (_, None, _) if certificate.staple.is_some() => (
                Outcome::Done,
                format!("not asked now: a staple is at hand that an earlier run or HAProxy kept{again}"),
            ),
            (_, None, _) => (Outcome::Waiting, format!("the CA has not answered yet{again}")),
        };
        Finding::new(Step::Fetched, outcome, evidence)
    }

    fn verified(&self) -> Finding {
        let certificate = self.certificate;
        match (&certificate.staple, certificate.ocsp_status) {
            (_, OcspStatus::Revoked) => {
                let evidence = "the answer is genuine, and the CA says in it that the certificate is revoked";
                Finding::failed(Step::Verified, "revoked", evidence, "replace the certificate")
            }
            (Some(staple), _) => {
                let evidence = format!(
                    "good from {} until {}, signed by {} ({}); HAProxy serves it until {}",
                    staple.this_update,
                    staple.next_update,
                    staple.responder_id,
                    match staple.signer {
                        "issuer" => "the issuer itself",
                        _ => "a responder that the issuer appointed",
                    },
                    staple.effective_end
                );
                Finding::new(Step::Verified, Outcome::Done, evidence)
            }
            (None, _) if certificate.care == Care::Haproxy => match certificate.served.first() {
                Some(served) => {
                    let evidence = format!(
                        "HAProxy says that it holds one until {}, and does not show it: it cannot be judged here",
                        served.next_update
                    );
                    Finding::new(Step::Verified, Outcome::Skipped, evidence)
                }
                None => Finding::new(Step::Verified, Outcome::Waiting, "HAProxy has no response yet"),
            },
            (None, _) => match certificate.last_success_at {
                Some(at) => {
                    let remedy =
                        "the CA is asked again by itself; look at the clock of this host, and at when the CA signs";
                    let evidence = format!("the staple that came at {at:.0} is over");
                    Finding::failed(Step::Verified, "staple_expired", evidence, remedy)
                }
                None => Finding::new(Step::Verified, Outcome::NotReached, ""),
            },
        }
    }

    fn kept(&self) -> Finding {
        let kept = &self.certificate.kept;
        if self.certificate.care == Care::Haproxy {
            return Finding::new(Step::Kept, Outcome::Skipped, "HAProxy keeps its own responses in memory only");
        }
        if self.certificate.staple.is_none() {
            return Finding::new(Step::Kept, Outcome::NotReached, "");
        }
        let files: Vec<&str> = kept.ocsp_files.iter().map(String::as_str).collect();
        let state = kept.in_state_directory.then_some("the state directory");
        let places = state.into_iter().chain(files).collect::<Vec<_>>().join(", ");
        let aside = kept.no_ocsp_file.map(|reason| format!("; no .ocsp file: {reason}")).unwrap_or_default();
        if places.is_empty() {
            return Finding::new(Step::Kept, Outcome::Waiting, format!("not written yet{aside}"));
        }
        Finding::new(Step::Kept, Outcome::Done, format!("in {places}{aside}"))
    }

    fn entry(&self) -> Finding {
        let loaded = &self.certificate.loaded;
        if let Some(finding) = self.silent() {
            return finding;
        }
        if loaded.is_empty() {
            return match (self.status.haproxy.is_empty(), self.certificate.state) {
                (true, _) => Finding::new(Step::Entry, Outcome::Skipped, "no HAProxy is asked"),
                (false, State::NotLoaded) => {
                    let remedy =
                        "if clients should see it, name it on a bind line or in a crt-list, and reload HAProxy";
                    Finding::new(Step::Entry, Outcome::Skipped, &*self.certificate.detail).with_remedy(remedy)
                }
                (false, _) => {
                    Finding::new(Step::Entry, Outcome::Waiting, "HAProxy has not said yet what it has loaded")
                }
            };
        }
        let of = |entry| list(loaded.iter().filter(|each| each.entry == entry).map(|each| &*each.haproxy));
        match (of(Some(false)), of(None), of(Some(true))) {
            (Some(without), ..) => {
                let evidence =
                    format!("loaded by {without}, which has no place for its staple; the next step makes one");
                Finding::new(Step::Entry, Outcome::Waiting, evidence)
            }
            (None, Some(mute), _) => {
                let evidence = format!("loaded by {mute}, which does not say whether it has a place for its staple");
                Finding::new(Step::Entry, Outcome::Done, evidence)
            }
            (None, None, with) => {
                let with = with.unwrap_or_default();
                Finding::new(Step::Entry, Outcome::Done, format!("loaded by {with}, with a place for its staple"))
            }
        }
    }

    /// The HAProxy that cannot be asked and may have it, if there is one.
    fn silent(&self) -> Option<Finding> {
        let loaded = &self.certificate.loaded;
        let concerned = |haproxy: &&HaproxyStatus| {
            loaded.is_empty() && self.certificate.state != State::NotLoaded
                || loaded.iter().any(|presence| presence.haproxy == haproxy.haproxy)
        };
        let troubled = |haproxy: &HaproxyStatus| Some((haproxy.haproxy.clone(), haproxy.trouble.clone()?));
        let (haproxy, trouble) = self.status.haproxy.iter().filter(concerned).find_map(troubled)?;
        let known = if loaded.is_empty() { "" } else { "; it had loaded it when it last answered" };
        let evidence = format!("{haproxy}: {}{known}", trouble.detail);
        Some(Finding::failed(Step::Entry, trouble.kind, evidence, &trouble.remedy))
    }

    fn installed(&self) -> Finding {
        let certificate = self.certificate;
        let served: Vec<String> = certificate
            .served
            .iter()
            .map(|served| format!("{} until {}", served.haproxy, served.next_update))
            .collect();
        let lacking = certificate
            .loaded
            .iter()
            .filter(|presence| !certificate.served.iter().any(|served| served.haproxy == presence.haproxy));
        match list(lacking.clone().map(|presence| &*presence.haproxy)) {
            None if served.is_empty() => Finding::new(Step::Installed, Outcome::NotReached, ""),
            None => Finding::new(Step::Installed, Outcome::Done, format!("served by {}", served.join(", "))),
            Some(without) if certificate.staple.is_some() && certificate.care == Care::Stapler => {
                if certificate.ocsp_status == OcspStatus::Revoked && !lacking.clone().any(|presence| presence.pending) {
                    let evidence = "the CA's answer is withheld, as STAPLER_ON_REVOKED has it";
                    return Finding::new(Step::Installed, Outcome::Skipped, evidence);
                }
                Finding::new(Step::Installed, Outcome::Waiting, format!("{without} is to be given it"))
            }
            Some(without) => Finding::new(Step::Installed, Outcome::NotReached, format!("{without} serves none")),
        }
    }

    fn read_back(&self) -> Finding {
        let served = &self.certificate.served;
        if served.is_empty() {
            return Finding::new(Step::ReadBack, Outcome::NotReached, "");
        }
        let is_mute = |haproxy: &&HaproxyStatus| {
            haproxy.reads_back == Some(false) && served.iter().any(|served| served.haproxy == haproxy.haproxy)
        };
        match self.status.haproxy.iter().find(is_mute) {
            Some(haproxy) => {
                let version = haproxy.version.as_deref().unwrap_or_default();
                let evidence = format!(
                    "{} (HAProxy {version}) does not show what it holds; it said that it took it",
                    haproxy.haproxy
                );
                Finding::new(Step::ReadBack, Outcome::Skipped, evidence)
            }
            None => {
                let oldest = served.iter().map(|served| served.this_update).min();
                let evidence = oldest.map(|at| format!("HAProxy holds it, from {at}")).unwrap_or_default();
                Finding::new(Step::ReadBack, Outcome::Done, evidence)
            }
        }
    }

    fn handshake(&self) -> Finding {
        let shown = self.status.probes.iter().flat_map(|probe| probe.handshakes.iter().map(move |each| (probe, each)));
        let own = shown.filter(|(_, each)| each.fingerprint.as_deref() == Some(&*self.certificate.fingerprint));
        let own: Vec<(&ProbeStatus, &HandshakeStatus)> = own.collect();
        let Some((probe, worst)) = own.iter().min_by_key(|(_, handshake)| handshake.sight) else {
            let labels: Vec<String> = self.status.probes.iter().map(ProbeStatus::label).collect();
            let evidence = match list(labels.iter().map(String::as_str)) {
                None => "nobody looks: STAPLER_PROBES names no frontend".to_owned(),
                Some(labels) => format!("no handshake showed it; looked at {labels}"),
            };
            return Finding::new(Step::Handshake, Outcome::Skipped, evidence);
        };
        let how = format!("{} with {} keys at {}", worst.protocol, worst.key_type, probe.label());
        let evidence = format!("{how}: {}", worst.detail);
        match worst.troubles.first().filter(|_| worst.sight != Sight::Good) {
            Some(trouble) => Finding::failed(Step::Handshake, trouble.kind, evidence, &trouble.remedy),
            None => Finding::new(Step::Handshake, Outcome::Done, evidence),
        }
    }

    /// What was tried so far.
    fn attempts(&self) -> String {
        let certificate = self.certificate;
        let tried = certificate.last_attempt_at.map(|at| format!("; last tried at {at:.0}")).unwrap_or_default();
        let times =
            if certificate.failures > 1 { format!(", {} times in a row", certificate.failures) } else { String::new() };
        let again = certificate.refresh_due_at.map(|due| format!(", again at {due:.0}")).unwrap_or_default();
        format!("{tried}{times}{again}")
    }

    /// What is held all the same.
    fn still_held(&self) -> String {
        let held = self.certificate.staple.as_ref();
        held.map(|staple| format!("; the staple held before is good until {}", staple.next_update)).unwrap_or_default()
    }
}

/// Names in a sentence; none if there are none.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then(|| names.join(", "))
}
