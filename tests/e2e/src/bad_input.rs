//! Mistakes and faults: each ends in a clear error, the server lives, and nothing is lost.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tarn_client::Connection;
use tarn_harness::wait::until;
use tarn_harness::{Cluster, Data, Fault, Process, net, process, run};
use tonic::Code;

use crate::clusters::{MODES, connect_in, fresh_schema, one_process, two_executors};
use crate::operations::{start, start_executor};
use crate::rows::{self, blames_storage, code, collect, describe, refused, rows, value};

const END: Duration = Duration::from_secs(40);

// Statements.

#[test]
fn a_statement_that_does_not_parse_is_refused_with_line_and_column() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let error =
            refused(&mut connection, "select n_name\nfrom tpch.nation\nwher n_nationkey = 1 order by").await;
        assert_eq!(code(&error), "syntax_error");
        let message = describe(&error).to_lowercase();
        assert!(message.contains("line: 3") && message.contains("column"), "{message}");
        assert_eq!(error.refusal().unwrap().status, Code::InvalidArgument);
        assert_eq!(value(&mut connection, "select 1").await, "1");
    });
}

#[test]
fn an_unknown_name_is_refused_with_a_near_one() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let table = refused(&mut connection, "select * from tpch.natoin").await;
        assert_eq!((code(&table), table.refusal().unwrap().status), ("not_found", Code::NotFound));
        assert!(
            describe(&table).contains("\"nation\"") || describe(&table).contains("nation"),
            "{}",
            describe(&table)
        );
        assert!(table.refusal().unwrap().message.contains("natoin"));
        let column = refused(&mut connection, "select n_nmae from tpch.nation").await;
        assert!(
            describe(&column).contains("n_nmae") && describe(&column).contains("n_name"),
            "{}",
            describe(&column)
        );
        let schema = refused(&mut connection, "select * from tcph.nation").await;
        assert_eq!(code(&schema), "not_found");
    });
}

#[test]
fn a_type_error_is_refused_before_anything_runs() {
    run(async {
        let mut connection = one_process().await.connect().await;
        for sql in
            ["select sum(n_name) from tpch.nation", "select o_orderdate + o_totalprice from tpch.orders"]
        {
            let error = refused(&mut connection, sql).await;
            let codes = ["invalid_argument", "not_supported"];
            assert!(codes.contains(&code(&error)), "{}", describe(&error));
        }
    });
}

#[test]
fn an_error_at_run_time_reaches_the_reader_in_every_mode() {
    run(async {
        for cluster in [one_process().await, two_executors().await] {
            for mode in MODES {
                let mut connection = connect_in(cluster, mode).await;
                let error =
                    refused(&mut connection, "select 1 / (n_nationkey - n_nationkey) from tpch.nation").await;
                assert_eq!(code(&error), "invalid_argument", "{mode}: {}", describe(&error));
                assert!(describe(&error).to_lowercase().contains("zero"), "{mode}: {}", describe(&error));
                assert!(
                    error.refusal().unwrap().query_id.is_some(),
                    "{mode}: an error without the query's id"
                );
                let error = refused(&mut connection, "select cast(n_name as bigint) from tpch.nation").await;
                assert_eq!(code(&error), "invalid_argument", "{mode}: {}", describe(&error));
            }
        }
    });
}

#[test]
fn an_insert_whose_columns_do_not_fit_changes_nothing() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let schema = fresh_schema(&mut connection, "no_fit").await;
        rows::run(&mut connection, &format!("create table {schema}.t (id bigint not null, name varchar)"))
            .await;
        for values in ["(1)", "(1, 'a', 2)", "('one', 'a')", "(null, 'a')"] {
            let error = refused(&mut connection, &format!("insert into {schema}.t values {values}")).await;
            assert_eq!(code(&error), "invalid_argument", "{values}: {}", describe(&error));
        }
        assert_eq!(value(&mut connection, &format!("select count(*) from {schema}.t")).await, "0");
    });
}

#[test]
fn inserts_at_once_into_one_table_all_land() {
    run(async {
        let cluster = two_executors().await;
        let mut connection = cluster.connect().await;
        let schema = fresh_schema(&mut connection, "at_once").await;
        rows::run(&mut connection, &format!("create table {schema}.t (id bigint, mode varchar)")).await;
        let insert = async |n: usize| {
            let mode = MODES[n % MODES.len()];
            let mut connection = connect_in(cluster, mode).await;
            rows::run(&mut connection, &format!("insert into {schema}.t select {n}, '{mode}'")).await
        };
        let counts = futures::future::join_all((0..9).map(insert)).await;
        assert_eq!(counts, [1; 9]);
        let seen =
            rows(&mut connection, &format!("select count(*), count(distinct id), sum(id) from {schema}.t"))
                .await;
        assert_eq!(seen.text(), [["9", "9", "36"]]);
    });
}

