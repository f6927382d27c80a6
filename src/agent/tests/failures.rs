//! Every failure that exists has its step, its evidence and its remedy in the explanation.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::samples::{
    address, every, faults, fetch_errors, request_error, socket_errors, text, unsendable, verify_errors,
};
use super::{NAME, Scene, assert_is_told, at, certificates, now};
use crate::agent::fold::{DiskDone, Done, Installed};
use crate::agent::troubles;
use crate::certificate::Certificate;
use crate::discovery::{FileError, Problem, ProblemError};
use crate::explain::Outcome;
use crate::fetch::{IssuerError, IssuerReport, Report};
use crate::haproxy::{HaproxyError, InstallError, SocketError};
use crate::ocsp::{CertStatus, Refusal, Unloadable, VerifyError};
use crate::pem::PemError;
use crate::probe::Objection;
use crate::responder::Fault;
use crate::status::{Step, Trouble};
use crate::store::{Operation, Place, StoreError};

#[test]
fn whatever_goes_wrong_with_a_fetch_is_explained() {
    for error in fetch_errors() {
        let mut scene = Scene::new();
        let (fingerprint, trouble) = (scene.fingerprint(), troubles::fetch(&error));
        let report = Report { sent: Vec::new(), outcome: Err(error), wishes: Vec::new(), outdated: false };
        scene.fold(Done::Fetch { fingerprint, host: "o.t".to_owned(), report });
        scene.assert_stops(&trouble);
    }
}

#[test]
fn whatever_haproxy_would_not_load_is_explained() {
    let refusals = every!(Refusal:
        Refusal::CertIdHash { .. } => Refusal::CertIdHash { algorithm: text() },
        Refusal::CertStatusUnknown => Refusal::CertStatusUnknown,
        Refusal::InvalidTime { .. } => Refusal::InvalidTime { field: "nextUpdate" },
        Refusal::LessThan300sLeft { .. } => Refusal::LessThan300sLeft { now: at(0), next_update: at(9) },
        Refusal::MultipleSingleResponses { .. } => Refusal::MultipleSingleResponses { count: 2 },
        Refusal::NextUpdateMissing => Refusal::NextUpdateMissing,
        Refusal::NoSingleResponse => Refusal::NoSingleResponse,
        Refusal::NoSuccessfulBasicResponse => Refusal::NoSuccessfulBasicResponse,
        Refusal::NotYetValid { .. } => Refusal::NotYetValid { now: at(0), this_update: at(999) },
    );
    let all = every!(Unloadable:
        Unloadable::CertIdEncoding { .. } => Unloadable::CertIdEncoding { expected: text(), found: text() },
        Unloadable::Expiring { .. } => Unloadable::Expiring { now: at(0), next_update: at(9) },
        Unloadable::Refused { .. } => Unloadable::Refused { refusals: vec![Refusal::NextUpdateMissing] },
    );
    let refused = refusals.into_iter().map(|refusal| Unloadable::Refused { refusals: vec![refusal] });
    for error in all.into_iter().chain(refused) {
        let mut scene = Scene::new();
        let (fingerprint, trouble) = (scene.fingerprint(), troubles::unloadable(&error));
        scene.world.leaves.get_mut(&fingerprint).unwrap().trouble = Some(trouble.clone());
        scene.assert_stops(&trouble);
    }
    let mut scene = Scene::new();
    let (fingerprint, trouble) = (scene.fingerprint(), troubles::request(&request_error()));
    scene.world.leaves.get_mut(&fingerprint).unwrap().trouble = Some(trouble.clone());
    scene.assert_stops(&trouble);
}

#[test]
fn whatever_keeps_the_issuer_away_is_explained() {
    let all = every!(IssuerError:
        IssuerError::Fault(_) => IssuerError::Fault(Fault::Url { url: text() }),
        IssuerError::NotTheIssuer { .. } => IssuerError::NotTheIssuer { url: text(), subject: text() },
        IssuerError::NoUrl => IssuerError::NoUrl,
    );
    for error in all.into_iter().chain(faults().into_iter().map(IssuerError::Fault)) {
        let mut scene = Scene::orphan();
        assert_eq!(scene.finding(Step::Issuer).outcome, Outcome::Waiting);
        let (fingerprint, trouble) = (scene.fingerprint(), troubles::issuer(&error));
        let report = IssuerReport { sent: vec![now().monotonic], outcome: Err(error), wishes: Vec::new() };
        scene.fold(Done::DownloadIssuer { fingerprint, host: "i.t".to_owned(), report });
        scene.assert_stops(&trouble);
        assert_eq!(scene.finding(Step::Fetched).outcome, Outcome::NotReached);
    }
    assert_is_told(&troubles::no_issuer());
}

