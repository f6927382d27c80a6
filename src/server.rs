//! The HTTP side: read only, from the last snapshot, never a lock that the agent could hold.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::{Clock, Monotonic};
use crate::metrics::{self, Counters};
use crate::settings::Cardinality;
use crate::status::{Health, Pulse, Status};

/// `/healthz` shows this many certificates, the worst first.
const MOST_IN_HEALTHZ: usize = 100;
/// `/readyz` turns ready after this even when the first pass is not done: a CA that is down must not keep HAProxy from
/// starting.
const READY_ANYWAY: Duration = Duration::from_secs(30);

/// Where everything is.
const PATHS: &str = "/status   every certificate, as JSON
/healthz  the same in brief, worst first
/readyz   whether the first pass is done
/metrics  for Prometheus
";

/// What the handlers read.
#[derive(Clone, Debug)]
pub struct View {
    /// The snapshot.
    pub status: watch::Receiver<Arc<Status>>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The worker's sign of life.
    pub pulse: Arc<Pulse>,
    /// Both clocks.
    pub clock: Clock,
    /// Whether there are series a certificate.
    pub cardinality: Cardinality,
    /// When the program started.
    pub started: Monotonic,
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn run(
    listener: TcpListener,
    view: View,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, format!("no such path\n\n{PATHS}")))
        .layer(map_response(no_store))
        .with_state(view);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
}

impl View {
    fn health(&self, status: &Status) -> Health {
        status.health(self.pulse.progress(self.clock.now().monotonic))
    }

    fn json(&self, most: Option<usize>) -> Response {
        let status = self.status.borrow().clone();
        let health = self.health(&status);
        // Stuck is the one thing a restart of this container may cure; a CA that is down is not.
        let code = if health == Health::Stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let body = status.to_json(health, most, self.clock.now().wall).to_string();
        (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

async fn healthz(Extract(view): Extract<View>) -> Response {
    view.json(Some(MOST_IN_HEALTHZ))
}

async fn status(Extract(view): Extract<View>) -> Response {
    let mut response = view.json(None);
    // A report of trouble is still a report: only /healthz answers for the process.
    *response.status_mut() = StatusCode::OK;
    response
}

async fn readyz(Extract(view): Extract<View>) -> (StatusCode, &'static str) {
    let passed = view.status.borrow().last_pass_at.is_some();
    let waited = view.clock.now().monotonic.since(view.started) >= READY_ANYWAY;
    match (passed, waited) {
        (true, _) => (StatusCode::OK, "ready: the first pass over all certificates is done\n"),
        (false, true) => (StatusCode::OK, "ready: the first pass is not done, but nobody shall wait for it longer\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: the first pass is not done\n"),
    }
}

async fn metrics_text(Extract(view): Extract<View>) -> Response {
    let status = view.status.borrow().clone();
    match metrics::render(&view.counters, &status, view.cardinality, view.clock.now().wall) {
        Ok(text) => {
            let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Where everything is; the status page for people takes this place in a later version.
async fn index() -> String {
    format!("haproxy-stapler\n\n{PATHS}")
}

/// Every answer is about this moment only.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
