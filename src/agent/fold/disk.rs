//! What the disk gave back or took.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::after_change;
use crate::agent::world::World;
use crate::certificate::{Fingerprint, Issuer};
use crate::clock::Moment;
use crate::metrics::Counters;
use crate::ocsp::Staple;
use crate::status::Trouble;
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
    Other(Option<StoreError>),
}

/// What an earlier run had kept for a leaf, verified again.
#[derive(Debug)]
pub(in crate::agent) struct Restored {
    pub(in crate::agent) fingerprint: Fingerprint,
    pub(in crate::agent) issuer: Option<Issuer>,
    pub(in crate::agent) state: Option<Staple>,
    pub(in crate::agent) beside: BTreeMap<PathBuf, Staple>,
    pub(in crate::agent) trouble: Option<StoreError>,
}

/// Folds one disk task.
pub(super) fn disk(world: &mut World, done: DiskDone, counters: &Counters, now: Moment) {
    match done {
        DiskDone::Restored(restored) => restore(world, *restored, now),
        DiskDone::Kept { fingerprint, staple, written, state } => {
            let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
            let state_dir = world.settings.state_dir.clone();
            let mut results = Vec::new();
            if state.is_ok() {
                leaf.kept = Some(staple.clone());
            }
            results.push((state_dir, state));
            for (path, result) in written {
                if result.is_ok() {
                    leaf.kept_beside.insert(path.clone(), staple.clone());
                }
                let directory = path.parent().map(ToOwned::to_owned).unwrap_or_default();
                results.push((directory, result));
            }
            for (place, result) in results {
                match result {
                    Ok(count) => {
                        counters.staple_writes.inc_by(u64::try_from(count).unwrap_or(0));
                        world.disk.troubles.remove(&place);
                    }
                    Err(error) => {
                        counters.staple_write_failures.with_label_values(&[error.kind()]).inc();
                        world.disk.troubles.insert(place, store_trouble(&error));
                    }
                }
            }
        }
        DiskDone::Other(None) => {}
        DiskDone::Other(Some(error)) => {
            counters.staple_write_failures.with_label_values(&[error.kind()]).inc();
            world.disk.troubles.insert(world.settings.state_dir.clone(), store_trouble(&error));
        }
    }
}

fn store_trouble(error: &StoreError) -> Trouble {
    Trouble { kind: error.kind(), detail: error.to_string(), remedy: error.remedy().to_owned() }
}

fn restore(world: &mut World, restored: Restored, now: Moment) {
    let fingerprint = restored.fingerprint;
    let Some(leaf) = world.leaves.get_mut(&fingerprint) else { return };
    if let Some(issuer) = restored.issuer {
        leaf.accept_issuer(issuer);
    }
    leaf.restored = true;
    for staple in restored.beside.values().chain(&restored.state) {
        leaf.adopt(staple, now);
    }
    leaf.kept = restored.state;
    // Only what this program kept is its to remove later: the state directory holds the same bytes.
    leaf.kept_beside = restored.beside.into_iter().filter(|(_, staple)| leaf.kept.as_ref() == Some(staple)).collect();
    if let Some(error) = restored.trouble {
        world.disk.troubles.insert(world.settings.state_dir.clone(), store_trouble(&error));
    }
    after_change(world, fingerprint, now);
}
