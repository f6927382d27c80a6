//! Finds certificate files the way HAProxy does, and reads them again only when they changed.
//!
//! A poll, not a watch: Kubernetes swaps a link two directories up, NFS tells nobody anything, and a scan that is two
//! stat calls a certificate costs next to nothing. Everything here blocks; callers on an async runtime use a thread.

mod companions;
mod file;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use self::companions::Companions;
pub use self::file::{Content, FileError, IssuerForHaproxy};
use self::file::{LARGEST_CERTIFICATE_FILE, LARGEST_CRT_LIST};
use self::reading::{Reading, Seen, read_ahead};
use crate::crt_list::{CrtList, Refusal};
use crate::listings::{Directories, Listings};
use crate::pem::Pool;
use crate::settings::PathMap;
use crate::stamp::Stamp;

/// What HAProxy does not take for a certificate in a directory.
const NOT_CERTIFICATES: [&str; 4] = ["key", "issuer", "ocsp", "sctl"];
/// What a certificate file is called by custom. Anything else in a directory may as well be a README.
const CERTIFICATE_EXTENSIONS: [&str; 6] = ["pem", "crt", "cer", "rsa", "dsa", "ecdsa"];
/// One certificate for each kind of key, under one name: a `crt foo.pem` that is not there stands for those that are.
const BUNDLE_EXTENSIONS: [&str; 3] = ["rsa", "dsa", "ecdsa"];

/// What one look at the files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every certificate file, by path, each once.
    pub files: Vec<CertificateFile>,
    /// What hinders finding more.
    pub problems: Vec<Problem>,
}

/// One certificate file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Where it is, as configured: symbolic links are not resolved, because the `.ocsp` belongs beside the link.
    pub path: PathBuf,
    /// What it says. While the file does not change, this is the same allocation in every scan.
    pub content: Result<Arc<Content>, FileError>,
}

/// Something named by `STAPLER_CERTS` that does not lead to certificates. It heals when the next scan finds it in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct Problem {
    /// What `STAPLER_CERTS` names.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: ProblemError,
}

/// What is wrong with something that `STAPLER_CERTS` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// Nothing is there.
    #[error("STAPLER_CERTS names it, but there is no such file or directory")]
    Missing,
    /// It could not be read.
    #[error("STAPLER_CERTS names it, but it cannot be read: {0}")]
    Unreadable(FileError),
    /// A directory or a crt-list without a single certificate.
    #[error("STAPLER_CERTS names it, but there is no certificate in it")]
    Empty,
    /// A line of a crt-list that HAProxy would not take.
    #[error("{reason}")]
    CrtList {
        /// The line and what is wrong with it.
        reason: String,
    },
}

impl ProblemError {
    /// A stable word for it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable(_) => "unreadable",
            Self::Empty => "empty",
            Self::CrtList { .. } => "crt_list",
        }
    }

    /// What to do about it. It is looked at again at every scan.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Missing => "mount it, or name another place",
            Self::Unreadable(error) => error.remedy(),
            Self::Empty => "put certificates there, or take it out of STAPLER_CERTS",
            Self::CrtList { .. } => "mend the line before HAProxy is reloaded",
        }
    }
}

impl From<&Refusal> for ProblemError {
    fn from(refusal: &Refusal) -> Self {
        Self::CrtList { reason: refusal.to_string() }
    }
}

/// Looks for certificate files, and remembers what it read.
#[derive(Debug)]
pub struct Scanner {
    roots: Vec<PathBuf>,
    path_map: PathMap,
    seen: HashMap<PathBuf, Box<Seen>>,
    chains: Pool,
    last: Option<Last>,
}

/// What the last look went by, if all of it can be held against the disk again.
#[derive(Debug)]
struct Last {
    also: Vec<PathBuf>,
    directories: Directories,
}

