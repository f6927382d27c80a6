//! A page that may be large, for readers that may be many, or slow: who waits for it at the same time gets the same bytes,
//! and so does who asks while another is still reading. Neither the work nor what slow readers hold grows with their number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinError;

use crate::clock::{Clock, Monotonic};

/// What somebody is still reading is not rendered anew for this long. Nobody reads longer than a connection lives, which
/// makes a handful of renderings at most.
const SHARED_FOR: Duration = Duration::from_secs(5);

/// One path's page.
#[derive(Debug, Default)]
pub(super) struct Page {
    last: Arc<Mutex<Option<Last>>>,
    /// Who has asked and not been served.
    waiting: Arc<AtomicUsize>,
}

/// The last rendering.
#[derive(Debug)]
struct Last {
    begun: Monotonic,
    /// For as long as somebody reads it,
    read: Weak<Rendering>,
    /// or waits for it.
    awaited: Option<Arc<Rendering>>,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendering {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

/// Keeps the rendering alive while it is written.
struct Reader(Arc<Rendering>);

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

/// Counts one who waits, also one who gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Page {
    /// The page as it is now, or was a moment ago. Only one is rendered at a time, and apart from what waits for the
    /// network: ten thousand certificates take their time, and the agent and a liveness probe shall not wait for it.
    ///
    /// # Errors
    /// When rendering panicked.
    pub(super) async fn read(
        &self,
        clock: &Clock,
        render: impl FnOnce() -> Rendering + Send + 'static,
    ) -> Result<(StatusCode, Bytes), JoinError> {
        let asked = clock.now().monotonic;
        let waiting = Waiting::count(&self.waiting);
        let mut last = self.last.clone().lock_owned().await;
        let shared = last.take().and_then(|last| last.shared(asked));
        drop(waiting);
        let others = self.waiting.clone();
        let rendering = match shared {
            Some((begun, rendering)) => {
                *last = Some(Last::new(begun, &rendering, &others));
                rendering
            }
            None => {
                let begun = clock.now().monotonic;
                // Whoever asked may be gone before it is done: the lock goes along, so that nobody begins another one.
                tokio::task::spawn_blocking(move || {
                    let rendering = Arc::new(render());
                    *last = Some(Last::new(begun, &rendering, &others));
                    rendering
                })
                .await?
            }
        };
        Ok((rendering.status, Bytes::from_owner(Reader(rendering))))
    }
}

impl Last {
    fn new(begun: Monotonic, rendering: &Arc<Rendering>, waiting: &AtomicUsize) -> Self {
        let awaited = (waiting.load(Ordering::Relaxed) > 0).then(|| rendering.clone());
        Self { begun, read: Arc::downgrade(rendering), awaited }
    }

    /// What will do for one who asked then.
    fn shared(self, asked: Monotonic) -> Option<(Monotonic, Arc<Rendering>)> {
        let rendering = self.awaited.or_else(|| self.read.upgrade())?;
        (asked.since(self.begun) < SHARED_FOR).then_some((self.begun, rendering))
    }
}

/// For pages that nobody else asks for. They are rendered one after the other, so that however many clients ask, they take
/// one processor at most, and nothing is kept but what a connection writes.
#[derive(Debug, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// The page, once it is its turn.
    ///
    /// # Errors
    /// When rendering panicked.
    pub(super) async fn take(
        &self,
        render: impl FnOnce() -> Rendering + Send + 'static,
    ) -> Result<(StatusCode, Bytes), JoinError> {
        let turn = self.0.clone().lock_owned().await;
        // The turn goes along: whoever gives up meanwhile does not let the next one begin.
        let rendering = tokio::task::spawn_blocking(move || {
            let rendering = render();
            drop(turn);
            rendering
        })
        .await?;
        Ok((rendering.status, Bytes::from(rendering.text)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Pages that say how many were rendered.
    async fn read(page: &Page, clock: &Clock, rendered: &Arc<AtomicU32>) -> Bytes {
        let rendered = rendered.clone();
        let render = move || {
            let number = rendered.fetch_add(1, Ordering::Relaxed);
            Rendering { status: StatusCode::OK, text: number.to_string() }
        };
        page.read(clock, render).await.unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_share_a_page_and_others_get_a_fresh_one() {
        let (page, clock) = (Page::default(), Clock::anchored(jiff::Timestamp::UNIX_EPOCH));
        let rendered = Arc::default();
        let slow = read(&page, &clock, &rendered).await;
        assert_eq!(read(&page, &clock, &rendered).await, "0", "somebody still reads it");
        tokio::time::advance(SHARED_FOR).await;
        assert_eq!(read(&page, &clock, &rendered).await, "1", "but not for ever");
        assert_eq!(slow, "0");
        assert_eq!(read(&page, &clock, &rendered).await, "2", "nobody reads it any more");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_page_to_the_next() {
        let (page, clock) = (Page::default(), Clock::anchored(jiff::Timestamp::UNIX_EPOCH));
        let rendered = Arc::default();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let slow = page.read(&clock, move || {
            let _ = finished.recv();
            Rendering { status: StatusCode::OK, text: "slow".to_owned() }
        });
        let given_up = tokio::time::timeout(Duration::from_millis(10), slow).await;
        assert!(given_up.is_err());
        let next = async {
            let read = read(&page, &clock, &rendered);
            tokio::join!(read, async { finish.send(()).unwrap() }).0
        };
        assert_eq!(next.await, "slow", "nobody rendered another one meanwhile");
    }

    #[tokio::test]
    async fn those_who_wait_at_the_same_time_share_a_page() {
        let (page, clock) = (Page::default(), Clock::anchored(jiff::Timestamp::UNIX_EPOCH));
        let rendered = Arc::default();
        let (a, b, c, d) = tokio::join!(
            read(&page, &clock, &rendered),
            read(&page, &clock, &rendered),
            read(&page, &clock, &rendered),
            read(&page, &clock, &rendered)
        );
        assert!([a, b, c, d].iter().all(|text| text == "0"));
        assert_eq!(page.waiting.load(Ordering::Relaxed), 0);
        assert!(page.last.lock().await.as_ref().unwrap().awaited.is_none(), "nothing is kept for nobody");
        assert_eq!(read(&page, &clock, &rendered).await, "1");
    }

    #[tokio::test]
    async fn pages_of_their_own_are_rendered_one_after_the_other_also_when_somebody_gives_up() {
        let (turn, rendering) = (Turn::default(), Arc::new(AtomicUsize::new(0)));
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let page = |text: &str, wait: Option<std::sync::mpsc::Receiver<()>>| {
            let (rendering, text) = (rendering.clone(), text.to_owned());
            turn.take(move || {
                assert_eq!(rendering.fetch_add(1, Ordering::SeqCst), 0, "{text} is rendered beside another");
                wait.map(|wait| wait.recv());
                rendering.fetch_sub(1, Ordering::SeqCst);
                Rendering { status: StatusCode::OK, text }
            })
        };
        let given_up = tokio::time::timeout(Duration::from_millis(10), page("first", Some(finished))).await;
        assert!(given_up.is_err());
        let early = tokio::time::timeout(Duration::from_millis(10), page("second", None)).await;
        assert!(early.is_err(), "the first is not done");
        finish.send(()).unwrap();
        let (third, fourth) = tokio::join!(page("third", None), page("fourth", None));
        assert_eq!((third.unwrap().1, fourth.unwrap().1), ("third".into(), "fourth".into()));
    }
}
