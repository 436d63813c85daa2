//! Which filters may go into the Parquet reader.
//!
//! A filter that goes in is used to skip row groups and pages by their
//! statistics and, with `pushdown_filters`, replaces the filter above the
//! scan. Three kinds stay out. Filters over nested columns: the reader leaves
//! out, silently, what it cannot build for one file's version of a nested
//! column, and then nobody filters. Filters that a NaN may pass: statistics
//! do not cover NaN, so a row group of which they say "at most 4" may hold a
//! row for which `x > 5`, NaN being the greatest value. Nor filters over metadata
//! columns, which no file has.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal,
};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;

use crate::columns::MetadataColumn;

/// Whether the conjunct may be given to the reader. `schema` is the table's.
pub(super) fn is_safe(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let mut has_float = false;
    for column in collect_columns(filter) {
        let Some(field) = schema.fields().get(column.index()) else {
            return false;
        };
        if field.data_type().is_nested() || MetadataColumn::of_field(field).is_some() {
            return false;
        }
        has_float |= is_float(field.data_type());
    }
    !has_float || rejects_nan(filter, schema)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// Whether no row with a NaN in a float column of the conjunct passes it; knows the usual shapes.
fn rejects_nan(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let Some(binary) = filter.downcast_ref::<BinaryExpr>() else {
        return is_null_test(filter) || is_in_list(filter);
    };
    let (left, right) = (binary.left(), binary.right());
    match binary.op() {
        Operator::And => is_safe(left, schema) && is_safe(right, schema),
        Operator::Or => is_safe(left, schema) && is_safe(right, schema),
        Operator::Eq => is_column(left) && is_number(right) || is_number(left) && is_column(right),
        Operator::Lt | Operator::LtEq => is_column(left) && is_number(right),
        Operator::Gt | Operator::GtEq => is_number(left) && is_column(right),
        _ => false,
    }
}

fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some()
}

/// A literal other than NaN.
fn is_number(expr: &Arc<dyn PhysicalExpr>) -> bool {
    use datafusion::scalar::ScalarValue::{Float16, Float32, Float64};
    expr.downcast_ref::<Literal>().is_some_and(|literal| match literal.value() {
        Float16(Some(value)) => !value.is_nan(),
        Float32(Some(value)) => !value.is_nan(),
        Float64(Some(value)) => !value.is_nan(),
        _ => true,
    })
}

/// NULL counts are right whatever the values are.
fn is_null_test(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let null = expr.downcast_ref::<IsNullExpr>().map(IsNullExpr::arg);
    let arg = null.or_else(|| expr.downcast_ref::<IsNotNullExpr>().map(IsNotNullExpr::arg));
    arg.is_some_and(is_column)
}

fn is_in_list(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<InListExpr>()
        .is_some_and(|list| !list.negated() && is_column(list.expr()) && list.list().iter().all(is_number))
}
