//! The CAs: what they say when they are honest, and a record of every word of it; and what they do when they are not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use x509_ocsp::{CertStatus, OcspResponseStatus};

use super::pool::{EPOCH, GENERATIONS, HOSTS, KINDS, LeafId, POOL, place_of};
use super::support::pki::Identity;
use super::support::response::{Digest, Response, cert_id, refusal, revoked, unknown_extension};

/// How a CA signs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Afresh at each request, or all at once so often.
    pub(crate) every: Option<SignedDuration>,
    pub(crate) lifetime: SignedDuration,
}

/// What a responder does instead of its duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Honest,
    Refuses,
    NoName,
    Silent,
    /// For so many milliseconds.
    Slow(u64),
    Http(u16),
    /// 503, and a wish to be left alone for so many seconds.
    Later(u64),
    Huge,
    BreaksOff,
    Garbage,
    Html,
    TryLater,
    Unauthorized,
    /// POST alone is answered.
    PostOnly,
    Lies(Lie),
}

/// Signed words that are not what the CA would honestly say now. Of some, every bit is genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Unknown,
    Expired,
    NotYetValid,
    Expiring,
    Older,
    BrokenSignature,
    Impostor,
    ForgedRevoked,
    AnotherSerial,
    AnotherIssuer,
    TrailingByte,
    TwoAnswers,
    NoNextUpdate,
    Sha256CertId,
    CriticalExtension,
    Bystander,
    StaleDelegate,
}

pub(crate) const LIES: [Lie; 17] = [
    Lie::Unknown,
    Lie::Expired,
    Lie::NotYetValid,
    Lie::Expiring,
    Lie::Older,
    Lie::BrokenSignature,
    Lie::Impostor,
    Lie::ForgedRevoked,
    Lie::AnotherSerial,
    Lie::AnotherIssuer,
    Lie::TrailingByte,
    Lie::TwoAnswers,
    Lie::NoNextUpdate,
    Lie::Sha256CertId,
    Lie::CriticalExtension,
    Lie::Bystander,
    Lie::StaleDelegate,
];

/// What a CA said about a certificate, in a response that a strict client takes and HAProxy can staple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) leaf: LeafId,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Timestamp,
    /// The end of the delegate's own certificate, if it comes before nextUpdate.
    pub(crate) end: Timestamp,
    pub(crate) revoked: bool,
}

/// RFC 6960 leaves the allowance open; the contract has 300 s.
pub(crate) const ALLOWANCE: SignedDuration = SignedDuration::from_secs(300);

impl Statement {
    /// Until when HAProxy serves it and a client takes it.
    pub(crate) fn effective_end(&self) -> Timestamp {
        (self.next_update - ALLOWANCE).min(self.end)
    }

    /// Whether a strict client takes it, and HAProxy would still serve it.
    pub(crate) fn is_acceptable(&self, now: Timestamp) -> bool {
        self.this_update <= now + ALLOWANCE && now < self.effective_end()
    }

    /// For how long a strict client has been taking it.
    pub(crate) fn in_force_for(&self, now: Timestamp) -> Duration {
        Duration::try_from((now + ALLOWANCE).duration_since(self.this_update)).unwrap_or_default()
    }

    /// Whether it knows better than another one; of two that know the same instant, a revocation does.
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        let merit = |one: &Self| (one.this_update, one.revoked, one.effective_end());
        merit(self) > merit(other)
    }
}

/// What comes back over HTTP.
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    Fault(haproxy_stapler::responder::Fault),
    /// Nothing, until the asker gives up.
    Silence,
    /// After so many milliseconds, what the honest one says.
    After(u64, Vec<u8>),
}

pub(crate) struct Authorities {
    /// By place.
    styles: Vec<Style>,
    revoked: HashMap<LeafId, Timestamp>,
    templates: HashMap<(LeafId, Option<usize>), Response>,
    said: HashMap<(LeafId, Timestamp, bool), Vec<u8>>,
    ledger: HashMap<Vec<u8>, Arc<Statement>>,
    times: HashSet<(LeafId, Timestamp, Timestamp)>,
    /// By host.
    pub(crate) moods: [Mood; HOSTS.len()],
    /// About one certificate, wherever it is asked.
    pub(crate) about: HashMap<LeafId, Mood>,
    /// By serial number.
    leaves: HashMap<Vec<u8>, LeafId>,
}

impl Authorities {
    pub(crate) fn new(styles: Vec<Style>) -> Self {
        let leaves = POOL.leaves.iter().enumerate().map(|(id, leaf)| (leaf.serial(), id)).collect();
        Self {
            styles,
            revoked: HashMap::new(),
            templates: HashMap::new(),
            said: HashMap::new(),
            ledger: HashMap::new(),
            times: HashSet::new(),
            moods: [Mood::Honest; HOSTS.len()],
            about: HashMap::new(),
            leaves,
        }
    }

