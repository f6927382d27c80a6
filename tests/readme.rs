//! The tables of the README and of a page beside it, held against the program: a setting, a state or a command that only one of them knows is a
//! lie. The metrics have a page of their own, and a test in tests/monitoring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{State, Step};

const README: &str = include_str!("../README.md");
const EXPLAIN: &str = include_str!("../docs/explain.md");

/// The rows of the table under a heading of a page, each cell trimmed.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.split(heading).nth(1).unwrap_or_else(|| panic!("there is no '{heading}'"));
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The words between backticks in a cell.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_setting_stands_in_the_table_with_its_default() {
    let mut documented: BTreeMap<String, String> = BTreeMap::new();
    for row in table(README, "## Settings") {
        let defaults = quoted(&row[1]);
        for (index, name) in quoted(&row[0]).into_iter().enumerate() {
            documented.insert(name, defaults.get(index).cloned().unwrap_or_default());
        }
    }
    let settings = Settings::parse([]).unwrap().settings;
    let actual: BTreeMap<String, String> =
        settings.describe().into_iter().map(|setting| (setting.name.to_owned(), setting.value)).collect();
    assert_eq!(documented, actual, "left: the README, right: the program");
}

#[test]
fn every_command_stands_in_the_table() {
    let documented: BTreeSet<String> = table(README, "## Commands")
        .iter()
        .filter_map(|row| Some(quoted(&row[0]).first()?.split(' ').next()?.to_owned()))
        .collect();
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_haproxy-stapler")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let actual: BTreeSet<String> = commands
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|command| command != "help")
        .collect();
    assert_eq!(documented, actual, "left: the README, right: the program");
}

#[test]
fn every_step_stands_in_the_table() {
    let documented: Vec<String> = table(EXPLAIN, "# Find out why").iter().flat_map(|row| quoted(&row[0])).collect();
    let actual: Vec<&str> = Step::ALL.into_iter().map(Step::label).collect();
    assert_eq!(documented, actual, "left: the README, right: the program");
}

#[test]
fn every_state_stands_in_the_table() {
    let documented: BTreeSet<String> =
        table(README, "Each certificate is in one state:").iter().flat_map(|row| quoted(&row[0])).collect();
    let actual: BTreeSet<String> = State::ALL.iter().map(|state| state.label().to_owned()).collect();
    assert_eq!(documented, actual, "left: the README, right: the program");
}
