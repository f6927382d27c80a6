//! The `haproxy` module against real HAProxy processes.
//!
//! `HAPROXY_BIN` names the binary, `HAPROXY_BINS` several of them, colon-separated: every test runs with each.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod lab;

use std::path::PathBuf;

use haproxy_stapler::haproxy::{
    self, DEFAULT_BUFFER, Entries, HaproxyError, InstallError, Installation, IssuerKnowledge, Known, LoadedStatus,
    Outcome, OverwritePolicy, Process, Proof, RuntimeApi, Socket, SocketError, Stapling, Survey, look, reconcile,
    reconcile_many, response_limit, survey,
};
use jiff::Timestamp;
use lab::{Haproxy, Leaf, Pem, Pki, Recorder, Staple, binaries, until};

const ANY: &str = "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256";

#[expect(clippy::disallowed_methods, reason = "HAProxy lives on the wall clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn installation<'a>(name: &'a str, leaf: &'a Leaf, staple: &'a Staple) -> Installation<'a> {
    Installation {
        name,
        id: &leaf.id,
        stapling: Stapling::Unknown,
        issuer: IssuerKnowledge::InChain,
        staple: staple.view(),
        overwrite: OverwritePolicy::KeepNewer,
    }
}

/// The outcome of an installation that should work, as far as the version can prove it.
fn installed(process: &Process, enabled: bool) -> Outcome {
    let proof = if process.version.lists_entries() { Proof::ReadBack } else { Proof::Reply };
    Outcome::Installed { enabled, proof }
}

async fn install(api: &impl RuntimeApi, one: &Installation<'_>) -> Outcome {
    let process = look(api).await.unwrap();
    let mut entries: Option<Entries> = None;
    reconcile(api, &process, &mut entries, one, now()).await
}

async fn surveyed(api: &impl RuntimeApi) -> (Process, Survey) {
    let process = look(api).await.unwrap();
    let survey = survey(api, &process, &Known::default()).await.unwrap();
    (process, survey)
}

#[tokio::test]
async fn looking_names_the_process() {
    let pki = Pki::new();
    let pem = pki.write("a.pem", &pki.leaf("a.test"), Pem::WithChain);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&pem]).await;
        let socket = haproxy.socket();
        let process = look(&socket).await.unwrap();
        assert!(look(&socket).await.unwrap().is_same_as(&process), "{process:?}");
        assert_eq!(process.start_time.is_some(), process.version.is_at_least(2, 4), "{process:?}");
        assert_eq!(socket.is_master(), Some(false));
        let tcp = lab::over_tcp(&haproxy.at("admin.sock")).await;
        assert!(look(&tcp).await.unwrap().is_same_as(&process));
    }
}

#[tokio::test]
async fn a_socket_that_may_not_or_is_not_there_says_so() {
    let pki = Pki::new();
    let pem = pki.write("a.pem", &pki.leaf("a.test"), Pem::WithChain);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&pem]).await;
        let operator = haproxy.socket_at("operator.sock");
        let process = look(&operator).await.unwrap();
        let level = HaproxyError::Level { level: "operator".to_owned() };
        assert_eq!(survey(&operator, &process, &Known::default()).await, Err(level), "{}", haproxy.version);
        let missing = haproxy.socket_at("missing.sock");
        let address = missing.address().clone();
        assert_eq!(look(&missing).await, Err(HaproxyError::Socket(SocketError::NotFound { address })));
    }
}

