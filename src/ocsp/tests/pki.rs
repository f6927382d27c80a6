//! A PKI minted for one test, and responses whose every field a test can spoil before they are signed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use der::asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use jiff::{SignedDuration, Timestamp};
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;
use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus, ResponderId, ResponseBytes,
    ResponseData, SingleResponse, Version,
};

use crate::certificate::Certificate;
use crate::ocsp::request;

/// The instant at which everything is judged.
pub(super) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// `seconds` from [`now`], which may be negative.
pub(super) fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(super) const DAY: i64 = 86_400;

pub(super) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// A certificate and its key.
pub(super) struct Entity {
    pub(super) certificate: Certificate,
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
}

impl Entity {
    /// A self-signed CA with an EC key.
    pub(super) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::self_signed(ca(name), key)
    }

    /// A self-signed CA with an RSA key.
    pub(super) fn rsa_root(name: &str) -> Self {
        Self::self_signed(ca(name), rsa_key())
    }

    pub(super) fn self_signed(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Self { certificate, params, key }
    }

    /// A certificate with a new EC key, signed by this one.
    pub(super) fn issue(&self, params: CertificateParams) -> Self {
        self.certify(params, KeyPair::generate().unwrap())
    }

    /// A certificate for `key`, signed by this one.
    pub(super) fn certify(&self, params: CertificateParams, key: KeyPair) -> Self {
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = Certificate::from_der(params.signed_by(&key, &issuer).unwrap().der()).unwrap();
        Self { certificate, params, key }
    }

    pub(super) fn pkey(&self) -> PKey<Private> {
        PKey::private_key_from_der(self.key.serialized_der()).unwrap()
    }

    pub(super) fn responder_by_key(&self) -> ResponderId {
        let bits = self.fields().subject_public_key_info.subject_public_key;
        ResponderId::ByKey(OctetString::new(openssl::sha::sha1(bits.raw_bytes()).to_vec()).unwrap())
    }

    pub(super) fn responder_by_name(&self) -> ResponderId {
        ResponderId::ByName(self.fields().subject)
    }

    fn fields(&self) -> x509_cert::certificate::TbsCertificate {
        x509_cert::Certificate::from_der(self.certificate.der()).unwrap().tbs_certificate
    }
}

pub(super) fn rsa_key() -> KeyPair {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    KeyPair::try_from(key.private_key_to_pkcs8().unwrap().as_slice()).unwrap()
}

/// The parameters of an end entity, valid for a month around [`now`].
pub(super) fn end_entity(name: &str) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(0x1234_5678_9abc);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SERIAL.fetch_add(1, Ordering::Relaxed).into());
    (params.not_before, params.not_after) = (date(at(-15 * DAY)), date(at(15 * DAY)));
    params.use_authority_key_identifier_extension = true;
    params
}

