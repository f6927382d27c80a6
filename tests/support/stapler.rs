//! The program under test, as a child process with an environment of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, run};
use super::{PATIENCE, free_port, wait_for};

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header lines as they came.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text()))
    }
}

/// What to start. The environment holds only PATH and what is set here; by default a free loopback port to listen on
/// and a state directory that goes away with the value.
pub struct Builder {
    binary: PathBuf,
    environment: BTreeMap<String, OsString>,
    port: u16,
    dir: TempDir,
}

/// The running daemon.
pub struct Stapler {
    process: Process,
    port: u16,
    dir: TempDir,
    binary: PathBuf,
    environment: BTreeMap<String, OsString>,
}

impl Builder {
    /// Sets a variable: `STAPLER_CERTS`.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Starts the daemon, without waiting for anything.
    pub fn start(self) -> Stapler {
        let Self { binary, environment, port, dir } = self;
        let process = Process::start(&mut command(&binary, &environment), &dir.path().join("log"));
        Stapler { process, port, dir, binary, environment }
    }

    /// Runs another of its commands to the end: `once`, `verify`, `settings`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(command(&self.binary, &self.environment).args(arguments))
    }
}

impl Stapler {
    /// For the program at `binary`: `env!("CARGO_BIN_EXE_haproxy-stapler")` in a test.
    pub fn builder(binary: impl AsRef<Path>) -> Builder {
        let dir = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let builder = Builder { binary: binary.as_ref().to_owned(), environment: BTreeMap::new(), port, dir };
        let state = builder.dir.path().join("state");
        std::fs::create_dir(&state).expect("a state directory");
        builder.env("STAPLER_LISTEN", format!("127.0.0.1:{port}")).env("STAPLER_STATE_DIR", state)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// GET of one path.
    ///
    /// # Panics
    /// When nobody listens; wait first.
    pub fn get(&self, path: &str) -> Reply {
        http_get(self.port, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `/status`, or `None` while nobody listens.
    pub fn status(&self) -> Option<Value> {
        http_get(self.port, "/status").ok().map(|reply| reply.json())
    }

    /// Asks for `/status` until `wanted` holds, and gives that status.
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_at_most(PATIENCE, what, wanted)
    }

    /// [`Stapler::wait_until`] with a deadline of one's own.
    pub fn wait_at_most(&mut self, patience: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_for(what, patience, || {
            if let Some(status) = self.process.exited() {
                panic!("haproxy-stapler ended with {status}");
            }
            last = self.status()?;
            wanted(&last).then_some(())
        });
        last
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_until_ready(&mut self) {
        wait_for("haproxy-stapler to be ready", PATIENCE, || {
            if let Some(status) = self.process.exited() {
                panic!("haproxy-stapler ended with {status}");
            }
            http_get(self.port, "/readyz").ok().filter(|reply| reply.status == 200)
        });
    }

    /// The state of the certificate whose name ends with `name`, from `/status`.
    pub fn state(&self, name: &str) -> Option<String> {
        let status = self.status()?;
        Some(certificate(&status, name)?.get("state")?.as_str()?.to_owned())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its state directory, unless STAPLER_STATE_DIR was set.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as an operator would, with SIGTERM, and gives the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait(PATIENCE).expect("haproxy-stapler ends on SIGTERM")
    }

    /// Starts it again, in the same environment and with the same state directory.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process = Process::start(&mut command(&self.binary, &self.environment), &self.dir.path().join("log"));
    }

    /// Runs another of its commands in the daemon's place, as long as nobody ends it: `once`.
    pub fn start_instead(&mut self, arguments: &[&str]) {
        self.process.kill();
        let mut command = command(&self.binary, &self.environment);
        self.process = Process::start(command.args(arguments), &self.dir.path().join("log"));
    }

    /// Runs another of its commands in the daemon's environment: `healthcheck`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(command(&self.binary, &self.environment).args(arguments))
    }
}

/// The entry of `/status` for the certificate whose name ends with `name`.
pub fn certificate<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let named = |entry: &&Value| entry["certificate"].as_str().is_some_and(|full| full.ends_with(name));
    status["certificates"].as_array()?.iter().find(named)
}

/// One GET over HTTP/1.0, without any library between the test and the wire.
pub fn http_get(port: u16, path: &str) -> std::io::Result<Reply> {
    http_send(port, &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"))
}

/// Any request, after which the server closes.
pub fn http_send(port: u16, request: &str) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let bad = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not an HTTP answer");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(bad)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(bad)?;
    Ok(Reply { status, headers: lines.map(str::to_owned).collect(), body: answer.split_off(end + 4) })
}

fn command(binary: &Path, environment: &BTreeMap<String, OsString>) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(environment);
    command
}
