//! Real HAProxy processes, a throw-away PKI, and responses that `openssl ocsp` signs without any server.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::haproxy::{self, CertIdKey, Process, RuntimeApi, Socket, SocketError, StapleView};
use haproxy_stapler::ocsp::{self, CertId};
use jiff::Timestamp;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, StatusType};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Every HAProxy to test with: `HAPROXY_BINS` (colon-separated), else `HAPROXY_BIN`, else the one on PATH.
pub fn binaries() -> Vec<OsString> {
    let listed =
        std::env::var_os("HAPROXY_BINS").map(|list| std::env::split_paths(&list).map(OsString::from).collect());
    let binaries: Vec<OsString> =
        listed.unwrap_or_else(|| vec![std::env::var_os("HAPROXY_BIN").unwrap_or_else(installed)]);
    for binary in &binaries {
        let answer = Command::new(binary).arg("-v").output();
        assert!(
            answer.is_ok_and(|answer| answer.status.success()),
            "{binary:?} does not run; install HAProxy with `apt-get install haproxy` or set HAPROXY_BIN"
        );
    }
    binaries
}

/// Debian's lives where the PATH of an ordinary user does not lead.
fn installed() -> OsString {
    let runs = |name: &&str| Command::new(name).arg("-v").output().is_ok();
    ["haproxy", "/usr/sbin/haproxy"].into_iter().find(runs).unwrap_or("haproxy").into()
}

/// A CA and a directory for what it issues.
pub struct Pki {
    directory: TempDir,
    ca: Issuer<'static, KeyPair>,
    pub ca_certificate: Certificate,
    ca_pem: String,
}

/// A leaf certificate.
pub struct Leaf {
    pub certificate: Certificate,
    pem: String,
    key: String,
    pub id: CertIdKey,
}

/// A response with its times.
pub struct Staple {
    pub der: Vec<u8>,
    pub this_update: Timestamp,
    verified: ocsp::Staple,
}

impl Staple {
    pub fn view(&self) -> StapleView<'_> {
        StapleView::from(&self.verified)
    }
}

/// Which PEM file is written for a leaf.
#[derive(Clone, Copy)]
pub enum Pem {
    WithChain,
    LeafOnly,
}

impl Pki {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "lab CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).unwrap();
        fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        fs::write(directory.path().join("ca.key"), key.serialize_pem()).unwrap();
        Self {
            directory,
            ca_certificate: Certificate::from_der(certificate.der()).unwrap(),
            ca_pem: certificate.pem(),
            ca: Issuer::new(params, key),
        }
    }

    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with_key(name, KeyPair::generate().unwrap())
    }

    pub fn rsa_leaf(&self, name: &str) -> Leaf {
        let rsa = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        let pem = String::from_utf8(rsa.private_key_to_pem_pkcs8().unwrap()).unwrap();
        self.leaf_with_key(name, KeyPair::from_pem(&pem).unwrap())
    }

    fn leaf_with_key(&self, name: &str, key: KeyPair) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let signed = params.signed_by(&key, &self.ca).unwrap();
        let certificate = Certificate::from_der(signed.der()).unwrap();
        let id = CertIdKey::from(&CertId::new(&certificate, &self.ca_certificate).unwrap());
        Leaf { certificate, pem: signed.pem(), key: key.serialize_pem(), id }
    }

    /// Writes a leaf as a file for HAProxy.
    pub fn write(&self, file: &str, leaf: &Leaf, pem: Pem) -> String {
        let chain = match pem {
            Pem::WithChain => self.ca_pem.as_str(),
            Pem::LeafOnly => "",
        };
        let path = self.directory.path().join(file);
        fs::write(&path, format!("{}{chain}{}", leaf.pem, leaf.key)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Has `openssl ocsp` sign a response that says the leaf is good.
    pub fn staple(&self, leaf: &Leaf) -> Staple {
        self.sign(leaf, None)
    }

    /// A response of exactly `bytes` bytes: another certificate is embedded, with an extension to fill it up.
    pub fn staple_of(&self, leaf: &Leaf, bytes: usize) -> Staple {
        let mut filling = bytes / 2;
        for _ in 0..20 {
            let staple = self.sign(leaf, Some(filling));
            if staple.der.len() == bytes {
                return staple;
            }
            // Signatures vary by a byte or two, so this may take a few rounds.
            filling = filling + bytes - staple.der.len();
        }
        panic!("no response of {bytes} bytes");
    }

    fn sign(&self, leaf: &Leaf, filling: Option<usize>) -> Staple {
        let work = tempfile::tempdir_in(self.directory.path()).unwrap();
        let at = |name: &str| work.path().join(name);
        let ca = |name: &str| self.directory.path().join(name);
        fs::write(at("leaf.pem"), &leaf.pem).unwrap();
        fs::write(
            at("index.txt"),
            format!("V\t350101000000Z\t\t{}\tunknown\t/CN=leaf\n", leaf.certificate.serial_number()),
        )
        .unwrap();
        let mut command = Command::new("openssl");
        command.arg("ocsp").arg("-index").arg(at("index.txt")).arg("-rsigner").arg(ca("ca.pem"));
        command.arg("-rkey").arg(ca("ca.key")).arg("-CA").arg(ca("ca.pem")).arg("-issuer").arg(ca("ca.pem"));
        command.arg("-cert").arg(at("leaf.pem")).args(["-no_nonce", "-ndays", "5", "-respout"]).arg(at("out.der"));
        if let Some(filling) = filling {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![7; filling]);
            params.custom_extensions.push(extension);
            fs::write(at("other.pem"), params.signed_by(&key, &self.ca).unwrap().pem()).unwrap();
            command.arg("-rother").arg(at("other.pem"));
        }
        let output = command.output().expect("install OpenSSL with `apt-get install openssl`");
        let der = fs::read(at("out.der")).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let now = haproxy_stapler::clock::Clock::system().now().wall;
        let response = ocsp::verify(&der, &leaf.certificate, &self.ca_certificate, now).unwrap();
        let id = CertId::new(&leaf.certificate, &self.ca_certificate).unwrap();
        let verified = ocsp::Staple::new(response, &id, now).unwrap();
        Staple { this_update: verified.this_update(), verified, der }
    }
}

