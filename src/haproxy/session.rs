//! The conversation with HAProxy: who answers, and what it has loaded.

use std::time::Duration;

use super::command::{Command, Form};
use super::held::{Held, Shown};
use super::inventory::{self, Details, Entries, EntryName, Listing, News, Seen, Survey};
use super::native::{NativeUpdate, parse_native_updates};
use super::process::Process;
use super::refusal::excerpt;
use super::socket::{RuntimeApi, SocketError};

/// HAProxy shows no certificate while it works on one; that takes milliseconds.
const LOCKED_RETRIES: usize = 5;
const LOCKED_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LOCKED: &str = "currently locked";

/// Why HAProxy cannot be worked with at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HaproxyError {
    /// The process that answered is on its way out after a reload.
    #[error("process {pid} is leaving after a reload")]
    LeavingProcess {
        /// Its process id.
        pid: u32,
    },
    /// The socket's level is not `admin`.
    #[error("the socket's level is '{level}', and 'admin' is needed")]
    Level {
        /// Its level.
        level: String,
    },
    /// HAProxy keeps its certificates locked.
    #[error("HAProxy's certificates are locked by another operation")]
    Locked,
    /// HAProxy without TLS or without OCSP.
    #[error("this HAProxy was built without OCSP stapling")]
    NoOcspSupport,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A reply that this program does not know.
    #[error("unexpected reply to '{command}': {reply}")]
    UnexpectedReply {
        /// What was asked.
        command: String,
        /// The start of the answer.
        reply: String,
    },
}

impl HaproxyError {
    /// A stable name for metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::LeavingProcess { .. } => "leaving_process",
            Self::Level { .. } => "level",
            Self::Locked => "locked",
            Self::NoOcspSupport => "no_ocsp_support",
            Self::Socket(error) => error.kind(),
            Self::UnexpectedReply { .. } => "unexpected_reply",
        }
    }

    /// Whether it is of the moment, and nobody has to do anything about it.
    #[must_use]
    pub const fn passes_by_itself(&self) -> bool {
        matches!(self, Self::LeavingProcess { .. } | Self::Locked | Self::Socket(_))
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::LeavingProcess { .. } => "Nothing: the new process answers within a moment.",
            Self::Level { .. } => "Add `level admin` to the `stats socket` line and reload HAProxy.",
            Self::Locked => "Nothing: the next pass tries again.",
            Self::NoOcspSupport => "Use a HAProxy that is built with OpenSSL or another TLS library with OCSP.",
            Self::Socket(error) => error.remedy(),
            Self::UnexpectedReply { .. } => {
                "If HAProxy's version is newer than this program, please report it; otherwise look into HAProxy's log."
            }
        }
    }

    pub(super) fn unexpected(command: &Command, reply: &str) -> Self {
        if reply.contains("Permission denied") {
            return Self::Level { level: "lower than admin".to_owned() };
        }
        if reply.contains("doesn't support OCSP stapling") {
            return Self::NoOcspSupport;
        }
        Self::UnexpectedReply { command: command.to_string(), reply: excerpt(reply) }
    }
}

/// Asks who answers. Cheap: one `show info`.
///
/// # Errors
/// When nobody does, or only a process that leaves.
pub async fn look(api: &impl RuntimeApi) -> Result<Process, HaproxyError> {
    let command = Command::show_info();
    let reply = api.exchange(&command).await?;
    let process = Process::parse(&reply).ok_or_else(|| HaproxyError::unexpected(&command, &reply))?;
    if process.stopping { Err(HaproxyError::LeavingProcess { pid: process.pid }) } else { Ok(process) }
}

/// What is known from an earlier survey of the same process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What its lists looked like.
    pub seen: Option<Seen>,
    /// The certificates whose replacement the lists would not show: those without an entry of their own.
    pub unlisted: Vec<String>,
}

