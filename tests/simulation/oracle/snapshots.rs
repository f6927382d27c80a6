//! What the program says of itself must be true: no default reads as good, nothing is `stapled` that is not served.

use std::time::Duration;

use haproxy_stapler::status::{CertificateStatus, OcspStatus, State, Status};
use jiff::SignedDuration;

use super::Pair;
use crate::authority::ALLOWANCE;
use crate::pool::{ELDER, KINDS, LeafId, TWIN};
use crate::scripted_haproxy::Version;
use crate::stage::Scene;

impl Scene {
    /// The program has published what it knows.
    pub(crate) fn judge_snapshot(&mut self, status: &Status) {
        let at = self.at();
        let states: Vec<&str> = status.certificates.iter().map(|one| one.state.label()).collect();
        let up: Vec<Option<bool>> = status.haproxy.iter().map(|one| one.up).collect();
        self.note(format_args!("snapshot: {} {up:?}, {} troubles", states.join(" "), status.troubles.len()));
        self.tick();
        for row in &status.certificates {
            let Some(place) = self.place_of_path(std::path::Path::new(&*row.certificate)) else {
                return self.broke(format_args!("states: a row for '{}', which nobody has", row.certificate));
            };
            self.judge_row(status, row, place, at);
        }
    }

    fn judge_row(&mut self, status: &Status, row: &CertificateStatus, place: usize, at: Duration) {
        let file = KINDS[place].file;
        let claims_service = matches!(row.state, State::Stapled | State::RefreshFailing);
        if claims_service && row.served.is_empty() {
            return self.broke(format_args!("states: {file} is {:?}, and nothing is said to be served", row.state));
        }
        if row.state == State::Stapled && row.ocsp_status != OcspStatus::Good {
            return self.broke(format_args!("states: {file} is stapled, and its status is {:?}", row.ocsp_status));
        }
        for (machine, haproxy) in status.haproxy.iter().enumerate() {
            let claimed = row.served.iter().find(|served| served.haproxy == haproxy.haproxy);
            // What does not answer is shown as it was last known, and as not answering.
            if haproxy.up != Some(true) {
                continue;
            }
            if let Some(claimed) = claimed {
                let times = (claimed.this_update, claimed.next_update);
                if !self.was_served(machine, place, times, at) {
                    let staple = self.machines[machine].haproxy.staple(&self.name(place));
                    let holds = staple.and_then(|der| self.authorities.statement(&der).cloned());
                    return self.broke(format_args!(
                        "states: {file} is said to be served by haproxy {machine} from {} until {}, and that holds {holds:?}",
                        claimed.this_update, claimed.next_update
                    ));
                }
            } else if claims_service
                && !haproxy.unmatched.iter().any(|name| **name == *row.certificate)
                && self.has_long_run(machine, place, at)
            {
                return self.broke(format_args!("states: {file} is {:?}, and haproxy {machine} has none", row.state));
            } else if row.state == State::Unstapled && status.haproxy.len() == 1 && self.has_long_served(place, at) {
                return self
                    .broke(format_args!("states: {file} is unstapled, and haproxy {machine} has long served it"));
            }
        }
        self.judge_status(row, place);
    }

