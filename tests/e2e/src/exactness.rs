//! No duplicates, no losses: in every mode each file, or each range of it, is opened once.
//!
//! What was opened comes from the scans of every process; the ranges of a file must tile it. Row
//! counts alone would not do: a file that is read twice while another is lost can give the same count.

use std::collections::{BTreeMap, BTreeSet};

use tarn_client::Connection;
use tarn_harness::cluster::Opened;
use tarn_harness::{Cluster, Data, run};

use crate::clusters::{MODES, connect_in, fresh_schema, one_process, two_executors};
use crate::rows::{self, rows, value};

#[test]
fn a_table_of_one_file_is_read_once() {
    everywhere(async |cluster, connection, mode| {
        let schema = table_of_files(connection, "one_file", 1).await;
        let result = rows(connection, &format!("select id, name from {schema}.t where id >= 0")).await;
        assert_eq!(result.sorted(), expected(1), "{mode}");
        assert_read_once(cluster, &result.query_id, 1, mode);
    });
}

#[test]
fn fewer_files_than_tasks_are_read_once() {
    everywhere(async |cluster, connection, mode| {
        let schema = table_of_files(connection, "three_files", 3).await;
        let sql = format!(
            "select id % 7 as k, count(*) as n, sum(id) as s from {schema}.t group by id % 7 order by k"
        );
        let result = rows(connection, &sql).await;
        let total: i64 = result.text().iter().map(|row| row[1].parse::<i64>().unwrap()).sum();
        assert_eq!(total, 3 * ROWS, "{mode}");
        assert_read_once(cluster, &result.query_id, 3, mode);
    });
}

#[test]
fn more_files_than_tasks_are_read_once() {
    everywhere(async |cluster, connection, mode| {
        let schema = table_of_files(connection, "many_files", 11).await;
        let result = rows(connection, &format!("select id, name from {schema}.t")).await;
        assert_eq!(result.sorted(), expected(11), "{mode}");
        assert_read_once(cluster, &result.query_id, 11, mode);
    });
}

#[test]
fn an_empty_scan_under_union_all_adds_nothing() {
    everywhere(async |cluster, connection, mode| {
        let schema = table_of_files(connection, "unions", 2).await;
        rows::run(connection, &format!("create table {schema}.empty (id bigint, name varchar)")).await;
        let empty = format!("select id, name from {schema}.empty");
        let full = format!("select id, name from {schema}.t");
        for sql in [
            format!("{full} union all {empty}"),
            format!("{empty} union all {full}"),
            format!("{empty} union all {full} union all {empty}"),
        ] {
            let result = rows(connection, &sql).await;
            assert_eq!(result.sorted(), expected(2), "{mode}: {sql}");
            assert_read_once(cluster, &result.query_id, 2, mode);
        }
        let both =
            rows(connection, &format!("select count(*), sum(id) from ({full} union all {full}) as b")).await;
        let ids = 2 * ROWS;
        assert_eq!(both.text(), [[(2 * ids).to_string(), (ids * (ids - 1)).to_string()]], "{mode}");
        let nothing = rows(connection, &format!("{empty} union all {empty}")).await;
        assert_eq!(nothing.text().len(), 0, "{mode}");
        assert_eq!(
            value(connection, &format!("select count(*) from ({empty} union all {empty}) as e")).await,
            "0"
        );
    });
}

#[test]
fn a_broadcast_build_side_is_read_once_and_joined_fully() {
    everywhere(async |cluster, connection, mode| {
        let schema = table_of_files(connection, "broadcast", 4).await;
        rows::run(
            connection,
            &format!("create table {schema}.d as select * from (values (0, 'zero'), (1, 'one'), (2, 'two')) as v(k, label)"),
        )
        .await;
        let sql = format!(
            "select label, count(*) as n, sum(id) as s from {schema}.t join {schema}.d on id % 3 = k group by label order by label"
        );
        let result = rows(connection, &sql).await;
        let ids: Vec<i64> = (0..4 * ROWS).collect();
        let of = |k: i64, label: &str| {
            let mine: Vec<_> = ids.iter().filter(|id| **id % 3 == k).collect();
            vec![label.to_string(), mine.len().to_string(), mine.into_iter().sum::<i64>().to_string()]
        };
        assert_eq!(result.text(), [of(1, "one"), of(2, "two"), of(0, "zero")], "{mode}");
        // A small build side may be read by every task that probes it, but by each of them whole.
        let (build, probe): (Vec<_>, Vec<_>) =
            opened(cluster, &result.query_id).into_iter().partition(|opened| opened.uri.contains("/d/"));
        assert!(!build.is_empty(), "{mode}");
        assert_tiled(&probe, 4, 1, mode);
        if mode == "local" {
            assert_tiled(&build, 1, 1, mode);
        }
    });
}

#[test]
fn outer_and_anti_joins_lose_and_invent_nothing() {
    everywhere(async |_, connection, mode| {
        let schema = table_of_files(connection, "outer_joins", 2).await;
        rows::run(
            connection,
            &format!(
                "create table {schema}.d as select * from (values (5, 'five'), (-1, 'never')) as v(k, label)"
            ),
        )
        .await;
        let ids = 2 * ROWS;
        for (sql, count) in [
            (format!("select count(*) from {schema}.t left join {schema}.d on id = k"), ids),
            (format!("select count(*) from {schema}.d left join {schema}.t on id = k"), 2),
            (format!("select count(*) from {schema}.t full join {schema}.d on id = k"), ids + 1),
            (
                format!(
                    "select count(*) from {schema}.t where not exists (select 1 from {schema}.d where k = id)"
                ),
                ids - 1,
            ),
            (format!("select count(*) from {schema}.t where id in (select k from {schema}.d)"), 1),
            (format!("select count(*) from {schema}.d where k not in (select id from {schema}.t)"), 1),
        ] {
            assert_eq!(value(connection, &sql).await, count.to_string(), "{mode}: {sql}");
        }
    });
}

