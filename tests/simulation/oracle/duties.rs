//! What has to happen in time: promises 3, 4, 6 and 10, and that everything heals by itself.
//!
//! A duty is due when each of its causes has had its time: a process that started is found within two looks and has its
//! staples within two more, a transaction that ended is noticed at the next look at what is loaded, and so on. While
//! something stands in the way there is no duty.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::LeafView;
use crate::authority::{ALLOWANCE, Lie, Mood, Statement};
use crate::pool::{ELDER, HOSTS, ISSUERS, KINDS, LeafId, Shape, TWIN, place_of};
use crate::scripted_haproxy::Version;
use crate::site::Content;
use crate::stage::Scene;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Some commands to a HAProxy that answers.
const COMMANDS: Duration = seconds(4);
/// The longest pause before a CA is asked again while nothing is held, the fetch itself, and what the budget costs.
const RETRY: Duration = seconds(300 + 60);
/// The longest pause before a staple that HAProxy did not take is tried again.
const INSTALL_RETRY: Duration = seconds(60);

impl Scene {
    /// Whether a CA would give something better than what is held, and what the program has had time for.
    pub(super) fn look_at_leaf(&mut self, leaf: LeafId, at: Duration) {
        let (wall, useful) = (self.wall(), self.would_be_given(leaf));
        let complete = self.site.places.iter().flatten().filter(|place| place.leaf == leaf);
        let complete = complete.filter(|place| place.content == Content::Whole).map(|place| place.since).min();
        let alone = self.wish_of(leaf);
        let timeout = self.oracle.rules.timeout;
        let orphan = KINDS[place_of(leaf)].shape == Shape::Orphan;
        for host in KINDS[place_of(leaf)].hosts {
            let until = self.oracle.alone_until.entry(*host).or_default();
            *until = alone.map_or(*until, |wish| (*until).max(at + seconds(wish.min(3600))));
        }
        let view: &mut LeafView = self.oracle.leaf(leaf);
        view.complete_since = complete;
        if !useful {
            view.honest_since = None;
        } else if view.honest_since.is_none() {
            view.honest_since = Some(at);
            let left = view.held.as_ref().map(|held| held.effective_end().duration_since(wall));
            let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default();
            // A quarter of what is left of the staple may be waited for, and then a deadline.
            let in_time = left / 4 + timeout * 2 + seconds(30);
            let retry = RETRY + timeout * 2;
            view.patience = if in_time < left { in_time } else { left + retry };
            if orphan {
                view.patience += retry;
            }
        }
    }

    /// How long one of the hosts that could be asked about a certificate wants to be left alone, if it would say so now, be
    /// it when it is asked about another one.
    fn wish_of(&self, leaf: LeafId) -> Option<u64> {
        let hosts = KINDS[place_of(leaf)].hosts;
        let shares = |other: &LeafId| KINDS[place_of(*other)].hosts.iter().any(|host| hosts.contains(host));
        let about_others = self.authorities.about.iter().filter(|(other, _)| shares(other)).map(|(_, mood)| *mood);
        let moods = hosts.iter().map(|host| self.authorities.moods[index_of(host)]).chain(about_others);
        moods.filter_map(|mood| if let Mood::Later(wish) = mood { Some(wish) } else { None }).max()
    }