    /// Whether a HAProxy serves a response with these times, or did so until a moment that the program need not know of.
    fn was_served(
        &self,
        machine: usize,
        place: usize,
        times: (jiff::Timestamp, jiff::Timestamp),
        at: Duration,
    ) -> bool {
        let pace = self.oracle.pace;
        let (wall, view) = (self.wall(), &self.oracle.machines[machine]);
        let Some(pair) = view.pairs.get(&place) else { return false };
        let is =
            |der: &[u8]| self.authorities.statement(der).is_some_and(|one| (one.this_update, one.next_update) == times);
        if self.machines[machine].haproxy.staple(&self.name(place)).is_some_and(|der| is(&der)) {
            return true;
        }
        let recent = |since: Duration, time: Duration| since + time + Duration::from_secs(20) >= at;
        // These do not let the program read what somebody else brought.
        let is_mute = self.machines[machine].haproxy.version() <= Version::V2_6;
        let excused = recent(view.process_since, pace.look * 2)
            || recent(pair.leaf_since, pace.scan + pace.look)
            || recent(self.oracle.clock_since, pace.agenda())
            || view.clear_since.is_none_or(|since| recent(since, pace.look * 2 + pace.scan))
            || pair.mended_at.is_some_and(|since| recent(since, pace.look))
            || pair.meddled_at.is_some_and(|since| is_mute || recent(since, pace.refresh + pace.scan * 2 + pace.look));
        // It ended, and nothing has happened since that would have been a reason to publish.
        let end = times.1 - ALLOWANCE;
        let ended = (end..=end + SignedDuration::try_from(pace.scan + pace.look).unwrap()).contains(&wall);
        // What is not to be replaced is not read back.
        let withheld = self.oracle.rules.withhold && pair.meddled_at.is_some();
        excused || ended || withheld || self.recently_held(pair, is, at)
    }

    fn recently_held(&self, pair: &Pair, is: impl Fn(&[u8]) -> bool, at: Duration) -> bool {
        let patience = self.oracle.pace.look + Duration::from_secs(20);
        pair.history.iter().any(|(until, der)| *until + patience >= at && is(der))
    }

    /// Whether HAProxy has had this certificate long enough for the program to have asked.
    fn has_long_run(&self, machine: usize, place: usize, at: Duration) -> bool {
        let pace = self.oracle.pace;
        let view = &self.oracle.machines[machine];
        let Some(pair) = view.pairs.get(&place).filter(|pair| pair.leaf.is_some()) else { return false };
        let since = view.process_since.max(pair.leaf_since).max(self.oracle.life_since.unwrap_or_default());
        let clear = view.clear_since.is_some_and(|clear| clear + pace.scan + pace.look * 3 < at);
        clear && since + pace.scan * 2 + pace.look * 2 + Duration::from_secs(20) < at
    }

    /// Whether HAProxy has served a good response all the while the program could have looked.
    fn has_long_served(&self, place: usize, at: Duration) -> bool {
        let pace = self.oracle.pace;
        let Some(pair) = self.oracle.machines[0].pairs.get(&place) else { return false };
        let served = pair.served_since.is_some_and(|since| since + pace.scan * 2 + pace.look * 2 < at);
        // HAProxy 2.2 does not say which of several names of one certificate is stapled.
        let cannot_know = self.machines[0].haproxy.version() == Version::V2_2 && [ELDER, TWIN].contains(&place);
        served && pair.meddled_at.is_none() && !cannot_know && self.has_long_run(0, place, at)
    }

    /// What the CA is said to say was said by it.
    fn judge_status(&mut self, row: &CertificateStatus, place: usize) {
        let file = KINDS[place].file;
        let leaf: Option<LeafId> = crate::pool::POOL.by_fingerprint.get(&*row.fingerprint).copied();
        let Some(leaf) = leaf else {
            if row.ocsp_status != OcspStatus::None || row.state == State::Stapled {
                self.broke(format_args!("states: {file} is {:?} and {:?}, unread", row.state, row.ocsp_status));
            }
            return;
        };
        match row.ocsp_status {
            OcspStatus::Revoked if !self.authorities.is_revoked(leaf) => {
                self.broke(format_args!("states: {file} is said to be revoked, and is not"));
            }
            OcspStatus::Good if self.oracle.leaf(leaf).held.as_ref().is_some_and(|held| held.revoked) => {
                self.broke(format_args!("states: {file} is said to be good, and the last word was that it is revoked"));
            }
            _ => {}
        }
        if let Some(staple) = &row.staple {
            let told = self.authorities.has_said(leaf, staple.this_update, staple.next_update);
            if !told {
                self.broke(format_args!("states: a staple for {file} that no CA made"));
            }
        }
    }
}
