//! One job: a plan given to Ballista, watched until it ends, and cleaned up after.
//!
//! Status arrives on an in-process channel that is always drained. Dropping a [`Job`], at
//! whatever point, ends it: it is cancelled if it runs, and its files are removed from the
//! executors; what that does not reach goes with an executor's next sign of life. The rule: no job outlives its handle by more than the reaper's patience.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::JobId;
use ballista_core::serde::protobuf::{JobStatus, job_status};
use ballista_scheduler::cluster::ClusterState;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use tarn_runtime::control::ControlClient;
use tarn_runtime::options::TarnOptions;
use tokio::sync::{RwLock, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Inner;
use super::failure::{self, Failure};
use super::lineage::{self, Piece};
use super::watchdog::{Alarm, Watchdog};
use crate::error::{Error, ErrorCode};

/// Status messages that may wait. Ballista drops what does not fit, the last one too.
const STATUSES_MAX: usize = 256;
/// How often a running job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a finished job's graph may take to appear among the finished ones.
const GRAPH_WAIT: Duration = Duration::from_secs(5);
/// Pause between two attempts to cancel a job: one that is still planned cannot be yet.
const CANCEL_PAUSE: Duration = Duration::from_millis(250);
const CANCEL_ATTEMPTS: usize = 240;
/// Tasks that were stopped may still write for a moment; what they wrote goes then.
const CLEAN_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A submitted job.
pub(super) struct Job {
    inner: Arc<Inner>,
    id: JobId,
    /// Under which its tasks are registered on the executors.
    run_id: String,
    /// Taken by the reaper.
    statuses: Option<mpsc::Receiver<JobStatus>>,
    ended: bool,
}

impl Job {
    /// Gives the plan to Ballista under the name of its query.
    pub(super) async fn submit(
        inner: &Arc<Inner>,
        name: &str,
        plan: Arc<dyn ExecutionPlan>,
        config: SessionConfig,
    ) -> Result<Self, Failure> {
        let run_id = TarnOptions::of(&config).run_id;
        let state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(Arc::clone(&inner.env)).build();
        let context = Arc::new(SessionContext::new_with_state(state));
        let (sender, statuses) = mpsc::channel(STATUSES_MAX);
        let submitted = inner.server.submit_physical_plan(name, context, plan, Some(sender)).await;
        let id = submitted.map_err(|error| {
            Failure::lasting(Error::internal("the staged engine took no job").with_source(error))
        })?;
        inner.held.lock().insert(id.clone());
        debug!(query_id = name, job = %id, "job submitted");
        Ok(Self { inner: Arc::clone(inner), id, run_id, statuses: Some(statuses), ended: false })
    }

    /// Waits for the end and returns where the rows are.
    pub(super) async fn finished(&mut self) -> Result<Vec<Piece>, Failure> {
        let mut watchdog = Watchdog::new(&self.inner.config);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let statuses = self.statuses.as_mut().expect("taken only when dropped");
            tokio::select! {
                status = statuses.recv() => {
                    if let Some(ended) = self.read(status)? {
                        ended?;
                        return self.results().await;
                    }
                }
                _ = look.tick() => self.look(&mut watchdog).await?,
            }
        }
    }

    /// Whether this status is the last one, and which.
    fn read(&mut self, status: Option<JobStatus>) -> Result<Option<Result<(), Failure>>, Failure> {
        let Some(status) = status else {
            self.ended = true;
            return Err(Failure::passing(Error::internal("a staged job ended without a word")));
        };
        match status.status {
            Some(job_status::Status::Successful(_)) => {
                self.ended = true;
                Ok(Some(Ok(())))
            }
            Some(job_status::Status::Failed(failed)) => {
                self.ended = true;
                Ok(Some(Err(failure::of_job(&failed.error))))
            }
            Some(job_status::Status::Running(_) | job_status::Status::Queued(_)) | None => Ok(None),
        }
    }

    async fn look(&self, watchdog: &mut Watchdog) -> Result<(), Failure> {
        if let Some(reason) = self.inner.cluster.doubt(&self.id) {
            let lost =
                Error::new(ErrorCode::ExecutorLost, "an executor was lost and its work cannot be resumed");
            return Err(Failure::passing(lost.with_source(reason)));
        }
        let jobs = self.inner.server.state.task_manager.get_running_job_cache();
        let Some(job) = jobs.get(&self.id) else {
            // Still planned, or just ended.
            return Ok(());
        };
        let usable = !self.inner.cluster.usable().is_empty();
        let free = self.inner.cluster.free_cores(&jobs).await > 0;
        let alarm = {
            let graph: &RwLock<ExecutionGraphBox> = &job.execution_graph;
            watchdog.look(Instant::now(), graph.read().await.stages(), free, usable)
        };
        match alarm {
            None => Ok(()),
            Some(alarm) => {
                warn!(job = %self.id, ?alarm, "staged job makes no progress");
                Err(match alarm {
                    Alarm::NoExecutors => Failure::lasting(Error::new(
                        ErrorCode::ExecutorLost,
                        "all executors were lost during the query",
                    )),
                    Alarm::Stalled | Alarm::Silent => Failure::passing(Error::new(
                        ErrorCode::ExecutorLost,
                        "the query made no progress after an executor was lost",
                    )),
                })
            }
        }
    }

    async fn results(&self) -> Result<Vec<Piece>, Failure> {
        let deadline = Instant::now() + GRAPH_WAIT;
        loop {
            // The status is sent a moment before the graph is kept.
            match self.inner.jobs.get_execution_graph(&self.id).await {
                Ok(Some(graph)) => {
                    return lineage::results(&graph).map_err(|reason| {
                        let error = Error::internal("the parts of a staged result do not add up");
                        Failure::passing(error.with_source(reason))
                    });
                }
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(1)).await,
                Ok(None) => {
                    return Err(Failure::passing(Error::internal("a finished staged job left no graph")));
                }
                Err(error) => {
                    let lost = Error::internal("a finished staged job cannot be read").with_source(error);
                    return Err(Failure::passing(lost));
                }
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(statuses) = self.statuses.take() else { return };
        self.inner.held.lock().remove(&self.id);
        let reaper = Reaper {
            inner: Arc::clone(&self.inner),
            id: self.id.clone(),
            run_id: std::mem::take(&mut self.run_id),
        };
        // Without a runtime the process ends, and with it the job.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.inner.tracker.spawn(reaper.run(statuses, self.ended));
        }
    }
}

