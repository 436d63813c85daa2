//! Statements that change something: DDL, `INSERT`, `CREATE TABLE AS`, settings, `KILL`.
//!
//! Executors write files; this room gathers what they wrote and the catalog commits it, once.
//! The rule: whatever fails before the commit leaves no row and no file behind.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{Array, BinaryArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::logical_expr::{
    DdlStatement, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp, dml::InsertOp,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{Expr, SessionConfig};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{self, ColumnOption};
use futures::StreamExt;
use tarn_catalog::{Append, CreateMode, NewPartitionField, NewTable, TableName};
use tarn_scan::write::{WriteExec, WrittenFile};

use super::attempt::RAN_OUT;
use super::bind::resolve;
use super::plan::{Again, Planned};
use super::register::Entry;
use super::run::{Bound, Queries};
use super::{parameters, views};
use crate::admission::queue::Demand;
use crate::engine::Mode;
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;
use crate::planner::to_table_types;
use crate::session::Session;
use crate::sql::{CreateTable, ObjectName, Statement};

/// Most data files that one statement may write.
const FILES_MAX: usize = 100_000;
/// Below so many planned bytes an INSERT writes one file a partition value, not one a core.
const ONE_WRITER_BYTES_MAX: u64 = 16 << 20;

/// Runs the statement; returns the rows affected, 0 where there are none.
pub(super) async fn run(
    queries: &Queries,
    entry: &Arc<Entry>,
    session: &Session,
    statement: Statement,
    parameters: Option<RecordBatch>,
    deadline: Option<Instant>,
) -> Result<i64> {
    let lakehouse = queries.lakehouse();
    match statement {
        Statement::Insert { table, statement } => {
            insert(queries, entry, session, &table, *statement, parameters, deadline).await
        }
        Statement::CreateTable(table) => create_table(queries, entry, session, *table, deadline).await,
        Statement::DropTable(drop) => {
            let name = resolve(session, &drop.name);
            lakehouse.drop_table(&name, drop.if_exists, drop.purge).await?;
            Ok(0)
        }
        Statement::CreateView(create) => {
            views::create(queries, entry.id(), session, *create).await?;
            Ok(0)
        }
        Statement::DropView(drop) => {
            lakehouse.drop_view(&resolve(session, &drop.name), drop.if_exists).await?;
            Ok(0)
        }
        Statement::CreateSchema { name, if_not_exists } => {
            let (catalog, schema) = schema_name(session, &name);
            lakehouse.create_schema(&catalog, &schema, if_not_exists).await?;
            Ok(0)
        }
        Statement::DropSchema { name, if_exists } => {
            let (catalog, schema) = schema_name(session, &name);
            lakehouse.drop_schema(&catalog, &schema, if_exists).await?;
            Ok(0)
        }
        Statement::Use(name) => use_schema(queries, session, &name).await,
        Statement::Set { name, value } => queries.set(session, &name, &value).map(|()| 0),
        Statement::Reset(Some(name)) => session.reset(&name).map(|()| 0),
        Statement::Reset(None) => {
            session.reset_all();
            Ok(0)
        }
        Statement::Kill(id) => kill(queries, &id),
        Statement::Query(_) | Statement::Show(_) | Statement::Explain { .. } => {
            Err(Error::internal("a statement that returns rows is not a change"))
        }
    }
}

fn kill(queries: &Queries, id: &str) -> Result<i64> {
    let unknown = || {
        Error::new(ErrorCode::NotFound, format!("query \"{id}\" is not known"))
            .with_hint("SHOW QUERIES lists them")
    };
    let id = super::QueryId::parse(id).ok_or_else(unknown)?;
    let entry = queries.register().get(&id).ok_or_else(unknown)?;
    entry.stop(ErrorCode::Cancelled, "the query was ended by KILL QUERY");
    queries.register().end(&entry, Err(ErrorCode::Cancelled));
    Ok(0)
}

fn schema_name(session: &Session, name: &ObjectName) -> (String, String) {
    let catalog = name.qualifiers().first().cloned().unwrap_or_else(|| session.catalog());
    (catalog, name.last().to_string())
}

async fn use_schema(queries: &Queries, session: &Session, name: &ObjectName) -> Result<i64> {
    let (catalog, schema) = schema_name(session, name);
    let lakehouse = queries.lakehouse();
    if schema == "information_schema" || lakehouse.schema_exists(&catalog, &schema).await? {
        session.set_catalog(&catalog);
        session.set_schema(&schema);
        return Ok(0);
    }
    if name.qualifiers().is_empty() && lakehouse.catalogs().contains(&schema) {
        session.set_catalog(&schema);
        return Ok(0);
    }
    Err(Error::new(ErrorCode::NotFound, format!("schema \"{catalog}.{schema}\" not found"))
        .with_hint("SHOW SCHEMAS lists them"))
}

