//! The engine's standing watch over the cluster: departures are told to Ballista at once,
//! and idle cores are offered again.
//!
//! Both are level-triggered: what an event should have caused and did not is caught here.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{ExecutorStoppedParams, UpdateTaskStatusParams};
use tonic::Request;
use tracing::{info, warn};

use super::Inner;
use super::cluster_state::running_tasks;

const EVERY: Duration = Duration::from_millis(500);

/// Runs until the engine stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = inner.stop.cancelled() => return,
        }
        for id in inner.cluster.departed() {
            info!(executor = id, "executor left the cluster");
            dismiss(&inner, id, "left the cluster").await;
        }
        tend(&inner).await;
    }
}

/// Resets tasks of executors that are gone, and offers free cores to waiting tasks.
async fn tend(inner: &Inner) {
    let jobs = inner.server.state.task_manager.get_running_job_cache();
    if jobs.is_empty() {
        return;
    }
    let mut waiting = false;
    let mut orphans = Vec::new();
    for job in jobs.values() {
        let graph = job.execution_graph.read().await;
        waiting |= graph.available_tasks() > 0;
        let gone = running_tasks(graph.stages().values())
            .map(|(id, _)| id)
            .filter(|id| !inner.cluster.is_registered(id));
        orphans.extend(gone.map(str::to_string));
    }
    orphans.sort_unstable();
    orphans.dedup();
    for id in orphans {
        dismiss(inner, id, "is not registered").await;
    }
    if waiting && inner.cluster.free_cores(&jobs).await > 0 {
        nudge(inner).await;
    }
}

/// Makes Ballista forget the executor and run its tasks elsewhere.
async fn dismiss(inner: &Inner, executor_id: String, reason: &str) {
    let stopped = ExecutorStoppedParams { executor_id, reason: reason.to_string() };
    if let Err(status) = inner.server.executor_stopped(Request::new(stopped)).await {
        warn!(%status, "lost executor cannot be dismissed");
    }
}

/// Makes Ballista bind again: an empty report has no other effect.
async fn nudge(inner: &Inner) {
    let Some((executor_id, _)) = inner.cluster.usable().into_iter().next() else { return };
    let report = UpdateTaskStatusParams { executor_id, task_status: Vec::new() };
    if let Err(status) = SchedulerGrpc::update_task_status(&inner.server, Request::new(report)).await {
        warn!(%status, "waiting tasks cannot be offered");
    }
}
