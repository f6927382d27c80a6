//! The commands and their exit statuses.

mod daemon;
mod explain;
mod judge;
mod pass;
mod probe;
mod progress;
mod table;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use haproxy_stapler::settings::{InvalidSettings, LogFormat, Mistake, Settings};
use jiff::{SignedDuration, Timestamp};
use tracing_subscriber::EnvFilter;

/// Usage or configuration: EX_USAGE of sysexits.h, so that nobody takes it for a failed pass.
const USAGE: u8 = 64;

/// Keeps the OCSP staple of every certificate that HAProxy serves fresh, verified, persistent and visible.
///
/// Settings come from the environment only: `haproxy-stapler settings` shows all of them.
#[derive(Debug, Parser)]
#[command(name = "haproxy-stapler", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon (also with no command): keeps every staple fresh and serves HTTP
    Run,
    /// One pass: discover, fetch, verify, write files, install; prints a table
    Once {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// For an init container, before HAProxy starts: fetch, verify and write .ocsp files; no socket needed
    Prepare {
        /// All within this time, with a unit
        #[arg(long, default_value = "20s", value_parser = duration)]
        deadline: Duration,
        /// Exit 1 if a certificate that can be stapled is not
        #[arg(long)]
        strict: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One pass, then every step of each certificate's way, and what to do about the one that failed
    Explain {
        /// A certificate's name, or the end of it; without it all certificates
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// TLS handshakes that ask for the staple and verify it as a strict client would
    Probe(probe::Errand),
    /// Judges one OCSP response file (DER), without any network
    Verify(judge::Question),
    /// Asks the daemon's own /healthz
    Healthcheck {
        /// Ask /readyz too: for what must not start before the first pass, as HAProxy in a compose file
        #[arg(long)]
        ready: bool,
    },
    /// Prints every setting: name, value in force, where it comes from, meaning
    Settings,
    /// Prints a completion script
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version come this way too, and are no mistakes.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => with_settings(daemon::run),
        Command::Once { json } => with_settings(|settings| pass::once(settings, json)),
        Command::Prepare { deadline, strict, json } => {
            with_settings(|settings| pass::prepare(settings, deadline, strict, json))
        }
        Command::Explain { name, json } => with_settings(|settings| explain::explain(settings, name.as_deref(), json)),
        Command::Probe(errand) => with_settings_quietly(|settings| probe::probe(&errand, &settings)),
        Command::Verify(question) => judge::verify(&question),
        Command::Healthcheck { ready } => with_settings_quietly(|settings| daemon::healthcheck(&settings, ready)),
        Command::Settings => with_settings_quietly(table::settings),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "haproxy-stapler", &mut script);
            say(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
    }
}

/// Reads the settings, starts the log, warns about what looks like a mistake.
fn with_settings(work: impl FnOnce(Settings) -> ExitCode) -> ExitCode {
    let (settings, filter, warnings) = match read_settings() {
        Ok(read) => read,
        Err(code) => return code,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| progress::Log).with_target(false);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    work(settings)
}

/// The same for commands whose output is all there is to say.
fn with_settings_quietly(work: impl FnOnce(Settings) -> ExitCode) -> ExitCode {
    match read_settings() {
        Ok((settings, _, warnings)) => {
            warnings.iter().for_each(|warning| complain(warning));
            work(settings)
        }
        Err(code) => code,
    }
}

/// Everything that is wrong, at once.
fn read_settings() -> Result<(Settings, EnvFilter, Vec<String>), ExitCode> {
    let parsed = Settings::parse(environment());
    let (settings, mut mistakes, warnings) = match parsed {
        Ok(parsed) => (Some(parsed.settings), Vec::new(), parsed.warnings),
        Err(InvalidSettings { mistakes, warnings }) => (None, mistakes, warnings),
    };
    // Only the subscriber knows the grammar of its filter.
    let log = settings.as_ref().map_or_else(log_variable, |settings| settings.log.clone());
    let filter = EnvFilter::try_new(&log).map_err(|_| Mistake {
        variable: "STAPLER_LOG",
        value: log,
        expected: "expected a level (error, warn, info, debug, trace, off) or a filter like 'info,hyper=warn'".into(),
    });
    match (settings, filter) {
        (Some(settings), Ok(filter)) => Ok((settings, filter, warnings)),
        (_, filter) => {
            mistakes.extend(filter.err());
            complain(&InvalidSettings { mistakes, warnings: Vec::new() }.to_string());
            warnings.iter().for_each(|warning| complain(warning));
            Err(ExitCode::from(USAGE))
        }
    }
}

/// The environment as pairs. A value that is not UTF-8 shows its damage instead of ending the program.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn log_variable() -> String {
    environment()
        .find(|(name, value)| name == "STAPLER_LOG" && !value.trim().is_empty())
        .map_or_else(|| "info".to_owned(), |(_, value)| value)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "expected a duration with a unit, like 20s or 1m30s")?;
    Duration::try_from(parsed).map_err(|_| "expected a positive duration".to_owned())
}

/// A line for a person on standard error, for commands that do not log.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "haproxy-stapler: {line}");
}

/// A text on standard output. A reader that went away (`| head`) is no failure.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => complain(&format!("cannot write the output: {error}")),
        _ => {}
    }
}

/// An instant given by a person.
fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error| format!("expected an instant like 2026-11-23T00:00:00Z: {error}"))
}

/// A file that a person named.
fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read '{}': {error}", path.display()))
}
