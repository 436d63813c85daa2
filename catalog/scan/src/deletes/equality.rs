//! The index of equality deletes: a row's key, and the highest sequence number that deletes it.
//!
//! One index serves all data files of a group: a row is deleted if its key is
//! there with a higher number than that of its data file. Keys are compared as
//! Java does it: NULL equals NULL, NaN equals NaN, and the two zeros differ.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, StructArray, make_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{HashMap, HashSet, Result, internal_datafusion_err};

use super::EqualityKey;
use super::members::{Filter, Numbers, Range};
use crate::task::field_id;

/// What an entry of a map of boxed keys takes beside the key: pointer, length, number, control byte, allocation.
const BOXED_ENTRY_BYTES: usize = 24 + 8 + 16;
/// What an entry of a map of integers takes, and one of a set.
const INTEGER_ENTRY_BYTES: usize = 17;
const MEMBER_BYTES: usize = 9;
/// Part of the rows below which the keys of all that are left are compared: to hash them first would take as long.
const FEW: usize = 8;

/// Where a key is: a column, and positions that lead into structs below it.
pub(super) type Place = (usize, Vec<usize>);

/// Deleted keys.
#[derive(Debug)]
pub(super) struct EqualityIndex {
    types: Vec<DataType>,
    keys: Keys,
    /// The least and the greatest sequence number of a key.
    numbers: Option<(i64, i64)>,
}

#[derive(Debug)]
enum Keys {
    Integers(Integers),
    Rows(Rows),
}

/// Keys of one column of a type that is a number in memory.
#[derive(Debug, Default)]
struct Integers {
    /// By key. Empty if all numbers are one.
    numbers: HashMap<i64, i64>,
    /// The keys if all numbers are one and there is no range: half as large, and so more of it is near.
    members: HashSet<i64>,
    null: Option<i64>,
    /// Once all keys are in: one of the two.
    range: Option<Range>,
    filter: Option<Filter>,
}

/// Any other keys, in Arrow's row format.
#[derive(Debug)]
struct Rows {
    converter: RowConverter,
    numbers: HashMap<Box<[u8]>, i64>,
    key_bytes: usize,
    /// What is known of the columns that are numbers in memory: asked first, for it costs the least.
    columns: Vec<(usize, Numbers)>,
    /// Of the columns of each key, until the filter is made of them.
    hashes: Vec<u64>,
    state: RandomState,
    filter: Option<Filter>,
}

impl EqualityIndex {
    pub(super) fn new(keys: &[EqualityKey]) -> Result<Self> {
        let types = keys.iter().map(leaf_type).collect::<Result<Vec<_>>>()?;
        let keys = match types.as_slice() {
            [one] if is_integer(one) => Keys::Integers(Integers::default()),
            _ => Keys::Rows(Rows::new(&types)?),
        };
        Ok(Self { types, keys, numbers: None })
    }

    /// Takes in keys that are deleted with this sequence number.
    pub(super) fn insert(&mut self, columns: &[ArrayRef], sequence_number: i64) -> Result<()> {
        let columns = self.normalised(columns)?;
        if columns.first().is_some_and(|column| !column.is_empty()) {
            let (least, greatest) = self.numbers.unwrap_or((sequence_number, sequence_number));
            self.numbers = Some((least.min(sequence_number), greatest.max(sequence_number)));
        }
        match &mut self.keys {
            Keys::Integers(keys) => keys.insert(columns[0].as_primitive(), sequence_number),
            Keys::Rows(keys) => keys.insert(&columns, sequence_number)?,
        }
        Ok(())
    }

    /// Says that all keys are in.
    pub(super) fn finish(&mut self) {
        match &mut self.keys {
            Keys::Integers(keys) => {
                let one_number = self.numbers.is_none_or(|(least, greatest)| least == greatest);
                keys.finish(one_number);
            }
            Keys::Rows(keys) => keys.finish(),
        }
    }

    /// For each row whether it stays, in a data file with this sequence number.
    pub(super) fn kept(&self, columns: &[ArrayRef], data_sequence_number: i64) -> Result<BooleanBuffer> {
        let rows = columns.first().map_or(0, |column| column.len());
        let Some((least, _)) = self.numbers.filter(|(_, greatest)| *greatest > data_sequence_number) else {
            return Ok(BooleanBuffer::new_set(rows));
        };
        let columns = self.normalised(columns)?;
        let gone = match &self.keys {
            Keys::Integers(keys) => {
                keys.gone(columns[0].as_primitive(), data_sequence_number, least > data_sequence_number)
            }
            Keys::Rows(keys) => keys.gone(&columns, rows, data_sequence_number)?,
        };
        Ok(!&gone)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.keys {
                Keys::Integers(keys) => keys.heap_bytes(),
                Keys::Rows(keys) => keys.heap_bytes(),
            }
    }

