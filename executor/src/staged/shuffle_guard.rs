//! Shuffle reads that stop with their task.
//!
//! A stage above the scans reads nothing but shuffles, and what reads them goes on when its
//! task is dropped. The node here hides the reader inside, because Ballista's engine builds
//! readers anew where it finds them; what it would have given them is given before.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};
use futures::StreamExt;
use tarn_runtime::control::Failure;
use tokio_util::sync::CancellationToken;

use super::pool::Pool;

/// The plan with its shuffle readers made ready and guarded.
pub(super) fn apply(
    plan: Arc<dyn ExecutionPlan>,
    work_dir: &str,
    pool: &Arc<Pool>,
    token: &CancellationToken,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let inner: Arc<dyn ExecutionPlan> = if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
            Arc::new(reader.with_work_dir(work_dir.to_string()).with_client_pool(Arc::<Pool>::clone(pool)))
        } else if let Some(reader) = node.downcast_ref::<RangeShuffleReaderExec>() {
            Arc::new(reader.with_work_dir(work_dir.to_string()).with_client_pool(Arc::<Pool>::clone(pool)))
        } else {
            return Ok(Transformed::no(node));
        };
        let guarded = GuardedShuffleExec { inner, token: token.clone() };
        Ok(Transformed::yes(Arc::new(guarded) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

#[derive(Debug)]
struct GuardedShuffleExec {
    inner: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
}

impl DisplayAs for GuardedShuffleExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_as(t, f)
    }
}

impl ExecutionPlan for GuardedShuffleExec {
    fn name(&self) -> &str {
        "GuardedShuffleExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inner = self.inner.execute(partition, context)?;
        let schema = inner.schema();
        let cancelled = self.token.clone().cancelled_owned();
        // The stream ends with the token, and the error after it makes sure that nobody
        // takes what came so far for everything.
        let token = self.token.clone();
        let ended = futures::stream::once(async move { token.is_cancelled() })
            .filter_map(|cancelled| async move { cancelled.then(cancel_error) });
        let guarded = inner.take_until(cancelled).chain(ended);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, guarded)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.inner.statistics_from_inputs(inputs, args)
    }
}

fn cancel_error() -> Result<RecordBatch> {
    Err(Failure::cancelled().into_datafusion())
}
