//! The agent's loop under paused time: scripted CAs and a scripted HAProxy, a real disk, days in seconds. What it does
//! with real peers is in tests/main_job.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod politeness;
#[path = "../support/scripted_haproxy/mod.rs"]
mod scripted_haproxy;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haproxy_stapler::agent::{self, BlockingThreads, Cadence, JobFailed, Means, Peers, Reports, Until};
use haproxy_stapler::clock::{Clock, Monotonic};
use haproxy_stapler::metrics::Counters;
use haproxy_stapler::responder::caching::Caching;
use haproxy_stapler::responder::{Copies, Exchange, Fault, Reply, Responder};
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{CertificateStatus, Pulse, State, Status};
use jiff::{SignedDuration, Timestamp};
use scripted_haproxy::{ExtraFiles, ScriptedHaproxy, Speaker, Version};
use support::pki::Identity;
use support::response::{Response, revoked};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a CA does about one certificate.
#[derive(Clone)]
enum Mood {
    /// Signs anew at each request.
    Good(SignedDuration),
    /// Signed once, at this instant.
    GoodAt(Timestamp, SignedDuration),
    Revoked,
    Unknown,
    Down,
    Hangs,
    /// Wants to be left alone for so many seconds.
    Busy(u64),
    /// Good, but for a cache on the way that has what ended an hour ago and goes on giving it unless it is passed by.
    Behind,
    /// What was signed at this instant, with header fields. Says so with a 304 to whoever has it by its tag.
    Kept(Timestamp, SignedDuration, &'static [(&'static str, &'static str)]),
}

/// One request of the agent's.
#[derive(Clone)]
struct Asked {
    which: usize,
    host: String,
    at: Monotonic,
    copies: Copies,
    method: &'static str,
}

/// The CAs: a URL's first path segment says which certificate is meant.
#[derive(Clone)]
struct Cas {
    clock: Clock,
    leaves: Arc<Vec<Identity>>,
    moods: Arc<Mutex<Vec<Mood>>>,
    /// By certificate; for `b.test` a mood of its own, if it has one.
    other_moods: Arc<Mutex<BTreeMap<usize, Mood>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Responder for Cas {
    async fn send(&self, exchange: &Exchange, deadline: Duration) -> Result<Reply, Fault> {
        let url = &exchange.url;
        let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
        let which: usize = path.split('/').next().unwrap().parse().unwrap();
        let (at, copies, method) = (self.clock.now().monotonic, exchange.copies.clone(), exchange.method());
        self.asked.lock().unwrap().push(Asked { which, host: host.to_owned(), at, copies: copies.clone(), method });
        let other = self.other_moods.lock().unwrap().get(&which).cloned().filter(|_| host == "b.test");
        let mood = other.unwrap_or_else(|| self.moods.lock().unwrap()[which].clone());
        let (leaf, now) = (&self.leaves[which], self.clock.now().wall);
        let good = |at, lifetime| Response::good_at(leaf, leaf.issuer(), at, lifetime);
        let days = SignedDuration::from_hours(24);
        match mood {
            Mood::Good(lifetime) => Ok(good(now, lifetime).der().into()),
            Mood::GoodAt(at, lifetime) => Ok(good(at, lifetime).der().into()),
            Mood::Revoked => Ok(good(now, days).status(revoked(now)).der().into()),
            Mood::Unknown => Ok(good(now, days).status(x509_ocsp::CertStatus::unknown()).der().into()),
            Mood::Kept(at, lifetime, fields) => {
                let caching = Caching::read(|name| {
                    fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| (*value).to_owned()).collect()
                });
                match copies {
                    Copies::InHand(tag) if caching.tag.as_ref() == Some(&tag) => Ok(Reply::NotModified(caching)),
                    _ => Ok(Reply::Body(good(at, lifetime).der().into(), caching)),
                }
            }
            Mood::Behind if method == "GET" && copies != Copies::Unwanted => {
                let hour = SignedDuration::from_hours(1);
                Ok(good(now - days - hour, days).der().into())
            }
            Mood::Behind => Ok(good(now, days).der().into()),
            Mood::Busy(seconds) => {
                Err(Fault::Status { url: url.clone(), status: 503, retry_after: Some(Duration::from_secs(seconds)) })
            }
            Mood::Down => Err(Fault::Connect { url: url.clone(), reason: "refused".to_owned() }),
            Mood::Hangs => {
                tokio::time::sleep(deadline).await;
                Err(Fault::Timeout { url: url.clone(), deadline })
            }
        }
    }
}

/// An agent at work on some certificates.
struct Scene {
    directory: TempDir,
    cas: Cas,
    haproxy: ScriptedHaproxy,
    status: watch::Receiver<Arc<Status>>,
    shutdown: CancellationToken,
    agent: JoinHandle<Result<(), JobFailed>>,
    settings: Arc<Settings>,
}

impl Scene {
    fn new(certificates: usize) -> Self {
        Self::with_responders(certificates, &["ca.test"])
    }

