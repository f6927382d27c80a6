//! What a TLS client sees: `openssl s_client -status`, `curl --cert-status`, and the stapled bytes themselves.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, StatusType};
use tempfile::{NamedTempFile, TempDir};

use super::PATIENCE;
use super::pki::Identity;
use super::process::run;

/// A staple as `openssl s_client -status` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `good`, `revoked` or `unknown`.
    pub cert_status: String,
    /// When the answer was current.
    pub this_update: Timestamp,
    /// Until when it may be used.
    pub next_update: Option<Timestamp>,
    /// OpenSSL's whole text.
    pub text: String,
}

/// What a client that insists on a good staple does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strict {
    /// It speaks to the server.
    Accepted,
    /// It turns away, and says why.
    Refused(String),
}

/// Connects with `openssl s_client -status`; `None` when the server sends no staple.
///
/// # Panics
/// When there is no TLS connection at all, or no `openssl`.
pub fn s_client(port: u16, server_name: &str) -> Option<Seen> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-status", "-connect", &format!("127.0.0.1:{port}"), "-servername", server_name]);
    let output = run(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("OCSP response: no response sent") {
        return None;
    }
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let Some(cert_status) = field("Cert Status:") else {
        panic!("openssl s_client sees no TLS: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Some(Seen {
        cert_status: cert_status.to_owned(),
        this_update: field("This Update:").and_then(openssl_time).expect("a staple has thisUpdate"),
        next_update: field("Next Update:").and_then(openssl_time),
        text: text.clone(),
    })
}

/// What most clients understand.
const ALGORITHMS: &str = "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256";

/// The stapled response byte for byte; `None` when the server sends none.
///
/// # Panics
/// When there is no TLS connection at all.
pub fn stapled_bytes(port: u16, server_name: &str) -> Option<Vec<u8>> {
    stapled_bytes_to(port, server_name, ALGORITHMS)
}

/// The same for who waits: a connection that comes while HAProxy is being reloaded may be reset by the process that leaves.
pub fn stapled_bytes_by_now(port: u16, server_name: &str) -> Option<Vec<u8>> {
    handshake(port, server_name, ALGORITHMS).ok()?.staple
}

/// The same for a client that understands only these signature algorithms: it decides which certificate of a pair the
/// server shows.
pub fn stapled_bytes_to(port: u16, server_name: &str, algorithms: &str) -> Option<Vec<u8>> {
    handshake(port, server_name, algorithms).unwrap_or_else(|error| panic!("no TLS with {server_name}: {error}")).staple
}

/// What a server shows in one handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
    /// What it stapled.
    pub staple: Option<Vec<u8>>,
}

/// One handshake by a client that asks for a staple, understands these signature algorithms and believes everything.
pub fn handshake(port: u16, server_name: &str, algorithms: &str) -> Result<Handshake, String> {
    // Not an SslConnector: it reads all of the system's trust anchors, each time.
    let mut context = SslContext::builder(SslMethod::tls_client()).expect("a TLS client");
    context.set_sigalgs_list(algorithms).expect("signature algorithms");
    context.set_verify(SslVerifyMode::NONE);
    let mut ssl = Ssl::new(&context.build()).expect("a TLS client");
    ssl.set_hostname(server_name).expect("a server name");
    ssl.set_status_type(StatusType::OCSP).expect("ask for the staple");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut stream = SslStream::new(ssl, stream).expect("a TLS client");
    stream.connect().map_err(|error| error.to_string())?;
    let certificate = stream.ssl().peer_certificate().ok_or("no certificate")?.to_der().expect("a certificate in DER");
    Ok(Handshake { certificate, staple: stream.ssl().ocsp_status().map(<[u8]>::to_vec) })
}

/// Connects with `curl --cert-status`, which refuses a server without a good, verified staple.
///
/// # Panics
/// When curl fails for a reason that has nothing to do with the certificate, or there is no `curl`.
pub fn strict(port: u16, server_name: &str, ca_file: &Path) -> Strict {
    let mut command = Command::new("curl");
    // `-q` first: no settings from the user's own .curlrc; and no proxy between us and the loopback.
    command.args(["-q", "--silent", "--show-error", "--cert-status", "--noproxy", "*", "--max-time", "30"]);
    command.arg("--cacert").arg(ca_file);
    command.args(["--resolve", &format!("{server_name}:{port}:127.0.0.1")]);
    command.arg(format!("https://{server_name}:{port}/"));
    let output = run(&mut command);
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Strict::Accepted,
        // CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_INVALIDCERTSTATUS.
        Some(35 | 60 | 91) => Strict::Refused(reason),
        other => panic!("curl ended with {other:?}: {reason}"),
    }
}

/// Asks the responder at `url` about `leaf` with `openssl ocsp`: whether it verifies the answer, and its words.
pub fn openssl_asks(url: &str, leaf: &Identity) -> (bool, String) {
    openssl_ocsp(&["-timeout".as_ref(), "10".as_ref(), "-url".as_ref(), url.as_ref()], leaf)
}

/// Judges a response about `leaf` with `openssl ocsp`: whether it verifies, and its words. The strict client for a
/// server that does not send its issuer, which `curl --cert-status` needs.
pub fn openssl_judges(response: &[u8], leaf: &Identity) -> (bool, String) {
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), response).expect("write a response");
    openssl_ocsp(&["-respin".as_ref(), file.path().as_os_str()], leaf)
}

fn openssl_ocsp(arguments: &[&OsStr], leaf: &Identity) -> (bool, String) {
    let dir = TempDir::new().expect("a temporary directory");
    let file = |name: &str, content: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("write a PEM file");
        path
    };
    let root = dir.path().join("root.pem");
    write_root(leaf, &root);
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-no_nonce"]).args(arguments).arg("-CAfile").arg(root);
    command.arg("-issuer").arg(file("issuer.pem", leaf.issuer().pem()));
    command.arg("-cert").arg(file("leaf.pem", leaf.pem()));
    command.arg("-verify_other").arg(file("chain.pem", leaf.chain().iter().map(Identity::pem).collect()));
    let output = run(&mut command);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (text.contains("Response verify OK"), text)
}

/// Writes the trust anchor of `identity` for [`strict`].
pub fn write_root(identity: &Identity, path: &Path) {
    let mut root = identity.clone();
    while root.issuer().der() != root.der() {
        root = root.issuer().clone();
    }
    std::fs::write(path, root.pem()).expect("write a CA file");
}

/// `Nov  3 06:49:00 2026 GMT`.
fn openssl_time(text: &str) -> Option<Timestamp> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("GMT", "+0000");
    Timestamp::strptime("%b %d %H:%M:%S %Y %z", text).ok()
}
