//! The cluster of a run: one scheduler and its executors, as processes that may be ended and started again.
//!
//! Who changes a process holds its lock until the process is well again. The rule: the scheduler is always started on the same
//! ports and the same folder; its executors outlive it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tarn_harness::Data;
use tokio::sync::Mutex;

use crate::Error;
use crate::enclosure::logs;
use crate::place::Place;
use crate::server::Server;
use crate::store::Store;

/// How long a process may take to be ready; an executor may wait for a scheduler that is away for a while.
const READY: Duration = Duration::from_secs(60);
/// Seconds that running queries have when a process is asked to end.
const DRAIN_S: u64 = 15;
/// How long a process that is asked to end may take: its queries, then its loops.
pub const END: Duration = Duration::from_secs(DRAIN_S + 30);

/// The processes and what they are started with.
#[derive(Debug)]
pub struct Cluster {
    /// Where they are.
    pub place: Place,
    /// The scheduler.
    pub scheduler: Mutex<Scheduler>,
    /// The executors.
    pub executors: Vec<Mutex<Executor>>,
    tarn: PathBuf,
    data: Data,
    config: PathBuf,
    flight_sql: SocketAddr,
    http: SocketAddr,
    cluster: SocketAddr,
    /// Counts every time the scheduler went or came.
    epoch: AtomicU64,
}

/// The scheduler's process, while there is one.
#[derive(Debug)]
pub struct Scheduler {
    /// The process.
    pub server: Option<Server>,
}

/// An executor's process, while there is one.
#[derive(Debug)]
pub struct Executor {
    /// Its number.
    pub number: usize,
    /// The process.
    pub server: Option<Server>,
    /// Queries, tasks, probes.
    ports: [u16; 3],
}

impl Cluster {
    /// Starts everything over data that is loaded, and waits until all is ready.
    pub async fn start(
        place: Place,
        store: &Store,
        data: Data,
        tarn: PathBuf,
        executors: usize,
        memory_mib: u64,
    ) -> Result<Self, Error> {
        let config = place.folder().join("tarn.toml");
        std::fs::write(&config, configuration(&data, &store.endpoint(), memory_mib))?;
        let address = |port| SocketAddr::new(place.host(), port);
        let [flight_sql, http, cluster] = [place.port(), place.port(), place.port()].map(address);
        let slots = (0..executors).map(|number| {
            let ports = [place.port(), place.port(), place.port()];
            Mutex::new(Executor { number, server: None, ports })
        });
        let executors = slots.collect();
        let (scheduler, epoch) = (Mutex::new(Scheduler { server: None }), AtomicU64::new(0));
        let cluster =
            Self { place, scheduler, executors, tarn, data, config, flight_sql, http, cluster, epoch };
        cluster.start_scheduler(&mut *cluster.scheduler.lock().await).await?;
        for executor in &cluster.executors {
            cluster.start_executor(&mut *executor.lock().await, false).await?;
        }
        Ok(cluster)
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.flight_sql)
    }

    /// The scheduler's folder for what it keeps while it runs.
    pub fn scheduler_work(&self) -> PathBuf {
        self.data.folder().join("work")
    }

    /// Changes with the scheduler.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The scheduler goes or comes: sessions end.
    pub fn new_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Starts the scheduler, and waits until it is ready.
    pub async fn start_scheduler(&self, scheduler: &mut Scheduler) -> Result<Duration, Error> {
        let began = Instant::now();
        let mut command = self.place.command(&self.tarn, None);
        command.arg("scheduler").arg("--config").arg(&self.config).arg("--data-dir").arg(self.data.folder());
        command.arg("--flight-sql-listen").arg(self.flight_sql.to_string());
        command.arg("--http-listen").arg(self.http.to_string());
        command.arg("--cluster-listen").arg(self.cluster.to_string());
        command.arg("--insecure").current_dir(self.place.folder());
        let server = Server::start("scheduler", &logs(self.place.folder()), command, self.http)?;
        scheduler.server.insert(server).wait_until_ready(READY).await?;
        self.new_epoch();
        Ok(began.elapsed())
    }

    /// Starts an executor, and waits until it has joined.
    pub async fn start_executor(&self, executor: &mut Executor, new_ports: bool) -> Result<Duration, Error> {
        let began = Instant::now();
        if new_ports {
            executor.ports = [self.place.port(), self.place.port(), self.place.port()];
        }
        let number = executor.number;
        let address = |port| SocketAddr::new(self.place.executor_host(number), port);
        let [listen, tasks, http] = executor.ports.map(address);
        let mut command = self.place.command(&self.tarn, Some(number));
        command.arg("executor").arg("--config").arg(&self.config);
        command.arg("--data-dir").arg(self.place.disk(number));
        command.arg("--scheduler").arg(self.cluster.to_string());
        command.arg("--listen").arg(listen.to_string()).arg("--http-listen").arg(http.to_string());
        command.env("TARN_EXECUTOR__TASK_LISTEN", tasks.to_string());
        command.arg("--insecure").current_dir(self.place.folder());
        let name = format!("executor-{number}");
        let server = Server::start(&name, &logs(self.place.folder()), command, http)?;
        executor.server.insert(server).wait_until_ready(READY).await?;
        Ok(began.elapsed())
    }

    /// The processes that ended although nobody wanted it.
    pub async fn fallen(&self) -> Vec<String> {
        let mut fallen = Vec::new();
        let mut look = |server: &mut Option<Server>| {
            if let Some(status) = server.as_mut().and_then(Server::ended) {
                let name = server.take().map(|server| server.name().to_string()).unwrap_or_default();
                fallen.push(format!("{name} ended by itself with {status}; its log says why"));
            }
        };
        // Those that a fault has in its hands are looked at when it lets go.
        if let Ok(mut scheduler) = self.scheduler.try_lock() {
            look(&mut scheduler.server);
        }
        for executor in &self.executors {
            if let Ok(mut executor) = executor.try_lock() {
                look(&mut executor.server);
            }
        }
        fallen
    }

    /// Starts whoever is not there.
    pub async fn raise(&self) -> Result<(), Error> {
        let mut scheduler = self.scheduler.lock().await;
        if scheduler.server.is_none() {
            self.start_scheduler(&mut scheduler).await?;
        }
        drop(scheduler);
        for executor in &self.executors {
            let mut executor = executor.lock().await;
            if executor.server.is_none() {
                self.start_executor(&mut executor, true).await?;
            }
        }
        Ok(())
    }
}

/// Small memory, so that what can spill does; short deadlines, so that faults are over before the queries are.
fn configuration(data: &Data, endpoint: &str, memory_mib: u64) -> String {
    let folder = data.folder().display();
    let warehouse = &data.config.catalogs[tarn_harness::data::CATALOG].warehouse;
    let memory = memory_mib << 20;
    format!(
        "[storage]\nretries_max = 6\nretry_timeout_ms = 15000\nrequest_timeout_ms = 5000\nconnect_timeout_ms = 2000\n\n\
         [storage.s3]\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\npath_style = true\nallow_http = true\n\n\
         [catalogs.lake]\nuri = \"sqlite://{folder}/catalog.db\"\nwarehouse = \"{warehouse}\"\n\n\
         [runtime]\ncpu_threads = 2\nmemory_bytes = {memory}\n\n\
         [scheduler]\ndrain_s = {DRAIN_S}\n\n\
         [scheduler.query]\nlocal_bytes_max = 65536\n\n\
         [executor]\ndrain_s = {DRAIN_S}\n"
    )
}
