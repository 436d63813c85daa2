//! The executor's part in staged execution: Ballista's executor, in this process.
//!
//! ```text
//!   scheduler ── task gRPC ──> ballista's task runner ──> engine.rs ──> our CPU runtime
//!        ^                                                   │  token, errors, file numbers
//!        └── register, heartbeats, reports                   v
//!   readers <── Flight, mounted on the executor's own server ── shuffle files in the work folder
//! ```
//!
//! It is built from Ballista's pieces and not by its process function, which installs signal
//! handlers and a process-wide flag. When the scheduler cannot be reached, or dismisses this
//! executor, the part starts again by itself: an executor outlives its schedulers. The
//! rules: one `RuntimeEnv` for all engines; a task that ends early, for whatever reason,
//! stops all work that it started.

mod compact;
mod engine;
mod failure;
mod pool;
mod shuffle_guard;
mod work_folder;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::config::{BallistaConfig, TaskSchedulingPolicy};
use ballista_core::extension::EndpointOverrideFn;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use ballista_core::{ConfigProducer, JobId, RuntimeProducer};
use ballista_executor::execution_engine::QueryStageExecutor;
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::executor_process::{ExecutorProcessConfig, structure_executor_metadata};
use ballista_executor::executor_server;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::{ExecutorMetricCollectionPolicy, ExecutorMetricsCollector};
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tarn_runtime::Runtime;
use tarn_runtime::options::TarnOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

use self::engine::Engine;
pub(crate) use self::work_folder::JobFiles;
use self::work_folder::WorkFolder;

/// Largest message between schedulers and executors; plans with many files are large.
const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// Between two heartbeats. Ballista gives up after five that failed, and we start again.
const HEARTBEAT_SECONDS: u64 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before the part starts again: doubled from one to the other.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long running tasks may take to end when the executor stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long Ballista's loops may take to end after that.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Attempts to find a free port for tasks.
const PORT_ATTEMPTS: usize = 16;

/// What the part needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The executor's id, the one that it registered with our membership.
    pub id: String,
    /// Host under which others reach this executor.
    pub host: String,
    /// Port of the executor's Flight server, on which [`Staged::flight_service`] is mounted.
    pub flight_port: u16,
    /// Where the scheduler's tasks come in; port 0 takes a free one.
    pub task_listen: SocketAddr,
    /// `HOST:PORT` of the scheduler's cluster address.
    pub scheduler: String,
    /// Folder for shuffle files. Executors may share it; each has a folder of its own in it.
    pub work_dir: PathBuf,
}

/// The staged part of an executor, ready to run.
pub struct Staged {
    settings: Settings,
    runtime: Runtime,
    task_addr: SocketAddr,
    folder: WorkFolder,
}

/// Why the part stopped.
enum End {
    /// The executor stops.
    Shutdown,
    /// The scheduler is gone or dismissed us.
    Lost(String),
}

impl Staged {
    /// Makes the work folder, removes what dead executors left beside it, and finds a port
    /// for tasks.
    pub fn prepare(settings: Settings, runtime: Runtime) -> std::io::Result<Self> {
        let folder = WorkFolder::create(&settings.work_dir, &settings.id)?;
        let task_addr = free_address(settings.task_listen)?;
        Ok(Self { settings, runtime, task_addr, folder })
    }

    /// Where tasks will come in.
    pub fn task_addr(&self) -> SocketAddr {
        self.task_addr
    }

