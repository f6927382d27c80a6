//! `make seeds`: mints what the fuzz targets judge, and their seeds: responses of every kind, and what live HAProxies of
//! all versions say while a staple is brought in.
//!
//! Run anew only when a parser learns something: what is in `fuzz/` is judged at the instant it was made, for ever.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for this repository: it says what went wrong by panicking"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::haproxy::{
    self, CertIdKey, Command, Entries, EntryName, Installation, IssuerKnowledge, Known, Outcome, OverwritePolicy,
    RuntimeApi, Socket, SocketError, StapleView, Stapling,
};
use haproxy_stapler::ocsp::{self, CertId, Staple};
use jiff::SignedDuration;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509;
use support::haproxy::Haproxy;
use support::pki::{Identity, KeyKind};
use support::response::{Digest, LIFETIME, Response, by_key, cert_id, refusal, revoked, unknown_extension};
use x509_ocsp::{CertStatus, OcspResponseStatus};

/// The files that hold the certificate, by the names that the target `install` gives them.
const FILES: [&str; 3] = ["site.pem", "a;b.pem", "site.pem.ocsp.pem"];

/// Everything that is written goes below here.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn write(path: &str, content: &[u8]) {
    let path = fuzz().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

struct Authority {
    root: Identity,
    leaf: Identity,
    delegate: Identity,
}

fn main() {
    let binaries = std::env::var("HAPROXY_BINS").expect("HAPROXY_BINS=path:path names the HAProxys to listen to");
    let root = Identity::root("Fuzz Root");
    let leaf = root.leaf("site.test").ocsp("http://127.0.0.1:9/").ca_issuers("http://127.0.0.1:9/root.der").issue();
    let delegate = root.delegate("Fuzz Responder").issue();
    let other = root.leaf("other.test").issue();
    for (name, identity) in [("issuer", &root), ("leaf", &leaf), ("delegate", &delegate), ("other", &other)] {
        write(&format!("fixtures/{name}.der"), identity.der());
    }
    for (name, identity) in [("issuer", &root), ("delegate", &delegate)] {
        write(&format!("fixtures/{name}.key.der"), &identity.key().private_key_to_pkcs8().unwrap());
    }
    let authority = Authority { root, leaf, delegate };
    write("fixtures/good.der", &authority.good().der());
    for target in ["response", "signed", "certificates", "survey", "install"] {
        let _ = fs::remove_dir_all(fuzz().join("seeds").join(target));
    }
    authority.responses(&other);
    authority.certificates();
    for binary in binaries.split(':') {
        authority.listen_to(Path::new(binary));
    }
}

impl Authority {
    fn good(&self) -> Response {
        Response::good(&self.leaf, &self.root)
    }

    /// One response for each thing that may be special about one.
    fn responses(&self, other: &Identity) {
        let now = support::now();
        let day = SignedDuration::from_hours(24);
        let delegated = Response::good(&self.leaf, &self.delegate);
        let responses = [
            ("good", self.good()),
            ("by-key", self.good().with(|it| it.responder_id = by_key(&self.root))),
            ("revoked", self.good().status(revoked(now - day))),
            ("unknown", self.good().status(CertStatus::unknown())),
            ("delegated", delegated.clone()),
            ("delegated-by-key", delegated.with(|it| it.responder_id = by_key(&self.delegate))),
            ("without-next-update", self.good().with(|it| it.singles[0].next_update = None)),
            ("sha256-cert-id", self.good().with(|it| it.singles[0].cert_id = cert_id(Digest::Sha256, &self.leaf))),
            ("without-null", self.good().with(|it| it.singles[0].cert_id.hash_algorithm.parameters = None)),
            ("about-another", Response::good(other, &self.root)),
            ("two-singles", self.good().with(|it| it.singles.push(it.singles[0].clone()))),
            ("extensions", self.good().with(|it| it.response_extensions = vec![unknown_extension(false)])),
            ("critical", self.good().with(|it| it.singles[0].extensions = vec![unknown_extension(true)])),
            ("expired", Response::good_at(&self.leaf, &self.root, now - 9 * day, 2 * day)),
            ("future", Response::good_at(&self.leaf, &self.root, now + day, day)),
            ("expiring", Response::good_at(&self.leaf, &self.root, now - day, day + SignedDuration::from_secs(299))),
            ("by-the-leaf", Response::good(&self.leaf, &self.leaf)),
            ("broken-signature", self.good().with(|it| it.break_signature = true)),
            ("trailing", self.good().with(|it| it.trailing = vec![0])),
        ];
        for (name, response) in responses {
            write(&format!("seeds/response/{name}"), &response.der());
            // The first byte says who signs; what is behind the name and the certificates of the delegate says the rest.
            let who = u8::from(!response.certs.is_empty());
            write(&format!("seeds/signed/{name}"), &[&[who], response.tbs().as_slice()].concat());
        }
        write("seeds/response/try-later", &refusal(OcspResponseStatus::TryLater));
    }

