//! Both zeros of a float in a list: `x IN (0.0, …)` finds -0.0, as `x = 0.0` does.
//!
//! The engine compares with a long list by the bits of the numbers, in which the zeros differ; all its other
//! comparisons hold them equal. So a list that has one zero gets the other.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Cast, Expr, lit};

pub(super) fn both_zeros(expr: Expr) -> Transformed<Expr> {
    let Expr::InList(InList { expr, mut list, negated }) = expr else { return Transformed::no(expr) };
    let zero = list.iter().find_map(zero);
    let found = zero.is_some();
    // With both, it does not matter which of them was there.
    list.extend(zero.into_iter().flatten());
    Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), found)
}

/// Both zeros of its type, if this is one of them.
fn zero(member: &Expr) -> Option<[Expr; 2]> {
    match constant(member)? {
        ScalarValue::Float64(Some(0.0)) => Some([lit(0.0_f64), lit(-0.0_f64)]),
        ScalarValue::Float32(Some(0.0)) => Some([lit(0.0_f32), lit(-0.0_f32)]),
        _ => None,
    }
}

/// The value of a constant: types were made equal by casts, which are not folded yet.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(Cast { expr, field }) => constant(expr)?.cast_to(field.data_type()).ok(),
        Expr::Negative(expr) => constant(expr)?.arithmetic_negate().ok(),
        Expr::Alias(alias) => constant(&alias.expr),
        _ => None,
    }
}
