//! A HAProxy that says what it is told to, reply by reply, and then nothing more.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use haproxy_stapler::haproxy::{Address, Command, RuntimeApi, SocketError};

/// The replies still to come, and the conversation so far.
pub struct Script {
    replies: Mutex<VecDeque<String>>,
    said: Mutex<Vec<Exchange>>,
}

/// One command and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The line of commands, without what goes with it.
    pub command: String,
    /// Everything that was sent.
    pub sent: String,
    /// The reply; none if the connection broke.
    pub reply: Option<String>,
}

impl Exchange {
    /// The commands of the line, as HAProxy tells them apart.
    pub fn commands(&self) -> Vec<String> {
        let mut escaped = false;
        let mut commands = vec![String::new()];
        for letter in self.command.chars() {
            match letter {
                ';' if !escaped => commands.push(String::new()),
                _ => commands.last_mut().expect("never empty").push(letter),
            }
            escaped = letter == '\\' && !escaped;
        }
        commands
    }
}

impl Script {
    /// Replies with a NUL between them.
    pub fn new(input: &[u8]) -> Self {
        let replies = input.split(|byte| *byte == 0).map(|reply| String::from_utf8_lossy(reply).into_owned());
        Self { replies: Mutex::new(replies.collect()), said: Mutex::default() }
    }

    /// What was said, once it is over.
    pub fn conversation(self) -> Vec<Exchange> {
        let said = self.said.into_inner().unwrap_or_else(PoisonError::into_inner);
        said.iter().for_each(assert_one_line);
        said
    }

    /// Puts a reply before all that are still to come.
    pub fn reply_next(&self, reply: String) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push_front(reply);
    }
}

impl RuntimeApi for Script {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let reply = self.replies.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let sent = command.encode("");
        let first = sent.lines().next().unwrap_or_default().trim_end_matches(" <<").to_owned();
        let exchange = Exchange { command: first, sent, reply: reply.clone() };
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        let address = || "/script.sock".parse::<Address>().expect("an address");
        reply.ok_or_else(|| SocketError::Empty { address: address() })
    }
}

/// Nothing that HAProxy said becomes a command of its own: one line holds several questions of a kind, or a commit and what
/// comes after it.
fn assert_one_line(exchange: &Exchange) {
    let line = &exchange.command;
    let commands = exchange.commands();
    let asks = |kind: &str| commands.iter().all(|command| command.starts_with(kind));
    let goes_on = |command: &str| command == "abort ssl cert /" || command.starts_with("set ssl cert ");
    let is_meant = match &commands[..] {
        [_] => true,
        [commit, next] if commit.starts_with("commit ssl cert ") => goes_on(next),
        _ => asks("show ssl cert ") || asks("show ssl ocsp-response "),
    };
    assert!(is_meant, "{line:?}");
    let is_ours =
        ["show ", "set ssl ", "commit ssl cert ", "abort ssl cert "].iter().any(|verb| line.starts_with(verb));
    assert!(is_ours, "{line:?}");
}

/// Awaits something that waits for nothing but time, which is free here.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}