    /// Whether the program, if it asked now, would get something that it can use and does not have.
    fn would_be_given(&self, leaf: LeafId) -> bool {
        let kind = &KINDS[place_of(leaf)];
        let issuer_answers = matches!(self.authorities.moods[index_of(ISSUERS)], Mood::Honest | Mood::Slow(_));
        if kind.shape == Shape::Orphan && !issuer_answers {
            return false;
        }
        let mut answers = false;
        for host in kind.hosts {
            match self.authorities.mood(index_of(host), leaf) {
                Mood::Honest | Mood::PostOnly => answers = true,
                Mood::Slow(milliseconds)
                    if Duration::from_millis(milliseconds + 60) * 2 < self.oracle.rules.timeout / 2 =>
                {
                    answers = true;
                }
                // Old news are news: nobody else is asked then.
                Mood::Lies(Lie::Older) => return false,
                _ => continue,
            }
            break;
        }
        let (wall, now) = (self.wall(), self.true_time());
        let (this_update, end) = self.authorities.would_say(leaf, now);
        // A minute more than the program asks for.
        let acceptable = this_update <= wall + ALLOWANCE - SignedDuration::from_secs(5)
            && wall + SignedDuration::from_secs(65) < end;
        let view = self.oracle.leaves.get(&leaf);
        let held = view.and_then(|view| view.held.as_ref()).filter(|held| held.is_acceptable(wall));
        answers && acceptable && held.is_none_or(|held| held.effective_end() + SignedDuration::from_secs(65) < end)
    }

    /// What is overdue.
    pub(super) fn check_duties(&mut self, at: Duration) {
        let Some(life_since) = self.oracle.life_since else { return };
        for leaf in self.present() {
            self.check_fetch(leaf, life_since, at);
        }
        for machine in 0..self.machines.len() {
            for place in self.site.used() {
                self.check_served(machine, place, life_since, at);
            }
            self.check_transaction(machine, life_since, at);
        }
        for place in 0..KINDS.len() {
            self.check_kept(place, life_since, at);
        }
    }

    /// Promises 6 and 10: while a CA answers honestly, its staple is renewed before its end, whatever others do.
    fn check_fetch(&mut self, leaf: LeafId, life_since: Duration, at: Duration) {
        let pace = self.oracle.pace;
        let wall = self.wall();
        let Some(view) = self.oracle.leaves.get(&leaf) else { return };
        let (Some(honest_since), Some(complete_since)) = (view.honest_since, view.complete_since) else { return };
        if view.held.as_ref().is_some_and(|held| held.is_acceptable(wall)) {
            return;
        }
        let timeout = self.oracle.rules.timeout;
        let disk = self.disk.delay * 6;
        let hosts = KINDS[place_of(leaf)].hosts.iter();
        let alone_until = hosts.filter_map(|host| self.oracle.alone_until.get(host)).max().copied().unwrap_or_default();
        let due = [
            honest_since + view.patience,
            complete_since + pace.scan + pace.look * 2 + timeout * 2 + COMMANDS + disk,
            life_since + pace.look * 2 + timeout * 2 + COMMANDS + seconds(2) + disk,
            self.oracle.clock_since + pace.agenda() + RETRY + timeout * 2,
            alone_until + timeout * 2 + seconds(60),
        ];
        let due = due.into_iter().max().unwrap_or_default();
        if at <= due {
            return;
        }
        self.find_kept(leaf);
        let held = self.oracle.leaf(leaf).held.clone();
        if !held.as_ref().is_some_and(|held| held.is_acceptable(wall)) {
            self.broke(format_args!(
                "10: the CA has been honest about {leaf} since {honest_since:?}, and nothing is held at {wall} ({held:?}, due {due:?})"
            ));
        }
    }

