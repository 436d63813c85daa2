//! One run's part of the memory, as the engine's pool.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;

use super::ledger::Ledger;

/// Part of what a run may have that its operators take as they come, in percent.
const PLENTY_PERCENT: usize = 75;
/// Bytes without which an operator ends its query, whether it can spill or not: it has nothing to spill yet.
const FIRST_BYTES: usize = 2 << 20;
/// The operator that hands its groups on when it is refused memory, and then asks at once for what its emptied table
/// still takes: refused again, it ends its query.
const EMITTER: &str = "PartialHashAggregateStream";
/// Operators that do not say that they can spill and yet hold little that must stay: what a sort merges in memory it
/// would have spilled before, had it had less, and a merge join writes the rows of one key to disk.
const YIELDING: [&str; 2] = ["ExternalSorterMerge", "SMJStream"];

/// The memory of one run in this process. What it was promised is free again when it is dropped.
#[derive(Debug)]
pub struct Share {
    ledger: Arc<Ledger>,
    run_id: String,
    /// What it was promised and its operators hold. The ledger's lock is taken inside, never the other way round.
    held: Mutex<Held>,
    peak: AtomicUsize,
    fixed_peak: AtomicUsize,
}

#[derive(Debug, Default)]
struct Held {
    promise: usize,
    /// Operators that can spill.
    spillers: usize,
    spillable: usize,
    unspillable: usize,
    /// The part of these that [`YIELDING`] ones hold.
    yielding: usize,
    /// Emitters that were refused so many bytes just now, by the number of their consumer.
    refused: HashMap<usize, usize>,
}

impl Held {
    fn sum(&self) -> usize {
        self.spillable + self.unspillable
    }
}

