//! Which names directories hold. Each directory is read once, however many of its files are asked for.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The names in the directories that were asked about so far. Made anew for each look at the disk.
#[derive(Debug, Default)]
pub struct Listings(HashMap<PathBuf, Option<HashSet<OsString>>>);

impl Listings {
    /// Whether there is something at this path. A directory that may be entered and not read is asked for each file.
    pub fn has(&mut self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return path.exists() };
        let names = match self.0.get(directory) {
            Some(names) => names,
            None => self.0.entry(directory.to_owned()).or_insert_with(|| names(directory)),
        };
        names.as_ref().map_or_else(|| path.exists(), |names| names.contains(name))
    }
}

fn names(directory: &Path) -> Option<HashSet<OsString>> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    fs::read_dir(directory).ok()?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