#[tokio::test]
async fn a_survey_finds_every_certificate() {
    let pki = Pki::new();
    let (chained, bare, odd) = (pki.leaf("chained.test"), pki.leaf("bare.test"), pki.leaf("odd.test"));
    let (rsa, ecdsa) = (pki.rsa_leaf("both.test"), pki.leaf("both.test"));
    let chained_pem = pki.write("chained.pem", &chained, Pem::WithChain);
    let bare_pem = pki.write("bare.pem", &bare, Pem::LeafOnly);
    let odd_pem = pki.write("o d;d\\<<.pem", &odd, Pem::WithChain);
    let rsa_pem = pki.write("both.pem.rsa", &rsa, Pem::WithChain);
    let ecdsa_pem = pki.write("both.pem.ecdsa", &ecdsa, Pem::WithChain);
    let both_pem = rsa_pem.strip_suffix(".rsa").unwrap();
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&chained_pem, &bare_pem, both_pem, &odd_pem]).await;
        let socket = haproxy.socket();
        let (process, survey) = surveyed(&socket).await;
        assert_eq!(survey.loaded().len(), 5, "{survey:?}");
        assert_eq!(
            survey.entries().cloned(),
            process.version.lists_entries().then(Entries::default),
            "{}",
            haproxy.version
        );
        assert_eq!((survey.native_updates.len(), &survey.transaction_open), (0, &None));
        for (name, leaf) in
            [(&chained_pem, &chained), (&bare_pem, &bare), (&odd_pem, &odd), (&rsa_pem, &rsa), (&ecdsa_pem, &ecdsa)]
        {
            let loaded = survey.loaded().iter().find(|loaded| loaded.name == *name).unwrap();
            if process.version.bundles() && name.starts_with(both_pem) {
                assert_eq!((loaded.bundle.as_deref(), loaded.fingerprint), (Some(both_pem), None));
                assert_eq!(loaded.status, LoadedStatus::NotShown);
                continue;
            }
            assert_eq!(loaded.fingerprint, Some(leaf.certificate.fingerprint()), "{loaded:?}");
            assert_eq!(loaded.serial_number.as_ref(), Some(leaf.certificate.serial_number()));
            assert_eq!((loaded.status, &loaded.bundle), (LoadedStatus::Used, &None));
            let stapling = if process.version.shows_der() { Stapling::Off } else { Stapling::Unknown };
            assert_eq!(loaded.stapling, stapling, "{}", haproxy.version);
        }
    }
}

#[tokio::test]
async fn stapling_is_switched_on_without_a_reload() {
    let pki = Pki::new();
    let (chained, bare, odd) = (pki.leaf("chained.test"), pki.leaf("bare.test"), pki.leaf("odd.test"));
    let chained_pem = pki.write("chained.pem", &chained, Pem::WithChain);
    let bare_pem = pki.write("bare.pem", &bare, Pem::LeafOnly);
    let odd_pem = pki.write("o d;d\\<<.pem", &odd, Pem::WithChain);
    let staples = [pki.staple(&chained), pki.staple(&bare), pki.staple(&odd)];
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&chained_pem, &bare_pem, &odd_pem]).await;
        let api = Recorder::new(haproxy.socket());
        let process = look(&api).await.unwrap();
        assert_eq!(haproxy.stapled("chained.test", ANY), None);
        let all = [
            installation(&chained_pem, &chained, &staples[0]),
            Installation {
                issuer: IssuerKnowledge::Told(&pki.ca_certificate),
                ..installation(&bare_pem, &bare, &staples[1])
            },
            installation(&odd_pem, &odd, &staples[2]),
        ];
        let outcomes = reconcile_many(&api, &process, &mut None, &all, now()).await;
        assert_eq!(outcomes, vec![installed(&process, true); 3], "{}", haproxy.version);
        assert!(!api.writes().is_empty());
        for (name, staple) in [("chained.test", &staples[0]), ("bare.test", &staples[1]), ("odd.test", &staples[2])] {
            assert_eq!(
                haproxy.stapled(name, ANY).as_deref(),
                Some(staple.der.as_slice()),
                "{name} {}",
                haproxy.version
            );
        }
        assert!(haproxy.s_client("bare.test").contains("Cert Status: good"), "{}", haproxy.version);

        // From now on there is nothing to write, where that can be seen.
        if process.version.lists_entries() {
            let outcomes = reconcile_many(&api, &process, &mut None, &all, now()).await;
            assert_eq!(outcomes, vec![Outcome::AlreadyServed; 3], "{}", haproxy.version);
            assert_eq!(api.writes(), Vec::<String>::new());
            let (_, survey) = surveyed(&api).await;
            assert!(survey.loaded().iter().all(|loaded| loaded.stapling == Stapling::On), "{survey:?}");
        }
    }
}

#[tokio::test]
async fn both_key_types_of_a_bundle_get_their_own_staple() {
    let pki = Pki::new();
    let (rsa, ecdsa) = (pki.rsa_leaf("both.test"), pki.leaf("both.test"));
    let rsa_pem = pki.write("both.pem.rsa", &rsa, Pem::WithChain);
    let ecdsa_pem = pki.write("both.pem.ecdsa", &ecdsa, Pem::WithChain);
    let (rsa_staple, ecdsa_staple) = (pki.staple(&rsa), pki.staple(&ecdsa));
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[rsa_pem.strip_suffix(".rsa").unwrap()]).await;
        let socket = haproxy.socket();
        let process = look(&socket).await.unwrap();
        let all = [installation(&rsa_pem, &rsa, &rsa_staple), installation(&ecdsa_pem, &ecdsa, &ecdsa_staple)];
        let outcomes = reconcile_many(&socket, &process, &mut None, &all, now()).await;
        assert_eq!(outcomes, vec![installed(&process, true); 2], "{}", haproxy.version);
        let seen = |signatures| haproxy.stapled("both.test", signatures);
        assert_eq!(seen("RSA-PSS+SHA256:RSA+SHA256"), Some(rsa_staple.der.clone()), "{}", haproxy.version);
        assert_eq!(seen("ECDSA+SHA256"), Some(ecdsa_staple.der.clone()), "{}", haproxy.version);
    }
}

