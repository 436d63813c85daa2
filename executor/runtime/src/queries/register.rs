//! The register: run id to token and counters.
//!
//! A cancel may overtake the task that it is for. It is therefore kept for a while, and a run that
//! registers later is cancelled at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::operators::merge;
use crate::control::messages::{RunStats, StageStats};
use crate::memory::Share;
use crate::metrics::QUERIES_ACTIVE;

/// How long a cancel waits for tasks that are still under way.
const CANCEL_KEPT: Duration = Duration::from_secs(120);
/// Cancels that are kept at most.
const CANCELS_KEPT_MAX: usize = 4096;
/// Ended runs whose report is kept.
const REPORTS_KEPT_MAX: usize = 32;
/// How long the statistics of a run that ended are told, and of how many: several signs of life may be lost.
const ENDED_TOLD: Duration = Duration::from_secs(5);
const ENDED_TOLD_MAX: usize = 1024;
/// Files and ranges recorded of one run.
const OPENED_MAX: usize = 16 * 1024;

/// Every query that has work here. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Register {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// All state, for short sections only; no lock of another object is taken inside.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<String, Entry>,
    /// Cancels of runs, oldest first.
    cancelled: VecDeque<(Instant, String)>,
    /// Reports of ended runs with all that they did here, oldest first.
    ended: VecDeque<(Report, RunStats)>,
    /// Statistics of runs that ended a moment ago, oldest first.
    told: VecDeque<(Instant, RunStats)>,
}

#[derive(Debug)]
struct Entry {
    query: Weak<Query>,
    /// Set by [`Register::token`] until [`Register::forget`].
    kept: Option<Arc<Query>>,
}

/// One run of a query in this process. The register knows it as long as a handle lives.
#[derive(Debug)]
pub struct Query {
    id: String,
    token: CancellationToken,
    /// What it did under earlier handles: between its stages a run may have none for a while.
    before: RunStats,
    rows_scanned: AtomicU64,
    bytes_opened: AtomicU64,
    /// Bytes written to disk for lack of memory.
    spilled: Arc<AtomicU64>,
    /// Files and ranges opened so far.
    opened: Mutex<Vec<String>>,
    /// What operators of its stages counted, if it asks for that.
    stages: Mutex<Vec<StageStats>>,
    /// Its memory, and the environment with it, once something runs.
    env: OnceLock<(Arc<Share>, Arc<RuntimeEnv>)>,
    register: Weak<Inner>,
}

/// What one run did in this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run.
    pub run_id: String,
    /// Whether it still has work.
    pub active: bool,
    /// Rows that its scans handed out.
    pub rows_scanned: u64,
    /// Bytes of the files and ranges that its scans opened.
    pub bytes_opened: u64,
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
    /// The most bytes of memory that it held.
    pub memory_peak_bytes: u64,
    /// The files, with their ranges, that its scans opened, in that order; bounded.
    pub opened: Vec<String>,
}

impl Register {
    /// The run's handle, made if it is not known yet.
    pub fn enter(&self, id: &str) -> Arc<Query> {
        let mut state = self.inner.state.lock();
        if let Some(query) = state.runs.get(id).and_then(|entry| entry.query.upgrade()) {
            return query;
        }
        let before = state.ended.iter().rev().find(|(_, stats)| stats.run_id == id);
        let query = Arc::new(Query {
            id: id.to_string(),
            before: before.map(|(_, stats)| stats.clone()).unwrap_or_default(),
            token: CancellationToken::new(),
            rows_scanned: AtomicU64::new(0),
            bytes_opened: AtomicU64::new(0),
            spilled: Arc::default(),
            opened: Mutex::default(),
            stages: Mutex::default(),
            env: OnceLock::new(),
            register: Arc::downgrade(&self.inner),
        });
        if state.was_cancelled(id) {
            query.token.cancel();
        }
        let entry = Entry { query: Arc::downgrade(&query), kept: None };
        if state.runs.insert(id.to_string(), entry).is_none() {
            QUERIES_ACTIVE.inc();
        }
        query
    }

    /// The run's token. The run stays known until [`Register::forget`].
    pub fn token(&self, id: &str) -> CancellationToken {
        let query = self.enter(id);
        let token = query.token.clone();
        if let Some(entry) = self.inner.state.lock().runs.get_mut(id) {
            entry.kept = Some(query);
        }
        token
    }

    /// Stops the run's work here, also work that arrives later. Says whether there was any. The run no longer
    /// counts as active, although remains of its plan may stay for a while.
    pub fn cancel(&self, id: &str) -> bool {
        let entry = {
            let mut state = self.inner.state.lock();
            state.keep_cancel(id);
            state.runs.remove(id)
        };
        let Some(entry) = entry else { return false };
        QUERIES_ACTIVE.dec();
        // Outside the lock, as is the drop of the entry: the last handle takes the lock itself.
        let Some(query) = entry.query.upgrade() else { return false };
        query.token.cancel();
        if let Some((share, _)) = query.env.get() {
            share.release();
        }
        let (report, stats) = (query.report(false), query.stats(false));
        self.inner.state.lock().keep_report(report, stats);
        true
    }

