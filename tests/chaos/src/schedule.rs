//! What goes wrong, and when: a list made from a seed, before anything begins.
//!
//! Faults overlap, but each target (an executor, the scheduler, the store) has one at a time, and then some seconds to
//! recover. The rule: the same seed and flags give the same list.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// When the first fault comes, and between two, in milliseconds.
const FIRST_MS: u64 = 3_000;
const BETWEEN_MS: std::ops::Range<u64> = 1_500..6_000;
/// How long a target is left in peace after a fault; the scheduler longer, since without it nobody can ask.
const PEACE_MS: u64 = 5_000;
const SCHEDULER_PEACE_MS: u64 = 30_000;
/// Attempts to find a fault whose target is in peace.
const DRAWS_MAX: usize = 16;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// An executor is killed, and started again.
    Kill,
    /// An executor is frozen, and goes on.
    Stop,
    /// An executor is asked to end, and another takes its place.
    Drain,
    /// An executor's network is cut, and mended.
    Cut,
    /// An executor's disk is full for a while.
    Disk,
    /// The scheduler is killed, and started again.
    SchedulerKill,
    /// The scheduler is asked to end, and started again.
    SchedulerRestart,
    /// The store answers 503.
    StoreRefuses,
    /// The store is slow.
    StoreSlow,
    /// The store does not answer.
    StoreSilent,
    /// The store's bodies end in the middle.
    StoreCuts,
    /// The store resets connections.
    StoreResets,
}

impl Kind {
    /// Whether it strikes one executor.
    pub fn is_of_executor(self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Drain | Self::Cut | Self::Disk)
    }

    /// Whether it strikes the scheduler.
    pub fn is_of_scheduler(self) -> bool {
        matches!(self, Self::SchedulerKill | Self::SchedulerRestart)
    }

    /// Whether it strikes the store.
    pub fn is_of_store(self) -> bool {
        !self.is_of_executor() && !self.is_of_scheduler()
    }

    /// Whether it needs networks and disks of our own.
    pub fn is_private(self) -> bool {
        matches!(self, Self::Cut | Self::Disk)
    }

    /// How long it lasts, in milliseconds.
    fn lasts_ms(self) -> std::ops::Range<u64> {
        match self {
            Self::Kill => 300..6_000,
            // Some are over before an executor counts as dead, some are not.
            Self::Stop | Self::Cut => 1_000..12_000,
            Self::Drain => 0..1,
            Self::SchedulerKill | Self::SchedulerRestart => 0..4_000,
            Self::Disk => 3_000..10_000,
            Self::StoreSilent => 2_000..9_000,
            _ => 2_000..12_000,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no kind is skipped").get_name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false)
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number, from 1.
    pub number: usize,
    /// When it begins.
    pub at: Duration,
    /// What goes wrong.
    pub kind: Kind,
    /// On which executor, if on one.
    pub executor: usize,
    /// For how long.
    pub lasts: Duration,
    /// Whether who is started again has new ports.
    pub new_ports: bool,
    /// The share of requests that the store does wrong.
    pub percent: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.kind.is_of_executor() {
            write!(f, " of executor {}", self.executor)?;
        }
        if self.kind.is_of_store() {
            write!(f, " for {} % of requests", self.percent)?;
        }
        if self.kind == Kind::Kill && self.new_ports {
            f.write_str(", new ports")?;
        }
        write!(f, ", {:.1} s", self.lasts.as_secs_f64())
    }
}

/// The faults of a run.
pub fn schedule(seed: u64, kinds: &[Kind], executors: usize, length: Duration) -> Vec<Event> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Executors, scheduler, store: until when each is not to be struck again.
    let mut busy_until = vec![0; executors + 2];
    let (mut events, mut at) = (Vec::new(), FIRST_MS);
    let end = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    while at < end && !kinds.is_empty() && executors > 0 {
        for _ in 0..DRAWS_MAX {
            let kind = kinds[random.random_range(0..kinds.len())];
            let executor = random.random_range(0..executors);
            let lasts = random.random_range(kind.lasts_ms());
            let (new_ports, percent) = (random.random_bool(0.5), random.random_range(20..=100));
            let target = match kind {
                kind if kind.is_of_executor() => executor,
                kind if kind.is_of_scheduler() => executors,
                _ => executors + 1,
            };
            if busy_until[target] > at {
                continue;
            }
            let peace = if target == executors { SCHEDULER_PEACE_MS } else { PEACE_MS };
            busy_until[target] = at + lasts + peace;
            let (at, lasts) = (Duration::from_millis(at), Duration::from_millis(lasts));
            events.push(Event { number: events.len() + 1, at, kind, executor, lasts, new_ports, percent });
            break;
        }
        at += random.random_range(BETWEEN_MS);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_schedule_and_every_kind_comes() {
        let kinds = Kind::value_variants();
        let length = Duration::from_secs(900);
        let events = schedule(7, kinds, 3, length);
        assert_eq!(events, schedule(7, kinds, 3, length));
        assert_ne!(events, schedule(8, kinds, 3, length));
        assert!(kinds.iter().all(|kind| events.iter().any(|event| event.kind == *kind)));
        for kind in kinds {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
    }

    #[test]
    fn a_target_has_one_fault_at_a_time() {
        let events = schedule(7, &[Kind::Kill, Kind::Stop], 2, Duration::from_secs(300));
        for executor in 0..2 {
            let mine: Vec<_> = events.iter().filter(|event| event.executor == executor).collect();
            assert!(mine.windows(2).all(|two| two[0].at + two[0].lasts < two[1].at));
        }
    }
}