    /// One file for each form that certificates come in.
    fn certificates(&self) {
        let rsa = Identity::root_with("RSA Root", KeyKind::Rsa);
        let chain = [self.leaf.pem(), self.root.pem()].concat();
        let mut stack = Stack::new().unwrap();
        stack.push(X509::from_der(self.root.der()).unwrap()).unwrap();
        stack.push(X509::from_der(rsa.der()).unwrap()).unwrap();
        let bundle = certs_only(&stack, &self.root);
        let files: [(&str, Vec<u8>); 7] = [
            ("leaf.der", self.leaf.der().to_vec()),
            ("root.der", self.root.der().to_vec()),
            ("rsa.der", rsa.der().to_vec()),
            ("site.pem", self.leaf.combined_pem().into_bytes()),
            ("chain.pem", chain.into_bytes()),
            ("bundle.p7c", bundle),
            ("must-staple.pem", self.root.leaf("must.test").must_staple().issue().pem().into_bytes()),
        ];
        for (name, content) in files {
            write(&format!("seeds/certificates/{name}"), &content);
        }
    }

    /// What a HAProxy says before and while a staple is brought in, a newer one, the same again, and one that is older
    /// than what is there.
    fn listen_to(&self, binary: &Path) {
        let mut haproxy = Haproxy::builder_for(binary).file("site.pem", self.leaf.combined_pem()).start();
        let version = haproxy.version();
        let branch = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        println!("{version}");
        let hours = |hours| support::now() - SignedDuration::from_hours(hours);
        let response = |at| Response::good_at(&self.leaf, &self.root, at, LIFETIME).der();
        let good = fs::read(fuzz().join("fixtures/good.der")).unwrap();
        self.hear(&haproxy, &good, Stapling::Off, &[(&branch, "unstapled", "enable")]);
        haproxy.restart();
        self.hear(&haproxy, &response(hours(2)), Stapling::Off, &[]);
        self.hear(&haproxy, &good, Stapling::On, &[(&branch, "older", "push"), (&branch, "stapled", "again")]);
        self.hear(&haproxy, &response(hours(0)), Stapling::On, &[]);
        self.hear(&haproxy, &good, Stapling::On, &[(&branch, "newest", "newer")]);
        // Since 3.0 a word in the global section is enough. The responder of these certificates refuses connections.
        if !branch.starts_with("2.") {
            let native = Haproxy::builder_for(binary).file("site.pem", self.leaf.combined_pem());
            let native = native.global("ocsp-update.mode on").start();
            self.hear(&native, &good, Stapling::On, &[(&branch, "native", "native")]);
        }
        self.hear_several(binary, &branch, &good);
        // And a HAProxy that goes on where everything is said.
        let stapled = fs::read(fuzz().join(format!("seeds/survey/{branch}-stapled"))).unwrap();
        write(&format!("seeds/survey/{branch}-talkative"), &[&*stapled, b"\0Unknown command"].concat());
    }