#[test]
fn whatever_a_file_lacks_is_explained() {
    let certificate = || Certificate::from_der(b"nothing").unwrap_err();
    let pem = every!(PemError:
        PemError::NoCertificate { .. } => PemError::NoCertificate { other_blocks: true },
        PemError::Truncated { .. } => PemError::Truncated { number: 1 },
        PemError::Certificate { .. } => PemError::Certificate { number: 1, source: certificate() },
        PemError::Encoding { .. } => PemError::Encoding { number: 1, reason: text() },
    );
    let all = every!(FileError:
        FileError::NotFound => FileError::NotFound,
        FileError::DanglingLink { .. } => FileError::DanglingLink { target: text() },
        FileError::Permission => FileError::Permission,
        FileError::TooLarge { .. } => FileError::TooLarge { size: 9 },
        FileError::NotAFile => FileError::NotAFile,
        FileError::Empty => FileError::Empty,
        FileError::NoCertificate => FileError::NoCertificate,
        FileError::MalformedPem(_) => FileError::MalformedPem(PemError::Truncated { number: 2 }),
        FileError::MalformedCertificate(_) =>
            FileError::MalformedCertificate(PemError::Certificate { number: 1, source: certificate() }),
        FileError::Io { .. } => FileError::Io { reason: text() },
    );
    for error in all.into_iter().chain(pem.into_iter().map(FileError::from)) {
        let trouble = troubles::file(&error);
        let (leaf, _) = certificates();
        Scene::with(Err(error.clone()), leaf).assert_stops(&trouble);
        assert_is_told(&troubles::lost_file(&error));
        assert_is_told(&troubles::place(&Problem { path: NAME.into(), error: ProblemError::Unreadable(error) }));
    }
    let places = every!(ProblemError:
        ProblemError::Missing => ProblemError::Missing,
        ProblemError::Unreadable(_) => ProblemError::Unreadable(FileError::Empty),
        ProblemError::Empty => ProblemError::Empty,
        ProblemError::CrtList { .. } => ProblemError::CrtList { reason: text() },
    );
    for error in places {
        assert_is_told(&troubles::place(&Problem { path: NAME.into(), error }));
    }
}

#[test]
fn whatever_keeps_haproxy_from_answering_is_explained() {
    let all = every!(HaproxyError:
        HaproxyError::LeavingProcess { .. } => HaproxyError::LeavingProcess { pid: 7 },
        HaproxyError::Level { .. } => HaproxyError::Level { level: text() },
        HaproxyError::Locked => HaproxyError::Locked,
        HaproxyError::NoOcspSupport => HaproxyError::NoOcspSupport,
        HaproxyError::Socket(_) => HaproxyError::Socket(SocketError::Refused { address: address() }),
        HaproxyError::UnexpectedReply { .. } => HaproxyError::UnexpectedReply { command: text(), reply: text() },
    );
    for error in all.into_iter().chain(socket_errors().into_iter().map(HaproxyError::Socket)) {
        let mut scene = Scene::new();
        let trouble = troubles::haproxy(&error);
        scene.survey(Err(error));
        scene.assert_stops(&trouble);
    }
}

#[test]
fn whatever_keeps_a_staple_out_of_haproxy_is_explained() {
    let all = every!(InstallError:
        InstallError::Busy { .. } => InstallError::Busy { by: Some(text()) },
        InstallError::CertIdUnknown => InstallError::CertIdUnknown,
        InstallError::CommitFailed { .. } => InstallError::CommitFailed { reply: text() },
        InstallError::Expired { .. } => InstallError::Expired { next_update: Some(at(0)) },
        InstallError::ForeignTransaction { .. } => InstallError::ForeignTransaction { certificate: text() },
        InstallError::IssuerRefused { .. } => InstallError::IssuerRefused { reply: text() },
        InstallError::MultipleSingleResponses => InstallError::MultipleSingleResponses,
        InstallError::Name(_) => InstallError::Name(unsendable()),
        InstallError::NextUpdateInvalid => InstallError::NextUpdateInvalid,
        InstallError::NextUpdateMissing => InstallError::NextUpdateMissing,
        InstallError::NoEntry => InstallError::NoEntry,
        InstallError::NoOcspSupport => InstallError::NoOcspSupport,
        InstallError::NotReferenced => InstallError::NotReferenced,
        InstallError::NotSuccessful => InstallError::NotSuccessful,
        InstallError::PermissionDenied => InstallError::PermissionDenied,
        InstallError::ReadBack { .. } => InstallError::ReadBack { held: text() },
        InstallError::Socket(_) => InstallError::Socket(SocketError::Empty { address: address() }),
        InstallError::StatusUnknown => InstallError::StatusUnknown,
        InstallError::TooLarge { .. } => InstallError::TooLarge { bytes: 9, limit: 1 },
        InstallError::TooLargeForHaproxy { .. } => InstallError::TooLargeForHaproxy { reply: text() },
        InstallError::UnexpectedReply { .. } => InstallError::UnexpectedReply { command: text(), reply: text() },
        InstallError::Unparsable { .. } => InstallError::Unparsable { reply: text() },
        InstallError::UpdateFailed => InstallError::UpdateFailed,
    );
    for error in all.into_iter().chain(socket_errors().into_iter().map(InstallError::Socket)) {
        let mut scene = Scene::new();
        scene.load();
        let trouble = troubles::install(&error);
        let idle = matches!(error, InstallError::NoEntry | InstallError::NotReferenced);
        let outcomes = vec![(NAME.to_owned(), Installed::Refused(error))];
        scene.fold(Done::Install { peer: 0, entries: None, outcomes, journal: None });
        if idle {
            // No frontend serves it, which is no fault.
            let finding = scene.finding(Step::Entry);
            assert!(finding.outcome == Outcome::Skipped && finding.remedy.is_some(), "{finding:?}");
            assert_is_told(&trouble);
        } else {
            scene.assert_stops(&trouble);
        }
    }
}

