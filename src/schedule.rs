//! When to ask a CA again: pure arithmetic on a staple's life and on what happened so far.
//!
//! A refresh is due at a point of the wall clock, because that is what a CA signs; patience after a failure runs on the
//! monotonic clock, so that a stepped wall clock can neither lose a retry nor release a storm.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Moment, Monotonic, between, later};

/// No certificate's responders see more requests than this in [`BUDGET_WINDOW`] (promise 10).
pub const BUDGET: usize = 6;
/// The window of [`BUDGET`].
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// The first retry comes after this: a fault of 15 s is over within the first two.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// While nothing is stapled, retries are never further apart than this.
const UNSTAPLED_RETRY: Duration = Duration::from_secs(300);
/// A CA's wish (Retry-After) is honoured up to this, or up to a quarter of what is left of the staple.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A staple's life as the schedule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When the CA says it knew: thisUpdate.
    pub this_update: Timestamp,
    /// The earlier of nextUpdate and the end of the delegated signer's certificate.
    pub end: Timestamp,
    /// When HAProxy stops serving it: 300 s before nextUpdate, or at the signer's end.
    pub effective_end: Timestamp,
}

/// A certificate's fixed place in the spread of refreshes, from 0 to just under 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// From the first bytes of a hash of the CertID: the same certificate always refreshes at the same point of a
    /// staple's life, whatever restarts.
    #[must_use]
    pub fn from_hash(hash: &[u8; 20]) -> Self {
        let [high, low, ..] = *hash;
        Self(f64::from(u16::from_be_bytes([high, low])) / 65536.0)
    }

    /// Another place, fixed as well, for the `n`th retry: certificates that failed together do not return together.
    fn at(self, n: u32) -> f64 {
        (self.0 + f64::from(n % 64) * 0.618_034).fract()
    }
}

/// What asking for one certificate's response came to so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Requests of the last [`BUDGET_WINDOW`], oldest first.
    requests: VecDeque<Monotonic>,
    /// When the last attempt ended, and how.
    last: Option<(Monotonic, Attempt)>,
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// Not before this, as the CA asked.
    not_before: Option<Monotonic>,
}

/// How one attempt to get a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A newer staple came.
    Renewed,
    /// A valid response came that is no newer than the one held: the CA has not signed again yet.
    Unchanged,
    /// Nothing usable came.
    Failed,
}

impl Progress {
    /// Attempts that failed since the last that did not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether no attempt has ended yet.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.last.is_none()
    }

    /// How many requests may be sent now.
    #[must_use]
    pub fn allowance(&self, now: Monotonic) -> usize {
        let recent = self.requests.iter().filter(|at| now.since(**at) < BUDGET_WINDOW).count();
        BUDGET.saturating_sub(recent)
    }

    /// Takes note of an attempt that ended at `now` after `requests`.
    pub fn record(
        &mut self,
        attempt: Attempt,
        requests: impl IntoIterator<Item = Monotonic>,
        retry_after: Option<Duration>,
        now: Monotonic,
    ) {
        self.requests.extend(requests);
        while self.requests.len() > BUDGET {
            self.requests.pop_front();
        }
        self.last = Some((now, attempt));
        self.failures = match attempt {
            Attempt::Failed => self.failures.saturating_add(1),
            Attempt::Renewed | Attempt::Unchanged => 0,
        };
        self.not_before = retry_after.map(|wish| now.after(wish.min(LONGEST_RETRY_AFTER)));
    }

    /// When the next attempt is due, which may be past. `held` is the staple in hand, if any.
    #[must_use]
    pub fn next_attempt(
        &self,
        held: Option<Life>,
        jitter: Jitter,
        refresh_interval: Duration,
        now: Moment,
    ) -> Monotonic {
        let serving = held.filter(|life| now.wall < life.effective_end);
        let left = serving.map(|life| between(now.wall, life.effective_end));
        let by_life =
            serving.map_or(now.monotonic, |life| now.monotonic.after(between(now.wall, refresh_point(life, jitter))));
        let due = match self.last {
            None => by_life,
            Some((_, Attempt::Renewed)) if serving.is_some() => by_life,
            // The CA has nothing newer: look again when a quarter of what is left is gone (RFC 9919 section 6: clients
            // must not ask for what they have), but at least once a timer.
            Some((ended, Attempt::Renewed | Attempt::Unchanged)) => by_life
                .max(ended.after(left.unwrap_or(UNSTAPLED_RETRY) / 4).min(ended.after(refresh_interval)))
                .max(ended.after(FIRST_RETRY)),
            Some((ended, Attempt::Failed)) => ended.after(self.retry_delay(left, jitter, refresh_interval)),
        };
        let due = self.not_before.map_or(due, |wish| {
            // Honour Retry-After, unless that would cost the staple.
            due.max(left.map_or(wish, |left| wish.min(now.monotonic.after(left / 4))))
        });
        self.within_budget(due)
    }

    /// Exponential with a fixed jitter of a fifth, pressing harder as the end comes nearer.
    fn retry_delay(&self, left: Option<Duration>, jitter: Jitter, refresh_interval: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(2).min(16);
        let exponential = FIRST_RETRY.saturating_mul(1 << doublings);
        let longest = left.map_or(UNSTAPLED_RETRY, |left| left / 8).min(refresh_interval).max(FIRST_RETRY);
        exponential.min(longest).mul_f64(0.8 + 0.2 * jitter.at(self.failures))
    }

    /// `due`, or later when the requests of the last minute are used up. An attempt may take two requests (GET, then
    /// POST), so two must be free.
    fn within_budget(&self, due: Monotonic) -> Monotonic {
        let nth_last = self.requests.len().checked_sub(BUDGET - 1).and_then(|at| self.requests.get(at));
        nth_last.map_or(due, |oldest| due.max(oldest.after(BUDGET_WINDOW)))
    }
}

