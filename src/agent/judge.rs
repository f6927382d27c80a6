//! The state of each certificate, and a sentence about it. No IO.

use super::native::Verdict;
use super::rows::Row;
use super::troubles;
use super::world::{HandsOff, Leaf, World};
use crate::clock::Moment;
use crate::ocsp::Staple;
use crate::settings::OnRevoked;
use crate::status::{OcspStatus, ServedStatus, State, Trouble};

impl World {
    /// The state of a certificate and a sentence about it.
    pub(super) fn judge(
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
            return (State::Expired, format!("the certificate itself ended at {ended}"));
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
        if let Some(reason) = &leaf.identity.no_responder {
            return (State::NoResponder, reason.to_string());
        }
        if leaf.issuer.is_none() {
            return match leaf.orphaned() {
                Some(trouble) => (State::NoIssuer, trouble.detail),
                None => (State::Pending, "its issuer is being looked for".to_owned()),
            };
        }
        let everywhere = !row.loaded_at.is_empty() && served.len() == row.loaded_at.len();
        match leaf.ocsp_status {
            OcspStatus::Revoked => {
                let stapled = everywhere && leaf.staple.as_ref().is_some_and(Staple::is_revoked);
                let text = match (self.settings.on_revoked, stapled) {
                    (OnRevoked::Withhold, _) => "the CA says it is revoked; as set, that answer is not stapled",
                    (OnRevoked::Staple, true) => "the CA says it is revoked, and that answer is stapled",
                    (OnRevoked::Staple, false) => "the CA says it is revoked",
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

    fn judge_unserved(
        &self,
        name: &str,
        leaf: &Leaf,
        row: &Row<'_>,
        why: Option<String>,
        now: Moment,
    ) -> (State, String) {
        let silent: Vec<&str> =
            self.peers.iter().filter(|peer| peer.up == Some(false)).map(|peer| &**peer.label()).collect();
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

impl Leaf {
    /// What a state says by itself is wrong, whatever else is.
    pub(super) fn trouble_of(&self, state: State) -> Option<Trouble> {
        match state {
            State::Revoked => Some(troubles::revoked()),
            State::Expired => Some(troubles::expired(&self.certificate)),
            State::NoIssuer => self.orphaned(),
            _ => None,
        }
    }

    /// Why its issuer is not known, unless it is still being looked for.
    pub(super) fn orphaned(&self) -> Option<Trouble> {
        if self.issuer.is_some() || !self.restored || (self.names_its_issuer() && self.issuer_progress.is_untried()) {
            return None;
        }
        Some(self.trouble.clone().unwrap_or_else(troubles::no_issuer))
    }
}
