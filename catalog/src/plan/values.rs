//! Values of one type, gathered one by one into an Arrow array.
//!
//! Numbers lie side by side as they come, texts and bytes one after the other
//! in one buffer, so a value costs no allocation of its own and the array is
//! as large as what is in it: the metadata cache counts true bytes.

use std::sync::Arc;

use arrow::array::builder::{BinaryViewBuilder, NullBufferBuilder, StringViewBuilder};
use arrow::array::{ArrayData, ArrayRef, BooleanArray, make_array, new_null_array};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

/// Values of a view array up to this length need no buffer.
const INLINE_BYTES_MAX: usize = 12;

/// Buffers of a view array are at most so long.
const VIEW_BUFFER_BYTES_MAX: usize = 1 << 30;

/// Gathers values of one type. A type that bounds never have takes only NULLs.
#[derive(Debug)]
pub(crate) struct Values {
    data_type: DataType,
    kept: Kept,
    valid: NullBufferBuilder,
    any: bool,
}

/// The values so far, by how wide they are. NULLs are zeros, or nothing.
#[derive(Debug)]
enum Kept {
    Truths(Vec<bool>),
    Four(Vec<u32>),
    Eight(Vec<u64>),
    Sixteen(Vec<i128>),
    Fixed { width: usize, bytes: Vec<u8> },
    Bytes { bytes: Vec<u8>, ends: Vec<usize> },
    Nothing,
}

