//! Partition transforms over Arrow arrays.
//!
//! Iceberg specification, "Partition Transforms". Every transform maps NULL to
//! NULL and rounds towards minus infinity, so that values before 1970 and below
//! zero fall into the right partition.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, PrimitiveArray, StringArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::{Result, exec_err, plan_err};
use serde::{Deserialize, Serialize};

use super::hash::{hash_bytes, hash_decimal, hash_long};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// What a partition field does to its column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transform {
    /// The value itself.
    Identity,
    /// Hash of the value, modulo so many buckets.
    Bucket(u32),
    /// The value cut to a width: a multiple of it, or a prefix.
    Truncate(u32),
    /// Years since 1970.
    Year,
    /// Months since 1970-01.
    Month,
    /// Days since 1970-01-01.
    Day,
    /// Hours since 1970-01-01 00:00.
    Hour,
    /// Always NULL: a field that was dropped.
    Void,
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Bucket(n) => write!(f, "bucket[{n}]"),
            Self::Truncate(width) => write!(f, "truncate[{width}]"),
            Self::Year => f.write_str("year"),
            Self::Month => f.write_str("month"),
            Self::Day => f.write_str("day"),
            Self::Hour => f.write_str("hour"),
            Self::Void => f.write_str("void"),
        }
    }
}

impl FromStr for Transform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let argument = |name: &str| {
            let inner = text.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<u32>().ok().filter(|n| (1..=i32::MAX as u32).contains(n))
        };
        match text {
            "identity" => Ok(Self::Identity),
            "year" => Ok(Self::Year),
            "month" => Ok(Self::Month),
            "day" => Ok(Self::Day),
            "hour" => Ok(Self::Hour),
            "void" => Ok(Self::Void),
            _ => argument("bucket")
                .map(Self::Bucket)
                .or_else(|| argument("truncate").map(Self::Truncate))
                .ok_or_else(|| format!("unknown partition transform {text:?}")),
        }
    }
}

impl Transform {
    /// The type of this transform's values over a column of type `source`; an error if it has none.
    pub fn result_type(&self, source: &DataType) -> Result<DataType> {
        use DataType::*;
        let fits = match self {
            Self::Identity | Self::Void => !source.is_nested(),
            Self::Bucket(_) => match source {
                Int32 | Int64 | Date32 | Time64(_) | Timestamp(..) | Decimal128(..) | FixedSizeBinary(_) => {
                    true
                }
                _ => is_text(source) || is_bytes(source),
            },
            Self::Truncate(_) => {
                matches!(source, Int32 | Int64 | Decimal128(..)) || is_text(source) || is_bytes(source)
            }
            Self::Year | Self::Month | Self::Day => matches!(source, Date32 | Timestamp(..)),
            Self::Hour => matches!(source, Timestamp(..)),
        };
        if !fits {
            return plan_err!("partition transform {self} does not apply to type {source}");
        }
        Ok(match self {
            Self::Identity | Self::Void | Self::Truncate(_) => plain(source),
            Self::Day => Date32,
            Self::Bucket(_) | Self::Year | Self::Month | Self::Hour => Int32,
        })
    }

    /// This transform of every value in `values`.
    pub fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let result_type = self.result_type(values.data_type())?;
        let values = match plain(values.data_type()) {
            plain if plain == *values.data_type() => Arc::clone(values),
            plain => cast(values, &plain)?,
        };
        match self {
            Self::Identity => Ok(values),
            Self::Void => Ok(new_null_array(&result_type, values.len())),
            Self::Bucket(n) => bucket(&values, *n),
            Self::Truncate(width) => truncate(&values, *width),
            Self::Year => map_days(&values, |days| civil(days).0 - 1970),
            Self::Month => map_days(&values, |days| {
                let (year, month, _) = civil(days);
                (year - 1970) * 12 + i64::from(month) - 1
            }),
            Self::Day => Ok(cast(&map_days(&values, |days| days)?, &DataType::Date32)?),
            Self::Hour => map_micros(&values, |micros| micros.div_euclid(MICROS_PER_HOUR)),
        }
    }
}

