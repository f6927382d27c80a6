//! One certificate file: reading it, and why it gives no certificate.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::certificate::{Certificate, Issuer};
use crate::pem::{self, Bundle, PemError};
use crate::stamp::Stamp;

/// A certificate, its chain and its key are some kilobytes. What is larger was not meant.
pub(super) const LARGEST_CERTIFICATE_FILE: u64 = 1024 * 1024;
/// A hundred thousand lines of a crt-list.
pub(super) const LARGEST_CRT_LIST: u64 = 16 * 1024 * 1024;

/// What a certificate file and its `.issuer` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The leaf and its chain.
    pub bundle: Bundle,
    /// The certificates of the `.issuer` file; empty without one.
    pub issuer_file: Vec<Certificate>,
    /// Why there is a `.issuer` file and yet nothing of it above.
    pub issuer_file_error: Option<FileError>,
    /// Where HAProxy looks for the OCSP response, as far as the files tell.
    pub ocsp_path: PathBuf,
    /// Who signed the leaf, if it is in one of them.
    pub issuer: Option<Issuer>,
    /// Whom HAProxy would take for the issuer at its next start, from the file itself and with the `.issuer` file.
    pub issuer_for_haproxy: IssuerForHaproxy,
}

/// The issuer that HAProxy would take: it checks no signature, so this may be another than the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerForHaproxy {
    /// Without the `.issuer` file.
    pub in_chain: Option<Certificate>,
    /// With it.
    pub with_issuer_file: Option<Certificate>,
}

impl Content {
    /// Looks for issuers once, while the file is read: it costs a signature.
    pub(crate) fn new(
        bundle: Bundle,
        issuer_file: Vec<Certificate>,
        issuer_file_error: Option<FileError>,
        ocsp_path: PathBuf,
    ) -> Self {
        let issuer = bundle.issuer(&issuer_file);
        let in_chain = bundle.issuer_for_haproxy(&[]).cloned();
        let with_issuer_file = in_chain.clone().or_else(|| bundle.issuer_for_haproxy(&issuer_file).cloned());
        let issuer_for_haproxy = IssuerForHaproxy { in_chain, with_issuer_file };
        bundle.leaf.settle();
        Self { bundle, issuer_file, issuer_file_error, ocsp_path, issuer, issuer_for_haproxy }
    }
}

/// Why a file gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not there.
    #[error("no such file")]
    NotFound,
    /// A symbolic link to nothing.
    #[error("a symbolic link to '{target}', where there is no file")]
    DanglingLink {
        /// What the link says.
        target: String,
    },
    /// The operating system refuses it to this user.
    #[error("permission denied")]
    Permission,
    /// No certificate is that large.
    #[error("{size} bytes are too many for a certificate file, at most {LARGEST_CERTIFICATE_FILE} are read")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// A directory, a socket or the like.
    #[error("not a regular file")]
    NotAFile,
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// There is no certificate in it.
    #[error("no PEM certificate in it")]
    NoCertificate,
    /// A certificate's PEM armour is damaged.
    #[error("{0}")]
    MalformedPem(PemError),
    /// What the armour holds is no certificate.
    #[error("{0}")]
    MalformedCertificate(PemError),
    /// Anything else the operating system said.
    #[error("{reason}")]
    Io {
        /// Its words.
        reason: String,
    },
}

impl FileError {
    /// A stable word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::DanglingLink { .. } => "dangling_link",
            Self::Permission => "permission",
            Self::TooLarge { .. } => "too_large",
            Self::NotAFile => "not_a_file",
            Self::Empty => "empty",
            Self::NoCertificate => "no_certificate",
            Self::MalformedPem(_) => "malformed_pem",
            Self::MalformedCertificate(_) => "malformed_certificate",
            Self::Io { .. } => "io",
        }
    }

    /// What to do about it. The file is read again as soon as it changes.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotFound => "if HAProxy has it under this name, mount it here too or set STAPLER_PATH_MAP",
            Self::DanglingLink { .. } => "mount the link's target here too, or mend the link",
            Self::Permission => "run as the user or in the group that may read it, as HAProxy does",
            Self::TooLarge { .. } => "put the certificate, its chain and its key there, and nothing else",
            Self::NotAFile => "put a file there: a certificate has to be a regular file",
            Self::Empty => "put the certificate there again: a full disk or a failed copy leaves such files",
            Self::NoCertificate => {
                "put the certificate and its chain into it: HAProxy reads them and the key from one PEM file"
            }
            Self::MalformedPem(_) => "it may be half-written: write it to another name and rename it",
            Self::MalformedCertificate(_) => "have the certificate issued again",
            Self::Io { .. } => "look at the volume the file is on",
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Permission,
            _ => Self::Io { reason: error.to_string() },
        }
    }
}

impl From<PemError> for FileError {
    fn from(error: PemError) -> Self {
        match error {
            PemError::NoCertificate { .. } => Self::NoCertificate,
            PemError::Truncated { .. } | PemError::Encoding { .. } => Self::MalformedPem(error),
            PemError::Certificate { .. } => Self::MalformedCertificate(error),
        }
    }
}

/// What the file system says about a regular file of acceptable size. Asked before opening: opening a FIFO would wait.
pub(super) fn regular(path: &Path, largest: u64) -> Result<Metadata, FileError> {
    let metadata = fs::metadata(path).map_err(|error| match (FileError::from(error), fs::read_link(path)) {
        (FileError::NotFound, Ok(target)) => FileError::DanglingLink { target: target.display().to_string() },
        (error, _) => error,
    })?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    if metadata.size() > largest {
        return Err(FileError::TooLarge { size: metadata.size() });
    }
    Ok(metadata)
}

/// The certificates of a `.issuer` file.
pub(super) fn read_issuer(path: &Path) -> Result<Vec<Certificate>, FileError> {
    let metadata = regular(path, LARGEST_CERTIFICATE_FILE)?;
    let (bytes, _) = read_whole(path, &metadata)?;
    Ok(pem::certificates(&bytes)?)
}

/// As many bytes as `metadata` says, in memory that is wiped afterwards: a private key may be among them. The buffer
/// is made large enough at once, since a growing one would leave copies behind.
pub(super) fn read_whole(path: &Path, metadata: &Metadata) -> Result<(Zeroizing<Vec<u8>>, Stamp), FileError> {
    let mut file = File::open(path)?;
    let size = metadata.size();
    let capacity = usize::try_from(size).map_err(|_| FileError::TooLarge { size })?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.by_ref().take(size).read_to_end(&mut bytes)?;
    Ok((bytes, Stamp::of(&file.metadata()?)))
}
