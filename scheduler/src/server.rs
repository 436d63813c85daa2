//! The scheduler as a running server: listeners bound, rooms wired, and the orderly end.
//!
//! Ports are bound before anything is said to be ready, so that a port in use is the first
//! error. On the end the server refuses new queries, lets the running ones finish, and goes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tarn_catalog::Lakehouse;
use tarn_runtime::Runtime;
use tarn_scan::storage::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admission::Admission;
use crate::admission::queue::Room;
use crate::cluster::{Deliveries, Members, RegistrationSettings, State};
use crate::config::Config;
use crate::engine::local::Local;
use crate::engine::pipelined::Pipelined;
use crate::engine::staged::{self, Presence, Roster, Staged};
use crate::error::{Error, ErrorCode, Result};
use crate::query::history::History;
use crate::query::{Engines, Parts, Queries};
use crate::session::Store;
use crate::{flight_sql, metrics, web};

/// Bytes of headers that a client may send: drivers put their connection string there.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How long a connection may be silent before it is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What the scheduler shares with an executor in the same process.
#[derive(Clone)]
pub struct Shared {
    /// Cores and memory.
    pub runtime: Runtime,
    /// Object stores.
    pub router: Router,
    /// The tables.
    pub lakehouse: Lakehouse,
    /// Folder for what waits on disk.
    pub work_dir: PathBuf,
    /// File of the queries that ended; `None` keeps them in memory.
    pub history: Option<PathBuf>,
}

/// The addresses that were bound.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Flight SQL.
    pub flight_sql: SocketAddr,
    /// Probes and metrics.
    pub http: SocketAddr,
    /// Where executors come.
    pub cluster: SocketAddr,
}

/// A scheduler that serves.
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    /// Its queries, for whoever runs in the same process.
    pub queries: Queries,
    /// Its executors.
    pub members: Members,
    servers: JoinSet<Result<()>>,
}

impl Running {
    /// Waits until the server has stopped; an error is a server that broke.
    pub async fn join(mut self) -> Result<()> {
        while let Some(ended) = self.servers.join_next().await {
            ended.map_err(|error| Error::internal("a server ended abnormally").with_source(error))??;
        }
        Ok(())
    }
}

/// Binds the ports and serves until `shutdown` is cancelled.
pub async fn start(config: Config, shared: Shared, shutdown: CancellationToken) -> Result<Running> {
    metrics::declare();
    let flight_sql_listener = bind("flight_sql_listen", config.flight_sql_listen).await?;
    let http_listener = bind("http_listen", config.http_listen).await?;
    let cluster_listener = bind("cluster_listen", config.cluster_listen).await?;
    let local = |listener: &TcpListener| {
        listener
            .local_addr()
            .map_err(|error| Error::internal("a bound port has no address").with_source(error))
    };
    let addresses = Addresses {
        flight_sql: local(&flight_sql_listener)?,
        http: local(&http_listener)?,
        cluster: local(&cluster_listener)?,
    };

    let members = Members::new(config.cluster.clone());
    // Engines and listeners outlive the token: running queries finish first.
    let (serving, mut servers) = (CancellationToken::new(), JoinSet::new());
    let env = shared.runtime.env();
    let staged_config = staged::Config { advertise: addresses.cluster.to_string(), ..Default::default() };
    let roster: Arc<dyn Roster> = Arc::new(Present(members.clone()));
    let staged = Staged::start(staged_config, roster, Arc::clone(&env), serving.clone()).await?;
    let pipelined = Pipelined::new(members.clone(), shared.runtime.clone());
    let engines = Engines {
        local: Arc::new(Local::new(shared.runtime.clone())),
        pipelined: Arc::new(pipelined.clone()),
        staged: Arc::new(staged.clone()),
    };
    let deliveries = Deliveries::new(shared.router.credentials().clone(), members.clone());
    let admission = Admission::new(config.admission.clone(), room(members.clone(), shared.runtime.clone()));
    let history = match shared.history.clone() {
        Some(path) => tokio::task::spawn_blocking(|| History::open(path))
            .await
            .map_err(|error| Error::internal("the history could not be opened").with_source(error))?,
        None => History::in_memory(),
    };
    let queries = Queries::new(Parts {
        admission,
        history,
        deliveries: deliveries.clone(),
        lakehouse: shared.lakehouse.clone(),
        runtime: shared.runtime.clone(),
        members: members.clone(),
        engines,
        limits: config.limits(shared.work_dir.join("spool")),
        stopping: shutdown.clone(),
    });

    servers.spawn(watch_members(members.clone(), serving.clone()));
    servers.spawn(keep_books(queries.clone(), serving.clone()));
    servers.spawn(watch_credentials(shared.lakehouse.clone(), deliveries, serving.clone()));
    servers.spawn(serve_http(http_listener, shutdown.clone(), serving.clone()));
    servers.spawn(serve_cluster(
        cluster_listener,
        &members,
        &shared,
        &staged,
        addresses.cluster,
        serving.clone(),
    )?);
    servers.spawn(serve_flight_sql(flight_sql_listener, &config, &shared, queries.clone(), serving.clone())?);
    let engines = DistributedEngines { pipelined, staged };
    servers.spawn(stop(shutdown, queries.clone(), engines, serving, Duration::from_secs(config.drain_s)));
    Ok(Running { addresses, queries, members, servers })
}

