//! What the fuzz targets check, on their seeds: every change to a parser is held against them, also where nobody fuzzes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod checks;

/// Plays every seed of a target; says how many got all the way through, of how many.
fn play(target: &str, check: fn(&[u8]) -> bool) -> (usize, usize) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let outcomes: Vec<bool> = fs::read_dir(&seeds)
        .unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        .map(|seed| check(&fs::read(seed.unwrap().path()).unwrap()))
        .collect();
    (outcomes.iter().filter(|outcome| **outcome).count(), outcomes.len())
}

#[test]
fn responses() {
    // Good, revoked and unknown, by the CA and by its delegate, by name and by key; without nextUpdate, with another hash.
    assert_eq!(play("response", checks::response::check), (11, 20));
    assert_eq!(play("signed", checks::signed::check), (13, 19));
}

#[test]
fn conversations() {
    assert_eq!(play("survey", checks::survey::check), (33, 33));
    assert_eq!(play("install", checks::install::check), (33, 33));
}

#[test]
fn files() {
    assert_eq!(play("certificates", checks::certificates::check), (7, 7));
    assert_eq!(play("crt_list", checks::crt_list::check), (2, 3));
}

#[test]
fn readers_of_the_status_page() {
    assert_eq!(play("status_page", checks::status_page::check), (2, 3));
}

#[test]
fn environments() {
    assert_eq!(play("settings", checks::settings::check), (3, 4));
}
