//! Where HAProxy would read a leaf's staple at its next start. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::world::{Leaf, World};
use crate::certificate::{Certificate, Issuer};
use crate::discovery::Content;
use crate::haproxy::LoadedCertificate;

/// A file that holds a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// Where HAProxy looks for the OCSP response, as far as the files tell.
    pub(super) ocsp: PathBuf,
    pub(super) issuer: IssuerAtStart,
}

/// Where HAProxy, at its next start, finds the issuer that we verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IssuerAtStart {
    /// In the file itself.
    InChain,
    /// In the `.issuer` file, which has the same stem as the `.ocsp` file.
    InIssuerFile,
    /// Nowhere. Up to 3.4, HAProxy would refuse to start over a `.ocsp` file (promise 7).
    Nowhere,
}

impl Home {
    pub(super) fn of(content: &Content, issuer: Option<&Issuer>) -> Self {
        // With the same name and the same key as the one that we verified with.
        let is_it = |found: &Option<Certificate>| {
            found.as_ref().zip(issuer).is_some_and(|(found, issuer)| {
                let issuer = issuer.certificate();
                found.subject() == issuer.subject() && found.has_key_of(issuer)
            })
        };
        let found = &content.issuer_for_haproxy;
        let place = if is_it(&found.in_chain) {
            IssuerAtStart::InChain
        } else if is_it(&found.with_issuer_file) {
            IssuerAtStart::InIssuerFile
        } else {
            IssuerAtStart::Nowhere
        };
        Self { ocsp: content.ocsp_path.clone(), issuer: place }
    }
}

impl World {
    /// The `.ocsp` files for a leaf, each with the certificate whose readers may read it. HAProxy 3.2 and later say where
    /// they look; before, the names of the other files tell.
    pub(super) fn places(&self, leaf: &Leaf) -> BTreeMap<PathBuf, PathBuf> {
        let mut places = BTreeMap::new();
        for (certificate, home) in leaf.files.iter().filter(|(_, home)| home.issuer != IssuerAtStart::Nowhere) {
            let name = self.settings.path_map.to_haproxy(certificate);
            let told: BTreeSet<PathBuf> =
                self.peers.iter().filter_map(|peer| self.own_path(&peer.loaded.get(&name)?.ocsp_file()?)).collect();
            if told.is_empty() {
                places.insert(home.ocsp.clone(), certificate.clone());
            }
            // By another name than we thought, HAProxy may look for the issuer by another name, too.
            let findable = |told: &PathBuf| *told == home.ocsp || home.issuer == IssuerAtStart::InChain;
            places.extend(told.into_iter().filter(findable).map(|ocsp| (ocsp, certificate.clone())));
        }
        let chained = leaf.files.iter().find(|(_, home)| home.issuer == IssuerAtStart::InChain);
        if let Some((certificate, _)) = chained {
            // In a crt-store the name is no path, and only a configured file is read.
            let fingerprint = leaf.certificate.fingerprint();
            let stored = self.peers.iter().flat_map(|peer| {
                peer.names(fingerprint)
                    .iter()
                    .filter(|name| name.starts_with('@'))
                    .filter_map(|name| peer.loaded.get(name).and_then(LoadedCertificate::required_ocsp_file))
            });
            places.extend(stored.filter_map(|file| Some((self.own_path(file)?, certificate.clone()))));
        }
        places
    }

    /// Whether some HAProxy's configuration names this file: without it, HAProxy would not start.
    pub(super) fn is_required(&self, ocsp: &Path) -> bool {
        self.peers
            .iter()
            .flat_map(|peer| peer.loaded.values())
            .filter_map(LoadedCertificate::required_ocsp_file)
            .any(|file| self.own_path(file).is_some_and(|own| own == ocsp))
    }

    /// A path of HAProxy's, here; none if it depends on HAProxy's working directory.
    pub(super) fn own_path(&self, haproxy: &str) -> Option<PathBuf> {
        Some(self.settings.path_map.to_own(haproxy)).filter(|own| own.is_absolute())
    }
}
