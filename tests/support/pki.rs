//! A certification authority for tests: roots, intermediates, leaves, delegated OCSP signers, and their misshapen kin.

use std::sync::Arc;

use der::asn1::{Ia5String, ObjectIdentifier};
use der::{Decode, Encode};
use jiff::Timestamp;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::X509;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AccessDescription, AuthorityInfoAccessSyntax};

use super::now;

const AUTHORITY_INFO_ACCESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];
const TLS_FEATURE: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 24];
const OCSP_NOCHECK: [u64; 10] = [1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
const ID_AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const ID_AD_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

/// What kind of key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// P-256, quick to make.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

impl KeyKind {
    fn generate(self) -> PKey<Private> {
        match self {
            Self::Ecdsa => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
                PKey::from_ec_key(EcKey::generate(&group).expect("an EC key")).expect("a private key")
            }
            Self::Rsa => PKey::from_rsa(Rsa::generate(2048).expect("an RSA key")).expect("a private key"),
        }
    }
}

/// A certificate, its private key, and the certificates above it. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    key: PKey<Private>,
    params: CertificateParams,
    issuer: Option<Identity>,
}

impl Identity {
    /// A self-signed root with an ECDSA key.
    pub fn root(name: &str) -> Self {
        Self::root_with(name, KeyKind::Ecdsa)
    }

    /// A self-signed root.
    pub fn root_with(name: &str, kind: KeyKind) -> Self {
        Self::root_draft(name).key(kind).issue()
    }

    /// The draft of a self-signed root.
    pub fn root_draft(name: &str) -> Draft {
        Draft::new(name, None).ca()
    }

    /// An intermediate CA below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        Draft::new(name, Some(self)).ca().issue()
    }

    /// The draft of a server certificate for the DNS name `name`.
    pub fn leaf(&self, name: &str) -> Draft {
        let mut draft = Draft::new(name, Some(self)).names(&[name]);
        draft.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        draft
    }

    /// The draft of a delegated OCSP signer, as RFC 6960 section 4.2.2.2 wants it, with id-pkix-ocsp-nocheck.
    pub fn delegate(&self, name: &str) -> Draft {
        let mut draft = Draft::new(name, Some(self)).nocheck();
        draft.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        draft
    }

    /// The draft of any certificate signed by this one.
    pub fn draft(&self, name: &str) -> Draft {
        Draft::new(name, Some(self))
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem(self.der())
    }

    /// The certificate, parsed by x509-cert.
    pub fn parsed(&self) -> x509_cert::Certificate {
        x509_cert::Certificate::from_der(self.der()).expect("our own certificate")
    }

    /// The private key.
    pub fn key(&self) -> &PKey<Private> {
        &self.0.key
    }

    /// The private key as PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        String::from_utf8(self.0.key.private_key_to_pem_pkcs8().expect("a key in PEM")).expect("PEM is ASCII")
    }

    /// Who signed this one; a root signed itself.
    pub fn issuer(&self) -> &Self {
        self.0.issuer.as_ref().unwrap_or(self)
    }

    /// What a server sends after the leaf: every CA above it without the root, unless the root itself is the issuer,
    /// in which case HAProxy needs it there to compute the CertID.
    pub fn chain(&self) -> Vec<Self> {
        let mut chain = Vec::new();
        let mut above = self.0.issuer.as_ref();
        while let Some(authority) = above {
            above = authority.0.issuer.as_ref();
            if above.is_some() || chain.is_empty() {
                chain.push(authority.clone());
            }
        }
        chain
    }

    /// Leaf, chain and key: what HAProxy loads.
    pub fn combined_pem(&self) -> String {
        let chain: String = self.chain().iter().map(Self::pem).collect();
        format!("{}{chain}{}", self.pem(), self.key_pem())
    }

    /// Leaf and key without the chain: HAProxy cannot know the issuer.
    pub fn chainless_pem(&self) -> String {
        format!("{}{}", self.pem(), self.key_pem())
    }

    /// The serial number's significant bytes.
    pub fn serial(&self) -> Vec<u8> {
        let parsed = self.parsed();
        parsed.tbs_certificate.serial_number.as_bytes().iter().skip_while(|byte| **byte == 0).copied().collect()
    }

    /// The serial number as OpenSSL prints it: upper case, an even number of digits.
    pub fn serial_hex(&self) -> String {
        self.serial().iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The subject's common name.
    pub fn name(&self) -> String {
        match self.0.params.distinguished_name.get(&DnType::CommonName) {
            Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
            other => panic!("a subject of ours without a common name: {other:?}"),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, {})", self.name(), self.serial_hex())
    }
}

/// A certificate about to be issued: valid since yesterday for ninety days, with an ECDSA key, unless told otherwise.
pub struct Draft {
    issuer: Option<Identity>,
    kind: KeyKind,
    ocsp: Vec<String>,
    ca_issuers: Vec<String>,
    /// Whatever the methods do not cover.
    pub params: CertificateParams,
}

