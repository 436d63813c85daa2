//! A column with a single value has another besides once it went through an outer join or through grouping sets: NULL.
//! So does an expression that is equal to a column, and two columns are not equal where a grouping set has one of them.
//!
//! The engine keeps to what it knew, and leaves constants out of orders: after `LEFT JOIN (SELECT … WHERE
//! k = 2) z`, `ORDER BY z.k` did nothing, and `rank() OVER (PARTITION BY z.k …)` counted on over both. So columns
//! of which something is known are made opaque before they become NULL.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
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
        let hidden = plan.transform_up(|node| {
            let mut changed = false;
            let mut children = Vec::new();
            for (place, child) in node.children().into_iter().enumerate() {
                let opaque = match becomes_null(&node, place) {
                    Some(alone) => opaque(child, alone, config)?,
                    None => None,
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

/// Whether columns of that child may be NULL in rows of the node that the child did not give: each alone, or all.
fn becomes_null(node: &Arc<dyn ExecutionPlan>, child: usize) -> Option<Nulls> {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return (!aggregate.group_expr().is_single()).then_some(Nulls::Alone);
    }
    let join_type = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        *join.join_type()
    } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        join.join_type()
    } else {
        return None;
    };
    let together = match join_type {
        JoinType::Left => child == 1,
        JoinType::Right => child == 0,
        JoinType::Full => true,
        _ => false,
    };
    together.then_some(Nulls::Together)
}

/// Which columns become NULL.
#[derive(Clone, Copy, PartialEq)]
enum Nulls {
    /// Some of them: two that were equal are so no more.
    Alone,
    /// All of them, so that equal columns stay equal.
    Together,
}

/// The same rows, of which nothing is known that will not be so; `None` if nothing is.
fn opaque(
    input: &Arc<dyn ExecutionPlan>,
    nulls: Nulls,
    config: &ConfigOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let properties = input.equivalence_properties();
    let mut known = HashSet::new();
    for constant in properties.constants() {
        known.extend(collect_columns(&constant.expr));
    }
    for class in properties.eq_group().iter() {
        if nulls == Nulls::Alone || class.iter().any(|expr| !expr.is::<Column>()) {
            class.iter().for_each(|expr| known.extend(collect_columns(expr)));
        }
    }
    if known.is_empty() {
        return Ok(None);
    }
    hide(input, &known, config).map(Some)
}

/// The same rows, and nothing known of these columns.
pub(super) fn hide(
    input: &Arc<dyn ExecutionPlan>,
    known: &HashSet<Column>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (schema, config) = (input.schema(), Arc::new(config.clone()));
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let column = Column::new(field.name(), place);
        let expr = match known.contains(&column) {
            true => tarn_functions::opaque(Arc::new(column), Arc::clone(field), &config),
            false => Arc::new(column),
        };
        ProjectionExpr::new(expr, field.name())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, Arc::clone(input))?))
}
