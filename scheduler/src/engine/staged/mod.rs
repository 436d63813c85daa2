//! Staged execution: Ballista, embedded.
//!
//! ```text
//!   run        submit ──> wait, watched ──> read the results ──> rows
//!    │           │             │                  │
//!  adapt.rs   submit.rs   watchdog.rs          fetch.rs      one query; run once more if an
//!    │           │             │                  │          executor was lost before a row left
//!    │      Ballista's SchedulerServer       executors' files
//!    │           │  bind.rs: which partitions run where     ── only for graphs that add up: lineage.rs
//!    │      cluster_state.rs: our members, their free cores
//!    │           │
//!   door.rs   executors register and report         watch.rs   departures, idle cores
//! ```
//!
//! Shuffles are kept on the executors' disks, so lost tasks run again, and joins larger
//! than memory are cut into more partitions. Plans come as physical plans and thus take
//! Ballista's static planner; its adaptive one hangs when a finished stage is lost.
//!
//! The rules: what Ballista thinks of an executor matters to staged work only; each row of
//! a stage is read once or the job is given up; dropping a stream ends its job everywhere.
//! *Job* is Ballista's word for a query and stays in this room.

mod adapt;
mod bind;
mod cluster_state;
mod door;
mod failure;
mod fetch;
mod lineage;
mod run;
mod settings;
mod submit;
#[cfg(test)]
mod tests;
mod watch;
mod watchdog;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState, JobState};
use ballista_scheduler::metrics::NoopMetricsCollector;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use adapt::optimizer_rules;
pub use cluster_state::{Presence, Roster};
pub use door::Service;
pub use settings::{Config, planning};

use self::cluster_state::Cluster;
use super::{Engine, Execution, Mode};
use crate::cluster::Jobs;
use crate::error::{Error, Result};

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// How long runs may take to end once the engine stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The staged engine.
#[derive(Clone)]
pub struct Staged {
    inner: Arc<Inner>,
}

/// What all runs share.
struct Inner {
    config: Config,
    server: Server,
    cluster: Arc<Cluster>,
    jobs: Arc<dyn JobState>,
    clients: fetch::Clients,
    /// The jobs that have a handle. Short critical sections only.
    held: Mutex<HashSet<JobId>>,
    env: Arc<RuntimeEnv>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Staged {
    /// Starts the embedded scheduler over our membership. `env` is the process's
    /// environment; nothing is executed here, but plans are cut into stages in it.
    pub async fn start(
        config: Config,
        roster: Arc<dyn Roster>,
        env: Arc<RuntimeEnv>,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let cluster = Arc::new(Cluster::new(roster));
        let codec = codec();
        let settings = settings::scheduler(&config, Arc::clone(&codec));
        let jobs: Arc<dyn JobState> = Arc::new(InMemoryJobState::new(
            settings.scheduler_id.clone(),
            Arc::new(|_| {
                Err(DataFusionError::Configuration("sessions are not made by ballista here".to_string()))
            }),
            Arc::new(SessionConfig::new),
        ));
        let state: Arc<dyn ClusterState> = Arc::<Cluster>::clone(&cluster);
        let mut server = Server::new(
            config.advertise.clone(),
            BallistaCluster::new(state, Arc::clone(&jobs)),
            BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), codec),
            Arc::new(settings),
            Arc::new(NoopMetricsCollector::default()),
        );
        // The event loop must run before the first clone is made.
        server
            .init()
            .await
            .map_err(|error| Error::internal("the staged engine does not start").with_source(error))?;
        let inner = Arc::new(Inner {
            config,
            server,
            cluster,
            jobs,
            clients: fetch::Clients::default(),
            held: Mutex::default(),
            env,
            tracker: TaskTracker::new(),
            stop: shutdown,
        });
        inner.tracker.spawn(watch::run(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// The service by which executors register for staged work and report. It must be
    /// reachable by executors and by nobody else.
    pub fn service(&self) -> Service {
        door::Door::service(self.inner.server.clone())
    }

    /// Cores of the executors that take staged work now.
    pub fn cores(&self) -> usize {
        self.inner.cluster.cores()
    }

    /// The settings that a plan for this engine must be made with, from the optimizer on.
    pub fn planning(&self, config: SessionConfig) -> SessionConfig {
        planning(config, self.cores())
    }

    /// Waits until all runs have ended and cleaned up; after the shutdown token was
    /// cancelled.
    pub async fn join(&self) {
        self.inner.tracker.close();
        if tokio::time::timeout(STOP_PATIENCE, self.inner.tracker.wait()).await.is_err() {
            tracing::warn!("staged runs did not end in time");
        }
    }
}

#[async_trait]
impl Engine for Staged {
    fn mode(&self) -> Mode {
        Mode::Staged
    }

    async fn execute(&self, execution: Execution) -> Result<SendableRecordBatchStream> {
        // The query may have been planned for a cluster of another size; its partitions stay.
        let partitions = execution.config.target_partitions();
        let config = planning(execution.config, partitions);
        let plan = adapt::adapt(execution.plan, config.options())?;
        Ok(run::start(&self.inner, Execution { plan, config, ..execution }))
    }
}

impl Jobs for Staged {
    fn over(&self, mut jobs: Vec<String>) -> Vec<String> {
        // A job runs before its handle is made, and may run on for a moment after the handle is gone.
        let running = self.inner.server.state.task_manager.get_running_job_cache();
        let held = self.inner.held.lock();
        jobs.retain(|job| {
            let job = JobId::from(job.clone());
            !running.contains_key(&job) && !held.contains(&job)
        });
        jobs
    }
}

fn codec() -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(tarn_scan::Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default())))
}
