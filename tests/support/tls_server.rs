//! `openssl s_server`: a TLS server that staples whatever it is told to.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use super::pki::Identity;
use super::process::Process;
use super::{PATIENCE, free_port, wait_for};

/// A server for one certificate, from its creation to its drop.
pub struct TlsServer {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl TlsServer {
    /// Serves `leaf` and its chain, stapling these bytes; `options` are s_server's own: `-tls1_2`.
    ///
    /// # Panics
    /// When it does not start, or OpenSSL is not installed.
    pub fn start(leaf: &Identity, staple: Option<&[u8]>, options: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).expect("write a file");
            path
        };
        let port = free_port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]).args(options);
        command.arg("-cert").arg(file("leaf.pem", leaf.pem().as_bytes()));
        command.arg("-key").arg(file("leaf.key", leaf.key_pem().as_bytes()));
        let chain: String = leaf.chain().iter().map(Identity::pem).collect();
        command.arg("-cert_chain").arg(file("chain.pem", chain.as_bytes()));
        if let Some(staple) = staple {
            command.arg("-status_file").arg(file("staple.der", staple));
        }
        let mut process = Process::start(&mut command, &dir.path().join("log"));
        wait_for("openssl s_server to listen", PATIENCE, || {
            if let Some(status) = process.exited() {
                panic!("openssl s_server ended with {status}");
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        Self { port, _process: process, _dir: dir }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}
