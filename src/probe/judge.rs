//! What a strict client makes of what a server showed. No IO.

use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509StoreContext, X509VerifyResult};

use super::handshake::Shown;
use super::{Objection, Outcome, Target, Trust};
use crate::certificate::{Certificate, Issuer, IssuerSource, openssl_reason};
use crate::ocsp::{self, CertStatus, Response};
use crate::uri;

/// Judges one handshake by the rules that also decide what HAProxy is given.
pub(super) fn judge(shown: &Shown, target: &Target, trust: &Trust, now: Timestamp) -> Outcome {
    let Some((leaf, above)) = shown.chain.split_first() else {
        return Outcome::Failed(Objection::Handshake { reason: "the server shows no certificate".to_owned() });
    };
    let leaf = match Certificate::from_der(leaf) {
        Ok(leaf) => leaf,
        Err(error) => return Outcome::Failed(Objection::Certificate(error)),
    };
    // What else it sends may be anything; only what signed the leaf counts.
    let above: Vec<Certificate> = above.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    let (response, about_the_staple) = match judge_staple(shown.staple.as_deref(), &leaf, &above, trust, now) {
        Ok(response) => {
            let objection = Some(response.cert_status().clone()).filter(|status| *status != CertStatus::Good);
            (Some(response), objection.map(|status| Objection::NotGood { status }))
        }
        Err(objection) => (None, Some(objection)),
    };
    // The wrong certificate explains the wrong staple.
    let mismatch = target.server_name().filter(|name| !is_for(&leaf, name)).map(|server_name| {
        Objection::NameMismatch { subject: leaf.subject().to_owned(), server_name: server_name.to_owned() }
    });
    let mut objections: Vec<Objection> = mismatch.into_iter().chain(about_the_staple).collect();
    match trust {
        Trust::Anchors(anchors) => objections.extend(untrusted(&leaf, &above, anchors, now)),
        Trust::Issuers(_) if leaf.not_after() < now => {
            objections.push(Objection::Expired { not_after: leaf.not_after() });
        }
        Trust::Issuers(_) => {}
    }
    Outcome::Shown { certificate: leaf, response, objections }
}

fn judge_staple(
    staple: Option<&[u8]>,
    leaf: &Certificate,
    above: &[Certificate],
    trust: &Trust,
    now: Timestamp,
) -> Result<Response, Objection> {
    let Some(der) = staple else {
        let askable = leaf.ocsp_responders().iter().any(|url| uri::is_http(url));
        return Err(if askable { Objection::NotStapled } else { Objection::NothingToStaple });
    };
    let issuer = Issuer::find(leaf, above, IssuerSource::Chain)
        .or_else(|| Issuer::find(leaf, trust.certificates(), IssuerSource::OtherFile))
        .ok_or_else(|| Objection::NoIssuer { issuer: leaf.issuer().to_owned() })?;
    Ok(ocsp::verify(der, leaf, issuer.certificate(), now)?)
}

/// Whether a client that asked for this name would take the certificate (RFC 9525): OpenSSL's judgement, which is whether
/// the name makes a difference on a chain of nothing but the certificate.
fn is_for(leaf: &Certificate, name: &str) -> bool {
    let result = |name: Option<&str>| -> Result<X509VerifyResult, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::NO_CHECK_TIME)?;
        if let Some(name) = name {
            parameters.set_host(name)?;
        }
        verify(leaf, &[], std::slice::from_ref(leaf), &parameters)
    };
    match (result(None), result(Some(name))) {
        (Ok(without), Ok(with)) => with == without,
        _ => false,
    }
}

/// As curl does it, any certificate in the CA file is an anchor, an intermediate one too.
fn untrusted(leaf: &Certificate, above: &[Certificate], anchors: &[Certificate], now: Timestamp) -> Option<Objection> {
    let result = || -> Result<X509VerifyResult, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        parameters.set_purpose(X509PurposeId::SSL_SERVER)?;
        parameters.set_time(now.as_second());
        verify(leaf, above, anchors, &parameters)
    };
    let reason = match result() {
        Ok(X509VerifyResult::OK) => return None,
        Ok(other) => other.error_string().to_owned(),
        Err(stack) => openssl_reason(&stack),
    };
    Some(Objection::Untrusted { reason })
}

fn verify(
    leaf: &Certificate,
    above: &[Certificate],
    anchors: &[Certificate],
    parameters: &X509VerifyParam,
) -> Result<X509VerifyResult, ErrorStack> {
    let mut chain: Stack<X509> = Stack::new()?;
    for certificate in above {
        chain.push(certificate.x509()?)?;
    }
    let (store, leaf) = (store(anchors, parameters)?, leaf.x509()?);
    let mut context = X509StoreContext::new()?;
    context.init(&store, &leaf, &chain, |context| {
        // The result is kept in the context, the good one too.
        context.verify_cert()?;
        Ok(context.error())
    })
}

fn store(anchors: &[Certificate], parameters: &X509VerifyParam) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for anchor in anchors {
        store.add_cert(anchor.x509()?)?;
    }
    store.set_param(parameters)?;
    Ok(store.build())
}
