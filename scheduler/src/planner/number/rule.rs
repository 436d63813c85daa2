//! The rule of the analyzer that decides what a marked number is, by what it is compared with.
//!
//! Each comparison is decided by itself: all its operands are exact (decimals, integers, marked numbers and
//! sums and products of them), and it is reckoned in decimals; or one is a double, and it is reckoned in
//! doubles, as in other engines. A mark that is left over becomes the double that the engine read.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::{Case, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::AnalyzerRule;

use super::super::rewrite::{columns_in_sight, rewrite_expressions};
use super::mark::{marked, unmarked};
use super::{DEPTH_MAX, Number};

/// Digits of the decimals that are reckoned with.
const DIGITS_MAX: i32 = 38;

/// Marked numbers become decimals or doubles.
#[derive(Debug)]
pub(super) struct ExactNumbers;

impl AnalyzerRule for ExactNumbers {
    fn name(&self) -> &str {
        "exact_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(decide_plan)?.data)
    }
}

fn decide_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = columns_in_sight(&plan)?;
    rewrite_expressions(plan, |expr| {
        let decided = expr.transform_up(|expr| decide(expr, &schema))?;
        decided.transform_data(|expr| expr.transform_up(unmark))
    })
}

fn unmark(expr: Expr) -> Result<Transformed<Expr>> {
    match marked(&expr) {
        Some(_) => Ok(Transformed::yes(unmarked(expr))),
        None => Ok(Transformed::no(expr)),
    }
}

/// Decides one comparison, or one cast to a decimal.
fn decide(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let operands = vec![(*left, op.swap()), (*right, Some(op))];
            compare(operands, schema)?.map_data(|mut operands| {
                let (right, left) = (operands.remove(1), operands.remove(0));
                Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            })
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let operands = vec![(*expr, None), (*low, Some(Operator::GtEq)), (*high, Some(Operator::LtEq))];
            compare(operands, schema)?.map_data(|mut operands| {
                let (high, low, expr) = (operands.remove(2), operands.remove(1), operands.remove(0));
                Ok(Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))))
            })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let operands = [*expr].into_iter().chain(list).map(|operand| (operand, Some(Operator::Eq)));
            compare(operands.collect(), schema)?.map_data(|mut list| {
                let expr = list.remove(0);
                Ok(Expr::InList(InList::new(Box::new(expr), list, negated)))
            })
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) => {
            let (when, then): (Vec<_>, Vec<_>) = when_then_expr.into_iter().unzip();
            let operands = [expr].into_iter().chain(when).map(|operand| (*operand, Some(Operator::Eq)));
            compare(operands.collect(), schema)?.map_data(|mut when| {
                let expr = Some(Box::new(when.remove(0)));
                let when_then_expr = when.into_iter().map(Box::new).zip(then).collect();
                Ok(Expr::Case(Case { expr, when_then_expr, else_expr }))
            })
        }
        Expr::Cast(Cast { expr, field }) if below_cast(&expr, &field, schema) => {
            Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(Box::new(reckoned(*expr)), field))))
        }
        Expr::TryCast(TryCast { expr, field }) if below_cast(&expr, &field, schema) => {
            Ok(Transformed::yes(Expr::TryCast(TryCast::new_from_field(Box::new(reckoned(*expr)), field))))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether a number below a cast is exact: where a decimal is made of it.
fn below_cast(expr: &Expr, field: &Field, schema: &DFSchema) -> bool {
    field.data_type().is_decimal() && matches!(Operand::of(expr, schema), Operand::Number(_))
}

/// What an operand of a comparison is.
#[derive(Debug, PartialEq)]
enum Operand {
    /// Reckoned from marked numbers, and from integers and decimals; exact in this type if it is wanted.
    Number(Digits),
    /// Exact as it is.
    Exact(DataType),
    Float,
    Null,
    Other,
}

impl Operand {
    fn of(expr: &Expr, schema: &DFSchema) -> Self {
        if has_mark(expr, DEPTH_MAX) {
            // Too many digits for a decimal: a double, as without this rule.
            return Digits::of(expr, schema, DEPTH_MAX).map_or(Self::Float, Self::Number);
        }
        match expr.get_type(schema) {
            Ok(DataType::Null) => Self::Null,
            Ok(data_type) if data_type.is_floating() => Self::Float,
            Ok(data_type) if data_type.is_integer() || data_type.is_decimal() => Self::Exact(data_type),
            _ => Self::Other,
        }
    }
}

/// The operands of one comparison, each with the operator between the first and it (for the first of two, the
/// other way around): all exact, or all doubles where one is.
fn compare(operands: Vec<(Expr, Option<Operator>)>, schema: &DFSchema) -> Result<Transformed<Vec<Expr>>> {
    let kinds: Vec<_> = operands.iter().map(|(operand, _)| Operand::of(operand, schema)).collect();
    let has = |wanted: fn(&Operand) -> bool| kinds.iter().any(wanted);
    let doubles = has(|kind| *kind == Operand::Float);
    let numbers = has(|kind| matches!(kind, Operand::Number(_)));
    if has(|kind| *kind == Operand::Other) || !doubles && !numbers {
        return Ok(Transformed::no(operands.into_iter().map(|(operand, _)| operand).collect()));
    }
    if doubles {
        let operands = operands.into_iter().zip(kinds).map(|((operand, _), kind)| match kind {
            Operand::Exact(data_type) if data_type.is_decimal() => {
                Expr::Cast(Cast::new(Box::new(operand), DataType::Float64))
            }
            _ => operand,
        });
        return Ok(Transformed::yes(operands.collect()));
    }
    let digits = kinds.iter().filter_map(|kind| match kind {
        Operand::Number(digits) => Some(*digits),
        Operand::Exact(data_type) => Digits::of_type(data_type),
        _ => None,
    });
    let wide = digits.reduce(Digits::both).is_some_and(|digits| digits.precision() > DIGITS_MAX);
    let beside = beside(&operands, &kinds);
    let exact = operands.into_iter().zip(kinds).map(|((operand, op), kind)| {
        if let Some(number) = marked(&operand).or_else(|| integer(&operand)) {
            return literal(&number, op, beside.as_ref(), wide).unwrap_or(operand);
        }
        match kind {
            Operand::Number(digits) if wide => match digits.wide_type() {
                Some(data_type) => Expr::Cast(Cast::new(Box::new(reckoned(operand)), data_type)),
                None => operand,
            },
            Operand::Number(_) => reckoned(operand),
            _ => operand,
        }
    });
    Ok(Transformed::yes(exact.collect()))
}

/// The one type of all operands that are no numbers: a number that it holds takes it, and nothing is cast.
fn beside(operands: &[(Expr, Option<Operator>)], kinds: &[Operand]) -> Option<DataType> {
    let mut types = operands.iter().zip(kinds).filter_map(|((operand, _), kind)| match kind {
        Operand::Exact(data_type) => integer(operand).is_none().then_some(Some(data_type)),
        Operand::Number(_) => marked(operand).is_none().then_some(None),
        _ => None,
    });
    let first = types.next()??;
    types.all(|other| other == Some(first)).then(|| first.clone())
}

/// A number in the type that stands beside it, or one that is compared with it in the same way; else in its own.
fn literal(number: &Number, op: Option<Operator>, beside: Option<&DataType>, wide: bool) -> Option<Expr> {
    if let Some(data_type) = beside {
        let scale = Digits::of_type(data_type).and_then(|digits| usize::try_from(digits.scale).ok());
        // x < 2.5 is x < 3, and x <= 2.5 is x <= 2, where x has no digits behind the point.
        let near = scale.and_then(|scale| match op? {
            Operator::Lt | Operator::GtEq => number.rounded(scale, true),
            Operator::LtEq | Operator::Gt => number.rounded(scale, false),
            _ => None,
        });
        if let Some(value) = near.as_ref().unwrap_or(number).as_type(data_type) {
            return Some(Expr::Literal(value, None));
        }
    }
    number.as_decimal(wide).map(|value| Expr::Literal(value, None))
}

/// An operand with its numbers as decimals, integers among them.
fn reckoned(operand: Expr) -> Expr {
    if let Some(number) = marked(&operand).or_else(|| integer(&operand)) {
        return number.as_decimal(false).map_or(operand, |value| Expr::Literal(value, None));
    }
    match operand {
        Expr::Negative(expr) => Expr::Negative(Box::new(reckoned(*expr))),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_exact(op) => {
            let (left, right) = (reckoned(*left), reckoned(*right));
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
        }
        other => other,
    }
}

/// The number of an integer that was written.
fn integer(expr: &Expr) -> Option<Number> {
    let Expr::Literal(ScalarValue::Int64(Some(value)), _) = expr else { return None };
    Number::of_text(&value.to_string())
}

/// Whether an operand is reckoned from a marked number.
fn has_mark(expr: &Expr, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match expr {
        Expr::Negative(expr) => has_mark(expr, depth),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_exact(*op) => {
            has_mark(left, depth) || has_mark(right, depth)
        }
        expr => marked(expr).is_some(),
    }
}

/// The digits that the exact value of an operand can have, before and behind the point.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Digits {
    whole: i32,
    scale: i32,
}

