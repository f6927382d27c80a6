//! What lies between the program and everything else: each command, each request and each visit to a disk passes here,
//! is noted, may fail, may be the program's last, and is judged.

use std::future::pending;
use std::time::Duration;

use haproxy_stapler::agent::Threads;
use haproxy_stapler::haproxy::{Command, RuntimeApi, SocketError};
use haproxy_stapler::responder::{Exchange, Fault, Reply, Responder};

use super::authority::{Answer, Mood};
use super::pool::{HOSTS, ISSUERS, LeafId, POOL};
use super::scripted_haproxy::Speaker;
use super::site::Which;
use super::stage::{Doom, Machine, Moment, Scene, Stage, Trouble};
use super::support::responder::{percent_decode, serial_asked_for};

/// The program's deadline for one command.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket of one HAProxy, in one life of the program.
pub(crate) struct Line {
    pub(crate) stage: Stage,
    pub(crate) machine: usize,
    pub(crate) life: u64,
}

/// What becomes of a command on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It never arrives.
    Lost,
    /// It arrives, and its reply does not.
    Unanswered,
    /// It arrives when nobody waits any more.
    Late,
    Refused,
    Hangs,
}

impl Line {
    fn departs(&self, request: &str) -> (Fate, Duration) {
        let mut scene = self.stage.scene();
        let Scene { machines, dice, .. } = &mut *scene;
        let machine = &mut machines[self.machine];
        let is_look = request == "show info\n";
        let jitter = if is_look { 0 } else { u64::try_from(dice.below(3)).unwrap() };
        let latency = Duration::from_millis(jitter + machine.slowness);
        let fate = match machine.trouble {
            Trouble::Hangs => Fate::Hangs,
            Trouble::Refuses => Fate::Refused,
            Trouble::None if machine.losses > 0 && !is_look => {
                machine.losses -= 1;
                dice.pick(&[Fate::Lost, Fate::Unanswered, Fate::Late])
            }
            Trouble::None => Fate::Answered,
        };
        (fate, latency)
    }

    /// HAProxy gets the command. None if that was the program's end.
    fn arrives(&self, request: &str, fate: Fate) -> Option<Result<String, SocketError>> {
        let mut scene = self.stage.scene();
        if !scene.is_alive(self.life) {
            return None;
        }
        let dies = scene.dies_at_step(request);
        if dies == Some(Moment::Before) {
            scene.kill();
            return None;
        }
        let reply = scene.execute(self.machine, request);
        if dies == Some(Moment::After) {
            scene.kill();
            return None;
        }
        let address = || scene.machines[self.machine].address.parse().unwrap();
        Some(match (reply, fate) {
            (None, _) => Err(SocketError::NotFound { address: address() }),
            (Some(_), Fate::Unanswered) => Err(SocketError::Io { address: address(), reason: "lost".to_owned() }),
            (Some(_), Fate::Late) => Err(SocketError::Timeout { address: address(), after: SOCKET_TIMEOUT }),
            (Some(reply), _) => Ok(reply),
        })
    }
}

impl RuntimeApi for Line {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let request = command.encode("");
        let (fate, latency) = self.departs(&request);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let address = || self.stage.scene().machines[self.machine].address.parse().unwrap();
        match fate {
            Fate::Refused => return Err(SocketError::Refused { address: address() }),
            Fate::Lost => return Err(SocketError::Empty { address: address() }),
            Fate::Hangs => {
                tokio::time::sleep(SOCKET_TIMEOUT).await;
                return Err(SocketError::Timeout { address: address(), after: SOCKET_TIMEOUT });
            }
            Fate::Late => tokio::time::sleep(SOCKET_TIMEOUT).await,
            Fate::Answered | Fate::Unanswered => {}
        }
        match self.arrives(&request, fate) {
            Some(reply) => reply,
            None => pending().await,
        }
    }
}

impl Scene {
    /// Whether the program is doomed to die at this command.
    fn dies_at_step(&mut self, request: &str) -> Option<Moment> {
        let is_step =
            ["set ssl cert ", "commit ssl cert ", "abort ssl cert "].iter().any(|step| request.starts_with(step));
        let Some(Doom::AtStep(left, moment)) = &mut self.life.doom else { return None };
        if !is_step {
            return None;
        }
        *left = left.checked_sub(1)?;
        (*left == 0).then_some(*moment)
    }

    /// Whether it is doomed to die at this visit to the disk.
    fn dies_at_disk(&mut self) -> Option<Moment> {
        let Some(Doom::AtDisk(left, moment)) = &mut self.life.doom else { return None };
        *left = left.checked_sub(1)?;
        (*left == 0).then_some(*moment)
    }

    /// The first words of a request or a reply, without what is another thing in each run.
    pub(crate) fn brief(&self, text: &str) -> String {
        let line = text.lines().next().unwrap_or_default();
        let words: String = line.chars().take(self.prefix.len() + 70).collect();
        words.replace(&self.prefix, "")
    }

    /// HAProxy does what it is told by the program, and the oracle looks on.
    fn execute(&mut self, machine: usize, request: &str) -> Option<String> {
        let Machine { haproxy, commands, asked, .. } = &mut self.machines[machine];
        let reply = haproxy.command(Speaker::Program, request);
        *commands += 1;
        // The question may be asked in one breath with the commit of the one before.
        if request.ends_with("abort ssl cert /\n") || request == "show ssl cert\n" {
            *asked = *commands;
        }
        if request != "show info\n" {
            let (asked, answered) = (self.brief(request), self.brief(reply.as_deref().unwrap_or("nobody")));
            self.note(format_args!("haproxy {machine}: {asked} → {answered}"));
        }
        for (speaker, deed) in self.machines[machine].haproxy.take_deeds() {
            self.judge_deed(machine, speaker, &deed);
        }
        self.tick();
        reply
    }
}

