//! The folder of a partition: `name=value/name=value`, encoded as Java's `URLEncoder` does.
//!
//! Folders are for people: every reader takes partition values from the
//! manifest. So a very long value is cut here, and nothing is lost.

use datafusion::scalar::ScalarValue;
use url::form_urlencoded::byte_serialize;

use super::transform::civil;
use super::{PartitionSpec, Transform};

/// Longest encoded value in a folder's name; file systems allow 255 bytes for all of it.
const VALUE_BYTES_MAX: usize = 160;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The folder of `values` below the table's data location; empty for an unpartitioned table.
pub fn partition_path(spec: &PartitionSpec, values: &[Option<ScalarValue>]) -> String {
    let parts = spec.fields.iter().zip(values).map(|(field, value)| {
        let value =
            value.as_ref().map_or_else(|| "null".to_string(), |value| readable(field.transform, value));
        format!("{}={}", encode(&field.name), encode(&value))
    });
    parts.collect::<Vec<_>>().join("/")
}

fn encode(text: &str) -> String {
    let mut encoded: String = byte_serialize(text.as_bytes()).collect();
    if encoded.len() > VALUE_BYTES_MAX {
        encoded.truncate(VALUE_BYTES_MAX);
        if let Some(percent) = encoded.rfind('%').filter(|percent| percent + 3 > VALUE_BYTES_MAX) {
            encoded.truncate(percent);
        }
    }
    encoded
}

fn readable(transform: Transform, value: &ScalarValue) -> String {
    match (transform, value) {
        (Transform::Year, ScalarValue::Int32(Some(years))) => format!("{:04}", 1970 + i64::from(*years)),
        (Transform::Month, ScalarValue::Int32(Some(months))) => {
            let months = i64::from(*months);
            format!("{:04}-{:02}", 1970 + months.div_euclid(12), months.rem_euclid(12) + 1)
        }
        (Transform::Hour, ScalarValue::Int32(Some(hours))) => {
            let hours = i64::from(*hours);
            format!("{}-{:02}", date(hours.div_euclid(24)), hours.rem_euclid(24))
        }
        (_, ScalarValue::Date32(Some(days))) => date((*days).into()),
        (_, ScalarValue::Time64Microsecond(Some(micros))) => time(*micros),
        (_, ScalarValue::TimestampMicrosecond(Some(micros), zone)) => timestamp(*micros, zone.is_some()),
        (_, ScalarValue::TimestampNanosecond(Some(nanos), zone)) => {
            timestamp(nanos.div_euclid(1_000), zone.is_some())
        }
        (_, ScalarValue::Binary(Some(bytes)) | ScalarValue::FixedSizeBinary(_, Some(bytes))) => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        (_, value) => value.to_string(),
    }
}

fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND));
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { whole } else { format!("{whole}.{fraction:06}") }
}

fn timestamp(micros: i64, zoned: bool) -> String {
    let micros_per_day = SECONDS_PER_DAY * MICROS_PER_SECOND;
    let zone = if zoned { "+00:00" } else { "" };
    format!("{}T{}{zone}", date(micros.div_euclid(micros_per_day)), time(micros.rem_euclid(micros_per_day)))
}

#[cfg(test)]
mod tests {
    use super::super::PartitionField;
    use super::*;

    fn path(transform: Transform, value: ScalarValue) -> String {
        let field = PartitionField { source_id: 1, field_id: 1000, name: "p".into(), transform };
        let value = (!value.is_null()).then_some(value);
        partition_path(&PartitionSpec { spec_id: 0, fields: vec![field] }, &[value])
    }

    #[test]
    fn folders_are_readable_and_encoded() {
        let text = |text: &str| ScalarValue::Utf8(Some(text.into()));
        assert_eq!(path(Transform::Month, ScalarValue::Int32(Some(-1))), "p=1969-12");
        assert_eq!(path(Transform::Year, ScalarValue::Int32(Some(47))), "p=2017");
        assert_eq!(path(Transform::Day, ScalarValue::Date32(Some(17_486))), "p=2017-11-16");
        assert_eq!(path(Transform::Hour, ScalarValue::Int32(Some(-1))), "p=1969-12-31-23");
        assert_eq!(path(Transform::Identity, text("a/b c%ü")), "p=a%2Fb+c%25%C3%BC");
        assert_eq!(path(Transform::Identity, ScalarValue::Utf8(None)), "p=null");
        assert_eq!(path(Transform::Identity, ScalarValue::Decimal128(Some(-150), 9, 2)), "p=-1.50");
        let moment = ScalarValue::TimestampMicrosecond(Some(-1), Some("UTC".into()));
        assert_eq!(path(Transform::Identity, moment), "p=1969-12-31T23%3A59%3A59.999999%2B00%3A00");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = path(Transform::Identity, ScalarValue::Utf8(Some("ü".repeat(300))));
        assert!(
            long.len() <= VALUE_BYTES_MAX + 2 && long.ends_with("%BC") || long.ends_with("%C3"),
            "{long}"
        );
    }
}
