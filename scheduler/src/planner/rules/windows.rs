//! A window's rows are sorted by every column that they are partitioned by, also by one that has a single value there.
//!
//! The engine leaves constants and columns that are equal to others out of orders, and finds in the same knowledge that
//! nothing is missing. But the knowledge ends at an exchange between executors: behind one, `rank() OVER (PARTITION BY k, a)`
//! above `WHERE k = 2` failed, since its rows were sorted by `a` alone. So such columns are made opaque below a window.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

use super::constants;

#[derive(Debug)]
pub(super) struct Windows;

impl PhysicalOptimizerRule for Windows {
    fn name(&self) -> &str {
        "constants_that_partition_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sorted = plan.transform_up(|node| {
            let Some((input, columns)) = partitioned_by(&node) else { return Ok(Transformed::no(node)) };
            let known = known(input, columns);
            if known.is_empty() {
                return Ok(Transformed::no(node));
            }
            let input = constants::hide(input, &known, config)?;
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(node.replace_children(vec![input], options)?))
        })?;
        Ok(sorted.data)
    }
}

/// The input of a window, and the columns by which it is partitioned.
fn partitioned_by(node: &Arc<dyn ExecutionPlan>) -> Option<(&Arc<dyn ExecutionPlan>, HashSet<Column>)> {
    let (input, windows) = if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        (window.input(), window.window_expr())
    } else if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        (window.input(), window.window_expr())
    } else {
        return None;
    };
    let columns = windows.iter().flat_map(|window| window.partition_by()).flat_map(collect_columns);
    Some((input, columns.collect()))
}

/// Those of the columns that are constant or equal to another expression.
fn known(input: &Arc<dyn ExecutionPlan>, columns: HashSet<Column>) -> HashSet<Column> {
    let properties = input.equivalence_properties();
    let constants = properties.constants();
    let alike = properties.eq_group().iter().filter(|class| class.len() > 1).flat_map(|class| class.iter());
    let known: HashSet<_> =
        constants.iter().map(|constant| &constant.expr).chain(alike).flat_map(collect_columns).collect();
    columns.into_iter().filter(|column| known.contains(column)).collect()
}
