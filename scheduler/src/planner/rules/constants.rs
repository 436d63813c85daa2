//! A column with a single value has another besides once it went through an outer join or through grouping sets: NULL.
//!
//! The engine keeps to it that the column is constant, and leaves it out of orders: after `LEFT JOIN (SELECT … WHERE
//! k = 2) z`, `ORDER BY z.k` did nothing, and `rank() OVER (PARTITION BY z.k …)` counted on over both. So what is
//! constant below is made opaque before it becomes NULL.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

#[derive(Debug)]
pub(super) struct Constants;

impl PhysicalOptimizerRule for Constants {
    fn name(&self) -> &str {
        "constants_that_become_null"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = Arc::new(config.clone());
        let hidden = plan.transform_up(|node| {
            let mut changed = false;
            let mut children = Vec::new();
            for (place, child) in node.children().into_iter().enumerate() {
                let opaque = match becomes_null(&node, place) {
                    true => without_constants(child, &config)?,
                    false => None,
                };
                changed |= opaque.is_some();
                children.push(opaque.unwrap_or_else(|| Arc::clone(child)));
            }
            match changed {
                true => node
                    .replace_children(
                        children,
                        ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
                    )
                    .map(Transformed::yes),
                false => Ok(Transformed::no(node)),
            }
        })?;
        Ok(hidden.data)
    }
}

/// Whether columns of that child may be NULL in rows of the node that the child did not give.
fn becomes_null(node: &Arc<dyn ExecutionPlan>, child: usize) -> bool {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return !aggregate.group_expr().is_single();
    }
    let join_type = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        join.join_type()
    } else {
        return false;
    };
    match join_type {
        JoinType::Left => child == 1,
        JoinType::Right => child == 0,
        JoinType::Full => true,
        _ => false,
    }
}

/// The same rows, of which it is not known that a column is constant; `None` if none is.
fn without_constants(
    input: &Arc<dyn ExecutionPlan>,
    config: &Arc<ConfigOptions>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let properties = input.equivalence_properties();
    let schema = input.schema();
    let mut found = false;
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
        let expr = match properties.is_expr_constant(&column) {
            Some(_) => {
                found = true;
                tarn_functions::opaque(column, Arc::clone(field), config)
            }
            None => column,
        };
        ProjectionExpr::new(expr, field.name())
    });
    let columns: Vec<_> = columns.collect();
    match found {
        true => Ok(Some(Arc::new(ProjectionExec::try_new(columns, Arc::clone(input))?))),
        false => Ok(None),
    }
}
