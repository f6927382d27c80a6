//! Clients of the HTTP side that never finish, never stop or never read: they cost a bounded piece of memory, and keep
//! nobody from `/healthz`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::site::{plain, wait_for_state};
use crate::support::stapler::{Stapler, http_get};
use crate::support::{PATIENCE, wait_for};

/// Rows that make `/status` a page of some megabytes.
const ROWS: usize = 4000;
const MOST_MEMORY: u64 = 150;
/// Renderings of a page that exist at once, in MiB; one for each connection would be three times as much.
const MOST_SHARED: u64 = 120;

/// The program with a directory of files that are no certificates, and no HAProxy.
fn stapler() -> (Stapler, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..ROWS {
        fs::write(directory.path().join(format!("nothing-{number:04}.pem")), "nothing").unwrap();
    }
    let mut stapler = plain().env("STAPLER_CERTS", directory.path()).env("STAPLER_SOCKETS", "/nowhere.sock").start();
    wait_for_state(&mut stapler, "/nothing-0000.pem", "unreadable");
    (stapler, directory)
}

fn connect(stapler: &Stapler) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stapler.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

fn assert_healthy(stapler: &Stapler) {
    let start = Instant::now();
    let reply = http_get(stapler.port(), "/healthz").unwrap();
    let took = start.elapsed();
    assert!(reply.status == 200 && took < PATIENCE, "{} after {took:?}", reply.status);
    eprintln!("/healthz answers after {took:?}");
}

/// How many connections it holds: its files, less those it has anyway.
fn open_files(stapler: &mut Stapler) -> usize {
    fs::read_dir(format!("/proc/{}/fd", stapler.process().pid())).unwrap().count()
}

/// Whether the server has closed it, with or without a last word.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    match stream.read(&mut [0; 4096]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn a_thousand_slow_clients_keep_nobody_out_and_are_closed() {
    let (mut stapler, _directory) = stapler();
    let before = open_files(&mut stapler);
    let mut slow: Vec<TcpStream> = (0..1000).map(|_| connect(&stapler)).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let start: &[u8] = [b"".as_slice(), b"GET /metrics HT", b"GET / HTTP/1.1\r\nX-Slow: "][number % 3];
        // The oldest are closed by now.
        let _ = stream.write_all(start);
        if number % 100 == 0 {
            assert_healthy(&stapler);
        }
    }
    assert_healthy(&stapler);
    let held = open_files(&mut stapler) - before;
    assert!(held <= 130, "{held} connections");
    let start = Instant::now();
    // A byte now and then helps nobody: a head has ten seconds.
    wait_for("the slow ones to be closed", PATIENCE, || {
        slow.retain_mut(|stream| {
            let _ = stream.write_all(b"x");
            !is_closed(stream)
        });
        slow.is_empty().then_some(())
    });
    eprintln!("1000 slow clients were closed after {:?}", start.elapsed());
    assert_healthy(&stapler);
    assert!(stapler.process().peak_memory() < MOST_MEMORY);
    assert!(stapler.stop().success());
}

#[test]
fn a_huge_head_is_refused() {
    let (stapler, _directory) = stapler();
    for head in [
        format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(10_000)),
    ] {
        let mut stream = connect(&stapler);
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        // What it did not read is answered by a reset, which may overtake its words.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_healthy(&stapler);
    }
}

#[test]
fn a_body_is_not_read() {
    let (mut stapler, _directory) = stapler();
    let mut stream = connect(&stapler);
    stream.write_all(b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n").unwrap();
    let mut sent = 0_u64;
    while stream.write_all(&[0; 1 << 16]).is_ok() && sent < 1 << 30 {
        sent += 1 << 16;
    }
    assert!(sent < 1 << 28, "{sent} bytes of a body that nobody wants");
    assert_healthy(&stapler);
    assert!(stapler.process().peak_memory() < MOST_MEMORY);
}

#[test]
fn clients_that_ask_and_do_not_read_share_what_they_are_given() {
    let (mut stapler, _directory) = stapler();
    let page = stapler.get("/status").body.len();
    assert!(page > 1 << 20, "{page} bytes");
    let alone = stapler.process().peak_memory();
    let start = Instant::now();
    let mut readers: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut stream = connect(&stapler);
        // Some ask a thousand times over.
        let times = if number % 10 == 0 { 1000 } else { 1 };
        let _ = stream.write_all("GET /status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(times).as_bytes());
        readers.push(stream);
    }
    assert_healthy(&stapler);
    let reply = http_get(stapler.port(), "/status").unwrap();
    assert_eq!(reply.json()["certificates"].as_array().unwrap().len(), ROWS);
    let memory = stapler.process().peak_memory();
    let (count, size) = (readers.len(), page >> 10);
    eprintln!("{alone} MiB for one reader of {size} KiB, {memory} MiB for {count}");
    assert!(memory < alone + MOST_SHARED, "{memory} MiB, and {alone} MiB for one reader");
    // A connection lives half a minute, and its last reply has ten seconds more.
    let base = open_files(&mut stapler);
    wait_for("those who do not read to be closed", 2 * PATIENCE, || {
        (open_files(&mut stapler) + 50 < base).then_some(())
    });
    eprintln!("those who do not read were closed after {:?}", start.elapsed());
    assert!(stapler.stop().success());
}

#[test]
fn searches_that_nobody_reads_cost_a_page_each_and_keep_nobody_out() {
    let (mut stapler, _directory) = stapler();
    let page = stapler.get("/?q=nothing").body.len();
    let alone = stapler.process().peak_memory();
    let start = Instant::now();
    let mut readers: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut stream = connect(&stapler);
        // No two of them ask for the same, so that nothing is shared.
        let ask = |index: usize| {
            let (page, garbage) = (number % 80 + 1, "%3Cä".repeat(index % 7));
            format!("GET /?page={page}&q=nothing-{}&x={garbage} HTTP/1.1\r\nHost: x\r\n\r\n", index % 10)
        };
        let times = if number % 10 == 0 { 500 } else { 1 };
        let _ = stream.write_all((number..number + times).map(ask).collect::<String>().as_bytes());
        readers.push(stream);
    }
    assert_healthy(&stapler);
    // Whoever asks for no selection waits for nobody who does.
    let first = http_get(stapler.port(), "/").unwrap();
    assert!(first.status == 200 && first.text().contains("1–50 of 4,000, worst first"), "{}", first.text());
    eprintln!("/ answers {:?} after the first of them", start.elapsed());
    let memory = stapler.process().peak_memory();
    eprintln!("{alone} MiB for one search of {} KiB, {memory} MiB for {}", page >> 10, readers.len());
    assert!(memory < alone + MOST_SHARED, "{memory} MiB, and {alone} MiB for one search");
    let last = http_get(stapler.port(), "/?q=nothing-3999").unwrap();
    assert!(last.text().contains("1–1 of 1, worst first"), "{}", last.text());
    eprintln!("a search answers {:?} after the first of them", start.elapsed());
    assert!(stapler.stop().success());
}
