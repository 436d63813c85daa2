//! Values of a result, and those of an answer, in one form that can be compared: JSON, each leaf a text.
//!
//! What the texts are is said in tests/fixtures/writers/canon.py. Here times are of nine digits and maps are
//! sorted, on both sides.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, SchemaRef, TimeUnit,
};
use arrow::temporal_conversions::{as_datetime, as_time, date32_to_datetime};
use futures::TryStreamExt;
use serde_json::{Map, Value};
use tarn_client::{Error, QueryStream};

/// A whole result.
pub struct Result {
    pub schema: SchemaRef,
    pub rows: Vec<Vec<Value>>,
}

/// Reads all rows of a stream.
pub async fn collect(mut stream: QueryStream) -> std::result::Result<Result, Error> {
    let schema = stream.schema();
    let mut rows = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        let row = |at| batch.columns().iter().map(|column| of(column, at)).collect();
        rows.extend((0..batch.num_rows()).map(row));
    }
    Ok(Result { schema, rows })
}

/// A value of a result.
fn of(array: &ArrayRef, row: usize) -> Value {
    // Of type Null, which has no bitmap, each value is NULL too.
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return Value::Null;
    }
    let items = |items: &ArrayRef| Value::Array((0..items.len()).map(|at| of(items, at)).collect());
    let text = match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_string(),
        DataType::Utf8View => array.as_string_view().value(row).to_string(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            date32_to_datetime(days).unwrap().format("%Y-%m-%d").to_string()
        }
        DataType::Time64(_) => time(array, row),
        DataType::Timestamp(unit, zone) => {
            timestamp(array, row, *unit) + if zone.is_some() { "Z" } else { "" }
        }
        DataType::List(_) => return items(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => return items(&array.as_list::<i64>().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let object =
                fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), of(column, row)));
            return Value::Object(object.collect::<Map<_, _>>());
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pair = |at| Value::Array(entries.columns().iter().map(|column| of(column, at)).collect());
            return sorted((0..entries.len()).map(pair).collect());
        }
        other => panic!("a result has a column of type {other}"),
    };
    Value::String(text)
}

fn time(array: &ArrayRef, row: usize) -> String {
    use arrow::datatypes::{Time64MicrosecondType, Time64NanosecondType};
    let time = match array.data_type() {
        DataType::Time64(TimeUnit::Nanosecond) => {
            as_time::<Time64NanosecondType>(array.as_primitive::<Time64NanosecondType>().value(row))
        }
        _ => as_time::<Time64MicrosecondType>(array.as_primitive::<Time64MicrosecondType>().value(row)),
    };
    time.unwrap().format("%H:%M:%S%.9f").to_string()
}

fn timestamp(array: &ArrayRef, row: usize, unit: TimeUnit) -> String {
    use arrow::datatypes::{
        TimestampMicrosecondType as Micro, TimestampMillisecondType as Milli,
        TimestampNanosecondType as Nano, TimestampSecondType as Second,
    };
    let moment = match unit {
        TimeUnit::Second => as_datetime::<Second>(array.as_primitive::<Second>().value(row)),
        TimeUnit::Millisecond => as_datetime::<Milli>(array.as_primitive::<Milli>().value(row)),
        TimeUnit::Microsecond => as_datetime::<Micro>(array.as_primitive::<Micro>().value(row)),
        TimeUnit::Nanosecond => as_datetime::<Nano>(array.as_primitive::<Nano>().value(row)),
    };
    moment.unwrap().format("%Y-%m-%dT%H:%M:%S%.9f").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(mut entries: Vec<Value>) -> Value {
    entries.sort_by_key(ToString::to_string);
    Value::Array(entries)
}

/// A value of an answer, in the form that a column of this type gives.
pub fn expected(value: &Value, data_type: &DataType) -> Value {
    match (value, data_type) {
        (Value::Array(items), DataType::List(item) | DataType::LargeList(item)) => {
            Value::Array(items.iter().map(|value| expected(value, item.data_type())).collect())
        }
        (Value::Object(object), DataType::Struct(fields)) => {
            let value = |field: &arrow::datatypes::FieldRef| {
                let value = object.get(field.name()).cloned();
                // A child that the answer does not have must not pass for NULL.
                let value = value.unwrap_or_else(|| Value::String("no such child".to_string()));
                (field.name().clone(), expected(&value, field.data_type()))
            };
            let mut children: Map<_, _> = fields.iter().map(value).collect();
            children.extend(
                object
                    .iter()
                    .filter(|(name, _)| !fields.iter().any(|field| field.name() == *name))
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
            Value::Object(children)
        }
        (Value::Array(entries), DataType::Map(entry, _)) => {
            let DataType::Struct(fields) = entry.data_type() else { panic!("a map of {entry}") };
            let pair = |pair: &Value| {
                let pair = pair.as_array().expect("an entry is a key and a value");
                Value::Array(
                    pair.iter()
                        .zip(fields)
                        .map(|(value, field)| expected(value, field.data_type()))
                        .collect(),
                )
            };
            sorted(entries.iter().map(pair).collect())
        }
        (Value::String(text), data_type) => Value::String(leaf(text, data_type)),
        (other, _) => other.clone(),
    }
}

fn leaf(text: &str, data_type: &DataType) -> String {
    match data_type {
        DataType::Float32 => {
            text.parse::<f32>().map_or_else(|_| text.to_string(), |value| format!("{value:?}"))
        }
        DataType::Float64 => {
            text.parse::<f64>().map_or_else(|_| text.to_string(), |value| format!("{value:?}"))
        }
        DataType::Time64(_) | DataType::Timestamp(..) => nine_digits(text),
        // A UUID.
        DataType::FixedSizeBinary(16) => text.replace('-', ""),
        _ => text.to_string(),
    }
}

/// `12:34:56.789012Z` as `12:34:56.789012000Z`.
fn nine_digits(text: &str) -> String {
    let (time, zone) = text.strip_suffix('Z').map_or((text, ""), |time| (time, "Z"));
    let digits = time.split_once('.').map_or(0, |(_, digits)| digits.len());
    format!("{time}{}{zone}", "0".repeat(9_usize.saturating_sub(digits)))
}
