//! What a partition value says about the column it was derived from.
//!
//! Iceberg specification, "Partition Transforms", read backwards: every value
//! of the column that gives this partition value lies between two bounds. A
//! bound that cannot be computed is left out, and then prunes nothing.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::NaiveDate;
use datafusion::scalar::ScalarValue;
use tarn_scan::write::Transform;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Bounds of a column's values, both inclusive.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Interval {
    pub(super) min: Option<ScalarValue>,
    pub(super) max: Option<ScalarValue>,
}

impl Interval {
    /// The values of a column of type `source` that `transform` maps to `value`.
    pub(super) fn of(transform: Transform, value: &ScalarValue, source: &DataType) -> Self {
        if value.is_null() {
            return Self::default();
        }
        match transform {
            Transform::Identity => Self::point(value),
            Transform::Truncate(width) => truncated(value, width),
            Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
                period(transform, value, source).unwrap_or_default()
            }
            Transform::Bucket(_) | Transform::Void => Self::default(),
        }
    }

    /// The values that `transform` maps to something between two values, of which either may be unknown.
    pub(super) fn between(
        transform: Transform,
        lower: Option<&ScalarValue>,
        upper: Option<&ScalarValue>,
        source: &DataType,
    ) -> Self {
        let of = |value: Option<&ScalarValue>| value.map(|value| Self::of(transform, value, source));
        let upper_value = upper;
        let (lower, upper) = (of(lower).unwrap_or_default(), of(upper).unwrap_or_default());
        Self { min: lower.min.filter(|_| !may_wrap(transform, upper_value, source)), max: upper.max }
    }

    /// One value. Not a number is in no order, and zero has two signs.
    fn point(value: &ScalarValue) -> Self {
        Self { min: lower_bound(value.clone()), max: upper_bound(value.clone()) }
    }
}

/// A lower bound that is safe to compare with.
pub(super) fn lower_bound(value: ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Float32(Some(v)) if v.is_nan() => None,
        ScalarValue::Float64(Some(v)) if v.is_nan() => None,
        // The engine tells the zeros apart in IN and not elsewhere: a bound below both is right for either.
        ScalarValue::Float32(Some(0.0)) => Some(ScalarValue::Float32(Some(-f32::from_bits(1)))),
        ScalarValue::Float64(Some(0.0)) => Some(ScalarValue::Float64(Some(-f64::from_bits(1)))),
        value => Some(value),
    }
}

/// An upper bound that is safe to compare with.
pub(super) fn upper_bound(value: ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Float32(Some(v)) if v.is_nan() => None,
        ScalarValue::Float64(Some(v)) if v.is_nan() => None,
        // A pattern of zero matches both of its signs.
        ScalarValue::Float32(Some(0.0)) => Some(ScalarValue::Float32(Some(f32::from_bits(1)))),
        ScalarValue::Float64(Some(0.0)) => Some(ScalarValue::Float64(Some(f64::from_bits(1)))),
        value => Some(value),
    }
}

/// Whether some partition up to this one may hold the least numbers, which are truncated to what wraps around to the
/// greatest; then the least partition bounds nothing. Not known is may.
fn may_wrap(transform: Transform, upper: Option<&ScalarValue>, source: &DataType) -> bool {
    let Transform::Truncate(width) = transform else { return false };
    let last = i64::from(width.saturating_sub(1));
    match upper {
        Some(ScalarValue::Int32(Some(v))) => i64::from(*v) > i64::from(i32::MAX) - last,
        // A column of longs may have been one of ints.
        Some(ScalarValue::Int64(Some(v))) => *v > i64::from(i32::MAX) - last,
        Some(ScalarValue::Decimal128(Some(v), _, _)) => *v > i128::MAX - i128::from(last),
        _ => source.is_numeric(),
    }
}

