//! What happens, and how it ends.

use std::time::Duration;

use jiff::SignedDuration;
use openssl::base64::encode_block;

use super::authority::{Lie, Mood};
use super::director::{Director, Failure};
use super::plan::{Event, Pushed, Put};
use super::pool::{HOSTS, KINDS, LeafId, POOL, Shape};
use super::scripted_haproxy::{Deed, Speaker};
use super::site::{Content, Health, Which};
use super::stage::{Doom, Scene, Trouble};

/// The end of what lasts.
#[derive(Debug)]
pub(crate) enum Ending {
    Host(usize),
    About(LeafId),
    HaproxyStarts(usize, u32),
    Unreachable(usize),
    Slow(usize),
    Transaction { machine: usize, pid: u32, place: usize, commit: bool, leaf: Option<LeafId> },
    Damage(usize),
    Disk(Which),
    SlowDisk,
    Clock,
    ProgramStarts,
}

impl Director {
    /// One of the things that were planned.
    pub(super) async fn happens(&mut self, event: Event) -> Result<(), Failure> {
        self.stage.scene().note(format_args!("{event:?}"));
        match event {
            Event::Host { host, mood, lasting } => self.mood(host, mood, lasting),
            Event::Outage { mood, lasting } => (0..HOSTS.len()).for_each(|host| self.mood(host, mood, lasting)),
            Event::About { place, mood, lasting } => {
                let leaf = self.stage.scene().site.places[place].map(|place| place.leaf);
                if let Some(leaf) = leaf {
                    self.stage.scene().authorities.about.insert(leaf, mood);
                    self.cue(lasting, Ending::About(leaf));
                }
                self.count("moods about one certificate");
            }
            Event::Revoke { place } => {
                let mut scene = self.stage.scene();
                let now = scene.true_time();
                if let Some(leaf) = scene.site.places[place].map(|place| place.leaf) {
                    scene.authorities.revoke(leaf, now);
                }
                drop(scene);
                self.count("revocations");
            }
            Event::Reload { machine } => self.reload(machine).await,
            Event::Restart { machine, away, version } => {
                let haproxy = self.stage.scene().machines[machine].haproxy.clone();
                let pid = haproxy.next_pid() - 1;
                haproxy.stop();
                if let Some(version) = version {
                    haproxy.upgrade(version);
                }
                self.cue(away, Ending::HaproxyStarts(machine, pid));
                self.count("restarts under the same process id");
            }
            Event::Unreachable { machine, trouble, lasting } => {
                self.stage.scene().machines[machine].trouble = trouble;
                self.cue(lasting, Ending::Unreachable(machine));
                self.count("unreachable HAProxies");
            }
            Event::Losses { machine, count } => {
                self.stage.scene().machines[machine].losses = count;
                self.count("lost replies");
            }
            Event::Slow { machine, milliseconds, lasting } => {
                self.stage.scene().machines[machine].slowness = milliseconds;
                self.cue(lasting, Ending::Slow(machine));
                self.count("slow HAProxies");
            }
            Event::Locked { machine, commands } => self.stage.scene().machines[machine].haproxy.lock(commands),
            Event::Transaction { machine, place, put, lasting, commit } => {
                self.transaction(machine, place, put, lasting, commit);
            }
            Event::Push { machine, place, what } => self.push(machine, place, what),
            Event::Renew { place, reload } => {
                if self.renew(place) && reload {
                    let machines = self.stage.scene().machines.len();
                    for machine in 0..machines {
                        self.reload(machine).await;
                    }
                }
            }
            Event::Damage { place, content, lasting } => self.damage(place, content, lasting),
            Event::LoseOcspFiles => self.lose_ocsp_files(),
            Event::CorruptOcspFile { place } => {
                let mut scene = self.stage.scene();
                let path = scene.site.ocsp(place);
                if scene.site.takes_certificates() && path.exists() {
                    std::fs::write(path, b"\x30\x03\x0a\x01").unwrap();
                    scene.meddled_with_file(place);
                }
            }
            Event::Disk { which, health, lasting } => {
                self.stage.scene().site.set_health(which, health);
                self.cue(lasting, Ending::Disk(which));
                self.count(if health == Health::Full { "full disks" } else { "read-only disks" });
            }
            Event::SlowDisk { delay, lasting } => {
                self.stage.scene().disk.delay = delay;
                self.cue(lasting, Ending::SlowDisk);
                self.count("slow disks");
            }
            Event::LoseState => {
                let mut scene = self.stage.scene();
                scene.site.lose_state();
                scene.state_meddled_with();
            }
            Event::CorruptState => {
                let mut scene = self.stage.scene();
                let Scene { site, dice, .. } = &mut *scene;
                site.corrupt_state(dice);
                scene.state_meddled_with();
            }
            Event::Step { by, lasting } => {
                self.stage.scene().step(by);
                self.cue(lasting, Ending::Clock);
                self.count("clock steps");
            }
            Event::Suspend { time } => {
                self.stage.scene().suspend(time);
                self.count("suspensions");
            }
            Event::Kill { away } => {
                self.away = away;
                self.bury().await;
            }
            Event::Stop { away } => {
                self.stop_program().await;
                self.cue(away, Ending::ProgramStarts);
                self.count("stops");
            }
            Event::Doom { doom, provoked, away } => {
                self.away = away;
                self.stage.scene().life.doom = Some(doom);
                if provoked && matches!(doom, Doom::AtStep(..)) {
                    // Without files to start from, everything has to be switched on anew.
                    self.lose_ocsp_files();
                    self.reload(0).await;
                }
            }
        }
        Ok(())
    }

