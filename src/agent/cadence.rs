//! How often the agent looks by itself, whatever happens. No IO.

use std::time::Duration;

/// How often the agent looks by itself. What it promises in seconds is promised in these looks: a simulation of months
/// looks less often, and everything else stays in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    look: Duration,
}

impl Cadence {
    /// One look at every HAProxy each `look`.
    #[must_use]
    pub const fn every(look: Duration) -> Self {
        Self { look }
    }

    /// Whether HAProxy is still the same process is looked at this often (promise 4).
    #[must_use]
    pub const fn look(self) -> Duration {
        self.look
    }

    /// The wall clock may be stepped and a disk may heal: what hangs on them is planned anew this often.
    #[must_use]
    pub const fn agenda(self) -> Duration {
        self.look.saturating_mul(30)
    }
}

/// What the program promises.
impl Default for Cadence {
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}
