//! From a plan for one process to one over the live executors.
//!
//! datafusion-distributed plans from a logical plan; ours is planned already. So its planner is given a planner
//! below it that returns the finished plan, whatever it is asked.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::{
    DesiredTaskCountEvent, DistributedConfig, DistributedExt, DistributedLeafExec, NetworkBoundaryExt,
    RouteTasksEvent, ScaleUpLeafNodeEvent, SessionStateBuilderExt, WorkerResolver,
};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use url::{Host, Url};

use super::channels::Channels;
use super::leaves::{self, Workers};
use super::worker;

/// A plan, and what to execute it with.
pub(super) struct Distributed {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) ctx: Arc<TaskContext>,
}

/// Distributes `plan` over `workers`. A plan that is not worth more than one task is returned as it is.
pub(super) async fn distribute(
    plan: Arc<dyn ExecutionPlan>,
    config: SessionConfig,
    workers: Workers,
    env: Arc<RuntimeEnv>,
    codec: &Arc<dyn PhysicalExtensionCodec>,
    channels: Channels,
) -> Result<Distributed> {
    let headers = worker::headers(&config)?;
    let analyzed = plan.is::<AnalyzeExec>();
    let (desired, scaled, routed) = (workers.clone(), workers.clone(), workers.clone());
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_runtime_env(env)
        .with_config(config)
        .with_distributed_option_extension(engine_settings(&workers, analyzed))
        .with_query_planner(Arc::new(Planned(plan)))
        .with_distributed_worker_resolver(Urls(workers.urls()))
        .with_distributed_channel_resolver(channels)
        .with_distributed_user_codec_arc(Arc::clone(codec))
        .with_distributed_passthrough_headers(headers)?
        .with_distributed_desired_task_count_handler(move |event: DesiredTaskCountEvent<'_>| {
            leaves::desired_tasks(&desired, &event)
        })
        .with_distributed_scale_up_leaf_node_handler(move |event: ScaleUpLeafNodeEvent<'_>| {
            leaves::scale_up(&scaled, &event)
        })
        .with_distributed_route_tasks_handler(move |event: RouteTasksEvent<'_>| {
            leaves::route(&routed, &event)
        })
        .with_distributed_planner()
        .build();
    let nothing = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(DFSchema::empty()),
    });
    let plan = state.query_planner().create_physical_plan(&nothing, &state).await?;
    check_encodable(&plan, codec)?;
    Ok(Distributed { plan, ctx: state.task_ctx() })
}

/// The engine's own settings for a run.
fn engine_settings(workers: &Workers, analyzed: bool) -> DistributedConfig {
    let mut settings = DistributedConfig::default();
    // Counters of every node are only wanted by EXPLAIN ANALYZE.
    settings.collect_metrics = analyzed;
    settings.broadcast_joins = true;
    // On one machine the network is faster than any compression.
    settings.compression = if workers.urls().iter().all(is_loopback) { "none" } else { "lz4" }.to_string();
    settings
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Tries our codec on every scan that will be sent. The engine would not say that a plan cannot be encoded: its
/// reader waits ten seconds for the plan and then reports a timeout.
fn check_encodable(plan: &Arc<dyn ExecutionPlan>, codec: &Arc<dyn PhysicalExtensionCodec>) -> Result<()> {
    let mut checked: Result<()> = Ok(());
    plan.apply(|node| {
        let boundary = node.as_network_boundary().and_then(|boundary| boundary.input_stage().local_plan());
        if let Some(stage) = boundary
            && let Err(error) = check_stage(stage, codec)
        {
            checked = Err(error);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    checked
}

fn check_stage(stage: &Arc<dyn ExecutionPlan>, codec: &Arc<dyn PhysicalExtensionCodec>) -> Result<()> {
    stage.apply(|node| {
        if node.is_network_boundary() {
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Some(leaf) = node.downcast_ref::<DistributedLeafExec>() {
            for variant in leaf.variants() {
                let mut buffer = Vec::new();
                codec.try_encode(Arc::clone(variant), &mut buffer, &DefaultPhysicalProtoConverter {})?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The workers of this run and no others.
struct Urls(Vec<Url>);

impl WorkerResolver for Urls {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

/// A planner that has planned.
#[derive(Debug)]
struct Planned(Arc<dyn ExecutionPlan>);

#[async_trait]
impl QueryPlanner for Planned {
    async fn create_physical_plan(&self, _: &LogicalPlan, _: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::clone(&self.0))
    }
}
