//! The pages about metrics, held against a running program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::everything::{Sample, samples};
use crate::promql::{REAL, must_be_good};
use crate::rules::path;

/// Type and labels of a metric.
type Family = (String, BTreeSet<String>);

fn page() -> String {
    fs::read_to_string(path("docs/metrics.md")).unwrap()
}

fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// What the page says: a heading, and below it a line of type, labels and number of series.
fn documented() -> BTreeMap<String, Family> {
    let page = page();
    let mut families = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let mut lines = section.lines().filter(|line| !line.is_empty());
        let names: Vec<String> = quoted(lines.next().unwrap()).collect();
        let facts = lines.next().unwrap();
        let kind = facts.split([',', ';']).next().unwrap().to_owned();
        let labels = facts.split("; ").nth(1).unwrap();
        assert!(facts.matches("; ").count() == 2, "type, labels, series: {facts}");
        assert!(lines.next().is_some_and(|meaning| !meaning.starts_with('`')), "{names:?} has no meaning");
        for name in names {
            let family = (kind.clone(), quoted(labels).collect());
            assert!(families.insert(name.clone(), family).is_none(), "{name} twice");
        }
    }
    families
}

/// What a run says.
fn real() -> BTreeMap<String, Family> {
    let (text, series) = &*REAL;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let one = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
            (name.to_owned(), (kind.to_owned(), series[&one].clone()))
        })
        .collect()
}

#[test]
fn every_metric_is_documented_and_no_other() {
    assert_eq!(documented(), real(), "left: docs/metrics.md, right: /metrics");
}

/// What the page says of how many there are: who plans for a thousand certificates relies on it.
#[test]
fn a_stapled_certificate_has_as_many_series_as_the_page_says() {
    assert!(page().contains("A thousand certificates\n  in one HAProxy are 15000 series."));
    let all = samples(&REAL.0);
    let own = |sample: &&Sample| sample.labels.get("certificate").is_some_and(|name| name.ends_with("/good.pem"));
    assert_eq!(all.iter().filter(own).count(), 15);
    // Request and failure; the failure is one for each reason.
    let asked =
        |sample: &&Sample| sample.labels.contains_key("responder") && !sample.labels.contains_key("certificate");
    let (failures, others): (Vec<_>, Vec<_>) =
        all.iter().filter(asked).partition(|sample| sample.labels.contains_key("reason"));
    assert_eq!((failures.len(), others.len()), (1, 15));
}

#[test]
fn every_expression_on_the_page_is_good() {
    let page = page();
    let expressions: Vec<(String, String)> = page
        .split("```promql\n")
        .skip(1)
        .map(|rest| ("docs/metrics.md".to_owned(), rest.split("```").next().unwrap().trim().to_owned()))
        .collect();
    must_be_good(&expressions);
    // Every metric of ours has one below it that is about it.
    for section in page.split("\n### ").skip(1).filter(|section| section.starts_with("`haproxy_stapler_")) {
        let name = quoted(section).next().unwrap();
        let code = section.split_once("```promql\n").unwrap_or_else(|| panic!("{name} has no expression")).1;
        assert!(code.contains(&name), "{name}");
    }
}

/// A page that is linked from nowhere is read by nobody, and a link to nowhere is worse.
#[test]
fn every_page_is_linked_and_every_link_leads_somewhere() {
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let mut pages = vec![("README.md".to_owned(), readme.clone())];
    for entry in fs::read_dir(path("docs")).unwrap() {
        let entry = entry.unwrap();
        // Beside the pages lie their pictures.
        if entry.path().extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let name = format!("docs/{}", entry.file_name().to_str().unwrap());
        assert!(readme.contains(&format!("({name}")), "the README does not link {name}");
        pages.push((name, fs::read_to_string(entry.path()).unwrap()));
    }
    for (name, text) in &pages {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path(name) } else { path(name).parent().unwrap().join(file) };
            assert!(target.exists(), "{name} links {link}, which is not there");
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#')).map(as_anchor);
                assert!(headings.into_iter().any(|heading| heading == anchor), "{name} links {link}: no such heading");
            }
        }
    }
}

/// As GitHub makes one of a heading.
fn as_anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