    /// The service by which others read this executor's shuffle files, to be mounted on the
    /// executor's Flight server.
    pub fn flight_service(&self) -> FlightServiceServer<BallistaFlightService> {
        FlightServiceServer::new(BallistaFlightService::new(self.folder.path().to_string()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The files of the scheduler's jobs, to be told of those that are over.
    pub(crate) fn files(&self) -> JobFiles {
        self.folder.jobs(self.settings.scheduler.clone())
    }

    /// Registers with the scheduler and runs its tasks, over and over, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let engine = Arc::new(Engine::new(self.runtime.clone()));
        let mut pause = PAUSE_MIN;
        loop {
            let started = tokio::time::Instant::now();
            match self.serve(&engine, &shutdown).await {
                End::Shutdown => return,
                End::Lost(reason) => {
                    warn!(
                        executor = self.settings.id,
                        scheduler = self.settings.scheduler,
                        reason,
                        "staged execution is interrupted; trying again"
                    );
                }
            }
            if started.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// One time from registration to the end.
    async fn serve(&self, engine: &Arc<Engine>, shutdown: &CancellationToken) -> End {
        let config = Arc::new(self.process_config());
        let executor = Arc::new(self.executor(&config, engine));
        let (stop, mut dismissed) = mpsc::channel(4);
        let notifier = ShutdownNotifier::new();
        let mut gave_up = notifier.subscribe_for_shutdown();
        let channel = match self.endpoint() {
            Ok(endpoint) => endpoint.connect_lazy(),
            Err(error) => return End::Lost(error.to_string()),
        };
        let scheduler = scheduler_client(channel);
        let starting = executor_server::startup::<LogicalPlanNode, PhysicalPlanNode>(
            scheduler.clone(),
            config,
            Arc::clone(&executor),
            BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), codec()),
            stop,
            &notifier,
            ExecutorHealth::new(),
        );
        let mut server = tokio::select! {
            started = starting => match started {
                Ok(server) => server,
                Err(error) => {
                    end(notifier).await;
                    return End::Lost(error.to_string());
                }
            },
            () = shutdown.cancelled() => {
                end(notifier).await;
                return End::Shutdown;
            }
        };
        info!(executor = self.settings.id, scheduler = self.settings.scheduler, "ready for staged execution");
        let ended = tokio::select! {
            () = shutdown.cancelled() => End::Shutdown,
            _ = dismissed.recv() => End::Lost("dismissed by the scheduler".to_string()),
            () = gave_up.recv() => End::Lost("the scheduler does not answer".to_string()),
            served = &mut server => End::Lost(format!("the task server ended: {served:?}")),
        };
        if matches!(ended, End::Shutdown) {
            let drained = TasksDrainedFuture(Arc::clone(&executor));
            if tokio::time::timeout(DRAIN_PATIENCE, drained).await.is_err() {
                warn!(executor = self.settings.id, tasks = executor.active_task_count(), "tasks are cut off");
            }
        }
        self.say_goodbye(scheduler).await;
        end(notifier).await;
        server.abort();
        ended
    }

    /// Tells the scheduler, if it is there, that tasks given to this executor are lost.
    async fn say_goodbye(&self, mut scheduler: SchedulerGrpcClient<Channel>) {
        let stopped =
            ExecutorStoppedParams { executor_id: self.settings.id.clone(), reason: "stopped".to_string() };
        let told = tokio::time::timeout(CONNECT_TIMEOUT, scheduler.executor_stopped(stopped)).await;
        if !matches!(told, Ok(Ok(_))) {
            info!(executor = self.settings.id, "the scheduler was not told of the stop");
        }
    }

    fn executor(&self, config: &Arc<ExecutorProcessConfig>, engine: &Arc<Engine>) -> Executor {
        let cores = self.runtime.cores();
        let env = self.runtime.env();
        let runtime_producer: RuntimeProducer = Arc::new(move |_| Ok(Arc::clone(&env)));
        let config_producer: ConfigProducer = Arc::new(session_config);
        Executor::new(
            structure_executor_metadata(config, cores as u32),
            self.folder.path(),
            runtime_producer,
            config_producer,
            Arc::new(functions()),
            Arc::new(Unrecorded),
            cores,
            Arc::<Engine>::clone(engine),
        )
    }

    fn process_config(&self) -> ExecutorProcessConfig {
        // Ballista dials back whatever address the scheduler names; the one that we know
        // is the one that works from here.
        let known = self.endpoint();
        let endpoint: EndpointOverrideFn = Arc::new(move |named| Ok(known.clone().unwrap_or(named)));
        ExecutorProcessConfig {
            executor_id: self.settings.id.clone(),
            bind_host: self.task_addr.ip().to_string(),
            external_host: Some(self.settings.host.clone()),
            port: self.settings.flight_port,
            grpc_port: self.task_addr.port(),
            vcores: self.runtime.cores(),
            task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
            work_dir: Some(self.folder.path().to_string()),
            grpc_max_decoding_message_size: MESSAGE_BYTES_MAX as u32,
            grpc_max_encoding_message_size: MESSAGE_BYTES_MAX as u32,
            executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
            metric_collection_policy: ExecutorMetricCollectionPolicy::Off,
            memory_pool_size: Some(0),
            override_physical_codec: Some(codec()),
            override_create_grpc_client_endpoint: Some(endpoint),
            ..Default::default()
        }
    }

    fn endpoint(&self) -> Result<Endpoint, Arc<tonic::transport::Error>> {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.settings.scheduler)).map_err(Arc::new)?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(CONNECT_TIMEOUT))
    }
}

/// Stops Ballista's loops and waits for them.
async fn end(notifier: ShutdownNotifier) {
    let ShutdownNotifier { notify_shutdown, mut shutdown_complete_rx, shutdown_complete_tx } = notifier;
    // Nobody listens when nothing was started.
    let _ = notify_shutdown.send(());
    drop(notify_shutdown);
    drop(shutdown_complete_tx);
    if tokio::time::timeout(STOP_PATIENCE, shutdown_complete_rx.recv()).await.is_err() {
        warn!("staged execution did not end in time");
    }
}

fn scheduler_client(channel: Channel) -> SchedulerGrpcClient<Channel> {
    SchedulerGrpcClient::new(channel)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// What the tasks of a stage may call.
fn functions() -> BallistaFunctionRegistry {
    let mut known = BallistaFunctionRegistry::default();
    // It cannot be told of more by the trait for it.
    for function in tarn_functions::scalar_functions() {
        known.scalar_functions.insert(function.name().to_owned(), function);
    }
    for function in tarn_functions::aggregate_functions() {
        known.aggregate_functions.insert(function.name().to_owned(), function);
    }
    known
}

fn codec() -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(tarn_scan::Codec::new(Arc::new(BallistaPhysicalExtensionCodec::default())))
}

/// What a task's settings are read into: only options that are known here arrive.
fn session_config() -> SessionConfig {
    SessionConfig::new()
        .with_option_extension(BallistaConfig::default())
        .with_option_extension(TarnOptions::default())
}

/// The address itself, or one with a port that is free now.
fn free_address(address: SocketAddr) -> std::io::Result<SocketAddr> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        match TcpListener::bind(address) {
            // Ballista binds it again; until then somebody else may, which its server says.
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

/// Stage metrics travel to the scheduler with the task's report; they are not logged here.
struct Unrecorded;

impl ExecutorMetricsCollector for Unrecorded {
    fn record_stage(&self, _: &JobId, _: usize, _: usize, _: Arc<dyn QueryStageExecutor>) {}
}
