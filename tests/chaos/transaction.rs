//! Somebody else's transactions: opened, held and ended with the care that HAProxy's one transaction for everybody asks
//! of everybody, and watched all the while.

use std::time::{Duration, Instant};

use openssl::base64::encode_block;

use super::plan::Content;
use super::site::{CERTIFICATES, Shape, Site};
use super::support::pki::Identity;
use super::support::response::Response;
use super::support::{PATIENCE, wait_for};

/// An open transaction that is not the program's.
pub(crate) struct Transaction {
    certificate: usize,
    /// What HAProxy calls it: in 2.2, that of both halves of a pair.
    name: String,
    put: Put,
    /// What HAProxy said of its content when it was opened, where it says anything.
    shown: String,
    until: Instant,
    pub(crate) steps: usize,
    commit: bool,
}

enum Put {
    Certificate(Identity),
    Issuer,
    Response(Vec<u8>),
}

/// How long and to what end it is held.
#[derive(Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) time: Duration,
    pub(crate) steps: usize,
    pub(crate) commit: bool,
}

/// Opens one; none if HAProxy does not have the certificate.
pub(crate) fn open(site: &mut Site, certificate: usize, content: Content, holding: Holding) -> Option<Transaction> {
    let running = site.now[certificate].running.clone()?;
    let chained = CERTIFICATES[certificate].shape == Shape::Chained;
    let put = match content {
        // Without its issuer, HAProxy would not commit it.
        Content::Response if chained => Put::Response(Response::good(&running, site.issuing()).der()),
        Content::Certificate | Content::Response => Put::Certificate(site.renew(certificate)),
        Content::Issuer => Put::Issuer,
    };
    let name = begin(site, certificate, &put);
    let shown = content_of(site, &name);
    let until = Instant::now() + holding.time;
    Some(Transaction { certificate, name, put, shown, until, steps: holding.steps, commit: holding.commit })
}

/// Replaces a certificate at run time, all at once.
pub(crate) fn replace(site: &mut Site, certificate: usize, leaf: &Identity) {
    let name = begin(site, certificate, &Put::Certificate(leaf.clone()));
    succeed(site, &name);
    site.now[certificate].running = Some(leaf.clone());
    assert_eq!(site.leaf(&site.shown(certificate).certificate).serial(), leaf.serial(), "rotated at run time");
}

/// One command to HAProxy, again while it works on another certificate.
fn ask(site: &Site, command: &str) -> String {
    wait_for("certificates to be unlocked", PATIENCE, || {
        Some(site.haproxy.command(command)).filter(|reply| !reply.contains("currently locked"))
    })
}

/// Opens a transaction as soon as there is room for one.
fn begin(site: &Site, certificate: usize, put: &Put) -> String {
    let path = site.path(certificate).display().to_string();
    let (suffix, payload) = match put {
        Put::Certificate(leaf) => ("", CERTIFICATES[certificate].pem(leaf)),
        Put::Issuer => (".issuer", site.issuing().pem()),
        Put::Response(der) => (".ocsp", format!("{}\n", encode_block(der))),
    };
    let start = Instant::now();
    loop {
        // The program's own are over within a moment.
        if let Some(name) = open_transaction(site) {
            assert!(start.elapsed() < PATIENCE, "a transaction on {name} stays open, and nobody knows whose it is");
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let reply = ask(site, &format!("set ssl cert {path}{suffix} <<\n{payload}"));
        if let Some(name) = reply.trim().strip_prefix("Transaction created for certificate ") {
            return name.strip_suffix('!').unwrap().to_owned();
        }
        // In the moment between, the program opened one of its own.
        assert!(reply.contains("The ongoing transaction is about"), "set ssl cert {path}{suffix}: {reply}");
    }
}

/// The certificate that HAProxy's transaction is about, if there is one.
pub(crate) fn open_transaction(site: &Site) -> Option<String> {
    let listing = ask(site, "show ssl cert");
    let name = listing.lines().skip_while(|line| *line != "# transaction").nth(1)?.strip_prefix('*')?;
    // HAProxy 2.2 lists the halves of a pair as well.
    Some(name.split(": ").next().unwrap_or(name).to_owned())
}

/// Ends whatever transaction is open, as a person would who knows that nobody needs it.
pub(crate) fn abort_whatever_is_open(site: &Site) {
    if let Some(name) = open_transaction(site) {
        ask(site, &format!("abort ssl cert {name}"));
    }
}

/// What HAProxy shows of the open transaction.
fn content_of(site: &Site, name: &str) -> String {
    ask(site, &format!("show ssl cert *{name}"))
}

fn succeed(site: &Site, name: &str) {
    let reply = ask(site, &format!("commit ssl cert {name}"));
    assert!(reply.trim_end().ends_with("Success!"), "commit ssl cert {name}: {reply}");
}

impl Transaction {
    /// Insists that nobody ended or changed it.
    pub(crate) fn assert_untouched(&self, site: &Site) {
        assert_eq!(open_transaction(site).as_ref(), Some(&self.name), "somebody ended a transaction of somebody else");
        assert_eq!(content_of(site, &self.name), self.shown, "somebody changed a transaction of somebody else");
    }

    /// Its owner ends it, and it comes to what its owner meant.
    pub(crate) fn end(self, site: &mut Site) {
        std::thread::sleep(self.until.saturating_duration_since(Instant::now()));
        self.assert_untouched(site);
        let before = site.shown(self.certificate).certificate;
        if !self.commit {
            let reply = ask(site, &format!("abort ssl cert {}", self.name));
            assert!(reply.contains("Transaction aborted for certificate"), "{reply}");
            assert_eq!(site.shown(self.certificate).certificate, before, "an aborted transaction changed something");
            return;
        }
        succeed(site, &self.name);
        let shown = site.shown(self.certificate);
        match self.put {
            Put::Issuer => assert_eq!(shown.certificate, before),
            Put::Response(response) => assert_eq!(shown.staple, Some(response), "the owner's response"),
            Put::Certificate(leaf) => {
                assert_eq!(shown.certificate, leaf.der(), "the owner's certificate");
                // Whoever replaces a certificate at run time wants it to be there after a restart, too.
                site.write(self.certificate, &leaf);
                site.now[self.certificate].running = Some(leaf);
            }
        }
    }
}
