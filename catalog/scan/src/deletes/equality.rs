//! The index of equality deletes: a row's key, and the highest sequence number that deletes it.
//!
//! One index serves all data files of a group: a row is deleted if its key is
//! there with a higher number than that of its data file. Keys are compared as
//! Java does it: NULL equals NULL, NaN equals NaN, and the two zeros differ.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StructArray, make_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashMap, Result, internal_datafusion_err};

use super::EqualityKey;
use crate::task::field_id;

/// What an entry of a map of boxed keys takes beside the key: pointer, length, number, control byte, allocation.
const BOXED_ENTRY_BYTES: usize = 24 + 8 + 16;
/// What an entry of a map of integers takes.
const INTEGER_ENTRY_BYTES: usize = 17;

/// Bits for each key, of which one in so many is taken by chance.
const PRESENCE_BITS: usize = 16;

/// Where a key is: a column, and positions that lead into structs below it.
pub(super) type Place = (usize, Vec<usize>);

/// Deleted keys.
#[derive(Debug)]
pub(super) struct EqualityIndex {
    types: Vec<DataType>,
    keys: Keys,
    key_bytes: usize,
    present: Presence,
}

#[derive(Debug)]
enum Keys {
    /// One column of a type that is a number in memory.
    Integers { numbers: HashMap<i64, i64>, null: Option<i64> },
    /// Anything else, in Arrow's row format.
    Rows { converter: RowConverter, numbers: HashMap<Box<[u8]>, i64> },
}

impl EqualityIndex {
    pub(super) fn new(keys: &[EqualityKey]) -> Result<Self> {
        let types = keys.iter().map(leaf_type).collect::<Result<Vec<_>>>()?;
        let keys = match types.as_slice() {
            [one] if is_integer(one) => Keys::Integers { numbers: HashMap::default(), null: None },
            _ => Keys::Rows { converter: row_converter(&types)?, numbers: HashMap::default() },
        };
        Ok(Self { types, keys, key_bytes: 0, present: Presence::default() })
    }