    /// Each certificate names all of these responders.
    fn with_responders(certificates: usize, hosts: &[&str]) -> Self {
        Self::set_up(&vec![hosts; certificates], &[])
    }

    /// Each certificate names its own responders, and there are more settings.
    fn set_up(hosts: &[&[&str]], more: &[(&str, &str)]) -> Self {
        let certificates = hosts.len();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("certs")).unwrap();
        let ca = Identity::root("Loop CA");
        let leaves: Vec<Identity> = (0..certificates)
            .map(|which| {
                let leaf = ca.leaf(&format!("{which}.test"));
                hosts[which].iter().fold(leaf, |leaf, host| leaf.ocsp(&format!("http://{host}/{which}"))).issue()
            })
            .collect();
        let clock = Clock::anchored(support::now());
        // It reads no `.ocsp` files: what it has after a reload, it was told.
        let haproxy = ScriptedHaproxy::new(Version::V2_8, ExtraFiles::None, clock.clone());
        let mut paths = Vec::new();
        for (which, leaf) in leaves.iter().enumerate() {
            let path = directory.path().join(format!("certs/{which}.pem"));
            fs::write(&path, leaf.combined_pem()).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
        haproxy.configure(paths);
        haproxy.start(100).unwrap();
        let cas = Cas {
            clock,
            moods: Arc::new(Mutex::new(vec![Mood::Good(SignedDuration::from_hours(24)); certificates])),
            leaves: Arc::new(leaves),
            other_moods: Arc::default(),
            asked: Arc::default(),
        };
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let settings = [
            ("STAPLER_CERTS".to_owned(), path("certs")),
            ("STAPLER_STATE_DIR".to_owned(), path("state")),
            ("STAPLER_SOCKETS".to_owned(), "/fake.sock".to_owned()),
        ];
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::parse(settings.into_iter().chain(more));
        let settings = Arc::new(settings.unwrap().settings);
        let (agent, status, shutdown) = start(&settings, &cas, &haproxy);
        Self { directory, cas, haproxy, status, shutdown, agent, settings }
    }

    /// The same disk and the same peers, another process.
    async fn restart(&mut self) {
        self.shutdown.cancel();
        (&mut self.agent).await.unwrap().unwrap();
        (self.agent, self.status, self.shutdown) = start(&self.settings, &self.cas, &self.haproxy);
    }

    /// HAProxy is a new process, which has forgotten everything it was told.
    fn reload(&self) {
        self.haproxy.start(self.haproxy.next_pid()).unwrap();
    }

    /// Somebody else opens a transaction on a certificate.
    fn open_transaction(&self, which: usize) {
        let request = format!("set ssl cert {} <<\n{}\n", self.name(which), self.cas.leaves[which].combined_pem());
        let reply = self.haproxy.command(Speaker::Stranger, &request).unwrap();
        assert!(reply.starts_with("Transaction created"), "{reply}");
    }

