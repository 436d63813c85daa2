//! A task of another root's query: its session, and the guard around its scans.
//!
//! The run and the session's settings come in headers, since a worker knows nothing of the query otherwise.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{
    DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext,
};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use http::{HeaderMap, HeaderValue};
use tarn_runtime::Runtime;
use tarn_runtime::control::Failure;
use tarn_runtime::options::{self, Priority, TarnOptions};
use tarn_runtime::queries::{Guard, Query, Role};

use super::channels::Channels;
use crate::error::as_text;

/// The run that a task belongs to.
const RUN: &str = "x-tarn-run";
/// The run's priority: looked at before anything else is read, so it stands apart.
const PRIORITY: &str = "x-tarn-priority";
/// The session's settings that differ from the defaults, as JSON.
const SETTINGS: &str = "x-tarn-settings";

/// The worker of this executor.
pub(super) fn worker(
    runtime: &Runtime,
    codec: &Arc<dyn PhysicalExtensionCodec>,
    channels: &Channels,
) -> Worker {
    let env = runtime.env();
    let (runtime, codec, channels) = (runtime.clone(), Arc::clone(codec), channels.clone());
    let session = move |ctx: WorkerQueryContext| {
        let (runtime, codec, channels) = (runtime.clone(), Arc::clone(&codec), channels.clone());
        async move { build_session(ctx, &runtime, codec, channels) }
    };
    Worker::from_session_builder(session).with_runtime_env(env)
}

/// The headers that go with every task of a run.
pub(super) fn headers(config: &SessionConfig) -> Result<HeaderMap> {
    let unfit = |error: http::header::InvalidHeaderValue| DataFusionError::Internal(error.to_string());
    let settings = serde_json::to_vec(&options::changed(config))
        .map_err(|error| DataFusionError::Internal(format!("settings cannot be written: {error}")))?;
    let mut headers = HeaderMap::new();
    let options = TarnOptions::of(config);
    headers.insert(RUN, HeaderValue::from_str(&options.run_id).map_err(unfit)?);
    headers.insert(PRIORITY, HeaderValue::from_static(options.priority.as_str()));
    headers.insert(SETTINGS, HeaderValue::from_bytes(&settings).map_err(unfit)?);
    Ok(headers)
}

/// The priority of the run that a call belongs to; what names none is over soon.
pub(crate) fn priority(headers: &HeaderMap) -> Priority {
    let named = headers.get(PRIORITY);
    let named =
        Priority::ALL.into_iter().find(|priority| named.is_some_and(|text| text == priority.as_str()));
    named.unwrap_or(Priority::High)
}

/// The guard around the scans and joins of a run's plan in this process.
pub(super) fn guard(query: Arc<Query>) -> Guard {
    Guard::of(query, Role::Executor).with_errors(as_text)
}

fn build_session(
    ctx: WorkerQueryContext,
    runtime: &Runtime,
    codec: Arc<dyn PhysicalExtensionCodec>,
    channels: Channels,
) -> Result<SessionState> {
    let mut builder = ctx.builder;
    let run_id = header(&ctx.headers, RUN)?;
    let run_id = std::str::from_utf8(run_id).map_err(|_| malformed(RUN))?.to_string();
    let settings: Vec<(String, String)> =
        serde_json::from_slice(header(&ctx.headers, SETTINGS)?).map_err(|_| malformed(SETTINGS))?;
    let config = builder.config().take().unwrap_or_default();
    let config =
        options::restore(config, settings.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    let query = runtime.queries().enter(&run_id);
    if query.token().is_cancelled() {
        return Err(Failure::cancelled().into_text_datafusion());
    }
    let env = runtime.env_of(&query, &config);
    let guard = guard(query);
    let rewrite = move |event: WorkerPlanRewriteEvent<'_>| {
        let plan = tarn_scan::with_query_id(event.plan, &run_id)?;
        Ok(WorkerPlanRewriteEventResponse::new(guard.apply(plan)?))
    };
    let mut state = builder
        .with_config(config)
        .with_runtime_env(env)
        .with_distributed_user_codec_arc(codec)
        .with_distributed_channel_resolver(channels)
        .with_distributed_worker_plan_rewrite_handler(rewrite)
        .build();
    tarn_functions::register(&mut state)?;
    Ok(state)
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes).ok_or_else(|| malformed(name))
}

fn malformed(name: &str) -> DataFusionError {
    DataFusionError::Internal(format!("a task came without a proper header {name:?}"))
}
