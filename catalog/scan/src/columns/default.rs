//! Default values: what rows have in columns that their file lacks, and what
//! new rows get in columns that their writer leaves out.
//!
//! A default travels in the metadata of an Arrow field, as the JSON that the
//! table's schema has (Iceberg specification, "JSON single-value
//! serialization"). The one rule: a default that cannot be read is an error
//! for whoever needs it, since taking NULL for it would change answers.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::common::scalar::ScalarStructBuilder;
use datafusion::scalar::ScalarValue;
use serde_json::Value;

/// Key of the value that older rows have, as JSON, in the metadata of an Arrow field.
pub const INITIAL_DEFAULT_KEY: &str = "iceberg.initial-default";

/// Key of the value that new rows get, as JSON, in the metadata of an Arrow field.
pub const WRITE_DEFAULT_KEY: &str = "iceberg.write-default";

/// The value of the field in rows of files that lack it; `None` if that is NULL. The error is a reason.
pub fn initial(field: &Field) -> Result<Option<ScalarValue>, String> {
    of_key(field, INITIAL_DEFAULT_KEY)
}

/// The value of the field in new rows whose writer leaves it out; `None` if that is NULL.
pub fn write(field: &Field) -> Result<Option<ScalarValue>, String> {
    of_key(field, WRITE_DEFAULT_KEY)
}

fn of_key(field: &Field, key: &str) -> Result<Option<ScalarValue>, String> {
    let Some(json) = field.metadata().get(key) else {
        return Ok(None);
    };
    let unreadable = || format!("{json} is no value of type {}", field.data_type());
    match serde_json::from_str(json).map_err(|_| unreadable())? {
        Value::Null => Ok(None),
        json => value(&json, field.data_type(), key).ok_or_else(unreadable).map(Some),
    }
}

/// A value that is not NULL.
fn value(json: &Value, data_type: &DataType, key: &str) -> Option<ScalarValue> {
    use DataType as T;
    let text = || json.as_str();
    Some(match data_type {
        T::Boolean => ScalarValue::Boolean(Some(json.as_bool()?)),
        T::Int32 => ScalarValue::Int32(Some(i32::try_from(json.as_i64()?).ok()?)),
        T::Int64 => ScalarValue::Int64(Some(json.as_i64()?)),
        T::Float32 => ScalarValue::Float32(Some(json.as_f64()? as f32)),
        T::Float64 => ScalarValue::Float64(Some(json.as_f64()?)),
        T::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(unscaled(text()?, *precision, *scale)?), *precision, *scale)
        }
        T::Date32 => ScalarValue::Date32(Some(days(text()?)?)),
        T::Time64(TimeUnit::Microsecond) => ScalarValue::Time64Microsecond(Some(micros_of_day(text()?)?)),
        T::Timestamp(unit, zone) => {
            let nanos_or_micros = instant(text()?, zone.is_some(), *unit)?;
            match unit {
                TimeUnit::Microsecond => {
                    ScalarValue::TimestampMicrosecond(Some(nanos_or_micros), zone.clone())
                }
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(nanos_or_micros), zone.clone()),
                _ => return None,
            }
        }
        T::Utf8View => ScalarValue::Utf8View(Some(text()?.to_owned())),
        T::BinaryView => ScalarValue::BinaryView(Some(hex(text()?)?)),
        T::FixedSizeBinary(length) => {
            let bytes = match text()? {
                uuid if uuid.contains('-') => uuid::Uuid::parse_str(uuid).ok()?.as_bytes().to_vec(),
                digits => hex(digits)?,
            };
            (i32::try_from(bytes.len()).ok()? == *length)
                .then_some(ScalarValue::FixedSizeBinary(*length, Some(bytes)))?
        }
        T::Struct(fields) => whole(json, fields, key)?,
        _ => return None,
    })
}

/// A struct's own default can only be that it is there, with the defaults of its fields.
fn whole(json: &Value, fields: &Fields, key: &str) -> Option<ScalarValue> {
    if !json.as_object()?.is_empty() {
        return None;
    }
    let mut builder = ScalarStructBuilder::new();
    for field in fields {
        let value = match of_key(field, key).ok()? {
            Some(value) => value,
            None if field.is_nullable() => ScalarValue::try_new_null(field.data_type()).ok()?,
            None => return None,
        };
        builder = builder.with_scalar(std::sync::Arc::clone(field), value);
    }
    builder.build().ok()
}

/// `14.20` as 1420, if it has the scale and not too many digits.
fn unscaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = i32::from(scale) + exponent - i32::try_from(fraction.len()).ok()?;
    let unscaled = match u32::try_from(shift) {
        Ok(shift) => unscaled.checked_mul(10_i128.checked_pow(shift)?)?,
        // More digits after the point than the type has must be zeros.
        Err(_) => {
            let divisor = 10_i128.checked_pow(shift.unsigned_abs())?;
            (unscaled % divisor == 0).then_some(unscaled / divisor)?
        }
    };
    (unscaled.unsigned_abs() < 10_u128.checked_pow(u32::from(precision))?).then_some(unscaled)
}

fn days(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn micros_of_day(text: &str) -> Option<i64> {
    let time =
        NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"));
    let time = time.ok()?;
    (time.nanosecond() % 1_000 == 0).then_some(
        i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000),
    )
}

/// Units since the epoch. A value with a zone must say it, one without must not.
fn instant(text: &str, zoned: bool, unit: TimeUnit) -> Option<i64> {
    let utc = if zoned {
        DateTime::parse_from_rfc3339(text).ok()?.naive_utc()
    } else {
        let parse = |format| NaiveDateTime::parse_from_str(text, format);
        parse("%Y-%m-%dT%H:%M:%S%.f").or_else(|_| parse("%Y-%m-%dT%H:%M")).ok()?
    }
    .and_utc();
    match unit {
        TimeUnit::Microsecond if utc.timestamp_subsec_nanos() % 1_000 == 0 => Some(utc.timestamp_micros()),
        TimeUnit::Nanosecond => utc.timestamp_nanos_opt(),
        _ => None,
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok()).collect()
}
