//! Ending a transaction that a crash of ours left open.

use std::collections::BTreeMap;

use super::command::{Command, Unsendable};
use super::held::Held;
use super::inventory::Details;
use super::journal::Journal;
use super::process::Process;
use super::session::{self, HaproxyError};
use super::socket::RuntimeApi;

/// Whose an open transaction turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Ours: it is aborted.
    Aborted,
    /// Not ours as far as HAProxy can show it: it is as it was.
    Foreign,
}

/// Aborts the transaction on `open` if `journal`, which has to be about this very process, says that we were about to
/// open it, and HAProxy shows nothing else in it: the certificate is the one that is loaded, and from 2.5 on the
/// response is the one that we were about to bring. A stranger's renewal has another certificate.
///
/// # Errors
/// When the socket fails or the reply is not understood; it may be tried again.
pub async fn abort_leftover(
    api: &impl RuntimeApi,
    process: &Process,
    journal: &Journal,
    open: &str,
) -> Result<Leftover, HaproxyError> {
    if !journal.names(process, open) || !is_unchanged(api, process, open).await? {
        return Ok(Leftover::Foreign);
    }
    if process.version.lists_entries() {
        let reply = ask(api, Command::show_uncommitted_response(open)).await?;
        match reply.as_deref().map(Held::from_text) {
            Some(Held::Response(response)) if journal.brings(open, &response) => {}
            _ => return Ok(Leftover::Foreign),
        }
    }
    let Ok(command) = Command::abort(open) else { return Ok(Leftover::Foreign) };
    let reply = session::exchange_unlocked(api, &command).await?;
    if reply.trim() == format!("Transaction aborted for certificate '{open}'!") {
        Ok(Leftover::Aborted)
    } else {
        Err(HaproxyError::unexpected(&command, &reply))
    }
}

/// Whether the uncommitted certificate is the one that is loaded.
async fn is_unchanged(api: &impl RuntimeApi, process: &Process, name: &str) -> Result<bool, HaproxyError> {
    let mut shown = BTreeMap::new();
    let loaded =
        Command::show_certificate_details([name]).into_iter().next().ok_or_else(|| Unsendable(name.to_owned()));
    for command in [Command::show_uncommitted(name), loaded] {
        shown.extend(ask(api, command).await?.as_deref().map(Details::parse).unwrap_or_default());
    }
    let fingerprint = |name: &str| shown.get(name).and_then(Details::fingerprint);
    let (uncommitted, loaded) = (fingerprint(&format!("*{name}")), fingerprint(name));
    // HAProxy 2.2 has no view of a bundle.
    Ok((uncommitted.is_some() && uncommitted == loaded) || (shown.is_empty() && process.version.bundles()))
}

/// None if there is nothing to show.
async fn ask(api: &impl RuntimeApi, command: Result<Command, Unsendable>) -> Result<Option<String>, HaproxyError> {
    let Ok(command) = command else { return Ok(None) };
    session::exchange_unlocked(api, &command).await.map(Some)
}
