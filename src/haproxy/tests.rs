//! HAProxy played from a script, at the level of its text; and its literal replies through the parsers.

mod leftovers;
mod transactions;

use std::collections::VecDeque;
use std::sync::Mutex;

use jiff::Timestamp;
use proptest::prelude::*;

use super::command::Form;
use super::held::{Held, Shown};
use super::inventory::{Details, Listing, Seen, join, parse_entries, transaction};
use super::native::parse_native_updates;
use super::*;
use crate::certificate::SerialNumber;

const KEY: &str = "304d300906052b0e03021a0500041427de3271";
const SHOW_KEY: &str = "show ssl ocsp-response 304d300906052b0e03021a0500041427de3271";
const LOCKED: &str = "Can't show!\nOperations on certificates are currently locked!\n\n";
const UPDATED: &str = "OCSP Response updated!\n\n";
const NO_TRANSACTION: &str = "No ongoing transaction!\n\n";
const OPEN_ON_B: &str =
    "The ongoing transaction is about '/c/b.pem' but you are trying to abort a transaction for '/'\n\n";
const LOADED: &str = "Filename: /c/a.pem\nStatus: Used\nSerial: 41EACE\n\n";
const NO_MATCH: &str = "OCSP single response: Certificate ID does not match any certificate or issuer.\n\n";

