//! One run with this executor as its root, from the plan to the last row.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as EngineResult;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{
    RecordBatchStream, SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{DistributedExec, NetworkBoundaryExt};
use datafusion_proto::bytes::physical_plan_from_bytes_with_proto_converter;
use datafusion_proto::physical_plan::{DeduplicatingProtoConverter, PhysicalExtensionCodec};
use futures::{Stream, StreamExt};
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::Worker;
use tarn_runtime::control::{Failure, Run, RunPlan};
use tarn_runtime::options::TarnOptions;
use tarn_runtime::queries::Query;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;
use url::Url;

use super::Pipelined;
use super::channels::Channels;
use super::distribute::{Distributed, distribute};
use super::leaves::Workers;
use super::tidy::Tidy;
use super::worker::guard;
use crate::error::failure;

/// Time for another executor to be told that a run has ended.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepares the plan on the CPU runtime and starts it there.
pub(super) async fn start(pipelined: &Pipelined, run: Run) -> Result<SendableRecordBatchStream, Failure> {
    let span = tracing::info_span!("run", query_id = run.query_id, run_id = run.run_id);
    let query = pipelined.runtime.queries().enter(&run.run_id);
    if query.token().is_cancelled() {
        return Err(Failure::cancelled());
    }
    let workers = workers(&run.workers, &pipelined.url)?;
    let others: Vec<Url> = workers.urls().into_iter().filter(|url| *url != pipelined.url).collect();
    let (runtime, codec) = (pipelined.runtime.clone(), Arc::clone(&pipelined.codec));
    let (channels, run_query) = (pipelined.channels.clone(), Arc::clone(&query));
    let cpu = pipelined.runtime.cpu_of(&run.config);
    let preparing = async move { prepare(run, workers, run_query, &runtime, &codec, channels).await };
    let prepared = AbortOnDropHandle::new(cpu.spawn(preparing.instrument(span))).await;
    let (plan, ctx) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => return Err(failure(&error)),
        Err(error) => return Err(Failure::internal(format!("the plan could not be prepared: {error}"))),
    };
    let distributed = plan.is::<DistributedExec>();
    tracing::debug!(run_id = query.id(), distributed, executors = others.len() + 1, "run started");
    let end = End {
        runtime: pipelined.runtime.clone(),
        query,
        others: if distributed { others } else { Vec::new() },
        channels: pipelined.channels.clone(),
        tidy: pipelined.tidy.clone(),
        tasks: pipelined.tasks.clone(),
    };
    let rows = pipelined.runtime.run_stream(plan, ctx);
    Ok(Box::pin(Rows { schema: rows.schema(), rows: Some(rows), end: Some(end) }))
}

fn workers(all: &[Worker], own: &Url) -> Result<Workers, Failure> {
    let all = all.iter().map(|worker| {
        let url = Url::parse(&worker.url);
        url.map(|url| (worker.id.clone(), url))
            .map_err(|_| Failure::internal(format!("\"{}\" is not the address of an executor", worker.url)))
    });
    let all: Vec<(String, Url)> = all.collect::<Result<_, _>>()?;
    match all.iter().position(|(_, url)| url == own) {
        Some(root) => Ok(Workers { all, root }),
        None => Err(Failure::internal("the root of a run is not among its executors")),
    }
}

async fn prepare(
    run: Run,
    workers: Workers,
    query: Arc<Query>,
    runtime: &Runtime,
    codec: &Arc<dyn PhysicalExtensionCodec>,
    channels: Channels,
) -> EngineResult<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
    let mut config = run.config;
    TarnOptions { query_id: run.query_id, run_id: run.run_id.clone(), ..TarnOptions::of(&config) }
        .apply(&mut config);
    let env = runtime.env_of(&query, &config);
    let state = session(config.clone(), Arc::clone(&env))?;
    let plan = match run.plan {
        RunPlan::Ready(plan) => plan,
        RunPlan::Encoded(bytes) => {
            let (ctx, converter) = (state.task_ctx(), DeduplicatingProtoConverter::default());
            tarn_scan::guarded(|| {
                physical_plan_from_bytes_with_proto_converter(&bytes, &ctx, codec.as_ref(), &converter)
            })?
        }
    };
    let plan = tarn_scan::with_query_id(plan, &run.run_id)?;
    let Distributed { plan, ctx } = match workers.all.len() {
        1 => Distributed { plan, ctx: state.task_ctx() },
        _ => distribute(plan, config, workers, env, codec, channels).await?,
    };
    // What lies below a boundary is sent to workers, which put their own guards in.
    let plan = guard(query).apply_above(plan, &|node| node.is_network_boundary())?;
    Ok((plan, ctx))
}

fn session(config: SessionConfig, env: Arc<RuntimeEnv>) -> EngineResult<SessionState> {
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(env);
    let mut state = builder.with_default_features().build();
    tarn_functions::register(&mut state)?;
    Ok(state)
}

/// The rows of a run. However it ends, all work for it ends everywhere.
struct Rows {
    schema: SchemaRef,
    rows: Option<SendableRecordBatchStream>,
    end: Option<End>,
}

impl Stream for Rows {
    type Item = EngineResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rows) = self.rows.as_mut() else { return Poll::Ready(None) };
        let item = std::task::ready!(rows.poll_next_unpin(cx));
        if !matches!(item, Some(Ok(_))) {
            // The head stage is freed before the others are told.
            self.rows = None;
            self.end = None;
        }
        Poll::Ready(item.map(|item| item.map_err(|error| failure(&error).into_datafusion())))
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Dropped when a run has ended here, well or not: a worker keeps what it has of a run until it is told.
struct End {
    runtime: Runtime,
    query: Arc<Query>,
    others: Vec<Url>,
    channels: Channels,
    tidy: Tidy,
    tasks: TaskTracker,
}

impl Drop for End {
    fn drop(&mut self) {
        let run_id = self.query.id().to_string();
        self.runtime.queries().cancel(&run_id);
        if !self.others.is_empty() {
            self.tidy.soon();
        }
        for url in std::mem::take(&mut self.others) {
            let (channels, run_id) = (self.channels.clone(), run_id.clone());
            let tell = async move {
                let told = tokio::time::timeout(TELL_TIMEOUT, async {
                    channels.control(&url).await?.cancel(&run_id).await
                });
                // A worker that is gone has stopped by itself.
                if !matches!(told.await, Ok(Ok(_))) {
                    tracing::debug!(run_id, %url, "an executor was not told of the end of a run");
                }
            };
            self.tasks.spawn_on(tell, self.runtime.io());
        }
    }
}
