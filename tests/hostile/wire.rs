//! A server that breaks HTTP itself: silence, drips, floods, cuts, circles. It knows certificates by the first segment of
//! the path, and remembers when each was asked about.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What it does with a connection, once the request's head is read.
#[derive(Clone)]
pub enum Trick {
    /// Sends these bytes and closes.
    Says(Vec<u8>),
    /// Sends the first bytes, then the second ones over and over, this long apart.
    Repeats(Vec<u8>, Vec<u8>, Duration),
    /// Nothing.
    Silence,
    /// A reset, in the middle of the request.
    Reset,
    /// A redirect; `{n}` in it is another number each time.
    Leads(u16, String),
}

/// An answer with a status line, headers and a body.
pub fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let mut answer =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// 200 and a body.
pub fn ok(content_type: &str, body: &[u8]) -> Trick {
    Trick::Says(answer("200 OK", &[&format!("Content-Type: {content_type}")], body))
}

/// Listens from its creation to its drop.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tricks: Mutex<HashMap<String, Trick>>,
    asked: Mutex<Vec<(String, Instant)>>,
    over: AtomicBool,
}

impl Wire {
    /// On the loopback.
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// On an address of this machine.
    pub fn start_at(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.over.load(Ordering::Relaxed) {
                    break;
                }
                let server = Arc::clone(&server);
                // A client that goes away in the middle is what this server is for.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The responder's URL for one certificate.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// What it does from now on about one certificate. Without a trick, 404.
    pub fn set(&self, name: &str, trick: Trick) {
        self.shared.tricks.lock().unwrap().insert(name.to_owned(), trick);
    }

    /// When it was asked about one certificate.
    pub fn asked(&self, name: &str) -> Vec<Instant> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(about, _)| about == name).map(|(_, at)| *at).collect()
    }

    /// How often it was asked about anything.
    pub fn total(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // The listener notices with the next connection.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut start = [0; 4096];
        // Not taken out of the socket: what closes with unread bytes is reset.
        let length = stream.peek(&mut start)?;
        let start = String::from_utf8_lossy(&start[..length]).into_owned();
        let path = start.split(' ').nth(1).unwrap_or_default();
        let name = path.split('/').nth(1).unwrap_or_default().to_owned();
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((name.clone(), Instant::now()));
            asked.len()
        };
        let trick = self.tricks.lock().unwrap().get(&name).cloned();
        if matches!(trick, Some(Trick::Reset)) {
            return Ok(());
        }
        read_request(&mut stream)?;
        match trick.unwrap_or_else(|| Trick::Says(answer("404 Not Found", &[], b"nothing here\n"))) {
            Trick::Says(bytes) => stream.write_all(&bytes),
            Trick::Repeats(first, then, pause) => {
                stream.write_all(&first)?;
                while !self.over.load(Ordering::Relaxed) {
                    stream.write_all(&then)?;
                    thread::sleep(pause);
                }
                Ok(())
            }
            // Until the client has had enough.
            Trick::Silence => match stream.read(&mut [0]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            },
            Trick::Leads(status, location) => {
                let location = format!("Location: {}", location.replace("{n}", &number.to_string()));
                stream.write_all(&answer(&format!("{status} Elsewhere"), &[&location], b""))
            }
            Trick::Reset => Ok(()),
        }
    }
}

/// Reads a request with its body, so that closing resets nothing.
fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if request.len() >= head.len() + 4 + length.unwrap_or(0) {
                return Ok(());
            }
        }
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&piece[..count]),
        }
    }
}
