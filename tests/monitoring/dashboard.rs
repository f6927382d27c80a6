//! The Grafana dashboard: its expressions are real ones about real series, and its panels are where they can be seen.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::promql::{known, must_be_good};
use crate::rules::path;

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(path("grafana/haproxy-stapler.json")).unwrap()).unwrap()
}

/// Every panel, also of rows that are folded up.
fn panels() -> Vec<Value> {
    let mut all = Vec::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        all.push(panel.clone());
        all.extend(panel["panels"].as_array().into_iter().flatten().cloned());
    }
    assert!(all.len() > 20);
    all
}

fn title(panel: &Value) -> &str {
    panel["title"].as_str().unwrap()
}

/// The variables, as Grafana would have put something in their place.
fn filled_in(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "5m");
    let names = variables().into_iter().map(|variable| variable["name"].as_str().unwrap().to_owned());
    let filled = names.fold(expression, |text, name| text.replace(&format!("${name}"), ".*"));
    assert!(!filled.contains('$'), "a variable that the dashboard has not: {filled}");
    filled
}

fn variables() -> Vec<Value> {
    dashboard()["templating"]["list"].as_array().unwrap().clone()
}

/// Every expression, with where it stands.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let place = format!("panel '{}' {}", title(&panel), target["refId"]);
            expressions.push((place, filled_in(target["expr"].as_str().unwrap())));
        }
    }
    for annotation in dashboard()["annotations"]["list"].as_array().unwrap() {
        let place = format!("annotation {}", annotation["name"]);
        expressions.push((place, filled_in(annotation["expr"].as_str().unwrap())));
    }
    assert!(expressions.len() > 30);
    expressions
}

#[test]
fn every_expression_is_good() {
    must_be_good(&expressions());
}

#[test]
fn every_variable_lists_values_that_there_are() {
    let known = known();
    let names: Vec<String> = variables().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "certificate", "responder"]);
    for variable in variables().into_iter().skip(1) {
        let query = variable["query"]["query"].as_str().unwrap();
        assert_eq!(variable["definition"], query);
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        let name = selector.split('{').next().unwrap();
        let labels = known.get(name).unwrap_or_else(|| panic!("nobody exports {name}"));
        assert!(labels.contains(label) || ["job", "instance"].contains(&label), "{query}");
        must_be_good(&[(query.to_owned(), filled_in(selector))]);
    }
}

#[test]
fn every_panel_explains_itself() {
    let mut ids = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id {}", panel["id"]);
        assert!(!title(&panel).is_empty());
        if panel["type"] == "row" {
            continue;
        }
        let says = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        assert!(says(&panel["description"]), "'{}' has no description", title(&panel));
        assert!(says(&panel["fieldConfig"]["defaults"]["unit"]), "'{}' has no unit", title(&panel));
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "'{}'", title(&panel));
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty());
        let refs: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), targets.len(), "'{}' has two queries of one name", title(&panel));
        assert!(targets.iter().all(|target| target["datasource"]["uid"] == "${datasource}"), "'{}'", title(&panel));
    }
}

#[test]
fn no_panel_lies_over_another() {
    let place = |panel: &Value, side: &str| panel["gridPos"][side].as_u64().unwrap();
    let panels = panels();
    for (index, one) in panels.iter().enumerate() {
        assert!(place(one, "w") > 0 && place(one, "h") > 0);
        assert!(place(one, "x") + place(one, "w") <= 24, "'{}' is wider than the page", title(one));
        for other in &panels[index + 1..] {
            let apart = |at: &str, size: &str| {
                place(one, at) + place(one, size) <= place(other, at)
                    || place(other, at) + place(other, size) <= place(one, at)
            };
            assert!(apart("x", "w") || apart("y", "h"), "'{}' lies over '{}'", title(one), title(other));
        }
    }
}

/// Grafana gives an imported dashboard an id of its own; ours has a name that links can rely on.
#[test]
fn it_can_be_imported_and_provisioned() {
    let dashboard = dashboard();
    assert!(dashboard["id"].is_null() && dashboard.get("__inputs").is_none());
    assert_eq!(dashboard["uid"], "haproxy-stapler");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    assert_eq!(variables()[0]["type"], "datasource");
}
