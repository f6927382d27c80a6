//! Which changes of certificates are said one by one, and which in one line for all of them. A CA that goes down changes
//! ten thousand certificates; to whoever reads the log that is one event. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::status::State;

/// So many changes of a kind have a line of their own before the others share one.
const MOST_NAMED: usize = 10;
/// A shared line names its certificates only if they are as few.
const MOST_IN_SUMMARY: usize = 3;
/// From one shared line to the next, doubling as long as the storm lasts: an hour of it is a dozen lines.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A storm is over when nothing of its kind has come for so long. What comes before that is part of it.
const QUIET: Duration = Duration::from_secs(300);

/// What changes have in common that are one event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// What they became; none if they went away.
    pub(super) state: Option<State>,
    /// The kind of their trouble.
    pub(super) reason: Option<&'static str>,
    /// The host that is asked about them.
    pub(super) responder: Option<String>,
}

/// One line for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: Kind,
    pub(super) count: usize,
    /// All of them, if they are few; else none.
    pub(super) names: Vec<String>,
}

/// What was said of each kind lately.
#[derive(Debug, Default)]
pub(super) struct Storms(BTreeMap<Kind, Storm>);

#[derive(Debug)]
struct Storm {
    named: usize,
    /// Not said yet.
    owed: BTreeSet<String>,
    last: Monotonic,
    /// When the next shared line may be said.
    due: Monotonic,
    pause: Duration,
}

impl Storm {
    fn new(now: Monotonic) -> Self {
        Self { named: 0, owed: BTreeSet::new(), last: now, due: now, pause: FIRST_PAUSE }
    }

    fn is_over(&self, now: Monotonic) -> bool {
        self.owed.is_empty() && now.since(self.last) >= QUIET
    }

    fn wait(&mut self, now: Monotonic) {
        self.due = now.after(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

impl Storms {
    /// Takes note of changes of one kind that came at once. So many of them, from the first on, have a line of their own;
    /// the others are owed.
    pub(super) fn take(&mut self, kind: &Kind, names: &[&str], now: Monotonic) -> usize {
        if self.0.get(kind).is_some_and(|storm| storm.is_over(now)) {
            self.0.remove(kind);
        }
        let storm = self.0.entry(kind.clone()).or_insert_with(|| Storm::new(now));
        storm.last = now;
        let mut named = MOST_NAMED.saturating_sub(storm.named).min(names.len());
        storm.named = storm.named.saturating_add(named);
        // A line of one's own is no longer than a shared line about one.
        if names.len().saturating_sub(named) == 1 && storm.owed.is_empty() && storm.due <= now {
            named = names.len();
            storm.wait(now);
        }
        storm.owed.extend(names.iter().skip(named).map(|name| (*name).to_owned()));
        named
    }

    /// The shared lines whose time has come.
    pub(super) fn due(&mut self, now: Monotonic) -> Vec<Summary> {
        self.0.retain(|_, storm| !storm.is_over(now));
        let due = self.0.iter_mut().filter(|(_, storm)| !storm.owed.is_empty() && storm.due <= now);
        due.map(|(kind, storm)| {
            storm.wait(now);
            summary(kind, storm)
        })
        .collect()
    }

    /// Everything that is owed: nobody will be there to say it later.
    pub(super) fn rest(&mut self) -> Vec<Summary> {
        let owing = self.0.iter_mut().filter(|(_, storm)| !storm.owed.is_empty());
        owing.map(|(kind, storm)| summary(kind, storm)).collect()
    }
}

fn summary(kind: &Kind, storm: &mut Storm) -> Summary {
    let owed = std::mem::take(&mut storm.owed);
    let count = owed.len();
    let names = if count <= MOST_IN_SUMMARY { owed.into_iter().collect() } else { Vec::new() };
    Summary { kind: kind.clone(), count, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn failing(responder: &str) -> Kind {
        Kind { state: Some(State::RefreshFailing), reason: Some("connect"), responder: Some(responder.to_owned()) }
    }

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("/certs/{number:05}.pem")).collect()
    }

    /// Takes these and gives how many were named and what shared lines were said.
    fn turn(storms: &mut Storms, kind: &Kind, names: &[String], now: Monotonic) -> (usize, Vec<Summary>) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (storms.take(kind, &names, now), storms.due(now))
    }

    #[test]
    fn ten_thousand_at_once_are_ten_lines_and_one() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        let (named, said) = turn(&mut storms, &kind, &names(0..10_000), at(100));
        assert_eq!(named, 10);
        assert_eq!(said, [Summary { kind: kind.clone(), count: 9990, names: Vec::new() }]);
        // Nothing is said twice, and nothing is left.
        assert_eq!(storms.due(at(100_000)), []);
        assert_eq!(storms.rest(), []);
    }

