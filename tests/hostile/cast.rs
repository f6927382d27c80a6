//! Who signs: a CA and everybody who would like to be taken for it.

use crate::support::pki::{Draft, Identity};

/// The CA and its impostors.
pub struct Cast {
    /// Above the CA.
    pub root: Identity,
    /// The CA: it issued every certificate here.
    pub ca: Identity,
    /// Appointed by the CA.
    pub delegate: Identity,
    /// Appointed by the CA, and its time is over.
    pub expired_delegate: Identity,
    /// Issued by the CA, without id-kp-OCSPSigning.
    pub sibling: Identity,
    /// Another CA of the same root.
    pub other: Identity,
    /// Appointed by that one.
    pub foreign_delegate: Identity,
    /// A CA that nobody knows.
    pub stranger: Identity,
    /// A CA that nobody knows, with the name of ours.
    pub namesake: Identity,
    /// Appointed by that one.
    pub forged_delegate: Identity,
}

impl Cast {
    pub fn new() -> Self {
        let root = Identity::root("Hostile Root");
        let ca = root.intermediate("Hostile CA");
        let other = root.intermediate("Other CA");
        let namesake = Identity::root("Hostile CA");
        Self {
            delegate: ca.delegate("Delegate").issue(),
            expired_delegate: ca.delegate("Expired Delegate").expired().issue(),
            sibling: ca.leaf("sibling.test").issue(),
            foreign_delegate: other.delegate("Foreign Delegate").issue(),
            stranger: Identity::root("Stranger"),
            forged_delegate: namesake.delegate("Forged Delegate").issue(),
            namesake,
            other,
            ca,
            root,
        }
    }

    /// The draft of a certificate of the CA.
    pub fn leaf(&self, name: &str) -> Draft {
        self.ca.leaf(&format!("{name}.test"))
    }
}