/// A HAProxy process; killed and waited for when dropped.
pub struct Haproxy {
    child: Child,
    binary: OsString,
    directory: Rc<TempDir>,
    pub version: String,
    master: bool,
    crts: Vec<String>,
    settled: bool,
}

impl Haproxy {
    /// One frontend that serves `crts`.
    pub async fn start(binary: &OsString, crts: &[&str]) -> Self {
        Self::start_with(binary, crts, "").await
    }

    /// The same with more configuration.
    pub async fn start_with(binary: &OsString, crts: &[&str], more: &str) -> Self {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        fs::write(directory.path().join("more.cfg"), format!("{more}\n")).unwrap();
        let path = directory.path().join("more.cfg");
        Self::launch(binary, crts, directory, &["-f", path.to_str().unwrap()], false).await
    }

    /// The same behind a master process with a master socket.
    pub async fn start_master(binary: &OsString, crts: &[&str]) -> Self {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        let socket = directory.path().join("master.sock");
        Self::launch(binary, crts, directory, &["-W", "-S", socket.to_str().unwrap()], true).await
    }

    /// A new process on the same sockets, which tells this one to leave (`-sf`).
    pub async fn succeed(&self) -> Self {
        let crts: Vec<&str> = self.crts.iter().map(String::as_str).collect();
        let pid = self.child.id().to_string();
        Self::launch(&self.binary, &crts, Rc::clone(&self.directory), &["-sf", &pid], false).await
    }