// Damaged tables.

#[test]
fn truncated_table_metadata_is_an_error_that_names_the_table() {
    run(async {
        let damage = |folder: &Path| {
            let file = newest(&folder.join("metadata"), ".metadata.json");
            truncate(&file);
        };
        check_damage(damage).await;
    });
}

#[test]
fn a_truncated_manifest_is_an_error_that_names_the_table() {
    run(async {
        check_damage(|folder| files(&folder.join("metadata"), ".avro").iter().for_each(|file| truncate(file)))
            .await
    });
}

#[test]
fn a_data_file_cut_in_half_is_an_error_that_names_the_table() {
    run(async {
        check_damage(|folder| files(folder, ".parquet").iter().for_each(|file| truncate(file))).await
    });
}

#[test]
fn a_missing_data_file_is_an_error_that_names_the_table() {
    let delete =
        |folder: &Path| files(folder, ".parquet").iter().for_each(|file| std::fs::remove_file(file).unwrap());
    run(async { check_damage(delete).await });
}

#[test]
fn a_data_file_of_garbage_is_an_error_that_names_the_table() {
    let spoil = |folder: &Path| {
        for file in files(folder, ".parquet") {
            let length = std::fs::metadata(&file).unwrap().len();
            std::fs::write(&file, vec![b'x'; length as usize]).unwrap();
        }
    };
    run(async { check_damage(spoil).await });
}

/// Makes two tables, damages one on disk, and reads both with servers that have seen neither.
async fn check_damage(damage: impl Fn(&Path)) {
    let data = Data::empty();
    let cluster = Cluster::one_process(&data).await;
    let mut connection = cluster.connect().await;
    for table in ["broken", "well"] {
        let values: Vec<_> = (0..1000).map(|n| format!("({n}, 'name {n}')")).collect();
        let sql = format!(
            "create table default.{table} as select * from (values {}) as v(id, name)",
            values.join(", ")
        );
        rows::run(&mut connection, &sql).await;
    }
    cluster.stop().await;
    damage(&data.folder().join("warehouse/default/broken"));

    let cluster = Cluster::distributed(&data, 1).await;
    for mode in MODES {
        let mut connection = connect_in(&cluster, mode).await;
        let error =
            refused(&mut connection, "select sum(id), max(name) from default.broken where id > 3").await;
        assert!(blames_storage(&error), "{mode}: {}", describe(&error));
        let message = &error.refusal().unwrap().message;
        assert!(message.contains("broken"), "{mode}: the table is not named: {message}");
        let folder = data.folder().display().to_string();
        assert!(!message.contains(folder.trim_start_matches('/')), "{mode}: a path of the server: {message}");
        assert_eq!(
            value(&mut connection, "select count(name) from default.well where id >= 0").await,
            "1000",
            "{mode}"
        );
        let tables = rows(&mut connection, "show tables from default").await.sorted();
        assert_eq!(tables, [["broken"], ["well"]], "{mode}");
    }
    cluster.stop().await;
}

// Stores that fail.

#[test]
fn a_read_that_fails_is_an_error_and_the_next_query_is_well() {
    run(async {
        let data = Data::empty();
        let cluster = Cluster::distributed(&data, 2).await;
        let mut connection = cluster.connect().await;
        let values: Vec<_> = (0..500).map(|n| format!("({n})")).collect();
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            for (number, fault) in [Fault::FailReads, Fault::CutReads].into_iter().enumerate() {
                // A table of its own, so that no cache has seen it.
                let table = format!("default.{mode}_{number}");
                let sql =
                    format!("create table {table} as select * from (values {}) as v(id)", values.join(", "));
                rows::run(&mut connection, &sql).await;
                let sql = format!("select sum(id) from {table} where id > 0");
                let injected = cluster.faults().inject(".parquet", fault);
                let error = refused(&mut connection, &sql).await;
                assert!(blames_storage(&error), "{mode}: {}", describe(&error));
                drop(injected);
                assert_eq!(
                    value(&mut connection, &sql).await,
                    (0..500).sum::<i32>().to_string(),
                    "{mode} {fault:?}"
                );
            }
        }
        cluster.stop().await;
    });
}

