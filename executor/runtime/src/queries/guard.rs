//! The node that makes work stop: put around every scan, and around every join because a join can go on
//! for long after its scans have ended.
//!
//! [`CancelExec`] is invisible: it has the children, properties, metrics, statistics and downcast identity
//! of the node inside, so engines that count, match or encode nodes see no difference. It is put in when a
//! plan is about to run, after all planning.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs,
};
use futures::{Stream, StreamExt};
use prometheus::IntCounter;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Query;
use crate::control::Failure;
use crate::metrics::ROWS_SCANNED;

/// Nodes that may hand out many more rows than they read.
const JOINS: [&str; 5] =
    ["HashJoinExec", "NestedLoopJoinExec", "CrossJoinExec", "SortMergeJoinExec", "PiecewiseMergeJoinExec"];
/// Leaves of the pipelined engine that stand for a scan.
const SCAN_STAND_INS: [&str; 1] = ["DistributedLeafExec"];

/// In which capacity the process runs the plan; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A scheduler that runs a small query itself.
    Scheduler,
    /// An executor.
    Executor,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Executor => "executor",
        }
    }
}

/// What guarded nodes do besides stopping.
#[derive(Clone)]
pub struct Guard {
    token: CancellationToken,
    query: Option<Arc<Query>>,
    role: Role,
    describe: Option<fn(DataFusionError) -> DataFusionError>,
}

/// Puts a guard with `token` around every scan and join of an executor's `plan`.
pub fn guard(plan: Arc<dyn ExecutionPlan>, token: CancellationToken) -> Arc<dyn ExecutionPlan> {
    let guard = Guard::new(token, Role::Executor);
    guard.apply(Arc::clone(&plan)).unwrap_or_else(|error| {
        // Its answer is right all the same; only a cancel will take longer.
        tracing::warn!(%error, "a plan could not be guarded");
        plan
    })
}

impl Guard {
    /// A guard that stops with `token`.
    pub fn new(token: CancellationToken, role: Role) -> Self {
        Self { token, query: None, role, describe: None }
    }

    /// A guard that stops with the run and counts for it. The run stays registered as long as the plan lives.
    pub fn of(query: Arc<Query>, role: Role) -> Self {
        Self { query: Some(Arc::clone(&query)), ..Self::new(query.token().clone(), role) }
    }

    /// Rewrites the errors of scans, so that their kind survives a way on which only text does.
    pub fn with_errors(mut self, describe: fn(DataFusionError) -> DataFusionError) -> Self {
        self.describe = Some(describe);
        self
    }

    /// Stops with `token` instead, for a part of the run that may end on its own.
    pub fn with_token(self, token: CancellationToken) -> Self {
        Self { token, ..self }
    }

    /// The plan with guards around its scans and joins.
    pub fn apply(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        self.apply_above(plan, &|_| false)
    }

    /// The same, but leaving alone every node that `border` names and all below it.
    pub fn apply_above(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        border: &dyn Fn(&Arc<dyn ExecutionPlan>) -> bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_down_up(
            |node| {
                let recursion =
                    if border(&node) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue };
                Ok(Transformed::new(node, false, recursion))
            },
            |node| {
                let known = node.name() == CancelExec::NAME || border(&node);
                match (known, self.watched(&node)) {
                    (false, Some(counted)) => Ok(Transformed::yes(self.wrap(node, counted))),
                    _ => Ok(Transformed::no(node)),
                }
            },
        )?;
        Ok(plan.data)
    }

    /// Whether a node gets a guard, and if so whether it is a scan whose rows count.
    fn watched(&self, node: &Arc<dyn ExecutionPlan>) -> Option<bool> {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            return Some(scan.data_source().is::<FileScanConfig>());
        }
        if SCAN_STAND_INS.contains(&node.name()) {
            return Some(true);
        }
        JOINS.contains(&node.name()).then_some(false)
    }

    fn wrap(&self, inner: Arc<dyn ExecutionPlan>, counted: bool) -> Arc<dyn ExecutionPlan> {
        Arc::new(CancelExec { inner, guard: self.clone(), counted })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("role", &self.role).finish_non_exhaustive()
    }
}

/// A node that ends with an error as soon as its token is cancelled.
#[derive(Debug)]
pub struct CancelExec {
    inner: Arc<dyn ExecutionPlan>,
    guard: Guard,
    counted: bool,
}

impl CancelExec {
    const NAME: &'static str = "CancelExec";

    /// The node inside.
    pub fn inner(&self) -> &Arc<dyn ExecutionPlan> {
        &self.inner
    }

    fn around(&self, inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { inner, guard: self.guard.clone(), counted: self.counted })
    }
}

impl DisplayAs for CancelExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_as(t, f)
    }
}

