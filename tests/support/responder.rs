//! Our own responder: answers as a script says, signs or misbehaves, and remembers who asked. It also serves files, as
//! the web servers behind caIssuers do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response as HttpResponse;
use der::Decode;
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Runtime;
use x509_ocsp::{CertStatus, OcspRequest, OcspResponseStatus};

use super::now;
use super::pki::Identity;
use super::response::{LIFETIME, Response, refusal, revoked};

/// Changes the response that would have been a good one and gives the bytes to send.
pub type Maker = Arc<dyn Fn(Response) -> Vec<u8> + Send + Sync>;

/// What the responder does when it is asked about one certificate.
#[derive(Clone)]
pub enum Behaviour {
    /// Signs `good`, afresh for every request.
    Good,
    /// Signs `revoked`, for key compromise, a day ago.
    Revoked,
    /// Signs `unknown`.
    Unknown,
    /// Signs `good`, for this long from now on.
    GoodFor(SignedDuration),
    /// Signs `good` with these times.
    GoodAt(Timestamp, SignedDuration),
    /// Whatever the function makes of the good response.
    Custom(Maker),
    /// An error of OCSP: `tryLater`, `unauthorized`.
    Refuses(OcspResponseStatus),
    /// These bytes, as `application/ocsp-response`.
    Bytes(Vec<u8>),
    /// Any HTTP answer: status, headers, body.
    Http(u16, Vec<(String, String)>, Vec<u8>),
    /// As the inner one, with these header fields. Whoever names an `etag` among them gets a 304 (RFC 9110 section 13.1.2).
    With(Vec<(String, String)>, Box<Self>),
    /// Never answers.
    Hang,
    /// The inner behaviour after a delay.
    Delayed(Duration, Box<Self>),
    /// Behaves so when asked by GET, and otherwise as the second says.
    ByMethod(Box<Self>, Box<Self>),
    /// Behaves so when asked for the first time, and ever after as the second says.
    First(Box<Self>, Box<Self>),
}

impl Behaviour {
    /// [`Behaviour::With`] one header field.
    pub fn with(self, name: &str, value: &str) -> Self {
        Self::With(vec![(name.to_owned(), value.to_owned())], Box::new(self))
    }

    /// [`Behaviour::Custom`] from a function that edits the response before it is signed.
    pub fn edited(edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(move |mut response| {
            edit(&mut response);
            response.der()
        }))
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// `GET` or `POST`.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The serial number asked for; `None` for files and for what is no OCSP request.
    pub serial: Option<Vec<u8>>,
    /// The OCSP request in DER.
    pub request: Option<Vec<u8>>,
}

/// Listens on a loopback port from its creation to its drop.
pub struct Responder {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared(Mutex<Book>);

#[derive(Default)]
struct Book {
    scripts: HashMap<Vec<u8>, Script>,
    files: HashMap<String, (String, Vec<u8>)>,
    received: Vec<Received>,
}

#[derive(Clone)]
struct Script {
    leaf: Identity,
    signer: Identity,
    behaviour: Behaviour,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Responder {
    /// Starts on a port of its own, on threads of its own.
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// The same on another address of this machine.
    pub fn start_at(address: IpAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("responder")
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared::default());
        let listener = std::net::TcpListener::bind((address, 0)).expect("bind a port");
        let address = listener.local_addr().expect("the address");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, app).await
        });
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on knows `leaf`, as good, signed by `signer`.
    pub fn register(&self, leaf: &Identity, signer: &Identity) {
        let script = Script { leaf: leaf.clone(), signer: signer.clone(), behaviour: Behaviour::Good };
        self.shared.book().scripts.insert(leaf.serial(), script);
    }

    /// Changes what it does about `leaf`, which it must know.
    pub fn set(&self, leaf: &Identity, behaviour: Behaviour) {
        self.shared.book().scripts.get_mut(&leaf.serial()).expect("register the leaf first").behaviour = behaviour;
    }

    /// Changes what it does about every certificate it knows.
    pub fn set_all(&self, behaviour: &Behaviour) {
        for script in self.shared.book().scripts.values_mut() {
            script.behaviour = behaviour.clone();
        }
    }

    /// Serves `content` at `path` (with its leading slash) and gives the URL.
    pub fn file(&self, path: &str, content_type: &str, content: &[u8]) -> String {
        self.shared.book().files.insert(path.to_owned(), (content_type.to_owned(), content.to_vec()));
        format!("{}{path}", self.url())
    }

    /// Every request so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.book().received.clone()
    }

    /// How many requests were about `leaf`.
    pub fn requests(&self, leaf: &Identity) -> usize {
        self.count(|received| received.serial.as_ref() == Some(&leaf.serial()))
    }

    /// When each request about `leaf` came.
    pub fn asked(&self, leaf: &Identity) -> Vec<Instant> {
        let serial = Some(leaf.serial());
        let book = self.shared.book();
        book.received.iter().filter(|received| received.serial == serial).map(|received| received.at).collect()
    }

    /// How many requests there were of any kind.
    pub fn total_requests(&self) -> usize {
        self.count(|_| true)
    }

    /// How many requests were for the file at `path`.
    pub fn file_requests(&self, path: &str) -> usize {
        self.count(|received| received.target == path)
    }

    fn count(&self, wanted: impl Fn(&Received) -> bool) -> usize {
        self.shared.book().received.iter().filter(|received| wanted(received)).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.book().received.clear();
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let request = ocsp_request(&method, &uri, &headers, &body);
    let serial = request.as_deref().and_then(serial_asked_for);
    let (file, script, is_first, named) = {
        let mut book = shared.book();
        let is_first = book.received.iter().all(|earlier| earlier.serial != serial);
        let target = uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let (at, method) = (Instant::now(), method.clone());
        let named = headers.get(header::IF_NONE_MATCH).cloned();
        let received = Received { at, method, target, headers, serial: serial.clone(), request };
        book.received.push(received);
        let script = serial.as_ref().and_then(|serial| book.scripts.get(serial)).cloned();
        (book.files.get(uri.path()).cloned(), script, is_first, named)
    };
    if let Some((content_type, content)) = file {
        return http(200, &[(header::CONTENT_TYPE.as_str(), &content_type)], content);
    }
    match (script, serial) {
        (Some(script), _) => {
            let response = perform(&script, script.behaviour.clone(), &method, is_first).await;
            match response.headers().get(header::ETAG).filter(|tag| named.as_ref() == Some(*tag)) {
                Some(tag) => http(304, &[("etag", tag.to_str().expect("a tag of a test"))], Vec::new()),
                None => response,
            }
        }
        (None, Some(_)) => ocsp(refusal(OcspResponseStatus::Unauthorized)),
        (None, None) => http(404, &[], b"neither a file nor an OCSP request\n".to_vec()),
    }
}

