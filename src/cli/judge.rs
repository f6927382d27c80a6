//! `verify`: the product's verifier as a command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use haproxy_stapler::ca_issuers;
use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::clock::Clock;
use haproxy_stapler::ocsp::{self, CertStatus, Response, VerifyError, haproxy_refusals};
use jiff::Timestamp;
use serde_json::json;

use super::{USAGE, complain, instant, read, say};

/// What to judge, against what, when.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The certificate the response is about (PEM or DER)
    #[arg(long)]
    cert: PathBuf,
    /// The certificate of its issuer (PEM or DER)
    #[arg(long)]
    issuer: PathBuf,
    /// Judge at this instant instead of now
    #[arg(long, value_parser = instant)]
    at: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The response (DER)
    response: PathBuf,
}

/// Exit status 0 for good, 1 for anything else, 64 when there is nothing to judge.
pub(super) fn verify(question: &Question) -> ExitCode {
    let inputs = (certificate(&question.cert), certificate(&question.issuer), read(&question.response));
    let (leaf, issuer, der) = match inputs {
        (Ok(leaf), Ok(issuer), Ok(der)) => (leaf, issuer, der),
        (leaf, issuer, der) => {
            [leaf.err(), issuer.err(), der.err()].iter().flatten().for_each(|mistake| complain(mistake));
            return ExitCode::from(USAGE);
        }
    };
    let now = question.at.unwrap_or_else(runtime_free_now);
    let outcome = ocsp::verify(&der, &leaf, &issuer, now);
    let refusals = haproxy_refusals(&der, now);
    let verdict = verdict(&outcome);
    let detail = detail(&outcome);
    if question.json {
        let response = outcome.as_ref().ok();
        let object = json!({
            "verdict": verdict,
            "reason": outcome.as_ref().err().map(VerifyError::kind),
            "detail": detail,
            "produced_at": response.map(Response::produced_at),
            "this_update": response.map(Response::this_update),
            "next_update": response.and_then(Response::next_update),
            "responder_id": response.map(|response| response.responder_id().to_string()),
            "signer": response.map(|response| response.signer().label()),
            "haproxy_loads": refusals.is_empty(),
            "haproxy_refusals": refusals.iter().map(ocsp::Refusal::kind).collect::<Vec<_>>(),
        });
        say(&format!("{object}\n"));
    } else {
        say(&format!("{verdict}: {detail}\n"));
        if refusals.is_empty() {
            say("HAProxy would load it.\n");
        }
        for refusal in &refusals {
            say(&format!("HAProxy would not load it: {refusal}\n"));
        }
    }
    ExitCode::from(u8::from(verdict != "good"))
}

fn certificate(path: &PathBuf) -> Result<Certificate, String> {
    let bytes = read(path)?;
    ca_issuers::certificates(&bytes)
        .into_iter()
        .next()
        .ok_or_else(|| format!("'{}' holds no certificate in PEM or DER", path.display()))
}

/// The wall clock outside of any runtime.
fn runtime_free_now() -> Timestamp {
    Clock::system().now().wall
}

fn verdict(outcome: &Result<Response, VerifyError>) -> &'static str {
    outcome.as_ref().map_or("reject", |response| response.cert_status().label())
}

fn detail(outcome: &Result<Response, VerifyError>) -> String {
    match outcome {
        Ok(response) => {
            let until = response
                .next_update()
                .map_or_else(|| "without nextUpdate".to_owned(), |next_update| format!("until {next_update}"));
            let status = match response.cert_status() {
                CertStatus::Revoked { revocation_time, revocation_reason } => {
                    let reason = revocation_reason.as_deref().unwrap_or("no reason given");
                    format!("revoked at {revocation_time} ({reason})")
                }
                other => other.label().to_owned(),
            };
            format!("{status}, from {} {until}, signed by {}", response.this_update(), response.responder_id())
        }
        Err(error) => error.to_string(),
    }
}