/// Asks what the process has loaded: certificates, entries for staples, native updates, an open transaction. Where the
/// lists are those that are known, only what they do not show is asked for.
///
/// # Errors
/// When the socket may not do what is needed, or a reply is not understood.
pub async fn survey(api: &impl RuntimeApi, process: &Process, known: &Known) -> Result<Survey, HaproxyError> {
    let version = &process.version;
    preflight(api).await?;
    let list = Command::show_certificates();
    let names = exchange_unlocked(api, &list).await?;
    // HAProxy without TLS.
    if names.starts_with("Unknown command") {
        return Err(HaproxyError::NoOcspSupport);
    }
    // Before the details: what is replaced in between has lost its entry by the next survey.
    let entries = if version.lists_entries() { Some(api.exchange(&Command::show_entries()).await?) } else { None };
    let seen = entries.as_ref().map(|entries| Seen::new(&names, entries));
    if seen.is_some() && seen == known.seen {
        let details = details(api, known.unlisted.iter().map(String::as_str).collect()).await?;
        let unlisted = known.unlisted.iter().map(|name| (name.clone(), None)).collect();
        return Ok(Survey {
            news: News::Same { loaded: inventory::join(unlisted, &details, version.shows_der()) },
            native_updates: native_updates(api, process).await?,
            transaction_open: inventory::transaction(&names),
        });
    }
    let listing = Listing::parse(&names).ok_or_else(|| HaproxyError::unexpected(&list, &names))?;
    let entries = entries.map(|reply| parse_entries(&reply)).transpose()?;
    // Bundles have no view of their own in 2.2.
    let shown = listing.names.iter().filter(|(_, bundle)| bundle.is_none()).map(|(name, _)| name.as_str());
    let details = details(api, shown.collect()).await?;
    let native_updates = native_updates(api, process).await?;
    let loaded = inventory::join(listing.names, &details, version.shows_der());
    Ok(Survey { news: News::Whole { loaded, entries, seen }, native_updates, transaction_open: listing.transaction })
}

/// Asks which staple an entry holds; none if the entry is gone. Only for versions that list entries.
///
/// # Errors
/// When the socket fails or the reply is not understood.
pub async fn held(api: &impl RuntimeApi, process: &Process, entry: &EntryName) -> Result<Option<Held>, HaproxyError> {
    let shows_der = process.version.shows_der();
    let command = if shows_der { Command::show_response(entry) } else { Command::show_response_text(entry) };
    let Ok(command) = command else { return Ok(None) };
    // An entry that is named by a certificate is looked up among the certificates.
    let reply = exchange_unlocked(api, &command).await?;
    let unknown_key = reply.starts_with("Certificate ID") && reply.contains("does not match any certificate");
    if unknown_key || reply.contains("expects a valid certid or certificate path") {
        return Ok(None);
    }
    if reply.trim() == "Permission denied" || reply.starts_with("Unknown command") {
        return Err(HaproxyError::unexpected(&command, &reply));
    }
    Ok(Some(if shows_der { Held::from_base64(&reply) } else { Held::from_text(&reply) }))
}

/// Asks what many entries hold, in as few exchanges as fit. What HAProxy does not show, for whatever reason, is not
/// among it. Only for versions that list entries.
pub(super) async fn shown(api: &impl RuntimeApi, process: &Process, entries: &[&EntryName]) -> Shown {
    let form = if process.version.shows_der() { Form::Base64 } else { Form::Text };
    let mut shown = Shown::default();
    for command in Command::show_responses(entries.iter().copied(), form) {
        let Ok(reply) = api.exchange(&command).await else { break };
        shown.add(&reply, form);
    }
    shown
}

/// The size of HAProxy's buffers (`tune.bufsize`).
pub(super) async fn buffer_size(api: &impl RuntimeApi) -> Result<usize, HaproxyError> {
    let command = Command::show_pools();
    let reply = api.exchange(&command).await?;
    // `  - Pool buffer (16384 bytes) : 3 allocated …`, in 3.4 `(16384 bytes/64)`.
    let size =
        reply.lines().find_map(|line| line.trim().strip_prefix("- Pool buffer (")?.split_once(' ')?.0.parse().ok());
    size.ok_or_else(|| HaproxyError::unexpected(&command, &reply))
}

