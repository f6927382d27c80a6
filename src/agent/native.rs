//! Certificates that HAProxy updates by itself: watched, not touched. No IO.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::later;
use crate::haproxy::{LastUpdate, NativeUpdate};
use crate::ocsp::{SKEW, Staple};
use crate::status::{OcspStatus, ServedStatus, State, Step, Trouble};

/// HAProxy fetches its first responses one after the other. Nothing is said meanwhile.
const FIRST_UPDATES: Duration = Duration::from_secs(60);

const HAND_OVER: &str = "set 'ocsp-update off' to hand it over";
const LOOK: &str = "see what HAProxy's log says after <OCSP-UPDATE>, and whether HAProxy reaches the responder; \
                    haproxy-stapler asks it once ocsp-update is off for this certificate";

/// What one HAProxy does about one certificate by itself.
#[derive(Clone, Debug)]
pub(super) struct Native {
    pub(super) update: NativeUpdate,
    /// Why the last update that ended failed, if it did: while the next is under way, HAProxy says nothing of it.
    failure: Option<String>,
    /// What it holds; none until it was read.
    held: Option<Holds>,
    reading: Reading,
}

/// Whether what HAProxy holds is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It may have changed.
    Due,
    Done,
    /// HAProxy did not answer: after the next survey.
    Missed,
}

/// What HAProxy holds for a certificate that it updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// A response that we would have installed, too.
    Genuine(Staple),
    /// One that a strict client refuses, or that HAProxy does not serve.
    Refused {
        kind: &'static str,
        reason: String,
    },
    /// One that cannot be judged here: nobody knows the issuer.
    Unjudged {
        this_update: Timestamp,
        next_update: Option<Timestamp>,
    },
}

/// What to think of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) detail: String,
    pub(super) trouble: Option<Trouble>,
}

