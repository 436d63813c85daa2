//! How much memory a plan is likely to need, from the same statistics that it was made from.
//!
//! An estimate: admission promises so much, the choice of mode goes by it, and what earlier runs used corrects it.
//! The rule: rows of a join are never taken for more than its largest scan has, since guesses multiply up a plan.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// Bytes that a value of variable length is taken for.
const TEXT_BYTES: u64 = 32;
/// Bytes of a hash table's entry beside its row.
const ENTRY_BYTES: u64 = 24;
/// What any plan needs for the batches on their way.
const BASE_BYTES: u64 = 8 << 20;
/// More than this an operator that can spill is not promised: it spills.
const SPILLER_BYTES_MAX: u64 = 256 << 20;
/// Rows of a leaf that tells nothing.
const ROWS_UNKNOWN: u64 = 1 << 20;

/// Bytes of memory that a plan is likely to need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Held whole by each process: the build sides of joins that are not partitioned.
    pub copied: u64,
    /// Held in parts by the processes: the build sides of partitioned joins.
    pub spread: u64,
    /// Held by operators that can spill.
    pub spillable: u64,
}

impl MemoryNeed {
    /// Bytes in one of so many processes without which it fails.
    pub fn fixed_bytes(&self, processes: usize) -> u64 {
        self.copied.saturating_add(self.spread / processes.max(1) as u64)
    }

    /// Bytes in one of so many processes that operators hold which can spill.
    pub fn spillable_bytes(&self, processes: usize) -> u64 {
        (self.spillable / processes.max(1) as u64).saturating_add(BASE_BYTES)
    }
}

/// What a plan is likely to need.
pub fn memory_need(plan: &Arc<dyn ExecutionPlan>) -> MemoryNeed {
    let mut need = MemoryNeed::default();
    visit(plan, &StatisticsContext::new(), &mut need);
    need
}

/// Adds up the operators of a plan; returns the rows of its largest leaf.
fn visit(plan: &Arc<dyn ExecutionPlan>, statistics: &StatisticsContext, need: &mut MemoryNeed) -> u64 {
    let children = plan.children();
    let leaves: Vec<u64> = children.iter().map(|child| visit(child, statistics, need)).collect();
    let held = |at: usize| bytes_of(children[at], statistics, leaves[at]);
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        match join.partition_mode() {
            PartitionMode::Partitioned => need.spread = need.spread.saturating_add(held(0)),
            _ => need.copied = need.copied.saturating_add(held(0)),
        }
    } else if plan.is::<CrossJoinExec>() || plan.is::<NestedLoopJoinExec>() {
        need.copied = need.copied.saturating_add(held(0));
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        if !aggregate.group_expr().expr().is_empty() {
            // Rows after it where they are known, else all before it.
            let groups = bytes_of(plan, statistics, leaves[0]);
            need.spillable = need.spillable.saturating_add(groups.min(SPILLER_BYTES_MAX));
        }
    } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
        if sort.fetch().is_none() {
            need.spillable = need.spillable.saturating_add(held(0).min(SPILLER_BYTES_MAX));
        }
    } else if plan.is::<SortMergeJoinExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
    {
        need.spillable = need.spillable.saturating_add(held(0).min(SPILLER_BYTES_MAX));
    }
    match leaves.into_iter().max() {
        Some(rows) => rows,
        None => rows_of(plan, statistics).unwrap_or(ROWS_UNKNOWN),
    }
}

fn rows_of(plan: &Arc<dyn ExecutionPlan>, statistics: &StatisticsContext) -> Option<u64> {
    let statistics = statistics.compute(plan.as_ref(), &StatisticsArgs::new()).ok()?;
    statistics.num_rows.get_value().map(|rows| *rows as u64)
}

fn bytes_of(plan: &Arc<dyn ExecutionPlan>, statistics: &StatisticsContext, rows_max: u64) -> u64 {
    let rows = rows_of(plan, statistics).map_or(rows_max, |rows| rows.min(rows_max));
    rows.saturating_mul(row_bytes(&plan.schema()) + ENTRY_BYTES)
}

/// Bytes of a row in memory.
fn row_bytes(schema: &Schema) -> u64 {
    schema.fields().iter().map(|field| value_bytes(field.data_type())).sum()
}

fn value_bytes(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean | DataType::Null => 1,
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or_default(),
        other => other.primitive_width().map_or(TEXT_BYTES, |width| width as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{SessionConfig, SessionContext};

    async fn need(sql: &str) -> MemoryNeed {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let rows = |table: &str, n: usize| {
            let values: Vec<String> = (0..n).map(|i| format!("({i}, 'x')")).collect();
            format!("create table {table} as select * from (values {}) as v(k, s)", values.join(", "))
        };
        for (table, n) in [("small", 10), ("large", 1000)] {
            ctx.sql(&rows(table, n)).await.unwrap();
        }
        let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        memory_need(&plan)
    }

    #[tokio::test]
    async fn a_scan_holds_nothing_and_a_join_its_build_side() {
        assert_eq!(need("select k from large where k > 3").await, MemoryNeed::default());
        let join = need("select * from large join small on large.k = small.k").await;
        let row = 2 * (8 + TEXT_BYTES + ENTRY_BYTES);
        assert!((1..=10 * row).contains(&(join.copied + join.spread)), "{join:?}");
        let self_join = need("select * from large a join large b on a.k = b.k").await;
        assert!(self_join.copied + self_join.spread > join.copied + join.spread);
    }

    #[tokio::test]
    async fn groups_and_sorts_can_spill() {
        let groups = need("select k, count(*) from large group by k").await;
        assert!(groups.spillable > 0 && groups.fixed_bytes(1) == 0, "{groups:?}");
        assert!(need("select * from large order by k").await.spillable > 0);
        assert_eq!(need("select * from large order by k limit 5").await, MemoryNeed::default());
        assert!(groups.spillable_bytes(1) > BASE_BYTES);
    }

    #[test]
    fn what_is_partitioned_is_divided() {
        let need = MemoryNeed { copied: 100, spread: 1000, spillable: 0 };
        assert_eq!((need.fixed_bytes(1), need.fixed_bytes(4), need.fixed_bytes(0)), (1100, 350, 1100));
    }
}
