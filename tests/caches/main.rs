//! A fleet behind a cache that it shares: the shipped configurations on real servers, and a CA that counts. And a fleet
//! on one state directory.
//!
//! `SIDECARS=50 CERTIFICATES=200 cargo test --test caches costs -- --nocapture` counts a larger one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod cache;
mod shared_state;
#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use cache::{Cache, HOST, Kind, Way};
use jiff::SignedDuration;
use support::PATIENCE;
use support::pki::Identity;
use support::responder::{Behaviour, Responder};
use support::stapler::{Builder, Reply};
use support::wait_for;
use tempfile::TempDir;
use x509_ocsp::OcspResponseStatus;

/// In `cargo test`.
const SIDECARS: usize = 8;
const CERTIFICATES: usize = 10;

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// A CA whose certificates say that it answers at [`HOST`], which no resolver knows.
struct Authority {
    responder: Responder,
    root: Identity,
    leaves: Vec<Identity>,
}

impl Authority {
    fn new(certificates: usize) -> Self {
        let (responder, root) = (Responder::start(), Identity::root("Fleet Root"));
        let leaves = (0..certificates).map(|number| root.leaf(&format!("{number}.fleet.test")));
        let leaves: Vec<Identity> = leaves.map(|leaf| leaf.ocsp(&format!("http://{HOST}")).issue()).collect();
        for leaf in &leaves {
            responder.register(leaf, &root);
        }
        Self { responder, root, leaves }
    }

    /// What was asked, by method.
    fn asked(&self, method: &str) -> usize {
        self.responder.received().iter().filter(|received| received.method == *method).count()
    }
}

/// One sidecar with certificates and a state directory of its own.
struct Sidecar {
    certs: TempDir,
    program: Builder,
}

impl Sidecar {
    fn new(leaves: &[Identity]) -> Self {
        let certs = TempDir::new().unwrap();
        for (number, leaf) in leaves.iter().enumerate() {
            std::fs::write(certs.path().join(format!("{number}.pem")), leaf.combined_pem()).unwrap();
        }
        let program = site::plain().env("STAPLER_CERTS", certs.path()).env("STAPLER_TIMEOUT", "9s");
        Self { certs, program }
    }

    fn behind(mut self, cache: &Cache, way: Way) -> Self {
        self.program = cache.lead(way, self.program);
        self
    }

    /// Before HAProxy starts.
    fn prepare(&self) -> Output {
        self.program.run(&["prepare", "--strict", "--deadline", "30s"])
    }

    /// Its staples, by certificate.
    fn staples(&self) -> Vec<Option<Vec<u8>>> {
        let path = |number: usize| self.certs.path().join(format!("{number}.pem.ocsp"));
        (0..).map(path).zip(certificates(self.certs.path())).map(|(path, _)| std::fs::read(path).ok()).collect()
    }
}

fn certificates(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect()
}

