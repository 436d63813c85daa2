//! `EXPLAIN`: the plan, where it would run and why, and which files each task would read.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::sql::sqlparser::ast;
use tarn_catalog::PinnedTable;

use super::analyze;
use super::answer::Rows;
use super::bind::Pins;
use super::parameters;
use super::plan::Planned;
use super::register::Entry;
use super::run::{Bound, Queries};
use crate::engine::{Mode, pipelined};
use crate::error::{Error, Result};
use crate::planner::optimize;
use crate::session::Session;
use crate::sql::Statement;

/// Most files listed a task; the rest is counted.
const FILES_LISTED_MAX: usize = 10;

/// The columns of every `EXPLAIN`.
pub(super) fn schema() -> SchemaRef {
    Rows::text(["plan_type", "plan"], Vec::new()).schema
}

pub(super) async fn run(
    queries: &Queries,
    entry: &Arc<Entry>,
    session: &Session,
    statement: Statement,
    parameters: Option<RecordBatch>,
    analyze: bool,
    verbose: bool,
) -> Result<Rows> {
    let query = explained(statement)?;
    let Bound { state, logical, pins } = queries.bind(session, entry.id(), query).await?;
    let logical = match parameters::replace(logical, parameters.as_ref())? {
        LogicalPlan::Dml(insert) => insert.input.as_ref().clone(),
        logical => logical,
    };
    let optimized = optimize(&state, &logical).await?;
    let planned = queries.plan(entry, session, state, &logical, "explain", None).await?;
    let mut rows = vec![
        line("mode", format!("{} ({})", planned.choice.mode, planned.choice.reason)),
        line("admission", admission(queries, &planned)),
        line("logical_plan", optimized.display_indent().to_string()),
        line(
            "physical_plan",
            DisplayableExecutionPlan::new(planned.plan.as_ref())
                .indent(verbose)
                .to_string()
                .trim_end()
                .to_string(),
        ),
    ];
    rows.extend(scans(&planned, &pins).await?);
    rows.extend(tasks(queries, &planned));
    if analyze {
        rows.push(line("analyzed_plan", analyze::analyzed(queries, entry, planned, verbose).await?));
    }
    Ok(Rows::text(["plan_type", "plan"], rows))
}

/// What the query would ask for before it runs.
fn admission(queries: &Queries, planned: &Planned) -> String {
    let Some(demand) = &planned.demand else { return "none: reads nothing".to_string() };
    let pools = queries.inner.admission.pools();
    let pool = pools.get(demand.pool).map_or("", |pool| pool.config.name.as_str());
    let lane = if demand.express { ", express lane" } else { "" };
    format!(
        "pool {pool}{lane}; {} bytes of memory in each process, {:.3} s expected",
        demand.bytes, demand.seconds
    )
}

fn explained(statement: Statement) -> Result<ast::Statement> {
    match statement {
        Statement::Query(query) => Ok(*query),
        Statement::Insert { statement, .. } => Ok(*statement),
        Statement::CreateTable(create) => match create.query {
            Some(query) => Ok(ast::Statement::Query(query)),
            None => Err(Error::not_supported("EXPLAIN of a CREATE TABLE without a query")),
        },
        _ => Err(Error::not_supported("EXPLAIN of this statement")),
    }
}

fn line(kind: &str, text: String) -> [Option<String>; 2] {
    [Some(kind.to_string()), Some(text)]
}

/// What each scan reads, and what was pruned before.
async fn scans(planned: &Planned, pins: &Pins) -> Result<Vec<[Option<String>; 2]>> {
    let pinned = pins.pinned();
    let mut lines = Vec::new();
    for scan in &planned.estimate.scans {
        let same = |table: &&PinnedTable| {
            table.name().to_string() == scan.table && table.snapshot_id() == scan.snapshot_id
        };
        let Some(table) = pinned.iter().find(same) else { continue };
        let all = table.plan_files(&[]).await?;
        let text = format!(
            "{}: {} of {} files, {} of {} bytes planned, {} files pruned; snapshot {}",
            scan.table,
            scan.files,
            all.files_total,
            scan.bytes,
            all.bytes_total,
            all.files_total.saturating_sub(scan.files),
            scan.snapshot_id.map_or("none".to_string(), |id| id.to_string()),
        );
        lines.push(line("scan", text));
    }
    Ok(lines)
}

/// Task, files, executor: as the pipelined engine would place them.
fn tasks(queries: &Queries, planned: &Planned) -> Vec<[Option<String>; 2]> {
    let mut lines = Vec::new();
    for (table, files, place) in placement(queries, planned) {
        let mut names: Vec<_> = files.iter().take(FILES_LISTED_MAX).map(|uri| short(uri)).collect();
        if files.len() > FILES_LISTED_MAX {
            names.push(format!("… {} more", files.len() - FILES_LISTED_MAX));
        }
        lines.push(line("task", format!("{table}: {} -> {place}", names.join(", "))));
    }
    lines
}

fn placement(queries: &Queries, planned: &Planned) -> Vec<(String, Vec<String>, String)> {
    let members = queries.inner.members.alive();
    let mut placed = Vec::new();
    let _ = planned.plan.apply(|node| {
        if let Some(view) = tarn_scan::scan_of(node) {
            match planned.choice.mode {
                Mode::Pipelined => {
                    for (files, executor) in pipelined::placement(node, &members) {
                        placed.push((view.scan.table.clone(), files, executor));
                    }
                }
                mode => {
                    let place = if mode == Mode::Local { "scheduler" } else { "any executor" };
                    for group in &view.groups {
                        let files = group.iter().map(|task| task.uri.clone()).collect();
                        placed.push((view.scan.table.clone(), files, place.to_string()));
                    }
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    placed
}

/// The last two parts of a file's URI: its partition and its name.
fn short(uri: &str) -> String {
    let parts: Vec<_> = uri.rsplitn(3, '/').take(2).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}
