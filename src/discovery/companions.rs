//! Where HAProxy looks for the files that belong to a certificate.
//!
//! `foo.pem` has `foo.pem.key`, `foo.pem.issuer` and `foo.pem.ocsp`. With `ssl-load-extra-del-ext` (2.3 and later)
//! `foo.crt` has `foo.key`, `foo.issuer` and `foo.ocsp` instead. Which of the two holds is not told before 3.2, but what
//! lies there tells it. A wrong guess does no harm: HAProxy opens nothing that the other rule names.

use std::path::{Path, PathBuf};

use crate::listings::Listings;

/// The rule by which a certificate's other files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Companions {
    /// To the whole name.
    Appended,
    /// In the place of `.crt`.
    Replaced,
}

impl Companions {
    /// The rule that explains what lies beside a certificate whose own file holds a key or does not.
    pub(super) fn of(certificate: &Path, holds_key: bool, listings: &mut Listings) -> Self {
        if certificate.extension().is_none_or(|extension| extension != "crt") {
            return Self::Appended;
        }
        let mut only_replaced = |suffix: &str| {
            listings.has(&Self::Replaced.path(certificate, suffix))
                && !listings.has(&Self::Appended.path(certificate, suffix))
        };
        if only_replaced("issuer") || !holds_key && only_replaced("key") { Self::Replaced } else { Self::Appended }
    }

    /// The certificate's file with this suffix.
    pub(super) fn path(self, certificate: &Path, suffix: &str) -> PathBuf {
        match self {
            Self::Replaced => certificate.with_extension(suffix),
            Self::Appended => {
                let mut name = certificate.as_os_str().to_owned();
                name.push(".");
                name.push(suffix);
                PathBuf::from(name)
            }
        }
    }
}

/// Whether a PEM text holds a private key of any kind. It is looked for, not looked at.
pub(super) fn holds_key(pem: &[u8]) -> bool {
    const END: &[u8] = b"PRIVATE KEY-----";
    pem.windows(END.len()).any(|window| window == END)
}