    /// Takes in keys that are deleted with this sequence number.
    pub(super) fn insert(&mut self, columns: &[ArrayRef], sequence_number: i64) -> Result<()> {
        let columns = self.normalised(columns)?;
        match &mut self.keys {
            Keys::Integers { numbers, null } => {
                let values = columns[0].as_primitive::<Int64Type>();
                for value in values {
                    let highest = match value {
                        Some(value) => numbers.entry(value).or_insert(sequence_number),
                        None => null.get_or_insert(sequence_number),
                    };
                    *highest = sequence_number.max(*highest);
                }
            }
            Keys::Rows { converter, numbers } => {
                for row in &converter.convert_columns(&columns)? {
                    match numbers.get_mut(row.data()) {
                        Some(highest) => *highest = sequence_number.max(*highest),
                        None => {
                            self.key_bytes += row.data().len();
                            numbers.insert(row.data().into(), sequence_number);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Says that all keys are in.
    pub(super) fn finish(&mut self) {
        self.present = match &self.keys {
            Keys::Integers { numbers, .. } => {
                Presence::new(numbers.len(), numbers.keys().map(|key| mix(*key as u64)))
            }
            Keys::Rows { numbers, .. } => {
                let hashes = numbers.keys().map(|key| mix(numbers.hasher().hash_one(&key[..])));
                Presence::new(numbers.len(), hashes)
            }
        };
    }

    /// For each row whether it stays, in a data file with this sequence number.
    pub(super) fn kept(&self, columns: &[ArrayRef], data_sequence_number: i64) -> Result<BooleanBuffer> {
        let columns = self.normalised(columns)?;
        let rows = columns.first().map_or(0, |column| column.len());
        let is_kept = |number: Option<&i64>| number.is_none_or(|number| *number <= data_sequence_number);
        Ok(match &self.keys {
            Keys::Integers { numbers, null } => {
                let column = columns[0].as_primitive::<Int64Type>();
                let values = column.values();
                let value_is_kept = |row: usize| {
                    let value = values[row];
                    !self.present.may_have(mix(value as u64)) || is_kept(numbers.get(&value))
                };
                match column.nulls() {
                    None => BooleanBuffer::collect_bool(rows, value_is_kept),
                    Some(nulls) => {
                        let null_is_kept = is_kept(null.as_ref());
                        let row_is_kept =
                            |row| if nulls.is_valid(row) { value_is_kept(row) } else { null_is_kept };
                        BooleanBuffer::collect_bool(rows, row_is_kept)
                    }
                }
            }
            Keys::Rows { converter, numbers } => {
                let keys = converter.convert_columns(&columns)?;
                let row_is_kept = |row: usize| {
                    let key = keys.row(row);
                    let key = key.data();
                    !self.present.may_have(mix(numbers.hasher().hash_one(key))) || is_kept(numbers.get(key))
                };
                BooleanBuffer::collect_bool(rows, row_is_kept)
            }
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let entries = match &self.keys {
            Keys::Integers { numbers, .. } => numbers.capacity() * INTEGER_ENTRY_BYTES,
            Keys::Rows { numbers, .. } => numbers.capacity() * BOXED_ENTRY_BYTES,
        };
        size_of::<Self>() + entries + self.key_bytes + self.present.bits.len() * size_of::<u64>()
    }

    /// The columns in the index's types, with one NaN, and numbers as such.
    fn normalised(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Integers { .. } => {
                let column = as_type(&columns[0], &self.types[0])?;
                Ok(vec![cast(&column, &DataType::Int64)?])
            }
            Keys::Rows { .. } => normalised(columns, &self.types),
        }
    }
}

/// Which keys may be there, by one bit of their hash: nearly all rows stay, and most of them are done with here, in a
/// small piece of memory.
#[derive(Debug)]
struct Presence {
    bits: Vec<u64>,
    /// How far a hash is shifted to be the number of a bit.
    shift: u32,
}

impl Default for Presence {
    /// Before anything is known, anything may be there.
    fn default() -> Self {
        Self { bits: vec![u64::MAX], shift: u64::BITS - 6 }
    }
}

impl Presence {
    fn new(keys: usize, hashes: impl Iterator<Item = u64>) -> Self {
        let bits = keys.saturating_mul(PRESENCE_BITS).next_power_of_two().max(64);
        let mut presence = Self { bits: vec![0; bits / 64], shift: u64::BITS - bits.trailing_zeros() };
        for hash in hashes {
            let bit = hash >> presence.shift;
            presence.bits[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        presence
    }

    #[inline]
    fn may_have(&self, hash: u64) -> bool {
        let bit = hash >> self.shift;
        self.bits[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }
}

/// Spreads numbers over the upper bits.
#[inline]
fn mix(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Makes one column of the columns that deletes compare: equal where all of these are.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    types: Vec<DataType>,
    converter: RowConverter,
}

impl KeyEncoder {
    pub(super) fn new(keys: &[EqualityKey]) -> Result<Self> {
        let types = keys.iter().map(leaf_type).collect::<Result<Vec<_>>>()?;
        let converter = row_converter(&types)?;
        Ok(Self { types, converter })
    }

    /// The keys of rows, behind a number that only rows of the same group have.
    pub(super) fn encode(&self, group: u32, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let rows = self.converter.convert_columns(&normalised(columns, &self.types)?)?;
        let mut keys = BinaryBuilder::with_capacity(rows.num_rows(), rows.size());
        let mut key = Vec::new();
        for row in &rows {
            key.clear();
            key.extend_from_slice(&group.to_be_bytes());
            key.extend_from_slice(row.data());
            keys.append_value(&key);
        }
        Ok(Arc::new(keys.finish()))
    }
}

fn row_converter(types: &[DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
}

fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    match column.data_type() == data_type {
        true => Ok(Arc::clone(column)),
        false => Ok(cast(column, data_type)?),
    }
}

/// The columns in these types, with one NaN.
fn normalised(columns: &[ArrayRef], types: &[DataType]) -> Result<Vec<ArrayRef>> {
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
fn leaf_type(key: &EqualityKey) -> Result<DataType> {
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
