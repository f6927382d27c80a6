//! SECURITY.md claims nothing that nothing holds: every test, function and file that it names is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SECURITY: &str = include_str!("../SECURITY.md");

/// The words between backticks.
fn quoted() -> BTreeSet<&'static str> {
    SECURITY.split('`').skip(1).step_by(2).collect()
}

/// Every line of code of ours, also of the tests.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn whatever_holds_a_claim_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for directory in ["src", "tests", "fuzz/src"] {
        sources(&root.join(directory), &mut code);
    }
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let mut held = 0;
    for words in quoted() {
        let is_name = words.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if ["src/", "tests/", "fuzz/"].iter().any(|directory| words.starts_with(directory)) {
            assert!(root.join(words).is_file(), "SECURITY.md names {words}, which is not there");
        } else if is_name && words.contains('_') {
            assert!(
                code.contains(&format!("fn {words}(")),
                "SECURITY.md names {words}, and no function is called that"
            );
        } else if let Some(target) = words.strip_prefix("make ") {
            assert!(makefile.contains(&format!("\n{target}: ")), "SECURITY.md names make {target}");
        } else {
            continue;
        }
        held += 1;
    }
    assert!(held > 40, "SECURITY.md names {held} things that hold it");
}
