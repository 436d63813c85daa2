//! How one task runs.
//!
//! Around Ballista's own engine: the task's work is done by the process's CPU runtime; every
//! scan, join and shuffle read carries the run's token, and a task that is dropped or fails
//! takes all that it spawned with it; each task writes files with a number of their own, so
//! an attempt that is late cannot touch the files of the next; errors leave with a code.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::StageStats;
use tarn_runtime::options::TarnOptions;
use tarn_runtime::queries::{Guard, Query, Role, operators};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pool::Pool;
use super::{compact, failure, shuffle_guard};

/// Ballista's engine with ours around it.
pub(super) struct Engine {
    runtime: Runtime,
    inner: DefaultExecutionEngine,
    pool: Arc<Pool>,
    /// The number of the next task's files; each executor begins at a number of its own.
    next_file: AtomicUsize,
}

impl Engine {
    pub(super) fn new(runtime: Runtime) -> Self {
        let pool = Arc::new(Pool::default());
        let inner = DefaultExecutionEngine::with_client_pool(Arc::<Pool>::clone(&pool));
        // A reader takes a file of that number in its own folder for the one that it looks for, so no two
        // executors may count alike.
        let first_file = Uuid::new_v4().as_u64_pair().0 >> 16;
        let next_file = AtomicUsize::new(usize::try_from(first_file).unwrap_or_default());
        Self { runtime, inner, pool, next_file }
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        _task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let options = TarnOptions::of(config);
        let run_id = match options.run_id {
            run_id if run_id.is_empty() => job_id.to_string(),
            run_id => run_id,
        };
        let run = self.runtime.queries().enter(&run_id);
        let token = run.token().child_token();
        let plan = tarn_scan::with_query_id(plan, &run_id)?;
        let plan = shuffle_guard::apply(plan, work_dir, &self.pool, &token)?;
        let plan = compact::apply(plan)?;
        let plan = Guard::of(Arc::clone(&run), Role::Executor).with_token(token.clone()).apply(plan)?;
        let env = self.runtime.env_of(&run, config);
        let file = self.next_file.fetch_add(1, Ordering::Relaxed);
        let analyzed = options.analyze.then(|| (stage_id, Arc::clone(&plan)));
        let inner = self.inner.create_query_stage_exec(
            job_id,
            stage_id,
            file,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        let cpu = self.runtime.cpu_of(config).clone();
        Ok(Arc::new(Task { inner, token, cpu, env, run, analyzed }))
    }
}

impl Task {
    /// Notes what the operators counted, if that is asked for.
    fn tell(&self) {
        if let Some((stage, plan)) = &self.analyzed {
            // Ballista's engine has a plan of its own, of the same form.
            let operators = operators(plan.as_ref(), &self.inner.collect_plan_metrics());
            self.run.add_stage(&StageStats { stage: *stage as u32, tasks: 1, operators });
        }
    }
}

/// One task on its way.
struct Task {
    inner: Arc<dyn QueryStageExecutor>,
    token: CancellationToken,
    cpu: Handle,
    /// The run's own, with its share of the memory.
    env: Arc<RuntimeEnv>,
    /// Held, so that the run stays registered.
    run: Arc<Query>,
    /// The stage and its plan, if what its operators count is to be told.
    analyzed: Option<(usize, Arc<dyn ExecutionPlan>)>,
}

#[async_trait]
impl QueryStageExecutor for Task {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        // Ballista's writers go on in tasks that nobody owns; the token reaches them.
        let stop = self.token.clone().drop_guard();
        let context = Arc::new(TaskContext::new(
            context.task_id(),
            context.session_id(),
            context.session_config().clone(),
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            Arc::clone(&self.env),
        ));
        let inner = Arc::clone(&self.inner);
        let mut work = JoinSet::new();
        work.spawn_on(async move { inner.execute_query_stage(task_id, context).await }, &self.cpu);
        let outcome = match work.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(DataFusionError::Internal(format!("a task ended early: {error}"))),
            None => Err(DataFusionError::Internal("a task did not start".to_string())),
        };
        match outcome {
            Ok(partitions) => {
                stop.disarm();
                self.tell();
                Ok(partitions)
            }
            Err(error) => Err(failure::describe(error)),
        }
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        // Tasks of one stage may differ in their number of nodes (a branch of a union that a
        // task does not own becomes another node). The scheduler then refuses the whole
        // report, but counts the task as done: its rows would be missing.
        Vec::new()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.inner).finish()
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
