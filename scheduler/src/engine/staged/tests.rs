//! The cluster state, the binding and the check of graphs, on small graphs without executors.

use std::collections::HashMap;
use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::serde::protobuf::{ShuffleWritePartition, SuccessfulTask, TaskStatus, task_status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::{BoundTask, ClusterState};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::planner::DefaultDistributedPlanner;
use ballista_scheduler::state::execution_graph::{ExecutionGraphBox, StaticExecutionGraph};
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;

use super::cluster_state::{Cluster, Presence, Roster};
use super::{lineage, planning};

/// Partitions of the scanned table.
const PARTITIONS: usize = 4;
/// More failures than a test makes.
const MANY: usize = 10;

#[tokio::test]
async fn stage_is_spread_over_the_executors() {
    let world = World::with_executors(&[("a", 4), ("b", 4)]).await;
    let jobs = jobs([("job", graph("job").await)]);

    let bound = world.bind(&jobs).await;

    assert_eq!(widths(&bound), [("a".to_string(), 2), ("b".to_string(), 2)]);
}

#[tokio::test]
async fn jobs_share_the_cores() {
    let world = World::with_executors(&[("a", 2)]).await;
    let jobs = jobs([("first", graph("first").await), ("second", graph("second").await)]);
    assert_eq!(served(&world.bind(&jobs).await), ["first", "second"]);
}

#[tokio::test]
async fn job_that_was_given_less_is_next() {
    let world = World::with_executors(&[("a", 1)]).await;
    let jobs = jobs([("first", graph("first").await), ("second", graph("second").await)]);
    for turn in ["first", "second", "first", "second"] {
        let bound = world.bind(&jobs).await;
        assert_eq!(served(&bound), [turn]);
        finish(&jobs[turn], &bound).await;
    }
}

#[tokio::test]
async fn cores_of_rolled_back_tasks_are_free_again() {
    let world = World::with_executors(&[("a", 2), ("b", 2)]).await;
    let jobs = jobs([("job", graph("job").await)]);
    let bound = world.bind(&jobs).await;
    assert_eq!(bound.len(), 2);
    assert_eq!(world.cluster.free_cores(&jobs).await, 0);

    // Nobody gives anything back: the executor is gone, and its task with it.
    world.cluster.remove_executor("b").await.unwrap();
    jobs["job"].execution_graph.write().await.reset_stages_on_lost_executor("b").unwrap();

    assert_eq!(world.cluster.free_cores(&jobs).await, 0);
    finish(&jobs["job"], &only(&bound, "a")).await;
    assert_eq!(world.cluster.free_cores(&jobs).await, 2);
    assert_eq!(widths(&world.bind(&jobs).await), [("a".to_string(), 2)]);
}

#[tokio::test]
async fn executors_that_drain_or_are_no_members_get_no_tasks() {
    let world = World::with_executors(&[("a", 2), ("b", 2), ("c", 2)]).await;
    world.roster.set("a", Presence::Draining);
    world.roster.set("b", Presence::Absent);
    let jobs = jobs([("job", graph("job").await)]);

    let bound = world.bind(&jobs).await;

    assert_eq!(widths(&bound), [("c".to_string(), 2)]);
    assert_eq!(world.cluster.departed(), ["b"]);
}

#[tokio::test]
async fn second_registration_under_one_id_is_refused_until_the_first_is_lost() {
    let world = World::with_executors(&[("a", 2)]).await;
    assert!(world.cluster.register_executor(metadata("a"), data("a", 2)).await.is_err());
    world.cluster.remove_executor("a").await.unwrap();
    assert!(world.cluster.register_executor(metadata("a"), data("a", 2)).await.is_ok());
}

#[tokio::test]
async fn inputs_of_a_lost_attempt_are_not_read_twice() {
    let world = World::with_executors(&[("a", 2), ("b", 2)]).await;
    let jobs = jobs([("job", graph("job").await)]);
    let job = &jobs["job"];
    finish(job, &world.bind(&jobs).await).await;
    // The second stage runs on both; one task is done when the other's executor is lost.
    let second = world.bind(&jobs).await;
    assert_eq!(second.len(), 2);
    finish(job, &only(&second, "a")).await;
    world.cluster.remove_executor("b").await.unwrap();
    job.execution_graph.write().await.reset_stages_on_lost_executor("b").unwrap();
    // The lost part of the first stage, and then the second one from the start.
    finish(job, &world.bind(&jobs).await).await;
    finish_all(&world, &jobs).await;

    let graph = job.execution_graph.read().await;
    assert!(graph.is_successful());
    assert_eq!(world.cluster.doubt(&JobId::new("job")), None);
    let given = readers(&graph);
    assert_eq!(given.len(), PARTITIONS, "each partition of the second stage once: {given:?}");
    assert_eq!(lineage::results(&graph).unwrap().len(), 1);
}

/// A cluster with fake membership.
struct World {
    cluster: Cluster,
    roster: Arc<Fake>,
}

#[derive(Default)]
struct Fake(Mutex<HashMap<String, Presence>>);

impl Fake {
    fn set(&self, id: &str, presence: Presence) {
        self.0.lock().insert(id.to_string(), presence);
    }
}

impl Roster for Fake {
    fn presence(&self, id: &str) -> Presence {
        self.0.lock().get(id).copied().unwrap_or(Presence::Absent)
    }
}

impl World {
    async fn with_executors(executors: &[(&str, u32)]) -> Self {
        let roster = Arc::new(Fake::default());
        let cluster = Cluster::new(Arc::<Fake>::clone(&roster));
        for (id, cores) in executors {
            roster.set(id, Presence::Alive);
            cluster.register_executor(metadata(id), data(id, *cores)).await.unwrap();
        }
        Self { cluster, roster }
    }

    async fn bind(&self, jobs: &HashMap<JobId, JobInfoCache>) -> Vec<BoundTask> {
        let policy = TaskDistributionPolicy::RoundRobin;
        self.cluster.bind_schedulable_tasks(policy, Arc::new(jobs.clone()), None).await.unwrap()
    }
}

/// Scan, hashed exchange, aggregate, gather: three stages.
async fn graph(id: &str) -> ExecutionGraphBox {
    let config = planning(SessionConfig::new(), PARTITIONS);
    let ctx = SessionContext::new_with_config(config.clone());
    let batch = |i: i64| {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values([i, i + 1]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    };
    let parts = (0..PARTITIONS as i64).map(|i| vec![batch(i)]).collect();
    let table = MemTable::try_new(batch(0).schema(), parts).unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
    let plan = ctx.sql("select a, count(*) from t group by a order by a").await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let mut planner = DefaultDistributedPlanner::new();
    let id = JobId::new(id);
    let graph =
        StaticExecutionGraph::new("s", &id, "", "session", plan, 0, Arc::new(config), &mut planner, None);
    Box::new(graph.unwrap())
}

fn jobs<const N: usize>(graphs: [(&str, ExecutionGraphBox); N]) -> HashMap<JobId, JobInfoCache> {
    graphs.into_iter().map(|(id, graph)| (JobId::new(id), JobInfoCache::new(graph))).collect()
}

/// Reports the tasks as done, each with one file for each of its output partitions.
async fn finish(job: &JobInfoCache, tasks: &[BoundTask]) {
    let mut graph = job.execution_graph.write().await;
    for (executor_id, task) in tasks {
        let hashed = task.plan.name() == "SortShuffleWriterExec";
        let outputs =
            if hashed { (0..PARTITIONS).collect() } else { task.global_input_partition_ids.clone() };
        // As our executors do: no two tasks write under one number.
        let file_id = NEXT_FILE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let partition = |partition_id: usize| ShuffleWritePartition {
            partition_id: partition_id as u64,
            num_batches: 1,
            num_rows: 1,
            num_bytes: 1,
            file_id: Some(file_id),
            is_sort_shuffle: hashed,
        };
        let done = SuccessfulTask {
            executor_id: executor_id.clone(),
            partitions: outputs.into_iter().map(partition).collect(),
            ..Default::default()
        };
        let status = TaskStatus {
            task_id: task.key.task_id as u32,
            job_id: task.key.job_id.to_string(),
            stage_id: task.key.stage_id as u32,
            stage_attempt_num: task.stage_attempt_num as u32,
            status: Some(task_status::Status::Successful(done)),
            ..Default::default()
        };
        graph.update_task_status(&metadata(executor_id), vec![status], MANY, MANY).unwrap();
    }
    graph.revive();
}

static NEXT_FILE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

async fn finish_all(world: &World, jobs: &HashMap<JobId, JobInfoCache>) {
    for _ in 0..MANY {
        let bound = world.bind(jobs).await;
        for (id, job) in jobs {
            let own: Vec<_> = bound.iter().filter(|(_, task)| task.key.job_id == *id).cloned().collect();
            finish(job, &own).await;
        }
    }
}

/// The locations that the last stage reads.
fn readers(graph: &ExecutionGraphBox) -> Vec<(String, Option<u64>, usize)> {
    use ballista_scheduler::state::execution_stage::ExecutionStage;
    let last = graph.stages().values().find_map(|stage| match stage {
        ExecutionStage::Successful(stage) if stage.output_links.is_empty() => Some(stage),
        _ => None,
    });
    let inputs = last.unwrap().inputs.values().flat_map(|input| input.partition_locations.values().flatten());
    inputs.map(|l| (l.executor_meta.id.clone(), l.file_id, l.partition_id.partition_id)).collect()
}

fn only(tasks: &[BoundTask], executor: &str) -> Vec<BoundTask> {
    tasks.iter().filter(|(id, _)| id == executor).cloned().collect()
}

/// The jobs of the tasks, sorted.
fn served(tasks: &[BoundTask]) -> Vec<&str> {
    let mut served: Vec<_> = tasks.iter().map(|(_, task)| task.key.job_id.as_str()).collect();
    served.sort_unstable();
    served
}

/// Executors with the number of partitions they were given, sorted.
fn widths(tasks: &[BoundTask]) -> Vec<(String, usize)> {
    let mut widths: Vec<_> =
        tasks.iter().map(|(id, task)| (id.clone(), task.global_input_partition_ids.len())).collect();
    widths.sort();
    widths
}

fn metadata(id: &str) -> ExecutorMetadata {
    ExecutorMetadata {
        id: id.to_string(),
        host: "localhost".to_string(),
        port: 1,
        grpc_port: 2,
        specification: Default::default(),
        os_info: Default::default(),
    }
}

fn data(id: &str, cores: u32) -> ExecutorData {
    ExecutorData { executor_id: id.to_string(), total_vcores: cores, available_vcores: cores }
}
