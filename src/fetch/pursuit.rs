//! One question, and the redirects it leads through.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, Monotonic};
use crate::responder::caching::{Caching, Validator};
use crate::responder::{Copies, Exchange, Fault, Reply, Responder, redirect};

/// What a question may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Requests that may be sent; at least one.
    pub(super) most: usize,
    /// For all of them.
    pub(super) end: Monotonic,
}

impl Bounds {
    /// The part of one responder, of what is left after `sent` requests: all but one request for each that still waits,
    /// at least one while there are any, and an equal share of the time.
    pub(super) fn share(self, sent: usize, waiting: usize, now: Monotonic) -> Self {
        let left = self.most.saturating_sub(sent);
        let sharers = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        Self { most: left.saturating_sub(waiting).max(left.min(1)), end: now.after(self.end.since(now) / sharers) }
    }
}

/// One request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// When.
    pub(super) at: Monotonic,
    /// How long the exchange took.
    pub(super) took: Duration,
}

/// What a question came to.
#[derive(Debug)]
pub(super) struct Found {
    /// The body; none if the copy in our hand is the answer.
    pub(super) body: Option<Bytes>,
    /// Whose answer it is.
    pub(super) url: String,
    /// What was said about keeping it.
    pub(super) caching: Caching,
}

/// Sends an exchange and follows redirects. Every request counts: a responder that leads around in circles must not have
/// us ask more often than one that answers.
pub(super) async fn pursue<R: Responder>(
    responder: &R,
    clock: &Clock,
    mut exchange: Exchange,
    in_hand: Option<&Validator>,
    bounds: Bounds,
) -> (Vec<Step>, Result<Found, Fault>) {
    let mut steps = Vec::new();
    let mut asked = Vec::new();
    loop {
        let known = in_hand.filter(|known| known.url == exchange.url && exchange.body.is_none());
        if let Some(known) = known.filter(|_| exchange.copies == Copies::Welcome) {
            exchange.copies = Copies::InHand(known.tag.clone());
        }
        let at = clock.now().monotonic;
        let reply = responder.send(&exchange, bounds.end.since(at)).await;
        steps.push(Step { at, took: clock.now().monotonic.since(at) });
        let moved = match reply {
            Ok(Reply::Body(body, caching)) => {
                return (steps, Ok(Found { body: Some(body), url: exchange.url, caching }));
            }
            Ok(Reply::NotModified(caching)) if matches!(exchange.copies, Copies::InHand(_)) => {
                return (steps, Ok(Found { body: None, url: exchange.url, caching }));
            }
            // It answers what was not asked.
            Ok(Reply::NotModified(_)) => {
                return (steps, Err(Fault::Status { url: exchange.url, status: 304, retry_after: None }));
            }
            Ok(Reply::Moved(moved)) => moved,
            Err(fault) => return (steps, Err(fault)),
        };
        asked.push(exchange.url.clone());
        exchange = match redirect::follow(&exchange, &moved, &asked) {
            Ok(next) if steps.len() >= bounds.most => {
                let reason = format!("to '{}' for now, because it had its share of requests", next.url);
                return (steps, Err(Fault::Redirect { url: exchange.url, reason }));
            }
            Ok(next) => next,
            Err(fault) => return (steps, Err(fault)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::responder::Moved;

    /// Leads on from every URL, to its own or to ever new ones.
    struct Misleading {
        circle: bool,
        asked: Mutex<Vec<String>>,
    }

    impl Responder for Misleading {
        async fn send(&self, exchange: &Exchange, _: Duration) -> Result<Reply, Fault> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(exchange.url.clone());
            let location = Some(if self.circle { "/".to_owned() } else { format!("/{}", asked.len()) });
            Ok(Reply::Moved(Moved { status: 302, location, by: None }))
        }
    }

    async fn misled(circle: bool, most: usize) -> (usize, String) {
        let responder = Misleading { circle, asked: Mutex::default() };
        let clock = Clock::anchored(jiff::Timestamp::UNIX_EPOCH);
        let bounds = Bounds { most, end: Monotonic::new(Duration::from_secs(1)) };
        let (steps, reply) =
            pursue(&responder, &clock, Exchange::get("http://a.example/".to_owned()), None, bounds).await;
        let asked = responder.asked.lock().unwrap().len();
        assert_eq!(steps.len(), asked, "every request counts");
        (asked, reply.unwrap_err().to_string())
    }

    #[tokio::test]
    async fn who_is_led_around_asks_no_more_than_it_may() {
        let (asked, reason) = misled(true, 4).await;
        assert!(asked == 1 && reason.contains("in a circle"), "{asked}: {reason}");
        let (asked, reason) = misled(false, 9).await;
        assert!(asked == 4 && reason.contains("the last of 4 in a row"), "{asked}: {reason}");
        let (asked, reason) = misled(false, 2).await;
        assert!(asked == 2 && reason.contains("to 'http://a.example/2' for now"), "{asked}: {reason}");
    }

    /// Has nothing newer, whoever asks, after so many redirects.
    struct NothingNewer(usize, Mutex<Vec<Copies>>);

    impl Responder for NothingNewer {
        async fn send(&self, exchange: &Exchange, _: Duration) -> Result<Reply, Fault> {
            let mut asked = self.1.lock().unwrap();
            asked.push(exchange.copies.clone());
            if asked.len() <= self.0 {
                let location = Some(format!("/{}", asked.len()));
                return Ok(Reply::Moved(Moved { status: 302, location, by: None }));
            }
            Ok(Reply::NotModified(Caching::default()))
        }
    }

    #[tokio::test]
    async fn a_tag_goes_where_it_came_from_and_a_304_is_an_answer_to_it_alone() {
        let tag = crate::responder::caching::EntityTag::parse("\"a\"").unwrap();
        let of = |url: &str| Validator { url: url.to_owned(), tag: tag.clone() };
        let clock = Clock::anchored(jiff::Timestamp::UNIX_EPOCH);
        let bounds = Bounds { most: 4, end: Monotonic::new(Duration::from_secs(1)) };
        let (first, second) = ("http://a.example/", "http://a.example/1");
        for (redirects, in_hand, last, answered) in [
            (0, Some(of(first)), Copies::InHand(tag.clone()), true),
            (0, Some(of(second)), Copies::Welcome, false),
            (0, None, Copies::Welcome, false),
            (1, Some(of(first)), Copies::Welcome, false),
            (1, Some(of(second)), Copies::InHand(tag.clone()), true),
        ] {
            let responder = NothingNewer(redirects, Mutex::default());
            let exchange = Exchange::get(first.to_owned());
            let (_, found) = pursue(&responder, &clock, exchange, in_hand.as_ref(), bounds).await;
            assert_eq!(responder.1.lock().unwrap().last(), Some(&last));
            assert_eq!(found.is_ok(), answered, "{redirects} {in_hand:?}: {found:?}");
        }
        // Neither a POST nor who wants no copies names one.
        let post = Exchange::post(first.to_owned(), vec![0x30]);
        let unwanted = Exchange { copies: Copies::Unwanted, ..Exchange::get(first.to_owned()) };
        for exchange in [post, unwanted] {
            let responder = NothingNewer(0, Mutex::default());
            let (_, found) = pursue(&responder, &clock, exchange, Some(&of(first)), bounds).await;
            assert!(matches!(found, Err(Fault::Status { status: 304, .. })), "{found:?}");
            assert!(!matches!(responder.1.lock().unwrap().last(), Some(Copies::InHand(_))));
        }
    }

    #[test]
    fn whoever_waits_is_kept_a_request_and_a_share_of_the_time() {
        let at = |seconds| Monotonic::new(Duration::from_secs(seconds));
        let whole = Bounds { most: 4, end: at(20) };
        let share = |sent, waiting, now| {
            let share = whole.share(sent, waiting, at(now));
            (share.most, share.end)
        };
        assert_eq!(share(0, 0, 10), (4, at(20)));
        assert_eq!(share(0, 1, 10), (3, at(15)));
        assert_eq!(share(0, 3, 0), (1, at(5)));
        assert_eq!(share(0, 9, 10), (1, at(11)));
        assert_eq!(share(4, 1, 10), (0, at(15)));
        assert_eq!(share(9, 0, 30), (0, at(30)));
    }
}
