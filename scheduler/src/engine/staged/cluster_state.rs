//! Which executors staged queries may use, and how many of their cores are free.
//!
//! Membership is ours (the [`Roster`]); that an executor also registered with Ballista only
//! makes it fit for staged work. Free cores are not a counter that is added to and taken
//! from: Ballista's own leaks when an executor is lost, and then a healthy executor idles
//! for good. They are computed from the tasks of the running graphs each time tasks are
//! bound, so whatever went wrong before is right again at the next bind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::protobuf::{ExecutorHeartbeat, ExecutorStatus, executor_status, task_status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::event::ClusterEventSender;
use ballista_scheduler::cluster::{
    BoundTask, ClusterState, ClusterStateEvent, ClusterStateEventStream, ExecutorSlot,
};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bind::{self, Budget};

/// Events that a slow subscriber may lag behind.
const EVENTS_KEPT: usize = 256;

/// What our membership says of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Takes work.
    Alive,
    /// Takes no new work; its shuffle files may be read.
    Draining,
    /// Not a member, or no longer.
    Absent,
}

/// Our membership, as the staged engine sees it.
pub trait Roster: Send + Sync + 'static {
    /// What is known of the executor with this id.
    fn presence(&self, executor_id: &str) -> Presence;
}

/// An executor that registered with Ballista.
struct Entry {
    metadata: ExecutorMetadata,
    cores: u32,
    heartbeat: ExecutorHeartbeat,
    /// It was a member at some time since it registered, so its absence is a loss.
    was_member: bool,
}

/// The staged engine's view of the cluster.
pub(super) struct Cluster {
    roster: Arc<dyn Roster>,
    /// Executors by id. Held for short reads and writes, never over an await.
    entries: Mutex<HashMap<String, Entry>>,
    /// Jobs whose graph no longer adds up, with the reason; they get no more tasks.
    doubts: Mutex<HashMap<JobId, String>>,
    /// Told when an executor registers.
    joined: Notify,
    /// One bind at a time.
    binding: tokio::sync::Mutex<()>,
    events: ClusterEventSender<ClusterStateEvent>,
}

impl Cluster {
    pub(super) fn new(roster: Arc<dyn Roster>) -> Self {
        Self {
            roster,
            entries: Mutex::default(),
            doubts: Mutex::default(),
            joined: Notify::new(),
            binding: tokio::sync::Mutex::default(),
            events: ClusterEventSender::new(EVENTS_KEPT),
        }
    }

    /// Cores of the executors that may take staged work.
    pub(super) fn cores(&self) -> usize {
        self.usable().into_iter().map(|(_, cores)| cores as usize).sum()
    }

    /// Executors that may take staged work, with their cores.
    pub(super) fn usable(&self) -> Vec<(String, u32)> {
        let entries = self.entries.lock();
        entries
            .iter()
            .filter(|(id, _)| self.roster.presence(id) == Presence::Alive)
            .map(|(id, entry)| (id.clone(), entry.cores))
            .collect()
    }

