//! Switching stapling on: one transaction a certificate, one after the other.
//!
//! HAProxy has one transaction for everyone. None but our own is ever committed or aborted.

use super::command::Command;
use super::install::{Installation, IssuerKnowledge};
use super::process::{Process, Version};
use super::refusal::{InstallError, excerpt};
use super::session::{self, HaproxyError, LOCKED};
use super::socket::{RuntimeApi, SocketError};

/// Switches stapling on for all of these: a transaction each, which gives the certificate the response, and the issuer
/// where HAProxy cannot find it. The private key stays where it is. One result for each, in their order.
///
/// Await it to its end: a transaction that is dropped half-way stays open.
pub(super) async fn enable(
    api: &impl RuntimeApi,
    process: &Process,
    installations: &[&Installation<'_>],
) -> Vec<Result<(), InstallError>> {
    let api = Transactions { api, process, step: Step::of(&process.version) };
    let mut results = Vec::with_capacity(installations.len());
    let mut open: Option<Open> = None;
    for one in installations {
        let (committed, opened) = match Commands::new(one) {
            Ok(commands) => api.go_on(open.take(), one.name, &commands).await,
            Err(error) => (api.end(open.take()).await, Err(error)),
        };
        results.extend(committed);
        match opened {
            Ok(ours) => open = Some(ours),
            Err(error) => results.push(Err(error)),
        }
    }
    results.extend(api.end(open).await);
    results
}

/// A transaction that we created, by HAProxy's name for its certificate. All that is left to do is to commit it.
struct Open {
    certificate: String,
}

/// What a transaction is made of.
struct Commands {
    /// The response goes first: it is by the response that a transaction which a crash of ours left open is known again.
    response: Command,
    issuer: Option<Command>,
}

impl Commands {
    fn new(one: &Installation<'_>) -> Result<Self, InstallError> {
        let response = Command::set_certificate_response(one.name, one.staple.der)?;
        let issuer = match one.issuer {
            IssuerKnowledge::InChain => None,
            IssuerKnowledge::Told(issuer) => Some(Command::set_certificate_issuer(one.name, issuer.der())?),
        };
        Ok(Self { response, issuer })
    }
}

/// How far one request leads from a transaction to the next: each exchange takes its time, and nobody else can open one meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Only to the end of the transaction. The journal of HAProxy 2.2 and 2.3 goes right before a commit and comes back
    /// right after the question, each alone.
    Commit,
    /// To the question whether anybody has opened one since: HAProxy 2.4 to 3.0 may mix two transactions, unless a point
    /// release was repaired.
    Question,
    /// Into the next one: HAProxy 3.1 and later refuse to mix two.
    Open,
}

impl Step {
    fn of(version: &Version) -> Self {
        if version.is_at_least(3, 1) {
            Self::Open
        } else if version.is_at_least(2, 4) {
            Self::Question
        } else {
            Self::Commit
        }
    }
}

struct Transactions<'a, A> {
    api: &'a A,
    process: &'a Process,
    step: Step,
}