#[tokio::test]
async fn an_existing_entry_is_filled_by_a_push_and_never_rolled_back() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let pem = pki.write("a.pem", &leaf, Pem::WithChain);
    std::fs::write(format!("{pem}.ocsp"), "").unwrap();
    let older = pki.staple(&leaf);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let newer = pki.staple(&leaf);
    assert!(older.this_update < newer.this_update);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&pem]).await;
        let api = Recorder::new(haproxy.socket());
        let process = look(&api).await.unwrap();
        for staple in [&older, &newer] {
            assert_eq!(install(&api, &installation(&pem, &leaf, staple)).await, installed(&process, false));
            assert_eq!(api.writes(), ["set ssl ocsp-response"], "{}", haproxy.version);
            assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&staple.der), "{}", haproxy.version);
        }
        if !process.version.lists_entries() {
            continue;
        }
        let outcome = install(&api, &installation(&pem, &leaf, &older)).await;
        let Outcome::HoldsNewer(held) = outcome else { panic!("{}: {outcome:?}", haproxy.version) };
        assert_eq!(held.this_update, newer.this_update);
        assert_eq!(held.der, process.version.shows_der().then(|| newer.der.clone()));
        assert_eq!(api.writes(), Vec::<String>::new());
        let replace = Installation { overwrite: OverwritePolicy::Replace, ..installation(&pem, &leaf, &older) };
        assert_eq!(install(&api, &replace).await, installed(&process, false));
        assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&older.der), "{}", haproxy.version);
    }
}

#[tokio::test]
async fn a_second_name_of_a_stapled_certificate_is_switched_on_too() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let first = pki.write("first.pem", &leaf, Pem::WithChain);
    let second = pki.write("second.pem", &leaf, Pem::WithChain);
    let staple = pki.staple(&leaf);
    std::fs::write(format!("{first}.ocsp"), &staple.der).unwrap();
    for binary in binaries() {
        // The second name wins: it is loaded first.
        let haproxy = Haproxy::start(&binary, &[&second, &first]).await;
        let api = Recorder::new(haproxy.socket());
        let (process, survey) = surveyed(&api).await;
        if !process.version.lists_entries() {
            continue;
        }
        let stapling = |name: &str| survey.loaded().iter().find(|loaded| loaded.name == name).unwrap().stapling;
        assert_eq!((stapling(&first), stapling(&second)), (Stapling::On, Stapling::Off), "{}", haproxy.version);
        assert_eq!(haproxy.stapled("a.test", ANY), None);
        let mut entries = survey.entries().cloned();
        let one = Installation { stapling: Stapling::Off, ..installation(&second, &leaf, &staple) };
        assert_eq!(reconcile(&api, &process, &mut entries, &one, now()).await, installed(&process, true));
        assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&staple.der), "{}", haproxy.version);
        let (_, survey) = surveyed(&api).await;
        assert!(survey.loaded().iter().all(|loaded| loaded.stapling == Stapling::On), "{survey:?}");
    }
}

