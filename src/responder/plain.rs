//! Plain http, straight to its host: what nearly every exchange is.
//!
//! A client that can do TLS reads all the CAs that the system trusts as soon as it is made, also when no https URL is ever
//! asked: rust-openssl leaves no way out. CAs publish over http, because what they publish is signed. So this is the client
//! that is under reqwest, without what reqwest adds: TLS, proxies, redirects, credentials. On the wire and in its failures
//! the two are the same.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::{Body, Response, Url};
use tokio::net::TcpStream;
use tower_service::Service;

use super::http::CONNECT_TIMEOUT;
use super::names::Resolver;

/// When a connection that is silent is looked at, and how often, before it counts as lost; as reqwest does it.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// How long what was sent may remain without the peer's acknowledgement; as reqwest does it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Sends to where its resolver lets it, and keeps the connections for a while.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    client: Client<Connector, Body>,
}

impl Plain {
    /// Connects to nobody yet.
    pub(super) fn new(resolver: Resolver) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        // Shared by the addresses of a name, so that one which is silent leaves time for the next.
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        // Idle connections are closed after 90 s, which takes a timer.
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(Connector { tcp });
        Self { client }
    }

    /// Whether this URL needs nothing else. How a URL's user and password become a header is reqwest's business.
    pub(super) fn is_enough_for(url: &Url) -> bool {
        url.scheme() == "http" && url.username().is_empty() && url.password().is_none()
    }

    /// The head of the reply; its body is still to come.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response, Box<dyn Error + Send + Sync>> {
        Ok(self.client.request(request).await?.map(Body::wrap).into())
    }
}

/// Looks up and connects, within the time for both.
#[derive(Clone, Debug)]
struct Connector {
    tcp: HttpConnector<Resolver>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.tcp.call(to);
        Box::pin(async move {
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            Ok(tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)??)
        })
    }
}
