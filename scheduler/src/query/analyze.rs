//! `EXPLAIN ANALYZE`: the plan is run, and shown with what its operators counted in all executors.
//!
//! Locally and pipelined the engine gathers that itself. Of a staged run each executor adds up what its tasks counted and
//! tells it with its signs of life, so the answer comes a moment after the end. The rule: estimates stand beside what
//! was counted.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use futures::StreamExt;
use tarn_runtime::control::messages::{OperatorMetric, RunStats, StageStats};
use tarn_runtime::options::TarnOptions;
use tarn_runtime::queries::merge;
use tokio::time::Instant;

use super::explain;
use super::plan::Planned;
use super::register::Entry;
use super::run::Queries;
use crate::engine::Mode;
use crate::error::Result;

/// How long executors may take to tell that their work has ended.
const TOLD_MAX: Duration = Duration::from_secs(5);
/// Between two looks at what they told.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the plan and returns it with what its operators counted.
pub(super) async fn analyzed(
    queries: &Queries,
    entry: &Arc<Entry>,
    planned: Planned,
    verbose: bool,
) -> Result<String> {
    if planned.choice.mode == Mode::Staged {
        return staged(queries, entry, planned).await;
    }
    let plan: Arc<dyn ExecutionPlan> = planned.plan;
    let plan: Arc<dyn ExecutionPlan> =
        Arc::new(AnalyzeExec::builder(verbose, true, plan, explain::schema()).build());
    let (mode, config) = (planned.choice.mode, &planned.config);
    let mut stream = queries.execute(entry, mode, &plan, config, planned.demand, None, 1).await?;
    let mut text = String::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let column = cast(batch.column(batch.num_columns() - 1), &DataType::Utf8)?;
        text.extend(column.as_string::<i32>().iter().flatten());
    }
    Ok(with_estimates(text.trim_end()))
}

async fn staged(queries: &Queries, entry: &Arc<Entry>, planned: Planned) -> Result<String> {
    let mut config = planned.config.clone();
    TarnOptions { analyze: true, ..TarnOptions::of(&config) }.apply(&mut config);
    let mut stream =
        queries.execute(entry, Mode::Staged, &planned.plan, &config, planned.demand, None, 1).await?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    drop(stream);
    let ended = Instant::now();
    // One sign of life of each executor, which it may have just given, and the next.
    tokio::time::sleep(Duration::from_millis(2 * queries.inner.members.config().heartbeat_ms)).await;
    loop {
        let last = last_run(entry.usage().values());
        if last.iter().all(|stats| !stats.active) || ended.elapsed() > TOLD_MAX {
            let mut stages = Vec::new();
            last.iter().flat_map(|stats| &stats.stages).for_each(|stage| merge(&mut stages, stage));
            return Ok(shown(&stages));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was told of the last run: one before it lost an executor, and its rows do not count.
fn last_run<'a>(told: impl Iterator<Item = &'a RunStats> + Clone) -> Vec<RunStats> {
    let number =
        |stats: &RunStats| stats.run_id.rsplit_once('.').and_then(|(_, number)| number.parse::<u32>().ok());
    let last = told.clone().map(number).max().flatten();
    told.filter(|stats| number(stats) == last).cloned().collect()
}

/// The stages, the last one first, as the plan reads.
fn shown(stages: &[StageStats]) -> String {
    let mut text = String::new();
    for stage in stages.iter().rev() {
        let _ = writeln!(text, "stage {} ({} tasks)", stage.stage, stage.tasks);
        for operator in &stage.operators {
            let indent = "  ".repeat(operator.place.len() + 1);
            let estimated = operator.estimated_rows.map_or("unknown".to_string(), |rows| rows.to_string());
            let metrics: Vec<String> = operator.metrics.iter().map(metric).collect();
            let _ = writeln!(
                text,
                "{indent}{}, metrics=[{}], estimated_rows={estimated}",
                operator.text,
                metrics.join(", ")
            );
        }
    }
    text.trim_end().to_string()
}

fn metric(metric: &OperatorMetric) -> String {
    match metric.is_time {
        true => format!("{}={:?}", metric.name, Duration::from_nanos(metric.value)),
        false => format!("{}={}", metric.name, metric.value),
    }
}

/// The engine's text with, of each operator's statistics, the rows alone that it was planned for: they stand beside
/// those that it had, and the bounds of each column would hide both.
fn with_estimates(text: &str) -> String {
    let mut lines = text.lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.next() {
        let Some((operator, statistics)) = line.split_once(", statistics=[") else {
            seen.push(line.to_string());
            continue;
        };
        // A bound may be a text of several lines.
        let mut last = line;
        while !last.ends_with("]]") {
            let Some(next) = lines.next() else { break };
            last = next;
        }
        let rows = statistics.strip_prefix("Rows=").and_then(|rest| rest.split_once(','));
        let count: String = rows.map_or("", |(rows, _)| rows).chars().filter(char::is_ascii_digit).collect();
        let count = if count.is_empty() { "unknown" } else { &count };
        seen.push(format!("{operator}, estimated_rows={count}"));
    }
    seen.join("\n")
}

#[cfg(test)]
mod tests {
    use tarn_runtime::control::messages::OperatorStats;

    use super::*;

    #[test]
    fn stages_are_shown_from_the_last_to_the_first() {
        let metric = |name: &str, value, is_time| OperatorMetric { name: name.to_string(), value, is_time };
        let operator = |place: &[u32], text: &str, estimated_rows| OperatorStats {
            place: place.to_vec(),
            text: text.to_string(),
            estimated_rows,
            metrics: vec![metric("elapsed_compute", 1_500, true), metric("output_rows", 3, false)],
        };
        let stage = |stage, operators| StageStats { stage, tasks: 2, operators };
        let stages = [
            stage(1, vec![operator(&[], "DataSourceExec: t", None)]),
            stage(2, vec![operator(&[], "SortExec", Some(7)), operator(&[0], "ShuffleReaderExec", None)]),
        ];
        let counted = "metrics=[elapsed_compute=1.5µs, output_rows=3]";
        let expected = format!(
            "stage 2 (2 tasks)\n  SortExec, {counted}, estimated_rows=7\n    \
             ShuffleReaderExec, {counted}, estimated_rows=unknown\n\
             stage 1 (2 tasks)\n  DataSourceExec: t, {counted}, estimated_rows=unknown"
        );
        assert_eq!(shown(&stages), expected);
    }

    #[test]
    fn estimates_stand_beside_what_was_counted() {
        let text = "FilterExec: s = a, metrics=[output_rows=3], statistics=[Rows=Inexact(20), Bytes=Absent, \
            [(Col[0]: Min=Exact(Utf8(\"x\ny\")) Max=Absent)]]\n  \
            DataSourceExec: metrics=[output_rows=9], statistics=[Rows=Absent, Bytes=Absent, [(Col[0]:)]]";
        let expected = "FilterExec: s = a, metrics=[output_rows=3], estimated_rows=20\n  \
            DataSourceExec: metrics=[output_rows=9], estimated_rows=unknown";
        assert_eq!(with_estimates(text), expected);
    }
}
