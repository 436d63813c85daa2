//! The line that says that a query is running: time, rows so far.
//!
//! It is drawn on standard error after a moment, only on a terminal, and erased before
//! anything else is written. [`Progress::watch`] also listens for Ctrl-C. The rule: progress
//! never mixes with output.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval_at};

use crate::shell::format::grouped;

/// How long a query runs before anything is drawn.
const DELAY: Duration = Duration::from_millis(500);
const PERIOD: Duration = Duration::from_millis(200);

/// What the user did instead of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// The progress of one statement.
pub struct Progress {
    started: Instant,
    /// Listens from the start, so that a Ctrl-C between two waits is not lost.
    interrupts: Option<Signal>,
    rows: usize,
    enabled: bool,
    drawn: bool,
}

impl Progress {
    /// Progress from now on, drawn if `wanted` and standard error is a terminal.
    pub fn start(wanted: bool) -> Self {
        let enabled = wanted && std::io::stderr().is_terminal();
        let interrupts = signal(SignalKind::interrupt()).ok();
        Self { started: Instant::now(), interrupts, rows: 0, enabled, drawn: false }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts rows that arrived.
    pub fn add_rows(&mut self, rows: usize) {
        self.rows += rows;
    }

    /// Waits for `work`, or for Ctrl-C; then `work` is dropped.
    pub async fn watch<F: Future>(&mut self, work: F) -> Result<F::Output, Interrupted> {
        let mut work = pin!(work);
        let first = tokio::time::Instant::from_std(self.started + DELAY).max(tokio::time::Instant::now());
        let mut ticks = interval_at(first, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = interrupt(&mut self.interrupts) => return Err(Interrupted),
                output = &mut work => return Ok(output),
                _ = ticks.tick(), if self.enabled => self.draw(),
            }
        }
    }

    /// Erases the line; called before anything is written.
    pub fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&mut self) {
        let rows = if self.rows > 0 { format!("{} rows, ", grouped(self.rows)) } else { String::new() };
        let seconds = self.elapsed().as_secs_f64();
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "\r\x1b[Krunning: {rows}{seconds:.1} s (Ctrl-C cancels)");
        let _ = stderr.flush();
        self.drawn = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.erase();
    }
}

/// Ends with the next Ctrl-C.
async fn interrupt(interrupts: &mut Option<Signal>) {
    match interrupts {
        Some(interrupts) => {
            interrupts.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// A time as people read it: `4 ms`, `1.52 s`, `2 min 3 s`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.010 {
        format!("{:.1} ms", seconds * 1_000.0)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let texts =
            [500, 4_000, 250_000, 1_520_000, 123_000_000].map(Duration::from_micros).map(duration_text);
        assert_eq!(texts, ["0.5 ms", "4.0 ms", "250 ms", "1.52 s", "2 min 3 s"]);
    }
}
