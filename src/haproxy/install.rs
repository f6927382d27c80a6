//! Bringing a verified staple into HAProxy, and making sure that it is there.

use jiff::Timestamp;

use super::command::{Command, DEFAULT_BUFFER, response_limit};
use super::held::{Held, HeldResponse, Shown, StapleView};
use super::inventory::{CertIdKey, Details, Entries, EntryName, Stapling};
use super::process::Process;
use super::refusal::{InstallError, excerpt};
use super::session::{self, HaproxyError};
use super::socket::RuntimeApi;
use crate::certificate::Certificate;
use crate::clock::between;
use crate::ocsp::SKEW;

/// One staple for one certificate of one HAProxy.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// HAProxy's name for the certificate.
    pub name: &'a str,
    /// The certificate's CertID, as the responder was asked for it.
    pub id: &'a CertIdKey,
    /// What the survey said about the certificate; [`Stapling::On`] once an installation in the same process said that
    /// it switched it on.
    pub stapling: Stapling,
    /// The issuer's certificate.
    pub issuer: IssuerKnowledge<'a>,
    /// The staple, verified for this certificate and issuer.
    pub staple: StapleView<'a>,
    /// What to do about a staple in HAProxy that the CA made after this one.
    pub overwrite: OverwritePolicy,
}

/// Whether HAProxy can find the issuer of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum IssuerKnowledge<'a> {
    /// It is in the certificate's own chain.
    InChain,
    /// HAProxy has to be told.
    Told(&'a Certificate),
}

/// What to do when HAProxy holds a response with a later `thisUpdate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverwritePolicy {
    /// Leave it and report it.
    #[default]
    KeepNewer,
    /// Overwrite it: the caller has looked at it and it does not verify.
    Replace,
}

/// What became of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// HAProxy holds exactly this staple; nothing was written.
    AlreadyServed,
    /// HAProxy took it.
    Installed {
        /// Whether stapling had to be switched on by a transaction.
        enabled: bool,
        /// How that is known.
        proof: Proof,
    },
    /// HAProxy holds a later one, which nobody has verified; nothing was written.
    HoldsNewer(HeldResponse),
    /// It is not installed.
    Failed(InstallError),
}

/// How it is known that HAProxy holds a staple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It was read back.
    ReadBack,
    /// HAProxy said so; before 2.5 there is no way to read it back.
    Reply,
}

/// Brings one staple into HAProxy.
///
/// `entries` is the survey's list of entries; it is renewed when it proves to be out of date. HAProxy before 2.5 does
/// not show what it holds: there, every call writes, and the caller remembers what it installed in which process.
///
/// Await it to its end: a transaction that is dropped half-way stays open.
pub async fn reconcile(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
    now: Timestamp,
) -> Outcome {
    reconcile_many(api, process, entries, std::slice::from_ref(one), now)
        .await
        .pop()
        .unwrap_or(Outcome::Failed(InstallError::NoEntry))
}

/// Brings staples into HAProxy, one after the other, and reads them back. One outcome for each installation, in their
/// order.
pub async fn reconcile_many(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    installations: &[Installation<'_>],
    now: Timestamp,
) -> Vec<Outcome> {
    let mut steps = Vec::with_capacity(installations.len());
    let held = shown(api, process, entries.as_ref(), installations.iter()).await;
    for one in installations {
        steps.push(
            write(api, process, entries, one, &held, now)
                .await
                .unwrap_or_else(|error| Step::Done(Outcome::Failed(error))),
        );
    }
    let enabled = installations.iter().zip(&steps).filter(|(_, step)| matches!(step, Step::Enabled));
    note_entries(api, process, entries, enabled.map(|(one, _)| one).collect()).await;
    let mut outcomes = Vec::with_capacity(installations.len());
    let written = installations.iter().zip(&steps).filter(|(_, step)| !matches!(step, Step::Done(_)));
    let held = shown(api, process, entries.as_ref(), written.map(|(one, _)| one)).await;
    for (one, step) in installations.iter().zip(steps) {
        let enabled = matches!(step, Step::Enabled);
        outcomes.push(match step {
            Step::Done(outcome) => outcome,
            Step::Pushed | Step::Enabled if held.has(&one.staple) => {
                Outcome::Installed { enabled, proof: Proof::ReadBack }
            }
            Step::Pushed | Step::Enabled => match read_back(api, process, entries, one).await {
                Ok(proof) => Outcome::Installed { enabled, proof },
                Err(error) => Outcome::Failed(error),
            },
        });
    }
    outcomes
}

/// What the entries of these hold, asked for together: one exchange each would be most of the work. Of a single one it is
/// asked when it is needed.
async fn shown<'a>(
    api: &impl RuntimeApi,
    process: &Process,
    entries: Option<&Entries>,
    installations: impl Iterator<Item = &'a Installation<'a>>,
) -> Shown {
    let known: Vec<&EntryName> = installations.filter_map(|one| entries?.find(one.id)).collect();
    if known.len() > 1 { session::shown(api, process, &known).await } else { Shown::default() }
}

