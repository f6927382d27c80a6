//! One HAProxy, one program, and a certificate for each way to misbehave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cast::Cast;
use crate::modes::{MOVED_TO, Play};
use crate::site::plain;
use crate::support::haproxy::{Builder, Haproxy};
use crate::support::pki::{Draft, Identity};
use crate::support::responder::{Behaviour, Responder};
use crate::support::response::Response;
use crate::support::stapler;
use crate::wire::{Wire, ok};

/// Promise 10.
pub const MOST_A_MINUTE: usize = 6;

/// What is prepared before HAProxy starts.
pub struct Stage {
    pub cast: Cast,
    pub responder: Responder,
    /// Wants to be left alone, with all its certificates: so it has one.
    pub throttled: Responder,
    pub wire: Wire,
    pub haproxy: Builder,
    /// By name.
    pub leaves: BTreeMap<String, Identity>,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            cast: Cast::new(),
            responder: Responder::start(),
            throttled: Responder::start(),
            wire: Wire::start(),
            haproxy: Haproxy::builder(),
            leaves: BTreeMap::new(),
        }
    }

    /// A certificate that is answered about like this.
    pub fn play(&mut self, name: &str, play: impl Fn(&Cast, &Identity) -> Play) {
        // Who answers does not depend on the certificate, and is in it.
        let responder = if name == "throttled" { &self.throttled } else { &self.responder };
        let url = match play(&self.cast, &self.cast.sibling) {
            Play::Signed(_) => responder.url(),
            Play::Wire(_) => self.wire.url(name),
        };
        let leaf = self.cast.leaf(name).ocsp(&url).issue();
        responder.register(&leaf, &self.cast.ca);
        match play(&self.cast, &leaf) {
            Play::Signed(behaviour) => responder.set(&leaf, behaviour),
            Play::Wire(trick) => self.wire.set(name, trick),
        }
        if name == "moved" {
            self.wire.set(MOVED_TO, good(&leaf));
        }
        self.load(name, leaf.combined_pem(), leaf);
    }

    /// A certificate that its draft says everything about, with or without its issuer at hand.
    pub fn load_draft(&mut self, name: &str, draft: Draft, chained: bool) {
        let leaf = draft.issue();
        let pem = if chained { leaf.combined_pem() } else { leaf.chainless_pem() };
        self.load(name, pem, leaf);
    }

    fn load(&mut self, name: &str, pem: String, leaf: Identity) {
        let builder = std::mem::replace(&mut self.haproxy, Haproxy::builder());
        self.haproxy = builder.file(&format!("{name}.pem"), pem);
        self.leaves.insert(name.to_owned(), leaf);
    }

    /// From now on, everything is answered about as it should be.
    pub fn recover(&self) {
        self.responder.set_all(&Behaviour::Good);
        self.throttled.set_all(&Behaviour::Good);
        for (name, leaf) in &self.leaves {
            self.wire.set(name, good(leaf));
        }
    }

    /// When anybody was asked about this certificate.
    pub fn asked(&self, name: &str) -> Vec<Instant> {
        let mut asked = self.responder.asked(&self.leaves[name]);
        asked.extend(self.throttled.asked(&self.leaves[name]));
        asked.extend(self.wire.asked(name));
        asked.sort_unstable();
        asked
    }
}

/// A right answer from the server that otherwise breaks HTTP.
fn good(leaf: &Identity) -> crate::wire::Trick {
    ok("application/ocsp-response", &Response::good(leaf, leaf.issuer()).der())
}

/// The program before this HAProxy, with the settings that it comes with.
pub fn stapler_for(haproxy: &Haproxy) -> stapler::Builder {
    plain().env("STAPLER_CERTS", haproxy.certs_dir()).env("STAPLER_SOCKETS", haproxy.socket())
}

/// The most requests in any minute.
pub fn busiest_minute(asked: &[Instant]) -> usize {
    let within =
        |from: &Instant| asked.iter().filter(|at| *at >= from && **at - *from < Duration::from_secs(60)).count();
    asked.iter().map(within).max().unwrap_or(0)
}
