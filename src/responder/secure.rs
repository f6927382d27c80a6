//! The client for what [`Plain`](super::plain::Plain) cannot do: https, proxies, a URL's user and password.

use std::error::Error;
use std::sync::Arc;

use hyper::Request;
use reqwest::{Body, Client, Response, Url, redirect};
use tokio::sync::OnceCell;

use super::http::{CONNECT_TIMEOUT, USER_AGENT};
use super::names::Resolver;

/// reqwest's client, made when it is first needed, which mostly is never: it reads all the CAs that the system trusts.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    way: Way,
    client: Arc<OnceCell<Client>>,
}

/// Who looks up the host, and whom the connection is made to.
#[derive(Clone, Debug)]
enum Way {
    Direct(Resolver),
    Proxied,
}

impl Secure {
    /// Straight to where the resolver lets it.
    pub(super) fn direct(resolver: Resolver) -> Self {
        Self { way: Way::Direct(resolver), client: Arc::default() }
    }

    /// Through the proxies of the environment, which resolve by themselves.
    pub(super) fn proxied() -> Self {
        Self { way: Way::Proxied, client: Arc::default() }
    }

    /// The head of the reply; its body is still to come.
    pub(super) async fn send(&self, request: Request<Body>, to: Url) -> Result<Response, Box<dyn Error + Send + Sync>> {
        let (head, body) = request.into_parts();
        let client = self.client().await?;
        Ok(client.request(head.method, to).headers(head.headers).body(body).send().await?)
    }

    /// Made on a thread that may wait for the disk, and once: when a slow disk outlasts whoever wants the client, the making
    /// goes on for those who come after.
    async fn client(&self) -> Result<Client, Box<dyn Error + Send + Sync>> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let (way, client) = (self.way.clone(), self.client.clone());
        let making = tokio::spawn(async move {
            let made =
                client.get_or_try_init(async || tokio::task::spawn_blocking(|| make(way)).await?.map_err(Into::into));
            made.await.cloned()
        });
        making.await?
    }
}

fn make(way: Way) -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .referer(false);
    match way {
        Way::Direct(resolver) => builder.no_proxy().dns_resolver(Arc::new(resolver)).build(),
        Way::Proxied => builder.build(),
    }
}
