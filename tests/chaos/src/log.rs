//! When faults began and ended, so that an error can be set against them.
//!
//! The rule: a fault explains an error from its beginning until some seconds after its end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::schedule::{Event, Kind};

/// How long after its end a fault still explains an error: connections are given up, executors come back.
const AFTER: Duration = Duration::from_secs(20);

/// Every fault so far.
#[derive(Debug)]
pub struct Log {
    began: Instant,
    /// Short critical sections only.
    spans: Mutex<Vec<Span>>,
}

#[derive(Debug)]
struct Span {
    number: usize,
    kind: Kind,
    to: Option<Instant>,
}

impl Log {
    /// An empty one, whose clock starts.
    pub fn new() -> Self {
        Self { began: Instant::now(), spans: Mutex::default() }
    }

    /// Time since the start, for lines.
    pub fn time(&self) -> String {
        format!("{:7.1} s", self.began.elapsed().as_secs_f64())
    }

    /// A fault begins.
    pub fn begin(&self, event: &Event) {
        println!("{}  fault {}: {event}", self.time(), event.number);
        self.spans().push(Span { number: event.number, kind: event.kind, to: None });
    }

    /// A fault has ended.
    pub fn end(&self, event: &Event, note: &str) {
        if !note.is_empty() {
            println!("{}  fault {}: {note}", self.time(), event.number);
        }
        if let Some(span) = self.spans().iter_mut().find(|span| span.number == event.number) {
            span.to = Some(Instant::now());
        }
    }

    /// The kinds of faults that something since `from` may have met.
    pub fn since(&self, from: Instant) -> Vec<Kind> {
        let met = |span: &Span| span.to.is_none_or(|to| to + AFTER >= from);
        self.spans().iter().filter(|span| met(span)).map(|span| span.kind).collect()
    }

    /// How often each kind came.
    pub fn counts(&self) -> Vec<(Kind, usize)> {
        let mut kinds: Vec<_> = self.spans().iter().map(|span| span.kind).collect();
        kinds.sort();
        let runs = kinds.chunk_by(|one, other| one == other);
        runs.map(|run| (run[0], run.len())).collect()
    }

    fn spans(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