    /// Brings a staple in and keeps what HAProxy said before and meanwhile, under these names; once without any.
    fn hear(&self, haproxy: &Haproxy, der: &[u8], stapling: Stapling, names: &[(&str, &str, &str)]) {
        let name = haproxy.certificate("site.pem").display().to_string();
        let ear = Ear::new(haproxy);
        let staple = self.staple(der);
        let id = CertIdKey::from(&self.id());
        let installation = installation(&name, &id, stapling, &staple);
        run(async {
            for (branch, before, during) in names {
                let process = haproxy::look(&ear).await.unwrap();
                let survey = haproxy::survey(&ear, &process, &Known::default()).await.unwrap();
                let entries = survey.entries().map(Entries::ids).unwrap_or_default();
                if let Some(key) = entries.keys().next() {
                    haproxy::held(&ear, &process, &EntryName::Key((*key).to_owned())).await.unwrap();
                }
                ear.keep(&format!("seeds/survey/{branch}-{before}"), &[]);
                bring_in(&ear, &mut None, &[installation]).await;
                ear.keep(&format!("seeds/install/{branch}-{during}"), &[u8::from(stapling == Stapling::Off)]);
            }
            if names.is_empty() {
                bring_in(&ear, &mut None, &[installation]).await;
            }
        });
    }

    /// Brings a staple in for one certificate under several names.
    fn hear_several(&self, binary: &Path, branch: &str, good: &[u8]) {
        let mut haproxy = Haproxy::builder_for(binary);
        for file in FILES {
            haproxy = haproxy.file(file, self.leaf.combined_pem());
        }
        let haproxy = haproxy.start();
        let ear = Ear::new(&haproxy);
        let names = FILES.map(|file| haproxy.certificate(file).display().to_string());
        let (staple, id) = (self.staple(good), CertIdKey::from(&self.id()));
        let several = names.each_ref().map(|name| installation(name, &id, Stapling::Off, &staple));
        run(bring_in(&ear, &mut Some(Entries::default()), &several));
        // Stapling is off, there is an empty list of entries, and there are several names.
        ear.keep(&format!("seeds/install/{branch}-several"), &[1 | 16 | 32]);
    }

    fn id(&self) -> CertId {
        CertId::new(&certificate(&self.leaf), &certificate(&self.root)).unwrap()
    }

    fn staple(&self, der: &[u8]) -> Staple {
        let now = support::now();
        let verified = ocsp::verify(der, &certificate(&self.leaf), &certificate(&self.root), now).unwrap();
        Staple::new(verified, &self.id(), now).unwrap()
    }
}

fn certificate(identity: &Identity) -> Certificate {
    Certificate::from_der(identity.der()).unwrap()
}

/// A socket whose replies are remembered.
struct Ear {
    socket: Socket,
    heard: Mutex<Vec<String>>,
    /// Where this HAProxy's certificates are.
    directory: String,
}

impl Ear {
    fn new(haproxy: &Haproxy) -> Self {
        let address = haproxy.socket().display().to_string().parse().expect("an address");
        let socket = Socket::new(address, Duration::from_secs(10));
        Self { socket, heard: Mutex::default(), directory: haproxy.certs_dir().display().to_string() }
    }

    /// Writes down what was said since the last time, after `head`, as if the certificates were where the targets think
    /// that they are.
    fn keep(&self, path: &str, head: &[u8]) {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap()).join("\0");
        write(path, &[head, heard.replace(&self.directory, "/etc/haproxy/certs").as_bytes()].concat());
    }
}

impl RuntimeApi for Ear {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let reply = self.socket.exchange(command).await?;
        self.heard.lock().unwrap().push(reply.clone());
        Ok(reply)
    }
}

fn installation<'a>(name: &'a str, id: &'a CertIdKey, stapling: Stapling, staple: &'a Staple) -> Installation<'a> {
    let issuer = IssuerKnowledge::InChain;
    let staple = StapleView::from(staple);
    Installation { name, id, stapling, issuer, staple, overwrite: OverwritePolicy::KeepNewer }
}

/// What a seed of the target `install` is: a look, and what comes after it.
async fn bring_in(ear: &Ear, entries: &mut Option<Entries>, installations: &[Installation<'_>]) {
    let process = haproxy::look(ear).await.unwrap();
    let outcomes = haproxy::reconcile_many(ear, &process, entries, installations, support::now()).await;
    assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
}

fn run(listening: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(listening);
}

/// A PKCS#7 as CAs send it: certificates, and no content that anybody looks at.
fn certs_only(certificates: &Stack<X509>, signer: &Identity) -> Vec<u8> {
    let signer_certificate = X509::from_der(signer.der()).unwrap();
    let flags = Pkcs7Flags::DETACHED;
    Pkcs7::sign(&signer_certificate, signer.key(), certificates, b"", flags).unwrap().to_der().unwrap()
}