impl Values {
    pub(crate) fn new(data_type: &DataType) -> Self {
        use DataType as T;
        let kept = match data_type {
            T::Boolean => Kept::Truths(Vec::new()),
            T::Int32 | T::Date32 | T::Float32 => Kept::Four(Vec::new()),
            T::Int64 | T::Float64 | T::Time64(_) | T::Timestamp(..) => Kept::Eight(Vec::new()),
            T::Decimal128(..) => Kept::Sixteen(Vec::new()),
            T::FixedSizeBinary(width) => {
                Kept::Fixed { width: usize::try_from(*width).unwrap_or(0), bytes: Vec::new() }
            }
            T::Utf8View | T::BinaryView => Kept::Bytes { bytes: Vec::new(), ends: Vec::new() },
            _ => Kept::Nothing,
        };
        Self { data_type: data_type.clone(), kept, valid: NullBufferBuilder::new(0), any: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Adds a value; whether it was of the type. NULL stands in the place of one that was not.
    pub(crate) fn push(&mut self, value: &ScalarValue) -> bool {
        let fits = value.data_type() == self.data_type && self.keep(value);
        match fits {
            true => self.valid.append_non_null(),
            false => self.push_null(),
        }
        self.any |= fits;
        fits || value.is_null()
    }

    /// Adds NULLs until there are so many values.
    pub(crate) fn pad(&mut self, len: usize) {
        while self.len() < len {
            self.push_null();
        }
    }

    fn push_null(&mut self) {
        match &mut self.kept {
            Kept::Truths(values) => values.push(false),
            Kept::Four(values) => values.push(0),
            Kept::Eight(values) => values.push(0),
            Kept::Sixteen(values) => values.push(0),
            Kept::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Kept::Bytes { bytes, ends } => ends.push(bytes.len()),
            Kept::Nothing => {}
        }
        self.valid.append_null();
    }

    fn keep(&mut self, value: &ScalarValue) -> bool {
        use ScalarValue as S;
        match (&mut self.kept, value) {
            (Kept::Truths(values), S::Boolean(Some(v))) => values.push(*v),
            (Kept::Four(values), S::Int32(Some(v)) | S::Date32(Some(v))) => values.push(*v as u32),
            (Kept::Four(values), S::Float32(Some(v))) => values.push(v.to_bits()),
            (
                Kept::Eight(values),
                S::Int64(Some(v))
                | S::Time64Microsecond(Some(v))
                | S::TimestampMicrosecond(Some(v), _)
                | S::TimestampNanosecond(Some(v), _),
            ) => values.push(*v as u64),
            (Kept::Eight(values), S::Float64(Some(v))) => values.push(v.to_bits()),
            (Kept::Sixteen(values), S::Decimal128(Some(v), ..)) => values.push(*v),
            (Kept::Fixed { width, bytes }, S::FixedSizeBinary(_, Some(v))) if v.len() == *width => {
                bytes.extend_from_slice(v);
            }
            (Kept::Bytes { bytes, ends }, S::Utf8View(Some(v))) => {
                bytes.extend_from_slice(v.as_bytes());
                ends.push(bytes.len());
            }
            (Kept::Bytes { bytes, ends }, S::BinaryView(Some(v))) => {
                bytes.extend_from_slice(v);
                ends.push(bytes.len());
            }
            _ => return false,
        }
        true
    }

    /// The values; `None` if all are NULL.
    pub(super) fn finish_known(self) -> Option<ArrayRef> {
        self.any.then(|| self.finish())
    }

    /// The values.
    pub(crate) fn finish(mut self) -> ArrayRef {
        let len = self.len();
        let nulls = self.valid.finish();
        let buffer = match self.kept {
            Kept::Truths(values) => return Arc::new(BooleanArray::new(values.into(), nulls)),
            Kept::Four(values) => whole(values),
            Kept::Eight(values) => whole(values),
            Kept::Sixteen(values) => whole(values),
            Kept::Fixed { bytes, .. } => whole(bytes),
            Kept::Bytes { bytes, ends } => {
                let is_valid = |index: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(index));
                return views(&self.data_type, &bytes, &ends, is_valid);
            }
            Kept::Nothing => return new_null_array(&self.data_type, len),
        };
        let data = ArrayData::builder(self.data_type.clone()).len(len).add_buffer(buffer).nulls(nulls);
        // Lengths and types agree by construction; if they did not, nothing would be known.
        data.build().map_or_else(|_| new_null_array(&self.data_type, len), make_array)
    }
}

fn whole<T: arrow::datatypes::ArrowNativeType>(mut values: Vec<T>) -> Buffer {
    values.shrink_to_fit();
    Buffer::from_vec(values)
}

/// Texts or bytes as an array with one buffer of the right length.
fn views(data_type: &DataType, bytes: &[u8], ends: &[usize], is_valid: impl Fn(usize) -> bool) -> ArrayRef {
    let value = |index: usize| {
        let start = index.checked_sub(1).map_or(0, |before| ends[before]);
        is_valid(index).then(|| &bytes[start..ends[index]])
    };
    let values = || (0..ends.len()).map(value);
    let long = values().flatten().map(<[u8]>::len).filter(|length| *length > INLINE_BYTES_MAX).sum::<usize>();
    let block_bytes = long.clamp(1, VIEW_BUFFER_BYTES_MAX) as u32;
    match data_type {
        DataType::Utf8View => {
            let builder = StringViewBuilder::with_capacity(ends.len());
            let mut builder = builder.with_fixed_block_size(block_bytes);
            // Only texts were added.
            values().for_each(|value| builder.append_option(value.and_then(|v| std::str::from_utf8(v).ok())));
            Arc::new(builder.finish())
        }
        _ => {
            let builder = BinaryViewBuilder::with_capacity(ends.len());
            let mut builder = builder.with_fixed_block_size(block_bytes);
            values().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn values_of_every_type_come_back_between_nulls() {
        let utc = || Some("UTC".into());
        let text = |v: &str| ScalarValue::Utf8View(Some(v.to_owned()));
        let bytes = |v: &[u8]| ScalarValue::BinaryView(Some(v.to_vec()));
        let cases = [
            vec![ScalarValue::Boolean(Some(true)), ScalarValue::Boolean(Some(false))],
            vec![ScalarValue::Int32(Some(-7)), ScalarValue::Int32(Some(i32::MIN))],
            vec![ScalarValue::Int64(Some(i64::MIN)), ScalarValue::Int64(Some(1))],
            vec![ScalarValue::Date32(Some(-1))],
            vec![ScalarValue::Float32(Some(-0.5)), ScalarValue::Float32(Some(f32::MAX))],
            vec![ScalarValue::Float64(Some(-0.0))],
            vec![ScalarValue::Time64Microsecond(Some(86_399_999_999))],
            vec![ScalarValue::TimestampMicrosecond(Some(-1), None)],
            vec![ScalarValue::TimestampMicrosecond(Some(5), utc())],
            vec![ScalarValue::TimestampNanosecond(Some(5), utc())],
            vec![ScalarValue::Decimal128(Some(-(1 << 100)), 38, 4)],
            vec![ScalarValue::FixedSizeBinary(3, Some(vec![1, 2, 255]))],
            vec![text(""), text("short"), text("longer than twelve bytes, é"), text("another that is long")],
            vec![bytes(&[]), bytes(&[0xff]), bytes(&[0xfe; 40])],
        ];
        for values in cases {
            let data_type = values[0].data_type();
            let mut gathered = Values::new(&data_type);
            gathered.pad(2);
            assert!(values.iter().all(|value| gathered.push(value)), "{data_type}");
            gathered.pad(values.len() + 3);
            let array = gathered.finish_known().unwrap();
            assert_eq!((array.data_type(), array.len()), (&data_type, values.len() + 3));
            assert_eq!(array.null_count(), 3, "{data_type}");
            for (index, value) in values.iter().enumerate() {
                assert_eq!(&ScalarValue::try_from_array(&array, index + 2).unwrap(), value);
            }
        }
    }

    #[test]
    fn a_value_of_another_type_is_told_and_is_null() {
        let mut values = Values::new(&DataType::Timestamp(TimeUnit::Microsecond, None));
        assert!(!values.push(&ScalarValue::Int64(Some(1))));
        assert!(!values.push(&ScalarValue::TimestampMicrosecond(Some(1), Some("UTC".into()))));
        assert!(values.push(&ScalarValue::TimestampMicrosecond(None, None)));
        assert!(values.finish_known().is_none());
        let mut lists = Values::new(&DataType::Null);
        lists.pad(2);
        assert_eq!(lists.finish().len(), 2);
    }

    #[test]
    fn an_array_is_as_large_as_what_is_in_it() {
        let mut numbers = Values::new(&DataType::Int64);
        let mut texts = Values::new(&DataType::Utf8View);
        for number in 0..1000 {
            numbers.push(&ScalarValue::Int64(Some(number)));
            texts.push(&ScalarValue::Utf8View(Some(format!("customer number {number:04}"))));
        }
        assert!(numbers.finish().get_array_memory_size() < 8_000 + 500);
        // A view of sixteen bytes and a text of twenty.
        assert!(texts.finish().get_array_memory_size() < 36_000 + 500);
    }
}
