//! A run from beginning to end: what is planned happens, what lasts ends, the program lives and dies, and in the end
//! everybody behaves and all must be well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use haproxy_stapler::agent::Cadence;
use haproxy_stapler::clock::Monotonic;
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::Status;

use super::authority::Authorities;
use super::events::Ending;
use super::oracle::{Oracle, Pace, Rules};
use super::plan::{Event, Setting, plan};
use super::program::Program;
use super::scripted_haproxy::ScriptedHaproxy;
use super::site::{Disks, Site};
use super::stage::{Machine, Stage};
use super::support::dice::Dice;
use super::trace::{Digest, Echo, Time};

/// What is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    /// How long it goes wrong.
    pub(crate) span: Duration,
    /// How often.
    pub(crate) events: usize,
    /// How often the program looks.
    pub(crate) look: Duration,
}

/// How a run went that went well.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) digest: Digest,
    pub(crate) tally: Tally,
}

/// What happened how often.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// How a run went that did not.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) promise: String,
    pub(crate) tail: String,
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    ToTheEnd,
    /// The program was killed.
    Interrupted,
}

/// What is to happen next.
pub(super) enum Cue {
    Event(Event),
    Ending(Ending),
}

pub(crate) struct Director {
    pub(super) stage: Stage,
    settings: Arc<Settings>,
    cadence: Cadence,
    pub(super) pace: Pace,
    program: Option<Program>,
    cues: BTreeMap<(Duration, usize), Cue>,
    given: usize,
    /// How long the program stays away after a death that was its doom.
    pub(super) away: Duration,
    pub(super) tally: Tally,
}

impl Director {
    pub(crate) fn new(seed: u64, play: Play, disks: &Arc<Disks>, echo: Echo) -> Self {
        let mut dice = Dice::new(seed);
        let setting = Setting::draw(&mut dice);
        let pace = Pace { look: play.look, scan: play.look * 10, refresh: setting.refresh };
        let site = Site::new(disks.clone(), &setting.places);
        let addresses: Vec<String> =
            (0..setting.machines.len()).map(|machine| format!("/run/{machine}.sock")).collect();
        let settings = settings(&setting, &site, &addresses, pace);
        let rules = Rules { withhold: setting.withhold, no_files: setting.no_files, timeout: setting.timeout };
        let oracle = Oracle::new(pace, rules, setting.machines.len());
        let stage = Stage::new(seed, echo, site, Authorities::new(setting.styles.clone()), oracle);
        {
            let mut scene = stage.scene();
            scene.note(format_args!("{setting:?}"));
            let names: Vec<String> = setting.places.iter().map(|place| scene.name(*place).to_string()).collect();
            for ((version, files), address) in setting.machines.iter().zip(addresses) {
                let haproxy = ScriptedHaproxy::new(*version, *files, scene.clock.clone());
                haproxy.configure(names.clone());
                scene.machines.push(Machine::new(haproxy, address));
            }
        }
        let planned = plan(&mut dice, &setting, play.events, play.span);
        let cues = planned.into_iter().enumerate().map(|(index, (at, event))| ((at, index), Cue::Event(event)));
        let cues: BTreeMap<(Duration, usize), Cue> = cues.collect();
        Self {
            stage,
            settings,
            cadence: Cadence::every(play.look),
            pace,
            program: None,
            given: cues.len(),
            cues,
            away: Duration::ZERO,
            tally: Tally::new(),
        }
    }

    /// Plays it.
    pub(crate) async fn play(mut self) -> Result<Outcome, Failure> {
        let machines = self.stage.scene().machines.len();
        for machine in 0..machines {
            self.start_haproxy(machine, 100).await;
        }
        self.start_program();
        while let Some(((at, index), cue)) = self.cues.pop_first() {
            if self.wait_until(at).await? == Waited::Interrupted {
                // Something else comes before it now.
                self.cues.insert((at, index), cue);
                continue;
            }
            match cue {
                Cue::Event(event) => self.happens(event).await?,
                Cue::Ending(ending) => self.ends(ending).await,
            }
            self.look()?;
        }
        self.heal().await?;
        let digest = self.stage.scene().trace.digest();
        if let Some(program) = self.program.take() {
            program.kill().await;
        }
        Ok(Outcome { digest, tally: self.tally })
    }

    /// Has something happen later.
    pub(super) fn cue(&mut self, after: Duration, ending: Ending) {
        let at = self.stage.scene().at() + after;
        self.given += 1;
        self.cues.insert((at, self.given), Cue::Ending(ending));
    }

