//! Whether the worker makes progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

/// Whether the worker is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It turned its loop and finished its scans in time.
    Made,
    /// It did not.
    None,
}

/// The worker's sign of life. Only the worker stamps it; a reader only compares.
#[derive(Debug)]
pub struct Pulse {
    turned: AtomicU64,
    scanned: AtomicU64,
    longest_scan_gap: Duration,
}

/// The worker turns its loop at least once a second; this long without a turn is no delay but a fault.
const LONGEST_TURN_GAP: Duration = Duration::from_secs(30);

impl Pulse {
    /// For a worker that scans every `scan_interval`.
    #[must_use]
    pub fn new(scan_interval: Duration) -> Self {
        // Three scans missed, and a minute's grace for a slow disk.
        let longest_scan_gap = scan_interval.saturating_mul(3).saturating_add(Duration::from_secs(60));
        Self { turned: AtomicU64::new(0), scanned: AtomicU64::new(0), longest_scan_gap }
    }

    /// The worker turned its loop.
    pub fn turn(&self, now: Monotonic) {
        self.turned.store(millis(now), Ordering::Relaxed);
    }

    /// The worker finished a look at the disk.
    pub fn scan(&self, now: Monotonic) {
        self.scanned.store(millis(now), Ordering::Relaxed);
    }

    /// Whether both happened recently enough.
    #[must_use]
    pub fn progress(&self, now: Monotonic) -> Progress {
        let late = |stamp: &AtomicU64, most: Duration| {
            now.since(Monotonic::new(Duration::from_millis(stamp.load(Ordering::Relaxed)))) > most
        };
        if late(&self.turned, LONGEST_TURN_GAP) || late(&self.scanned, self.longest_scan_gap) {
            Progress::None
        } else {
            Progress::Made
        }
    }
}

fn millis(at: Monotonic) -> u64 {
    u64::try_from(at.since(Monotonic::default()).as_millis()).unwrap_or(u64::MAX)
}
