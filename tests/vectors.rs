//! Other people's OCSP responses: every case of a folder of vectors, against the verdicts written beside them.
//!
//! The folder is not part of the repository. It is laid out as `SUITE/CASE/{cert.pem,issuer.pem,response.der,
//! expect.json}`, where `expect.json` has `verify_time`, `allowed` (verdicts) and `haproxy_refuses` (texts).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "it is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use haproxy_stapler::ocsp::{Refusal, haproxy_refusals, verify};
use haproxy_stapler::pem;
use jiff::Timestamp;
use serde::Deserialize;

const VARIABLE: &str = "STAPLER_TEST_VECTORS";

#[derive(Deserialize)]
struct Expect {
    verify_time: Timestamp,
    allowed: Vec<String>,
    haproxy_refuses: Vec<String>,
}

#[test]
#[ignore = "needs a folder of vectors: STAPLER_TEST_VECTORS=dir cargo test --test vectors -- --ignored"]
fn every_vector_gets_an_allowed_verdict_and_haproxys_answer() {
    let folder = std::env::var_os(VARIABLE).unwrap_or_else(|| panic!("{VARIABLE} must name the folder of vectors"));
    let cases = cases(Path::new(&folder));
    assert!(!cases.is_empty(), "{VARIABLE} has no SUITE/CASE/expect.json");
    let divergences: Vec<String> = cases.iter().flat_map(|case| divergences(case)).collect();
    println!("{} vectors, {} divergences", cases.len(), divergences.len());
    assert!(divergences.is_empty(), "\n{}", divergences.join("\n"));
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect::<BTreeSet<_>>()
    };
    let suites = folders(folder);
    suites.iter().flat_map(|suite| folders(suite)).filter(|case| case.join("expect.json").is_file()).collect()
}

fn divergences(case: &Path) -> Vec<String> {
    let read = |name: &str| fs::read(case.join(name)).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    let certificate = |name: &str| pem::certificates(&read(name)).unwrap().swap_remove(0);
    let (leaf, issuer, response) = (certificate("cert.pem"), certificate("issuer.pem"), read("response.der"));
    let expect: Expect = serde_json::from_slice(&read("expect.json")).unwrap();
    let mut found = Vec::new();

    let outcome = verify(&response, &leaf, &issuer, expect.verify_time);
    let verdict = outcome.as_ref().map_or("reject", |response| response.cert_status().label());
    let why = outcome.as_ref().err().map(|error| format!("{}: {error}", error.kind())).unwrap_or_default();
    println!("{verdict:7} {} {why}", case.display());
    if !expect.allowed.iter().any(|allowed| allowed == verdict) {
        found.push(format!("{}: {verdict}, allowed {:?}; {why}", case.display(), expect.allowed));
    }

    let refusals = haproxy_refusals(&response, expect.verify_time);
    let kinds: BTreeSet<&str> = refusals.iter().map(Refusal::kind).collect();
    let expected: BTreeSet<&str> = expect.haproxy_refuses.iter().map(|text| kind_of(text)).collect();
    if kinds != expected {
        found.push(format!("{}: HAProxy's answer {kinds:?}, expected {expected:?}", case.display()));
    }
    found
}

/// The kind that a text of the vectors means.
fn kind_of(text: &str) -> &'static str {
    match text {
        "no successful basic response" => "no_successful_basic_response",
        "no nextUpdate" => "next_update_missing",
        "status unknown" => "cert_status_unknown",
        "less than 300 s left" => "less_than_300s_left",
        "not yet valid" => "not_yet_valid",
        text if text.starts_with("CertID hash ") => "cert_id_hash",
        text if text.ends_with(" single responses") => "multiple_single_responses",
        other => panic!("no kind is known for '{other}'"),
    }
}
