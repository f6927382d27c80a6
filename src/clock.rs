//! The two clocks, and the only place that asks the operating system for either.
//!
//! OCSP lives on the wall clock (`thisUpdate`, `nextUpdate`); patience (back-off, deadlines, the scan timer) lives on
//! the monotonic one. A [`Moment`] carries both readings side by side and their types do not mix, so that a stepped
//! wall clock can neither silence a retry nor start a storm of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock: compare it with what a CA or a certificate says.
    pub wall: Timestamp,
    /// The monotonic clock: compare it with other readings of this process.
    pub monotonic: Monotonic,
}

/// Time since the process's clock was made; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// A reading `since` after the clock was made. For tests and for arithmetic; real readings come from [`Clock`].
    #[must_use]
    pub const fn new(since: Duration) -> Self {
        Self(since)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The reading `later` from this one.
    #[must_use]
    pub const fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// Where the wall time comes from.
#[derive(Clone, Debug)]
enum Wall {
    System,
    /// Follows tokio's (pausable) time from a fixed instant, so that a test owns both clocks, and is ahead of that by so
    /// many milliseconds.
    Anchored {
        at: Timestamp,
        ahead: Arc<AtomicI64>,
    },
}

/// Reads both clocks. Clones read the same ones.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Wall,
    origin: Instant,
}

impl Clock {
    /// The operating system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { wall: Wall::System, origin: tokio_now() }
    }

    /// A wall clock that stood at `at` when this was called and follows tokio's time, which a test may pause.
    #[must_use]
    pub fn anchored(at: Timestamp) -> Self {
        Self::steered(at, Arc::default())
    }

    /// The same, and `ahead` of it by so many milliseconds, which a test may change at any time: an administrator, NTP
    /// and a suspended machine step wall clocks.
    #[must_use]
    pub fn steered(at: Timestamp, ahead: Arc<AtomicI64>) -> Self {
        Self { wall: Wall::Anchored { at, ahead }, origin: tokio_now() }
    }

    /// Both readings, now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let elapsed = tokio_now().duration_since(self.origin);
        let wall = match &self.wall {
            Wall::System => system_now(),
            Wall::Anchored { at, ahead } => {
                let ahead = SignedDuration::from_millis(ahead.load(Ordering::Relaxed));
                later(*at, elapsed).saturating_add(ahead).unwrap_or(Timestamp::MAX)
            }
        };
        Moment { wall, monotonic: Monotonic(elapsed) }
    }

    /// Now by the clock that file systems stamp with; none if this is another one.
    #[must_use]
    pub fn stamps_now(&self) -> Option<Timestamp> {
        matches!(self.wall, Wall::System).then(|| self.now().wall)
    }

    /// Sleeps until the monotonic clock reads `until`.
    pub async fn sleep_until(&self, until: Monotonic) {
        tokio::time::sleep_until(self.origin + until.0).await;
    }
}

/// `at` plus `by`, saturating at the ends of what a timestamp can say.
#[must_use]
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(signed(by)).unwrap_or(Timestamp::MAX)
}

/// `at` less `by`, saturating at the ends of what a timestamp can say.
#[must_use]
pub fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_sub(signed(by)).unwrap_or(Timestamp::MIN)
}

/// How long from `from` to `to`; zero if `to` is not later.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or(Duration::ZERO)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn tokio_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn an_anchored_clock_follows_paused_time_on_both_sides() {
        let start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let clock = Clock::anchored(start);
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let after = clock.now();
        assert_eq!(after.wall, "2026-11-23T01:00:00Z".parse().unwrap());
        assert_eq!(after.monotonic.since(before.monotonic), Duration::from_secs(3600));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_step_of_the_wall_clock_leaves_the_monotonic_one_alone() {
        let start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = Clock::steered(start, ahead.clone());
        let before = clock.now();
        ahead.store(-3_600_000, Ordering::Relaxed);
        assert_eq!(clock.now().wall, "2026-11-22T23:00:00Z".parse().unwrap());
        assert_eq!(clock.now().monotonic, before.monotonic);
    }

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        assert_eq!(later(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
        assert_eq!(between(Timestamp::MAX, Timestamp::MIN), Duration::ZERO);
        assert_eq!(Monotonic::default().since(Monotonic::new(Duration::MAX)), Duration::ZERO);
    }
}
