//! Whether a job's graph still adds up: each partition of a stage's output once.
//!
//! When an executor is lost, Ballista rolls stages back and runs tasks again, but leaves
//! what the rolled-back tasks on surviving executors had delivered in the inputs of the
//! next stage and among the results; read as they stand, those would be rows twice. Every
//! shuffle file of ours has a number of its own, so here the locations that a stage was
//! given are compared with those that its producers' successful tasks report. The rule:
//! surplus is taken out, and where something is missing the job must not go on.

use std::collections::{HashMap, HashSet};

use ballista_core::serde::protobuf::{ShuffleWritePartition, SuccessfulTask, task_status};
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{
    ExecutionStage, RunningStage, StageOutput, SuccessfulStage, TaskInfo,
};
use tracing::info;

/// One written partition: executor, file, partition.
type Key = (String, Option<u64>, usize);

/// Written partitions with their row counts.
type Written = HashMap<Key, u64>;

/// A part of a job's result.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) location: PartitionLocation,
    /// Rows that its writer counted.
    pub(super) rows: u64,
}

/// Checks each running stage that has no task yet, and takes surplus inputs out.
pub(super) fn heal(graph: &mut ExecutionGraphBox) -> Result<(), String> {
    for stage_id in fresh_stages(graph) {
        match inputs_of(graph, stage_id)? {
            Inputs::Right => {}
            Inputs::Surplus(valid) => {
                drop_surplus(graph, stage_id, &valid)?;
                if !matches!(inputs_of(graph, stage_id)?, Inputs::Right) {
                    return Err(format!("inputs of stage {stage_id} cannot be repaired"));
                }
            }
        }
    }
    Ok(())
}

/// Where the rows of a finished job are, each once, in the order of their partitions.
pub(super) fn results(graph: &ExecutionGraphBox) -> Result<Vec<Piece>, String> {
    let mut last = graph.stages().values().filter(|stage| stage.output_links().is_empty());
    let (Some(ExecutionStage::Successful(stage)), None) = (last.next(), last.next()) else {
        return Err("the job has no single finished last stage".to_string());
    };
    let mut valid = written(stage)?;
    let pieces = graph.output_locations().into_iter().filter_map(|location| {
        let rows = valid.remove(&key(&location))?;
        Some(Piece { location, rows })
    });
    let mut results: Vec<_> = pieces.collect();
    if let Some((executor, _, partition)) = valid.keys().next() {
        return Err(format!("result partition {partition} on executor {executor} has no location"));
    }
    results.sort_by_key(|piece| (piece.location.partition_id.partition_id, piece.location.file_id));
    Ok(results)
}

/// Running stages that read shuffles and have no task yet.
fn fresh_stages(graph: &ExecutionGraphBox) -> Vec<usize> {
    let stages = graph.stages().iter().filter_map(|(id, stage)| match stage {
        ExecutionStage::Running(stage) if stage.task_infos.is_empty() && !stage.inputs.is_empty() => {
            Some(*id)
        }
        _ => None,
    });
    stages.collect()
}

/// How a stage's inputs compare with what its producers report.
enum Inputs {
    Right,
    /// There is more; these are right, by producer.
    Surplus(HashMap<usize, Written>),
}

fn inputs_of(graph: &ExecutionGraphBox, stage_id: usize) -> Result<Inputs, String> {
    let Some(ExecutionStage::Running(stage)) = graph.stages().get(&stage_id) else {
        return Err(format!("stage {stage_id} is not running"));
    };
    let mut valid = HashMap::new();
    let mut surplus = false;
    for (producer, input) in &stage.inputs {
        let Some(ExecutionStage::Successful(done)) = graph.stages().get(producer) else {
            return Err(format!("stage {stage_id} runs although its input {producer} is not done"));
        };
        let expected = written(done)?;
        let given: Vec<Key> = input.partition_locations.values().flatten().map(key).collect();
        let distinct: HashSet<&Key> = given.iter().collect();
        if let Some((executor, _, partition)) = expected.keys().find(|key| !distinct.contains(key)) {
            return Err(format!(
                "stage {stage_id} lacks partition {partition} of stage {producer} from executor {executor}"
            ));
        }
        surplus |= given.len() != expected.len();
        valid.insert(*producer, expected);
    }
    Ok(if surplus { Inputs::Surplus(valid) } else { Inputs::Right })
}

/// Leaves only valid locations in the stage's inputs and builds its plan anew from them.
fn drop_surplus(
    graph: &mut ExecutionGraphBox,
    stage_id: usize,
    valid: &HashMap<usize, Written>,
) -> Result<(), String> {
    let others: Vec<usize> = graph.stages().keys().copied().filter(|id| *id != stage_id).collect();
    let Some(stage) = graph.fetch_running_stage(&others) else {
        return Err(format!("stage {stage_id} has no task left to bind"));
    };
    retain(stage, valid);
    info!(job = %graph.job_id(), stage = stage_id, "inputs of a lost attempt were dropped");
    // Back and forth again, as after a lost input: only so does Ballista write the
    // locations into the plan's shuffle readers.
    let text = |error: ballista_core::error::BallistaError| error.to_string();
    graph.rollback_running_stage(stage_id, HashSet::new()).map_err(text)?;
    graph.resolve_stage(stage_id).map_err(text)?;
    graph.revive();
    Ok(())
}

fn retain(stage: &mut RunningStage, valid: &HashMap<usize, Written>) {
    for (producer, StageOutput { partition_locations, .. }) in &mut stage.inputs {
        let mut left = valid.get(producer).cloned().unwrap_or_default();
        for locations in partition_locations.values_mut() {
            locations.retain(|location| left.remove(&key(location)).is_some());
        }
    }
}

/// What the successful tasks of a finished stage wrote. Fails unless they cover each
/// partition of the stage exactly once.
fn written(stage: &SuccessfulStage) -> Result<Written, String> {
    let mut covered = vec![false; stage.partitions];
    let mut keys = Written::new();
    for (task, partitions) in stage.task_infos.iter().filter_map(successful) {
        for partition in partitions {
            match covered.get_mut(*partition) {
                Some(covered) if !*covered => *covered = true,
                _ => return Err(format!("partition {partition} of stage {} ran twice", stage.stage_id)),
            }
        }
        for ShuffleWritePartition { partition_id, file_id, num_rows, .. } in &task.partitions {
            keys.insert((task.executor_id.clone(), *file_id, *partition_id as usize), *num_rows);
        }
    }
    match covered.iter().position(|covered| !covered) {
        Some(partition) => Err(format!("partition {partition} of stage {} did not run", stage.stage_id)),
        None => Ok(keys),
    }
}

fn successful(task: &TaskInfo) -> Option<(&SuccessfulTask, &[usize])> {
    match &task.task_status {
        task_status::Status::Successful(done) => Some((done, &task.global_input_partition_ids)),
        _ => None,
    }
}

fn key(location: &PartitionLocation) -> Key {
    (location.executor_meta.id.clone(), location.file_id, location.partition_id.partition_id)
}
