//! Statistics of files and tables as the planner and the scan want them.
//!
//! Exact is only what occurs in the data: counts, and bounds of types that are
//! written whole. The optimizer answers `min` and `count` from exact values and
//! replaces columns by them, so a bound that was cut, or that a partition value
//! implies, is never exact. What is not known of every file is absent.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::block::FileBlock;
use super::containers::{ColumnArrays, Containers, converted};
use super::whole::Whole;
use crate::iceberg::TableSchema;

/// The columns of a block, found and converted once for all of its files.
pub(super) struct Columns<'a> {
    columns: Vec<Option<Known<'a>>>,
}

struct Known<'a> {
    arrays: &'a ColumnArrays,
    min: Option<ArrayRef>,
    max: Option<ArrayRef>,
    /// Whether the column still has the type that it was written with.
    same_type: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn new(schema: &TableSchema, containers: &'a Containers) -> Self {
        let column = |(field_id, field): (&i32, &FieldRef)| {
            let arrays = containers.columns.get(field_id)?;
            let convert = |array: &ArrayRef| converted(array, field.data_type());
            let same_type = arrays.data_type == *field.data_type();
            Some(Known {
                arrays,
                min: arrays.min.as_ref().map(convert),
                max: arrays.max.as_ref().map(convert),
                same_type,
            })
        };
        Self { columns: schema.field_ids.iter().zip(schema.arrow.fields()).map(column).collect() }
    }

    /// Statistics of the file at `index`.
    pub(super) fn of_file(&self, index: usize, rows: u64, size_bytes: u64) -> Statistics {
        let column = |known: &Option<Known>| match known {
            Some(known) => known.of_file(index),
            None => ColumnStatistics::new_unknown(),
        };
        Statistics {
            num_rows: Precision::Exact(rows as usize),
            // Not what the rows take in memory, but what there is to go by.
            total_byte_size: Precision::Inexact(size_bytes as usize),
            column_statistics: self.columns.iter().map(column).collect(),
        }
    }
}

impl Known<'_> {
    fn of_file(&self, index: usize) -> ColumnStatistics {
        let exact = self.same_type && self.arrays.attained.value(index);
        let bound = |array: &Option<ArrayRef>| match array.as_ref().filter(|array| array.is_valid(index)) {
            Some(array) => match ScalarValue::try_from_array(array, index) {
                Ok(value) if exact => Precision::Exact(value),
                Ok(value) => Precision::Inexact(value),
                Err(_) => Precision::Absent,
            },
            None => Precision::Absent,
        };
        let nulls = &self.arrays.null_count;
        let null_count = match nulls.is_valid(index) {
            true => Precision::Exact(nulls.value(index) as usize),
            false => Precision::Absent,
        };
        ColumnStatistics {
            null_count,
            min_value: bound(&self.min),
            max_value: bound(&self.max),
            ..ColumnStatistics::new_unknown()
        }
    }
}

/// Statistics of all kept files together: of so many rows and bytes.
pub(super) fn of_table(
    schema: &TableSchema,
    blocks: &[Arc<FileBlock>],
    kept: &[bool],
    (rows, size_bytes): (u64, u64),
) -> Statistics {
    let pieces = pieces(blocks, kept);
    let column = |(id, field): (&i32, &FieldRef)| match field.data_type().is_nested() {
        true => ColumnStatistics::new_unknown(),
        false => of_column(*id, field.data_type(), &pieces),
    };
    Statistics {
        num_rows: Precision::Exact(rows as usize),
        total_byte_size: Precision::Inexact(size_bytes as usize),
        column_statistics: schema.field_ids.iter().zip(schema.arrow.fields()).map(column).collect(),
    }
}