/// The least numbers are truncated to what wraps around to the greatest: where that may be, nothing is said.
fn truncated(value: &ScalarValue, width: u32) -> Interval {
    let last = i64::from(width.saturating_sub(1));
    let max = match value {
        ScalarValue::Int32(Some(v)) => {
            let Some(max) = i32::try_from(last).ok().and_then(|last| v.checked_add(last)) else {
                return Interval::default();
            };
            Some(ScalarValue::Int32(Some(max)))
        }
        ScalarValue::Int64(Some(v)) => {
            let Some(max) = v.checked_add(last) else { return Interval::default() };
            // What was truncated when the column was one of ints may have wrapped there.
            if (i64::from(i32::MAX) - last + 1..=i64::from(i32::MAX)).contains(v) {
                return Interval::default();
            }
            Some(ScalarValue::Int64(Some(max)))
        }
        ScalarValue::Decimal128(Some(v), precision, scale) => {
            let Some(max) = v.checked_add(i128::from(last)) else { return Interval::default() };
            Some(ScalarValue::Decimal128(Some(max), *precision, *scale))
        }
        ScalarValue::Utf8View(Some(v)) => text_successor(v).map(|v| ScalarValue::Utf8View(Some(v))),
        ScalarValue::BinaryView(Some(v)) => bytes_successor(v).map(|v| ScalarValue::BinaryView(Some(v))),
        _ => return Interval::default(),
    };
    Interval { min: Some(value.clone()), max }
}

/// The least text above every text with this prefix.
fn text_successor(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = match last {
            // The code points in between are no characters.
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// The least bytes above all bytes with this prefix.
fn bytes_successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let length = prefix.iter().rposition(|byte| *byte != u8::MAX)? + 1;
    let mut next = prefix[..length].to_vec();
    next[length - 1] += 1;
    Some(next)
}

fn period(transform: Transform, value: &ScalarValue, source: &DataType) -> Option<Interval> {
    let number = match value {
        ScalarValue::Int32(Some(v)) | ScalarValue::Date32(Some(v)) => i64::from(*v),
        _ => return None,
    };
    // Old writers rounded towards zero, and so put what is before 1970 one period too late.
    let first = if number <= 0 { number - 1 } else { number };
    let min = start_micros(transform, first).and_then(|micros| at(micros, source));
    let max = start_micros(transform, number + 1).and_then(|micros| before(micros, source));
    Some(Interval { min, max })
}

/// When a period begins, in microseconds since the epoch.
fn start_micros(transform: Transform, number: i64) -> Option<i64> {
    let days = match transform {
        Transform::Hour => return number.checked_mul(MICROS_PER_HOUR),
        Transform::Day => number,
        Transform::Month => days(1970 + number.div_euclid(12), number.rem_euclid(12) + 1)?,
        Transform::Year => days(1970 + number, 1)?,
        _ => return None,
    };
    days.checked_mul(MICROS_PER_DAY)
}

/// The first day of a month, in days since the epoch.
fn days(year: i64, month: i64) -> Option<i64> {
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, 1)?;
    Some(day.signed_duration_since(NaiveDate::default()).num_days())
}

