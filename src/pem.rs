//! PEM files: the certificates in them, and nothing else.
//!
//! A file that HAProxy loads holds a private key beside the certificates. This reader copies only what stands between
//! `BEGIN CERTIFICATE` and its `END`; a key block is neither decoded nor kept (promise 8).

use openssl::x509::X509;

use crate::certificate::{Certificate, CertificateError, Issuer, IssuerSource};

const LABELS: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// Why a PEM file gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

impl Bundle {
    /// Reads a PEM file's certificates.
    ///
    /// # Errors
    /// When there is no certificate or one does not parse.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PemError> {
        let mut certificates = certificates(pem)?.into_iter();
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
        } else if let Some(label) = LABELS.iter().find(|label| text == format!("-----BEGIN {label}-----").as_bytes()) {
            block = Some((format!("-----END {label}-----"), [text, b"\n"].concat()));
        } else if text.starts_with(b"-----BEGIN ") {
            other_blocks = true;
        }
    }
    match (block, found.is_empty()) {
        (Some(_), _) => Err(PemError::Truncated { number: found.len() + 1 }),
        (None, true) => Err(PemError::NoCertificate { other_blocks }),
        (None, false) => Ok(found),
    }
}

fn decode(block: &[u8], number: usize) -> Result<Certificate, PemError> {
    let encoding = |error: openssl::error::ErrorStack| PemError::Encoding {
        number,
        reason: crate::certificate::openssl_reason(&error),
    };
    let der = X509::from_pem(block).and_then(|x509| x509.to_der()).map_err(encoding)?;
    Certificate::from_der(&der).map_err(|source| PemError::Certificate { number, source })
}
