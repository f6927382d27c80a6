//! When HAProxy holds each staple, as HAProxy itself says it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::site::Leaf;
use crate::support::haproxy::{Haproxy, ask, is_before};

/// Entries asked for on one connection: their names and answers fit HAProxy's buffers.
const AT_ONCE: usize = 32;
/// The pause after questions that brought little: looking must not cost what is measured.
const PAUSE: Duration = Duration::from_millis(5);

/// What was seen by the end.
pub struct Sight {
    /// When the first staple was there.
    pub first: Option<Duration>,
    /// When the last one was.
    pub all: Option<Duration>,
    /// How many there were in the end.
    pub count: usize,
}

/// Looks until HAProxy holds the CA's answer for all of `leaves`, or until `patience` ends.
///
/// HAProxy 2.8 and later show the bytes themselves; before, the text of an answer names the serial number.
pub fn watch(haproxy: &Haproxy, leaves: &[Leaf], start: Instant, patience: Duration) -> Sight {
    let (socket, shows_bytes) = (haproxy.socket(), !is_before(&haproxy.version(), 2, 8));
    let mut left: Vec<Expected<'_>> = leaves.iter().map(|leaf| Expected::new(leaf, shows_bytes)).collect();
    let mut sight = Sight { first: None, all: None, count: 0 };
    let mut next = 0;
    while !left.is_empty() && start.elapsed() < patience {
        if next >= left.len() {
            next = 0;
        }
        let end = (next + AT_ONCE).min(left.len());
        let questions: Vec<&str> = left[next..end].iter().map(|each| each.question.as_str()).collect();
        // Nobody listens while HAProxy is being reloaded.
        let said = ask(&socket, &questions.join(";")).unwrap_or_default();
        let at = start.elapsed();
        let asked = end - next;
        let mut place = 0;
        left.retain(|each| {
            let is_asked = (next..end).contains(&place);
            place += 1;
            !(is_asked && said.contains(&*each.mark))
        });
        let found = leaves.len() - sight.count - left.len();
        sight.count += found;
        next = end - found;
        if found > 0 {
            sight.first.get_or_insert(at);
        }
        if left.is_empty() {
            sight.all = Some(at);
        } else if found * 2 < asked {
            std::thread::sleep(PAUSE);
        }
    }
    sight
}

/// One entry of HAProxy's, and what its answer must have in it.
struct Expected<'a> {
    question: String,
    mark: Cow<'a, str>,
}

impl<'a> Expected<'a> {
    fn new(leaf: &'a Leaf, shows_bytes: bool) -> Self {
        let Leaf { entry, serial, answer, .. } = leaf;
        if shows_bytes {
            let mark = openssl::base64::encode_block(answer).into();
            Self { question: format!("show ssl ocsp-response base64 {entry}"), mark }
        } else {
            Self { question: format!("show ssl ocsp-response {entry}"), mark: serial.into() }
        }
    }
}