    /// Waits until an executor may take staged work; false when `limit` has passed.
    pub(super) async fn wait_for_one(&self, limit: Duration) -> bool {
        // Membership may follow registration without telling us, hence the poll.
        const POLL: Duration = Duration::from_millis(50);
        let wait = async {
            while self.usable().is_empty() {
                let joined = self.joined.notified();
                let _ = tokio::time::timeout(POLL, joined).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Executors that were members and are no more.
    pub(super) fn departed(&self) -> Vec<String> {
        let mut entries = self.entries.lock();
        let mut departed = Vec::new();
        for (id, entry) in entries.iter_mut() {
            match self.roster.presence(id) {
                Presence::Alive | Presence::Draining => entry.was_member = true,
                Presence::Absent if entry.was_member => departed.push(id.clone()),
                Presence::Absent => {}
            }
        }
        departed
    }

    /// Whether this executor is registered with Ballista.
    pub(super) fn is_registered(&self, id: &str) -> bool {
        self.entries.lock().contains_key(id)
    }

    /// Cores of usable executors that no running task holds.
    pub(super) async fn free_cores(&self, jobs: &HashMap<JobId, JobInfoCache>) -> usize {
        self.budgets(jobs, None).await.iter().map(|budget| budget.free as usize).sum()
    }

    /// Why this job must not go on, if it must not.
    pub(super) fn doubt(&self, job: &JobId) -> Option<String> {
        self.doubts.lock().get(job).cloned()
    }

    /// Forgets a job that ended.
    pub(super) fn forget(&self, job: &JobId) {
        self.doubts.lock().remove(job);
    }

    async fn budgets(
        &self,
        jobs: &HashMap<JobId, JobInfoCache>,
        only: Option<&HashSet<String>>,
    ) -> Vec<Budget> {
        let mut busy: HashMap<String, u32> = HashMap::new();
        for job in jobs.values() {
            let graph = job.execution_graph.read().await;
            for (executor_id, cores) in running_tasks(graph.stages().values()) {
                *busy.entry(executor_id.to_string()).or_default() += cores;
            }
        }
        self.usable()
            .into_iter()
            .filter(|(id, _)| only.is_none_or(|only| only.contains(id)))
            .map(|(id, cores)| {
                let free = cores.saturating_sub(busy.get(&id).copied().unwrap_or(0));
                Budget { executor_id: id, free }
            })
            .collect()
    }
}

/// Executor and cores of each task that these stages believe to be running.
pub(super) fn running_tasks<'a>(
    stages: impl Iterator<Item = &'a ExecutionStage>,
) -> impl Iterator<Item = (&'a str, u32)> {
    stages
        .filter_map(|stage| match stage {
            ExecutionStage::Running(stage) => Some(&stage.task_infos),
            _ => None,
        })
        .flatten()
        .filter_map(|task| match &task.task_status {
            task_status::Status::Running(running) => {
                Some((running.executor_id.as_str(), task.vcores_consumed))
            }
            _ => None,
        })
}

#[async_trait]
impl ClusterState for Cluster {
    async fn bind_schedulable_tasks(
        &self,
        _distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let _one_at_a_time = self.binding.lock().await;
        let budgets = self.budgets(&active_jobs, executors.as_ref()).await;
        let jobs = {
            let doubts = self.doubts.lock();
            active_jobs.iter().filter(|(id, _)| !doubts.contains_key(*id)).collect::<Vec<_>>()
        };
        let bound = bind::bind(budgets, jobs).await;
        self.doubts.lock().extend(bound.doubts);
        Ok(bound.tasks)
    }

    async fn unbind_tasks(&self, _executor_slots: Vec<ExecutorSlot>) -> Result<()> {
        // The graphs say what is free.
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let id = metadata.id.clone();
        let was_member = self.roster.presence(&id) != Presence::Absent;
        {
            let mut entries = self.entries.lock();
            if entries.contains_key(&id) {
                // Its tasks would be believed to run on; it may come back once it is lost.
                return Err(BallistaError::Configuration(format!("executor {id} is already registered")));
            }
            let heartbeat = active_heartbeat(&id);
            let entry = Entry { metadata, cores: spec.total_vcores, heartbeat, was_member };
            entries.insert(id.clone(), entry);
        }
        self.events.send(&ClusterStateEvent::RegisteredExecutor { executor_id: id });
        self.joined.notify_waiters();
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        match self.entries.lock().get_mut(&metadata.id) {
            Some(entry) => {
                entry.metadata = metadata;
                Ok(())
            }
            None => Err(unknown(&metadata.id)),
        }
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        let entries = self.entries.lock();
        entries.get(executor_id).map(|entry| entry.metadata.clone()).ok_or_else(|| unknown(executor_id))
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.entries.lock().values().map(|entry| entry.metadata.clone()).collect()
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        match self.entries.lock().get_mut(&heartbeat.executor_id) {
            Some(entry) => {
                entry.heartbeat = heartbeat;
                Ok(())
            }
            // A heartbeat alone would make an executor alive that nobody can reach.
            None => Err(unknown(&heartbeat.executor_id)),
        }
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        if self.entries.lock().remove(executor_id).is_some() {
            self.events.send(&ClusterStateEvent::RemovedExecutor { executor_id: executor_id.to_string() });
        }
        Ok(())
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        let entries = self.entries.lock();
        entries.iter().map(|(id, entry)| (id.clone(), entry.heartbeat.clone())).collect()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.entries.lock().get(executor_id).map(|entry| entry.heartbeat.clone())
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        Ok(Box::pin(self.events.subscribe()))
    }
}

fn active_heartbeat(id: &str) -> ExecutorHeartbeat {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ExecutorHeartbeat {
        executor_id: id.to_string(),
        timestamp: now.as_secs(),
        metrics: Vec::new(),
        status: Some(ExecutorStatus { status: Some(executor_status::Status::Active(String::new())) }),
        peak_proc_physical_memory: 0,
        peak_proc_virtual_memory: 0,
    }
}

fn unknown(id: &str) -> BallistaError {
    BallistaError::Internal(format!("executor {id} is not registered"))
}
