//! HAProxy's own ocsp-update, as `show ssl ocsp-updates` tells of it (2.8 and later). Pure.

use super::inventory::CertIdKey;

/// One entry that HAProxy refreshes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeUpdate {
    /// The entry's key.
    pub key: String,
    /// The first certificate the entry serves.
    pub path: String,
    /// Which certificate it is for, if the entry is listed: all that have this CertID, also under a second name.
    pub id: Option<CertIdKey>,
    /// Updates that brought a response, in this process.
    pub successes: u64,
    /// Updates that did not.
    pub failures: u64,
    /// What came of the last one.
    pub last: LastUpdate,
    /// When the next and the last one are, in HAProxy's local time: good for nothing but to be compared.
    pub dates: [String; 2],
}

/// What came of the last update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastUpdate {
    /// There was none yet, or one is under way, perhaps for ever: HAProxy has no deadline for an answer.
    Unknown,
    /// It brought a response.
    Successful,
    /// It did not.
    Failed {
        /// Why, in HAProxy's words.
        reason: String,
    },
}

impl NativeUpdate {
    /// `KEY | PATH | next | last | successes | failures | status | status in words`. Key and path are enough to know that
    /// HAProxy updates it; the rest may be told in other words one day.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(8, " | ").map(str::trim);
        let (key, path) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let mut text = || fields.next().unwrap_or_default();
        let dates = [text().to_owned(), text().to_owned()];
        let mut number = || text().parse().ok();
        let (successes, failures, status) = (number(), number(), number());
        let last = match (status, text()) {
            (None | Some(0), _) => LastUpdate::Unknown,
            (Some(1), _) => LastUpdate::Successful,
            (Some(_), words) => LastUpdate::Failed { reason: words.to_owned() },
        };
        let (successes, failures) = (successes.unwrap_or(0), failures.unwrap_or(0));
        Some(Self { key, path, id: None, successes, failures, last, dates })
    }
}

/// The reply to `show ssl ocsp-updates`; none if it is something else. Which certificates are meant, the list of entries
/// knows ([`Entries::identify`](super::Entries::identify)).
pub(super) fn parse_native_updates(reply: &str) -> Option<Vec<NativeUpdate>> {
    let mut lines = reply.lines().filter(|line| !line.trim().is_empty());
    lines.next().filter(|heading| heading.starts_with("OCSP Certid | Path |"))?;
    Some(lines.filter_map(NativeUpdate::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "OCSP Certid | Path | Next Update | Last Update | Successes | Failures | Last Update Status | \
        Last Update Status (str)\n";

    #[test]
    fn every_outcome_of_an_update_is_read() {
        let reply = format!(
            "{HEADING}30aa | /c/a.pem | 23/Nov/2026:09:11:43 +0000 | 23/Nov/2026:08:11:43 +0000 | 1 | 0 | 1 | Update \
             successful\n30bb | /c/b.pem | 23/Nov/2026:08:15:38 +0000 | - | 0 | 1 | 2 | HTTP error\n30cc | @web/c d.pem | \
             23/Nov/2026:08:13:36 +0000 | - | 0 | 0 | 0 | Unknown\n30dd | /c/d.pem | - | - | 7 | 2 | 4 | OCSP response \
             check failure (OCSP_basic_verify() failed | certificate verify error)\n\n"
        );
        let updates = parse_native_updates(&reply).unwrap();
        let seen: Vec<_> = updates.iter().map(|each| (each.path.as_str(), each.successes, each.failures)).collect();
        assert_eq!(seen, [("/c/a.pem", 1, 0), ("/c/b.pem", 0, 1), ("@web/c d.pem", 0, 0), ("/c/d.pem", 7, 2)]);
        let failed = |reason: &str| LastUpdate::Failed { reason: reason.to_owned() };
        assert_eq!(updates[0].last, LastUpdate::Successful);
        assert_eq!(updates[1].last, failed("HTTP error"));
        assert_eq!(updates[2].last, LastUpdate::Unknown);
        let why = "OCSP response check failure (OCSP_basic_verify() failed | certificate verify error)";
        assert_eq!(updates[3].last, failed(why));
        // An update that is over is told from the one before it, even if all else is the same.
        let later = parse_native_updates(&reply.replace("08:11:43", "08:41:43")).unwrap();
        assert_ne!(later[0], updates[0]);
        assert_eq!(later[1], updates[1]);
    }

    #[test]
    fn a_reply_of_another_kind_is_not_taken_for_no_updates() {
        assert_eq!(parse_native_updates(HEADING), Some(vec![]));
        assert_eq!(parse_native_updates("Permission denied\n"), None);
        let half = parse_native_updates(&format!("{HEADING}30aa | /c/a.pem | another row\n")).unwrap();
        assert_eq!((half[0].path.as_str(), &half[0].last), ("/c/a.pem", &LastUpdate::Unknown));
    }
}
