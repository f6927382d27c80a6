//! What HAProxy loads: certificates with what belongs to them, and the entries for their staples.

use std::path::Path;
use std::sync::Arc;

use der::{Decode, Encode};
use jiff::Timestamp;
use openssl::x509::{X509, X509VerifyResult};

use super::response::Facts;
use super::{Entry, ExtraFiles, Process};
use crate::support::response::{Digest, cert_id_of};

/// A certificate.
pub(super) struct Leaf {
    pub(super) der: Arc<[u8]>,
    pub(super) x509: X509,
    pub(super) parsed: x509_cert::Certificate,
}

impl Leaf {
    fn new(x509: X509) -> Self {
        let der = x509.to_der().expect("a certificate in DER");
        let parsed = x509_cert::Certificate::from_der(&der).expect("a certificate");
        Self { der: der.into(), x509, parsed }
    }

    pub(super) fn fingerprint(&self) -> String {
        hex(&openssl::sha::sha1(&self.der))
    }

    pub(super) fn serial_number(&self) -> String {
        hex(self.parsed.tbs_certificate.serial_number.as_bytes())
    }
}

/// What HAProxy keeps under a name, and a transaction changes a copy of.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) leaf: Arc<Leaf>,
    chain: Vec<Arc<Leaf>>,
    told: Option<Arc<Leaf>>,
    pub(super) ocsp: Option<Vec<u8>>,
}

/// A name that something is served under.
pub(super) struct Name {
    pub(super) store: Store,
    /// The entry it is stapled from, if stapling is switched on.
    pub(super) entry: Option<Vec<u8>>,
}

impl Store {
    /// Loads what is at a path; none if nothing is.
    pub(super) fn load(path: &str, extra_files: ExtraFiles) -> Result<Option<Self>, String> {
        let Ok(pem) = std::fs::read(path) else { return Ok(None) };
        let mut store = Self::from_pem(&pem).ok_or_else(|| format!("unable to load certificate from file '{path}'"))?;
        let extra =
            |kind: &str| std::fs::read(format!("{path}.{kind}")).ok().filter(|_| extra_files == ExtraFiles::All);
        if let Some(response) = extra("ocsp") {
            store.ocsp = Some(response);
            if let Some(pem) = extra("issuer").filter(|_| store.issuer().is_none()) {
                store.tell_issuer(&pem);
            }
            if store.issuer().is_none() {
                return Err(format!(
                    "'{path}.ocsp' is present and activates OCSP but it is impossible to compute the OCSP certificate ID \
                     (maybe the issuer could not be found)"
                ));
            }
        }
        Ok(Some(store))
    }

    /// The certificate, its chain and its key in one file.
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        if !Path::new(std::str::from_utf8(pem).ok()?).to_string_lossy().contains("PRIVATE KEY") {
            return None;
        }
        let mut all = X509::stack_from_pem(pem).ok()?.into_iter().map(|x509| Arc::new(Leaf::new(x509)));
        Some(Self { leaf: all.next()?, chain: all.collect(), told: None, ocsp: None })
    }

    pub(super) fn tell_issuer(&mut self, pem: &[u8]) {
        self.told = X509::from_pem(pem).ok().map(|x509| Arc::new(Leaf::new(x509)));
    }

    /// The issuer as HAProxy finds it: in the chain, or told.
    fn issuer(&self) -> Option<&Arc<Leaf>> {
        let issued = |issuer: &&Arc<Leaf>| issuer.x509.issued(&self.leaf.x509) == X509VerifyResult::OK;
        self.chain.iter().chain(&self.told).find(issued)
    }

    /// Whether it asks for stapling and its issuer is nowhere: it cannot be committed.
    pub(super) fn is_impossible(&self) -> bool {
        self.ocsp.is_some() && self.issuer().is_none()
    }
}

impl Process {
    /// Puts a store under a name, in the place of what was there. Says why its response is ignored, if it is.
    pub(super) fn bring_in(&mut self, name: &str, store: Store, now: Timestamp) -> Option<String> {
        let mut complaint = None;
        let id = store
            .issuer()
            .filter(|_| store.ocsp.is_some())
            .map(|issuer| cert_id_of(Digest::Sha1, &store.leaf.parsed, &issuer.parsed));
        let entry = id.map(|id| {
            let key = id.to_der().expect("a CertID in DER");
            let held = self.entries.entry(key.clone()).or_insert(Entry { id, response: None });
            match Facts::load(store.ocsp.as_deref().unwrap_or_default(), Some(&key), now) {
                Ok(facts) => held.response = Some(Arc::new(facts)),
                Err(reason) => complaint = Some(reason),
            }
            key
        });
        self.names.insert(name.to_owned(), Name { store, entry });
        let used = &self.names;
        self.entries.retain(|key, _| used.values().any(|name| name.entry.as_ref() == Some(key)));
        complaint
    }

    /// What is held for the certificate of a name, if stapling is switched on for it.
    pub(super) fn held(&self, name: &str) -> Option<&Arc<Facts>> {
        self.entries.get(self.names.get(name)?.entry.as_ref()?)?.response.as_ref()
    }

    /// The names that are stapled from an entry.
    pub(super) fn stapled_from(&self, key: &[u8]) -> Vec<String> {
        let uses = self.names.iter().filter(|(_, name)| name.entry.as_deref() == Some(key));
        uses.map(|(name, _)| name.clone()).collect()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
