//! How a rule rewrites the expressions of a plan's nodes.
//!
//! Which expressions and into what is for the rules to say. The rule here: a rewritten expression keeps its name, so
//! that whoever refers to it still finds it.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Rewrites the expressions of one node, each of which keeps its name.
pub(super) fn rewrite_expressions(
    plan: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let mut named = |expr: Expr| {
        let name = names.save(&expr);
        Ok(rewrite(expr)?.update_data(|expr| name.restore(expr)))
    };
    plan.map_expressions(|expr| match expr {
        // Its members have names; the engine does not know it under one of its own.
        Expr::GroupingSet(_) => expr.map_children(&mut named),
        expr => named(expr),
    })
}

/// The columns that the expressions of a node may name: of its inputs, and of the table that it scans.
pub(super) fn columns_in_sight(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        let table = scan.table_name.clone();
        schema.merge(&DFSchema::try_from_qualified_schema(table, &scan.source.schema())?);
    }
    Ok(schema)
}
