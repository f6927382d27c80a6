//! One CA, its delegate and two of its certificates, minted once (`make seeds`) and judged at one instant for ever.

use std::sync::LazyLock;

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::ocsp::{self, CertId, Staple};
use jiff::{SignedDuration, Timestamp};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};

/// All of them.
pub struct Fixture {
    /// The CA.
    pub issuer: Certificate,
    /// The certificate that is asked about.
    pub leaf: Certificate,
    /// Another one of the same CA.
    pub other: Certificate,
    /// The CA's responder.
    pub delegate: Certificate,
    /// When everything is judged: certificates of the test kit are valid since a day.
    pub now: Timestamp,
    /// A response that everybody accepts.
    pub good: Vec<u8>,
    issuer_key: PKey<Private>,
    delegate_key: PKey<Private>,
}

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The CA.
    Issuer,
    /// Its responder, whose certificate is sent along.
    Delegate,
}

/// The only one.
pub static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let certificate = |der: &[u8]| Certificate::from_der(der).expect("a certificate of ours");
    let key = |der: &[u8]| PKey::private_key_from_der(der).expect("a key of ours");
    let leaf = certificate(include_bytes!("../fixtures/leaf.der"));
    Fixture {
        issuer: certificate(include_bytes!("../fixtures/issuer.der")),
        now: leaf.not_before() + SignedDuration::from_hours(24),
        leaf,
        other: certificate(include_bytes!("../fixtures/other.der")),
        delegate: certificate(include_bytes!("../fixtures/delegate.der")),
        good: include_bytes!("../fixtures/good.der").to_vec(),
        issuer_key: key(include_bytes!("../fixtures/issuer.key.der")),
        delegate_key: key(include_bytes!("../fixtures/delegate.key.der")),
    }
});

impl Fixture {
    /// What HAProxy would look a response up by.
    pub fn cert_id(&self) -> CertId {
        CertId::new(&self.leaf, &self.issuer).expect("a CertID of ours")
    }

    /// The staple made of the good response.
    pub fn staple(&self) -> Staple {
        let response = ocsp::verify(&self.good, &self.leaf, &self.issuer, self.now).expect("a good response");
        Staple::new(response, &self.cert_id(), self.now).expect("a staple")
    }

    /// An OCSPResponse around any `tbsResponseData`, truly signed.
    pub fn sign(&self, tbs: &[u8], signer: Signer) -> Vec<u8> {
        let (key, certs) = match signer {
            Signer::Issuer => (&self.issuer_key, Vec::new()),
            Signer::Delegate => (&self.delegate_key, tlv(0xa0, &tlv(0x30, self.delegate.der()))),
        };
        let mut signing = openssl::sign::Signer::new(MessageDigest::sha256(), key).expect("a signer");
        let signature = signing.sign_oneshot_to_vec(tbs).expect("a signature");
        // ecdsa-with-SHA256
        let algorithm = tlv(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        let signature = tlv(3, &[&[0], signature.as_slice()].concat());
        let basic = tlv(0x30, &[tbs, &algorithm, &signature, &certs].concat());
        let response_type = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
        let bytes = tlv(0x30, &[response_type.as_slice(), &tlv(4, &basic)].concat());
        tlv(0x30, &[&[0x0a, 1, 0], tlv(0xa0, &bytes).as_slice()].concat())
    }
}

/// One element of DER.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = der::Length::try_from(value.len()).and_then(|length| der::Encode::to_der(&length));
    [&[tag], length.expect("a length").as_slice(), value].concat()
}
