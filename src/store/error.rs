//! What a disk refused, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading a file or listing a directory.
    Read,
    /// Replacing a file.
    Write,
    /// Removing a file.
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        })
    }
}

/// Where it was being done; the remedies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `STAPLER_STATE_DIR`.
    StateDirectory,
    /// Beside a certificate.
    BesideCertificate,
}

/// A disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct StoreError {
    /// The file or directory.
    pub path: PathBuf,
    /// What was being done.
    pub operation: Operation,
    /// Where.
    pub place: Place,
    /// What the operating system said.
    pub source: io::Error,
}

impl StoreError {
    pub(super) fn new(operation: Operation, place: Place, path: PathBuf, source: io::Error) -> Self {
        Self { path, operation, place, source }
    }

    /// A stable word for it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "read_only",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no_space",
            // Both EACCES and EPERM.
            io::ErrorKind::PermissionDenied => "permission",
            io::ErrorKind::NotFound => "not_found",
            io::ErrorKind::FileTooLarge => "too_large",
            // The last one is a file in the place of the state directory.
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "not_a_file",
            _ => "other",
        }
    }

    /// What happened, in words that are the same for every file of a place where the place as a whole is to blame:
    /// one full disk is one message, not one a certificate.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.kind(), self.path.parent()) {
            ("read_only" | "no_space" | "permission", Some(directory)) => {
                format!("cannot {} files in {}: {}", self.operation, directory.display(), self.source)
            }
            _ => self.to_string(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match (self.kind(), self.place) {
            ("read_only", Place::StateDirectory) => {
                "mount a writable volume there or name another place with STAPLER_STATE_DIR"
            }
            ("read_only", Place::BesideCertificate) => {
                "mount the certificates read-write or set STAPLER_OCSP_FILES=never; \
                 HAProxy is given its staples over the socket either way"
            }
            ("permission", Place::StateDirectory) => {
                "make the directory this user's own, or its group's and group-writable (fsGroup in Kubernetes)"
            }
            ("permission", Place::BesideCertificate) => {
                "let this user write to the directory of the certificates or set STAPLER_OCSP_FILES=never"
            }
            ("no_space", _) => "free space on the volume or raise its quota; it is tried again",
            ("not_found", Place::BesideCertificate) => "the certificate or its directory has gone away meanwhile",
            ("not_a_file", _) => "remove what stands in the way: a directory where a file should be, or the reverse",
            ("too_large", _) => "nothing of ours is that large: remove it",
            _ => "it is tried again",
        }
    }
}
