//! The scheduler's metrics; declared here and nowhere else.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, register_histogram_vec, register_int_counter,
    register_int_counter_vec, register_int_gauge_vec,
};

static QUERIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "scheduler_queries_total",
        "Queries that ended, by state and error code.",
        &["state", "code"]
    )
    .expect("declared once")
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0];
    register_histogram_vec!(
        "scheduler_query_seconds",
        "Seconds that queries spent, by phase.",
        &["phase"],
        buckets
    )
    .expect("declared once")
});

static RETRIES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("scheduler_query_retries_total", "Runs that were thrown away and begun again.")
        .expect("declared once")
});

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "scheduler_queries_refused_total",
        "Queries that found their pool full, or waited too long in it.",
        &["pool"]
    )
    .expect("declared once")
});

static ROWS_OUT: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("scheduler_rows_out_total", "Rows handed to readers.").expect("declared once")
});

static BYTES_OUT: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("scheduler_bytes_out_total", "Bytes in memory of rows handed to readers.")
        .expect("declared once")
});

static SPOOL_DISK: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("scheduler_spool_disk_bytes_total", "Bytes of results that waited on disk.")
        .expect("declared once")
});

static MODES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "scheduler_query_modes_total",
        "Queries planned, by the mode chosen.",
        &["mode"]
    )
    .expect("declared once")
});

static BUILD: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("scheduler_build_info", "1, with the version of the program.", &["version"])
        .expect("declared once")
});

/// Makes every metric appear before its first event.
pub(crate) fn declare() {
    for metric in [&RETRIES, &ROWS_OUT, &BYTES_OUT, &SPOOL_DISK] {
        LazyLock::force(metric);
    }
    for mode in ["local", "pipelined", "staged"] {
        MODES.with_label_values(&[mode]);
    }
    BUILD.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    QUERIES.with_label_values(&["finished", "ok"]);
    SECONDS.with_label_values(&["total"]);
}

pub(crate) fn query_ended(state: &str, code: &str, elapsed: Duration) {
    QUERIES.with_label_values(&[state, code]).inc();
    SECONDS.with_label_values(&["total"]).observe(elapsed.as_secs_f64());
}

/// Notes a phase of a query: `plan`, `commit`, …
pub(crate) fn phase(name: &str, elapsed: Duration) {
    SECONDS.with_label_values(&[name]).observe(elapsed.as_secs_f64());
}

pub(crate) fn query_planned(mode: &str) {
    MODES.with_label_values(&[mode]).inc();
}

pub(crate) fn query_refused(pool: &str) {
    REFUSED.with_label_values(&[pool]).inc();
}

pub(crate) fn query_retried() {
    RETRIES.inc();
}

pub(crate) fn rows_out(rows: usize, bytes: usize) {
    ROWS_OUT.inc_by(rows as u64);
    BYTES_OUT.inc_by(bytes as u64);
}

pub(crate) fn spool_disk_bytes(bytes: usize) {
    SPOOL_DISK.inc_by(bytes as u64);
}
