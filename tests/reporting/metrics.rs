//! The text of /metrics: names, types, labels, escapes, and what may not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::everything::{Everything, Sample, everything, samples};
use crate::site::{Authority, haproxy_with_good, metric, stapler_for, wait_for_metric, wait_for_state};
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::stapler::{Stapler, http_get};
use crate::support::{PATIENCE, wait_for};

/// Name without prefix, type, labels.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("build_info", "gauge", &["version", "revision", "tls_library"]),
    ("certificates", "gauge", &["state"]),
    ("certificate_info", "gauge", &["certificate", "subject", "issuer", "serial", "responder"]),
    ("certificate_not_after_timestamp_seconds", "gauge", &["certificate"]),
    ("certificate_must_staple", "gauge", &["certificate"]),
    ("certificate_state", "gauge", &["certificate", "state"]),
    ("ocsp_status", "gauge", &["certificate", "status"]),
    ("staple_age_seconds", "gauge", &["certificate"]),
    ("staple_this_update_timestamp_seconds", "gauge", &["certificate"]),
    ("staple_next_update_timestamp_seconds", "gauge", &["certificate"]),
    ("staple_produced_at_timestamp_seconds", "gauge", &["certificate"]),
    ("served_staple_next_update_timestamp_seconds", "gauge", &["certificate", "haproxy"]),
    ("staple_last_success_timestamp_seconds", "gauge", &["certificate"]),
    ("staple_refresh_due_timestamp_seconds", "gauge", &["certificate"]),
    ("staples_min_next_update_timestamp_seconds", "gauge", &[]),
    ("ocsp_requests_total", "counter", &["responder"]),
    ("ocsp_request_failures_total", "counter", &["responder", "reason"]),
    ("ocsp_request_duration_seconds", "histogram", &["responder"]),
    ("staple_installs_total", "counter", &["haproxy"]),
    ("staple_install_failures_total", "counter", &["haproxy", "reason"]),
    ("staple_writes_total", "counter", &[]),
    ("staple_write_failures_total", "counter", &["reason"]),
    ("haproxy_up", "gauge", &["haproxy"]),
    ("haproxy_reloads_total", "counter", &["haproxy"]),
    ("haproxy_info", "gauge", &["haproxy", "version"]),
    ("probe_stapled", "gauge", &["target", "servername"]),
    ("probe_staple_next_update_timestamp_seconds", "gauge", &["target", "servername"]),
    ("passes_total", "counter", &[]),
    ("pass_duration_seconds", "histogram", &[]),
    ("last_pass_timestamp_seconds", "gauge", &[]),
    ("refresh_interval_seconds", "gauge", &[]),
];

const STATES: [&str; 13] = [
    "stapled",
    "refresh_failing",
    "unstapled",
    "pending",
    "revoked",
    "unknown",
    "no_responder",
    "no_issuer",
    "expired",
    "native_update",
    "not_loaded",
    "excluded",
    "unreadable",
];

/// What Prometheus itself thinks of it.
fn promtool(text: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!(
            "cannot run promtool: {error}; run `make setup`, or `apt-get install --no-install-recommends prometheus`"
        )
    });
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "promtool: {said}\n{text}");
}

