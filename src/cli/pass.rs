//! One pass, and what `once` and `prepare` make of it: a table and an exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use haproxy_stapler::agent::{self, Means, Until};
use haproxy_stapler::clock::Clock;
use haproxy_stapler::report;
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{CertificateStatus, Progress, State, Status};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{complain, daemon, progress, say, table};

/// What a pass left behind.
pub(super) struct Outcome {
    pub(super) status: Arc<Status>,
    pub(super) now: Timestamp,
}

/// One pass over everything; 0 if all that can be stapled is.
pub(super) fn once(settings: Settings, json: bool) -> ExitCode {
    match pass(settings, None, Until::PassDone) {
        Ok(outcome) => {
            print(&outcome, json);
            let bad = outcome.status.certificates.is_empty()
                || outcome.status.certificates.iter().any(|each| is_not_stapled(each));
            ExitCode::from(u8::from(bad))
        }
        Err(error) => failed(&error),
    }
}

/// One pass without HAProxy, within a deadline; 0 always, unless it is to be strict.
pub(super) fn prepare(mut settings: Settings, deadline: Duration, strict: bool, json: bool) -> ExitCode {
    settings.sockets.clear();
    match pass(settings, Some(deadline), Until::PassDone) {
        Ok(outcome) => {
            print(&outcome, json);
            let bad = outcome.status.certificates.iter().any(|each| is_not_prepared(each));
            ExitCode::from(u8::from(strict && bad))
        }
        // A CA that is down must not keep HAProxy from starting, and neither must we.
        Err(error) => {
            let code = failed(&error);
            if strict { code } else { ExitCode::SUCCESS }
        }
    }
}

pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    complain(&format!("{error:#}"));
    ExitCode::FAILURE
}

pub(super) fn pass(settings: Settings, deadline: Option<Duration>, until: Until) -> anyhow::Result<Outcome> {
    let runtime = daemon::runtime()?;
    let outcome = runtime.block_on(async {
        let settings = Arc::new(settings);
        let means = Means::system();
        let clock = means.clock.clone();
        let shutdown = daemon::shutdown_on_signal()?;
        if let Some(deadline) = deadline {
            stop_after(clock.clone(), deadline, shutdown.clone());
        }
        let reports = daemon::reports(&settings)?;
        let status = reports.status.subscribe();
        let peers = daemon::peers(&settings);
        let progress = progress::Shown::start(status.clone());
        let ended = agent::run(settings, means, peers, reports, until, shutdown).await;
        progress.end().await;
        ended?;
        let status = status.borrow().clone();
        Ok(Outcome { status, now: clock.now().wall })
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

fn stop_after(clock: Clock, deadline: Duration, shutdown: CancellationToken) {
    let end = clock.now().monotonic.after(deadline);
    tokio::spawn(async move {
        clock.sleep_until(end).await;
        tracing::warn!(?deadline, "the deadline is over; what is not done is left for the daemon");
        shutdown.cancel();
    });
}

fn print(outcome: &Outcome, json: bool) {
    let text = if json {
        let health = outcome.status.health(Progress::Made);
        format!("{}\n", report::text(&outcome.status, health, None, outcome.now))
    } else {
        table::certificates(&outcome.status, outcome.now)
    };
    say(&text);
}

/// Whether something that can be stapled is not.
pub(super) fn is_not_stapled(certificate: &CertificateStatus) -> bool {
    match certificate.state {
        State::Unstapled | State::Unknown | State::NoIssuer | State::Unreadable | State::Pending => true,
        State::Revoked => certificate.served.is_empty(),
        State::RefreshFailing
        | State::Expired
        | State::NotLoaded
        | State::NativeUpdate
        | State::NoResponder
        | State::Excluded
        | State::Stapled => false,
    }
}

/// Without HAProxy nothing is served; a verified staple in hand is all there can be.
fn is_not_prepared(certificate: &CertificateStatus) -> bool {
    let quiet = matches!(certificate.state, State::Expired | State::NoResponder | State::Excluded);
    !quiet && certificate.staple.is_none()
}
