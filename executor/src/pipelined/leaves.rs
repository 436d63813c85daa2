//! What datafusion-distributed asks about a stage: how many tasks, which files each of them reads, and where
//! each runs.
//!
//! Its own answers cut files at any byte and place tasks at random. Ours give every task whole files or even
//! ranges of large ones, and every file to the executor that read it before. The rule: over the tasks of a scan,
//! every file task is read exactly once.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning};
use datafusion_distributed::{
    BroadcastExec, DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec,
    NetworkBoundaryExt, RouteTasksEvent, RouteTasksEventResponse, ScaleUpLeafNodeEvent,
    ScaleUpLeafNodeEventResponse,
};
use tarn_runtime::affinity;
use tarn_runtime::options::TarnOptions;
use tarn_runtime::placement::{self, File, Piece};
use tarn_scan::{FileTask, ScanView, scan_of, with_groups};
use url::Url;

/// The live executors of one run, in the order that the scheduler gave.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    /// Id and address of each.
    pub(super) all: Vec<(String, Url)>,
    /// The root, by index.
    pub(super) root: usize,
}

impl Workers {
    fn ids(&self) -> Vec<&str> {
        self.all.iter().map(|(id, _)| id.as_str()).collect()
    }

    pub(super) fn urls(&self) -> Vec<Url> {
        self.all.iter().map(|(_, url)| url.clone()).collect()
    }
}

/// How many tasks a node wants in its stage.
pub(super) fn desired_tasks(
    workers: &Workers,
    event: &DesiredTaskCountEvent<'_>,
) -> Option<Result<DesiredTaskCountEventResponse>> {
    if let Some(view) = scan_of(event.plan) {
        let task_bytes = TarnOptions::of(event.session_config).task_bytes;
        return Some(Ok(match event.plan.output_ordering() {
            // Rows that come in an order would lose it with other groups.
            Some(_) => DesiredTaskCountEventResponse::maximum(1),
            None => DesiredTaskCountEventResponse::desired(placement::tasks(
                bytes(&view),
                task_bytes,
                workers.all.len(),
            )),
        }));
    }
    needs_one_task(event.plan).then(|| Ok(DesiredTaskCountEventResponse::maximum(1)))
}

/// The scan as one leaf a task.
pub(super) fn scale_up(
    workers: &Workers,
    event: &ScaleUpLeafNodeEvent<'_>,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let view = scan_of(event.plan)?;
    if event.task_count <= 1 {
        return Some(Ok(ScaleUpLeafNodeEventResponse::new(Arc::clone(event.plan))));
    }
    let options = TarnOptions::of(event.session_config);
    Some(split(event.plan, &view, event.task_count, workers, &options).and_then(|variants| {
        let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), variants)?;
        Ok(ScaleUpLeafNodeEventResponse::new(Arc::new(leaf)))
    }))
}

/// Where the tasks of a stage run. A stage without scans is left to the engine's own rules, but for a single
/// task, which stays with the root.
pub(super) fn route(
    workers: &Workers,
    event: &RouteTasksEvent<'_>,
) -> Option<Result<RouteTasksEventResponse>> {
    let ids = workers.ids();
    let seats = match event.task_count {
        1 => vec![single_seat(event.plan, &ids).unwrap_or(workers.root)],
        count if count <= ids.len() => placement::seats(&largest_table(event.plan, count)?, count, &ids),
        _ => return None,
    };
    let urls = seats.into_iter().map(|seat| workers.all[seat].1.clone()).collect();
    Some(Ok(RouteTasksEventResponse::new(urls)))
}

/// One leaf a task, all with as many partitions as the scan has.
fn split(
    plan: &Arc<dyn ExecutionPlan>,
    view: &ScanView,
    tasks: usize,
    workers: &Workers,
    options: &TarnOptions,
) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    let partitions = plan.output_partitioning().partition_count();
    let file_tasks: Vec<&FileTask> = view.groups.iter().flatten().collect();
    let files: Vec<File<'_>> =
        file_tasks.iter().map(|task| File { uri: &task.uri, bytes: range(task) }).collect();
    let shares = placement::split(
        &table_key(view),
        &files,
        tasks,
        partitions,
        &workers.ids(),
        options.range_bytes_min,
    );
    let own = |piece: &Piece| {
        let task = file_tasks[piece.file];
        FileTask { range: piece.range.clone().or_else(|| task.range.clone()), ..task.clone() }
    };
    let variants = shares.iter().map(|share| {
        let groups = share.groups.iter().map(|group| group.iter().map(own).collect()).collect();
        with_groups(plan, groups)
    });
    let variants = variants.collect::<Result<Vec<_>>>()?;
    check(view, &variants)?;
    Ok(variants)
}

