//! The first thing to read: whether anything needs a person, what, and when clients notice.

use jiff::Timestamp;

use super::certificate::{Noticed, split_path};
use super::query::Query;
use super::text::{Instant, NAME, count, outside, so_many};
use super::tone::Tone;
use crate::status::{HaproxyStatus, Health, ProbeStatus, State, Status};

/// The answer, and what it is made of.
pub(super) struct Verdict {
    pub(super) tone: Tone,
    pub(super) headline: String,
    /// The certificates that need somebody.
    pub(super) troubled: String,
    /// What else does, or, where nothing does, how many certificates are stapled.
    pub(super) others: String,
    /// How many do.
    pub(super) needing: usize,
    /// Certificates whose trouble clients notice now.
    pub(super) noticed: String,
    /// When they notice the next one, its name, and where its row is.
    pub(super) next: Option<(Instant, (String, String))>,
}

impl Verdict {
    pub(super) fn new(status: &Status, health: Health, now: Timestamp) -> Self {
        let certificates = status.certificates.iter().filter(|each| each.state.is_trouble()).count();
        let down = |haproxy: &&HaproxyStatus| haproxy.up == Some(false) || haproxy.trouble.is_some();
        let others = [
            (status.haproxy.iter().filter(down).count(), "HAProxy", "HAProxies"),
            (status.probes.iter().filter(|probe| ProbeStatus::is_trouble(probe)).count(), "frontend", "frontends"),
            (status.troubles.len(), "file or directory", "files or directories"),
        ];
        let needing = others.iter().map(|(number, ..)| number).sum::<usize>().saturating_add(certificates);
        let listed: Vec<String> = others
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, one, many)| so_many(number, one, many))
            .collect();
        let mut noticed = 0_usize;
        let mut next: Option<(Timestamp, Instant, &str)> = None;
        for certificate in &status.certificates {
            match Noticed::of(certificate, now) {
                Some(Noticed::Now(_)) => noticed = noticed.saturating_add(1),
                Some(Noticed::Later(at, instant)) if next.as_ref().is_none_or(|(earliest, ..)| at < *earliest) => {
                    next = Some((at, instant, &certificate.certificate));
                }
                Some(Noticed::Later(..)) | None => {}
            }
        }
        Self {
            tone: tone(status, health),
            headline: headline(status, health).to_owned(),
            troubled: some(certificates),
            others: if needing == 0 { stapled(status) } else { listed.join(", ") },
            needing,
            noticed: some(noticed),
            next: next
                .map(|(_, instant, name)| (instant, (outside(split_path(name).1, NAME), Query::search_for(name)))),
        }
    }
}

/// So many certificates, if there are any.
fn some(number: usize) -> String {
    if number == 0 { String::new() } else { so_many(number, "certificate", "certificates") }
}

fn stapled(status: &Status) -> String {
    let all = so_many(status.certificates.len(), "certificate", "certificates");
    let stapled = status.certificates.iter().filter(|each| is_stapled(each.state)).count();
    if status.certificates.is_empty() { String::new() } else { format!("{} of {all} stapled", count(stapled)) }
}

/// Whether its clients get a good staple.
fn is_stapled(state: State) -> bool {
    matches!(state, State::Stapled | State::NativeUpdate)
}

fn headline(status: &Status, health: Health) -> &'static str {
    match health {
        Health::Stuck => "Stuck: no progress",
        Health::Degraded => "Needs attention",
        Health::Ok if status.last_pass_at.is_none() => "The first pass is under way",
        Health::Ok if status.certificates.is_empty() => "No certificates",
        Health::Ok => "All is well",
    }
}

/// As loud as the loudest of what is wrong.
fn tone(status: &Status, health: Health) -> Tone {
    let is_broken = status.certificates.iter().any(|each| Tone::from(each.state) == Tone::Bad)
        || status.haproxy.iter().any(|haproxy| haproxy.up == Some(false) || haproxy.trouble.is_some())
        || status.probes.iter().filter_map(|probe| probe.sight).any(|sight| Tone::from(sight) == Tone::Bad);
    match health {
        Health::Degraded if is_broken => Tone::Bad,
        Health::Ok if status.last_pass_at.is_none() => Tone::Wait,
        Health::Ok if !status.certificates.iter().any(|each| is_stapled(each.state)) => Tone::Quiet,
        health => Tone::from(health),
    }
}