fn of_column(field_id: i32, data_type: &DataType, pieces: &[Piece<'_>]) -> ColumnStatistics {
    let known = || pieces.iter().map(|piece| piece.containers.columns.get(&field_id));
    // Whether all files have the column in the type that it has now.
    let same_type = known().flatten().all(|known| known.data_type == *data_type);
    let whole = |(piece, known): (&Piece<'_>, Option<&ColumnArrays>)| match known {
        Some(known) => piece.whole(known, data_type),
        None => Whole::unknown(),
    };
    let Some(whole) = pieces.iter().zip(known()).map(whole).reduce(Whole::and) else {
        return ColumnStatistics::new_unknown();
    };
    let exact = same_type && whole.is_attained;
    let bound = |value: Option<ScalarValue>| match value.filter(|_| whole.is_bounded) {
        None => Precision::Absent,
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
    };
    ColumnStatistics {
        null_count: whole.null_count.map_or(Precision::Absent, |nulls| Precision::Exact(nulls as usize)),
        min_value: bound(whole.min.clone()),
        max_value: bound(whole.max.clone()),
        ..ColumnStatistics::new_unknown()
    }
}

/// Takes away the bounds of columns that a filter casts.
///
/// DataFusion 55 estimates a filter by its columns' ranges before and after, and fails to plan if the range grows:
/// a cast that rounds, as from a timestamp to a date, comes back with a lower bound below the one it was given.
pub(super) fn forget_bounds_of_casts(statistics: &mut Statistics, schema: &TableSchema, filters: &[Expr]) {
    for filter in filters {
        let forget = |expr: &Expr| {
            let inner = match expr {
                Expr::Cast(cast) => &cast.expr,
                Expr::TryCast(cast) => &cast.expr,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            for (_, index) in inner.column_refs().iter().filter_map(|column| schema.column(&column.name)) {
                statistics.column_statistics[index].min_value = Precision::Absent;
                statistics.column_statistics[index].max_value = Precision::Absent;
            }
            Ok(TreeNodeRecursion::Jump)
        };
        // The closure cannot fail, and an expression that cannot be walked has no casts to be found.
        let _walked: Result<_> = filter.apply(forget);
    }
}

/// What is kept of one block: all of it, or the files of a mask.
struct Piece<'a> {
    containers: &'a Containers,
    mask: Option<BooleanArray>,
}

impl Piece<'_> {
    /// What is known about a column of its files together, in the column's type of now.
    fn whole(&self, known: &ColumnArrays, data_type: &DataType) -> Whole {
        if self.mask.is_none() && known.data_type == *data_type {
            return known.whole.clone();
        }
        self.computed(known, data_type).unwrap_or_else(Whole::unknown)
    }

    fn computed(&self, known: &ColumnArrays, data_type: &DataType) -> Option<Whole> {
        let of = |array: &dyn Array| match &self.mask {
            Some(mask) => arrow::compute::filter(array, mask).ok(),
            None => Some(array.slice(0, array.len())),
        };
        let bound = |bound: &Option<ArrayRef>| match bound {
            Some(bound) => Some(Some(converted(&of(bound)?, data_type))),
            None => Some(None),
        };
        let (min, max) = (bound(&known.min)?, bound(&known.max)?);
        let (null_count, rows) = (of(&known.null_count)?, of(&self.containers.rows)?);
        let attained = of(&known.attained)?;
        Some(Whole::of(
            data_type,
            min.as_ref(),
            max.as_ref(),
            null_count.as_primitive(),
            attained.as_boolean(),
            rows.as_primitive(),
        ))
    }
}

/// The blocks of which anything is kept. So a filter that leaves few files costs little, whatever the table's size.
fn pieces<'a>(blocks: &'a [Arc<FileBlock>], kept: &[bool]) -> Vec<Piece<'a>> {
    let mut rest = kept;
    let mut pieces = Vec::new();
    for block in blocks {
        let (own, after) = rest.split_at(block.files.len());
        rest = after;
        let kept = own.iter().filter(|kept| **kept).count();
        if kept > 0 {
            let mask = (kept < own.len()).then(|| BooleanArray::from(own.to_vec()));
            pieces.push(Piece { containers: &block.containers, mask });
        }
    }
    pieces
}
