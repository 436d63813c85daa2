//! One query: where it stands, what it used, why it ended.
//!
//! What processes say of its runs is added up here; a limit that it passes there ends it. The rule: the first reason
//! to stop a query stands.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tarn_runtime::control::messages::RunStats;
use tokio_util::sync::CancellationToken;

use super::QueryId;
use super::history::Record;
use super::run::Payload;
use crate::engine::Mode;
use crate::error::{Error, ErrorCode};
use crate::session::UsageLimits;

/// How long a server that stops waits for the first read of a planned query: its client has
/// the ticket in hand, or went away.
const PLANNED_GRACE: Duration = Duration::from_secs(5);
/// Processes of whose part in one query is known.
const USAGES_MAX: usize = 4096;
/// Characters of a statement, and of an error, that are shown.
const TEXT_CHARS_MAX: usize = 4000;

/// Where a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being taken in.
    Planning,
    /// Planned, and not fetched yet.
    Planned,
    /// Waiting for its turn in its pool.
    Queued,
    /// Running, being read, or changing a table.
    Running,
    /// All rows were read.
    Finished,
    /// Ended with an error.
    Failed,
    /// Ended by its client, by `KILL QUERY` or by its deadline.
    Cancelled,
}

impl State {
    /// As `SHOW QUERIES` and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What `SHOW QUERIES` shows of one query.
#[derive(Debug, Clone)]
pub struct QueryInfo {
    /// The query.
    pub id: QueryId,
    /// Who asked.
    pub principal: String,
    /// The statement.
    pub sql: String,
    /// Where it stands.
    pub state: State,
    /// The mode it runs in, once chosen.
    pub mode: Option<Mode>,
    /// When it came.
    pub submitted_at: SystemTime,
    /// From arrival to end, or to now.
    pub elapsed: Duration,
    /// Rows handed to the reader so far.
    pub rows: u64,
    /// How it failed.
    pub code: Option<ErrorCode>,
}

/// One query in the register.
pub struct Entry {
    pub(super) id: QueryId,
    principal: String,
    sql: String,
    submitted_at: SystemTime,
    pub(super) began: Instant,
    rows: AtomicU64,
    token: CancellationToken,
    limits: UsageLimits,
    /// What changes while the query lives.
    status: Mutex<Status>,
    /// What it did, by process and run.
    usage: Mutex<BTreeMap<(String, String), RunStats>>,
}

/// One run of a query in one process, for `system.tasks`.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// The query.
    pub query_id: QueryId,
    /// The process.
    pub executor: String,
    /// What it did there.
    pub stats: RunStats,
}

pub(super) struct Status {
    pub(super) state: State,
    pub(super) mode: Option<Mode>,
    pub(super) mode_reason: String,
    pub(super) pool: Option<String>,
    pub(super) planned_bytes: u64,
    pub(super) queue_position: Option<u64>,
    pub(super) attempts: u64,
    pub(super) promised_bytes: u64,
    /// When its first run began, counted from arrival.
    pub(super) began_running: Option<Duration>,
    pub(super) code: Option<ErrorCode>,
    pub(super) error: Option<String>,
    pub(super) fingerprint: Option<u64>,
    pub(super) in_history: bool,
    /// Why the token was cancelled: the error that the reader gets.
    pub(super) stop: Option<(ErrorCode, String)>,
    /// When the answer was ready to be fetched, counted from arrival.
    pub(super) planned: Option<Duration>,
    pub(super) ended: Option<Duration>,
    pub(super) payload: Option<Payload>,
}

impl Entry {
    pub(super) fn new(principal: &str, sql: &str, limits: UsageLimits) -> Self {
        Self {
            id: QueryId::generate(),
            principal: principal.to_string(),
            sql: sql.to_string(),
            submitted_at: SystemTime::now(),
            began: Instant::now(),
            rows: AtomicU64::new(0),
            token: CancellationToken::new(),
            limits,
            usage: Mutex::default(),
            status: Mutex::new(Status {
                state: State::Planning,
                mode: None,
                mode_reason: String::new(),
                pool: None,
                planned_bytes: 0,
                queue_position: None,
                attempts: 0,
                promised_bytes: 0,
                began_running: None,
                code: None,
                error: None,
                fingerprint: None,
                in_history: false,
                stop: None,
                planned: None,
                ended: None,
                payload: None,
            }),
        }
    }

    /// The query.
    pub fn id(&self) -> &QueryId {
        &self.id
    }

    /// Cancelled when the query is to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// When it came.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What it may use.
    pub fn limits(&self) -> &UsageLimits {
        &self.limits
    }

    /// Adds rows that were handed to the reader.
    pub fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Notes what it fails with.
    pub fn set_error(&self, error: &Error) {
        self.status().error.get_or_insert_with(|| shorten(error.message()));
    }

    /// Notes its plan's fingerprint.
    pub fn set_fingerprint(&self, fingerprint: u64) {
        self.status().fingerprint = Some(fingerprint);
    }

    /// A process said what a run of it did. Ends the query if it is over a limit.
    pub(super) fn heard(&self, executor: &str, stats: &RunStats) {
        let (scanned, memory) = {
            let mut usage = self.usage();
            if usage.len() < USAGES_MAX {
                usage.insert((executor.to_string(), stats.run_id.clone()), stats.clone());
            }
            let sum = |part: fn(&RunStats) -> u64| usage.values().map(part).sum::<u64>();
            (sum(|stats| stats.bytes_opened), sum(|stats| stats.memory_bytes))
        };
        for (setting, used, limit) in [
            ("scan_bytes_max", scanned, self.limits.scan_bytes),
            ("memory_bytes_max", memory, self.limits.memory_bytes),
        ] {
            if let Some(limit) = limit.filter(|limit| used > *limit) {
                self.stop(ErrorCode::LimitExceeded, over(setting, used, limit));
            }
        }
    }