pub(super) fn ca(name: &str) -> CertificateParams {
    let mut params = end_entity(name);
    (params.not_before, params.not_after) = (date(at(-3000 * DAY)), date(at(3000 * DAY)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The parameters of a delegated responder as it should be.
pub(super) fn responder(name: &str) -> CertificateParams {
    let mut params = end_entity(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    params
}

pub(super) fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
}

/// An OCSP response before it is signed.
pub(super) struct Draft {
    pub(super) data: ResponseData,
    pub(super) certs: Vec<Certificate>,
    pub(super) digest: MessageDigest,
    key: PKey<Private>,
}

impl Draft {
    /// `good` for an hour ago to a week ahead, signed by the issuer, by key, with no certificate embedded.
    pub(super) fn good(leaf: &Certificate, issuer: &Entity) -> Self {
        let cert_id = request::cert_id(MessageDigest::sha1(), leaf, &issuer.certificate).unwrap();
        let single = SingleResponse {
            cert_id,
            cert_status: CertStatus::Good(Null),
            this_update: generalized(at(-3600)),
            next_update: Some(generalized(at(7 * DAY))),
            single_extensions: None,
        };
        let data = ResponseData {
            version: Version::V1,
            responder_id: issuer.responder_by_key(),
            produced_at: generalized(at(-3600)),
            responses: vec![single],
            response_extensions: None,
        };
        Self { data, certs: Vec::new(), digest: MessageDigest::sha256(), key: issuer.pkey() }
    }

    /// As [`Self::good`], but signed by `signer`, by key, with its certificate embedded.
    pub(super) fn delegated(leaf: &Certificate, issuer: &Entity, signer: &Entity) -> Self {
        let mut draft = Self::good(leaf, issuer).signed_by(signer);
        draft.data.responder_id = signer.responder_by_key();
        draft.certs = vec![signer.certificate.clone()];
        draft
    }

    /// Changes only the key.
    pub(super) fn signed_by(mut self, signer: &Entity) -> Self {
        self.key = signer.pkey();
        self
    }

    pub(super) fn single(&mut self) -> &mut SingleResponse {
        &mut self.data.responses[0]
    }

    pub(super) fn sign(&self) -> Vec<u8> {
        wrap(&self.basic(&self.data.to_der().unwrap()))
    }

    /// A BasicOCSPResponse around `tbs`, which need not parse.
    pub(super) fn basic(&self, tbs: &[u8]) -> Vec<u8> {
        let mut signer = openssl::sign::Signer::new(self.digest, &self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(tbs).unwrap();
        let algorithm = match (self.key.id(), self.digest.type_()) {
            (Id::EC, openssl::nid::Nid::SHA256) => ("1.2.840.10045.4.3.2", None),
            (Id::RSA, openssl::nid::Nid::SHA256) => ("1.2.840.113549.1.1.11", Some(Null.into())),
            (Id::RSA, openssl::nid::Nid::SHA1) => ("1.2.840.113549.1.1.5", Some(Null.into())),
            (Id::RSA, openssl::nid::Nid::MD5) => ("1.2.840.113549.1.1.4", Some(Null.into())),
            other => panic!("no signature algorithm for {other:?}"),
        };
        let algorithm = AlgorithmIdentifierOwned { oid: oid(algorithm.0), parameters: algorithm.1 };
        let signature = BitString::from_bytes(&signature).unwrap();
        let certs: Vec<u8> = self.certs.iter().flat_map(|certificate| certificate.der().to_vec()).collect();
        let certs = if certs.is_empty() { Vec::new() } else { tlv(0xa0, &tlv(0x30, &certs)) };
        tlv(0x30, &[tbs.to_vec(), algorithm.to_der().unwrap(), signature.to_der().unwrap(), certs].concat())
    }
}

/// An OCSPResponse around what should be a BasicOCSPResponse.
pub(super) fn wrap(basic: &[u8]) -> Vec<u8> {
    let bytes = ResponseBytes {
        response_type: <BasicOcspResponse as der::oid::AssociatedOid>::OID,
        response: OctetString::new(basic).unwrap(),
    };
    OcspResponse { response_status: OcspResponseStatus::Successful, response_bytes: Some(bytes) }.to_der().unwrap()
}

/// One element with any tag.
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = der::Length::try_from(value.len()).unwrap().to_der().unwrap();
    [&[tag], length.as_slice(), value].concat()
}

pub(super) fn generalized(at: Timestamp) -> OcspGeneralizedTime {
    let since = Duration::from_secs(u64::try_from(at.as_second()).unwrap());
    OcspGeneralizedTime(GeneralizedTime::from_unix_duration(since).unwrap())
}

/// An extension that nobody knows.
pub(super) fn extension(critical: bool, value: &[u8]) -> Extension {
    Extension { extn_id: oid(STRANGE), critical, extn_value: OctetString::new(value).unwrap() }
}

pub(super) const STRANGE: &str = "1.3.6.1.4.1.99999.1";