impl Digits {
    /// `None` if it cannot be reckoned exactly.
    fn of(expr: &Expr, schema: &DFSchema, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let digits = match expr {
            Expr::Negative(expr) => Self::of(expr, schema, depth)?,
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_exact(*op) => {
                let (left, right) = (Self::of(left, schema, depth)?, Self::of(right, schema, depth)?);
                match op {
                    Operator::Multiply => {
                        Self { whole: left.whole + right.whole + 1, scale: left.scale + right.scale }
                    }
                    Operator::Plus | Operator::Minus => {
                        let both = left.both(right);
                        Self { whole: both.whole + 1, ..both }
                    }
                    _ => left.both(right),
                }
            }
            expr => match marked(expr).or_else(|| integer(expr)) {
                Some(number) => Self::of_number(&number),
                None => Self::of_type(&expr.get_type(schema).ok()?)?,
            },
        };
        (digits.precision() <= DIGITS_MAX).then_some(digits)
    }

    fn of_number(number: &Number) -> Self {
        let (precision, scale) = (number.precision() as i32, number.scale as i32);
        Self { whole: precision - scale, scale }
    }

    /// As the engine reckons with integers.
    fn of_type(data_type: &DataType) -> Option<Self> {
        let (precision, scale) = match data_type {
            DataType::Int8 | DataType::UInt8 => (3, 0),
            DataType::Int16 | DataType::UInt16 => (5, 0),
            DataType::Int32 | DataType::UInt32 => (10, 0),
            DataType::Int64 | DataType::UInt64 => (20, 0),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => (i32::from(*precision), i32::from(*scale)),
            _ => return None,
        };
        Some(Self { whole: precision - scale, scale })
    }

    fn both(self, other: Self) -> Self {
        Self { whole: self.whole.max(other.whole), scale: self.scale.max(other.scale) }
    }

    fn precision(self) -> i32 {
        self.whole + self.scale
    }

    fn wide_type(self) -> Option<DataType> {
        let (precision, scale) = (u8::try_from(self.precision()).ok()?, i8::try_from(self.scale).ok()?);
        Some(DataType::Decimal256(precision, scale))
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether decimals are reckoned exactly with it.
fn is_exact(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo)
}
