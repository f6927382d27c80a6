//! Which HAProxy process answers, and what its version can do. Pure.

use std::fmt;
use std::time::Duration;

/// HAProxy's version, as `show info` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `3` of `3.0.11-1+deb13u3`.
    pub major: u32,
    /// `0` of `3.0.11-1+deb13u3`.
    pub minor: u32,
    /// `11` of `3.0.11-1+deb13u3`; none for a development snapshot such as `3.5-dev5`.
    pub patch: Option<u32>,
    /// The whole text.
    pub text: String,
}

impl Version {
    /// Reads `2.6.12-1+deb12u3`, `2.8.25-5cf5d0683`, `3.5-dev5`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let number = |part: &str| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        };
        let mut parts = text.splitn(3, '.');
        let major = number(parts.next()?)?;
        let minor = parts.next()?;
        let patch = if minor.chars().all(|c| c.is_ascii_digit()) { parts.next().and_then(number) } else { None };
        Some(Self { major, minor: number(minor)?, patch, text: text.to_owned() })
    }

    /// Whether this is `major.minor` or later.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// Whether `show ssl ocsp-response` lists the entries and shows a response as text.
    #[must_use]
    pub fn lists_entries(&self) -> bool {
        self.is_at_least(2, 5)
    }

    /// Whether `show ssl ocsp-response base64` gives the response's own bytes, and `show ssl ocsp-updates` exists.
    #[must_use]
    pub fn shows_der(&self) -> bool {
        self.is_at_least(2, 8)
    }

    /// Whether this release is older than the fix of the race between a staple's replacement and a handshake
    /// (26e74f140, 2026-07-28). Distributions may have the fix under an older number.
    #[must_use]
    pub fn may_have_the_stapling_race(&self) -> bool {
        let first_fixed = match (self.major, self.minor) {
            (2, 6) => 32,
            (2, 8) => 27,
            (3, 0) => 26,
            (3, 2) => 22,
            (3, 3) => 13,
            (3, 4) => 3,
            // Branches that were not maintained any more in July 2026, and those that began after it.
            _ => return !self.is_at_least(3, 5),
        };
        self.patch.is_none_or(|patch| patch < first_fixed)
    }

    /// Whether a transaction whose commit failed stays open, and HAProxy crashes when that one is aborted.
    #[must_use]
    pub fn keeps_failed_transactions(&self) -> bool {
        !self.is_at_least(2, 4)
    }

    /// Whether `a.pem.rsa` and `a.pem.ecdsa` are one store named `a.pem`.
    #[must_use]
    pub fn bundles(&self) -> bool {
        !self.is_at_least(2, 3)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The process behind a socket at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id, as it sees itself.
    pub pid: u32,
    /// Its version.
    pub version: Version,
    /// How long it had been running.
    pub uptime: Duration,
    /// `Start_time_sec`, seconds since 1970; 2.4 and later.
    pub start_time: Option<u64>,
    /// Whether it is leaving after a reload: what is installed there serves nobody.
    pub stopping: bool,
    /// `Nbproc`: with more than one, each has its own staples and any of them may answer (2.4 and earlier).
    pub processes: u32,
    /// The node's name, for people.
    pub node: Option<String>,
}

impl Process {
    /// Reads the reply to `show info`; none if it does not name a process.
    #[must_use]
    pub fn parse(info: &str) -> Option<Self> {
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        Some(Self {
            pid: field("Pid")?.parse().ok()?,
            version: Version::parse(field("Version")?)?,
            uptime: Duration::from_secs(field("Uptime_sec")?.parse().ok()?),
            start_time: field("Start_time_sec").and_then(|seconds| seconds.parse().ok()),
            stopping: field("Stopping").is_some_and(|stopping| stopping != "0"),
            processes: field("Nbproc").and_then(|count| count.parse().ok()).unwrap_or(1),
            node: field("node").filter(|node| !node.is_empty()).map(str::to_owned),
        })
    }

    /// Whether its transaction on `certificate` is the one that `name` needs: in 2.2, `a.pem.rsa` is a part of `a.pem`.
    pub(super) fn is_name_of(&self, certificate: &str, name: &str) -> bool {
        certificate == name
            || self.version.bundles()
                && name.strip_prefix(certificate).is_some_and(|suffix| [".rsa", ".ecdsa", ".dsa"].contains(&suffix))
    }

