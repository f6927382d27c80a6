//! One HTTP exchange with a CA: bounded in time, size, redirects and schemes.
//!
//! What comes back is bytes. Whether they are worth anything is for [`crate::ocsp`] to say.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::{self, Attempt};
use reqwest::{Client, Url};

/// More than any OCSP response or certificate needs; HAProxy's buffers hold a fifth of it.
const LARGEST_BODY: usize = 64 * 1024;
/// Enough for a CA that moved; a loop ends here.
const MOST_REDIRECTS: usize = 3;
/// Part of the total deadline; a host that does not answer the handshake in this time will not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// An OCSP request in the path (RFC 5019 section 5, RFC 9919 section 6), or a download.
    Get {
        /// The whole URL.
        url: String,
    },
    /// An OCSP request in the body (RFC 6960 appendix A.1).
    Post {
        /// The responder's URL.
        url: String,
        /// The DER of the OCSPRequest.
        body: Vec<u8>,
    },
}

impl Exchange {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Get { .. } => "GET",
            Self::Post { .. } => "POST",
        }
    }
}

/// Why an exchange gave no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The URL cannot be used.
    #[error("the URL '{url}' is not an http(s) URL")]
    Url {
        /// As the certificate has it.
        url: String,
    },
    /// The name does not resolve.
    #[error("the name of '{url}' does not resolve: {reason}")]
    Dns {
        /// What was asked.
        url: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to '{url}': {reason}")]
    Connect {
        /// What was asked.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// No whole answer in time.
    #[error("'{url}' gave no whole answer within {:.1} s", .deadline.as_secs_f64())]
    Timeout {
        /// What was asked.
        url: String,
        /// How long it had.
        deadline: Duration,
    },
    /// An answer that is not 200.
    #[error("'{url}' answered HTTP {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status code.
        status: u16,
        /// How long the CA wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// A body over the cap.
    #[error("'{url}' sent more than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The cap.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("'{url}' redirects where this program does not go: {reason}")]
    Redirect {
        /// What was asked.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke.
    #[error("the exchange with '{url}' broke off: {reason}")]
    Broken {
        /// What was asked.
        url: String,
        /// The system's words.
        reason: String,
    },
}

impl Fault {
    /// The stable name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Dns { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "http_status",
            Self::TooLarge { .. } => "too_large",
            Self::Redirect { .. } => "redirect",
            Self::Broken { .. } => "broken",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Url { .. } => {
                "the certificate names a responder that cannot be asked; set STAPLER_RESPONDERS for its host"
            }
            Self::Dns { .. } => "check this host's resolver and, in Kubernetes, that the NetworkPolicy lets DNS out",
            Self::Connect { .. } | Self::Timeout { .. } => {
                "check that this host may reach the responder (TCP 80 out), or set HTTP_PROXY"
            }
            Self::Status { .. } | Self::Broken { .. } => {
                "the responder or a proxy before it is in trouble; it is asked again by itself"
            }
            Self::TooLarge { .. } => "this is no OCSP response; check what answers under the responder's name",
            Self::Redirect { .. } => {
                "check what answers under the responder's name, or set STAPLER_RESPONDERS for its host"
            }
        }
    }

    /// The same about `responder`: the URL of a GET carries the whole request, which says nothing to a person.
    #[must_use]
    pub fn of(mut self, responder: &str) -> Self {
        let (Self::Url { url }
        | Self::Dns { url, .. }
        | Self::Connect { url, .. }
        | Self::Timeout { url, .. }
        | Self::Status { url, .. }
        | Self::TooLarge { url, .. }
        | Self::Redirect { url, .. }
        | Self::Broken { url, .. }) = &mut self;
        responder.clone_into(url);
        self
    }

    /// Whether the other HTTP method may do better: something answered, but not what was asked for.
    #[must_use]
    pub fn may_be_about_the_method(&self) -> bool {
        match self {
            Self::Status { status, .. } => !matches!(status, 408 | 429 | 503),
            Self::TooLarge { .. } | Self::Redirect { .. } => true,
            _ => false,
        }
    }
}

/// The one seam to the CAs: sends an exchange, gives the body of a 200.
pub trait Responder: Send + Sync + 'static {
    /// One exchange, done within `deadline`.
    fn send(&self, exchange: &Exchange, deadline: Duration) -> impl Future<Output = Result<Bytes, Fault>> + Send;
}

