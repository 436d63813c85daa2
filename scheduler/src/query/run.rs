//! The way of a query, top to bottom.
//!
//! ```text
//! submit: statement -> bind -> optimize -> physical plan -> estimate and mode   (a SELECT waits here)
//! stream: engine -> spool -> reader                                              (once a SELECT)
//! ```
//!
//! A statement that changes something runs in [`Queries::submit`], once; its count is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast;
use tarn_catalog::Lakehouse;
use tarn_runtime::Runtime;
use tarn_runtime::options::TarnOptions;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use super::answer::Rows;
use super::bind::{Catalogs, Pins};
use super::register::{Entry, Register};
use super::views::Expander;
use super::{QueryId, changes, explain, metadata_columns, parameters, show, spool};
use crate::cluster::{Deliveries, Members};
use crate::engine::choice::{Choice, Facts, choose};
use crate::engine::{Engine, Execution, Mode, pipelined, staged};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;
use crate::planner::{Estimate, Planner, estimate, logical_plan, physical_plan};
use crate::session::Session;
use crate::sql::{self, Statement};

/// The bounds of queries.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest scan, in bytes, that `auto` runs locally.
    pub local_bytes_max: u64,
    /// The spool of each query.
    pub spool: spool::Config,
}

/// The engines by mode.
pub struct Engines {
    /// Runs plans in this process.
    pub local: Arc<dyn Engine>,
    /// Runs plans on the executors, all stages at once.
    pub pipelined: Arc<dyn Engine>,
    /// Runs plans on the executors, stage by stage.
    pub staged: Arc<dyn Engine>,
}

impl Engines {
    fn of(&self, mode: Mode) -> &Arc<dyn Engine> {
        match mode {
            Mode::Local => &self.local,
            Mode::Pipelined => &self.pipelined,
            Mode::Staged => &self.staged,
        }
    }
}

/// What [`Queries`] is made of.
pub struct Parts {
    /// The tables.
    pub lakehouse: Lakehouse,
    /// Cores and memory of this process.
    pub runtime: Runtime,
    /// The executors.
    pub members: Members,
    /// Keys to storage for the executors.
    pub deliveries: Deliveries,
    /// The engines.
    pub engines: Engines,
    /// The bounds.
    pub limits: Limits,
    /// Cancelled when the server takes no new queries.
    pub stopping: CancellationToken,
}

/// Every query of this server. A cheap handle.
#[derive(Clone)]
pub struct Queries {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) lakehouse: Lakehouse,
    pub(super) planner: Planner,
    pub(super) runtime: Runtime,
    pub(super) members: Members,
    pub(super) register: Register,
    deliveries: Deliveries,
    engines: Engines,
    limits: Limits,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// What a statement takes and returns, found without running it.
#[derive(Debug, Clone)]
pub struct Description {
    /// The columns in the engine's types; `None` for a statement that returns a count.
    pub schema: Option<SchemaRef>,
    /// The parameters in order, all nullable; text where nothing tells the type.
    pub parameters: Vec<FieldRef>,
    /// Whether it changes something.
    pub is_update: bool,
}

/// A query that was taken in.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Its id, for [`Queries::stream`].
    pub query_id: QueryId,
    /// The columns in the engine's types. The front door casts to the wire types.
    pub schema: SchemaRef,
    /// Rows affected by a statement that changed something.
    pub rows: Option<i64>,
}

/// What the reader of a query gets.
pub enum Payload {
    /// A plan, to be run once.
    Select(Box<Planned>),
    /// Rows that are ready, and may be read again.
    Rows(Rows),
}

/// A query that was planned.
pub struct Planned {
    /// The undistributed physical plan.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The columns as announced.
    pub schema: SchemaRef,
    /// The configuration it was planned with.
    pub config: SessionConfig,
    /// Where it runs, and why.
    pub choice: Choice,
    /// What it reads.
    pub estimate: Estimate,
    /// Until when it may run.
    pub deadline: Option<Instant>,
}

/// A statement whose names were resolved.
pub(super) struct Bound {
    /// The engine's session of this query.
    pub state: SessionState,
    /// The plan, not analyzed yet.
    pub logical: LogicalPlan,
    /// The tables that it named.
    pub pins: Pins,
}

