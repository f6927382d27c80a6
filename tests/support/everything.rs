//! A run of the program in which everything happens that has a series of its own, and what it says at /metrics then.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "as the kit: each user takes a part of it"
)]

use std::collections::BTreeMap;
use std::fs;

use jiff::SignedDuration;

use crate::site::{Authority, haproxy_with_good, stapler_for, wait_for_passes, wait_for_state};
use crate::support::responder::Behaviour;
use crate::support::volume::Volume;
use crate::support::{PATIENCE, now, wait_for};

/// One line of the text: its name, its labels with their values unescaped, its value.
#[derive(Debug)]
pub struct Sample {
    /// With its prefix.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// A number.
    pub value: f64,
}

/// Reads the text format 0.0.4 as its specification has it.
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let name = line[..end].to_owned();
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.trim_start_matches(',').split_once("=\"").unwrap();
            let mut value = String::new();
            let mut letters = quoted.char_indices();
            loop {
                match letters.next().unwrap_or_else(|| panic!("no closing quote: {line}")) {
                    (_, '\\') => value.push(match letters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other} is no escape: {line}"),
                    }),
                    (at, '"') => {
                        rest = &quoted[at + 1..];
                        break;
                    }
                    (_, letter) => value.push(letter),
                }
            }
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice: {line}");
        }
        rest = &rest[1..];
    }
    let value = rest.trim().parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    Sample { name, labels, value }
}

/// What /metrics says when every kind of event has happened.
pub struct Everything {
    /// The whole of it.
    pub text: String,
    /// The responder's host.
    pub responder: String,
    /// HAProxy's socket.
    pub haproxy: String,
}

/// Has every kind of event happen, so that every series is there.
pub fn everything() -> Everything {
    let authority = Authority::start();
    let broken = authority.leaf("broken.test");
    authority.responder.set(&broken, Behaviour::Http(500, Vec::new(), Vec::new()));
    let haproxy = haproxy_with_good(&authority).file("broken.pem", broken.combined_pem()).start();
    let spare = authority.leaf("spare.test");
    fs::write(haproxy.certificate("spare.pem"), spare.combined_pem()).unwrap();
    let volume = Volume::new();
    volume.set("ro");
    let target = format!("127.0.0.1:{}/good.test", haproxy.port());
    let mut stapler =
        stapler_for(&haproxy).env("STAPLER_STATE_DIR", volume.root()).env("STAPLER_PROBES", target).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_state(&mut stapler, "/broken.pem", "unstapled");
    stapler.wait_until("a good probe", |status| status["probes"][0]["sight"] == "good");
    // Somebody's open transaction keeps a staple out.
    let newer = Behaviour::GoodAt(now() - SignedDuration::from_secs(1), SignedDuration::from_hours(9));
    authority.responder.set(&broken, newer);
    let name = haproxy.certificate("good.pem").display().to_string();
    haproxy.command(&format!("set ssl cert {name} <<\n{}", fs::read_to_string(&name).unwrap()));
    wait_for("an install to be refused", PATIENCE, || {
        stapler.get("/metrics").text().contains("staple_install_failures_total{").then_some(())
    });
    haproxy.command(&format!("abort ssl cert {name}"));
    wait_for_state(&mut stapler, "/broken.pem", "stapled");
    wait_for_passes(&mut stapler, 1);
    Everything {
        text: stapler.get("/metrics").text(),
        responder: authority.responder.url().replace("http://", ""),
        haproxy: haproxy.socket().display().to_string(),
    }
}
