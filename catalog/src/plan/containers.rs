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

/// Knowledge about the columns of `len` containers.
#[derive(Debug, Default)]
pub(super) struct Containers {
    pub(super) len: usize,
    /// Rows in each.
    pub(super) rows: Vec<Option<u64>>,
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
    columns: BTreeMap<i32, (DataType, Vec<Cell>)>,
    buckets: BTreeMap<(i32, u32), Vec<Option<i32>>>,
}

impl Builder {
    /// Begins the next container.
    pub(super) fn start(&mut self, rows: Option<u64>) {
        self.rows.push(rows);
    }

    /// The cell of a column in the current container.
    pub(super) fn cell(&mut self, field_id: i32, data_type: &DataType) -> &mut Cell {
        let current = self.rows.len() - 1;
        let (_, cells) = self.columns.entry(field_id).or_insert_with(|| (data_type.clone(), Vec::new()));
        cells.resize(current + 1, Cell::default());
        &mut cells[current]
    }

    /// The bucket of a column in the current container.
    pub(super) fn bucket(&mut self, source_id: i32, count: u32, bucket: i32) {
        let current = self.rows.len() - 1;
        let buckets = self.buckets.entry((source_id, count)).or_default();
        buckets.resize(current, None);
        buckets.push(Some(bucket));
    }

    pub(super) fn finish(self) -> Containers {
        let len = self.rows.len();
        let columns = self.columns.into_iter().map(|(id, (data_type, mut cells))| {
            cells.resize(len, Cell::default());
            (id, ColumnArrays::new(data_type, cells))
        });
        let buckets = self.buckets.into_iter().map(|((source_id, count), mut buckets)| {
            buckets.resize(len, None);
            BucketArray { source_id, count, buckets: buckets.into() }
        });
        Containers { len, columns: columns.collect(), buckets: buckets.collect(), rows: self.rows }
    }
}

impl ColumnArrays {
    fn new(data_type: DataType, cells: Vec<Cell>) -> Self {
        let null_count = cells.iter().map(|cell| cell.null_count).collect();
        let attained = cells.iter().map(|cell| Some(cell.attained)).collect();
        let (min, max): (Vec<_>, Vec<_>) = cells.into_iter().map(|cell| (cell.min, cell.max)).unzip();
        let (min, max) = (array(min, &data_type), array(max, &data_type));
        Self { data_type, min, max, null_count, attained }
    }

    fn heap_bytes(&self) -> usize {
        let arrays = [self.min.as_ref(), self.max.as_ref()].into_iter().flatten();
        size_of::<Self>()
            + arrays.map(|array| array.get_array_memory_size()).sum::<usize>()
            + self.null_count.get_array_memory_size()
            + self.attained.get_array_memory_size()
    }
}

impl Containers {
    pub(super) fn heap_bytes(&self) -> usize {
        let columns = self.columns.values().map(ColumnArrays::heap_bytes).sum::<usize>();
        let buckets = self.buckets.iter().map(|bucket| bucket.buckets.get_array_memory_size()).sum::<usize>();
        columns + buckets + self.rows.capacity() * size_of::<Option<u64>>()
    }
}

/// The values as an array; `None` if there is none, or if one is not of the type.
fn array(values: Vec<Option<ScalarValue>>, data_type: &DataType) -> Option<ArrayRef> {
    if values.iter().all(Option::is_none) {
        return None;
    }
    let null = ScalarValue::try_new_null(data_type).ok()?;
    let fits = |value: ScalarValue| if value.data_type() == *data_type { value } else { null.clone() };
    let values = values.into_iter().map(|value| value.map_or_else(|| null.clone(), fits));
    ScalarValue::iter_to_array(values).ok()
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
