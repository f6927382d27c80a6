//! The HTTP side: read only, from the last snapshot, never a lock that the agent could hold.

mod connections;
mod page;

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State as Extract};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;

use self::page::{Page, Rendering, Turn};
use crate::clock::{Clock, Monotonic};
use crate::metrics::{self, Counters};
use crate::report;
use crate::settings::Cardinality;
use crate::status::{Health, Pulse, Status};
use crate::status_page::{self, Query};

/// `/healthz` shows this many certificates, the worst first.
const MOST_IN_HEALTHZ: usize = 100;
/// `/readyz` turns ready after this even when the first pass is not done: a CA that is down must not keep HAProxy from
/// starting.
const READY_ANYWAY: Duration = Duration::from_secs(30);

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Where everything is, for whoever is wrong here.
const PATHS: &str = "/         the status page, for people
/status   every certificate, as JSON
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

/// For every answer that does not say otherwise: it is about this moment only, it is what its Content-Type says, and in a
/// browser it loads nothing, runs nothing and is shown in nobody's frame. Names in it come from certificates.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// The status page's own, which knows its style by its hash.
static STATUS_PAGE_POLICY: LazyLock<Option<HeaderValue>> =
    LazyLock::new(|| HeaderValue::from_str(&status_page::content_security_policy()).ok());

/// The pages that grow with the number of certificates.
#[derive(Debug, Default)]
struct Pages {
    /// The status page as everybody gets it at first.
    first: Page,
    /// The others: what a client asks for is its own, and nothing is kept of it.
    others: Turn,
    healthz: Page,
    status: Page,
    metrics: Page,
}

#[derive(Clone)]
struct Site {
    view: View,
    pages: Arc<Pages>,
}

/// Serves until `shutdown` resolves.
pub async fn run(listener: TcpListener, view: View, shutdown: impl Future<Output = ()> + Send + 'static) {
    let routes = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, format!("no such path\n\n{PATHS}")))
        .layer(map_response(with_headers))
        .with_state(Site { view, pages: Arc::default() });
    connections::serve(listener, routes, shutdown).await;
}

impl View {
    fn health(&self, status: &Status) -> Health {
        status.health(self.pulse.progress(self.clock.now().monotonic))
    }

    fn json(&self, most: Option<usize>) -> Rendering {
        let snapshot = self.status.borrow().clone();
        let health = self.health(&snapshot);
        // Stuck is the one thing a restart of this container may cure; a CA that is down is not.
        let status = if health == Health::Stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        Rendering { status, text: report::text(&snapshot, health, most, self.clock.now().wall) }
    }

    fn status_page(&self, query: &Query) -> Rendering {
        let snapshot = self.status.borrow().clone();
        match status_page::render(&snapshot, self.health(&snapshot), query, self.clock.now().wall) {
            Ok(text) => Rendering { status: StatusCode::OK, text },
            Err(error) => Rendering { status: StatusCode::INTERNAL_SERVER_ERROR, text: error.to_string() },
        }
    }

    fn metrics(&self) -> Rendering {
        let snapshot = self.status.borrow().clone();
        match metrics::render(&self.counters, &snapshot, self.cardinality, self.clock.now().wall) {
            Ok(text) => Rendering { status: StatusCode::OK, text },
            Err(error) => Rendering { status: StatusCode::INTERNAL_SERVER_ERROR, text: error.to_string() },
        }
    }
}

async fn healthz(Extract(Site { view, pages }): Extract<Site>) -> Response {
    let clock = view.clock.clone();
    serve(&pages.healthz, JSON, clock, move || view.json(Some(MOST_IN_HEALTHZ))).await
}

async fn status(Extract(Site { view, pages }): Extract<Site>) -> Response {
    let clock = view.clock.clone();
    // A report of trouble is still a report: only /healthz answers for the process.
    serve(&pages.status, JSON, clock, move || Rendering { status: StatusCode::OK, ..view.json(None) }).await
}

async fn metrics_text(Extract(Site { view, pages }): Extract<Site>) -> Response {
    let clock = view.clock.clone();
    serve(&pages.metrics, "text/plain; version=0.0.4; charset=utf-8", clock, move || view.metrics()).await
}

async fn serve(
    page: &Page,
    content_type: &'static str,
    clock: Clock,
    render: impl FnOnce() -> Rendering + Send + 'static,
) -> Response {
    respond(content_type, page.read(&clock, render).await)
}

fn respond(content_type: &'static str, rendered: Result<(StatusCode, Bytes), JoinError>) -> Response {
    match rendered {
        Ok((status, body)) => (status, [(header::CONTENT_TYPE, content_type)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered, which is a fault of this program, please report it");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(Extract(Site { view, .. }): Extract<Site>) -> (StatusCode, &'static str) {
    let passed = view.status.borrow().last_pass_at.is_some();
    let waited = view.clock.now().monotonic.since(view.started) >= READY_ANYWAY;
    match (passed, waited) {
        (true, _) => (StatusCode::OK, "ready: the first pass over all certificates is done\n"),
        (false, true) => (StatusCode::OK, "ready: the first pass is not done, but nobody shall wait for it longer\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: the first pass is not done\n"),
    }
}

/// The status page. What a client asks for comes to its own answer only: the page that everybody gets at first is shared
/// like the others, and whoever searches waits for those who search, and for nobody else.
async fn index(Extract(Site { view, pages }): Extract<Site>, RawQuery(asked): RawQuery) -> Response {
    let query = Query::parse(asked.as_deref().unwrap_or_default());
    let clock = view.clock.clone();
    let mut response = if query == Query::default() {
        serve(&pages.first, HTML, clock, move || view.status_page(&query)).await
    } else {
        respond(HTML, pages.others.take(move || view.status_page(&query)).await)
    };
    if let Some(policy) = &*STATUS_PAGE_POLICY {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
