//! The real process: start, probes, metrics, logs, signals, the shell, folders that outlive it.

use std::path::Path;
use std::time::Duration;

use tarn_client::Connection;
use tarn_harness::wait::until;
use tarn_harness::{Data, Process, net, process, run};

use crate::clusters::{MODES, fresh_schema};
use crate::rows::{self, collect, rows, value};

/// How long a process may take to end.
const END: Duration = Duration::from_secs(40);

/// The ports that a test gave to a process.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub flight_sql: u16,
    pub http: u16,
    pub cluster: u16,
}

impl Ports {
    /// The address for clients.
    pub fn url(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.flight_sql)
    }
}

/// A `tarn serve` that is ready.
pub async fn serve(
    folder: &Path,
    config: Option<&Path>,
    environment: &[(String, String)],
) -> (Process, Ports) {
    start("serve", folder, config, environment).await
}

/// A `tarn serve` or `tarn scheduler` that is ready.
pub async fn start(
    command: &str,
    folder: &Path,
    config: Option<&Path>,
    environment: &[(String, String)],
) -> (Process, Ports) {
    let [flight_sql, http, cluster] = net::free_addresses::<3>();
    let mut arguments = vec![command.to_string(), "--data-dir".into(), folder.display().to_string()];
    for (flag, address) in
        [("--flight-sql-listen", flight_sql), ("--http-listen", http), ("--cluster-listen", cluster)]
    {
        arguments.extend([flag.to_string(), address.to_string()]);
    }
    if let Some(config) = config {
        arguments.extend(["--config".to_string(), config.display().to_string()]);
    }
    let mut process = Process::start(command, folder, arguments, environment);
    process.wait_until_ready(http.port()).await;
    (process, Ports { flight_sql: flight_sql.port(), http: http.port(), cluster: cluster.port() })
}

/// A `tarn executor` that has joined; with the port of its probes.
pub async fn start_executor(name: &str, folder: &Path, scheduler: u16) -> (Process, u16) {
    let [http] = net::free_addresses::<1>();
    let arguments = [
        "executor".to_string(),
        "--scheduler".into(),
        format!("127.0.0.1:{scheduler}"),
        "--data-dir".into(),
        folder.display().to_string(),
        "--http-listen".into(),
        http.to_string(),
    ];
    let mut process = Process::start(name, folder, arguments, &[]);
    process.wait_until_ready(http.port()).await;
    (process, http.port())
}

#[test]
fn metrics_tell_of_queries_rows_stores_executors_and_memory() {
    run(async {
        let data = Data::empty();
        let (_process, ports) = serve(data.folder(), None, &[]).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        rows::run(&mut connection, "create table default.t as select * from (values (1), (2), (3)) as v(x)")
            .await;
        rows(&mut connection, "select x from default.t where x > 0").await;
        let _ = connection.query("select no_such_column from default.t").await;
        let metrics = net::metrics(ports.http).await;
        let sum = |name: &str, label: &str| -> f64 {
            let samples =
                metrics.iter().filter(|(sample, _)| sample.contains(name) && sample.contains(label));
            samples.map(|(_, value)| value).sum()
        };
        for (name, label) in [
            ("scheduler_queries_total", "finished"),
            ("scheduler_queries_total", "failed"),
            ("scheduler_query_seconds_count", "phase"),
            ("scheduler_rows_out_total", ""),
            ("scheduler_bytes_out_total", ""),
            ("scan_store_requests_total", "verb"),
            ("scan_store_bytes_total", "verb"),
            ("runtime_memory_pool_bytes", "limit"),
            ("runtime_rows_scanned_total", "role"),
            ("scheduler_executors", ""),
            ("scheduler_build_info", "version"),
        ] {
            assert!(sum(name, label) > 0.0, "{name} {label} in {:#?}", metrics.keys().collect::<Vec<_>>());
        }
        let names = metrics.keys().filter(|name| name.contains("query_id") || name.contains("default.t"));
        assert_eq!(names.count(), 0, "labels have few, known values");
    });
}