impl Native {
    /// As listed now, after `before`.
    pub(super) fn new(update: NativeUpdate, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.update.key == update.key);
        let failure = match &update.last {
            LastUpdate::Successful => None,
            LastUpdate::Failed { reason } => Some(reason.clone()),
            LastUpdate::Unknown => before
                .filter(|before| before.update.successes == update.successes)
                .and_then(|before| before.failure.clone()),
        };
        let held = before.and_then(|before| before.held.clone());
        let is_read = before.is_some_and(|before| before.reading == Reading::Done && before.update == update);
        // An issuer that nobody knew may be known by now.
        let is_judged = !matches!(held, None | Some(Holds::Unjudged { .. }));
        let reading = if is_read && is_judged { Reading::Done } else { Reading::Due };
        Self { update, failure, held, reading }
    }

    /// Whether what it holds is to be read.
    pub(super) fn is_unread(&self) -> bool {
        self.reading == Reading::Due
    }

    /// Has what it holds read again.
    pub(super) fn read_again(&mut self) {
        self.reading = Reading::Due;
    }

    /// Another process starts with what its files hold.
    pub(super) fn forget(&mut self) {
        self.failure = None;
        self.held = None;
        self.reading = Reading::Due;
    }

    /// Takes note of what it holds; none if HAProxy did not answer.
    pub(super) fn read(&mut self, held: Option<Holds>) {
        self.reading = if held.is_some() { Reading::Done } else { Reading::Missed };
        self.held = held.or_else(|| self.held.take());
    }

    /// The verified staple that it serves.
    pub(super) fn staple(&self, now: Timestamp) -> Option<&Staple> {
        match &self.held {
            Some(Holds::Genuine(staple)) if staple.is_serving(now) => Some(staple),
            _ => None,
        }
    }

    /// What it serves. A response that is known to be wrong does not count.
    pub(super) fn served(&self, haproxy: &Arc<str>, now: Timestamp) -> Option<ServedStatus> {
        let is_served = match &self.held {
            Some(Holds::Genuine(staple)) => staple.is_serving(now),
            Some(Holds::Unjudged { next_update: Some(next_update), .. }) => later(now, SKEW) < *next_update,
            _ => false,
        };
        self.held(haproxy).filter(|_| is_served)
    }

    /// The same, however old it is.
    pub(super) fn held(&self, haproxy: &Arc<str>) -> Option<ServedStatus> {
        let (this_update, next_update) = match &self.held {
            Some(Holds::Genuine(staple)) => (staple.this_update(), staple.next_update()),
            Some(Holds::Unjudged { this_update, next_update: Some(next_update) }) => (*this_update, *next_update),
            _ => return None,
        };
        Some(ServedStatus { haproxy: haproxy.clone(), this_update, next_update })
    }

    /// What to think of it, in a process that has been running for `uptime`.
    pub(super) fn verdict(&self, uptime: Duration, now: Timestamp) -> Verdict {
        if ocsp_status(self.staple(now)) == OcspStatus::Revoked {
            let text = "the CA says it is revoked, and HAProxy's own ocsp-update staples that answer";
            return trouble(State::Revoked, Step::Verified, "revoked", text.to_owned(), "replace the certificate");
        }
        let fails = self.failure.as_ref().map(|reason| {
            let times = self.update.failures;
            format!("HAProxy's own ocsp-update fails ({reason}; {times} failed so far)")
        });
        if let Some(served) = self.served(&Arc::default(), now) {
            let until = served.next_update;
            return match fails {
                Some(fails) => {
                    let text = format!("served until {until}, but {fails}; {HAND_OVER}");
                    trouble(State::RefreshFailing, Step::Fetched, "native_update", text, LOOK)
                }
                None => quiet(&format!(", good until {until}")),
            };
        }
        let nothing = match (&self.held, fails) {
            (None, _) => return quiet(""),
            (Some(Holds::Refused { kind, reason }), _) => {
                let text =
                    format!("HAProxy's own ocsp-update holds a response that is of no use: {reason}; {HAND_OVER}");
                return trouble(State::Unstapled, Step::Verified, kind, text, LOOK);
            }
            (_, Some(fails)) => fails,
            (Some(Holds::Nothing), None) if self.is_unread() => return quiet(""),
            (Some(Holds::Nothing), None) if uptime < FIRST_UPDATES => return quiet(", but has no response yet"),
            (Some(Holds::Nothing), None) => "HAProxy's own ocsp-update has brought no response".to_owned(),
            (Some(Holds::Genuine(_) | Holds::Unjudged { .. }), None) => {
                "HAProxy's own ocsp-update has not replaced a response that has expired".to_owned()
            }
        };
        trouble(
            State::Unstapled,
            Step::Fetched,
            "native_update",
            format!("nothing is stapled: {nothing}; {HAND_OVER}"),
            LOOK,
        )
    }
}

/// What the CA says, if it could be checked.
pub(super) fn ocsp_status(staple: Option<&Staple>) -> OcspStatus {
    match staple {
        Some(staple) if staple.is_revoked() => OcspStatus::Revoked,
        Some(_) => OcspStatus::Good,
        None => OcspStatus::None,
    }
}

fn quiet(and: &str) -> Verdict {
    let detail = format!("HAProxy's own ocsp-update takes care of it{and}; {HAND_OVER}");
    Verdict { state: State::NativeUpdate, detail, trouble: None }
}

