//! The pipelined engine, as the scheduler sees it: a plan goes to a root executor, rows come back.
//!
//! The scheduler scans nothing. It picks the root by affinity, sends the undistributed plan with the list of
//! live executors, and relays the rows. An executor in this very process gets the plan as it is. The rule: whatever
//! ends a run before its last row, all executors that took part are told, and one that does not answer is suspect.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use datafusion_proto::bytes::physical_plan_to_bytes_with_proto_converter;
use datafusion_proto::physical_plan::{DeduplicatingProtoConverter, DefaultPhysicalExtensionCodec};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::Worker;
use tarn_runtime::control::{ControlClient, Failure, MESSAGE_BYTES_MAX, Run, RunPlan, code};
use tarn_runtime::options::TarnOptions;
use tarn_runtime::placement::{self, File};
use tarn_scan::{FileTask, scan_of};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{Engine, Execution, Mode};
use crate::cluster::{Member, Members, affinity};
use crate::error::{Error, ErrorCode, Result};
use crate::query::QueryId;

/// Longest wait for a first executor; a query's own timeout is usually shorter.
const EXECUTOR_WAIT_MAX: Duration = Duration::from_secs(300);
/// Time for an executor to be told of the end of a run, or to answer whether it lives.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Partitions that a plan has at least: with one, no exchange is planned and nothing can be spread.
const PARTITIONS_MIN: usize = 2;

/// The pipelined engine. A cheap handle.
#[derive(Clone)]
pub struct Pipelined {
    inner: Arc<Inner>,
}

struct Inner {
    members: Members,
    runtime: Runtime,
    /// Connections by address. Held for a look or an insertion, never while connecting.
    clients: Mutex<HashMap<String, ControlClient>>,
    /// Messages to executors about the end of runs.
    tasks: TaskTracker,
}

/// The settings that a plan for this engine must be made with, from the optimizer on. `cores` are those of one
/// executor.
pub fn planning(config: SessionConfig, cores: usize) -> SessionConfig {
    let mut config = config.with_target_partitions(cores.max(PARTITIONS_MIN));
    // A subquery inside an expression would run in every task, out of sight of the engine.
    config.options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config
}

/// The tasks that a scan would be split into now: the files of each, and its executor.
pub fn placement(plan: &Arc<dyn ExecutionPlan>, members: &[Member]) -> Vec<(Vec<String>, String)> {
    let Some(view) = scan_of(plan) else { return Vec::new() };
    let tasks: Vec<&FileTask> = view.groups.iter().flatten().collect();
    let files: Vec<File<'_>> = tasks.iter().map(|task| File { uri: &task.uri, bytes: range(task) }).collect();
    let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
    if ids.is_empty() {
        return vec![(tasks.iter().map(|task| task.uri.clone()).collect(), "no executor".to_string())];
    }
    let options = TarnOptions::default();
    let bytes = tasks.iter().map(|task| length(task)).sum();
    let count = placement::tasks(bytes, options.task_bytes, ids.len());
    let partitions = plan.output_partitioning().partition_count();
    let table = view.scan.table_uuid.to_string();
    placement::split(&table, &files, count, partitions, &ids, options.range_bytes_min)
        .into_iter()
        .map(|share| {
            let name = |piece: &placement::Piece| match &piece.range {
                Some(range) => format!("{}[{}..{}]", files[piece.file].uri, range.start, range.end),
                None => files[piece.file].uri.to_string(),
            };
            (share.groups.iter().flatten().map(name).collect(), ids[share.member].to_string())
        })
        .collect()
}

impl Pipelined {
    /// An engine over the cluster's members; `runtime` is this process's.
    pub fn new(members: Members, runtime: Runtime) -> Self {
        Self {
            inner: Arc::new(Inner { members, runtime, clients: Mutex::default(), tasks: TaskTracker::new() }),
        }
    }

    /// Waits until executors were told of the end of their runs; when the server stops.
    pub async fn join(&self) {
        self.inner.tasks.close();
        if tokio::time::timeout(TELL_TIMEOUT, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("some executors were not told of the end of a run");
        }
    }