    /// What lasted is over.
    pub(super) async fn ends(&mut self, ending: Ending) {
        self.stage.scene().note(format_args!("ends: {ending:?}"));
        match ending {
            Ending::Host(host) => self.stage.scene().authorities.moods[host] = Mood::Honest,
            Ending::About(leaf) => drop(self.stage.scene().authorities.about.remove(&leaf)),
            Ending::HaproxyStarts(machine, pid) => self.start_haproxy(machine, pid).await,
            Ending::Unreachable(machine) => self.stage.scene().machines[machine].trouble = Trouble::None,
            Ending::Slow(machine) => self.stage.scene().machines[machine].slowness = 0,
            Ending::Transaction { machine, pid, place, commit, leaf } => {
                self.end_transaction(machine, pid, place, commit, leaf);
            }
            Ending::Damage(place) => {
                let damaged =
                    self.stage.scene().site.places[place].is_some_and(|known| known.content != Content::Whole);
                if damaged {
                    self.put(place, None, Content::Whole);
                }
            }
            Ending::Disk(which) => self.stage.scene().site.set_health(which, Health::Well),
            Ending::SlowDisk => self.stage.scene().disk.delay = Duration::ZERO,
            Ending::Clock => self.stage.scene().step(SignedDuration::ZERO),
            Ending::ProgramStarts => self.start_program(),
        }
        self.stage.scene().tick();
    }

    fn mood(&mut self, host: usize, mood: Mood, lasting: Duration) {
        self.stage.scene().authorities.moods[host] = mood;
        self.cue(lasting, Ending::Host(host));
        self.count(if matches!(mood, Mood::Lies(_)) { "lying responders" } else { "failing responders" });
    }

    async fn reload(&mut self, machine: usize) {
        let haproxy = self.stage.scene().machines[machine].haproxy.clone();
        if haproxy.is_running() {
            self.start_haproxy(machine, haproxy.next_pid()).await;
            self.count("reloads");
        }
    }

    /// A new process, if HAProxy takes its files.
    pub(super) async fn start_haproxy(&mut self, machine: usize, pid: u32) {
        let started = {
            let mut scene = self.stage.scene();
            let haproxy = scene.machines[machine].haproxy.clone();
            let started = haproxy.start(pid);
            match &started {
                Ok(()) => {
                    scene.note(format_args!("haproxy {machine} starts as {pid}"));
                    scene.process_begins(machine);
                }
                Err(reason) => {
                    scene.note(format_args!("haproxy {machine} does not start"));
                    scene.judge_refusal(machine, reason);
                }
            }
            started.is_ok() || haproxy.is_running()
        };
        if !started {
            // Somebody will look into it.
            self.cue(Duration::from_secs(600), Ending::HaproxyStarts(machine, pid));
            self.lose_ocsp_files();
        }
    }

    /// Puts a certificate into its file, if there is room.
    fn put(&mut self, place: usize, leaf: Option<LeafId>, content: Content) -> bool {
        let mut scene = self.stage.scene();
        let at = scene.at();
        let Some(known) = scene.site.places[place].filter(|_| scene.site.takes_certificates()) else {
            drop(scene);
            // When there is.
            if content == Content::Whole {
                self.cue(Duration::from_secs(600), Ending::Damage(place));
            }
            return false;
        };
        scene.site.put(place, leaf.unwrap_or(known.leaf), content, at);
        scene.tick();
        true
    }

    fn renew(&mut self, place: usize) -> bool {
        let leaf = self.stage.scene().site.renewed(place);
        self.count("renewals");
        leaf.is_some() && self.put(place, leaf, Content::Whole)
    }