async fn perform(script: &Script, behaviour: Behaviour, method: &Method, is_first: bool) -> HttpResponse {
    let mut fields = Vec::new();
    let mut response = act(script, behaviour, method, is_first, &mut fields).await;
    for (name, value) in fields {
        let name = header::HeaderName::try_from(name).expect("a header field's name");
        response.headers_mut().append(name, value.parse().expect("a header field's value"));
    }
    response
}

async fn act(
    script: &Script,
    mut behaviour: Behaviour,
    method: &Method,
    is_first: bool,
    fields: &mut Vec<(String, String)>,
) -> HttpResponse {
    loop {
        match behaviour {
            Behaviour::Delayed(delay, inner) => {
                tokio::time::sleep(delay).await;
                behaviour = *inner;
            }
            Behaviour::With(more, inner) => {
                fields.extend(more);
                behaviour = *inner;
            }
            Behaviour::ByMethod(get, other) => behaviour = if method == Method::GET { *get } else { *other },
            Behaviour::First(first, later) => behaviour = if is_first { *first } else { *later },
            Behaviour::Hang => std::future::pending::<()>().await,
            Behaviour::Http(status, headers, body) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                return http(status, &headers, body);
            }
            Behaviour::Bytes(bytes) => return ocsp(bytes),
            Behaviour::Refuses(status) => return ocsp(refusal(status)),
            signed => return ocsp(sign(script, signed)),
        }
    }
}

fn sign(script: &Script, behaviour: Behaviour) -> Vec<u8> {
    let good = |this_update, lifetime| Response::good_at(&script.leaf, &script.signer, this_update, lifetime);
    // A minute ago: a real CA's answers are never from this very second either.
    let recently = now() - SignedDuration::from_mins(1);
    match behaviour {
        Behaviour::Revoked => good(recently, LIFETIME).status(revoked(now() - SignedDuration::from_hours(24))).der(),
        Behaviour::Unknown => good(recently, LIFETIME).status(CertStatus::unknown()).der(),
        Behaviour::GoodFor(life) => good(recently, life + SignedDuration::from_mins(1)).der(),
        Behaviour::GoodAt(this_update, lifetime) => good(this_update, lifetime).der(),
        Behaviour::Custom(make) => make(good(recently, LIFETIME)),
        _ => good(recently, LIFETIME).der(),
    }
}

/// The DER of an OCSP request, if this is one: RFC 6960 appendix A.1.
fn ocsp_request(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Option<Vec<u8>> {
    match *method {
        Method::GET => {
            let escaped = uri.path().rsplit('/').next()?;
            openssl::base64::decode_block(&percent_decode(escaped)?).ok().filter(|der| !der.is_empty())
        }
        Method::POST => {
            let content_type = headers.get(header::CONTENT_TYPE)?;
            (content_type == "application/ocsp-request").then(|| body.to_vec())
        }
        _ => None,
    }
}

/// The serial number that an OCSP request asks about.
pub fn serial_asked_for(request: &[u8]) -> Option<Vec<u8>> {
    let request = OcspRequest::from_der(request).ok()?;
    let serial = &request.tbs_request.request_list.first()?.req_cert.serial_number;
    Some(serial.as_bytes().iter().skip_while(|byte| **byte == 0).copied().collect())
}

/// Text of a URL as it was before it was escaped.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '%' {
            let digits: String = rest.by_ref().take(2).collect();
            decoded.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
        } else {
            decoded.push(character);
        }
    }
    Some(decoded)
}

fn ocsp(der: Vec<u8>) -> HttpResponse {
    http(200, &[(header::CONTENT_TYPE.as_str(), "application/ocsp-response")], der)
}

fn http(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> HttpResponse {
    let mut response = HttpResponse::builder().status(StatusCode::from_u16(status).expect("an HTTP status"));
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).expect("an HTTP response")
}