fn metrics(stapler: &Stapler) -> String {
    let reply = stapler.get("/metrics");
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

#[test]
fn every_metric_has_the_name_type_and_labels_it_was_promised() {
    let Everything { text, responder, haproxy } = everything();
    promtool(&text);
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let samples = samples(&text);
    for (name, kind, labels) in FAMILIES {
        let full = format!("haproxy_stapler_{name}");
        assert_eq!(types.get(full.as_str()), Some(kind), "{name}");
        assert!(text.contains(&format!("# HELP {full} ")), "{name}");
        let series = if *kind == "histogram" { format!("{full}_count") } else { full };
        let wanted: BTreeSet<&str> = labels.iter().copied().collect();
        let mut found = samples.iter().filter(|sample| sample.name == series).peekable();
        assert!(found.peek().is_some(), "no sample of {name}");
        for sample in found {
            assert_eq!(sample.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{sample:?}");
        }
    }
    // And nothing beyond them.
    let known: BTreeSet<String> = FAMILIES.iter().map(|(name, ..)| format!("haproxy_stapler_{name}")).collect();
    for name in types.keys() {
        assert!(known.contains(*name) || name.starts_with("process_"), "{name} was never promised");
    }
    assert!(types.contains_key("process_resident_memory_bytes") && types.contains_key("process_start_time_seconds"));
    let distinct: BTreeSet<String> = samples.iter().map(|one| format!("{}{:?}", one.name, one.labels)).collect();
    assert_eq!(distinct.len(), samples.len(), "a series twice: {text}");

    let one = |series: &str| metric(&text, &format!("haproxy_stapler_{series}"));
    assert_eq!(one("refresh_interval_seconds"), Some(3600.0));
    assert!(one(&format!("ocsp_requests_total{{responder=\"{responder}\"}}")).unwrap() >= 3.0);
    assert!(one(&format!("ocsp_request_failures_total{{reason=\"http_status\",responder=\"{responder}\"}}")).is_some());
    assert!(one(&format!("staple_install_failures_total{{haproxy=\"{haproxy}\",reason=\"busy\"}}")).is_some());
    let states: BTreeSet<&str> = samples
        .iter()
        .filter(|sample| sample.name == "haproxy_stapler_certificates")
        .map(|sample| sample.labels["state"].as_str())
        .collect();
    assert_eq!(states, STATES.into_iter().collect());
    let total: f64 = STATES.iter().filter_map(|state| one(&format!("certificates{{state=\"{state}\"}}"))).sum();
    let each = samples.iter().filter(|sample| sample.name == "haproxy_stapler_certificate_state").count();
    assert!((total - 3.0).abs() < f64::EPSILON && each == 3, "{text}");
}

fn certificates_named(text: &str) -> BTreeSet<String> {
    samples(text).iter().filter_map(|sample| sample.labels.get("certificate").cloned()).collect()
}

#[test]
fn label_values_from_outside_are_escaped() {
    let authority = Authority::start();
    let nasty = "qu\"ote\\back\\n new\nline, ünïcödé 証明書 \u{1F512} } #";
    let leaf = authority.root.draft(nasty).names(&["nasty.test"]).ocsp(&authority.responder.url()).issue();
    authority.responder.register(&leaf, &authority.root);
    let haproxy = haproxy_with_good(&authority).start();
    let file = "a \"b\\c\nd=é{},証.pem";
    fs::write(haproxy.certificate(file), leaf.combined_pem()).unwrap();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, file, "not_loaded");
    let text = metrics(&stapler);
    promtool(&text);
    let samples = samples(&text);
    let info = |sample: &&Sample| sample.name == "haproxy_stapler_certificate_info";
    let subject = samples.iter().filter(info).find(|sample| sample.labels["certificate"].ends_with(file)).unwrap();
    assert_eq!(subject.labels["subject"], format!("CN={nasty}"));
    let status = stapler.status().unwrap();
    assert!(status["certificates"].as_array().unwrap().iter().any(|one| one["subject"] == format!("CN={nasty}")));
    assert!(
        !stapler.log().lines().any(|line| line.starts_with("line,") || line.starts_with("d=é")),
        "{}",
        stapler.log()
    );
}

#[test]
fn a_certificate_that_goes_away_takes_its_series_with_it() {
    let authority = Authority::start();
    let mut haproxy =
        haproxy_with_good(&authority).file("going.pem", authority.leaf("going.test").combined_pem()).start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/going.pem", "stapled");
    let path = haproxy.certificate("going.pem");
    assert!(certificates_named(&metrics(&stapler)).contains(&path.display().to_string()));
    fs::remove_file(&path).unwrap();
    // Ours; HAProxy would not start with a response for no certificate.
    let _ = fs::remove_file(haproxy.certificate("going.pem.ocsp"));
    haproxy.reload();
    wait_for("its series to go", PATIENCE, || (!metrics(&stapler).contains("going.pem")).then_some(()));
    let left = BTreeSet::from([haproxy.certificate("good.pem").display().to_string()]);
    assert_eq!(certificates_named(&metrics(&stapler)), left);
    assert!(!stapler.get("/status").text().contains("going.pem\","));
    wait_for_metric(&stapler, "haproxy_stapler_certificates{state=\"stapled\"}", 1.0);
}

#[test]
fn series_per_certificate_can_be_switched_off() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut stapler = stapler_for(&haproxy).env("STAPLER_METRICS_PER_CERTIFICATE", "false").start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    let text = metrics(&stapler);
    promtool(&text);
    assert_eq!(certificates_named(&text), BTreeSet::new());
    assert!(!text.contains("good.pem"), "{text}");
    assert_eq!(metric(&text, "haproxy_stapler_certificates{state=\"stapled\"}"), Some(1.0));
    assert!(metric(&text, "haproxy_stapler_staples_min_next_update_timestamp_seconds").is_some());
}

