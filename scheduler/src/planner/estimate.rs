//! What a physical plan will read, from the pinned snapshots' exact statistics.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;

/// What one scan of a plan reads.
#[derive(Debug, Clone)]
pub struct ScanEstimate {
    /// The table, as `catalog.schema.table`.
    pub table: String,
    /// The snapshot that is read.
    pub snapshot_id: Option<i64>,
    /// Data files to be read, in whole or in part.
    pub files: usize,
    /// Bytes of them in the store.
    pub bytes: u64,
    /// Rows in them before any filter.
    pub rows: u64,
}

/// What a whole plan reads.
#[derive(Debug, Clone, Default)]
pub struct Estimate {
    /// Each scan, in the order of the plan.
    pub scans: Vec<ScanEstimate>,
}

impl Estimate {
    /// Bytes of all scans in the store.
    pub fn bytes(&self) -> u64 {
        self.scans.iter().map(|scan| scan.bytes).sum()
    }
}

/// Adds up the file tasks of every scan in a plan.
pub fn estimate(plan: &Arc<dyn ExecutionPlan>) -> Estimate {
    let mut estimate = Estimate::default();
    // The closure never fails, so neither does the walk.
    let _ = plan.apply(|node| {
        if let Some(view) = tarn_scan::scan_of(node) {
            let tasks = || view.groups.iter().flatten();
            estimate.scans.push(ScanEstimate {
                table: view.scan.table.clone(),
                snapshot_id: view.scan.snapshot_id,
                files: tasks().map(|task| task.uri.as_str()).collect::<HashSet<_>>().len(),
                bytes: tasks()
                    .map(|task| task.range.as_ref().map_or(task.size_bytes, |range| range.end - range.start))
                    .sum(),
                rows: tasks()
                    .filter(|task| task.range.as_ref().is_none_or(|r| r.start == 0))
                    .map(|task| task.record_count)
                    .sum(),
            });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    estimate
}