/// What there is to give to queries: as much memory as the smallest process may promise, and the executors' cores.
fn room(members: Members, runtime: Runtime) -> impl Fn() -> Room {
    move || {
        let members = members.alive();
        let own = runtime.memory().promised_max() as u64;
        // Executors divide their memory as we do.
        let bytes = members.iter().map(|member| member.memory_bytes / 2).min().unwrap_or(own);
        let cores = members.iter().map(|member| member.cores).sum::<usize>().max(runtime.cores());
        Room { bytes, running: cores, express: 4 * cores }
    }
}

/// The order of the end: no new queries, the running ones finish, then everything goes.
async fn stop(
    shutdown: CancellationToken,
    queries: Queries,
    engines: DistributedEngines,
    serving: CancellationToken,
    patience: Duration,
) -> Result<()> {
    shutdown.cancelled().await;
    tracing::info!("stopping: no new queries, running ones may finish");
    queries.drain(patience).await;
    serving.cancel();
    engines.pipelined.join().await;
    engines.staged.join().await;
    Ok(())
}

/// The engines that have work elsewhere, to be waited for at the end.
struct DistributedEngines {
    pipelined: Pipelined,
    staged: Staged,
}

async fn watch_members(members: Members, serving: CancellationToken) -> Result<()> {
    members.watch(serving).await;
    Ok(())
}

async fn keep_books(queries: Queries, serving: CancellationToken) -> Result<()> {
    queries.keep_books(serving).await;
    Ok(())
}

/// Keys to storage are renewed, and what was renewed goes to the executors.
async fn watch_credentials(
    lakehouse: Lakehouse,
    deliveries: Deliveries,
    serving: CancellationToken,
) -> Result<()> {
    let renewals = async {
        tokio::select! { () = serving.cancelled() => {}, () = lakehouse.keep_credentials() => {} }
    };
    tokio::join!(renewals, deliveries.watch(serving.clone()));
    Ok(())
}

async fn serve_http(
    listener: TcpListener,
    stopping: CancellationToken,
    serving: CancellationToken,
) -> Result<()> {
    axum::serve(listener, web::router(stopping))
        .with_graceful_shutdown(serving.cancelled_owned())
        .await
        .map_err(|error| Error::internal("the HTTP server broke").with_source(error))
}

fn serve_cluster(
    listener: TcpListener,
    members: &Members,
    shared: &Shared,
    staged: &Staged,
    address: SocketAddr,
    serving: CancellationToken,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let storage_json = serde_json::to_string(shared.router.config())
        .map_err(|error| Error::internal("storage settings cannot be written").with_source(error))?;
    let settings = RegistrationSettings { storage_json, staged_scheduler: address.to_string() };
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(members.service(settings, Arc::new(staged.clone())))
        .add_service(staged.service());
    Ok(async move {
        server
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), serving.cancelled_owned())
            .await
            .map_err(|error| Error::internal("the cluster server broke").with_source(error))
    })
}

fn serve_flight_sql(
    listener: TcpListener,
    config: &Config,
    shared: &Shared,
    queries: Queries,
    serving: CancellationToken,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let sessions = Store::new(config.session_store(&shared.lakehouse.catalogs())?);
    let service = flight_sql::service(flight_sql::Parts {
        config: config.flight_sql.clone(),
        scheduler_id: Uuid::new_v4().simple().to_string(),
        queries,
        sessions,
        lakehouse: shared.lakehouse.clone(),
        cpu: shared.runtime.cpu().clone(),
    });
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_service(service);
    Ok(async move {
        server
            .serve_with_incoming_shutdown(flight_sql::incoming(listener), serving.cancelled_owned())
            .await
            .map_err(|error| Error::internal("the Flight SQL server broke").with_source(error))
    })
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use".to_string(),
            _ => error.to_string(),
        };
        Error::new(ErrorCode::InvalidArgument, format!("{key}: cannot listen on {address}: {reason}"))
            .with_hint("choose another address, or 127.0.0.1:0 for a free port")
    })
}

/// Our membership, as the staged engine asks for it.
struct Present(Members);

impl Roster for Present {
    fn presence(&self, executor_id: &str) -> Presence {
        match self.0.get(executor_id).map(|member| member.state) {
            // Who lacks keys is passed over, and keeps what it has.
            Some(State::Alive) if !self.0.is_held(executor_id) => Presence::Alive,
            Some(State::Alive | State::Draining) => Presence::Draining,
            None => Presence::Absent,
        }
    }
}
