//! The engine's session for one query, and the way from a statement to a physical plan.
//!
//! A process-wide template holds functions and rules; each query gets a copy with the
//! session's settings and its own pinned catalogs, and none outlives it. The rule: this room
//! plans and runs nothing.

mod cast_names;
mod estimate;
mod information_schema;
mod join_order;
mod memory;
mod number;
mod rewrite;
mod rules;
mod write_types;

use std::sync::Arc;

use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProviderList, SchemaProvider};
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use tarn_catalog::ScanOptions;
use tarn_runtime::options::TarnOptions;

pub use estimate::{Estimate, ScanEstimate, estimate};
pub use memory::{MemoryNeed, memory_need};
pub use number::logical_plan;
pub use write_types::to_table_types;

use self::information_schema::InformationSchema;
use self::join_order::JoinOrder;
use crate::error::Result;
use crate::query::QueryId;
use crate::session::Session;

/// The schema that the engine makes of the listed tables.
const INFORMATION_SCHEMA: &str = "information_schema";
/// Bytes that a sort keeps for merging what it may spill. Each partition of each sort takes them from the start,
/// whatever it sorts: the engine's ten megabytes are more than a dashboard's whole query needs.
const SPILL_MERGE_BYTES: usize = 2 << 20;

/// Makes the engine's session of a query. A cheap handle.
#[derive(Clone)]
pub struct Planner {
    template: Arc<SessionState>,
}

impl Planner {
    /// A planner whose plans may run in this process, with its memory and stores.
    pub fn new(env: Arc<RuntimeEnv>) -> Self {
        let builder = SessionStateBuilder::new_with_default_features()
            .with_config(SessionConfig::new())
            .with_runtime_env(env);
        let builder = builder
            .with_expr_planners(expr_planners())
            .with_optimizer_rules(rules::of_optimizer())
            .with_physical_optimizer_rules(rules::of_physical_optimizer());
        let mut template = number::install(builder, rules::of_analyzer()).build();
        tarn_functions::register(&mut template).expect("a session takes every function");
        Self { template: Arc::new(template) }
    }

    /// The engine's session for one query: the session's settings, its pins as the catalogs,
    /// and as many partitions as the cores that will run it.
    pub fn state(
        &self,
        session: &Session,
        query_id: &QueryId,
        catalogs: Arc<dyn CatalogProviderList>,
        partitions: usize,
    ) -> SessionState {
        let config = config(session, query_id, partitions);
        let mut state = SessionStateBuilder::new_from_existing(self.template.as_ref().clone())
            .with_session_id(query_id.to_string())
            .with_config(config)
            .with_catalog_list(catalogs)
            .build();
        // `now()` is one time for the whole query, on every executor.
        state.mark_start_execution();
        state
    }
}

impl Planner {
    /// Whether a statement names `information_schema`, for which every table must be listed.
    pub fn names_information_schema(&self, session: &Session, statement: &Statement) -> Result<bool> {
        let references = self.template.resolve_table_references(statement)?;
        let current = session.schema();
        Ok(references.iter().any(|reference| reference.schema().unwrap_or(&current) == INFORMATION_SCHEMA))
    }

    /// The schema of that name, if it is the one which tells of the others.
    pub fn information_schema(
        &self,
        name: &str,
        catalogs: Arc<dyn CatalogProviderList>,
    ) -> Option<Arc<dyn SchemaProvider>> {
        if name != INFORMATION_SCHEMA {
            return None;
        }
        let functions = self.template.table_functions().clone();
        let provider = InformationSchemaProvider::new(catalogs).with_table_functions(functions);
        Some(Arc::new(InformationSchema(provider)))
    }
}

/// The engine's, and ours first.
fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    let ours: Arc<dyn ExprPlanner> = Arc::new(cast_names::CastNames);
    std::iter::once(ours).chain(SessionStateDefaults::default_expr_planners()).collect()
}

/// A logical plan, analyzed and optimized, with its joins in order.
pub async fn optimize(state: &SessionState, logical: &LogicalPlan) -> Result<LogicalPlan> {
    Ok(join_order::ordered(state, state.optimize(logical)?).await?)
}

/// The undistributed physical plan of an analyzed and optimized plan.
pub async fn physical_plan(state: &SessionState, optimized: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(state.query_planner().create_physical_plan(optimized, state).await?)
}

fn config(session: &Session, query_id: &QueryId, partitions: usize) -> SessionConfig {
    let settings = session.settings();
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions.max(1))
        .with_batch_size(settings.batch_size())
        // Made by `Planner::information_schema`.
        .with_information_schema(false)
        .with_default_catalog_and_schema(session.catalog(), session.schema())
        .with_create_default_catalog_and_schema(false);
    let usual = TarnOptions::default();
    TarnOptions {
        query_id: query_id.to_string(),
        run_id: query_id.to_string(),
        // The pipelined engine cuts finer than the planner, and so it stays when a session asks for less.
        task_bytes: usual.task_bytes.min(2 * settings.split_bytes()),
        range_bytes_min: usual.range_bytes_min.min(settings.split_bytes()),
        memory_bytes: usual.memory_bytes,
        priority: usual.priority,
        analyze: false,
    }
    .apply(&mut config);
    let equality_delete_bytes_max = settings.equality_delete_bytes();
    config.set_extension(Arc::new(ScanOptions { equality_delete_bytes_max }));
    let joins = if settings.joins_as_written() { JoinOrder::Written } else { JoinOrder::Auto };
    config.set_extension(Arc::new(joins));
    let options = config.options_mut();
    options.execution.time_zone = Some(settings.timezone().to_string());
    options.execution.parquet.pushdown_filters = settings.pushdown_filters();
    options.execution.parquet.reorder_filters = settings.pushdown_filters();
    // Tasks are cut at row groups by the scan's own planning; a byte range cut would open the
    // same footer twice and break the affinity of files to executors.
    options.optimizer.repartition_file_scans = false;
    options.optimizer.repartition_file_min_size = settings.split_bytes() as usize;
    options.optimizer.prefer_hash_join = true;
    options.execution.sort_spill_reservation_bytes = SPILL_MERGE_BYTES;
    options.sql_parser.collect_spans = true;
    config
}
