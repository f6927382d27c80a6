//! When to ask a CA again: pure arithmetic on a staple's life and on what happened so far.
//!
//! A refresh is due at a point of the wall clock, because that is what a CA signs; patience after a failure runs on the
//! monotonic clock, so that a stepped wall clock can neither lose a retry nor release a storm.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Moment, Monotonic, between, later};

/// No certificate costs the network more requests than this in [`BUDGET_WINDOW`] (promise 10).
pub const BUDGET: usize = 6;
/// The window of [`BUDGET`].
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);
/// One attempt takes no more than this of it: a short fault wants another attempt soon.
const MOST_PER_ATTEMPT: usize = 4;
/// Nor does it ask the same responder by a second method where that would not leave a request each for two more attempts.
const RESERVE: usize = 2;
/// A responder may have to be asked twice, by GET and by POST: so many requests are one attempt's usual cost.
const USUAL_COST: usize = 2;

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

/// How many requests an attempt may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At all.
    pub requests: usize,
    /// Up to here, also such that may be spared.
    pub luxuries: usize,
}

/// The requests that one certificate cost of late, whatever for: its issuer, its response, redirects on the way.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// When the last [`BUDGET`] of them were over, oldest first. Each came to its responder before that, and the next comes
    /// there after it was sent: however long they are on their way, a responder counts no more than we do.
    requests: VecDeque<Monotonic>,
}

impl Budget {
    /// How many requests an attempt may send now.
    #[must_use]
    pub fn allowance(&self, now: Monotonic) -> Allowance {
        let recent = self.requests.iter().filter(|at| now.since(**at) < BUDGET_WINDOW).count();
        let left = BUDGET.saturating_sub(recent);
        Allowance { requests: left.min(MOST_PER_ATTEMPT), luxuries: left.saturating_sub(RESERVE) }
    }

    /// Takes note of requests by when they were over.
    pub fn record(&mut self, requests: impl IntoIterator<Item = Monotonic>) {
        self.requests.extend(requests);
        while self.requests.len() > BUDGET {
            self.requests.pop_front();
        }
    }

    /// `due`, or later when the requests of the last minute are used up.
    #[must_use]
    pub fn within(&self, due: Monotonic) -> Monotonic {
        let freed = self.requests.front().filter(|_| self.requests.len() == BUDGET);
        freed.map_or(due, |request| due.max(request.after(BUDGET_WINDOW)))
    }
}

/// A host's wish to be left alone (Retry-After), which holds for every certificate that is asked about there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Since when it wishes so, without a break.
    since: Monotonic,
    /// Until when.
    until: Monotonic,
}

impl Patience {
    /// What a host says now, and what it said `before`. Its last word counts.
    #[must_use]
    pub fn new(retry_after: Duration, before: Option<Self>, now: Monotonic) -> Self {
        let since = before.filter(|before| !before.is_over(now)).map_or(now, |before| before.since);
        Self { since, until: now.after(retry_after.min(LONGEST_RETRY_AFTER)) }
    }

    /// Whether it has ended for everybody.
    #[must_use]
    pub fn is_over(&self, now: Monotonic) -> bool {
        self.until <= now
    }
}

