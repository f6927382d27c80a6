//! Where it happens: a CA with its responder, a HAProxy with seven certificates, and the program between them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::ocsp::{self, CertStatus};
use jiff::SignedDuration;
use x509_ocsp::OcspResponseStatus;

use super::plan::Mood;
use super::support::client::{Handshake, handshake, write_root};
use super::support::haproxy::{Haproxy, Mode};
use super::support::pki::{Identity, KeyKind};
use super::support::responder::{Behaviour, Responder};
use super::support::response::LIFETIME;
use super::support::stapler::Stapler;
use super::support::{now, wait_for};

/// What a certificate's files look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The chain is in the file.
    Chained,
    /// The issuer is in a file beside it.
    IssuerBeside,
    /// The issuer has to be downloaded.
    Orphan,
}

/// One certificate of the site as it is always: its name, its file, and what is special about it.
pub(crate) struct Kind {
    pub(crate) host: &'static str,
    /// Below the directory of all.
    pub(crate) file: &'static str,
    pub(crate) shape: Shape,
    pub(crate) key: KeyKind,
}

const fn kind(host: &'static str, file: &'static str, shape: Shape) -> Kind {
    Kind { host, file, shape, key: KeyKind::Ecdsa }
}

/// All of them.
pub(crate) const CERTIFICATES: [Kind; 7] = [
    kind("one.test", "certs/one.pem", Shape::Chained),
    kind("two.test", "certs/two.pem", Shape::Chained),
    kind("issued.test", "certs/issued.pem", Shape::IssuerBeside),
    kind("orphan.test", "certs/orphan.pem", Shape::Orphan),
    kind("pair.test", "certs/pair.pem.ecdsa", Shape::Chained),
    Kind { host: "pair.test", file: "certs/pair.pem.rsa", shape: Shape::Chained, key: KeyKind::Rsa },
    kind("listed.test", "listed/listed.pem", Shape::Chained),
];

impl Kind {
    /// What a client must understand to be shown this one of a pair.
    pub(crate) fn algorithms(&self) -> &'static str {
        match self.key {
            KeyKind::Ecdsa => "ECDSA+SHA256",
            KeyKind::Rsa => "RSA-PSS+SHA256:RSA+SHA256",
        }
    }

    /// Whether HAProxy starts without the file: those of a directory are not missed, half a pair and a line of a
    /// crt-list are.
    pub(crate) fn may_go(&self) -> bool {
        self.file.starts_with("certs/") && self.host != "pair.test"
    }

    /// What goes into the file.
    pub(crate) fn pem(&self, leaf: &Identity) -> String {
        if self.shape == Shape::Chained { leaf.combined_pem() } else { leaf.chainless_pem() }
    }
}

/// What a certificate is at the moment.
pub(crate) struct Now {
    /// In the file; it may be away.
    pub(crate) in_file: Identity,
    pub(crate) away: bool,
    /// In HAProxy, if it has this name loaded at all.
    pub(crate) running: Option<Identity>,
}

/// Everything.
pub(crate) struct Site {
    pub(crate) haproxy: Haproxy,
    pub(crate) stapler: Stapler,
    pub(crate) responder: Responder,
    issuing: Identity,
    /// Every certificate there ever was.
    leaves: Vec<Identity>,
    pub(crate) now: Vec<Now>,
    behaviour: Behaviour,
    mood_ends: Option<Instant>,
    /// Every start of the program.
    pub(crate) starts: Vec<Instant>,
    pub(crate) anchor: PathBuf,
}

