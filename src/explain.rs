//! How far a certificate has come on its way from the file to the handshake, where it stops, and what to do about it: a
//! plain function over the snapshot, for everybody who shows it.

mod way;

use serde::Serialize;

use self::way::Way;
use crate::status::{CertificateStatus, HaproxyStatus, Status, Step, Trouble};

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It went wrong.
    Failed,
    /// It is under way.
    Waiting,
    /// There is nothing to do, or nobody to look.
    Skipped,
    /// An earlier step is in its way.
    NotReached,
}

impl Outcome {
    /// The name in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
            Self::NotReached => "not_reached",
        }
    }
}

/// One step of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
    /// The stable name of what went wrong.
    pub reason: Option<&'static str>,
    /// How that is known.
    pub evidence: String,
    /// What to do, as a sentence.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(step: Step, outcome: Outcome, evidence: impl Into<String>) -> Self {
        Self { step, outcome, reason: None, evidence: evidence.into(), remedy: None }
    }

    fn failed(step: Step, reason: &'static str, evidence: impl Into<String>, remedy: &str) -> Self {
        let (evidence, remedy) = (evidence.into(), Some(Trouble::sentence(remedy)));
        Self { step, outcome: Outcome::Failed, reason: Some(reason), evidence, remedy }
    }

    fn with_remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(Trouble::sentence(remedy));
        self
    }
}

/// Every step of a certificate, in order.
#[must_use]
pub fn explain(certificate: &CertificateStatus, status: &Status) -> Vec<Finding> {
    let way = Way { certificate, status };
    let mut stopped = false;
    let mut findings = Vec::with_capacity(Step::ALL.len());
    for step in Step::ALL {
        if stopped {
            findings.push(Finding::new(step, Outcome::NotReached, ""));
            continue;
        }
        let finding = way.trouble(step).unwrap_or_else(|| way.finding(step));
        stopped = way.ends_with(&finding);
        findings.push(finding);
    }
    findings
}

/// The same for a name that a HAProxy serves and no file found here holds.
#[must_use]
pub fn explain_unmatched(haproxy: &HaproxyStatus) -> Vec<Finding> {
    let evidence = format!("{} serves it, and no file found here holds it", haproxy.haproxy);
    let remedy = "mount its directory and name it in STAPLER_CERTS, or set STAPLER_PATH_MAP";
    let mut findings = vec![Finding::failed(Step::File, "unmatched", evidence, remedy)];
    findings.extend(Step::ALL.into_iter().skip(1).map(|step| Finding::new(step, Outcome::NotReached, "")));
    findings
}
