//! The house rules that ARCHITECTURE.md states, held against the code: who may know whom, who may do IO, how long a file
//! may be. A change to a table here is a change to the architecture, and wants a reason in its commit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the library each may use, lowest layer first. Dependencies point upward in this table only.
const ALLOWED: [(&str, &[&str]); 26] = [
    ("clock", &[]),
    ("uri", &[]),
    ("tlv", &[]),
    ("crt_list", &[]),
    ("stamp", &["clock"]),
    ("listings", &["clock", "stamp"]),
    ("certificate", &["tlv"]),
    ("pem", &["certificate"]),
    ("ca_issuers", &["certificate", "pem"]),
    ("ocsp", &["certificate", "clock", "tlv"]),
    ("schedule", &["clock"]),
    ("haproxy", &["certificate", "clock", "ocsp"]),
    ("status", &["certificate", "clock", "ocsp"]),
    ("explain", &["certificate", "status"]),
    ("report", &["explain", "status"]),
    ("status_page", &["clock", "explain", "ocsp", "report", "status"]),
    ("probe", &["certificate", "clock", "ocsp", "status", "uri"]),
    ("settings", &["haproxy", "probe"]),
    ("metrics", &["settings", "status", "uri"]),
    ("responder", &["clock", "uri"]),
    ("fetch", &["ca_issuers", "certificate", "clock", "ocsp", "responder", "schedule", "uri"]),
    ("discovery", &["certificate", "crt_list", "listings", "pem", "settings", "stamp"]),
    ("store", &["certificate", "haproxy", "listings", "ocsp", "settings"]),
    (
        "agent",
        &[
            "ca_issuers",
            "certificate",
            "clock",
            "discovery",
            "fetch",
            "haproxy",
            "listings",
            "metrics",
            "ocsp",
            "probe",
            "responder",
            "schedule",
            "settings",
            "status",
            "store",
            "uri",
        ],
    ),
    ("server", &["clock", "metrics", "report", "settings", "status", "status_page"]),
    ("lib", &[]),
];

/// Files that decide and never do: they get the time as an argument, and touch neither network nor disk.
const PURE: [&str; 52] = [
    "agent/asking.rs",
    "agent/cadence.rs",
    "agent/fold/",
    "agent/identity.rs",
    "agent/judge.rs",
    "agent/native.rs",
    "agent/peer.rs",
    "agent/places.rs",
    "agent/plan.rs",
    "agent/probes.rs",
    "agent/progress.rs",
    "agent/publish.rs",
    "agent/rows.rs",
    "agent/since.rs",
    "agent/storms.rs",
    "agent/transitions.rs",
    "agent/troubles.rs",
    "agent/validity.rs",
    "agent/world.rs",
    "ca_issuers.rs",
    "certificate.rs",
    "crt_list.rs",
    "explain.rs",
    "explain/",
    "haproxy/address.rs",
    "haproxy/command.rs",
    "haproxy/held.rs",
    "haproxy/inventory.rs",
    "haproxy/journal.rs",
    "haproxy/native.rs",
    "haproxy/process.rs",
    "haproxy/refusal.rs",
    "metrics.rs",
    "metrics/",
    "ocsp/",
    "pem.rs",
    "probe/judge.rs",
    "probe/objection.rs",
    "probe/target.rs",
    "report.rs",
    "responder/caching.rs",
    "responder/fault.rs",
    "responder/redirect.rs",
    "schedule.rs",
    "settings/",
    "status.rs",
    "status/",
    "status_page.rs",
    "status_page/",
    "tlv.rs",
    "uri.rs",
    "lib.rs",
];

/// What a pure file may not name. `Moment` is a reading of the clocks and may be passed; `Clock` reads them.
const IMPURE: [&str; 13] = [
    "tokio",
    "reqwest",
    "axum",
    "std::fs",
    "std::net::Tcp",
    "std::os::unix::net",
    "std::process",
    "std::env",
    "std::thread",
    "Clock",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
];

/// A file is one noun. Longer than this, it is two.
const LONGEST_FILE: usize = 400;

struct Source {
    /// Relative to `src`, with forward slashes.
    path: String,
    /// Without comments and without the test module at its end.
    code: String,
}

impl Source {
    /// The module of the library it belongs to; none for the binary.
    fn module(&self) -> Option<&str> {
        let top = self.path.split('/').next().unwrap();
        let module = top.strip_suffix(".rs").unwrap_or(top);
        (module != "main" && module != "cli").then_some(module)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(source(&root, &path));
            }
        }
    }
    assert!(found.len() > 30, "the sources are not where this test looks for them");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn source(root: &Path, path: &PathBuf) -> Option<Source> {
    let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
    let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
    let text = fs::read_to_string(path).unwrap();
    let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: Vec<&str> = without_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    (!is_test).then(|| Source { path: name, code: code.join("\n") })
}

/// Every module named after `crate::` in a text.
fn imports(code: &str) -> BTreeSet<String> {
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect::<String>())
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn every_import_is_in_the_table_and_the_table_has_no_more() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let own = module.to_owned();
        seen.entry(own.clone()).or_default().extend(imports(&source.code).into_iter().filter(|other| *other != own));
    }
    let allowed: BTreeMap<String, BTreeSet<String>> = ALLOWED
        .iter()
        .map(|(module, others)| ((*module).to_owned(), others.iter().map(|other| (*other).to_owned()).collect()))
        .collect();
    assert_eq!(seen, allowed, "left: what the code does, right: what the table allows");
}

#[test]
fn dependencies_point_one_way() {
    let place: BTreeMap<&str, usize> =
        ALLOWED.iter().enumerate().map(|(place, (module, _))| (*module, place)).collect();
    for (module, others) in ALLOWED {
        for other in others {
            assert!(place[other] < place[module], "{module} may not use {other}, which stands above it");
        }
    }
}

#[test]
fn pure_files_do_no_io_and_read_no_clock() {
    let sources = sources();
    for pure in PURE {
        let files: Vec<&Source> = sources
            .iter()
            .filter(|source| source.path == pure || pure.ends_with('/') && source.path.starts_with(pure))
            .collect();
        assert!(!files.is_empty(), "the table names {pure}, which is gone");
        for source in files {
            for word in IMPURE {
                let named = source.code.match_indices(word).any(|(at, _)| {
                    let before = source.code[..at].chars().next_back();
                    !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                });
                assert!(!named, "src/{} is pure and names '{word}'", source.path);
            }
        }
    }
}

#[test]
fn a_file_is_one_noun() {
    for source in sources() {
        let lines = source.code.lines().count();
        assert!(
            lines <= LONGEST_FILE,
            "src/{} has {lines} lines of code; {LONGEST_FILE} are enough for one noun",
            source.path
        );
    }
}
