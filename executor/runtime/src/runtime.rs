//! The process's runtimes and its one execution environment.
//!
//! Plans are polled by the CPU runtimes, object stores by the IO runtime, and connections by whatever
//! runtime the process was started with. There is one of the CPU for each [`Priority`] of runs: the operating system
//! gives the processors to the threads of the short ones when they have work, and the rest to the others. A dashboard
//! need not wait until a heavy join lets go of a core, as it would in one pool of threads. All engines of a process share one [`Runtime`], so they share
//! one memory, one spill bound and one cache of file metadata. Each run has an environment of its own over them,
//! with its share of the memory ([`crate::memory`]).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::Handle;

use crate::control::Runner;
use crate::error::{Error, Result};
use crate::memory::{self, Ledger};
use crate::options::{Priority, TarnOptions};
use crate::{io_store, metrics, queries, spill, stream};

/// What DataFusion calls its folders under the spill folder.
const SPILL_FOLDER_PREFIX: &str = "datafusion-";

/// How much of the machine this process may use to run plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that run plans; 0 stands for the number of cores.
    pub cpu_threads: usize,
    /// Bytes of memory for plans; 0 stands for 60 % of what the container or the host has.
    pub memory_bytes: u64,
    /// Folder for what does not fit into memory; empty stands for one below the data folder. Leftovers
    /// in it are deleted at start.
    pub spill_dir: PathBuf,
    /// Bytes that may be spilled at one time.
    pub spill_bytes_max: u64,
    /// Bytes of Parquet footers and indexes that are kept in memory.
    pub metadata_cache_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpu_threads: 0,
            memory_bytes: 0,
            spill_dir: PathBuf::new(),
            spill_bytes_max: 100 << 30,
            metadata_cache_bytes: 256 << 20,
        }
    }
}

