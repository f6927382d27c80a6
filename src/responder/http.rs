//! The real responders: HTTP, directly or through the proxies of the environment.

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::BytesMut;
use hyper::Request;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{self, ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Body, Response, Url};

use super::caching::Caching;
use super::hosts::Hosts;
use super::names::{Names, OutOfReach, Resolver};
use super::plain::Plain;
use super::secure::Secure;
use super::{Copies, Exchange, Fault, Moved, Reach, Reply, Responder};
use crate::uri;

/// More than any OCSP response or certificate needs; HAProxy's buffers hold a fifth of it.
const LARGEST_BODY: usize = 64 * 1024;
/// Part of the total deadline; a host that does not answer the handshake in this time will not answer at all.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Who is asking, also before a proxy.
pub(super) const USER_AGENT: &str = concat!("haproxy-stapler/", env!("CARGO_PKG_VERSION"));

/// The real one. Proxies come from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`).
///
/// A direct exchange connects to what its [`Reach`] lets through of its host's addresses. Through a proxy it is the proxy
/// that resolves: there only the URL's text is looked at, and the proxy's own rules stand before its neighbours.
#[derive(Debug)]
pub struct HttpResponder {
    proxies: Matcher,
    hosts: Hosts,
    anywhere: Direct,
    this_host: Direct,
    elsewhere: Direct,
    proxied: Secure,
}

/// The clients of one reach: they keep connections, and each of these was made under it.
#[derive(Debug)]
struct Direct {
    plain: Plain,
    secure: Secure,
}

impl Direct {
    fn new(names: &Names, reach: Reach) -> Self {
        let resolver = Resolver { names: names.clone(), reach };
        Self { plain: Plain::new(resolver.clone()), secure: Secure::direct(resolver) }
    }

    async fn send(&self, request: Request<Body>, to: Url) -> Result<Response, Box<dyn Error + Send + Sync>> {
        if Plain::is_enough_for(&to) { self.plain.send(request).await } else { self.secure.send(request, to).await }
    }
}

impl HttpResponder {
    /// Sends nothing yet. No host will have more than `concurrency` exchanges at once.
    #[must_use]
    pub fn new(concurrency: NonZeroUsize) -> Self {
        let names = Names::new();
        Self {
            proxies: Matcher::from_system(),
            hosts: Hosts::new(concurrency),
            anywhere: Direct::new(&names, Reach::Anywhere),
            this_host: Direct::new(&names, Reach::ThisHost),
            elsewhere: Direct::new(&names, Reach::Elsewhere),
            proxied: Secure::proxied(),
        }
    }

    fn direct(&self, reach: Reach) -> &Direct {
        match reach {
            Reach::Anywhere => &self.anywhere,
            Reach::ThisHost => &self.this_host,
            Reach::Elsewhere => &self.elsewhere,
        }
    }