    #[test]
    fn ten_thousand_over_an_hour_are_a_few_lines_and_each_is_counted_once() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        let all = names(0..10_000);
        let (mut own, mut shared, mut counted) = (0, 0, 0);
        for second in 0..3600_u64 {
            let (from, to) = (second * 10_000 / 3600, (second + 1) * 10_000 / 3600);
            let part = &all[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
            let (named, said) = turn(&mut storms, &kind, part, at(second));
            own += named;
            shared += said.len();
            counted += said.iter().map(|summary| summary.count).sum::<usize>();
        }
        // The last are told without anything more happening.
        let last = storms.due(at(3600 + 600));
        counted += last.iter().map(|summary| summary.count).sum::<usize>();
        assert_eq!((own + counted, last.len()), (10_000, 1));
        assert!(own <= 12 && shared <= 12, "{own} {shared}");
    }

    #[test]
    fn stragglers_do_not_start_it_anew_and_what_comes_much_later_does() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        turn(&mut storms, &kind, &names(0..10_000), at(0));
        // In the pause after the shared line they wait, a few with their names.
        assert_eq!(turn(&mut storms, &kind, &names(0..2), at(3)), (0, Vec::new()));
        let said = storms.due(at(10));
        assert_eq!(said, [Summary { kind: kind.clone(), count: 2, names: names(0..2) }]);
        // Long after it, many are one line, and one is a line of its own.
        let (named, said) = turn(&mut storms, &kind, &names(0..500), at(200));
        assert_eq!((named, said.len(), said[0].count), (0, 1, 500));
        assert_eq!(turn(&mut storms, &kind, &names(7..8), at(400)), (1, Vec::new()));
        // The calm is counted from the last one.
        assert_eq!(turn(&mut storms, &kind, &names(0..20), at(699)).0, 0);
        assert_eq!(turn(&mut storms, &kind, &names(0..20), at(699 + 300)).0, 10);
    }

    #[test]
    fn single_changes_have_a_line_each_at_once() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        for each in 0..100 {
            let now = at(u64::try_from(each).unwrap() * 601);
            assert_eq!(turn(&mut storms, &kind, &names(each..each + 1), now), (1, Vec::new()), "{each}");
        }
        // The eleventh at once would be a shared line about one.
        let mut storms = Storms::default();
        assert_eq!(turn(&mut storms, &kind, &names(0..11), at(0)), (11, Vec::new()));
    }

    #[test]
    fn one_that_comes_and_goes_without_end_is_said_ever_more_seldom() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        let mut lines = 0;
        for second in (0..3600).step_by(5) {
            let (named, said) = turn(&mut storms, &kind, &names(0..1), at(second));
            assert!(said.iter().all(|summary| summary.names == names(0..1)), "{said:?}");
            lines += named + said.len();
        }
        assert!((11..=24).contains(&lines), "{lines}");
    }

    #[test]
    fn another_kind_is_another_event() {
        let mut storms = Storms::default();
        let (one, other) = (failing("one.example.com"), failing("other.example.com"));
        let healed = Kind { state: Some(State::Stapled), reason: None, ..one.clone() };
        let gone = Kind { state: None, reason: None, responder: None };
        turn(&mut storms, &one, &names(0..10_000), at(0));
        for kind in [&other, &healed, &gone] {
            assert_eq!(turn(&mut storms, kind, &names(0..1), at(1)), (1, Vec::new()), "{kind:?}");
        }
        let (named, said) = turn(&mut storms, &healed, &names(1..10_000), at(2));
        assert_eq!((named, said[0].count), (9, 9990));
    }

    #[test]
    fn at_the_end_everything_that_is_owed_is_said() {
        let (mut storms, kind) = (Storms::default(), failing("ocsp.example.com"));
        turn(&mut storms, &kind, &names(0..20), at(0));
        turn(&mut storms, &kind, &names(20..120), at(1));
        assert_eq!(storms.rest(), [Summary { kind, count: 100, names: Vec::new() }]);
        assert_eq!(storms.rest(), []);
    }
}