/// Year, month and day of a day number counted from 1970-01-01, in the proleptic Gregorian calendar.
pub(super) fn civil(days: i64) -> (i64, u8, u8) {
    // Years begin in March here, so that a leap day is the last day of its year;
    // 400 years have 146,097 days and day 0 is 719,468 days after 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

fn bucket(values: &ArrayRef, n: u32) -> Result<ArrayRef> {
    let bucket = |hash: i32| (hash & i32::MAX) % n as i32;
    let long = |value: i64| bucket(hash_long(value));
    Ok(match values.data_type() {
        DataType::Int32 => map(values.as_primitive::<Int32Type>(), |v| long(v.into())),
        DataType::Date32 => map(values.as_primitive::<Date32Type>(), |v| long(v.into())),
        DataType::Int64 => map(values.as_primitive::<Int64Type>(), long),
        DataType::Time64(TimeUnit::Microsecond) => map(values.as_primitive::<Time64MicrosecondType>(), long),
        DataType::Timestamp(..) => return map_micros(values, |v| long(v).into()),
        DataType::Decimal128(..) => map(values.as_primitive::<Decimal128Type>(), |v| bucket(hash_decimal(v))),
        DataType::Utf8 => {
            ints(values.as_string::<i32>().iter().map(|v| v.map(|v| bucket(hash_bytes(v.as_bytes())))))
        }
        DataType::Binary => ints(values.as_binary::<i32>().iter().map(|v| v.map(|v| bucket(hash_bytes(v))))),
        DataType::FixedSizeBinary(_) => {
            ints(values.as_fixed_size_binary().iter().map(|v| v.map(|v| bucket(hash_bytes(v)))))
        }
        other => return exec_err!("no bucket transform for type {other}"),
    })
}

fn truncate(values: &ArrayRef, width: u32) -> Result<ArrayRef> {
    let characters = width as usize;
    let (narrow, long, wide) = (width as i32, i64::from(width), i128::from(width));
    Ok(match values.data_type() {
        DataType::Int32 => {
            let values = values.as_primitive::<Int32Type>();
            Arc::new(values.unary::<_, Int32Type>(|v| v.wrapping_sub(v.rem_euclid(narrow))))
        }
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>();
            Arc::new(values.unary::<_, Int64Type>(|v| v.wrapping_sub(v.rem_euclid(long))))
        }
        DataType::Decimal128(precision, scale) => {
            let values = values.as_primitive::<Decimal128Type>();
            let cut = values.unary::<_, Decimal128Type>(|v| v.wrapping_sub(v.rem_euclid(wide)));
            Arc::new(cut.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => {
            let cut = values.as_string::<i32>().iter().map(|v| v.map(|v| prefix(v, characters)));
            Arc::new(cut.collect::<StringArray>())
        }
        DataType::Binary => {
            let cut = values.as_binary::<i32>().iter().map(|v| v.map(|v| &v[..v.len().min(characters)]));
            Arc::new(cut.collect::<BinaryArray>())
        }
        other => return exec_err!("no truncate transform for type {other}"),
    })
}

/// The first `characters` code points of `text`.
pub(super) fn prefix(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

fn map_days(values: &ArrayRef, f: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Date32 => Ok(map(values.as_primitive::<Date32Type>(), |days| f(days.into()) as i32)),
        _ => map_micros(values, |micros| f(micros.div_euclid(MICROS_PER_DAY))),
    }
}

fn map_micros(values: &ArrayRef, f: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(map(values.as_primitive::<TimestampMicrosecondType>(), |v| f(v) as i32))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(map(values.as_primitive::<TimestampNanosecondType>(), |v| f(v.div_euclid(1_000)) as i32))
        }
        other => exec_err!("no time transform for type {other}"),
    }
}

fn map<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, f: impl Fn(T::Native) -> i32) -> ArrayRef {
    Arc::new(values.unary::<_, Int32Type>(f))
}