/// All of a fleet, on empty state directories, so many at once as this machine runs well.
fn fleet(authority: &Authority, cache: &Cache, way: Way, sidecars: usize) -> Vec<Sidecar> {
    let fleet: Vec<Sidecar> = (0..sidecars).map(|_| Sidecar::new(&authority.leaves).behind(cache, way)).collect();
    std::thread::scope(|scope| {
        for some in fleet.chunks(SIDECARS) {
            let runs: Vec<_> = some.iter().map(|sidecar| scope.spawn(|| sidecar.prepare())).collect();
            for run in runs {
                let output = run.join().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    });
    fleet
}

/// The path of a GET that asks about a certificate.
fn path_about(leaf: &Identity, authority: &Authority) -> String {
    let certificate = haproxy_stapler::certificate::Certificate::from_der(leaf.der()).unwrap();
    let issuer = haproxy_stapler::certificate::Certificate::from_der(authority.root.der()).unwrap();
    let request = haproxy_stapler::ocsp::Request::new(&certificate, &issuer).unwrap();
    let url = request.get_url("http://host").unwrap();
    url.strip_prefix("http://host").unwrap().to_owned()
}

fn each(mut test: impl FnMut(Kind, Way)) {
    for kind in Kind::ALL {
        for way in Way::ALL {
            test(kind, way);
        }
    }
}

fn cache_status(reply: &Reply) -> Option<&str> {
    reply.headers.iter().find_map(|line| line.strip_prefix("X-Cache-Status: "))
}

#[test]
fn both_servers_take_the_configurations_as_they_are_shipped() {
    Kind::ALL.into_iter().for_each(cache::accepted_as_shipped);
}

#[test]
fn a_fleet_costs_the_ca_one_request_for_each_certificate() {
    let sidecars = number("SIDECARS").unwrap_or(SIDECARS);
    let certificates = number("CERTIFICATES").unwrap_or(CERTIFICATES);
    for fields in [&[("cache-control", "public, max-age=3600"), ("set-cookie", "cdn=1")][..], &[]] {
        each(|kind, way| {
            let authority = Authority::new(certificates);
            let signs = fields.iter().fold(Behaviour::Good, |signs, (name, value)| signs.with(name, value));
            // Slow enough that they all ask before the first is answered.
            authority.responder.set_all(&Behaviour::Delayed(Duration::from_millis(300), Box::new(signs)));
            let cache = Cache::start(kind, authority.responder.address());
            let first = fleet(&authority, &cache, way, sidecars);
            let later = fleet(&authority, &cache, way, 1);
            let staples = first[0].staples();
            assert!(staples.len() == certificates && staples.iter().all(Option::is_some));
            assert!(first.iter().chain(&later).all(|sidecar| sidecar.staples() == staples), "all have the same");
            assert_eq!(
                (authority.asked("GET"), authority.asked("POST")),
                (certificates, 0),
                "{kind:?} {way:?} {fields:?}"
            );
            for leaf in &authority.leaves {
                assert_eq!(authority.responder.requests(leaf), 1);
            }
            let requests = authority.responder.total_requests();
            println!("{kind:?} as {way:?}: {sidecars} sidecars, {certificates} certificates, {requests} requests");
        });
    }
}

#[test]
fn a_renewal_comes_through_when_the_kept_one_ends() {
    each(|kind, way| {
        let authority = Authority::new(3);
        authority.responder.set_all(&Behaviour::Good.with("cache-control", "max-age=2"));
        let cache = Cache::start(kind, authority.responder.address());
        let old = fleet(&authority, &cache, way, 2)[0].staples();
        // While an old one is being renewed, one request may be given it still.
        let new = wait_for("the next response", PATIENCE, || {
            let new = fleet(&authority, &cache, way, 1)[0].staples();
            let all = new.iter().zip(&old).all(|(new, old)| new != old);
            all.then_some(new)
        });
        assert!(new.iter().all(Option::is_some));
        assert_eq!(authority.asked("POST"), 0);
    });
}

#[test]
fn what_is_too_old_is_passed_by_and_replaced_for_all() {
    each(|kind, way| {
        let authority = Authority::new(1);
        authority.responder.set_all(&Behaviour::Good.with("cache-control", "max-age=3600"));
        let cache = Cache::start(kind, authority.responder.address());
        let path = path_about(&authority.leaves[0], &authority);
        let ask = |field: &str| cache.ask(way, "GET", HOST, &path, field);
        let first = ask("");
        assert_eq!((first.status, cache_status(&first)), (200, Some("MISS")));
        let kept = ask("");
        assert_eq!((cache_status(&kept), &kept.body), (Some("HIT"), &first.body));
        let fresh = ask("Cache-Control: no-cache\r\n");
        assert_ne!(fresh.body, first.body, "the CA signs anew for every request");
        assert_eq!(ask("").body, fresh.body, "and now everybody has that");
        assert_eq!(authority.asked("GET"), 2);
    });
}

#[test]
fn a_post_goes_through_and_errors_are_not_kept() {
    each(|kind, way| {
        let authority = Authority::new(2);
        let refuses = Behaviour::Http(405, Vec::new(), Vec::new());
        let posts_only = Behaviour::ByMethod(Box::new(refuses), Box::new(Behaviour::Good));
        authority.responder.set(&authority.leaves[0], posts_only);
        let try_later = Behaviour::Refuses(OcspResponseStatus::TryLater);
        authority.responder.set(&authority.leaves[1], Behaviour::First(Box::new(try_later), Box::new(Behaviour::Good)));
        let cache = Cache::start(kind, authority.responder.address());
        let path = path_about(&authority.leaves[1], &authority);
        assert!(cache.ask(way, "GET", HOST, &path, "").body.len() < 10, "tryLater");
        fleet(&authority, &cache, way, 2);
        assert_eq!(authority.asked("POST"), 2, "one a sidecar for the one that wants it");
        assert_eq!(authority.responder.requests(&authority.leaves[1]), 2);
    });
}

#[test]
fn nobody_else_is_asked_through_it() {
    let authority = Authority::new(1);
    let elsewhere = authority.responder.address().to_string();
    each(|kind, way| {
        let cache = Cache::start(kind, authority.responder.address());
        let path = path_about(&authority.leaves[0], &authority);
        for host in ["other.example", "127.0.0.1", elsewhere.as_str(), "169.254.169.254", "localhost"] {
            let reply = cache.ask(way, "GET", host, &path, "");
            assert!(matches!(reply.status, 403 | 404), "{kind:?} {way:?} {host}: {}", reply.status);
        }
        for method in ["PUT", "DELETE", "PURGE"] {
            assert!(cache.ask(way, method, HOST, &path, "Content-Length: 0\r\n").status >= 400, "{method}");
        }
    });
    assert_eq!(authority.responder.total_requests(), 0);
    // Nor is it a tunnel.
    for kind in Kind::ALL {
        let cache = Cache::start(kind, authority.responder.address());
        assert!(cache.ask(Way::Proxy, "CONNECT", &elsewhere, "", "").status >= 400);
    }
    assert_eq!(authority.responder.total_requests(), 0);
}

#[test]
fn a_cache_that_is_down_costs_what_goes_through_it_and_nothing_else() {
    for kind in Kind::ALL {
        let authority = Authority::new(2);
        let direct = site::Authority::start();
        let other = direct.leaf("direct.test");
        let mut cache = Cache::start(kind, authority.responder.address());
        let sidecar = Sidecar::new(&[authority.leaves[0].clone(), authority.leaves[1].clone(), other]);
        let sidecar = sidecar.behind(&cache, Way::Responder);
        cache.stop();
        assert_eq!(sidecar.prepare().status.code(), Some(1));
        let staples = sidecar.staples();
        assert!(staples[0].is_none() && staples[1].is_none() && staples[2].is_some());
        cache.start_again();
        assert!(sidecar.prepare().status.success());
        assert!(sidecar.staples().iter().all(Option::is_some));
    }
}

#[test]
fn a_ca_that_is_down_is_told_so_through_the_cache() {
    each(|kind, way| {
        let authority = Authority::new(1);
        authority.responder.set_all(&Behaviour::Good.with("cache-control", "max-age=1"));
        let cache = Cache::start(kind, authority.responder.address());
        let path = path_about(&authority.leaves[0], &authority);
        assert_eq!(cache.ask(way, "GET", HOST, &path, "").status, 200);
        let busy = Behaviour::Http(503, vec![("retry-after".to_owned(), "77".to_owned())], Vec::new());
        authority.responder.set_all(&busy);
        // Varnish gives what it has for ten seconds more.
        let reply = wait_for("the CA's own word", PATIENCE, || {
            std::thread::sleep(Duration::from_millis(500));
            Some(cache.ask(way, "GET", HOST, &path, "")).filter(|reply| reply.status != 200)
        });
        assert_eq!(reply.status, 503);
        let says = |line: &String| line.eq_ignore_ascii_case("retry-after: 77");
        assert!(reply.headers.iter().any(says), "{kind:?} {way:?}: {:?}", reply.headers);
        let hour = SignedDuration::from_hours(1);
        authority.responder.set_all(&Behaviour::GoodFor(hour));
        assert_eq!(cache.ask(way, "GET", HOST, &path, "").status, 200, "and nothing of it is kept");
    });
}