    /// The columns in the index's types, with one NaN, and numbers as such.
    fn normalised(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Integers(_) => Ok(vec![as_numbers(&as_type(&columns[0], &self.types[0])?)?]),
            Keys::Rows(_) => normalised(columns, &self.types),
        }
    }
}

impl Integers {
    fn insert(&mut self, column: &Int64Array, sequence_number: i64) {
        for value in column {
            let highest = match value {
                Some(value) => self.numbers.entry(value).or_insert(sequence_number),
                None => self.null.get_or_insert(sequence_number),
            };
            *highest = sequence_number.max(*highest);
        }
    }

    fn finish(&mut self, one_number: bool) {
        self.range = Range::new(self.numbers.keys().copied());
        if self.range.is_none() {
            self.filter = Some(Filter::new(self.numbers.keys().map(|key| *key as u64)));
        }
        if one_number {
            let numbers = std::mem::take(&mut self.numbers);
            if self.range.is_none() {
                self.members = numbers.into_keys().collect();
            }
        }
    }

    /// The rows that are deleted. `all_newer`: every key's sequence number is above that of the data file.
    fn gone(&self, column: &Int64Array, data_sequence_number: i64, all_newer: bool) -> BooleanBuffer {
        let (values, rows) = (column.values(), column.len());
        let mut gone = match (&self.range, &self.filter) {
            (Some(range), _) => BooleanBuffer::collect_bool(rows, |row| range.has(values[row])),
            (None, Some(filter)) => {
                BooleanBuffer::collect_bool(rows, |row| filter.may_have(values[row] as u64))
            }
            (None, None) => BooleanBuffer::new_set(rows),
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        if let Some(nulls) = nulls {
            gone = &gone & nulls.inner();
        }
        if all_newer && self.numbers.is_empty() {
            // A number that is the only one is above that of the file, or nobody asks.
            if self.range.is_none() {
                gone = only(&gone, |row| self.members.contains(&values[row]));
            }
        } else if !(all_newer && self.range.is_some()) {
            let is_gone = |row: usize| {
                self.numbers.get(&values[row]).is_some_and(|number| *number > data_sequence_number)
            };
            gone = only(&gone, is_gone);
        }
        match nulls {
            Some(nulls) if self.null.is_some_and(|number| number > data_sequence_number) => {
                &gone | &!nulls.inner()
            }
            _ => gone,
        }
    }

    fn heap_bytes(&self) -> usize {
        self.numbers.capacity() * INTEGER_ENTRY_BYTES
            + self.members.capacity() * MEMBER_BYTES
            + self.range.as_ref().map_or(0, Range::heap_bytes)
            + self.filter.as_ref().map_or(0, Filter::heap_bytes)
    }
}

impl Rows {
    fn new(types: &[DataType]) -> Result<Self> {
        let number = |(column, data_type)| is_integer(data_type).then(|| (column, Numbers::default()));
        Ok(Self {
            converter: row_converter(types)?,
            numbers: HashMap::default(),
            key_bytes: 0,
            columns: types.iter().enumerate().filter_map(number).collect(),
            hashes: Vec::new(),
            state: RandomState::default(),
            filter: None,
        })
    }

