//! Which part of its rows a relation keeps under a condition.
//!
//! Ranges are measured between a column's bounds, equalities by how many values it has. What tells nothing beforehand
//! has a constant, named here; they stand between those of other engines and err on the side of many rows, for an order
//! that waits for a filter which filters little is worse than one that does not count on it.

use std::collections::HashMap;

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::relation::{DISTINCT_ASKED, Relation, Values, number};

/// A condition of which nothing is known.
const UNKNOWN: f64 = 0.2;

/// `LIKE` and its kin.
const LIKE: f64 = 0.1;

/// A range whose ends, or whose column's, are not known.
const RANGE: f64 = 1.0 / 3.0;

/// Conditions inside each other that are looked into.
const DEPTH_MAX: usize = 64;

/// What conditions leave.
pub(super) struct Selectivity {
    /// The part of all rows.
    pub(super) all: f64,
    /// The part of a column's values, by conditions on it alone.
    pub(super) by_column: HashMap<Column, f64>,
}

/// What these leave, together.
pub(super) fn of_all(conditions: &[&Expr], relation: &Relation) -> Selectivity {
    let mut selectivity = Selectivity { all: 1.0, by_column: HashMap::new() };
    let mut ranges: HashMap<&Column, Range> = HashMap::new();
    for condition in conditions {
        if let Some((column, range)) = Range::of(condition) {
            let known = ranges.entry(column).or_default();
            *known = known.and(range);
            continue;
        }
        let part = part(condition, relation, DEPTH_MAX);
        selectivity.all *= part;
        let columns = condition.column_refs();
        if let (Some(column), 1) = (columns.iter().next(), columns.len()) {
            *selectivity.by_column.entry((*column).clone()).or_insert(1.0) *= part;
        }
    }
    for (column, range) in ranges {
        let part = range.part(relation.column(column));
        selectivity.all *= part;
        *selectivity.by_column.entry(column.clone()).or_insert(1.0) *= part;
    }
    selectivity
}

/// The part of the rows that a condition leaves, which may name columns of several relations: those that this one lacks
/// are not known.
pub(super) fn of(condition: &Expr, relation: &Relation) -> f64 {
    part(condition, relation, DEPTH_MAX)
}

