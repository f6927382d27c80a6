//! `explain`: one pass, then every step of each certificate's way.

use std::process::ExitCode;
use std::sync::Arc;

use haproxy_stapler::agent::Until;
use haproxy_stapler::explain::{Finding, Outcome, explain as findings, explain_unmatched};
use haproxy_stapler::report::{self, worst_first};
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{CertificateStatus, HaproxyStatus, Progress, Status, Step, one_line};
use serde_json::{Value, json};

use super::{complain, pass, say, table};

/// A certificate that a HAProxy serves and that no file found here holds.
struct Unmatched<'a> {
    name: &'a str,
    haproxy: &'a HaproxyStatus,
}

/// The pass is that of `once`; with a name it is about this certificate only. 0 if all that can be stapled is, and if
/// no frontend that STAPLER_PROBES names shows anything else.
pub(super) fn explain(mut settings: Settings, name: Option<&str>, json: bool) -> ExitCode {
    if let Some(name) = name {
        settings.filter = settings.filter.only(name);
    }
    let filter = settings.filter.clone();
    let outcome = match pass::pass(settings, None, Until::Probed) {
        Ok(outcome) => outcome,
        Err(error) => return pass::failed(&error),
    };
    let mut status = Arc::unwrap_or_clone(outcome.status);
    let unmeant: Vec<String> = status
        .certificates
        .extract_if(.., |each| !filter.means(&each.certificate))
        .map(|each| each.certificate.to_string())
        .collect();
    let all: Vec<Unmatched<'_>> = status.haproxy.iter().flat_map(unmatched).collect();
    let (meant, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|each| filter.means(each.name));
    if let Some(name) = name.filter(|_| status.certificates.is_empty() && meant.is_empty()) {
        let known = unmeant.iter().map(String::as_str).chain(others.iter().map(|each| each.name));
        complain(&unknown(name, known));
        return ExitCode::FAILURE;
    }
    if json {
        let mut object = report::json(&status, status.health(Progress::Made), None, outcome.now);
        let steps = |each: &Unmatched<'_>| json!({ "certificate": each.name, "haproxy": each.haproxy.haproxy, "steps": explain_unmatched(each.haproxy) });
        if let Value::Object(all) = &mut object {
            all.insert("unmatched".to_owned(), meant.iter().map(steps).collect());
        }
        say(&format!("{object}\n"));
    } else {
        say(&text(&status, &meant));
    }
    let nothing = status.certificates.is_empty() && (name.is_none() || meant.is_empty());
    let bad = status.certificates.iter().any(|each| pass::is_not_stapled(each) || is_not_seen(each, &status));
    ExitCode::from(u8::from(nothing || bad || name.is_some() && !meant.is_empty()))
}

fn unmatched(haproxy: &HaproxyStatus) -> impl Iterator<Item = Unmatched<'_>> {
    haproxy.unmatched.iter().map(move |name| Unmatched { name, haproxy })
}

/// Whether a client was shown something else than a good staple.
fn is_not_seen(certificate: &CertificateStatus, status: &Status) -> bool {
    let failed = |finding: &Finding| finding.step == Step::Handshake && finding.outcome == Outcome::Failed;
    findings(certificate, status).iter().any(failed)
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |known: &&str| strsim::normalized_levenshtein(known.rsplit('/').next().unwrap_or(known), name);
    match known.max_by(|one, other| likeness(one).total_cmp(&likeness(other))) {
        Some(nearest) => format!("there is no certificate '{name}'; the nearest is '{}'", one_line(nearest)),
        None => format!("there is no certificate '{name}', nor any other; `haproxy-stapler once` says why"),
    }
}

/// Certificates, worst first, then what is wrong beyond them.
fn text(status: &Status, unmatched: &[Unmatched<'_>]) -> String {
    let mut text = String::new();
    for certificate in worst_first(status) {
        let title = format!("{}: {}, {}", certificate.certificate, certificate.state.label(), certificate.detail);
        text.push_str(&chapter(&title, &findings(certificate, status)));
    }
    for one in unmatched {
        text.push_str(&chapter(&format!("{}: no file", one.name), &explain_unmatched(one.haproxy)));
    }
    if text.is_empty() {
        text.push_str("no certificates\n");
    }
    text.push_str(&table::beyond(status));
    text
}

fn chapter(title: &str, findings: &[Finding]) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    let row =
        |step: &str, outcome: &str, text: &str| [String::new(), step.to_owned(), outcome.to_owned(), one_line(text)];
    for finding in findings {
        rows.push(row(&finding.step.label().replace('_', " "), word(finding.outcome), &finding.evidence));
        rows.extend(finding.remedy.iter().map(|remedy| row("", "", &format!("-> {remedy}"))));
    }
    format!("{}\n{}\n", one_line(title), table::aligned(&rows))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Waiting => "waiting",
        Outcome::Skipped => "-",
        Outcome::NotReached => "not reached",
    }
}