enum Step {
    Done(Outcome),
    /// Written into an entry.
    Pushed,
    /// Switched on by a transaction.
    Enabled,
}

async fn write(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
    held: &Shown,
    now: Timestamp,
) -> Result<Step, InstallError> {
    let staple = &one.staple;
    let bytes = staple.der.len();
    if bytes > response_limit(one.name, DEFAULT_BUFFER) {
        // Rare enough to ask each time whether somebody made room for it.
        let limit = response_limit(one.name, session::buffer_size(api).await?);
        if bytes > limit {
            return Err(InstallError::TooLarge { bytes, limit });
        }
    }
    // It would replace the one before it and never be served.
    if between(now, staple.next_update) <= SKEW {
        return Err(InstallError::Expired { next_update: Some(staple.next_update) });
    }
    if !process.version.lists_entries() {
        if one.stapling == Stapling::Off {
            return enable(api, process, one).await;
        }
        return match push(api, staple).await {
            Ok(()) => Ok(Step::Pushed),
            Err(InstallError::CertIdUnknown) => {
                is_still_there(api, one).await?;
                enable(api, process, one).await
            }
            Err(error) => Err(error),
        };
    }
    if one.stapling != Stapling::Off && held.has(staple) {
        return Ok(Step::Done(Outcome::AlreadyServed));
    }
    let was_listed = entries.as_ref().is_some_and(|list| list.find(one.id).is_some());
    match current(api, process, entries, one).await? {
        None => {
            if was_listed {
                is_still_there(api, one).await?;
            }
            enable(api, process, one).await
        }
        Some(Held::Response(held)) if held.is_newer_than(staple) && one.overwrite == OverwritePolicy::KeepNewer => {
            Ok(Step::Done(Outcome::HoldsNewer(held)))
        }
        // The entry is another name's: this one is not stapled yet.
        Some(_) if one.stapling == Stapling::Off => enable(api, process, one).await,
        Some(Held::Response(held)) if held.is(staple) => Ok(Step::Done(Outcome::AlreadyServed)),
        Some(_) => push(api, staple).await.map(|()| Step::Pushed).inspect_err(|error| {
            if *error == InstallError::CertIdUnknown {
                *entries = None;
            }
        }),
    }
}

/// An entry that is gone may have gone with its certificate, which somebody replaced at run time: another one's response
/// would switch stapling on for nothing.
async fn is_still_there(api: &impl RuntimeApi, one: &Installation<'_>) -> Result<(), InstallError> {
    for command in Command::show_certificate_details([one.name]) {
        let details = Details::parse(&session::exchange_unlocked(api, &command).await?);
        let serial_number = details.get(one.name).and_then(Details::serial_number);
        // 2.2 does not show the parts of a bundle.
        if serial_number.is_some_and(|shown| *shown != one.id.serial_number) {
            return Err(InstallError::CertIdUnknown);
        }
    }
    Ok(())
}

