//! How a remote store is asked: connections, deadlines and retries, the same for each kind.
//!
//! Not here: where a store is and with what key, which is in the file of its kind. The rule: no
//! request without a deadline, and no retry without an end.

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{Config, Secret};

/// Connections to one server.
pub(super) fn options(config: &Config, allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(config.request_timeout())
        .with_connect_timeout(config.connect_timeout())
        .with_pool_max_idle_per_host(config.concurrent_requests_max)
        .with_allow_http(allow_http)
}

/// When a failed request is tried again.
pub(super) fn retry(config: &Config) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: config.retries_max,
        retry_timeout: config.retry_timeout(),
    }
}

/// A key of this process's environment.
pub(super) fn environment(name: &str) -> Option<Secret> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new)
}
