//! The floor: how long the smallest queries take through Flight SQL, and what an idle server weighs.

use std::time::{Duration, Instant};

use tarn_client::Connection;

use crate::Error;
use crate::server::{Cluster, drain};

/// Runs of each small query.
const RUNS: usize = 500;

/// Percentiles of one small query.
pub(crate) struct Small {
    /// The query.
    pub sql: &'static str,
    /// Half of the runs were at most so long.
    pub p50: Duration,
    /// 99 of 100 runs were at most so long.
    pub p99: Duration,
}

/// Measures the small queries on one connection, after a warm-up.
pub(crate) async fn measure(cluster: &Cluster) -> Result<Vec<Small>, Error> {
    let mut connection = Connection::connect(&cluster.url).await?;
    let mut measured = Vec::new();
    for sql in [
        "select 1",
        "select count(*) from lake.tpch.nation",
        "select n_name from lake.tpch.nation where n_nationkey = 7",
    ] {
        for _ in 0..20 {
            drain(&mut connection, sql).await?;
        }
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let began = Instant::now();
            drain(&mut connection, sql).await?;
            times.push(began.elapsed());
        }
        times.sort();
        measured.push(Small { sql, p50: times[RUNS / 2], p99: times[RUNS * 99 / 100] });
    }
    Ok(measured)
}
