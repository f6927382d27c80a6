//! What outlives the process: verified staples, downloaded issuers and journals of transactions in the state directory,
//! and the `.ocsp` files beside the certificates that make HAProxy's next start a stapled one.
//!
//! Of what HAProxy might load, only a verified [`Staple`] and a proven [`Issuer`] are ever written. A disk is not trusted:
//! what is read here is for the caller to verify again. Everything blocks; callers on an async runtime use a thread.

mod error;
mod file;
mod journal;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use openssl::sha::sha256;

pub use self::error::{Operation, Place, StoreError};
use self::file::{Attributes, Torn};
pub use self::journal::OpenJournal;
use crate::certificate::{Fingerprint, Issuer};
use crate::listings::Listings;
use crate::ocsp::Staple;
use crate::settings::OcspFiles;

const STAPLE: &str = "ocsp";
const ISSUER: &str = "issuer";

/// What came of the wish to have bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The file had them already and was not touched.
    Unchanged,
    /// The file has them now.
    Replaced,
    /// Files beside certificates are switched off; nothing was looked at.
    NotWanted,
}

/// The state directory, and the `.ocsp` files beside certificates.
#[derive(Debug)]
pub struct Store {
    state_dir: PathBuf,
    ocsp_files: OcspFiles,
    /// Directories that hold no temporary file of a process that died.
    tidy: Mutex<BTreeSet<PathBuf>>,
}

impl Store {
    /// Keeps state in `state_dir`, which is made when it is first written to.
    #[must_use]
    pub fn new(state_dir: PathBuf, ocsp_files: OcspFiles) -> Self {
        Self { state_dir, ocsp_files, tidy: Mutex::default() }
    }

    /// The staple last saved for this certificate; unverified.
    ///
    /// # Errors
    /// When there is something and it cannot be read.
    pub fn load(&self, fingerprint: Fingerprint) -> Result<Option<Vec<u8>>, StoreError> {
        self.load_state(fingerprint, STAPLE)
    }

    /// Saves a staple for this certificate.
    ///
    /// # Errors
    /// When the disk does not take it. What was saved before is still there.
    pub fn save(&self, fingerprint: Fingerprint, staple: &Staple) -> Result<Written, StoreError> {
        self.save_state(fingerprint, STAPLE, staple.der())
    }

    /// Whether there still is a staple saved for this certificate; what is in it is not looked at.
    #[must_use]
    pub fn has_staple(&self, fingerprint: Fingerprint, listings: &mut Listings) -> bool {
        listings.has(&self.state_path(fingerprint, STAPLE))
    }

    /// Whether there still is a downloaded issuer saved for this leaf; what is in it is not looked at.
    #[must_use]
    pub fn has_issuer(&self, leaf: Fingerprint, listings: &mut Listings) -> bool {
        listings.has(&self.state_path(leaf, ISSUER))
    }