/// What HAProxy holds for the CertID; none if it has no entry.
async fn current(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
) -> Result<Option<Held>, InstallError> {
    let known = entries.is_some();
    if let Some(entry) = find(api, entries, one.id).await? {
        if let Some(held) = session::held(api, process, &entry).await? {
            return Ok(Some(held));
        }
        // The list is out of date: HAProxy dropped the entry.
        *entries = None;
        if known && let Some(entry) = find(api, entries, one.id).await? {
            return Ok(session::held(api, process, &entry).await?);
        }
    }
    Ok(None)
}

async fn find(
    api: &impl RuntimeApi,
    entries: &mut Option<Entries>,
    id: &CertIdKey,
) -> Result<Option<EntryName>, InstallError> {
    let list = match entries {
        Some(list) => list,
        None => entries.insert(session::list_entries(api).await?),
    };
    Ok(list.find(id).cloned())
}

/// Takes note of the entries that were just made, without listing all there are: among ten thousand, that would be most
/// of the work. What cannot be found out this way is listed when it is needed.
async fn note_entries(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    enabled: Vec<&Installation<'_>>,
) {
    let Some(list) = entries else { return };
    if process.version.shows_der() {
        enabled.iter().for_each(|one| list.note(one.id, EntryName::Certificate(one.name.to_owned())));
    } else if process.version.lists_entries() {
        // 2.5 to 2.7 do not look an entry up by the certificate's name, and show its key with the certificate.
        for command in Command::show_certificate_details(enabled.iter().map(|one| one.name)) {
            let Ok(reply) = session::exchange_unlocked(api, &command).await else { continue };
            let details = Details::parse(&reply);
            for one in &enabled {
                if let Some(key) = details.get(one.name).and_then(Details::entry_key) {
                    list.note(one.id, EntryName::Key(key.to_owned()));
                }
            }
        }
    }
}

async fn push(api: &impl RuntimeApi, staple: &StapleView<'_>) -> Result<(), InstallError> {
    let command = Command::set_response(staple.der);
    let reply = api.exchange(&command).await?;
    if reply.trim() == "OCSP Response updated!" { Ok(()) } else { Err(InstallError::from_reply(&command, &reply)) }
}

async fn read_back(
    api: &impl RuntimeApi,
    process: &Process,
    entries: &mut Option<Entries>,
    one: &Installation<'_>,
) -> Result<Proof, InstallError> {
    if !process.version.lists_entries() {
        return Ok(Proof::Reply);
    }
    match current(api, process, entries, one).await? {
        None => Err(InstallError::NoEntry),
        Some(Held::Response(held)) if held.is(&one.staple) => Ok(Proof::ReadBack),
        Some(Held::Response(held)) => {
            Err(InstallError::ReadBack { held: format!("one with thisUpdate {}", held.this_update) })
        }
        Some(Held::Nothing) => Err(InstallError::ReadBack { held: "none".to_owned() }),
        Some(Held::Unreadable) => Err(InstallError::ReadBack { held: "something unreadable".to_owned() }),
    }
}

/// Switches stapling on: a transaction that gives the certificate the response, and the issuer where HAProxy cannot
/// find it. The private key stays where it is.
///
/// HAProxy has one transaction for everyone. None but our own is ever committed or aborted. The response goes first: it
/// is by the response that one which a crash of ours left open is known again.
async fn enable(api: &impl RuntimeApi, process: &Process, one: &Installation<'_>) -> Result<Step, InstallError> {
    let response = Command::set_certificate_response(one.name, one.staple.der)?;
    let issuer = match one.issuer {
        IssuerKnowledge::InChain => None,
        IssuerKnowledge::Told(issuer) => Some(Command::set_certificate_issuer(one.name, issuer.der())?),
    };
    if let Some(by) = session::open_transaction(api).await? {
        return Err(InstallError::Busy { by: Some(by) });
    }
    let mut steps = [&response].into_iter().chain(&issuer);
    let Some(first) = steps.next() else { return Err(InstallError::NoEntry) };
    let reply = session::exchange_unlocked(api, first).await?;
    let name = match opened(&reply) {
        Opened::New(certificate) if process.is_name_of(certificate, one.name) => certificate.to_owned(),
        Opened::New(certificate) => {
            // HAProxy understood another name than was meant. It is ours all the same: we created it.
            let _ = abort(api, certificate).await;
            return Err(InstallError::UnexpectedReply { command: first.to_string(), reply: excerpt(&reply) });
        }
        Opened::Updated(certificate) => {
            return Err(InstallError::ForeignTransaction { certificate: certificate.to_owned() });
        }
        Opened::Not => return Err(refused(first, issuer.as_ref(), &reply)),
    };
    for step in steps {
        let refusal = match session::exchange_unlocked(api, step).await {
            Ok(reply) => match opened(&reply) {
                Opened::Updated(certificate) if certificate == name => continue,
                // Ours is gone already, and another took its place.
                Opened::Updated(certificate) => {
                    return Err(InstallError::ForeignTransaction { certificate: certificate.to_owned() });
                }
                Opened::New(_) | Opened::Not => refused(step, issuer.as_ref(), &reply),
            },
            Err(error) => error.into(),
        };
        // The first refusal is the one to tell.
        let _ = abort(api, &name).await;
        return Err(refusal);
    }
    commit(api, process, &name).await
}