impl Queries {
    /// No query yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { lakehouse, runtime, members, deliveries, engines, limits, stopping } = parts;
        let planner = Planner::new(runtime.env());
        let (register, tasks) = (Register::default(), TaskTracker::new());
        let inner = Inner {
            lakehouse,
            planner,
            runtime,
            members,
            register,
            deliveries,
            engines,
            limits,
            tasks,
            stopping,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The tables of this server.
    pub fn lakehouse(&self) -> &Lakehouse {
        &self.inner.lakehouse
    }

    /// Every query that lives, and the last ones that ended.
    pub fn register(&self) -> &Register {
        &self.inner.register
    }

    /// Text and types only: pins nothing that outlives the call, runs nothing.
    pub async fn describe(&self, session: &Session, sql: &str) -> Result<Description> {
        let statement = sql::parse(sql)?;
        let (queries, session) = (self.clone(), session.clone());
        self.on_cpu(async move { queries.describe_statement(&session, statement).await }).await
    }

    /// Takes a statement in. A SELECT is planned; anything else runs here, once.
    pub async fn submit(
        &self,
        session: &Session,
        sql: &str,
        parameters: Option<RecordBatch>,
    ) -> Result<Submitted> {
        if self.inner.stopping.is_cancelled() {
            return Err(Error::new(ErrorCode::ShuttingDown, "the server is stopping"));
        }
        self.inner.register.expire();
        let statement = sql::parse(sql)?;
        let entry = self.inner.register.enter(session.principal(), sql)?;
        let span = tracing::info_span!("query", query_id = %entry.id());
        let (queries, session) = (self.clone(), session.clone());
        let running = Arc::clone(&entry);
        // A client that goes away while it waits takes its statement along; a commit that has
        // begun is not undone by it.
        let mut leaving = Leaving(Some(Arc::clone(&entry)));
        let work = async move { queries.take_in(&running, &session, statement, parameters).await };
        let result = self.on_cpu(work.instrument(span)).await;
        leaving.0 = None;
        result.map_err(|error| {
            let error = error.with_query(entry.id());
            tracing::info!(query_id = %entry.id(), code = %error.code(), error = spool::chain(&error), "query failed");
            self.inner.register.end(&entry, Err(error.code()));
            error
        })
    }

    /// The rows of a query: of a SELECT once, of anything else as often as asked.
    pub async fn stream(&self, query_id: &QueryId) -> Result<SendableRecordBatchStream> {
        let entry = self.inner.register.get(query_id);
        let entry = entry.ok_or_else(|| {
            Error::new(ErrorCode::NotFound, "the query is not known any more").with_query(query_id)
        })?;
        match entry.take_payload() {
            Some(Payload::Rows(rows)) => {
                entry.add_rows(rows.batches.iter().map(RecordBatch::num_rows).sum());
                self.inner.register.end(&entry, Ok(()));
                let batches = futures::stream::iter(rows.batches.into_iter().map(Ok));
                Ok(Box::pin(RecordBatchStreamAdapter::new(rows.schema, batches)))
            }
            Some(Payload::Select(planned)) => Ok(self.run(entry, *planned)),
            None => Err(Error::new(ErrorCode::NotFound, "the rows of this query were fetched already")
                .with_query(query_id)),
        }
    }

    /// Runs a statement that changes something and returns the rows affected.
    pub async fn execute_update(
        &self,
        session: &Session,
        sql: &str,
        parameters: Option<RecordBatch>,
    ) -> Result<i64> {
        let submitted = self.submit(session, sql, parameters).await?;
        match submitted.rows {
            Some(rows) => Ok(rows),
            None => {
                // A query sent as an update: it is not run, and not left waiting either.
                self.cancel(&submitted.query_id)?;
                Err(Error::invalid("the statement returns rows, and was sent as an update")
                    .with_query(&submitted.query_id))
            }
        }
    }

    /// Stops a query; an ended one stays ended.
    pub fn cancel(&self, query_id: &QueryId) -> Result<()> {
        let entry = self.inner.register.get(query_id);
        let entry = entry
            .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("query \"{query_id}\" is not known")))?;
        entry.stop(ErrorCode::Cancelled, "the query was cancelled");
        self.inner.register.end(&entry, Err(ErrorCode::Cancelled));
        Ok(())
    }

    /// Waits until the running queries have ended, at most so long; then stops them.
    pub async fn drain(&self, patience: Duration) {
        let began = Instant::now();
        while self.inner.register.busy() > 0 && began.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for query in self.inner.register.list() {
            if let Some(entry) = self.inner.register.get(&query.id) {
                entry.stop(ErrorCode::ShuttingDown, "the server is stopping");
            }
        }
        self.inner.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.inner.tasks.wait()).await;
    }

    async fn describe_statement(&self, session: &Session, statement: Statement) -> Result<Description> {
        let update = Description { schema: None, parameters: Vec::new(), is_update: true };
        match statement {
            Statement::Query(statement) | Statement::Insert { statement, .. } => {
                let is_update = !matches!(*statement, ast::Statement::Query(_));
                let id = QueryId::generate();
                let logical = self.bind(session, &id, *statement).await?.logical;
                let parameters = parameters::fields(&logical)?;
                let schema = (!is_update).then(|| Arc::new(logical.schema().as_arrow().clone()));
                Ok(Description { schema, parameters, is_update })
            }
            Statement::Explain { .. } => {
                Ok(Description { schema: Some(explain::schema()), parameters: Vec::new(), is_update: false })
            }
            Statement::Show(show) => {
                let rows = show::run(self, session, &show).await?;
                Ok(Description { schema: Some(rows.schema), parameters: Vec::new(), is_update: false })
            }
            _ => Ok(update),
        }
    }

    async fn take_in(
        &self,
        entry: &Arc<Entry>,
        session: &Session,
        statement: Statement,
        parameters: Option<RecordBatch>,
    ) -> Result<Submitted> {
        let timeout = session.settings().query_timeout();
        let deadline = timeout.map(|timeout| entry.began() + timeout);
        let work = async {
            match statement {
                Statement::Query(statement) => {
                    self.select(entry, session, *statement, parameters, deadline).await
                }
                Statement::Show(show) => self.ready(entry, show::run(self, session, &show).await?),
                Statement::Explain { analyze, verbose, statement } => {
                    let rows =
                        explain::run(self, entry, session, *statement, parameters, analyze, verbose).await?;
                    self.ready(entry, rows)
                }
                statement => {
                    entry.set_running();
                    let rows = changes::run(self, entry, session, statement, parameters, deadline).await?;
                    self.changed(entry, rows)
                }
            }
        };
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            () = entry.token().cancelled() => Err(entry.stopped()),
            () = late => {
                entry.stop(ErrorCode::Timeout, "the query passed its deadline (setting query_timeout)");
                Err(entry.stopped())
            }
        }
    }

    async fn select(
        &self,
        entry: &Arc<Entry>,
        session: &Session,
        statement: ast::Statement,
        parameters: Option<RecordBatch>,
        deadline: Option<Instant>,
    ) -> Result<Submitted> {
        let Bound { state, logical, .. } = self.bind(session, entry.id(), statement).await?;
        let logical = parameters::replace(logical, parameters.as_ref())?;
        let planned = self.plan(entry, session, state, &logical, deadline).await?;
        let schema = Arc::clone(&planned.schema);
        entry.set_payload(Payload::Select(Box::new(planned)));
        Ok(Submitted { query_id: entry.id().clone(), schema, rows: None })
    }

    /// Steps 1 and 2: names resolved, tables pinned, the plan analyzed.
    pub(super) async fn bind(
        &self,
        session: &Session,
        query_id: &QueryId,
        statement: ast::Statement,
    ) -> Result<Bound> {
        let began = Instant::now();
        let mut statement = EngineStatement::Statement(Box::new(statement));
        let lakehouse = self.inner.lakehouse.clone();
        let expander = Expander {
            planner: self.inner.planner.clone(),
            session: session.clone(),
            query_id: query_id.clone(),
            partitions: self.inner.runtime.cores(),
        };
        let pins = match self.inner.planner.names_information_schema(session, &statement)? {
            true => Pins::listed(lakehouse, session, expander).await?,
            false => Pins::new(lakehouse, session, expander),
        };
        if let EngineStatement::Statement(statement) = &mut statement {
            metadata_columns::expose(statement, session, &pins).await?;
        }
        let catalogs = Arc::new(Catalogs(pins.clone()));
        let state = self.inner.planner.state(session, query_id, catalogs, self.inner.runtime.cores());
        let logical = logical_plan(&state, statement).await?;
        metrics::phase("bind", began.elapsed());
        Ok(Bound { state, logical, pins })
    }

    /// Steps 4 and 6: optimized, planned, estimated, the mode chosen.
    pub(super) async fn plan(
        &self,
        entry: &Arc<Entry>,
        session: &Session,
        state: SessionState,
        logical: &LogicalPlan,
        deadline: Option<Instant>,
    ) -> Result<Planned> {
        let began = Instant::now();
        let only_queries =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries.verify_plan(logical)?;
        let optimized = state.optimize(logical)?;
        let mut plan = physical_plan(&state, &optimized).await?;
        let estimate = estimate(&plan);
        let members = self.inner.members.alive();
        let choice = choose(&Facts {
            asked: session.settings().execution_mode(),
            estimate: &estimate,
            only_local: !can_travel(&plan),
            local_bytes_max: self.inner.limits.local_bytes_max,
            executors: members.len(),
        });
        let widest = members.iter().map(|member| member.cores).max().unwrap_or(1);
        let partitions = match choice.mode {
            Mode::Local => self.inner.runtime.cores(),
            Mode::Pipelined => widest,
            Mode::Staged => members.iter().map(|member| member.cores).sum::<usize>().max(1),
        };
        let mut config = state.config().clone();
        if partitions != config.target_partitions() || choice.mode != Mode::Local {
            config = match choice.mode {
                Mode::Staged => staged::planning(config, partitions),
                Mode::Pipelined => pipelined::planning(config, partitions),
                _ => config.with_target_partitions(partitions),
            };
            let state = datafusion::execution::SessionStateBuilder::new_from_existing(state)
                .with_config(config.clone())
                .build();
            // The optimizer's rules count partitions too, so both steps are taken again.
            let optimized = state.optimize(logical)?;
            plan = physical_plan(&state, &optimized).await?;
        }
        let schema = announced_schema(logical, &plan);
        metrics::phase("plan", began.elapsed());
        metrics::query_planned(choice.mode.as_str());
        entry.set_mode(choice.mode);
        tracing::debug!(query_id = %entry.id(), mode = %choice.mode, reason = choice.reason, bytes = estimate.bytes(), "query planned");
        Ok(Planned { plan, schema, config, choice, estimate, deadline })
    }

    /// Steps 8 and 9: the engine's rows through the spool.
    pub(super) fn run(&self, entry: Arc<Entry>, planned: Planned) -> SendableRecordBatchStream {
        let mode = planned.choice.mode;
        let engine = Arc::clone(self.inner.engines.of(mode));
        let deliveries = self.inner.deliveries.clone();
        let (plan, config, running) = (planned.plan, planned.config, Arc::clone(&entry));
        let start: spool::Start = Box::new(move |attempt| {
            let execution = execution(&running, &plan, &config, attempt);
            let (engine, deliveries) = (Arc::clone(&engine), deliveries.clone());
            Box::pin(async move {
                if mode != Mode::Local {
                    deliveries.complete().await;
                }
                engine.execute(execution?).await
            })
        });
        let limits = self.inner.limits.spool.clone();
        spool::run(
            planned.schema,
            start,
            entry,
            self.inner.register.clone(),
            planned.deadline,
            limits,
            &self.inner.tasks,
        )
    }

    /// Runs a plan without a reader, for changes and `EXPLAIN ANALYZE`.
    pub(super) async fn execute(
        &self,
        entry: &Arc<Entry>,
        mode: Mode,
        plan: &Arc<dyn ExecutionPlan>,
        config: &SessionConfig,
        attempt: usize,
    ) -> Result<SendableRecordBatchStream> {
        entry.set_mode(mode);
        if mode != Mode::Local {
            self.inner.deliveries.complete().await;
        }
        self.inner.engines.of(mode).execute(execution(entry, plan, config, attempt)?).await
    }

    /// Whether a view's query names `information_schema`.
    pub(super) fn names_information_schema(&self, session: &Session, view: &sql::CreateView) -> Result<bool> {
        let query = ast::Statement::Query(view.query.clone());
        let statement = EngineStatement::Statement(Box::new(query));
        self.inner.planner.names_information_schema(session, &statement)
    }

    /// Work that must end even if its client leaves.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    fn ready(&self, entry: &Arc<Entry>, rows: Rows) -> Result<Submitted> {
        let schema = Arc::clone(&rows.schema);
        entry.set_payload(Payload::Rows(rows));
        Ok(Submitted { query_id: entry.id().clone(), schema, rows: None })
    }

    fn changed(&self, entry: &Arc<Entry>, rows: i64) -> Result<Submitted> {
        entry.set_payload(Payload::Rows(Rows::count(rows)));
        self.inner.register.end(entry, Ok(()));
        tracing::info!(query_id = %entry.id(), rows, "change finished");
        Ok(Submitted { query_id: entry.id().clone(), schema: Rows::count_schema(), rows: Some(rows) })
    }

    /// Planning takes more than half a millisecond: it runs beside the request runtime.
    async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match AbortOnDropHandle::new(self.inner.runtime.cpu().spawn(work)).await {
            Ok(result) => result,
            Err(error) => Err(Error::internal("the query's planning did not end").with_source(error)),
        }
    }
}

