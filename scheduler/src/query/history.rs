//! Queries that ended, kept over restarts: lines of JSON in two files that take turns.
//!
//! A query is written some seconds after its end, when the executors have said what it used. The rule: bounded, and a
//! history that cannot be written or read is a warning, never an error of a query.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Queries that are shown of it.
const SHOWN_MAX: usize = 1000;
/// Bytes of one file; then the other is begun, and what it held is gone.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// One query as it is shown and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its id.
    pub query_id: String,
    /// Where it stands.
    pub state: String,
    /// Who asked.
    pub user: String,
    /// Its pool.
    pub pool: Option<String>,
    /// The mode that it ran in, or last ran in.
    pub mode: Option<String>,
    /// Why that mode.
    pub mode_reason: Option<String>,
    /// How many are before it in the line.
    pub queue_position: Option<u64>,
    /// When it came, in microseconds since 1970.
    pub submitted_us: i64,
    /// Seconds from its arrival until it was planned.
    pub planning_seconds: Option<f64>,
    /// Seconds until its first run began.
    pub waiting_seconds: Option<f64>,
    /// Seconds until its end, or until now.
    pub seconds: f64,
    /// Rows handed to its reader.
    pub rows: u64,
    /// Bytes of the files that its scans were planned over.
    pub planned_bytes: u64,
    /// Bytes of the files and ranges that its scans opened.
    pub scanned_bytes: u64,
    /// Rows that its scans handed out.
    pub scanned_rows: u64,
    /// Bytes of memory that it was promised in each process.
    pub promised_bytes: u64,
    /// Bytes of memory that it holds in all processes.
    pub memory_bytes: u64,
    /// The most that it held in one process.
    pub memory_peak_bytes: u64,
    /// Bytes that operators wrote to disk for lack of memory, in all processes; shuffles of a staged run apart.
    pub spilled_bytes: u64,
    /// Runs.
    pub attempts: u64,
    /// How it failed.
    pub code: Option<String>,
    /// What it failed with.
    pub error: Option<String>,
    /// The statement, cut if it is long.
    pub sql: String,
}

/// The history. A cheap handle.
#[derive(Clone)]
pub struct History {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Where it is kept; `None` if nowhere.
    path: Option<PathBuf>,
    file: Option<(File, u64)>,
    /// The last queries, oldest first.
    records: VecDeque<Record>,
}

impl History {
    /// A history that nothing is left of.
    pub fn in_memory() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { path: None, file: None, records: VecDeque::new() })) }
    }

    /// The history in a file and its elder brother (`.old`), as far as they can be read.
    pub fn open(path: PathBuf) -> Self {
        let mut records = VecDeque::new();
        for path in [old(&path), path.clone()] {
            match File::open(&path) {
                Ok(file) => read(file, &mut records),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, "the history of queries cannot be read"),
            }
        }
        Self { inner: Arc::new(Mutex::new(Inner { path: Some(path), file: None, records })) }
    }

    /// Adds queries that ended.
    pub fn add(&self, ended: Vec<Record>) {
        let mut inner = self.inner.lock();
        let mut lines = Vec::new();
        for record in ended {
            // A record of numbers and texts always becomes JSON.
            if serde_json::to_writer(&mut lines, &record).is_ok() {
                lines.push(b'\n');
            }
            push(&mut inner.records, record);
        }
        if let Err(error) = inner.write(&lines) {
            tracing::warn!(%error, "the history of queries cannot be written");
            inner.file = None;
        }
    }

    /// The last queries, latest first.
    pub fn records(&self) -> Vec<Record> {
        self.inner.lock().records.iter().rev().cloned().collect()
    }
}

impl Inner {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.file.as_ref().is_some_and(|(_, bytes)| *bytes > FILE_BYTES_MAX) {
            self.file = None;
            std::fs::rename(path, old(path))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let bytes = file.metadata()?.len();
            self.file = Some((file, bytes));
        }
        if let Some((file, bytes)) = &mut self.file {
            file.write_all(lines)?;
            *bytes += lines.len() as u64;
        }
        Ok(())
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("jsonl.old")
}

fn read(file: File, records: &mut VecDeque<Record>) {
    for line in BufReader::new(file).lines() {
        let Ok(line) = line else { break };
        // A line that a crash cut short, or that another version wrote, is passed over.
        if let Ok(record) = serde_json::from_str(&line) {
            push(records, record);
        }
    }
}

fn push(records: &mut VecDeque<Record>, record: Record) {
    records.push_back(record);
    if records.len() > SHOWN_MAX {
        records.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize) -> Record {
        Record { query_id: id.to_string(), sql: "x".repeat(1000), ..Record::default() }
    }

    #[test]
    fn a_restart_forgets_nothing_but_a_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let history = History::open(path.clone());
        history.add((0..3).map(record).collect());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"query_id\": \"cut").unwrap();
        let again = History::open(path);
        assert_eq!(again.records(), [record(2), record(1), record(0)]);
    }

    #[test]
    fn the_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let history = History::open(path.clone());
        for at in 0..30 {
            history.add((at * 1000..(at + 1) * 1000).map(record).collect());
        }
        let bytes = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(bytes(&path) + bytes(&old(&path)) < 3 * FILE_BYTES_MAX);
        assert_eq!(history.records().len(), SHOWN_MAX);
        assert_eq!(History::open(path).records()[0], record(29_999));
    }
}