#[test]
fn probes_tell_alive_from_ready() {
    run(async {
        let data = Data::empty();
        let (_scheduler, ports) = start("scheduler", data.folder(), None, &[]).await;
        assert_eq!(net::http_get(ports.http, "/healthz").await.unwrap().0, 200);
        assert_eq!(net::http_get(ports.http, "/readyz").await.unwrap().0, 200, "ready without executors");
        assert_eq!(net::http_get(ports.http, "/no-such-page").await.unwrap().0, 404);
        // Local mode answers without executors; the others wait for one within their timeout.
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        assert_eq!(value(&mut connection, "select 1").await, "1");
        rows::run(&mut connection, "create table default.t as select 1 as x").await;
        rows::run(&mut connection, "set execution_mode = 'pipelined'").await;
        rows::run(&mut connection, "set query_timeout = '60s'").await;
        let waiting = async { value(&mut connection, "select sum(x) from default.t where x > 0").await };
        let joining = start_executor("executor", data.folder(), ports.cluster);
        let (answer, (_executor, http)) = tokio::join!(waiting, joining);
        assert_eq!(answer, "1");
        assert_eq!(net::http_get(http, "/healthz").await.unwrap().0, 200);
        assert!(!net::metrics(http).await.is_empty());
    });
}

#[test]
fn sigterm_lets_running_queries_finish_and_refuses_new_ones() {
    run(async {
        let data = Data::tpch().await;
        let (mut process, ports) = serve(data.folder(), None, &[]).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        let mut late = Connection::connect(&ports.url()).await.unwrap();
        rows::run(&mut connection, "set execution_mode = 'local'").await;
        let sql = "select sum(length(l_comment) * n_nationkey) from tpch.lineitem, tpch.nation";
        let expected = value(&mut connection, sql).await;
        let stream = connection.query(sql).await.unwrap();
        let reading = collect(stream);
        let stopping = async {
            process.terminate().await;
            process.wait_for_output("stopping", END).await;
            late.query("select 1").await.err()
        };
        let (answer, refused) = tokio::join!(reading, stopping);
        assert_eq!(answer.unwrap().value(), expected);
        assert!(refused.is_some(), "a new query is taken after SIGTERM");
        assert_eq!(process.wait(END).await.code(), Some(0), "{}", process.output());
    });
}

#[test]
fn a_restart_finds_everything_again() {
    run(async {
        let data = Data::empty();
        for round in 0..2 {
            let (mut process, ports) = serve(data.folder(), None, &[]).await;
            let mut connection = Connection::connect(&ports.url()).await.unwrap();
            rows::run(&mut connection, "create table if not exists default.t (id bigint)").await;
            rows::run(&mut connection, &format!("insert into default.t values ({round})")).await;
            assert_eq!(
                value(&mut connection, "select count(*) from default.t").await,
                (round + 1).to_string()
            );
            process.terminate().await;
            assert_eq!(process.wait(END).await.code(), Some(0), "{}", process.output());
        }
        let left: Vec<_> = std::fs::read_dir(data.folder().join("work"))
            .map(|entries| entries.flatten().collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "work folders are left behind: {left:?}");
    });
}

#[test]
fn every_log_line_of_a_query_names_it() {
    run(async {
        let data = Data::empty();
        let [flight_sql, http, cluster] = net::free_addresses::<3>();
        let arguments = format!(
            "serve --log-format json --log debug --data-dir {} --flight-sql-listen {flight_sql} --http-listen {http} --cluster-listen {cluster}",
            data.folder().display()
        );
        let mut process = Process::start("json", data.folder(), arguments.split(' '), &[]);
        process.wait_until_ready(http.port()).await;
        let mut connection = Connection::connect(&format!("grpc://{flight_sql}")).await.unwrap();
        let result = rows(&mut connection, "select 4711 as secret_number").await;
        process.wait_for_output(&result.query_id, END).await;
        let logged = process.output();
        let lines: Vec<serde_json::Value> =
            logged.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(!lines.is_empty(), "{logged}");
        assert!(lines.iter().any(|line| line.to_string().contains(&result.query_id)), "{logged}");
        assert!(!logged.contains("secret_number"), "SQL text belongs into the audit log alone");
    });
}

