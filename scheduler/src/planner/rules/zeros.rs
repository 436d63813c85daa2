//! Both zeros of a float in a list: `x IN (0.0, …)` finds -0.0, as `x = 0.0` does.
//!
//! The engine compares with a long list by the bits of the numbers, in which the zeros differ; all its other
//! comparisons hold them equal. So a list that has one zero gets the other.

use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub(super) struct Zeros;

impl AnalyzerRule for Zeros {
    fn name(&self) -> &str {
        "both_zeros_in_lists"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| Ok(both_zeros(expr)))?.update_data(|expr| name.restore(expr)))
            })
        });
        Ok(rewritten?.data)
    }
}

fn both_zeros(expr: Expr) -> Transformed<Expr> {
    let Expr::InList(InList { expr, mut list, negated }) = expr else { return Transformed::no(expr) };
    let other = list.iter().find_map(|member| match member {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if *value == 0.0 => Some(lit(-value)),
        Expr::Literal(ScalarValue::Float32(Some(value)), _) if *value == 0.0 => Some(lit(-value)),
        _ => None,
    });
    let found = other.is_some();
    list.extend(other);
    Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), found)
}
