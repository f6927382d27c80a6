//! The shipped configurations on real servers, with this test's ports and directories where a person is told to edit.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::process::{Process, run};
use crate::support::stapler::{Builder, Reply, http_send};
use crate::support::{PATIENCE, free_port, wait_for};

const NGINX: &str = include_str!("../../caches/nginx.conf");
const VARNISH: &str = include_str!("../../caches/varnish.vcl");

/// The host that the shipped configurations let in.
pub(crate) const HOST: &str = "ocsp.ca.example";

/// Whose cache it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Varnish,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Nginx, Self::Varnish];
}

/// How sidecars find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is set as the responder.
    Responder,
    /// It is their HTTP proxy.
    Proxy,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::Responder, Self::Proxy];
}

/// A cache between the fleet and the CA at `authority`.
pub(crate) struct Cache {
    kind: Kind,
    responder_port: u16,
    proxy_port: u16,
    dir: TempDir,
    process: Process,
}

impl Cache {
    pub(crate) fn start(kind: Kind, authority: SocketAddr) -> Self {
        let dir = TempDir::new().unwrap();
        let responder_port = free_port();
        let (proxy_port, process) = match kind {
            Kind::Nginx => {
                let proxy_port = free_port();
                let config = nginx(dir.path(), authority, responder_port, proxy_port);
                std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
                (proxy_port, Process::start(&mut launch_nginx(dir.path()), &dir.path().join("log")))
            }
            Kind::Varnish => {
                std::fs::write(dir.path().join("varnish.vcl"), varnish(authority)).unwrap();
                let mut command = launch_varnish(dir.path(), responder_port);
                (responder_port, Process::start(&mut command, &dir.path().join("log")))
            }
        };
        let mut cache = Self { kind, responder_port, proxy_port, dir, process };
        cache.wait_until_up();
        cache
    }

    fn wait_until_up(&mut self) {
        wait_for("the cache to listen", PATIENCE, || {
            assert!(self.process.exited().is_none(), "{:?} ended: {}", self.kind, self.process.log());
            let ports = [self.responder_port, self.proxy_port];
            // Varnish listens before it serves.
            let serves = ports.iter().all(|port| http_send(*port, "GET / HTTP/1.0\r\nHost: nowhere\r\n\r\n").is_ok());
            serves.then_some(())
        });
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait(PATIENCE).expect("a cache ends on SIGTERM");
    }

    /// Starts it again, with whatever it kept.
    pub(crate) fn start_again(&mut self) {
        let mut command = match self.kind {
            Kind::Nginx => launch_nginx(self.dir.path()),
            Kind::Varnish => launch_varnish(self.dir.path(), self.responder_port),
        };
        self.process = Process::start(&mut command, &self.dir.path().join("log"));
        self.wait_until_up();
    }

    /// Has a sidecar go through it.
    pub(crate) fn lead(&self, way: Way, sidecar: Builder) -> Builder {
        match way {
            Way::Responder => {
                let url = format!("http://127.0.0.1:{}/{HOST}/", self.responder_port);
                sidecar.env("STAPLER_RESPONDERS", format!("{HOST}={url}"))
            }
            Way::Proxy => sidecar.env("HTTP_PROXY", format!("http://127.0.0.1:{}", self.proxy_port)),
        }
    }

    /// A request as a sidecar would send it for `path` at the CA, with one more header field or none.
    pub(crate) fn ask(&self, way: Way, method: &str, host: &str, path: &str, field: &str) -> Reply {
        let (port, target, to) = match way {
            Way::Responder => (self.responder_port, format!("/{host}{path}"), "cache.internal".to_owned()),
            Way::Proxy => (self.proxy_port, format!("http://{host}{path}"), host.to_owned()),
        };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{field}\r\n");
        http_send(port, &request).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Both have children of their own, which they end.
        self.process.signal("TERM");
        let _ = self.process.wait(PATIENCE);
    }
}

fn launch_nginx(dir: &Path) -> Command {
    let mut command = Command::new("nginx");
    // Who starts it as root has it serve as root: the directory is nobody else's.
    command.arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(dir).args(["-e", "stderr"]);
    command.args(["-g", "daemon off; user root root;"]);
    command
}

fn launch_varnish(dir: &Path, port: u16) -> Command {
    let mut command = Command::new("varnishd");
    command.args(["-F", "-j", "none", "-s", "malloc,16m", "-a", &format!("127.0.0.1:{port}")]);
    command.arg("-n").arg(dir.join("work")).arg("-f").arg(dir.join("varnish.vcl"));
    command
}

fn edited(text: &str, edits: &[(&str, String)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "'{from}' is edited in one place");
        text.replace(from, to)
    })
}

fn nginx(dir: &Path, authority: SocketAddr, responder_port: u16, proxy_port: u16) -> String {
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
        .collect();
    edited(
        NGINX,
        &[
            ("pid /var/run/ocsp-cache.pid;", format!("pid {dir}/pid;")),
            ("\nhttp {\n", format!("\nhttp {{\n{temporary}")),
            ("/var/cache/ocsp ", format!("{dir}/cache ")),
            ("ocsp.ca.example ocsp.ca.example:80;", format!("{HOST} {authority};")),
            ("listen 127.0.0.1:8888;", format!("listen 127.0.0.1:{responder_port};")),
            ("listen 127.0.0.1:8889;", format!("listen 127.0.0.1:{proxy_port};")),
        ],
    )
}

fn varnish(authority: SocketAddr) -> String {
    let (host, port) = (authority.ip(), authority.port());
    edited(
        VARNISH,
        &[
            ("    .host = \"ocsp.ca.example\";", format!("    .host = \"{host}\";")),
            ("    .port = \"80\";", format!("    .port = \"{port}\";")),
        ],
    )
}

/// What nginx and Varnish themselves say about the files as they are shipped, but for the one name that nobody has.
pub(crate) fn accepted_as_shipped(kind: Kind) {
    let dir = TempDir::new().unwrap();
    let output = match kind {
        Kind::Nginx => {
            let file = dir.path().join("nginx.conf");
            let text = NGINX.replace("/var/run/ocsp-cache", &format!("{}/ocsp-cache", dir.path().display()));
            std::fs::write(&file, text.replace("/var/cache/ocsp", &format!("{}/cache", dir.path().display()))).unwrap();
            run(Command::new("nginx").args(["-t", "-e", "stderr", "-c"]).arg(file).arg("-p").arg(dir.path()))
        }
        Kind::Varnish => {
            let file = dir.path().join("varnish.vcl");
            std::fs::write(&file, VARNISH.replace(".host = \"ocsp.ca.example\"", ".host = \"127.0.0.1\"")).unwrap();
            let mut command = Command::new("varnishd");
            run(command.args(["-j", "none", "-C", "-n"]).arg(dir.path().join("work")).arg("-f").arg(file))
        }
    };
    assert!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
}
