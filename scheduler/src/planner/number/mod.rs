//! Numbers with a point, compared as they are written.
//!
//! ```text
//! x < 0.30  --mark-->  x < CAST(0.30 AS "exact number"('0.3'))  --engine-->  CAST(0.3 AS Float64 {exact number 0.3})
//!                                                    --rule-->  x < 0.30 as a decimal, or as a double
//! ```
//!
//! The engine reads such a number as a double, which most of them are not: `12345678901234567890.12345` is
//! not, and neither is `0.06 + 0.01` 0.07. Whether that matters depends on what stands beside the number,
//! which is known only when names are resolved. So each number that is compared keeps its text, in a cast
//! that neither changes its type nor shows in a column's name, until a rule of the analyzer sees both sides:
//! beside decimals and integers it is a decimal, beside doubles it is a double.
//!
//! The rule to keep: what a query gives has the types that it would have without this room. Only
//! comparisons, casts to decimals and rows of `INSERT` are exact; `price * 0.5` in a SELECT is a double.

mod mark;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, i256};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::parser::Statement;

/// A rule of the analyzer.
type Rule = Arc<dyn AnalyzerRule + Send + Sync>;

/// How deep in sums and products of an operand numbers are looked for. What is deeper is a double.
const DEPTH_MAX: usize = 64;

/// The plan of a statement, with its marks, not analyzed yet.
pub async fn logical_plan(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    if let Statement::Statement(statement) = &mut statement {
        mark::mark(statement);
    }
    mark::with_plain_names(state.statement_to_plan(statement).await?)
}

/// Whether it is a cast that only marks a number.
pub fn is_mark(expr: &Expr) -> bool {
    mark::marked(expr).is_some()
}

/// The engine with what this room adds to it and to its rules.
pub fn install(builder: SessionStateBuilder, mut rules: Vec<Rule>) -> SessionStateBuilder {
    // Before types are made equal.
    rules.insert(0, Arc::new(rule::ExactNumbers));
    builder.with_analyzer_rules(rules).with_type_planner(Arc::new(mark::MarkType))
}

/// A number as it was written, whatever its length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    negative: bool,
    /// The digits, of them `scale` behind the point. No zeros in front, none at the end behind the point.
    digits: String,
    scale: usize,
}

impl Number {
    /// Reads `12.50`, `.5`, `5.`, with `_` between digits. None if it has an exponent.
    fn parse(text: &str, negative: bool) -> Option<Self> {
        let text: String = text.chars().filter(|digit| *digit != '_').collect();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0').to_string();
        Some(Self { negative: negative && !digits.is_empty(), digits, scale: fraction.len() })
    }

    /// The text that [`Number::of_text`] reads.
    fn text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = format!("{:0>width$}", self.digits, width = self.scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale);
        format!("{sign}{whole}.{fraction}")
    }

    fn of_text(text: &str) -> Option<Self> {
        match text.strip_prefix('-') {
            Some(text) => Self::parse(text, true),
            None => Self::parse(text, false),
        }
    }

    /// Digits of the smallest decimal type that holds it; those behind the point are [`Number::scale`].
    fn precision(&self) -> usize {
        self.digits.len().max(self.scale).max(1)
    }

    /// The number as that type, or as any other that holds it exactly; `None` if it does not.
    fn as_type(&self, data_type: &DataType) -> Option<ScalarValue> {
        let integer = || self.at_scale(0)?.parse::<i64>().ok();
        Some(match data_type {
            DataType::Int8 => ScalarValue::Int8(Some(integer()?.try_into().ok()?)),
            DataType::Int16 => ScalarValue::Int16(Some(integer()?.try_into().ok()?)),
            DataType::Int32 => ScalarValue::Int32(Some(integer()?.try_into().ok()?)),
            DataType::Int64 => ScalarValue::Int64(Some(integer()?)),
            DataType::Decimal128(precision, scale) => {
                let unscaled = self.unscaled(*precision, *scale, DECIMAL128_MAX_PRECISION)?;
                ScalarValue::Decimal128(Some(unscaled.parse().ok()?), *precision, *scale)
            }
            DataType::Decimal256(precision, scale) => {
                let unscaled = self.unscaled(*precision, *scale, DECIMAL256_MAX_PRECISION)?;
                ScalarValue::Decimal256(Some(i256::from_string(&unscaled)?), *precision, *scale)
            }
            _ => return None,
        })
    }

    /// The number in the smallest decimal type that holds it; in one of 256 bits if asked for, or needed.
    fn as_decimal(&self, wide: bool) -> Option<ScalarValue> {
        let (precision, scale) = (u8::try_from(self.precision()).ok()?, i8::try_from(self.scale).ok()?);
        if !wide && let Some(value) = self.as_type(&DataType::Decimal128(precision, scale)) {
            return Some(value);
        }
        self.as_type(&DataType::Decimal256(precision, scale))
    }

    fn unscaled(&self, precision: u8, scale: i8, precision_max: u8) -> Option<String> {
        if precision > precision_max {
            return None;
        }
        let unscaled = self.at_scale(usize::try_from(scale).ok()?)?;
        (unscaled.trim_start_matches('-').len() <= usize::from(precision)).then_some(unscaled)
    }

    /// The number times 10^scale, if that is whole.
    fn at_scale(&self, scale: usize) -> Option<String> {
        let zeros = scale.checked_sub(self.scale)?;
        let sign = if self.negative { "-" } else { "" };
        if self.digits.is_empty() {
            return Some("0".into());
        }
        Some(format!("{sign}{}{}", self.digits, "0".repeat(zeros)))
    }

    /// The nearest number with at most so many digits behind the point, that is not below (`up`), or not
    /// above this one; `None` if it is too long to be reckoned with.
    fn rounded(&self, scale: usize, up: bool) -> Option<Self> {
        let Some(cut) = self.scale.checked_sub(scale).filter(|cut| *cut > 0) else {
            return Some(self.clone());
        };
        // No zero is at the end, so something is cut off.
        let kept = self.digits.len().saturating_sub(cut);
        let away = i128::from(up != self.negative);
        let kept: i128 = if kept == 0 { 0 } else { self.digits[..kept].parse().ok()? };
        let digits = format!("{:0>width$}", kept.checked_add(away)?, width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        Self::parse(&format!("{whole}.{fraction}"), self.negative)
    }
}
