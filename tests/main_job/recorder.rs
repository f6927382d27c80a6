//! Between the program and HAProxy's socket: passes everything on and remembers what was asked.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

/// A socket in front of a socket.
pub(crate) struct Recorder {
    dir: TempDir,
    commands: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Starts in front of `socket`.
    pub(crate) fn start(socket: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (book, socket) = (commands.clone(), socket.to_owned());
        // It ends with the test's process; until then it waits for connections that do not come.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, book, socket) = (client.unwrap(), book.clone(), socket.clone());
                std::thread::spawn(move || pass_on(&client, &socket, &book));
            }
        });
        Self { dir, commands }
    }

    /// The address to give to the program.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Everything that was asked so far, in order.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The commands that change something.
    pub(crate) fn writes(&self) -> Vec<String> {
        // A connection has its entry before it has said anything.
        let is_write =
            |command: &String| !command.is_empty() && !command.starts_with("show ") && !command.starts_with('\n');
        self.commands().into_iter().filter(is_write).collect()
    }
}

/// The commands of transactions among these. HAProxy before 2.5 does not list its entries, so that a response is offered
/// to it before stapling is switched on.
pub(crate) fn transactions(commands: &[String]) -> Vec<&String> {
    commands.iter().filter(|command| !command.starts_with("set ssl ocsp-response")).collect()
}

fn pass_on(client: &UnixStream, socket: &Path, book: &Mutex<Vec<String>>) {
    // Without HAProxy the client sees the connection end, much as it would without us.
    let Ok(server) = UnixStream::connect(socket) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let entry = {
                let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                book.push(String::new());
                book.len() - 1
            };
            copy(client, &server, |bytes| {
                book.lock().unwrap_or_else(PoisonError::into_inner)[entry].push_str(&String::from_utf8_lossy(bytes));
            });
        });
        copy(&server, client, |_| {});
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn copy(mut from: &UnixStream, mut to: &UnixStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