async fn create_table(
    queries: &Queries,
    entry: &Arc<Entry>,
    session: &Session,
    create: CreateTable,
    deadline: Option<Instant>,
) -> Result<i64> {
    let name = resolve(session, &create.name);
    let mode = match (create.or_replace, create.if_not_exists) {
        (true, _) => CreateMode::OrReplace,
        (_, true) => CreateMode::IfNotExists,
        _ => CreateMode::Create,
    };
    let partition = create.partition.iter().map(|field| NewPartitionField {
        column: field.column.clone(),
        transform: field.transform,
        name: None,
    });
    let table = |schema| NewTable {
        schema,
        partition: partition.collect(),
        properties: create.properties.clone(),
        location: create.location.clone(),
    };
    let Some(query) = create.query else {
        let schema = defined_columns(queries, session, entry, &create.columns).await?;
        queries.lakehouse().create_table(&name, table(schema), mode).await?;
        return Ok(0);
    };
    if mode == CreateMode::IfNotExists && exists(queries, &name).await? {
        return Ok(0);
    }
    let Bound { state, logical, .. } =
        queries.bind(session, entry.id(), ast::Statement::Query(query)).await?;
    // As in other engines, the columns of a query are optional: that none is NULL now is no promise.
    let schema = to_table_types(&optional(logical.schema().as_arrow()))?;
    let logical = cast_to(logical, &schema)?;
    let planned = queries.plan(entry, session, state, &logical, "create", deadline).await?;
    let append = queries.lakehouse().begin_create(&name, table(schema), mode, entry.id().as_str()).await?;
    write(queries, entry, planned, append).await
}

fn optional(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(fields.collect::<Vec<_>>())
}