fn ints(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

/// The type without views, dictionaries and large offsets.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        text if is_text(text) => DataType::Utf8,
        bytes if is_bytes(bytes) => DataType::Binary,
        other => other.clone(),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Decimal128Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    };

    use super::*;

    fn ints_of(array: ArrayRef) -> Vec<Option<i32>> {
        cast(&array, &DataType::Int32).unwrap().as_primitive::<Int32Type>().iter().collect()
    }

    fn apply(transform: &str, values: impl Array + 'static) -> ArrayRef {
        let transform: Transform = transform.parse().unwrap();
        transform.apply(&(Arc::new(values) as ArrayRef)).unwrap()
    }

    #[test]
    fn names_are_read_and_written() {
        for name in ["identity", "bucket[16]", "truncate[4]", "year", "month", "day", "hour", "void"] {
            assert_eq!(name.parse::<Transform>().unwrap().to_string(), name);
        }
        for name in ["bucket", "bucket[0]", "bucket[-1]", "truncate[x]", "weekday", "bucket[4294967295]"] {
            assert!(name.parse::<Transform>().is_err(), "{name}");
        }
    }

    #[test]
    fn dates_before_1970_round_down() {
        let days = || Date32Array::from(vec![Some(0), Some(-1), Some(-365), Some(-366), Some(17_486), None]);
        assert_eq!(ints_of(apply("year", days())), [Some(0), Some(-1), Some(-1), Some(-2), Some(47), None]);
        assert_eq!(
            ints_of(apply("month", days())),
            [Some(0), Some(-1), Some(-12), Some(-13), Some(574), None]
        );
        assert_eq!(
            ints_of(apply("day", days())),
            [Some(0), Some(-1), Some(-365), Some(-366), Some(17_486), None]
        );
        assert_eq!(apply("day", days()).data_type(), &DataType::Date32);
    }

    #[test]
    fn timestamps_before_1970_round_down() {
        let micros = || TimestampMicrosecondArray::from(vec![0, -1, -MICROS_PER_HOUR, -MICROS_PER_DAY - 1]);
        assert_eq!(ints_of(apply("hour", micros())), [Some(0), Some(-1), Some(-1), Some(-25)]);
        assert_eq!(ints_of(apply("day", micros())), [Some(0), Some(-1), Some(-1), Some(-2)]);
        assert_eq!(ints_of(apply("month", micros())), [Some(0), Some(-1), Some(-1), Some(-1)]);
        let nanos = TimestampNanosecondArray::from(vec![-1, 1_510_871_468_000_000_999]);
        assert_eq!(ints_of(apply("year", nanos)), [Some(-1), Some(47)]);
    }

    #[test]
    fn the_calendar_knows_leap_years_and_far_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(-719_468), (0, 3, 1));
        assert_eq!(civil(-719_529), (-1, 12, 31));
        assert_eq!(civil(2_932_896), (9999, 12, 31));
    }

    #[test]
    fn buckets_ignore_the_width_of_integers_and_the_unit_of_timestamps() {
        let expected = 2_017_239_379 % 16;
        assert_eq!(ints_of(apply("bucket[16]", Int32Array::from(vec![34]))), [Some(expected)]);
        assert_eq!(
            ints_of(apply("bucket[16]", Int64Array::from(vec![Some(34), None]))),
            [Some(expected), None]
        );
        let text = StringViewArray::from(vec!["iceberg"]);
        assert_eq!(ints_of(apply("bucket[100]", text)), [Some(1_210_000_089 % 100)]);
        let decimal = Decimal128Array::from(vec![1420]).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(ints_of(apply("bucket[100]", decimal)), [Some((-500_754_589_i32 & i32::MAX) % 100)]);
        let micros = apply("bucket[64]", TimestampMicrosecondArray::from(vec![1_510_871_468_000_001]));
        let nanos = apply("bucket[64]", TimestampNanosecondArray::from(vec![1_510_871_468_000_001_001]));
        assert_eq!(ints_of(micros), ints_of(nanos));
    }

    #[test]
    fn truncate_rounds_down_and_counts_characters() {
        assert_eq!(
            ints_of(apply("truncate[10]", Int32Array::from(vec![1, -1, -10, 19]))),
            [Some(0), Some(-10), Some(-10), Some(10)]
        );
        let decimal = Decimal128Array::from(vec![1065, -5]).with_precision_and_scale(9, 2).unwrap();
        let cut = apply("truncate[50]", decimal);
        assert_eq!(cut.as_primitive::<Decimal128Type>().values(), &[1050, -50]);
        assert_eq!(cut.data_type(), &DataType::Decimal128(9, 2));
        let text = apply("truncate[3]", StringViewArray::from(vec!["iceberg", "hé", "日本語文"]));
        assert_eq!(text.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["ice", "hé", "日本語"]);
        let bytes = apply("truncate[2]", BinaryArray::from_vec(vec![&[1, 2, 3], &[9]]));
        assert_eq!(bytes.as_binary::<i32>().iter().flatten().collect::<Vec<_>>(), [&[1_u8, 2][..], &[9]]);
    }

    #[test]
    fn transforms_refuse_types_they_are_not_defined_for() {
        for (transform, source) in [
            ("bucket[4]", DataType::Float64),
            ("bucket[4]", DataType::Boolean),
            ("truncate[4]", DataType::Date32),
            ("hour", DataType::Date32),
            ("day", DataType::Utf8),
        ] {
            let transform: Transform = transform.parse().unwrap();
            assert!(transform.result_type(&source).is_err(), "{transform} of {source}");
        }
        assert_eq!(Transform::Void.result_type(&DataType::Utf8View).unwrap(), DataType::Utf8);
        assert_eq!(apply("void", Int32Array::from(vec![1])).null_count(), 1);
    }
}