/// Over all tasks, every byte of every file task once: going on otherwise would lose or invent rows.
fn check(view: &ScanView, variants: &[Arc<dyn ExecutionPlan>]) -> Result<()> {
    let planned: u64 = view.groups.iter().flatten().map(length).sum();
    let split: u64 = variants
        .iter()
        .filter_map(scan_of)
        .map(|view| view.groups.iter().flatten().map(length).sum::<u64>())
        .sum();
    match planned == split {
        true => Ok(()),
        false => {
            Err(DataFusionError::Internal(format!("a scan of {planned} bytes was split into {split} bytes")))
        }
    }
}

/// Whether a node would count each task's rows as all rows: it wants its input in one piece, or rows of one key
/// together, and that is so only because the scan below it, in the same stage, has a single partition.
fn needs_one_task(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let requirements = plan.input_distribution_requirements();
    let together =
        |distribution: &Distribution| !matches!(distribution, Distribution::UnspecifiedDistribution);
    plan.children().into_iter().zip(requirements.per_child_distributions()).any(|(child, distribution)| {
        together(distribution) && child.output_partitioning().partition_count() <= 1 && scans_in_stage(child)
    })
}

/// Whether there is a scan below the node in its own stage.
fn scans_in_stage(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if is_border(plan) {
        return false;
    }
    scan_of(plan).is_some() || plan.children().into_iter().any(scans_in_stage)
}

/// Whether the engine cuts the plan below or above this node.
fn is_border(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let shuffles = |exchange: &RepartitionExec| matches!(exchange.partitioning(), Partitioning::Hash(..));
    plan.is::<BroadcastExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is_network_boundary()
        || plan.downcast_ref::<RepartitionExec>().is_some_and(shuffles)
}

/// The executor that most bytes of a one-task stage belong to.
fn single_seat(head: &Arc<dyn ExecutionPlan>, ids: &[&str]) -> Option<usize> {
    let mut bytes_by_seat = vec![0u64; ids.len()];
    for leaf in leaves(head) {
        let view = scan_of(leaf.downcast_ref::<DistributedLeafExec>().map_or(&leaf, |leaf| leaf.original()))?;
        let files: Vec<(&str, u64)> =
            view.groups.iter().flatten().map(|task| (task.uri.as_str(), length(task))).collect();
        for (file, seat) in files.iter().zip(affinity::assign(&files, ids)) {
            bytes_by_seat[seat] += file.1;
        }
    }
    let most = bytes_by_seat.iter().max().copied().filter(|bytes| *bytes > 0)?;
    bytes_by_seat.iter().position(|bytes| *bytes == most)
}

/// The table of the largest scan that is split into `count` tasks.
fn largest_table(head: &Arc<dyn ExecutionPlan>, count: usize) -> Option<String> {
    let views = leaves(head).into_iter().filter_map(|leaf| {
        let leaf = leaf.downcast_ref::<DistributedLeafExec>()?;
        (leaf.variants().len() == count).then(|| scan_of(leaf.original()))?
    });
    views.max_by_key(bytes).map(|view| table_key(&view))
}

/// The leaves of the stage with this head.
fn leaves(head: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut leaves = Vec::new();
    let visited = head.apply(|node| {
        if node.is_network_boundary() {
            return Ok(TreeNodeRecursion::Jump);
        }
        if node.is::<DistributedLeafExec>() || scan_of(node).is_some() {
            leaves.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "looking at a plan does not fail");
    leaves
}

fn table_key(view: &ScanView) -> String {
    view.scan.table_uuid.to_string()
}

fn bytes(view: &ScanView) -> u64 {
    view.groups.iter().flatten().map(length).sum()
}

fn range(task: &FileTask) -> std::ops::Range<u64> {
    task.range.clone().unwrap_or(0..task.size_bytes)
}

fn length(task: &FileTask) -> u64 {
    let range = range(task);
    range.end.saturating_sub(range.start)
}
