//! The socket itself: one connection a command, read to its end.
//!
//! A connection is never kept: after a reload it would stay with the process that leaves, and what is installed there
//! succeeds without serving anybody.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Place};
use super::command::Command;
use super::process::Process;
use super::refusal::excerpt;

/// The longest reply that is read. 100 000 certificates list in less than half of it.
const REPLY_LIMIT: u64 = 64 * 1024 * 1024;

/// Why a command brought no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Any other reason not to connect.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Where.
        address: Address,
        /// The operating system's reason.
        reason: String,
    },
    /// HAProxy closed the connection without a word.
    #[error("{address} closed the connection without a reply")]
    Empty {
        /// Where.
        address: Address,
    },
    /// The connection broke.
    #[error("the connection to {address} broke: {reason}")]
    Io {
        /// Where.
        address: Address,
        /// The operating system's reason.
        reason: String,
    },
    /// There is a file, and it is none that anybody could listen on.
    #[error("{address} is no socket")]
    NotASocket {
        /// Where.
        address: Address,
    },
    /// There is no such file.
    #[error("there is no socket at {address}")]
    NotFound {
        /// Where.
        address: Address,
    },
    /// Something answers, and it is no HAProxy process.
    #[error("{address} does not answer as a HAProxy process does: {reply}")]
    NotHaproxy {
        /// Where.
        address: Address,
        /// The start of what it said.
        reply: String,
    },
    /// A master without a worker that serves.
    #[error("the HAProxy master at {address} has no worker: {reply}")]
    NoWorker {
        /// Where.
        address: Address,
        /// The start of what it said.
        reply: String,
    },
    /// The file's mode and owner keep this program out.
    #[error("{address} needs write permission for this program: permission denied")]
    PermissionDenied {
        /// Where.
        address: Address,
    },
    /// Nobody listens.
    #[error("nobody listens on {address}: connection refused")]
    Refused {
        /// Where.
        address: Address,
    },
    /// The deadline passed.
    #[error("{address} gave no complete reply within {after:?}")]
    Timeout {
        /// Where.
        address: Address,
        /// The deadline.
        after: Duration,
    },
    /// The reply does not end.
    #[error("{address} sent more than {limit} bytes")]
    TooLarge {
        /// Where.
        address: Address,
        /// How much was read.
        limit: u64,
    },
}

impl SocketError {
    /// A stable name for metric labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Empty { .. } => "empty",
            Self::Io { .. } => "io",
            Self::NotASocket { .. } => "not_a_socket",
            Self::NotFound { .. } => "not_found",
            Self::NotHaproxy { .. } => "not_haproxy",
            Self::NoWorker { .. } => "no_worker",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "Check the address and, for TCP, that the name resolves from here.",
            Self::Empty { .. } | Self::Io { .. } => {
                "HAProxy was restarting, or the command did not fit its buffers; the next pass tries again."
            }
            Self::NotFound { .. } => {
                "Check that HAProxy runs, that its `stats socket` line names this file, and that the file's directory \
                 is a volume that both containers mount."
            }
            Self::NotASocket { .. } => {
                "Point STAPLER_SOCKETS at the file that HAProxy's `stats socket` line names, and remove this one if it is \
                 in HAProxy's way."
            }
            Self::NotHaproxy { .. } => "Point STAPLER_SOCKETS at HAProxy's `stats socket` or master socket (`-S`).",
            Self::NoWorker { .. } => {
                "HAProxy is starting or reloading, or its configuration does not load: see its log."
            }
            Self::PermissionDenied { .. } => {
                "Add `mode 660` and a `group` that this program runs in to the `stats socket` line, and see that it \
                 may enter the directories above."
            }
            Self::Refused { .. } => "The socket is a left-over of a HAProxy that stopped; start HAProxy.",
            Self::Timeout { .. } => {
                "HAProxy is overloaded or stopped, or all connections of `stats maxconn` are taken."
            }
            Self::TooLarge { .. } => "Check that this is HAProxy's socket.",
        }
    }
}

/// The one seam between this program and HAProxy: a command goes in, its whole reply comes out.
pub trait RuntimeApi: Send + Sync + 'static {
    /// Sends `command` on a connection of its own and reads until HAProxy closes it. Bytes that are not UTF-8 come out
    /// as replacement characters.
    fn exchange(&self, command: &Command) -> impl Future<Output = Result<String, SocketError>> + Send;
}

/// How commands reach the worker behind a socket; a socket's first command finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// A `stats socket`: the process itself.
    Direct,
    /// A master socket (`-S`), which passes on what carries a prefix.
    Master,
}

impl Route {
    /// `@1` is the current worker, whatever its process id.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::Master => "@1 ",
        }
    }
}

/// Most replies fit, and are read at once.
const USUAL_REPLY: usize = 4096;

const UNKNOWN: u8 = 0;
const DIRECT: u8 = 1;
const MASTER: u8 = 2;

/// HAProxy's own socket: an admin socket or a master socket, which it finds out by itself.
#[derive(Debug)]
pub struct Socket {
    address: Address,
    timeout: Duration,
    route: AtomicU8,
}

