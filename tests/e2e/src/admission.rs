//! Who runs when many ask: pools and their queue, memory by query, limits, and what the system tables say of it.

use std::path::Path;
use std::time::Duration;

use tarn_client::{Connection, Error, QueryStream};
use tarn_harness::wait::until;
use tarn_harness::{Cluster, Data, run};
use tarn_scheduler::admission::PoolConfig;
use tokio::task::JoinSet;

use crate::clusters::{MODES, connect_in};
use crate::rows::{self, Rows, code, collect, refused, rows, value};

/// Would run for minutes: every pair of two tables, added up.
const LONG: &str = "select sum(l_orderkey * o_orderkey % 7) from tpch.lineitem, tpch.orders";

/// How long work may take to be seen, on a busy machine in a debug build.
const SEEN: Duration = Duration::from_secs(30);

/// Data files below a folder that lie in a table's folder of this name.
fn parquet_files(folder: &Path, table: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_data = path.extension().is_some_and(|end| end == "parquet");
        count += match path.is_dir() {
            true => parquet_files(&path, table),
            false => usize::from(is_data && path.iter().any(|part| part == table)),
        };
    }
    count
}

/// Reads a stream beside what else goes on.
fn read(stream: QueryStream) -> JoinSet<Result<Rows, Error>> {
    let mut reader = JoinSet::new();
    reader.spawn(collect(stream));
    reader
}

/// What came of [`read`].
async fn ended(mut reader: JoinSet<Result<Rows, Error>>) -> Result<Rows, Error> {
    reader.join_next().await.expect("one task").expect("it ends")
}

#[test]
fn a_query_waits_for_its_turn_is_seen_waiting_and_can_be_cancelled_there() {
    run(async {
        let mut data = Data::tpch().await.clone();
        let admission = &mut data.config.scheduler.admission;
        // Nothing is quick, so that there is one place.
        (admission.running_max, admission.express_ms) = (1, 0);
        let cluster = Cluster::distributed(&data, 2).await;
        let mut first = connect_in(&cluster, "pipelined").await;
        let long = first.query(LONG).await.unwrap();
        let long_id = long.query_id().unwrap().to_string();
        let running = read(long);
        let mut watcher = cluster.connect().await;
        let state = async |watcher: &mut Connection, id: &str| {
            let sql = format!("select state, queue_position from system.queries where query_id = '{id}'");
            rows(watcher, &sql).await.text().remove(0)
        };
        assert!(
            until(SEEN, async || state(&mut cluster.connect().await, &long_id).await[0] == "running").await
        );
        let mut second = connect_in(&cluster, "local").await;
        let waiting = second.query("select count(*) from tpch.lineitem where l_quantity > 3").await.unwrap();
        let (waiting_id, canceller) = (waiting.query_id().unwrap().to_string(), waiting.canceller());
        let reader = read(waiting);
        let queued = until(SEEN, async || {
            state(&mut cluster.connect().await, &waiting_id).await == ["queued".to_string(), "0".to_string()]
        });
        assert!(queued.await, "{:?}", state(&mut watcher, &waiting_id).await);
        // What needs nothing is answered all the while.
        assert_eq!(value(&mut watcher, "select 1").await, "1");
        let pools = rows(&mut watcher, "show pools").await.text();
        assert_eq!(pools[0][..4], ["default", "1", "1", "1"].map(String::from), "{pools:?}");
        canceller.cancel().await.unwrap();
        let error = ended(reader).await.expect_err("it was cancelled");
        assert_eq!(code(&error), "cancelled", "{error}");
        rows::run(&mut watcher, &format!("kill query '{long_id}'")).await;
        assert!(ended(running).await.is_err());
        // Both places are free again.
        assert_eq!(
            value(&mut second, "select count(*) > 0 from tpch.lineitem where l_quantity > 3").await,
            "true"
        );
        let free = "select sum(running + waiting), sum(memory_bytes) from system.pools";
        assert!(
            until(SEEN, async || rows(&mut cluster.connect().await, free).await.text()[0] == ["0", "0"])
                .await
        );
        cluster.stop().await;
    });
}

