//! Every query that lives, and the last ones that ended.
//!
//! A query is entered when it is submitted and ended exactly once: by its last batch, an
//! error, a dropped stream, a deadline or `KILL QUERY`. The rule: bounded in number and in
//! time; what a client planned and never fetched expires.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::QueryId;
use super::run::Payload;
use crate::engine::Mode;
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;

/// Most queries that live at once: planned, waiting, running or being read.
const LIVE_MAX: usize = 10_000;
/// How many ended queries `SHOW QUERIES` remembers.
const ENDED_MAX: usize = 200;
/// How long a planned query waits for its first read.
const PLANNED_TTL: Duration = Duration::from_secs(600);
/// How long a server that stops waits for the first read of a planned query: its client has
/// the ticket in hand, or went away.
const PLANNED_GRACE: Duration = Duration::from_secs(5);

/// Where a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being taken in.
    Planning,
    /// Planned, and not fetched yet.
    Planned,
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
    id: QueryId,
    principal: String,
    sql: String,
    submitted_at: SystemTime,
    began: Instant,
    rows: AtomicU64,
    token: CancellationToken,
    /// What changes while the query lives.
    status: Mutex<Status>,
}

struct Status {
    state: State,
    mode: Option<Mode>,
    code: Option<ErrorCode>,
    /// Why the token was cancelled: the error that the reader gets.
    stop: Option<(ErrorCode, String)>,
    /// When the answer was ready to be fetched, counted from arrival.
    planned: Option<Duration>,
    ended: Option<Duration>,
    payload: Option<Payload>,
}

impl Entry {
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

    /// Adds rows that were handed to the reader.
    pub fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows handed to the reader so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Notes the mode that was chosen.
    pub fn set_mode(&self, mode: Mode) {
        self.status().mode = Some(mode);
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

    fn is_busy(&self) -> bool {
        let status = self.status();
        match status.state {
            State::Planning | State::Running => true,
            State::Planned => {
                status.planned.is_none_or(|planned| self.began.elapsed() - planned < PLANNED_GRACE)
            }
            State::Finished | State::Failed | State::Cancelled => false,
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn info(&self) -> QueryInfo {
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

/// The queries by id. A cheap handle.
#[derive(Clone, Default)]
pub struct Register {
    /// The live queries by id, and the ended ones, oldest first.
    queries: Arc<Mutex<Queries>>,
}

#[derive(Default)]
struct Queries {
    live: HashMap<QueryId, Arc<Entry>>,
    ended: VecDeque<Arc<Entry>>,
}

impl Register {
    /// Enters a new query. Refuses when too many live.
    pub fn enter(&self, principal: &str, sql: &str) -> Result<Arc<Entry>> {
        let entry = Arc::new(Entry {
            id: QueryId::generate(),
            principal: principal.to_string(),
            sql: sql.to_string(),
            submitted_at: SystemTime::now(),
            began: Instant::now(),
            rows: AtomicU64::new(0),
            token: CancellationToken::new(),
            status: Mutex::new(Status {
                state: State::Planning,
                mode: None,
                code: None,
                stop: None,
                planned: None,
                ended: None,
                payload: None,
            }),
        });
        let mut queries = self.queries();
        if queries.live.len() >= LIVE_MAX {
            return Err(Error::new(
                ErrorCode::LimitExceeded,
                format!("more than {LIVE_MAX} queries are open"),
            ));
        }
        queries.live.insert(entry.id.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// A live query, or a recently ended one.
    pub fn get(&self, id: &QueryId) -> Option<Arc<Entry>> {
        let queries = self.queries();
        queries.live.get(id).or_else(|| queries.ended.iter().find(|entry| entry.id == *id)).cloned()
    }

    /// Ends a query; only the first end counts.
    pub fn end(&self, entry: &Arc<Entry>, outcome: std::result::Result<(), ErrorCode>) {
        let state = match outcome {
            Ok(()) => State::Finished,
            Err(ErrorCode::Cancelled | ErrorCode::Timeout) => State::Cancelled,
            Err(_) => State::Failed,
        };
        {
            let mut status = entry.status();
            if status.ended.is_some() {
                return;
            }
            status.ended = Some(entry.began.elapsed());
            status.state = state;
            status.code = outcome.err();
            if matches!(status.payload, Some(Payload::Select(_))) {
                status.payload = None;
            }
        }
        metrics::query_ended(
            state.as_str(),
            outcome.err().map_or("ok", ErrorCode::as_str),
            entry.began.elapsed(),
        );
        let mut queries = self.queries();
        queries.live.remove(&entry.id);
        queries.ended.push_back(Arc::clone(entry));
        while queries.ended.len() > ENDED_MAX {
            queries.ended.pop_front();
        }
    }

    /// Live queries, oldest first, then the ended ones, latest first.
    pub fn list(&self) -> Vec<QueryInfo> {
        let queries = self.queries();
        let mut live: Vec<_> = queries.live.values().map(|entry| entry.info()).collect();
        live.sort_by(|a, b| a.id.cmp(&b.id));
        live.extend(queries.ended.iter().rev().map(|entry| entry.info()));
        live
    }

    /// How many queries a server that stops has to wait for: those being taken in, running or
    /// being read, and those whose ticket went out a moment ago.
    pub fn busy(&self) -> usize {
        self.queries().live.values().filter(|entry| entry.is_busy()).count()
    }

    /// Ends what was planned and never fetched.
    pub fn expire(&self) {
        let stale: Vec<_> = {
            let queries = self.queries();
            let planned = |entry: &&Arc<Entry>| {
                entry.began.elapsed() > PLANNED_TTL && entry.status().state == State::Planned
            };
            queries.live.values().filter(planned).cloned().collect()
        };
        for entry in stale {
            entry.stop(ErrorCode::Timeout, "the query was not fetched in time");
            self.end(&entry, Err(ErrorCode::Timeout));
        }
    }

    fn queries(&self) -> MutexGuard<'_, Queries> {
        self.queries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_ends_once_and_the_first_reason_stands() {
        let register = Register::default();
        let entry = register.enter("ana", "select 1").unwrap();
        entry.stop(ErrorCode::Timeout, "too slow");
        entry.stop(ErrorCode::Cancelled, "killed");
        assert_eq!(entry.stopped().code(), ErrorCode::Timeout);
        register.end(&entry, Err(ErrorCode::Timeout));
        register.end(&entry, Ok(()));
        let listed = register.list();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].state, State::Cancelled);
    }

    #[test]
    fn a_stopping_server_waits_for_what_was_taken_in() {
        let register = Register::default();
        let entry = register.enter("ana", "insert into t values (1)").unwrap();
        assert_eq!(register.busy(), 1, "being planned");
        entry.set_running();
        assert_eq!(register.busy(), 1, "changing a table");
        entry.set_payload(Payload::Rows(crate::query::answer::Rows::count(1)));
        assert_eq!(register.busy(), 1, "its ticket went out just now");
        register.end(&entry, Ok(()));
        assert_eq!(register.busy(), 0);
        assert_eq!(register.list()[0].state, State::Finished);
    }

    #[test]
    fn the_ended_are_bounded() {
        let register = Register::default();
        for _ in 0..ENDED_MAX + 10 {
            let entry = register.enter("ana", "select 1").unwrap();
            register.end(&entry, Ok(()));
        }
        assert_eq!(register.list().len(), ENDED_MAX);
    }
}
