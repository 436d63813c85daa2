//! From listeners to a member of the cluster, and the orderly end.
//!
//! Ports are bound first, so that a port in use is the first error. Then the executor looks for its
//! schedulers, for as long as it takes; only a member knows the storage settings and can serve. At the end it
//! takes no new work, lets the running queries finish, leaves the cluster and goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tarn_runtime::Runtime;
use tarn_runtime::control::messages::RegisterRequest;
use tarn_runtime::control::{ControlServer, Runner};
use tarn_scan::storage::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{self, Probes};
use crate::membership::{Admission, Membership};
use crate::pipelined::Pipelined;
use crate::server::{self, OnCpu};
use crate::spill_folder::SpillFolder;
use crate::staged::{self, JobFiles, Staged};
use crate::storage;

/// Between two looks at whether the last query has ended.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Time for the loops of the executor to end.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The addresses that were bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Queries: control and the exchange of rows.
    pub flight: SocketAddr,
    /// Tasks of the staged engine.
    pub tasks: SocketAddr,
    /// Probes and metrics, if the executor has a process of its own.
    pub http: Option<SocketAddr>,
}

/// An executor that runs. It stops when the token that it was started with is cancelled.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    id: String,
    serving: JoinHandle<Result<()>>,
    /// Owns the task behind `serving`.
    _tasks: TaskTracker,
}

impl Running {
    /// Where.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its id in the cluster.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the executor has stopped; an error is a server that broke.
    pub async fn join(self) -> Result<()> {
        match self.serving.await {
            Ok(ended) => ended,
            Err(error) => Err(Error::Server { server: "executor", source: error.into() }),
        }
    }
}

/// Starts an executor. Alone in its process, it returns as soon as its ports are bound, and goes on looking for its
/// schedulers. With what a scheduler in the same process shares, it returns when it has joined that.
pub async fn start(
    config: Config,
    shared: Option<(Runtime, Router)>,
    shutdown: CancellationToken,
) -> Result<Running> {
    let faults = config.validate();
    if !faults.is_empty() {
        return Err(Error::Settings(faults));
    }
    let embedded = shared.is_some();
    let flight = bind("listen", config.listen).await?;
    let tasks = bind("task_listen", config.task_listen).await?;
    let http = if embedded { None } else { Some(bind("http_listen", config.http_listen).await?) };
    let addresses = Addresses {
        flight: local(&flight, "listen", config.listen)?,
        tasks: local(&tasks, "task_listen", config.task_listen)?,
        http: http.as_ref().map(|http| local(http, "http_listen", config.http_listen)).transpose()?,
    };
    // The staged engine binds the port itself; it was taken to know it and to see that it is free.
    drop(tasks);
    let host = config.advertise.clone().unwrap_or_else(|| addresses.flight.ip().to_string());
    let nonce = Uuid::new_v4().simple().to_string()[..8].to_string();
    let id = format!("{host}:{}#{nonce}", addresses.flight.port());
    tracing::info!(executor = id, flight = %addresses.flight, tasks = %addresses.tasks, "executor listens");
    let (ready, mut joined) = watch::channel(false);
    let executor = Executor { config, host, id: id.clone(), nonce, addresses, ready };
    let tracker = TaskTracker::new();
    let mut serving = tracker.spawn(executor.serve(flight, http, shared, shutdown));
    tracker.close();
    if embedded {
        tokio::select! {
            ended = &mut serving => return match ended {
                Ok(Err(error)) => Err(error),
                // Stopped before it had begun.
                _ => Ok(Running { addresses, id, serving: tracker.spawn(async { Ok(()) }), _tasks: tracker }),
            },
            _ = joined.wait_for(|joined| *joined) => {}
        }
    }
    Ok(Running { addresses, id, serving, _tasks: tracker })
}

struct Executor {
    config: Config,
    host: String,
    id: String,
    nonce: String,
    addresses: Addresses,
    ready: watch::Sender<bool>,
}

impl Executor {
    async fn serve(
        self,
        flight: TcpListener,
        http: Option<TcpListener>,
        shared: Option<(Runtime, Router)>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        // Cores and memory are told at registration, so the runtime comes first; the stores come after it.
        let (runtime, router, spill) = match shared {
            Some((runtime, router)) => (runtime, Some(router), None),
            None => {
                let spill = SpillFolder::create(&self.config.work_dir, &self.nonce).map_err(Error::Folder)?;
                let mut config = self.config.runtime.clone();
                config.spill_dir = spill.path().to_path_buf();
                (Runtime::new(config)?, None, Some(spill))
            }
        };
        let (probes, stop) = (Probes::default(), CancellationToken::new());
        let mut servers = JoinSet::new();
        if let Some(http) = http {
            servers.spawn(http::serve(http, probes.clone(), stop.clone()));
        }
        let (drain, draining) = watch::channel(false);
        let admission = Arc::new(watch::Sender::new(None));
        let mut admitted = admission.subscribe();
        let (files, kept) = watch::channel(None);
        let membership = Membership {
            request: self.introduction(&runtime),
            draining,
            runtime: watch::channel(Some(runtime.clone())).1,
            admission,
            files: kept,
        };
        for scheduler in self.config.schedulers.clone() {
            let keep = membership.clone().keep(scheduler, stop.clone());
            servers.spawn(async move {
                keep.await;
                Ok(())
            });
        }
        let admission = tokio::select! {
            () = shutdown.cancelled() => None,
            admission = admitted.wait_for(Option::is_some) => admission.ok().and_then(|admission| admission.clone()),
        };
        let served = match admission {
            Some(admission) => {
                let parts = (runtime, router, flight);
                self.work(admission, parts, drain, files, probes, &mut servers, &stop, shutdown).await
            }
            None => Ok(()),
        };
        stop.cancel();
        let ended = tokio::time::timeout(STOP_PATIENCE, first_error(&mut servers)).await;
        drop(spill);
        served.and(ended.unwrap_or(Ok(())))
    }

