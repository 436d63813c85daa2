//! From a bound statement to a plan that is ready to run: optimized, estimated, its mode chosen.
//!
//! A plan is first made for the mode that is asked for, or else for executors; its scans tell what it reads, and from
//! that the mode follows. Another mode has other settings, which the optimizer's rules look at too, so both steps are
//! then taken again, unless they come to the same.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;

use super::entry::over;
use super::register::Entry;
use super::run::Queries;
use crate::admission::Who;
use crate::admission::learned::{Usage, fingerprint};
use crate::admission::queue::Demand;
use crate::engine::choice::{Choice, Facts, choose};
use crate::engine::{Mode, pipelined, staged};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;
use crate::planner::{Estimate, MemoryNeed, estimate, memory_need, optimize, physical_plan};
use crate::session::Session;

/// Bytes of files, and rows, that a core is taken to scan in a second.
const BYTES_A_SECOND: f64 = 150e6;
const ROWS_A_SECOND: f64 = 8e6;
/// How much longer a query takes than its scans, as long as nothing is known of it.
const UNKNOWN_FACTOR: f64 = 3.0;
/// Most rows of a query that counts as a preview.
const PREVIEW_ROWS_MAX: usize = 10_000;
/// Partitions for each core where joins spill: as many run at once as ever, and each holds less.
const SPILLING_PARTITIONS: usize = 4;
/// The part of the memory that operators which can spill are promised, at most.
const SPILLERS_PART: u64 = 10;
/// What one query may have of a process's memory, in percent: what joins that cannot spill may hold in it.
const MEMORY_PERCENT_MAX: u64 = 60;

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
    /// What it asks of admission; `None` if it needs nothing worth asking for.
    pub demand: Option<Demand>,
    /// The plan's text without its literals.
    pub fingerprint: u64,
    /// What a plan that spills is made from, if the mode was not asked for.
    pub again: Option<Box<Again>>,
    /// Until when it may run.
    pub deadline: Option<Instant>,
}

/// What a plan is made from.
#[derive(Clone)]
pub struct Again {
    state: SessionState,
    logical: LogicalPlan,
}

/// A physical plan with the settings that it was made with.
pub(super) type Made = (Arc<dyn ExecutionPlan>, SessionConfig);

impl Queries {
    /// Steps 4 and 6: optimized, planned, estimated, the mode chosen. `statement` is the kind of statement, for pools.
    pub(super) async fn plan(
        &self,
        entry: &Arc<Entry>,
        session: &Session,
        state: SessionState,
        logical: &LogicalPlan,
        statement: &str,
        deadline: Option<Instant>,
    ) -> Result<Planned> {
        let began = Instant::now();
        let only_queries =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries.verify_plan(logical)?;
        let settings = session.settings();
        let (source, pool) = (settings.application_name().to_string(), settings.pool().map(str::to_string));
        let who = Who { user: session.principal(), source: &source, statement, pool: pool.as_deref() };
        let (pool, pool_name) = self.inner.admission.pool(&who)?;
        entry.set_pool(pool_name);
        let asked = settings.execution_mode();
        let first = asked.unwrap_or(match self.inner.members.alive().is_empty() {
            true => Mode::Local,
            false => Mode::Pipelined,
        });
        let (optimized, (mut plan, mut config)) = self.plan_for(&state, logical, first, false).await?;
        let fingerprint = fingerprint(&optimized.display_indent().to_string());
        let (estimate, need) = (estimate(&plan), memory_need(&plan));
        if let Some(limit) = entry.limits().scan_bytes.filter(|limit| estimate.bytes() > *limit) {
            let message = over("scan_bytes_max", estimate.bytes(), limit);
            return Err(Error::new(ErrorCode::LimitExceeded, message)
                .with_hint("narrow the query, for instance by the column that the table is partitioned by"));
        }
        let learned = self.inner.admission.learned().of(fingerprint);
        let choice = self.choose(session, &plan, &estimate, need, statement, learned);
        let fits = match choice.mode {
            // What is small runs here as it would there.
            Mode::Local if first == Mode::Pipelined => !has_scalar_subquery(logical)?,
            mode => mode == first && !choice.spills,
        };
        if !fits {
            (_, (plan, config)) = self.plan_for(&state, logical, choice.mode, choice.spills).await?;
        }
        let schema = announced_schema(logical, &plan);
        let demand = self.demand(pool, session.principal(), &choice, &estimate, need, learned, &plan);
        let again = (asked.is_none() && !estimate.scans.is_empty())
            .then(|| Box::new(Again { state, logical: logical.clone() }));
        metrics::phase("plan", began.elapsed());
        metrics::query_planned(choice.mode.as_str());
        entry.set_mode(choice.mode, &choice.reason);
        entry.set_planned_bytes(estimate.bytes());
        entry.set_fingerprint(fingerprint);
        tracing::debug!(query_id = %entry.id(), mode = %choice.mode, reason = choice.reason, bytes = estimate.bytes(), "query planned");
        Ok(Planned { plan, schema, config, choice, estimate, demand, fingerprint, again, deadline })
    }

