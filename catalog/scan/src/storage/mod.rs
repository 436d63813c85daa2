//! Storage: every bucket and disk behind one object store.
//!
//! ```text
//!   DataFusion ──> Router (tarn://lakehouse/) ── s3/<bucket>/<key>   ──> layers ── metrics ── limit ── S3
//!   catalog    ──>                            ├─ gs/<bucket>/<key>   ──>        the same          ── Google
//!                                         ├─ abfs/<container>@<account>/<key> ──>             ── Azure
//!                                         └─ file/-/<path>       ──> layers ── metrics ── limit ── disk
//! ```
//!
//! Paths inside the router are unique over buckets, so they can be keys of
//! caches. A catalog may vend keys for parts of storage ([`Credentials`]); a store is then built for
//! the part. The one rule: a URI becomes a path here and nowhere else, and its
//! key is kept byte by byte (no percent-decoding, no normalising).

mod azure;
mod client;
mod credentials;
mod gcs;
mod layers;
mod metrics;
mod rewrite;
mod router;
mod s3;
mod secret;
mod store;
mod upload;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use credentials::{Credential, Credentials};
pub use layers::Layer;
pub use router::{Router, check_location, path_of, uri_of};
pub use secret::Secret;
pub(crate) use store::attachments;

/// How storage is reached. Holds no secrets: keys come from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// S3 and what speaks its protocol.
    pub s3: S3Config,
    /// Google Cloud Storage.
    pub gcs: GcsConfig,
    /// Azure's storage accounts.
    pub azure: AzureConfig,
    /// Where a warehouse moved to, by where its metadata still says that it is: URIs that begin with the key
    /// are read and written at the value. The longest key wins.
    pub rewrites: BTreeMap<String, String>,
    /// Requests in flight to one bucket or disk; more wait.
    pub concurrent_requests_max: usize,
    /// How often a failed request is tried again.
    pub retries_max: usize,
    /// After this time from the first attempt a request is not tried again.
    pub retry_timeout_ms: u64,
    /// Deadline of one attempt, connecting included.
    pub request_timeout_ms: u64,
    /// Deadline for connecting.
    pub connect_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            s3: S3Config::default(),
            gcs: GcsConfig::default(),
            azure: AzureConfig::default(),
            rewrites: BTreeMap::new(),
            concurrent_requests_max: 64,
            retries_max: 8,
            retry_timeout_ms: 60_000,
            request_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
        }
    }
}

impl Config {
    /// Every fault of these settings, each with the key's name (below the section that holds them).
    pub fn validate(&self) -> Vec<String> {
        rewrite::validate(&self.rewrites)
    }

    fn retry_timeout(&self) -> Duration {
        Duration::from_millis(self.retry_timeout_ms)
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// S3, or a server that speaks its protocol. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
/// `AWS_SESSION_TOKEN` are read from the environment; without them requests are not signed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// URL of the server; not set is AWS.
    pub endpoint: Option<String>,
    /// Region; not set is `us-east-1`.
    pub region: Option<String>,
    /// Put the bucket into the path instead of the host name, as most servers other than AWS want it.
    pub path_style: bool,
    /// Allow an endpoint without TLS.
    pub allow_http: bool,
}

/// Google Cloud Storage. `GOOGLE_APPLICATION_CREDENTIALS`, the path of a service account's key file, is read from the
/// environment; without it requests are not authorised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GcsConfig {
    /// URL of the server; not set is Google. One that begins with `http://` is asked without TLS.
    pub endpoint: Option<String>,
}

/// Azure's storage accounts. Of the environment, the first of these that is whole is used: `AZURE_STORAGE_ACCOUNT_KEY`;
/// `AZURE_STORAGE_SAS_TOKEN`; `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`. Without any, requests
/// are not authorised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AzureConfig {
    /// URL of an account's blob service; not set is `https://<account>.blob.core.windows.net`. An emulator has the
    /// account in the path: `http://127.0.0.1:10000/devstoreaccount1`. One that begins with `http://` is asked without TLS.
    pub endpoint: Option<String>,
    /// Account of locations that name only a container: `abfss://container/path`.
    pub account: Option<String>,
}
