//! How long a snapshot and the agenda hold if nothing happens: staples and certificates end by themselves. No IO.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::peer::Served;
use super::world::{Leaf, World, life};
use crate::clock::Moment;

/// The wall clock is slewed by less than that between two looks at the agenda; what is more is a step.
const STEP: SignedDuration = SignedDuration::from_secs(1);
/// Whatever is thought of it here, it is made anew this often.
const LONGEST: Duration = Duration::from_secs(300);

/// For how long a snapshot says what is so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    made: Moment,
    /// The first instant at which something ends that it calls good.
    until: Timestamp,
}

impl World {
    /// Whether the last snapshot says what is not so any more, or none was made yet, though nothing happened.
    pub(super) fn is_snapshot_over(&self, now: Moment) -> bool {
        self.snapshot_validity.is_none_or(|validity| validity.is_over(now))
    }

    /// Whether the agenda would come out as it is if it were made anew, and nothing waits to be installed or kept: the
    /// clocks agree as they did, nobody wishes to be left alone, and nothing failed.
    pub(super) fn is_at_rest(&self, now: Moment) -> bool {
        !is_another_time(self.agenda_made, now)
            && self.disk.troubles.is_empty()
            && self.wishes.is_empty()
            && self.peers.iter().all(|peer| peer.pending.is_empty() && peer.refused.is_empty())
            && self.leaves.values().all(|leaf| leaf.is_at_rest(now))
    }
}

impl Leaf {
    /// Whether only the life of its staple says when to ask for the next one, if anybody is to be asked at all.
    fn is_at_rest(&self, now: Moment) -> bool {
        if self.hands_off.is_some() || self.responders.is_empty() {
            return true;
        }
        let in_force = self.staple.as_ref().filter(|staple| staple.is_in_force(now.wall));
        self.restored
            && self.certificate.not_after() >= now.wall
            && self
                .ask
                .as_ref()
                .zip(in_force)
                .is_some_and(|(ask, staple)| self.progress.goes_by_life(life(staple), ask.jitter, now))
    }
}

/// Whether the wall clock was stepped since, or it is so long ago that nobody should rely on it.
fn is_another_time(made: Moment, now: Moment) -> bool {
    let passed = now.monotonic.since(made.monotonic);
    let by_the_wall = now.wall.duration_since(made.wall);
    let step = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX).saturating_sub(by_the_wall);
    passed >= LONGEST || step.abs() >= STEP
}

impl Validity {
    /// Of a snapshot that is made now.
    pub(super) fn of(world: &World, now: Moment) -> Self {
        let leaves = world.leaves.values().flat_map(|leaf| {
            let staple = leaf.staple.as_ref().map(|staple| staple.effective_end());
            [Some(leaf.certificate.not_after()), staple].into_iter().flatten()
        });
        let served = world.peers.iter().flat_map(|peer| peer.served.values()).filter_map(Served::end);
        // What HAProxy makes of its own updates is judged by how long it has been up.
        let native = world.peers.iter().any(|peer| !peer.native.is_empty()).then_some(now.wall);
        let ends = leaves.chain(served).filter(|end| *end >= now.wall).chain(native);
        Self { made: now, until: ends.min().unwrap_or(Timestamp::MAX) }
    }

    /// Whether it is over, or the wall clock was stepped: then everything that is due is due at another time.
    fn is_over(&self, now: Moment) -> bool {
        now.wall >= self.until || is_another_time(self.made, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, later};

    #[tokio::test(start_paused = true)]
    async fn time_alone_ends_it_and_so_does_a_step_of_the_clock() {
        let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
        let made = clock.now();
        let validity = Validity { made, until: later(made.wall, Duration::from_secs(60)) };
        tokio::time::advance(Duration::from_secs(59)).await;
        let now = clock.now();
        assert!(!validity.is_over(made) && !validity.is_over(now));
        for wall in [later(now.wall, Duration::from_secs(3600)), made.wall] {
            assert!(validity.is_over(Moment { wall, ..now }), "{wall}");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(validity.is_over(clock.now()));
        let for_ever = Validity { made, until: Timestamp::MAX };
        assert!(!for_ever.is_over(clock.now()));
        tokio::time::advance(LONGEST).await;
        assert!(for_ever.is_over(clock.now()));
    }
}
