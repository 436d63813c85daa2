//! Aggregates of a column and of its cast, side by side.
//!
//! The engine calls both `sum(x)` and refuses a query that has two columns of one name, whatever the query calls them:
//! `SELECT sum(x) AS a, sum(CAST(x AS DOUBLE)) AS b`. So an argument with a cast gets a name that tells of it.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::{Cast, Expr, TryCast};

use super::number::is_mark;

/// The function that says by which columns a row is grouped.
const GROUPING: &str = "grouping";

#[derive(Debug)]
pub(super) struct CastNames;

impl ExprPlanner for CastNames {
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        // Its argument has to be as it stands in GROUP BY.
        if expr.func.name() == GROUPING {
            return Ok(PlannerResult::Original(expr));
        }
        let args = expr.args.into_iter().map(named).collect::<Result<_>>()?;
        Ok(PlannerResult::Original(RawAggregateExpr { args, ..expr }))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let args = expr.args.into_iter().map(named).collect::<Result<_>>()?;
        Ok(PlannerResult::Original(RawWindowExpr { args, ..expr }))
    }
}

/// The argument under the name that it would have if a cast were part of names.
fn named(arg: Expr) -> Result<Expr> {
    let casts = arg.clone().transform_up(|expr| {
        let data_type = match &expr {
            Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) if !is_mark(&expr) => {
                field.data_type()
            }
            _ => return Ok(Transformed::no(expr)),
        };
        let name = format!("CAST({} AS {data_type})", expr.schema_name());
        Ok(Transformed::yes(expr.alias(name)))
    })?;
    Ok(match casts.transformed {
        true => arg.alias(casts.data.schema_name().to_string()),
        false => arg,
    })
}
