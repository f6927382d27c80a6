//! Transactions are written down before they are opened, and what a crash of ours left open is ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::haproxy::{
    self, Command, HaproxyError, Journal, Leftover, Process, RuntimeApi, SocketError, Survey, abort_leftover,
};
use crate::store::{OpenJournal, Store, StoreError};

/// A staple that is not installed is worse than a transaction that is not written down: a disk is not waited for longer.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// A HAProxy whose transactions are written down: once for all of a batch, before the first.
#[derive(Debug)]
pub(super) struct Journalled<H> {
    api: Arc<H>,
    store: Arc<Store>,
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

impl<H: RuntimeApi> Journalled<H> {
    pub(super) fn new(api: Arc<H>, store: Arc<Store>, journal: Journal, process: &Process, clock: Clock) -> Self {
        let forget_at_commit = !process.version.is_at_least(2, 4);
        Self { api, store, journal, forget_at_commit, clock, state: Mutex::default() }
    }

    /// Ends the batch: no transaction of it is open any more. Says whether it was written down; none if that was not
    /// needed.
    pub(super) async fn close(self) -> Option<Result<(), StoreError>> {
        self.forget().await;
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).written
    }

    async fn write_down(&self) {
        let is_done = |state: &State| state.open.is_some() || matches!(state.written, Some(Err(_)));
        if is_done(&self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let (store, mut journal) = (self.store.clone(), self.journal.clone());
        // HAProxy may have been reloaded since it was last looked at: the transaction will be open in the process that
        // answers now.
        if let Ok(process) = haproxy::look(&*self.api).await {
            journal = journal.in_process(&process, self.clock.now().wall);
        }
        let written = on_disk(&self.store, move || store.open_journal(journal)).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.written = Some(written.map(|open| state.open = Some(open)));
    }

    async fn forget(&self) {
        let open = self.state.lock().unwrap_or_else(PoisonError::into_inner).open.take();
        if let Some(open) = open
            && let Err(error) = on_disk(&self.store, move || open.remove()).await
        {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).written = Some(Err(error));
        }
    }
}

impl<H: RuntimeApi> RuntimeApi for Journalled<H> {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        if command.is_transaction_step() {
            self.write_down().await;
        } else if self.forget_at_commit && command.is_commit() {
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

/// Looks at what HAProxy has loaded and ends what a crash of ours left open there. The disk is looked at only where that
/// is possible: at the first survey after our start, and while a transaction is open.
pub(super) async fn survey<H: RuntimeApi>(
    api: &H,
    store: &Arc<Store>,
    address: &str,
    process: &Process,
    first: bool,
    clock: &Clock,
) -> Surveyed {
    let mut surveyed = Surveyed { outcome: haproxy::survey(api, process).await, aborted: None, trouble: None };
    if let Ok(survey) = &mut surveyed.outcome
        && (first || survey.transaction_open.is_some())
    {
        match settle(api, store, address, process, survey.transaction_open.as_deref(), clock).await {
            Ok(true) => surveyed.aborted = survey.transaction_open.take(),
            Ok(false) => {}
            Err(error) => surveyed.trouble = Some(error),
        }
    }
    surveyed
}

/// Whether the open transaction was ours and is aborted.
async fn settle<H: RuntimeApi>(
    api: &H,
    store: &Arc<Store>,
    address: &str,
    process: &Process,
    open: Option<&str>,
    clock: &Clock,
) -> Result<bool, StoreError> {
    let (reader, haproxy) = (store.clone(), address.to_owned());
    let Some(left) = on_disk(store, move || reader.left_journal(&haproxy)).await? else { return Ok(false) };
    let open = open.filter(|_| left.journal().is_about(process, clock.now().wall));
    let leftover = match open {
        Some(open) => abort_leftover(api, process, left.journal(), open).await,
        None => Ok(Leftover::Foreign),
    };
    match leftover {
        Ok(leftover) => {
            on_disk(store, move || left.remove()).await?;
            Ok(leftover == Leftover::Aborted)
        }
        // The journal stays for the next survey.
        Err(error) => {
            tracing::debug!(haproxy = address, %error, "whose transaction is open could not be found out");
            Ok(false)
        }
    }
}

/// Does it on a thread that may wait, and waits for that a little.
async fn on_disk<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::time::timeout(DISK_PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Ok(Err(_)) | Err(_) => Err(store.no_answer()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
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
            Ok(if is_look { info(8) } else { "Transaction created for certificate a.pem!\n\n".to_owned() })
        }
    }

    #[tokio::test]
    async fn a_transaction_is_written_down_for_the_process_it_is_opened_in() {
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::new(directory.path().to_owned(), OcspFiles::Never));
        let journal = Journal::new("/s", &process(7), [], now);
        let api = Journalled::new(Arc::new(Reloaded), store.clone(), journal, &process(7), Clock::anchored(now));
        api.exchange(&Command::set_certificate_response("a.pem", &[1]).unwrap()).await.unwrap();
        // Killed.
        drop(api);
        let left = store.left_journal("/s").unwrap().unwrap();
        assert!(left.journal().is_about(&process(8), now) && !left.journal().is_about(&process(7), now));
    }
}
