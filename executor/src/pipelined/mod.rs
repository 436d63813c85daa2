//! Pipelined execution: all stages of a query at once, rows streamed from stage to stage.
//!
//! ```text
//!   scheduler ── Run ──> root executor: decode ── distribute over the live executors ── head stage
//!                              │                                                            ^
//!                              └── a task's plan ──> worker.rs, here and on the others ── rows
//! ```
//!
//! The scheduler scans nothing: it picks a root among the executors, and the root is the coordinator of
//! datafusion-distributed. With one executor the whole plan runs in it. The rules: no plan is handed between
//! tasks of one process as it is, since their filters and exchanges would be shared and the answer wrong; whatever
//! ends a run, all executors that took part are told.

mod channels;
mod distribute;
mod leaves;
mod run;
mod tidy;
mod worker;

pub(crate) use worker::priority;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion_distributed::Worker;
use datafusion_proto::physical_plan::{DefaultPhysicalExtensionCodec, PhysicalExtensionCodec};
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::{CredentialsRequest, PingReply};
use tarn_runtime::control::{Failure, Run, Runner, code};
use tarn_scan::storage::Credentials;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::codegen::Service;
use tonic::server::NamedService;
use url::Url;

use channels::Channels;
use tidy::Tidy;

/// Time for messages to other executors that are still under way at the end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The pipelined engine's part of an executor: root of some queries, worker of others.
pub(crate) struct Pipelined {
    id: String,
    url: Url,
    runtime: Runtime,
    worker: Worker,
    channels: Channels,
    tidy: Tidy,
    codec: Arc<dyn PhysicalExtensionCodec>,
    /// Keys to storage that schedulers hand over.
    credentials: Credentials,
    /// Whether no new work is taken.
    draining: Arc<watch::Sender<bool>>,
    /// Messages to other executors about the end of runs.
    tasks: TaskTracker,
}

impl Pipelined {
    pub(crate) fn new(
        id: String,
        url: Url,
        runtime: Runtime,
        credentials: Credentials,
        draining: Arc<watch::Sender<bool>>,
    ) -> Self {
        let codec: Arc<dyn PhysicalExtensionCodec> =
            Arc::new(tarn_scan::Codec::new(Arc::new(DefaultPhysicalExtensionCodec {})));
        let channels = Channels::new(runtime.clone());
        let worker = worker::worker(&runtime, &codec, &channels);
        channels.set_own(url.clone(), worker.clone());
        let tidy = Tidy::new(runtime.clone(), worker.clone(), url.clone());
        let tasks = TaskTracker::new();
        Self { id, url, runtime, worker, channels, tidy, codec, credentials, draining, tasks }
    }

    /// The service by which roots send tasks here and read their rows.
    pub(crate) fn worker(
        &self,
    ) -> impl Service<
        http::Request<tonic::body::Body>,
        Response = http::Response<tonic::body::Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static {
        self.worker.clone().into_worker_server()
    }

    /// Waits for the last messages.
    pub(crate) async fn stop(&self) {
        self.tasks.close();
        if tokio::time::timeout(STOP_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(executor = self.id, "some executors were not told of the end of a run");
        }
    }
}

#[async_trait]
impl Runner for Pipelined {
    async fn run(&self, run: Run) -> Result<SendableRecordBatchStream, Failure> {
        if *self.draining.borrow() {
            return Err(Failure::new(code::SHUTTING_DOWN, "the executor takes no new work"));
        }
        run::start(self, run).await
    }

    async fn cancel(&self, run_id: &str) -> bool {
        self.tidy.soon();
        self.runtime.queries().cancel(run_id)
    }

    async fn take_credentials(&self, credentials: CredentialsRequest) -> Result<(), Failure> {
        let CredentialsRequest { scheduler, version, exported } = credentials;
        let taken = self.credentials.replace(&scheduler, version, &exported);
        taken.map_err(|reason| Failure::new(code::INVALID_ARGUMENT, reason))
    }

    async fn drain(&self) {
        self.draining.send_replace(true);
    }

    async fn ping(&self) -> PingReply {
        PingReply {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            draining: *self.draining.borrow(),
            runs_active: self.runtime.queries().active(),
        }
    }
}