impl ExecutionPlan for CancelExec {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn dynamic_expressions_produced(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.dynamic_expressions_produced()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.inner.input_distribution_requirements()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.inner.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.inner.benefits_from_input_partitioning()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.around(Arc::clone(&self.inner).replace_children(children, options)?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.around(Arc::clone(&self.inner).reset_state()?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if self.guard.token.is_cancelled() {
            return Err(Failure::cancelled().into_datafusion());
        }
        // A join may give batch after batch without ever waiting for its inputs; each costs a bit of the
        // task's budget, so that the thread serves others and a dropped reader is noticed.
        let inner = make_cooperative(self.inner.execute(partition, context)?);
        Ok(Box::pin(Guarded {
            schema: inner.schema(),
            inner: Some(inner),
            cancelled: Box::pin(self.guard.token.clone().cancelled_owned()),
            rows: self.counted.then(|| ROWS_SCANNED.with_label_values(&[self.guard.role.as_str()])),
            query: self.guard.query.clone(),
            describe: self.guard.describe,
        }))
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

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.inner.cardinality_effect()
    }
}

/// The batches of a guarded node.
struct Guarded {
    schema: SchemaRef,
    /// Dropped with the first error and at the end, so that what it holds is free at once.
    inner: Option<SendableRecordBatchStream>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Where rows count, if they do.
    rows: Option<IntCounter>,
    query: Option<Arc<Query>>,
    describe: Option<fn(DataFusionError) -> DataFusionError>,
}

impl Stream for Guarded {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else { return Poll::Ready(None) };
        if this.cancelled.as_mut().poll(cx).is_ready() {
            this.inner = None;
            return Poll::Ready(Some(Err(Failure::cancelled().into_datafusion())));
        }
        let item = std::task::ready!(inner.poll_next_unpin(cx));
        Poll::Ready(match item {
            Some(Ok(batch)) => {
                if let Some(counter) = &this.rows {
                    counter.inc_by(batch.num_rows() as u64);
                    if let Some(query) = &this.query {
                        query.add_rows(batch.num_rows() as u64);
                    }
                }
                Some(Ok(batch))
            }
            Some(Err(error)) => {
                this.inner = None;
                Some(Err(match this.describe {
                    Some(describe) => describe(error),
                    None => error,
                }))
            }
            None => {
                this.inner = None;
                None
            }
        })
    }
}

impl RecordBatchStream for Guarded {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::Register;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::TryStreamExt;

    const JOIN: &str = "select count(*) from (values (1), (2)) a(x) join (values (1), (2)) b(y) on x <= y";

    #[tokio::test]
    async fn guarded_plan_answers_alike_and_looks_alike() {
        let (ctx, plan) = plan(JOIN).await;
        let guarded = guard(Arc::clone(&plan), CancellationToken::new());
        assert_eq!(count(&plan), count(&guarded));
        assert!(named(&guarded, "CancelExec") >= 1);
        let batches: Vec<_> = datafusion::physical_plan::execute_stream(guarded, ctx.task_ctx())
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string().matches("| 3").count(),
            1
        );
    }

    #[tokio::test]
    async fn guarding_twice_is_guarding_once() {
        let (_, plan) = plan(JOIN).await;
        let once = guard(plan, CancellationToken::new());
        let twice = guard(Arc::clone(&once), CancellationToken::new());
        assert_eq!(named(&once, "CancelExec"), named(&twice, "CancelExec"));
    }

    #[tokio::test]
    async fn cancelled_run_ends_with_its_code_also_in_the_middle() {
        let register = Register::default();
        let run = register.enter("q.1");
        let endless = "select count(*) from generate_series(1, 1000000000) a(x) cross join generate_series(1, 1000) b(y)";
        let (ctx, plan) = plan(endless).await;
        let guarded = Guard::of(run, Role::Executor).apply(plan).unwrap();
        let stream = datafusion::physical_plan::execute_stream(guarded, ctx.task_ctx()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { stream.try_collect::<Vec<_>>().await });
        tokio::task::yield_now().await;
        assert!(register.cancel("q.1"));
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), tasks.join_next()).await;
        let error = ended.unwrap().unwrap().unwrap().unwrap_err();
        assert_eq!(Failure::find(&error), Some(Failure::cancelled()));
    }

    async fn plan(sql: &str) -> (SessionContext, Arc<dyn ExecutionPlan>) {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        (ctx, plan)
    }

    fn count(plan: &Arc<dyn ExecutionPlan>) -> usize {
        1 + plan.children().into_iter().map(count).sum::<usize>()
    }

    fn named(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
        usize::from(plan.name() == name)
            + plan.children().into_iter().map(|child| named(child, name)).sum::<usize>()
    }
}
