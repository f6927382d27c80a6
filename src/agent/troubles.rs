//! From what failed to what people are told: where on the way from the file to the handshake it stands, what happened,
//! what to do. Each match names every error there is, so that a new one has its place before it compiles. No IO.

use crate::certificate::Certificate;
use crate::discovery::{FileError, Problem};
use crate::fetch::{FetchError, IssuerError};
use crate::haproxy::{HaproxyError, InstallError};
use crate::ocsp::{RequestError, Unloadable};
use crate::status::{Step, Trouble};
use crate::store::StoreError;
use crate::uri;

fn trouble(step: Step, kind: &'static str, detail: impl ToString, remedy: impl Into<String>) -> Trouble {
    Trouble { step: Some(step), kind, detail: detail.to_string(), remedy: remedy.into() }
}

/// A certificate file gives no certificate.
pub(super) fn file(error: &FileError) -> Trouble {
    let step = match error {
        FileError::NotFound
        | FileError::DanglingLink { .. }
        | FileError::Permission
        | FileError::TooLarge { .. }
        | FileError::NotAFile
        | FileError::Io { .. } => Step::File,
        FileError::Empty
        | FileError::NoCertificate
        | FileError::MalformedPem(_)
        | FileError::MalformedCertificate(_) => Step::Parsed,
    };
    trouble(step, error.kind(), error, error.remedy())
}

/// The file of a certificate that HAProxy runs gives none any more.
pub(super) fn lost_file(error: &FileError) -> Trouble {
    Trouble { detail: format!("its file cannot be read any more ({error})"), ..file(error) }
}

/// The file of a certificate that HAProxy runs holds another one.
pub(super) fn other_certificate(found: &Certificate) -> Trouble {
    let serial_number = found.serial_number();
    let detail = format!("the file holds another certificate (serial number {serial_number}) than HAProxy runs");
    trouble(Step::File, "other_certificate", detail, "reload HAProxy")
}

/// A place that STAPLER_CERTS names leads to no certificate.
pub(super) fn place(problem: &Problem) -> Trouble {
    trouble(Step::File, problem.error.kind(), problem, problem.error.remedy())
}

/// The certificate itself is over.
pub(super) fn expired(certificate: &Certificate) -> Trouble {
    let detail = format!("the certificate itself ended at {}", certificate.not_after());
    trouble(Step::Parsed, "expired", detail, "renew the certificate")
}

/// The CA says so.
pub(super) fn revoked() -> Trouble {
    trouble(Step::Verified, "revoked", "the CA says it is revoked", "replace the certificate")
}

/// The issuer is nowhere, and nothing says where else to look.
pub(super) fn no_issuer() -> Trouble {
    let detail = "its issuer is neither in the PEM file nor in a .issuer file, and the certificate names no URL for it";
    trouble(Step::Issuer, IssuerError::NoUrl.kind(), detail, IssuerError::NoUrl.remedy())
}

/// The issuer could not be downloaded.
pub(super) fn issuer(error: &IssuerError) -> Trouble {
    let detail = format!("its issuer could not be downloaded: {error}");
    trouble(Step::Issuer, error.kind(), told(detail), error.remedy())
}

/// Nothing can be asked about the certificate.
pub(super) fn request(error: &RequestError) -> Trouble {
    trouble(Step::Responder, error.kind(), error, error.remedy())
}

/// In letters. More than every honest reason; what a stranger wrote is in the snapshot of every certificate.
const LONGEST_DETAIL: usize = 1000;

/// A response may hold names and numbers of any length.
fn told(detail: impl ToString) -> String {
    uri::excerpt(&detail.to_string(), LONGEST_DETAIL)
}

/// No answer came that is worth anything.
pub(super) fn fetch(error: &FetchError) -> Trouble {
    let step = match error {
        FetchError::Fault(_) | FetchError::NothingSent => Step::Fetched,
        FetchError::Refused { .. } => Step::Verified,
    };
    trouble(step, error.kind(), told(error), error.remedy())
}

/// A genuine answer came that HAProxy cannot serve.
pub(super) fn unloadable(error: &Unloadable) -> Trouble {
    let detail = format!("the CA's answer is genuine, but HAProxy would not serve it: {error}");
    trouble(Step::Verified, error.kind(), told(detail), error.remedy())
}

/// HAProxy cannot be worked with at the moment.
pub(super) fn haproxy(error: &HaproxyError) -> Trouble {
    trouble(Step::Entry, error.kind(), error, error.remedy())
}

/// HAProxy did not take a staple.
pub(super) fn install(error: &InstallError) -> Trouble {
    let step = match error {
        InstallError::CertIdUnknown
        | InstallError::NoEntry
        | InstallError::NoOcspSupport
        | InstallError::NotReferenced => Step::Entry,
        InstallError::Busy { .. }
        | InstallError::CommitFailed { .. }
        | InstallError::Expired { .. }
        | InstallError::ForeignTransaction { .. }
        | InstallError::IssuerRefused { .. }
        | InstallError::MultipleSingleResponses
        | InstallError::Name(_)
        | InstallError::NextUpdateInvalid
        | InstallError::NextUpdateMissing
        | InstallError::NotSuccessful
        | InstallError::PermissionDenied
        | InstallError::Socket(_)
        | InstallError::StatusUnknown
        | InstallError::TooLarge { .. }
        | InstallError::TooLargeForHaproxy { .. }
        | InstallError::UnexpectedReply { .. }
        | InstallError::Unparsable { .. }
        | InstallError::UpdateFailed => Step::Installed,
        InstallError::ReadBack { .. } => Step::ReadBack,
    };
    trouble(step, error.kind(), error, error.remedy())
}

/// A disk did not do what it was asked.
pub(super) fn store(error: &StoreError) -> Trouble {
    trouble(Step::Kept, error.kind(), error.summary(), error.remedy())
}
