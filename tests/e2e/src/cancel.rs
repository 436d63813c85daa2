//! Cancelled work stops everywhere: by a dropped stream, a cancel, `KILL QUERY`, a deadline.

use std::time::Duration;

use futures::StreamExt;
use tarn_client::Connection;
use tarn_harness::wait::until;
use tarn_harness::{Cluster, Data, run};

use crate::clusters::{MODES, connect_in};
use crate::rows::{self, code, collect, refused, rows, value};

/// Would run for minutes: every pair of two tables, added up.
const LONG: &str = "select sum(l_orderkey * o_orderkey % 7) from tpch.lineitem, tpch.orders";
/// Gives rows at once, and never ends in time.
const WIDE: &str = "select l_comment, o_comment from tpch.lineitem, tpch.orders";

/// How long after a cancel work may still be seen, on a busy machine in a debug build.
const STOPPED: Duration = Duration::from_secs(20);

#[test]
fn a_dropped_stream_stops_the_work() {
    everywhere(async |cluster, connection, mode| {
        let stream = connection.query(LONG).await.unwrap();
        let reading = tokio::time::timeout(Duration::from_secs(2), collect(stream)).await;
        assert!(reading.is_err(), "{mode}: the query is not long enough: {reading:?}");
        assert_stops(cluster, mode).await;
        still_answers(connection, mode).await;
    });
}

#[test]
fn a_stream_dropped_in_the_middle_stops_the_work() {
    run(async {
        let cluster = Cluster::distributed(Data::tpch().await, 2).await;
        // Staged mode gives no row before it has all of them.
        for mode in ["local", "pipelined"] {
            let mut connection = connect_in(&cluster, mode).await;
            let mut stream = connection.query(WIDE).await.unwrap();
            let first = stream.next().await.unwrap().unwrap();
            assert!(first.num_rows() > 0);
            drop(stream);
            assert_stops(&cluster, mode).await;
            still_answers(&mut connection, mode).await;
        }
        cluster.stop().await;
    });
}

#[test]
fn a_cancelled_query_ends_with_the_code_cancelled() {
    everywhere(async |cluster, connection, mode| {
        let stream = connection.query(LONG).await.unwrap();
        let canceller = stream.canceller();
        let (outcome, cancelled) = tokio::join!(collect(stream), async {
            until(STOPPED, async || !cluster.is_idle()).await;
            canceller.cancel().await
        });
        assert!(cancelled.unwrap(), "{mode}");
        let error = outcome.expect_err(mode);
        assert_eq!(code(&error), "cancelled", "{mode}: {error}");
        assert!(error.is_cancelled(), "{mode}");
        assert_stops(cluster, mode).await;
        still_answers(connection, mode).await;
    });
}

#[test]
fn kill_query_ends_the_query_of_another_session() {
    everywhere(async |cluster, connection, mode| {
        let mut other = cluster.connect().await;
        let stream = connection.query(LONG).await.unwrap();
        let id = stream.query_id().unwrap().to_string();
        let (outcome, ()) = tokio::join!(collect(stream), async {
            until(STOPPED, async || !cluster.is_idle()).await;
            let listed = rows(&mut other, "show queries").await.text();
            let mine = listed.iter().find(|row| row[0] == id).unwrap_or_else(|| panic!("{id} in {listed:?}"));
            assert!(mine.join(" ").contains("running"), "{mode}: {mine:?}");
            rows::run(&mut other, &format!("kill query '{id}'")).await;
        });
        let error = outcome.expect_err(mode);
        assert_eq!(code(&error), "cancelled", "{mode}: {error}");
        assert_stops(cluster, mode).await;
        still_answers(connection, mode).await;
    });
}

#[test]
fn a_deadline_ends_the_query_with_the_code_timeout() {
    everywhere(async |cluster, connection, mode| {
        rows::run(connection, "set query_timeout = '1s'").await;
        let error = refused(connection, LONG).await;
        assert_eq!(code(&error), "timeout", "{mode}: {error}");
        rows::run(connection, "reset query_timeout").await;
        assert_stops(cluster, mode).await;
        still_answers(connection, mode).await;
    });
}

#[test]
fn a_cancelled_insert_leaves_no_row_and_no_file() {
    run(async {
        let data = Data::tpch().await;
        let cluster = Cluster::distributed(data, 2).await;
        let mut connection = connect_in(&cluster, "pipelined").await;
        let schema = crate::clusters::fresh_schema(&mut connection, "cancelled_insert").await;
        rows::run(&mut connection, &format!("create table {schema}.t (a varchar, b varchar)")).await;
        rows::run(&mut connection, "set query_timeout = '2s'").await;
        let error = refused(&mut connection, &format!("insert into {schema}.t {WIDE}")).await;
        assert_eq!(code(&error), "timeout", "{error}");
        assert_stops(&cluster, "pipelined").await;
        assert_eq!(value(&mut connection, &format!("select count(*) from {schema}.t")).await, "0");
        let folder = data.folder().join("warehouse").join(&schema).join("t").join("data");
        let clean = until(STOPPED, async || files_below(&folder) == 0).await;
        assert!(clean, "{} files are left in {folder:?}", files_below(&folder));
        cluster.stop().await;
    });
}

/// Runs a check in each mode, on a cluster that nothing else works on.
fn everywhere(check: impl AsyncFn(&Cluster, &mut Connection, &str)) {
    run(async {
        let cluster = Cluster::distributed(Data::tpch().await, 2).await;
        for mode in MODES {
            check(&cluster, &mut connect_in(&cluster, mode).await, mode).await;
        }
        cluster.stop().await;
    });
}

async fn assert_stops(cluster: &Cluster, mode: &str) {
    assert!(until(STOPPED, async || cluster.is_idle()).await, "{mode}: work goes on");
}

async fn still_answers(connection: &mut Connection, mode: &str) {
    assert_eq!(
        value(connection, "select count(*) from tpch.nation where n_nationkey >= 0").await,
        "25",
        "{mode}"
    );
}

fn files_below(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}