#[test]
fn a_large_file_is_cut_into_ranges_that_tile_it() {
    run(async {
        for cluster in [one_process().await, two_executors().await] {
            for mode in MODES {
                let mut connection = connect_in(cluster, mode).await;
                let sql = "select l_orderkey % 10 as k, count(*) as n from tpch.lineitem group by l_orderkey % 10 order by k";
                let result = rows(&mut connection, sql).await;
                let total: i64 = result.text().iter().map(|row| row[1].parse::<i64>().unwrap()).sum();
                let opened = opened(cluster, &result.query_id);
                let count = value(&mut connection, "select count(*) from tpch.lineitem").await;
                assert_eq!(total.to_string(), count, "{mode}: {:?} {opened:?}", result.text());
                let files = opened.iter().map(|opened| &opened.uri).collect::<BTreeSet<_>>().len();
                assert_tiled(&opened, files, 1, mode);
            }
        }
    });
}

#[test]
fn scheduler_scans_nothing_in_pipelined_mode_with_one_executor() {
    run(async {
        let data = Data::tpch().await;
        let cluster = Cluster::distributed(data, 1).await;
        let mut connection = connect_in(&cluster, "pipelined").await;
        for number in [1, 3, 5, 9, 13] {
            rows::run(&mut connection, "use tpch").await;
            let result = rows(&mut connection, &crate::answers::query_text("tpch", number)).await;
            let opened = opened(&cluster, &result.query_id);
            assert!(!opened.is_empty(), "q{number}");
            let foreign: Vec<_> = opened.iter().filter(|opened| opened.process != "executor 0").collect();
            assert!(foreign.is_empty(), "q{number}: {foreign:?}");
        }
        cluster.stop().await;
    });
}

#[test]
fn insert_from_a_query_writes_every_row_once() {
    everywhere(async |_, connection, mode| {
        let schema = fresh_schema(connection, "insert_select").await;
        let sql = format!(
            "create table {schema}.copy partitioned by (bucket(3, o_custkey)) as select * from tpch.orders"
        );
        let count = rows::run(connection, &sql).await;
        let sums = "count(*), count(distinct o_orderkey), sum(o_orderkey), sum(o_totalprice), min(o_comment)";
        let original = rows(connection, &format!("select {sums} from tpch.orders")).await;
        let copy = rows(connection, &format!("select {sums} from {schema}.copy")).await;
        assert_eq!(original.text(), copy.text(), "{mode}");
        assert_eq!(count.to_string(), copy.text()[0][0], "{mode}");
        let more =
            rows::run(connection, &format!("insert into {schema}.copy select * from {schema}.copy")).await;
        assert_eq!(more, count, "{mode}");
        assert_eq!(
            value(connection, &format!("select count(*) from {schema}.copy")).await,
            (2 * count).to_string()
        );
    });
}

/// Rows of one file of [`table_of_files`].
const ROWS: i64 = 40;

/// Runs a check on both clusters, in each mode.
fn everywhere(check: impl AsyncFn(&Cluster, &mut Connection, &str)) {
    run(async {
        for cluster in [one_process().await, two_executors().await] {
            for mode in MODES {
                check(cluster, &mut connect_in(cluster, mode).await, mode).await;
            }
        }
    });
}

/// A schema with a table `t (id, name)` of so many files, written by as many inserts.
async fn table_of_files(connection: &mut Connection, name: &str, files: i64) -> String {
    let schema = fresh_schema(connection, name).await;
    rows::run(connection, &format!("create table {schema}.t (id bigint, name varchar)")).await;
    for file in 0..files {
        let values: Vec<_> = (file * ROWS..(file + 1) * ROWS).map(|id| format!("({id}, 'n{id}')")).collect();
        rows::run(connection, &format!("insert into {schema}.t values {}", values.join(", "))).await;
    }
    schema
}

fn expected(files: i64) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = (0..files * ROWS).map(|id| vec![id.to_string(), format!("n{id}")]).collect();
    rows.sort();
    rows
}

fn opened(cluster: &Cluster, query_id: &str) -> Vec<Opened> {
    assert!(!query_id.is_empty(), "the query has no id");
    cluster.scans().of(query_id)
}

fn assert_read_once(cluster: &Cluster, query_id: &str, files: usize, mode: &str) {
    assert_tiled(&opened(cluster, query_id), files, 1, mode);
}

/// So many files, and the ranges of each cover it so many times, without gap or overlap.
fn assert_tiled(opened: &[Opened], files: usize, times: usize, mode: &str) {
    let mut by_file: BTreeMap<&str, Vec<&Opened>> = BTreeMap::new();
    for each in opened {
        by_file.entry(&each.uri).or_default().push(each);
    }
    assert_eq!(by_file.len(), files, "{mode}: {opened:?}");
    for (uri, parts) in by_file {
        let size = parts[0].size_bytes;
        let mut ranges: Vec<_> = parts.iter().map(|part| part.range.clone().unwrap_or(0..size)).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        let covered: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert_eq!(covered, size * times as u64, "{mode}: {uri}: {ranges:?}");
        for pair in ranges.windows(2) {
            assert!(pair[0].end <= pair[1].start || times > 1, "{mode}: {uri}: {ranges:?}");
        }
    }
}