    pub(super) fn usage(&self) -> MutexGuard<'_, BTreeMap<(String, String), RunStats>> {
        self.usage.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The most bytes of memory in one process that operators held which cannot spill.
    pub(super) fn fixed_peak_bytes(&self) -> u64 {
        self.usage().values().map(|stats| stats.memory_fixed_peak_bytes).max().unwrap_or_default()
    }

    pub(super) fn record(&self) -> Record {
        let used: Vec<RunStats> = self.usage().values().cloned().collect();
        let sum = |part: fn(&RunStats) -> u64| used.iter().map(part).sum::<u64>();
        let since = self.submitted_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let status = self.status();
        Record {
            query_id: self.id.to_string(),
            state: status.state.as_str().to_string(),
            user: self.principal.clone(),
            pool: status.pool.clone(),
            mode: status.mode.map(|mode| mode.to_string()),
            mode_reason: Some(status.mode_reason.clone()).filter(|reason| !reason.is_empty()),
            queue_position: status.queue_position.filter(|_| status.ended.is_none()),
            submitted_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            planning_seconds: status.planned.map(|planned| planned.as_secs_f64()),
            waiting_seconds: status.began_running.map(|began| began.as_secs_f64()),
            seconds: status.ended.unwrap_or_else(|| self.began.elapsed()).as_secs_f64(),
            rows: self.rows(),
            planned_bytes: status.planned_bytes,
            scanned_bytes: sum(|stats| stats.bytes_opened),
            scanned_rows: sum(|stats| stats.rows_scanned),
            promised_bytes: status.promised_bytes,
            memory_bytes: sum(|stats| stats.memory_bytes),
            memory_peak_bytes: used.iter().map(|stats| stats.memory_peak_bytes).max().unwrap_or_default(),
            spilled_bytes: sum(|stats| stats.spilled_bytes),
            attempts: status.attempts,
            code: status.code.map(|code| code.to_string()),
            error: status.error.clone(),
            sql: shorten(&self.sql),
        }
    }

    /// Rows handed to the reader so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Notes the mode that was chosen, and why.
    pub fn set_mode(&self, mode: Mode, reason: &str) {
        let mut status = self.status();
        status.mode = Some(mode);
        status.mode_reason = reason.to_string();
    }

    /// Notes the pool that it belongs to.
    pub fn set_pool(&self, pool: &str) {
        self.status().pool = Some(pool.to_string());
    }

    /// Notes the bytes of files that its scans were planned over.
    pub fn set_planned_bytes(&self, bytes: u64) {
        self.status().planned_bytes = bytes;
    }

    /// Notes its place in the line: 0 is the next.
    pub fn set_queued(&self, position: usize) {
        let mut status = self.status();
        if status.ended.is_none() {
            status.state = State::Queued;
            status.queue_position = Some(position as u64);
        }
    }

    /// Notes that a run begins, which was promised so many bytes of memory in each process.
    pub fn set_attempt(&self, attempt: usize, memory_bytes: u64) {
        let mut status = self.status();
        if status.ended.is_none() {
            status.state = State::Running;
        }
        status.queue_position = None;
        status.attempts = attempt as u64;
        status.promised_bytes = memory_bytes;
        status.began_running.get_or_insert_with(|| self.began.elapsed());
    }

    /// Notes that the statement itself runs now: a change, which no reader starts.
    pub fn set_running(&self) {
        self.status().state = State::Running;
    }

    /// Keeps what [`Entry::take_payload`] gives to the first reader.
    pub fn set_payload(&self, payload: Payload) {
        let mut status = self.status();
        status.payload = Some(payload);
        status.planned = Some(self.began.elapsed());
        if status.ended.is_none() {
            status.state = State::Planned;
        }
    }

    /// What the first reader runs; `None` once a SELECT was taken. Kept answers stay.
    pub(super) fn take_payload(&self) -> Option<Payload> {
        let mut status = self.status();
        match &status.payload {
            Some(Payload::Rows(rows)) => Some(Payload::Rows(rows.clone())),
            Some(Payload::Select(_)) => {
                status.state = State::Running;
                status.payload.take()
            }
            None => None,
        }
    }

    /// Stops the query; the first reason stands.
    pub fn stop(&self, code: ErrorCode, message: impl Into<String>) {
        self.status().stop.get_or_insert_with(|| (code, message.into()));
        self.token.cancel();
    }

    /// The error for a reader of a stopped query.
    pub fn stopped(&self) -> Error {
        let stop = self.status().stop.clone();
        let (code, message) = stop.unwrap_or((ErrorCode::Cancelled, "the query was cancelled".to_string()));
        Error::new(code, message).with_query(&self.id)
    }

    pub(super) fn is_busy(&self) -> bool {
        let status = self.status();
        match status.state {
            State::Planning | State::Queued | State::Running => true,
            State::Planned => {
                status.planned.is_none_or(|planned| self.began.elapsed() - planned < PLANNED_GRACE)
            }
            State::Finished | State::Failed | State::Cancelled => false,
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn info(&self) -> QueryInfo {
        let status = self.status();
        QueryInfo {
            id: self.id.clone(),
            principal: self.principal.clone(),
            sql: self.sql.clone(),
            state: status.state,
            mode: status.mode,
            submitted_at: self.submitted_at,
            elapsed: status.ended.unwrap_or_else(|| self.began.elapsed()),
            rows: self.rows(),
            code: status.code,
        }
    }
}

/// That a query is over a limit which a setting names.
pub(super) fn over(setting: &str, used: u64, limit: u64) -> String {
    format!("the query used {used}, and the setting {setting} allows {limit}")
}

fn shorten(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
