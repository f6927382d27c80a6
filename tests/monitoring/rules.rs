//! The alert rules: complete, the same everywhere, and each of them seen to fire and not to fire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_norway::Value;

use crate::promql::{known, must_be_good, promtool};

const ALERTS: &str = include_str!("../../docs/alerts.md");

pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn yaml(path: &Path) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Every rule, with the name of its group.
fn rules() -> Vec<(String, Value)> {
    let all = yaml(&path("prometheus/rules.yml"));
    let groups = all["groups"].as_sequence().unwrap().clone();
    let rules = groups.into_iter().flat_map(|group| {
        let name = group["name"].as_str().unwrap().to_owned();
        group["rules"].as_sequence().unwrap().clone().into_iter().map(move |rule| (name.clone(), rule))
    });
    rules.collect()
}

/// The files of tests for promtool.
fn tests() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(path("prometheus/tests")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value:?}"))
}

#[test]
fn prometheus_takes_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", path("prometheus/rules.yml").to_str().unwrap()]);
}

/// docker-compose.yml's Prometheus has them.
#[test]
fn the_demonstration_loads_them() {
    promtool(&["check", "config", path("prometheus/prometheus.yml").to_str().unwrap()]);
    let config = yaml(&path("prometheus/prometheus.yml"));
    assert_eq!(config["rule_files"][0], "rules.yml");
    let volumes = yaml(&path("docker-compose.yml"))["services"]["prometheus"]["volumes"].clone();
    assert!(volumes.as_sequence().unwrap().contains(&Value::from("./prometheus:/etc/prometheus:ro")), "{volumes:?}");
}

#[test]
fn the_operator_gets_the_same_rules() {
    let (plain, resource) =
        (yaml(&path("prometheus/rules.yml")), yaml(&path("k8s/components/rules/prometheusrule.yaml")));
    assert_eq!(plain["groups"], resource["spec"]["groups"], "run scripts/rules");
}

#[test]
fn every_rule_says_all_that_it_should() {
    let headings: BTreeSet<&str> = ALERTS.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut names = BTreeSet::new();
    for (_, rule) in rules() {
        let name = text(&rule, "alert").to_owned();
        let (labels, annotations) = (&rule["labels"], &rule["annotations"]);
        assert!(matches!(text(labels, "severity"), "critical" | "warning"), "{name}");
        assert!(!rule["for"].is_null(), "{name} has no `for`");
        let (summary, description) = (text(annotations, "summary"), text(annotations, "description"));
        assert!(!summary.contains("{{") && summary.ends_with('.'), "{name}: a summary is the same for all: {summary}");
        // With one exception: what is missing has no name.
        assert!(description.contains("{{ $") || name == "HaproxyStaplerMissing", "{name}: {description}");
        let runbook = format!("{}/blob/main/docs/alerts.md#{}", env!("CARGO_PKG_REPOSITORY"), name.to_lowercase());
        assert_eq!(text(annotations, "runbook_url"), runbook, "run scripts/rules");
        assert!(headings.contains(name.as_str()), "docs/alerts.md has no '## {name}'");
        names.insert(name);
    }
    assert_eq!(headings, names.iter().map(String::as_str).collect(), "left: docs/alerts.md, right: the rules");
    for kept in ["HaproxyStapleExpired", "HaproxyCertificateRevoked"] {
        assert!(names.contains(kept), "people route {kept}");
    }
}

#[test]
fn the_table_of_alerts_says_what_the_rules_say() {
    let mut wanted: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (_, rule) in rules().into_iter().filter(|(group, _)| group == "haproxy-stapler") {
        let (severities, waits) = wanted.entry(text(&rule, "alert").to_owned()).or_default();
        severities.push(text(&rule["labels"], "severity").to_owned());
        waits.push(match text(&rule, "for") {
            "0s" => "at once".to_owned(),
            wait => wait.replace('m', " min").replace('h', " h"),
        });
    }
    let rows = ALERTS.lines().filter(|line| line.starts_with("| [Haproxy"));
    let told: BTreeMap<String, (Vec<String>, Vec<String>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_start_matches('[').split(']').next().unwrap().to_owned();
            let list = |cell: &str| cell.split(", ").map(str::to_owned).collect();
            (name, (list(cells[1]), list(cells[2])))
        })
        .collect();
    assert_eq!(told, wanted, "left: docs/alerts.md, right: the rules");
}

#[test]
fn every_runbook_has_its_parts() {
    for section in ALERTS.split("\n## ").skip(1) {
        for part in ["**Means", "**Clients", "**Look", "**Do"] {
            assert!(section.contains(part), "{part} is missing: {section}");
        }
    }
}

#[test]
fn every_rule_names_metrics_that_there_are() {
    let expressions: Vec<(String, String)> =
        rules().iter().map(|(_, rule)| (text(rule, "alert").to_owned(), text(rule, "expr").to_owned())).collect();
    must_be_good(&expressions);
}

#[test]
fn the_rules_pass_their_tests() {
    let files = tests();
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    promtool(&arguments);
}

/// One rule among those that may have the same name.
fn identity(name: &str, labels: &Value) -> String {
    format!("{name} {} {}", text(labels, "severity"), labels["scope"].as_str().unwrap_or("certificate"))
}

#[test]
fn every_rule_is_tested_for_firing_and_for_not_firing() {
    let all: BTreeSet<String> =
        rules().iter().map(|(_, rule)| identity(text(rule, "alert"), &rule["labels"])).collect();
    let (mut fires, mut is_silent) = (BTreeSet::new(), BTreeSet::new());
    for file in tests() {
        let scope = if file.ends_with("totals.yml") { "instance" } else { "certificate" };
        for test in yaml(&file)["tests"].as_sequence().unwrap() {
            for case in test["alert_rule_test"].as_sequence().into_iter().flatten() {
                let name = text(case, "alertname");
                let expected: BTreeSet<String> = case["exp_alerts"]
                    .as_sequence()
                    .unwrap()
                    .iter()
                    .map(|alert| identity(name, &alert["exp_labels"]))
                    .collect();
                let namesakes =
                    all.iter().filter(|rule| rule.starts_with(&format!("{name} ")) && rule.ends_with(scope));
                is_silent.extend(namesakes.filter(|rule| !expected.contains(*rule)).cloned());
                fires.extend(expected);
            }
        }
    }
    assert_eq!(fires, all, "left: those that a test sees firing, right: all");
    assert_eq!(is_silent, all, "left: those that a test sees silent, right: all");
}

/// A series in a test that nobody exports would prove nothing.
#[test]
fn the_tests_of_the_rules_are_about_real_series() {
    let known = known();
    for file in tests() {
        for test in yaml(&file)["tests"].as_sequence().unwrap() {
            for input in test["input_series"].as_sequence().unwrap() {
                let series = text(input, "series");
                let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
                let real = known.get(name).unwrap_or_else(|| panic!("{file:?}: nobody exports {name}"));
                let mut labels: BTreeSet<String> =
                    labels.split("\", ").map(|label| label.split('=').next().unwrap().trim().to_owned()).collect();
                assert!(labels.remove("job") && labels.remove("instance"), "{file:?}: {series}");
                let (some, all) = (labels.is_subset(real), labels == *real);
                // Who a certificate is does not matter everywhere, nor who the program is.
                let brief = name.ends_with("_info");
                assert!(all || (brief && some), "{file:?}: {series} has not the labels {real:?}");
            }
        }
    }
}