impl Site {
    /// Sets it up and starts everything. The program gets the master's socket if it is told so.
    pub(crate) fn start(mode: Mode, through_master: bool) -> Self {
        let issuing = Identity::root("Chaos Root").intermediate("Chaos Issuing CA");
        let responder = Responder::start();
        let builder = Haproxy::builder().mode(mode);
        let certs = builder.certs_dir();
        let root = certs.parent().unwrap().to_owned();
        std::fs::create_dir(root.join("listed")).unwrap();
        let list = root.join("listed").join("crt-list.txt");
        let listed = root.join(CERTIFICATES[6].file);
        std::fs::write(&list, format!("{} [alpn h2,http/1.1] listed.test\n", listed.display())).unwrap();
        let anchor = root.join("anchor.pem");
        write_root(&issuing, &anchor);

        let mut leaves = Vec::new();
        let mut now = Vec::new();
        for kind in &CERTIFICATES {
            let leaf = issue(&issuing, &responder, kind, None);
            std::fs::write(root.join(kind.file), kind.pem(&leaf)).unwrap();
            if kind.shape == Shape::IssuerBeside {
                std::fs::write(root.join(format!("{}.issuer", kind.file)), issuing.pem()).unwrap();
            }
            now.push(Now { in_file: leaf.clone(), away: false, running: Some(leaf.clone()) });
            leaves.push(leaf);
        }
        let haproxy = builder.bind(&format!("crt {} crt-list {}", certs.display(), list.display())).start();
        let socket = if through_master { haproxy.master_socket() } else { haproxy.socket() };
        let mut stapler = Stapler::builder(env!("CARGO_BIN_EXE_haproxy-stapler"))
            .env("STAPLER_CERTS", format!("{},{}", certs.display(), list.display()))
            .env("STAPLER_SOCKETS", socket)
            .env("STAPLER_SCAN_INTERVAL", "1s")
            .env("STAPLER_TIMEOUT", "1s");
        if let Some(filter) = std::env::var_os("STAPLER_LOG") {
            stapler = stapler.env("STAPLER_LOG", filter);
        }
        Self {
            stapler: stapler.start(),
            haproxy,
            responder,
            issuing,
            leaves,
            now,
            behaviour: Behaviour::Good,
            mood_ends: None,
            starts: vec![Instant::now()],
            anchor,
        }
    }

    /// The path of a certificate's file, which is also HAProxy's name for it.
    pub(crate) fn path(&self, certificate: usize) -> PathBuf {
        self.haproxy.certs_dir().parent().unwrap().join(CERTIFICATES[certificate].file)
    }

    /// The directories that hold certificates.
    pub(crate) fn directories(&self) -> [PathBuf; 2] {
        ["certs", "listed"].map(|name| self.haproxy.certs_dir().with_file_name(name))
    }

    /// The renewed certificate, which nobody has yet but the CA.
    pub(crate) fn renew(&mut self, certificate: usize) -> Identity {
        let old = &self.now[certificate].in_file;
        let leaf = issue(&self.issuing, &self.responder, &CERTIFICATES[certificate], Some(old));
        self.responder.set(&leaf, self.behaviour.clone());
        self.leaves.push(leaf.clone());
        leaf
    }

    /// Puts a certificate into its file, in one step, as everybody should.
    pub(crate) fn write(&mut self, certificate: usize, leaf: &Identity) {
        let path = self.path(certificate);
        let fresh = self.haproxy.certs_dir().with_file_name("fresh.pem");
        std::fs::write(&fresh, CERTIFICATES[certificate].pem(leaf)).unwrap();
        std::fs::rename(fresh, path).unwrap();
        self.now[certificate].in_file = leaf.clone();
        self.now[certificate].away = false;
    }

    /// HAProxy has read its files.
    pub(crate) fn loaded(&mut self) {
        for now in &mut self.now {
            now.running = (!now.away).then(|| now.in_file.clone());
        }
    }

    pub(crate) fn issuing(&self) -> &Identity {
        &self.issuing
    }

    /// Has the CA behave like this for a while.
    pub(crate) fn set_mood(&mut self, mood: Mood, lasting: Duration) {
        self.behave(behaviour(mood));
        self.mood_ends = Some(Instant::now() + lasting);
    }

    /// Ends the CA's mood when its time is over, or `now`.
    pub(crate) fn calm(&mut self, at_once: bool) {
        if self.mood_ends.is_some_and(|end| at_once || end <= Instant::now()) {
            self.mood_ends = None;
            self.behave(Behaviour::Good);
        }
    }

