//! The handshake itself: a client that asks for the staple, believes nothing and remembers everything.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{self, Ssl, SslAlert, SslContext, SslMethod, SslRef, SslVerifyMode, StatusType};
use tokio::net::{TcpStream, lookup_host};
use tokio_openssl::SslStream;

use super::{KeyType, Objection, Protocol, Target};
use crate::certificate::openssl_reason;
use crate::clock::{Clock, Monotonic};

/// What the server showed, as it came.
#[derive(Debug)]
pub(super) struct Shown {
    /// The certificates in DER, the server's own first.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) staple: Option<Vec<u8>>,
}

/// One errand to one server.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) target: &'a Target,
    pub(super) deadline: Duration,
    pub(super) end: Monotonic,
    pub(super) clock: &'a Clock,
}

impl Visit<'_> {
    /// The server's addresses.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Objection> {
        let host = self.target.host();
        let failed = |reason: String| Objection::Resolve { host: host.clone(), reason };
        let found = self.within(lookup_host((host.as_str(), self.target.port()))).await?;
        let addresses: Vec<SocketAddr> = found.map_err(|error| failed(error.to_string()))?.collect();
        if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
    }

    /// One handshake of a client that knows only this version of TLS and this type of key. A resumed session would carry
    /// no staple; nothing is resumed here.
    pub(super) async fn shake(
        &self,
        addresses: &[SocketAddr],
        protocol: Protocol,
        key_type: KeyType,
    ) -> Result<Shown, Objection> {
        let tcp = self.connect(addresses).await?;
        let ssl = client(protocol, key_type, self.target.server_name()).map_err(|error| setup(&error))?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|error| setup(&error))?;
        self.within(Pin::new(&mut stream).connect()).await?.map_err(|error| self.refused(&error))?;
        shown(stream.ssl()).map_err(|error| setup(&error))
    }

    /// Each address has its share of the time that is left: one that swallows packets does not hide the others.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Objection> {
        let mut last = self.too_late();
        for (index, address) in addresses.iter().enumerate() {
            let waiting = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = self.left() / waiting;
            last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => Objection::Connect { address: self.target.address(), reason: error.to_string() },
                Err(_) => self.too_late(),
            };
        }
        Err(last)
    }

    fn left(&self) -> Duration {
        self.end.since(self.clock.now().monotonic)
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Objection> {
        tokio::time::timeout(self.left(), work).await.map_err(|_| self.too_late())
    }

    fn too_late(&self) -> Objection {
        Objection::Timeout { address: self.target.address(), deadline: self.deadline }
    }

    fn refused(&self, error: &ssl::Error) -> Objection {
        let first = error.ssl_error().and_then(|stack| stack.errors().first());
        let alert = first.and_then(|first| SslAlert::from_reason_code(first.reason_code()));
        match (alert, self.target.server_name()) {
            (Some(SslAlert::UNRECOGNIZED_NAME), Some(server_name)) => {
                Objection::NameRefused { server_name: server_name.to_owned() }
            }
            (Some(SslAlert::HANDSHAKE_FAILURE | SslAlert::PROTOCOL_VERSION | SslAlert::INSUFFICIENT_SECURITY), _) => {
                Objection::NothingInCommon { alert: alert.map(|alert| alert.to_string()).unwrap_or_default() }
            }
            (Some(alert), _) => Objection::Handshake { reason: format!("the server sent the alert '{alert}'") },
            (None, _) => Objection::Handshake {
                reason: match (error.ssl_error(), error.io_error()) {
                    (Some(stack), _) => openssl_reason(stack),
                    (None, Some(error)) => error.to_string(),
                    (None, None) => "the server closed the connection".to_owned(),
                },
            },
        }
    }
}

/// OpenSSL could not do its part: out of memory, or a policy of the machine in its way.
fn setup(stack: &ErrorStack) -> Objection {
    Objection::Handshake { reason: openssl_reason(stack) }
}

fn client(protocol: Protocol, key_type: KeyType, server_name: Option<&str>) -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    let version = Some(protocol.version());
    context.set_min_proto_version(version)?;
    context.set_max_proto_version(version)?;
    context.set_cipher_list(key_type.ciphers())?;
    context.set_sigalgs_list(key_type.signatures())?;
    // What it shows is judged afterwards, with all the evidence at hand.
    context.set_verify(SslVerifyMode::NONE);
    let mut ssl = Ssl::new(&context.build())?;
    ssl.set_status_type(StatusType::OCSP)?;
    if let Some(name) = server_name {
        ssl.set_hostname(name)?;
    }
    Ok(ssl)
}

fn shown(ssl: &SslRef) -> Result<Shown, ErrorStack> {
    let chain = ssl.peer_cert_chain().into_iter().flatten().map(|certificate| certificate.to_der());
    Ok(Shown { chain: chain.collect::<Result<_, _>>()?, staple: ssl.ocsp_status().map(<[u8]>::to_vec) })
}