#[tokio::test]
async fn a_transaction_of_someone_else_is_left_as_it_is() {
    let pki = Pki::new();
    let (ours, theirs) = (pki.leaf("ours.test"), pki.leaf("theirs.test"));
    let ours_pem = pki.write("ours.pem", &ours, Pem::WithChain);
    let theirs_pem = pki.write("theirs.pem", &theirs, Pem::WithChain);
    let (our_staple, their_staple) = (pki.staple(&ours), pki.staple(&theirs));
    let base64 = openssl::base64::encode_block(&their_staple.der);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&ours_pem, &theirs_pem]).await;
        let opened =
            lab::stranger(&haproxy.at("admin.sock"), &format!("set ssl cert {theirs_pem}.ocsp <<\n{base64}\n\n"));
        assert_eq!(opened.trim(), format!("Transaction created for certificate {theirs_pem}!"));
        let api = Recorder::new(haproxy.socket());
        let (_, survey) = surveyed(&api).await;
        assert_eq!(survey.transaction_open.as_ref(), Some(&theirs_pem));
        let outcome = install(&api, &installation(&ours_pem, &ours, &our_staple)).await;
        let busy = InstallError::Busy { by: Some(theirs_pem.clone()) };
        assert_eq!(outcome, Outcome::Failed(busy), "{}", haproxy.version);
        assert!(api.writes().iter().all(|write| write == "set ssl ocsp-response"));
        let committed = lab::stranger(&haproxy.at("admin.sock"), &format!("commit ssl cert {theirs_pem}\n"));
        assert!(committed.trim().ends_with("Success!"), "{committed}");
        assert_eq!(haproxy.stapled("theirs.test", ANY).as_ref(), Some(&their_staple.der), "{}", haproxy.version);
        assert_eq!(haproxy.stapled("ours.test", ANY), None);
    }
}

/// Opens a transaction right after its user has looked for one.
struct Intruded {
    socket: PathBuf,
    inner: Socket,
    command: String,
}

impl RuntimeApi for Intruded {
    async fn exchange(&self, command: &haproxy::Command) -> Result<String, SocketError> {
        let reply = self.inner.exchange(command).await;
        if command.asks_for_transaction() {
            lab::stranger(&self.socket, &self.command);
        }
        reply
    }
}

#[tokio::test]
async fn a_transaction_that_is_opened_in_between_is_neither_committed_nor_aborted() {
    let pki = Pki::new();
    let (ours, theirs) = (pki.leaf("ours.test"), pki.leaf("theirs.test"));
    let ours_pem = pki.write("ours.pem", &ours, Pem::WithChain);
    let theirs_pem = pki.write("theirs.pem", &theirs, Pem::WithChain);
    let (our_staple, their_staple) = (pki.staple(&ours), pki.staple(&theirs));
    let base64 = openssl::base64::encode_block(&their_staple.der);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&ours_pem, &theirs_pem]).await;
        let command = format!("set ssl cert {theirs_pem}.ocsp <<\n{base64}\n\n");
        let intruded = Intruded { inner: haproxy.socket(), socket: haproxy.at("admin.sock"), command };
        let outcome = install(&intruded, &installation(&ours_pem, &ours, &our_staple)).await;
        let (certificate, by) = (theirs_pem.clone(), Some(theirs_pem.clone()));
        let mixed = Outcome::Failed(InstallError::ForeignTransaction { certificate });
        // HAProxy 2.4 to 2.8 mixed transactions until it was repaired in a point release.
        let may_mix = look(&haproxy.socket()).await.unwrap().version.is_at_least(2, 4);
        assert!(outcome == Outcome::Failed(InstallError::Busy { by }) || (may_mix && outcome == mixed), "{outcome:?}");
        let (_, survey) = surveyed(&haproxy.socket()).await;
        assert_eq!(survey.transaction_open.as_ref(), Some(&theirs_pem), "{}", haproxy.version);
    }
}

#[tokio::test]
async fn a_certificate_that_no_frontend_serves_gets_no_staple() {
    let pki = Pki::new();
    let (front, back) = (pki.leaf("front.test"), pki.leaf("back.test"));
    let front_pem = pki.write("front.pem", &front, Pem::WithChain);
    let back_pem = pki.write("back.pem", &back, Pem::WithChain);
    let staple = pki.staple(&back);
    for binary in binaries() {
        let server = format!("backend b\n  server s 127.0.0.1:1 ssl verify none crt {back_pem}\n");
        let haproxy = Haproxy::start_with(&binary, &[&front_pem], &server).await;
        let process = look(&haproxy.socket()).await.unwrap();
        let outcome = install(&haproxy.socket(), &installation(&back_pem, &back, &staple)).await;
        match process.version {
            ref version if !version.is_at_least(2, 4) => {
                assert_eq!(outcome, Outcome::Failed(InstallError::NotReferenced));
            }
            // Until 2.7, HAProxy keeps an entry that nobody uses.
            ref version if !version.shows_der() && outcome != Outcome::Failed(InstallError::NoEntry) => {
                assert_eq!(outcome, installed(&process, true), "{version}");
            }
            ref version => assert_eq!(outcome, Outcome::Failed(InstallError::NoEntry), "{version}"),
        }
        let (_, survey) = surveyed(&haproxy.socket()).await;
        assert_eq!(survey.transaction_open, None, "{}", haproxy.version);
    }
}

