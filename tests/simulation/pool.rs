//! Every certificate that a simulated site may have, minted once for all seeds, the same byte for byte each time.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};

use super::support::pki::{Draft, Identity, fixed_key};

/// When every simulation begins. It lies ahead of the real clock, so that a real time is seen to be none of ours.
pub(crate) static EPOCH: LazyLock<Timestamp> = LazyLock::new(|| "2036-02-27T06:00:00Z".parse().unwrap());

/// So many certificates follow each other in a file.
pub(crate) const GENERATIONS: usize = 8;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What a certificate's files look like, and so where its issuer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The chain is in the file.
    Chained,
    /// The issuer is in a file beside it.
    IssuerBeside,
    /// The issuer has to be downloaded.
    Orphan,
}

/// What a certificate's place is always.
pub(crate) struct Kind {
    pub(crate) file: &'static str,
    pub(crate) shape: Shape,
    /// The hosts of its responders, in order.
    pub(crate) hosts: &'static [&'static str],
    /// Its responses are signed by a delegate, and another one every other day.
    pub(crate) delegated: bool,
}

const fn kind(file: &'static str, shape: Shape, hosts: &'static [&'static str]) -> Kind {
    Kind { file, shape, hosts, delegated: false }
}

/// All of them. The last file holds what the first one does.
pub(crate) const KINDS: [Kind; 7] = [
    kind("one.pem", Shape::Chained, &["a.test"]),
    kind("two.pem", Shape::Chained, &["a.test", "b.test"]),
    kind("beside.pem", Shape::IssuerBeside, &["c.test"]),
    kind("orphan.pem", Shape::Orphan, &["c.test"]),
    kind("quiet.pem", Shape::Chained, &[]),
    Kind { file: "delegated.pem", shape: Shape::Chained, hosts: &["d.test"], delegated: true },
    kind("twin.pem", Shape::Chained, &["a.test"]),
];

/// The place whose certificate the twin has, too.
pub(crate) const ELDER: usize = 0;
pub(crate) const TWIN: usize = 6;

/// Every responder's host, and that of the issuer's certificate.
pub(crate) const HOSTS: [&str; 5] = ["a.test", "b.test", "c.test", "d.test", ISSUERS];
pub(crate) const ISSUERS: &str = "issuers.test";

/// A certificate by its place in [`Pool::leaves`].
pub(crate) type LeafId = usize;

pub(crate) struct Pool {
    pub(crate) leaves: Vec<Identity>,
    pub(crate) by_der: HashMap<Vec<u8>, LeafId>,
    pub(crate) by_fingerprint: HashMap<String, LeafId>,
    /// The one that a caIssuers URL leads to.
    pub(crate) other: Identity,
    /// A CA of the same name as the one that issued most of them, with another key.
    pub(crate) impostor: Identity,
    /// Each takes its turn for two days, and is valid for six.
    pub(crate) delegates: Vec<Identity>,
    /// A certificate that the CA issued for something else than signing responses.
    pub(crate) bystander: Identity,
}

pub(crate) static POOL: LazyLock<Pool> = LazyLock::new(mint);

/// The certificate of a generation in a place.
pub(crate) fn leaf_of(place: usize, generation: usize) -> LeafId {
    place * GENERATIONS + generation
}

/// The place that a certificate is for.
pub(crate) fn place_of(leaf: LeafId) -> usize {
    leaf / GENERATIONS
}

fn mint() -> Pool {
    let mut serial = 0;
    let mut issue = |draft: Draft, name: &str, from: i64, to: i64| {
        serial += 1;
        draft
            .serial(serial)
            .valid(*EPOCH + DAY * from_i32(from), *EPOCH + DAY * from_i32(to))
            .issue_for(fixed_key(name))
    };
    let root = issue(Identity::root_draft("Simulated Root"), "root", -900, 3000);
    let mut authority = |name: &str, key: &str| issue(root.draft(name).ca(), key, -400, 1500);
    let issuing = authority("Simulated Issuing CA", "issuing");
    let other = authority("Another Issuing CA", "other");
    let impostor = authority("Simulated Issuing CA", "impostor");
    let mut leaves = Vec::new();
    for (place, kind) in KINDS.iter().enumerate() {
        let issuer = if kind.delegated || kind.shape == Shape::Orphan { &other } else { &issuing };
        for generation in 0..GENERATIONS {
            let name = format!("{generation}.{}", kind.file.replace("pem", "test"));
            let mut draft = issuer.leaf(&name);
            for host in kind.hosts {
                draft = draft.ocsp(&format!("http://{host}"));
            }
            if kind.shape == Shape::Orphan {
                draft = draft.ca_issuers(&format!("http://{ISSUERS}/other.der"));
            }
            leaves.push(issue(draft, &format!("{place} {generation}"), -2, 90));
        }
    }
    let delegates = (0..60).map(|turn| {
        let name = format!("Responder {turn}");
        issue(other.delegate(&name), &name, turn * 2 - 1, turn * 2 + 5)
    });
    let delegates = delegates.collect();
    let bystander = issue(other.delegate("Bystander").without_extended_key_usage(), "bystander", -2, 90);
    let by_der = leaves.iter().enumerate().map(|(id, leaf)| (leaf.der().to_vec(), id)).collect();
    let by_fingerprint = leaves.iter().enumerate().map(|(id, leaf)| (fingerprint(leaf.der()), id)).collect();
    Pool { leaves, by_der, by_fingerprint, other, impostor, delegates, bystander }
}

/// SHA-1 of a certificate, as everybody writes it.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    openssl::sha::sha1(der).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn from_i32(days: i64) -> i32 {
    i32::try_from(days).unwrap()
}