async fn exists(queries: &Queries, name: &TableName) -> Result<bool> {
    match queries.lakehouse().pin(name, None).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == tarn_catalog::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The columns of a definition list, by the engine's own reading of SQL types.
async fn defined_columns(
    queries: &Queries,
    session: &Session,
    entry: &Arc<Entry>,
    columns: &[ast::ColumnDef],
) -> Result<Schema> {
    for column in columns {
        for option in &column.options {
            if !matches!(option.option, ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Comment(_))
            {
                return Err(Error::not_supported(format!(
                    "option {} of column \"{}\"",
                    option.option, column.name
                )));
            }
        }
    }
    let name = ast::ObjectName::from(vec![ast::Ident::new("t")]);
    let plain: Vec<_> = columns.iter().cloned().map(plain_definition).collect();
    let statement = ast::helpers::stmt_create_table::CreateTableBuilder::new(name).columns(plain).build();
    // No catalog is behind this: the name does not exist yet, and is not the real one either.
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    let state = queries.inner.planner.state(session, entry.id(), catalogs, 1);
    let statement = EngineStatement::Statement(Box::new(ast::Statement::CreateTable(statement)));
    let plan = state.statement_to_plan(statement).await?;
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) = plan else {
        return Err(Error::internal("column definitions did not become a table"));
    };
    let schema = to_table_types(table.input.schema().as_arrow())?;
    let fields = schema.fields().iter().zip(columns).map(|(field, column)| {
        let comment = column.options.iter().find_map(|option| match &option.option {
            ColumnOption::Comment(comment) => Some(comment.clone()),
            _ => None,
        });
        let metadata = comment.map(|comment| ("comment".to_string(), comment)).into_iter().collect();
        field.as_ref().clone().with_metadata(metadata)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// A definition as the engine's planner takes it: comments are ours, and so is one type's name.
fn plain_definition(mut column: ast::ColumnDef) -> ast::ColumnDef {
    if matches!(column.data_type, ast::DataType::Varbinary(_) | ast::DataType::Binary(_)) {
        column.data_type = ast::DataType::Bytea;
    }
    column.options.retain(|option| !matches!(option.option, ColumnOption::Comment(_)));
    column
}

async fn insert(
    queries: &Queries,
    entry: &Arc<Entry>,
    session: &Session,
    table: &ObjectName,
    statement: ast::Statement,
    parameters: Option<RecordBatch>,
    deadline: Option<Instant>,
) -> Result<i64> {
    let name = resolve(session, table);
    let Bound { state, logical, pins } = queries.bind(session, entry.id(), statement).await?;
    let logical = parameters::replace(logical, parameters.as_ref())?;
    let LogicalPlan::Dml(insert) = logical else {
        return Err(Error::internal("an INSERT did not become one"));
    };
    if !matches!(insert.op, WriteOp::Insert(InsertOp::Append)) {
        return Err(Error::not_supported(format!("write operation {}", insert.op)));
    }
    let pinned = pins.pin(&name.catalog, &name.schema, &name.table).await?;
    let logical = cast_to(insert.input.as_ref().clone(), pinned.schema().as_ref())?;
    let planned = queries.plan(entry, session, state, &logical, "insert", deadline).await?;
    let append = queries.lakehouse().begin_append(&pinned, entry.id().as_str()).await?;
    write(queries, entry, planned, append).await
}

/// The plan with its columns, by position, cast to those of a table.
pub(super) fn cast_to(plan: LogicalPlan, schema: &Schema) -> Result<LogicalPlan> {
    if plan.schema().fields().len() != schema.fields().len() {
        let (given, wanted) = (plan.schema().fields().len(), schema.fields().len());
        return Err(Error::invalid(format!("the table has {wanted} columns, {given} values are given")));
    }
    let mut columns: Vec<Expr> = Vec::with_capacity(schema.fields().len());
    for (position, field) in schema.fields().iter().enumerate() {
        let (qualifier, source) = plan.schema().qualified_field(position);
        let column = Expr::Column((qualifier, source).into());
        let column = match source.data_type() == field.data_type() {
            true => column,
            false => column.cast_to(field.data_type(), plan.schema()).map_err(|error| {
                let message = format!(
                    "column \"{}\" has type {}, the value given has type {}",
                    field.name(),
                    field.data_type(),
                    source.data_type()
                );
                Error::invalid(message).with_source(error)
            })?,
        };
        columns.push(column.alias(field.name()));
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// Runs a plan under a writer and commits what it wrote.
async fn write(queries: &Queries, entry: &Arc<Entry>, planned: Planned, append: Append) -> Result<i64> {
    let mode = planned.choice.mode;
    let mut input = planned.plan;
    let small = planned.estimate.bytes() <= ONE_WRITER_BYTES_MAX && mode == Mode::Local;
    if small && input.output_partitioning().partition_count() > 1 {
        input = Arc::new(CoalescePartitionsExec::new(input));
    }
    let plan: Arc<dyn ExecutionPlan> = Arc::new(WriteExec::new(input, Arc::clone(&append.spec))?);
    let fingerprint = planned.fingerprint;
    let run = (&plan, &planned.config, planned.demand.clone());
    let mut gathered = gather(queries, entry, mode, run, fingerprint, 1).await;
    let ran_out = gathered.as_ref().is_err_and(|error| error.code() == ErrorCode::OutOfMemory);
    let again = planned.again.as_deref().filter(|_| ran_out);
    if let Some(again) = again {
        tracing::warn!(query_id = %entry.id(), "write ran out of memory, running again");
        metrics::query_retried();
        queries.inner.admission.learned().ran_out(fingerprint);
        // What it had written is no part of the table. Its tasks are over, and delete what they were at.
        append.discard().await;
        gathered = gather_spilling(queries, entry, again, planned.demand, fingerprint, &append).await;
    }
    let files = match gathered {
        Ok(files) => files,
        Err(error) => {
            // The files of this query go, whoever wrote them; the reader gets the first error.
            queries.tasks().spawn(append.abort());
            return Err(error);
        }
    };
    if entry.token().is_cancelled() {
        queries.tasks().spawn(append.abort());
        return Err(entry.stopped());
    }
    // From here on the client's leaving does not matter: a commit is not broken off.
    let began = Instant::now();
    let commit = queries.tasks().spawn(async move { append.commit(files).await });
    let committed = match commit.await {
        Ok(committed) => committed?,
        Err(error) => {
            return Err(Error::new(ErrorCode::CommitUnknown, "the commit did not end").with_source(error));
        }
    };
    metrics::phase("commit", began.elapsed());
    Ok(i64::try_from(committed.rows).unwrap_or(i64::MAX))
}

/// Runs the write once more, so that it can spill.
async fn gather_spilling(
    queries: &Queries,
    entry: &Arc<Entry>,
    again: &Again,
    demand: Option<Demand>,
    fingerprint: u64,
    append: &Append,
) -> Result<Vec<WrittenFile>> {
    let (input, config) = queries.plan_spilling(again).await?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(WriteExec::new(input, Arc::clone(&append.spec))?);
    let demand = demand.map(|demand| queries.spilling_demand(demand, 2));
    entry.set_mode(Mode::Staged, RAN_OUT);
    gather(queries, entry, Mode::Staged, (&plan, &config, demand), fingerprint, 2).await
}

async fn gather(
    queries: &Queries,
    entry: &Arc<Entry>,
    mode: Mode,
    (plan, config, demand): (&Arc<dyn ExecutionPlan>, &SessionConfig, Option<Demand>),
    fingerprint: u64,
    attempt: usize,
) -> Result<Vec<WrittenFile>> {
    let mut stream = queries.execute(entry, mode, plan, config, demand, Some(fingerprint), attempt).await?;
    let mut files = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let encoded = cast(batch.column(0), &DataType::Binary)?;
        let encoded = encoded.as_any().downcast_ref::<BinaryArray>();
        let encoded = encoded.ok_or_else(|| Error::internal("a writer's answer is not binary"))?;
        for row in 0..encoded.len() {
            files.push(WrittenFile::decode(encoded.value(row))?);
        }
        if files.len() > FILES_MAX {
            return Err(Error::new(
                ErrorCode::LimitExceeded,
                format!("the statement writes more than {FILES_MAX} files"),
            ));
        }
    }
    Ok(files)
}
