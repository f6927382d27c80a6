//! The conversation with HAProxy: who answers, and what it has loaded.

use std::time::Duration;

use super::command::Command;
use super::held::Held;
use super::inventory::{self, Details, Entry, Listing, Survey};
use super::native::{NativeUpdate, parse_native_updates};
use super::process::Process;
use super::refusal::excerpt;
use super::socket::{RuntimeApi, SocketError};

/// HAProxy shows no certificate while it works on one; that takes milliseconds.
const LOCKED_RETRIES: usize = 5;
const LOCKED_PAUSE: Duration = Duration::from_millis(50);
const LOCKED: &str = "currently locked";

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

/// Asks what the process has loaded: certificates, entries for staples, native updates, an open transaction.
///
/// # Errors
/// When the socket may not do what is needed, or a reply is not understood.
pub async fn survey(api: &impl RuntimeApi, process: &Process) -> Result<Survey, HaproxyError> {
    let version = &process.version;
    preflight(api).await?;
    let listing = list(api).await?;
    let details = details(api, &listing).await?;
    let entries = if version.lists_entries() { Some(list_entries(api).await?) } else { None };
    let native_updates = if version.shows_der() {
        native_updates(api, entries.as_deref().unwrap_or_default()).await?
    } else {
        Vec::new()
    };
    Ok(Survey {
        loaded: inventory::join(listing.names, &details, version.shows_der()),
        entries,
        native_updates,
        transaction_open: listing.transaction,
    })
}

/// Asks which staple the entry with this key holds; none if the entry is gone. Only for versions that list entries.
///
/// # Errors
/// When the socket fails or the reply is not understood.
pub async fn held(api: &impl RuntimeApi, process: &Process, key: &str) -> Result<Option<Held>, HaproxyError> {
    let shows_der = process.version.shows_der();
    let command = if shows_der { Command::show_response(key) } else { Command::show_response_text(key) };
    let reply = api.exchange(&command).await?;
    if reply.starts_with("Certificate ID") && reply.contains("does not match any certificate") {
        return Ok(None);
    }
    if reply.trim() == "Permission denied" || reply.starts_with("Unknown command") {
        return Err(HaproxyError::unexpected(&command, &reply));
    }
    Ok(Some(if shows_der { Held::from_base64(&reply) } else { Held::from_text(&reply) }))
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
pub(super) async fn list_entries(api: &impl RuntimeApi) -> Result<Vec<Entry>, HaproxyError> {
    let command = Command::show_entries();
    let reply = api.exchange(&command).await?;
    // Builds with another TLS library (BoringSSL) lack the command.
    if reply.starts_with("Unknown command") {
        return Err(HaproxyError::NoOcspSupport);
    }
    inventory::parse_entries(&reply).ok_or_else(|| HaproxyError::unexpected(&command, &reply))
}

/// Every certificate's name, and the open transaction.
pub(super) async fn list(api: &impl RuntimeApi) -> Result<Listing, HaproxyError> {
    let command = Command::show_certificates();
    let reply = exchange_unlocked(api, &command).await?;
    // HAProxy without TLS.
    if reply.starts_with("Unknown command") {
        return Err(HaproxyError::NoOcspSupport);
    }
    Listing::parse(&reply).ok_or_else(|| HaproxyError::unexpected(&command, &reply))
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
    listing: &Listing,
) -> Result<std::collections::BTreeMap<String, Details>, HaproxyError> {
    let mut found = std::collections::BTreeMap::new();
    // Bundles have no view of their own in 2.2.
    let mut wanted: Vec<&str> =
        listing.names.iter().filter(|(_, bundle)| bundle.is_none()).map(|(name, _)| name.as_str()).collect();
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

async fn native_updates(api: &impl RuntimeApi, entries: &[Entry]) -> Result<Vec<NativeUpdate>, HaproxyError> {
    let command = Command::show_native_updates();
    let reply = api.exchange(&command).await?;
    parse_native_updates(&reply, entries).ok_or_else(|| HaproxyError::unexpected(&command, &reply))
}