/// A cheap handle to the runtimes and the environment of this process.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    /// By priority.
    cpu: [Threads; 3],
    io: Threads,
    cores: usize,
    memory: Arc<Ledger>,
    /// For what belongs to no run.
    env: Arc<RuntimeEnv>,
    queries: queries::Register,
    /// The executor in this same process, by the address under which the cluster knows it.
    runner: RwLock<Option<(String, Arc<dyn Runner>)>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts the threads and makes the environment. The spill folder is created, and leftovers in it
    /// are deleted.
    pub fn new(config: Config) -> Result<Self> {
        let host = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let cores = if config.cpu_threads == 0 { host } else { config.cpu_threads };
        let memory = Ledger::new(usize::try_from(pool_bytes(&config)).unwrap_or(usize::MAX));
        let env = environment(&config, &memory)?;
        metrics::watch(Arc::downgrade(&env), Arc::downgrade(&memory));
        Ok(Self {
            shared: Arc::new(Shared {
                cpu: [
                    Threads::start("cpu", cores, None)?,
                    Threads::start("cpu-middle", cores, Some(MIDDLE))?,
                    Threads::start("cpu-low", cores, Some(LOW))?,
                ],
                io: Threads::start("io", cores.clamp(1, 4), None)?,
                cores,
                memory,
                env,
                queries: queries::Register::default(),
                runner: RwLock::new(None),
                config,
            }),
        })
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The environment for what belongs to no run: planning, and what servers do for themselves.
    pub fn env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.shared.env)
    }

    /// The environment of a run: the process's, with the run's own share of the memory. All that a run does in this
    /// process goes through the one.
    pub fn env_of(&self, run: &queries::Query, config: &SessionConfig) -> Arc<RuntimeEnv> {
        run.env(|| {
            let asked = match TarnOptions::of(config).memory_bytes {
                0 => None,
                bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
            };
            let share = self.shared.memory.share(run.id(), asked);
            let memory_pool = Arc::clone(&share) as Arc<dyn MemoryPool>;
            let mut env = RuntimeEnv { memory_pool, ..self.shared.env.as_ref().clone() };
            match spill::counted(&env.disk_manager, run.spilled()) {
                Ok(disk) => env.disk_manager = Arc::new(disk),
                Err(error) => tracing::warn!(%error, run = run.id(), "what it spills is not counted"),
            }
            (share, Arc::new(env))
        })
    }

    /// The memory of this process.
    pub fn memory(&self) -> &Ledger {
        &self.shared.memory
    }

    /// Threads that run plans.
    pub fn cores(&self) -> usize {
        self.shared.cores
    }

    /// Bytes of memory for runs.
    pub fn memory_bytes(&self) -> u64 {
        pool_bytes(&self.shared.config)
    }

    /// Where plans are made, and where runs of the highest priority are polled.
    pub fn cpu(&self) -> &Handle {
        self.cpu_for(Priority::High)
    }

    /// Where the plan of a run is polled.
    pub fn cpu_of(&self, config: &SessionConfig) -> &Handle {
        self.cpu_for(TarnOptions::of(config).priority)
    }

    /// Where runs of a priority are polled.
    pub fn cpu_for(&self, priority: Priority) -> &Handle {
        self.shared.cpu[priority as usize].handle()
    }

    /// Where object stores are called.
    pub fn io(&self) -> &Handle {
        self.shared.io.handle()
    }

    /// The queries that have work in this process.
    pub fn queries(&self) -> &queries::Register {
        &self.shared.queries
    }

    /// A store whose calls run on the IO runtime, whoever makes them. A store on the local disk is
    /// returned as it is: its calls go to a pool of blocking threads anyway.
    pub fn io_store(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        io_store::wrap(self.io().clone(), inner)
    }

    /// Executes all partitions of a plan on the CPU runtime of its run. The stream is bounded; dropping it ends the
    /// work; a panic in the plan is an error of the stream.
    pub fn run_stream(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        ctx: Arc<TaskContext>,
    ) -> SendableRecordBatchStream {
        stream::run(self.cpu_of(ctx.session_config()), plan, ctx)
    }

    /// Makes the executor of this process known, so that a scheduler in the same process need not go
    /// over the network. `url` is the address under which it registers.
    pub fn set_runner(&self, url: String, runner: Arc<dyn Runner>) {
        *self.shared.runner.write() = Some((url, runner));
    }

    /// Forgets the executor of this process.
    pub fn clear_runner(&self) {
        *self.shared.runner.write() = None;
    }

    /// Whether there is an executor in this process.
    pub fn has_runner(&self) -> bool {
        self.shared.runner.read().is_some()
    }

    /// The executor of this process, if it is the one that registered `url`.
    pub fn runner(&self, url: &str) -> Option<Arc<dyn Runner>> {
        let runner = self.shared.runner.read();
        runner.as_ref().filter(|(known, _)| known == url).map(|(_, runner)| Arc::clone(runner))
    }
}

fn environment(config: &Config, memory: &Arc<Ledger>) -> Result<Arc<RuntimeEnv>> {
    let spill_dir = match config.spill_dir.as_os_str().is_empty() {
        true => std::env::temp_dir().join(format!("tarn-spill-{}", std::process::id())),
        false => config.spill_dir.clone(),
    };
    prepare_spill_dir(&spill_dir).map_err(|source| Error::SpillFolder { path: spill_dir.clone(), source })?;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill_dir]))
        .with_max_temp_directory_size(config.spill_bytes_max);
    RuntimeEnvBuilder::new()
        .with_memory_pool(memory.share("of no query", Some(0)))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(config.metadata_cache_bytes as usize)
        .build_arc()
        .map_err(Error::Environment)
}

fn pool_bytes(config: &Config) -> u64 {
    match config.memory_bytes {
        0 => memory::pool_bytes_default(),
        bytes => bytes,
    }
}

