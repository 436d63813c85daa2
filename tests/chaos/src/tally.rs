//! What came of the questions, and what failed.
//!
//! A failure is printed when it is found, and makes the run fail. The rule: nothing is dropped; what is not a
//! failure is counted by its code.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tarn_client::Error;

use crate::log::Log;
use crate::schedule::Kind;

/// Codes that any fault explains: the store, an executor, or time.
const CLEAR: [&str; 5] = ["executor_lost", "no_executors", "overloaded", "storage_error", "timeout"];
/// Codes that only a scheduler that went explains: it says so, or does not know the session or the query any more.
const OF_SCHEDULER: [&str; 3] = ["shutting_down", "unauthenticated", "not_found"];
/// Codes that only a full disk explains: what cannot spill needs memory.
const OF_DISK: [&str; 2] = ["limit_exceeded", "out_of_memory"];
/// Most failures that are repeated at the end.
const REPEATED_MAX: usize = 50;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Short critical sections only.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By mode and outcome.
    outcomes: BTreeMap<(String, String), u64>,
    failures: Vec<String>,
    slowest: Duration,
    /// Slowest start of an executor until it was a member.
    slowest_join: Duration,
}

impl Tally {
    /// An outcome of a question in a mode.
    pub fn count(&self, mode: &str, outcome: &str) {
        *self.lock().outcomes.entry((mode.to_string(), outcome.to_string())).or_default() += 1;
    }

    /// How long a question took.
    pub fn took(&self, time: Duration) {
        let mut inner = self.lock();
        inner.slowest = inner.slowest.max(time);
    }

    /// How long an executor took to join.
    pub fn joined(&self, time: Duration) {
        let mut inner = self.lock();
        inner.slowest_join = inner.slowest_join.max(time);
    }

    /// Something that must not be.
    pub fn fail(&self, log: &Log, what: impl Into<String>) {
        let what = what.into();
        println!("{}  FAILURE {what}", log.time());
        self.lock().failures.push(what);
    }

    /// Whether nothing failed.
    pub fn is_clean(&self) -> bool {
        self.lock().failures.is_empty()
    }

    /// Prints everything.
    pub fn print(&self, log: &Log) {
        let inner = self.lock();
        println!();
        for (kind, count) in log.counts() {
            println!("{count:6}  {kind}");
        }
        println!();
        for ((mode, outcome), count) in &inner.outcomes {
            println!("{count:6}  {mode:9}  {outcome}");
        }
        println!();
        println!(
            "slowest question {:.1} s, slowest join {:.1} s",
            inner.slowest.as_secs_f64(),
            inner.slowest_join.as_secs_f64()
        );
        for failure in inner.failures.iter().take(REPEATED_MAX) {
            println!("FAILURE {failure}");
        }
        println!("{} failures", inner.failures.len());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code of an error that the faults met explain, or why they do not.
pub fn judge(error: &Error, met: &[Kind]) -> Result<String, String> {
    let scheduler_went = met.iter().any(|kind| kind.is_of_scheduler());
    if error.is_disconnected() {
        return match scheduler_went {
            true => Ok("disconnected".to_string()),
            false => Err(format!("disconnected from a scheduler that was not touched: {error}")),
        };
    }
    let Some(refusal) = error.refusal() else { return Err(format!("not an answer: {error}")) };
    let Some(code) = refusal.code.as_deref() else {
        return Err(format!("an error without a code, status {:?}: {}", refusal.status, refusal.message));
    };
    let explained = match code {
        code if CLEAR.contains(&code) => !met.is_empty(),
        code if OF_SCHEDULER.contains(&code) => scheduler_went,
        code if OF_DISK.contains(&code) => met.contains(&Kind::Disk),
        _ => false,
    };
    match explained {
        true => Ok(code.to_string()),
        false => Err(format!("{code} is not explained by {met:?}: {}", refusal.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_needs_a_fault_that_explains_it() {
        let lost = Error::Lost { reason: "gone".to_string() };
        assert!(judge(&lost, &[Kind::Kill]).is_err());
        assert!(judge(&lost, &[Kind::SchedulerKill]).is_ok());
        assert!(judge(&Error::Protocol("short".to_string()), &[Kind::SchedulerKill]).is_err());
    }
}
