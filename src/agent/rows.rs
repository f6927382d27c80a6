//! Rows for people: one a name, whatever certificates, files and HAProxies are behind it. No IO.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::peer::Peer;
use super::troubles;
use super::world::{Leaf, World};
use crate::certificate::Fingerprint;
use crate::discovery::FileError;
use crate::status::Trouble;

/// Everything known under one name.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    pub(super) leaf: Option<&'a Leaf>,
    pub(super) loaded_at: Vec<&'a Peer>,
    /// HAProxy has it, and no frontend serves it.
    pub(super) idle: bool,
    pub(super) unreadable: Option<&'a FileError>,
    /// The file of this name holds another certificate than HAProxy runs, or cannot be read any more.
    pub(super) note: Option<Trouble>,
    pub(super) files: Vec<&'a Path>,
}

impl Row<'_> {
    /// The paths of the files, for people.
    pub(super) fn files(&self) -> Vec<String> {
        self.files.iter().map(|path| path.display().to_string()).collect()
    }
}

impl World {
    /// One row a name. A name is HAProxy's; a file that no HAProxy has loaded goes by the name it would have there.
    pub(super) fn rows(&self) -> BTreeMap<Cow<'_, str>, Row<'_>> {
        let mut rows: BTreeMap<Cow<'_, str>, Row<'_>> = BTreeMap::new();
        for peer in &self.peers {
            for certificate in peer.loaded.values() {
                let leaf = certificate.fingerprint.and_then(|fingerprint| self.leaves.get(&fingerprint));
                let Some(leaf) = leaf else { continue };
                let row = rows.entry(Cow::Borrowed(&certificate.name)).or_default();
                // Two HAProxies may run two certificates under one name while a rotation spreads: the one that is also
                // on disk is the one that stays.
                if row.leaf.is_none_or(|known| known.files.is_empty()) {
                    row.leaf = Some(leaf);
                }
                if peer.is_served(&certificate.name) {
                    row.loaded_at.push(peer);
                } else {
                    row.idle = true;
                }
                row.files = leaf.files.keys().map(PathBuf::as_path).collect();
            }
        }
        for (path, content) in &self.files {
            let name = || Cow::Owned(self.settings.path_map.to_haproxy(path));
            match content {
                Ok(content) => {
                    let fingerprint = content.bundle.leaf.fingerprint();
                    // A CA's certificate beside those it issued is there to be found as an issuer.
                    let only_an_issuer =
                        content.bundle.leaf.is_ca() && content.bundle.leaf.ocsp_responders().is_empty();
                    if self.is_loaded(fingerprint) || only_an_issuer {
                        continue;
                    }
                    let row = rows.entry(name()).or_default();
                    if row.loaded_at.is_empty() {
                        row.leaf = self.leaves.get(&fingerprint).map(Box::as_ref);
                        row.files.push(path);
                    } else {
                        row.note = Some(troubles::other_certificate(&content.bundle.leaf));
                    }
                }
                Err(error) => {
                    let row = rows.entry(name()).or_default();
                    if row.loaded_at.is_empty() {
                        row.unreadable = Some(error);
                        row.files.push(path);
                    } else {
                        row.note = Some(troubles::lost_file(error));
                    }
                }
            }
        }
        rows
    }

    /// Whether any HAProxy has loaded this certificate.
    fn is_loaded(&self, fingerprint: Fingerprint) -> bool {
        self.peers.iter().any(|peer| !peer.names(fingerprint).is_empty())
    }
}