#[test]
fn addresses_off_loopback_need_consent() {
    run(async {
        let data = Data::empty();
        let folder = data.folder().display().to_string();
        for arguments in [
            vec!["serve", "--data-dir", &folder, "--flight-sql-listen", "0.0.0.0:0"],
            vec!["scheduler", "--data-dir", &folder, "--cluster-listen", "0.0.0.0:0"],
            vec!["executor", "--data-dir", &folder, "--scheduler", "127.0.0.1:1", "--listen", "0.0.0.0:0"],
        ] {
            let (code, output) = process::run(data.folder(), &arguments, END).await;
            assert_ne!(code, Some(0), "{arguments:?}: {output}");
            assert!(output.contains("listen") && output.contains("--insecure"), "{arguments:?}: {output}");
        }
    });
}

#[test]
fn the_shell_runs_statements_and_its_exit_code_tells() {
    run(async {
        let data = Data::empty();
        let (_process, ports) = serve(data.folder(), None, &[]).await;
        let url = ports.url();
        let shell = async |arguments: &[&str]| {
            let mut all = vec!["sql", "--url", &url];
            all.extend(arguments);
            process::run(data.folder(), &all, END).await
        };
        let (code, output) = shell(&["-c", "select 1 as one, 'a,b' as two", "--format", "csv"]).await;
        assert_eq!((code, output.trim()), (Some(0), "one,two\n1,\"a,b\""), "{output}");
        let (code, output) = shell(&["-c", "select 1 as one, null as two", "--format", "json"]).await;
        assert_eq!(code, Some(0), "{output}");
        let json: serde_json::Value =
            serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error}: {output}"));
        assert!(json.to_string().contains("\"one\":1"), "{output}");
        let (code, output) = shell(&[
            "-c",
            "create table default.s (x int); insert into default.s values (5); select x from default.s",
        ])
        .await;
        assert!(code == Some(0) && output.contains('5'), "{output}");
        let (code, output) = shell(&["-c", "select * from default.no_such_table"]).await;
        assert!(code != Some(0) && output.contains("no_such_table"), "{code:?} {output}");
        let file = data.folder().join("script.sql");
        std::fs::write(
            &file,
            "select 1;\n-- a comment; with a semicolon\nselect ';' as s;\nselect broken from;\nselect 3;\n",
        )
        .unwrap();
        let (code, output) = shell(&["-f", &file.display().to_string()]).await;
        assert!(code != Some(0) && output.contains(';'), "{code:?} {output}");
        let (code, output) =
            process::run(data.folder(), &["sql", "--url", "grpc://127.0.0.1:1", "-c", "select 1"], END).await;
        assert!(code != Some(0) && output.contains("127.0.0.1:1"), "{code:?} {output}");
    });
}

#[test]
fn two_executors_share_one_data_folder() {
    run(async {
        let data = Data::empty();
        let (_scheduler, ports) = start("scheduler", data.folder(), None, &[]).await;
        let (mut first, _) = start_executor("first", data.folder(), ports.cluster).await;
        let (_second, _) = start_executor("second", data.folder(), ports.cluster).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        let schema = fresh_schema(&mut connection, "shared").await;
        rows::run(
            &mut connection,
            &format!("create table {schema}.t as select * from (values (1), (2), (3)) as v(x)"),
        )
        .await;
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                value(&mut connection, &format!("select sum(x) from {schema}.t where x > 0")).await,
                "6",
                "{mode}"
            );
        }
        // One goes in an orderly way; the other goes on.
        first.terminate().await;
        assert_eq!(first.wait(END).await.code(), Some(0), "{}", first.output());
        let gone = until(END, async || {
            net::metrics(ports.http)
                .await
                .iter()
                .any(|(name, value)| name.starts_with("scheduler_executors") && *value == 1.0)
        })
        .await;
        assert!(gone, "the scheduler still counts two executors");
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                value(&mut connection, &format!("select sum(x) from {schema}.t where x > 0")).await,
                "6",
                "{mode}"
            );
        }
    });
}
