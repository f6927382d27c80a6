//! Promises 1, 2, 3, 5 and 10, at the moment of each deed.

use std::sync::Arc;
use std::time::Duration;

use super::{Ours, Pair};
use crate::pool::LeafId;
use crate::scripted_haproxy::{Deed, Speaker, Version};
use crate::site::{Health, Which};
use crate::stage::Scene;

/// Promise 10: attempts for one certificate in a minute.
const BUDGET: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// What was held is remembered so long.
const MEMORY: Duration = Duration::from_secs(3 * 86_400);

impl Scene {
    /// Something was done in a HAProxy.
    pub(crate) fn judge_deed(&mut self, machine: usize, speaker: Speaker, deed: &Deed) {
        let at = self.at();
        match (speaker, deed) {
            (_, Deed::Wrote { name, before, after }) => {
                self.judge_write(machine, speaker, name, before.as_ref(), after)
            }
            (Speaker::Program, Deed::Opened { .. }) => {
                let version = self.machines[machine].haproxy.version();
                let journalled = version > Version::V2_2
                    && self.site.health(Which::State) == Health::Well
                    && self.disk.delay < Duration::from_secs(1);
                let life = self.life.number;
                self.oracle.machines[machine].ours = Some(Ours { since: at, life, journalled });
            }
            (Speaker::Program, Deed::Committed { name, owner } | Deed::Aborted { name, owner }) => {
                if *owner == Speaker::Stranger {
                    self.broke(format_args!("3: a stranger's transaction on {name} was ended"));
                }
                self.oracle.machines[machine].ours = None;
            }
            (Speaker::Program, Deed::Edited { name, owner: Speaker::Stranger }) => {
                // Between the answer that none is open and the first step, somebody may open one.
                if self.machines[machine].asked > self.machines[machine].opened {
                    self.broke(format_args!("3: a stranger's transaction on {name} was changed"));
                }
            }
            (Speaker::Program, Deed::Edited { .. }) | (Speaker::Stranger, _) => {}
        }
    }

    fn judge_write(
        &mut self,
        machine: usize,
        speaker: Speaker,
        name: &str,
        before: Option<&Arc<[u8]>>,
        after: &Arc<[u8]>,
    ) {
        let (at, wall) = (self.at(), self.wall());
        let Some(place) = self.place_of_path(name.as_ref()) else { return };
        let runs = self.runs(machine, place);
        let pair: &mut Pair = self.oracle.machines[machine].pairs.entry(place).or_default();
        if let Some(before) = before {
            pair.history.push_back((at, before.clone()));
        }
        while pair.history.front().is_some_and(|(then, _)| *then + MEMORY < at) {
            pair.history.pop_front();
        }
        if speaker == Speaker::Stranger {
            pair.meddled_at = Some(at);
            return;
        }
        let by_this_life = pair.given_by.replace(self.life.number) == Some(self.life.number);
        let meddled = pair.meddled_at.take().is_some();
        if meddled {
            pair.mended_at = Some(at);
        }
        let statement = self.authorities.statement(after).cloned();
        let Some(statement) = statement.filter(|one| Some(one.leaf) == runs) else {
            return self.broke(format_args!("1: haproxy {machine} was given what no CA said about {name}"));
        };
        if !statement.is_acceptable(wall) {
            return self.broke(format_args!("1: haproxy {machine} was given {statement:?} for {name} at {wall}"));
        }
        if statement.revoked && self.oracle.rules.withhold {
            return self.broke(format_args!("settings: a revocation is withheld, and haproxy {machine} was given one"));
        }
        let mute = !self.machines[machine].haproxy.version().lists_entries();
        // That this is another process is known at the next look.
        let seen = self.oracle.machines[machine].process_since + self.oracle.pace.look < at;
        if before == Some(after) && !mute && seen {
            return self.broke(format_args!("5: haproxy {machine} was given what it had for {name}"));
        }
        let held = before.and_then(|der| self.authorities.statement(der)).filter(|held| held.is_acceptable(wall));
        let worse = held.is_some_and(|held| Some(held.leaf) == runs && held.supersedes(&statement));
        // What a stranger, or a life that could not write it down, brought into a HAProxy that shows nothing cannot be known.
        if worse && !(mute && (meddled || !by_this_life)) {
            let held = held.cloned();
            self.broke(format_args!("2: haproxy {machine} was given worse for {name}: {statement:?} after {held:?}"));
        }
    }

    /// A CA is asked about a certificate.
    pub(crate) fn judge_request(&mut self, leaf: LeafId) {
        let at = self.at();
        let asked = &mut self.oracle.leaf(leaf).asked;
        asked.push_back(at);
        while asked.front().is_some_and(|first| *first + MINUTE <= at) {
            asked.pop_front();
        }
        if asked.len() > BUDGET {
            let count = asked.len();
            self.broke(format_args!("10: {count} requests about {leaf} in a minute"));
        }
    }
}
