//! The program is killed in the middle of a transaction, which HAProxy then keeps open for everybody.

use std::time::Instant;

use super::recorder::{Hold, Recorder};
use super::support::haproxy::{Haproxy, is_before};
use super::support::pki::Identity;
use super::support::stapler::Stapler;
use super::support::{PATIENCE, wait_for};
use super::{Ca, assert_accepted, listing, say, staple, stapler_for, wait_for_staple, wait_for_state};

/// The certificate whose transaction is open.
fn open_transaction(haproxy: &Haproxy) -> Option<String> {
    let listing = haproxy.command("show ssl cert");
    let mut lines = listing.lines().skip_while(|line| *line != "# transaction").skip(1);
    lines.next().and_then(|line| line.strip_prefix('*')).map(str::to_owned)
}

fn name(haproxy: &Haproxy, file: &str) -> String {
    haproxy.certificate(file).display().to_string()
}

/// What stays behind of a program that was killed at such a moment: HAProxy with an open transaction on site.pem.
struct Wreck {
    ca: Ca,
    site: Identity,
    haproxy: Haproxy,
    recorder: Recorder,
    stapler: Stapler,
}

impl Wreck {
    fn new(hold: Hold) -> Self {
        let ca = Ca::new();
        // The one whose issuer HAProxy is told needs two steps.
        let site = ca.orphan("site.test");
        let other = Identity::root("Other Root").leaf("other.test").issue();
        let haproxy =
            Haproxy::builder().file("site.pem", site.chainless_pem()).file("other.pem", other.combined_pem()).start();
        let recorder = Recorder::start(&haproxy.socket());
        recorder.hold(Some(hold));
        let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_SOCKETS", recorder.socket()).start();
        wait_for("the moment to kill", PATIENCE, || (recorder.held() > 0).then_some(()));
        stapler.process().kill();
        assert_eq!(open_transaction(&haproxy), Some(name(&haproxy, "site.pem")), "{hold:?}");
        assert_eq!(journals(&stapler).len(), 1, "it was written down");
        recorder.hold(None);
        Self { ca, site, haproxy, recorder, stapler }
    }

    fn aborts(&self) -> usize {
        self.recorder.writes().iter().filter(|command| command.starts_with("abort ")).count()
    }

    /// Ends the transaction as a person would.
    fn abort_by_hand(&self) {
        let reply = self.haproxy.command(&format!("abort ssl cert {}", name(&self.haproxy, "site.pem")));
        assert!(reply.contains("Transaction aborted"), "{reply}");
    }

    /// Starts the program again and sees that it neither commits nor aborts what is open.
    fn leaves_alone(&mut self) {
        let open = open_transaction(&self.haproxy);
        assert!(open.is_some());
        let commits =
            |recorder: &Recorder| recorder.writes().iter().filter(|command| command.starts_with("commit ")).count();
        let before = commits(&self.recorder);
        self.stapler.start_again();
        let entry = wait_for_state(&mut self.stapler, "site.pem", "unstapled");
        assert_eq!(entry["trouble"]["kind"], "busy", "{entry:#}");
        // Some surveys later.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(open_transaction(&self.haproxy), open);
        assert_eq!((self.aborts(), commits(&self.recorder)), (0, before));
        assert_eq!(said(&self.stapler), 0);
    }
}

fn said(stapler: &Stapler) -> usize {
    stapler.log().lines().filter(|line| line.contains("left when it was killed is aborted")).count()
}

fn journals(stapler: &Stapler) -> Vec<String> {
    listing(&stapler.state_dir()).into_iter().filter(|name| name.ends_with(".journal")).collect()
}

