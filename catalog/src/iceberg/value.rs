//! Single values of the specification as DataFusion has them.

use ::iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};
use datafusion::scalar::ScalarValue;

/// A value of the Arrow type that [`super::schema::primitive_type`] gives; `None` for what has none.
pub(super) fn scalar(literal: &PrimitiveLiteral, primitive: &PrimitiveType) -> Option<ScalarValue> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    Some(match (primitive, literal) {
        (T::Boolean, L::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (T::Int, L::Int(v)) => ScalarValue::Int32(Some(*v)),
        (T::Long, L::Long(v)) => ScalarValue::Int64(Some(*v)),
        (T::Long, L::Int(v)) => ScalarValue::Int64(Some(i64::from(*v))),
        (T::Float, L::Float(v)) => ScalarValue::Float32(Some(v.0)),
        (T::Double, L::Double(v)) => ScalarValue::Float64(Some(v.0)),
        (T::Double, L::Float(v)) => ScalarValue::Float64(Some(f64::from(v.0))),
        (T::Decimal { precision, scale }, L::Int128(v)) => {
            ScalarValue::Decimal128(Some(*v), u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?)
        }
        (T::Date, L::Int(v)) => ScalarValue::Date32(Some(*v)),
        (T::Time, L::Long(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (T::Timestamp, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (T::Timestamptz, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), Some("UTC".into())),
        (T::String, L::String(v)) => ScalarValue::Utf8View(Some(v.clone())),
        (T::Uuid, L::UInt128(v)) => ScalarValue::FixedSizeBinary(16, Some(v.to_be_bytes().to_vec())),
        (T::Fixed(length), L::Binary(v)) => {
            ScalarValue::FixedSizeBinary(i32::try_from(*length).ok()?, Some(v.clone()))
        }
        (T::Binary, L::Binary(v)) => ScalarValue::BinaryView(Some(v.clone())),
        _ => return None,
    })
}

/// A bound as a manifest has it.
pub(super) fn scalar_of(datum: &Datum) -> Option<ScalarValue> {
    scalar(datum.literal(), datum.data_type())
}
