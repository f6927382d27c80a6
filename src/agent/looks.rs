//! Looks at the disk, and what need not be looked at again.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::discovery::{Scan, Scanner};
use crate::listings::Directories;
use crate::settings::Settings;

/// What earlier looks saw.
#[derive(Debug)]
pub(super) struct Looks {
    scanner: Scanner,
    state_dir: PathBuf,
    state: Directories,
}

/// What a look at the disk came to.
#[derive(Debug)]
pub(super) enum Look {
    /// All is as the look before saw it, and all that is kept is in its place.
    Same,
    /// Files that are kept may be gone; the certificates are as they were.
    Touched,
    /// Some of it may be new.
    Found(Scan),
}

impl Looks {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            scanner: Scanner::new(settings.certs.clone(), settings.path_map.clone()),
            state_dir: settings.state_dir.clone(),
            state: Directories::default(),
        }
    }

    /// Looks at the certificate files, also at these, and whether anything came or went in the directories where this
    /// program keeps files. `now` is by the clock that file systems stamp with, if there is such a clock.
    pub(super) fn look(&mut self, also: &[PathBuf], now: Option<Timestamp>) -> Look {
        let scan = self.scanner.look(also, now);
        let is_state_unchanged = self.state.are_unchanged(now);
        if !is_state_unchanged {
            self.state = Directories::before_reading(&self.state_dir, now);
        }
        match scan {
            Some(scan) => Look::Found(scan),
            // Files beside certificates are in directories that were read as theirs.
            None if is_state_unchanged => Look::Same,
            None => Look::Touched,
        }
    }
}