/// The real one. Proxies come from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`).
#[derive(Clone, Debug)]
pub struct HttpResponder {
    client: Client,
}

impl HttpResponder {
    /// Makes the client; nothing is sent.
    ///
    /// # Errors
    /// When the TLS library cannot be set up or a proxy variable is no URL.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("haproxy-stapler/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::custom(follow))
            .referer(false)
            .build()?;
        Ok(Self { client })
    }

    async fn exchange(&self, exchange: &Exchange, deadline: Duration) -> Result<Bytes, Fault> {
        let (Exchange::Get { url } | Exchange::Post { url, .. }) = exchange;
        let parsed = Url::parse(url).ok().filter(is_http).ok_or_else(|| Fault::Url { url: url.clone() })?;
        let request = match exchange {
            Exchange::Get { .. } => self.client.get(parsed),
            Exchange::Post { body, .. } => {
                self.client.post(parsed).header(CONTENT_TYPE, "application/ocsp-request").body(body.clone())
            }
        };
        let accept = "application/ocsp-response, application/pkix-cert, application/pkcs7-mime;q=0.9, */*;q=0.1";
        let fault = |error: &reqwest::Error| classify(url, deadline, error);
        let mut reply = request.header(ACCEPT, accept).send().await.map_err(|error| fault(&error))?;
        let status = reply.status();
        if status.is_redirection() {
            let reason = "it leads to another scheme, to a local address, or too far".to_owned();
            return Err(Fault::Redirect { url: url.clone(), reason });
        }
        if status != 200 {
            let retry_after = retry_after(reply.headers());
            return Err(Fault::Status { url: url.clone(), status: status.as_u16(), retry_after });
        }
        // Content-Type is not looked at: the body is verified, and CAs that mislabel it exist.
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await.map_err(|error| fault(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(Fault::TooLarge { url: url.clone(), limit: LARGEST_BODY });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl Responder for HttpResponder {
    async fn send(&self, exchange: &Exchange, deadline: Duration) -> Result<Bytes, Fault> {
        tokio::time::timeout(deadline, self.exchange(exchange, deadline)).await.unwrap_or_else(|_| {
            let (Exchange::Get { url } | Exchange::Post { url, .. }) = exchange;
            Err(Fault::Timeout { url: url.clone(), deadline })
        })
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Follows a redirect only a few times, over http(s), never from https down to http, and never from elsewhere to an
/// address that only this host can mean: OCSP URLs come from certificates, and whoever answers them must not be able
/// to point this program at its neighbours.
fn follow(attempt: Attempt<'_>) -> redirect::Action {
    let Some(from) = attempt.previous().last() else { return attempt.stop() };
    let to = attempt.url();
    let downgrade = from.scheme() == "https" && to.scheme() == "http";
    let inward = is_local(to) && !attempt.previous().first().is_some_and(is_local);
    if attempt.previous().len() > MOST_REDIRECTS || !is_http(to) || downgrade || inward {
        attempt.stop()
    } else {
        attempt.follow()
    }
}

/// Whether a URL's host is, by its own text, a loopback, link-local or unspecified address.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Retry-After in its form of seconds (RFC 9110 section 10.2.3). The date form needs a clock both sides agree on, and
/// the back-off does no worse.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn classify(url: &str, deadline: Duration, error: &reqwest::Error) -> Fault {
    let url = url.to_owned();
    let reason = innermost(error);
    if error.is_timeout() {
        Fault::Timeout { url, deadline }
    } else if error.is_redirect() {
        Fault::Redirect { url, reason }
    } else if error.is_connect() {
        if chain(error).any(|cause| cause.contains("dns error")) {
            Fault::Dns { url, reason }
        } else {
            Fault::Connect { url, reason }
        }
    } else {
        Fault::Broken { url, reason }
    }
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = String> {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string)
}

fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_known_by_their_text() {
        for url in [
            "http://127.0.0.1/",
            "http://127.9.9.9:80/",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "http://localhost/",
            "http://a.localhost/",
            "http://[fe80::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://2130706433/",
        ] {
            assert!(is_local(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://ocsp.example/", "http://192.0.2.1/", "http://[2001:db8::1]/"] {
            assert!(!is_local(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "120".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(120)));
        headers.insert(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