    pub(crate) fn style(&self, leaf: LeafId) -> Style {
        self.styles[place_of(leaf)]
    }

    /// From now on it is revoked, for good.
    pub(crate) fn revoke(&mut self, leaf: LeafId, now: Timestamp) {
        self.revoked.entry(leaf).or_insert(now);
    }

    pub(crate) fn is_revoked(&self, leaf: LeafId) -> bool {
        self.revoked.contains_key(&leaf)
    }

    pub(crate) fn leaf_by_serial(&self, serial: &[u8]) -> Option<LeafId> {
        self.leaves.get(serial).copied()
    }

    /// What these bytes say, if a CA said them and they are fit to be stapled.
    pub(crate) fn statement(&self, der: &[u8]) -> Option<&Arc<Statement>> {
        self.ledger.get(der)
    }

    /// Whether a CA ever said something about a certificate with these times.
    pub(crate) fn has_said(&self, leaf: LeafId, this_update: Timestamp, next_update: Timestamp) -> bool {
        self.times.contains(&(leaf, this_update, next_update))
    }

    /// What is done at a host about a certificate.
    pub(crate) fn mood(&self, host: usize, leaf: LeafId) -> Mood {
        let about = self.about.get(&leaf).copied().unwrap_or(Mood::Honest);
        if about == Mood::Honest { self.moods[host] } else { about }
    }

    /// From when to when the honest word about a certificate would be of use, if it were asked at this moment.
    pub(crate) fn would_say(&self, leaf: LeafId, now: Timestamp) -> (Timestamp, Timestamp) {
        let style = self.style(leaf);
        let this_update = match style.every {
            None => floor(now, SignedDuration::from_secs(1)) - SignedDuration::from_mins(1),
            Some(every) => floor(now, every),
        };
        let end = this_update + style.lifetime - ALLOWANCE;
        let signer_end = KINDS[place_of(leaf)].delegated.then(|| delegate_end(delegate_at(this_update)));
        (this_update, signer_end.map_or(end, |signer_end| end.min(signer_end)))
    }

    /// The honest word about a certificate at this moment.
    pub(crate) fn honest(&mut self, leaf: LeafId, now: Timestamp) -> Vec<u8> {
        let style = self.style(leaf);
        let (this_update, _) = self.would_say(leaf, now);
        let is_revoked = self.revoked.get(&leaf).is_some_and(|at| *at <= this_update);
        let key = (leaf, this_update, is_revoked);
        if let Some(said) = self.said.get(&key) {
            return said.clone();
        }
        let said = self.say(leaf, this_update, style.lifetime);
        if style.every.is_some() {
            self.said.insert(key, said.clone());
        }
        said
    }

    /// What is answered at a host to a question about a certificate.
    pub(crate) fn answer(&mut self, host: usize, url: &str, post: bool, leaf: LeafId, now: Timestamp) -> Answer {
        use haproxy_stapler::responder::Fault;
        let url = url.to_owned();
        let reason = String::new;
        let status = |status, retry_after: Option<u64>| Fault::Status {
            url: url.clone(),
            status,
            retry_after: retry_after.map(Duration::from_secs),
        };
        Answer::Fault(match self.mood(host, leaf) {
            Mood::Honest => return Answer::Bytes(self.honest(leaf, now)),
            Mood::PostOnly if post => return Answer::Bytes(self.honest(leaf, now)),
            Mood::Slow(milliseconds) => return Answer::After(milliseconds, self.honest(leaf, now)),
            Mood::Silent => return Answer::Silence,
            Mood::Garbage => return Answer::Bytes((0..=255).collect()),
            Mood::Html => return Answer::Bytes(b"<h1>It works!</h1>".to_vec()),
            Mood::TryLater => return Answer::Bytes(refusal(OcspResponseStatus::TryLater)),
            Mood::Unauthorized => return Answer::Bytes(refusal(OcspResponseStatus::Unauthorized)),
            Mood::Lies(lie) => return Answer::Bytes(self.lie(lie, leaf, now)),
            Mood::PostOnly => status(405, None),
            Mood::Http(code) => status(code, None),
            Mood::Later(seconds) => status(503, Some(seconds)),
            Mood::Refuses => Fault::Connect { url, reason: reason() },
            Mood::NoName => Fault::Dns { url, reason: reason() },
            Mood::Huge => Fault::TooLarge { url, limit: 65_536 },
            Mood::BreaksOff => Fault::Broken { url, reason: reason() },
        })
    }

    /// Signs and writes down what the CA says.
    fn say(&mut self, leaf: LeafId, this_update: Timestamp, lifetime: SignedDuration) -> Vec<u8> {
        let revoked_at = self.revoked.get(&leaf).copied().filter(|at| *at <= this_update);
        let signer = KINDS[place_of(leaf)].delegated.then(|| delegate_at(this_update));
        let mut response = self.draft(leaf, signer, this_update, lifetime);
        if let Some(at) = revoked_at {
            response = response.status(revoked(at));
        }
        let der = response.der();
        let next_update = this_update + lifetime;
        let end = next_update.min(signer.map_or(next_update, delegate_end));
        let statement = Statement { leaf, this_update, next_update, end, revoked: revoked_at.is_some() };
        self.ledger.insert(der.clone(), Arc::new(statement));
        self.times.insert((leaf, this_update, next_update));
        der
    }

