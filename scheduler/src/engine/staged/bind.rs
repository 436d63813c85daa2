//! Which partitions run as one task on which executor.
//!
//! Jobs take turns: who holds the fewest cores, and then who was given the least so far, is
//! next, so a long query cannot starve a short one. A stage is spread over all executors, in
//! slices of about equal width. The rule: nothing is bound for a graph that does not add up (see `lineage`).

use std::collections::HashMap;
use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::scheduler::TaskKey;
use ballista_scheduler::cluster::BoundTask;
use ballista_scheduler::state::execution_graph::{TaskDescription, create_task_info};
use ballista_scheduler::state::execution_stage::RunningStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use tracing::{debug, warn};

use super::cluster_state::running_tasks;
use super::lineage;

/// Free cores of one executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) executor_id: String,
    pub(super) free: u32,
}

/// The outcome of one round.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) tasks: Vec<BoundTask>,
    /// Jobs whose graph does not add up, with the reason.
    pub(super) doubts: HashMap<JobId, String>,
}

/// A job that waits for cores.
struct Turn<'a> {
    id: &'a JobId,
    job: &'a JobInfoCache,
    /// Cores that its tasks hold.
    held: u32,
    /// Cores that all its tasks so far were given.
    given: u32,
}

/// Binds as many tasks as there are cores for.
pub(super) async fn bind(mut budgets: Vec<Budget>, jobs: Vec<(&JobId, &JobInfoCache)>) -> Bound {
    let mut bound = Bound::default();
    let mut turns = Vec::with_capacity(jobs.len());
    for (id, job) in jobs {
        let mut graph = job.execution_graph.write().await;
        graph.revive();
        if let Err(reason) = lineage::heal(&mut graph) {
            warn!(job = %id, reason, "graph does not add up");
            bound.doubts.insert(id.clone(), reason);
            continue;
        }
        if graph.available_tasks() == 0 {
            continue;
        }
        let held = running_tasks(graph.stages().values()).map(|(_, cores)| cores).sum();
        let tasks = graph.stages().values().filter_map(|stage| stage.task_infos()).flatten();
        let given = tasks.map(|task| task.vcores_consumed).sum();
        drop(graph);
        turns.push(Turn { id, job, held, given });
    }
    loop {
        let free: u32 = budgets.iter().map(|budget| budget.free).sum();
        let order = |i: &usize| (turns[*i].held, turns[*i].given, turns[*i].id);
        let Some(next) = (0..turns.len()).min_by_key(order).filter(|_| free > 0) else { break };
        let share = free.div_ceil(turns.len() as u32);
        let turn = &mut turns[next];
        match bind_one(turn, &mut budgets, share as usize).await {
            Some(task) => {
                turn.held += task.1.vcores_consumed;
                turn.given += task.1.vcores_consumed;
                bound.tasks.push(task);
            }
            None => {
                turns.swap_remove(next);
            }
        }
    }
    bound
}

/// Binds one task of the job, at most `share` wide, on the executor with the most free cores.
async fn bind_one(turn: &Turn<'_>, budgets: &mut [Budget], share: usize) -> Option<BoundTask> {
    let mut graph = turn.job.execution_graph.write().await;
    let session_id = graph.session_id().to_string();
    let stage = graph.fetch_running_stage(&[])?;
    let executors = budgets.len();
    let budget = budgets.iter_mut().max_by_key(|budget| budget.free).filter(|budget| budget.free > 0)?;

    let whole = reads_whole_input(&stage.plan);
    let width = if whole {
        usize::MAX
    } else {
        stage.partitions.div_ceil(executors).min(share).clamp(1, budget.free as usize)
    };
    let partitions = stage.pending.next_slice(width);
    if partitions.is_empty() {
        return None;
    }
    // One core drives a plan that ends in one partition, however many it reads.
    let cores = if whole { 1 } else { partitions.len() as u32 };
    budget.free -= cores;
    let task = describe(stage, turn.id, session_id, &budget.executor_id, partitions, cores);
    Some((budget.executor_id.clone(), task))
}

/// Enters the task into its stage and describes it for the launch.
fn describe(
    stage: &mut RunningStage,
    job_id: &JobId,
    session_id: String,
    executor_id: &str,
    partitions: Vec<usize>,
    cores: u32,
) -> TaskDescription {
    // A task's id is its place in the stage's list.
    let task_id = stage.task_infos.len();
    let task_attempt =
        partitions.iter().filter_map(|p| stage.task_failure_numbers.get(*p)).max().copied().unwrap_or(0);
    let mut info = create_task_info(executor_id.to_string(), task_id);
    info.global_input_partition_ids.clone_from(&partitions);
    info.vcores_consumed = cores;
    stage.task_infos.push(info);
    debug!(job = %job_id, stage = stage.stage_id, task = task_id, executor_id, ?partitions, "task bound");
    TaskDescription {
        session_id,
        key: TaskKey { job_id: job_id.clone(), stage_id: stage.stage_id, task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt,
        global_input_partition_ids: partitions,
        vcores_consumed: cores,
        plan: Arc::clone(&stage.plan),
        session_config: Arc::clone(&stage.session_config),
    }
}

/// Whether an operator of the stage needs its whole input in one place, so that the stage
/// must be one task: somewhere on the single path below the writer there is one partition.
fn reads_whole_input(writer: &Arc<dyn ExecutionPlan>) -> bool {
    let mut node = writer;
    loop {
        let children = node.children();
        let [child] = children.as_slice() else { return false };
        let child: &Arc<dyn ExecutionPlan> = child;
        if child.is::<ShuffleReaderExec>() || child.is::<RangeShuffleReaderExec>() {
            return false;
        }
        if child.output_partitioning().partition_count() == 1 {
            return true;
        }
        node = child;
    }
}
