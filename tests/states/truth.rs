//! What one place says about one certificate, as far as it says something.

use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::Value;

use crate::Expected;
use crate::everything::Sample;

/// None where the place does not speak of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) state: String,
    pub(crate) ocsp_status: Option<String>,
    /// As a sentence.
    pub(crate) detail: Option<String>,
    /// nextUpdate of the staple in hand, if there is one.
    pub(crate) next_update: Option<Option<Timestamp>>,
    pub(crate) is_served: Option<bool>,
    /// Until when, in each HAProxy.
    pub(crate) served_until: Option<Vec<Timestamp>>,
    /// The first step that failed, and why.
    pub(crate) stops: Option<Option<(String, Option<String>)>>,
    /// The first remedy there is.
    pub(crate) remedy: Option<Option<String>>,
}

impl Said {
    /// Insists on what the contract has.
    pub(crate) fn assert_is(&self, state: &str, expected: &Expected) {
        assert_eq!(self.state, state, "{self:#?}");
        assert_eq!(self.ocsp_status.as_deref(), Some(expected.ocsp_status), "{state}: {self:#?}");
        assert_eq!(self.is_served, Some(expected.is_served), "{state}: {self:#?}");
        let stops = expected.stops.map(|(step, reason)| (step.to_owned(), Some(reason.to_owned())));
        assert_eq!(self.stops, Some(stops), "{state}: {self:#?}");
        let remedy = self.remedy.clone().unwrap().unwrap_or_default();
        assert_eq!(remedy.is_empty(), expected.remedy.is_empty(), "{state}: {self:#?}");
        assert!(remedy.to_lowercase().contains(&expected.remedy.to_lowercase()), "{state}: {self:#?}");
        assert!(self.detail.as_ref().is_some_and(|detail| !detail.is_empty()), "{state}: {self:#?}");
        let has_staple = self.next_update.unwrap().is_some();
        assert_eq!(has_staple, matches!(expected.ocsp_status, "good" | "revoked"), "{state}: {self:#?}");
    }

    /// Insists that both say the same of everything that both speak of.
    pub(crate) fn assert_agrees(&self, other: &Self, state: &str, place: &str) {
        assert_eq!(self.state, other.state, "{state}: {place}: {other:#?}");
        same(&self.ocsp_status, &other.ocsp_status, &format!("{state}: {place}: ocsp_status"));
        same(&self.detail, &other.detail, &format!("{state}: {place}: detail"));
        same(&self.next_update, &other.next_update, &format!("{state}: {place}: nextUpdate"));
        same(&self.is_served, &other.is_served, &format!("{state}: {place}: served"));
        same(&self.served_until, &other.served_until, &format!("{state}: {place}: served until"));
        same(&self.remedy, &other.remedy, &format!("{state}: {place}: remedy"));
        let step = |said: &Self| said.stops.clone().map(|stops| stops.map(|(step, _)| step));
        same(&step(self), &step(other), &format!("{state}: {place}: the step where it stops"));
        let reason = |said: &Self| said.stops.clone().flatten().and_then(|(_, reason)| reason);
        same(&reason(self), &reason(other), &format!("{state}: {place}: the reason"));
    }
}

fn same<T: PartialEq + Debug>(one: &Option<T>, other: &Option<T>, what: &str) {
    if let (Some(one), Some(other)) = (one, other) {
        assert_eq!(one, other, "{what}");
    }
}

/// As the page and a log have it: with a capital letter and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// The steps of a row of /status.
pub(crate) fn steps(row: &Value) -> &Vec<Value> {
    row["steps"].as_array().unwrap()
}