    /// Lets go of what [`Register::token`] kept.
    pub fn forget(&self, id: &str) {
        let kept = self.inner.state.lock().runs.get_mut(id).and_then(|entry| entry.kept.take());
        // Dropped here, outside the lock: the last handle takes the lock itself.
        drop(kept);
    }

    /// Records that a scan of a run opens a file, or a range of it, of so many bytes, for [`Register::reports`].
    pub fn record_opened(&self, id: &str, file: String, bytes: u64) {
        let query = self.inner.state.lock().runs.get(id).and_then(|entry| entry.query.upgrade());
        if let Some(query) = query {
            query.add_opened(file, bytes);
        }
    }

    /// The runs that have work here, in order.
    pub fn active(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.inner.state.lock().runs.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// What each run with work here did so far, and those that ended a moment ago.
    pub fn stats(&self) -> Vec<RunStats> {
        let (mut stats, live) = {
            let mut state = self.inner.state.lock();
            state.forget_told();
            let told: Vec<RunStats> = state.told.iter().map(|(_, stats)| stats.clone()).collect();
            let live: Vec<Arc<Query>> =
                state.runs.values().filter_map(|entry| entry.query.upgrade()).collect();
            (told, live)
        };
        // The last handle takes the lock itself when it goes.
        stats.extend(live.iter().map(|query| query.stats(true)));
        stats
    }

    /// What the runs whose id begins with `prefix` did here: those with work, and the last that ended.
    pub fn reports(&self, prefix: &str) -> Vec<Report> {
        let (mut reports, live) = {
            let state = self.inner.state.lock();
            let ended = state.ended.iter().map(|(report, _)| report);
            let ended: Vec<Report> =
                ended.filter(|report| report.run_id.starts_with(prefix)).cloned().collect();
            let live: Vec<Arc<Query>> = state
                .runs
                .iter()
                .filter(|(id, _)| id.starts_with(prefix))
                .filter_map(|(_, entry)| entry.query.upgrade())
                .collect();
            (ended, live)
        };
        reports.extend(live.iter().map(|query| query.report(true)));
        reports
    }
}

impl State {
    fn was_cancelled(&self, id: &str) -> bool {
        self.cancelled.iter().any(|(_, cancelled)| cancelled == id)
    }

    fn keep_report(&mut self, report: Report, stats: RunStats) {
        self.forget_told();
        self.told.push_back((Instant::now(), stats.clone()));
        if self.ended.len() >= REPORTS_KEPT_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((report, stats));
    }

    fn forget_told(&mut self) {
        while self.told.len() > ENDED_TOLD_MAX
            || self.told.front().is_some_and(|(when, _)| when.elapsed() > ENDED_TOLD)
        {
            self.told.pop_front();
        }
    }

    fn keep_cancel(&mut self, id: &str) {
        let now = Instant::now();
        while self.cancelled.len() >= CANCELS_KEPT_MAX
            || self.cancelled.front().is_some_and(|(when, _)| now.duration_since(*when) > CANCEL_KEPT)
        {
            self.cancelled.pop_front();
        }
        if !self.was_cancelled(id) {
            self.cancelled.push_back((now, id.to_string()));
        }
    }
}

impl Query {
    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Cancelled when the run is to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Counts rows of a scan.
    pub(super) fn add_rows(&self, rows: u64) {
        self.rows_scanned.fetch_add(rows, Ordering::Relaxed);
    }

    /// Where the bytes that it writes to disk for lack of memory are counted.
    pub(crate) fn spilled(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.spilled)
    }

    /// Notes what operators of a stage counted in a task.
    pub fn add_stage(&self, stage: &StageStats) {
        merge(&mut self.stages.lock(), stage);
    }

    /// Its memory and its environment, made by the first who asks.
    pub(crate) fn env(&self, make: impl FnOnce() -> (Arc<Share>, Arc<RuntimeEnv>)) -> Arc<RuntimeEnv> {
        Arc::clone(&self.env.get_or_init(make).1)
    }

    /// Records what a scan opens.
    fn add_opened(&self, file: String, bytes: u64) {
        self.bytes_opened.fetch_add(bytes, Ordering::Relaxed);
        let mut opened = self.opened.lock();
        if opened.len() < OPENED_MAX {
            opened.push(file);
        }
    }