    /// A member of a cluster: serves until `shutdown` or until a server breaks, and drains.
    #[expect(clippy::too_many_arguments, reason = "the steps of one function, cut in two")]
    async fn work(
        &self,
        admission: Admission,
        (runtime, router, flight): (Runtime, Option<Router>, TcpListener),
        drain: watch::Sender<bool>,
        files: watch::Sender<Option<JobFiles>>,
        probes: Probes,
        servers: &mut JoinSet<Result<()>>,
        stop: &CancellationToken,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let router = match router {
            Some(router) => router,
            None => storage::router(&admission.reply.storage_json, &runtime)?,
        };
        storage::observe(&router, &runtime);
        let url = self.url()?;
        let drain = Arc::new(drain);
        let pipelined = Arc::new(Pipelined::new(
            self.id.clone(),
            url.clone(),
            runtime.clone(),
            router.credentials().clone(),
            Arc::clone(&drain),
        ));
        let mut services = server::builder()
            .add_service(ControlServer::new(Arc::<Pipelined>::clone(&pipelined), runtime.cpu().clone()))
            .add_service(OnCpu::new(pipelined.worker(), runtime.clone()));
        if !admission.reply.staged_scheduler.is_empty() {
            // Reached as we reached it: what the scheduler calls itself may mean something else here.
            let staged = self.staged(admission.scheduler, runtime.clone())?;
            services = services.add_service(staged.flight_service());
            files.send_replace(Some(staged.files()));
            let stop = stop.clone();
            servers.spawn(async move {
                staged.run(stop).await;
                Ok(())
            });
        }
        servers.spawn(server::serve(services, flight, stop.clone()));
        runtime.set_runner(url.to_string(), Arc::<Pipelined>::clone(&pipelined) as Arc<dyn Runner>);
        probes.set_ready(runtime.clone());
        self.ready.send_replace(true);
        tracing::info!(executor = self.id, "executor is ready");
        let broken = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            broken = first_error(servers) => broken,
        };
        pipelined.drain().await;
        probes.set_unready();
        if broken.is_ok() {
            self.wait_for_queries(&runtime).await;
        }
        runtime.clear_runner();
        pipelined.stop().await;
        broken
    }

    /// The last queries have some time to end.
    async fn wait_for_queries(&self, runtime: &Runtime) {
        let idle = async {
            while !runtime.queries().active().is_empty() {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(self.config.drain_s), idle).await.is_err() {
            let left = runtime.queries().active();
            tracing::warn!(executor = self.id, queries = left.len(), "queries are cut off");
            for run in left {
                runtime.queries().cancel(&run);
            }
        }
    }

    fn introduction(&self, runtime: &Runtime) -> RegisterRequest {
        RegisterRequest {
            id: self.id.clone(),
            host: self.host.clone(),
            flight_port: self.addresses.flight.port().into(),
            task_port: self.addresses.tasks.port().into(),
            http_port: self.addresses.http.map_or(0, |http| http.port().into()),
            cores: runtime.cores() as u32,
            memory_bytes: runtime.memory_bytes(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// Where others reach this executor, as the scheduler spells it.
    fn url(&self) -> Result<Url> {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{}]", self.host),
            _ => self.host.clone(),
        };
        Url::parse(&format!("http://{host}:{}", self.addresses.flight.port()))
            .map_err(|_| Error::Settings(vec![format!("advertise: \"{}\" is not a host", self.host)]))
    }

    fn staged(&self, scheduler: String, runtime: Runtime) -> Result<Staged> {
        let settings = staged::Settings {
            id: self.id.clone(),
            host: self.host.clone(),
            flight_port: self.addresses.flight.port(),
            task_listen: self.addresses.tasks,
            scheduler,
            work_dir: self.config.work_dir.clone(),
        };
        Staged::prepare(settings, runtime).map_err(Error::Folder)
    }
}

/// Waits for the tasks; the first that broke ends the wait.
async fn first_error(servers: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = servers.join_next().await {
        ended.map_err(|error| Error::Server { server: "executor", source: error.into() })??;
    }
    Ok(())
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| listen_error(key, address, &error))
}

fn local(listener: &TcpListener, key: &'static str, address: SocketAddr) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| listen_error(key, address, &error))
}

fn listen_error(key: &'static str, address: SocketAddr, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_string(),
        _ => error.to_string(),
    };
    Error::Listen { key, address, reason }
}
