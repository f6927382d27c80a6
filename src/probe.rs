//! What a client sees: TLS handshakes that ask for the staple, judged as a strict client would.
//!
//! A server may have several certificates under one name and show each to the clients that understand it, and it
//! staples each by itself. So TLS 1.2 and 1.3, ECDSA and RSA are offered apart, in four handshakes at once: whatever the
//! server does, a probe costs one deadline.

mod handshake;
mod judge;
mod objection;
mod target;

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use openssl::ssl::SslVersion;

use self::handshake::Visit;
pub use self::objection::Objection;
pub use self::target::{Target, TargetError};
use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::ocsp::Response;
use crate::status::{HandshakeStatus, OcspStatus, ProbeStatus, Sight, Step, Trouble};

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS 1.2: the staple is a message of its own (RFC 6066 section 8).
    Tls12,
    /// TLS 1.3: the staple comes with the certificate (RFC 8446 section 4.4.2.1).
    Tls13,
}

impl Protocol {
    /// Its name as HAProxy writes it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    const fn version(self) -> SslVersion {
        match self {
            Self::Tls12 => SslVersion::TLS1_2,
            Self::Tls13 => SslVersion::TLS1_3,
        }
    }
}

/// The type of key that a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// Elliptic curves.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl KeyType {
    /// Its name, as HAProxy's bundles write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }

    /// For TLS 1.2, where the cipher says it too.
    const fn ciphers(self) -> &'static str {
        match self {
            Self::Ecdsa => "aECDSA:!eNULL",
            Self::Rsa => "aRSA:!eNULL",
        }
    }

    const fn signatures(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512",
            // HAProxy looks for the PKCS #1 ones when it chooses a certificate, TLS 1.3 wants the others.
            Self::Rsa => "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512",
        }
    }
}

/// The clients that knock.
const CLIENTS: [(Protocol, KeyType); 4] = [
    (Protocol::Tls13, KeyType::Ecdsa),
    (Protocol::Tls13, KeyType::Rsa),
    (Protocol::Tls12, KeyType::Ecdsa),
    (Protocol::Tls12, KeyType::Rsa),
];

/// What is known beforehand of those who issue certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The chain has to lead to one of these.
    Anchors(Vec<Certificate>),
    /// Chains are not checked; these verify the staples of servers that do not send their issuer.
    Issuers(Vec<Certificate>),
}

impl Trust {
    fn certificates(&self) -> &[Certificate] {
        match self {
            Self::Anchors(certificates) | Self::Issuers(certificates) => certificates,
        }
    }
}

/// What a strict client makes of one handshake.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The server showed a certificate.
    Shown {
        /// Which.
        certificate: Certificate,
        /// The verified staple.
        response: Option<Response>,
        /// Why a strict client would turn away all the same; empty if it would not.
        objections: Vec<Objection>,
    },
    /// There was no handshake, or nothing that could be read.
    Failed(Objection),
    /// The server has other certificates under this name, and none for such a client.
    NotOffered,
}

/// One handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The one version that was offered.
    pub protocol: Protocol,
    /// The one type of key that was offered.
    pub key_type: KeyType,
    /// What came of it.
    pub outcome: Outcome,
}

/// What became of a probe.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who was asked for what.
    pub target: Target,
    /// When it was judged.
    pub at: Timestamp,
    /// One for each kind of client.
    pub handshakes: Vec<Handshake>,
}

/// Asks one server for one name, within `deadline`.
pub async fn probe(target: &Target, trust: &Trust, deadline: Duration, clock: &Clock) -> Report {
    let visit = Visit { target, deadline, end: clock.now().monotonic.after(deadline), clock };
    let outcomes = match visit.addresses().await {
        Ok(addresses) => {
            let one = |client| ask(&visit, &addresses, client, trust);
            let [first, second, third, fourth] = CLIENTS.map(one);
            tokio::join!(first, second, third, fourth).into()
        }
        Err(objection) => CLIENTS.map(|_| Outcome::Failed(objection.clone())),
    };
    let handshakes = CLIENTS.into_iter().zip(with_what_is_offered(outcomes));
    let handshakes =
        handshakes.map(|((protocol, key_type), outcome)| Handshake { protocol, key_type, outcome }).collect();
    Report { target: target.clone(), at: clock.now().wall, handshakes }
}

async fn ask(
    visit: &Visit<'_>,
    addresses: &[SocketAddr],
    (protocol, key_type): (Protocol, KeyType),
    trust: &Trust,
) -> Outcome {
    match visit.shake(addresses, protocol, key_type).await {
        Ok(shown) => judge::judge(&shown, visit.target, trust, visit.clock.now().wall),
        Err(objection) => Outcome::Failed(objection),
    }
}

