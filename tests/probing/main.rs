//! What a client sees: `probe` and STAPLER_PROBES before real TLS servers, good and bad.

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

mod command;
mod daemon;

use std::process::Output;

use serde_json::Value;

use crate::site::plain;
use crate::support::pki::Identity;
use crate::support::response::Response;

/// What the command says about one server: exit status, text, data.
struct Verdict {
    code: i32,
    text: String,
    json: Value,
}

/// Asks the server at this loopback port for these names, once in words and once as data.
fn probe(port: u16, arguments: &[&str]) -> Verdict {
    let target = format!("127.0.0.1:{port}");
    let arguments = [&["probe", &target], arguments].concat();
    let ask = |arguments: &[&str]| plain().env("STAPLER_TIMEOUT", "5s").run(arguments);
    let (words, data) = (ask(&arguments), ask(&[&arguments[..], &["--json"]].concat()));
    assert_eq!((code(&words), stderr(&words)), (code(&data), stderr(&data)), "{arguments:?}");
    let json = serde_json::from_slice(&data.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&data)));
    Verdict { code: code(&words), text: String::from_utf8(words.stdout).unwrap(), json }
}

impl Verdict {
    /// The kinds of what is wrong with one handshake.
    fn kinds(&self, protocol: &str, key_type: &str) -> Vec<&str> {
        let troubles = self.handshake(protocol, key_type)["troubles"].as_array().unwrap();
        troubles.iter().map(|trouble| trouble["kind"].as_str().unwrap()).collect()
    }

    /// What one kind of client sees.
    fn sight(&self, protocol: &str, key_type: &str) -> &str {
        self.handshake(protocol, key_type)["sight"].as_str().unwrap()
    }

    fn handshake(&self, protocol: &str, key_type: &str) -> &Value {
        let handshakes = self.json["probes"][0]["handshakes"].as_array().unwrap();
        let is_it = |each: &&Value| each["protocol"] == protocol && each["key_type"] == key_type;
        handshakes.iter().find(is_it).unwrap()
    }

    fn assert_good(&self) {
        assert_eq!((self.code, &self.json["sight"]), (0, &"good".into()), "{}", self.text);
        assert!(self.text.lines().next().unwrap().contains(": stapled, good until "), "{}", self.text);
    }

    /// Insists on a failure that begins with these words.
    fn assert_bad(&self, sight: &str, words: &str) {
        assert_eq!((self.code, &self.json["sight"]), (1, &sight.into()), "{}", self.text);
        assert!(self.text.lines().next().unwrap().contains(&format!(": {words}")), "{words}: {}", self.text);
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A response that everybody accepts.
fn good(leaf: &Identity) -> Vec<u8> {
    Response::good(leaf, leaf.issuer()).der()
}
