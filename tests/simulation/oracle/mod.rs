//! The judge of a run: what the program has promised, held against what really happened, after every step. It knows which
//! bytes the CAs honestly signed, and shares no judgement with the program.

mod deeds;
mod duties;
mod files;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::authority::Statement;
use super::pool::{KINDS, LeafId, place_of};
use super::stage::{Scene, Trouble};

/// How fast the program works, which everything it promises depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// A look at each HAProxy.
    pub(crate) look: Duration,
    /// A look at the files, and at what HAProxy has loaded.
    pub(crate) scan: Duration,
    /// A look at what HAProxy holds.
    pub(crate) refresh: Duration,
}

impl Pace {
    /// What hangs on the wall clock and on disks that failed is thought over anew this often.
    fn agenda(self) -> Duration {
        self.look * 30
    }
}

/// What the settings forbid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A revocation is not to be stapled.
    pub(crate) withhold: bool,
    /// No `.ocsp` files are to be kept.
    pub(crate) no_files: bool,
    /// The program's deadline for a CA.
    pub(crate) timeout: Duration,
}

pub(crate) struct Oracle {
    pace: Pace,
    rules: Rules,
    /// Since when the program runs; none while it does not.
    life_since: Option<Duration>,
    /// When the wall clock was last stepped.
    clock_since: Duration,
    /// Since when the disk is quicker than the program waits for it with a journal; none while it is not.
    quick_since: Option<Duration>,
    /// Since when the disk of the certificates takes files; none while it does not.
    disk_since: Option<Duration>,
    machines: Vec<MachineView>,
    leaves: BTreeMap<LeafId, LeafView>,
    /// Until when hosts want to be left alone, whatever about: certificates that turn up later are held back, too.
    alone_until: BTreeMap<&'static str, Duration>,
    files: BTreeMap<usize, FileView>,
}

/// One HAProxy.
#[derive(Default)]
struct MachineView {
    /// When its process started.
    process_since: Duration,
    /// Since when commands come through as they should; none while they do not.
    clear_since: Option<Duration>,
    /// Since when no transaction is open; none while one is.
    free_since: Option<Duration>,
    /// The transaction of the program that is open: since when, in which life, and whether it can be told from others'
    /// if that life ends.
    ours: Option<Ours>,
    pairs: BTreeMap<usize, Pair>,
}

#[derive(Clone, Copy)]
struct Ours {
    since: Duration,
    life: u64,
    journalled: bool,
}

/// Bytes, and what they state if a CA signed them.
type Seen = (Arc<[u8]>, Option<Arc<Statement>>);

/// One certificate's place in one HAProxy.
#[derive(Default)]
struct Pair {
    /// The certificate that runs there.
    leaf: Option<LeafId>,
    /// Since when.
    leaf_since: Duration,
    /// Since when nothing good is served there, though the certificate is one to be stapled.
    gap_since: Option<Duration>,
    /// Since when a good response has been served there; none while it is not.
    served_since: Option<Duration>,
    /// When somebody else last changed what is held there.
    meddled_at: Option<Duration>,
    /// The life of the program that last wrote there.
    given_by: Option<u64>,
    /// When the program last put that right.
    mended_at: Option<Duration>,
    /// What was held there until when, latest last.
    history: VecDeque<(Duration, Arc<[u8]>)>,
    /// The certificate and the staple that were last seen there, and what is known about them: to look at what has not
    /// changed costs nothing.
    certificate: Option<Arc<[u8]>>,
    staple: Option<Seen>,
}

/// One certificate.
#[derive(Default)]
struct LeafView {
    /// The best that this life of the program has been given, or has found at its start.
    held: Option<Arc<Statement>>,
    held_since: Duration,
    /// Since when some file holds it, with everything that belongs to it.
    complete_since: Option<Duration>,
    /// Since when a CA would give something better than what is held, if it were asked.
    honest_since: Option<Duration>,
    /// How long after that the program may take to ask.
    patience: Duration,
    /// When it was asked about, in this life.
    asked: VecDeque<Duration>,
    /// A revocation was delivered to this life.
    revocation_delivered: bool,
}

