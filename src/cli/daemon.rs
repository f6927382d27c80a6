//! `run`, and `healthcheck` which asks it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use haproxy_stapler::agent::{self, Means, Peers, Reports, Until};
use haproxy_stapler::haproxy::Socket;
use haproxy_stapler::metrics::Counters;
use haproxy_stapler::responder::HttpResponder;
use haproxy_stapler::server::{self, View};
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{Pulse, Status};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::complain;

/// HAProxy's own limit for a command line is reached long after this.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the daemon may take to answer a health check.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Tasks that outlive the grace of the agent (a hung disk) do not keep the process.
const RUNTIME_GRACE: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(settings: Settings) -> ExitCode {
    report(runtime().and_then(|runtime| {
        let outcome = runtime.block_on(serve(settings));
        runtime.shutdown_timeout(RUNTIME_GRACE);
        outcome
    }))
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Two workers: one that waits for a signature check does not keep the other from HAProxy.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the runtime")
}

/// Whom the agent talks to, as the settings say.
pub(super) fn peers(settings: &Settings) -> Peers<HttpResponder, Socket> {
    let responder = HttpResponder::new(settings.concurrency);
    let haproxies = settings.sockets.iter().map(|address| Socket::new(address.clone(), SOCKET_TIMEOUT)).collect();
    Peers { responder, haproxies }
}

/// What the agent reports to.
pub(super) fn reports(settings: &Settings) -> anyhow::Result<Reports> {
    Ok(Reports {
        status: watch::Sender::new(Arc::new(Status::default())),
        counters: Arc::new(Counters::new().context("cannot register the metrics")?),
        pulse: Arc::new(Pulse::new(settings.scan_interval)),
    })
}

/// Cancelled by SIGTERM or SIGINT.
pub(super) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let on_signal = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        on_signal.cancel();
    });
    Ok(token)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    let means = Means::system();
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        anyhow!("cannot listen on STAPLER_LISTEN={}: {error}; {}", settings.listen, instead(&error))
    })?;
    let shutdown = shutdown_on_signal()?;
    let reports = reports(&settings)?;
    let view = View {
        status: reports.status.subscribe(),
        counters: reports.counters.clone(),
        pulse: reports.pulse.clone(),
        clock: means.clock.clone(),
        cardinality: settings.metrics_per_certificate,
        started: means.clock.now().monotonic,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %listener.local_addr().unwrap_or(settings.listen),
        "haproxy-stapler starts"
    );
    let http = tokio::spawn(server::run(listener, view, shutdown.clone().cancelled_owned()));
    let outcome =
        agent::run(settings.clone(), means, peers(&settings), reports, Until::Stopped, shutdown.clone()).await;
    shutdown.cancel();
    // A client that keeps its connection open does not keep the process.
    if let Ok(served) = tokio::time::timeout(RUNTIME_GRACE, http).await {
        served.context("the HTTP listener failed")?;
    }
    outcome?;
    tracing::info!("stopped");
    Ok(())
}

/// What to do about an address that cannot be listened on.
fn instead(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "another program has this port: stop it, or set STAPLER_LISTEN to a free one",
        ErrorKind::AddrNotAvailable => "this machine has no such address: set STAPLER_LISTEN to one it has, or 0.0.0.0",
        ErrorKind::PermissionDenied => "a port below 1024 needs a privilege: set STAPLER_LISTEN to a higher one",
        _ => "set STAPLER_LISTEN to another address",
    }
}

/// Asks the daemon's own `/healthz`, and its `/readyz` if somebody waits for the first pass.
pub(super) fn healthcheck(settings: &Settings, ready: bool) -> ExitCode {
    let paths: &[&str] = if ready { &["/healthz", "/readyz"] } else { &["/healthz"] };
    let outcome = runtime().and_then(|runtime| runtime.block_on(ask(settings.listen, paths)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("unhealthy: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn ask(listen: SocketAddr, paths: &[&str]) -> anyhow::Result<()> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    // One that can do TLS would cost more than all the rest of the process, at each look of whoever looks every few seconds.
    let client: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    for path in paths {
        let url = format!("http://{}{path}", SocketAddr::new(ip, listen.port()));
        let no_answer = || format!("no answer from {url}");
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, client.get(url.parse()?)).await;
        let reply = asked.with_context(no_answer)?.with_context(no_answer)?;
        anyhow::ensure!(reply.status().is_success(), "{url} answered {}", reply.status());
    }
    Ok(())
}
