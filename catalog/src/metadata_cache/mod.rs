//! What is kept of catalogs and tables between queries.
//!
//! - `pointer`: which metadata file a table's name points at; lives for a
//!   moment, and a commit of our own replaces it at once
//! - `files`: metadata, manifest lists and manifests, decoded; they never
//!   change, so nothing is ever invalidated, and the bound is in heap bytes
//!
//! The one rule: a key that is not immutable lives only in `pointer`.

mod files;
mod pointer;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use files::Files;
pub(crate) use pointer::Pointers;

/// Settings of the metadata cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a commit of another engine may stay unseen. 0 asks the catalog for each query.
    pub pointer_ttl_ms: u64,
    /// Bound for decoded table metadata.
    pub metadata_bytes_max: u64,
    /// Bound for decoded manifests and manifest lists.
    pub manifest_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { pointer_ttl_ms: 1_000, metadata_bytes_max: 64 << 20, manifest_bytes_max: 256 << 20 }
    }
}

impl Config {
    pub(crate) fn pointer_ttl(&self) -> Duration {
        Duration::from_millis(self.pointer_ttl_ms)
    }

    /// Every fault of these settings, with the key's name.
    pub(crate) fn validate(&self) -> Vec<String> {
        let one_hour_ms = 3_600_000;
        if self.pointer_ttl_ms > one_hour_ms {
            return vec!["metadata_cache.pointer_ttl_ms: is at most an hour".to_owned()];
        }
        Vec::new()
    }
}
