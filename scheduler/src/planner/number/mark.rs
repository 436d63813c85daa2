//! Numbers with a point keep their text where they are compared: casts to a type that says what was written.
//!
//! Works on the statement, before names are resolved. What is marked here the rule unmarks.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Cast, Expr as EngineExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType as SqlType, Expr, Ident, ObjectName, SetExpr, Statement,
    UnaryOperator, Value, ValueWithSpan, visit_expressions_mut,
};

use super::{DEPTH_MAX, Number};

/// The name of the type that a marked number is cast to.
const EXACT: &str = "exact number";

/// The type is an extension of the double, since an extension ends at the next cast; what was written is in its
/// name, after that of the type.
const EXTENSION: &str = "ARROW:extension:name";

/// Marks the numbers of a statement that may have to be exact.
pub fn mark(statement: &mut Statement) {
    let walked = visit_expressions_mut(statement, |expr| {
        mark_below(expr);
        ControlFlow::<()>::Continue(())
    });
    debug_assert!(walked.is_continue(), "nothing ends this walk");
    if let Statement::Insert(insert) = statement
        && let Some(source) = &mut insert.source
        && let SetExpr::Values(values) = source.body.as_mut()
    {
        values.rows.iter_mut().flat_map(|row| &mut row.content).for_each(mark_operand);
    }
}

/// Marks the numbers that an expression compares, or casts to a decimal.
fn mark_below(expr: &mut Expr) {
    match expr {
        // A parameter takes its type from the other side.
        Expr::BinaryOp { left, op, right }
            if is_comparison(op) && !is_parameter(left) && !is_parameter(right) =>
        {
            mark_operand(left);
            mark_operand(right);
        }
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right)
            if !is_parameter(left) && !is_parameter(right) =>
        {
            mark_operand(left);
            mark_operand(right);
        }
        Expr::Between { expr, low, high, .. } if !is_parameter(expr) => {
            [expr, low, high].into_iter().for_each(|operand| mark_operand(operand));
        }
        Expr::InList { expr, list, .. } if !is_parameter(expr) => {
            mark_operand(expr);
            list.iter_mut().for_each(mark_operand);
        }
        Expr::Case { operand: Some(operand), conditions, .. } if !is_parameter(operand) => {
            mark_operand(operand);
            conditions.iter_mut().for_each(|when| mark_operand(&mut when.condition));
        }
        Expr::Cast { expr, data_type, .. } if is_decimal(data_type) => mark_operand(expr),
        _ => {}
    }
}

/// Marks numbers from which an operand is reckoned exactly.
fn mark_operand(operand: &mut Expr) {
    mark_within(operand, DEPTH_MAX);
}

fn mark_within(operand: &mut Expr, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match operand {
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => {
            if let Some(number) = read_as_double(text, false) {
                wrap(operand, &number);
            }
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_mut() {
            // The engine reads the sign and the digits as one number.
            Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => {
                if let Some(number) = read_as_double(text, true) {
                    wrap(operand, &number);
                }
            }
            other => mark_within(other, depth),
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } | Expr::Nested(expr) => mark_within(expr, depth),
        Expr::BinaryOp {
            left,
            op:
                BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Modulo,
            right,
        } if !is_parameter(left) && !is_parameter(right) => {
            mark_within(left, depth);
            mark_within(right, depth);
        }
        _ => {}
    }
}

/// The number, if it is not one of those that the engine reads exactly, and has no exponent.
fn read_as_double(text: &str, negative: bool) -> Option<Number> {
    let number = Number::parse(text, negative)?;
    let whole = (!text.contains('.')).then(|| number.at_scale(0)).flatten();
    let is_integer =
        whole.is_some_and(|whole| whole.parse::<i64>().is_ok() || !negative && whole.parse::<u64>().is_ok());
    // What no decimal type holds stays a double.
    (!is_integer && number.as_decimal(false).is_some()).then_some(number)
}

fn wrap(operand: &mut Expr, number: &Number) {
    let name = ObjectName::from(vec![Ident::with_quote('"', EXACT)]);
    let plain = std::mem::replace(operand, Expr::Value(Value::Null.into()));
    *operand = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(plain),
        data_type: SqlType::Custom(name, vec![number.text()]),
        array: false,
        format: None,
    };
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, Spaceship};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | Spaceship)
}

fn is_parameter(expr: &Expr) -> bool {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => true,
        Expr::Nested(expr) => is_parameter(expr),
        _ => false,
    }
}

fn is_decimal(data_type: &SqlType) -> bool {
    matches!(data_type, SqlType::Decimal(_) | SqlType::Numeric(_) | SqlType::Dec(_))
}

/// The type of a marked number: a double that carries its text.
#[derive(Debug)]
pub(super) struct MarkType;

impl TypePlanner for MarkType {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let SqlType::Custom(name, texts) = sql_type else { return Ok(None) };
        let ([part], [text]) = (name.0.as_slice(), texts.as_slice()) else { return Ok(None) };
        if part.as_ident().is_none_or(|ident| ident.value != EXACT) {
            return Ok(None);
        }
        if Number::of_text(text).is_none() {
            return Err(plan_datafusion_err!("\"{text}\" is not a number"));
        }
        let metadata = HashMap::from([(EXTENSION.to_string(), format!("{EXACT} {text}"))]);
        Ok(Some(Arc::new(Field::new("", DataType::Float64, true).with_metadata(metadata))))
    }
}

/// The number behind a mark.
pub(super) fn marked(expr: &EngineExpr) -> Option<Number> {
    let EngineExpr::Cast(Cast { expr, field }) = expr else { return None };
    let text = field.extension_type_name()?.strip_prefix(EXACT)?.strip_prefix(' ')?;
    matches!(**expr, EngineExpr::Literal(..)).then(|| Number::of_text(text))?
}

/// A marked number as the engine read it.
pub(super) fn unmarked(expr: EngineExpr) -> EngineExpr {
    match (marked(&expr).is_some(), expr) {
        (true, EngineExpr::Cast(Cast { expr, .. })) => *expr,
        (_, expr) => expr,
    }
}

/// The plan with the names that its columns would have without marks. The engine hides casts in names, but for a
/// FILTER clause.
pub(super) fn with_plain_names(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if !columns.iter().any(|column| plain_name(&column.name).is_some()) {
        return Ok(plan);
    }
    let columns = columns.into_iter().map(|column| match plain_name(&column.name) {
        Some(name) => EngineExpr::Column(column).alias(name),
        None => EngineExpr::Column(column),
    });
    let columns: Vec<_> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// `CAST(Float64(1.5) AS Float64<{"…": "exact number 1.5"}>)` is `Float64(1.5)`; `None` if there is none in the name.
fn plain_name(name: &str) -> Option<String> {
    let mark = format!(" AS {}<{{{EXTENSION:?}: \"{EXACT} ", DataType::Float64);
    let (before, after) = name.split_once(&mark)?;
    let (before, number) = before.rsplit_once("CAST(")?;
    let (_, after) = after.split_once("\"}>)")?;
    let plain = format!("{before}{number}{after}");
    Some(plain_name(&plain).unwrap_or(plain))
}