/// What the reply to a step says about the transaction.
enum Opened<'a> {
    /// It was created: it is ours.
    New(&'a str),
    /// It was there before: at the first step, it is someone else's.
    Updated(&'a str),
    /// Neither.
    Not,
}

fn opened(reply: &str) -> Opened<'_> {
    let about = |verb: &str| {
        last_line(reply)?
            .strip_prefix("Transaction ")?
            .strip_prefix(verb)?
            .strip_prefix(" for certificate ")?
            .strip_suffix('!')
    };
    match (about("created"), about("updated")) {
        (Some(certificate), _) => Opened::New(certificate),
        (None, Some(certificate)) => Opened::Updated(certificate),
        (None, None) => Opened::Not,
    }
}

fn last_line(reply: &str) -> Option<&str> {
    reply.lines().rfind(|line| !line.trim().is_empty())
}

fn refused(command: &Command, issuer: Option<&Command>, reply: &str) -> InstallError {
    match InstallError::from_reply(command, reply) {
        InstallError::UnexpectedReply { reply, .. } if issuer == Some(command) => InstallError::IssuerRefused { reply },
        error => error,
    }
}

async fn abort(api: &impl RuntimeApi, name: &str) -> Result<(), InstallError> {
    session::exchange_unlocked(api, &Command::abort(name)?).await?;
    Ok(())
}

async fn commit(api: &impl RuntimeApi, process: &Process, name: &str) -> Result<Step, InstallError> {
    let command = Command::commit(name)?;
    let reply = match session::exchange_unlocked(api, &command).await {
        // Nothing was tried: the transaction is still open, and would be in everybody's way.
        Err(HaproxyError::Locked) => {
            let _ = abort(api, name).await;
            return Err(HaproxyError::Locked.into());
        }
        reply => reply?,
    };
    if reply.trim_end().ends_with("Success!") {
        // `Loading: … Content will be ignored.`: there is an entry now, and it is empty.
        return match reply.lines().find(|line| line.contains("Content will be ignored")) {
            Some(complaint) => Err(InstallError::from_reply(&command, complaint)),
            None => Ok(Step::Enabled),
        };
    }
    // 2.6 and later drop the transaction by themselves. 2.2 keeps it, and aborting it then crashes HAProxy.
    if process.version.is_at_least(2, 4) && !process.version.is_at_least(2, 6) {
        let _ = abort(api, name).await;
    }
    Err(InstallError::CommitFailed { reply: excerpt(&reply) })
}

impl From<HaproxyError> for InstallError {
    fn from(error: HaproxyError) -> Self {
        match error {
            HaproxyError::Socket(error) => Self::Socket(error),
            HaproxyError::Level { .. } => Self::PermissionDenied,
            HaproxyError::Locked => Self::Busy { by: None },
            HaproxyError::NoOcspSupport => Self::NoOcspSupport,
            HaproxyError::UnexpectedReply { command, reply } => Self::UnexpectedReply { command, reply },
            HaproxyError::LeavingProcess { pid } => {
                Self::UnexpectedReply { command: "show info".to_owned(), reply: format!("process {pid} is leaving") }
            }
        }
    }
}
