//! Any query, and any text in any place of the status page that comes from outside.

use std::sync::Arc;
use std::time::Duration;

use haproxy_stapler::status::{
    Care, CertificateStatus, HaproxyStatus, Health, KeptStatus, NoResponder, OcspStatus, Presence, ProbeStatus,
    ServedStatus, State, Status, Step, Trouble,
};
use haproxy_stapler::status_page::{Query, render};
use jiff::Timestamp;

/// More than any page of one certificate.
const LARGEST: usize = 64 << 10;

/// A line that is a query, and the text. Through are those that the query finds.
pub fn check(input: &[u8]) -> bool {
    let input = String::from_utf8_lossy(input);
    let (query, text) = input.split_once('\n').unwrap_or((&input, "text"));
    let query = Query::parse(query);
    let found = page(text, &query);
    hold(&found);
    let everything = page(text, &Query::default());
    hold(&everything);
    // Whatever the text is, the page is made of the same, unless there is nothing to say.
    if !text.is_empty() && !Trouble::sentence(text).is_empty() {
        assert_eq!(marks(&everything), marks(&page("text", &Query::default())), "a text is more than text");
    }
    found.contains("<tbody")
}

fn page(text: &str, query: &Query) -> String {
    render(&status(text), Health::Degraded, query, Timestamp::UNIX_EPOCH).expect("a page")
}

/// How often each letter stands that means something in HTML.
fn marks(html: &str) -> [usize; 4] {
    ['<', '>', '"', '\''].map(|mark| html.matches(mark).count())
}

fn hold(html: &str) {
    assert!(html.len() < LARGEST, "{} bytes", html.len());
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    assert!(!html.contains("<script"));
    // What was searched for stands in the form, and is left out here: it is what the client itself wrote.
    let form = html.split("name=\"q\" value=\"").nth(1).expect("a form");
    let searched = form.split('"').next().unwrap_or_default();
    assert!(!searched.contains(['<', '>', '\'']), "{searched}");
    let rest = html.replacen(searched, "", usize::from(!searched.is_empty()));
    assert!(
        !rest.contains(|letter: char| letter.is_control() && letter != '\n' && letter != '\r'),
        "a letter that acts"
    );
}

/// A site that says nothing but this.
fn status(text: &str) -> Status {
    let text = || text.to_owned();
    let trouble = || Trouble { step: Some(Step::Fetched), kind: "kind", detail: text(), remedy: text() };
    let (this_update, next_update) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    Status {
        started_at: Some(Timestamp::UNIX_EPOCH),
        last_pass_at: Some(Timestamp::UNIX_EPOCH),
        refresh_interval: Duration::from_secs(1),
        haproxy: vec![HaproxyStatus {
            haproxy: text().into(),
            up: Some(false),
            version: Some(text()),
            pid: None,
            reads_back: None,
            reloads: 1,
            loaded: 1,
            served: 1,
            unmatched: vec![text()],
            trouble: Some(trouble()),
            warnings: vec![trouble()],
        }],
        certificates: vec![Arc::new(CertificateStatus {
            certificate: text().into(),
            state: State::RefreshFailing,
            state_since: Some(Timestamp::UNIX_EPOCH),
            ocsp_status: OcspStatus::Good,
            detail: text(),
            trouble: Some(trouble()),
            troubles: vec![trouble()],
            care: Care::Stapler,
            files: vec![text()],
            // Without a subject there is no line for it.
            subject: format!("CN={}", text()).into(),
            issuer: text().into(),
            issuer_source: None,
            serial_number: text().into(),
            fingerprint: format!("00{}", text()).into(),
            responders: [text()].into(),
            no_responder: Some(NoResponder::NotHttp(text())),
            must_staple: true,
            not_after: Some(Timestamp::MAX),
            staple: None,
            kept: KeptStatus { in_state_directory: true, ocsp_files: vec![text()], no_ocsp_file: None },
            loaded: vec![Presence { haproxy: text().into(), entry: None, pending: true }],
            expired: vec![ServedStatus { haproxy: text().into(), this_update, next_update }],
            served: vec![ServedStatus { haproxy: text().into(), this_update, next_update }],
            last_attempt_at: None,
            last_success_at: None,
            refresh_due_at: None,
            failures: 1,
        })],
        probes: vec![ProbeStatus::pending(text(), text())],
        troubles: vec![trouble()],
    }
}
