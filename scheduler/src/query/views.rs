//! Views: expanded where they are named, over the pins of their query; and made.
//!
//! A view's query is planned with the view's own catalog and schema for bare names, and with the
//! settings of whoever asks. The rules: what a view gives is what it was made to give, by name and
//! type, or an error; a view that names itself, at any distance, is an error, too.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast;
use tarn_catalog::{CreateMode, NewView, TableName, View};

use super::bind::{Catalogs, Pins, resolve};
use super::changes::cast_to;
use super::parameters;
use super::run::{Bound, Queries};
use super::{QueryId, System};
use crate::error::{Error, Result};
use crate::planner::{Planner, logical_plan, to_table_types};
use crate::session::Session;
use crate::sql::{self, CreateView, Statement};

/// Views inside views.
const DEPTH_MAX: usize = 32;

/// What the query of a view is planned with. A cheap handle.
#[derive(Clone)]
pub(super) struct Expander {
    pub(super) planner: Planner,
    pub(super) session: Session,
    pub(super) query_id: QueryId,
    pub(super) partitions: usize,
    pub(super) system: System,
}

impl Pins {
    /// A view as the engine sees it: its query, planned.
    pub(super) async fn expand(&self, view: &View) -> Result<Arc<dyn TableProvider>> {
        let name = view.name();
        if self.views.contains(name) {
            return Err(Error::invalid(format!("view \"{name}\" refers to itself")));
        }
        if self.views.len() >= DEPTH_MAX {
            return Err(Error::invalid(format!("view \"{name}\" is inside more than {DEPTH_MAX} views")));
        }
        let definition = view.definition()?;
        let unreadable = |reason: &str| Error::invalid(format!("view \"{name}\" cannot be read: {reason}"));
        let statement = match sql::parse(&definition.sql) {
            Ok(Statement::Query(statement)) => statement,
            Ok(_) => return Err(unreadable("it is no query")),
            Err(error) => return Err(unreadable(error.message())),
        };
        let Expander { planner, session, query_id, partitions, .. } = &self.inner.expander;
        let catalog = definition.default_catalog.as_deref().unwrap_or(&name.catalog);
        let session =
            Session::new(session.principal(), catalog, &definition.default_schema, session.settings());
        let statement = EngineStatement::Statement(statement);
        if planner.names_information_schema(&session, &statement)? {
            return Err(Error::not_supported("information_schema in a view"));
        }
        let views = self.views.iter().chain([name]).cloned().collect();
        let pins = Self { inner: Arc::clone(&self.inner), views };
        let state = planner.state(&session, query_id, Arc::new(Catalogs(pins)), *partitions);
        let plan = logical_plan(&state, statement).await?;
        view.check_columns(&to_table_types(plan.schema().as_arrow())?)?;
        let plan = cast_to(plan, view.schema())?;
        Ok(Arc::new(ViewTable::new(plan, Some(definition.sql))))
    }
}

/// Makes a view, or puts another query in its place.
pub(super) async fn create(
    queries: &Queries,
    query_id: &QueryId,
    session: &Session,
    create: CreateView,
) -> Result<()> {
    let name = resolve(session, &create.name);
    let mode = match (create.or_replace, create.if_not_exists) {
        (true, _) => CreateMode::OrReplace,
        (_, true) => CreateMode::IfNotExists,
        _ => CreateMode::Create,
    };
    let statement = ast::Statement::Query(create.query.clone());
    let Bound { logical, pins, .. } = queries.bind(session, query_id, statement).await?;
    if !parameters::fields(&logical)?.is_empty() {
        return Err(Error::not_supported("a parameter in a view"));
    }
    if queries.names_information_schema(session, &create)? {
        return Err(Error::not_supported("information_schema in a view"));
    }
    // Seen now, and not when the view is first read.
    if pins.has_view(&name) {
        return Err(Error::invalid(format!("view \"{name}\" refers to itself")));
    }
    let schema = named_columns(&create, &to_table_types(logical.schema().as_arrow())?)?;
    let default_catalog = Some(session.catalog()).filter(|catalog| *catalog != name.catalog);
    let new = NewView {
        schema,
        sql: create.sql,
        default_catalog,
        default_schema: session.schema(),
        properties: create.properties,
    };
    Ok(queries.lakehouse().create_view(&name, &new, mode).await?)
}

/// The columns of a view: those of its query, under the names that the statement gives.
fn named_columns(create: &CreateView, given: &Schema) -> Result<Schema> {
    if !create.columns.is_empty() && create.columns.len() != given.fields().len() {
        let (named, columns) = (create.columns.len(), given.fields().len());
        return Err(Error::invalid(format!("{named} columns are named, the query gives {columns}")));
    }
    let mut fields = Vec::with_capacity(given.fields().len());
    for (position, field) in given.fields().iter().enumerate() {
        let mut field = field.as_ref().clone().with_nullable(true);
        if let Some((name, comment)) = create.columns.get(position) {
            let comment = comment.iter().map(|comment| ("comment".to_string(), comment.clone()));
            field = field.with_name(name).with_metadata(comment.collect());
        }
        if fields.iter().any(|other: &Field| other.name() == field.name()) {
            return Err(Error::invalid(format!("column \"{}\" is in the view twice", field.name()))
                .with_hint("name the columns: CREATE VIEW v (a, b) AS …"));
        }
        fields.push(field);
    }
    Ok(Schema::new(fields))
}

impl Pins {
    /// Whether a view was named, however deep.
    pub(super) fn has_view(&self, name: &TableName) -> bool {
        self.known_views().contains_key(name)
    }
}
