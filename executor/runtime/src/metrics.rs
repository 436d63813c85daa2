//! The metrics of this crate, all declared here.
//!
//! Gauges of the memory pool are read when the registry is scraped, over all runtimes of the process.

use std::sync::{LazyLock, Weak};

use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};

use crate::memory::Ledger;

/// Rows that scans handed out, by the role in which the process ran them.
pub(crate) static ROWS_SCANNED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let opts = Opts::new("runtime_rows_scanned_total", "rows that scans of data files handed out, by role");
    registered(IntCounterVec::new(opts, &["role"]).expect("the metric is well formed"))
});

/// Queries that have work in this process.
pub(crate) static QUERIES_ACTIVE: LazyLock<IntGauge> = LazyLock::new(|| {
    let gauge = IntGauge::new("runtime_queries_active", "queries that have work in this process");
    registered(gauge.expect("the metric is well formed"))
});

/// Makes the gauges of a runtime's memory and spill visible.
pub(crate) fn watch(env: Weak<RuntimeEnv>, memory: Weak<Ledger>) {
    static POOLS: LazyLock<Pools> = LazyLock::new(|| {
        let pools = Pools::new();
        // Refused only if the name is taken, which the tests of these names would show.
        let _ = prometheus::default_registry().register(Box::new(pools.clone()));
        pools
    });
    let mut envs = POOLS.envs.lock();
    envs.retain(|(env, _)| env.strong_count() > 0);
    envs.push((env, memory));
}

fn registered<M: Collector + Clone + 'static>(metric: M) -> M {
    // Refused only if the name is taken; the metric then still counts, unseen.
    let _ = prometheus::default_registry().register(Box::new(metric.clone()));
    metric
}

/// A runtime's environment and memory.
type Watched = (Weak<RuntimeEnv>, Weak<Ledger>);

/// The pools of every runtime in the process, seen as gauges.
#[derive(Clone)]
struct Pools {
    /// Every runtime's environment. Guarded because scrapes and new runtimes may meet.
    envs: std::sync::Arc<Mutex<Vec<Watched>>>,
    pool_bytes: IntGaugeVec,
    spill_bytes: IntGauge,
}

impl Pools {
    fn new() -> Self {
        let pool =
            Opts::new("runtime_memory_pool_bytes", "bytes of the memory for plans: used, promised, limit");
        Self {
            envs: std::sync::Arc::default(),
            pool_bytes: IntGaugeVec::new(pool, &["kind"]).expect("the metric is well formed"),
            spill_bytes: IntGauge::new("runtime_spill_bytes", "bytes that are spilled to disk now")
                .expect("the metric is well formed"),
        }
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.pool_bytes.desc();
        all.extend(self.spill_bytes.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut used, mut promised, mut limit, mut spilled) = (0, 0, 0, 0);
        for (env, memory) in self.envs.lock().iter() {
            if let Some(memory) = memory.upgrade() {
                used += memory.used() as i64;
                promised += memory.promised() as i64;
                limit += memory.total() as i64;
            }
            spilled += env.upgrade().map_or(0, |env| env.disk_manager.used_disk_space() as i64);
        }
        self.pool_bytes.with_label_values(&["promised"]).set(promised);
        self.pool_bytes.with_label_values(&["used"]).set(used);
        self.pool_bytes.with_label_values(&["limit"]).set(limit);
        self.spill_bytes.set(spilled);
        let mut all = self.pool_bytes.collect();
        all.extend(self.spill_bytes.collect());
        all
    }
}
