//! How tasks reach each other: one connection an executor, driven by the IO runtime; and for the tasks of this
//! very executor no connection at all.
//!
//! Rows between tasks of one process are handed over as they are. Plans are not: a task's plan is encoded even
//! for this process, because tasks that shared nodes would share their filters and their exchanges.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse,
    MaybeEncoded, SetPlanRequest, Worker, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use parking_lot::Mutex;
use tarn_runtime::Runtime;
use tarn_runtime::control::{ControlClient, Failure};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use url::Url;

/// Connections that are kept at most; executors that are gone leave theirs behind.
const CHANNELS_MAX: usize = 256;

/// Connections to the other executors, by their address. A cheap handle.
#[derive(Clone)]
pub(crate) struct Channels {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    /// Made so far. Held for a look or an insertion, never while connecting.
    channels: Mutex<HashMap<Url, Channel>>,
    /// This executor, once it is made.
    own: OnceLock<(Url, Worker)>,
}

impl Channels {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { inner: Arc::new(Inner { runtime, channels: Mutex::default(), own: OnceLock::new() }) }
    }

    /// Tells which address is this executor's.
    pub(crate) fn set_own(&self, url: Url, worker: Worker) {
        let known = self.inner.own.set((url, worker)).is_err();
        debug_assert!(!known, "an executor has one address");
    }

    /// A connection to an executor.
    pub(crate) async fn channel(&self, url: &Url) -> Result<Channel, Failure> {
        if let Some(channel) = self.inner.channels.lock().get(url) {
            return Ok(channel.clone());
        }
        let peer = url.as_str().trim_end_matches('/').to_string();
        // Connected on the IO threads, so that those drive it.
        let connecting =
            self.inner.runtime.io().spawn(async move { tarn_runtime::control::connect(&peer).await });
        let channel = match AbortOnDropHandle::new(connecting).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(Failure::executor_lost(error.to_string())),
            Err(error) => return Err(Failure::internal(error.to_string())),
        };
        let mut channels = self.inner.channels.lock();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(url.clone(), channel.clone());
        Ok(channel)
    }

    /// Calls an executor's control service.
    pub(crate) async fn control(&self, url: &Url) -> Result<ControlClient, Failure> {
        Ok(ControlClient::new(self.channel(url).await?))
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        if let Some((own, worker)) = self.inner.own.get()
            && own == url
        {
            return Ok(Box::new(Own(worker.clone())));
        }
        let channel = self.channel(url).await.map_err(Failure::into_text_datafusion)?;
        Ok(create_worker_client(BoxCloneSyncChannel::new(channel)))
    }
}

/// Tasks of this executor.
struct Own(Worker);

#[async_trait]
impl WorkerChannel for Own {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        mut request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _: ExecutionPlanMetricsSet,
        ctx: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        request.plan = MaybeEncoded::Encoded(request.plan.encode(ctx)?);
        self.0.coordinator_channel(headers, request, messages.map(Ok).boxed()).await
    }

    async fn execute_task(
        &mut self,
        _: HeaderMap,
        request: ExecuteTaskRequest,
        _: ExecutionPlanMetricsSet,
        _: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let (streams, _) = self.0.execute_task(request).await?;
        Ok(streams.into_iter().map(|stream| stream.boxed()).collect())
    }

    async fn get_worker_info(&mut self, _: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        Err(DataFusionError::NotImplemented("workers of one version only".to_string()))
    }
}