#[test]
fn a_full_queue_refuses_with_a_code_that_says_later() {
    run(async {
        let mut data = Data::tpch().await.clone();
        let admission = &mut data.config.scheduler.admission;
        (admission.running_max, admission.express_ms) = (1, 0);
        let etl = PoolConfig { name: "etl".to_string(), queue_max: 1, ..PoolConfig::default() };
        admission.pools.push(etl);
        let cluster = Cluster::one_process(&data).await;
        let connect = async || {
            let mut connection = connect_in(&cluster, "local").await;
            rows::run(&mut connection, "set pool = 'etl'").await;
            connection
        };
        let mut readers = Vec::new();
        for _ in 0..2 {
            let mut connection = connect().await;
            let stream = connection.query(LONG).await.unwrap();
            readers.push((stream.query_id().unwrap().to_string(), read(stream)));
            let all = readers.len() as i64;
            let taken = "select sum(running + waiting) from system.pools where pool = 'etl'";
            let seen =
                until(SEEN, async || value(&mut cluster.connect().await, taken).await == all.to_string());
            assert!(seen.await);
        }
        let mut third = connect().await;
        let error = refused(&mut third, "select count(*) from tpch.lineitem where l_quantity > 3").await;
        assert_eq!(code(&error), "overloaded", "{error}");
        // Another pool has a queue of its own, and an unknown one is refused by name.
        let error = refused(&mut third, "set pool = 'nowhere'").await;
        assert_eq!(code(&error), "not_found", "{error}");
        assert_eq!(rows(&mut third, "show pool").await.text()[0][1], "etl");
        for (id, reader) in readers {
            rows::run(&mut third, &format!("kill query '{id}'")).await;
            assert!(ended(reader).await.is_err());
        }
        cluster.stop().await;
    });
}

#[test]
fn a_join_that_does_not_fit_is_run_again_in_stages_and_others_notice_nothing() {
    run(async {
        let mut data = Data::tpch().await.clone();
        data.config.runtime.memory_bytes = 128 << 20;
        data.config.scheduler.query.local_bytes_max = 0;
        let cluster = Cluster::distributed(&data, 2).await;
        // The build side is some 240 MB, which no statistics tell.
        let wide = "select l_orderkey k, l_linenumber n, repeat(l_comment, 75) c from tpch.lineitem";
        let heavy = format!(
            "select count(*), sum(length(a.c)) from ({wide}) a join tpch.lineitem b \
             on a.k = b.l_orderkey and a.n = b.l_linenumber where a.c <> b.l_comment"
        );
        let mut modest = cluster.connect().await;
        let small = "select count(*) from tpch.nation join tpch.region on n_regionkey = r_regionkey";
        let mut others = JoinSet::new();
        others.spawn(async move {
            for _ in 0..20 {
                assert_eq!(value(&mut modest, small).await, "25");
            }
        });
        let mut connection = cluster.connect().await;
        rows::run(&mut connection, "set batch_size = 1024").await;
        let heavy_rows = rows(&mut connection, &heavy).await.text();
        let lines = value(&mut connection, "select count(*) from tpch.lineitem").await;
        assert_eq!(heavy_rows[0][0], lines);
        others.join_all().await;
        let how = "select mode from system.queries where sql like 'select count(*), sum(length%'";
        assert_eq!(rows(&mut connection, how).await.text()[0][0], "staged");
        let spilled = until(SEEN, async || {
            let bytes = "select max(spilled_bytes) > 1000000 from system.queries where sql like 'select count(*), sum(length%'";
            value(&mut cluster.connect().await, bytes).await == "true"
        });
        assert!(spilled.await, "{:?}", rows(&mut connection, "select * from system.tasks").await.text());
        // So is a write, of which the first run leaves nothing behind.
        let written = format!(
            "create table lake.default.joined as select a.k, b.l_linenumber n from ({wide}) a \
             join tpch.lineitem b on a.k = b.l_orderkey and a.n = b.l_linenumber where a.c <> b.l_comment"
        );
        rows::run(&mut connection, "create schema if not exists lake.default").await;
        rows::run(&mut connection, &written).await;
        assert_eq!(value(&mut connection, "select count(*) from lake.default.joined").await, lines);
        let how =
            "select mode, attempts from system.queries where sql like 'create table lake.default.joined%'";
        assert_eq!(rows(&mut connection, how).await.text()[0], ["staged", "2"]);
        let files = value(&mut connection, "select count(*) from lake.default.\"joined$files\"").await;
        let seen = until(SEEN, async || parquet_files(data.folder(), "joined").to_string() == files).await;
        assert!(seen, "{files} files are the table's, {} are there", parquet_files(data.folder(), "joined"));
        // Asked for by name, the mode is followed, and what does not fit is an error of that query.
        let mut local = connect_in(&cluster, "local").await;
        let error = refused(&mut local, &heavy).await;
        assert_eq!(code(&error), "out_of_memory", "{error}");
        assert!(error.to_string().contains("may have"), "{error}");
        assert_eq!(value(&mut local, small).await, "25");
        cluster.stop().await;
    });
}

