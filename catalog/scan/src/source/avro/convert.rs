//! What the decoder gives as the types that a column is read as.
//!
//! The decoder knows Avro's own types only. Iceberg's are made of them here:
//! dates and times of numbers, decimals of bytes, maps of arrays of pairs.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, ListArray, MapArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::{ArrowError, Result};

use crate::columns::AvroType;

/// A decoded column as `wanted`, which was found to fit.
pub(super) fn column(array: &ArrayRef, avro_type: &AvroType, wanted: &DataType) -> Result<ArrayRef> {
    match (avro_type, wanted) {
        (AvroType::Leaf(DataType::Null), _) => Ok(new_null_array(wanted, array.len())),
        (AvroType::Leaf(own), _) => cast(&cast(array, own)?, wanted),
        (AvroType::Decimal(own), _) => cast(&decimal(array, own)?, wanted),
        (AvroType::Struct(types), DataType::Struct(fields)) => {
            let record = array.as_struct_opt().ok_or_else(|| unexpected(array, wanted))?;
            let columns = each(record.columns(), types, fields)?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                record.nulls().cloned(),
                record.len(),
            )?))
        }
        (AvroType::List(element), DataType::List(field)) => {
            let list = array.as_list_opt::<i32>().ok_or_else(|| unexpected(array, wanted))?;
            let values = column(list.values(), element, field.data_type())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls)?))
        }
        (AvroType::Map(key, value), DataType::Map(entries, _)) => {
            let map = array.as_map_opt().ok_or_else(|| unexpected(array, wanted))?;
            map_of([map.keys(), map.values()], [key, value], entries, map.offsets(), map.nulls())
        }
        (AvroType::Pairs(key, value), DataType::Map(entries, _)) => {
            let list = array.as_list_opt::<i32>().ok_or_else(|| unexpected(array, wanted))?;
            let pairs = list.values().as_struct_opt().filter(|pairs| pairs.num_columns() == 2);
            let pairs = pairs.ok_or_else(|| unexpected(array, wanted))?;
            let columns = [pairs.column(0), pairs.column(1)];
            map_of(columns, [key, value], entries, list.offsets(), list.nulls())
        }
        _ => Err(unexpected(array, wanted)),
    }
}

fn each(columns: &[ArrayRef], types: &[AvroType], fields: &Fields) -> Result<Vec<ArrayRef>> {
    if columns.len() != types.len() || columns.len() != fields.len() {
        let (columns, fields) = (columns.len(), fields.len());
        return Err(ArrowError::SchemaError(format!("{columns} decoded columns for {fields} fields")));
    }
    let one = |((array, avro_type), field): ((&ArrayRef, &AvroType), &FieldRef)| {
        column(array, avro_type, field.data_type())
    };
    columns.iter().zip(types).zip(fields).map(one).collect()
}

fn map_of(
    columns: [&ArrayRef; 2],
    types: [&AvroType; 2],
    entries: &FieldRef,
    offsets: &OffsetBuffer<i32>,
    nulls: Option<&NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::SchemaError("the entries of a map are no struct".to_owned()));
    };
    let [key, value] = [0, 1].map(|part| column(columns[part], types[part], fields[part].data_type()));
    let pairs = StructArray::try_new(fields.clone(), vec![key?, value?], None)?;
    let map = MapArray::try_new(Arc::clone(entries), offsets.clone(), pairs, nulls.cloned(), false)?;
    Ok(Arc::new(map))
}

fn cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    // A value that does not fit is an error, not NULL.
    cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Big-endian numbers of any length.
fn decimal(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = data_type else {
        return Err(unexpected(array, data_type));
    };
    let number = |bytes: Option<&[u8]>| bytes.map(unscaled).transpose();
    let numbers: Result<Decimal128Array> = match array.data_type() {
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().iter().map(number).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(number).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(number).collect(),
        _ => return Err(unexpected(array, data_type)),
    };
    let numbers = numbers?.with_precision_and_scale(*precision, *scale)?;
    numbers.validate_decimal_precision(*precision)?;
    Ok(Arc::new(numbers))
}

fn unscaled(bytes: &[u8]) -> Result<i128> {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    let (head, tail) = bytes.split_at(extra);
    let mut number = [sign; 16];
    number[16 - tail.len()..].copy_from_slice(tail);
    if head.iter().any(|byte| *byte != sign) || (extra > 0 && (number[0] ^ sign) & 0x80 != 0) {
        return Err(ArrowError::CastError(format!("a decimal of {} bytes", bytes.len())));
    }
    Ok(i128::from_be_bytes(number))
}

fn unexpected(array: &ArrayRef, wanted: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("{} was decoded where {wanted} is wanted", array.data_type()))
}
