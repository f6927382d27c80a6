//! PEM files: the certificates in them, and nothing else.
//!
//! A file that HAProxy loads holds a private key beside the certificates. This reader copies only what stands between
//! `BEGIN CERTIFICATE` and its `END`; a key block is neither decoded nor kept (promise 8).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::base64;
use openssl::error::ErrorStack;
use openssl::x509::X509;

use crate::certificate::{Certificate, CertificateError, Issuer, IssuerSource, openssl_reason};

const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// Why a PEM file gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// There is no certificate block at all.
    #[error("it holds no PEM certificate")]
    NoCertificate {
        /// Whether there were other PEM blocks: a key or a DH parameter file is no broken certificate.
        other_blocks: bool,
    },
    /// A block was opened and never closed.
    #[error("PEM certificate {number} is cut off: its END line is missing")]
    Truncated {
        /// Which certificate in the file, from 1.
        number: usize,
    },
    /// A block is not base64 of a certificate.
    #[error("PEM certificate {number} is {source}")]
    Certificate {
        /// Which certificate in the file, from 1.
        number: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A block does not decode.
    #[error("PEM certificate {number} does not decode: {reason}")]
    Encoding {
        /// Which certificate in the file, from 1.
        number: usize,
        /// OpenSSL's reason.
        reason: String,
    },
}

/// What a PEM file says about the certificate HAProxy makes of it: the first is the leaf, the rest is the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The certificate that is served.
    pub leaf: Certificate,
    /// What follows it in the file, in the file's order.
    pub chain: Vec<Certificate>,
}

/// The certificates of chains. Thousands of files hold the same intermediate: it is parsed and kept once.
#[derive(Debug, Default)]
pub struct Pool(Mutex<HashMap<Vec<u8>, Certificate>>);

impl Pool {
    /// Drops what no file holds any more.
    pub fn tidy(&self) {
        self.known().retain(|_, certificate| certificate.is_shared());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Certificate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bundle {
    /// Reads a PEM file's certificates; those of the chain may be in the pool, and are afterwards.
    ///
    /// # Errors
    /// When there is no certificate or one does not parse.
    pub fn from_pem(pem: &[u8], pool: &Pool) -> Result<Self, PemError> {
        let mut certificates = read(pem, |block, number| {
            if number == 1 {
                return decode(block, number);
            }
            let known = pool.known().get(block).cloned();
            if let Some(known) = known {
                return Ok(known);
            }
            let certificate = decode(block, number)?;
            Ok(pool.known().entry(block.to_vec()).or_insert(certificate).clone())
        })?
        .into_iter();
        let leaf = certificates.next().ok_or(PemError::NoCertificate { other_blocks: false })?;
        Ok(Self { leaf, chain: certificates.collect() })
    }

    /// The issuer: from the chain, else from the `.issuer` file's certificates.
    #[must_use]
    pub fn issuer(&self, issuer_file: &[Certificate]) -> Option<Issuer> {
        Issuer::find(&self.leaf, &self.chain, IssuerSource::Chain)
            .or_else(|| Issuer::find(&self.leaf, issuer_file, IssuerSource::IssuerFile))
    }

    /// The issuer that HAProxy would take at its next start: the first in the chain that looks like it, else the first
    /// certificate of the `.issuer` file. It checks no signature, so this may be another than [`Self::issuer`].
    #[must_use]
    pub fn issuer_for_haproxy<'a>(&'a self, issuer_file: &'a [Certificate]) -> Option<&'a Certificate> {
        self.chain
            .iter()
            .find(|candidate| self.leaf.looks_issued_by(candidate))
            .or_else(|| issuer_file.first().filter(|candidate| self.leaf.looks_issued_by(candidate)))
    }
}

/// Every certificate in a PEM text, in order.
///
/// # Errors
/// When there is none or one does not parse.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, PemError> {
    read(pem, decode)
}

/// `decode` gets each block and its number, from 1.
fn read(
    pem: &[u8],
    mut decode: impl FnMut(&[u8], usize) -> Result<Certificate, PemError>,
) -> Result<Vec<Certificate>, PemError> {
    let mut found = Vec::new();
    let mut block: Option<(String, Vec<u8>)> = None;
    let mut other_blocks = false;
    for line in pem.split(|byte| *byte == b'\n') {
        let text = line.trim_ascii();
        if let Some((end, content)) = &mut block {
            content.extend_from_slice(text);
            content.push(b'\n');
            if text == end.as_bytes() {
                let number = found.len() + 1;
                found.push(decode(content, number)?);
                block = None;
            }
        } else if let Some(begun) = text.strip_prefix(b"-----BEGIN ") {
            let label = begun.strip_suffix(b"-----");
            match LABELS.iter().find(|known| label == Some(known.as_bytes())) {
                Some(label) => block = Some((format!("-----END {label}-----"), [text, b"\n"].concat())),
                None => other_blocks = true,
            }
        }
    }
    match (block, found.is_empty()) {
        (Some(_), _) => Err(PemError::Truncated { number: found.len() + 1 }),
        (None, true) => Err(PemError::NoCertificate { other_blocks }),
        (None, false) => Ok(found),
    }
}

fn decode(block: &[u8], number: usize) -> Result<Certificate, PemError> {
    let der = if block.starts_with(b"-----BEGIN TRUSTED ") {
        // OpenSSL's own form, with trust settings behind the certificate.
        let encoding = |error: ErrorStack| PemError::Encoding { number, reason: openssl_reason(&error) };
        X509::from_pem(block).and_then(|x509| x509.to_der()).map_err(encoding)?
    } else {
        let lines: Vec<&[u8]> = block.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-----")).collect();
        let encoding = |reason: String| PemError::Encoding { number, reason };
        let text = String::from_utf8(lines.concat()).map_err(|_| encoding("not base64".to_owned()))?;
        base64::decode_block(&text).map_err(|error| encoding(openssl_reason(&error)))?
    };
    Certificate::from_der(&der).map_err(|source| PemError::Certificate { number, source })
}