    /// Promises 3 and 4: what is held is served.
    fn check_served(&mut self, machine: usize, place: usize, life_since: Duration, at: Duration) {
        let pace = self.oracle.pace;
        let (wall, name) = (self.wall(), self.name(place));
        let version = self.machines[machine].haproxy.version();
        let view = &self.oracle.machines[machine];
        let Some(pair) = view.pairs.get(&place) else { return };
        let (Some(leaf), Some(clear_since)) = (pair.leaf, view.clear_since) else { return };
        let Some(known) = self.oracle.leaves.get(&leaf) else { return };
        let margin = SignedDuration::from_secs(120);
        let fit = |held: &&Arc<Statement>| held.is_acceptable(wall) && held.is_acceptable(wall + margin);
        let Some(held) = known.held.as_ref().filter(fit) else { return };
        if self.oracle.rules.withhold && self.authorities.is_revoked(leaf) {
            return;
        }
        // Where stapling has to be switched on, somebody else's transaction is in the way.
        let twins = place == TWIN || place == ELDER;
        let needs_transaction = !self.machines[machine].haproxy.is_stapling(&name) || version == Version::V2_2 && twins;
        let free_since = match view.free_since {
            Some(since) => since,
            None if needs_transaction => return,
            None => Duration::ZERO,
        };
        let Some(lacks_since) = self.lacks(machine, place, held) else { return };
        // After a step of the clock its time may come only now.
        let in_force_since = at.saturating_sub(held.in_force_for(wall));
        let meddled = match (pair.meddled_at, version) {
            // What it does not show cannot be known to be wrong.
            (Some(_), Version::V2_2 | Version::V2_6) => return,
            (Some(at), _) => at + pace.refresh + pace.scan * 2 + pace.look * 2 + COMMANDS,
            (None, _) => Duration::ZERO,
        };
        let disk = self.disk.delay * 6;
        let found = known.complete_since.unwrap_or_default();
        let due = [
            meddled,
            life_since + pace.look * 2 + COMMANDS + seconds(10) + disk,
            view.process_since + pace.look * 4 + COMMANDS,
            if pair.leaf_since > view.process_since {
                pair.leaf_since + pace.scan + pace.look * 2 + COMMANDS
            } else {
                Duration::ZERO
            },
            clear_since + pace.look * 3 + pace.scan + INSTALL_RETRY + COMMANDS * 2,
            free_since + pace.scan + pace.look * 2 + COMMANDS * 2,
            known.held_since + pace.look * 2 + COMMANDS,
            found + pace.scan + pace.look * 2 + COMMANDS + disk,
            self.oracle.clock_since + pace.agenda() + pace.look * 2 + INSTALL_RETRY,
            in_force_since + pace.agenda() + pace.look * 2 + INSTALL_RETRY,
            lacks_since + COMMANDS,
        ];
        let due = due.into_iter().max().unwrap_or_default();
        if at > due {
            let held = held.clone();
            self.broke(format_args!(
                "4: haproxy {machine} ({version:?}) has not been given {held:?} for {name} since {lacks_since:?}, which was \
                 due at {due:?}"
            ));
        }
    }

    /// Since when nothing is served in a place, if so; the beginning of time if what is served is not as good as this.
    fn lacks(&self, machine: usize, place: usize, held: &Statement) -> Option<Duration> {
        let pair = self.oracle.machines[machine].pairs.get(&place)?;
        let served = pair.staple.as_ref().and_then(|(_, statement)| statement.as_ref());
        // What somebody brought there knows better, and only its time has not come.
        if served.is_some_and(|served| Some(served.leaf) == pair.leaf && served.this_update > held.this_update) {
            return None;
        }
        if pair.gap_since.is_some() {
            return pair.gap_since;
        }
        served.is_none_or(|served| held.supersedes(served)).then_some(Duration::ZERO)
    }

    /// Promise 3: no transaction of the program's stays open.
    fn check_transaction(&mut self, machine: usize, life_since: Duration, at: Duration) {
        let pace = self.oracle.pace;
        let view = &self.oracle.machines[machine];
        let (Some(ours), Some(clear_since)) = (view.ours, view.clear_since) else { return };
        if ours.life != self.life.number && !ours.journalled {
            return;
        }
        let clear = clear_since + pace.look * 3 + pace.scan + INSTALL_RETRY + COMMANDS * 2;
        let Some(quick_since) = self.oracle.quick_since else { return };
        let due = [
            ours.since + COMMANDS * 2 + self.disk.delay,
            quick_since + pace.scan + pace.look * 2 + COMMANDS * 2,
            clear,
            life_since + pace.look * 3 + COMMANDS * 2 + self.disk.delay * 3,
        ];
        let due = due.into_iter().max().unwrap_or_default();
        if at > due {
            self.broke(format_args!(
                "3: a transaction of life {} in haproxy {machine} has been open since {:?}",
                ours.life, ours.since
            ));
        }
    }
}

fn index_of(host: &str) -> usize {
    HOSTS.iter().position(|known| *known == host).unwrap()
}
