//! OCSP responses made to order: every field can be set, so that every malformed one can be made.

use der::asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use der::{Any, Encode};
use jiff::{SignedDuration, Timestamp};
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::Id;
use openssl::sign::Signer;
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    AsResponseBytes, BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus,
    ResponderId, ResponseData, RevokedInfo, SingleResponse, Version,
};

use super::now;
use super::pki::Identity;

/// How long a response lives unless told otherwise.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The digest of a signature or of a CertID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Broken.
    Md5,
    /// What HAProxy wants in a CertID.
    Sha1,
    /// What signatures are made with.
    Sha256,
    /// Longer.
    Sha384,
}

impl Digest {
    fn openssl(self) -> MessageDigest {
        match self {
            Self::Md5 => MessageDigest::md5(),
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
        }
    }

    fn oid(self) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(match self {
            Self::Md5 => "1.2.840.113549.2.5",
            Self::Sha1 => "1.3.14.3.2.26",
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
        })
    }

    fn hash(self, bytes: &[u8]) -> OctetString {
        OctetString::new(hash(self.openssl(), bytes).expect("a digest").to_vec()).expect("an octet string")
    }

    fn signature_algorithm(self, key: Id) -> AlgorithmIdentifierOwned {
        let (oid, parameters) = match (key, self) {
            (Id::RSA, Self::Md5) => ("1.2.840.113549.1.1.4", Some(Any::from(Null))),
            (Id::RSA, Self::Sha1) => ("1.2.840.113549.1.1.5", Some(Any::from(Null))),
            (Id::RSA, Self::Sha256) => ("1.2.840.113549.1.1.11", Some(Any::from(Null))),
            (Id::RSA, Self::Sha384) => ("1.2.840.113549.1.1.12", Some(Any::from(Null))),
            // It has a digest of its own (RFC 8410 section 3).
            (Id::ED25519, _) => ("1.3.101.112", None),
            (_, Self::Sha1) => ("1.2.840.10045.4.1", None),
            (_, Self::Sha256) => ("1.2.840.10045.4.3.2", None),
            (_, Self::Sha384) => ("1.2.840.10045.4.3.3", None),
            (_, Self::Md5) => panic!("there is no ECDSA with MD5: use an RSA key"),
        };
        AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters }
    }
}

/// A response before it is signed. Change any field, then ask for [`Response::der`].
#[derive(Clone, Debug)]
pub struct Response {
    /// Anything but successful makes a response without content.
    pub response_status: OcspResponseStatus,
    /// Who says he signed it.
    pub responder_id: ResponderId,
    /// When.
    pub produced_at: Timestamp,
    /// One, normally.
    pub singles: Vec<Single>,
    /// Of the whole response.
    pub response_extensions: Vec<Extension>,
    /// Certificates sent along, in DER.
    pub certs: Vec<Vec<u8>>,
    /// Who really signs.
    pub signer: Identity,
    /// With what digest.
    pub digest: Digest,
    /// Turns the last bit of the signature.
    pub break_signature: bool,
    /// Bytes after the end of the response.
    pub trailing: Vec<u8>,
}

/// One certificate's part of a response.
#[derive(Clone, Debug)]
pub struct Single {
    /// Which certificate.
    pub cert_id: CertId,
    /// Its status.
    pub cert_status: CertStatus,
    /// From when this is known.
    pub this_update: Timestamp,
    /// Until when it may be used.
    pub next_update: Option<Timestamp>,
    /// Of this part.
    pub extensions: Vec<Extension>,
}

impl Response {
    /// A response that everybody accepts: `leaf` is good since an hour ago, for [`LIFETIME`]. A signer other than the
    /// issuer sends its certificate along.
    pub fn good(leaf: &Identity, signer: &Identity) -> Self {
        Self::good_at(leaf, signer, now() - SignedDuration::from_hours(1), LIFETIME)
    }

    /// The same from `this_update` for `lifetime`.
    pub fn good_at(leaf: &Identity, signer: &Identity, this_update: Timestamp, lifetime: SignedDuration) -> Self {
        let certs = if signer.der() == leaf.issuer().der() { Vec::new() } else { vec![signer.der().to_vec()] };
        Self {
            response_status: OcspResponseStatus::Successful,
            responder_id: by_name(signer),
            produced_at: this_update,
            singles: vec![Single {
                cert_id: cert_id(Digest::Sha1, leaf),
                cert_status: CertStatus::good(),
                this_update,
                next_update: Some(this_update + lifetime),
                extensions: Vec::new(),
            }],
            response_extensions: Vec::new(),
            certs,
            signer: signer.clone(),
            digest: Digest::Sha256,
            break_signature: false,
            trailing: Vec::new(),
        }
    }