/// Expects exactly these command lines, in this order.
struct Script(Mutex<VecDeque<(&'static str, String)>>);

impl Script {
    fn new<const N: usize>(steps: [(&'static str, &str); N]) -> Self {
        Self(Mutex::new(steps.into_iter().map(|(command, reply)| (command, reply.to_owned())).collect()))
    }

    #[track_caller]
    fn is_done(&self) {
        assert!(self.0.lock().unwrap().is_empty(), "not asked: {:?}", self.0.lock().unwrap());
    }
}

impl RuntimeApi for Script {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let sent = command.encode("");
        let line = sent.lines().next().unwrap().trim_end_matches(" <<");
        let step = self.0.lock().unwrap().pop_front();
        let (expected, reply) = step.unwrap_or_else(|| panic!("nothing more was expected, got '{line}'"));
        assert_eq!(line, expected);
        if reply == "RESET" {
            return Err(SocketError::Empty { address: "/admin.sock".parse().unwrap() });
        }
        Ok(reply)
    }
}

fn process(version: &str) -> Process {
    Process::parse(&format!("Pid: 7\nVersion: {version}\nUptime_sec: 5\n")).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn id() -> CertIdKey {
    CertIdKey {
        issuer_name_hash: [0x27; 20],
        issuer_key_hash: [0x83; 20],
        serial_number: SerialNumber::from_hex("41EACE").unwrap(),
    }
}

fn entries_text() -> String {
    format!(
        "# Certificate IDs\nCertificate ID key : {KEY}\nCertificate path : /c/a.pem\n Certificate ID:\n   \
         Issuer Name Hash: {}\n   Issuer Key Hash: {}\n   Serial Number: 41EACE\n\n",
        "27".repeat(20),
        "83".repeat(20)
    )
}

/// A response as HAProxy 2.6 prints it.
fn held_text(this_update: &str) -> String {
    format!(
        "OCSP Response Data:\n    OCSP Response Status: successful (0x0)\n    Produced At: {this_update} GMT\n    \
         Cert Status: good\n    This Update: {this_update} GMT\n    Next Update: Nov 28 06:55:02 2026 GMT\n \n    \
         Signature Algorithm: ecdsa-with-SHA256\n    Signature Value:\n        30:46:02:\n        21:00:d5\n\
         Certificate:\n    Data:\n        Signature Algorithm: ecdsa-with-SHA256\n         aa:bb\n"
    )
}

const DER: &[u8] = &[1, 2, 0x30, 0x46, 0x02, 0x21, 0x00, 0xD5, 9];

fn staple() -> StapleView<'static> {
    StapleView {
        der: DER,
        produced_at: time("2026-11-03T06:55:02Z"),
        this_update: time("2026-11-03T06:55:02Z"),
        next_update: time("2026-11-28T06:55:02Z"),
    }
}

async fn run<'a>(api: &Script, version: &str, change: impl FnOnce(&mut Installation<'a>)) -> Outcome {
    let id: &'static CertIdKey = Box::leak(Box::new(id()));
    let mut one = Installation {
        name: "/c/a.pem",
        id,
        stapling: Stapling::Unknown,
        issuer: IssuerKnowledge::InChain,
        staple: staple(),
        overwrite: OverwritePolicy::KeepNewer,
    };
    change(&mut one);
    let outcome = reconcile(api, &process(version), &mut None, &one, time("2026-11-20T00:00:00Z")).await;
    api.is_done();
    outcome
}

#[tokio::test]
async fn what_haproxy_holds_is_not_written_again() {
    let text = held_text("Nov  3 06:55:02 2026");
    let api = Script::new([("show ssl ocsp-response", &entries_text()), (SHOW_KEY, &text)]);
    assert_eq!(run(&api, "2.6.12", |_| ()).await, Outcome::AlreadyServed);
}

#[tokio::test]
async fn a_later_response_stays_unless_the_caller_knows_better() {
    let newer = held_text("Nov 4 06:55:02 2026");
    let api = Script::new([("show ssl ocsp-response", &entries_text()), (SHOW_KEY, &newer)]);
    let outcome = run(&api, "2.6.12", |_| ()).await;
    assert!(matches!(outcome, Outcome::HoldsNewer(held) if held.this_update == time("2026-11-04T06:55:02Z")));

    let ours = held_text("Nov 3 06:55:02 2026");
    let api = Script::new([
        ("show ssl ocsp-response", &entries_text()),
        (SHOW_KEY, &newer),
        ("set ssl ocsp-response", UPDATED),
        (SHOW_KEY, &ours),
    ]);
    let outcome = run(&api, "2.6.12", |one| one.overwrite = OverwritePolicy::Replace).await;
    assert_eq!(outcome, Outcome::Installed { enabled: false, proof: Proof::ReadBack });
}

#[tokio::test]
async fn another_signature_with_the_same_times_is_another_response() {
    let other = held_text("Nov 3 06:55:02 2026").replace("30:46:02:", "30:46:03:");
    let api = Script::new([
        ("show ssl ocsp-response", &entries_text()),
        (SHOW_KEY, &other),
        ("set ssl ocsp-response", UPDATED),
        (SHOW_KEY, &other),
    ]);
    let outcome = run(&api, "2.6.12", |_| ()).await;
    let held = "one with thisUpdate 2026-11-03T06:55:02Z".to_owned();
    assert_eq!(outcome, Outcome::Failed(InstallError::ReadBack { held }));
}

#[tokio::test]
async fn old_haproxy_is_taken_at_its_word() {
    let api = Script::new([("set ssl ocsp-response", UPDATED)]);
    assert_eq!(run(&api, "2.2.9", |_| ()).await, Outcome::Installed { enabled: false, proof: Proof::Reply });
    // Success has one exact text.
    let api = Script::new([("set ssl ocsp-response", "OCSP Response updated! Or was it?\n\n")]);
    assert!(matches!(run(&api, "2.2.9", |_| ()).await, Outcome::Failed(InstallError::UnexpectedReply { .. })));
}

#[tokio::test]
async fn a_bundle_of_2_2_is_committed_under_its_own_name() {
    let api = Script::new([
        ("set ssl ocsp-response", NO_MATCH),
        ("show ssl cert /c/m.pem.rsa", "Can't display the certificate: Not found or the certificate is a bundle!\n\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/m.pem.rsa.ocsp", "Transaction created for certificate /c/m.pem!\n\n"),
        ("commit ssl cert /c/m.pem", "Committing /c/m.pem.\nSuccess!\n\n"),
    ]);
    let outcome = run(&api, "2.2.9", |one| one.name = "/c/m.pem.rsa").await;
    assert_eq!(outcome, Outcome::Installed { enabled: true, proof: Proof::Reply });
}

#[tokio::test]
async fn an_open_transaction_is_left_alone() {
    let api = Script::new([("show ssl ocsp-response", "\n"), ("abort ssl cert /", OPEN_ON_B)]);
    let busy = InstallError::Busy { by: Some("/c/b.pem".to_owned()) };
    assert_eq!(run(&api, "3.0.11", |_| ()).await, Outcome::Failed(busy.clone()));

    // Opened between the look and the step.
    let api = Script::new([
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        (
            "set ssl cert /c/a.pem.ocsp",
            "The ongoing transaction is about '/c/b.pem' but you are trying to set '/c/a.pem'\nCan't update \
             /c/a.pem.ocsp!\n\n",
        ),
    ]);
    assert_eq!(run(&api, "3.0.11", |_| ()).await, Outcome::Failed(busy));
    let api = Script::new([
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", "Transaction updated for certificate /c/b.pem!\n\n"),
    ]);
    let foreign = InstallError::ForeignTransaction { certificate: "/c/b.pem".to_owned() };
    assert_eq!(run(&api, "2.6.12", |_| ()).await, Outcome::Failed(foreign));
}

#[tokio::test]
async fn a_transaction_under_another_name_is_taken_back() {
    let api = Script::new([
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a!\n\n"),
        ("abort ssl cert /c/a", "Transaction aborted for certificate '/c/a'!\n\n"),
    ]);
    let outcome = run(&api, "3.0.11", |_| ()).await;
    assert!(matches!(outcome, Outcome::Failed(InstallError::UnexpectedReply { .. })), "{outcome:?}");
}

/// The owner of a HAProxy runs as a task of its own.
#[test]
fn the_conversation_may_move_between_threads() {
    const fn is_send<T: Send>(_: &T) {}
    let (socket, process) = (Socket::new("/a".parse().unwrap(), std::time::Duration::ZERO), process("3.4.7"));
    is_send(&look(&socket));
    is_send(&survey(&socket, &process, &Known::default()));
    is_send(&reconcile_many(&socket, &process, &mut None, &[], Timestamp::UNIX_EPOCH));
}

#[tokio::test]
async fn a_refused_step_ends_our_own_transaction() {
    let ca = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&ca).unwrap();
    let ca = crate::certificate::Certificate::from_der(ca.der()).unwrap();
    let api = Script::new([
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", LOCKED),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n"),
        ("set ssl cert /c/a.pem.issuer", "unable to load certificate from file.\nCan't load the payload\n\n"),
        ("abort ssl cert /c/a.pem", "Transaction aborted for certificate '/c/a.pem'!\n\n"),
    ]);
    let outcome = run(&api, "3.0.11", |one| one.issuer = IssuerKnowledge::Told(&ca)).await;
    assert!(matches!(outcome, Outcome::Failed(InstallError::IssuerRefused { .. })), "{outcome:?}");

    let api = Script::new([
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", "Can't update the certificate!\nUnable to parse OCSP response.\n\n"),
    ]);
    let outcome = run(&api, "3.0.11", |one| one.issuer = IssuerKnowledge::Told(&ca)).await;
    assert!(matches!(outcome, Outcome::Failed(InstallError::Unparsable { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_does_not_stay_open_because_certificates_were_locked() {
    let begin = [
        ("set ssl ocsp-response", NO_MATCH),
        ("show ssl cert /c/a.pem", LOADED),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", LOCKED),
        ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n"),
        ("commit ssl cert /c/a.pem", LOCKED),
    ];
    let script = |end: &[(&'static str, &str)]| {
        let steps = begin.iter().chain(end).map(|(command, reply)| (*command, (*reply).to_owned()));
        Script(Mutex::new(steps.collect()))
    };
    let api = script(&[("commit ssl cert /c/a.pem", "Committing /c/a.pem.\nSuccess!\n\n")]);
    let installed = Outcome::Installed { enabled: true, proof: Proof::Reply };
    assert_eq!(run(&api, "2.2.9", |_| ()).await, installed);
    let locked = ("commit ssl cert /c/a.pem", LOCKED);
    let aborted = ("abort ssl cert /c/a.pem", "Transaction aborted for certificate '/c/a.pem'!\n\n");
    let api = script(&[locked, locked, locked, locked, aborted]);
    assert_eq!(run(&api, "2.2.9", |_| ()).await, Outcome::Failed(InstallError::Busy { by: None }));
}

#[tokio::test]
async fn a_failed_commit_is_never_aborted_where_that_crashes_haproxy() {
    for (version, aborts) in [("2.2.9", false), ("2.4.30", true), ("2.6.12", false)] {
        let mut steps = vec![
            ("abort ssl cert /", NO_TRANSACTION),
            ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n"),
            ("commit ssl cert /c/a.pem", "Committing /c/a.pem.\nFailed!\n\n"),
        ];
        if version == "2.6.12" {
            steps.insert(0, ("show ssl ocsp-response", "\n"));
        } else {
            steps.splice(0..0, [("set ssl ocsp-response", NO_MATCH), ("show ssl cert /c/a.pem", LOADED)]);
        }
        if aborts {
            steps.push(("abort ssl cert /c/a.pem", "Transaction aborted for certificate '/c/a.pem'!\n\n"));
        }
        let api = Script(Mutex::new(steps.into_iter().map(|(command, reply)| (command, reply.to_owned())).collect()));
        let reply = "Committing /c/a.pem. Failed!".to_owned();
        assert_eq!(run(&api, version, |_| ()).await, Outcome::Failed(InstallError::CommitFailed { reply }));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_switched_on_is_read_back_without_listing_every_entry() {
    let details = format!("Filename: /c/a.pem\nStatus: Used\nOCSP Response Key: {KEY}\n\n");
    let held = held_text("Nov  3 06:55:02 2026");
    let enabling = [
        ("show ssl ocsp-response", "\n"),
        ("abort ssl cert /", NO_TRANSACTION),
        ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n"),
        ("commit ssl cert /c/a.pem", "Committing /c/a.pem.\nSuccess!\n\n"),
    ];
    for (version, reading) in [
        ("2.6.12", vec![("show ssl cert /c/a.pem", &*details), (SHOW_KEY, &*held)]),
        (
            "2.8.25",
            vec![
                ("show ssl ocsp-response base64 /c/a.pem", "Operations on certificates are currently locked!\n\n"),
                ("show ssl ocsp-response base64 /c/a.pem", "AQI=\n"),
            ],
        ),
    ] {
        let steps = enabling.into_iter().chain(reading).map(|(command, reply)| (command, reply.to_owned()));
        let outcome = run(&Script(Mutex::new(steps.collect())), version, |_| ()).await;
        match version {
            "2.6.12" => assert_eq!(outcome, Outcome::Installed { enabled: true, proof: Proof::ReadBack }),
            // It is asked for, and is not what was put there.
            _ => assert!(matches!(outcome, Outcome::Failed(InstallError::ReadBack { .. })), "{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_commit_that_brings_no_entry_is_no_success() {
    let enabling = |commit: &str, after: &str| {
        Script::new([
            ("show ssl ocsp-response", "\n"),
            ("abort ssl cert /", NO_TRANSACTION),
            ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n"),
            ("commit ssl cert /c/a.pem", commit),
            ("show ssl ocsp-response base64 /c/a.pem", after),
            ("show ssl ocsp-response", "\n"),
        ])
    };
    let no_entry = "'show ssl ocsp-response' expects a valid certid or certificate path.\n\n";
    let api = enabling("Committing /c/a.pem.\nSuccess!\n\n", no_entry);
    assert_eq!(run(&api, "2.8.25", |_| ()).await, Outcome::Failed(InstallError::NoEntry));

    let ignored = "Committing /c/a.pem.\nLoading: OCSP single response: Certificate ID does not match certificate and \
                   issuer. Content will be ignored.\nSuccess!\n\n";
    let api = enabling(ignored, "");
    api.0.lock().unwrap().truncate(4);
    assert_eq!(run(&api, "2.8.25", |_| ()).await, Outcome::Failed(InstallError::CertIdUnknown));
}

#[tokio::test]
async fn what_would_destroy_a_staple_or_not_fit_is_not_sent() {
    let soon = time("2026-11-20T00:05:00Z");
    let outcome = run(&Script::new([]), "3.2.26", |one| one.staple.next_update = soon).await;
    assert_eq!(outcome, Outcome::Failed(InstallError::Expired { next_update: Some(soon) }));
    let large = vec![0; 20_000];
    let large: &[u8] = large.leak();
    for (pool, limit) in [("16384 bytes/64", 11_984), ("20480 bytes", 15_056)] {
        let pools =
            format!("Dumping pools usage.\n  - Pool pipe (32 bytes) : 0\n  - Pool buffer ({pool}) : 2 allocated\n");
        let api = Script::new([("show pools", &*pools)]);
        let outcome = run(&api, "3.4.7", |one| one.staple.der = large).await;
        assert_eq!(outcome, Outcome::Failed(InstallError::TooLarge { bytes: 20_000, limit }));
    }
    let api = Script::new([("show ssl ocsp-response", "\n")]);
    let outcome = run(&api, "3.2.26", |one| one.name = "/c/a\n;b.pem").await;
    assert_eq!(outcome, Outcome::Failed(InstallError::Name(Unsendable("/c/a\n;b.pem".to_owned()))));
}

#[tokio::test]
async fn an_outdated_list_of_entries_is_renewed() {
    let gone = "Certificate ID or path does not match any certificate.\n\n";
    let api = Script::new([
        ("show ssl ocsp-response base64 304d300906052b0e03021a0500041427de3271", gone),
        ("show ssl ocsp-response", "\n"),
        ("show ssl cert /c/a.pem", LOADED),
        ("abort ssl cert /", OPEN_ON_B),
    ]);
    let id = id();
    let one = Installation {
        name: "/c/a.pem",
        id: &id,
        stapling: Stapling::On,
        issuer: IssuerKnowledge::InChain,
        staple: staple(),
        overwrite: OverwritePolicy::KeepNewer,
    };
    let mut entries = parse_entries(&entries_text());
    let outcome = reconcile(&api, &process("2.8.0"), &mut entries, &one, time("2026-11-20T00:00:00Z")).await;
    assert_eq!(outcome, Outcome::Failed(InstallError::Busy { by: Some("/c/b.pem".to_owned()) }));
    assert_eq!(entries, Some(Entries::default()));
    api.is_done();
}

#[tokio::test]
async fn stapling_is_not_switched_on_for_a_certificate_that_took_the_place_of_ours() {
    let api = Script::new([
        ("set ssl ocsp-response", NO_MATCH),
        ("show ssl cert /c/a.pem", "Filename: /c/a.pem\nStatus: Used\nSerial: 41EACF\n\n"),
    ]);
    assert_eq!(run(&api, "2.2.9", |_| ()).await, Outcome::Failed(InstallError::CertIdUnknown));
    api.is_done();
}

#[tokio::test]
async fn a_leaving_process_and_a_low_level_are_refused() {
    let info = "Pid: 7\nVersion: 3.0.1\nUptime_sec: 5\nStopping: 1\n";
    let api = Script::new([("show info", info)]);
    assert_eq!(look(&api).await, Err(HaproxyError::LeavingProcess { pid: 7 }));
    let api = Script::new([("show cli level", "operator\n\n")]);
    assert_eq!(
        survey(&api, &process("3.4.7"), &Known::default()).await,
        Err(HaproxyError::Level { level: "operator".to_owned() })
    );
    let api = Script::new([("show cli level", "admin\n\n"), ("show ssl cert", "Unknown command: 'show ssl'\n")]);
    assert_eq!(survey(&api, &process("3.4.7"), &Known::default()).await, Err(HaproxyError::NoOcspSupport));
    let api = Script::new([("show info", "RESET")]);
    assert!(matches!(look(&api).await, Err(HaproxyError::Socket(SocketError::Empty { .. }))));
}

#[tokio::test]
async fn details_that_were_locked_are_asked_for_again() {
    let details = |name: &str| {
        format!(
            "Filename: {name}\nStatus: Used\nSerial: 0A\nSHA1 FingerPrint: 9DD4D58A9EEC0775C0FD633482942E390B773757\n\
             OCSP Response Key: \n\n"
        )
    };
    let api = Script::new([
        ("show cli level", "admin\n\n"),
        ("show ssl cert", "# filename\n/c/a.pem\n/c/b.pem\n\n"),
        ("show ssl ocsp-response", "\n"),
        ("show ssl cert /c/a.pem;show ssl cert /c/b.pem", &format!("{}{LOCKED}", details("/c/a.pem"))),
        ("show ssl cert /c/b.pem", &details("/c/b.pem")),
    ]);
    let survey = survey(&api, &process("2.6.12"), &Known::default()).await.unwrap();
    api.is_done();
    assert_eq!(survey.entries(), Some(&Entries::default()));
    assert!(survey.loaded().iter().all(|loaded| loaded.serial_number == SerialNumber::from_hex("0A")));
    // One certificate under two names: the list of entries cannot tell which of them is stapled.
    assert!(survey.loaded().iter().all(|loaded| loaded.stapling == Stapling::Off));
}

#[tokio::test]
async fn of_many_only_what_is_not_as_expected_is_looked_at_by_itself() {
    const NO_ENTRY: &str = "'show ssl ocsp-response' expects a valid certid or certificate path.\n\n";
    let ids: [CertIdKey; 3] = ["41EACE", "41EACF", "41EAD0"]
        .map(|serial| CertIdKey { serial_number: SerialNumber::from_hex(serial).unwrap(), ..id() });
    let ders: [&[u8]; 3] = [DER, &[1, 1], &[1, 2]];
    let names = ["/c/a.pem", "/c/b.pem", "/c/c.pem"];
    let one = |at: usize| Installation {
        name: names[at],
        id: &ids[at],
        stapling: Stapling::On,
        issuer: IssuerKnowledge::InChain,
        staple: StapleView { der: ders[at], ..staple() },
        overwrite: OverwritePolicy::KeepNewer,
    };
    let mut listed = Entries::default();
    names.iter().zip(&ids).for_each(|(name, id)| listed.note(id, EntryName::Certificate((*name).to_owned())));
    let base64 = |at: usize| openssl::base64::encode_block(ders[at]);
    let api = Script::new([
        // Of the three, the first is there; the others are not.
        (
            "show ssl ocsp-response base64 /c/a.pem;show ssl ocsp-response base64 /c/b.pem;\
             show ssl ocsp-response base64 /c/c.pem",
            &format!("\n{}\n\n{NO_ENTRY}", base64(0)),
        ),
        ("show ssl ocsp-response base64 /c/b.pem", "\n"),
        ("set ssl ocsp-response", UPDATED),
        ("show ssl ocsp-response base64 /c/c.pem", "\n"),
        ("set ssl ocsp-response", UPDATED),
        // Then the second is; somebody lost the third.
        (
            "show ssl ocsp-response base64 /c/b.pem;show ssl ocsp-response base64 /c/c.pem",
            &format!("{}\n\n", base64(1)),
        ),
        ("show ssl ocsp-response base64 /c/c.pem", "\n"),
    ]);
    let (process, now) = (process("3.4.7"), time("2026-11-20T00:00:00Z"));
    let outcomes = reconcile_many(&api, &process, &mut Some(listed), &[one(0), one(1), one(2)], now).await;
    api.is_done();
    let lost = Outcome::Failed(InstallError::ReadBack { held: "none".to_owned() });
    assert_eq!(outcomes, [Outcome::AlreadyServed, Outcome::Installed { enabled: false, proof: Proof::ReadBack }, lost]);
}

#[tokio::test]
async fn texts_of_many_are_told_apart_by_their_signatures() {
    let mut shown = Shown::default();
    shown.add(&format!("{}\n{}", held_text("Nov  2 06:55:02 2026"), held_text("Nov  3 06:55:02 2026")), Form::Text);
    assert!(shown.has(&staple()));
    assert!(!shown.has(&StapleView { der: &[1, 2, 3], ..staple() }), "the times are the same, the signature is not");
    assert!(!shown.has(&StapleView { this_update: time("2026-11-04T06:55:02Z"), ..staple() }));
}

#[tokio::test]
async fn where_the_lists_say_the_same_only_what_they_do_not_show_is_asked_for() {
    const UPDATES: &str = "OCSP Certid | Path | Next Update\n\n";
    let entries = entries_text();
    let names = |transaction: &str| format!("{transaction}# filename\n/c/a.pem\n/c/b.pem\n\n");
    let details =
        |name: &str, key: &str| format!("Filename: {name}\nStatus: Used\nSerial: 41EACE\nOCSP Response Key: {key}\n\n");
    let both = format!("{}{}", details("/c/a.pem", KEY), details("/c/b.pem", ""));
    let api = Script::new([
        ("show cli level", "admin\n\n"),
        ("show ssl cert", &names("")),
        ("show ssl ocsp-response", &entries),
        ("show ssl cert /c/a.pem;show ssl cert /c/b.pem", &both),
        ("show ssl ocsp-updates", UPDATES),
    ]);
    let whole = survey(&api, &process("3.4.7"), &Known::default()).await.unwrap();
    api.is_done();
    let News::Whole { seen, .. } = &whole.news else { panic!("{whole:?}") };
    assert_eq!((whole.loaded().len(), &whole.transaction_open), (2, &None));
    let known = Known { seen: *seen, unlisted: vec!["/c/b.pem".to_owned()] };

    // The transaction is no difference.
    let api = Script::new([
        ("show cli level", "admin\n\n"),
        ("show ssl cert", &names("# transaction\n*/c/a.pem\n")),
        ("show ssl ocsp-response", &entries),
        ("show ssl cert /c/b.pem", &details("/c/b.pem", "")),
        ("show ssl ocsp-updates", UPDATES),
    ]);
    let same = survey(&api, &process("3.4.7"), &known).await.unwrap();
    api.is_done();
    assert_eq!(same.news, News::Same { loaded: whole.loaded()[1..].to_vec() });
    assert_eq!(same.transaction_open.as_deref(), Some("/c/a.pem"));

    let api = Script::new([
        ("show cli level", "admin\n\n"),
        ("show ssl cert", &names("")),
        ("show ssl ocsp-response", "# Certificate IDs\n\n"),
        ("show ssl cert /c/a.pem;show ssl cert /c/b.pem", &both),
        ("show ssl ocsp-updates", UPDATES),
    ]);
    let whole = survey(&api, &process("3.4.7"), &known).await.unwrap();
    api.is_done();
    assert_eq!(whole.entries(), Some(&Entries::default()), "somebody replaced one at run time");
}

#[test]
fn listings_are_read_in_all_their_forms() {
    let names = |reply: &str| {
        let listing = Listing::parse(reply).unwrap();
        (
            listing.transaction,
            listing.names.into_iter().map(|(name, bundle)| (name, bundle.unwrap_or_default())).collect::<Vec<_>>(),
        )
    };
    let pair = |name: &str, bundle: &str| (name.to_owned(), bundle.to_owned());
    let (open, listed) = names(
        "# transaction\n*/c/m.pem: /c/m.pem.ecdsa\n# filename\n/c/s p;c\\x.pem\n/c/m.pem: /c/m.pem.ecdsa /c/m.pem.rsa\n\
         /c/odd: name.pem\n\\*star.pem\n@web/site-a\n\n",
    );
    assert_eq!(open.as_deref(), Some("/c/m.pem"));
    assert_eq!(
        listed,
        [
            pair("/c/s p;c\\x.pem", ""),
            pair("/c/m.pem.ecdsa", "/c/m.pem"),
            pair("/c/m.pem.rsa", "/c/m.pem"),
            pair("/c/odd: name.pem", ""),
            pair("*star.pem", ""),
            pair("@web/site-a", ""),
        ]
    );
    assert_eq!(names("/c/a b.pem".replace("/c", "# filename\n/c").as_str()).1, [pair("/c/a b.pem", "")]);
    let spaced = names("# filename\n/c/a b.pem: /c/a b.pem.ecdsa /c/a b.pem.rsa\n").1;
    assert_eq!(spaced, [pair("/c/a b.pem.ecdsa", "/c/a b.pem"), pair("/c/a b.pem.rsa", "/c/a b.pem")]);
    let (open, listed) = names("# transaction\n*/c/a.pem\n# filename\n# transaction\n# filename\n");
    assert_eq!(open.as_deref(), Some("/c/a.pem"));
    assert_eq!(
        listed,
        [pair("# transaction", ""), pair("# filename", "")],
        "certificates that are called like headings"
    );
    assert_eq!(Listing::parse("\n"), Some(Listing::default()));
    assert_eq!(Listing::parse("Can't allocate memory!\n"), None);
    assert_ne!(Seen::new("Can't allocate memory!\n", ""), Seen::new("", ""), "it must not pass for an empty list");
}

#[test]
fn details_tell_who_is_stapled() {
    let reply = format!(
        "Filename: /c/a.pem\nCrt filename: /c/a.pem\nOption: ocsp-update off\nStatus: Used\nSerial: 41EACE\n\
         notBefore: Nov 23 06:54:06 2026 GMT\nSHA1 FingerPrint: 9DD4D58A9EEC0775C0FD633482942E390B773757\n\
         Chain Subject: /CN=lab\nOCSP Response Key: {KEY}\n\nCan't display the certificate: Not found or the \
         certificate is a bundle!\n\nFilename: /c/b.pem\nStatus: Unused\nSerial: 0B\nSHA1 FingerPrint: \
         15E62E53DAD0998B75E2C63D24B29201C2108E30\nOCSP Response Key: \n\nFilename: /c/e.pem\nStatus: Empty\n\n"
    );
    let details = Details::parse(&reply);
    let names = || ["/c/a.pem", "/c/b.pem", "/c/e.pem", "/c/gone.pem"].map(|name| (name.to_owned(), None)).to_vec();
    let stapling =
        |key_is_cert_id| join(names(), &details, key_is_cert_id).into_iter().map(|l| l.stapling).collect::<Vec<_>>();
    assert_eq!(stapling(true), [Stapling::On, Stapling::Off, Stapling::Unknown, Stapling::Unknown]);
    assert_eq!(stapling(false), [Stapling::On, Stapling::Unknown, Stapling::Unknown, Stapling::Unknown]);
    let loaded = join(names(), &details, true);
    let statuses: Vec<LoadedStatus> = loaded.iter().map(|loaded| loaded.status).collect();
    assert_eq!(statuses, [LoadedStatus::Used, LoadedStatus::Unused, LoadedStatus::Empty, LoadedStatus::NotShown]);
    assert_eq!(loaded[0].fingerprint, "9DD4D58A9EEC0775C0FD633482942E390B773757".parse().ok());
}

#[test]
fn native_updates_are_known_by_name_and_by_cert_id() {
    let reply = format!(
        "OCSP Certid | Path | Next Update | Last Update | Successes | Failures | Last Update Status | Last Update \
         Status (str)\n{KEY} | /c/a.pem | 23/Nov/2026:06:54:06 +0000 | - | 0 | 1 | 2 | HTTP error\n\n"
    );
    let parsed = || parse_native_updates(&reply).unwrap();
    let updates = parse_entries(&entries_text()).unwrap().identify(parsed());
    assert_eq!((updates[0].path.as_str(), &updates[0].id), ("/c/a.pem", &Some(id())));
    assert_eq!(Entries::default().identify(parsed())[0].id, None);
    assert_eq!(parse_entries("Permission denied\n"), None);
}

#[test]
fn every_refusal_of_haproxy_has_its_kind() {
    for (reply, kind) in [
        ("'set ssl ocsp-response' expects response in base64 encoding.", "unparsable"),
        ("'set ssl ocsp-response' received invalid base64 encoded response.", "unparsable"),
        ("Unable to parse OCSP response.", "unparsable"),
        ("OCSP response status not successful.", "not_successful"),
        ("Failed to get basic response from OCSP Response.", "unparsable"),
        ("OCSP response ignored because contains multiple single responses (2).", "multiple_single_responses"),
        ("OCSP single response: certificate status is unknown.", "status_unknown"),
        ("OCSP single response: missing nextupdate.", "next_update_missing"),
        ("OCSP single response: no longer valid..", "expired"),
        ("OCSP single response: no longer valid. Must be valid during at least 300s..", "expired"),
        ("OCSP single response: Invalid \"Next Update\" time.", "next_update_invalid"),
        ("OCSP single response: Certificate ID does not match any certificate or issuer.", "cert_id_unknown"),
        ("Failed to update OCSP response.", "update_failed"),
        ("Permission denied", "permission_denied"),
        ("The command is too big for the buffer size. Please change tune.bufsize in the configuration.", "too_large"),
        ("The payload is too big. Please change 'tune.cli.max-payload-size'", "too_large"),
        (
            "Can't replace a certificate which is not referenced by the configuration!\nCan't update x!",
            "not_referenced",
        ),
        ("Can't update the certificate!\nOperations on certificates are currently locked!", "busy"),
        ("HAProxy was compiled against a version of OpenSSL that doesn't support OCSP stapling.", "no_ocsp_support"),
        ("Unknown command: 'set ssl', but maybe one of the following ones is a better match:", "unexpected_reply"),
    ] {
        let error = InstallError::from_reply(&"set ssl ocsp-response", &format!("{reply}\n\n"));
        assert_eq!(error.kind(), kind, "{reply}");
        assert!(error.remedy().ends_with('.') && !error.to_string().is_empty());
    }
}

#[test]
fn texts_of_openssl_1_1_are_read_too() {
    let reply = held_text("Nov 3 06:55:02.5 2026").replace("    Signature Value:\n", "");
    let held = Held::from_text(&reply);
    assert_eq!(held.response().unwrap().this_update, time("2026-11-03T06:55:02.5Z"));
    assert_eq!(Held::from_text("\n"), Held::Nothing);
    assert_eq!(Held::from_base64("\n"), Held::Nothing);
    assert_eq!(Held::from_base64("MIIC\n"), Held::Unreadable);
    assert_eq!(Held::from_text("gibberish\n"), Held::Unreadable);
}

/// Lines made of what HAProxy's replies are made of, and of anything.
fn reply() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("Filename: ".to_owned()),
        Just("# filename\n".to_owned()),
        Just("# transaction\n*".to_owned()),
        Just("# Certificate IDs\n".to_owned()),
        Just("Certificate ID key : ".to_owned()),
        Just("   Serial Number: ".to_owned()),
        Just("SHA1 FingerPrint: ".to_owned()),
        Just("Produced At: Nov 3 06:55:02 2026 GMT\n".to_owned()),
        Just("This Update: ".to_owned()),
        Just("Signature Algorithm:\n".to_owned()),
        Just("OCSP Certid | Path |".to_owned()),
        Just("a.pem: a.pem.rsa".to_owned()),
        Just("'".to_owned()),
        Just("\n".to_owned()),
        "\\PC{0,12}",
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_reply_makes_a_parser_panic(reply in reply()) {
        if let Some(listing) = Listing::parse(&reply) {
            prop_assert_eq!(transaction(&reply), listing.transaction);
        }
        let _ = join(vec![("a".to_owned(), None)], &Details::parse(&reply), true);
        let _ = parse_entries(&reply);
        let _ = parse_native_updates(&reply);
        let _ = Held::from_base64(&reply);
        let _ = Held::from_text(&reply);
        let _ = InstallError::from_reply(&"x", &reply).to_string();
    }

    #[test]
    fn a_name_that_is_sent_arrives_as_one_word(name in "\\PC{1,24}") {
        if let Ok(command) = Command::commit(&name) {
            let sent = command.encode("");
            let word = sent.strip_prefix("commit ssl cert ").unwrap().strip_suffix('\n').unwrap();
            let (mut arrived, mut quoted) = (String::new(), false);
            for c in word.chars() {
                match c {
                    '\\' if !quoted => quoted = true,
                    c => {
                        prop_assert!(quoted || !matches!(c, ' ' | ';' | '<' | '\n'));
                        arrived.push(c);
                        quoted = false;
                    }
                }
            }
            prop_assert_eq!(arrived, name);
        }
    }
}
