//! Child processes that cannot outlive their owner.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A child process. Dropping it kills it and waits for it; while a test fails, it shows what the child had to say.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started; a program that is not there is told how to install it.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log).expect("open the log of a child process");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("duplicate a file handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| cannot_run(&name, &error));
        Self { name, child, log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child process")
    }

    /// Sends a signal by its short name, `TERM` or `USR2`, unless the process has ended.
    pub fn signal(&mut self, signal: &str) {
        if self.exited().is_some() {
            return;
        }
        assert!(send_signal(signal, self.pid()), "cannot send SIG{signal} to {}", self.name);
    }

    /// Waits for the end; `None` when `patience` was not enough.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if start.elapsed() > patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGKILL and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The most memory it ever had at once, in MiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM in /proc/PID/status");
        line.trim_end_matches("kB").trim().parse::<u64>().expect("a number of kB") / 1024
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{} said:\n{}", self.name, self.log());
        }
    }
}

/// Sends a signal by its short name to a process that somebody else started. Says whether there was one.
pub fn send_signal(signal: &str, pid: u32) -> bool {
    // The shell's own `kill`, which is there even where procps is not.
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()]).status();
    sent.is_ok_and(|status| status.success())
}

/// Runs a tool to its end.
///
/// # Panics
/// When it cannot be started; a program that is not there is told how to install it.
pub fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| cannot_run(&name, &error))
}

/// Runs a tool that must succeed and gives its standard output.
pub fn run_well(command: &mut Command) -> Vec<u8> {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Puts an executable file there.
///
/// Another process writes it: what somebody has open for writing cannot be run, and a process that another test is about to
/// start has for a moment all the files open that this one has.
pub fn put_program(path: &Path, content: &[u8]) {
    let mut command = Command::new("sh");
    command.args(["-ec", "cat > \"$0\"; chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = command.spawn().unwrap_or_else(|error| cannot_run("sh", &error));
    writer.stdin.take().expect("it was asked for").write_all(content).expect("it is read to its end");
    assert!(writer.wait().expect("wait for a child process").success(), "cannot write {}", path.display());
}

fn cannot_run(program: &str, error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::NotFound {
        let package = match program.rsplit('/').next().unwrap_or(program) {
            "promtool" => "prometheus",
            name => name,
        };
        panic!("{program} is not installed: run `make setup`, or `apt-get install {package}`");
    }
    panic!("cannot start {program}: {error}");
}
