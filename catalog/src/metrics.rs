//! Metrics of the catalog, in the process's default registry.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

/// Look-ups in the metadata cache that found what they wanted, by tier.
pub(crate) static METADATA_CACHE_HITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "catalog_metadata_cache_hits_total",
        "Look-ups in the metadata cache that found what they wanted",
        &["tier"]
    )
    .expect("registered once, under a valid name")
});

/// Look-ups in the metadata cache that had to load, by tier.
pub(crate) static METADATA_CACHE_MISSES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "catalog_metadata_cache_misses_total",
        "Look-ups in the metadata cache that had to load",
        &["tier"]
    )
    .expect("registered once, under a valid name")
});

/// Entries that the metadata cache threw out for want of room, by tier.
pub(crate) static METADATA_CACHE_EVICTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "catalog_metadata_cache_evictions_total",
        "Entries that the metadata cache threw out for want of room",
        &["tier"]
    )
    .expect("registered once, under a valid name")
});

/// Heap bytes that the metadata cache holds, by tier.
pub(crate) static METADATA_CACHE_BYTES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "catalog_metadata_cache_bytes",
        "Heap bytes that the metadata cache holds",
        &["tier"]
    )
    .expect("registered once, under a valid name")
});
