//! Transactions are written down before they are opened, and what a crash of ours left open is ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::means::Threads;
use crate::clock::Clock;
use crate::haproxy::{
    self, Command, HaproxyError, Journal, Known, Leftover, Process, RuntimeApi, SocketError, Survey, abort_leftover,
};
use crate::store::{OpenJournal, Store, StoreError};

/// A staple that is not installed is worse than a transaction that is not written down: a disk is not waited for longer.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// Where journals are kept.
#[derive(Clone, Debug)]
pub(super) struct Journals<T> {
    store: Arc<Store>,
    threads: T,
    /// Those that are done with and cannot be removed. Unlocked, they would pass for those of a process that died, and
    /// somebody else's transaction for its.
    stuck: Arc<Mutex<Vec<OpenJournal>>>,
}

impl<T: Threads> Journals<T> {
    pub(super) fn new(store: Arc<Store>, threads: T) -> Self {
        Self { store, threads, stuck: Arc::default() }
    }

    /// Does it on a thread that may wait, and waits for that a little.
    async fn on_disk<D: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<D, StoreError> + Send + 'static,
    ) -> Result<D, StoreError> {
        let store = self.store.clone();
        let done = tokio::time::timeout(DISK_PATIENCE, self.threads.run(move || work(&store))).await;
        done.unwrap_or_else(|_| Err(self.store.no_answer()))
    }

    /// Writes a journal. One that is there only when nobody waits for it any more goes at once: its batch took it for one
    /// that could not be written.
    async fn open(&self, journal: Journal) -> Result<OpenJournal, StoreError> {
        let (opened, mut open) = oneshot::channel();
        let journals = self.clone();
        let written = self.threads.run(move || {
            if let Err(Ok(late)) = opened.send(journals.store.open_journal(journal)) {
                // Said when it was not there in time.
                let _ = journals.remove(late);
            }
        });
        let _ = tokio::time::timeout(DISK_PATIENCE, written).await;
        open.close();
        open.try_recv().unwrap_or_else(|_| Err(self.store.no_answer()))
    }

    fn remove(&self, journal: OpenJournal) -> Result<(), StoreError> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|journal| journal.remove().is_err());
        journal.remove().inspect_err(|_| stuck.push(journal))
    }
}

/// A HAProxy whose transactions are written down: once for all of a batch, before the first.
#[derive(Debug)]
pub(super) struct Journalled<H, T> {
    api: Arc<H>,
    journals: Journals<T>,
    journal: Journal,
    /// In HAProxy 2.2 a commit that fails leaves its transaction open, and aborting that one crashes HAProxy. So it must
    /// not be found by the next start.
    forget_at_commit: bool,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<OpenJournal>,
    written: Option<Result<(), StoreError>>,
}

/// When the transactions of a batch were written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    Before,
    Now,
}

impl<H: RuntimeApi, T: Threads> Journalled<H, T> {
    pub(super) fn new(api: Arc<H>, journals: Journals<T>, journal: Journal, process: &Process, clock: Clock) -> Self {
        let forget_at_commit = process.version.keeps_failed_transactions();
        Self { api, journals, journal, forget_at_commit, clock, state: Mutex::default() }
    }

    /// Ends the batch: no transaction of it is open any more. Says whether it was written down; none if that was not
    /// needed.
    pub(super) async fn close(self) -> Option<Result<(), StoreError>> {
        self.forget().await;
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).written
    }

    async fn write_down(&self) -> Noted {
        let is_done = |state: &State| state.open.is_some() || matches!(state.written, Some(Err(_)));
        if is_done(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Noted::Before;
        }
        let mut journal = self.journal.clone();
        // HAProxy may have been reloaded since it was last looked at: the transaction will be open in the process that
        // answers now.
        if let Ok(process) = haproxy::look(&*self.api).await {
            journal = journal.in_process(&process, self.clock.now().wall);
        }
        let written = self.journals.open(journal).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written = Some(written.map(|open| state.open = Some(open)));
        Noted::Now
    }

    async fn forget(&self) {
        let open = self.state.lock().unwrap_or_else(PoisonError::into_inner).open.take();
        let journals = self.journals.clone();
        if let Some(open) = open
            && let Err(error) = self.journals.on_disk(move |_| journals.remove(open)).await
        {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).written = Some(Err(error));
        }
    }
}

