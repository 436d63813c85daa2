//! What earlier runs of a plan used: the next one is asked for as much.
//!
//! Plans are told apart by a fingerprint of their text in which literals are left out, so that a dashboard's query
//! of this month teaches what it needs next month. The rule: bounded, and never more than a hint.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use parking_lot::Mutex;

/// Plans that are remembered.
const PLANS_MAX: usize = 4096;
/// How fast an earlier, larger need is forgotten: a run that used less takes so much of the difference off.
const FORGET: f64 = 0.25;

/// Runs for which it is remembered that a plan was out of memory: it may have been for lack of room, or for its data.
const CAREFUL_RUNS: u8 = 16;
/// The same for one that takes less than a second: it loses less by another try.
const CAREFUL_RUNS_SHORT: u8 = 4;

/// What is known of plans, by their fingerprint.
#[derive(Debug, Default)]
pub struct Learned {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    plans: HashMap<u64, Usage>,
    /// Fingerprints in the order in which they came, oldest first.
    order: VecDeque<u64>,
}

/// What runs of a plan used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Bytes of memory in one process, at most.
    pub memory_bytes: u64,
    /// Bytes of it that operators held which cannot spill.
    pub fixed_bytes: u64,
    /// Seconds from start to end, when it was fastest.
    pub seconds: f64,
    /// How many more runs are to be made so that they can spill: an earlier one was out of memory.
    pub careful_runs: u8,
}

impl Learned {
    /// What is known of a plan.
    pub fn of(&self, fingerprint: u64) -> Option<Usage> {
        self.known.lock().plans.get(&fingerprint).copied()
    }

    /// A run of a plan took so long.
    pub fn took(&self, fingerprint: u64, elapsed: Duration) {
        self.change(fingerprint, |usage| {
            usage.seconds = usage.seconds.min(elapsed.as_secs_f64());
            usage.careful_runs = usage.careful_runs.saturating_sub(1);
        });
    }

    /// A run of a plan was out of memory.
    pub fn ran_out(&self, fingerprint: u64) {
        self.change(fingerprint, |usage| {
            usage.careful_runs = if usage.seconds < 1.0 { CAREFUL_RUNS_SHORT } else { CAREFUL_RUNS };
        });
    }

    /// A run of a plan held so many bytes in one process, at most, `fixed` of them by operators that cannot spill.
    pub fn held(&self, fingerprint: u64, bytes: u64, fixed: u64) {
        let slowly = |known: u64, bytes: u64| {
            let less = known.saturating_sub(bytes) as f64 * FORGET;
            (known - less as u64).max(bytes)
        };
        self.change(fingerprint, |usage| {
            usage.memory_bytes = slowly(usage.memory_bytes, bytes);
            usage.fixed_bytes = slowly(usage.fixed_bytes, fixed);
        });
    }

    fn change(&self, fingerprint: u64, change: impl Fn(&mut Usage)) {
        let mut known = self.known.lock();
        if !known.plans.contains_key(&fingerprint) {
            known.order.push_back(fingerprint);
            if known.order.len() > PLANS_MAX
                && let Some(oldest) = known.order.pop_front()
            {
                known.plans.remove(&oldest);
            }
        }
        let new = Usage { memory_bytes: 0, fixed_bytes: 0, seconds: f64::INFINITY, careful_runs: 0 };
        let usage = known.plans.entry(fingerprint).or_insert(new);
        change(usage);
    }
}

/// The fingerprint of a plan's text: numbers and quoted texts are left out.
pub fn fingerprint(plan: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (mut quoted, mut in_word) = (false, false);
    for byte in plan.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            // A digit inside a name belongs to it.
            b'0'..=b'9' if !in_word => {}
            _ => {
                in_word = byte.is_ascii_alphanumeric() || byte == b'_';
                byte.hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_do_not_tell_plans_apart_and_names_do() {
        let a = fingerprint("Filter: t1.k > Int64(10) AND t1.s = Utf8(\"x\")");
        assert_eq!(a, fingerprint("Filter: t1.k > Int64(2000) AND t1.s = Utf8(\"yy\")"));
        assert_ne!(a, fingerprint("Filter: t2.k > Int64(10) AND t2.s = Utf8(\"x\")"));
    }

    #[test]
    fn a_plan_that_was_out_of_memory_is_run_with_care_for_a_while() {
        let learned = Learned::default();
        learned.ran_out(1);
        for _ in 0..CAREFUL_RUNS {
            assert!(learned.of(1).unwrap().careful_runs > 0);
            learned.took(1, Duration::from_secs(1));
        }
        assert_eq!(learned.of(1).unwrap().careful_runs, 0);
        learned.took(2, Duration::from_millis(200));
        learned.ran_out(2);
        assert_eq!(learned.of(2).unwrap().careful_runs, CAREFUL_RUNS_SHORT);
    }

    #[test]
    fn a_larger_need_is_kept_and_slowly_forgotten() {
        let learned = Learned::default();
        learned.held(1, 1000, 0);
        learned.held(1, 200, 40);
        let usage = learned.of(1).unwrap();
        assert_eq!((usage.memory_bytes, usage.fixed_bytes), (800, 40));
        learned.held(1, 5000, 0);
        let usage = learned.of(1).unwrap();
        assert_eq!((usage.memory_bytes, usage.fixed_bytes), (5000, 30));
        learned.took(1, Duration::from_secs(2));
        learned.took(1, Duration::from_secs(3));
        assert_eq!(learned.of(1).unwrap().seconds, 2.0);
        for plan in 2..=PLANS_MAX as u64 + 1 {
            learned.held(plan, 1, 0);
        }
        assert!(learned.of(1).is_none());
    }
}
