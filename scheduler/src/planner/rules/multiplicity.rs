//! `EXCEPT ALL` and `INTERSECT ALL`, with as many of each row as the standard wants.
//!
//! The engine makes both a semi or anti join over all columns, which knows whether a row is on the other side but
//! not how often: three rows less one of the same were none. Here the rows that are alike are numbered on both sides,
//! and the number is joined as one more column: the third of three has no partner when there is one.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Cast, Expr, ExprFunctionExt, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder, TryCast, col,
};
use datafusion::optimizer::AnalyzerRule;

/// Names of the numbers, each on its side.
const NUMBERS: [&str; 2] = ["__number_on_the_left", "__number_on_the_right"];

#[derive(Debug)]
pub(super) struct Multiplicity;

impl AnalyzerRule for Multiplicity {
    fn name(&self) -> &str {
        "multiplicity_of_set_operations"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |plan| match plan {
            LogicalPlan::Join(join) if is_set_operation(&join) => count_rows(join).map(Transformed::yes),
            plan => Ok(Transformed::no(plan)),
        };
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

/// Whether it has the form that only a set operation with `ALL` is given: every column with the one in its place, a
/// NULL being equal to a NULL. A distinct left side needs no number, its rows are there once.
fn is_set_operation(join: &Join) -> bool {
    let (left, right) = (join.left.schema(), join.right.schema());
    let columns = left.fields().len();
    let in_place = |(place, (on_left, on_right)): (usize, &(Expr, Expr))| {
        is_column(on_left, left.columns().get(place)) && is_column(on_right, right.columns().get(place))
    };
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
        && join.on.len() == columns
        && right.fields().len() == columns
        && join.on.iter().enumerate().all(in_place)
}

fn is_column(expr: &Expr, wanted: Option<&datafusion::common::Column>) -> bool {
    match expr {
        // Their qualifiers may differ: the column was looked for by its name.
        Expr::Column(column) => wanted.is_some_and(|wanted| wanted.name == column.name),
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => is_column(expr, wanted),
        _ => false,
    }
}

fn count_rows(join: Join) -> Result<LogicalPlan> {
    let columns: Vec<_> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let (on_left, on_right): (Vec<_>, Vec<_>) = join.on.into_iter().unzip();
    let [left_number, right_number] = NUMBERS;
    let left = numbered(join.left, &on_left, left_number)?;
    let right = numbered(join.right, &on_right, right_number)?;
    let mut on: Vec<_> = on_left.into_iter().zip(on_right).collect();
    on.push((col(left_number), col(right_number)));
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        None,
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns)?.build()
}

/// The rows with their number among those that are alike.
fn numbered(input: Arc<LogicalPlan>, keys: &[Expr], name: &str) -> Result<LogicalPlan> {
    let number = row_number().partition_by(keys.to_vec()).build()?.alias(name);
    LogicalPlanBuilder::from(input).window(vec![number])?.build()
}