impl Socket {
    /// A socket at `address`; `timeout` is the deadline of one command. Nothing is connected yet.
    #[must_use]
    pub const fn new(address: Address, timeout: Duration) -> Self {
        Self { address, timeout, route: AtomicU8::new(UNKNOWN) }
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the commands go through a master socket; none before the first one.
    #[must_use]
    pub fn is_master(&self) -> Option<bool> {
        self.route().map(|route| route == Route::Master)
    }

    fn route(&self) -> Option<Route> {
        match self.route.load(Ordering::Relaxed) {
            DIRECT => Some(Route::Direct),
            MASTER => Some(Route::Master),
            _ => None,
        }
    }

    /// A master does not know `show info` without a prefix.
    async fn find_route(&self) -> Result<Route, SocketError> {
        let mut reply = String::new();
        for (route, code) in [(Route::Direct, DIRECT), (Route::Master, MASTER)] {
            reply = self.once(&Command::show_info(), route).await?;
            if Process::parse(&reply).is_some() {
                self.route.store(code, Ordering::Relaxed);
                return Ok(route);
            }
        }
        Err(SocketError::NotHaproxy { address: self.address.clone(), reply: excerpt(&reply) })
    }

    async fn once(&self, command: &Command, route: Route) -> Result<String, SocketError> {
        let bytes = command.encode(route.prefix());
        let reply = tokio::time::timeout(self.timeout, self.connect_and_talk(bytes.as_bytes()))
            .await
            .map_err(|_| SocketError::Timeout { address: self.address.clone(), after: self.timeout })??;
        if route == Route::Master && reply.starts_with("Can't find the target") {
            return Err(SocketError::NoWorker { address: self.address.clone(), reply: excerpt(&reply) });
        }
        Ok(reply)
    }

    async fn connect_and_talk(&self, bytes: &[u8]) -> Result<String, SocketError> {
        match self.address.place() {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.not_connected(&error))?;
                self.talk(stream, bytes).await
            }
            Place::Tcp { host, port } => {
                let stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(|error| self.not_connected(&error))?;
                self.talk(stream, bytes).await
            }
        }
    }

    async fn talk(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Result<String, SocketError> {
        // HAProxy may refuse a long command before it has read all of it: the reason is in the reply.
        let sent = match stream.write_all(bytes).await {
            // The master never closes by itself, and a worker does not mind.
            Ok(()) => stream.shutdown().await,
            Err(error) => Err(error),
        };
        let mut reply = Vec::with_capacity(USUAL_REPLY);
        let received = stream.take(REPLY_LIMIT + 1).read_to_end(&mut reply).await;
        let broken = |error: io::Error| SocketError::Io { address: self.address.clone(), reason: error.to_string() };
        if u64::try_from(reply.len()).is_ok_and(|length| length > REPLY_LIMIT) {
            return Err(SocketError::TooLarge { address: self.address.clone(), limit: REPLY_LIMIT });
        }
        received.map_err(broken)?;
        if reply.is_empty() {
            sent.map_err(broken)?;
            return Err(SocketError::Empty { address: self.address.clone() });
        }
        Ok(String::from_utf8(reply).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn not_connected(&self, error: &io::Error) -> SocketError {
        let address = self.address.clone();
        match error.kind() {
            io::ErrorKind::NotFound => SocketError::NotFound { address },
            io::ErrorKind::PermissionDenied => SocketError::PermissionDenied { address },
            // To the system, a regular file refuses connections just as a socket does that nobody listens on.
            io::ErrorKind::ConnectionRefused if address.path().is_some_and(is_no_socket) => {
                SocketError::NotASocket { address }
            }
            io::ErrorKind::ConnectionRefused => SocketError::Refused { address },
            _ => SocketError::Connect { address, reason: error.to_string() },
        }
    }
}

fn is_no_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket())
}

impl RuntimeApi for Socket {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let route = match self.route() {
            Some(route) => route,
            None => self.find_route().await?,
        };
        let reply = self.once(command, route).await;
        // HAProxy may come back as another kind of process on the same path.
        if reply.as_ref().map_or(true, |reply| reply.starts_with("Unknown command")) {
            self.route.store(UNKNOWN, Ordering::Relaxed);
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    fn socket(path: &Path, timeout: Duration) -> Socket {
        Socket::new(path.to_str().unwrap().parse().unwrap(), timeout)
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_path_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let address: Address = path.to_str().unwrap().parse().unwrap();
        let ask = || async { socket(&path, Duration::from_secs(5)).exchange(&Command::show_info()).await };

        assert_eq!(ask().await, Err(SocketError::NotFound { address: address.clone() }));
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(ask().await, Err(SocketError::Refused { address: address.clone() }));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(ask().await, Err(SocketError::NotASocket { address: address.clone() }));
        std::fs::remove_file(&path).unwrap();

        let listener = UnixListener::bind(&path).unwrap();
        let hung = socket(&path, Duration::from_millis(50));
        let after = Duration::from_millis(50);
        let timeout = SocketError::Timeout { address: address.clone(), after };
        assert_eq!(hung.exchange(&Command::show_info()).await, Err(timeout));
        drop(listener);
    }

    #[tokio::test]
    async fn a_stranger_behind_the_socket_is_not_haproxy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let stranger = tokio::spawn(async move {
            for reply in [&b"220 mail.test\n"[..], b"220 mail.test\n", b""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut command = Vec::new();
                stream.read_to_end(&mut command).await.unwrap();
                stream.write_all(reply).await.unwrap();
            }
        });
        let socket = socket(&path, Duration::from_secs(5));
        let address = socket.address().clone();
        let refused = socket.exchange(&Command::show_info()).await;
        assert_eq!(refused, Err(SocketError::NotHaproxy { address: address.clone(), reply: "220 mail.test".into() }));
        assert_eq!(socket.exchange(&Command::show_info()).await, Err(SocketError::Empty { address }));
        assert_eq!(socket.is_master(), None);
        stranger.await.unwrap();
    }
}