    async fn exchange(&self, exchange: &Exchange, deadline: Duration) -> Result<Reply, Fault> {
        let url = &exchange.url;
        let to = Url::parse(url).ok().filter(|_| uri::is_http(url)).ok_or_else(|| Fault::Url { url: url.clone() })?;
        // An address in a URL is never looked up, so it is looked at here.
        if !exchange.reach.admits_text_of(&to) {
            let reason = "it is an address that only this host can reach".to_owned();
            return Err(Fault::Redirect { url: url.clone(), reason });
        }
        let through_proxy = url.parse().is_ok_and(|url| self.proxies.intercept(&url).is_some());
        let request = request(exchange, &to).map_err(|error| classify(url, deadline, &error))?;
        let sent = if through_proxy {
            self.proxied.send(request, to).await
        } else {
            self.direct(exchange.reach).send(request, to).await
        };
        let mut reply = sent.map_err(|error| classify(url, deadline, error.as_ref()))?;
        let status = reply.status().as_u16();
        if Moved::is_one(status) {
            let location = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let by = reply.remote_addr().filter(|_| !through_proxy).map(|address| address.ip());
            return Ok(Reply::Moved(Moved { status, location, by }));
        }
        let caching = Caching::read(|name| {
            reply.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        });
        if status == 304 {
            return Ok(Reply::NotModified(caching));
        }
        if status != 200 {
            let retry_after = retry_after(reply.headers());
            return Err(Fault::Status { url: url.clone(), status, retry_after });
        }
        // Content-Type is not looked at: the body is verified, and CAs that mislabel it exist.
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await.map_err(|error| classify(url, deadline, &error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(Fault::TooLarge { url: url.clone(), limit: LARGEST_BODY });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply::Body(body.freeze(), caching))
    }
}

fn request(exchange: &Exchange, to: &Url) -> Result<Request<Body>, hyper::http::Error> {
    let request = Request::builder().method(exchange.method()).uri(to.as_str());
    let (request, body) = match &exchange.body {
        None => (request, Body::default()),
        Some(body) => (request.header(CONTENT_TYPE, "application/ocsp-request"), body.clone().into()),
    };
    let request = match &exchange.copies {
        Copies::Welcome => request,
        Copies::InHand(tag) => request.header(IF_NONE_MATCH, tag.as_str()),
        Copies::Unwanted => request.header(CACHE_CONTROL, "no-cache"),
    };
    request
        .header(ACCEPT, "application/ocsp-response, application/pkix-cert, application/pkcs7-mime;q=0.9, */*;q=0.1")
        .header(header::USER_AGENT, USER_AGENT)
        .body(body)
}

impl Responder for HttpResponder {
    async fn send(&self, exchange: &Exchange, deadline: Duration) -> Result<Reply, Fault> {
        let url = || exchange.url.clone();
        let mut place = None;
        let exchanged = tokio::time::timeout(deadline, async {
            place = self.hosts.place(&uri::host_of(&exchange.url)).await;
            self.exchange(exchange, deadline).await
        })
        .await;
        exchanged.unwrap_or_else(|_| {
            Err(match place {
                Some(_) => Fault::Timeout { url: url(), deadline },
                None => Fault::Crowded { url: url(), limit: self.hosts.limit(), deadline },
            })
        })
    }
}

/// Retry-After in its form of seconds (RFC 9110 section 10.2.3). The date form needs a clock both sides agree on, and
/// the back-off does no worse.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn classify(url: &str, deadline: Duration, error: &(dyn Error + 'static)) -> Fault {
    let url = url.to_owned();
    let reason = causes(error).last().map(ToString::to_string).unwrap_or_default();
    let is_late = causes(error).any(is_late);
    if causes(error).any(|cause| cause.is::<OutOfReach>()) {
        Fault::Redirect { url, reason }
    } else if causes(error).any(|cause| cause.to_string().contains("dns error")) {
        Fault::Dns { url, reason }
    } else if causes(error).any(|cause| cause.downcast_ref().is_some_and(legacy::Error::is_connect)) {
        let late = is_late.then(|| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()));
        Fault::Connect { url, reason: late.unwrap_or(reason) }
    } else if is_late {
        Fault::Timeout { url, deadline }
    } else {
        Fault::Broken { url, reason }
    }
}

