//! Single values of the specification as DataFusion has them.
//!
//! Bounds come as bytes ("Binary single-value serialization"), partition values
//! as Avro values. A bound that cannot be read is `None`, and then prunes nothing.

use ::iceberg::spec::PrimitiveType;
use datafusion::scalar::ScalarValue;

use super::entry::Value;

/// A bound, as a value of the Arrow type that [`super::schema::primitive_type`] gives. A bound that was written before
/// the column was promoted is shorter than its type.
pub(super) fn scalar_of_bytes(bytes: &[u8], primitive: &PrimitiveType) -> Option<ScalarValue> {
    use PrimitiveType as T;
    let int = || Some(i32::from_le_bytes(bytes.try_into().ok()?));
    let long = || Some(i64::from_le_bytes(bytes.try_into().ok()?));
    let float = || Some(f32::from_le_bytes(bytes.try_into().ok()?));
    Some(match primitive {
        T::Boolean => match bytes {
            [value] => ScalarValue::Boolean(Some(*value != 0)),
            _ => return None,
        },
        T::Int => ScalarValue::Int32(Some(int()?)),
        T::Long => ScalarValue::Int64(Some(int().map(i64::from).or_else(long)?)),
        T::Float => ScalarValue::Float32(Some(float()?)),
        T::Double => {
            let double = || Some(f64::from_le_bytes(bytes.try_into().ok()?));
            ScalarValue::Float64(Some(float().map(f64::from).or_else(double)?))
        }
        T::Date => ScalarValue::Date32(Some(int()?)),
        T::Time => ScalarValue::Time64Microsecond(Some(long()?)),
        T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs => timestamp(long()?, primitive)?,
        T::Decimal { precision, scale } => decimal(bytes, *precision, *scale)?,
        T::String => ScalarValue::Utf8View(Some(std::str::from_utf8(bytes).ok()?.to_owned())),
        T::Uuid => fixed(bytes, 16)?,
        T::Fixed(length) => fixed(bytes, *length)?,
        T::Binary => ScalarValue::BinaryView(Some(bytes.to_vec())),
    })
}

/// A partition value; without a type, as what it was written as. `None` if it is not of the type.
pub(super) fn scalar_of_value(value: &Value<'_>, primitive: Option<&PrimitiveType>) -> Option<ScalarValue> {
    use PrimitiveType as T;
    let Some(primitive) = primitive else {
        return Some(match value {
            Value::Null => ScalarValue::Null,
            Value::Boolean(v) => ScalarValue::Boolean(Some(*v)),
            Value::Whole(v) => ScalarValue::Int64(Some(*v)),
            Value::Float(v) => ScalarValue::Float32(Some(*v)),
            Value::Double(v) => ScalarValue::Float64(Some(*v)),
            Value::Text(v) => ScalarValue::Utf8View(Some((*v).to_owned())),
            Value::Bytes(v) => ScalarValue::BinaryView(Some(v.to_vec())),
        });
    };
    Some(match (primitive, value) {
        (T::Boolean, Value::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (T::Int, Value::Whole(v)) => ScalarValue::Int32(Some(i32::try_from(*v).ok()?)),
        (T::Long, Value::Whole(v)) => ScalarValue::Int64(Some(*v)),
        (T::Float, Value::Float(v)) => ScalarValue::Float32(Some(*v)),
        (T::Double, Value::Double(v)) => ScalarValue::Float64(Some(*v)),
        (T::Double, Value::Float(v)) => ScalarValue::Float64(Some(f64::from(*v))),
        (T::Date, Value::Whole(v)) => ScalarValue::Date32(Some(i32::try_from(*v).ok()?)),
        (T::Time, Value::Whole(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs, Value::Whole(v)) => {
            timestamp(*v, primitive)?
        }
        (T::Decimal { precision, scale }, Value::Bytes(v)) => decimal(v, *precision, *scale)?,
        (T::String, Value::Text(v)) => ScalarValue::Utf8View(Some((*v).to_owned())),
        (T::Uuid, Value::Bytes(v)) => fixed(v, 16)?,
        (T::Fixed(length), Value::Bytes(v)) => fixed(v, *length)?,
        (T::Binary, Value::Bytes(v)) => ScalarValue::BinaryView(Some(v.to_vec())),
        _ => return None,
    })
}

fn timestamp(value: i64, primitive: &PrimitiveType) -> Option<ScalarValue> {
    let utc = || Some("UTC".into());
    Some(match primitive {
        PrimitiveType::Timestamp => ScalarValue::TimestampMicrosecond(Some(value), None),
        PrimitiveType::Timestamptz => ScalarValue::TimestampMicrosecond(Some(value), utc()),
        PrimitiveType::TimestampNs => ScalarValue::TimestampNanosecond(Some(value), None),
        PrimitiveType::TimestamptzNs => ScalarValue::TimestampNanosecond(Some(value), utc()),
        _ => return None,
    })
}

/// Unscaled, big-endian, two's complement, as short as can be, or as long as a writer made it.
fn decimal(bytes: &[u8], precision: u32, scale: u32) -> Option<ScalarValue> {
    let negative = *bytes.first()? & 0x80 != 0;
    let fill = if negative { 0xff } else { 0 };
    let (over, rest) = bytes.split_at(bytes.len().saturating_sub(size_of::<i128>()));
    let mut whole = [fill; size_of::<i128>()];
    let start = whole.len().checked_sub(rest.len())?;
    whole.get_mut(start..)?.copy_from_slice(rest);
    let value = i128::from_be_bytes(whole);
    let lossless = over.iter().all(|byte| *byte == fill) && (value < 0) == negative;
    lossless.then_some(())?;
    Some(ScalarValue::Decimal128(Some(value), u8::try_from(precision).ok()?, i8::try_from(scale).ok()?))
}

fn fixed(bytes: &[u8], length: u64) -> Option<ScalarValue> {
    let width = i32::try_from(length).ok()?;
    (bytes.len() as u64 == length).then(|| ScalarValue::FixedSizeBinary(width, Some(bytes.to_vec())))
}
