//! A sample of every error there is.

use std::time::Duration;

use super::at;
use crate::fetch::FetchError;
use crate::haproxy::{Address, Command, SocketError, Unsendable};
use crate::ocsp::{CertIdField, ExtensionPlace, RequestError, ResponderId, ResponseStatus, Unauthorized, VerifyError};
use crate::responder::Fault;

/// A sample of each variant, each behind its pattern. While a variant has none, this does not compile.
macro_rules! every {
    ($type:ty: $($pattern:pat => $sample:expr),+ $(,)?) => {{
        let samples: Vec<$type> = vec![$($sample),+];
        for sample in &samples {
            match sample {
                $($pattern => {})+
            }
        }
        let mut each = samples.iter();
        $(assert!(matches!(each.next(), Some($pattern)), "a sample of {}", stringify!($pattern));)+
        samples
    }};
}

pub(super) use every;

pub(super) fn text() -> String {
    "some evidence".to_owned()
}

pub(super) fn address() -> Address {
    "/s".parse().unwrap()
}

pub(super) fn request_error() -> RequestError {
    openssl::error::ErrorStack::get().into()
}

pub(super) fn unsendable() -> Unsendable {
    Command::show_uncommitted("a\nb").unwrap_err()
}

pub(super) fn faults() -> Vec<Fault> {
    let url = text;
    every!(Fault:
        Fault::Url { .. } => Fault::Url { url: url() },
        Fault::Dns { .. } => Fault::Dns { url: url(), reason: text() },
        Fault::Connect { .. } => Fault::Connect { url: url(), reason: text() },
        Fault::Crowded { .. } => Fault::Crowded { url: url(), limit: 9, deadline: Duration::from_secs(9) },
        Fault::Timeout { .. } => Fault::Timeout { url: url(), deadline: Duration::from_secs(9) },
        Fault::Status { .. } => Fault::Status { url: url(), status: 500, retry_after: None },
        Fault::TooLarge { .. } => Fault::TooLarge { url: url(), limit: 9 },
        Fault::Redirect { .. } => Fault::Redirect { url: url(), reason: text() },
        Fault::Broken { .. } => Fault::Broken { url: url(), reason: text() },
    )
}

pub(super) fn verify_errors() -> Vec<VerifyError> {
    let not_successful = |status| VerifyError::NotSuccessful { status };
    let unauthorized = |reason| VerifyError::ResponderUnauthorized { responder: text(), reason };
    every!(VerifyError:
        VerifyError::CertIdHashUnsupported { .. } => VerifyError::CertIdHashUnsupported { algorithm: text() },
        VerifyError::CertIdMismatch { field: CertIdField::IssuerNameHash | CertIdField::IssuerKeyHash | CertIdField::SerialNumber, .. } =>
            VerifyError::CertIdMismatch { field: CertIdField::SerialNumber, expected: text(), found: text() },
        VerifyError::IssuerNameMismatch { .. } => VerifyError::IssuerNameMismatch { expected: text(), found: text() },
        VerifyError::Malformed { .. } => VerifyError::Malformed { reason: text() },
        VerifyError::MultipleSingleResponses { .. } => VerifyError::MultipleSingleResponses { count: 2 },
        VerifyError::NextUpdateBeforeThisUpdate { .. } =>
            VerifyError::NextUpdateBeforeThisUpdate { this_update: at(9), next_update: at(0) },
        VerifyError::NoSingleResponse => VerifyError::NoSingleResponse,
        VerifyError::NotBasic { .. } => VerifyError::NotBasic { response_type: None },
        VerifyError::NotSuccessful { status: ResponseStatus::MalformedRequest } => not_successful(ResponseStatus::MalformedRequest),
        VerifyError::NotSuccessful { status: ResponseStatus::InternalError } => not_successful(ResponseStatus::InternalError),
        VerifyError::NotSuccessful { status: ResponseStatus::TryLater } => not_successful(ResponseStatus::TryLater),
        VerifyError::NotSuccessful { status: ResponseStatus::SigRequired } => not_successful(ResponseStatus::SigRequired),
        VerifyError::NotSuccessful { status: ResponseStatus::Unauthorized } => not_successful(ResponseStatus::Unauthorized),
        VerifyError::NotYetValid { .. } => VerifyError::NotYetValid { now: at(0), this_update: at(999) },
        VerifyError::Openssl { .. } => VerifyError::Openssl { reason: text() },
        VerifyError::ProducedInFuture { .. } => VerifyError::ProducedInFuture { now: at(0), produced_at: at(999) },
        VerifyError::Request(_) => VerifyError::Request(request_error()),
        VerifyError::ResponderNotFound { .. } => VerifyError::ResponderNotFound { responder_id: ResponderId::ByName(text()) },
        VerifyError::ResponderUnauthorized { .. } => unauthorized(Unauthorized::NotIssuedByIssuer),
        VerifyError::SignatureInvalid { .. } => VerifyError::SignatureInvalid { responder: text() },
        VerifyError::Stale { .. } => VerifyError::Stale { now: at(999), next_update: at(0) },
        VerifyError::UnknownCriticalExtension { place: ExtensionPlace::Response | ExtensionPlace::Single, .. } =>
            VerifyError::UnknownCriticalExtension { place: ExtensionPlace::Single, oid: text() },
        VerifyError::WeakSignature { .. } => VerifyError::WeakSignature { algorithm: "md5WithRSA" },
    )
}

pub(super) fn fetch_errors() -> Vec<FetchError> {
    let all = every!(FetchError:
        FetchError::Fault(_) => FetchError::Fault(Fault::Url { url: text() }),
        FetchError::Refused { .. } => FetchError::Refused { url: text(), source: VerifyError::NoSingleResponse },
        FetchError::NothingSent => FetchError::NothingSent,
    );
    let refused = verify_errors().into_iter().map(|source| FetchError::Refused { url: text(), source });
    all.into_iter().chain(faults().into_iter().map(FetchError::Fault)).chain(refused).collect()
}

pub(super) fn socket_errors() -> Vec<SocketError> {
    every!(SocketError:
        SocketError::Connect { .. } => SocketError::Connect { address: address(), reason: text() },
        SocketError::Empty { .. } => SocketError::Empty { address: address() },
        SocketError::Io { .. } => SocketError::Io { address: address(), reason: text() },
        SocketError::NotASocket { .. } => SocketError::NotASocket { address: address() },
        SocketError::NotFound { .. } => SocketError::NotFound { address: address() },
        SocketError::NotHaproxy { .. } => SocketError::NotHaproxy { address: address(), reply: text() },
        SocketError::NoWorker { .. } => SocketError::NoWorker { address: address(), reply: text() },
        SocketError::PermissionDenied { .. } => SocketError::PermissionDenied { address: address() },
        SocketError::Refused { .. } => SocketError::Refused { address: address() },
        SocketError::Timeout { .. } => SocketError::Timeout { address: address(), after: Duration::from_secs(5) },
        SocketError::TooLarge { .. } => SocketError::TooLarge { address: address(), limit: 9 },
    )
}
