//! Small files, read with a limit and replaced in one step.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::NamedTempFile;

/// Far more than an OCSP response or a certificate; HAProxy reads no more than `tune.bufsize`, 16 KiB by default.
const LARGEST: u64 = 64 * 1024;

/// Makes a temporary file's name unmistakably ours, so that one that was left behind can be removed on sight.
const MARK: &str = "stapler";
const RANDOM_LETTERS: usize = 8;

/// The bytes of a regular file; `None` if there is no file.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    // Asked before opening: opening a FIFO would wait.
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= LARGEST) {
        Ok(Some(bytes))
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LARGEST} bytes")))
    }
}

/// Whether a file holds exactly these bytes. One that cannot be read does not.
pub(super) fn holds(path: &Path, bytes: &[u8]) -> bool {
    read(path).is_ok_and(|held| held.as_deref() == Some(bytes))
}

/// The directory a file is in.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What a file is worth of which only a part got to the disk before the power failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Torn {
    /// Somebody would take it for whole: its bytes are on disk before it gets its name.
    Harmful,
    /// It is judged when it is read, and is as good as none then. A thousand of them need not wait for the disk a
    /// thousand times.
    Harmless,
}

/// Has the file hold these bytes, or what it held before: never anything in between while the power is on, and where
/// that would be harmful, not when it fails either. Which of the two it is then is for the file system to say.
pub(super) fn replace(path: &Path, bytes: &[u8], attributes: &Attributes, torn: Torn) -> io::Result<()> {
    let written = match replace_once(path, bytes, attributes, torn) {
        // Another process of ours started just then and took the temporary file for a left-over one.
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory(path).is_dir() => {
            replace_once(path, bytes, attributes, torn)
        }
        written => written,
    };
    written.map_err(|error| without_random_name(&error))
}

/// `tempfile` adds the name of the temporary file to what the system says: another one at each try, and of no use to
/// anybody, since the file is gone by then.
pub(super) fn without_random_name(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let said = text.split_once(" at path ").map_or(text.as_str(), |(said, _)| said);
    io::Error::new(error.kind(), said.to_owned())
}

fn replace_once(path: &Path, bytes: &[u8], attributes: &Attributes, torn: Torn) -> io::Result<()> {
    let directory = directory(path);
    let mut temporary = temporary_file(directory, path.file_name().unwrap_or_default())?;
    temporary.write_all(bytes)?;
    attributes.give(temporary.as_file())?;
    if torn == Torn::Harmful {
        temporary.as_file().sync_all()?;
    }
    // On any error the temporary file is removed when it is dropped.
    temporary.persist(path).map(drop).map_err(|error| error.error)
}

/// `.NAME.staplerXXXXXXXX.ocsp`, in the same directory because a rename does not cross volumes. HAProxy would take any
/// other left-over file in a directory of certificates for a certificate and not start: from 2.6 on it passes over
/// dotfiles, before that only the ending helps.
pub(super) fn temporary_file(directory: &Path, name: &OsStr) -> io::Result<NamedTempFile> {
    let name = Path::new(name);
    let stem = if name.extension() == Some(OsStr::new("ocsp")) { name.file_stem() } else { None };
    let mut prefix = OsString::from(".");
    prefix.push(stem.unwrap_or(name.as_os_str()));
    prefix.push(".");
    prefix.push(MARK);
    tempfile::Builder::new().prefix(&prefix).rand_bytes(RANDOM_LETTERS).suffix(".ocsp").tempfile_in(directory)
}

/// Whether a file name is one of [`temporary_file`]'s.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let middle = name
        .to_str()
        .and_then(|name| name.strip_prefix('.')?.strip_suffix(".ocsp")?.rsplit_once('.'))
        .and_then(|(stem, mark)| mark.strip_prefix(MARK).filter(|_| !stem.is_empty()));
    middle.is_some_and(|random| {
        random.len() == RANDOM_LETTERS && random.bytes().all(|letter| letter.is_ascii_alphanumeric())
    })
}

/// Removes what processes that died left behind. That is a courtesy: the files harm nobody, and where they cannot be
/// removed the next write will say so.
pub(super) fn remove_temporary_files(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A name that was removed is gone from the disk only when its directory is on it.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot, and need not.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    mode: u32,
    /// User and group.
    owner: (u32, u32),
}

impl Attributes {
    /// For files in the state directory, which itself keeps others out: they are its owner's, whoever writes them. A
    /// command that root runs beside the daemon must not leave files that the daemon cannot read.
    pub(super) fn in_directory(directory: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(directory)?;
        Ok(Self { mode: 0o640, owner: (metadata.uid(), metadata.gid()) })
    }

    /// Those of another file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode() & 0o666, owner: (metadata.uid(), metadata.gid()) }
    }

    /// Gives them to a file of ours. Where another owner cannot be given, everyone may read the file instead: an OCSP
    /// response is public, and HAProxy of every version refuses to start over one that it cannot open.
    pub(super) fn give(&self, file: &File) -> io::Result<()> {
        let permit = |mode| file.set_permissions(Permissions::from_mode(mode));
        // Before the owner changes: afterwards only a privileged process could.
        permit(self.mode)?;
        let (user, group) = self.owner;
        let metadata = file.metadata()?;
        if (metadata.uid(), metadata.gid()) == (user, group) || fchown(file, Some(user), Some(group)).is_ok() {
            return Ok(());
        }
        permit(self.mode | 0o444)
    }

    /// Gives them to a file that is there already, if somebody who should could not read it, and if it is ours to
    /// give. Never takes a permission away that does no harm.
    pub(super) fn mend(&self, path: &Path) {
        let suffices = |metadata: &Metadata| {
            let missing = self.mode & 0o444 & !metadata.mode();
            metadata.mode() & 0o444 == 0o444 || (missing == 0 && self.owner == (metadata.uid(), metadata.gid()))
        };
        let file = File::open(path);
        if let Ok(file) = file
            && file.metadata().is_ok_and(|metadata| !suffices(&metadata))
        {
            let _ = self.give(&file);
        }
    }
}
