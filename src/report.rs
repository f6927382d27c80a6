//! The snapshot as JSON: what `/healthz`, `/status` and the commands with `--json` print.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::explain::explain;
use crate::status::{CertificateStatus, HaproxyStatus, Health, ProbeStatus, Status, Trouble};

/// The worst first, then by name.
#[must_use]
pub fn worst_first(status: &Status) -> Vec<&CertificateStatus> {
    let mut order: Vec<&CertificateStatus> = status.certificates.iter().map(|each| &**each).collect();
    order.sort_by(|a, b| (a.state, &a.certificate).cmp(&(b.state, &b.certificate)));
    order
}

/// The JSON of `/healthz`, with this many certificates in brief, or of `/status`, with all of them in full.
#[must_use]
pub fn json(status: &Status, health: Health, most: Option<usize>, now: Timestamp) -> Value {
    serde_json::to_value(Report::new(status, health, most, now)).unwrap_or(Value::Null)
}

/// The same as text. Ten thousand certificates are some megabytes of it, and as a tree they would be ten times that: each
/// is written before the next is made.
#[must_use]
pub fn text(status: &Status, health: Health, most: Option<usize>, now: Timestamp) -> String {
    serde_json::to_string(&Report::new(status, health, most, now)).unwrap_or_default()
}

#[derive(Serialize)]
struct Report<'a> {
    status: Health,
    version: &'static str,
    started_at: Option<Timestamp>,
    last_pass_at: Option<Timestamp>,
    haproxy: &'a [HaproxyStatus],
    states: BTreeMap<&'static str, usize>,
    troubles: &'a [Trouble],
    probes: Value,
    certificates: Certificates<'a>,
}

impl<'a> Report<'a> {
    fn new(status: &'a Status, health: Health, most: Option<usize>, now: Timestamp) -> Self {
        let probes = match most {
            Some(_) => status.probes.iter().map(brief_probe).collect(),
            None => json!(status.probes),
        };
        Self {
            status: health,
            version: env!("CARGO_PKG_VERSION"),
            started_at: status.started_at,
            last_pass_at: status.last_pass_at,
            haproxy: &status.haproxy,
            states: status.states().into_iter().map(|(state, count)| (state.label(), count)).collect(),
            troubles: &status.troubles,
            probes,
            certificates: Certificates { status, most, now },
        }
    }
}

/// The worst first.
struct Certificates<'a> {
    status: &'a Status,
    most: Option<usize>,
    now: Timestamp,
}

impl Serialize for Certificates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let order = worst_first(self.status).into_iter();
        match self.most {
            Some(most) => serializer.collect_seq(order.take(most).map(|one| brief(one, self.now))),
            None => serializer.collect_seq(order.map(|one| full(one, self.status, self.now))),
        }
    }
}

fn brief(certificate: &CertificateStatus, now: Timestamp) -> Value {
    json!({
        "certificate": certificate.certificate,
        "state": certificate.state,
        "ocsp_status": certificate.ocsp_status,
        "staple_age_seconds": certificate.staple_age(now).map(|age| age.as_secs()),
        "staple_next_update": certificate.staple.as_ref().map(|staple| staple.next_update),
        "detail": certificate.detail,
    })
}

fn full(certificate: &CertificateStatus, status: &Status, now: Timestamp) -> Value {
    let mut value = serde_json::to_value(certificate).unwrap_or(Value::Null);
    if let (Value::Object(all), Value::Object(brief)) = (&mut value, brief(certificate, now)) {
        all.extend(brief);
        all.insert("steps".to_owned(), json!(explain(certificate, status)));
    }
    value
}

fn brief_probe(probe: &ProbeStatus) -> Value {
    json!({
        "target": probe.target,
        "servername": probe.servername,
        "sight": probe.sight,
        "next_update": probe.next_update,
        "detail": probe.detail,
    })
}