#[tokio::test]
async fn responses_up_to_the_limit_get_in_and_larger_ones_are_not_tried() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let pem = pki.write("a.pem", &leaf, Pem::WithChain);
    for binary in binaries() {
        let haproxy = Haproxy::start(&binary, &[&pem]).await;
        let api = Recorder::new(haproxy.socket());
        let process = look(&api).await.unwrap();
        let limit = response_limit(&pem, DEFAULT_BUFFER);
        let over = pki.staple_of(&leaf, limit + 1);
        let too_large = InstallError::TooLarge { bytes: limit + 1, limit };
        assert_eq!(install(&api, &installation(&pem, &leaf, &over)).await, Outcome::Failed(too_large));
        assert_eq!(api.writes(), Vec::<String>::new());
        // Once by transaction, once by push.
        for enabled in [true, false] {
            let largest = pki.staple_of(&leaf, limit);
            let one = Installation { overwrite: OverwritePolicy::Replace, ..installation(&pem, &leaf, &largest) };
            assert_eq!(install(&api, &one).await, installed(&process, enabled), "{}", haproxy.version);
            assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&largest.der), "{}", haproxy.version);
        }
    }
}

#[tokio::test]
async fn a_successor_is_another_process() {
    let pki = Pki::new();
    let leaf = pki.leaf("a.test");
    let pem = pki.write("a.pem", &leaf, Pem::WithChain);
    let staple = pki.staple(&leaf);
    for binary in binaries() {
        let first = Haproxy::start(&binary, &[&pem]).await;
        let socket = first.socket();
        let process = look(&socket).await.unwrap();
        assert_eq!(install(&socket, &installation(&pem, &leaf, &staple)).await, installed(&process, true));
        let second = first.succeed().await;
        assert!(!look(&socket).await.unwrap().is_same_as(&process), "{}", second.version);
        assert_eq!(second.stapled("a.test", ANY), None, "{}", second.version);
        assert_eq!(install(&socket, &installation(&pem, &leaf, &staple)).await, installed(&process, true));
        assert_eq!(second.stapled("a.test", ANY).as_ref(), Some(&staple.der), "{}", second.version);
    }
}

#[tokio::test]
async fn a_master_socket_works_like_an_admin_socket() {
    let pki = Pki::new();
    let (leaf, odd) = (pki.leaf("a.test"), pki.leaf("odd.test"));
    let pem = pki.write("a.pem", &leaf, Pem::LeafOnly);
    let odd_pem = pki.write("o d;d\\<<.pem", &odd, Pem::WithChain);
    let (staple, odd_staple) = (pki.staple(&leaf), pki.staple(&odd));
    for binary in binaries() {
        let haproxy = Haproxy::start_master(&binary, &[&pem, &odd_pem]).await;
        let socket = haproxy.socket_at("master.sock");
        let (process, survey) = surveyed(&socket).await;
        assert_eq!(socket.is_master(), Some(true));
        assert!(process.is_same_as(&look(&haproxy.socket()).await.unwrap()));
        assert!(survey.loaded().iter().all(|loaded| loaded.fingerprint.is_some()), "{survey:?}");
        let all = [
            Installation { issuer: IssuerKnowledge::Told(&pki.ca_certificate), ..installation(&pem, &leaf, &staple) },
            installation(&odd_pem, &odd, &odd_staple),
        ];
        let outcomes = reconcile_many(&socket, &process, &mut None, &all, now()).await;
        assert_eq!(outcomes, vec![installed(&process, true); 2], "{}", haproxy.version);
        assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&staple.der), "{}", haproxy.version);
        assert_eq!(haproxy.stapled("odd.test", ANY).as_ref(), Some(&odd_staple.der), "{}", haproxy.version);

        // The master reloads: both sockets lead to the new worker.
        haproxy.reload();
        let admin = haproxy.socket();
        let socket = &socket;
        let renewed = until(|| async { look(socket).await.ok().filter(|now| !now.is_same_as(&process)) }).await;
        assert!(look(&admin).await.unwrap().is_same_as(&renewed), "{}", haproxy.version);
        let outcomes = reconcile_many(socket, &renewed, &mut None, &all, now()).await;
        assert_eq!(outcomes, vec![installed(&renewed, true); 2], "{}", haproxy.version);
        assert_eq!(haproxy.stapled("a.test", ANY).as_ref(), Some(&staple.der), "{}", haproxy.version);
    }
}
