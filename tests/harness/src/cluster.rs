//! A cluster in a line: a scheduler and n executors in this process, on free loopback ports.
//!
//! They are started by the same functions as the binary's, each executor with threads, memory and
//! stores of its own, so rows between them go over the network. What every scan opens is noted, by
//! process: see [`Scans`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tarn_client::Connection;
use tarn_runtime::Runtime;
use tarn_scan::{FileTask, ScanObserver};
use tarn_scheduler::Addresses;
use tarn_scheduler::query::register::State;
use tokio_util::sync::CancellationToken;

use crate::data::Data;
use crate::faults::Faults;
use crate::wait::until;

const JOIN: Duration = Duration::from_secs(30);

/// A running cluster. It ends when [`Cluster::stop`] is called, or with the process.
pub struct Cluster {
    scheduler: tarn_scheduler::Running,
    executors: Vec<Executor>,
    stop_scheduler: CancellationToken,
    scans: Scans,
    faults: Faults,
}

struct Executor {
    running: tarn_executor::Running,
    runtime: Runtime,
    stop: CancellationToken,
}

impl Cluster {
    /// Scheduler and executor as `tarn serve` has them: one runtime, one router.
    pub async fn one_process(data: &Data) -> Self {
        Self::start(data, Shape::OneProcess).await
    }

    /// A scheduler, and executors apart from it.
    pub async fn distributed(data: &Data, executors: usize) -> Self {
        Self::start(data, Shape::Apart(executors)).await
    }

    async fn start(data: &Data, shape: Shape) -> Self {
        let (faults, scans, stop_scheduler) = (Faults::default(), Scans::default(), CancellationToken::new());
        let layer = || vec![Arc::new(faults.clone()) as Arc<dyn tarn_scan::storage::Layer>];
        let shared = data.shared(layer()).await;
        let scheduler =
            tarn_scheduler::start(data.config.scheduler.clone(), shared.clone(), stop_scheduler.clone())
                .await
                .expect("a scheduler starts");
        let mut stands = Vec::new();
        match shape {
            Shape::OneProcess => stands.push((shared.runtime.clone(), shared.router.clone())),
            Shape::Apart(executors) => stands.extend((0..executors).map(|_| data.runtime(layer()))),
        }
        let mut executors = Vec::new();
        for (number, (runtime, router)) in stands.into_iter().enumerate() {
            let stop = CancellationToken::new();
            let config = tarn_executor::Config {
                schedulers: vec![scheduler.addresses.cluster.to_string()],
                work_dir: data.folder().join("work").join(format!("executor-{}", uuid::Uuid::new_v4())),
                runtime: data.config.runtime.clone(),
                ..data.config.executor.clone()
            };
            let running = tarn_executor::start(config, Some((runtime.clone(), router.clone())), stop.clone())
                .await
                .expect("an executor starts");
            router.observe(scans.observer(&format!("executor {number}")));
            executors.push(Executor { running, runtime, stop });
        }
        if matches!(shape, Shape::Apart(_)) {
            shared.router.observe(scans.observer("scheduler"));
        }
        let members = &scheduler.members;
        let joined = until(JOIN, || async { members.alive().len() == executors.len() }).await;
        assert!(joined, "{} of {} executors joined", members.alive().len(), executors.len());
        Self { scheduler, executors, stop_scheduler, scans, faults }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.scheduler.addresses
    }

    /// The address for Flight SQL clients.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.scheduler.addresses.flight_sql)
    }

    /// A new session.
    pub async fn connect(&self) -> Connection {
        Connection::connect(&self.url()).await.expect("the cluster takes a connection")
    }

    /// What scans have opened.
    pub fn scans(&self) -> &Scans {
        &self.scans
    }

    /// What may go wrong in the stores of all its processes.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether nothing works for any query, in the scheduler or on an executor.
    pub fn is_idle(&self) -> bool {
        let executors_idle =
            self.executors.iter().all(|executor| executor.runtime.queries().active().is_empty());
        let queries = self.scheduler.queries.register().list();
        executors_idle && queries.iter().all(|query| query.state != State::Running)
    }

    /// Every port that something of the cluster listens on.
    pub fn ports(&self) -> Vec<u16> {
        let scheduler = self.scheduler.addresses;
        let mut ports: Vec<_> =
            [scheduler.flight_sql, scheduler.http, scheduler.cluster].map(|a| a.port()).into();
        for executor in &self.executors {
            let addresses = executor.running.addresses();
            ports.extend([addresses.flight.port(), addresses.tasks.port()]);
        }
        ports
    }

    /// The executors that are alive, as the scheduler sees them.
    pub fn members(&self) -> usize {
        self.scheduler.members.alive().len()
    }

    /// Ends one executor in an orderly way, and waits for it.
    pub async fn stop_executor(&mut self) {
        let executor = self.executors.pop().expect("an executor is left");
        executor.stop.cancel();
        executor.running.join().await.expect("an executor ends in order");
    }

    /// Ends everything in order: the scheduler drains first.
    pub async fn stop(self) {
        self.stop_scheduler.cancel();
        self.scheduler.join().await.expect("a scheduler ends in order");
        for executor in self.executors {
            executor.stop.cancel();
            executor.running.join().await.expect("an executor ends in order");
        }
    }
}

enum Shape {
    OneProcess,
    Apart(usize),
}

/// What the scans of a cluster opened, in every process.
#[derive(Debug, Clone, Default)]
pub struct Scans {
    /// In the order of opening; short critical sections only.
    opened: Arc<Mutex<Vec<Opened>>>,
}

/// One file, or a range of it, that a scan began to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The process: `scheduler`, or `executor 0` and so on.
    pub process: String,
    /// The query.
    pub query_id: String,
    /// The file.
    pub uri: String,
    /// Its length.
    pub size_bytes: u64,
    /// The range; `None` is the whole file.
    pub range: Option<Range<u64>>,
}

impl Scans {
    /// What was opened for a query.
    pub fn of(&self, query_id: &str) -> Vec<Opened> {
        // The id that scans know may name the run of the query as well.
        self.opened.lock().iter().filter(|opened| opened.query_id.starts_with(query_id)).cloned().collect()
    }

    fn observer(&self, process: &str) -> Arc<dyn ScanObserver> {
        Arc::new(Observer { process: process.to_string(), scans: self.clone() })
    }
}

struct Observer {
    process: String,
    scans: Scans,
}

impl ScanObserver for Observer {
    fn opened(&self, query_id: Option<&str>, task: &FileTask, range: Option<Range<u64>>) {
        self.scans.opened.lock().push(Opened {
            process: self.process.clone(),
            query_id: query_id.unwrap_or_default().to_string(),
            uri: task.uri.clone(),
            size_bytes: task.size_bytes,
            range,
        });
    }

    fn rows(&self, _: usize) {}
}