impl Share {
    pub(super) fn new(ledger: Arc<Ledger>, run_id: &str, promise: usize) -> Self {
        let held = Mutex::new(Held { promise, ..Held::default() });
        let (peak, fixed_peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { ledger, run_id: run_id.to_string(), held, peak, fixed_peak }
    }

    /// Bytes it is promised.
    pub fn promise(&self) -> usize {
        self.held.lock().promise
    }

    /// Takes the promise back: the run has ended, although remains of its plan may stay for a while.
    pub(crate) fn release(&self) {
        let mut held = self.held.lock();
        self.ledger.released(held.promise, held.sum());
        held.promise = 0;
    }

    /// Bytes it holds.
    pub fn used(&self) -> usize {
        self.held.lock().sum()
    }

    /// The most that it held so far, in bytes.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// The most that operators held so far which cannot spill, in bytes.
    pub fn fixed_peak(&self) -> usize {
        self.fixed_peak.load(Ordering::Relaxed)
    }

    fn limit(&self, held: &Held) -> usize {
        self.ledger.limit(held.promise, held.sum().saturating_sub(held.promise))
    }

    fn change(&self, held: &mut Held, consumer: &MemoryConsumer, change: impl Fn(usize) -> usize) {
        let before = held.sum();
        let part = if consumer.can_spill() { &mut held.spillable } else { &mut held.unspillable };
        *part = change(*part);
        if !consumer.can_spill() && YIELDING.iter().any(|name| consumer.name().starts_with(name)) {
            held.yielding = change(held.yielding);
        }
        let after = held.sum();
        self.ledger.moved(held.promise, before, after);
        self.peak.fetch_max(after, Ordering::Relaxed);
        self.fixed_peak.fetch_max(held.unspillable.saturating_sub(held.yielding), Ordering::Relaxed);
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "run"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.held.lock().spillers += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            let mut held = self.held.lock();
            held.spillers = held.spillers.saturating_sub(1);
            held.refused.remove(&consumer.id());
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let mut held = self.held.lock();
        self.change(&mut held, reservation.consumer(), |bytes| bytes + additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut held = self.held.lock();
        held.refused.remove(&reservation.consumer().id());
        self.change(&mut held, reservation.consumer(), |bytes| bytes.saturating_sub(shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held.lock();
        let (limit, can_spill) = (self.limit(&held), reservation.consumer().can_spill());
        let all = limit.saturating_sub(held.sum());
        let left = match can_spill {
            // One that came first must not make the others spill row by row: the last part is shared evenly. Of the
            // rest each takes what it needs: some of them end the query when they do not get the little that they
            // hold with nothing in it.
            true => {
                let each = limit.saturating_sub(held.unspillable) / held.spillers.max(1);
                let plenty = (limit / 100 * PLENTY_PERCENT).saturating_sub(held.sum());
                each.saturating_sub(reservation.size()).max(plenty).min(all)
            }
            false => all,
        };
        let first = reservation.size() + additional <= FIRST_BYTES;
        let consumer = reservation.consumer();
        // It has handed on all that it had: what it holds yet, it holds whatever is said here.
        let emitted = held.refused.remove(&consumer.id()).is_some_and(|refused| additional <= refused);
        if additional > left && !emitted && !(first && self.ledger.has_left(additional)) {
            if consumer.name().starts_with(EMITTER) {
                held.refused.insert(consumer.id(), additional);
            }
            return Err(resources_datafusion_err!(
                "{} asked for {} more and has {}; run {} holds {} of the {} that it may have of this process's {}",
                consumer.name(),
                human_readable_size(additional),
                human_readable_size(reservation.size()),
                self.run_id,
                human_readable_size(held.sum()),
                human_readable_size(limit),
                human_readable_size(self.ledger.total())
            ));
        }
        self.change(&mut held, consumer, |bytes| bytes + additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit(&self.held.lock()))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run(used: {})", human_readable_size(self.used()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.held.get_mut();
        self.ledger.moved(held.promise, held.sum(), 0);
        self.ledger.released(held.promise, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn pool(share: &Arc<Share>) -> Arc<dyn MemoryPool> {
        Arc::clone(share) as Arc<dyn MemoryPool>
    }

    #[test]
    fn a_promise_holds_whatever_others_have() {
        let ledger = Ledger::new(1000 * MIB);
        let (greedy, modest) = (ledger.share("a", Some(100 * MIB)), ledger.share("b", Some(200 * MIB)));
        let all = MemoryConsumer::new("all").register(&pool(&greedy));
        let mut taken = 0;
        while all.try_grow(MIB).is_ok() {
            taken += 1;
        }
        // Its promise, and three quarters of the half that is lent.
        assert_eq!(taken, 100 + 375);
        let own = MemoryConsumer::new("own").register(&pool(&modest));
        own.try_grow(200 * MIB).unwrap();
        // Beyond its promise it gets three quarters of what the other left.
        own.try_grow(90 * MIB).unwrap();
        let refused = own.try_grow(10 * MIB).unwrap_err().to_string();
        assert!(refused.contains("run b holds 290"), "{refused}");
        assert_eq!(ledger.used(), (475 + 290) * MIB);
    }

    #[test]
    fn what_a_run_had_is_free_when_it_ends() {
        let ledger = Ledger::new(1000 * MIB);
        let first = ledger.share("a", Some(400 * MIB));
        let second = ledger.share("b", Some(400 * MIB));
        assert_eq!(second.promise(), 100 * MIB, "half is promised at most");
        let held = MemoryConsumer::new("held").register(&pool(&first));
        held.try_grow(700 * MIB).unwrap();
        assert_eq!(first.peak(), 700 * MIB);
        first.release();
        assert_eq!(ledger.promised(), 100 * MIB);
        drop((held, first, second));
        assert_eq!((ledger.used(), ledger.promised()), (0, 0));
        let again = ledger.share("c", Some(MIB));
        let held = MemoryConsumer::new("held").register(&pool(&again));
        held.try_grow(376 * MIB).unwrap();
        assert!(held.try_grow(1).is_err());
    }

    #[test]
    fn those_that_can_spill_share_evenly_what_the_others_left() {
        let ledger = Ledger::new(1000 * MIB);
        let run = ledger.share("a", Some(25 * MIB));
        let build = MemoryConsumer::new("build").register(&pool(&run));
        build.try_grow(200 * MIB).unwrap();
        let one = MemoryConsumer::new("one").with_can_spill(true).register(&pool(&run));
        let two = MemoryConsumer::new("two").with_can_spill(true).register(&pool(&run));
        one.try_grow(100 * MIB).unwrap();
        assert!(one.try_grow(MIB).is_err(), "half of 400 - 200");
        two.try_grow(100 * MIB).unwrap();
        assert!(build.try_grow(1).is_err());
        assert_eq!((run.fixed_peak(), run.peak()), (200 * MIB, 400 * MIB));
        drop(two);
        one.try_grow(100 * MIB).unwrap();
    }

    #[tokio::test]
    async fn a_sort_holds_little_that_must_stay() {
        use datafusion::execution::runtime_env::RuntimeEnvBuilder;
        use datafusion::prelude::{SessionConfig, SessionContext};

        let ledger = Ledger::new(1000 * MIB);
        let run = ledger.share("a", Some(400 * MIB));
        let env = RuntimeEnvBuilder::new().with_memory_pool(pool(&run)).build_arc().unwrap();
        let config =
            SessionConfig::new().with_target_partitions(1).with_sort_spill_reservation_bytes(2 * MIB);
        let ctx = SessionContext::new_with_config_rt(config, env);
        let sql =
            "select value, repeat('x', 30) || value as s from generate_series(1, 300000) order by s desc";
        let rows = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 300_000);
        assert!(run.peak() > 20 * MIB, "{}", run.peak());
        assert!(run.fixed_peak() <= 4 * MIB, "{} of {}", run.fixed_peak(), run.peak());
    }

    #[test]
    fn an_emptied_table_keeps_what_it_holds() {
        let ledger = Ledger::new(1000 * MIB);
        let run = ledger.share("a", Some(25 * MIB));
        let build = MemoryConsumer::new("build").register(&pool(&run));
        build.try_grow(380 * MIB).unwrap();
        let emitter = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool(&run));
        let (table, other) =
            (emitter("PartialHashAggregateStream[0]"), emitter("FinalHashAggregateStream[0]"));
        table.try_grow(10 * MIB).unwrap();
        assert!(table.try_grow(20 * MIB).is_err());
        table.try_grow(20 * MIB).unwrap();
        assert!(table.try_grow(20 * MIB).is_err(), "it must hand on again");
        table.shrink(MIB);
        assert!(table.try_grow(20 * MIB).is_err(), "it had become smaller in between");
        assert!(other.try_grow(20 * MIB).is_err());
        assert!(other.try_grow(20 * MIB).is_err(), "others can do without");
    }

    #[test]
    fn while_there_is_plenty_nobody_that_can_spill_is_held_to_an_even_share() {
        let ledger = Ledger::new(1000 * MIB);
        let run = ledger.share("a", Some(25 * MIB));
        let consumer = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool(&run));
        let consumers: Vec<_> = (0..40).map(|number| consumer(&number.to_string())).collect();
        // 400 for all, 10 for each: the table of an aggregate takes more than that with nothing in it.
        consumers[0].try_grow(15 * MIB).unwrap();
        consumers[1].try_grow(285 * MIB).unwrap();
        assert!(consumers[2].try_grow(11 * MIB).is_err(), "the last quarter is shared");
        for other in &consumers[2..12] {
            other.try_grow(10 * MIB).unwrap();
        }
        // What none may borrow as it comes is there for the first bytes of those that have none.
        assert!(consumers[12].try_grow(3 * MIB).is_err());
        consumers[12].try_grow(2 * MIB).unwrap();
        assert!(consumers[12].try_grow(1).is_err());
        let build = MemoryConsumer::new("build").register(&pool(&run));
        build.try_grow(2 * MIB).unwrap();
        assert!(build.try_grow(1).is_err());
    }
}