    async fn start(&self, execution: Execution) -> Result<SendableRecordBatchStream> {
        let Execution { query_id, plan, config, token } = execution;
        let members = self.members(&query_id).await?;
        let files = files(&plan);
        let files: Vec<(&str, u64)> = files.iter().map(|(uri, bytes)| (uri.as_str(), *bytes)).collect();
        let root = affinity::root(&files, query_id.as_str(), &members)
            .map(|root| members[root].clone())
            .ok_or_else(|| Error::new(ErrorCode::NoExecutors, "no executor is alive"))?;
        tracing::debug!(%query_id, root = root.id, executors = members.len(), "run sent");
        let options = TarnOptions::of(&config);
        let run_id = match options.run_id.is_empty() {
            true => query_id.to_string(),
            false => options.run_id,
        };
        let schema = plan.schema();
        let end = End {
            inner: Arc::clone(&self.inner),
            run_id: run_id.clone(),
            members: members.clone(),
            complete: false,
        };
        let runner = self.inner.runtime.runner(root.flight_url.as_str());
        let plan = match runner {
            Some(_) => RunPlan::Ready(plan),
            None => RunPlan::Encoded(self.encode(plan).await?),
        };
        let workers =
            members.iter().map(|member| Worker { id: member.id.clone(), url: member.flight_url.to_string() });
        let run = Run { query_id: query_id.to_string(), run_id, plan, config, workers: workers.collect() };
        let started = match runner {
            Some(runner) => runner.run(run).await,
            None => self.inner.run(&root, &run, &schema).await,
        };
        match started {
            Ok(rows) => Ok(Box::pin(Relay {
                schema,
                rows: Some(rows),
                cancelled: Box::pin(token.cancelled_owned()),
                probe: None,
                end: Some(end),
            })),
            Err(failure) => {
                if failure.code() == code::EXECUTOR_LOST {
                    self.inner.probe(&members).await;
                }
                Err(error(failure).with_query(&query_id))
            }
        }
    }

    /// The live members, as soon as there is one.
    async fn members(&self, query_id: &QueryId) -> Result<Vec<Member>> {
        let members = self.inner.members.alive();
        if !members.is_empty() {
            return Ok(members);
        }
        tracing::info!(%query_id, "query waits for an executor");
        self.inner.members.wait_for_one(EXECUTOR_WAIT_MAX).await?;
        Ok(self.inner.members.alive())
    }

    async fn encode(&self, plan: Arc<dyn ExecutionPlan>) -> Result<bytes::Bytes> {
        let encoding = self.inner.runtime.cpu().spawn(async move {
            let codec = tarn_scan::Codec::new(Arc::new(DefaultPhysicalExtensionCodec {}));
            physical_plan_to_bytes_with_proto_converter(plan, &codec, &DeduplicatingProtoConverter::default())
        });
        let bytes = AbortOnDropHandle::new(encoding)
            .await
            .map_err(|error| Error::internal("the plan could not be encoded").with_source(error))??;
        // Some room for the settings and the workers beside it.
        match bytes.len() < MESSAGE_BYTES_MAX / 2 {
            true => Ok(bytes),
            false => Err(Error::new(
                ErrorCode::LimitExceeded,
                format!("the plan is too large to be sent: {} bytes", bytes.len()),
            )
            .with_hint("narrow the query to fewer files")),
        }
    }
}

#[async_trait]
impl Engine for Pipelined {
    fn mode(&self) -> Mode {
        Mode::Pipelined
    }

    async fn execute(&self, execution: Execution) -> Result<SendableRecordBatchStream> {
        let token = execution.token.clone();
        // A start that is dropped in the middle tells the executors, as a stream would.
        tokio::select! {
            biased;
            () = token.cancelled() => Err(error(Failure::cancelled())),
            started = self.start(execution) => started,
        }
    }
}