impl<A: RuntimeApi> Transactions<'_, A> {
    /// Commits what is open, if anything is, and opens the next one. What became of the first, and of the second.
    async fn go_on(
        &self,
        open: Option<Open>,
        name: &str,
        commands: &Commands,
    ) -> (Option<Result<(), InstallError>>, Result<Open, InstallError>) {
        let Some(open) = open else { return (None, self.begin(name, commands).await) };
        let question = Command::ask_for_transaction();
        let next = match self.step {
            Step::Commit => None,
            Step::Question => Some(&question),
            Step::Open => Some(&commands.response),
        };
        let both = next.and_then(|next| Command::commit(&open.certificate).ok()?.then(next));
        let Some(both) = both else { return self.one_by_one(&open, name, commands).await };
        let reply = match self.api.exchange(&both).await {
            Ok(reply) => reply,
            // Another command would but wait as long.
            Err(error @ SocketError::Timeout { .. }) => {
                return (Some(Err(error.clone().into())), Err(error.into()));
            }
            Err(error) => {
                // Torn off, by a reload or for its length. The first error is the one to tell.
                let (committed, opened) = self.one_by_one(&open, name, commands).await;
                return (committed.map(|committed| committed.map_err(|_| error.into())), opened);
            }
        };
        let Some((commit, answer)) = split(&reply) else {
            // Locked, or too long together: HAProxy says again what became of them.
            return self.one_by_one(&open, name, commands).await;
        };
        let committed = self.committed(&open, commit).await;
        let opened = match self.step {
            Step::Open if !answer.contains(LOCKED) => self.opened(name, commands, answer).await,
            Step::Question if question.is_answered_by_none(answer) => self.open(name, commands).await,
            // It is asked again, and then it tells whose transaction is in the way.
            Step::Open | Step::Question | Step::Commit => self.begin(name, commands).await,
        };
        (Some(committed), opened)
    }

    /// The same in a request each.
    async fn one_by_one(
        &self,
        open: &Open,
        name: &str,
        commands: &Commands,
    ) -> (Option<Result<(), InstallError>>, Result<Open, InstallError>) {
        let committed = self.commit(open).await;
        (Some(committed), self.begin(name, commands).await)
    }

    /// Commits what is open, if anything is.
    async fn end(&self, open: Option<Open>) -> Option<Result<(), InstallError>> {
        Some(self.commit(&open?).await)
    }

    /// Opens a transaction, if nobody has one.
    async fn begin(&self, name: &str, commands: &Commands) -> Result<Open, InstallError> {
        if let Some(by) = session::open_transaction(self.api).await? {
            return Err(InstallError::Busy { by: Some(by) });
        }
        self.open(name, commands).await
    }

    async fn open(&self, name: &str, commands: &Commands) -> Result<Open, InstallError> {
        let reply = session::exchange_unlocked(self.api, &commands.response).await?;
        self.opened(name, commands, &reply).await
    }

    /// Goes on from the reply to the first step.
    async fn opened(&self, name: &str, commands: &Commands, reply: &str) -> Result<Open, InstallError> {
        let first = &commands.response;
        let open = match Said::of(reply) {
            Said::Created(certificate) => Open { certificate: certificate.to_owned() },
            Said::Updated(certificate) => {
                return Err(InstallError::ForeignTransaction { certificate: certificate.to_owned() });
            }
            Said::Neither => return Err(InstallError::from_reply(first, reply)),
        };
        if !self.process.is_name_of(&open.certificate, name) {
            // HAProxy understood another name than was meant. It is ours all the same: we created it.
            let _ = self.abort(&open).await;
            return Err(InstallError::UnexpectedReply { command: first.to_string(), reply: excerpt(reply) });
        }
        let Some(issuer) = &commands.issuer else { return Ok(open) };
        let refusal = match session::exchange_unlocked(self.api, issuer).await {
            Ok(reply) => match Said::of(&reply) {
                Said::Updated(certificate) if certificate == open.certificate => return Ok(open),
                // Ours is gone already, and another took its place.
                Said::Updated(certificate) => {
                    return Err(InstallError::ForeignTransaction { certificate: certificate.to_owned() });
                }
                Said::Created(_) | Said::Neither => issuer_refused(issuer, &reply),
            },
            Err(error) => error.into(),
        };
        // The first refusal is the one to tell.
        let _ = self.abort(&open).await;
        Err(refusal)
    }

    async fn abort(&self, open: &Open) -> Result<(), InstallError> {
        session::exchange_unlocked(self.api, &Command::abort(&open.certificate)?).await?;
        Ok(())
    }

    async fn commit(&self, open: &Open) -> Result<(), InstallError> {
        let command = Command::commit(&open.certificate)?;
        match session::exchange_unlocked(self.api, &command).await {
            // Nothing was tried: the transaction is still open, and would be in everybody's way.
            Err(HaproxyError::Locked) => {
                let _ = self.abort(open).await;
                Err(HaproxyError::Locked.into())
            }
            reply => self.committed(open, &reply?).await,
        }
    }

    /// What the reply to a commit that was tried says.
    async fn committed(&self, open: &Open, reply: &str) -> Result<(), InstallError> {
        if reply.trim_end().ends_with(SUCCESS) {
            // `Loading: … Content will be ignored.`: there is an entry now, and it is empty.
            return match reply.lines().find(|line| line.contains("Content will be ignored")) {
                Some(complaint) => Err(InstallError::from_reply(&Command::commit(&open.certificate)?, complaint)),
                None => Ok(()),
            };
        }
        // 2.6 and later drop the transaction by themselves. 2.2 keeps it, and aborting it then crashes HAProxy.
        let version = &self.process.version;
        if version.is_at_least(2, 4) && !version.is_at_least(2, 6) {
            let _ = self.abort(open).await;
        }
        Err(InstallError::CommitFailed { reply: excerpt(reply) })
    }
}

const SUCCESS: &str = "Success!";
const FAILED: &str = "Failed!";

/// The reply to a commit that was tried, and what came after it. Before its success HAProxy may say more than a line.
fn split(reply: &str) -> Option<(&str, &str)> {
    let end = [SUCCESS, FAILED].iter().find_map(|word| {
        let mut lines = reply.split_inclusive('\n').scan(0, |end, line| {
            *end += line.len();
            Some((*end, line))
        });
        // A certificate may be called like that, and is named at the end of what is said about its transaction.
        let is_end = |line: &str| line.trim_end().ends_with(word) && !line.starts_with("Transaction ");
        lines.find_map(|(end, line)| is_end(line).then_some(end))
    });
    match (end, Said::of(reply)) {
        (Some(end), _) => reply.split_at_checked(end),
        // However the commit was refused, the next one is ours, or somebody else's.
        (None, Said::Created(_) | Said::Updated(_)) => Some((reply, reply)),
        (None, Said::Neither) => None,
    }
}

/// What the reply to a step says about the transaction.
enum Said<'a> {
    /// It was created: it is ours.
    Created(&'a str),
    /// It was there before: at the first step, it is someone else's.
    Updated(&'a str),
    /// Neither.
    Neither,
}

impl<'a> Said<'a> {
    fn of(reply: &'a str) -> Self {
        let last = reply.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let about = |verb: &str| {
            last.strip_prefix("Transaction ")?.strip_prefix(verb)?.strip_prefix(" for certificate ")?.strip_suffix('!')
        };
        match (about("created"), about("updated")) {
            (Some(certificate), _) => Self::Created(certificate),
            (None, Some(certificate)) => Self::Updated(certificate),
            (None, None) => Self::Neither,
        }
    }
}

fn issuer_refused(command: &Command, reply: &str) -> InstallError {
    match InstallError::from_reply(command, reply) {
        InstallError::UnexpectedReply { reply, .. } => InstallError::IssuerRefused { reply },
        error => error,
    }
}