impl Scanner {
    /// Will look at `roots`: certificate files, directories and crt-lists.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>, path_map: PathMap) -> Self {
        Self { roots, path_map, seen: HashMap::new(), chains: Pool::default(), last: None }
    }

    /// What [`scan`](Self::scan) finds; none if that is what the look before found. That is told from the file system's
    /// stamps, if `now` is by the clock that it stamps with.
    pub fn look(&mut self, also: &[PathBuf], now: Option<Timestamp>) -> Option<Scan> {
        let unchanged = self.last.as_ref().is_some_and(|last| {
            let asked_alike = last.also == also && last.directories.are_unchanged(now);
            asked_alike && self.seen.iter().all(|(path, seen)| seen.is_untouched(path))
        });
        (!unchanged).then(|| self.scan_at(also, now))
    }

    /// Looks at everything once. `also` are the places of certificates that HAProxy says it has loaded; those that
    /// cannot be found here are passed over.
    pub fn scan(&mut self, also: &[PathBuf]) -> Scan {
        self.scan_at(also, None)
    }

    fn scan_at(&mut self, also: &[PathBuf], now: Option<Timestamp>) -> Scan {
        let before = std::mem::take(&mut self.seen);
        let mut pass = Pass {
            path_map: &self.path_map,
            chains: &self.chains,
            listings: Listings::default(),
            before,
            seen: HashMap::new(),
            ahead: HashMap::new(),
            files: BTreeMap::new(),
            problems: Vec::new(),
            is_repeatable: true,
            also,
        };
        for root in &self.roots {
            if let Err(error) = pass.root(root) {
                pass.problems.push(Problem { path: root.clone(), error });
            }
        }
        for path in also {
            for path in pass.existing(path) {
                pass.named(path);
            }
        }
        // What was found that way, or in a crt-list that has changed, stays in view.
        let known =
            pass.before.iter().filter(|(_, seen)| !matches!(seen.reading, Reading::Text(_) | Reading::OtherPem));
        for path in known.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            if pass.listings.has(&path) {
                pass.named(path);
            }
        }
        let Pass { seen, files, mut problems, listings, is_repeatable, .. } = pass;
        self.seen = seen;
        self.last = (is_repeatable && problems.is_empty())
            .then(|| Last { also: also.to_vec(), directories: Directories::of(&listings, now) });
        self.chains.tidy();
        problems.sort();
        problems.dedup();
        let files = files.into_iter().map(|(path, content)| CertificateFile { path, content }).collect();
        Scan { files, problems }
    }
}

/// One scan in progress.
struct Pass<'a> {
    path_map: &'a PathMap,
    chains: &'a Pool,
    listings: Listings,
    before: HashMap<PathBuf, Box<Seen>>,
    seen: HashMap<PathBuf, Box<Seen>>,
    /// Read before their turn.
    ahead: HashMap<PathBuf, Box<Seen>>,
    files: BTreeMap<PathBuf, Result<Arc<Content>, FileError>>,
    problems: Vec<Problem>,
    /// Whether directories and files that look the same would lead to the same again.
    is_repeatable: bool,
    also: &'a [PathBuf],
}