#[test]
fn whatever_a_disk_refuses_is_explained() {
    let kinds = [
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::NotFound,
        io::ErrorKind::FileTooLarge,
        io::ErrorKind::IsADirectory,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::AlreadyExists,
        io::ErrorKind::TimedOut,
    ];
    let operations = every!(Operation:
        Operation::Read => Operation::Read,
        Operation::Write => Operation::Write,
        Operation::Remove => Operation::Remove,
    );
    let places = every!(Place:
        Place::StateDirectory => Place::StateDirectory,
        Place::BesideCertificate => Place::BesideCertificate,
    );
    let mut told = BTreeSet::new();
    for (kind, place) in kinds.into_iter().flat_map(|kind| places.iter().map(move |place| (kind, *place))) {
        for operation in operations.clone() {
            let error = || StoreError { path: NAME.into(), operation, place, source: kind.into() };
            let mut scene = Scene::new();
            let (fingerprint, trouble) = (scene.fingerprint(), troubles::store(&error()));
            scene.fold(Done::Disk(vec![DiskDone::IssuerKept { fingerprint, error: Some(error()) }]));
            scene.assert_stops(&trouble);
            told.insert(trouble.kind);
        }
    }
    let known = ["no_space", "not_a_file", "not_found", "other", "permission", "read_only", "too_large"];
    assert_eq!(told.into_iter().collect::<Vec<_>>(), known);
}

#[test]
fn whatever_a_client_may_object_to_has_its_remedy() {
    let revoked = CertStatus::Revoked { revocation_time: at(0), revocation_reason: None };
    let all = every!(Objection:
        Objection::Resolve { .. } => Objection::Resolve { host: text(), reason: text() },
        Objection::Connect { .. } => Objection::Connect { address: text(), reason: text() },
        Objection::Timeout { .. } => Objection::Timeout { address: text(), deadline: Duration::from_secs(9) },
        Objection::NothingInCommon { .. } => Objection::NothingInCommon { alert: text() },
        Objection::NameRefused { .. } => Objection::NameRefused { server_name: text() },
        Objection::Handshake { .. } => Objection::Handshake { reason: text() },
        Objection::Certificate(_) => Objection::Certificate(Certificate::from_der(b"nothing").unwrap_err()),
        Objection::NameMismatch { .. } => Objection::NameMismatch { subject: text(), server_name: text() },
        Objection::Expired { .. } => Objection::Expired { not_after: at(0) },
        Objection::Untrusted { .. } => Objection::Untrusted { reason: text() },
        Objection::NotStapled => Objection::NotStapled,
        Objection::NothingToStaple => Objection::NothingToStaple,
        Objection::NoIssuer { .. } => Objection::NoIssuer { issuer: text() },
        Objection::Staple(_) => Objection::Staple(VerifyError::NoSingleResponse),
        Objection::NotGood { status: CertStatus::Good } => Objection::NotGood { status: CertStatus::Good },
        Objection::NotGood { status: CertStatus::Revoked { .. } } => Objection::NotGood { status: revoked },
        Objection::NotGood { status: CertStatus::Unknown } => Objection::NotGood { status: CertStatus::Unknown },
    );
    for objection in all.into_iter().chain(verify_errors().into_iter().map(Objection::Staple)) {
        let (kind, detail, remedy) = (objection.kind(), objection.to_string(), objection.remedy().to_owned());
        assert_is_told(&Trouble { step: Some(Step::Handshake), kind, detail, remedy });
    }
}