/// A row of /status, or of `explain --json`.
pub(crate) fn of_row(row: &Value) -> Said {
    let failed = steps(row).iter().find(|step| step["outcome"] == "failed");
    let stops = failed.map(|step| (text(&step["step"]), step["reason"].as_str().map(str::to_owned)));
    let remedy = steps(row).iter().find_map(|step| step["remedy"].as_str()).map(str::to_owned);
    let served = row["served"].as_array().unwrap();
    // What it names as its trouble is on its way, with the same remedy.
    assert_eq!(row["trouble"].is_null(), failed.is_none(), "{row:#}");
    if let Some(kind) = row["trouble"]["kind"].as_str() {
        let step = steps(row).iter().find(|step| step["reason"] == kind).unwrap_or_else(|| panic!("{row:#}"));
        assert_eq!(step["step"], row["trouble"]["step"], "{row:#}");
        assert_eq!(step["remedy"].as_str().unwrap(), sentence(row["trouble"]["remedy"].as_str().unwrap()), "{row:#}");
    }
    Said {
        stops: Some(stops),
        remedy: Some(remedy),
        served_until: Some(served.iter().map(|each| time(&each["next_update"]).unwrap()).collect()),
        ..of_healthz(row)
    }
}

/// A row of /healthz.
pub(crate) fn of_healthz(row: &Value) -> Said {
    Said {
        state: text(&row["state"]),
        ocsp_status: Some(text(&row["ocsp_status"])),
        detail: Some(sentence(&text(&row["detail"]))),
        next_update: Some(time(&row["staple_next_update"])),
        is_served: Some(!row["staple_age_seconds"].is_null()),
        ..Said::default()
    }
}

/// The series of one certificate.
pub(crate) fn of_metrics(name: &str, samples: &[Sample]) -> Said {
    let own: Vec<&Sample> =
        samples.iter().filter(|one| one.labels.get("certificate").is_some_and(|each| each == name)).collect();
    let series = |metric: &str| -> Vec<&&Sample> {
        own.iter().filter(|one| one.name == format!("haproxy_stapler_{metric}")).collect()
    };
    let instant = |sample: &Sample| Timestamp::from_second(format!("{:.0}", sample.value).parse().unwrap()).unwrap();
    let states = series("certificate_state");
    assert!(states.len() == 1 && (states[0].value - 1.0).abs() < f64::EPSILON, "{states:?}");
    let all = series("ocsp_status");
    let statuses: Vec<&&&Sample> = all.iter().filter(|one| one.value > 0.0).collect();
    assert!(all.len() == 4 && statuses.len() == 1, "{all:?}");
    let next_update = series("staple_next_update_timestamp_seconds").first().map(|one| instant(one));
    for companion in ["staple_this_update_timestamp_seconds", "staple_produced_at_timestamp_seconds"] {
        assert_eq!(series(companion).len(), usize::from(next_update.is_some()), "{name}: {companion}");
    }
    // What nobody can read has nothing to say of itself but its name.
    let is_read = states[0].labels["state"] != "unreadable";
    for known in ["certificate_not_after_timestamp_seconds", "certificate_must_staple"] {
        assert_eq!(series(known).len(), usize::from(is_read), "{name}: {known}");
    }
    let mut served_until: Vec<Timestamp> =
        series("served_staple_next_update_timestamp_seconds").iter().map(|one| instant(one)).collect();
    served_until.sort();
    Said {
        state: states[0].labels["state"].clone(),
        ocsp_status: Some(statuses[0].labels["status"].clone()),
        next_update: Some(next_update),
        is_served: Some(!series("staple_age_seconds").is_empty()),
        served_until: Some(served_until),
        ..Said::default()
    }
}

/// The words of `explain`.
pub(crate) fn explained_in_words(name: &str, words: &str) -> Said {
    let (title, rest) = words.split_once('\n').unwrap();
    let (state, detail) =
        title.strip_prefix(&format!("{name}: ")).unwrap_or_else(|| panic!("{words}")).split_once(", ").unwrap();
    let rows: Vec<&str> = rest.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let failed = rows.iter().find_map(|row| Some((row.split_once("  FAILED ")?.0.trim().replace(' ', "_"), None)));
    let remedy = rows.iter().find_map(|row| row.strip_prefix("-> ")).map(str::to_owned);
    let installed = rows.iter().find(|row| row.starts_with("installed ")).unwrap();
    Said {
        state: state.to_owned(),
        detail: Some(sentence(detail)),
        is_served: Some(installed.contains(" ok ")),
        stops: Some(failed),
        remedy: Some(remedy),
        ..Said::default()
    }
}