    fn draft(
        &mut self,
        leaf: LeafId,
        signer: Option<usize>,
        this_update: Timestamp,
        lifetime: SignedDuration,
    ) -> Response {
        let template = self.templates.entry((leaf, signer)).or_insert_with(|| {
            let leaf = &POOL.leaves[leaf];
            let signer = signer.map_or_else(|| leaf.issuer(), |turn| &POOL.delegates[turn]);
            Response::good_at(leaf, signer, *EPOCH, lifetime)
        });
        template.clone().with(|response| {
            response.produced_at = this_update;
            response.singles[0].this_update = this_update;
            response.singles[0].next_update = Some(this_update + lifetime);
        })
    }

    /// What a liar says instead.
    pub(crate) fn lie(&mut self, lie: Lie, leaf: LeafId, now: Timestamp) -> Vec<u8> {
        let lifetime = self.style(leaf).lifetime;
        let now = floor(now, SignedDuration::from_secs(1));
        let hour = SignedDuration::from_hours(1);
        let recently = now - SignedDuration::from_mins(1);
        let signer = KINDS[place_of(leaf)].delegated.then(|| delegate_at(now));
        match lie {
            // Genuine, all of these.
            Lie::Expired => return self.say(leaf, now - lifetime - hour, lifetime),
            Lie::NotYetValid => return self.say(leaf, now + hour, lifetime),
            Lie::Expiring => return self.say(leaf, recently, SignedDuration::from_secs(340)),
            Lie::Older => return self.say(leaf, now - lifetime / 2 - lifetime / 4, lifetime),
            _ => {}
        }
        let mut honest = self.draft(leaf, signer, recently, lifetime);
        if let Some(at) = self.revoked.get(&leaf) {
            honest = honest.status(revoked(*at));
        }
        let identity = &POOL.leaves[leaf];
        let signed_by = |response: Response, signer: &Identity| {
            let certs = response.certs.clone();
            let mut forged = Response::good_at(identity, signer, recently, lifetime);
            forged.certs = if certs.is_empty() { Vec::new() } else { vec![signer.der().to_vec()] };
            forged
        };
        match lie {
            Lie::Unknown => honest.status(CertStatus::unknown()),
            Lie::BrokenSignature => honest.with(|response| response.break_signature = true),
            Lie::Impostor => honest.with(|response| response.signer = POOL.impostor.clone()),
            Lie::ForgedRevoked => {
                honest.status(revoked(recently)).with(|response| response.signer = POOL.impostor.clone())
            }
            Lie::AnotherSerial => {
                let another = POOL.leaves.len() - 1 - (leaf % GENERATIONS);
                honest.with(|response| response.singles[0].cert_id = cert_id(Digest::Sha1, &POOL.leaves[another]))
            }
            Lie::AnotherIssuer => honest.with(|response| {
                let of_impostor = cert_id(Digest::Sha1, &POOL.impostor);
                response.singles[0].cert_id.issuer_key_hash = of_impostor.issuer_key_hash;
            }),
            Lie::TrailingByte => honest.with(|response| response.trailing = vec![0]),
            Lie::TwoAnswers => honest.with(|response| response.singles.push(response.singles[0].clone())),
            Lie::NoNextUpdate => honest.with(|response| response.singles[0].next_update = None),
            Lie::Sha256CertId => {
                honest.with(|response| response.singles[0].cert_id = cert_id(Digest::Sha256, identity))
            }
            Lie::CriticalExtension => {
                honest.with(|response| response.response_extensions.push(unknown_extension(true)))
            }
            Lie::StaleDelegate if signer.is_some_and(|turn| turn >= 4) => {
                // Its certificate ended before it signed.
                let stale = delegate_at(now - SignedDuration::from_hours(24 * 8));
                signed_by(honest, &POOL.delegates[stale])
            }
            _ => signed_by(honest, &POOL.bystander),
        }
        .der()
    }
}

/// The delegate whose turn it is.
fn delegate_at(now: Timestamp) -> usize {
    let days = now.duration_since(*EPOCH).as_hours().max(0) / 24;
    usize::try_from(days / 2).unwrap().min(POOL.delegates.len() - 1)
}

/// When a delegate's certificate ends.
fn delegate_end(turn: usize) -> Timestamp {
    let days = i64::try_from(turn).unwrap() * 2 + 5;
    *EPOCH + SignedDuration::from_hours(24 * days)
}

fn floor(at: Timestamp, to: SignedDuration) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(to.as_secs())).unwrap()
}