    async fn launch(binary: &OsString, crts: &[&str], directory: Rc<TempDir>, more: &[&str], master: bool) -> Self {
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\"));
        let crt_words: Vec<String> = crts.iter().map(|crt| format!("crt {}", quoted(crt))).collect();
        let config = format!(
            "global\n  stats socket {} level admin\n  stats socket {} level operator\n\
             defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
             frontend f\n  bind {} ssl {}\n  http-request deny\n",
            at("admin.sock"),
            at("operator.sock"),
            at("tls.sock"),
            crt_words.join(" "),
        );
        fs::write(at("haproxy.cfg"), config).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(at("log")).unwrap();
        let child = Command::new(binary)
            .args(["-db", "-f", &at("haproxy.cfg")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut haproxy = Self {
            version: String::new(),
            binary: binary.clone(),
            crts: crts.iter().map(|crt| (*crt).to_owned()).collect(),
            settled: false,
            child,
            directory,
            master,
        };
        let (own, socket) = (haproxy.child.id(), haproxy.socket());
        let is_ours = |process: &Process| master || process.pid == own;
        haproxy.version =
            until(|| async { haproxy::look(&socket).await.ok().filter(|process| is_ours(process)) }).await.version.text;
        if master {
            // The worker listens before its master does.
            let socket = haproxy.socket_at("master.sock");
            until(|| async { haproxy::look(&socket).await.ok() }).await;
        }
        haproxy.settled = true;
        haproxy
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> Socket {
        self.socket_at("admin.sock")
    }

    pub fn socket_at(&self, name: &str) -> Socket {
        Socket::new(self.at(name).to_str().unwrap().parse().unwrap(), TIMEOUT)
    }

    /// Asks the master to reload.
    pub fn reload(&self) {
        assert!(self.master);
        assert!(self.signal("USR2"));
    }

    /// Sends a signal with the shell's own `kill`, which is there even where procps is not; true if that worked.
    fn signal(&self, signal: &str) -> bool {
        let process = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &process]).status();
        sent.is_ok_and(|status| status.success())
    }

    /// The staple of one handshake.
    pub fn stapled(&self, server_name: &str, signatures: &str) -> Option<Vec<u8>> {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
        let keep = std::sync::Arc::clone(&seen);
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_sigalgs_list(signatures).unwrap();
        builder
            .set_status_callback(move |ssl| {
                *keep.lock().unwrap() = ssl.ocsp_status().map(<[u8]>::to_vec);
                Ok(true)
            })
            .unwrap();
        let mut ssl = builder.build().configure().unwrap();
        ssl.set_status_type(StatusType::OCSP).unwrap();
        let stream = UnixStream::connect(self.at("tls.sock")).unwrap();
        drop(ssl.connect(server_name, stream).unwrap_or_else(|error| panic!("{}: {error}", self.version)));
        seen.lock().unwrap().take()
    }

    /// What `openssl s_client -status` says.
    pub fn s_client(&self, server_name: &str) -> String {
        let output = Command::new("openssl")
            .args(["s_client", "-status", "-servername", server_name, "-unix"])
            .arg(self.at("tls.sock"))
            .stdin(Stdio::null())
            .output()
            .expect("install OpenSSL with `apt-get install openssl`");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.settled {
            let log = fs::read_to_string(self.at("log")).unwrap_or_default();
            eprintln!("HAProxy {} said:\n{log}", self.version);
        }
        if self.master {
            // A killed master leaves its workers behind; a terminated one takes them along.
            self.signal("TERM");
            for _ in 0..500 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a raw command as somebody else would.
pub fn stranger(socket: &Path, command: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    std::io::read_to_string(stream).unwrap()
}

/// Asks until there is an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    for _ in 0..400 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing happened for 20 s");
}

/// Passes commands on and writes them down.
pub struct Recorder {
    inner: Socket,
    sent: std::sync::Mutex<Vec<String>>,
}

impl Recorder {
    pub fn new(inner: Socket) -> Self {
        Self { inner, sent: std::sync::Mutex::default() }
    }

    /// The commands that change something, since the last call.
    pub fn writes(&self) -> Vec<String> {
        let mut sent = self.sent.lock().unwrap();
        let sent = std::mem::take(&mut *sent);
        let changes = |command: &String| !command.starts_with("show ") && command != "abort ssl cert /";
        sent.into_iter().filter(changes).collect()
    }
}

impl RuntimeApi for Recorder {
    async fn exchange(&self, command: &haproxy::Command) -> Result<String, SocketError> {
        self.sent.lock().unwrap().push(command.to_string());
        self.inner.exchange(command).await
    }
}

/// A TCP address in front of a unix socket, as `stats socket ipv4@…` would be.
pub async fn over_tcp(path: &Path) -> Socket {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = path.to_owned();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut unix = tokio::net::UnixStream::connect(&path).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut tcp, &mut unix).await;
        }
    });
    Socket::new(format!("ipv4@127.0.0.1:{port}").parse().unwrap(), TIMEOUT)
}
