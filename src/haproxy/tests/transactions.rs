//! One transaction after the other, and what may come between them.

use super::*;
use crate::haproxy::transaction::enable;

const SET_A: (&str, &str) = ("set ssl cert /c/a.pem.ocsp", "Transaction created for certificate /c/a.pem!\n\n");
const SET_B: (&str, &str) = ("set ssl cert /c/b.pem.ocsp", "Transaction created for certificate /c/b.pem!\n\n");
const COMMIT_A: (&str, &str) = ("commit ssl cert /c/a.pem", "Committing /c/a.pem.\nSuccess!\n\n");
const COMMIT_B: (&str, &str) = ("commit ssl cert /c/b.pem", "Committing /c/b.pem.\nSuccess!\n\n");
const QUESTION: (&str, &str) = ("abort ssl cert /", NO_TRANSACTION);
/// From 3.1 on, and from 2.4 on.
const INTO_B: &str = "commit ssl cert /c/a.pem;set ssl cert /c/b.pem.ocsp";
const TO_QUESTION: &str = "commit ssl cert /c/a.pem;abort ssl cert /";

type Steps<'a> = &'a [(&'static str, &'a str)];

fn installation<'a>(name: &'a str, id: &'a CertIdKey, der: &'a [u8]) -> Installation<'a> {
    Installation {
        name,
        id,
        stapling: Stapling::Off,
        issuer: IssuerKnowledge::InChain,
        staple: StapleView { der, ..staple() },
        overwrite: OverwritePolicy::KeepNewer,
    }
}

async fn talk(version: &str, names: &[&str], steps: Steps<'_>) -> Vec<Result<(), InstallError>> {
    let api = Script(Mutex::new(steps.iter().map(|(command, reply)| (*command, (*reply).to_owned())).collect()));
    let id = id();
    let installations: Vec<_> = names.iter().map(|name| installation(name, &id, DER)).collect();
    let results = enable(&api, &process(version), &installations.iter().collect::<Vec<_>>()).await;
    api.is_done();
    results
}

const BOTH: [&str; 2] = ["/c/a.pem", "/c/b.pem"];

fn busy(by: Option<&str>) -> Result<(), InstallError> {
    Err(InstallError::Busy { by: by.map(str::to_owned) })
}

