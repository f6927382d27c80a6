//! A real HAProxy as a child process: `HAPROXY_BIN`, or `haproxy` on the PATH.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, run, send_signal};
use super::{PATIENCE, free_port, wait_for};

/// How HAProxy runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One process; a reload is a new process started with `-sf`.
    #[default]
    Single,
    /// A master with a worker; a reload is SIGUSR2. The master has a socket of its own.
    MasterWorker,
}

/// What to start.
pub struct Builder {
    binary: PathBuf,
    dir: TempDir,
    mode: Mode,
    global: Vec<String>,
    preamble: String,
    sections: String,
    bind: Option<String>,
    bind_options: String,
    level: String,
}

/// A running HAProxy that serves TLS on one port of the loopback and answers 200 to every request.
pub struct Haproxy {
    binary: PathBuf,
    mode: Mode,
    port: u16,
    dir: TempDir,
    processes: Vec<Process>,
}

impl Builder {
    /// A file in the certificate directory: `site.pem`, `site.pem.ocsp`, `site.pem.issuer`.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.dir.path().join("certs").join(name), content).expect("write a certificate file");
        self
    }

    /// A line for the `global` section.
    pub fn global(mut self, line: &str) -> Self {
        self.global.push(line.to_owned());
        self
    }

    /// Sections that come before all others but `global`: a crt-store.
    pub fn preamble(mut self, sections: &str) -> Self {
        self.preamble.push_str(sections);
        self
    }

    /// Sections that come after all others: backends, more frontends.
    pub fn section(mut self, section: &str) -> Self {
        self.sections.push_str(section);
        self
    }

    /// What follows `ssl` on the bind line instead of `crt` and the certificate directory.
    pub fn bind(mut self, certificates: &str) -> Self {
        self.bind = Some(certificates.to_owned());
        self
    }

    /// More on the bind line: `strict-sni`, `ssl-max-ver TLSv1.2`.
    pub fn bind_options(mut self, options: &str) -> Self {
        options.clone_into(&mut self.bind_options);
        self
    }

    /// The level of the socket, `admin` if not told otherwise.
    pub fn level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.level);
        self
    }

    /// How it runs.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The directory it loads certificates from.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// The directory of everything that is its own; it runs there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program that would start.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The version that would start: `2.6.12-1+deb12u3`.
    pub fn version(&self) -> String {
        let words = run(Command::new(&self.binary).arg("-v"));
        let words = String::from_utf8_lossy(&words.stdout).into_owned();
        words.split_whitespace().nth(2).expect("-v names the version").to_owned()
    }

    /// Starts it and waits until both its socket and its port answer.
    ///
    /// # Panics
    /// When HAProxy is not installed or refuses to start; its own words are printed.
    pub fn start(self) -> Haproxy {
        let port = free_port();
        let config = self.config(port);
        std::fs::write(self.dir.path().join("haproxy.cfg"), config).expect("write haproxy.cfg");
        let Self { binary, dir, mode, .. } = self;
        let mut haproxy = Haproxy { binary, mode, port, dir, processes: Vec::new() };
        haproxy.launch(&[]);
        haproxy
    }

    fn config(&self, port: u16) -> String {
        let socket = self.dir.path().join("admin.sock");
        let certificates = self.bind.clone().unwrap_or_else(|| format!("crt {}", self.certs_dir().display()));
        let mut config = String::new();
        let mut line = |text: &str| writeln!(config, "{text}").expect("a string grows");
        line("global");
        line(&format!("    stats socket {} mode 660 level {}", socket.display(), self.level));
        line("    stats timeout 30s");
        line("    tune.ssl.default-dh-param 2048");
        self.global.iter().for_each(|text| line(&format!("    {text}")));
        line(&self.preamble);
        line("defaults");
        line("    mode http");
        line("    timeout connect 5s");
        line("    timeout client 30s");
        line("    timeout server 30s");
        line("frontend tls");
        line(&format!("    bind 127.0.0.1:{port} ssl {certificates} {}", self.bind_options));
        line("    http-request return status 200 content-type text/plain string ok");
        line(&self.sections);
        config
    }
}