/// Ends a job and removes what it left.
struct Reaper {
    inner: Arc<Inner>,
    id: JobId,
    run_id: String,
}

impl Reaper {
    /// Cancels the job unless it ended, then removes its files and its state.
    async fn run(self, mut statuses: mpsc::Receiver<JobStatus>, ended: bool) {
        if !ended {
            tokio::join!(self.cancel(&mut statuses), self.stop_tasks());
        }
        self.clean_up();
        tokio::select! {
            () = tokio::time::sleep(CLEAN_AGAIN_AFTER) => {}
            () = self.inner.stop.cancelled() => {}
        }
        self.clean_up();
        if let Err(error) = self.inner.jobs.remove_job(&self.id).await {
            debug!(job = %self.id, %error, "job left no state");
        }
        self.inner.cluster.forget(&self.id);
    }

    fn clean_up(&self) {
        self.inner.server.state.executor_manager.clean_up_job_data(self.id.clone());
    }

    /// Asks Ballista until it has heard.
    async fn cancel(&self, statuses: &mut mpsc::Receiver<JobStatus>) {
        use job_status::Status::{Failed, Successful};
        for _ in 0..CANCEL_ATTEMPTS {
            if let Err(error) = self.inner.server.cancel_job(self.id.clone()).await {
                warn!(job = %self.id, %error, "job cannot be cancelled");
                return;
            }
            let deadline = Instant::now() + CANCEL_PAUSE;
            while let Ok(status) = tokio::time::timeout_at(deadline, statuses.recv()).await {
                match status.map(|status| status.status) {
                    None | Some(Some(Successful(_) | Failed(_))) => return,
                    Some(_) => {}
                }
            }
        }
        warn!(job = %self.id, "cancelled job did not end");
    }

    /// Tells the executors themselves: Ballista reaches only tasks that have begun, and
    /// those that are still under way to an executor would run to their end.
    async fn stop_tasks(&self) {
        let executors = self.inner.cluster.registered_executor_metadata().await;
        let stops = executors.iter().map(|executor| async {
            let peer = match executor.host.contains(':') {
                true => format!("[{}]:{}", executor.host, executor.port),
                false => format!("{}:{}", executor.host, executor.port),
            };
            let stop = async {
                Ok::<_, tarn_runtime::Error>(ControlClient::connect(&peer).await?.cancel(&self.run_id).await?)
            };
            if let Err(error) = stop.await {
                debug!(executor = executor.id, %error, "executor was not told to stop");
            }
        });
        futures::future::join_all(stops).await;
    }
}