/// What hyper passes on from the system is known by itself; that reqwest gave up waiting, only reqwest says.
fn is_late(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        || cause.downcast_ref().is_some_and(reqwest::Error::is_timeout)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::JoinHandle;

    use super::super::caching::EntityTag;
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, "120".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(120)));
        headers.insert(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }

    /// Listens for one connection, answers the whole of its request with `answer`, closes, and gives what it got.
    async fn server(answer: Vec<u8>) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !is_whole(&got) {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0, "the request ends early");
            }
            // Whoever has read enough may be gone.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(got).unwrap()
        });
        (address, served)
    }

    /// The bodies here are one byte long.
    fn is_whole(request: &[u8]) -> bool {
        let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|end| end + 4);
        let body = usize::from(request.starts_with(b"POST"));
        end.is_some_and(|end| request.len() == end + body)
    }

    /// What precedes a host in the URLs of the two clients: who gives credentials is served by reqwest.
    const CLIENTS: [&str; 2] = ["", "some%20one:secret@"];

    #[tokio::test]
    async fn both_clients_send_the_same_bytes() {
        let path = "/ocsp/MEowSDBGMEQwQjAJ%2BgUr%2FwMCGgU%3D/a+b=?c=%7e&d#e";
        let tag = EntityTag::parse("\"v1\"").unwrap();
        let accept = "application/ocsp-response, application/pkix-cert, application/pkcs7-mime;q=0.9, */*;q=0.1";
        let agent = concat!("haproxy-stapler/", env!("CARGO_PKG_VERSION"));
        for (body, copies, first, said, last) in [
            (None, Copies::Welcome, "GET", String::new(), ""),
            (None, Copies::InHand(tag), "GET", "if-none-match: \"v1\"\r\n".to_owned(), ""),
            (
                Some(b"0".to_vec()),
                Copies::Unwanted,
                "POST",
                "content-type: application/ocsp-request\r\ncache-control: no-cache\r\n".to_owned(),
                "content-length: 1\r\n",
            ),
        ] {
            for client in CLIENTS {
                let (address, served) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
                let url = format!("http://{client}{address}{path}");
                let exchange = Exchange { url, body: body.clone(), reach: Reach::Anywhere, copies: copies.clone() };
                let reply = HttpResponder::new(NonZeroUsize::MIN).send(&exchange, CONNECT_TIMEOUT).await.unwrap();
                assert_eq!(reply, Reply::from("ok"));
                let path = path.trim_end_matches("#e");
                let credentials = if client.is_empty() { "" } else { "authorization: Basic c29tZSBvbmU6c2VjcmV0\r\n" };
                let body = if body.is_some() { "0" } else { "" };
                let sent = format!(
                    "{first} {path} HTTP/1.1\r\n{credentials}{said}accept: {accept}\r\nuser-agent: {agent}\r\n\
                     host: {address}\r\n{last}\r\n{body}"
                );
                assert_eq!(served.await.unwrap(), sent);
            }
        }
    }

    #[tokio::test]
    async fn both_clients_read_the_same_answers() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000));
        let large = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(LARGEST_BODY + 1));
        for (answer, kind) in [
            (
                "HTTP/1.1 200 OK\r\ncache-control: max-age=9\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                "",
            ),
            ("HTTP/1.1 304 Not Modified\r\netag: \"v2\"\r\n\r\n", ""),
            ("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", ""),
            ("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", "http_status"),
            (&large, "too_large"),
            ("", "broken"),
            ("HTTP/1.1 200", "broken"),
            ("220 mail.example ESMTP\r\n\r\n", "broken"),
            (&long, "broken"),
            (&many, "broken"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", "broken"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n", "broken"),
        ] {
            let mut replies = Vec::new();
            for client in CLIENTS {
                let (address, served) = server(answer.as_bytes().to_vec()).await;
                replies.push(sent(&format!("http://{client}{address}/"), CONNECT_TIMEOUT).await);
                served.await.unwrap();
            }
            let what = answer.get(..40).unwrap_or(answer);
            assert_eq!(replies[0], replies[1], "{what}");
            assert_eq!(replies[0].as_ref().map_or_else(Fault::kind, |_| ""), kind, "{what}: {:?}", replies[0]);
            if let Ok(Reply::Moved(moved)) = &replies[0] {
                assert_eq!(moved.by, Some(Ipv4Addr::LOCALHOST.into()), "whom it was connected to");
            }
        }
    }

    #[tokio::test]
    async fn both_clients_fail_for_the_same_reason() {
        let names = ["127.0.0.1:9", "[::1]:9", "localhost:9", "ocsp.invalid", "a..b"];
        let kinds = ["connect", "connect", "connect", "dns", "dns"];
        for (name, kind) in names.into_iter().zip(kinds) {
            let [plain, other] = CLIENTS.map(|client| format!("http://{client}{name}/"));
            let (plain, other) = (sent(&plain, CONNECT_TIMEOUT).await, sent(&other, CONNECT_TIMEOUT).await);
            assert_eq!(plain, other);
            assert_eq!(plain.as_ref().unwrap_err().kind(), kind, "{plain:?}");
        }
    }

    /// Without a place in its queue, the system answers no handshake.
    #[tokio::test(start_paused = true)]
    async fn both_clients_have_the_same_time_to_connect() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _the_queue = std::net::TcpStream::connect(address).unwrap();
        for client in CLIENTS {
            let fault = sent(&format!("http://{client}{address}/"), 2 * CONNECT_TIMEOUT).await.unwrap_err();
            assert_eq!(fault.kind(), "connect");
            assert!(fault.to_string().ends_with("no connection within 5 s"), "{fault}");
        }
    }

    /// By a responder of its own, with nothing in the way of a comparison.
    async fn sent(url: &str, deadline: Duration) -> Result<Reply, Fault> {
        let responder = HttpResponder::new(NonZeroUsize::MIN);
        responder.send(&Exchange::get(url.to_owned()), deadline).await.map_err(|fault| fault.of("the responder"))
    }

    #[tokio::test]
    async fn a_name_out_of_reach_is_not_connected_to() {
        let responder = HttpResponder::new(NonZeroUsize::MIN);
        let mut exchange = Exchange::get("http://localhost:9/".to_owned());
        let send = async |exchange: &Exchange| responder.send(exchange, CONNECT_TIMEOUT).await.unwrap_err();
        assert_eq!(send(&exchange).await.kind(), "connect");
        exchange.reach = Reach::Elsewhere;
        assert_eq!(send(&exchange).await.kind(), "redirect");
        exchange.url = "file:///etc/passwd".to_owned();
        assert_eq!(send(&exchange).await.kind(), "url");
    }
}