/// Creates the folder and deletes what an earlier process left in it; nothing else that may be there.
fn prepare_spill_dir(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SPILL_FOLDER_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Stack of a thread, of which the system gives what is touched. The engine walks expressions by recursion, and one of
/// thousands of conditions is deep: with the usual 2 MiB, 2,000 of them ended the process.
pub const STACK_BYTES: usize = 64 * 1024 * 1024;

/// The library's numbers, of 99, for a niceness of 5 and of 10: beside one of the usual priority such a thread gets a
/// quarter of a core, or a tenth. So the long runs go on, however many short ones there are.
const MIDDLE: u8 = 35;
const LOW: u8 = 22;

/// Gives the calling thread a lower priority.
fn lower(priority: u8) {
    let priority = ThreadPriorityValue::try_from(priority).map(ThreadPriority::Crossplatform);
    match priority.map(ThreadPriority::set_for_current) {
        Ok(Ok(())) => {}
        // Runs are as right without; they only get in each other's way.
        refused => tracing::warn!(?refused, "a thread for long runs keeps the usual priority"),
    }
}

/// A tokio runtime that may be dropped anywhere, also inside another one.
struct Threads {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Threads {
    /// Threads of the usual priority, or of a lower one: see [`MIDDLE`].
    fn start(name: &'static str, count: usize, priority: Option<u8>) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(count)
            .thread_name(format!("tarn-{name}"))
            .thread_stack_size(STACK_BYTES)
            .enable_all();
        if let Some(priority) = priority {
            builder.on_thread_start(move || lower(priority));
        }
        let runtime = builder.build().map_err(|source| Error::Threads { name, source })?;
        Ok(Self { runtime: Some(runtime) })
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("taken only when dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::error::{DataFusionError, Result as EngineResult};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::prelude::SessionContext;
    use futures::{StreamExt, TryStreamExt};

    #[tokio::test]
    async fn plan_runs_on_the_cpu_threads() {
        let runtime = runtime();
        let ctx = SessionContext::new_with_config_rt(Default::default(), runtime.env());
        let plan = ctx.sql("select sum(value) from generate_series(1, 100)").await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let batches: Vec<_> = runtime.run_stream(plan, ctx.task_ctx()).try_collect().await.unwrap();
        assert_eq!(batches[0].num_rows(), 1);
        let name = runtime.cpu().spawn(async { std::thread::current().name().map(str::to_string) }).await;
        assert_eq!(name.unwrap().as_deref(), Some("tarn-cpu"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn long_runs_have_threads_that_let_short_ones_go_first() {
        let runtime = runtime();
        let nice = |priority: Priority| {
            let mut config = SessionConfig::new();
            TarnOptions { priority, ..TarnOptions::default() }.apply(&mut config);
            runtime.cpu_of(&config).spawn(async {
                // What the kernel says: behind the name in brackets, niceness is the 17th field.
                let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
                let (_, fields) = stat.rsplit_once(')').unwrap();
                fields.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
            })
        };
        let high = nice(Priority::High).await.unwrap();
        assert_eq!(nice(Priority::Middle).await.unwrap() - high, 5);
        assert_eq!(nice(Priority::Low).await.unwrap() - high, 10);
    }

    #[tokio::test]
    async fn panic_is_an_error_of_the_stream() {
        let runtime = runtime();
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let mut stream = stream::spawn(runtime.cpu(), Arc::clone(&schema), || panic!("on purpose"));
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("on purpose"), "{error}");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn dropped_stream_drops_the_plan() {
        struct Flag(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let runtime = runtime();
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let flag = Flag(Some(sender));
        let inner = Arc::clone(&schema);
        let stream = stream::spawn(runtime.cpu(), schema, move || -> EngineResult<_> {
            let pending = futures::stream::pending::<EngineResult<_, DataFusionError>>().map(move |item| {
                let _ = &flag;
                item
            });
            Ok(Box::pin(RecordBatchStreamAdapter::new(inner, pending)))
        });
        drop(stream);
        tokio::time::timeout(std::time::Duration::from_secs(5), dropped).await.unwrap().unwrap();
    }

    #[test]
    fn leftovers_are_deleted_and_strangers_kept() {
        let folder = std::env::temp_dir().join(format!("tarn-runtime-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("datafusion-old")).unwrap();
        std::fs::create_dir_all(folder.join("mine")).unwrap();
        let runtime =
            Runtime::new(Config { spill_dir: folder.clone(), cpu_threads: 1, ..Default::default() });
        assert!(!folder.join("datafusion-old").exists());
        assert!(folder.join("mine").exists());
        drop(runtime);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn runtime() -> Runtime {
        let spill_dir = std::env::temp_dir().join(format!("tarn-runtime-{}", uuid::Uuid::new_v4()));
        Runtime::new(Config { cpu_threads: 2, spill_dir, memory_bytes: 64 << 20, ..Default::default() })
            .unwrap()
    }
}
