//! Types as writers of all times have stored them.

use parquet::file::writer::SerializedFileWriter;

use super::*;

#[tokio::test]
async fn physical_variants_of_a_type_read_the_same() {
    use arrow::array::{BinaryArray, Decimal128Array, FixedSizeBinaryArray, TimestampMillisecondArray};
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond};
    let zoned = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
    let decimal = |precision| {
        let array = Decimal128Array::from(vec![12345, -5]).with_precision_and_scale(precision, 2).unwrap();
        (DataType::Decimal128(precision, 2), Arc::new(array) as ArrayRef)
    };
    let table = || {
        let mut table = Table::new(vec![
            field(1, "d", DataType::Decimal128(30, 2)),
            field(2, "ts", zoned(Microsecond)),
            field(3, "s", DataType::Utf8View),
            field(4, "u", DataType::FixedSizeBinary(16)),
        ]);
        for precision in [9, 18, 30] {
            let (decimal_type, decimals) = decimal(precision);
            let millis = TimestampMillisecondArray::from(vec![1_000, -1]).with_timezone("UTC");
            let uuids = FixedSizeBinaryArray::try_from_iter([[1u8; 16], [2u8; 16]].into_iter()).unwrap();
            table = table.file(vec![
                (field(1, "d", decimal_type), decimals),
                (
                    field(2, "ts", DataType::Timestamp(Millisecond, Some("UTC".into()))),
                    Arc::new(millis) as ArrayRef,
                ),
                (
                    field(3, "s", DataType::Binary),
                    Arc::new(BinaryArray::from(vec![&b"x"[..], b"y"])) as ArrayRef,
                ),
                (field(4, "u", DataType::FixedSizeBinary(16)), Arc::new(uuids) as ArrayRef),
            ]);
        }
        table
    };
    let rows = table().sql("select distinct d, ts, s, u from t").await.unwrap();
    assert_eq!(rows.lines().count(), 2, "{rows}");
    assert_eq!(
        table().sql("select d, ts, s from t where d > 123 limit 1").await.unwrap(),
        "123.45|1970-01-01T00:00:01Z|x"
    );
    assert_eq!(
        table().sql("select count(*) from t where ts < '1970-01-01T00:00:00Z' and s = 'y'").await.unwrap(),
        "3"
    );
}

#[tokio::test]
async fn legacy_timestamps_are_read_with_the_tables_unit_and_zone() {
    use parquet::data_type::{Int96, Int96Type};
    let zoned = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into()));
    let mut table =
        Table::new(vec![field(1, "ts", zoned)]).file(vec![(field(1, "x", DataType::Int32), ints([0, 0]))]);
    let message = "message m { required int96 old_name = 1; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let file = std::fs::File::create(table.path(0)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // Year 9999 and the epoch: nanoseconds would overflow.
    let (mut late, mut epoch) = (Int96::new(), Int96::new());
    late.set_data(0, 0, 5_373_484);
    epoch.set_data(0, 0, 2_440_588);
    column.typed::<Int96Type>().write_batch(&[late, epoch], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    table.task(0).size_bytes = std::fs::metadata(table.path(0)).unwrap().len();
    assert_eq!(
        table.sql("select ts from t where ts >= '1970-01-01T00:00:00Z'").await.unwrap(),
        "1970-01-01T00:00:00Z\n9999-12-31T00:00:00Z"
    );
}

#[tokio::test]
async fn a_date_became_a_timestamp_and_one_out_of_range_is_an_error() {
    use arrow::array::Date32Array;
    use arrow::datatypes::TimeUnit::{Microsecond, Nanosecond};
    let table = |unit, days: Vec<i32>| {
        Table::new(vec![field(1, "t", DataType::Timestamp(unit, None))]).file_with(
            vec![(field(1, "t", DataType::Date32), Arc::new(Date32Array::from(days)) as ArrayRef)],
            small_row_groups(),
        )
    };
    let days = || (0..30).collect();
    assert_eq!(
        table(Microsecond, days()).sql("select t from t where t = '1970-01-26 00:00:00'").await.unwrap(),
        "1970-01-26T00:00:00"
    );
    assert_eq!(
        table(Microsecond, days()).sql("select t from t where t > '1970-01-29 12:00:00'").await.unwrap(),
        "1970-01-30T00:00:00"
    );
    assert_eq!(
        table(Nanosecond, days())
            .sql("select count(*) from t where t < '1970-01-02 00:00:01'")
            .await
            .unwrap(),
        "2"
    );
    assert!(table(Nanosecond, vec![200_000]).sql("select t from t").await.is_err());
}

#[tokio::test]
async fn rare_physical_types_are_read_and_unsigned_ones_are_an_error() {
    use arrow::datatypes::TimeUnit::{Microsecond, Nanosecond};
    use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType};
    use parquet::data_type::{Int32Type, Int64Type};
    let message = "message m {
        required binary d (DECIMAL(20,2)) = 1;
        required int32 t (TIME(MILLIS,true)) = 2;
        required fixed_len_byte_array(3) f = 3;
        required int64 n (TIMESTAMP(NANOS,true)) = 4;
        required int32 u (INTEGER(32,false)) = 5; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let mut table = Table::new(vec![
        field(1, "d", DataType::Decimal128(30, 2)),
        field(2, "t", DataType::Time64(Microsecond)),
        field(3, "f", DataType::FixedSizeBinary(3)),
        field(4, "n", DataType::Timestamp(Nanosecond, Some("UTC".into()))),
        field(5, "u", DataType::Int32),
    ])
    .file(vec![(field(1, "x", DataType::Int32), ints([0]))]);
    let file = std::fs::File::create(table.path(0)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // -1.23 in two bytes of two's complement.
    let bytes = ByteArray::from(vec![0xff, 0x85]);
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[bytes], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(&[3_723_004], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let fixed = FixedLenByteArray::from(ByteArray::from(vec![1, 2, 255]));
    column.typed::<FixedLenByteArrayType>().write_batch(&[fixed], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[1_000_000_001], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(&[7], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    table.task(0).size_bytes = std::fs::metadata(table.path(0)).unwrap().len();
    let ctx = table.context(&[]);
    assert_eq!(
        query(&ctx, "select d, t, f, n from t").await.unwrap(),
        "-1.23|01:02:03.004|0102ff|1970-01-01T00:00:01.000000001Z"
    );
    assert_eq!(
        query(&ctx, "select count(*) from t where d = -1.23 and n > '1970-01-01T00:00:01Z'").await.unwrap(),
        "1"
    );
    let error = query(&ctx, "select u from t").await.unwrap_err().to_string();
    assert!(error.contains("column \"u\" is Int32 but file"), "{error}");
}