impl Draft {
    fn new(name: &str, issuer: Option<&Identity>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = issuer.is_some();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(90);
        Self { issuer: issuer.cloned(), kind: KeyKind::Ecdsa, ocsp: Vec::new(), ca_issuers: Vec::new(), params }
    }

    /// The kind of key.
    pub fn key(mut self, kind: KeyKind) -> Self {
        self.kind = kind;
        self
    }

    /// One more OCSP responder in authorityInfoAccess.
    pub fn ocsp(mut self, url: &str) -> Self {
        self.ocsp.push(url.to_owned());
        self
    }

    /// One more place of the issuer's certificate in authorityInfoAccess.
    pub fn ca_issuers(mut self, url: &str) -> Self {
        self.ca_issuers.push(url.to_owned());
        self
    }

    /// TLS feature `status_request` (RFC 7633).
    pub fn must_staple(self) -> Self {
        self.extension(&TLS_FEATURE, vec![0x30, 0x03, 0x02, 0x01, 0x05])
    }

    /// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
    pub fn nocheck(self) -> Self {
        self.extension(&OCSP_NOCHECK, vec![0x05, 0x00])
    }

    /// Without id-pkix-ocsp-nocheck.
    pub fn without_nocheck(mut self) -> Self {
        self.params.custom_extensions.retain(|extension| !extension.oid_components().eq(OCSP_NOCHECK));
        self
    }

    /// Without any extended key usage: as a delegate, nobody may trust it.
    pub fn without_extended_key_usage(mut self) -> Self {
        self.params.extended_key_usages.clear();
        self
    }

    /// Any extension, not critical.
    pub fn extension(mut self, oid: &[u64], content: Vec<u8>) -> Self {
        self.params.custom_extensions.push(CustomExtension::from_oid_content(oid, content));
        self
    }

    /// A certification authority.
    pub fn ca(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        self.params.not_after = OffsetDateTime::now_utc() + time::Duration::days(3650);
        self
    }

    /// First and last instant of validity.
    pub fn valid(mut self, not_before: Timestamp, not_after: Timestamp) -> Self {
        self.params.not_before = offset(not_before);
        self.params.not_after = offset(not_after);
        self
    }

    /// Validity that ended yesterday.
    pub fn expired(self) -> Self {
        let day = jiff::SignedDuration::from_hours(24);
        self.valid(now() - 30 * day, now() - day)
    }

    /// The subjectAltNames: DNS names and IP addresses.
    pub fn names(mut self, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.params.subject_alt_names = CertificateParams::new(names).expect("valid names").subject_alt_names;
        self
    }

    /// The serial number; random if not set.
    pub fn serial(mut self, serial: u64) -> Self {
        self.params.serial_number = Some(serial.into());
        self
    }

    /// Signs it with a new key.
    pub fn issue(self) -> Identity {
        let key = self.kind.generate();
        self.issue_for(key)
    }

    /// Signs it for a key that exists: a renewed certificate, or two certificates with one key.
    pub fn issue_for(mut self, key: PKey<Private>) -> Identity {
        let access: Vec<AccessDescription> = [(ID_AD_OCSP, &self.ocsp), (ID_AD_CA_ISSUERS, &self.ca_issuers)]
            .into_iter()
            .flat_map(|(access_method, urls)| {
                urls.iter().map(move |url| AccessDescription {
                    access_method,
                    access_location: GeneralName::UniformResourceIdentifier(Ia5String::new(url).expect("an ASCII URL")),
                })
            })
            .collect();
        if !access.is_empty() {
            let content = AuthorityInfoAccessSyntax(access).to_der().expect("authorityInfoAccess in DER");
            self = self.extension(&AUTHORITY_INFO_ACCESS, content);
        }
        let own = key_pair(&key);
        let certificate = match &self.issuer {
            None => self.params.self_signed(&own),
            Some(issuer) => {
                self.params.signed_by(&own, &Issuer::from_params(&issuer.0.params, key_pair(&issuer.0.key)))
            }
        };
        let der = certificate.expect("a certificate").der().to_vec();
        Identity(Arc::new(Inner { der, key, params: self.params, issuer: self.issuer }))
    }
}

/// The same Ed25519 key for the same words, whenever and wherever. Such keys sign without chance, too: with a serial
/// number and a validity of one's own, everything made with them is the same byte for byte.
pub fn fixed_key(words: &str) -> PKey<Private> {
    PKey::private_key_from_raw_bytes(&sha256(words.as_bytes()), openssl::pkey::Id::ED25519).expect("an Ed25519 key")
}

/// A certificate as PEM.
pub fn pem(der: &[u8]) -> String {
    let certificate = X509::from_der(der).expect("a certificate");
    String::from_utf8(certificate.to_pem().expect("a certificate in PEM")).expect("PEM is ASCII")
}

/// rcgen's view of a key that OpenSSL made: ring can use RSA keys but not make them.
fn key_pair(key: &PKey<Private>) -> KeyPair {
    let pkcs8 = key.private_key_to_pkcs8().expect("a key in PKCS#8");
    KeyPair::try_from(pkcs8.as_slice()).expect("a key that rcgen can use")
}

fn offset(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).expect("a date in range")
}
