//! What can be learnt of expressions without evaluating them: whether Prometheus takes them, and which metrics they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use crate::everything::{everything, samples};
use crate::support::process::run;

/// What Prometheus itself makes, and HAProxy's own exporter, from 3.2 on with /metrics?extra-counters.
const OF_OTHERS: [(&str, &[&str]); 5] = [
    ("up", &[]),
    ("haproxy_frontend_ssl_ocsp_staple", &["proxy", "mod"]),
    ("haproxy_frontend_ssl_failed_ocsp_staple", &["proxy", "mod"]),
    ("haproxy_frontend_ssl_failed_handshake", &["proxy", "mod"]),
    ("haproxy_frontend_ssl_sess", &["proxy", "mod"]),
];

const KEYWORDS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "inf", "nan"];
/// Lists of labels stand behind these.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// A series' labels, by the name of the series, in the text of a real run.
pub(crate) static REAL: LazyLock<(String, BTreeMap<String, BTreeSet<String>>)> = LazyLock::new(|| {
    let text = everything().text;
    let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sample in samples(&text) {
        series.entry(sample.name).or_default().extend(sample.labels.into_keys());
    }
    (text, series)
});

/// Every series that there is to ask for, with its labels, but for what Prometheus adds when it scrapes.
pub(crate) fn known() -> BTreeMap<String, BTreeSet<String>> {
    let mut known = REAL.1.clone();
    known.extend(OF_OTHERS.iter().map(|(name, labels)| {
        ((*name).to_owned(), labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<String>>())
    }));
    known
}

/// The names of the metrics in an expression.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = without_strings_and_braces(expression);
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
        let before = rest[..start].chars().next_back();
        let word: String = rest[start..].chars().take_while(|letter| is_of_a_name(*letter)).collect();
        let after = rest[start + word.len()..].trim_start().to_owned();
        if BEFORE_LABELS.contains(&&*word) && after.starts_with('(') {
            rest = after.split_once(')').unwrap_or_else(|| panic!("no end of labels: {expression}")).1.to_owned();
            continue;
        }
        let is_unit = before.is_some_and(|letter| letter.is_ascii_digit());
        let is_function = ["(", "by ", "by(", "without ", "without("].iter().any(|next| after.starts_with(next));
        if !is_unit && !is_function && !KEYWORDS.contains(&&*word) {
            names.insert(word);
        }
        rest = after;
    }
    names
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'
}

/// Selectors and ranges hold labels, values and durations; so do strings.
fn without_strings_and_braces(expression: &str) -> String {
    let (mut kept, mut depth, mut quote) = (String::new(), 0_u32, None);
    for letter in expression.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => {
                depth -= 1;
                kept.push(' ');
            }
            (None, _) if depth == 0 => kept.push(letter),
            (None, _) => {}
        }
    }
    kept
}

/// Holds expressions, each with where it stands, against Prometheus's parser and against the metrics there are.
pub(crate) fn must_be_good(expressions: &[(String, String)]) {
    let known: BTreeSet<String> = known().into_keys().collect();
    let mut rules = "groups:\n- name: all\n  rules:\n".to_owned();
    for (number, (place, expression)) in expressions.iter().enumerate() {
        let named = metrics(expression);
        assert!(!named.is_empty(), "{place} names no metric: {expression}");
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{place} names {unknown:?}, which nobody exports: {expression}");
        let quoted = serde_json::to_string(expression).unwrap();
        writeln!(rules, "  - record: test:n{number}\n    expr: {quoted}\n    labels: {{place: \"{number}\"}}").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

/// Runs promtool, which must be content.
pub(crate) fn promtool(arguments: &[&str]) {
    let output = run(Command::new("promtool").args(arguments));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !said.contains("FAILED"), "promtool {arguments:?}: {said}");
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    let named = |expression: &str| metrics(expression).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        named(r#"sum by (a, b) (rate(x_total{c="d(e", f=~"}g"}[5m])) / on (a) group_left (b) y > 1.5e3"#),
        "x_total y"
    );
    assert_eq!(named("time() - z < 6 * 3600 and on (job) up offset 5m == 0 or absent(w)"), "up w z");
    assert_eq!(named(r#"label_replace(v, "x", "$1", 'y', "(.*)") unless on () q[1h:5m]"#), "q v");
}