    fn insert(&mut self, columns: &[ArrayRef], sequence_number: i64) -> Result<()> {
        let keys = self.converter.convert_columns(columns)?;
        let hashes = self.hashes_of(columns, keys.num_rows())?;
        for (column, numbers) in &mut self.columns {
            numbers.insert(as_numbers(&columns[*column])?.as_primitive());
        }
        for (row, hash) in keys.iter().zip(hashes) {
            match self.numbers.get_mut(row.data()) {
                Some(highest) => *highest = sequence_number.max(*highest),
                None => {
                    self.key_bytes += row.data().len();
                    self.hashes.push(hash);
                    self.numbers.insert(row.data().into(), sequence_number);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.filter = Some(Filter::new(std::mem::take(&mut self.hashes).into_iter()));
        for (_, numbers) in &mut self.columns {
            numbers.finish();
        }
    }

    /// The rows that are deleted. The keys of those only that may be by their numbers are hashed, and of these those
    /// only that may be by their hash are put into the row format: each step takes several times as long as the one
    /// before.
    fn gone(&self, columns: &[ArrayRef], rows: usize, data_sequence_number: i64) -> Result<BooleanBuffer> {
        let mut candidates = BooleanBuffer::new_set(rows);
        for (column, numbers) in &self.columns {
            candidates = &candidates & &numbers.candidates(as_numbers(&columns[*column])?.as_primitive());
        }
        if let Some(filter) = &self.filter
            && candidates.count_set_bits() * FEW > rows
        {
            let columns = chosen(columns, &candidates)?;
            let hashes = self.hashes_of(&columns, candidates.count_set_bits())?;
            let mut hashes = hashes.into_iter();
            candidates = only(&candidates, |_| hashes.next().is_some_and(|hash| filter.may_have(hash)));
        }
        if candidates.count_set_bits() == 0 {
            return Ok(candidates);
        }
        let keys = self.converter.convert_columns(&chosen(columns, &candidates)?)?;
        let mut key = keys.iter();
        Ok(only(&candidates, |_| {
            let number = key.next().and_then(|key| self.numbers.get(key.data()));
            number.is_some_and(|number| *number > data_sequence_number)
        }))
    }

    fn hashes_of(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = vec![0; rows];
        create_hashes(columns, &self.state, &mut hashes)?;
        Ok(hashes)
    }

    fn heap_bytes(&self) -> usize {
        self.numbers.capacity() * BOXED_ENTRY_BYTES
            + self.key_bytes
            + self.hashes.capacity() * size_of::<u64>()
            + self.filter.as_ref().map_or(0, Filter::heap_bytes)
            + self.columns.iter().map(|(_, numbers)| numbers.heap_bytes()).sum::<usize>()
    }
}

/// The chosen rows.
fn chosen(columns: &[ArrayRef], rows: &BooleanBuffer) -> Result<Vec<ArrayRef>> {
    if rows.count_set_bits() == rows.len() {
        return Ok(columns.to_vec());
    }
    let mask = BooleanArray::new(rows.clone(), None);
    Ok(columns.iter().map(|column| filter(column, &mask)).collect::<Result<_, _>>()?)
}

/// Those of the rows of which it is so, asked in their order.
fn only(rows: &BooleanBuffer, mut is_so: impl FnMut(usize) -> bool) -> BooleanBuffer {
    let mut builder = BooleanBufferBuilder::new(rows.len());
    builder.append_n(rows.len(), false);
    for row in rows.set_indices() {
        if is_so(row) {
            builder.set_bit(row, true);
        }
    }
    builder.finish()
}

pub(super) fn row_converter(types: &[DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
}

fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    match column.data_type() == data_type {
        true => Ok(Arc::clone(column)),
        false => Ok(cast(column, data_type)?),
    }
}

/// A column of a type that is a number in memory, as numbers.
fn as_numbers(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(column, &DataType::Int64)?)
}

/// The columns in these types, with one NaN.
pub(super) fn normalised(columns: &[ArrayRef], types: &[DataType]) -> Result<Vec<ArrayRef>> {
    let column = |(column, data_type): (&ArrayRef, &DataType)| {
        let column = as_type(column, data_type)?;
        Ok(match data_type {
            DataType::Float32 => {
                let one_nan = |value: f32| if value.is_nan() { f32::NAN } else { value };
                Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one_nan)) as ArrayRef
            }
            DataType::Float64 => {
                let one_nan = |value: f64| if value.is_nan() { f64::NAN } else { value };
                Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one_nan)) as ArrayRef
            }
            _ => column,
        })
    };
    columns.iter().zip(types).map(column).collect()
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_)
    )
}

/// The type of what is compared.
pub(super) fn leaf_type(key: &EqualityKey) -> Result<DataType> {
    let mut data_type = key.field.data_type();
    for id in &key.path {
        let child = child(data_type, *id).map(|(_, field)| field.data_type());
        data_type =
            child.ok_or_else(|| internal_datafusion_err!("no field {id} in {:?}", key.field.name()))?;
    }
    Ok(data_type.clone())
}

fn child(data_type: &DataType, id: i32) -> Option<(usize, &Arc<Field>)> {
    let DataType::Struct(fields) = data_type else {
        return None;
    };
    fields.iter().enumerate().find(|(_, field)| field_id(field) == Some(id))
}

