//! The metrics of this crate, all registered with Prometheus' default registry.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, register_int_counter, register_int_counter_vec};

/// Registration fails only for a name used twice, which the first test run shows.
const REGISTERED_ONCE: &str = "a metric is registered once";

pub(crate) static STORE_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("scan_store_requests_total", "Requests to object stores.", &["verb"])
        .expect(REGISTERED_ONCE)
});

pub(crate) static STORE_BYTES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "scan_store_bytes_total",
        "Bytes read from and written to object stores.",
        &["verb"]
    )
    .expect(REGISTERED_ONCE)
});

pub(crate) static STORE_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("scan_store_errors_total", "Failed requests to object stores.", &["verb"])
        .expect(REGISTERED_ONCE)
});

pub(crate) static ROWS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("scan_rows_total", "Rows that left scans of data files.").expect(REGISTERED_ONCE)
});

pub(crate) static FILE_SIZE_MISMATCHES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "scan_file_size_mismatches_total",
        "Data files whose length differs from what their manifest says."
    )
    .expect(REGISTERED_ONCE)
});

pub(crate) static DELETE_CACHE_HITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("scan_delete_cache_hits_total", "Deletes found in memory.", &["kind"])
        .expect(REGISTERED_ONCE)
});

pub(crate) static DELETE_CACHE_MISSES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("scan_delete_cache_misses_total", "Deletes read from storage.", &["kind"])
        .expect(REGISTERED_ONCE)
});