    /// Whether this is still the process that was seen `earlier`. A restarted container's HAProxy has the old process
    /// id again, so the start time (or an uptime that went down, before 2.4) counts too.
    #[must_use]
    pub fn is_same_as(&self, earlier: &Self) -> bool {
        let restarted = match (self.start_time, earlier.start_time) {
            (Some(now), Some(then)) => now != then,
            _ => false,
        };
        self.pid == earlier.pid && !restarted && self.uptime >= earlier.uptime && self.version == earlier.version
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFO: &str = "Name: HAProxy\nVersion: 2.6.12-1+deb12u3\nRelease_date: 2025/10/03\nNbthread: 2\nNbproc: 1\n\
        Process_num: 1\nPid: 22884\nUptime: 0d 0h00m01s\nUptime_sec: 1\nStopping: 0\nnode: web-1\n\
        Start_time_sec: 1795416846\n\n";

    fn process() -> Process {
        Process::parse(INFO).unwrap()
    }

    #[test]
    fn releases_before_the_fix_of_the_stapling_race_are_known() {
        let racy = |text: &str| Version::parse(text).unwrap().may_have_the_stapling_race();
        for text in ["2.2.9-2+deb11u6", "2.6.12-1+deb12u3", "2.6.31", "2.8.25-5cf5d0683", "3.1.99", "3.4.2", "3.4-dev8"]
        {
            assert!(racy(text), "{text}");
        }
        for text in ["2.6.32", "2.8.27", "3.0.26", "3.2.26-1", "3.4.7-1", "3.5-dev5", "3.5.0", "4.0.1"] {
            assert!(!racy(text), "{text}");
        }
    }

    #[test]
    fn show_info_names_the_process() {
        let process = process();
        assert_eq!(
            (process.pid, process.uptime, process.start_time),
            (22884, Duration::from_secs(1), Some(1795416846))
        );
        assert_eq!((process.stopping, process.processes, process.node.as_deref()), (false, 1, Some("web-1")));
        assert!(Process::parse(&INFO.replace("Stopping: 0", "Stopping: 1")).unwrap().stopping);
        assert_eq!(Process::parse("Unknown command: 'show', but maybe …\n"), None);
        assert_eq!(Process::parse("Pid: 1\n"), None);
    }

    #[test]
    fn a_reload_and_a_container_restart_are_other_processes() {
        let earlier = process();
        let later = Process { uptime: Duration::from_secs(60), ..process() };
        assert!(later.is_same_as(&earlier));
        assert!(!Process { pid: 1, ..later.clone() }.is_same_as(&earlier));
        assert!(!Process { start_time: Some(1795416999), ..later.clone() }.is_same_as(&earlier));
        let old = Process { start_time: None, ..later };
        assert!(!Process { uptime: Duration::from_secs(3), ..old.clone() }.is_same_as(&old));
        assert!(old.is_same_as(&old));
    }

    #[test]
    fn versions_say_what_they_can_do() {
        let version = |text: &str| Version::parse(text).unwrap();
        let parts = |text: &str| {
            let version = version(text);
            (version.major, version.minor, version.patch)
        };
        assert_eq!(parts("2.2.9-2+deb11u6"), (2, 2, Some(9)));
        assert_eq!(parts("3.0.11"), (3, 0, Some(11)));
        assert_eq!(parts("3.5-dev5-50872daa6.1"), (3, 5, None));
        assert_eq!(Version::parse("master"), None);
        assert_eq!(Version::parse(""), None);
        assert!(version("2.2.9").bundles() && !version("2.4.1").bundles());
        assert!(version("2.5.0").lists_entries() && !version("2.4.9").lists_entries());
        assert!(version("2.10.0").shows_der() && !version("2.7.9").shows_der());
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_parser_panic(reply in "(?s).{0,400}", version in ".{0,20}") {
            let _ = Process::parse(&reply);
            let _ = Version::parse(&version);
            let _ = Process::parse(&format!("Pid: {version}\nVersion: {version}\nUptime_sec: {version}\n"));
        }
    }
}