    fn abort_transaction(&self, which: usize) {
        let reply = self.haproxy.command(Speaker::Stranger, &format!("abort ssl cert {}\n", self.name(which))).unwrap();
        assert!(reply.starts_with("Transaction aborted"), "{reply}");
    }

    fn set(&self, which: usize, mood: Mood) {
        self.cas.moods.lock().unwrap()[which] = mood;
    }

    fn name(&self, which: usize) -> String {
        self.directory.path().join(format!("certs/{which}.pem")).to_str().unwrap().to_owned()
    }

    fn staple(&self, which: usize) -> Option<Vec<u8>> {
        self.haproxy.staple(&self.name(which)).map(|der| der.to_vec())
    }

    fn file(&self, which: usize) -> Option<Vec<u8>> {
        fs::read(format!("{}.ocsp", self.name(which))).ok()
    }

    fn asked(&self, which: usize) -> Vec<Monotonic> {
        self.cas.asked.lock().unwrap().iter().filter(|asked| asked.which == which).map(|asked| asked.at).collect()
    }

    fn certificate(&self, which: usize) -> Arc<CertificateStatus> {
        let status = self.status.borrow().clone();
        status.certificates.iter().find(|each| *each.certificate == *self.name(which)).unwrap().clone()
    }

    fn state(&self, which: usize) -> State {
        self.certificate(which).state
    }

