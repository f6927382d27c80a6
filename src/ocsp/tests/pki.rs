//! A PKI minted for one test, and responses whose every field a test can spoil before they are signed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use der::asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use jiff::{SignedDuration, Timestamp};
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspRequest};
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

/// The instant at which everything is judged.
pub(crate) fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// `seconds` from [`now`], which may be negative.
pub(crate) fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(crate) const DAY: i64 = 86_400;

pub(crate) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// A certificate and its key.
pub(crate) struct Entity {
    pub(crate) certificate: Certificate,
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

impl Entity {
    /// A self-signed CA with an EC key.
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::self_signed(ca(name), key)
    }

    /// A self-signed CA with an RSA key.
    pub(crate) fn rsa_root(name: &str) -> Self {
        Self::self_signed(ca(name), rsa_key())
    }

    pub(crate) fn self_signed(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Self { certificate, params, key }
    }

    /// A certificate with a new EC key, signed by this one.
    pub(crate) fn issue(&self, params: CertificateParams) -> Self {
        self.certify(params, KeyPair::generate().unwrap())
    }

    /// A certificate for `key`, signed by this one.
    pub(crate) fn certify(&self, params: CertificateParams, key: KeyPair) -> Self {
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = Certificate::from_der(params.signed_by(&key, &issuer).unwrap().der()).unwrap();
        Self { certificate, params, key }
    }

    pub(crate) fn pkey(&self) -> PKey<Private> {
        PKey::private_key_from_der(self.key.serialized_der()).unwrap()
    }

    pub(crate) fn responder_by_key(&self) -> ResponderId {
        let bits = self.fields().subject_public_key_info.subject_public_key;
        ResponderId::ByKey(OctetString::new(openssl::sha::sha1(bits.raw_bytes()).to_vec()).unwrap())
    }

    pub(crate) fn responder_by_name(&self) -> ResponderId {
        ResponderId::ByName(self.fields().subject)
    }

    fn fields(&self) -> x509_cert::certificate::TbsCertificate {
        x509_cert::Certificate::from_der(self.certificate.der()).unwrap().tbs_certificate
    }
}

pub(crate) fn rsa_key() -> KeyPair {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    KeyPair::try_from(key.private_key_to_pkcs8().unwrap().as_slice()).unwrap()
}

/// The parameters of an end entity, valid for a month around [`now`].
pub(crate) fn end_entity(name: &str) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(0x1234_5678_9abc);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SERIAL.fetch_add(1, Ordering::Relaxed).into());
    (params.not_before, params.not_after) = (date(at(-15 * DAY)), date(at(15 * DAY)));
    params.use_authority_key_identifier_extension = true;
    params
}

pub(crate) fn ca(name: &str) -> CertificateParams {
    let mut params = end_entity(name);
    (params.not_before, params.not_after) = (date(at(-3000 * DAY)), date(at(3000 * DAY)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The parameters of a delegated responder as it should be.
pub(crate) fn responder(name: &str) -> CertificateParams {
    let mut params = end_entity(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    params
}

pub(crate) fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
}

/// The CertID as OpenSSL, and so HAProxy, makes it: ours is held against it in every test.
pub(crate) fn openssl_cert_id(hash: MessageDigest, leaf: &Certificate, issuer: &Certificate) -> x509_ocsp::CertId {
    let id = OcspCertId::from_cert(hash, &leaf.x509().unwrap(), &issuer.x509().unwrap()).unwrap();
    let mut request = OcspRequest::new().unwrap();
    request.add_id(id).unwrap();
    let request = x509_ocsp::OcspRequest::from_der(&request.to_der().unwrap()).unwrap();
    request.tbs_request.request_list.into_iter().next().unwrap().req_cert
}

/// An OCSP response before it is signed.
pub(crate) struct Draft {
    pub(crate) data: ResponseData,
    pub(crate) certs: Vec<Certificate>,
    pub(crate) digest: MessageDigest,
    key: PKey<Private>,
}

impl Draft {
    /// `good` for an hour ago to a week ahead, signed by the issuer, by key, with no certificate embedded.
    pub(crate) fn good(leaf: &Certificate, issuer: &Entity) -> Self {
        let cert_id = openssl_cert_id(MessageDigest::sha1(), leaf, &issuer.certificate);
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
    pub(crate) fn delegated(leaf: &Certificate, issuer: &Entity, signer: &Entity) -> Self {
        let mut draft = Self::good(leaf, issuer).signed_by(signer);
        draft.data.responder_id = signer.responder_by_key();
        draft.certs = vec![signer.certificate.clone()];
        draft
    }

    /// Changes only the key.
    pub(crate) fn signed_by(mut self, signer: &Entity) -> Self {
        self.key = signer.pkey();
        self
    }

    pub(crate) fn single(&mut self) -> &mut SingleResponse {
        &mut self.data.responses[0]
    }

    pub(crate) fn sign(&self) -> Vec<u8> {
        wrap(&self.basic(&self.data.to_der().unwrap()))
    }

    /// A BasicOCSPResponse around `tbs`, which need not parse.
    pub(crate) fn basic(&self, tbs: &[u8]) -> Vec<u8> {
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
pub(crate) fn wrap(basic: &[u8]) -> Vec<u8> {
    let bytes = ResponseBytes {
        response_type: <BasicOcspResponse as der::oid::AssociatedOid>::OID,
        response: OctetString::new(basic).unwrap(),
    };
    OcspResponse { response_status: OcspResponseStatus::Successful, response_bytes: Some(bytes) }.to_der().unwrap()
}

/// One element with any tag.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = der::Length::try_from(value.len()).unwrap().to_der().unwrap();
    [&[tag], length.as_slice(), value].concat()
}

pub(crate) fn generalized(at: Timestamp) -> OcspGeneralizedTime {
    let since = Duration::from_secs(u64::try_from(at.as_second()).unwrap());
    OcspGeneralizedTime(GeneralizedTime::from_unix_duration(since).unwrap())
}

/// An extension that nobody knows.
pub(crate) fn extension(critical: bool, value: &[u8]) -> Extension {
    Extension { extn_id: oid(STRANGE), critical, extn_value: OctetString::new(value).unwrap() }
}

pub(crate) const STRANGE: &str = "1.3.6.1.4.1.99999.1";
