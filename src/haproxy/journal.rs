//! What is written down before transactions are opened, so that one which a crash of ours left open can be told from
//! somebody else's. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::held::{HeldResponse, StapleView};
use super::process::Process;

/// HAProxy before 2.4 does not say when it started: that is reckoned from its uptime, in whole seconds and a look ago.
const START_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// The transactions that one batch of installations may open in one HAProxy process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The socket's address.
    haproxy: String,
    pid: u32,
    start_time: Option<u64>,
    started_about: Timestamp,
    transactions: Vec<Planned>,
}

/// One transaction that may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Planned {
    name: String,
    /// What HAProxy shows of the response tells it from every other.
    response: Option<String>,
}

impl Journal {
    /// For installations of these staples under these names.
    #[must_use]
    pub fn new<'a>(
        haproxy: &str,
        process: &Process,
        installations: impl IntoIterator<Item = (&'a str, StapleView<'a>)>,
        now: Timestamp,
    ) -> Self {
        let planned = |(name, staple): (&str, StapleView<'_>)| Planned {
            name: name.to_owned(),
            response: HeldResponse::from_der(staple.der).and_then(|response| response.digest()),
        };
        Self {
            haproxy: haproxy.to_owned(),
            pid: process.pid,
            start_time: process.start_time,
            started_about: started_about(process, now),
            transactions: installations.into_iter().map(planned).collect(),
        }
    }

    /// The same for another process behind the same socket.
    #[must_use]
    pub fn in_process(self, process: &Process, now: Timestamp) -> Self {
        Self { pid: process.pid, start_time: process.start_time, started_about: started_about(process, now), ..self }
    }

    /// The address of the socket it is about.
    #[must_use]
    pub fn haproxy(&self) -> &str {
        &self.haproxy
    }

    /// Whether it was written for this very process. In doubt, as after a step of the clock, it was not.
    #[must_use]
    pub fn is_about(&self, process: &Process, now: Timestamp) -> bool {
        let same_start = match (self.start_time, process.start_time) {
            (Some(then), Some(now)) => then == now,
            (None, None) => self.started_about.duration_since(started_about(process, now)).abs() <= START_TOLERANCE,
            _ => false,
        };
        self.pid == process.pid && same_start
    }

    /// Whether one of these transactions would be shown as one on `certificate`.
    pub(super) fn names(&self, process: &Process, certificate: &str) -> bool {
        self.transactions.iter().any(|planned| process.is_name_of(certificate, &planned.name))
    }

    /// Whether a transaction on `certificate` was to bring this response.
    pub(super) fn brings(&self, certificate: &str, response: &HeldResponse) -> bool {
        let digest = response.digest();
        digest.is_some()
            && self.transactions.iter().any(|planned| planned.name == certificate && planned.response == digest)
    }
}

fn started_about(process: &Process, now: Timestamp) -> Timestamp {
    crate::clock::earlier(now, process.uptime)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn process(info: &str) -> Process {
        Process::parse(&format!("Pid: 7\nUptime_sec: 100\n{info}\n")).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_journal_is_about_one_process_only() {
        let then = process("Version: 2.6.12\nStart_time_sec: 1799999900");
        let journal = Journal::new("/s", &then, [], at(0));
        let later = Process { uptime: Duration::from_secs(400), ..then.clone() };
        assert!(journal.is_about(&later, at(300)));
        assert!(journal.is_about(&later, at(-9000)), "the start time stands, whatever our clock does");
        assert!(!journal.is_about(&Process { pid: 8, ..later.clone() }, at(300)));
        assert!(!journal.is_about(&Process { start_time: Some(1_799_999_999), ..later.clone() }, at(300)));
        assert!(!journal.is_about(&Process { start_time: None, ..later }, at(300)));
    }

    #[test]
    fn it_can_be_about_another_process() {
        let then = process("Version: 2.6.12\nStart_time_sec: 1799999900");
        let reloaded = Process { pid: 8, start_time: Some(1_800_000_000), ..then.clone() };
        let journal = Journal::new("/s", &then, [], at(0)).in_process(&reloaded, at(1));
        assert!(journal.is_about(&reloaded, at(2)) && !journal.is_about(&then, at(2)));
    }

    #[test]
    fn without_a_start_time_the_uptime_tells() {
        let then = process("Version: 2.2.9");
        let journal = Journal::new("/s", &then, [], at(0));
        let after = |uptime, seconds| {
            journal.is_about(&Process { uptime: Duration::from_secs(uptime), ..then.clone() }, at(seconds))
        };
        assert!(after(400, 300));
        assert!(after(399, 302));
        assert!(!after(200, 300), "the container's HAProxy has its old process id again");
        assert!(!after(400, 3000), "in doubt it is another one");
    }

    #[test]
    fn it_comes_back_from_disk_as_it_was() {
        let journal = Journal::new("/s", &process("Version: 2.2.9"), [], at(0));
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }
}