#[tokio::test]
async fn one_request_leads_as_far_as_the_version_allows() {
    let both = [COMMIT_A.1, SET_B.1].concat();
    let steps = [QUESTION, SET_A, (INTO_B, &both), COMMIT_B];
    assert_eq!(talk("3.4.7", &BOTH, &steps).await, [Ok(()), Ok(())]);

    let both = [COMMIT_A.1, NO_TRANSACTION].concat();
    let steps = [QUESTION, SET_A, (TO_QUESTION, &both), SET_B, COMMIT_B];
    assert_eq!(talk("2.6.12", &BOTH, &steps).await, [Ok(()), Ok(())]);
    assert_eq!(talk("3.0.11", &BOTH, &steps).await, [Ok(()), Ok(())]);

    let steps = [QUESTION, SET_A, COMMIT_A, QUESTION, SET_B, COMMIT_B];
    assert_eq!(talk("2.2.9", &BOTH, &steps).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn a_stranger_between_two_of_ours_is_left_alone() {
    const THEIRS: &str = "The ongoing transaction is about '/c/x.pem' but you are trying to";
    let refused = format!("{}{THEIRS} set '/c/b.pem'\nCan't update /c/b.pem.ocsp!\n\n", COMMIT_A.1);
    let steps = [QUESTION, SET_A, (INTO_B, &*refused)];
    assert_eq!(talk("3.4.7", &BOTH, &steps).await, [Ok(()), busy(Some("/c/x.pem"))]);

    let answer = format!("{THEIRS} abort a transaction for '/'\n\n");
    let both = [COMMIT_A.1, &answer].concat();
    let steps = [QUESTION, SET_A, (TO_QUESTION, &both), ("abort ssl cert /", &answer)];
    assert_eq!(talk("2.6.12", &BOTH, &steps).await, [Ok(()), busy(Some("/c/x.pem"))]);

    // The same certificate.
    let both = [COMMIT_A.1, "Transaction updated for certificate /c/b.pem!\n\n"].concat();
    let foreign = Err(InstallError::ForeignTransaction { certificate: "/c/b.pem".to_owned() });
    assert_eq!(talk("3.4.7", &BOTH, &[QUESTION, SET_A, (INTO_B, &both)]).await, [Ok(()), foreign]);
}

#[tokio::test]
async fn the_next_one_goes_on_whatever_became_of_the_one_before() {
    let failed = |words: &str| Err(InstallError::CommitFailed { reply: words.to_owned() });
    let both = ["Committing /c/a.pem.\nFailed!\n\n", SET_B.1].concat();
    let steps = [QUESTION, SET_A, (INTO_B, &both), COMMIT_B];
    assert_eq!(talk("3.4.7", &BOTH, &steps).await, [failed("Committing /c/a.pem. Failed!"), Ok(())]);

    // 2.4 and 2.5 keep it.
    let ours = "The ongoing transaction is about '/c/a.pem' but you are trying to abort a transaction for '/'\n\n";
    let both = ["Committing /c/a.pem.\nFailed!\n\n", ours].concat();
    let abort = ("abort ssl cert /c/a.pem", "Transaction aborted for certificate '/c/a.pem'!\n\n");
    let steps = [QUESTION, SET_A, (TO_QUESTION, &both), abort, QUESTION, SET_B, COMMIT_B];
    assert_eq!(talk("2.4.30", &BOTH, &steps).await, [failed("Committing /c/a.pem. Failed!"), Ok(())]);

    // Somebody aborted ours.
    let both = ["No ongoing transaction! !\nCan't commit /c/a.pem!\n\n", SET_B.1].concat();
    let results = talk("3.4.7", &BOTH, &[QUESTION, SET_A, (INTO_B, &both), COMMIT_B]).await;
    assert!(matches!(&results[0], Err(InstallError::CommitFailed { reply }) if reply.starts_with("No ongoing")));
    assert_eq!(results[1], Ok(()));

    let updated = "Transaction updated for certificate /c/b.pem!\n\n";
    let both = ["No ongoing transaction! !\nCan't commit /c/a.pem!\n\n", updated].concat();
    let results = talk("3.4.7", &BOTH, &[QUESTION, SET_A, (INTO_B, &both)]).await;
    assert!(matches!(results[1], Err(InstallError::ForeignTransaction { .. })), "{results:?}");

    let names = ["/c/a.pem", "/c/Success"];
    let created = "Transaction created for certificate /c/Success!\n\n";
    let both = ["No ongoing transaction! !\nCan't commit /c/a.pem!\n\n", created].concat();
    let into = "commit ssl cert /c/a.pem;set ssl cert /c/Success.ocsp";
    let commit = ("commit ssl cert /c/Success", "Committing /c/Success.\nSuccess!\n\n");
    assert_eq!(talk("3.4.7", &names, &[QUESTION, SET_A, (into, &both), commit]).await[1], Ok(()));

    let ignored =
        "Committing /c/a.pem\nLoading: Certificate ID does not match. Content will be ignored.\n\n.\nSuccess!\n\n";
    let both = [ignored, SET_B.1].concat();
    let steps = [QUESTION, SET_A, (INTO_B, &both), COMMIT_B];
    assert_eq!(talk("3.4.7", &BOTH, &steps).await, [Err(InstallError::CertIdUnknown), Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_understood_together_is_said_one_by_one() {
    let alone = [COMMIT_A, QUESTION, SET_B, COMMIT_B];
    let about_a = "The ongoing transaction is about '/c/a.pem' but you are trying to set '/c/b.pem'\n\n";
    for reply in [[LOCKED, about_a].concat().as_str(), "The command is too big for the buffer size.\n\n", "RESET"] {
        let steps = [&[QUESTION, SET_A, (INTO_B, reply)][..], &alone].concat();
        assert_eq!(talk("3.4.7", &BOTH, &steps).await, [Ok(()), Ok(())], "{reply}");
    }
    // By a reload, and the new process knows nothing of the first.
    let gone = ("commit ssl cert /c/a.pem", "No ongoing transaction! !\nCan't commit /c/a.pem!\n\n");
    let results = talk("3.4.7", &BOTH, &[QUESTION, SET_A, (INTO_B, "RESET"), gone, QUESTION, SET_B, COMMIT_B]).await;
    assert!(matches!(&results[..], [Err(InstallError::Socket(_)), Ok(())]), "{results:?}");
    // Only the second half was not done.
    let both = [COMMIT_A.1, LOCKED].concat();
    let steps = [QUESTION, SET_A, (INTO_B, &both), QUESTION, SET_B, COMMIT_B];
    assert_eq!(talk("3.4.7", &BOTH, &steps).await, [Ok(()), Ok(())]);
    let steps = [QUESTION, SET_A, (TO_QUESTION, &both), QUESTION, SET_B, COMMIT_B];
    assert_eq!(talk("2.8.25", &BOTH, &steps).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn what_cannot_be_sent_keeps_nothing_open() {
    let names = ["/c/a.pem", "/c/\n.pem", "/c/b.pem"];
    let results = talk("3.4.7", &names, &[QUESTION, SET_A, COMMIT_A, QUESTION, SET_B, COMMIT_B]).await;
    assert!(matches!(&results[..], [Ok(()), Err(InstallError::Name(_)), Ok(())]), "{results:?}");
}

#[tokio::test]
async fn what_would_not_fit_together_goes_one_by_one() {
    let (id, large) = (id(), [7; 8000]);
    let api = Script::new([QUESTION, SET_A, COMMIT_A, QUESTION, SET_B, COMMIT_B]);
    let (a, b) = (installation("/c/a.pem", &id, DER), installation("/c/b.pem", &id, &large));
    assert_eq!(enable(&api, &process("3.4.7"), &[&a, &b]).await, [Ok(()), Ok(())]);
    api.is_done();
}