/// Every entry. Only for versions that list them.
pub(super) async fn list_entries(api: &impl RuntimeApi) -> Result<Entries, HaproxyError> {
    parse_entries(&api.exchange(&Command::show_entries()).await?)
}

fn parse_entries(reply: &str) -> Result<Entries, HaproxyError> {
    // Builds with another TLS library (BoringSSL) lack the command.
    if reply.starts_with("Unknown command") {
        return Err(HaproxyError::NoOcspSupport);
    }
    inventory::parse_entries(reply).ok_or_else(|| HaproxyError::unexpected(&Command::show_entries(), reply))
}

/// The certificate that somebody's open transaction is about.
///
/// HAProxy has no command to ask that, but for the list of all certificates, which is long. A request to abort the
/// transaction on a name that no certificate can have changes nothing and is refused in words that tell.
pub(super) async fn open_transaction(api: &impl RuntimeApi) -> Result<Option<String>, HaproxyError> {
    let command = Command::ask_for_transaction();
    let reply = exchange_unlocked(api, &command).await?;
    if command.is_answered_by_none(&reply) {
        return Ok(None);
    }
    let about = reply.trim().strip_prefix("The ongoing transaction is about '");
    let name = about.and_then(|rest| Some(rest.split_once("' but you are trying to abort ")?.0.to_owned()));
    name.map(Some).ok_or_else(|| HaproxyError::unexpected(&command, &reply))
}

/// Sends a command that works on certificates, and sends it again while HAProxy works on another one: it refuses such a
/// command outright, whatever it is.
pub(super) async fn exchange_unlocked(api: &impl RuntimeApi, command: &Command) -> Result<String, HaproxyError> {
    for _ in 0..LOCKED_RETRIES {
        let reply = api.exchange(command).await?;
        if !reply.contains(LOCKED) {
            return Ok(reply);
        }
        tokio::time::sleep(LOCKED_PAUSE).await;
    }
    Err(HaproxyError::Locked)
}

/// A socket below admin may list certificates and even push (until 3.3), but not switch stapling on: better to know
/// at once, and by its name.
async fn preflight(api: &impl RuntimeApi) -> Result<(), HaproxyError> {
    let command = Command::show_cli_level();
    let reply = api.exchange(&command).await?;
    match reply.trim() {
        "admin" => Ok(()),
        level @ ("operator" | "user") => Err(HaproxyError::Level { level: level.to_owned() }),
        _ => Err(HaproxyError::unexpected(&command, &reply)),
    }
}

async fn details(
    api: &impl RuntimeApi,
    mut wanted: Vec<&str>,
) -> Result<std::collections::BTreeMap<String, Details>, HaproxyError> {
    let mut found = std::collections::BTreeMap::new();
    for _ in 0..LOCKED_RETRIES {
        let mut locked = false;
        for command in Command::show_certificate_details(wanted.iter().copied()) {
            let reply = api.exchange(&command).await?;
            locked |= reply.contains(LOCKED);
            found.extend(Details::parse(&reply));
        }
        if !locked {
            return Ok(found);
        }
        wanted.retain(|name| !found.contains_key(*name));
        tokio::time::sleep(LOCKED_PAUSE).await;
    }
    Err(HaproxyError::Locked)
}

/// Empty where HAProxy has no such list.
async fn native_updates(api: &impl RuntimeApi, process: &Process) -> Result<Vec<NativeUpdate>, HaproxyError> {
    if !process.version.shows_der() {
        return Ok(Vec::new());
    }
    let command = Command::show_native_updates();
    let reply = api.exchange(&command).await?;
    parse_native_updates(&reply).ok_or_else(|| HaproxyError::unexpected(&command, &reply))
}