/// Where in a column of this type the field is that `path` leads to.
pub(super) fn positions(data_type: &DataType, path: &[i32]) -> Option<Vec<usize>> {
    let mut data_type = data_type;
    let step = |id: &i32| {
        let (position, field) = child(data_type, *id)?;
        data_type = field.data_type();
        Some(position)
    };
    path.iter().map(step).collect()
}

/// What is compared of a column. A field of a struct that is NULL is NULL.
pub(super) fn leaf(column: &ArrayRef, positions: &[usize]) -> Result<ArrayRef> {
    let mut leaf = Arc::clone(column);
    for position in positions {
        let parent: &StructArray = leaf.as_struct();
        let field = parent.column(*position);
        let nulls = NullBuffer::union(parent.nulls(), field.nulls());
        leaf = make_array(field.to_data().into_builder().nulls(nulls).build()?);
    }
    Ok(leaf)
}

/// The schema to read delete files with, and where each key is in it. Of structs only what is compared is read, as
/// a delete file need not have more.
pub(super) fn delete_schema(keys: &[EqualityKey]) -> Option<(SchemaRef, Vec<Place>)> {
    let mut fields: Vec<(i32, Field)> = Vec::new();
    for key in keys {
        let id = field_id(&key.field)?;
        if fields.iter().all(|(known, _)| *known != id) {
            let paths: Vec<&[i32]> = keys
                .iter()
                .filter(|other| field_id(&other.field) == Some(id))
                .map(|other| other.path.as_slice())
                .collect();
            fields.push((id, pruned(&key.field, &paths)));
        }
    }
    let place = |key: &EqualityKey| {
        let id = field_id(&key.field)?;
        let index = fields.iter().position(|(known, _)| *known == id)?;
        Some((index, positions(fields[index].1.data_type(), &key.path)?))
    };
    let places = keys.iter().map(place).collect::<Option<_>>()?;
    let fields: Vec<_> = fields.into_iter().map(|(_, field)| field).collect();
    Some((Arc::new(Schema::new(fields)), places))
}

fn pruned(field: &Field, paths: &[&[i32]]) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) if paths.iter().all(|path| !path.is_empty()) => {
            let below = |child: &Arc<Field>| {
                let id = field_id(child)?;
                let paths: Vec<&[i32]> =
                    paths.iter().filter(|path| path[0] == id).map(|path| &path[1..]).collect();
                (!paths.is_empty()).then(|| Arc::new(pruned(child, &paths)))
            };
            DataType::Struct(fields.iter().filter_map(below).collect::<Fields>())
        }
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int32Array, StringArray};

    use super::*;

    #[test]
    fn keys_of_several_columns_are_told_from_those_that_have_a_part_of_them() {
        for step in [1, 1 << 20] {
            let field = |name, data_type| Arc::new(Field::new(name, data_type, true));
            let key = |field| EqualityKey { field, path: Vec::new() };
            let keys = [field("n", DataType::Int32), field("s", DataType::Utf8)].map(key);
            let mut index = EqualityIndex::new(&keys).unwrap();
            let columns = |rows: &[(Option<i32>, Option<&str>)]| -> Vec<ArrayRef> {
                let numbers = rows.iter().map(|(n, _)| n.map(|n| n * step)).collect::<Int32Array>();
                let texts = rows.iter().map(|(_, s)| *s).collect::<StringArray>();
                vec![Arc::new(numbers), Arc::new(texts)]
            };
            index.insert(&columns(&[(Some(1), Some("a")), (Some(900), Some("b"))]), 5).unwrap();
            index.insert(&columns(&[(None, Some("c")), (Some(-7), None), (Some(1), Some("a"))]), 3).unwrap();
            index.finish();
            let rows = [
                (Some(1), Some("a")),
                (Some(1), Some("b")),
                (Some(900), Some("b")),
                (Some(2), Some("a")),
                (None, Some("c")),
                (None, Some("a")),
                (None, None),
                (Some(-7), None),
                (Some(0), Some("c")),
            ];
            let left = |number| BooleanArray::new(index.kept(&columns(&rows), number).unwrap(), None);
            let gone = |number| (0..rows.len()).filter(|row| !left(number).value(*row)).collect::<Vec<_>>();
            assert_eq!(gone(2), [0, 2, 4, 7], "step {step}");
            assert_eq!(gone(3), [0, 2], "step {step}");
            assert_eq!(gone(5), [0_usize; 0], "step {step}");
        }
    }
}