/// One `.ocsp` file.
#[derive(Default)]
struct FileView {
    content: Option<Vec<u8>>,
    /// What it was when last looked at.
    stamp: Option<(u64, i64, i64, u64)>,
    /// When somebody else last damaged it.
    meddled_at: Option<Duration>,
}

impl Oracle {
    pub(crate) fn new(pace: Pace, rules: Rules, machines: usize) -> Self {
        Self {
            pace,
            rules,
            life_since: None,
            clock_since: Duration::ZERO,
            quick_since: Some(Duration::ZERO),
            disk_since: Some(Duration::ZERO),
            machines: (0..machines).map(|_| MachineView::default()).collect(),
            leaves: BTreeMap::new(),
            alone_until: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn clock_stepped(&mut self, at: Duration) {
        self.clock_since = at;
    }

    /// Whether what an earlier life left open can be told from a stranger's by nobody.
    pub(crate) fn is_unknown(&self, machine: usize, life: u64) -> bool {
        self.machines[machine].ours.is_some_and(|ours| ours.life != life && !ours.journalled)
    }

    /// Whether this life was told that the certificate is revoked.
    pub(crate) fn knows_revocation(&self, leaf: LeafId) -> bool {
        self.leaves.get(&leaf).is_some_and(|view| view.revocation_delivered)
    }

    /// Whether somebody else was the last to change what is held there.
    pub(crate) fn is_meddled_with(&self, machine: usize, place: usize) -> bool {
        let pair = self.machines[machine].pairs.get(&place);
        pair.is_some_and(|pair| pair.meddled_at.is_some())
    }

    pub(crate) fn withholds(&self) -> bool {
        self.rules.withhold
    }

    pub(crate) fn keeps_no_files(&self) -> bool {
        self.rules.no_files
    }

    fn leaf(&mut self, leaf: LeafId) -> &mut LeafView {
        self.leaves.entry(leaf).or_default()
    }
}

impl Scene {
    /// A life of the program begins: it remembers what the disk does.
    pub(crate) fn life_begins(&mut self) {
        let at = self.at();
        self.oracle.life_since = Some(at);
        self.oracle.alone_until.clear();
        for view in self.oracle.leaves.values_mut() {
            *view = LeafView { complete_since: view.complete_since, ..LeafView::default() };
        }
        for leaf in self.present() {
            self.find_kept(leaf);
        }
    }

    /// What an earlier life kept for a certificate is found at a start, and when the certificate turns up.
    fn find_kept(&mut self, leaf: LeafId) {
        let (at, wall) = (self.at(), self.wall());
        let fit = |der: Vec<u8>| {
            let statement = self.authorities.statement(&der).cloned();
            statement.filter(|one| one.leaf == leaf && one.is_acceptable(wall))
        };
        let best = self
            .site
            .kept(leaf)
            .into_iter()
            .filter_map(fit)
            .reduce(|best, one| if one.supersedes(&best) { one } else { best });
        if let Some(statement) = best {
            let view = self.oracle.leaf(leaf);
            view.held = Some(statement);
            view.held_since = at;
        }
    }

    pub(crate) fn life_ends(&mut self) {
        self.oracle.life_since = None;
    }

    /// A HAProxy is another process now.
    pub(crate) fn process_begins(&mut self, machine: usize) {
        let at = self.at();
        let view = &mut self.oracle.machines[machine];
        view.process_since = at;
        view.ours = None;
        for pair in view.pairs.values_mut() {
            // What it serves from its files is not looked at as if somebody had changed it.
            pair.meddled_at = None;
        }
        self.tick();
    }

    /// The program was told to stop and did: nothing of it is left half done, unless HAProxy would not let it.
    pub(crate) fn judge_stop(&mut self) {
        let at = self.at();
        for machine in 0..self.machines.len() {
            let clear =
                self.oracle.machines[machine].clear_since.is_some_and(|since| since + Duration::from_secs(15) < at);
            let life = self.life.number;
            let theirs = self.oracle.machines[machine].ours.is_some_and(|ours| ours.life == life);
            if clear && theirs && self.machines[machine].has_ours() {
                self.broke(format_args!("3: it was told to stop and left a transaction open in haproxy {machine}"));
            }
        }
    }

    /// Somebody has been at the state directory: what was written down there may be gone.
    pub(crate) fn state_meddled_with(&mut self) {
        for ours in self.oracle.machines.iter_mut().filter_map(|machine| machine.ours.as_mut()) {
            ours.journalled = false;
        }
    }

    /// The program got an answer about a certificate.
    pub(crate) fn delivered(&mut self, leaf: LeafId, der: &[u8]) {
        let (at, wall) = (self.at(), self.wall());
        let statement = self.authorities.statement(der).cloned();
        let Some(statement) = statement.filter(|one| one.leaf == leaf && one.is_acceptable(wall)) else { return };
        let view = self.oracle.leaf(leaf);
        view.revocation_delivered |= statement.revoked;
        let better = view.held.as_ref().is_none_or(|held| !held.is_acceptable(wall) || statement.supersedes(held));
        if better {
            view.held = Some(statement);
            view.held_since = at;
            view.honest_since = None;
        }
    }

    /// Everything is looked at again: what time alone has changed, and what is overdue.
    pub(crate) fn tick(&mut self) {
        let at = self.at();
        let takes = self.site.takes_certificates();
        self.oracle.disk_since = if takes { self.oracle.disk_since.or(Some(at)) } else { None };
        let quick = self.disk.delay < Duration::from_secs(1);
        self.oracle.quick_since = if quick { self.oracle.quick_since.or(Some(at)) } else { None };
        for machine in 0..self.machines.len() {
            self.look_at_machine(machine, at);
        }
        for leaf in self.present() {
            self.look_at_leaf(leaf, at);
        }
        if self.life.running && !self.life.stopping && !self.life.killed {
            self.check_duties(at);
        }
    }

    /// The certificates that are in a file or in a HAProxy.
    fn present(&self) -> Vec<LeafId> {
        let mut leaves: Vec<LeafId> = self.site.places.iter().flatten().map(|place| place.leaf).collect();
        let running = self.oracle.machines.iter().flat_map(|machine| machine.pairs.values());
        leaves.extend(running.filter_map(|pair| pair.leaf));
        leaves.sort_unstable();
        leaves.dedup();
        leaves.retain(|leaf| !KINDS[place_of(*leaf)].hosts.is_empty());
        leaves
    }

    fn look_at_machine(&mut self, index: usize, at: Duration) {
        let wall = self.wall();
        let machine = &self.machines[index];
        let clear = machine.haproxy.is_running()
            && machine.trouble == Trouble::None
            && machine.losses == 0
            && machine.slowness < 500;
        let open = machine.haproxy.transaction();
        let view = &mut self.oracle.machines[index];
        view.clear_since = if clear { view.clear_since.or(Some(at)) } else { None };
        view.free_since = if open.is_none() { view.free_since.or(Some(at)) } else { None };
        for place in 0..self.site.places.len() {
            if self.site.places[place].is_some() {
                self.look_at_pair(index, place, at, wall);
            }
        }
    }

    fn look_at_pair(&mut self, index: usize, place: usize, at: Duration, wall: Timestamp) {
        let name = self.name(place);
        let haproxy = &self.machines[index].haproxy;
        let (certificate, staple) = (haproxy.certificate(&name), haproxy.staple(&name));
        let pair = self.oracle.machines[index].pairs.entry(place).or_default();
        let same = match (&pair.certificate, &certificate) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            let leaf = certificate.as_ref().and_then(|der| self.site.leaf_of(der));
            pair.certificate = certificate;
            if pair.leaf != leaf {
                pair.leaf = leaf;
                pair.leaf_since = at;
                pair.gap_since = None;
                pair.meddled_at = None;
            }
        }
        let is_known =
            staple.as_ref().zip(pair.staple.as_ref()).is_some_and(|(now, (before, _))| Arc::ptr_eq(now, before));
        if !is_known {
            pair.staple = staple.as_ref().map(|der| (der.clone(), self.authorities.statement(der).cloned()));
        }
        let statement = pair.staple.as_ref().filter(|_| staple.is_some()).and_then(|(_, statement)| statement.as_ref());
        if statement.is_some_and(|one| Some(one.leaf) == pair.leaf && one.is_acceptable(wall)) {
            pair.gap_since = None;
            pair.served_since = pair.served_since.or(Some(at));
        } else {
            pair.served_since = None;
            pair.gap_since = pair.gap_since.or(Some(at));
        }
    }
}
