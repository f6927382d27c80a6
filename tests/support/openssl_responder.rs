//! `openssl ocsp` as a responder: an independent peer for the straight cases.
//!
//! It serves one request at a time, GET and POST, and can only listen on all interfaces.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::pki::Identity;
use super::process::Process;
use super::{PATIENCE, free_port, wait_for};

/// One `openssl ocsp` process for one CA and one signer. The URL is known before it is started, so that certificates
/// can carry it.
pub struct OpensslResponder {
    dir: TempDir,
    port: u16,
    days: u32,
    entries: BTreeMap<String, String>,
    process: Option<Process>,
}

impl OpensslResponder {
    /// For certificates of `ca`, with answers signed by `signer`: the CA itself or its delegate.
    pub fn new(ca: &Identity, signer: &Identity) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let write = |name: &str, content: &str| std::fs::write(dir.path().join(name), content).expect("write a file");
        write("ca.pem", &ca.pem());
        write("signer.pem", &signer.pem());
        write("signer.key", &signer.key_pem());
        Self { dir, port: free_port(), days: 7, entries: BTreeMap::new(), process: None }
    }

    /// What belongs into authorityInfoAccess.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Days until nextUpdate.
    pub fn days(mut self, days: u32) -> Self {
        self.days = days;
        self
    }

    /// Knows `leaf` as valid, from the next start on.
    pub fn good(&mut self, leaf: &Identity) -> &mut Self {
        self.enter(leaf, 'V', "")
    }

    /// Knows `leaf` as revoked, from the next start on.
    pub fn revoked(&mut self, leaf: &Identity) -> &mut Self {
        self.enter(leaf, 'R', "260101000000Z,keyCompromise")
    }

    fn enter(&mut self, leaf: &Identity, flag: char, revoked: &str) -> &mut Self {
        let serial = leaf.serial_hex();
        let line = format!("{flag}\t490101000000Z\t{revoked}\t{serial}\tunknown\t/CN={}\n", leaf.name());
        self.entries.insert(serial, line);
        self
    }

    /// Starts it, or starts it again with what it knows by now. What it does not know is `unknown`.
    pub fn start(&mut self) {
        self.stop();
        let index = self.entries.values().fold(String::new(), |mut text, line| {
            text.write_str(line).expect("a string grows");
            text
        });
        std::fs::write(self.path("index.txt"), index).expect("write the index");
        // The port may still be in the hands of the process that was just killed, or lent to a passing connection.
        let process = wait_for("openssl ocsp to listen", PATIENCE, || {
            let mut process = Process::start(&mut self.command(), &self.path("log"));
            loop {
                if process.exited().is_some() {
                    return None;
                }
                if process.log().contains("ACCEPT") || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                    return Some(process);
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-ignore_err", "-timeout", "5"]);
        command.args(["-port", &self.port.to_string(), "-ndays", &self.days.to_string()]);
        for (option, file) in
            [("-index", "index.txt"), ("-CA", "ca.pem"), ("-rsigner", "signer.pem"), ("-rkey", "signer.key")]
        {
            command.arg(option).arg(self.path(file));
        }
        command
    }

    /// Marks `leaf` as revoked and starts again.
    pub fn revoke(&mut self, leaf: &Identity) {
        self.revoked(leaf);
        self.start();
    }

    /// Ends it: connections are refused from now on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