/// Where in a staple's life its refresh starts: from half of it, spread over the following eighth, and in any case
/// before three quarters of the time HAProxy will serve it have gone.
#[must_use]
pub fn refresh_point(life: Life, jitter: Jitter) -> Timestamp {
    let whole = between(life.this_update, life.end);
    let spread = (whole / 8).mul_f64(jitter.0);
    let half = later(life.this_update, (whole / 2).saturating_add(spread));
    let latest = later(life.this_update, between(life.this_update, life.effective_end) / 4 * 3);
    half.min(latest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> Timestamp {
        "2026-11-23T00:00:00Z".parse().unwrap()
    }

    fn life(validity: Duration) -> Life {
        let end = later(start(), validity);
        Life {
            this_update: start(),
            end,
            effective_end: later(start(), validity.saturating_sub(Duration::from_secs(300))),
        }
    }

    fn moment(since: Duration) -> Moment {
        Moment { wall: later(start(), since), monotonic: Monotonic::new(since) }
    }

    #[test]
    fn a_fresh_staple_waits_for_half_of_its_life() {
        let progress = Progress::default();
        let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, moment(Duration::ZERO));
        assert_eq!(due, Monotonic::new(12 * HOUR));
        let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.999), HOUR, moment(Duration::ZERO));
        assert!(due < Monotonic::new(15 * HOUR) && due > Monotonic::new(14 * HOUR));
    }

    #[test]
    fn a_response_of_ten_minutes_is_refreshed_before_haproxy_drops_it() {
        let point = refresh_point(life(Duration::from_secs(600)), Jitter(0.9));
        assert_eq!(point, later(start(), Duration::from_secs(225)));
    }

    #[test]
    fn nothing_held_is_due_at_once() {
        let now = moment(HOUR);
        assert_eq!(Progress::default().next_attempt(None, Jitter(0.5), HOUR, now), now.monotonic);
        let expired = Some(life(Duration::from_secs(900)));
        assert_eq!(Progress::default().next_attempt(expired, Jitter(0.5), HOUR, now), now.monotonic);
    }

    #[test]
    fn a_fault_of_fifteen_seconds_is_survived_within_thirty() {
        for jitter in [0.0, 0.3, 0.7, 0.999] {
            let mut progress = Progress::default();
            let mut now = moment(Duration::ZERO);
            while now.monotonic < Monotonic::new(Duration::from_secs(15)) {
                progress.record(Attempt::Failed, [now.monotonic, now.monotonic], None, now.monotonic);
                let due = progress.next_attempt(None, Jitter(jitter), HOUR, now);
                now = moment(due.since(Monotonic::default()));
            }
            assert!(now.monotonic <= Monotonic::new(Duration::from_secs(30)), "jitter {jitter}: {now:?}");
        }
    }

    #[test]
    fn a_wish_for_patience_is_honoured_but_never_costs_the_staple() {
        let mut progress = Progress::default();
        let now = moment(20 * HOUR);
        progress.record(Attempt::Failed, [now.monotonic], Some(Duration::from_secs(120)), now.monotonic);
        let due = progress.next_attempt(None, Jitter(0.5), HOUR, now);
        assert_eq!(due, now.monotonic.after(Duration::from_secs(120)));
        progress.record(Attempt::Failed, [now.monotonic], Some(365 * 24 * HOUR), now.monotonic);
        let due = progress.next_attempt(Some(life(21 * HOUR)), Jitter(0.5), HOUR, now);
        assert!(due <= now.monotonic.after(Duration::from_secs(55 * 60 / 4)));
    }

    #[test]
    fn a_ca_that_has_nothing_newer_is_not_asked_over_and_over() {
        let mut progress = Progress::default();
        let now = moment(13 * HOUR);
        progress.record(Attempt::Unchanged, [now.monotonic], None, now.monotonic);
        let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, now);
        assert_eq!(due, now.monotonic.after(HOUR));
    }

    proptest! {
        #[test]
        fn a_refresh_is_due_before_the_effective_end(seconds in 301_u64..40_000_000, jitter in 0.0..1.0_f64) {
            let life = life(Duration::from_secs(seconds));
            let point = refresh_point(life, Jitter(jitter));
            prop_assert!(point >= life.this_update);
            prop_assert!(point < life.effective_end);
        }

        #[test]
        fn never_more_than_the_budget_in_any_minute(
            jitter in 0.0..1.0_f64,
            validity in proptest::option::of(301_u64..100_000),
            per_attempt in proptest::collection::vec(1_usize..=2, 40),
            retry_after in proptest::option::of(0_u64..20),
        ) {
            let held = validity.map(|seconds| life(Duration::from_secs(seconds)));
            let mut progress = Progress::default();
            let mut now = moment(Duration::ZERO);
            let mut sent: Vec<Monotonic> = Vec::new();
            for requests in per_attempt {
                let requests = requests.min(progress.allowance(now.monotonic));
                prop_assert!(requests > 0);
                sent.extend(std::iter::repeat_n(now.monotonic, requests));
                progress.record(
                    Attempt::Failed,
                    std::iter::repeat_n(now.monotonic, requests),
                    retry_after.map(Duration::from_secs),
                    now.monotonic,
                );
                let due = progress.next_attempt(held, Jitter(jitter), HOUR, now);
                prop_assert!(due > now.monotonic);
                now = moment(due.since(Monotonic::default()));
            }
            for at in &sent {
                let within = sent.iter().filter(|other| other >= &at && other.since(*at) < BUDGET_WINDOW).count();
                prop_assert!(within <= BUDGET);
            }
        }
    }
}