    fn damage(&mut self, place: usize, content: Content, lasting: Duration) {
        if self.put(place, None, content) {
            self.cue(lasting, Ending::Damage(place));
            self.count("damaged certificate files");
        }
    }

    fn lose_ocsp_files(&mut self) {
        let mut scene = self.stage.scene();
        if scene.site.takes_certificates() {
            for place in scene.site.used() {
                let _ = std::fs::remove_file(scene.site.ocsp(place));
                scene.meddled_with_file(place);
            }
        }
    }

    fn transaction(&mut self, machine: usize, place: usize, put: Put, lasting: Duration, commit: bool) {
        let mut scene = self.stage.scene();
        let haproxy = scene.machines[machine].haproxy.clone();
        let (name, now) = (scene.name(place), scene.true_time());
        let Some(runs) = scene.runs(machine, place).filter(|_| haproxy.transaction().is_none()) else { return };
        let (suffix, payload, leaf) = match put {
            Put::Certificate => {
                let renewed = scene.site.renewed(place);
                let Some(leaf) = renewed else { return };
                let identity = &POOL.leaves[leaf];
                let chained = KINDS[place].shape == Shape::Chained;
                let pem = if chained { identity.combined_pem() } else { identity.chainless_pem() };
                ("", pem, Some(leaf))
            }
            Put::Issuer => (".issuer", POOL.leaves[runs].issuer().pem(), None),
            Put::Response if KINDS[place].shape == Shape::Chained && !KINDS[place].hosts.is_empty() => {
                (".ocsp", format!("{}\n", encode_block(&scene.authorities.lie(Lie::Older, runs, now))), None)
            }
            Put::Response => return,
        };
        scene.strangers_command(machine, &format!("set ssl cert {name}{suffix} <<\n{payload}\n"));
        drop(scene);
        let pid = haproxy.next_pid() - 1;
        self.cue(lasting, Ending::Transaction { machine, pid, place, commit, leaf });
        self.count("transactions of strangers");
    }

    fn end_transaction(&mut self, machine: usize, pid: u32, place: usize, commit: bool, leaf: Option<LeafId>) {
        let mut scene = self.stage.scene();
        let haproxy = scene.machines[machine].haproxy.clone();
        let name = scene.name(place);
        let is_theirs = haproxy.transaction() == Some((name.to_string(), Speaker::Stranger));
        if !is_theirs || haproxy.next_pid() - 1 != pid {
            return;
        }
        let verb = if commit { "commit" } else { "abort" };
        let reply = scene.strangers_command(machine, &format!("{verb} ssl cert {name}\n"));
        drop(scene);
        if reply.contains("currently locked") {
            self.cue(Duration::from_secs(10), Ending::Transaction { machine, pid, place, commit, leaf });
            return;
        }
        // Whoever replaces a certificate at run time wants it to be there after a restart, too.
        if commit && leaf.is_some() && self.put(place, leaf, Content::Whole) {
            self.count("renewals at run time");
        }
    }

    fn push(&mut self, machine: usize, place: usize, what: Pushed) {
        let mut scene = self.stage.scene();
        let now = scene.true_time();
        let Some(runs) = scene.runs(machine, place).filter(|_| !KINDS[place].hosts.is_empty()) else { return };
        let der = match what {
            Pushed::Older => scene.authorities.lie(Lie::Older, runs, now),
            Pushed::Newer => scene.authorities.honest(runs, now),
            Pushed::Forged => scene.authorities.lie(Lie::BrokenSignature, runs, now),
        };
        scene.strangers_command(machine, &format!("set ssl ocsp-response <<\n{}\n\n", encode_block(&der)));
        drop(scene);
        self.count("pushes of strangers");
    }
}

impl Scene {
    /// Somebody else says something to a HAProxy, and the oracle looks on.
    pub(super) fn strangers_command(&mut self, machine: usize, request: &str) -> String {
        let known = &mut self.machines[machine];
        let reply = known.haproxy.command(Speaker::Stranger, request).unwrap_or_default();
        known.commands += 1;
        let deeds = known.haproxy.take_deeds();
        if deeds.iter().any(|(_, deed)| matches!(deed, Deed::Opened { .. })) {
            known.opened = known.commands;
        }
        let brief = self.brief(&reply);
        self.note(format_args!("haproxy {machine}, to somebody: {brief}"));
        for (speaker, deed) in deeds {
            self.judge_deed(machine, speaker, &deed);
        }
        self.tick();
        reply
    }
}
