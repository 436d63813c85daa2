//! Statistics of files and tables as the planner and the scan want them.
//!
//! Exact is only what occurs in the data: counts, and bounds of types that are
//! written whole. The optimizer answers `min` and `count` from exact values and
//! replaces columns by them, so a bound that was cut, or that a partition value
//! implies, is never exact. What is not known of every file is absent.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::{Accumulator, Expr};
use datafusion::scalar::ScalarValue;

use super::block::{FileBlock, FileEntry};
use super::containers::{ColumnArrays, Containers, concat, converted};
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
        let column = |(field_id, field): (&i32, &Arc<arrow::datatypes::Field>)| {
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

/// Statistics of all kept files together.
pub(super) fn of_table(schema: &TableSchema, blocks: &[Arc<FileBlock>], kept: &[bool]) -> Statistics {
    let files = blocks.iter().flat_map(|block| &block.files).zip(kept);
    let files: Vec<_> = files.filter(|(_, kept)| **kept).map(|(file, _)| file).collect();
    let pieces = pieces(blocks, kept);
    let column = |(id, field): (&i32, &Arc<arrow::datatypes::Field>)| {
        let known = if files.is_empty() { None } else { Gathered::new(*id, field.data_type(), &pieces) };
        known.and_then(|known| known.statistics(&files)).unwrap_or_else(ColumnStatistics::new_unknown)
    };
    Statistics {
        num_rows: Precision::Exact(files.iter().map(|file| file.record_count as usize).sum()),
        total_byte_size: Precision::Inexact(files.iter().map(|file| file.size_bytes as usize).sum()),
        column_statistics: schema.field_ids.iter().zip(schema.arrow.fields()).map(column).collect(),
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

/// What is known about one column, for each kept file.
struct Gathered {
    min: ArrayRef,
    max: ArrayRef,
    null_count: ArrayRef,
    attained: ArrayRef,
    /// Whether all files have the column in the type that it has now.
    same_type: bool,
}

/// What is kept of one block: all of it, or the files of a mask.
struct Piece<'a> {
    containers: &'a Containers,
    mask: Option<BooleanArray>,
    kept: usize,
}

impl Piece<'_> {
    fn of(&self, array: &ArrayRef) -> Option<ArrayRef> {
        match &self.mask {
            Some(mask) => arrow::compute::filter(array, mask).ok(),
            None => Some(Arc::clone(array)),
        }
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
            pieces.push(Piece { containers: &block.containers, mask, kept });
        }
    }
    pieces
}

impl Gathered {
    fn new(field_id: i32, data_type: &DataType, pieces: &[Piece<'_>]) -> Option<Self> {
        if data_type.is_nested() {
            return None;
        }
        let known: Vec<_> = pieces.iter().map(|piece| piece.containers.columns.get(&field_id)).collect();
        let each = |other: &DataType, pick: &dyn Fn(&ColumnArrays) -> Option<ArrayRef>| {
            let arrays = known.iter().zip(pieces).map(|(known, piece)| match known.and_then(pick) {
                Some(array) => piece.of(&array),
                None => Some(new_null_array(other, piece.kept)),
            });
            concat(arrays.collect::<Option<_>>()?)
        };
        let bound = |bound: Option<&ArrayRef>| bound.map(|array| converted(array, data_type));
        Some(Self {
            min: each(data_type, &|arrays| bound(arrays.min.as_ref()))?,
            max: each(data_type, &|arrays| bound(arrays.max.as_ref()))?,
            null_count: each(&DataType::UInt64, &|arrays| Some(Arc::new(arrays.null_count.clone())))?,
            attained: each(&DataType::Boolean, &|arrays| Some(Arc::new(arrays.attained.clone())))?,
            same_type: known.iter().flatten().all(|known| known.data_type == *data_type),
        })
    }

    fn statistics(&self, files: &[&FileEntry]) -> Option<ColumnStatistics> {
        let nulls = self.null_count.as_primitive::<UInt64Type>();
        let attained = self.attained.as_boolean();
        // A file without values has no bounds, and needs none.
        let with_values: Vec<usize> = (0..files.len())
            .filter(|index| nulls.is_null(*index) || nulls.value(*index) != files[*index].record_count)
            .collect();
        let bounded = with_values.iter().all(|index| self.min.is_valid(*index) && self.max.is_valid(*index));
        let exact = self.same_type
            && with_values.iter().all(|index| attained.is_valid(*index) && attained.value(*index));
        let bound = |value: ScalarValue| match (bounded && !value.is_null(), exact) {
            (false, _) => Precision::Absent,
            (true, true) => Precision::Exact(value),
            (true, false) => Precision::Inexact(value),
        };
        let data_type = self.min.data_type();
        let mut min = MinAccumulator::try_new(data_type).ok()?;
        let mut max = MaxAccumulator::try_new(data_type).ok()?;
        min.update_batch(&[Arc::clone(&self.min)]).ok()?;
        max.update_batch(&[Arc::clone(&self.max)]).ok()?;
        let null_count = match nulls.null_count() {
            0 => Precision::Exact(nulls.values().iter().map(|nulls| *nulls as usize).sum()),
            _ => Precision::Absent,
        };
        Some(ColumnStatistics {
            null_count,
            min_value: bound(min.evaluate().ok()?),
            max_value: bound(max.evaluate().ok()?),
            ..ColumnStatistics::new_unknown()
        })
    }
}
