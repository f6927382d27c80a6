//! A small volume that can be full or read-only. Mounting needs root, as in a container.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{PATIENCE, wait_for};

/// A tmpfs, unmounted when dropped.
pub struct Volume {
    directory: tempfile::TempDir,
}

impl Volume {
    /// Mounts one of 64 KiB.
    ///
    /// # Panics
    /// Without the right to mount.
    pub fn new() -> Self {
        Self::of(64)
    }

    /// Mounts one of so many KiB.
    ///
    /// # Panics
    /// Without the right to mount.
    pub fn of(kibibytes: u32) -> Self {
        let volume = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        volume.mount(&["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"]);
        volume
    }

    fn mount(&self, arguments: &[&str]) {
        let mount = || Command::new("mount").args(arguments).arg(self.directory.path()).output();
        // What a process that another test is about to start has open for a moment makes it busy.
        let is_busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("busy");
        let settled = || Some(mount()).filter(|output| !output.as_ref().is_ok_and(is_busy));
        let output = wait_for("a mount point that is not busy", PATIENCE, settled);
        must_succeed("mount a tmpfs; run this test as root, in a container with CAP_SYS_ADMIN", output);
    }

    /// Makes it `ro` or `rw`.
    pub fn set(&self, mode: &str) {
        self.mount(&["-o", &format!("remount,{mode}")]);
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Takes all the space there is, with a file named `ballast`.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path("ballast")).expect("a file");
        // In small pieces: a large one may be refused while there is still room for a small one.
        while ballast.write_all(&[0; 1024]).is_ok() {}
    }

    /// Gives the space back. A process that another test is about to start may have the file open for a moment, and what is
    /// only removed would take its space until then.
    pub fn empty(&self) {
        File::create(self.path("ballast")).expect("cut the ballast off");
        fs::remove_file(self.path("ballast")).expect("remove the ballast");
    }

    /// What is in one of its directories, sorted.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("list a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).expect("a name in UTF-8")).collect();
        names.sort();
        names
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).output();
    }
}

/// The output of a command that succeeded.
///
/// # Panics
/// When it did not, saying that we cannot do `what`.
pub fn must_succeed(what: &str, output: std::io::Result<Output>) -> Output {
    let output = output.unwrap_or_else(|error| panic!("cannot {what}: {error}"));
    assert!(output.status.success(), "cannot {what}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
