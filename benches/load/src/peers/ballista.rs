//! Ballista as it comes: its own scheduler and executor, tasks pushed, everything else by its defaults.
//!
//! Both run in processes of this very binary (`tarn-bench-load ballista …`), so that one build serves. A client is
//! what Ballista gives to Rust programs: a context whose queries go to the scheduler as logical plans. The rule: no
//! setting but ports, folders and the way tasks are scheduled.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::extension::SessionStateExt;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use clap::Subcommand;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::Error;
use crate::data::Tables;
use crate::server::{READY_MAX, Watch, free_port, spawn_logged};
use crate::target::Target;

const WAIT: Duration = Duration::from_millis(500);
const PROBE_DEADLINE: Duration = Duration::from_secs(30);

/// A part of Ballista, as a process of this binary.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// The scheduler.
    Scheduler {
        /// Its port.
        port: u16,
    },
    /// The executor.
    Executor {
        /// The scheduler's port.
        scheduler: u16,
        /// The port of its results.
        port: u16,
        /// The port of its tasks.
        grpc_port: u16,
        /// Folder of its shuffles.
        folder: String,
    },
}

/// Serves until standard input closes.
pub async fn serve(role: Role) -> Result<(), Error> {
    let serving = async {
        match role {
            Role::Scheduler { port } => scheduler(port).await,
            Role::Executor { scheduler, port, grpc_port, folder } => {
                executor(scheduler, port, grpc_port, folder).await
            }
        }
    };
    let mut input = tokio::io::stdin();
    let mut byte = [0];
    tokio::select! {
        ended = serving => ended,
        _ = input.read(&mut byte) => Ok(()),
    }
}

async fn scheduler(port: u16) -> Result<(), Error> {
    let config = SchedulerConfig {
        bind_host: "127.0.0.1".to_string(),
        external_host: "127.0.0.1".to_string(),
        bind_port: port,
        scheduling_policy: ballista_core::config::TaskSchedulingPolicy::PushStaged,
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Ok(start_server(cluster, address, Arc::new(config)).await?)
}

async fn executor(scheduler: u16, port: u16, grpc_port: u16, folder: String) -> Result<(), Error> {
    let config = ExecutorProcessConfig {
        scheduler_host: "127.0.0.1".to_string(),
        external_host: Some("127.0.0.1".to_string()),
        scheduler_port: scheduler,
        port,
        grpc_port,
        work_dir: Some(folder),
        scheduler_connect_timeout_seconds: 30,
        task_scheduling_policy: ballista_core::config::TaskSchedulingPolicy::PushStaged,
        ..ExecutorProcessConfig::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}

/// The running scheduler and executor.
pub struct Ballista {
    /// Whom to ask.
    pub target: Target,
    children: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Ballista {
    /// Starts both and waits until they answer.
    pub async fn start(tables: &Tables, folder: &Path, logs: &Path) -> Result<Self, Error> {
        let folder = tempfile::tempdir_in(folder)?;
        let [scheduler, port, grpc_port] =
            [free_port()?, free_port()?, free_port()?].map(|port| port.to_string());
        let work = folder.path().display().to_string();
        let mut children = vec![spawn(&["scheduler", &scheduler], logs)?];
        children.push(spawn(&["executor", &scheduler, &port, &grpc_port, &work], logs)?);
        let client = Client::new(format!("df://127.0.0.1:{scheduler}"), tables).await?;
        let target = Target::Ballista(client);
        let (table, _) = tables.iter().next().ok_or("no tables")?;
        let sql = format!("select count(*) from {table}");
        let began = Instant::now();
        loop {
            let failure = match target.connect("probe").await?.run(&sql, PROBE_DEADLINE).await {
                Ok(_) => return Ok(Self { target, children, _folder: folder }),
                Err(failure) => failure,
            };
            if began.elapsed() > READY_MAX {
                return Err(format!("Ballista does not answer: {}", failure.message).into());
            }
            for child in &mut children {
                if let Some(status) = child.try_wait()? {
                    return Err(format!("Ballista ended with {status}; its log says why").into());
                }
            }
            sleep(WAIT).await;
        }
    }

    /// Looks at both processes.
    pub fn watch(&self) -> Watch {
        Watch::of(&self.children)
    }

    /// Ends both.
    pub async fn stop(mut self) -> Result<(), Error> {
        for child in &mut self.children {
            child.kill().await?;
        }
        Ok(())
    }
}

fn spawn(arguments: &[&str], logs: &Path) -> Result<Child, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("ballista").args(arguments).stdin(Stdio::piped());
    spawn_logged(command, logs, &format!("ballista-{}", arguments[0]))
}

/// What makes sessions: the scheduler's address, and the tables, whose files are listed once.
#[derive(Clone)]
pub struct Client {
    url: String,
    schemas: Vec<(String, Arc<MemorySchemaProvider>)>,
}

impl Client {
    async fn new(url: String, tables: &Tables) -> Result<Self, Error> {
        let state = SessionState::new_ballista_state(url.clone())?;
        let mut schemas: Vec<(String, Arc<MemorySchemaProvider>)> = Vec::new();
        for (name, files) in tables {
            let (schema, table) = name.split_once('.').ok_or("a table without a schema")?;
            let urls = files.iter().map(|file| ListingTableUrl::parse(file.display().to_string()));
            let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
            let config = ListingTableConfig::new_with_multi_paths(urls.collect::<Result<Vec<_>, _>>()?);
            let config = config.with_listing_options(options).infer_schema(&state).await?;
            let provider: Arc<dyn TableProvider> = Arc::new(ListingTable::try_new(config)?);
            if schemas.last().is_none_or(|(last, _)| last != schema) {
                schemas.push((schema.to_string(), Arc::new(MemorySchemaProvider::new())));
            }
            if let Some((_, tables)) = schemas.last() {
                tables.register_table(table.to_string(), provider)?;
            }
        }
        Ok(Self { url, schemas })
    }

    /// A session of its own.
    pub fn session(&self) -> Result<SessionContext, Error> {
        let context = SessionContext::new_with_state(SessionState::new_ballista_state(self.url.clone())?);
        let catalog = context.catalog("datafusion").ok_or("the context has no catalog")?;
        for (name, tables) in &self.schemas {
            let tables: Arc<dyn SchemaProvider> = Arc::<MemorySchemaProvider>::clone(tables);
            catalog.register_schema(name, tables)?;
        }
        Ok(context)
    }
}
