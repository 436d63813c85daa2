//! What Ballista is told: the scheduler's configuration and the settings of a job's plan.
//!
//! Everything here follows from two facts: shuffles stand between stages, so nothing that
//! lives in one process (dynamic filters of joins, shared subquery results) may cross them;
//! and plans, with their file lists, are large. Nothing secret may enter a job's settings:
//! they travel with every task.

use std::sync::Arc;

use ballista_core::config::{
    BALLISTA_ADAPTIVE_PLANNER_ENABLED, BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE,
    BALLISTA_CLIENT_IO_RETRIES_TIMES, BALLISTA_CLIENT_IO_RETRY_WAIT_TIME_MS, BallistaConfig,
    TaskSchedulingPolicy,
};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use serde::{Deserialize, Serialize};

/// Largest message between schedulers and executors; plans with many files are large.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Seconds between two looks for executors whose heartbeat stopped.
const EXPIRY_CHECK_SECONDS: u64 = 2;
/// Attempts to read one block of a shuffle before its executor counts as lost.
const SHUFFLE_READ_ATTEMPTS: &str = "3";
/// Pause between those attempts.
const SHUFFLE_READ_PAUSE_MS: &str = "150";

/// Settings of the staged engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `HOST:PORT` under which executors reach this scheduler's cluster address.
    pub advertise: String,
    /// Seconds without a heartbeat after which an executor is lost to staged queries. Our
    /// own membership usually notices sooner.
    pub executor_timeout_seconds: u64,
    /// Seconds that a query waits for a first executor, and that it survives without any.
    pub executors_wait_seconds: u64,
    /// Seconds that a query may stand still with nothing running although cores are free,
    /// before it is run again.
    pub stall_timeout_seconds: u64,
    /// Seconds without any task ending, while tasks run, before the query is run again.
    pub silence_timeout_seconds: u64,
    /// Seconds that the rows of a finished query wait on the executors for a slow reader.
    pub result_lifetime_seconds: u64,
    /// Result partitions that are read ahead of the client.
    pub prefetch_partitions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertise: "127.0.0.1:50050".to_string(),
            executor_timeout_seconds: 25,
            executors_wait_seconds: 30,
            stall_timeout_seconds: 20,
            silence_timeout_seconds: 1800,
            result_lifetime_seconds: 6 * 3600,
            prefetch_partitions: 4,
        }
    }
}

/// The embedded scheduler's configuration.
pub(super) fn scheduler(config: &Config, codec: Arc<dyn PhysicalExtensionCodec>) -> SchedulerConfig {
    SchedulerConfig {
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        // Our cluster state binds tasks itself and ignores this.
        task_distribution: TaskDistributionPolicy::RoundRobin,
        override_physical_codec: Some(codec),
        override_config_producer: Some(Arc::new(base)),
        grpc_server_max_decoding_message_size: MESSAGE_BYTES_MAX as u32,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES_MAX as u32,
        grpc_client_max_message_size: MESSAGE_BYTES_MAX as u32,
        executor_timeout_seconds: config.executor_timeout_seconds,
        expire_dead_executor_interval_seconds: EXPIRY_CHECK_SECONDS,
        no_executors_grace_period_seconds: config.executors_wait_seconds.max(config.executor_timeout_seconds),
        executor_termination_grace_period: 0,
        // The engine removes results itself when their reader is done; this is the net.
        finished_job_data_clean_up_interval_seconds: config.result_lifetime_seconds,
        // The engine removes a job's state itself.
        finished_job_state_clean_up_interval_seconds: 0,
        ..Default::default()
    }
}

/// The settings that a plan for this engine must be made with, and is submitted with.
pub fn planning(config: SessionConfig, target_partitions: usize) -> SessionConfig {
    let mut config = config.with_target_partitions(target_partitions.max(1));
    if config.options().extensions.get::<BallistaConfig>().is_none() {
        config = config.with_option_extension(BallistaConfig::default());
    }
    let options = config.options_mut();
    // A round-robin exchange is dropped by the distributed planner, together with the
    // partition count that the operators above it were planned for.
    options.optimizer.enable_round_robin_repartition = false;
    // The scan's own splits are exact and balanced; a second splitting of file groups
    // inside a stage would change its partition count after planning.
    options.optimizer.repartition_file_scans = false;
    // A subquery's shared result and a join's or an aggregate's dynamic filter live in one
    // process; their producer and consumer may be in different stages here. A top-k filter
    // starts as "true" and is only ever narrowed by its own stage, so it may stay.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.prefer_hash_join = true;
    // Of joins that gather one side the distributed planner makes partitioned ones, when the kind of join or
    // the size forbids a broadcast; the operators above were planned for one partition and would then answer
    // once a partition. So every join is planned partitioned, and the distributed planner chooses broadcasts.
    options.optimizer.hash_join_single_partition_threshold = 0;
    options.optimizer.hash_join_single_partition_threshold_rows = 0;
    with_transport(config)
}

/// What an empty session of this engine starts with.
fn base() -> SessionConfig {
    with_transport(SessionConfig::new().with_option_extension(BallistaConfig::default()))
}

fn with_transport(config: SessionConfig) -> SessionConfig {
    config
        .set_str(BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, &MESSAGE_BYTES_MAX.to_string())
        .set_str(BALLISTA_CLIENT_IO_RETRIES_TIMES, SHUFFLE_READ_ATTEMPTS)
        .set_str(BALLISTA_CLIENT_IO_RETRY_WAIT_TIME_MS, SHUFFLE_READ_PAUSE_MS)
        .set_str(BALLISTA_ADAPTIVE_PLANNER_ENABLED, "false")
}
