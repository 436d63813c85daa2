//! From the engine's types to those that an Iceberg table can hold.
//!
//! `CREATE TABLE AS` and column definitions may name types that Iceberg lacks (nanosecond
//! timestamps, small and unsigned integers). Each goes to the nearest type that holds all of
//! its values; what has none is refused by name.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};

use crate::error::{Error, Result};

/// The schema of the table that holds rows of `schema`.
pub fn to_table_types(schema: &Schema) -> Result<Schema> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for (position, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..position].iter().any(|other| other.name() == field.name()) {
            return Err(Error::invalid(format!("column \"{}\" stands twice", field.name()))
                .with_hint("give one of them another name with AS"));
        }
        fields.push(table_field(field)?);
    }
    Ok(Schema::new(fields))
}

fn table_field(field: &Field) -> Result<Field> {
    let data_type = table_type(field.data_type()).ok_or_else(|| {
        Error::not_supported(format!("type {} of column \"{}\" in a table", field.data_type(), field.name()))
    })?;
    Ok(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

fn table_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64 => {
            data_type.clone()
        }
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        // An unsigned 64-bit count of rows or a sum of them: a value beyond the signed range is
        // an error of the cast when it is written, not a wrong row.
        DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::BinaryView,
        DataType::FixedSizeBinary(_) => data_type.clone(),
        DataType::Dictionary(_, values) => table_type(values)?,
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            DataType::List(nested(element)?)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nested).collect::<Option<Fields>>()?),
        DataType::Map(entries, _) => DataType::Map(nested(entries)?, false),
        _ => return None,
    })
}

fn nested(field: &FieldRef) -> Option<FieldRef> {
    let data_type = table_type(field.data_type())?;
    Some(Arc::new(
        Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_nanosecond_types_widen_and_intervals_are_refused() {
        let widened = |data_type| {
            let schema = Schema::new(vec![Field::new("x", data_type, true)]);
            to_table_types(&schema).map(|schema| schema.field(0).data_type().clone())
        };
        assert_eq!(widened(DataType::UInt16).unwrap(), DataType::Int32);
        let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(widened(ns).unwrap(), DataType::Timestamp(TimeUnit::Microsecond, None));
        let error = widened(DataType::Duration(TimeUnit::Second)).unwrap_err();
        assert!(error.message().contains("\"x\""), "{error}");
    }
}
