//! How far a long pass has come: a bar on a terminal, a line in the log now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haproxy_stapler::status::{State, Status};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(200);
/// A pass that is over sooner shows none.
const PATIENCE: u32 = 3;
/// A line in the log each time so many have gone by.
const TICKS_PER_LINE: u32 = 25;
/// In letters: with the longest text it fits into eighty.
const BAR: usize = 20;

/// Back to the start of the line, and nothing there.
const CLEAR: &[u8] = b"\r\x1b[K";

/// What stands in the terminal's last line now. There is one standard error, and the log goes there too.
static DRAWN: Mutex<String> = Mutex::new(String::new());

fn drawn() -> MutexGuard<'static, String> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    all: usize,
    settled: usize,
    in_trouble: usize,
}

impl Tally {
    fn of(status: &Status) -> Self {
        // Without HAProxy a verified staple in hand is all there can be.
        let is_done = |held: bool| held && status.haproxy.is_empty();
        Self::count(status.certificates.iter().map(|each| (each.state, is_done(each.staple.is_some()))))
    }

    fn count(certificates: impl Iterator<Item = (State, bool)>) -> Self {
        certificates.fold(Self::default(), |tally, (state, is_done)| Self {
            all: tally.all + 1,
            settled: tally.settled + usize::from(is_done || state != State::Pending),
            in_trouble: tally.in_trouble + usize::from(state.is_trouble()),
        })
    }

    fn text(self) -> String {
        let Self { all, settled, in_trouble } = self;
        match (all, in_trouble) {
            (0, _) => "looking for certificates".to_owned(),
            (_, 0) => format!("{settled} of {all} certificates settled"),
            _ => format!("{settled} of {all} certificates settled, {in_trouble} in trouble"),
        }
    }

    fn bar(self) -> String {
        let done = (self.settled * BAR).checked_div(self.all).unwrap_or_default();
        format!("[{}{}] {}", "=".repeat(done), " ".repeat(BAR.saturating_sub(done)), self.text())
    }
}

/// Shows how far a pass has come, as long as this value lives.
#[derive(Debug)]
pub(super) struct Shown(JoinHandle<()>);

impl Shown {
    /// From now on.
    pub(super) fn start(status: watch::Receiver<Arc<Status>>) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let on_terminal = io::stderr().is_terminal() && !is_dumb;
        Self(tokio::spawn(async move {
            let mut ticks = 0_u32;
            loop {
                tokio::time::sleep(TICK).await;
                ticks = ticks.saturating_add(1);
                let tally = Tally::of(&status.borrow());
                if on_terminal && ticks >= PATIENCE {
                    draw(tally.bar());
                } else if !on_terminal && ticks.is_multiple_of(TICKS_PER_LINE) {
                    tracing::info!("{}", tally.text());
                }
            }
        }))
    }

    /// No more of it.
    pub(super) async fn end(mut self) {
        self.0.abort();
        // It may be drawing still.
        let _ = (&mut self.0).await;
        draw(String::new());
    }
}

fn draw(bar: String) {
    let mut drawn = drawn();
    if *drawn == bar {
        return;
    }
    let mut terminal = io::stderr().lock();
    // A terminal that went away is no reason to stop.
    let _ = terminal.write_all(CLEAR).and_then(|()| terminal.write_all(bar.as_bytes())).and_then(|()| terminal.flush());
    *drawn = bar;
}

/// Standard error for the log: its lines take the bar's place, and the bar follows below.
#[derive(Debug, Default)]
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let drawn = drawn();
        let mut terminal = io::stderr().lock();
        if drawn.is_empty() {
            return terminal.write(line);
        }
        terminal.write_all(CLEAR)?;
        terminal.write_all(line)?;
        terminal.write_all(drawn.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(states: &[State]) -> Tally {
        Tally::count(states.iter().map(|state| (*state, false)))
    }

    #[test]
    fn what_is_settled_and_what_is_in_trouble_is_counted() {
        use State::{NoResponder, Pending, Stapled, Unstapled};
        assert_eq!(tally(&[]).text(), "looking for certificates");
        assert_eq!(tally(&[Pending, Stapled, NoResponder]).text(), "2 of 3 certificates settled");
        assert_eq!(tally(&[Pending, Stapled, Unstapled]).text(), "2 of 3 certificates settled, 1 in trouble");
        let prepared = Tally::count([(Pending, true), (Pending, false)].into_iter());
        assert_eq!(prepared.text(), "1 of 2 certificates settled", "without HAProxy");
    }

    #[test]
    fn the_bar_grows_and_fits_into_a_line() {
        assert_eq!(tally(&[]).bar(), format!("[{}] looking for certificates", " ".repeat(BAR)));
        let half = tally(&[State::Pending, State::Stapled]).bar();
        assert_eq!(half, format!("[{}{}] 1 of 2 certificates settled", "=".repeat(BAR / 2), " ".repeat(BAR / 2)));
        let full = Tally { all: 99_999, settled: 99_999, in_trouble: 99_999 }.bar();
        assert!(full.starts_with(&format!("[{}] ", "=".repeat(BAR))) && full.len() < 80, "{full}");
    }
}