    fn behave(&mut self, behaviour: Behaviour) {
        self.responder.set_all(&behaviour);
        self.behaviour = behaviour;
    }

    /// The program starts.
    pub(crate) fn start_stapler(&mut self) {
        self.starts.push(Instant::now());
        self.stapler.start_again();
    }

    /// What a client is shown of a certificate. A connection may meet a process that leaves.
    pub(crate) fn shown(&self, certificate: usize) -> Handshake {
        let kind = &CERTIFICATES[certificate];
        wait_for(&format!("a handshake with {}", kind.host), Duration::from_secs(5), || {
            handshake(self.haproxy.port(), kind.host, kind.algorithms()).ok()
        })
    }

    /// Which certificate this is.
    pub(crate) fn leaf(&self, der: &[u8]) -> &Identity {
        self.leaves.iter().find(|leaf| leaf.der() == der).unwrap_or_else(|| panic!("a certificate that nobody issued"))
    }

    /// Insists that these bytes are what a strict client would take for this certificate.
    pub(crate) fn assert_genuine(&self, response: &[u8], leaf: &Identity, place: &str) {
        let read = |identity: &Identity| Certificate::from_der(identity.der()).unwrap();
        match ocsp::verify(response, &read(leaf), &read(&self.issuing), now()) {
            Ok(response) if *response.cert_status() == CertStatus::Good => {}
            other => panic!("{place} there is a bad response for {leaf:?}: {other:?}"),
        }
    }

    /// Insists that the bytes are a genuine response for some certificate of this site.
    pub(crate) fn assert_genuine_for_some(&self, response: &[u8], place: &Path) {
        let serials = |leaf: &&Identity| contains(response, &leaf.serial());
        let leaf = self.leaves.iter().find(serials).unwrap_or_else(|| panic!("{}: whose is it?", place.display()));
        self.assert_genuine(response, leaf, &place.display().to_string());
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn issue(issuing: &Identity, responder: &Responder, kind: &Kind, old: Option<&Identity>) -> Identity {
    let mut draft = issuing.leaf(kind.host).key(kind.key).ocsp(&responder.url());
    if kind.shape == Shape::Orphan {
        draft = draft.ca_issuers(&responder.file("/issuing.der", "application/pkix-cert", issuing.der()));
    }
    // An RSA key takes its time: a renewed certificate keeps it.
    let leaf = match old.filter(|_| kind.key == KeyKind::Rsa) {
        Some(old) => draft.issue_for(old.key().clone()),
        None => draft.issue(),
    };
    responder.register(&leaf, issuing);
    leaf
}

fn behaviour(mood: Mood) -> Behaviour {
    let hours = SignedDuration::from_hours;
    match mood {
        Mood::Down => Behaviour::Http(503, Vec::new(), b"down for maintenance\n".to_vec()),
        Mood::Silent => Behaviour::Hang,
        Mood::Slow => Behaviour::Delayed(Duration::from_millis(700), Box::new(Behaviour::Good)),
        Mood::Garbage => Behaviour::Bytes((0..=255).collect()),
        Mood::Html => {
            let html = ("Content-Type".to_owned(), "text/html".to_owned());
            Behaviour::Http(200, vec![html], b"<h1>It works!</h1>".to_vec())
        }
        Mood::TryLater => Behaviour::Refuses(OcspResponseStatus::TryLater),
        Mood::Unknown => Behaviour::Unknown,
        Mood::BrokenSignature => Behaviour::edited(|response| response.break_signature = true),
        Mood::Expired => Behaviour::GoodAt(now() - hours(48), hours(24)),
        Mood::Older => Behaviour::GoodAt(now() - hours(3), LIFETIME),
        // HAProxy serves it for less than a minute, and it is renewed before.
        Mood::ShortLived => Behaviour::GoodFor(SignedDuration::from_secs(350)),
    }
}