/// Nothing reads as good that is not: before the first answer, without an answer, after a bad one.
#[test]
fn nothing_reads_as_good_without_a_staple() {
    let authority = Authority::start();
    let root = &authority.root;
    let cases: [(&str, Behaviour, &str); 5] = [
        ("hanging", Behaviour::Hang, "none"),
        ("refusing", Behaviour::Http(404, Vec::new(), Vec::new()), "none"),
        ("timeless", Behaviour::edited(|response| response.singles[0].next_update = None), "none"),
        ("unknown", Behaviour::Unknown, "unknown"),
        ("revoked", Behaviour::Revoked, "revoked"),
    ];
    let leaves: Vec<Identity> = cases.iter().map(|(name, ..)| authority.leaf(&format!("{name}.test"))).collect();
    let mut builder = haproxy_with_good(&authority)
        .file("silent.pem", root.leaf("silent.test").issue().combined_pem())
        .file("expired.pem", root.leaf("old.test").ocsp(&authority.responder.url()).expired().issue().combined_pem());
    for ((name, behaviour, _), leaf) in cases.iter().zip(&leaves) {
        authority.responder.set(leaf, behaviour.clone());
        builder = builder.file(&format!("{name}.pem"), leaf.combined_pem());
    }
    let haproxy: Haproxy = builder.start();
    fs::write(haproxy.certificate("broken.pem"), "nothing").unwrap();
    let mut stapler = stapler_for(&haproxy).start();
    let good = |text: &str| -> BTreeSet<String> {
        samples(text)
            .into_iter()
            .filter(|one| {
                one.name == "haproxy_stapler_ocsp_status" && one.labels["status"] == "good" && one.value > 0.0
            })
            .map(|one| one.labels["certificate"].rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    // From its first word on, through the whole first pass.
    wait_for("the first pass", PATIENCE, || {
        let text = http_get(stapler.port(), "/metrics").ok()?.text();
        assert!(good(&text).iter().all(|name| name == "good.pem"), "{text}");
        metric(&text, "haproxy_stapler_last_pass_timestamp_seconds")
    });
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_state(&mut stapler, "/hanging.pem", "unstapled");
    let text = metrics(&stapler);
    assert_eq!(good(&text), BTreeSet::from(["good.pem".to_owned()]));
    let all = samples(&text);
    let statuses: Vec<&Sample> = all.iter().filter(|one| one.name == "haproxy_stapler_ocsp_status").collect();
    let names = certificates_named(&text);
    assert_eq!(names.len(), cases.len() + 4);
    for name in &names {
        let own: Vec<&&Sample> = statuses.iter().filter(|one| one.labels["certificate"] == *name).collect();
        let set: Vec<&str> =
            own.iter().filter(|one| one.value > 0.0).map(|one| one.labels["status"].as_str()).collect();
        assert!(own.len() == 4 && set.len() == 1, "{name}: {own:?}");
        let otherwise = if name.ends_with("/good.pem") { "good" } else { "none" };
        let wanted =
            cases.iter().find(|(case, ..)| name.ends_with(&format!("/{case}.pem"))).map(|(.., wanted)| *wanted);
        assert_eq!(set[0], wanted.unwrap_or(otherwise), "{name}");
        let age = all
            .iter()
            .any(|one| one.name == "haproxy_stapler_staple_age_seconds" && one.labels["certificate"] == *name);
        assert_eq!(age, name.ends_with("/good.pem") || name.ends_with("/revoked.pem"), "{name}");
    }
}

#[test]
fn the_age_of_a_staple_grows_with_time() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    let name = haproxy.certificate("good.pem").display().to_string();
    let series = format!("haproxy_stapler_staple_age_seconds{{certificate=\"{name}\"}}");
    let age = || metric(&metrics(&stapler), &series).unwrap();
    let first = age();
    // The responder signs as of a minute ago.
    assert!((60.0..90.0).contains(&first), "{first}");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let second = age();
    assert!(second >= first + 1.0 && second < first + 30.0, "{first} {second}");
    let text = metrics(&stapler);
    let this_update =
        metric(&text, &series.replace("staple_age_seconds", "staple_this_update_timestamp_seconds")).unwrap();
    let next_update =
        metric(&text, &series.replace("staple_age_seconds", "staple_next_update_timestamp_seconds")).unwrap();
    assert!((next_update - this_update - 7.0 * 86_400.0).abs() < 1.0);
}
