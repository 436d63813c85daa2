//! Columns of rows: short ways to declare fields and to make arrays.
//!
//! The types are those that BI tools read without a thought: BIGINT keys, INTEGER parts,
//! DECIMAL money, TIMESTAMP in microseconds, strings.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A point in time without a zone.
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// Money of one unit.
pub const PRICE: DataType = DataType::Decimal128(10, 2);
/// Money of several.
pub const AMOUNT: DataType = DataType::Decimal128(12, 2);
/// A percentage or a rating.
pub const SMALL_DECIMAL: DataType = DataType::Decimal128(5, 2);

/// A schema of (name, type, comment); a `?` behind the name lets the column be NULL.
pub fn schema(columns: &[(&str, DataType, &str)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, data_type, comment)| {
        let nullable = name.ends_with('?');
        let field = Field::new(name.trim_end_matches('?'), data_type.clone(), nullable);
        if comment.is_empty() {
            return field;
        }
        field.with_metadata(HashMap::from([("comment".to_string(), comment.to_string())]))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// BIGINT.
pub fn int64(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// INTEGER.
pub fn int32(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

/// BOOLEAN.
pub fn boolean(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.into_iter().map(Some)))
}

/// Strings.
pub fn text(values: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Strings and NULLs.
pub fn text_or_null(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// DATE from days since 1970.
pub fn date(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values))
}

/// DATE and NULLs.
pub fn date_or_null(values: impl IntoIterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Date32Array>())
}

/// TIMESTAMP from microseconds since 1970.
pub fn timestamp(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values))
}

/// DECIMAL(`precision`, 2) from hundredths.
pub fn decimal(precision: u8, values: impl IntoIterator<Item = i64>) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(values.into_iter().map(i128::from));
    Arc::new(values.with_precision_and_scale(precision, 2).expect("two digits fit every precision used"))
}