/// Stops a statement whose client left while it was taken in.
/// Holds nothing once the statement was taken in.
struct Leaving(Option<Arc<Entry>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            entry.stop(ErrorCode::Cancelled, "the client went away");
        }
    }
}

/// One attempt. Each has its own run id and a fresh plan: operators keep state of a run.
fn execution(
    entry: &Entry,
    plan: &Arc<dyn ExecutionPlan>,
    config: &SessionConfig,
    attempt: usize,
) -> Result<Execution> {
    let mut config = config.clone();
    let options = TarnOptions::of(&config);
    TarnOptions { run_id: format!("{}-{attempt}", entry.id()), ..options }.apply(&mut config);
    let plan = datafusion::physical_plan::execution_plan::reset_plan_states(Arc::clone(plan))?;
    Ok(Execution { query_id: entry.id().clone(), plan, config, token: entry.token().child_token() })
}

/// Whether every leaf can be sent to an executor.
fn can_travel(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut all = true;
    let _ = plan.apply(|node| {
        if node.children().is_empty() {
            let in_memory = || {
                let source = node.downcast_ref::<DataSourceExec>();
                source
                    .is_some_and(|source| source.data_source().downcast_ref::<MemorySourceConfig>().is_some())
            };
            all &= node.is::<EmptyExec>()
                || node.is::<PlaceholderRowExec>()
                || in_memory()
                || tarn_scan::scan_of(node).is_some();
        }
        Ok(TreeNodeRecursion::Continue)
    });
    all
}

/// The plan's columns; nullable wherever the logical or the physical plan says so, since the
/// two differ and clients hold a stream to what was announced.
fn announced_schema(logical: &LogicalPlan, plan: &Arc<dyn ExecutionPlan>) -> SchemaRef {
    debug_assert!(plan.output_partitioning().partition_count() > 0, "a plan without partitions has no rows");
    let physical = plan.schema();
    let logical = logical.schema().as_arrow();
    let fields: Vec<Field> = physical
        .fields()
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let announced = logical.fields().get(position);
            let nullable = field.is_nullable() || announced.is_none_or(|field| field.is_nullable());
            let name = announced.map_or(field.name(), |field| field.name());
            Field::new(name, field.data_type().clone(), nullable).with_metadata(field.metadata().clone())
        })
        .collect();
    Arc::new(Schema::new(fields))
}