#[test]
fn a_slow_store_is_waited_for() {
    run(async {
        let data = Data::empty();
        let cluster = Cluster::distributed(&data, 2).await;
        let mut connection = cluster.connect().await;
        rows::run(&mut connection, "create table default.t as select * from (values (1), (2)) as v(x)").await;
        let _slow = cluster.faults().inject(".parquet", Fault::SlowReads(Duration::from_millis(300)));
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                value(&mut connection, "select sum(x) from default.t where x > 0").await,
                "3",
                "{mode}"
            );
        }
        cluster.stop().await;
    });
}

#[test]
fn a_write_that_fails_leaves_no_row_and_no_file() {
    run(async {
        let data = Data::empty();
        let cluster = Cluster::distributed(&data, 2).await;
        let mut connection = cluster.connect().await;
        rows::run(&mut connection, "create table default.t (id bigint) partitioned by (bucket(2, id))").await;
        rows::run(&mut connection, "insert into default.t values (1)").await;
        let folder = data.folder().join("warehouse/default/t");
        let before = files(&folder, ".parquet");
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            for part in [".parquet", ".avro", ".metadata.json"] {
                let injected = cluster.faults().inject(part, Fault::FailWrites);
                let error = refused(
                    &mut connection,
                    "insert into default.t select * from (values (2), (3), (4)) as v(x)",
                )
                .await;
                assert!(blames_storage(&error), "{mode} {part}: {}", describe(&error));
                drop(injected);
                assert_eq!(
                    value(&mut connection, "select count(*) from default.t where id > 0").await,
                    "1",
                    "{mode} {part}"
                );
            }
        }
        let clean = until(END, async || files(&folder, ".parquet") == before).await;
        assert!(clean, "left behind: {:?}", files(&folder, ".parquet"));
        assert_eq!(rows::run(&mut connection, "insert into default.t values (5)").await, 1);
        assert_eq!(value(&mut connection, "select sum(id) from default.t").await, "6");
        cluster.stop().await;
    });
}

// Processes.

#[test]
fn unknown_and_wrong_settings_are_all_reported_by_their_keys() {
    run(async {
        let data = Data::empty();
        let file = data.folder().join("bad.toml");
        std::fs::write(
            &file,
            "no_such_section = 1\n[scheduler]\nhttp_listen = \"nowhere\"\n[scheduler.query]\nspool_memory = 5\n[log]\nformat = \"xml\"\n",
        )
        .unwrap();
        let (status, output) =
            process::run(data.folder(), &["serve", "--config", &file.display().to_string()], END).await;
        assert!(status.is_some_and(|status| status != 0), "{output}");
        for key in ["no_such_section", "scheduler.http_listen", "scheduler.query.spool_memory", "log.format"]
        {
            assert!(output.contains(key), "{key} in {output}");
        }
    });
}

#[test]
fn a_port_in_use_is_named() {
    run(async {
        let data = Data::empty();
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let folder = data.folder().display().to_string();
        for flag in ["--flight-sql-listen", "--http-listen", "--cluster-listen"] {
            let mut arguments = vec!["serve", "--data-dir", &folder];
            for other in ["--flight-sql-listen", "--http-listen", "--cluster-listen"] {
                arguments.extend([other, if other == flag { &address } else { "127.0.0.1:0" }]);
            }
            let (status, output) = process::run(data.folder(), &arguments, END).await;
            assert!(status.is_some_and(|status| status != 0), "{flag}: {output}");
            assert!(output.contains(&address), "{flag}: {output}");
            assert!(!output.contains("panicked"), "{flag}: {output}");
        }
    });
}

#[test]
fn an_executor_without_a_scheduler_says_so_tries_again_and_joins_at_last() {
    run(async {
        let data = Data::empty();
        let folder = data.folder().display().to_string();
        let [flight_sql, http, cluster, executor_http] =
            net::free_addresses::<4>().map(|address| address.to_string());
        let arguments =
            ["executor", "--scheduler", &cluster, "--data-dir", &folder, "--http-listen", &executor_http];
        let mut executor = Process::start("executor", data.folder(), arguments, &[]);
        let tried = until(END, async || executor.output().matches(cluster.as_str()).count() >= 2).await;
        assert!(tried, "{}", executor.output());
        assert!(executor.is_running());
        let port = executor_http.rsplit_once(':').unwrap().1.parse().unwrap();
        assert_ne!(net::http_get(port, "/readyz").await.unwrap().0, 200);

        let arguments = [
            "scheduler",
            "--data-dir",
            &folder,
            "--flight-sql-listen",
            &flight_sql,
            "--http-listen",
            &http,
            "--cluster-listen",
            &cluster,
        ];
        let _scheduler = Process::start("scheduler", data.folder(), arguments, &[]);
        executor.wait_until_ready(port).await;
        let mut connection = Connection::connect(&format!("grpc://{flight_sql}")).await.unwrap();
        rows::run(&mut connection, "create table default.t as select 1 as x").await;
        rows::run(&mut connection, "set execution_mode = 'pipelined'").await;
        assert_eq!(value(&mut connection, "select sum(x) from default.t where x > 0").await, "1");
    });
}

