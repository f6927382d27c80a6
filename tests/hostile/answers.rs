//! Every misbehaviour at once, for more than a minute: none reaches a client or a disk, each is told as what it is, none
//! makes the program hammer, and whoever behaves is served at once.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use haproxy_stapler::certificate::Certificate;
use serde_json::Value;

use crate::modes::{self, FAULTS, FLIPS, FORGERIES, GOOD, Mode, Play};
use crate::stage::{MOST_A_MINUTE, Stage, busiest_minute, stapler_for};
use crate::support::client::{Strict, s_client, stapled_bytes, strict, write_root};
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::stapler::{Stapler, certificate};
use crate::support::{PATIENCE, wait_for};

/// Longer than the window of the budget.
const WATCHED: Duration = Duration::from_secs(65);
/// The program's own share is a tenth of it; a gigabyte is not.
const MOST_MEMORY: u64 = 200;

/// What became of a certificate: its entry in `/status` when it was first in the state it ended in.
struct Seen {
    entry: Value,
    since: Duration,
}

#[test]
fn nothing_bad_reaches_a_client_or_a_disk_and_each_is_told_as_what_it_is() {
    let mut stage = Stage::new();
    let bad: Vec<&Mode> = FORGERIES.iter().chain(FAULTS).collect();
    for mode in &bad {
        stage.play(mode.name, mode.play);
    }
    for part in 0..FLIPS {
        stage.play(&format!("flipped-{part:02}"), |_, _| Play::Signed(modes::flipped(part)));
    }
    for (name, play) in GOOD {
        stage.play(name, play);
    }
    stage.play("older", |_, _| Play::Signed(modes::nearly_due_then(modes::older())));
    load_greedy(&mut stage);
    let haproxy = std::mem::replace(&mut stage.haproxy, Haproxy::builder()).start();
    let start = Instant::now();
    let mut stapler = stapler_for(&haproxy).start();

    let good: Vec<&str> = GOOD.iter().map(|(name, _)| *name).chain(["older"]).collect();
    let mut staples = BTreeMap::new();
    for name in &good {
        let what = format!("a staple for {name}");
        let staple = wait_for(&what, PATIENCE, || stapled_bytes(haproxy.port(), &format!("{name}.test")));
        staples.insert(*name, staple);
    }
    eprintln!("{} good ones beside {} bad ones are stapled after {:?}", good.len(), bad.len(), start.elapsed());

    let seen = watch(&stage, &haproxy, &mut stapler, &staples, start);
    let status = stapler.status().unwrap();
    report(&stage, &seen);
    for mode in bad {
        assert_told(&seen[mode.name].entry, mode);
        // It may tell less by now: while few requests are left, redirects are not followed to their end.
        assert_eq!(entry(&status, mode.name)["trouble"]["kind"], mode.kind, "{}", mode.name);
    }
    for part in 0..FLIPS {
        let entry = entry(&status, &format!("flipped-{part:02}"));
        assert!(entry["state"] == "unstapled" && entry["trouble"]["kind"].is_string(), "{entry:#}");
    }
    for name in &good {
        let entry = entry(&status, name);
        assert!(entry["state"] == "stapled" && entry["ocsp_status"] == "good", "{entry:#}");
    }
    assert!(entry(&status, "older")["last_attempt_at"].as_str() > entry(&status, "plain")["last_attempt_at"].as_str());
    assert_eq!(entry(&status, "greedy-orphan")["state"], "no_issuer");
    assert_eq!(status["status"], "degraded");
    assert_eq!(stapler.get("/healthz").status, 200, "a restart would cure nothing");
    for name in stage.leaves.keys() {
        let asked = stage.asked(name);
        assert!(!asked.is_empty() && busiest_minute(&asked) <= MOST_A_MINUTE, "{name}: {}", asked.len());
    }
    assert_served(&stage, &haproxy, &good);
    assert_kept(&stage, &haproxy, &stapler, &good);
    let memory = stapler.process().peak_memory();
    eprintln!("{memory} MiB at most");
    assert!(memory < MOST_MEMORY, "{memory} MiB");
    assert!(stapler.stop().success());
}

