//! What one file says, and what has to stay as it is for that to hold.

use std::collections::HashMap;
use std::fs::Metadata;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::companions::{self, Companions};
use super::file::{self, Content, FileError, LARGEST_CERTIFICATE_FILE};
use crate::crt_list::CrtList;
use crate::listings::Listings;
use crate::pem::{Bundle, PemError, Pool};
use crate::stamp::Stamp;

/// So many files are read without help.
const ALONE: usize = 64;
/// More readers would be a burden to the disk.
const MOST_READERS: usize = 8;

/// What was read from a file, whoever named it.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    Certificate(Arc<Content>),
    /// PEM, but keys or parameters only.
    OtherPem,
    /// Text without any PEM: a crt-list, if it was named as one.
    Text(Arc<CrtList>),
    Broken(FileError),
}

/// A file as it was when it was read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) stamp: Stamp,
    holds_key: bool,
    companions: Companions,
    /// `None` if there is no `.issuer` file.
    issuer_stamp: Option<Stamp>,
    pub(super) reading: Reading,
    /// Whether it need not be read again while it looks like this. A file that changed under the reader's eyes is read
    /// again next time, and so is one whose `.issuer` failed for a reason that no stamp shows.
    pub(super) is_settled: bool,
}

impl Seen {
    /// Reads a file that looks like this.
    pub(super) fn read(
        path: &Path,
        metadata: &Metadata,
        chains: &Pool,
        listings: &mut Listings,
    ) -> Result<Box<Self>, FileError> {
        let (bytes, after) = file::read_whole(path, metadata)?;
        let holds_key = companions::holds_key(&bytes);
        let companions = Companions::of(path, holds_key, listings);
        let issuer_path = companions.path(path, "issuer");
        let issuer_stamp = stamp_of(&issuer_path, listings);
        let reading = match Bundle::from_pem(&bytes, chains) {
            Ok(bundle) => {
                let (issuer_file, issuer_file_error) = match issuer_stamp.map(|_| file::read_issuer(&issuer_path)) {
                    None | Some(Err(FileError::NotFound)) => (Vec::new(), None),
                    Some(Ok(certificates)) => (certificates, None),
                    Some(Err(error)) => (Vec::new(), Some(error)),
                };
                let ocsp_path = companions.path(path, "ocsp");
                Reading::Certificate(Arc::new(Content::new(bundle, issuer_file, issuer_file_error, ocsp_path)))
            }
            Err(PemError::NoCertificate { other_blocks: true }) => Reading::OtherPem,
            Err(PemError::NoCertificate { other_blocks: false }) => match std::str::from_utf8(&bytes) {
                Ok(text) if !text.contains('\0') && !is_encoded(text) => Reading::Text(Arc::new(CrtList::parse(text))),
                _ => Reading::Broken(FileError::NoCertificate),
            },
            Err(error) => Reading::Broken(error.into()),
        };
        let stamp = Stamp::of(metadata);
        let issuer_is_settled = match &reading {
            Reading::Certificate(content) => {
                !matches!(content.issuer_file_error, Some(FileError::Permission | FileError::Io { .. }))
            }
            _ => true,
        };
        let is_settled = after == stamp && issuer_is_settled;
        Ok(Box::new(Self { stamp, holds_key, companions, issuer_stamp, reading, is_settled }))
    }

    /// Whether a file that has this stamp now, and what lies beside it, are as they were.
    pub(super) fn is_current(&self, path: &Path, stamp: Stamp, listings: &mut Listings) -> bool {
        self.stamp == stamp && {
            let companions = Companions::of(path, self.holds_key, listings);
            self.companions == companions && self.issuer_stamp == stamp_of(&companions.path(path, "issuer"), listings)
        }
    }

    /// The same, of one whose directory is as it was: nothing came or went beside it.
    pub(super) fn is_untouched(&self, path: &Path) -> bool {
        let issuer = || Stamp::at(&self.companions.path(path, "issuer"));
        Stamp::at(path) == Some(self.stamp) && (self.issuer_stamp.is_none() || self.issuer_stamp == issuer())
    }

    /// The same content as before is the same allocation: the file was touched, or copied over itself.
    pub(super) fn reuse(&mut self, before: Option<Reading>) {
        if let (Reading::Certificate(content), Some(Reading::Certificate(old))) = (&mut self.reading, before)
            && *old == **content
        {
            *content = old;
        }
    }
}

/// Reads many files at once: a signature is verified for each, and a start waits for all of them. What cannot be read is
/// left to be met when its turn comes.
pub(super) fn read_ahead(paths: &[&PathBuf], chains: &Pool) -> HashMap<PathBuf, Box<Seen>> {
    if paths.len() <= ALONE {
        return HashMap::new();
    }
    let readers = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_READERS);
    thread::scope(|scope| {
        let read = |share: &[&PathBuf]| -> Vec<(PathBuf, Box<Seen>)> {
            let mut listings = Listings::default();
            let mut read = |path: &PathBuf| {
                let metadata = file::regular(path, LARGEST_CERTIFICATE_FILE).ok()?;
                Some((path.clone(), Seen::read(path, &metadata, chains, &mut listings).ok()?))
            };
            share.iter().filter_map(|path| read(path)).collect()
        };
        let shares = paths.chunks(paths.len().div_ceil(readers));
        let readers: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
        // What a reader that panicked did not read is read in its turn, and panics there.
        readers.into_iter().filter_map(|reader| reader.join().ok()).flatten().collect()
    })
}

fn stamp_of(path: &Path, listings: &mut Listings) -> Option<Stamp> {
    if listings.has(path) { Stamp::at(path) } else { None }
}

/// Whether text may be a key that lost its armour. Taken for a crt-list, each of its lines would be told as the name of
/// a certificate that is not there (promise 8).
fn is_encoded(text: &str) -> bool {
    const SHORTEST: usize = 40;
    let is_base64 = |line: &str| line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    text.contains("PRIVATE KEY")
        || text
            .lines()
            .map(str::trim)
            .any(|line| line.len() >= SHORTEST && !line.starts_with(['/', '.', '@']) && is_base64(line))
}
