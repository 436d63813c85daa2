//! The least of one column and the greatest of another are both looked for in all rows.
//!
//! An aggregate of nothing but MIN and MAX tells its scan which values it can still use, and whole files are left out
//! by that. The engine forgets those that are not of a plain column, and those that have seen no value yet: then rows
//! that they needed were missing, in `min(a), max(b + 1)` or where `b` is NULL in the first file, and only when files
//! came in a certain order. So such an aggregate tells its scan nothing, unless it is about a single column.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

use super::namesakes::PUSHDOWN;

/// One of the engine's rules that push filters down, without those of such aggregates.
#[derive(Debug)]
pub(super) struct Reserved(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl Reserved {
    /// The rule, which is reserved if it pushes filters down.
    pub(super) fn if_needed(
        rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
    ) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
        match rule.name().starts_with(PUSHDOWN) {
            true => Arc::new(Self(rule)),
            false => rule,
        }
    }
}

impl PhysicalOptimizerRule for Reserved {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut all_are_right = true;
        plan.apply(|node| {
            let aggregate = node.downcast_ref::<AggregateExec>();
            all_are_right &= aggregate.is_none_or(|aggregate| {
                aggregate.dynamic_expressions_produced().is_empty() || is_of_one_column(aggregate)
            });
            Ok(TreeNodeRecursion::Continue)
        })?;
        if all_are_right {
            return self.0.optimize(plan, config);
        }
        let mut config = config.clone();
        config.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        self.0.optimize(plan, &config)
    }
}

/// Whether all that it looks for is in the same rows of the same column.
fn is_of_one_column(aggregate: &AggregateExec) -> bool {
    let mut columns = aggregate.aggr_expr().iter().map(|function| match function.expressions().as_slice() {
        [argument] => argument.downcast_ref::<Column>().map(Column::index),
        _ => None,
    });
    let first = columns.next().flatten();
    first.is_some()
        && columns.all(|column| column == first)
        && aggregate.filter_expr().iter().all(Option::is_none)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

    #[tokio::test]
    async fn only_an_aggregate_of_one_column_tells_its_scan_what_it_can_use() {
        let folder = tempfile::tempdir().unwrap();
        let config = SessionConfig::new().with_target_partitions(2).with_collect_statistics(false);
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_physical_optimizer_rules(super::super::of_physical_optimizer())
            .build();
        let ctx = SessionContext::new_with_state(state);
        for file in ["1.parquet", "2.parquet"] {
            let path = folder.path().join(file).display().to_string();
            let rows = "select * from (values (1, 2), (3, 4)) as t(a, b)";
            ctx.sql(rows).await.unwrap().write_parquet(&path, Default::default(), None).await.unwrap();
        }
        let path = format!("{}/", folder.path().display());
        ctx.register_parquet("t", path, ParquetReadOptions::default()).await.unwrap();
        for (sql, expected) in [
            ("select min(a), max(a) from t", true),
            ("select min(a) from t", true),
            ("select min(a), max(b) from t", false),
            ("select min(a), max(a + 1) from t", false),
            ("select min(a) filter (where b > 1), max(a) from t", false),
            ("select min(a), count(*) from t", false),
        ] {
            let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let text = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(text.contains("DynamicFilter"), expected, "{sql}\n{text}");
        }
    }
}
