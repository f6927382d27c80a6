//! `probe`: what a client sees.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use haproxy_stapler::ca_issuers;
use haproxy_stapler::clock::Clock;
use haproxy_stapler::probe::{self, Report, Target, Trust};
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{ProbeStatus, Sight, Trouble, one_line};
use serde_json::json;

use super::{USAGE, complain, daemon, read, say, table};

/// Whom to ask for what.
#[derive(Debug, Args)]
pub(super) struct Errand {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    target: Target,
    /// The name to ask for (SNI), HOST if not given; may be given several times
    #[arg(long, value_name = "NAME")]
    servername: Vec<String>,
    /// Check that the chain leads to a certificate in this file (PEM or DER)
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exit status 0 if every client that the server has a certificate for sees a good staple, 1 otherwise.
pub(super) fn probe(errand: &Errand, settings: &Settings) -> ExitCode {
    let (targets, trust) = match (targets(errand), trust(errand)) {
        (Ok(targets), Ok(trust)) => (targets, trust),
        (targets, trust) => {
            targets.err().into_iter().flatten().chain(trust.err()).for_each(|mistake| complain(&mistake));
            return ExitCode::from(USAGE);
        }
    };
    let reports = match daemon::runtime() {
        Ok(runtime) => runtime.block_on(ask(&targets, &trust, settings)),
        Err(error) => {
            complain(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let probes: Vec<ProbeStatus> = reports.iter().map(Report::status).collect();
    let worst = probes.iter().filter_map(|probe| probe.sight).min();
    if errand.json {
        say(&format!("{}\n", json!({ "sight": worst, "probes": probes })));
    } else {
        say(&probes.iter().map(text).collect::<String>());
    }
    ExitCode::from(u8::from(worst != Some(Sight::Good)))
}

fn targets(errand: &Errand) -> Result<Vec<Target>, Vec<String>> {
    if errand.servername.is_empty() {
        return Ok(vec![errand.target.clone()]);
    }
    let (mut targets, mut mistakes) = (Vec::new(), Vec::new());
    for name in &errand.servername {
        match errand.target.asked_for(name) {
            Ok(target) => targets.push(target),
            Err(error) => mistakes.push(format!("--servername '{name}': {error}")),
        }
    }
    if mistakes.is_empty() { Ok(targets) } else { Err(mistakes) }
}

fn trust(errand: &Errand) -> Result<Trust, String> {
    let Some(path) = &errand.ca_file else { return Ok(Trust::Issuers(Vec::new())) };
    let certificates = ca_issuers::certificates(&read(path)?);
    if certificates.is_empty() {
        return Err(format!("'{}' holds no certificate in PEM or DER", path.display()));
    }
    Ok(Trust::Anchors(certificates))
}

/// One name after the other, so that a server under load is not pressed. One that cannot be reached is not tried again.
async fn ask(targets: &[Target], trust: &Trust, settings: &Settings) -> Vec<Report> {
    let clock = Clock::system();
    let mut reports: Vec<Report> = Vec::with_capacity(targets.len());
    for target in targets {
        let unreachable = reports.last().filter(|report| report.is_unreachable());
        let report = match unreachable {
            Some(report) => Report { target: target.clone(), ..report.clone() },
            None => probe::probe(target, trust, settings.timeout, &clock).await,
        };
        reports.push(report);
    }
    reports
}

/// The verdict, then what each kind of client sees if that is not the same, then what to do.
fn text(probe: &ProbeStatus) -> String {
    let mut text = format!("{}: {}\n", probe.label(), one_line(&probe.detail));
    if probe.handshakes.iter().any(|handshake| handshake.sight != Sight::NoHandshake) {
        let rows = probe.handshakes.iter().map(|handshake| {
            let subject = handshake.subject.as_deref().map(|subject| format!(" ({subject})")).unwrap_or_default();
            // What the first line says at length need not be said four times.
            let detail = if handshake.detail == probe.detail { handshake.sight.words() } else { &handshake.detail };
            let detail = one_line(&format!("{detail}{subject}"));
            ["".to_owned(), handshake.protocol.to_owned(), handshake.key_type.to_owned(), detail]
        });
        text.push_str(&table::aligned(&rows.collect::<Vec<_>>()));
    }
    let mut remedies: Vec<String> = Vec::new();
    for trouble in probe.handshakes.iter().flat_map(|handshake| &handshake.troubles) {
        let remedy = Trouble::sentence(&trouble.remedy);
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    text.extend(remedies.into_iter().map(|remedy| format!("  {remedy}\n")));
    text
}