    /// The plan for the staged engine, with joins that can spill, of a query that ran out of memory.
    pub(super) async fn plan_spilling(&self, again: &Again) -> Result<Made> {
        Ok(self.plan_for(&again.state, &again.logical, Mode::Staged, true).await?.1)
    }

    /// The plans for a mode, logical and physical, from the optimizer on.
    async fn plan_for(
        &self,
        state: &SessionState,
        logical: &LogicalPlan,
        mode: Mode,
        spills: bool,
    ) -> Result<(LogicalPlan, Made)> {
        let members = self.inner.members.alive();
        let config = state.config().clone();
        let mut config = match mode {
            Mode::Local => config.with_target_partitions(self.inner.runtime.cores()),
            Mode::Pipelined => {
                pipelined::planning(config, members.iter().map(|member| member.cores).max().unwrap_or(1))
            }
            Mode::Staged => {
                staged::planning(config, members.iter().map(|member| member.cores).sum::<usize>().max(1))
            }
        };
        if spills {
            let partitions = config.target_partitions() * SPILLING_PARTITIONS;
            config = config.with_target_partitions(partitions);
            let options = config.options_mut();
            options.optimizer.prefer_hash_join = false;
        }
        let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config.clone()).build();
        let optimized = optimize(&state, logical).await?;
        let plan = physical_plan(&state, &optimized).await?;
        Ok((optimized, (plan, config)))
    }

    fn choose(
        &self,
        session: &Session,
        plan: &Arc<dyn ExecutionPlan>,
        estimate: &Estimate,
        need: MemoryNeed,
        statement: &str,
        learned: Option<Usage>,
    ) -> Choice {
        let members = self.inner.members.alive();
        let smallest = members.iter().map(|member| member.memory_bytes).min().unwrap_or_default();
        let limits = &self.inner.limits;
        choose(&Facts {
            asked: session.settings().execution_mode(),
            scans: estimate.scans.len(),
            bytes: estimate.bytes(),
            only_local: !can_travel(plan),
            preview: is_preview(plan),
            writes: matches!(statement, "insert" | "create"),
            memory_bytes: need.fixed_bytes(members.len()),
            memory_bytes_max: smallest / 100 * MEMORY_PERCENT_MAX,
            local_memory_bytes_max: self.inner.runtime.memory_bytes() / 100 * MEMORY_PERCENT_MAX,
            local_bytes_max: limits.local_bytes_max,
            staged_write_bytes_min: limits.staged_write_bytes_min,
            ran_out: learned.is_some_and(|usage| usage.careful_runs > 0),
            executors: members.len(),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of the demand")]
    fn demand(
        &self,
        pool: usize,
        user: &str,
        choice: &Choice,
        estimate: &Estimate,
        need: MemoryNeed,
        learned: Option<Usage>,
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Option<Demand> {
        if estimate.scans.is_empty() && is_made_of_nothing(plan) {
            return None;
        }
        let admission = &self.inner.admission;
        let bytes_max = admission.bytes_max();
        let members = self.inner.members.alive();
        let (processes, cores) = match choice.mode {
            Mode::Local => (1, self.inner.runtime.cores()),
            _ => (members.len().max(1), members.iter().map(|member| member.cores).sum::<usize>().max(1)),
        };
        // The guess counts only as far as nothing is known.
        let (fixed, spillable) = match learned {
            Some(usage) if usage.memory_bytes > 0 => {
                (usage.fixed_bytes, usage.memory_bytes.saturating_sub(usage.fixed_bytes))
            }
            _ => (need.fixed_bytes(processes).min(bytes_max / 2), need.spillable_bytes(processes)),
        };
        // Some more than last time. Operators that can spill take what there is: beyond a part they borrow.
        let sum = fixed.saturating_add(spillable.min(bytes_max / SPILLERS_PART));
        let bytes = sum.saturating_add(sum / 4);
        let rows: u64 = estimate.scans.iter().map(|scan| scan.rows).sum();
        let scanned = (estimate.bytes() as f64 / BYTES_A_SECOND).max(rows as f64 / ROWS_A_SECOND);
        let known = learned.map(|usage| usage.seconds).filter(|seconds| seconds.is_finite());
        let seconds = known.unwrap_or(match estimate.scans.is_empty() {
            true => f64::from(u32::MAX),
            false => UNKNOWN_FACTOR * scanned / cores as f64,
        });
        let least = admission.express(seconds, known.is_some(), bytes);
        let (bytes_min, express) = (least.unwrap_or(bytes), least.is_some());
        let seconds = seconds.min(3600.0);
        Some(Demand { pool, user: user.to_string(), bytes, bytes_min, seconds, express })
    }
}

/// Whether a subquery stands for a value: only then is a plan for executors another than one for this process, where
/// it is run by itself ([`pipelined::planning`]).
fn has_scalar_subquery(logical: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    logical.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found |= matches!(part, Expr::ScalarSubquery(_));
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(found)
}

/// Whether every leaf can be sent to an executor.
fn can_travel(plan: &Arc<dyn ExecutionPlan>) -> bool {
    leaves(plan, &|node| is_constant(node) || tarn_scan::scan_of(node).is_some())
}

/// Whether a plan reads nothing but constants.
fn is_made_of_nothing(plan: &Arc<dyn ExecutionPlan>) -> bool {
    leaves(plan, &is_constant)
}

fn is_constant(node: &Arc<dyn ExecutionPlan>) -> bool {
    let in_memory = || {
        let source = node.downcast_ref::<DataSourceExec>();
        source.is_some_and(|source| source.data_source().downcast_ref::<MemorySourceConfig>().is_some())
    };
    node.is::<EmptyExec>() || node.is::<PlaceholderRowExec>() || in_memory()
}

fn leaves(plan: &Arc<dyn ExecutionPlan>, are: &dyn Fn(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    let mut all = true;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply(|node| {
        all &= !node.children().is_empty() || are(node);
        Ok(TreeNodeRecursion::Continue)
    });
    all
}

/// Whether a plan takes the first rows of one scan, whichever come: the limit is in the scan.
fn is_preview(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut node = plan;
    loop {
        if let Some(source) = node.downcast_ref::<DataSourceExec>() {
            return tarn_scan::scan_of(node).is_some()
                && source.fetch().is_some_and(|rows| rows <= PREVIEW_ROWS_MAX);
        }
        let passes = node.is::<GlobalLimitExec>()
            || node.is::<LocalLimitExec>()
            || node.is::<ProjectionExec>()
            || node.is::<CoalescePartitionsExec>();
        match node.children().as_slice() {
            [child] if passes => node = *child,
            _ => return false,
        }
    }
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
