//! Settings of the scheduler, nested as its rooms are. Every default runs on a laptop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::query::run::Limits;
use crate::query::spool;
use crate::session::{Settings, StoreConfig};
use crate::{admission, cluster, flight_sql};

/// Everything the scheduler can be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the Flight SQL server.
    pub flight_sql_listen: SocketAddr,
    /// Address of the HTTP server: /healthz, /readyz, /metrics.
    pub http_listen: SocketAddr,
    /// Address to which executors come.
    pub cluster_listen: SocketAddr,
    /// Whether addresses off loopback are allowed although nothing authenticates clients.
    pub insecure: bool,
    /// Seconds that running queries have to finish when the server stops.
    pub drain_s: u64,
    /// The front door.
    pub flight_sql: flight_sql::Config,
    /// Sessions.
    pub session: SessionConfig,
    /// Queries.
    pub query: QueryConfig,
    /// How many queries run at once, and who is next.
    pub admission: admission::Config,
    /// The executors.
    pub cluster: cluster::Config,
}

/// Section `session`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Most sessions at once; beyond it the least recently used one ends.
    pub sessions_max: u64,
    /// Seconds after which an unused session ends.
    pub idle_timeout_s: u64,
    /// Catalog of new sessions; empty is the first one by name.
    pub catalog: String,
    /// Schema of new sessions.
    pub schema: String,
    /// Values that settings have before a session changes them, such as `query_timeout = "5m"`.
    pub settings: BTreeMap<String, String>,
}

/// Section `query`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Largest scan, in bytes, that mode `auto` runs in the scheduler itself.
    pub local_bytes_max: u64,
    /// Smallest scan, in bytes, that mode `auto` writes a table from in stages.
    pub staged_write_bytes_min: u64,
    /// Bytes of a result that wait for its reader in memory.
    pub spool_memory_bytes_max: usize,
    /// Bytes of a result that wait for its reader on disk.
    pub spool_disk_bytes_max: u64,
    /// Bytes after which the first rows go to the reader; before, a lost executor means another run.
    pub release_bytes: usize,
    /// Milliseconds after the first batch when rows go to the reader all the same.
    pub release_delay_ms: u64,
    /// Seconds after which a reader that takes nothing, while the spool is full, has gone.
    pub reader_idle_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flight_sql_listen: SocketAddr::from(([127, 0, 0, 1], 32010)),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            cluster_listen: SocketAddr::from(([127, 0, 0, 1], 50050)),
            insecure: false,
            drain_s: 30,
            flight_sql: Default::default(),
            session: Default::default(),
            query: Default::default(),
            admission: Default::default(),
            cluster: Default::default(),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            idle_timeout_s: 8 * 3600,
            catalog: String::new(),
            schema: "default".to_string(),
            settings: BTreeMap::new(),
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            local_bytes_max: 64 << 20,
            staged_write_bytes_min: 8 << 30,
            spool_memory_bytes_max: 64 << 20,
            spool_disk_bytes_max: 16 << 30,
            release_bytes: 1 << 20,
            release_delay_ms: 200,
            reader_idle_s: 600,
        }
    }
}

impl Config {
    /// Every fault, each with its key (below the section that holds these settings).
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, address) in
            [("flight_sql_listen", self.flight_sql_listen), ("cluster_listen", self.cluster_listen)]
        {
            if !address.ip().is_loopback() && !self.insecure {
                faults.push(format!(
                    "{key}: {address} is off loopback and nothing authenticates clients yet; \
                     start with --insecure to allow it"
                ));
            }
        }
        if let Err(error) = self.settings() {
            faults.push(format!("session.settings: {error}"));
        }
        if self.session.sessions_max == 0 {
            faults.push("session.sessions_max: must be above 0".to_string());
        }
        if self.query.spool_memory_bytes_max == 0 {
            faults.push("query.spool_memory_bytes_max: must be above 0".to_string());
        }
        faults.extend(self.admission.faults().into_iter().map(|fault| format!("admission.{fault}")));
        faults.extend(self.flight_sql.faults().into_iter().map(|fault| format!("flight_sql.{fault}")));
        faults.extend(self.cluster.validate().into_iter().map(|fault| format!("cluster.{fault}")));
        faults
    }

    pub(crate) fn limits(&self, spool_dir: PathBuf) -> Limits {
        let query = &self.query;
        Limits {
            local_bytes_max: query.local_bytes_max,
            staged_write_bytes_min: query.staged_write_bytes_min,
            spool: spool::Config {
                memory_bytes_max: query.spool_memory_bytes_max,
                disk_bytes_max: query.spool_disk_bytes_max,
                release_bytes: query.release_bytes,
                release_delay: Duration::from_millis(query.release_delay_ms),
                idle_timeout: Duration::from_secs(query.reader_idle_s),
                dir: spool_dir,
            },
        }
    }

    /// The store of sessions; their catalog is the configured one, else the first there is.
    pub(crate) fn session_store(&self, catalogs: &[String]) -> crate::error::Result<StoreConfig> {
        let session = &self.session;
        let catalog = match session.catalog.as_str() {
            "" => catalogs.first().cloned().unwrap_or_default(),
            catalog => catalog.to_string(),
        };
        Ok(StoreConfig {
            sessions_max: session.sessions_max,
            idle_timeout: Duration::from_secs(session.idle_timeout_s),
            catalog,
            schema: session.schema.clone(),
            settings: self.settings()?,
        })
    }

    fn settings(&self) -> crate::error::Result<Settings> {
        let configured = self.session.settings.iter();
        Settings::with_defaults(configured.map(|(name, value)| (name.as_str(), value.as_str())))
    }
}