impl Inner {
    async fn run(
        &self,
        root: &Member,
        run: &Run,
        schema: &SchemaRef,
    ) -> Result<SendableRecordBatchStream, Failure> {
        let client = self.client(root).await?;
        let started = client.run(run, Arc::clone(schema)).await;
        if started.as_ref().is_err_and(|failure| failure.code() == code::EXECUTOR_LOST) {
            self.clients.lock().remove(root.flight_url.as_str());
        }
        started
    }

    async fn client(&self, member: &Member) -> Result<ControlClient, Failure> {
        let url = member.flight_url.as_str();
        if let Some(client) = self.clients.lock().get(url) {
            return Ok(client.clone());
        }
        let peer = url.trim_end_matches('/').to_string();
        let connecting = self.runtime.io().spawn(async move { ControlClient::connect(&peer).await });
        let client = AbortOnDropHandle::new(connecting)
            .await
            .map_err(|error| Failure::internal(error.to_string()))?
            .map_err(|error| Failure::executor_lost(error.to_string()))?;
        let mut clients = self.clients.lock();
        // Connections to executors that have gone are dropped when a new one is made.
        let known: Vec<String> =
            self.members.all().into_iter().map(|(m, _)| m.flight_url.to_string()).collect();
        clients.retain(|url, _| known.contains(url));
        clients.insert(url.to_string(), client.clone());
        Ok(client)
    }

    /// Asks each member whether it lives; one that does not answer gets no work until it is heard again.
    async fn probe(&self, members: &[Member]) {
        let ask = |member: Member| async move {
            if self.runtime.runner(member.flight_url.as_str()).is_some() {
                return;
            }
            let answer =
                tokio::time::timeout(PROBE_TIMEOUT, async { self.client(&member).await?.ping().await });
            if !matches!(answer.await, Ok(Ok(_))) {
                self.clients.lock().remove(member.flight_url.as_str());
                self.members.suspect(&member.id);
            }
        };
        futures::future::join_all(members.iter().cloned().map(ask)).await;
    }

    async fn cancel(&self, member: &Member, run_id: &str) -> Result<(), Failure> {
        match self.runtime.runner(member.flight_url.as_str()) {
            Some(runner) => runner.cancel(run_id).await,
            None => self.client(member).await?.cancel(run_id).await?,
        };
        Ok(())
    }
}

/// The rows of a run on their way through the scheduler.
struct Relay {
    schema: SchemaRef,
    rows: Option<SendableRecordBatchStream>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// After an executor was lost: finding out which, and then the error.
    probe: Option<BoxFuture<'static, DataFusionError>>,
    end: Option<End>,
}

impl Stream for Relay {
    type Item = EngineResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(probe) = this.probe.as_mut() {
            let error = std::task::ready!(probe.poll_unpin(cx));
            this.probe = None;
            this.end = None;
            return Poll::Ready(Some(Err(error)));
        }
        let Some(rows) = this.rows.as_mut() else { return Poll::Ready(None) };
        if this.cancelled.as_mut().poll(cx).is_ready() {
            (this.rows, this.end) = (None, None);
            return Poll::Ready(Some(Err(error(Failure::cancelled()).into_datafusion())));
        }
        match std::task::ready!(rows.poll_next_unpin(cx)) {
            Some(Ok(batch)) => Poll::Ready(Some(Ok(batch))),
            Some(Err(failed)) => {
                this.rows = None;
                let failure = Failure::find(&failed);
                let lost = failure.as_ref().is_some_and(|failure| failure.code() == code::EXECUTOR_LOST);
                let failed = failure.map_or(failed, |failure| error(failure).into_datafusion());
                let Some(end) = this.end.as_ref().filter(|_| lost) else {
                    this.end = None;
                    return Poll::Ready(Some(Err(failed)));
                };
                let (inner, members) = (Arc::clone(&end.inner), end.members.clone());
                this.probe = Some(Box::pin(async move {
                    inner.probe(&members).await;
                    failed
                }));
                self.poll_next(cx)
            }
            None => {
                this.rows = None;
                if let Some(end) = this.end.as_mut() {
                    end.complete = true;
                }
                this.end = None;
                Poll::Ready(None)
            }
        }
    }
}