fn the_next_start_aborts_it(hold: Hold) {
    let mut wreck = Wreck::new(hold);
    let start = Instant::now();
    wreck.stapler.start_again();
    wait_for_staple(&wreck.haproxy, &wreck.site);
    say(&format!("stapled by the next start after a kill, {hold:?}"), start.elapsed());
    wait_for_state(&mut wreck.stapler, "site.pem", "stapled");
    assert_eq!((wreck.aborts(), said(&wreck.stapler)), (1, 1), "{}", wreck.stapler.log());
    assert_eq!(open_transaction(&wreck.haproxy), None);
    wait_for("the journal to go", PATIENCE, || journals(&wreck.stapler).is_empty().then_some(()));
}

#[test]
fn a_kill_after_the_first_step() {
    the_next_start_aborts_it(Hold::Reply("set ssl cert "));
}

#[test]
fn a_kill_before_the_commit() {
    let hold = Hold::Command("commit ssl cert ");
    if is_before(&Haproxy::builder().version(), 2, 4) {
        // There, HAProxy keeps a transaction whose commit failed, and crashes when it is aborted. What was sent may have
        // failed, so it is not ours to abort any more, and no journal says so.
        let ca = Ca::new();
        let site = ca.leaf("site.test");
        let haproxy = Haproxy::builder().file("site.pem", site.combined_pem()).start();
        let recorder = Recorder::start(&haproxy.socket());
        recorder.hold(Some(hold));
        let mut stapler = stapler_for(&[&haproxy]).env("STAPLER_SOCKETS", recorder.socket()).start();
        wait_for("the moment to kill", PATIENCE, || (recorder.held() > 0).then_some(()));
        stapler.process().kill();
        assert_eq!(journals(&stapler), Vec::<String>::new());
        recorder.hold(None);
        Wreck { ca, site, haproxy, recorder, stapler }.leaves_alone();
    } else {
        the_next_start_aborts_it(hold);
    }
}

#[test]
fn a_strangers_transaction_on_another_certificate_stays() {
    let mut wreck = Wreck::new(Hold::Reply("set ssl cert "));
    wreck.abort_by_hand();
    let other = name(&wreck.haproxy, "other.pem");
    let pem = std::fs::read_to_string(&other).unwrap();
    let reply = wreck.haproxy.command(&format!("set ssl cert {other} <<\n{pem}"));
    assert!(reply.contains("Transaction created"), "{reply}");
    wreck.leaves_alone();
    assert_eq!(journals(&wreck.stapler), Vec::<String>::new());
    let reply = wreck.haproxy.command(&format!("commit ssl cert {other}"));
    assert!(reply.contains("Success!"), "{reply}");
    wait_for_staple(&wreck.haproxy, &wreck.site);
}

fn a_strangers_renewal_stays(begin: impl FnOnce(&Wreck)) {
    let mut wreck = Wreck::new(Hold::Reply("set ssl cert "));
    begin(&wreck);
    let site = name(&wreck.haproxy, "site.pem");
    let renewed = wreck.ca.leaf("site.test");
    let reply = wreck.haproxy.command(&format!("set ssl cert {site} <<\n{}", renewed.combined_pem()));
    assert!(reply.contains("Transaction "), "{reply}");
    wreck.leaves_alone();
    std::fs::write(&site, renewed.combined_pem()).unwrap();
    let reply = wreck.haproxy.command(&format!("commit ssl cert {site}"));
    assert!(reply.contains("Success!"), "{reply}");
    wait_for("a staple for the renewed certificate", PATIENCE, || {
        staple(&wreck.haproxy, &renewed).filter(|_| wreck.ca.responder.requests(&renewed) > 0)
    });
    wait_for_state(&mut wreck.stapler, "site.pem", "stapled");
    assert_accepted(&wreck.haproxy, &renewed, &wreck.ca.anchor());
}

#[test]
fn a_strangers_renewal_of_the_same_certificate_stays() {
    a_strangers_renewal_stays(Wreck::abort_by_hand);
}

#[test]
fn a_strangers_renewal_into_our_open_transaction_stays() {
    a_strangers_renewal_stays(|_| ());
}
