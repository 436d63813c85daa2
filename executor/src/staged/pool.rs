//! Connections to other executors, kept while idle, one reader at a time each.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::{BallistaError, Result};
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;
use parking_lot::Mutex;

/// Idle connections are closed after this time.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Idle connections kept for one executor.
const IDLE_CONNECTIONS_MAX: usize = 16;
/// An executor that does not answer within this time counts as lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type Key = (String, u16, GrpcClientConfig);
type Idle = HashMap<Key, VecDeque<(Instant, BallistaClient)>>;

/// The pool.
#[derive(Default)]
pub(super) struct Pool {
    /// By address and settings, the longest idle first.
    idle: Arc<Mutex<Idle>>,
}

#[async_trait]
impl BallistaClientPool for Pool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_string(), port, config.clone());
        let kept = self.idle.lock().get_mut(&key).and_then(VecDeque::pop_back);
        let client = match kept {
            Some((_, client)) => client,
            None => connect(host, port, config, customize_endpoint).await?,
        };
        let idle = Arc::clone(&self.idle);
        Ok(PooledClient::new(client, Box::new(move |client| keep(&idle, key, client))))
    }

    async fn evict_idle(&self) {
        evict(&mut self.idle.lock());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("addresses", &self.idle.lock().len()).finish()
    }
}

async fn connect(
    host: &str,
    port: u16,
    config: &GrpcClientConfig,
    customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
) -> Result<BallistaClient> {
    let connecting = BallistaClient::try_new(
        host,
        port,
        config.max_message_size,
        config.use_tls,
        customize_endpoint,
        config.io_retries_times,
        config.io_retry_wait_time_ms,
        config.initial_connection_window_size,
        config.initial_stream_window_size,
    );
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            Err(BallistaError::GrpcConnectionError(format!("connecting to {host}:{port} took too long")))
        }
    }
}

fn keep(idle: &Mutex<Idle>, key: Key, client: BallistaClient) {
    let mut idle = idle.lock();
    evict(&mut idle);
    let kept = idle.entry(key).or_default();
    if kept.len() < IDLE_CONNECTIONS_MAX {
        kept.push_back((Instant::now(), client));
    }
}

fn evict(idle: &mut Idle) {
    idle.retain(|_, kept| {
        while kept.front().is_some_and(|(since, _)| since.elapsed() > IDLE_MAX) {
            kept.pop_front();
        }
        !kept.is_empty()
    });
}