/// Certificates that name more places than anybody needs, none of which has anything.
fn load_greedy(stage: &mut Stage) {
    let urls =
        |name: &str| -> Vec<String> { (0..20).map(|number| format!("{}/{number}", stage.wire.url(name))).collect() };
    let (responders, issuers) = (urls("greedy"), urls("greedy-orphan"));
    let draft = responders.iter().fold(stage.cast.leaf("greedy"), |draft, url| draft.ocsp(url));
    let orphan = issuers.iter().fold(stage.cast.leaf("greedy-orphan"), |draft, url| draft.ca_issuers(url));
    let orphan = orphan.ocsp(&stage.wire.url("greedy-orphan"));
    stage.load_draft("greedy", draft, true);
    stage.load_draft("greedy-orphan", orphan, false);
}

/// Looks at every handshake over and over, and says since when each certificate has been in the state it ends in.
fn watch(
    stage: &Stage,
    haproxy: &Haproxy,
    stapler: &mut Stapler,
    staples: &BTreeMap<&str, Vec<u8>>,
    start: Instant,
) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    while start.elapsed() < WATCHED {
        let status = stapler.status().unwrap();
        for name in stage.leaves.keys() {
            // HAProxy may have the first staples before the first certificates are published.
            let entry = published(&status, name);
            let known = seen.get(name).map(|before| &before.entry["state"]);
            if let Some(entry) = entry.filter(|entry| known != Some(&entry["state"])) {
                seen.insert(name.clone(), Seen { entry: entry.clone(), since: start.elapsed() });
            }
            let staple = stapled_bytes(haproxy.port(), &format!("{name}.test"));
            assert_eq!(staple.as_ref(), staples.get(name.as_str()), "{name}");
        }
    }
    seen
}

fn published<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    certificate(status, &format!("/{name}.pem"))
}

fn entry<'a>(status: &'a Value, name: &str) -> &'a Value {
    published(status, name).unwrap_or_else(|| panic!("no {name} in {status:#}"))
}

fn assert_told(entry: &Value, mode: &Mode) {
    assert_eq!(entry["state"], "unstapled", "{entry:#}");
    assert_eq!(entry["ocsp_status"], "none", "{entry:#}");
    assert_eq!(entry["trouble"]["kind"], mode.kind, "{entry:#}");
    let detail = entry["detail"].as_str().unwrap();
    assert!(detail.contains(mode.words) && detail.len() < 1000, "{}: {detail}", mode.name);
    let remedy = entry["trouble"]["remedy"].as_str().unwrap();
    assert!(remedy.contains(modes::remedy(mode.kind)), "{}: {remedy}", mode.name);
}

/// The strictest clients there are, and HAProxy's own word.
fn assert_served(stage: &Stage, haproxy: &Haproxy, good: &[&str]) {
    let anchor = tempfile::NamedTempFile::new().unwrap();
    write_root(&stage.cast.ca, anchor.path());
    let entries = haproxy.command("show ssl ocsp-response").to_uppercase();
    for (name, leaf) in &stage.leaves {
        let host = format!("{name}.test");
        let accepted = strict(haproxy.port(), &host, anchor.path()) == Strict::Accepted;
        let stapled = s_client(haproxy.port(), &host).is_some();
        let listed = entries.contains(&format!("SERIAL NUMBER: {}", leaf.serial_hex()));
        let is_good = good.contains(&name.as_str());
        assert_eq!((accepted, stapled, listed), (is_good, is_good, is_good), "{name}: {entries}");
    }
}

fn assert_kept(stage: &Stage, haproxy: &Haproxy, stapler: &Stapler, good: &[&str]) {
    let names = |directory| -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (beside, state) = (names(haproxy.certs_dir()), names(stapler.state_dir()));
    for (name, leaf) in &stage.leaves {
        let fingerprint = fingerprint(leaf);
        let in_state = state.iter().any(|file| file.starts_with(&fingerprint));
        let in_file = beside.contains(&format!("{name}.pem.ocsp"));
        let is_good = good.contains(&name.as_str());
        assert_eq!((in_file, in_state), (is_good, is_good), "{name}: {beside:?} {state:?}");
    }
}

fn fingerprint(leaf: &Identity) -> String {
    Certificate::from_der(leaf.der()).unwrap().fingerprint().to_string()
}

fn report(stage: &Stage, seen: &BTreeMap<String, Seen>) {
    eprintln!("| certificate | state | reason | since | requests | in the busiest minute |\n|---|---|---|---|---|---|");
    for (name, Seen { entry, since }) in seen {
        let (state, kind) = (entry["state"].as_str().unwrap(), entry["trouble"]["kind"].as_str().unwrap_or("-"));
        let asked = stage.asked(name);
        let since = since.as_secs_f64();
        eprintln!("| {name} | {state} | {kind} | {since:.1} s | {} | {} |", asked.len(), busiest_minute(&asked));
    }
}
