//! Between the program and HAProxy's socket: passes everything on and remembers what was asked. It can hold something
//! back, for ever: the moment to kill the program.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// A socket in front of a socket.
pub(crate) struct Recorder {
    dir: TempDir,
    book: Arc<Mutex<Book>>,
}

/// What to hold back: the commands that start so, or only the replies to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Command(&'static str),
    Reply(&'static str),
}

#[derive(Default)]
struct Book {
    commands: Vec<String>,
    hold: Option<Hold>,
    /// How often something was held back.
    held: usize,
}

impl Recorder {
    /// Starts in front of `socket`.
    pub(crate) fn start(socket: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let book = Arc::new(Mutex::new(Book::default()));
        let (kept, socket) = (book.clone(), socket.to_owned());
        // It ends with the test's process; until then it waits for connections that do not come.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, book, socket) = (client.unwrap(), kept.clone(), socket.clone());
                std::thread::spawn(move || pass_on(&client, &socket, &book));
            }
        });
        Self { dir, book }
    }

    /// The address to give to the program.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Everything that was asked so far, in order.
    pub(crate) fn commands(&self) -> Vec<String> {
        lock(&self.book).commands.clone()
    }

    /// What to hold back from now on.
    pub(crate) fn hold(&self, hold: Option<Hold>) {
        lock(&self.book).hold = hold;
    }

    /// How often something was held back so far.
    pub(crate) fn held(&self) -> usize {
        lock(&self.book).held
    }

    /// The commands that change something, each by itself.
    pub(crate) fn writes(&self) -> Vec<String> {
        // A connection has its entry before it has said anything. What is asked to be aborted there cannot be.
        let is_write = |command: &String| {
            let reads = ["show ", "\n", "abort ssl cert /\n"];
            !command.is_empty() && !reads.iter().any(|read| command.starts_with(read))
        };
        self.commands().into_iter().flat_map(one_by_one).filter(is_write).collect()
    }
}

/// A commit and what was sent in one line with it.
fn one_by_one(request: String) -> Vec<String> {
    match request.split_once(';') {
        Some((commit, next)) if request.starts_with("commit ") => vec![format!("{commit}\n"), next.to_owned()],
        _ => vec![request],
    }
}

/// The commands of transactions among these. HAProxy before 2.5 does not list its entries, so that a response is offered
/// to it before stapling is switched on.
pub(crate) fn transactions(commands: &[String]) -> Vec<&String> {
    commands.iter().filter(|command| !command.starts_with("set ssl ocsp-response")).collect()
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_on(client: &UnixStream, socket: &Path, book: &Mutex<Book>) {
    // Without HAProxy the client sees the connection end, much as it would without us.
    let Ok(server) = UnixStream::connect(socket) else { return };
    let entry = {
        let mut book = lock(book);
        book.commands.push(String::new());
        book.commands.len() - 1
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            copy(client, &server, |bytes| {
                let mut book = lock(book);
                book.commands[entry].push_str(&String::from_utf8_lossy(bytes));
                book.is_held(entry, |hold| if let Hold::Command(start) = hold { Some(start) } else { None })
            });
        });
        copy(&server, client, |_| {
            lock(book).is_held(entry, |hold| if let Hold::Reply(start) = hold { Some(start) } else { None })
        });
        let _ = client.shutdown(Shutdown::Both);
    });
}

impl Book {
    fn is_held(&mut self, entry: usize, start: impl FnOnce(Hold) -> Option<&'static str>) -> bool {
        let held = self.hold.and_then(start).is_some_and(|start| self.commands[entry].starts_with(start));
        self.held += usize::from(held);
        held
    }
}

/// Passes bytes on until they end or are to be held back; then it waits for the end of the test's process.
fn copy(mut from: &UnixStream, mut to: &UnixStream, mut is_held: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while is_held(&buffer[..count]) {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
