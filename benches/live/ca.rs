//! A responder that costs next to nothing: it looks answers up by the serial number, waits, and writes.
//!
//! HTTP/1.1 by hand on one thread, with connections that stay open: what is measured is whoever asks.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::site::Leaf;

/// Listens on a loopback port from its creation to its drop.
pub struct Ca {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What was asked since the last [`Ca::open`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests.
    pub requests: u64,
    /// Connections.
    pub connections: u64,
    /// The most requests that waited for their answer at one time.
    pub peak_in_flight: u64,
}

#[derive(Default)]
struct Shared {
    answers: OnceLock<HashMap<Vec<u8>, Vec<u8>>>,
    latency_micros: AtomicU64,
    closed: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
}

impl Ca {
    /// Starts on a port of its own, without any answer.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ca")
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
        let address = listener.local_addr().expect("the address");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let shared = Arc::new(Shared::default());
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where it answers, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes the answers; once.
    pub fn knows(&mut self, leaves: &[Leaf]) {
        let http = |der: &[u8]| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: ";
            [format!("{head}{}\r\n\r\n", der.len()).as_bytes(), der].concat()
        };
        let answers = leaves.iter().map(|leaf| (leaf.identity.serial(), http(&leaf.answer))).collect();
        assert!(self.shared.answers.set(answers).is_ok(), "the answers are given once");
    }

    /// Answers after `latency` from now on, and counts anew.
    pub fn open(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).expect("a latency");
        self.shared.latency_micros.store(micros, Ordering::Relaxed);
        self.shared.closed.store(false, Ordering::Relaxed);
        for counter in [&self.shared.requests, &self.shared.connections, &self.shared.peak_in_flight] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Hangs up on everybody from now on, without an answer.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// What was asked.
    pub fn asked(&self) -> Asked {
        Asked {
            requests: self.shared.requests.load(Ordering::Relaxed),
            connections: self.shared.connections.load(Ordering::Relaxed),
            peak_in_flight: self.shared.peak_in_flight.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if !shared.closed.load(Ordering::Relaxed) {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    }
}

/// One connection to its end. Whoever sends what this does not understand is hung up on.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let request = next_request(&mut stream, &mut buffer).await?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if shared.closed.load(Ordering::Relaxed) {
            return None;
        }
        let answer = shared.answers.get()?.get(serial_asked_for(&request.der)?)?;
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let latency = Duration::from_micros(shared.latency_micros.load(Ordering::Relaxed));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        stream.write_all(answer).await.ok()?;
        if !request.keep_alive {
            return None;
        }
    }
}

struct Request {
    /// The OCSP request.
    der: Vec<u8>,
    keep_alive: bool,
}

/// Reads up to the end of one request and leaves in the buffer what comes after it.
async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = std::str::from_utf8(buffer.get(..head)?).ok()?.to_owned();
    let mut words = text.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let keep_alive = text.lines().next()?.ends_with("HTTP/1.1");
    let (der, end) = if method == "GET" {
        (from_path(target)?, head)
    } else {
        let length: usize = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
        })?;
        while buffer.len() < head + length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        (buffer.get(head..head + length)?.to_vec(), head + length)
    };
    buffer.drain(..end);
    Some(Request { der, keep_alive })
}

/// RFC 6960 appendix A.1: the base64 of the request, percent-encoded, is the last part of the path.
fn from_path(target: &str) -> Option<Vec<u8>> {
    let escaped = target.rsplit('/').next()?;
    let (mut base64, mut rest) = (String::with_capacity(escaped.len()), escaped);
    while let Some((plain, after)) = rest.split_once('%') {
        base64.push_str(plain);
        base64.push(char::from(u8::from_str_radix(after.get(..2)?, 16).ok()?));
        rest = after.get(2..)?;
    }
    base64.push_str(rest);
    openssl::base64::decode_block(&base64).ok()
}

/// The INTEGER after issuerKeyHash in the CertID, without leading zeros: both hashes are SHA-1 here, 20 bytes each.
fn serial_asked_for(request: &[u8]) -> Option<&[u8]> {
    const HASH: [u8; 2] = [0x04, 20];
    let name_hash = find(request, &HASH)?;
    let key_hash = name_hash + HASH.len() + 20;
    let serial = request.get(key_hash + HASH.len() + 20..)?;
    let (0x02, length) = (*serial.first()?, usize::from(*serial.get(1)?)) else { return None };
    let serial = serial.get(2..2 + length)?;
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