impl Haproxy {
    /// Starts with the binary of `HAPROXY_BIN`, or the one on the PATH.
    pub fn builder() -> Builder {
        Self::builder_for(&std::env::var_os("HAPROXY_BIN").map_or_else(on_the_path, PathBuf::from))
    }

    /// Starts with a binary of one's own choice.
    pub fn builder_for(binary: &Path) -> Builder {
        let dir = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("certs")).expect("a certificate directory");
        Builder {
            binary: binary.to_owned(),
            dir,
            mode: Mode::default(),
            global: Vec::new(),
            preamble: String::new(),
            sections: String::new(),
            bind: None,
            bind_options: String::new(),
            level: "admin".to_owned(),
        }
    }

    /// The TLS port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The admin socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The master's socket, which is there in master-worker mode only.
    pub fn master_socket(&self) -> PathBuf {
        self.dir.path().join("master.sock")
    }

    /// The directory it loads certificates from.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// The path of one certificate file, which is also HAProxy's name for it.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.certs_dir().join(name)
    }

    /// The directory of everything that is its own; it runs there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file, for tests that change it before a reload.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("haproxy.cfg")
    }

    /// Sends one command to the admin socket and reads the answer to its end.
    pub fn command(&self, command: &str) -> String {
        ask(&self.socket(), command).unwrap_or_else(|error| panic!("the admin socket: {error}"))
    }

    /// A field of `show info`.
    pub fn info(&self, field: &str) -> Option<String> {
        info(&self.socket(), field)
    }

    /// The process that answers on the admin socket: the worker, in master-worker mode.
    pub fn pid(&self) -> u32 {
        self.info("Pid").and_then(|pid| pid.parse().ok()).expect("show info has a Pid")
    }

    /// HAProxy's version: `2.6.12-1+deb12u4`.
    pub fn version(&self) -> String {
        self.info("Version").expect("show info has a Version")
    }

    /// Loads the configuration and the files again the way this mode does it, and waits until the new process serves.
    pub fn reload(&mut self) {
        let before = self.pid();
        match self.mode {
            Mode::Single => self.launch(&["-sf", &before.to_string()]),
            Mode::MasterWorker => {
                self.current_mut().signal("USR2");
                self.wait_until_it_serves(Some(before));
            }
        }
        self.processes.retain_mut(|process| process.exited().is_none());
    }

    /// Has it try a configuration that no HAProxy takes, the way this mode reloads, and mends the file again. Returns
    /// when it has refused; the process that serves goes on.
    pub fn reload_in_vain(&mut self) {
        let before = self.pid();
        let good = std::fs::read_to_string(self.config_file()).expect("read haproxy.cfg");
        let mistake = format!("no-such-keyword-{}", self.log().len());
        std::fs::write(self.config_file(), format!("{good}    {mistake}\n")).expect("write haproxy.cfg");
        match self.mode {
            Mode::Single => {
                let mut command = Command::new(&self.binary);
                command.args(["-db", "-sf", &before.to_string(), "-f"]).arg(self.config_file());
                let output = run(command.current_dir(self.dir.path()));
                assert!(!output.status.success(), "HAProxy took a configuration with {mistake}");
            }
            Mode::MasterWorker => {
                self.current_mut().signal("USR2");
                wait_for("HAProxy to refuse its configuration", PATIENCE, || {
                    (self.log().contains(&mistake) && self.master_knows(before)).then_some(())
                });
            }
        }
        std::fs::write(self.config_file(), good).expect("write haproxy.cfg");
    }

    /// Whether the process that was started last is still there: the master, in master-worker mode.
    pub fn is_running(&mut self) -> bool {
        self.current_mut().exited().is_none()
    }

    /// Ends all of it with SIGKILL.
    pub fn crash(&mut self) {
        let worker = self.pid();
        self.processes.iter_mut().for_each(Process::kill);
        self.processes.clear();
        let trace = format!("/proc/{worker}/exe");
        wait_for("HAProxy's worker to be gone", PATIENCE, || {
            // A worker may end by itself when it misses its master.
            (!Path::new(&trace).exists() || !send_signal("KILL", worker)).then_some(())
        });
    }

    /// Ends it and starts it anew.
    pub fn restart(&mut self) {
        self.kill();
        self.launch(&[]);
    }

    /// Ends it. Its socket file stays behind, as after a crash.
    pub fn kill(&mut self) {
        if self.mode == Mode::MasterWorker {
            // A killed master would leave its worker behind.
            for process in &mut self.processes {
                process.signal("TERM");
                process.wait(PATIENCE);
            }
        }
        self.processes.clear();
    }

    /// Starts it again after [`Haproxy::kill`].
    pub fn start_again(&mut self) {
        self.launch(&[]);
    }

    /// Whether it would start with its files as they are now, without a single warning, and its words (`-c -dW`).
    pub fn check(&self) -> (bool, String) {
        self.judge(&["-dW"])
    }

    /// Whether it would start at all, and its words (`-c`).
    pub fn accepts(&self) -> (bool, String) {
        self.judge(&[])
    }

    fn judge(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.binary);
        command.arg("-c").args(arguments).arg("-f").arg(self.config_file()).current_dir(self.dir.path());
        let output = run(&mut command);
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), words)
    }

    /// What it has written since its start.
    pub fn log(&self) -> String {
        self.processes.iter().map(Process::log).next_back().unwrap_or_default()
    }

    fn launch(&mut self, arguments: &[&str]) {
        let before = (!arguments.is_empty()).then(|| self.pid());
        let mut command = Command::new(&self.binary);
        if self.mode == Mode::MasterWorker {
            command.arg("-W").arg("-S").arg(self.master_socket());
        }
        command.arg("-db").arg("-f").arg(self.config_file()).args(arguments).current_dir(self.dir.path());
        self.processes.push(Process::start(&mut command, &self.dir.path().join("log")));
        self.wait_until_it_serves(before);
    }

    fn wait_until_it_serves(&mut self, before: Option<u32>) {
        let socket = self.socket();
        wait_for("HAProxy to serve", PATIENCE, || {
            if let Some(status) = self.current_mut().exited() {
                panic!("HAProxy ended with {status}");
            }
            let pid = info(&socket, "Pid")?.parse().ok()?;
            let stopping = info(&socket, "Stopping").is_some_and(|stopping| stopping != "0");
            let port = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            (before != Some(pid) && !stopping && port.is_ok() && self.master_knows(pid)).then_some(())
        });
    }

    /// A master starts its worker first and itself anew afterwards; a signal in between is lost.
    fn master_knows(&self, worker: u32) -> bool {
        self.mode == Mode::Single
            || ask(&self.master_socket(), "show proc").is_ok_and(|answer| {
                answer.lines().any(|line| line.split_whitespace().next() == Some(&worker.to_string()))
            })
    }

    fn current_mut(&mut self) -> &mut Process {
        self.processes.last_mut().expect("HAProxy was started")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if self.mode == Mode::MasterWorker {
            for process in &mut self.processes {
                process.signal("TERM");
                process.wait(Duration::from_secs(5));
            }
        }
    }
}

/// Debian puts haproxy where the PATH of a user who is not root does not lead.
fn on_the_path() -> PathBuf {
    let name = Path::new("haproxy");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found
        .or_else(|| Some(PathBuf::from("/usr/sbin/haproxy")).filter(|file| file.is_file()))
        .unwrap_or_else(|| name.into())
}

/// One command, one connection: the rule that holds for every version.
pub fn ask(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(command.as_bytes())?;
    stream.write_all(b"\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A field of `show info`; `None` while nobody answers.
pub fn info(socket: &Path, field: &str) -> Option<String> {
    let answer = ask(socket, "show info").ok()?;
    let value = answer.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))?;
    Some(value.trim().to_owned())
}

/// Whether a version, as HAProxy tells it, is older than this one.
pub fn is_before(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}