    fn stats(&self, active: bool) -> RunStats {
        let share = self.env.get().map(|(share, _)| share);
        let peak = |now: usize, before: u64| before.max(now as u64);
        let mut stages = self.before.stages.clone();
        self.stages.lock().iter().for_each(|stage| merge(&mut stages, stage));
        RunStats {
            run_id: self.id.clone(),
            active,
            rows_scanned: self.before.rows_scanned + self.rows_scanned.load(Ordering::Relaxed),
            bytes_opened: self.before.bytes_opened + self.bytes_opened.load(Ordering::Relaxed),
            memory_bytes: share.filter(|_| active).map_or(0, |share| share.used() as u64),
            memory_peak_bytes: peak(share.map_or(0, |share| share.peak()), self.before.memory_peak_bytes),
            memory_fixed_peak_bytes: peak(
                share.map_or(0, |share| share.fixed_peak()),
                self.before.memory_fixed_peak_bytes,
            ),
            spilled_bytes: self.before.spilled_bytes + self.spilled.load(Ordering::Relaxed),
            stages,
        }
    }

    fn report(&self, active: bool) -> Report {
        let share = self.env.get().map(|(share, _)| share);
        Report {
            run_id: self.id.clone(),
            active,
            rows_scanned: self.rows_scanned.load(Ordering::Relaxed),
            bytes_opened: self.bytes_opened.load(Ordering::Relaxed),
            memory_bytes: share.map_or(0, |share| share.used() as u64),
            memory_peak_bytes: share.map_or(0, |share| share.peak() as u64),
            opened: self.opened.lock().clone(),
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let Some(register) = self.register.upgrade() else { return };
        let mut state = register.state.lock();
        // The same run may have entered anew meanwhile, or was taken out by a cancel.
        if state.runs.get(&self.id).is_some_and(|entry| entry.query.strong_count() == 0) {
            state.runs.remove(&self.id);
            QUERIES_ACTIVE.dec();
            let (report, stats) = (self.report(false), self.stats(false));
            state.keep_report(report, stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};

    use super::*;
    use crate::memory::Ledger;

    #[test]
    fn run_is_known_while_a_handle_lives() {
        let register = Register::default();
        let first = register.enter("a");
        let second = register.enter("a");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(register.active(), ["a"]);
        drop(first);
        assert_eq!(register.active(), ["a"]);
        drop(second);
        assert!(register.active().is_empty());
    }

    #[test]
    fn what_a_run_did_is_added_up_over_its_stages() {
        let register = Register::default();
        for (rows, peak) in [(7, 300), (5, 100)] {
            let stage = register.enter("q.1");
            stage.add_rows(rows);
            stage.spilled().fetch_add(rows, Ordering::Relaxed);
            register.record_opened("q.1", "a".to_string(), 3);
            let ledger = Ledger::new(1000);
            let share = ledger.share("q.1", Some(peak));
            let pool = Arc::clone(&share) as Arc<dyn MemoryPool>;
            let held = MemoryConsumer::new("build").register(&pool);
            held.try_grow(peak).unwrap();
            drop(held);
            stage.env(|| (share, Arc::default()));
        }
        let stats = register.stats().pop().unwrap();
        assert_eq!((stats.rows_scanned, stats.bytes_opened, stats.spilled_bytes), (12, 6, 12));
        assert_eq!((stats.memory_peak_bytes, stats.memory_fixed_peak_bytes), (300, 300));
        assert_eq!(register.enter("q.2").stats(true).rows_scanned, 0);
    }

    #[test]
    fn token_keeps_the_run_until_forgotten() {
        let register = Register::default();
        let token = register.token("a");
        assert!(register.cancel("a"));
        assert!(token.is_cancelled());
        assert!(register.active().is_empty());
        register.forget("a");
        register.token("b");
        assert_eq!(register.active(), ["b"]);
        register.forget("b");
        assert!(register.active().is_empty());
        assert!(!register.cancel("a"));
    }

    #[test]
    fn cancel_reaches_work_that_comes_later() {
        let register = Register::default();
        assert!(!register.cancel("late"));
        assert!(register.enter("late").token().is_cancelled());
        assert!(!register.enter("other").token().is_cancelled());
    }

    #[test]
    fn ended_runs_are_reported() {
        let register = Register::default();
        let run = register.enter("q.1");
        run.add_rows(7);
        register.record_opened("q.1", "f[0..3]".to_string(), 3);
        assert!(register.reports("q")[0].active);
        drop(run);
        let reports = register.reports("q");
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].active, reports[0].rows_scanned, reports[0].bytes_opened), (false, 7, 3));
        assert_eq!(reports[0].opened, ["f[0..3]"]);
        let stats = register.stats();
        assert_eq!(stats.len(), 1);
        assert_eq!((stats[0].run_id.as_str(), stats[0].active, stats[0].bytes_opened), ("q.1", false, 3));
        assert!(register.reports("other").is_empty());
    }
}
