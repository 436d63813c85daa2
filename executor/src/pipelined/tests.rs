//! Two executors in this process, reached over the network as others would reach them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::physical_plan_to_bytes_with_proto_converter;
use datafusion_proto::physical_plan::{DeduplicatingProtoConverter, DefaultPhysicalExtensionCodec};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::{
    HeartbeatReply, HeartbeatRequest, RegisterReply, RegisterRequest, Worker,
};
use tarn_runtime::control::{ControlClient, Failure, Membership, MembershipServer, Run, RunPlan, code};
use tarn_runtime::options::TarnOptions;
use tarn_scan::storage::Router;
use tarn_scan::{FIELD_ID_KEY, FileTask, PlannedFile, TableScan, scan_exec, scan_of};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

const QUERIES: [&str; 9] = [
    "select count(*), sum(v), min(name), max(k) from fact",
    "select k % 7 as g, count(*), sum(v) from fact group by 1 order by 1",
    "select d.name, sum(f.v) as s from fact f join dim d on f.k = d.k group by 1 order by 2 desc, 1 limit 5",
    "select count(*) from fact a join fact b on a.v = b.v where a.k < 50",
    "select count(*) from (select * from fact union all select * from dim)",
    "select k, count(*) from dim group by k having count(*) > 0 order by k limit 3",
    "select count(*) from dim d left join fact f on d.k = f.k + 1000",
    "select * from fact order by v desc, k limit 4",
    "select k, v, sum(v) over (partition by k order by v) from fact where k < 3 order by 1, 2",
];

