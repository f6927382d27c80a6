//! A HAProxy as far as its certificates and its Runtime API go, in one place of memory: it loads real files, answers
//! commands in the words of its version, and remembers who did what to whom. Under paused time it lives for months.
//!
//! What it does is what HAProxy was seen to do; it shares no code with the program. Not part of the kit that the demo
//! shares.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "as the kit: each user takes a part of it"
)]

mod answers;
mod certificates;
mod response;
mod transaction;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haproxy_stapler::clock::{Clock, Monotonic};
use haproxy_stapler::haproxy::{Command, RuntimeApi, SocketError};

use self::certificates::{Name, Store};
use self::response::Facts;
use self::transaction::Transaction;

/// One of each kind that answers differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Tells neither its start nor what it staples.
    V2_2,
    /// Shows responses as text, and mixes transactions.
    V2_6,
    /// Shows responses themselves.
    V2_8,
    /// Says where it looks for files.
    V3_2,
    /// The last.
    V3_4,
}

impl Version {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::V2_2, Self::V2_6, Self::V2_8, Self::V3_2, Self::V3_4];

    /// As `show info` has it.
    pub fn text(self) -> &'static str {
        match self {
            Self::V2_2 => "2.2.9-2+deb11u6",
            Self::V2_6 => "2.6.12-1+deb12u3",
            Self::V2_8 => "2.8.25-5cf5d0683",
            Self::V3_2 => "3.2.26-1",
            Self::V3_4 => "3.4.7-1",
        }
    }

    /// Whether it lists its entries for staples and shows what is in them.
    pub fn lists_entries(self) -> bool {
        self >= Self::V2_6
    }

    /// Whether a step on one certificate goes into an open transaction on another.
    pub fn mixes_transactions(self) -> bool {
        self == Self::V2_6
    }
}

/// `ssl-load-extra-files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraFiles {
    /// `.ocsp` and `.issuer` files are loaded, as HAProxy does by itself.
    All,
    /// Only certificates are.
    None,
}

/// Who sends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The program under test.
    Program,
    /// Anybody else.
    Stranger,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// What is held for a certificate was written: every name it has gets one.
    Wrote { name: String, before: Option<Arc<[u8]>>, after: Arc<[u8]> },
    /// A transaction was opened.
    Opened { name: String },
    /// Something was put into one that was there already.
    Edited { name: String, owner: Speaker },
    /// One was committed, whatever came of that.
    Committed { name: String, owner: Speaker },
    /// One was aborted.
    Aborted { name: String, owner: Speaker },
}

/// Clones are the same HAProxy.
#[derive(Clone)]
pub struct ScriptedHaproxy(Arc<Mutex<Inner>>);

struct Inner {
    version: Version,
    extra_files: ExtraFiles,
    /// The paths of its certificates. One that is not there is not missed, as in a directory.
    configured: Vec<String>,
    clock: Clock,
    latency: Duration,
    process: Option<Process>,
    deeds: Vec<(Speaker, Deed)>,
    writes: usize,
}

struct Process {
    pid: u32,
    /// Seconds since 1970.
    start_time: i64,
    started: Monotonic,
    names: BTreeMap<String, Name>,
    /// By the DER of the CertID.
    entries: BTreeMap<Vec<u8>, Entry>,
    transaction: Option<Transaction>,
    /// So many commands about certificates find them locked.
    locked: usize,
}

struct Entry {
    id: x509_ocsp::CertId,
    response: Option<Arc<Facts>>,
}

impl ScriptedHaproxy {
    /// One that does not run yet.
    pub fn new(version: Version, extra_files: ExtraFiles, clock: Clock) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            version,
            extra_files,
            configured: Vec::new(),
            clock,
            latency: Duration::ZERO,
            process: None,
            deeds: Vec::new(),
            writes: 0,
        })))
    }

    /// What it loads at its next start.
    pub fn configure(&self, paths: Vec<String>) {
        self.inner().configured = paths;
    }

    /// It is another version from its next start on.
    pub fn upgrade(&self, version: Version) {
        self.inner().version = version;
    }

    pub fn version(&self) -> Version {
        self.inner().version
    }

    pub fn extra_files(&self) -> ExtraFiles {
        self.inner().extra_files
    }

    /// Starts under a process id, in the place of the process that was there: a first start, a restart or a reload.
    ///
    /// # Errors
    /// With HAProxy's reason not to start. The process that was there goes on.
    pub fn start(&self, pid: u32) -> Result<(), String> {
        let mut inner = self.inner();
        let now = inner.clock.now();
        let mut process = Process {
            pid,
            start_time: now.wall.as_second(),
            started: now.monotonic,
            names: BTreeMap::new(),
            entries: BTreeMap::new(),
            transaction: None,
            locked: 0,
        };
        for path in &inner.configured {
            if let Some(store) = Store::load(path, inner.extra_files)? {
                process.bring_in(path, store, now.wall);
            }
        }
        inner.process = Some(process);
        Ok(())
    }

    /// It is gone.
    pub fn stop(&self) {
        self.inner().process = None;
    }

    pub fn is_running(&self) -> bool {
        self.inner().process.is_some()
    }

    /// The next process id.
    pub fn next_pid(&self) -> u32 {
        self.inner().process.as_ref().map_or(100, |process| process.pid + 1)
    }

    /// Each reply takes so long from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    /// So many commands from now on find its certificates locked.
    pub fn lock(&self, commands: usize) {
        if let Some(process) = &mut self.inner().process {
            process.locked = commands;
        }
    }

    /// What it would staple under a name at this moment.
    pub fn staple(&self, name: &str) -> Option<Arc<[u8]>> {
        let inner = self.inner();
        let facts = inner.process.as_ref()?.held(name)?;
        facts.is_stapled(inner.clock.now().wall).then(|| facts.der.clone())
    }

    /// Whether stapling is switched on for a name, whatever is held.
    pub fn is_stapling(&self, name: &str) -> bool {
        let inner = self.inner();
        inner.process.as_ref().and_then(|process| process.names.get(name)).is_some_and(|name| name.entry.is_some())
    }

    /// The certificate that it runs under a name, in DER.
    pub fn certificate(&self, name: &str) -> Option<Arc<[u8]>> {
        Some(self.inner().process.as_ref()?.names.get(name)?.store.leaf.der.clone())
    }

    /// Every name it has.
    pub fn names(&self) -> Vec<String> {
        self.inner().process.as_ref().map(|process| process.names.keys().cloned().collect()).unwrap_or_default()
    }

    /// The certificate of the open transaction, and who opened it.
    pub fn transaction(&self) -> Option<(String, Speaker)> {
        let inner = self.inner();
        let open = inner.process.as_ref()?.transaction.as_ref()?;
        Some((open.name.clone(), open.owner))
    }

    /// How often what is held was changed.
    pub fn writes(&self) -> usize {
        self.inner().writes
    }

    /// What commands came to since this was last asked.
    pub fn take_deeds(&self) -> Vec<(Speaker, Deed)> {
        std::mem::take(&mut self.inner().deeds)
    }

    /// One command, its whole request as it goes over the wire; none if it does not run.
    pub fn command(&self, speaker: Speaker, request: &str) -> Option<String> {
        self.inner().answer(speaker, request)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuntimeApi for ScriptedHaproxy {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let latency = self.inner().latency;
        let reply = self.command(Speaker::Program, &command.encode(""));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        reply.ok_or_else(|| SocketError::NotFound { address: "/scripted.sock".parse().unwrap() })
    }
}
