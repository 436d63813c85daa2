//! `IS [NOT] TRUE`, `FALSE` and `UNKNOWN` as what the engine runs them as.
//!
//! The engine makes them `IS [NOT] DISTINCT FROM` in its physical plan, which it holds to be NULL at times, as it does
//! not hold these: so `SELECT DISTINCT x IS TRUE` ended in an internal error. Said in the logical plan, both agree.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, Operator, binary_expr};

pub(super) fn as_run(expr: Expr) -> Transformed<Expr> {
    let (expr, operator, value) = match expr {
        Expr::IsTrue(expr) => (expr, Operator::IsNotDistinctFrom, Some(true)),
        Expr::IsNotTrue(expr) => (expr, Operator::IsDistinctFrom, Some(true)),
        Expr::IsFalse(expr) => (expr, Operator::IsNotDistinctFrom, Some(false)),
        Expr::IsNotFalse(expr) => (expr, Operator::IsDistinctFrom, Some(false)),
        Expr::IsUnknown(expr) => return Transformed::yes(Expr::IsNull(expr)),
        Expr::IsNotUnknown(expr) => return Transformed::yes(Expr::IsNotNull(expr)),
        expr => return Transformed::no(expr),
    };
    Transformed::yes(binary_expr(*expr, operator, Expr::Literal(ScalarValue::Boolean(value), None)))
}
