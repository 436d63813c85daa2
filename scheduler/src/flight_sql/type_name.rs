//! SQL names of Arrow types, and the answer to GetXdbcTypeInfo.
//!
//! The names in column metadata and in the type listing must be the same: Power BI and
//! SQLAlchemy look one up in the other. Both come from here.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// The SQL name of a type.
pub(super) fn sql_type_name(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Null => "NULL",
        T::Boolean => "BOOLEAN",
        T::Int8 => "TINYINT",
        T::Int16 => "SMALLINT",
        T::Int32 => "INTEGER",
        T::Int64 => "BIGINT",
        T::UInt8 => "TINYINT UNSIGNED",
        T::UInt16 => "SMALLINT UNSIGNED",
        T::UInt32 => "INTEGER UNSIGNED",
        T::UInt64 => "BIGINT UNSIGNED",
        T::Float16 | T::Float32 => "REAL",
        T::Float64 => "DOUBLE",
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => "DECIMAL",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "VARCHAR",
        T::Binary | T::LargeBinary | T::BinaryView => "VARBINARY",
        T::FixedSizeBinary(_) => "BINARY",
        T::Date32 | T::Date64 => "DATE",
        T::Time32(_) | T::Time64(_) => "TIME",
        T::Timestamp(_, None) => "TIMESTAMP",
        T::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        T::Duration(_) => "INTERVAL DAY TO SECOND",
        T::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH",
        T::Interval(_) => "INTERVAL DAY TO SECOND",
        T::List(_) | T::LargeList(_) | T::ListView(_) | T::LargeListView(_) | T::FixedSizeList(..) => "ARRAY",
        T::Struct(_) => "STRUCT",
        T::Map(..) => "MAP",
        T::Union(..) => "OTHER",
        T::Dictionary(_, values) => sql_type_name(values),
        T::RunEndEncoded(_, values) => sql_type_name(values.data_type()),
    }
}

/// Precision (digits or characters) and scale of a type, where it has them.
pub(super) fn precision_and_scale(data_type: &DataType) -> (Option<i32>, Option<i32>) {
    use DataType as T;
    match data_type {
        T::Boolean => (Some(1), None),
        T::Int8 | T::UInt8 => (Some(3), Some(0)),
        T::Int16 | T::UInt16 => (Some(5), Some(0)),
        T::Int32 | T::UInt32 => (Some(10), Some(0)),
        T::Int64 => (Some(19), Some(0)),
        T::UInt64 => (Some(20), Some(0)),
        T::Float16 | T::Float32 => (Some(7), None),
        T::Float64 => (Some(15), None),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => (Some(i32::from(*precision)), Some(i32::from(*scale))),
        T::FixedSizeBinary(length) => (Some(*length), None),
        T::Date32 | T::Date64 => (Some(10), None),
        T::Time32(unit) | T::Time64(unit) => with_fraction(8, unit),
        T::Timestamp(unit, _) => with_fraction(19, unit),
        _ => (None, None),
    }
}

fn with_fraction(characters: i32, unit: &TimeUnit) -> (Option<i32>, Option<i32>) {
    let digits = match unit {
        TimeUnit::Second => return (Some(characters), Some(0)),
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    (Some(characters + 1 + digits), Some(digits))
}

/// The types of SQL that this server has, one row each.
pub(super) fn type_info() -> &'static XdbcTypeInfoData {
    static INFO: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
        let mut builder = XdbcTypeInfoDataBuilder::new();
        types().into_iter().for_each(|info| builder.append(info));
        builder.build().expect("the list of types is fixed and fits its schema")
    });
    &INFO
}

/// The longest value of a type without a declared length.
const UNBOUNDED: i32 = i32::MAX;

