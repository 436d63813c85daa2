//! A list whose members are known only row by row: `x IN (1, y, CASE … END)`.
//!
//! The engine tries members out on no rows at all, and takes what comes out as one value for a constant; a CASE gives
//! NULL there. So members that are no constants are compared one by one, beside the list of the others.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::InList;

pub(super) fn one_by_one(expr: Expr) -> Transformed<Expr> {
    let Expr::InList(InList { expr, list, negated }) = expr else { return Transformed::no(expr) };
    // What is another value each time is drawn once for all members.
    if expr.is_volatile() || !list.iter().any(differs_by_row) {
        return Transformed::no(Expr::InList(InList { expr, list, negated }));
    }
    let (by_row, constants): (Vec<_>, Vec<_>) = list.into_iter().partition(differs_by_row);
    let rest = (!constants.is_empty()).then(|| Expr::InList(InList::new(expr.clone(), constants, negated)));
    let compared = by_row.into_iter().map(|member| match negated {
        true => expr.as_ref().clone().not_eq(member),
        false => expr.as_ref().clone().eq(member),
    });
    let joined = rest.into_iter().chain(compared).reduce(|left, right| match negated {
        true => left.and(right),
        false => left.or(right),
    });
    Transformed::yes(joined.expect("a list has a member"))
}

fn differs_by_row(member: &Expr) -> bool {
    let of_a_row = |expr: &Expr| {
        matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_))
            || expr.is_volatile_node()
    };
    member.exists(|expr| Ok(of_a_row(expr))).expect("nothing fails here")
}
