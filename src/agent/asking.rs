//! When a certificate's errands are due, and whom they go to. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Leaf, life};
use crate::certificate::Certificate;
use crate::clock::{Moment, Monotonic};
use crate::fetch::InHand;
use crate::schedule::{Jitter, Patience};
use crate::settings::{Override, Settings};
use crate::uri;

/// Somebody to ask about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whom {
    /// Where.
    pub(super) url: String,
    /// The host that the certificate names: the settings may send the questions for several CAs to one cache, and what
    /// one of them wishes is none of the others' business.
    pub(super) host: String,
}

/// Hosts that want to be left alone, with all the certificates that are asked about there.
#[derive(Debug, Default)]
pub(super) struct Wishes(BTreeMap<String, Patience>);

impl Wishes {
    /// Whether nobody wishes anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of what a host wishes.
    pub(super) fn hear(&mut self, host: String, retry_after: Duration, now: Monotonic) {
        let before = self.0.get(&host).copied();
        self.0.insert(host, Patience::new(retry_after, before, now));
        self.0.retain(|_, patience| !patience.is_over(now));
    }
}

impl Leaf {
    /// When the network is needed next; never, where there is nothing to ask or nobody.
    pub(super) fn next_errand(&self, refresh_interval: Duration, wishes: &Wishes, now: Moment) -> Option<Monotonic> {
        let expired = self.certificate.not_after() < now.wall;
        if !self.restored || self.hands_off.is_some() || self.responders.is_empty() || expired {
            return None;
        }
        let due = match &self.ask {
            Some(ask) => {
                let held = self.staple.as_ref().map(life);
                self.progress.next_attempt(held, ask.jitter, refresh_interval, now)
            }
            None if self.names_its_issuer() => {
                let jitter = Jitter::from_hash(self.certificate.fingerprint().as_bytes());
                self.issuer_progress.next_attempt(None, jitter, refresh_interval, now)
            }
            None => return None,
        };
        let due = self.released(wishes, now).map_or(due, |released| due.max(released));
        Some(self.budget.within(due))
    }

    /// When it was last asked about, for whatever is needed next.
    pub(super) fn last_asked(&self) -> Option<Monotonic> {
        if self.ask.is_some() { self.progress.last_attempt() } else { self.issuer_progress.last_attempt() }
    }

    /// Whether everybody who could be asked wants to be left alone still.
    pub(super) fn is_held_back(&self, wishes: &Wishes, now: Moment) -> bool {
        self.released(wishes, now).is_some_and(|released| now.monotonic < released)
    }

    /// When the first of those who could be asked may be; none if one may be asked at any time.
    fn released(&self, wishes: &Wishes, now: Moment) -> Option<Monotonic> {
        if wishes.is_empty() {
            return None;
        }
        let each = self.everybody().into_iter().map(|whom| self.release(&whom.host, wishes, now));
        each.collect::<Option<Vec<Monotonic>>>()?.into_iter().min()
    }

    /// When a host may be asked about this certificate; none if it has no wish.
    fn release(&self, host: &str, wishes: &Wishes, now: Moment) -> Option<Monotonic> {
        let patience = *wishes.0.get(host)?;
        let progress = if self.ask.is_some() { &self.progress } else { &self.issuer_progress };
        Some(progress.released(patience, self.staple.as_ref().map(life), now))
    }

    /// Everybody who could be asked for what is needed next, in order.
    fn everybody(&self) -> Vec<Whom> {
        match &self.ask {
            Some(_) => self.responders.clone(),
            None => uri::askable(self.certificate.ca_issuers())
                .map(|url| Whom { url: url.clone(), host: uri::host_of(url) })
                .collect(),
        }
    }

    /// The URLs of those of them that may be asked now.
    pub(super) fn willing(&self, wishes: &Wishes, now: Moment) -> Vec<String> {
        let is_willing =
            |whom: &Whom| self.release(&whom.host, wishes, now).is_none_or(|released| released <= now.monotonic);
        self.everybody().into_iter().filter(is_willing).map(|whom| whom.url).collect()
    }

    /// The host whose patience the next errand uses.
    pub(super) fn host(&self, wishes: &Wishes, now: Moment) -> String {
        self.willing(wishes, now).first().map(|url| uri::host_of(url)).unwrap_or_default()
    }

    /// The response that need not be sent again: one that is served still, and has a name.
    pub(super) fn in_hand(&self, now: Moment) -> Option<InHand> {
        let staple = self.serving(now.wall)?.clone();
        Some(InHand { staple, validator: self.validator.clone()? })
    }

    /// The host that the certificate names for what was asked under this URL.
    pub(super) fn host_behind(&self, url: &str) -> String {
        let whom = self.responders.iter().find(|whom| whom.url == url);
        whom.map_or_else(|| uri::host_of(url), |whom| whom.host.clone())
    }
}

/// The responders to ask: the certificate's own http(s) URLs in order, each replaced or dropped as the settings say.
pub(super) fn responders(certificate: &Certificate, settings: &Settings) -> Vec<Whom> {
    let mut found: Vec<Whom> = Vec::new();
    for url in uri::askable(certificate.ocsp_responders()) {
        let host = uri::host_of(url);
        let asked = match settings.responders.find(&host) {
            None => Some(url.clone()),
            Some(Override::Url(replacement)) => Some(replacement.to_string()),
            Some(Override::Off) => None,
        };
        let asked = asked.filter(|asked| found.iter().all(|whom| whom.url != *asked));
        found.extend(asked.map(|url| Whom { url, host }));
    }
    found.shrink_to_fit();
    found
}