impl RecordBatchStream for Relay {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Dropped when a run has ended; unless it was complete, every executor that took part is told.
struct End {
    inner: Arc<Inner>,
    run_id: String,
    members: Vec<Member>,
    complete: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        for member in std::mem::take(&mut self.members) {
            let (inner, run_id) = (Arc::clone(&self.inner), self.run_id.clone());
            let tell = async move {
                let told = tokio::time::timeout(TELL_TIMEOUT, inner.cancel(&member, &run_id)).await;
                if !matches!(told, Ok(Ok(()))) {
                    tracing::debug!(
                        run_id,
                        executor = member.id,
                        "an executor was not told of the end of a run"
                    );
                }
            };
            self.inner.tasks.spawn_on(tell, self.inner.runtime.io());
        }
    }
}

/// A failure as the scheduler's error.
fn error(failure: Failure) -> Error {
    let code = ErrorCode::parse(failure.code()).unwrap_or(ErrorCode::Internal);
    let error = Error::new(code, failure.message());
    match code {
        ErrorCode::ExecutorLost => error.with_hint("run the query again"),
        _ => error,
    }
}

/// URI and bytes of every file of the plan.
fn files(plan: &Arc<dyn ExecutionPlan>) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    let visited = plan.apply(|node| {
        if let Some(view) = scan_of(node) {
            files.extend(view.groups.iter().flatten().map(|task| (task.uri.clone(), length(task))));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "looking at a plan does not fail");
    files
}

fn range(task: &FileTask) -> std::ops::Range<u64> {
    task.range.clone().unwrap_or(0..task.size_bytes)
}

fn length(task: &FileTask) -> u64 {
    let range = range(task);
    range.end.saturating_sub(range.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::State;
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::TryStreamExt;
    use tarn_runtime::control::Runner;
    use tarn_runtime::control::messages::{CredentialsRequest, PingReply};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;
    use url::Url;

    #[tokio::test]
    async fn complete_run_tells_nobody() {
        let mut cluster = cluster(Answer::Rows(3));
        let rows = cluster.execute(CancellationToken::new()).await.unwrap();
        let batches: Vec<_> = rows.try_collect().await.unwrap();
        assert_eq!(batches.len(), 3);
        assert!(cluster.cancels.try_recv().is_err());
    }

    #[tokio::test]
    async fn dropped_stream_cancels_the_run() {
        let mut cluster = cluster(Answer::Forever);
        let mut rows = cluster.execute(CancellationToken::new()).await.unwrap();
        rows.next().await.unwrap().unwrap();
        drop(rows);
        assert_eq!(cluster.cancels.recv().await.as_deref(), Some("run-1"));
    }

    #[tokio::test]
    async fn cancelled_token_ends_the_stream_and_the_run() {
        let mut cluster = cluster(Answer::Forever);
        let token = CancellationToken::new();
        let mut rows = cluster.execute(token.clone()).await.unwrap();
        rows.next().await.unwrap().unwrap();
        token.cancel();
        let error = Error::from(rows.next().await.unwrap().unwrap_err());
        assert_eq!(error.code(), ErrorCode::Cancelled);
        assert!(rows.next().await.is_none());
        assert_eq!(cluster.cancels.recv().await.as_deref(), Some("run-1"));
    }

    #[tokio::test]
    async fn lost_executor_is_retryable_and_whoever_is_silent_suspect() {
        let mut cluster = cluster(Answer::Lost);
        cluster.members.join(member("gone", 9));
        let mut rows = cluster.execute(CancellationToken::new()).await.unwrap();
        let error = Error::from(rows.next().await.unwrap().unwrap_err());
        assert_eq!(error.code(), ErrorCode::ExecutorLost);
        assert!(error.code().is_retryable());
        assert_eq!(cluster.members.alive().len(), 1);
        assert_eq!(cluster.cancels.recv().await.as_deref(), Some("run-1"));
    }

    #[tokio::test]
    async fn unreachable_root_is_retryable_and_suspect() {
        let cluster = cluster(Answer::Rows(1));
        cluster.members.leave("here");
        cluster.members.join(member("gone", 9));
        let error = cluster.execute(CancellationToken::new()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::ExecutorLost);
        assert!(cluster.members.alive().is_empty());
    }

    #[derive(Clone, Copy)]
    enum Answer {
        Rows(usize),
        Forever,
        Lost,
    }

    /// An executor in this process that answers as told.
    struct Fake {
        answer: Answer,
        cancels: mpsc::UnboundedSender<String>,
    }

    #[async_trait]
    impl Runner for Fake {
        async fn run(&self, run: Run) -> Result<SendableRecordBatchStream, Failure> {
            let batch = batch();
            let schema = batch.schema();
            assert_eq!(run.run_id, "run-1");
            let rows: Pin<Box<dyn Stream<Item = EngineResult<RecordBatch>> + Send>> = match self.answer {
                Answer::Rows(count) => Box::pin(futures::stream::iter(vec![batch; count]).map(Ok)),
                Answer::Forever => {
                    Box::pin(futures::stream::once(async { Ok(batch) }).chain(futures::stream::pending()))
                }
                Answer::Lost => Box::pin(futures::stream::once(async {
                    Err(Failure::executor_lost("gone").into_datafusion())
                })),
            };
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
        }

        async fn take_credentials(&self, _: CredentialsRequest) -> Result<(), Failure> {
            Ok(())
        }

        async fn cancel(&self, run_id: &str) -> bool {
            self.cancels.send(run_id.to_string()).is_ok()
        }

        async fn drain(&self) {}

        async fn ping(&self) -> PingReply {
            PingReply::default()
        }
    }

    struct Cluster {
        engine: Pipelined,
        members: Members,
        cancels: mpsc::UnboundedReceiver<String>,
    }

    impl Cluster {
        async fn execute(&self, token: CancellationToken) -> Result<SendableRecordBatchStream> {
            let mut config = SessionConfig::new();
            TarnOptions { run_id: "run-1".to_string(), ..Default::default() }.apply(&mut config);
            let plan = Arc::new(EmptyExec::new(batch().schema()));
            // A query whose root is the executor in this process, if that is a member.
            let members = self.members.alive();
            let is_here =
                |id: &QueryId| members.len() < 2 || affinity::root(&[], id.as_str(), &members) == Some(1);
            let query_id = std::iter::repeat_with(QueryId::generate).find(is_here).unwrap();
            self.engine.execute(Execution { query_id, plan, config, token }).await
        }
    }

    fn cluster(answer: Answer) -> Cluster {
        let spill_dir = std::env::temp_dir().join(format!("tarn-engine-{}", uuid::Uuid::new_v4()));
        let config =
            tarn_runtime::Config { spill_dir, cpu_threads: 1, memory_bytes: 1 << 20, ..Default::default() };
        let runtime = Runtime::new(config).unwrap();
        let (sender, cancels) = mpsc::unbounded_channel();
        let here = member("here", 1);
        // Whoever is chosen as the root is this one, unless it has left.
        runtime.set_runner(here.flight_url.to_string(), Arc::new(Fake { answer, cancels: sender }));
        let members = Members::new(Default::default());
        members.join(here);
        Cluster { engine: Pipelined::new(members.clone(), runtime), members, cancels }
    }

    fn batch() -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap()
    }

    fn member(id: &str, port: u16) -> Member {
        Member {
            id: id.to_string(),
            host: "127.0.0.1".to_string(),
            flight_url: Url::parse(&format!("http://127.0.0.1:{port}")).unwrap(),
            task_addr: ("127.0.0.1".to_string(), port),
            http: None,
            cores: 1,
            memory_bytes: 1,
            version: String::new(),
            state: State::Alive,
        }
    }
}