/// A server need not have a certificate for every kind of client. What it has for none is nobody's loss, as long as it
/// has one for some: neither a refusal nor the certificate of another name, which HAProxy shows for want of a better one.
fn with_what_is_offered(outcomes: [Outcome; 4]) -> [Outcome; 4] {
    let shows = |outcome: &Outcome| matches!(outcome, Outcome::Shown { .. });
    let is_served = outcomes.iter().any(|outcome| shows(outcome) && !outcome.is_of_another_name());
    let is_answered = outcomes.iter().any(shows);
    outcomes.map(|outcome| match outcome {
        Outcome::Failed(Objection::NothingInCommon { .. }) if is_answered => Outcome::NotOffered,
        other if is_served && other.is_of_another_name() => Outcome::NotOffered,
        other => other,
    })
}

impl Outcome {
    fn is_of_another_name(&self) -> bool {
        self.objections().iter().any(|objection| matches!(objection, Objection::NameMismatch { .. }))
    }

    /// Why a strict client would turn away.
    #[must_use]
    pub fn objections(&self) -> &[Objection] {
        match self {
            Self::Shown { objections, .. } => objections,
            Self::Failed(objection) => std::slice::from_ref(objection),
            Self::NotOffered => &[],
        }
    }

    fn sight(&self) -> Sight {
        let not_stapled = |each: &Objection| matches!(each, Objection::NotStapled | Objection::NothingToStaple);
        match self {
            Self::NotOffered => Sight::NotOffered,
            Self::Failed(_) => Sight::NoHandshake,
            Self::Shown { objections, .. } if objections.is_empty() => Sight::Good,
            Self::Shown { objections, .. } if objections.iter().any(not_stapled) => Sight::NotStapled,
            Self::Shown { .. } => Sight::Refused,
        }
    }

    /// What a client sees, as the end of a sentence.
    fn detail(&self) -> String {
        let reasons = || self.objections().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        match (self.sight(), self) {
            (Sight::Good, Self::Shown { response, .. }) => {
                let until = response.as_ref().and_then(Response::next_update);
                until.map_or_else(
                    || "stapled, good, without nextUpdate".to_owned(),
                    |at| format!("stapled, good until {at}"),
                )
            }
            (Sight::Refused, _) => format!("stapled, but {}", reasons()),
            (Sight::NotOffered, _) => "the server has no certificate for such a client".to_owned(),
            (Sight::Good | Sight::NotStapled | Sight::NoHandshake, _) => reasons(),
        }
    }
}

impl Report {
    /// For the snapshot, and for people.
    #[must_use]
    pub fn status(&self) -> ProbeStatus {
        let handshakes: Vec<HandshakeStatus> = self.handshakes.iter().map(Handshake::status).collect();
        // The first of the worst.
        let worst = handshakes.iter().min_by_key(|handshake| handshake.sight);
        let same = |other: &&HandshakeStatus| worst.is_some_and(|worst| worst.detail == other.detail);
        let relevant = handshakes.iter().filter(|handshake| handshake.sight != Sight::NotOffered);
        let detail = worst.map_or_else(String::new, |worst| {
            if relevant.clone().all(|each| same(&each)) {
                worst.detail.clone()
            } else {
                format!("{} with {} keys: {}", worst.protocol, worst.key_type, worst.detail)
            }
        });
        ProbeStatus {
            target: self.target.address(),
            servername: self.target.server_name().unwrap_or_default().to_owned(),
            probed_at: Some(self.at),
            sight: worst.map(|worst| worst.sight),
            detail,
            next_update: handshakes.iter().filter_map(|handshake| handshake.next_update).min(),
            handshakes,
        }
    }

    /// Whether the server's address is to blame: it would be the same for every name.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.handshakes.iter().all(
            |handshake| matches!(&handshake.outcome, Outcome::Failed(objection) if objection.is_about_the_address()),
        )
    }
}

impl Handshake {
    fn status(&self) -> HandshakeStatus {
        let (certificate, response) = match &self.outcome {
            Outcome::Shown { certificate, response, .. } => (Some(certificate), response.as_ref()),
            Outcome::Failed(_) | Outcome::NotOffered => (None, None),
        };
        let trouble = |objection: &Objection| Trouble {
            step: Some(Step::Handshake),
            kind: objection.kind(),
            detail: objection.to_string(),
            remedy: objection.remedy().to_owned(),
        };
        HandshakeStatus {
            protocol: self.protocol.label(),
            key_type: self.key_type.label(),
            sight: self.outcome.sight(),
            detail: self.outcome.detail(),
            troubles: self.outcome.objections().iter().map(trouble).collect(),
            subject: certificate.map(|certificate| certificate.subject().to_owned()),
            fingerprint: certificate.map(|certificate| certificate.fingerprint().to_string()),
            ocsp_status: response.map_or(OcspStatus::None, |response| response.cert_status().into()),
            this_update: response.map(Response::this_update),
            next_update: response.and_then(Response::next_update),
        }
    }
}