#[test]
fn executors_outlive_their_scheduler() {
    run(async {
        let data = Data::empty();
        let folder = data.folder().display().to_string();
        let addresses = net::free_addresses::<3>().map(|address| address.to_string());
        let [flight_sql, http, cluster] = &addresses;
        let arguments = [
            "scheduler",
            "--data-dir",
            &folder,
            "--flight-sql-listen",
            flight_sql,
            "--http-listen",
            http,
            "--cluster-listen",
            cluster,
        ];
        let http_port = http.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut scheduler = Process::start("scheduler", data.folder(), arguments, &[]);
        scheduler.wait_until_ready(http_port).await;
        let cluster_port = cluster.rsplit_once(':').unwrap().1.parse().unwrap();
        let (mut executor, _) = start_executor("executor", data.folder(), cluster_port).await;
        scheduler.kill().await;
        let mut scheduler = Process::start("scheduler-again", data.folder(), arguments, &[]);
        scheduler.wait_until_ready(http_port).await;
        let mut connection = Connection::connect(&format!("grpc://{flight_sql}")).await.unwrap();
        rows::run(&mut connection, "create table default.t as select 1 as x").await;
        for mode in ["pipelined", "staged"] {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                value(&mut connection, "select sum(x) from default.t where x > 0").await,
                "1",
                "{mode}"
            );
        }
        assert!(executor.is_running());
    });
}

#[test]
fn garbage_on_every_port_harms_nobody() {
    run(async {
        let data = Data::empty();
        let cluster = Cluster::distributed(&data, 1).await;
        let mut connection = cluster.connect().await;
        rows::run(&mut connection, "create table default.t as select 1 as x").await;
        let noise: Vec<u8> = (0..65_536u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let inputs: [&[u8]; 6] = [
            b"\0",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage after the preface",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SELECT 1;\n",
            &noise,
        ];
        for port in cluster.ports() {
            for input in inputs {
                net::send_garbage(port, input).await;
            }
        }
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                value(&mut connection, "select sum(x) from default.t where x > 0").await,
                "1",
                "{mode}"
            );
        }
        cluster.stop().await;
    });
}

#[test]
fn an_executor_killed_during_a_query_means_the_answer_or_a_clear_error() {
    run(async {
        let data = Data::tpch().await;
        let (_scheduler, ports) = start("scheduler", data.folder(), None, &[]).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        let sql = "select n_name, count(*), sum(l_extendedprice * l_quantity), sum(length(l_comment)) from tpch.lineitem, tpch.nation where l_suppkey % 25 = n_nationkey or l_orderkey % 5 = n_regionkey group by n_name";
        rows::run(&mut connection, "set execution_mode = 'local'").await;
        let expected = rows(&mut connection, sql).await.sorted();
        for mode in ["pipelined", "staged"] {
            let (_one, _) = start_executor("one", data.folder(), ports.cluster).await;
            let (mut two, _) = start_executor("two", data.folder(), ports.cluster).await;
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            // As late as the middle of a run without a fault.
            let began = Instant::now();
            assert_eq!(rows(&mut connection, sql).await.sorted(), expected, "{mode}, with both executors");
            let half = began.elapsed() / 2;
            let stream = connection.query(sql).await.unwrap();
            let (outcome, ()) = tokio::join!(collect(stream), async {
                tokio::time::sleep(half).await;
                two.kill().await;
            });
            match outcome {
                Ok(result) => assert_eq!(result.sorted(), expected, "{mode}: a wrong answer"),
                Err(error) => assert_eq!(code(&error), "executor_lost", "{mode}: {}", describe(&error)),
            }
            assert_eq!(rows(&mut connection, sql).await.sorted(), expected, "{mode}: the next query");
        }
    });
}

fn truncate(file: &Path) {
    let content = std::fs::read(file).unwrap();
    std::fs::write(file, &content[..content.len() / 2]).unwrap();
}

fn newest(folder: &Path, end: &str) -> PathBuf {
    files(folder, end).pop().unwrap_or_else(|| panic!("no {end} in {folder:?}"))
}

/// The files below a folder whose name ends so, in order.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}