    /// Changes something in passing.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same with another status.
    pub fn status(self, cert_status: CertStatus) -> Self {
        self.with(|response| response.singles[0].cert_status = cert_status)
    }

    /// The signed response.
    pub fn der(&self) -> Vec<u8> {
        let mut der = if self.response_status == OcspResponseStatus::Successful {
            let basic = self.basic().to_response_bytes().expect("a basic response in DER");
            OcspResponse { response_status: self.response_status, response_bytes: Some(basic) }
        } else {
            OcspResponse { response_status: self.response_status, response_bytes: None }
        }
        .to_der()
        .expect("a response in DER");
        der.extend_from_slice(&self.trailing);
        der
    }

    /// What is signed: `tbsResponseData`.
    pub fn tbs(&self) -> Vec<u8> {
        self.data().to_der().expect("response data in DER")
    }

    fn data(&self) -> ResponseData {
        ResponseData {
            version: Version::V1,
            responder_id: self.responder_id.clone(),
            produced_at: ocsp_time(self.produced_at),
            responses: self.singles.iter().map(Single::encode).collect(),
            response_extensions: some(&self.response_extensions),
        }
    }

    fn basic(&self) -> BasicOcspResponse {
        let tbs = self.tbs();
        let mut signer = match self.signer.key().id() {
            Id::ED25519 => Signer::new_without_digest(self.signer.key()),
            _ => Signer::new(self.digest.openssl(), self.signer.key()),
        }
        .expect("a signer");
        let mut signature = signer.sign_oneshot_to_vec(&tbs).expect("a signature");
        if self.break_signature {
            *signature.last_mut().expect("a signature has bytes") ^= 1;
        }
        let certs: Vec<Certificate> =
            self.certs.iter().map(|der| der::Decode::from_der(der).expect("a certificate to send along")).collect();
        BasicOcspResponse {
            tbs_response_data: self.data(),
            signature_algorithm: self.digest.signature_algorithm(self.signer.key().id()),
            signature: BitString::from_bytes(&signature).expect("a bit string"),
            certs: some(&certs),
        }
    }
}

impl Single {
    fn encode(&self) -> SingleResponse {
        SingleResponse {
            cert_id: self.cert_id.clone(),
            cert_status: self.cert_status,
            this_update: ocsp_time(self.this_update),
            next_update: self.next_update.map(ocsp_time),
            single_extensions: some(&self.extensions),
        }
    }
}

/// `responseStatus` and nothing else: `tryLater`, `unauthorized`.
pub fn refusal(response_status: OcspResponseStatus) -> Vec<u8> {
    OcspResponse { response_status, response_bytes: None }.to_der().expect("a response in DER")
}

/// The CertID of `leaf`, with explicit NULL parameters as OpenSSL and HAProxy write it.
pub fn cert_id(digest: Digest, leaf: &Identity) -> CertId {
    cert_id_of(digest, &leaf.parsed(), &leaf.issuer().parsed())
}

/// The same of certificates that were read.
pub fn cert_id_of(digest: Digest, leaf: &Certificate, issuer: &Certificate) -> CertId {
    let issuer = &issuer.tbs_certificate;
    CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: digest.oid(), parameters: Some(Any::from(Null)) },
        issuer_name_hash: digest.hash(&issuer.subject.to_der().expect("a name in DER")),
        issuer_key_hash: digest.hash(issuer.subject_public_key_info.subject_public_key.raw_bytes()),
        serial_number: leaf.tbs_certificate.serial_number.clone(),
    }
}

/// The signer by its subject.
pub fn by_name(signer: &Identity) -> ResponderId {
    ResponderId::ByName(signer.parsed().tbs_certificate.subject)
}

/// The signer by the SHA-1 hash of its key.
pub fn by_key(signer: &Identity) -> ResponderId {
    let spki = signer.parsed().tbs_certificate.subject_public_key_info;
    ResponderId::ByKey(Digest::Sha1.hash(spki.subject_public_key.raw_bytes()))
}

/// Revoked at `at`, with a reason that strict clients repeat.
pub fn revoked(at: Timestamp) -> CertStatus {
    let revocation_reason = Some(CrlReason::KeyCompromise);
    CertStatus::Revoked(RevokedInfo { revocation_time: ocsp_time(at), revocation_reason })
}

/// An extension nobody knows.
pub fn unknown_extension(critical: bool) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1"),
        critical,
        extn_value: OctetString::new(vec![0x05, 0x00]).expect("an octet string"),
    }
}

fn ocsp_time(at: Timestamp) -> OcspGeneralizedTime {
    let since_epoch = std::time::Duration::from_secs(at.as_second().try_into().expect("a date after 1970"));
    GeneralizedTime::from_unix_duration(since_epoch).expect("a date in range").into()
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
