//! The status page, read as a person reads it: by what stands where.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::truth::Said;

/// What is on it.
pub(crate) struct Page {
    /// The verdict.
    pub(crate) headline: String,
    counts: BTreeMap<String, u64>,
    rows: Vec<(String, String)>,
}

impl Page {
    pub(crate) fn read(html: &str) -> Self {
        let headline = words(between(html, "<h1>", "</h1>").unwrap());
        let list = between(html, "<ul class=\"counts\"", "</ul>").unwrap();
        let counts = list.split("<li>").skip(1).filter_map(|item| {
            let text = words(item);
            let (state, number) = text.rsplit_once(' ')?;
            Some((state.replace(' ', "_"), number.parse().unwrap()))
        });
        let rows = html.split("<tbody").skip(1).map(|row| {
            let row = row.split("</tbody>").next().unwrap();
            (words(between(row, "<bdi><span class=\"soft\">", "</bdi>").unwrap()), row.to_owned())
        });
        Self { headline, counts: counts.collect(), rows: rows.collect() }
    }

    /// The certificates, from the top.
    pub(crate) fn names(&self) -> Vec<String> {
        self.rows.iter().map(|(name, _)| name.clone()).collect()
    }

    /// How many it says are in a state; it keeps quiet about those in which none is.
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.counts.get(state).copied().unwrap_or(0)
    }

    /// What it says of one certificate.
    pub(crate) fn row(&self, name: &str) -> Said {
        let (_, row) = self.rows.iter().find(|(each, _)| each == name).unwrap_or_else(|| panic!("no row for {name}"));
        let state = between(row, "<span class=\"badge", "</span>").unwrap();
        let ca = between(row, "</span><p>", "</p>").unwrap();
        let ocsp_status = match ca {
            "CA says good" => "good",
            "CA says revoked" => "revoked",
            "CA does not know it" => "unknown",
            "no word of the CA" => "none",
            other => panic!("{other}"),
        };
        let reason = between(row, "<div class=\"reason\">", "</div>");
        let summary = words(between(row, "<summary>", "</summary>").unwrap());
        let detail = match reason {
            Some(reason) => Some(words(between(reason, "<p>", "</p>").unwrap())),
            None => Some(summary).filter(|summary| summary != "every step"),
        };
        let steps: Vec<&str> = row.split("<li class=").skip(1).collect();
        let failed =
            steps.iter().find(|step| words(between(step, "<span class=\"outcome\">", "</span>").unwrap()) == "failed");
        let stops = failed
            .map(|step| (words(between(step, "<span class=\"step\">", "</span>").unwrap()).replace(' ', "_"), None));
        let remedy = steps.iter().find_map(|step| between(step, "<span class=\"remedy\">", "</span>")).map(words);
        // What stands under the reason is what the steps say.
        if let Some(reason) = reason {
            assert_eq!(between(reason, "<p class=\"remedy\">", "</p>").map(words), remedy, "{name}");
        }
        let seats = between(row, "class=\"seats\">", "</td>").unwrap();
        let ends = between(row, "<p class=\"ends\">", "</p>").map(|ends| {
            let end = ends.rsplit("datetime=\"").next().unwrap().split('"').next().unwrap();
            let end: Timestamp = end.parse().unwrap_or_else(|error| panic!("{error}: {end}"));
            // It shows when HAProxy stops serving it.
            end + SignedDuration::from_mins(5)
        });
        assert_eq!(ends.is_none(), row.contains("<p class=\"none\">no staple</p>"), "{name}");
        Said {
            state: words(state.split_once('>').unwrap().1).replace(' ', "_"),
            ocsp_status: Some(ocsp_status.to_owned()),
            detail,
            next_update: Some(ends),
            is_served: Some(seats.contains("serves it") || seats.contains("serves one until")),
            stops: Some(stops),
            remedy: Some(remedy),
            ..Said::default()
        }
    }
}

/// What stands between two marks, the first time.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}

/// Without marks, and with letters for what stands for them.
fn words(html: &str) -> String {
    let mut text = String::new();
    for (index, piece) in html.split('<').enumerate() {
        text.push_str(if index == 0 { piece } else { piece.split_once('>').map_or("", |(_, after)| after) });
    }
    for (code, letter) in [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")] {
        text = text.replace(code, letter);
    }
    text.trim().to_owned()
}
