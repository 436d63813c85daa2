//! TPC-DS: a part of the 99 queries, on DuckDB's data, gives DuckDB's answers on two executors.
//!
//! All 99, at other scales and with other numbers of executors: tests/answers/run.py.

use tarn_harness::data::TPCDS_SCALE;
use tarn_harness::{Cluster, Data, run};
use tokio::sync::OnceCell;

use crate::answers;
use crate::clusters::connect_in;
use crate::rows::{describe, query};

#[test]
fn pipelined_mode_on_two_executors_equals_duckdb() {
    run(check("pipelined"));
}

#[test]
fn staged_mode_on_two_executors_equals_duckdb() {
    run(check("staged"));
}

/// Asks every query that has a committed answer, and reports every one that differs.
async fn check(mode: &str) {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let cluster = CLUSTER.get_or_init(|| async { Cluster::distributed(Data::tpcds().await, 2).await }).await;
    let mut connection = connect_in(cluster, mode).await;
    crate::rows::run(&mut connection, "use tpcds").await;
    // At this scale one executor would else do all of a query.
    crate::rows::run(&mut connection, "set split_bytes = 16384").await;
    let answers = answers::tpcds();
    assert!(answers.len() >= 25, "{} answers", answers.len());
    let mut faults = Vec::new();
    for (number, answer) in &answers {
        assert_eq!(answer.scale, TPCDS_SCALE.to_string());
        let outcome = match query(&mut connection, &answers::query_text("tpcds", *number)).await {
            Ok(result) => answer.compare(&result),
            Err(error) => Err(describe(&error)),
        };
        if let Err(fault) = outcome {
            faults.push(format!("{}: {fault}", answer.query));
        }
    }
    assert!(faults.is_empty(), "{mode}: {} of {} differ\n{}", faults.len(), answers.len(), faults.join("\n"));
}
