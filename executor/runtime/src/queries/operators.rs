//! What the operators of a stage counted, added up over its tasks and processes.
//!
//! Only a run that asks for it (`EXPLAIN ANALYZE`) has these. The rule: operators are told apart by their place in the
//! plan and their name; a task that lacks a branch of it adds nothing there.

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use crate::control::messages::{OperatorMetric, OperatorStats, StageStats};

/// Longest text of an operator, in characters: a scan of many files names them all.
const TEXT_MAX: usize = 300;

/// The operators of a plan, each before its inputs, with what they counted. `metrics` are those of all operators that have
/// any, in the same order.
pub fn operators(plan: &dyn ExecutionPlan, metrics: &[MetricsSet]) -> Vec<OperatorStats> {
    let mut found = Vec::new();
    add(plan, &[], &mut metrics.iter(), &mut found);
    found
}

fn add<'a>(
    plan: &dyn ExecutionPlan,
    place: &[u32],
    metrics: &mut impl Iterator<Item = &'a MetricsSet>,
    found: &mut Vec<OperatorStats>,
) {
    let text = DisplayableExecutionPlan::new(plan).one_line().to_string();
    let mut text: String = text.trim().chars().take(TEXT_MAX + 1).collect();
    if text.chars().count() > TEXT_MAX {
        text = text.chars().take(TEXT_MAX).chain(['…']).collect();
    }
    let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok();
    let estimated_rows =
        statistics.and_then(|statistics| statistics.num_rows.get_value().map(|rows| *rows as u64));
    let counted = plan.metrics().and_then(|_| metrics.next()).map(of_set).unwrap_or_default();
    found.push(OperatorStats { place: place.to_vec(), text, estimated_rows, metrics: counted });
    for (number, child) in plan.children().into_iter().enumerate() {
        let place: Vec<u32> = place.iter().copied().chain([number as u32]).collect();
        add(child.as_ref(), &place, metrics, found);
    }
}

fn of_set(set: &MetricsSet) -> Vec<OperatorMetric> {
    let one = |name: &str, value: usize, is_time: bool| OperatorMetric {
        name: name.to_string(),
        value: value as u64,
        is_time,
    };
    let mut found = Vec::new();
    for metric in set.aggregate_by_name().iter() {
        let (name, value) = (metric.value().name(), metric.value());
        match value {
            MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) | MetricValue::Custom { .. } => {}
            MetricValue::ElapsedCompute(_) | MetricValue::Time { .. } => {
                found.push(one(name, value.as_usize(), true));
            }
            MetricValue::PruningMetrics { pruning_metrics, .. } => {
                found.push(one(&format!("{name}_pruned"), pruning_metrics.pruned(), false));
                found.push(one(&format!("{name}_matched"), pruning_metrics.matched(), false));
            }
            MetricValue::Ratio { ratio_metrics, .. } => {
                found.push(one(&format!("{name}_part"), ratio_metrics.part(), false));
                found.push(one(&format!("{name}_total"), ratio_metrics.total(), false));
            }
            _ => found.push(one(name, value.as_usize(), false)),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Adds what tasks of a stage counted to what is known of it.
pub fn merge(known: &mut Vec<StageStats>, stage: &StageStats) {
    let Some(same) = known.iter_mut().find(|same| same.stage == stage.stage) else {
        known.push(stage.clone());
        known.sort_by_key(|stage| stage.stage);
        return;
    };
    same.tasks += stage.tasks;
    for operator in &stage.operators {
        match same.operators.iter_mut().find(|known| is_same(known, operator)) {
            Some(known) => add_up(known, operator),
            None => {
                // Behind those before it, so that each is before its inputs.
                let at = same.operators.partition_point(|known| known.place <= operator.place);
                same.operators.insert(at, operator.clone());
            }
        }
    }
}

/// Whether both are one operator of the plan. Texts of scans differ by the files of a task.
fn is_same(a: &OperatorStats, b: &OperatorStats) -> bool {
    let name = |operator: &OperatorStats| operator.text.split([':', ' ']).next().map(str::to_string);
    a.place == b.place && name(a) == name(b)
}

fn add_up(known: &mut OperatorStats, other: &OperatorStats) {
    known.estimated_rows = known.estimated_rows.max(other.estimated_rows);
    for metric in &other.metrics {
        match known.metrics.iter_mut().find(|same| same.name == metric.name) {
            Some(same) => same.value += metric.value,
            None => known.metrics.push(metric.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    #[tokio::test]
    async fn tasks_of_a_stage_are_added_up_operator_by_operator() {
        let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let mut stages = Vec::new();
        for rows in [10, 5] {
            // A union with an input that counts nothing, before the one that does.
            let sql = format!(
                "select k, count(*) from (select 1 as k where false union all \
                 select value % 3 as k from generate_series(1, {rows})) group by k"
            );
            let plan = ctx.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            collect(std::sync::Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
            // As Ballista gathers them: of those that have any.
            let mut metrics = Vec::new();
            let mut nodes: Vec<&dyn ExecutionPlan> = vec![plan.as_ref()];
            while let Some(node) = nodes.pop() {
                metrics.extend(node.metrics());
                nodes.extend(node.children().into_iter().rev().map(|child| child.as_ref()));
            }
            let operators = operators(plan.as_ref(), &metrics);
            merge(&mut stages, &StageStats { stage: 1, tasks: 1, operators });
        }
        let [stage] = stages.as_slice() else { panic!("one stage") };
        assert_eq!(stage.tasks, 2);
        let rows = |begin: &str| {
            let operator = stage.operators.iter().find(|operator| operator.text.starts_with(begin)).unwrap();
            operator.metrics.iter().find(|metric| metric.name == "output_rows").map(|metric| metric.value)
        };
        assert_eq!(rows("AggregateExec: mode=FinalPartitioned"), Some(6));
        assert_eq!(rows("LazyMemoryExec"), Some(15));
        assert!(stage.operators.is_sorted_by_key(|known| known.place.clone()));
    }

    #[test]
    fn a_branch_that_a_task_lacks_is_kept() {
        let operator = |place: &[u32], text: &str, value| OperatorStats {
            place: place.to_vec(),
            text: text.to_string(),
            estimated_rows: None,
            metrics: vec![OperatorMetric { name: "output_rows".to_string(), value, is_time: false }],
        };
        let stage = |operators| StageStats { stage: 2, tasks: 1, operators };
        let mut known = Vec::new();
        let first = vec![operator(&[], "Union", 1), operator(&[0], "Empty", 0), operator(&[1], "Scan: b", 1)];
        let second =
            vec![operator(&[], "Union", 2), operator(&[0], "Scan: a", 2), operator(&[1], "Empty", 0)];
        merge(&mut known, &stage(first));
        merge(&mut known, &stage(second));
        let told: Vec<_> =
            known[0].operators.iter().map(|known| (&*known.text, known.metrics[0].value)).collect();
        assert_eq!(told, [("Union", 3), ("Empty", 0), ("Scan: a", 2), ("Scan: b", 1), ("Empty", 0)]);
    }
}
