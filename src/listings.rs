//! Which names directories hold. Each directory is read once, however many of its files are asked for.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;

use crate::clock::between;
use crate::stamp::Stamp;

/// There are file systems that do not tell when a directory changes.
const LONGEST_TRUST: Duration = Duration::from_secs(300);

/// The names in the directories that were asked about so far. Made anew for each look at the disk.
#[derive(Debug, Default)]
pub struct Listings(HashMap<PathBuf, Listing>);

/// One directory.
#[derive(Debug)]
struct Listing {
    /// As it was just before it was read.
    stamp: Option<Stamp>,
    /// None of one that may be entered and not read.
    names: Option<HashSet<OsString>>,
}

impl Listings {
    /// Whether there is something at this path. A directory that may be entered and not read is asked for each file.
    pub fn has(&mut self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return path.exists() };
        self.read(directory).map_or_else(|| path.exists(), |names| names.contains(name))
    }

    /// All names in a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&mut self, directory: &Path) -> io::Result<impl Iterator<Item = &OsString>> {
        match self.read(directory) {
            Some(names) => Ok(names.iter()),
            None => Err(read(directory).err().unwrap_or_else(|| io::Error::other("it could not be read just before"))),
        }
    }

    fn read(&mut self, directory: &Path) -> Option<&HashSet<OsString>> {
        if !self.0.contains_key(directory) {
            let listing = Listing { stamp: Stamp::at(own(directory)), names: read(directory).ok() };
            self.0.insert(directory.to_owned(), listing);
        }
        self.0.get(directory)?.names.as_ref()
    }
}

fn read(directory: &Path) -> io::Result<HashSet<OsString>> {
    fs::read_dir(own(directory))?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// The directory of a name without one.
fn own(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Directories as they were when they were read: while they look like that, the same names are in them.
#[derive(Clone, Debug, Default)]
pub struct Directories {
    stamps: Vec<(PathBuf, Stamp)>,
    /// When they were read; none if that leaves doubts.
    read: Option<Timestamp>,
}

impl Directories {
    /// Those that were read since `now`, which is by the clock that file systems stamp with, if there is such a clock.
    #[must_use]
    pub fn of(listings: &Listings, now: Option<Timestamp>) -> Self {
        let is_certain = |listing: &Listing, now| {
            listing.names.is_some() && listing.stamp.is_some_and(|stamp| stamp.is_settled(now))
        };
        let read = now.filter(|now| listings.0.values().all(|listing| is_certain(listing, *now)));
        let stamps = listings.0.iter().filter_map(|(path, listing)| Some((own(path).to_owned(), listing.stamp?)));
        Self { stamps: stamps.collect(), read }
    }

    /// Whether all of them certainly hold the names that they held.
    #[must_use]
    pub fn are_unchanged(&self, now: Option<Timestamp>) -> bool {
        let is_trusted =
            self.read.zip(now).is_some_and(|(read, now)| now >= read && between(read, now) < LONGEST_TRUST);
        is_trusted && self.stamps.iter().all(|(path, stamp)| Stamp::at(path) == Some(*stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, later};

    #[test]
    fn what_is_there_is_found_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        fs::write(&path, "").unwrap();
        let mut listings = Listings::default();
        assert!(listings.has(&path) && !listings.has(&path.with_extension("ocsp")));
        assert!(!listings.has(&directory.path().join("no/such")) && listings.has(Path::new("/")));
        fs::remove_file(&path).unwrap();
        assert!(listings.has(&path), "one look, one answer");
        assert!(!Listings::default().has(&path));
    }

    #[test]
    fn a_directory_is_trusted_for_five_minutes_unless_something_came_or_went() {
        let directory = tempfile::tempdir().unwrap();
        let read = |now| {
            let mut listings = Listings::default();
            assert!(!listings.has(&directory.path().join("a.pem")));
            Directories::of(&listings, now)
        };
        let made = Clock::system().now().wall;
        let settled = later(made, Duration::from_secs(10));
        assert!(!read(Some(made)).are_unchanged(Some(settled)), "what comes in the same tick would not show");
        assert!(!read(None).are_unchanged(Some(settled)), "by another clock");

        let directories = read(Some(settled));
        assert!(directories.are_unchanged(Some(settled)) && !directories.are_unchanged(None));
        assert!(!directories.are_unchanged(Some(later(settled, LONGEST_TRUST))), "not every file system tells");
        assert!(!directories.are_unchanged(Some(made)), "the clock was put back");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(directory.path().join("a.pem"), "").unwrap();
        assert!(!directories.are_unchanged(Some(settled)));
    }
}
