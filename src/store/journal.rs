//! Journals in the state directory: which transactions are about to be opened in a HAProxy.
//!
//! A journal is there while a batch of installations is under way. One whose writer is gone tells the next start which
//! open transaction is a crash's. It only has to outlive our process, and with the machine HAProxy dies too: nothing
//! waits for the disk to have it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{Operation, Place, StoreError};
use super::file::Attributes;
use super::{Store, file};
use crate::haproxy::Journal;

const EXTENSION: &str = ".journal";

/// A journal on disk. It stays there until it is removed, and is locked as long as this value lives.
#[derive(Debug)]
pub struct OpenJournal {
    path: PathBuf,
    file: File,
    journal: Journal,
}

impl Store {
    /// Writes a journal, in the place of what an earlier one left.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn open_journal(&self, journal: Journal) -> Result<OpenJournal, StoreError> {
        let path = self.journal_path(journal.haproxy());
        let write = || {
            DirBuilder::new().recursive(true).mode(0o750).create(&self.state_dir)?;
            let mut temporary = file::temporary_file(&self.state_dir, path.file_name().unwrap_or_default())?;
            // Where there are no locks, nobody will take it for a dead process's.
            let _ = temporary.as_file().try_lock();
            Attributes::in_directory(&self.state_dir)?.give(temporary.as_file())?;
            temporary.write_all(serde_json::to_string(&journal)?.as_bytes())?;
            temporary.persist(&path).map_err(|error| error.error)
        };
        let written = match write() {
            // A sweep that began just then took the temporary file for a left-over one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.state_dir.is_dir() => write(),
            written => written,
        };
        match written {
            Ok(file) => Ok(OpenJournal { path, file, journal }),
            Err(error) => Err(failed(Operation::Write, path, file::without_random_name(&error))),
        }
    }

    /// The journal that a process which is gone left for the HAProxy at this address.
    ///
    /// # Errors
    /// When there is one and it cannot be read or locked.
    pub fn left_journal(&self, haproxy: &str) -> Result<Option<OpenJournal>, StoreError> {
        let path = self.journal_path(haproxy);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(Operation::Read, path, error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            // Its writer is at work: `once` beside the daemon, for one.
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(Operation::Read, path, error)),
        }
        let text = file::read(&path).map_err(|error| failed(Operation::Read, path.clone(), error))?;
        if !is_still_at(&file, &path) {
            return Ok(None);
        }
        let journal = text.and_then(|text| serde_json::from_slice::<Journal>(&text).ok());
        match journal.filter(|journal| journal.haproxy() == haproxy) {
            Some(journal) => Ok(Some(OpenJournal { path, file, journal })),
            // Half of one, or nothing of ours: of no use to anybody.
            None => fs::remove_file(&path).map(|()| None).map_err(|error| failed(Operation::Remove, path, error)),
        }
    }

    /// Whether journals can be written at all.
    ///
    /// # Errors
    /// When the disk does not take a file.
    pub fn try_state_directory(&self) -> Result<(), StoreError> {
        let path = self.journal_path("");
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.state_dir)
            .and_then(|()| file::temporary_file(&self.state_dir, path.file_name().unwrap_or_default()))
            .and_then(|mut temporary| temporary.write_all(b"{}"))
            .map_err(|error| failed(Operation::Write, path, file::without_random_name(&error)))
    }

    /// The error of a disk that does not answer.
    #[must_use]
    pub fn no_answer(&self) -> StoreError {
        failed(Operation::Write, self.journal_path(""), io::ErrorKind::TimedOut.into())
    }

    fn journal_path(&self, haproxy: &str) -> PathBuf {
        let digest: String = openssl::sha::sha1(haproxy.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        self.state_dir.join(format!("{digest}{EXTENSION}"))
    }
}

impl OpenJournal {
    /// What it says.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Removes it: no transaction of these is open any more.
    ///
    /// # Errors
    /// When it stays. As long as this value lives, nobody in this or another process takes it for a dead one's.
    pub fn remove(&self) -> Result<(), StoreError> {
        if !is_still_at(&self.file, &self.path) {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(|error| failed(Operation::Remove, self.path.clone(), error))
    }
}

/// Whether a file has this name.
pub(super) fn is_journal(name: &str) -> bool {
    let digest = name.strip_suffix(EXTENSION).unwrap_or_default();
    digest.len() == 40 && digest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether nobody put another file in its place.
fn is_still_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let held = file.metadata().map(inode).ok();
    held.is_some() && held == fs::metadata(path).map(inode).ok()
}

fn failed(operation: Operation, path: PathBuf, source: io::Error) -> StoreError {
    StoreError::new(operation, Place::StateDirectory, path, source)
}