/// The CAs, in one life of the program.
pub(crate) struct Ca {
    pub(crate) stage: Stage,
    pub(crate) life: u64,
}

impl Ca {
    fn asked(&self, exchange: &Exchange) -> (Option<LeafId>, Answer, Duration) {
        let (url, post) = (&exchange.url, exchange.body.is_some());
        let mut scene = self.stage.scene();
        let latency = Duration::from_millis(u64::try_from(scene.dice.below(50)).unwrap() + 5);
        let rest = url.strip_prefix("http://").unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host == ISSUERS {
            return (None, scene.issuer(url), latency);
        }
        let Some(host) = HOSTS.iter().position(|known| *known == host) else {
            scene.broke(format_args!("nobody: asked at '{url}', which no certificate names"));
            return (None, Answer::Silence, latency);
        };
        let in_path = || percent_decode(path).and_then(|text| openssl::base64::decode_block(&text).ok());
        let request = exchange.body.clone().or_else(in_path);
        let serial = request.as_deref().and_then(serial_asked_for);
        let Some(leaf) = serial.and_then(|serial| scene.authorities.leaf_by_serial(&serial)) else {
            scene.broke(format_args!("10: asked something that is no question about a certificate of this site"));
            return (None, Answer::Silence, latency);
        };
        let now = scene.true_time();
        let mood = scene.authorities.mood(host, leaf);
        let method = exchange.method();
        scene.note(format_args!("{}: {method} about {leaf}, which finds it {mood:?}", HOSTS[host]));
        scene.judge_request(leaf);
        (Some(leaf), scene.authorities.answer(host, url, post, leaf, now), latency)
    }

    fn delivered(&self, leaf: Option<LeafId>, bytes: Vec<u8>) -> Reply {
        let mut scene = self.stage.scene();
        if scene.is_alive(self.life) {
            if let Some(leaf) = leaf {
                scene.delivered(leaf, &bytes);
            }
            scene.tick();
        }
        bytes.into()
    }
}

impl Scene {
    fn issuer(&mut self, url: &str) -> Answer {
        let host = HOSTS.iter().position(|host| *host == ISSUERS).unwrap();
        let mood = self.authorities.moods[host];
        self.note(format_args!("{ISSUERS}: finds it {mood:?}"));
        let url = url.to_owned();
        match mood {
            Mood::Honest | Mood::Slow(_) | Mood::PostOnly => Answer::Bytes(POOL.other.der().to_vec()),
            Mood::Silent => Answer::Silence,
            Mood::Lies(_) => Answer::Bytes(POOL.impostor.der().to_vec()),
            Mood::Garbage | Mood::Html => Answer::Bytes(vec![0x30; 99]),
            _ => Answer::Fault(Fault::Connect { url, reason: String::new() }),
        }
    }
}

impl Responder for Ca {
    async fn send(&self, exchange: &Exchange, deadline: Duration) -> Result<Reply, Fault> {
        let (leaf, reply, latency) = self.asked(exchange);
        tokio::time::sleep(latency.min(deadline)).await;
        let left = deadline.saturating_sub(latency);
        match reply {
            Answer::Bytes(bytes) if !left.is_zero() => return Ok(self.delivered(leaf, bytes)),
            Answer::Fault(fault) => return Err(fault),
            Answer::After(milliseconds, bytes) if Duration::from_millis(milliseconds) < left => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                return Ok(self.delivered(leaf, bytes));
            }
            Answer::Bytes(_) | Answer::After(..) | Answer::Silence => {}
        }
        tokio::time::sleep(left).await;
        Err(Fault::Timeout { url: exchange.url.clone(), deadline })
    }
}

/// The threads that wait for disks, in one life of the program: their work is done at once and in its place, or after a
/// while of virtual time.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) stage: Stage,
    pub(crate) life: u64,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hands")
    }
}

impl Hands {
    /// None if that was the program's end.
    fn visit<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let mut scene = self.stage.scene();
        if !scene.is_alive(self.life) {
            return None;
        }
        let dies = scene.dies_at_disk();
        if dies == Some(Moment::Before) {
            let (which, place) = (scene.dice.pick(&[Which::Certs, Which::State]), scene.dice.below(3));
            scene.site.leave_torn_file(which, place);
            scene.kill();
            return None;
        }
        // The work reads the clock.
        drop(scene);
        let done = work();
        let mut scene = self.stage.scene();
        scene.visited();
        if dies == Some(Moment::After) {
            scene.kill();
            return None;
        }
        Some(done)
    }
}

impl Scene {
    /// The program has been at the disk.
    fn visited(&mut self) {
        let now = self.wall();
        self.site.stamp(now);
        self.judge_files();
        self.tick();
    }
}

impl Threads for Hands {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let delay = self.stage.scene().disk.delay;
        if delay.is_zero() {
            return match self.visit(work) {
                Some(done) => done,
                None => pending().await,
            };
        }
        // A thread goes on when nobody waits for it any more.
        let hands = self.clone();
        let thread = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            hands.visit(work)
        });
        match thread.await {
            Ok(Some(done)) => done,
            Ok(None) => pending().await,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => pending().await,
        }
    }
}
