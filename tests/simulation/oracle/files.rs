//! Promises 1, 2 and 7: what is in the files that HAProxy would load at its next start.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::Statement;
use crate::pool::{KINDS, LeafId, Shape};
use crate::site::Content;
use crate::stage::Scene;

impl Scene {
    /// The program has been at the disk: what has become of the `.ocsp` files?
    pub(crate) fn judge_files(&mut self) {
        for place in self.site.used() {
            if self.has_changed(place) {
                self.judge_file(place);
            }
        }
    }

    /// Somebody else has been there: what is there now is none of the program's making.
    pub(crate) fn meddled_with_file(&mut self, place: usize) {
        let at = self.at();
        if self.has_changed(place) {
            let content = fs::read(self.site.ocsp(place)).ok();
            let view = self.oracle.files.entry(place).or_default();
            view.content = content;
            view.meddled_at = Some(at);
        }
    }

    /// Whether what is there is still what somebody else put there.
    pub(crate) fn is_file_meddled_with(&self, place: usize) -> bool {
        self.oracle.files.get(&place).is_some_and(|view| view.meddled_at.is_some())
    }

    fn has_changed(&mut self, place: usize) -> bool {
        let stamp = fs::metadata(self.site.ocsp(place)).ok();
        let stamp = stamp.map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.size()));
        let view = self.oracle.files.entry(place).or_default();
        let changed = view.stamp != stamp;
        view.stamp = stamp;
        changed
    }

    fn judge_file(&mut self, place: usize) {
        let wall = self.wall();
        let now = fs::read(self.site.ocsp(place)).ok();
        let view = self.oracle.files.entry(place).or_default();
        view.meddled_at = None;
        let before = std::mem::replace(&mut view.content, now.clone());
        if now == before {
            return;
        }
        let file = KINDS[place].file;
        if self.oracle.rules.no_files {
            return self.broke(format_args!("settings: {file}.ocsp was touched, and no such files are to be kept"));
        }
        let held = before.and_then(|der| self.authorities.statement(&der).cloned());
        let Some(der) = now else {
            self.note(format_args!("{file}.ocsp is removed"));
            // It may go when it would be of no use, or when HAProxy would not find the issuer with it.
            // That it is revoked it may have been told by a CA, or by what somebody brought into a HAProxy.
            let withheld = |scene: &Self, leaf| scene.oracle.rules.withhold && scene.authorities.is_revoked(leaf);
            let useful = held.is_some_and(|held| {
                held.is_acceptable(wall)
                    && !withheld(self, held.leaf)
                    && self
                        .settled_content(place)
                        .is_some_and(|(leaf, content)| leaf == held.leaf && content == Content::Whole)
            });
            if useful {
                self.broke(format_args!("2: {file}.ocsp was good and was removed"));
            }
            return;
        };
        self.note(format_args!("{file}.ocsp is written"));
        let Some(statement) = self.authorities.statement(&der).cloned() else {
            return self.broke(format_args!("1: {file}.ocsp holds what no CA said"));
        };
        if !statement.is_acceptable(wall) {
            return self.broke(format_args!("1: {file}.ocsp was given {statement:?} at {wall}"));
        }
        if statement.revoked && self.oracle.rules.withhold {
            return self.broke(format_args!("settings: a revocation is withheld, and {file}.ocsp was given one"));
        }
        if self.settled_content(place).is_some_and(|(leaf, _)| leaf != statement.leaf) {
            return self.broke(format_args!("1: {file}.ocsp holds what a CA said about another certificate"));
        }
        let worse = held
            .is_some_and(|held| held.leaf == statement.leaf && held.is_acceptable(wall) && held.supersedes(&statement));
        if worse {
            return self.broke(format_args!("2: {file}.ocsp was given worse: {statement:?}"));
        }
        // What it keeps it holds, also where it found it in a HAProxy.
        let at = self.at();
        let view = self.oracle.leaf(statement.leaf);
        if view.held.as_ref().is_none_or(|known| statement.supersedes(known)) {
            view.held = Some(statement);
            view.held_since = at;
        }
        if KINDS[place].shape == Shape::Orphan
            || self.settled_content(place).is_some_and(|(_, content)| content == Content::Chainless)
        {
            self.broke(format_args!("7: {file}.ocsp was written, and HAProxy would not find the issuer"));
        }
    }

    /// Promises 4 and 9: where a `.ocsp` file can be kept, HAProxy's next start is a stapled one.
    pub(super) fn check_kept(&mut self, place: usize, life_since: Duration, at: Duration) {
        let (pace, wall) = (self.oracle.pace, self.wall());
        let Some(known) = self.site.places[place].filter(|known| known.content == Content::Whole) else { return };
        let Some(disk_since) = self.oracle.disk_since.filter(|_| !self.oracle.rules.no_files) else { return };
        let Some(held) = self.oracle.leaves.get(&known.leaf).filter(|_| KINDS[place].shape != Shape::Orphan) else {
            return;
        };
        let (held_since, held) = (held.held_since, held.held.as_ref().filter(|held| held.is_acceptable(wall)));
        let withheld = |leaf| self.oracle.rules.withhold && self.authorities.is_revoked(leaf);
        let Some(held) = held.filter(|held| !withheld(held.leaf)) else { return };
        let file = self.oracle.files.get(&place);
        let content = file.and_then(|file| file.content.as_deref());
        let statement = content.and_then(|der| self.authorities.statement(der));
        let fit = |one: &&Arc<Statement>| one.leaf == known.leaf && one.is_acceptable(wall) && !held.supersedes(one);
        if statement.filter(fit).is_some() {
            return;
        }
        // What is gone is missed at the next look, what is damaged when it is read again.
        let meddled = file.and_then(|file| file.meddled_at);
        let meddled =
            meddled.map(|at| at + pace.scan * 2 + if content.is_some() { pace.refresh } else { Duration::ZERO });
        let disk = self.disk.delay * 8;
        let due = [
            life_since + pace.look * 2 + disk,
            known.since + pace.scan + pace.look * 2 + disk,
            held_since + pace.look + disk,
            disk_since + pace.agenda() + pace.look + disk,
            self.oracle.clock_since + pace.agenda() + pace.look + disk,
            at.saturating_sub(held.in_force_for(wall)) + pace.agenda() + pace.look + disk,
            meddled.unwrap_or_default() + pace.look + disk,
        ];
        let due = due.into_iter().max().unwrap_or_default() + Duration::from_secs(20);
        if at > due {
            let (file, held) = (KINDS[place].file, held.clone());
            self.broke(format_args!("4: {file}.ocsp should hold {held:?} since {due:?}, and it is {wall}"));
        }
    }

    /// What is in a certificate's file, if that has been so long enough for the program to know.
    pub(super) fn settled_content(&self, place: usize) -> Option<(LeafId, Content)> {
        let known = self.site.places[place]?;
        let pace = self.oracle.pace;
        let patience = pace.scan + pace.look + Duration::from_secs(5) + self.disk.delay * 3;
        let settled = known.since.max(self.oracle.life_since?) + patience < self.at();
        settled.then_some((known.leaf, known.content))
    }

    /// Whether HAProxy, which refused to start, may blame the program.
    pub(crate) fn judge_refusal(&mut self, machine: usize, reason: &str) {
        let ours = self.site.used().find(|place| {
            let meddled = self.oracle.files.get(place).is_some_and(|file| file.meddled_at.is_some());
            let named = reason.contains(&format!("'{}.ocsp'", self.name(*place)));
            named && !meddled && self.settled_content(*place).is_some_and(|(_, content)| content != Content::Half)
        });
        if let Some(place) = ours.filter(|_| self.life.running) {
            let file = KINDS[place].file;
            self.broke(format_args!("7: haproxy {machine} does not start because of {file}.ocsp"));
        }
    }

    /// Promise 7: nothing lies about that HAProxy would take for a certificate.
    pub(crate) fn judge_litter(&mut self) {
        for name in self.site.beside() {
            let known = KINDS.iter().any(|kind| {
                name.strip_prefix(kind.file).is_some_and(|extra| ["", ".ocsp", ".issuer"].contains(&extra))
            });
            let hidden = name.starts_with('.') && name.ends_with(".ocsp");
            if !known && !hidden {
                self.broke(format_args!("7: HAProxy would try to load {name}"));
            }
        }
    }
}