    /// Lets virtual time pass until a state is reached; says how long it took.
    async fn until(&self, which: usize, state: State) -> Duration {
        let start = self.cas.clock.now().monotonic;
        let mut status = self.status.clone();
        let reached = |status: &Arc<Status>| {
            let name = self.name(which);
            status.certificates.iter().any(|each| *each.certificate == *name && each.state == state)
        };
        let waited = tokio::time::timeout(HOUR, status.wait_for(reached)).await;
        assert!(waited.is_ok(), "never {state:?}: {:#?}", self.certificate(which));
        self.cas.clock.now().monotonic.since(start)
    }
}

fn start(
    settings: &Arc<Settings>,
    cas: &Cas,
    haproxy: &ScriptedHaproxy,
) -> (JoinHandle<Result<(), JobFailed>>, watch::Receiver<Arc<Status>>, CancellationToken) {
    let shutdown = CancellationToken::new();
    let reports = Reports {
        status: watch::Sender::new(Arc::new(Status::default())),
        counters: Arc::new(Counters::new().unwrap()),
        pulse: Arc::new(Pulse::new(settings.scan_interval)),
    };
    let status = reports.status.subscribe();
    let peers = Peers { responder: cas.clone(), haproxies: vec![haproxy.clone()] };
    let means = Means { clock: cas.clock.clone(), cadence: Cadence::default(), threads: BlockingThreads };
    let agent = tokio::spawn(agent::run(settings.clone(), means, peers, reports, Until::Stopped, shutdown.clone()));
    (agent, status, shutdown)
}

#[tokio::test(start_paused = true)]
async fn a_staple_is_fetched_once_and_refreshed_in_the_eighth_after_half_of_its_life() {
    let scene = Scene::new(1);
    let took = scene.until(0, State::Stapled).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    tokio::time::sleep(12 * HOUR - MINUTE).await;
    assert_eq!(scene.asked(0).len(), 1, "nothing is fetched twice while fresh");
    let first = scene.staple(0).unwrap();
    tokio::time::sleep(3 * HOUR + 2 * MINUTE).await;
    assert_eq!(scene.asked(0).len(), 2);
    assert_ne!(scene.staple(0).unwrap(), first);
    assert_eq!(scene.file(0), scene.staple(0));
}

#[tokio::test(start_paused = true)]
async fn three_days_pass_without_a_moment_unstapled_and_with_two_requests_a_day() {
    let scene = Scene::new(2);
    scene.until(0, State::Stapled).await;
    scene.until(1, State::Stapled).await;
    for _ in 0..3 * 24 * 4 {
        tokio::time::sleep(15 * MINUTE).await;
        let now = scene.cas.clock.now().wall;
        for which in [0, 1] {
            let certificate = scene.certificate(which);
            assert_eq!(certificate.state, State::Stapled);
            assert!(certificate.served[0].next_update > now + SignedDuration::from_mins(5));
        }
    }
    for which in [0, 1] {
        let asked = scene.asked(which).len();
        assert!((5..=7).contains(&asked), "{asked} requests in three days");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_noticed_within_two_seconds_and_mended_from_memory_within_two_more() {
    let scene = Scene::new(3);
    for which in 0..3 {
        scene.until(which, State::Stapled).await;
    }
    scene.reload();
    tokio::time::sleep(Duration::from_secs(4)).await;
    for which in 0..3 {
        assert!(scene.staple(which).is_some());
        assert_eq!(scene.asked(which).len(), 1);
    }
    assert_eq!(scene.status.borrow().haproxy[0].reloads, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_to_haproxy_without_need() {
    let mut scene = Scene::new(2);
    scene.until(0, State::Stapled).await;
    scene.until(1, State::Stapled).await;
    assert_eq!(scene.haproxy.writes(), 2);
    tokio::time::sleep(3 * HOUR).await;
    scene.restart().await;
    scene.until(0, State::Stapled).await;
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(scene.haproxy.writes(), 2, "neither looks, read-backs nor a restart of ours write");
    assert_eq!(scene.asked(0).len(), 1, "a warm start asks nobody");
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_nothing_until_the_staple_ends_and_is_said() {
    let scene = Scene::new(1);
    scene.until(0, State::Stapled).await;
    let since = |scene: &Scene| scene.certificate(0).state_since.unwrap();
    let stapled = since(&scene);
    let held = scene.staple(0).unwrap();
    scene.set(0, Mood::Down);
    tokio::time::sleep(11 * HOUR).await;
    assert_eq!((scene.state(0), since(&scene)), (State::Stapled, stapled));
    tokio::time::sleep(9 * HOUR).await;
    assert_eq!(scene.state(0), State::RefreshFailing);
    let failing = since(&scene);
    assert!(failing > stapled + SignedDuration::from_hours(11), "{failing}");
    assert_eq!(scene.staple(0).unwrap(), held);
    tokio::time::sleep(HOUR).await;
    assert_eq!(since(&scene), failing, "however often the CA was asked in vain meanwhile");
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(scene.state(0), State::Unstapled);
    assert!(since(&scene) > failing);
    assert_eq!(scene.file(0), None, "an expired file would be a warning at HAProxy's next start, or no start at all");
    scene.set(0, Mood::Good(SignedDuration::from_hours(24)));
    let back = scene.until(0, State::Stapled).await;
    assert!(back <= 5 * MINUTE, "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_fifteen_seconds_is_over_within_thirty() {
    let scene = Scene::new(1);
    scene.set(0, Mood::Down);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(scene.staple(0).is_none());
    scene.set(0, Mood::Good(SignedDuration::from_hours(24)));
    let took = scene.until(0, State::Stapled).await;
    assert!(took <= Duration::from_secs(15), "{took:?} after the fault");
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_hangs_delays_nobody_else_and_is_not_hammered() {
    let scene = Scene::new(3);
    scene.set(1, Mood::Hangs);
    assert!(scene.until(0, State::Stapled).await < Duration::from_secs(1));
    assert!(scene.until(2, State::Stapled).await < Duration::from_secs(1));
    tokio::time::sleep(HOUR).await;
    assert_eq!(scene.state(1), State::Unstapled);
    let asked = scene.asked(1);
    for at in &asked {
        let within = asked.iter().filter(|other| *other >= at && **other < at.after(MINUTE)).count();
        assert!(within <= 6, "{within} requests in a minute");
    }
    assert!(asked.len() < 25, "{} requests in an hour", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_served_staple_is_never_replaced_by_a_worse_one() {
    let scene = Scene::new(1);
    scene.until(0, State::Stapled).await;
    let held = scene.staple(0).unwrap();
    let started = scene.cas.clock.now().wall;
    let day = SignedDuration::from_hours(24);
    scene.set(0, Mood::GoodAt(started - SignedDuration::from_hours(2), day));
    tokio::time::sleep(16 * HOUR).await;
    assert_eq!(scene.staple(0).unwrap(), held, "an older thisUpdate");
    scene.set(0, Mood::Unknown);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!((scene.staple(0).unwrap(), scene.state(0)), (held.clone(), State::Unknown));
    scene.set(0, Mood::Good(SignedDuration::from_secs(299)));
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(scene.staple(0).unwrap(), held, "299 s to live");
    assert_eq!(scene.file(0).unwrap(), held);
    scene.set(0, Mood::Revoked);
    scene.until(0, State::Revoked).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(scene.staple(0).unwrap(), held, "the one exception");
}

#[tokio::test(start_paused = true)]
async fn a_haproxy_that_goes_away_and_comes_back_is_served_from_memory() {
    let scene = Scene::new(1);
    scene.until(0, State::Stapled).await;
    scene.haproxy.stop();
    tokio::time::sleep(MINUTE).await;
    let haproxy = scene.status.borrow().haproxy[0].clone();
    assert_eq!((haproxy.up, haproxy.trouble.unwrap().kind), (Some(false), "not_found"));
    scene.reload();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(scene.staple(0).is_some());
    assert_eq!(scene.asked(0).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_transaction_of_somebody_else_is_waited_for_and_not_longer() {
    let scene = Scene::new(2);
    scene.until(0, State::Stapled).await;
    scene.until(1, State::Stapled).await;
    // Whatever pause has come to when it ends.
    for minutes in 1..=5 {
        scene.reload();
        scene.open_transaction(1);
        tokio::time::sleep(minutes * MINUTE + Duration::from_secs(u64::from(7 * minutes))).await;
        assert!(scene.staple(0).is_none() && scene.staple(1).is_none());
        scene.abort_transaction(1);
        // HAProxy's certificates are looked at every ten seconds.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!(scene.staple(0).is_some() && scene.staple(1).is_some(), "{minutes} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_ca_sends_while_the_staple_before_it_is_being_installed_follows_at_once() {
    let mut scene = Scene::new(1);
    let week = SignedDuration::from_hours(7 * 24);
    scene.set(0, Mood::GoodAt(scene.cas.clock.now().wall - week * 16 / 25, week));
    scene.until(0, State::Stapled).await;
    // Its refresh is due at the next start, and HAProxy takes its time over what was kept.
    scene.set(0, Mood::Good(week));
    scene.reload();
    scene.haproxy.set_latency(Duration::from_millis(500));
    let aged = scene.file(0);
    scene.restart().await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(scene.asked(0).len(), 2);
    assert!(scene.staple(0).is_some() && scene.staple(0) != aged && scene.file(0) == scene.staple(0));
}

#[tokio::test(start_paused = true)]
async fn what_expired_in_haproxy_is_still_told() {
    let scene = Scene::new(1);
    scene.until(0, State::Stapled).await;
    let held = scene.certificate(0).served.clone();
    scene.set(0, Mood::Down);
    tokio::time::sleep(23 * HOUR + HOUR / 2).await;
    scene.until(0, State::Unstapled).await;
    // An alarm looks at when it ended: a series that goes at that moment would never raise it.
    for _ in 0..3 {
        let certificate = scene.certificate(0);
        assert!(certificate.served.is_empty());
        assert_eq!(certificate.expired, held);
        assert_eq!(scene.status.borrow().min_next_update(), Some(held[0].next_update));
        tokio::time::sleep(HOUR).await;
    }
    // Another process has never heard of it.
    scene.reload();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(scene.certificate(0).expired, []);
    scene.set(0, Mood::Good(SignedDuration::from_hours(24)));
    scene.until(0, State::Stapled).await;
    assert_eq!(scene.certificate(0).expired, []);
}
