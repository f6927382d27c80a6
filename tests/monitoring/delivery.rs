//! The whole way of an alarm: a real CA and a real HAProxy, the program, a real Prometheus that scrapes it and has the
//! shipped rules, and a real Alertmanager that is told.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use tempfile::TempDir;

use crate::dashboard;
use crate::rules::path;
use crate::site::{Authority, haproxy_with_good, stapler_for, wait_for_state};
use crate::support::client::stapled_bytes;
use crate::support::process::Process;
use crate::support::responder::Behaviour;
use crate::support::stapler::{Reply, http_get};
use crate::support::{PATIENCE, free_port, wait_for};

/// HAProxy serves a staple until 300 seconds before its end, so this one is over soon; the machine may be slow.
const SHORT_LIFE: SignedDuration = SignedDuration::from_secs(320);
/// The staple has to end first.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// Prometheus and Alertmanager, from their start to their drop.
struct Watch {
    prometheus: Process,
    alertmanager: Process,
    prometheus_port: u16,
    alertmanager_port: u16,
    _directory: TempDir,
}

impl Watch {
    fn start(targets: &[u16]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (prometheus_port, alertmanager_port) = (free_port(), free_port());
        let file = |name: &str, content: String| {
            let file = directory.path().join(name);
            fs::write(&file, content).unwrap();
            file
        };
        let nowhere = "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n".to_owned();
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(flag("config.file", &file("alertmanager.yml", nowhere)));
        command.arg(flag("storage.path", &directory.path().join("alertmanager")));
        // Nobody to gossip with.
        command.args([&format!("--web.listen-address=127.0.0.1:{alertmanager_port}"), "--cluster.listen-address="]);
        let alertmanager = Process::start(&mut command, &directory.path().join("alertmanager.log"));

        file("rules.yml", impatient(&fs::read_to_string(path("prometheus/rules.yml")).unwrap()));
        let targets: Vec<String> = targets.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"127.0.0.1:{alertmanager_port}\"]}}]}}]}}\n\
             scrape_configs:\n\
             - {{job_name: site, params: {{extra-counters: [\"\"]}}, static_configs: [{{targets: [{}]}}]}}\n",
            targets.join(", ")
        );
        let mut command = Command::new("prometheus");
        command.arg(flag("config.file", &file("prometheus.yml", config)));
        command.arg(flag("storage.tsdb.path", &directory.path().join("prometheus")));
        command.arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}"));
        let prometheus = Process::start(&mut command, &directory.path().join("prometheus.log"));
        let mut watch = Self { prometheus, alertmanager, prometheus_port, alertmanager_port, _directory: directory };
        watch.wait_until_ready();
        watch
    }

    fn wait_until_ready(&mut self) {
        for (process, port) in
            [(&mut self.prometheus, self.prometheus_port), (&mut self.alertmanager, self.alertmanager_port)]
        {
            wait_for("Prometheus and Alertmanager to be ready", PATIENCE, || {
                assert!(process.exited().is_none(), "it ended: {}", process.log());
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
                http_get(port, "/-/ready").ok().filter(|reply| reply.status == 200)
            });
        }
    }

    /// The names of the rules that Prometheus has, all of them well.
    fn rules(&self) -> Vec<String> {
        let groups = json(http_get(self.prometheus_port, "/api/v1/rules"));
        let groups = groups["data"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .map(|rule| {
                assert!(rule["lastError"].is_null(), "{rule}");
                rule["name"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// How many series an expression gives now.
    fn evaluates(&self, place: &str, expression: &str) -> usize {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = http_get(self.prometheus_port, &format!("/api/v1/query?query={escaped}")).unwrap();
        assert_eq!(reply.status, 200, "{place}: {}", reply.text());
        reply.json()["data"]["result"].as_array().unwrap().len()
    }

    /// What Alertmanager has been told and has not ended, each with its labels and annotations.
    fn alerts(&self) -> Vec<Value> {
        json(http_get(self.alertmanager_port, "/api/v2/alerts?active=true")).as_array().unwrap().clone()
    }

    /// Waits until Alertmanager has an alert about a certificate, and gives it.
    fn wait_for_alert(&self, name: &str, certificate: &str) -> Value {
        wait_for(&format!("{name} about {certificate}"), LONG_PATIENCE, || {
            self.alerts().into_iter().find(|alert| {
                let label = |label: &str| alert["labels"][label].as_str().unwrap_or_default().to_owned();
                label("alertname") == name && label("certificate") == certificate
            })
        })
    }
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn json(reply: std::io::Result<Reply>) -> Value {
    let reply = reply.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The shipped rules with nothing changed but their patience: a test has no five minutes to wait for an alert that is
/// true at once.
fn impatient(rules: &str) -> String {
    let lines = rules.lines().map(|line| if line.starts_with("        for: ") { "        for: 1s" } else { line });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// HAProxy counts staples, and tells its exporter, since 3.2.
fn counts_staples(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(3), Some(2))
}

fn exporter_at(port: u16) -> String {
    format!(
        "frontend exporter\n    bind 127.0.0.1:{port}\n    http-request use-service prometheus-exporter if {{ path /metrics }}\n"
    )
}

#[test]
fn an_expired_staple_and_a_revoked_certificate_reach_alertmanager() {
    let authority = Authority::start();
    let (dying, revoked) = (authority.leaf("dying.test"), authority.leaf("revoked.test"));
    authority.responder.set(&dying, Behaviour::GoodFor(SHORT_LIFE));
    authority.responder.set(&revoked, Behaviour::Revoked);
    let silent = authority.root.leaf("silent.test").issue();
    let builder = haproxy_with_good(&authority);
    let (counts, exporter) = (counts_staples(&builder.version()), free_port());
    let builder = if counts { builder.section(&exporter_at(exporter)) } else { builder };
    let haproxy = builder
        .file("dying.pem", dying.combined_pem())
        .file("revoked.pem", revoked.combined_pem())
        .file("silent.pem", silent.combined_pem())
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/dying.pem", "stapled");
    wait_for_state(&mut stapler, "/revoked.pem", "revoked");
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_state(&mut stapler, "/silent.pem", "no_responder");
    authority.responder.set(&dying, Behaviour::Http(503, Vec::new(), Vec::new()));
    // Another one beside it, which tells of no certificate by name.
    let mut brief = stapler_for(&haproxy).env("STAPLER_METRICS_PER_CERTIFICATE", "false").start();
    wait_for_state(&mut brief, "/revoked.pem", "revoked");
    let mut targets = vec![stapler.port(), brief.port()];
    targets.extend(counts.then_some(exporter));
    let watch = Watch::start(&targets);
    let name = |file: &str| haproxy.certificate(file).display().to_string();

    let alert = watch.wait_for_alert("HaproxyCertificateRevoked", &name("revoked.pem"));
    assert_eq!(alert["labels"]["severity"], "critical");
    assert!(alert["annotations"]["description"].as_str().unwrap().contains("/revoked.pem says that it is revoked"));

    let alert = watch.wait_for_alert("HaproxyStapleExpired", &name("dying.pem"));
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["labels"]["haproxy"], haproxy.socket().display().to_string());
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(description.contains("/dying.pem in ") && description.contains("ends in "), "{description}");
    assert!(alert["annotations"]["runbook_url"].as_str().unwrap().ends_with("/docs/alerts.md#haproxystapleexpired"));
    assert_eq!(
        watch.rules().len(),
        fs::read_to_string(path("prometheus/rules.yml")).unwrap().matches("alert:").count()
    );
    // The same, as far as the totals tell it.
    for name in ["HaproxyCertificateRevoked", "HaproxyStapleExpired"] {
        let alert = watch.wait_for_alert(name, "");
        assert_eq!(alert["labels"]["scope"], "instance");
        assert_eq!(alert["labels"]["instance"], format!("127.0.0.1:{}", brief.port()));
    }
    // It is not over when HAProxy has stopped serving it: the alarm stays.
    wait_for_state(&mut stapler, "/dying.pem", "unstapled");
    wait_for("it to be told as unstapled", PATIENCE, || {
        stapler.get("/metrics").text().contains("state=\"unstapled\"} 1").then_some(())
    });
    watch.wait_for_alert("HaproxyStapleExpired", &name("dying.pem"));

    if counts {
        wait_for("HAProxy's own count of failed staples to be alarming", LONG_PATIENCE, || {
            assert_eq!(stapled_bytes(haproxy.port(), "dying.test"), None);
            let told = watch.alerts();
            let own = told.iter().find(|alert| alert["labels"]["alertname"] == "HaproxyFrontendStaplingFailures")?;
            (own["labels"]["proxy"] == "tls").then_some(())
        });
    }

    // What a parser cannot see: whether the two sides of an operator find each other. Not everything happened here.
    let may_be_empty = ["annotation", "'Behind'", "clients see'", "failures' \"B\"", "'Files' \"B\""];
    for (place, expression) in dashboard::expressions() {
        let is_empty = watch.evaluates(&place, &expression) == 0;
        let may_be = may_be_empty.iter().any(|part| place.contains(part));
        assert!(!is_empty || may_be || !counts && place.contains("as HAProxy counts"), "{place}: {expression}");
    }

    // Nothing else is wrong, and nothing is said twice: the responder that fails is the one that lets the staple die. A
    // scrape that came too late, with a patience of a second, is said for a moment.
    let is_due = |alert: &Value| {
        let labels = &alert["labels"];
        let is_about = |file: &str| labels["certificate"] == name(file) || labels["scope"] == "instance";
        match labels["alertname"].as_str().unwrap() {
            "HaproxyCertificateRevoked" => is_about("revoked.pem"),
            "HaproxyStapleExpired" | "HaproxyStapleExpiringSoon" => is_about("dying.pem"),
            "HaproxyStaplerResponderFailing" => true,
            "HaproxyFrontendStaplingFailures" => counts,
            _ => false,
        }
    };
    wait_for("nothing to be told but what is wrong", LONG_PATIENCE, || watch.alerts().iter().all(is_due).then_some(()));

    // The CA is back, and so is silence.
    authority.responder.set(&dying, Behaviour::Good);
    wait_for_state(&mut stapler, "/dying.pem", "stapled");
    wait_for("the alarm to end", LONG_PATIENCE, || {
        watch.alerts().iter().all(|alert| alert["labels"]["alertname"] != "HaproxyStapleExpired").then_some(())
    });
}
