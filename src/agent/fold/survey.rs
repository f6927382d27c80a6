//! What a HAProxy has loaded.

use std::collections::BTreeSet;

use super::join;
use crate::agent::native::Native;
use crate::agent::peer::Peer;
use crate::agent::troubles;
use crate::agent::world::{Leaves, World};
use crate::certificate::Fingerprint;
use crate::clock::{Moment, Monotonic};
use crate::haproxy::{HaproxyError, LoadedCertificate, LoadedStatus, NativeUpdate, News, Stapling, Survey};

/// Whether anything is not as it was.
pub(super) fn surveyed(
    world: &mut World,
    index: usize,
    outcome: Result<Survey, HaproxyError>,
    aborted: Option<String>,
    now: Moment,
) -> bool {
    let Some(peer) = world.peers.get_mut(index) else { return false };
    peer.running = false;
    if let Some(certificate) = aborted {
        tracing::warn!(
            haproxy = &**peer.label(),
            certificate,
            "a transaction that this program opened and left when it was killed is aborted; its staple is installed anew"
        );
    }
    let mut is_news = !peer.surveyed || peer.trouble.is_some();
    match outcome {
        Ok(survey) => {
            peer.surveyed = true;
            peer.introduced = true;
            peer.trouble = None;
            if survey.transaction_open.is_none() {
                peer.refused.values_mut().filter(|refused| refused.busy).for_each(|refused| {
                    refused.again = now.monotonic;
                });
            }
            let change = take_loaded(peer, survey.news);
            is_news |= change != Change::None;
            is_news |= take_updates(peer, survey.native_updates);
            if is_read_back_due(peer, now.monotonic) {
                peer.read_back_again = now.monotonic.after(world.settings.refresh_interval);
                peer.reread = peer.served.keys().cloned().collect();
                peer.idle.clear();
                peer.read.clear();
                peer.native.values_mut().for_each(Native::read_again);
                is_news = true;
            }
            if is_news {
                forget_what_went(peer, &world.leaves);
                world.scan.outdated = true;
            }
            if change == Change::NewCertificates {
                // Perhaps a file that was not looked at so far.
                world.scan.next = now.monotonic;
                world.scan.again = world.scan.running;
            }
        }
        Err(error) => {
            if !peer.introduced && error.passes_by_itself() {
                peer.next_survey = peer.next_look;
            }
            peer.trouble = Some(troubles::haproxy(&error));
            is_news = true;
        }
    }
    if is_news {
        join(world, now);
    }
    is_news
}

/// What a survey changed in what is known to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Some,
    /// Certificates that this HAProxy did not have before.
    NewCertificates,
}

fn take_loaded(peer: &mut Peer, news: News) -> Change {
    let (loaded, whole) = match news {
        News::Whole { loaded, entries, seen } => {
            peer.entries = entries;
            peer.known.seen = seen;
            (loaded, true)
        }
        News::Same { mut loaded } => {
            loaded.retain(|now| peer.loaded.get(&now.name) != Some(now));
            if loaded.is_empty() {
                return Change::None;
            }
            (loaded, false)
        }
    };
    let known: BTreeSet<Fingerprint> = peer.by_fingerprint.keys().copied().collect();
    // Somebody may have replaced a certificate at run time: what HAProxy served for it went with it.
    for now in loaded.iter().filter(|now| now.status != LoadedStatus::NotShown) {
        if peer.loaded.get(&now.name).is_some_and(|then| then.fingerprint != now.fingerprint) {
            peer.served.remove(&now.name);
        }
    }
    if whole {
        peer.set_loaded(loaded);
    } else {
        peer.update_loaded(loaded);
    }
    let any_new = peer.by_fingerprint.keys().any(|each| !known.contains(each));
    if any_new { Change::NewCertificates } else { Change::Some }
}

/// Whether there was any change.
fn take_updates(peer: &mut Peer, updates: Vec<NativeUpdate>) -> bool {
    let updates = match &peer.entries {
        Some(entries) => entries.identify(updates),
        None => updates,
    };
    let is_news = updates != peer.updates;
    peer.updates = updates;
    is_news
}

/// From time to time, what HAProxy holds is read again.
fn is_read_back_due(peer: &Peer, now: Monotonic) -> bool {
    let readable = peer.process.as_ref().is_some_and(|process| process.version.lists_entries());
    readable && peer.read_back_again <= now
}

/// What has no entry any more, or is not stapled, is not served.
fn forget_what_went(peer: &mut Peer, leaves: &Leaves) {
    let (loaded, entries) = (&peer.loaded, peer.entries.as_ref());
    let is_stapled = |certificate: &&LoadedCertificate| certificate.stapling != Stapling::Off;
    peer.served.retain(|name, _| {
        let leaf = loaded.get(name).filter(is_stapled).and_then(|loaded| leaves.get(&loaded.fingerprint?));
        let ask = leaf.and_then(|leaf| leaf.ask.as_ref());
        ask.is_some_and(|ask| entries.is_none_or(|entries| entries.find(&ask.key).is_some()))
    });
}