/// What asking for one certificate's response, or for its issuer, came to so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When the last attempt ended, and how.
    last: Option<(Monotonic, Attempt)>,
    /// How many requests it took.
    cost: usize,
    /// Attempts that failed since the last that did not.
    failures: u32,
    /// How long the last answer is said to be fresh.
    fresh_for: Option<Duration>,
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

    /// When the last attempt ended.
    #[must_use]
    pub fn last_attempt(&self) -> Option<Monotonic> {
        self.last.map(|(ended, _)| ended)
    }

    /// Takes note of an attempt that ended at `now` after so many requests. Its answer may be said to be fresh for a while.
    pub fn record(&mut self, attempt: Attempt, cost: usize, fresh_for: Option<Duration>, now: Monotonic) {
        self.last = Some((now, attempt));
        self.cost = cost;
        self.failures = match attempt {
            Attempt::Failed => self.failures.saturating_add(1),
            Attempt::Renewed | Attempt::Unchanged => 0,
        };
        self.fresh_for = fresh_for;
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
        let left = left(held, now.wall);
        let by_life =
            serving.map_or(now.monotonic, |life| now.monotonic.after(between(now.wall, refresh_point(life, jitter))));
        match self.last {
            None => by_life,
            // Unless it came as old as that: nothing newer is to be had at once.
            Some((ended, Attempt::Renewed)) if serving.is_some_and(|life| !was_due(life, jitter, ended, now)) => {
                by_life
            }
            // The CA has nothing newer: look again when a quarter of what is left is gone (RFC 9919 section 6: clients
            // must not ask for what they have), but at least once a timer, unless that answer is said to be fresh for
            // longer. What is said about freshness is proven by nobody: it never moves a look past that quarter.
            Some((ended, Attempt::Renewed | Attempt::Unchanged)) => {
                let timer = refresh_interval.max(self.fresh_for.unwrap_or_default());
                by_life.max(ended.after((left.unwrap_or(UNSTAPLED_RETRY) / 4).min(timer))).max(ended.after(FIRST_RETRY))
            }
            Some((ended, Attempt::Failed)) => ended.after(self.retry_delay(left, jitter, refresh_interval)),
        }
    }

    /// Whether nothing but the life of the staple in hand says when the next attempt is due: at the same instant, whenever
    /// that is worked out.
    #[must_use]
    pub fn goes_by_life(&self, held: Life, jitter: Jitter, now: Moment) -> bool {
        match self.last {
            None => true,
            Some((ended, Attempt::Renewed)) => !was_due(held, jitter, ended, now),
            Some((_, Attempt::Unchanged | Attempt::Failed)) => false,
        }
    }

    /// When a host's wish to be left alone ends for this certificate. It counts from when the host began to ask for it, or
    /// was last asked in spite of it, and for no longer than a quarter of what is left: what others are told in between
    /// must not keep this one waiting. As time goes by less is left, and the wish is worth less.
    #[must_use]
    pub fn released(&self, patience: Patience, held: Option<Life>, now: Moment) -> Monotonic {
        let since = self.last.map_or(patience.since, |(ended, _)| patience.since.max(ended));
        let longest = left(held, now.wall).map_or(LONGEST_RETRY_AFTER, |left| (left / 4).min(LONGEST_RETRY_AFTER));
        patience.until.min(since.after(longest))
    }

    /// Exponential with a fixed jitter of a fifth, pressing harder as the end comes nearer. An attempt that took many
    /// requests is followed by a longer pause: what is left of the budget is best spent when a short fault is over.
    fn retry_delay(&self, left: Option<Duration>, jitter: Jitter, refresh_interval: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(2).min(16);
        let exponential = FIRST_RETRY.saturating_mul(1 << doublings);
        let longest = left.map_or(UNSTAPLED_RETRY, |left| left / 8).min(refresh_interval).max(FIRST_RETRY);
        let cost = u32::try_from(self.cost.div_ceil(USUAL_COST)).unwrap_or(u32::MAX);
        exponential.min(longest).max(FIRST_RETRY.saturating_mul(cost)).mul_f64(0.8 + 0.2 * jitter.at(self.failures))
    }
}

/// How much longer a staple is served; none if it is not.
fn left(held: Option<Life>, now: Timestamp) -> Option<Duration> {
    held.filter(|life| now < life.effective_end).map(|life| between(now, life.effective_end))
}

/// Whether so little of a staple's life is left that a newer one should have been there long ago: three quarters of the
/// time HAProxy serves it are gone, and every refresh starts before that.
#[must_use]
pub fn is_overdue(life: Life, now: Timestamp) -> bool {
    between(now, life.effective_end) < between(life.this_update, life.effective_end) / 4
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

/// Whether the refresh was due at `then` already.
fn was_due(life: Life, jitter: Jitter, then: Monotonic, now: Moment) -> bool {
    between(refresh_point(life, jitter), now.wall) > now.monotonic.since(then)
}

#[cfg(test)]
mod tests;
