//! The servers: which parts one process has, and how they share it.
//!
//! ```text
//!   serve      Runtime + Router + Lakehouse -> scheduler, and an executor beside it
//!   scheduler  Runtime + Router + Lakehouse -> scheduler
//!   executor   storage settings come from its scheduler
//! ```
//!
//! SIGTERM and Ctrl-C stop in order: no new queries, the running ones finish, exit code 0.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use object_store::ObjectStore;
use tarn_catalog::Lakehouse;
use tarn_runtime::Runtime;
use tarn_scan::storage::{Layer, Router};
use tarn_scheduler::{Addresses, Shared};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Schema that an empty embedded catalog gets, so that a first `CREATE TABLE` has a place.
const FIRST_SCHEMA: &str = "default";

/// Why a server did not start, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scheduler.
    #[error("{}", with_hint(.0))]
    Scheduler(#[from] tarn_scheduler::Error),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] tarn_executor::Error),
    /// The lakehouse.
    #[error(transparent)]
    Catalog(#[from] tarn_catalog::Error),
    /// Cores and memory.
    #[error(transparent)]
    Runtime(#[from] tarn_runtime::Error),
    /// A folder.
    #[error("folder {folder}: {source}")]
    Folder {
        /// Which one.
        folder: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The demo data.
    #[error(transparent)]
    Demo(#[from] crate::demo::Error),
}

fn with_hint(error: &tarn_scheduler::Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// Store calls run on the runtime's IO threads, never on those that decode.
#[derive(Debug)]
struct OnIoThreads(Runtime);

impl Layer for OnIoThreads {
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.0.io_store(inner)
    }
}

/// What both servers of one process stand on.
pub async fn shared(config: &Config) -> Result<Shared, Error> {
    let work = config.data_dir.join("work");
    remove_dead(&work);
    let work_dir = work.join(format!("scheduler-{}", std::process::id()));
    for folder in [&config.data_dir, &config.data_dir.join("warehouse"), &work_dir] {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Folder { folder: folder.display().to_string(), source })?;
    }
    let runtime = Runtime::new(config.runtime.clone())?;
    let router = Router::new(config.storage.clone(), vec![Arc::new(OnIoThreads(runtime.clone()))]);
    router.register(&runtime.env());
    let lakehouse = Lakehouse::open(config.catalog(), router.clone()).await?;
    // Only in files of our own: a catalog that others keep is not changed, and may be away when we start.
    let own = config.catalogs.iter().filter(|(_, catalog)| catalog.uri.starts_with("sqlite:"));
    for (catalog, _) in own {
        if lakehouse.schemas(catalog).await?.is_empty() {
            lakehouse.create_schema(catalog, FIRST_SCHEMA, true).await?;
        }
    }
    let history = Some(config.data_dir.join("history.jsonl"));
    Ok(Shared { runtime, router, lakehouse, work_dir, history })
}

/// Scheduler and executor in one process, until they are stopped.
pub async fn serve(config: Config) -> Result<ExitCode, Error> {
    let shutdown = stop_on_signal();
    let shared = shared(&config).await?;
    let server = Server::start(&config, shared, shutdown).await?;
    server.announce();
    server.join().await
}

/// The scheduler alone, until it is stopped.
pub async fn scheduler(config: Config) -> Result<ExitCode, Error> {
    let shutdown = stop_on_signal();
    let shared = shared(&config).await?;
    let work_dirs = [shared.work_dir.clone(), config.runtime.spill_dir.clone()];
    let running = tarn_scheduler::start(config.scheduler.clone(), shared, shutdown).await?;
    announce(&running.addresses, None);
    running.join().await?;
    work_dirs.iter().for_each(|folder| remove(folder));
    Ok(ExitCode::SUCCESS)
}

/// An executor, until it is stopped.
pub async fn executor(config: Config) -> Result<ExitCode, Error> {
    let shutdown = stop_on_signal();
    let settings = executor_config(&config);
    let running = tarn_executor::start(settings, None, shutdown).await?;
    let addresses = running.addresses();
    println!("executor {} is ready", running.id());
    println!("  queries   {}", addresses.flight);
    println!("  tasks     {}", addresses.tasks);
    if let Some(http) = addresses.http {
        println!("  http      http://{http}");
    }
    running.join().await?;
    Ok(ExitCode::SUCCESS)
}

/// Scheduler and executor of one process.
pub struct Server {
    scheduler: tarn_scheduler::Running,
    executor: tarn_executor::Running,
    executor_stop: CancellationToken,
    work_dirs: [PathBuf; 2],
}

impl Server {
    /// Binds everything; ready when it returns.
    pub async fn start(config: &Config, shared: Shared, shutdown: CancellationToken) -> Result<Self, Error> {
        let work_dirs = [shared.work_dir.clone(), config.runtime.spill_dir.clone()];
        let (runtime, router) = (shared.runtime.clone(), shared.router.clone());
        let scheduler = tarn_scheduler::start(config.scheduler.clone(), shared, shutdown).await?;
        let mut settings = executor_config(config);
        settings.schedulers = vec![scheduler.addresses.cluster.to_string()];
        // It goes after the scheduler: running queries finish first.
        let executor_stop = CancellationToken::new();
        let executor = tarn_executor::start(settings, Some((runtime, router)), executor_stop.clone()).await?;
        Ok(Self { scheduler, executor, executor_stop, work_dirs })
    }

    /// Where clients find it.
    pub fn addresses(&self) -> Addresses {
        self.scheduler.addresses
    }

    /// Prints every address that was bound.
    pub fn announce(&self) {
        announce(&self.scheduler.addresses, Some(&self.executor));
    }

    /// Waits for the end.
    pub async fn join(self) -> Result<ExitCode, Error> {
        let ended = self.scheduler.join().await;
        self.executor_stop.cancel();
        self.executor.join().await?;
        self.work_dirs.iter().for_each(|folder| remove(folder));
        ended?;
        Ok(ExitCode::SUCCESS)
    }
}

fn executor_config(config: &Config) -> tarn_executor::Config {
    let mut settings = config.executor.clone();
    settings.runtime = config.runtime.clone();
    settings.work_dir = config.data_dir.join("work");
    settings
}

fn announce(addresses: &Addresses, executor: Option<&tarn_executor::Running>) {
    println!("tarn is ready");
    println!("  Flight SQL  grpc://{}", addresses.flight_sql);
    println!("  JDBC        jdbc:arrow-flight-sql://{}?useEncryption=false", addresses.flight_sql);
    println!("  http        http://{}", addresses.http);
    println!("  cluster     {}", addresses.cluster);
    if let Some(executor) = executor {
        let addresses = executor.addresses();
        println!("  executor    {} (tasks {})", addresses.flight, addresses.tasks);
    }
}

/// Cancelled by SIGTERM or Ctrl-C. A second signal ends the process at once.
pub fn stop_on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let stop = token.clone();
    let watch = async move {
        let (Ok(mut term), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        stop.cancel();
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(130);
    };
    // The watch lives as long as the process; nothing waits for it.
    tokio_util::task::TaskTracker::new().spawn(watch);
    token
}

/// Deletes the work folders (`name-PID`) of processes that were killed.
fn remove_dead(work: &Path) {
    for entry in std::fs::read_dir(work).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let dead = match name.to_string_lossy().rsplit_once('-') {
            Some(("scheduler" | "spill", pid)) => {
                pid.parse::<u32>().is_ok_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
            }
            _ => false,
        };
        if dead && Path::new("/proc/self").exists() {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::debug!(%error, "work folder is left behind");
    }
}