fn part(condition: &Expr, relation: &Relation, depth: usize) -> f64 {
    let Some(depth) = depth.checked_sub(1) else { return UNKNOWN };
    let inner = |condition: &Expr| part(condition, relation, depth);
    let nulls = |expr: &Expr| relation.values_of(expr).nulls;
    let part = match condition {
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        Expr::Literal(..) => 0.0,
        Expr::Alias(alias) => inner(&alias.expr),
        Expr::Not(condition) => 1.0 - inner(condition),
        Expr::IsNull(expr) => nulls(expr),
        Expr::IsNotNull(expr) => 1.0 - nulls(expr),
        Expr::Column(_) => 0.5,
        Expr::Like(like) | Expr::SimilarTo(like) => either(LIKE, like.negated),
        Expr::InList(InList { expr, list, negated }) => {
            either((list.len() as f64 / relation.values_of(expr).asked()).min(1.0), *negated)
        }
        Expr::Between(Between { expr, negated, .. }) => {
            let range = Range::of(condition);
            let values = relation.values_of(expr);
            either(range.map_or(RANGE, |(_, range)| range.part(Some(&values))), *negated)
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => {
            conjunction(&split_conjunction(condition), relation, depth)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (one, other) = (inner(left), inner(right));
            match same_column(left, right) {
                // A value that fulfils one seldom fulfils the other: they are a list, or two ends.
                true => (one + other).min(1.0),
                false => one + other - one * other,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(condition, left, *op, right, relation),
        _ => UNKNOWN,
    };
    // No condition is known to leave nothing, and bounds may be wrong.
    part.clamp(1.0 / relation.base_rows.max(1e9), 1.0)
}

fn conjunction(conditions: &[&Expr], relation: &Relation, depth: usize) -> f64 {
    let mut ranges: HashMap<&Column, Range> = HashMap::new();
    let mut all = 1.0;
    for condition in conditions {
        match Range::of(condition) {
            Some((column, range)) => {
                let known = ranges.entry(column).or_default();
                *known = known.and(range);
            }
            None => all *= part(condition, relation, depth),
        }
    }
    ranges.into_iter().fold(all, |all, (column, range)| all * range.part(relation.column(column)))
}

fn comparison(condition: &Expr, left: &Expr, op: Operator, right: &Expr, relation: &Relation) -> f64 {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    match op {
        Eq | IsNotDistinctFrom | NotEq | IsDistinctFrom => {
            let distinct = [left, right].map(|side| match side.any_column_refs() {
                true => relation.values_of(side).asked(),
                false => 1.0,
            });
            let same = 1.0 / distinct[0].max(distinct[1]).max(1.0);
            either(same, matches!(op, NotEq | IsDistinctFrom))
        }
        Lt | LtEq | Gt | GtEq => match Range::of(condition) {
            Some((column, range)) => range.part(relation.column(column)),
            None => RANGE,
        },
        Operator::LikeMatch | Operator::ILikeMatch | Operator::RegexMatch | Operator::RegexIMatch => LIKE,
        Operator::NotLikeMatch
        | Operator::NotILikeMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch => 1.0 - LIKE,
        _ => UNKNOWN,
    }
}

/// Whether two conditions are about one column, the same one.
fn same_column(one: &Expr, other: &Expr) -> bool {
    let (one, other) = (one.column_refs(), other.column_refs());
    one.len() == 1 && one == other
}

fn either(part: f64, negated: bool) -> f64 {
    if negated { 1.0 - part } else { part }
}

/// What a column is compared with: from and to, where there is such an end.
#[derive(Clone, Copy, Default)]
struct Range {
    from: Option<f64>,
    to: Option<f64>,
    /// There is an end whose place is not known.
    vague: bool,
}

impl Range {
    /// The range that a condition leaves of one column.
    fn of(condition: &Expr) -> Option<(&Column, Self)> {
        match condition {
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let (from, to) = (place(low)?, place(high)?);
                Some((plain(expr)?, Self { from, to, vague: from.is_none() || to.is_none() }))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (column, op, place) = match (plain(left), plain(right)) {
                    (Some(column), None) => (column, *op, place(right)?),
                    (None, Some(column)) => (column, op.swap()?, place(left)?),
                    _ => return None,
                };
                let vague = place.is_none();
                let range = match op {
                    Operator::Lt | Operator::LtEq => Self { from: None, to: place, vague },
                    Operator::Gt | Operator::GtEq => Self { from: place, to: None, vague },
                    _ => return None,
                };
                Some((column, range))
            }
            _ => None,
        }
    }

    fn and(self, other: Self) -> Self {
        let later = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(f64::max);
        let sooner = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(f64::min);
        Self {
            from: later(self.from, other.from),
            to: sooner(self.to, other.to),
            vague: self.vague || other.vague,
        }
    }

    /// The part of a column's rows within.
    fn part(self, values: Option<&Values>) -> f64 {
        let Some((low, high)) = values.and_then(|values| values.bounds) else {
            let ends = i32::from(self.from.is_some()) + i32::from(self.to.is_some()) + i32::from(self.vague);
            return RANGE.powi(ends.min(2));
        };
        let least = 1.0 / values.map_or(DISTINCT_ASKED, |values| values.distinct);
        let (from, to) = (self.from.unwrap_or(low).max(low), self.to.unwrap_or(high).min(high));
        let width = (high - low).max(f64::MIN_POSITIVE);
        let part = if from > to { least } else { ((to - from) / width).max(least) };
        let part = if self.vague { part * RANGE } else { part };
        if part.is_nan() { RANGE } else { part.clamp(0.0, 1.0) }
    }
}

/// The column that an expression is, in whatever type.
fn plain(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Cast(cast) => plain(&cast.expr),
        Expr::TryCast(cast) => plain(&cast.expr),
        _ => None,
    }
}

/// Where a constant stands; `None` within if that cannot be told.
fn place(expr: &Expr) -> Option<Option<f64>> {
    match expr {
        Expr::Literal(value, _) => Some(number(value)),
        Expr::Alias(alias) => place(&alias.expr),
        Expr::Cast(cast) => place(&cast.expr),
        Expr::ScalarSubquery(_) => Some(None),
        _ => None,
    }
}
