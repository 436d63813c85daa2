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
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::AnalyzerRule;

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
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let table = scan.table_name.clone();
        schema.merge(&DFSchema::try_from_qualified_schema(table, &scan.source.schema())?);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| Ok(check(expr, &schema)))?.update_data(|expr| name.restore(expr)))
    })
}

fn check(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (operator, operands) = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            (*op, [left, right].map(|operand| operand.as_ref().clone()))
        }
        Expr::Negative(operand) => match zero(operand, schema) {
            Some(zero) => (Operator::Minus, [Expr::Literal(zero, None), operand.as_ref().clone()]),
            None => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let types = [&operands[0], &operands[1]].map(|operand| operand.get_type(schema).ok());
    let [Some(left), Some(right)] = types else { return Transformed::no(expr) };
    let (Some(function), Some(limits)) = (tarn_functions::checked(operator), limits(&left)) else {
        return Transformed::no(expr);
    };
    if left != right || reach(&expr, schema).is_some_and(|reach| limits.holds(reach)) {
        return Transformed::no(expr);
    }
    Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, operands.into())))
}

/// Zero in the type of an operand that is an integer.
fn zero(operand: &Expr, schema: &DFSchema) -> Option<ScalarValue> {
    let data_type = operand.get_type(schema).ok().filter(DataType::is_integer)?;
    ScalarValue::new_zero(&data_type).ok()
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
fn reach(expr: &Expr, schema: &DFSchema) -> Option<Reach> {
    match expr {
        Expr::Literal(value, _) => {
            let value = integer(value)?;
            Some(Reach(value, value))
        }
        Expr::Alias(alias) => reach(&alias.expr, schema),
        // A value that the type cannot hold is an error or a NULL of the cast.
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let limits = limits(field.data_type())?;
            Some(reach(expr, schema).map_or(limits, |inner| limits.cut(inner)))
        }
        Expr::Negative(operand) => {
            let Reach(least, greatest) = reach(operand, schema)?;
            Some(Reach(-greatest, -least))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (reach(left, schema)?, reach(right, schema)?);
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