fn trouble(state: State, step: Step, kind: &'static str, detail: String, remedy: &str) -> Verdict {
    let trouble = Trouble { step: Some(step), kind, detail: detail.clone(), remedy: remedy.to_owned() };
    Verdict { state, detail, trouble: Some(trouble) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::LastUpdate;

    const LONG: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn update(successes: u64, failures: u64, last: LastUpdate) -> NativeUpdate {
        let (key, path) = ("30aa".to_owned(), "/c/a.pem".to_owned());
        NativeUpdate { key, path, id: None, successes, failures, last, dates: [String::new(), String::new()] }
    }

    fn failed() -> LastUpdate {
        LastUpdate::Failed { reason: "HTTP error".to_owned() }
    }

    fn holding(last: LastUpdate, held: Option<Holds>) -> Native {
        let mut native = Native::new(update(1, 1, last), None);
        assert!(native.is_unread());
        native.read(held);
        assert!(!native.is_unread());
        native
    }

    fn until(seconds: i64) -> Option<Holds> {
        Some(Holds::Unjudged { this_update: at(-1000), next_update: Some(at(seconds)) })
    }

    #[test]
    fn each_case_has_its_state_and_says_how_to_hand_it_over() {
        let refused = || Some(Holds::Refused { kind: "signature_invalid", reason: "forged".to_owned() });
        let (good, none) = (LastUpdate::Successful, LastUpdate::Unknown);
        for (last, held, uptime, state, words) in [
            (good.clone(), until(1000), LONG, State::NativeUpdate, "good until 2027-01-15T08:16:40Z"),
            (none.clone(), until(1000), LONG, State::NativeUpdate, "good until"),
            (failed(), until(1000), LONG, State::RefreshFailing, "(HTTP error; 1 failed so far)"),
            (failed(), until(300), LONG, State::Unstapled, "HTTP error"),
            (none.clone(), until(300), LONG, State::Unstapled, "has expired"),
            (none.clone(), Some(Holds::Nothing), Duration::ZERO, State::NativeUpdate, "no response yet"),
            (none.clone(), Some(Holds::Nothing), LONG, State::Unstapled, "has brought no response"),
            (failed(), Some(Holds::Nothing), Duration::ZERO, State::Unstapled, "HTTP error"),
            (good.clone(), refused(), LONG, State::Unstapled, "of no use: forged"),
            (good, None, LONG, State::NativeUpdate, "takes care of it"),
            (failed(), None, LONG, State::NativeUpdate, "takes care of it"),
        ] {
            let native = holding(last.clone(), held.clone());
            let verdict = native.verdict(uptime, at(0));
            assert_eq!(verdict.state, state, "{last:?} {held:?}");
            assert!(verdict.detail.contains(words) && verdict.detail.contains(HAND_OVER), "{}", verdict.detail);
            assert_eq!(verdict.trouble.is_some(), state.is_trouble());
            assert_eq!(
                native.served(&"/s".into(), at(0)).is_some(),
                matches!(held, Some(Holds::Unjudged { next_update, .. }) if next_update > Some(at(300)))
            );
        }
    }

    #[test]
    fn a_failure_is_not_forgotten_while_the_next_update_is_under_way() {
        let failing = holding(failed(), until(1000));
        let trying = Native::new(update(1, 1, LastUpdate::Unknown), Some(&failing));
        assert_eq!(trying.verdict(LONG, at(0)).state, State::RefreshFailing);
        let recovered = Native::new(update(2, 1, LastUpdate::Successful), Some(&trying));
        assert_eq!(recovered.verdict(LONG, at(0)).state, State::NativeUpdate);
        let mut restarted = failing;
        restarted.forget();
        let fresh = Native::new(update(0, 0, LastUpdate::Unknown), Some(&restarted));
        assert_eq!(fresh.verdict(Duration::ZERO, at(0)).state, State::NativeUpdate);
    }

    #[test]
    fn what_haproxy_holds_is_read_when_it_may_have_changed() {
        let same = || update(1, 1, LastUpdate::Successful);
        let judged = Some(Holds::Refused { kind: "stale", reason: String::new() });
        let read = holding(LastUpdate::Successful, judged.clone());
        assert!(!Native::new(same(), Some(&read)).is_unread());
        let changed = [update(2, 1, LastUpdate::Successful), update(1, 2, failed())];
        assert!(changed.into_iter().all(|update| Native::new(update, Some(&read)).is_unread()));
        // HAProxy did not answer, or the issuer may be known by now.
        let missed = holding(LastUpdate::Successful, None);
        assert!(Native::new(same(), Some(&missed)).is_unread());
        assert!(Native::new(same(), Some(&holding(LastUpdate::Successful, until(1000)))).is_unread());
        let mut again = read;
        again.read_again();
        again.read(None);
        assert_eq!(again.held, judged);
        assert!(Native::new(same(), Some(&again)).is_unread());
    }
}