    /// The downloaded issuer of this leaf, as it was saved; unverified.
    ///
    /// That it signed the leaf proves its name and its key and nothing else: with a damaged notAfter it would pass for
    /// expired for ever. So what is not what was saved is nothing, and is downloaded again.
    ///
    /// # Errors
    /// When there is something and it cannot be read.
    pub fn load_issuer(&self, leaf: Fingerprint) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed = self.load_state(leaf, ISSUER)?;
        Ok(sealed.as_deref().and_then(unseal).map(<[u8]>::to_vec))
    }

    /// Saves the downloaded issuer of this leaf.
    ///
    /// # Errors
    /// When the disk does not take it. What was saved before is still there.
    pub fn save_issuer(&self, leaf: Fingerprint, issuer: &Issuer) -> Result<Written, StoreError> {
        self.save_state(leaf, ISSUER, &seal(issuer.certificate().der()))
    }

    /// What a certificate's `.ocsp` file holds; unverified. An empty file is `Some` of nothing: people make one to have
    /// HAProxy staple later.
    ///
    /// # Errors
    /// When there is something and it cannot be read.
    pub fn read_beside(&self, ocsp: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        file::read(ocsp)
            .map_err(|source| StoreError::new(Operation::Read, Place::BesideCertificate, ocsp.to_owned(), source))
    }

    /// Has the `.ocsp` file of a certificate hold this staple, readable to everyone who can read the certificate.
    ///
    /// # Errors
    /// When the disk does not take it. What was there before is still there.
    pub fn keep_beside(&self, ocsp: &Path, certificate: &Path, staple: &Staple) -> Result<Written, StoreError> {
        self.keep_bytes(ocsp, certificate, staple.der())
    }

    /// Removes a certificate's `.ocsp` file if it still holds exactly this staple: what somebody else put there is
    /// theirs. Says whether it did.
    ///
    /// # Errors
    /// When the file cannot be read or removed.
    pub fn remove_beside(&self, ocsp: &Path, staple: &Staple) -> Result<bool, StoreError> {
        self.remove_bytes(ocsp, staple.der())
    }

    /// Removes from the state directory what belongs to no certificate in `keep`, and the journals of processes that died,
    /// if last written before `older_than`. Says how many files that were. Temporary files of processes that died go
    /// whatever their age, once. Files that are not of our making stay.
    ///
    /// # Errors
    /// With the first file that could not be removed; the others are removed all the same.
    pub fn sweep(&self, keep: &BTreeSet<Fingerprint>, older_than: Timestamp) -> Result<usize, StoreError> {
        let failed =
            |operation, path: &Path, source| StoreError::new(operation, Place::StateDirectory, path.to_owned(), source);
        let entries = match fs::read_dir(&self.state_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed(Operation::Read, &self.state_dir, error)),
        };
        self.tidy_up(&self.state_dir);
        let mut removed = 0;
        let mut first_failure = None;
        for entry in entries {
            let entry = entry.map_err(|source| failed(Operation::Read, &self.state_dir, source))?;
            let name = entry.file_name();
            let is_garbage = match fingerprint_of(&name.to_string_lossy()) {
                Some(fingerprint) => !keep.contains(&fingerprint),
                None => journal::is_journal(&name.to_string_lossy()),
            };
            if !is_garbage {
                continue;
            }
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            // Gone meanwhile, or of an age nobody knows, counts as fresh.
            if written.and_then(|at| Timestamp::try_from(at).ok()).is_none_or(|at| at >= older_than) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    first_failure.get_or_insert_with(|| failed(Operation::Remove, &entry.path(), error));
                }
            }
        }
        first_failure.map_or(Ok(removed), Err)
    }

    fn keep_bytes(&self, ocsp: &Path, certificate: &Path, der: &[u8]) -> Result<Written, StoreError> {
        if self.ocsp_files == OcspFiles::Never {
            return Ok(Written::NotWanted);
        }
        let failed = |operation, path: &Path, source| {
            StoreError::new(operation, Place::BesideCertificate, path.to_owned(), source)
        };
        let metadata = fs::metadata(certificate).map_err(|source| failed(Operation::Read, certificate, source))?;
        let attributes = Attributes::of(&metadata);
        let directory = file::directory(ocsp);
        self.tidy_up(directory);
        if file::holds(ocsp, der) {
            attributes.mend(ocsp);
            return Ok(Written::Unchanged);
        }
        file::replace(ocsp, der, &attributes, Torn::Harmful).map_err(|source| {
            // It may have left its temporary file behind.
            self.tidy.lock().unwrap_or_else(PoisonError::into_inner).remove(directory);
            failed(Operation::Write, ocsp, source)
        })?;
        Ok(Written::Replaced)
    }

    fn remove_bytes(&self, ocsp: &Path, expected: &[u8]) -> Result<bool, StoreError> {
        if self.ocsp_files == OcspFiles::Never || self.read_beside(ocsp)?.as_deref() != Some(expected) {
            return Ok(false);
        }
        fs::remove_file(ocsp)
            .and_then(|()| file::sync_directory(file::directory(ocsp)))
            .map_err(|source| StoreError::new(Operation::Remove, Place::BesideCertificate, ocsp.to_owned(), source))?;
        Ok(true)
    }

    fn load_state(&self, fingerprint: Fingerprint, kind: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.state_path(fingerprint, kind);
        file::read(&path).map_err(|source| StoreError::new(Operation::Read, Place::StateDirectory, path, source))
    }

    fn save_state(&self, fingerprint: Fingerprint, kind: &str, bytes: &[u8]) -> Result<Written, StoreError> {
        let path = self.state_path(fingerprint, kind);
        if file::holds(&path, bytes) {
            return Ok(Written::Unchanged);
        }
        let attributes = match Attributes::in_directory(&self.state_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = DirBuilder::new().recursive(true).mode(0o750).create(&self.state_dir);
                made.and_then(|()| Attributes::in_directory(&self.state_dir))
            }
            known => known,
        };
        attributes
            .and_then(|attributes| file::replace(&path, bytes, &attributes, Torn::Harmless))
            .map_err(|source| StoreError::new(Operation::Write, Place::StateDirectory, path, source))?;
        Ok(Written::Replaced)
    }

    fn state_path(&self, fingerprint: Fingerprint, kind: &str) -> PathBuf {
        self.state_dir.join(format!("{fingerprint}.{kind}"))
    }

    /// Removes the temporary files of processes that died, once for each directory: they can only be from before.
    fn tidy_up(&self, directory: &Path) {
        if self.tidy.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned()) {
            file::remove_temporary_files(directory);
        }
    }
}

/// A certificate, and what it looked like: against decay, not against people.
fn seal(der: &[u8]) -> Vec<u8> {
    [der, sha256(der).as_slice()].concat()
}

fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (der, seal) = sealed.split_last_chunk::<32>()?;
    (sha256(der) == *seal).then_some(der)
}

/// Whose state a file of this name is.
fn fingerprint_of(name: &str) -> Option<Fingerprint> {
    let (stem, extension) = name.split_once('.')?;
    let fingerprint: Fingerprint = stem.parse().ok().filter(|_| [STAPLE, ISSUER].contains(&extension))?;
    // We write capitals; anything else is somebody else's.
    (fingerprint.to_string() == stem).then_some(fingerprint)
}

#[cfg(test)]
mod tests;
