//! What a snapshot takes over from the one before. No IO.

use std::iter::Peekable;
use std::slice::Iter;
use std::sync::Arc;

use jiff::Timestamp;

use crate::status::{CertificateStatus, Status};

/// The certificates of a snapshot, for those of the next one.
#[derive(Debug)]
pub(super) struct Predecessors<'a>(Peekable<Iter<'a, Arc<CertificateStatus>>>);

impl<'a> Predecessors<'a> {
    pub(super) fn new(before: &'a Status) -> Self {
        Self(before.certificates.iter().peekable())
    }

    /// Says since when a certificate is in its state. They come by name, as they did before. Of those that nothing has
    /// happened to there is one allocation, however many snapshots have them.
    pub(super) fn hand_down(&mut self, mut certificate: CertificateStatus, now: Timestamp) -> Arc<CertificateStatus> {
        while self.0.next_if(|each| each.certificate < certificate.certificate).is_some() {}
        let before = self.0.peek().filter(|each| each.certificate == certificate.certificate);
        let unchanged = before.filter(|each| each.state == certificate.state);
        certificate.state_since = unchanged.and_then(|each| each.state_since).or(Some(now));
        match unchanged {
            Some(before) if ***before == certificate => Arc::clone(before),
            _ => Arc::new(certificate),
        }
    }
}
