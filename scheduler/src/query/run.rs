//! The way of a query, top to bottom.
//!
//! ```text
//! submit: statement -> bind -> plan (plan.rs): optimized, physical plan, estimate, mode   (a SELECT waits here)
//! stream: attempt (attempt.rs): permit, engine -> spool -> reader                         (once a SELECT)
//! ```
//!
//! A statement that changes something runs in [`Queries::submit`], once; its count is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast;
use tarn_catalog::Lakehouse;
use tarn_runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use super::answer::Rows;
use super::bind::{Catalogs, Pins};
use super::history::History;
use super::plan::Planned;
use super::register::{Entry, Register};
use super::views::Expander;
use super::{QueryId, System, changes, explain, metadata_columns, parameters, show, spool};
use crate::admission::{Admission, Who};
use crate::cluster::{Deliveries, Members};
use crate::engine::{Engine, Mode};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;
use crate::planner::{Planner, logical_plan};
use crate::session::Session;
use crate::sql::{self, Statement};

/// Between two looks at the books.
const BOOKS: Duration = Duration::from_secs(1);
/// What the scheduler's own work is listed under in `system.tasks`.
const SCHEDULER: &str = "scheduler";

/// The bounds of queries.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest scan, in bytes, that `auto` runs locally.
    pub local_bytes_max: u64,
    /// Smallest scan, in bytes, that `auto` writes a table from in stages.
    pub staged_write_bytes_min: u64,
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
    pub(super) fn of(&self, mode: Mode) -> &Arc<dyn Engine> {
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
    /// Who may run.
    pub admission: Admission,
    /// What was before.
    pub history: History,
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
    pub(super) admission: Admission,
    pub(super) deliveries: Deliveries,
    pub(super) engines: Engines,
    pub(super) limits: Limits,
    pub(super) tasks: TaskTracker,
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
        let Parts { lakehouse, runtime, members, admission, history, deliveries, engines, limits, stopping } =
            parts;
        let planner = Planner::new(runtime.env());
        let (register, tasks) = (Register::new(history), TaskTracker::new());
        let heard = register.clone();
        members.listen(move |executor, runs| heard.heard(executor, runs));
        let inner = Inner {
            lakehouse,
            planner,
            runtime,
            members,
            register,
            admission,
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

    /// What the tables of the schema `system` are made of.
    fn system(&self) -> System {
        System {
            register: self.inner.register.clone(),
            admission: self.inner.admission.clone(),
            members: self.inner.members.clone(),
        }
    }

    /// The pools.
    pub fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    /// Changes a setting of a session. Whether there is a pool of the name only admission knows.
    pub fn set(&self, session: &Session, name: &str, value: &str) -> Result<()> {
        if name.eq_ignore_ascii_case("pool") && !value.trim().is_empty() {
            let pool = Some(value.trim());
            self.inner.admission.pool(&Who { user: "", source: "", statement: "", pool })?;
        }
        session.set(name, value)
    }

    /// Keeps the books until `stopping`: what this process did for queries, what plans used, the history.
    pub async fn keep_books(&self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(BOOKS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                _ = ticks.tick() => {}
            }
            // With an executor in this process, that one says it.
            if !self.inner.runtime.has_runner() {
                self.inner.register.heard(SCHEDULER, &self.inner.runtime.queries().stats());
            }
            self.learn(false).await;
        }
        self.learn(true).await;
    }

    async fn learn(&self, at_once: bool) {
        let register = self.inner.register.clone();
        let written = tokio::task::spawn_blocking(move || register.write_history(at_once)).await;
        for (fingerprint, bytes, fixed) in written.unwrap_or_default() {
            self.inner.admission.learned().held(fingerprint, bytes, fixed);
        }
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
        let limits = session.settings().limits();
        let entry = self.inner.register.enter_with(session.principal(), sql, limits)?;
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
            entry.set_error(&error);
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
        let planned = self.plan(entry, session, state, &logical, "select", deadline).await?;
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
            system: self.system(),
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