/// A moment as a value of a column's type, rounded down.
fn at(micros: i64, source: &DataType) -> Option<ScalarValue> {
    match source {
        DataType::Date32 => {
            Some(ScalarValue::Date32(Some(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()?)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Some(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(ScalarValue::TimestampNanosecond(Some(micros.checked_mul(1000)?), zone.clone()))
        }
        _ => None,
    }
}

/// The last value of a column's type before a moment.
fn before(micros: i64, source: &DataType) -> Option<ScalarValue> {
    match at(micros, source)? {
        ScalarValue::TimestampNanosecond(Some(nanos), zone) => {
            Some(ScalarValue::TimestampNanosecond(Some(nanos.checked_sub(1)?), zone))
        }
        _ => at(micros.checked_sub(1)?, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> ScalarValue {
        let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
        ScalarValue::TimestampMicrosecond(Some(time.and_utc().timestamp_micros()), None)
    }

    fn of(
        transform: Transform,
        value: ScalarValue,
        source: DataType,
    ) -> (Option<ScalarValue>, Option<ScalarValue>) {
        let interval = Interval::of(transform, &value, &source);
        (interval.min, interval.max)
    }

    const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

    #[test]
    fn periods_of_timestamps_are_from_their_first_to_their_last_microsecond() {
        let cases = [
            (Transform::Year, 54, "2024-01-01 00:00:00", "2024-12-31 23:59:59.999999"),
            (Transform::Month, 54 * 12 + 1, "2024-02-01 00:00:00", "2024-02-29 23:59:59.999999"),
            (Transform::Day, 1, "1970-01-02 00:00:00", "1970-01-02 23:59:59.999999"),
            (Transform::Hour, 25, "1970-01-02 01:00:00", "1970-01-02 01:59:59.999999"),
        ];
        for (transform, number, first, last) in cases {
            let found = of(transform, ScalarValue::Int32(Some(number)), MICROS);
            assert_eq!(found, (Some(timestamp(first)), Some(timestamp(last))), "{transform}");
        }
    }

    #[test]
    fn periods_of_nanoseconds_end_with_the_last_one() {
        let nanos = |v| Some(ScalarValue::TimestampNanosecond(Some(v), None));
        let source = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let day = 86_400_000_000_000;
        let found = of(Transform::Day, ScalarValue::Int32(Some(2)), source.clone());
        assert_eq!(found, (nanos(2 * day), nanos(3 * day - 1)));
        // Beyond what nanoseconds can say.
        assert_eq!(of(Transform::Year, ScalarValue::Int32(Some(400)), source), (None, None));
    }

    #[test]
    fn periods_before_the_epoch_are_widened_for_old_writers() {
        let found = of(Transform::Month, ScalarValue::Int32(Some(-1)), MICROS);
        assert_eq!(
            found,
            (Some(timestamp("1969-11-01 00:00:00")), Some(timestamp("1969-12-31 23:59:59.999999")))
        );
        let found = of(Transform::Year, ScalarValue::Int32(Some(0)), DataType::Date32);
        assert_eq!(found, (Some(ScalarValue::Date32(Some(-365))), Some(ScalarValue::Date32(Some(364)))));
    }

    #[test]
    fn truncated_values_stand_for_a_width_or_a_prefix() {
        let int = |v| Some(ScalarValue::Int32(Some(v)));
        let text = |v: &str| Some(ScalarValue::Utf8View(Some(v.to_owned())));
        let found = of(Transform::Truncate(10), ScalarValue::Int32(Some(-10)), DataType::Int32);
        assert_eq!(found, (int(-10), int(-1)));
        let found = of(Transform::Truncate(10), ScalarValue::Int32(Some(i32::MAX - 3)), DataType::Int32);
        // The truncated least number wraps to here, too.
        assert_eq!(found, (None, None));
        let found = of(Transform::Truncate(3), ScalarValue::Utf8View(Some("ice".into())), DataType::Utf8View);
        assert_eq!(found, (text("ice"), text("icf")));
        let found =
            of(Transform::Truncate(1), ScalarValue::Utf8View(Some("\u{10ffff}".into())), DataType::Utf8View);
        assert_eq!(found, (text("\u{10ffff}"), None));
        assert_eq!(bytes_successor(&[1, 255]), Some(vec![2]));
        assert_eq!(bytes_successor(&[255]), None);
    }

    #[test]
    fn truncated_numbers_that_may_have_wrapped_bound_nothing() {
        let long = |v| ScalarValue::Int64(Some(v));
        let between = |upper| {
            let found =
                Interval::between(Transform::Truncate(7), Some(&long(-7)), Some(&upper), &DataType::Int64);
            (found.min, found.max)
        };
        assert_eq!(between(long(14)), (Some(long(-7)), Some(long(20))));
        assert_eq!(between(long(i64::MAX - 5)), (None, None));
        // The column may have been one of ints when this was written.
        assert_eq!(between(long(i64::from(i32::MAX) - 5)), (None, None));
        assert_eq!(of(Transform::Truncate(7), long(i64::from(i32::MAX) - 5), DataType::Int64), (None, None));
        let unknown = Interval::between(Transform::Truncate(7), Some(&long(-7)), None, &DataType::Int64);
        assert_eq!(unknown.min, None);
    }

    #[test]
    fn identity_is_a_point_with_both_zeros_and_without_nan() {
        let float = |v| ScalarValue::Float64(Some(v));
        let (min, max) = of(Transform::Identity, float(0.0), DataType::Float64);
        assert!(matches!(min, Some(ScalarValue::Float64(Some(v))) if v.is_sign_negative()));
        assert!(matches!(max, Some(ScalarValue::Float64(Some(v))) if v.is_sign_positive()));
        assert_eq!(of(Transform::Identity, float(f64::NAN), DataType::Float64), (None, None));
    }

    #[test]
    fn buckets_and_dropped_fields_say_nothing() {
        let one = ScalarValue::Int32(Some(1));
        assert_eq!(of(Transform::Bucket(8), one.clone(), DataType::Int64), (None, None));
        assert_eq!(of(Transform::Void, one, DataType::Int64), (None, None));
    }
}