#[test]
fn a_query_over_its_limit_is_ended_and_the_limit_named() {
    run(async {
        let cluster = Cluster::one_process(Data::tpch().await).await;
        let mut connection = cluster.connect().await;
        for (setting, limit, sql) in [
            ("result_rows_max", "100", "select * from tpch.orders"),
            ("scan_bytes_max", "1000", "select count(distinct l_comment) from tpch.lineitem"),
        ] {
            rows::run(&mut connection, &format!("set {setting} = {limit}")).await;
            let error = refused(&mut connection, sql).await;
            assert_eq!(code(&error), "limit_exceeded", "{error}");
            assert!(error.to_string().contains(setting), "{error}");
            rows::run(&mut connection, &format!("reset {setting}")).await;
            assert!(rows(&mut connection, &format!("{sql} limit 1")).await.text().len() == 1);
        }
        rows::run(&mut connection, "set memory_bytes_max = 100000").await;
        let error = refused(
            &mut connection,
            "select count(*) from (select distinct a.l_comment, b.o_comment \
             from tpch.lineitem a, tpch.orders b)",
        )
        .await;
        assert_eq!(code(&error), "limit_exceeded", "{error}");
        cluster.stop().await;
    });
}

#[test]
fn the_system_tables_tell_what_a_query_used() {
    run(async {
        let mut data = Data::tpch().await.clone();
        data.config.scheduler.query.local_bytes_max = 0;
        let cluster = Cluster::distributed(&data, 2).await;
        let mut connection = cluster.connect().await;
        let sql = "select l_returnflag, count(*) from tpch.lineitem group by l_returnflag order by 1";
        let ended = rows(&mut connection, sql).await.text().len();
        refused(&mut connection, "select 1 + 'x' / no_such_column").await;
        let told = until(SEEN, async || {
            let used = "select mode, state, scanned_rows, memory_peak_bytes > 0, \"rows\", attempts \
                        from system.queries where sql like 'select l_returnflag%'";
            let used = rows(&mut cluster.connect().await, used).await.text();
            let lines = value(&mut cluster.connect().await, "select count(*) from tpch.lineitem").await;
            used[0] == ["pipelined", "finished", &lines, "true", &ended.to_string(), "1"].map(String::from)
        });
        assert!(told.await, "{:?}", rows(&mut connection, "select * from system.tasks").await.text());
        let failed = "select state, code, error from system.queries where sql like '%no_such_column%' and state = 'failed'";
        let failed = rows(&mut connection, failed).await.text().remove(0);
        assert_eq!(failed[..2], ["failed", "not_found"].map(String::from));
        assert!(failed[2].contains("no_such_column"), "{failed:?}");
        let executors = "select count(*), min(cores) > 0, min(state) from system.executors";
        assert_eq!(rows(&mut connection, executors).await.text()[0], ["2", "true", "alive"]);
        let tasks = "select count(distinct t.executor) > 0 from system.tasks t join system.queries q using (query_id) \
                     where q.sql like 'select l_returnflag%'";
        assert_eq!(value(&mut connection, tasks).await, "true");
        cluster.stop().await;
    });
}

#[test]
fn explain_analyze_adds_up_what_all_executors_counted() {
    run(async {
        let cluster = Cluster::distributed(Data::tpch().await, 2).await;
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            let few = "from tpch.lineitem where l_quantity > 10";
            let lines = value(&mut connection, &format!("select count(*) {few}")).await;
            let sql = format!("explain analyze select l_returnflag, count(*) {few} group by l_returnflag");
            let shown = rows(&mut connection, &sql).await.text();
            let plan = &shown.iter().find(|row| row[0] == "analyzed_plan").unwrap()[1];
            assert!(plan.contains("estimated_rows="), "{mode}: {plan}");
            if mode == "staged" {
                let line =
                    |begin: &str| plan.lines().find(|line| line.trim_start().starts_with(begin)).unwrap();
                assert!(plan.starts_with("stage 2 ("), "{plan}");
                assert!(line("FilterExec").contains(&format!("output_rows={lines},")), "{lines}: {plan}");
                assert!(line("AggregateExec: mode=FinalPartitioned").contains("output_rows=3,"), "{plan}");
                assert!(line("DataSourceExec").contains("row_groups_pruned_statistics_matched="), "{plan}");
            }
        }
        cluster.stop().await;
    });
}
