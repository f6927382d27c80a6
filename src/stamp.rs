//! What says whether a file or a directory is still as it was.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::between;

/// File systems tell apart what happens this long one after the other; the coarsest in use count in steps of two seconds.
const TICK: Duration = Duration::from_secs(2);

/// A file or a directory as the file system describes it. Two that are alike describe the same content, but for what
/// happened within one tick of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// What the file system said.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// What is at this path now, links followed; none if the operating system does not say.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Whether the next change is sure to show: the last one is longer ago than a tick.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        [self.modified, self.changed].into_iter().all(|(seconds, nanoseconds)| {
            let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
            Timestamp::new(seconds, nanoseconds).is_ok_and(|at| between(at, now) > TICK)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{earlier, later};

    #[test]
    fn what_has_just_changed_may_change_again_unseen() {
        let directory = tempfile::tempdir().unwrap();
        let stamp = Stamp::at(directory.path()).unwrap();
        let made = Timestamp::new(stamp.modified.0, 0).unwrap();
        assert!(!stamp.is_settled(made) && !stamp.is_settled(later(made, TICK)));
        assert!(!stamp.is_settled(earlier(made, TICK * 10)), "a clock that was put back says nothing");
        assert!(stamp.is_settled(later(made, TICK * 2)));
    }
}