impl Pass<'_> {
    fn root(&mut self, root: &Path) -> Result<(), ProblemError> {
        let metadata = match fs::metadata(root).map_err(FileError::from) {
            Ok(metadata) => metadata,
            Err(FileError::NotFound) => {
                let bundle = self.existing(root);
                if bundle.is_empty() {
                    return Err(ProblemError::Missing);
                }
                bundle.into_iter().for_each(|path| self.named(path));
                return Ok(());
            }
            Err(error) => return Err(ProblemError::Unreadable(error)),
        };
        if metadata.is_dir() {
            return self.directory(root);
        }
        if is_named_like_a_certificate(root) {
            self.named(root.to_owned());
            return Ok(());
        }
        match self.read(root, LARGEST_CRT_LIST) {
            Ok(Reading::Text(list)) => self.crt_list(root, &list),
            Ok(Reading::Certificate(_)) => {
                self.named(root.to_owned());
                Ok(())
            }
            Ok(Reading::OtherPem) => Err(ProblemError::Empty),
            Ok(Reading::Broken(error)) | Err(error) => Err(ProblemError::Unreadable(error)),
        }
    }

    /// As HAProxy's `crt DIRECTORY`: regular files, links followed, no subdirectories, no dotfiles (which keeps out
    /// Kubernetes' `..data` and our own temporary files), none of the files that belong to a certificate.
    fn directory(&mut self, directory: &Path) -> Result<(), ProblemError> {
        let names = self.listings.names(directory).map_err(|error| ProblemError::Unreadable(error.into()))?;
        let named = names.filter(|name| may_be_a_certificate(name));
        let paths: Vec<PathBuf> = named.map(|name| directory.join(name)).collect();
        let new = paths.iter().filter(|path| !self.before.contains_key(*path) && !self.seen.contains_key(*path));
        self.ahead = read_ahead(&new.collect::<Vec<_>>(), self.chains);
        let mut is_empty = true;
        for path in paths {
            let content = match self.read(&path, LARGEST_CERTIFICATE_FILE) {
                Ok(Reading::Certificate(content)) => Ok(content),
                Ok(Reading::Text(list)) if is_named_like_a_certificate(&path) => Err(no_certificate(&list)),
                Err(FileError::NotAFile) | Ok(Reading::OtherPem | Reading::Text(_)) => continue,
                Ok(Reading::Broken(error)) | Err(error) => Err(error),
            };
            is_empty = false;
            self.files.insert(path, content);
        }
        if is_empty { Err(ProblemError::Empty) } else { Ok(()) }
    }

    fn crt_list(&mut self, path: &Path, list: &CrtList) -> Result<(), ProblemError> {
        for refusal in &list.refusals {
            self.problems.push(Problem { path: path.to_owned(), error: refusal.into() });
        }
        for entry in &list.entries {
            let own = self.path_map.to_own(&entry.certificate);
            if own.is_absolute() {
                self.named_or_bundle(&[own]);
            } else if !entry.certificate.starts_with('@') {
                // HAProxy resolves by `crt-base` or its working directory. Neither can be known here, but what came of it
                // is among the names that HAProxy gave, if it told any.
                let beside = path.parent().unwrap_or_else(|| Path::new("")).join(&own);
                let resolved = with_parts(&own).any(|own| self.also.iter().any(|known| known.ends_with(&own)));
                if !resolved || !self.existing(&beside).is_empty() {
                    self.named_or_bundle(&[beside, own]);
                }
            }
        }
        if list.entries.is_empty() { Err(ProblemError::Empty) } else { Ok(()) }
    }

    /// The first of `candidates` that exists; the first one's absence is noted if none does.
    fn named_or_bundle(&mut self, candidates: &[PathBuf]) {
        let found = candidates.iter().map(|path| self.existing(path)).find(|paths| !paths.is_empty());
        match found {
            Some(paths) => paths.into_iter().for_each(|path| self.named(path)),
            None => self.files.extend(candidates.first().map(|path| (path.clone(), Err(FileError::NotFound)))),
        }
    }

    /// `path`, or the bundle that it is the base name of, or nothing.
    fn existing(&mut self, path: &Path) -> Vec<PathBuf> {
        // An error other than absence is for the reader to meet and to report.
        let is_there =
            |path: &Path| !fs::metadata(path).is_err_and(|error| FileError::from(error) == FileError::NotFound);
        if is_there(path) {
            return vec![path.to_owned()];
        }
        // What is not there may come without a word from any directory that was read.
        self.is_repeatable = false;
        with_parts(path).filter(|path| is_there(path)).collect()
    }

    /// A file that somebody says is a certificate.
    fn named(&mut self, path: PathBuf) {
        let content = match self.read(&path, LARGEST_CERTIFICATE_FILE) {
            Ok(Reading::Certificate(content)) => Ok(content),
            Ok(Reading::OtherPem) => Err(FileError::NoCertificate),
            Ok(Reading::Text(list)) => Err(no_certificate(&list)),
            Ok(Reading::Broken(error)) | Err(error) => Err(error),
        };
        self.files.insert(path, content);
    }

    /// What the file says; from memory while neither it nor its `.issuer` changed. What the operating system refuses
    /// is an error and is not remembered, what the file holds is.
    fn read(&mut self, path: &Path, largest: u64) -> Result<Reading, FileError> {
        let read = self.read_anew(path, largest);
        // A directory among the files shows as little as any other file of no interest.
        self.is_repeatable &= self.seen.contains_key(path) || matches!(read, Err(FileError::NotAFile));
        read
    }

    fn read_anew(&mut self, path: &Path, largest: u64) -> Result<Reading, FileError> {
        let metadata = file::regular(path, largest)?;
        if let Some(seen) = self.seen.get(path) {
            return Ok(seen.reading.clone());
        }
        let stamp = Stamp::of(&metadata);
        let before = self.before.remove(path);
        let unchanged = before.as_ref().is_some_and(|seen| seen.is_current(path, stamp, &mut self.listings));
        let seen = match (before, self.ahead.remove(path)) {
            (Some(seen), _) if unchanged => seen,
            (None, Some(seen)) if seen.stamp == stamp => seen,
            (before, _) => {
                let mut seen = Seen::read(path, &metadata, self.chains, &mut self.listings)?;
                seen.reuse(before.map(|seen| seen.reading));
                seen
            }
        };
        let reading = seen.reading.clone();
        if seen.is_settled {
            self.seen.insert(path.to_owned(), seen);
        }
        Ok(reading)
    }
}

/// Text that was to be a certificate.
fn no_certificate(text: &CrtList) -> FileError {
    if *text == CrtList::default() { FileError::Empty } else { FileError::NoCertificate }
}

/// `path`, and what it would be the base name of.
fn with_parts(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parts = BUNDLE_EXTENSIONS.iter().map(|extension| Companions::Appended.path(path, extension));
    std::iter::once(path.to_owned()).chain(parts)
}

fn may_be_a_certificate(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".") && !has_extension(Path::new(name), &NOT_CERTIFICATES)
}

fn is_named_like_a_certificate(path: &Path) -> bool {
    has_extension(path, &CERTIFICATE_EXTENSIONS)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|extension| extensions.iter().any(|one| extension == *one))
}

#[cfg(test)]
mod tests;