fn types() -> Vec<XdbcTypeInfo> {
    use XdbcDataType as X;
    vec![
        XdbcTypeInfo { searchable: Searchable::Full, ..plain("BOOLEAN", X::XdbcBit, 1) },
        integer("TINYINT", X::XdbcTinyint, 3, false),
        integer("SMALLINT", X::XdbcSmallint, 5, false),
        integer("INTEGER", X::XdbcInteger, 10, false),
        integer("BIGINT", X::XdbcBigint, 19, false),
        integer("TINYINT UNSIGNED", X::XdbcTinyint, 3, true),
        integer("SMALLINT UNSIGNED", X::XdbcSmallint, 5, true),
        integer("INTEGER UNSIGNED", X::XdbcInteger, 10, true),
        integer("BIGINT UNSIGNED", X::XdbcBigint, 20, true),
        number("REAL", X::XdbcReal, 7),
        number("DOUBLE", X::XdbcDouble, 15),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".to_string(), "scale".to_string()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number("DECIMAL", X::XdbcDecimal, 38)
        },
        XdbcTypeInfo {
            literal_prefix: quote(),
            literal_suffix: quote(),
            case_sensitive: true,
            ..plain("VARCHAR", X::XdbcVarchar, UNBOUNDED)
        },
        XdbcTypeInfo {
            literal_prefix: Some("X'".to_string()),
            literal_suffix: quote(),
            ..plain("VARBINARY", X::XdbcVarbinary, UNBOUNDED)
        },
        XdbcTypeInfo {
            literal_prefix: Some("X'".to_string()),
            literal_suffix: quote(),
            create_params: Some(vec!["length".to_string()]),
            ..plain("BINARY", X::XdbcBinary, UNBOUNDED)
        },
        datetime("DATE", X::XdbcDate, 10, XdbcDatetimeSubcode::XdbcSubcodeYear, "DATE '"),
        datetime("TIME", X::XdbcTime, 15, XdbcDatetimeSubcode::XdbcSubcodeTime, "TIME '"),
        datetime("TIMESTAMP", X::XdbcTimestamp, 26, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, "TIMESTAMP '"),
        datetime(
            "TIMESTAMP WITH TIME ZONE",
            X::XdbcTimestamp,
            32,
            XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone,
            "TIMESTAMP '",
        ),
        XdbcTypeInfo {
            literal_prefix: Some("INTERVAL '".to_string()),
            literal_suffix: quote(),
            ..plain("INTERVAL YEAR TO MONTH", X::XdbcInterval, 28)
        },
        XdbcTypeInfo {
            literal_prefix: Some("INTERVAL '".to_string()),
            literal_suffix: quote(),
            ..plain("INTERVAL DAY TO SECOND", X::XdbcInterval, 28)
        },
        nested("ARRAY"),
        nested("STRUCT"),
        nested("MAP"),
    ]
}

fn plain(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_string(),
        data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        local_type_name: Some(name.to_string()),
        sql_data_type: data_type,
        ..Default::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, digits: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        num_prec_radix: Some(10),
        ..plain(name, data_type, digits)
    }
}

fn integer(name: &str, data_type: XdbcDataType, digits: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(unsigned),
        fixed_prec_scale: true,
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        ..number(name, data_type, digits)
    }
}

fn datetime(
    name: &str,
    data_type: XdbcDataType,
    size: i32,
    subcode: XdbcDatetimeSubcode,
    prefix: &str,
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.to_string()),
        literal_suffix: quote(),
        // ODBC's concise types share one verbose type.
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..plain(name, data_type, size)
    }
}

fn nested(name: &str) -> XdbcTypeInfo {
    XdbcTypeInfo {
        searchable: Searchable::None,
        column_size: None,
        ..plain(name, XdbcDataType::XdbcUnknownType, 0)
    }
}

fn quote() -> Option<String> {
    Some("'".to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use datafusion::arrow::array::{AsArray, RecordBatch};
    use datafusion::arrow::datatypes::{Field, Int32Type};

    #[test]
    fn every_type_name_of_a_column_is_in_the_listing() {
        let listed = names(&type_info().record_batch(None).unwrap());
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let types = [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(18, 4),
            DataType::Utf8,
            DataType::Binary,
            DataType::FixedSizeBinary(16),
            DataType::Date32,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Interval(IntervalUnit::YearMonth),
            DataType::List(item),
        ];
        for data_type in types {
            let name = sql_type_name(&data_type);
            assert!(listed.iter().any(|listed| listed == name), "{name} of {data_type}");
        }
    }

    #[test]
    fn the_listing_is_ordered_by_type_code_and_filtered_by_it() {
        let all = type_info().record_batch(None).unwrap();
        let codes = all.column(1).as_primitive::<Int32Type>().values().to_vec();
        assert!(codes.is_sorted());
        let varchar = type_info().record_batch(XdbcDataType::XdbcVarchar as i32).unwrap();
        assert_eq!(names(&varchar), ["VARCHAR"]);
    }

    fn names(batch: &RecordBatch) -> Vec<String> {
        batch.column(0).as_string::<i32>().iter().flatten().map(str::to_string).collect()
    }
}