/// Some hundred million rows between two scans of which each takes no time.
const ENDLESS: &str = "select sum(a.v * b.v % 7) from fact a cross join fact b where a.k + b.k > 3";

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_answer_as_one_process_does() {
    let cluster = Cluster::start(2).await;
    for (number, sql) in QUERIES.iter().enumerate() {
        let expected = cluster.local(sql).await;
        let run_id = format!("q{number}-0");
        let answer = cluster.run(sql, &run_id).await.unwrap();
        assert_eq!(answer, expected, "{sql}");
        cluster.idle().await;
        assert_eq!(cluster.opened(&run_id).await, cluster.planned(sql).await, "{sql}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_spread_over_both_executors() {
    let cluster = Cluster::start(2).await;
    cluster.run(QUERIES[0], "spread-0").await.unwrap();
    cluster.idle().await;
    for executor in &cluster.http {
        let runs = runs(executor, "spread").await;
        assert!(runs.iter().any(|run| run["rows_scanned"].as_u64() > Some(0)), "{runs:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_stream_ends_the_work_on_all_executors() {
    let cluster = Cluster::start(2).await;
    let mut rows = cluster.send(ENDLESS, "endless-0", &cluster.workers).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(700), rows.next()).await.is_err());
    assert!(!cluster.control(0).await.ping().await.unwrap().runs_active.is_empty());
    drop(rows);
    cluster.idle().await;
    // Before another run comes: what the engine's cache has of the tasks must not wait for it.
    until(async || cluster.desk.memory().is_some_and(|bytes| bytes == 0)).await;
    let again = cluster.run(QUERIES[0], "after-0").await.unwrap();
    assert_eq!(again, cluster.local(QUERIES[0]).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_stream_with_its_code() {
    let cluster = Cluster::start(2).await;
    let mut rows = cluster.send(ENDLESS, "cancelled-0", &cluster.workers).await.unwrap();
    assert!(cluster.control(0).await.cancel("cancelled-0").await.unwrap());
    let ended = tokio::time::timeout(PATIENCE, rows.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(Failure::find(&ended).unwrap().code(), code::CANCELLED);
    cluster.idle().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_executor_is_a_lost_executor() {
    let cluster = Cluster::start(1).await;
    let mut workers = cluster.workers.clone();
    workers.push(Worker { id: "127.0.0.1:9#dead".into(), url: "http://127.0.0.1:9/".into() });
    let failed = cluster.collect("select count(*), sum(v) from fact", "lost-0", &workers).await.unwrap_err();
    assert_eq!(failed.code(), code::EXECUTOR_LOST, "{failed}");
    cluster.idle().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_on_an_executor_keeps_its_code() {
    let cluster = Cluster::start(2).await;
    let missing = cluster.folder.join("fact-3.parquet");
    std::fs::remove_file(&missing).unwrap();
    let failed = cluster.run(QUERIES[0], "missing-0").await.unwrap_err();
    assert_eq!(failed.code(), code::STORAGE_ERROR, "{failed}");
    let divided = "select sum(v / (k - k)) from dim";
    let failed = cluster.run(divided, "divided-0").await.unwrap_err();
    assert_eq!(failed.code(), code::INVALID_ARGUMENT, "{failed}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_harms_nothing() {
    use tokio::io::AsyncWriteExt;
    let cluster = Cluster::start(1).await;
    let address = cluster.workers[0].url.trim_start_matches("http://").trim_end_matches('/').to_string();
    for garbage in [&b"\x00\xff\x17garbage\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096]] {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let _ = connection.write_all(garbage).await;
    }
    assert_eq!(cluster.run(QUERIES[0], "garbage-0").await.unwrap(), cluster.local(QUERIES[0]).await);
    cluster.stop().await;
}

/// A scheduler's membership and some executors.
struct Cluster {
    folder: PathBuf,
    ctx: SessionContext,
    desk: Arc<Desk>,
    workers: Vec<Worker>,
    http: Vec<String>,
    running: Vec<crate::Running>,
    shutdown: CancellationToken,
    _scheduler: JoinSet<()>,
}

impl Cluster {
    async fn start(executors: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("tarn-pipelined-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let ctx = context(&folder);
        let desk = Arc::new(Desk::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheduler = listener.local_addr().unwrap().to_string();
        let service = MembershipServer::new(Arc::clone(&desk));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let shutdown = CancellationToken::new();
        let (mut running, mut http) = (Vec::new(), Vec::new());
        for _ in 0..executors {
            let config = crate::Config {
                schedulers: vec![scheduler.clone()],
                work_dir: folder.join("work"),
                runtime: tarn_runtime::Config {
                    cpu_threads: 2,
                    memory_bytes: 512 << 20,
                    ..Default::default()
                },
                ..Default::default()
            };
            let executor = crate::start(config, None, shutdown.clone()).await.unwrap();
            http.push(executor.addresses().http.unwrap().to_string());
            running.push(executor);
        }
        for address in &http {
            until(async || get(address, "/readyz").await.0 == 200).await;
        }
        let mut workers = desk.workers.lock().clone();
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        Self { folder, ctx, desk, workers, http, running, shutdown, _scheduler: tasks }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for executor in self.running {
            executor.join().await.unwrap();
        }
        std::fs::remove_dir_all(self.folder).unwrap();
    }

    /// The answer of this process alone.
    async fn local(&self, sql: &str) -> String {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    async fn run(&self, sql: &str, run_id: &str) -> Result<String, Failure> {
        self.collect(sql, run_id, &self.workers).await
    }

    async fn collect(&self, sql: &str, run_id: &str, workers: &[Worker]) -> Result<String, Failure> {
        let rows = self.send(sql, run_id, workers).await?;
        let batches: EngineResult<Vec<_>> = tokio::time::timeout(PATIENCE, rows.try_collect()).await.unwrap();
        match batches {
            Ok(batches) => Ok(pretty_format_batches(&batches).unwrap().to_string()),
            Err(error) => Err(Failure::find(&error).unwrap()),
        }
    }

    async fn send(
        &self,
        sql: &str,
        run_id: &str,
        workers: &[Worker],
    ) -> Result<datafusion::execution::SendableRecordBatchStream, Failure> {
        let plan = self.plan(sql).await;
        let schema = plan.schema();
        let codec = tarn_scan::Codec::new(Arc::new(DefaultPhysicalExtensionCodec {}));
        let bytes = physical_plan_to_bytes_with_proto_converter(
            plan,
            &codec,
            &DeduplicatingProtoConverter::default(),
        );
        let mut config = self.ctx.state().config().clone();
        // So small that every scan is worth all executors, and every file two ranges.
        TarnOptions { task_bytes: 1, range_bytes_min: 512, ..Default::default() }.apply(&mut config);
        let run = Run {
            query_id: run_id.split('-').next().unwrap().to_string(),
            run_id: run_id.to_string(),
            plan: RunPlan::Encoded(bytes.unwrap()),
            config,
            workers: workers.to_vec(),
        };
        self.control(0).await.run(&run, schema).await
    }

    async fn plan(&self, sql: &str) -> Arc<dyn ExecutionPlan> {
        self.ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    async fn control(&self, worker: usize) -> ControlClient {
        ControlClient::connect(self.workers[worker].url.trim_end_matches('/')).await.unwrap()
    }

    /// Waits until no executor has work.
    async fn idle(&self) {
        for worker in 0..self.workers.len() {
            let control = self.control(worker).await;
            until(async || control.ping().await.unwrap().runs_active.is_empty()).await;
        }
    }

    /// Bytes of each file that the executors opened for a run, sorted.
    async fn opened(&self, run_id: &str) -> Vec<(String, u64)> {
        let mut pieces = Vec::new();
        for executor in &self.http {
            for run in runs(executor, run_id).await {
                pieces.extend(
                    run["opened"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_string()),
                );
            }
        }
        let whole = |uri: &str| std::fs::metadata(uri.trim_start_matches("file://")).unwrap().len();
        bytes_by_file(pieces.iter().map(|piece| match piece.rsplit_once('[') {
            Some((uri, range)) => {
                let (start, end) = range.trim_end_matches(']').split_once("..").unwrap();
                (uri.to_string(), start.parse().unwrap()..end.parse().unwrap())
            }
            None => (piece.clone(), 0..whole(piece)),
        }))
    }

    /// Bytes of each file that the plan names.
    async fn planned(&self, sql: &str) -> Vec<(String, u64)> {
        fn collect(plan: &Arc<dyn ExecutionPlan>, into: &mut Vec<FileTask>) {
            if let Some(view) = scan_of(plan) {
                into.extend(view.groups.into_iter().flatten());
            }
            plan.children().into_iter().for_each(|child| collect(child, into));
        }
        let mut tasks = Vec::new();
        collect(&self.plan(sql).await, &mut tasks);
        bytes_by_file(tasks.into_iter().map(|task| {
            let range = task.range.clone().unwrap_or(0..task.size_bytes);
            (task.uri, range)
        }))
    }
}

/// Adds up; ranges of a file that overlap or leave a gap show as another sum or another border.
fn bytes_by_file(pieces: impl Iterator<Item = (String, std::ops::Range<u64>)>) -> Vec<(String, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (uri, range) in pieces {
        *sums.entry(uri).or_insert(0) += range.end - range.start;
    }
    sums.into_iter().collect()
}

async fn until(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the condition comes true in time");
}

async fn runs(address: &str, prefix: &str) -> Vec<serde_json::Value> {
    let (status, body) = get(address, &format!("/runs?prefix={prefix}")).await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

async fn get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
}

/// A scheduler that takes everyone.
#[derive(Default)]
struct Desk {
    workers: Mutex<Vec<Worker>>,
    /// Bytes that each executor said it has in use.
    memory: Mutex<HashMap<String, u64>>,
}

impl Desk {
    /// Bytes in use in all executors, once each has said so.
    fn memory(&self) -> Option<u64> {
        let memory = self.memory.lock();
        (memory.len() == self.workers.lock().len()).then(|| memory.values().sum())
    }
}

#[async_trait]
impl Membership for Desk {
    async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, Failure> {
        let url = format!("http://{}:{}/", request.host, request.flight_port);
        self.workers.lock().push(Worker { id: request.id, url });
        let storage_json = serde_json::to_string(&tarn_scan::storage::Config::default()).unwrap();
        Ok(RegisterReply { storage_json, heartbeat_ms: 100, ..Default::default() })
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, Failure> {
        self.memory.lock().insert(request.id, request.memory_used_bytes);
        Ok(HeartbeatReply { known: true, ..Default::default() })
    }

    async fn leave(&self, _: String) -> Result<(), Failure> {
        Ok(())
    }
}

/// A session over two tables: `fact` of six files, `dim` of one.
fn context(folder: &Path) -> SessionContext {
    let spill_dir = folder.join("spill");
    let runtime =
        Runtime::new(tarn_runtime::Config { spill_dir, cpu_threads: 1, ..Default::default() }).unwrap();
    Router::new(Default::default(), Vec::new()).register(&runtime.env());
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config.options_mut().optimizer.repartition_file_scans = false;
    let mut ctx = SessionContext::new_with_config_rt(config, runtime.env());
    // Executors have these in place of the engine's, so plans are made of them.
    tarn_functions::register(&mut ctx).unwrap();
    let fact: Vec<_> = (0..6).map(|file| write(folder, "fact", file, 0..3000)).collect();
    let dim = vec![write(folder, "dim", 0, 0..200)];
    ctx.register_table("fact", Arc::new(Table::new("fact", fact))).unwrap();
    ctx.register_table("dim", Arc::new(Table::new("dim", dim))).unwrap();
    ctx
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: i32| {
        Field::new(name, data_type, true).with_metadata([(FIELD_ID_KEY.to_string(), id.to_string())].into())
    };
    Arc::new(Schema::new(vec![
        field("k", DataType::Int64, 1),
        field("v", DataType::Int64, 2),
        field("name", DataType::Utf8View, 3),
    ]))
}

fn write(folder: &Path, table: &str, file: i64, rows: std::ops::Range<i64>) -> FileTask {
    let path = folder.join(format!("{table}-{file}.parquet"));
    let count = rows.end - rows.start;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row % 200))),
        Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| file * 100_000 + row))),
        Arc::new(StringViewArray::from_iter_values(rows.map(|row| format!("name {}", row % 50)))),
    ];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let properties = datafusion::parquet::file::properties::WriterProperties::builder();
    let properties = properties.set_max_row_group_row_count(Some(500)).build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    FileTask {
        uri: format!("file://{}", path.display()),
        size_bytes: std::fs::metadata(&path).unwrap().len(),
        record_count: count as u64,
        range: None,
        spec_id: 0,
        constants: Vec::new(),
        data_sequence_number: 1,
        ..FileTask::default()
    }
}

/// A table of file tasks, two groups if there are enough.
#[derive(Debug)]
struct Table {
    scan: Arc<TableScan>,
    groups: Vec<Vec<PlannedFile>>,
}

impl Table {
    fn new(name: &str, tasks: Vec<FileTask>) -> Self {
        let scan = TableScan {
            table: format!("lake.default.{name}"),
            table_uuid: Uuid::new_v4(),
            snapshot_id: Some(1),
            schema: schema(),
            format_version: 2,
            name_mapping: None,
        };
        let count = tasks.len().min(2);
        let mut groups = vec![Vec::new(); count];
        for (at, task) in tasks.into_iter().enumerate() {
            groups[at % count].push(PlannedFile { task: task.into(), statistics: None });
        }
        Self { scan: Arc::new(scan), groups }
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.scan.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let options = &session.table_options().parquet;
        let statistics = Statistics::new_unknown(&self.scan.schema);
        scan_exec(Arc::clone(&self.scan), self.groups.clone(), statistics, projection, limit, options)
    }
}
