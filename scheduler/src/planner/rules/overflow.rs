//! Sums, differences and products of integers: an error where their type cannot hold them.
//!
//! The engine wraps around: the greatest BIGINT and one was the least. Where the types and constants of the operands
//! leave that open, the operator becomes a function that checks; where they do not (`line_number + 1` of an INT column
//! in BIGINT), it stays, and with it what the optimizer knows of it.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::AnalyzerRule;

use super::super::rewrite::{columns_in_sight, rewrite_expressions};

/// How deep in an operand it is looked for what it may be. Deeper, it may be all that its type holds.
const DEPTH_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Overflow;

impl AnalyzerRule for Overflow {
    fn name(&self) -> &str {
        "integer_overflow"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(check_plan)?.data)
    }
}

fn check_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = columns_in_sight(&plan)?;
    rewrite_expressions(plan, |expr| expr.transform_up(|expr| Ok(check(expr, &schema))))
}

fn check(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (operator, data_type) = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if tarn_functions::checked(*op).is_some() => {
            match (left.get_type(schema), right.get_type(schema)) {
                (Ok(left), Ok(right)) if left == right => (*op, left),
                _ => return Transformed::no(expr),
            }
        }
        Expr::Negative(operand) => match operand.get_type(schema) {
            Ok(data_type) => (Operator::Minus, data_type),
            Err(_) => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let (Some(function), Some(limits)) = (tarn_functions::checked(operator), limits(&data_type)) else {
        return Transformed::no(expr);
    };
    if reach(&expr, schema, DEPTH_MAX).is_some_and(|reach| limits.holds(reach)) {
        return Transformed::no(expr);
    }
    let operands = match expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => vec![*left, *right],
        Expr::Negative(operand) => match ScalarValue::new_zero(&data_type) {
            Ok(zero) => vec![Expr::Literal(zero, None), *operand],
            Err(_) => return Transformed::no(Expr::Negative(operand)),
        },
        expr => return Transformed::no(expr),
    };
    Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, operands)))
}

/// From the least to the greatest value.
#[derive(Clone, Copy)]
struct Reach(i128, i128);

impl Reach {
    fn holds(self, other: Self) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }

    fn cut(self, other: Self) -> Self {
        if self.holds(other) { other } else { self }
    }
}

/// What an integer of this type may be.
fn limits(data_type: &DataType) -> Option<Reach> {
    Some(match data_type {
        DataType::Int8 => Reach(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => Reach(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => Reach(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => Reach(i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => Reach(0, u8::MAX.into()),
        DataType::UInt16 => Reach(0, u16::MAX.into()),
        DataType::UInt32 => Reach(0, u32::MAX.into()),
        DataType::UInt64 => Reach(0, u64::MAX.into()),
        _ => return None,
    })
}

/// What an expression of integers may be, as if nothing wrapped around; `None` if that is not known.
fn reach(expr: &Expr, schema: &DFSchema, depth: usize) -> Option<Reach> {
    let Some(depth) = depth.checked_sub(1) else { return limits(&expr.get_type(schema).ok()?) };
    match expr {
        Expr::Literal(value, _) => {
            let value = integer(value)?;
            Some(Reach(value, value))
        }
        Expr::Alias(alias) => reach(&alias.expr, schema, depth),
        // A value that the type cannot hold is an error or a NULL of the cast.
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let limits = limits(field.data_type())?;
            Some(reach(expr, schema, depth).map_or(limits, |inner| limits.cut(inner)))
        }
        Expr::Negative(operand) => {
            let Reach(least, greatest) = reach(operand, schema, depth)?;
            Some(Reach(-greatest, -least))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (reach(left, schema, depth)?, reach(right, schema, depth)?);
            match op {
                Operator::Plus => Some(Reach(left.0.checked_add(right.0)?, left.1.checked_add(right.1)?)),
                Operator::Minus => Some(Reach(left.0.checked_sub(right.1)?, left.1.checked_sub(right.0)?)),
                Operator::Multiply => {
                    let corners =
                        [(left.0, right.0), (left.0, right.1), (left.1, right.0), (left.1, right.1)];
                    let [a, b, c, d] = corners.map(|(left, right)| left.checked_mul(right));
                    let corners = [a?, b?, c?, d?];
                    Some(Reach(corners.into_iter().min()?, corners.into_iter().max()?))
                }
                _ => limits(&expr.get_type(schema).ok()?),
            }
        }
        _ => limits(&expr.get_type(schema).ok()?),
    }
}

fn integer(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int8(value) => value.map(Into::into),
        ScalarValue::Int16(value) => value.map(Into::into),
        ScalarValue::Int32(value) => value.map(Into::into),
        ScalarValue::Int64(value) => value.map(Into::into),
        ScalarValue::UInt8(value) => value.map(Into::into),
        ScalarValue::UInt16(value) => value.map(Into::into),
        ScalarValue::UInt32(value) => value.map(Into::into),
        ScalarValue::UInt64(value) => value.map(Into::into),
        _ => None,
    }
}
