//! What the agent works with: clocks, a pace, and threads that may wait for a disk.

use std::fmt::Debug;

use super::cadence::Cadence;
use crate::clock::Clock;

/// What the agent works with. A simulation brings its own.
#[derive(Clone, Debug)]
pub struct Means<T> {
    /// Both clocks.
    pub clock: Clock,
    /// How often it looks by itself.
    pub cadence: Cadence,
    /// Where it waits for disks.
    pub threads: T,
}

impl Means<BlockingThreads> {
    /// The real ones.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Clock::system(), cadence: Cadence::default(), threads: BlockingThreads }
    }
}

/// The one seam to the threads that wait for disks. The disk itself needs none: but in which order such threads come
/// back is nobody's to say, and a simulation that is to replay exactly does their work in its own order.
pub trait Threads: Clone + Debug + Send + Sync + 'static {
    /// Has `work` done, which may block, and gives what comes of it. Once begun, it is done to its end, even if nobody
    /// waits for that any more. A panic in it comes out here.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send;
}

/// A thread of the runtime for each piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingThreads;

impl Threads for BlockingThreads {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down: nothing will come of it, and nobody will ask.
            Err(_) => std::future::pending().await,
        }
    }
}
