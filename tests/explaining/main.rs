//! `explain` on live HAProxies: each certificate's way from the file to the handshake, where it stops, what to do.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test in real time"
)]

#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;

mod beside;
mod states;

use std::process::Output;

use serde_json::Value;

use crate::support::stapler::{Builder, certificate};

/// The steps, in order.
const STEPS: [&str; 11] = [
    "file",
    "parsed",
    "issuer",
    "responder",
    "fetched",
    "verified",
    "kept",
    "entry",
    "installed",
    "read_back",
    "handshake",
];

/// What the command says: exit status, text, data.
struct Explained {
    code: i32,
    text: String,
    json: Value,
}

/// Asks twice, once in words and once for data.
fn explain(stapler: &Builder, arguments: &[&str]) -> Explained {
    let arguments = [&["explain"], arguments].concat();
    let words = stapler.run(&arguments);
    let data = stapler.run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(code(&words), code(&data), "{}{}", stdout(&words), stdout(&data));
    let json = serde_json::from_slice(&data.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(&data)));
    Explained { code: code(&words), text: stdout(&words), json }
}

impl Explained {
    /// One step of the certificate whose name ends so.
    fn step(&self, name: &str, step: &str) -> &Value {
        let entry = certificate(&self.json, name).unwrap_or_else(|| panic!("nothing about {name}: {}", self.text));
        find(&entry["steps"], step)
    }

    /// The outcomes of all steps, in order.
    fn outcomes(&self, name: &str) -> Vec<&str> {
        STEPS.iter().map(|step| self.step(name, step)["outcome"].as_str().unwrap()).collect()
    }

    /// Insists that the first step that failed is this one, for this reason, with a remedy that holds these words.
    fn assert_stops(&self, name: &str, step: &str, reason: &str, remedy: &str) {
        let outcomes = self.outcomes(name);
        let first = outcomes.iter().position(|outcome| *outcome == "failed");
        let stops = first.map(|at| STEPS[at]);
        assert_eq!(stops, Some(step), "{name}: {}", self.text);
        let finding = self.step(name, step);
        assert_eq!(finding["reason"], reason, "{name}: {finding}");
        let told = finding["remedy"].as_str().unwrap();
        assert!(told.to_lowercase().contains(&remedy.to_lowercase()), "{name}: {finding}");
        assert!(!finding["evidence"].as_str().unwrap().is_empty(), "{name}: {finding}");
        assert!(self.text.contains(&format!("-> {told}")), "{told}: {}", self.text);
    }
}

/// One step among all.
fn find<'a>(steps: &'a Value, step: &str) -> &'a Value {
    let steps = steps.as_array().unwrap();
    assert_eq!(steps.iter().map(|each| each["step"].as_str().unwrap()).collect::<Vec<_>>(), STEPS);
    steps.iter().find(|each| each["step"] == step).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
