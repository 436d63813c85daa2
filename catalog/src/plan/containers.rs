//! What is known about the columns of a row of containers: the files of a
//! manifest, or the manifests of a list.
//!
//! One Arrow array a column and kind of knowledge, so that a filter is decided
//! for all containers at once. Bounds are those of the column itself, narrowed
//! by what the partition values imply, so any number of partition specs looks
//! the same from here on. What is not known is NULL, and prunes nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, UInt64Array, new_null_array};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::values::Values;
use super::whole::Whole;

/// Knowledge about the columns of `len` containers.
#[derive(Debug)]
pub(super) struct Containers {
    pub(super) len: usize,
    /// Rows in each.
    pub(super) rows: UInt64Array,
    /// By field id.
    pub(super) columns: BTreeMap<i32, ColumnArrays>,
    /// Buckets that the values of a column are in.
    pub(super) buckets: Vec<BucketArray>,
}

/// Knowledge about one column.
#[derive(Debug)]
pub(super) struct ColumnArrays {
    /// The type that the column had when this was written down.
    pub(super) data_type: DataType,
    pub(super) min: Option<ArrayRef>,
    pub(super) max: Option<ArrayRef>,
    pub(super) null_count: UInt64Array,
    /// Whether the bounds are values that occur.
    pub(super) attained: BooleanArray,
    /// All of it together.
    pub(super) whole: Whole,
}

/// The bucket of a column in each container: NULL if there is none.
#[derive(Debug)]
pub(super) struct BucketArray {
    pub(super) source_id: i32,
    pub(super) count: u32,
    pub(super) buckets: Int32Array,
}

/// Knowledge about one column of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) min: Option<ScalarValue>,
    pub(super) max: Option<ScalarValue>,
    pub(super) null_count: Option<u64>,
    pub(super) attained: bool,
}

impl Cell {
    /// Of a container without rows: whatever else is said of it is said of none.
    pub(super) fn of_no_rows() -> Self {
        Self { null_count: Some(0), ..Self::default() }
    }

    /// Takes in other bounds that hold as well.
    pub(super) fn narrow(&mut self, min: Option<ScalarValue>, max: Option<ScalarValue>) {
        if let Some(min) = min
            && self.min.as_ref().is_none_or(|own| own.partial_cmp(&min) == Some(Ordering::Less))
        {
            self.min = Some(min);
            self.attained = false;
        }
        if let Some(max) = max
            && self.max.as_ref().is_none_or(|own| own.partial_cmp(&max) == Some(Ordering::Greater))
        {
            self.max = Some(max);
            self.attained = false;
        }
    }
}

/// Gathers cells, container by container.
#[derive(Debug, Default)]
pub(super) struct Builder {
    rows: Vec<Option<u64>>,
    columns: BTreeMap<i32, ColumnBuilder>,
    buckets: BTreeMap<(i32, u32), Vec<Option<i32>>>,
}

/// One column so far, and its cell in the current container.
#[derive(Debug)]
struct ColumnBuilder {
    data_type: DataType,
    current: Option<Cell>,
    min: Values,
    max: Values,
    null_count: Vec<Option<u64>>,
    attained: Vec<bool>,
}

impl Builder {
    /// Begins the next container.
    pub(super) fn start(&mut self, rows: Option<u64>) {
        self.end_container();
        self.rows.push(rows);
    }

    /// The cell of a column in the current container.
    pub(super) fn cell(&mut self, field_id: i32, data_type: &DataType) -> &mut Cell {
        let column = self.columns.entry(field_id).or_insert_with(|| ColumnBuilder::new(data_type));
        column.current.get_or_insert_default()
    }

    /// The bucket of a column in the current container.
    pub(super) fn bucket(&mut self, source_id: i32, count: u32, bucket: i32) {
        let current = self.rows.len() - 1;
        let buckets = self.buckets.entry((source_id, count)).or_default();
        buckets.resize(current, None);
        buckets.push(Some(bucket));
    }