    /// Lets time pass until then, or until the program is killed.
    async fn wait_until(&mut self, at: Duration) -> Result<Waited, Failure> {
        let (clock, news) = {
            let scene = self.stage.scene();
            (scene.clock.clone(), scene.news.clone())
        };
        loop {
            self.look()?;
            if self.stage.scene().life.killed {
                self.bury().await;
                return Ok(Waited::Interrupted);
            }
            if self.stage.scene().at() >= at {
                return Ok(Waited::ToTheEnd);
            }
            let fault = async {
                match &mut self.program {
                    Some(program) => program.fault().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = news.notified() => {}
                fault = fault => self.stage.scene().broke(format_args!("the program failed: {fault}")),
                () = clock.sleep_until(Monotonic::new(at)) => {}
            }
        }
    }

    /// Whether everything is still as promised.
    pub(super) fn look(&self) -> Result<(), Failure> {
        let mut scene = self.stage.scene();
        scene.judge_litter();
        scene.tick();
        match scene.broken.take() {
            Some(promise) => {
                let at = scene.at();
                let promise = format!("{}: {promise}", Time(at));
                Err(Failure { promise, tail: scene.trace.tail() })
            }
            None => Ok(()),
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn start_program(&mut self) {
        if self.program.is_none() {
            self.program = Some(Program::start(&self.stage, &self.settings, self.cadence));
        }
    }

    /// The program was killed: what is left of it goes, and its supervisor starts it again after a while.
    pub(super) async fn bury(&mut self) {
        let Some(program) = self.program.take() else { return };
        let in_transaction = {
            let mut scene = self.stage.scene();
            scene.life_ends();
            scene.life.killed = true;
            scene.machines.iter().any(|machine| machine.has_ours())
        };
        self.count(if in_transaction { "kills in a transaction" } else { "kills" });
        program.kill().await;
        self.stage.scene().life.killed = false;
        self.stage.scene().life.running = false;
        self.cue(self.away, Ending::ProgramStarts);
    }

    /// It is told to stop, and has five seconds.
    pub(super) async fn stop_program(&mut self) {
        let Some(program) = self.program.take() else { return };
        self.stage.scene().life.stopping = true;
        let ended = program.stop(Duration::from_secs(5)).await;
        let mut scene = self.stage.scene();
        scene.life.running = false;
        scene.life_ends();
        let life = scene.life.number;
        scene.note(format_args!("program {life} is stopped"));
        match ended {
            Ok(()) => scene.judge_stop(),
            // A doom may have come first.
            Err(_) if scene.life.killed => scene.life.killed = false,
            Err(reason) => scene.broke(format_args!("it was told to stop: {reason}")),
        }
    }

    pub(super) fn status(&self) -> Option<Arc<Status>> {
        self.program.as_ref().map(Program::status)
    }

    /// Ends everything that is still to end.
    pub(super) async fn end_all(&mut self) {
        while let Some((_, cue)) = self.cues.pop_first() {
            if let Cue::Ending(ending) = cue {
                self.ends(ending).await;
            }
        }
    }

    /// Lets so much time pass.
    pub(super) async fn pass(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.stage.scene().at() + time;
        while self.wait_until(end).await? == Waited::Interrupted {}
        Ok(())
    }
}

fn settings(setting: &Setting, site: &Site, addresses: &[String], pace: Pace) -> Arc<Settings> {
    let text = |duration: Duration| format!("{}s", duration.as_secs());
    let mut pairs = vec![
        ("STAPLER_CERTS", site.certs().display().to_string()),
        ("STAPLER_STATE_DIR", site.state().display().to_string()),
        ("STAPLER_SOCKETS", addresses.join(",")),
        ("STAPLER_REFRESH_INTERVAL", text(pace.refresh)),
        ("STAPLER_TIMEOUT", text(setting.timeout)),
        ("STAPLER_CONCURRENCY", setting.concurrency.to_string()),
    ];
    if setting.withhold {
        pairs.push(("STAPLER_ON_REVOKED", "withhold".to_owned()));
    }
    if setting.no_files {
        pairs.push(("STAPLER_OCSP_FILES", "never".to_owned()));
    }
    let parsed = Settings::parse(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let mut settings = parsed.unwrap().settings;
    // That of a simulation that looks rarely is none that a person could set.
    settings.scan_interval = pace.scan;
    Arc::new(settings)
}
