//! Every query that lives, and the last ones that ended.
//!
//! A query is entered when it is submitted and ended exactly once: by its last batch, an
//! error, a dropped stream, a deadline or `KILL QUERY`. The rule: bounded in number and in
//! time; what a client planned and never fetched expires.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tarn_runtime::control::messages::RunStats;

use super::QueryId;
pub use super::entry::{Entry, QueryInfo, State, TaskInfo};
use super::history::{History, Record};
use super::run::Payload;
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;
use crate::session::UsageLimits;

/// Most queries that live at once: planned, waiting, running or being read.
const LIVE_MAX: usize = 10_000;
/// How many ended queries `SHOW QUERIES` remembers.
const ENDED_MAX: usize = 200;
/// How long after its end a query is written into the history: until executors have said what it used.
const HISTORY_DELAY: Duration = Duration::from_secs(3);
/// How long a planned query waits for its first read.
const PLANNED_TTL: Duration = Duration::from_secs(600);

/// The queries by id. A cheap handle.
#[derive(Clone)]
pub struct Register {
    /// The live queries by id, and the ended ones, oldest first.
    queries: Arc<Mutex<Queries>>,
    history: History,
}

impl Default for Register {
    fn default() -> Self {
        Self::new(History::in_memory())
    }
}

#[derive(Default)]
struct Queries {
    live: HashMap<QueryId, Arc<Entry>>,
    ended: VecDeque<Arc<Entry>>,
}

impl Register {
    /// No query lives; what the history knows was before.
    pub fn new(history: History) -> Self {
        Self { queries: Arc::default(), history }
    }

    /// A process said what its runs did.
    pub fn heard(&self, executor: &str, runs: &[RunStats]) {
        for stats in runs {
            let id = stats.run_id.rsplit_once('-').and_then(|(id, _)| QueryId::parse(id));
            if let Some(entry) = id.and_then(|id| self.get(&id)) {
                entry.heard(executor, stats);
            }
        }
    }

    /// Writes queries that ended a while ago into the history, all of them `at_once` when the server stops. Gives the
    /// fingerprint of each plan that ended well, with the most bytes of memory that it held in one process, and that
    /// operators of it held which cannot spill.
    pub fn write_history(&self, at_once: bool) -> Vec<(u64, u64, u64)> {
        let due: Vec<Arc<Entry>> = {
            let queries = self.queries();
            let due = |entry: &&Arc<Entry>| {
                let mut status = entry.status();
                let since = status.ended.map(|ended| entry.began.elapsed().saturating_sub(ended));
                let due = !status.in_history && since.is_some_and(|since| at_once || since > HISTORY_DELAY);
                status.in_history |= due;
                due
            };
            queries.ended.iter().filter(due).cloned().collect()
        };
        if due.is_empty() {
            return Vec::new();
        }
        let records: Vec<Record> = due.iter().map(|entry| entry.record()).collect();
        let well = due.iter().zip(&records).filter(|(_, record)| record.code.is_none());
        let used = well.filter_map(|(entry, record)| {
            let fingerprint = entry.status().fingerprint?;
            Some((fingerprint, record.memory_peak_bytes, entry.fixed_peak_bytes()))
        });
        let used = used.filter(|(_, bytes, _)| *bytes > 0).collect();
        self.history.add(records);
        used
    }

    /// Every query that lives, oldest first, then those that ended, latest first, also before a restart.
    pub fn records(&self) -> Vec<Record> {
        let (mut records, known) = {
            let queries = self.queries();
            let mut live: Vec<_> = queries.live.values().collect();
            live.sort_by(|a, b| a.id.cmp(&b.id));
            let recent = queries.ended.iter().rev().filter(|entry| !entry.status().in_history);
            let records: Vec<Record> = live.into_iter().chain(recent).map(|entry| entry.record()).collect();
            (records, self.history.records())
        };
        records.extend(known);
        records
    }

    /// The parts of the queries that live, and of the last that ended.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let queries = self.queries();
        let all = queries.live.values().chain(&queries.ended);
        let mut tasks: Vec<TaskInfo> = all
            .flat_map(|entry| {
                let usage = entry.usage();
                let task = |((executor, _), stats): (&(String, String), &RunStats)| TaskInfo {
                    query_id: entry.id.clone(),
                    executor: executor.clone(),
                    stats: stats.clone(),
                };
                usage.iter().map(task).collect::<Vec<_>>()
            })
            .collect();
        tasks.sort_by(|a, b| (&a.stats.run_id, &a.executor).cmp(&(&b.stats.run_id, &b.executor)));
        tasks
    }

    /// Enters a new query. Refuses when too many live.
    pub fn enter(&self, principal: &str, sql: &str) -> Result<Arc<Entry>> {
        self.enter_with(principal, sql, UsageLimits::default())
    }

    /// The same, with limits of what it may use.
    pub fn enter_with(&self, principal: &str, sql: &str, limits: UsageLimits) -> Result<Arc<Entry>> {
        let entry = Arc::new(Entry::new(principal, sql, limits));
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
        let mut pushed_out = Vec::new();
        while queries.ended.len() > ENDED_MAX {
            pushed_out.extend(queries.ended.pop_front().filter(|entry| {
                let mut status = entry.status();
                !std::mem::replace(&mut status.in_history, true)
            }));
        }
        drop(queries);
        if !pushed_out.is_empty() {
            self.history.add(pushed_out.iter().map(|entry| entry.record()).collect());
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

    fn used(entry: &Entry, attempt: usize, bytes: u64) -> RunStats {
        let run_id = format!("{}-{attempt}", entry.id());
        RunStats {
            run_id,
            bytes_opened: bytes,
            memory_peak_bytes: 2 * bytes,
            memory_fixed_peak_bytes: 30,
            ..RunStats::default()
        }
    }

    #[test]
    fn what_executors_say_is_added_up_and_a_limit_ends_the_query() {
        let register = Register::default();
        let limits = UsageLimits { scan_bytes: Some(100), ..UsageLimits::default() };
        let entry = register.enter_with("ana", "select", limits).unwrap();
        register.heard("a", &[used(&entry, 1, 40)]);
        register.heard("b", &[used(&entry, 1, 50)]);
        register.heard("a", &[used(&entry, 1, 45)]);
        assert_eq!(register.records()[0].scanned_bytes, 95);
        assert_eq!(register.tasks().len(), 2);
        assert!(!entry.token().is_cancelled());
        register.heard("a", &[used(&entry, 1, 51)]);
        assert!(entry.token().is_cancelled());
        let stopped = entry.stopped();
        assert_eq!(stopped.code(), ErrorCode::LimitExceeded);
        assert!(stopped.message().contains("scan_bytes_max"), "{stopped}");
    }

    #[test]
    fn a_query_is_in_the_history_once() {
        let register = Register::default();
        let entry = register.enter("ana", "select").unwrap();
        entry.set_fingerprint(7);
        register.heard("a", &[used(&entry, 1, 40)]);
        assert!(register.write_history(true).is_empty(), "it lives");
        register.end(&entry, Ok(()));
        assert_eq!(register.write_history(true), [(7, 80, 30)]);
        assert!(register.write_history(true).is_empty());
        assert_eq!(register.records().len(), 1);
        assert_eq!(register.records()[0].state, "finished");
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