impl<H: RuntimeApi, T: Threads> RuntimeApi for Journalled<H, T> {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        if command.asks_for_transaction() {
            let reply = self.api.exchange(command).await?;
            // Writing it down takes a moment in which somebody else may open one, and HAProxy before 3.1 may mix the
            // two. So nothing but the answer to this question lies between it and our transaction.
            return if command.is_answered_by_none(&reply) && self.write_down().await == Noted::Now {
                self.api.exchange(command).await
            } else {
                Ok(reply)
            };
        }
        if self.forget_at_commit && command.is_commit() {
            self.forget().await;
        }
        self.api.exchange(command).await
    }
}

/// A look at what HAProxy has loaded.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) outcome: Result<Survey, HaproxyError>,
    /// The certificate whose transaction a crash of ours had left open, and which was aborted.
    pub(super) aborted: Option<String>,
    /// The journal could not be read or removed.
    pub(super) trouble: Option<StoreError>,
}

impl<T: Threads> Journals<T> {
    /// Looks at what HAProxy has loaded and ends what a crash of ours left open there. The disk is looked at only where
    /// that is possible: at the first survey after our start, and while a transaction is open.
    pub(super) async fn survey<H: RuntimeApi>(
        &self,
        api: &H,
        address: &str,
        process: &Process,
        known: &Known,
        first: bool,
        clock: &Clock,
    ) -> Surveyed {
        let mut surveyed =
            Surveyed { outcome: haproxy::survey(api, process, known).await, aborted: None, trouble: None };
        if let Ok(survey) = &mut surveyed.outcome
            && (first || survey.transaction_open.is_some())
        {
            match self.settle(api, address, process, survey.transaction_open.as_deref(), clock).await {
                Ok(true) => surveyed.aborted = survey.transaction_open.take(),
                Ok(false) => {}
                Err(error) => surveyed.trouble = Some(error),
            }
        }
        surveyed
    }

    /// Whether the open transaction was ours and is aborted.
    async fn settle<H: RuntimeApi>(
        &self,
        api: &H,
        address: &str,
        process: &Process,
        open: Option<&str>,
        clock: &Clock,
    ) -> Result<bool, StoreError> {
        let haproxy = address.to_owned();
        let Some(left) = self.on_disk(move |store| store.left_journal(&haproxy)).await? else { return Ok(false) };
        let open = open.filter(|_| left.journal().is_about(process, clock.now().wall));
        let leftover = match open {
            Some(open) => abort_leftover(api, process, left.journal(), open).await,
            None => Ok(Leftover::Foreign),
        };
        match leftover {
            Ok(leftover) => {
                self.on_disk(move |_| left.remove()).await?;
                Ok(leftover == Leftover::Aborted)
            }
            // The journal stays for the next survey.
            Err(error) => {
                tracing::debug!(haproxy = address, %error, "whose transaction is open could not be found out");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::agent::BlockingThreads;
    use crate::settings::OcspFiles;

    /// A HAProxy that was reloaded a moment ago.
    struct Reloaded;

    fn process(pid: u32) -> Process {
        Process::parse(&info(pid)).unwrap()
    }

    fn info(pid: u32) -> String {
        format!("Version: 3.4.7\nPid: {pid}\nUptime_sec: 1\nStart_time_sec: 1799999900\n")
    }

    impl RuntimeApi for Reloaded {
        async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
            let is_look = command.encode("") == "show info\n";
            Ok(if is_look { info(8) } else { "No ongoing transaction!\n\n".to_owned() })
        }
    }

    #[tokio::test]
    async fn a_transaction_is_written_down_for_the_process_it_is_opened_in() {
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::new(directory.path().to_owned(), OcspFiles::Never));
        let journal = Journal::new("/s", &process(7), [], now);
        let journals = Journals::new(store.clone(), BlockingThreads);
        let api = Journalled::new(Arc::new(Reloaded), journals, journal, &process(7), Clock::anchored(now));
        api.exchange(&Command::ask_for_transaction()).await.unwrap();
        // Killed.
        drop(api);
        let left = store.left_journal("/s").unwrap().unwrap();
        assert!(left.journal().is_about(&process(8), now) && !left.journal().is_about(&process(7), now));
    }
}
