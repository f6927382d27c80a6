//! What the disk gave back or took.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::after_change;
use crate::agent::troubles;
use crate::agent::world::{Disk, Kept, World};
use crate::certificate::{Fingerprint, Issuer};
use crate::clock::Moment;
use crate::listings::Directories;
use crate::metrics::Counters;
use crate::ocsp::Staple;
use crate::store::StoreError;

/// What a disk task came to.
#[derive(Debug)]
pub(in crate::agent) enum DiskDone {
    Restored(Box<Restored>),
    Kept {
        fingerprint: Fingerprint,
        staple: Staple,
        written: Vec<(PathBuf, Result<usize, StoreError>)>,
        state: Result<usize, StoreError>,
    },
    IssuerKept {
        fingerprint: Fingerprint,
        error: Option<StoreError>,
    },
    Discarded {
        fingerprint: Fingerprint,
        ocsp: PathBuf,
        staple: Staple,
        error: Option<StoreError>,
    },
    /// What of what was kept is gone, and where it was looked for.
    Lost {
        lost: BTreeSet<Kept>,
        kept_in: Directories,
    },
    Swept(Option<StoreError>),
    Tried(Result<(), StoreError>),
}

/// What an earlier run had kept for a leaf, verified again.
#[derive(Debug)]
pub(in crate::agent) struct Restored {
    pub(in crate::agent) fingerprint: Fingerprint,
    pub(in crate::agent) issuer: Option<Issuer>,
    /// Whether the state directory holds the leaf's issuer.
    pub(in crate::agent) kept_issuer: bool,
    pub(in crate::agent) state: Option<Staple>,
    pub(in crate::agent) beside: BTreeMap<PathBuf, Staple>,
    pub(in crate::agent) trouble: Option<StoreError>,
}

/// Folds one disk task. Says whether anything is not as it was.
pub(super) fn disk(world: &mut World, done: DiskDone, counters: &Counters, now: Moment) -> bool {
    match done {
        DiskDone::Lost { lost, kept_in } => {
            world.scan.kept_in = kept_in;
            if lost.is_empty() {
                return false;
            }
            for (fingerprint, leaf) in &mut world.leaves {
                leaf.lose(*fingerprint, &lost);
                world.changed.insert(*fingerprint);
            }
        }
        DiskDone::Restored(restored) => restore(world, *restored, now),
        DiskDone::Kept { fingerprint, staple, written, state } => {
            let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return false };
            world.scan.kept_anew = true;
            if state.is_ok() {
                leaf.kept = Some(staple.clone());
            }
            for (ocsp, result) in &written {
                if result.is_ok() {
                    leaf.kept_beside.insert(ocsp.clone(), staple.clone());
                }
            }
            world.disk.note(Kept::Staple(fingerprint), state, counters);
            for (ocsp, result) in written {
                world.disk.note(Kept::Beside(ocsp), result, counters);
            }
        }
        DiskDone::IssuerKept { fingerprint, error } => {
            world.scan.kept_anew = true;
            if let Some(leaf) = world.leaves.get_mut(&fingerprint) {
                leaf.kept_issuer = error.is_none();
                world.disk.note(Kept::Issuer(fingerprint), error.map_or(Ok(0), Err), counters);
            }
        }
        DiskDone::Discarded { fingerprint, ocsp, staple, error } => {
            // It is tried again as long as anybody knows whose it is.
            if let Some(leaf) = world.leaves.get_mut(&fingerprint).filter(|_| error.is_some()) {
                leaf.kept_beside.entry(ocsp.clone()).or_insert(staple);
            }
            world.disk.note(Kept::Beside(ocsp), error.map_or(Ok(0), Err), counters);
        }
        DiskDone::Swept(error) => world.disk.note(Kept::Directory, error.map_or(Ok(0), Err), counters),
        DiskDone::Tried(result) => journal(world, Some(result)),
    }
    true
}

/// Takes note of what came of writing down transactions; none if there was no need to.
pub(super) fn journal(world: &mut World, written: Option<Result<(), StoreError>>) {
    match written {
        Some(Ok(())) => {
            world.disk.troubles.remove(&Kept::Journal);
        }
        Some(Err(error)) => {
            tracing::debug!(%error, "transactions are not written down");
            world.disk.troubles.insert(Kept::Journal, troubles::store(&error));
        }
        None => {}
    }
}

impl Disk {
    /// Takes note of what came of keeping something: how many files were written, or why not.
    fn note(&mut self, what: Kept, result: Result<usize, StoreError>, counters: &Counters) {
        match result {
            Ok(count) => {
                counters.staple_writes.inc_by(u64::try_from(count).unwrap_or(0));
                self.troubles.remove(&what);
            }
            Err(error) => {
                counters.staple_write_failures.with_label_values(&[error.kind()]).inc();
                tracing::debug!(%error, "not kept");
                self.troubles.insert(what, troubles::store(&error));
            }
        }
    }
}

fn restore(world: &mut World, restored: Restored, now: Moment) {
    let fingerprint = restored.fingerprint;
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    if let Some(issuer) = restored.issuer {
        leaf.accept_issuer(issuer);
    }
    leaf.kept_issuer = restored.kept_issuer;
    world.scan.kept_anew = true;
    leaf.restored = true;
    for staple in restored.beside.values().chain(&restored.state) {
        leaf.adopt(staple, now);
    }
    leaf.kept = restored.state;
    // Only what this program kept is its to remove later: the state directory holds the same bytes.
    // In place: there is room for one, which is what nearly all have.
    leaf.kept_beside.clear();
    for (ocsp, staple) in restored.beside {
        if leaf.kept.as_ref() == Some(&staple) {
            leaf.kept_beside.insert(ocsp, staple);
        }
    }
    if let Some(error) = restored.trouble {
        world.disk.troubles.insert(Kept::Staple(fingerprint), troubles::store(&error));
    }
    after_change(world, fingerprint, now);
}