    pub(super) fn finish(mut self) -> Containers {
        self.end_container();
        let len = self.rows.len();
        let rows = UInt64Array::from(self.rows);
        let columns = self.columns.into_iter().map(|(id, column)| (id, column.finish(&rows)));
        let buckets = self.buckets.into_iter().map(|((source_id, count), mut buckets)| {
            buckets.resize(len, None);
            BucketArray { source_id, count, buckets: buckets.into() }
        });
        Containers { len, columns: columns.collect(), buckets: buckets.collect(), rows }
    }

    fn end_container(&mut self) {
        let Some(current) = self.rows.len().checked_sub(1) else {
            return;
        };
        for column in self.columns.values_mut() {
            if let Some(cell) = column.current.take() {
                column.push(current, &cell);
            }
        }
    }
}

impl ColumnBuilder {
    fn new(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            current: None,
            min: Values::new(data_type),
            max: Values::new(data_type),
            null_count: Vec::new(),
            attained: Vec::new(),
        }
    }

    /// The cell of the container at `index`; of those since the last one nothing is known.
    fn push(&mut self, index: usize, cell: &Cell) {
        self.pad(index);
        let push = |values: &mut Values, value: &Option<ScalarValue>| {
            let known = value.as_ref().is_some_and(|value| values.push(value));
            values.pad(index + 1);
            known
        };
        let (min, max) = (push(&mut self.min, &cell.min), push(&mut self.max, &cell.max));
        self.null_count.push(cell.null_count);
        self.attained.push(cell.attained && min && max);
    }

    fn pad(&mut self, len: usize) {
        self.min.pad(len);
        self.max.pad(len);
        self.null_count.resize(len, None);
        self.attained.resize(len, false);
    }

    fn finish(mut self, rows: &UInt64Array) -> ColumnArrays {
        self.pad(rows.len());
        let (min, max) = (self.min.finish_known(), self.max.finish_known());
        let (null_count, attained) = (UInt64Array::from(self.null_count), BooleanArray::from(self.attained));
        let whole = Whole::of(&self.data_type, min.as_ref(), max.as_ref(), &null_count, &attained, rows);
        ColumnArrays { data_type: self.data_type, min, max, null_count, attained, whole }
    }
}

impl ColumnArrays {
    fn heap_bytes(&self) -> usize {
        let arrays = [self.min.as_ref(), self.max.as_ref()].into_iter().flatten();
        size_of::<Self>()
            + arrays.map(|array| array.get_array_memory_size()).sum::<usize>()
            + self.null_count.get_array_memory_size()
            + self.attained.get_array_memory_size()
            + self.whole.heap_bytes()
    }
}

impl Containers {
    pub(super) fn heap_bytes(&self) -> usize {
        let columns = self.columns.values().map(ColumnArrays::heap_bytes).sum::<usize>();
        let buckets = self.buckets.iter().map(|bucket| bucket.buckets.get_array_memory_size()).sum::<usize>();
        columns + buckets + self.rows.get_array_memory_size()
    }
}

/// An array of another type; what cannot be converted is NULL.
pub(super) fn converted(array: &ArrayRef, data_type: &DataType) -> ArrayRef {
    if array.data_type() == data_type {
        return Arc::clone(array);
    }
    arrow::compute::cast(array, data_type).unwrap_or_else(|_| new_null_array(data_type, array.len()))
}

/// One kind of knowledge about a column, for the containers of all blocks, in the column's type of now. `None` if
/// nothing is known.
pub(super) fn gather(
    blocks: &[&Containers],
    field_id: i32,
    data_type: &DataType,
    pick: impl Fn(&ColumnArrays) -> Option<&ArrayRef>,
) -> Option<ArrayRef> {
    let picked: Vec<_> = blocks.iter().map(|block| block.columns.get(&field_id).and_then(&pick)).collect();
    if picked.iter().all(Option::is_none) {
        return None;
    }
    let arrays = blocks.iter().zip(picked).map(|(block, array)| match array {
        Some(array) => converted(array, data_type),
        None => new_null_array(data_type, block.len),
    });
    concat(arrays.collect())
}

/// Several arrays as one.
pub(super) fn concat(arrays: Vec<ArrayRef>) -> Option<ArrayRef> {
    if let [one] = arrays.as_slice() {
        return Some(Arc::clone(one));
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
    arrow::compute::concat(&arrays).ok()
}
