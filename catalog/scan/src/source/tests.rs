//! Tables of real files, queried: each test with filters in the reader and above it.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::physical_plan::displayable;
use parking_lot::Mutex;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use super::*;
use crate::testing::{Table, field, query, required, run, text};
use crate::{FileTask, ScanObserver, scan_of, with_groups, with_query_id};
use datafusion::scalar::ScalarValue;

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Ten rows a row group, with page indexes.
fn small_row_groups() -> WriterProperties {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_data_page_row_count_limit(5)
        .set_write_batch_size(5)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

/// `b` was `a` in the first file; a new `a` came later and is only in the second.
fn renamed() -> Table {
    Table::new(vec![
        field(2, "a", DataType::Int32),
        field(1, "b", DataType::Int32),
        field(3, "s", DataType::Utf8View),
    ])
    .file_with(
        vec![
            (field(1, "a", DataType::Int32), ints(0..40)),
            (field(3, "s", DataType::Utf8), strings(&["x"; 40])),
        ],
        small_row_groups(),
    )
    .file(vec![
        (field(1, "b", DataType::Int32), ints([100])),
        (field(2, "a", DataType::Int32), ints([5])),
        (field(3, "s", DataType::Utf8), strings(&["y"])),
    ])
}

#[tokio::test]
async fn columns_are_found_by_id_after_rename_reorder_and_add() {
    assert_eq!(renamed().sql("select a, b, s from t where b >= 38").await.unwrap(), "5|100|y\n|38|x\n|39|x");
    assert_eq!(renamed().sql("select b from t where a = 5").await.unwrap(), "100");
    assert_eq!(renamed().sql("select b from t where b = 5").await.unwrap(), "5");
    assert_eq!(renamed().sql("select count(*) from t where a is null").await.unwrap(), "40");
    assert_eq!(renamed().sql("select sum(b) from t where a is not null or b > 37").await.unwrap(), "177");
    assert_eq!(renamed().sql("select b from t where a is null order by b desc limit 1").await.unwrap(), "39");
}

#[tokio::test]
async fn a_column_dropped_and_added_again_does_not_show_its_old_data() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(5, "v", DataType::Utf8View)])
            .file(vec![
                (field(1, "id", DataType::Int32), ints([1, 2])),
                (field(2, "v", DataType::Int64), Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef),
            ])
            .file(vec![
                (field(5, "v", DataType::Utf8), strings(&["n"])),
                (field(1, "id", DataType::Int32), ints([3])),
            ])
    };
    assert_eq!(table().sql("select * from t").await.unwrap(), "1|\n2|\n3|n");
    assert_eq!(table().sql("select id from t where v is null").await.unwrap(), "1\n2");
    assert_eq!(table().sql("select id from t where v = 'n'").await.unwrap(), "3");
    assert_eq!(table().sql("select count(v) from t").await.unwrap(), "1");
}

#[tokio::test]
async fn types_that_grew_are_widened_and_pruned_rightly() {
    let table = || {
        Table::new(vec![field(1, "i", DataType::Int64), field(2, "f", DataType::Float64)]).file_with(
            vec![
                (field(1, "i", DataType::Int32), ints(0..30)),
                (
                    field(2, "f", DataType::Float32),
                    Arc::new(Float32Array::from_iter_values((0..30).map(|i| i as f32 / 2.0))),
                ),
            ],
            small_row_groups(),
        )
    };
    assert_eq!(table().sql("select i, f from t where i = 25").await.unwrap(), "25|12.5");
    assert_eq!(table().sql("select i from t where f <= 0.5").await.unwrap(), "0\n1");
    assert_eq!(table().sql("select i from t where i > 5000000000").await.unwrap(), "");
    assert_eq!(
        table().sql("select arrow_typeof(i), arrow_typeof(f) from t limit 1").await.unwrap(),
        "Int64|Float64"
    );
}

#[tokio::test]
async fn a_type_that_may_not_be_read_is_an_error_naming_table_column_and_file() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(2, "v", DataType::Int32)]).file(vec![
            (field(1, "id", DataType::Int32), ints([1])),
            (field(2, "v", DataType::Utf8), strings(&["1"])),
        ])
    };
    let error = table().sql("select v from t").await.unwrap_err().to_string();
    for part in ["lake.db.t", "\"v\"", "0.parquet"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(table().sql("select id from t").await.unwrap(), "1", "a column not asked for does no harm");
}

#[tokio::test]
async fn a_missing_required_column_is_an_error_unless_its_partition_has_a_value() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), required(2, "day", DataType::Utf8View)])
            .file(vec![(field(1, "id", DataType::Int32), ints([1, 2]))])
    };
    let error = table().sql("select * from t").await.unwrap_err().to_string();
    assert!(error.contains("required column \"day\"") && error.contains("0.parquet"), "{error}");
    let constant = || {
        let mut table = table();
        table.task(0).constants = vec![(2, text("mon"))];
        table
    };
    assert_eq!(constant().sql("select * from t").await.unwrap(), "1|mon\n2|mon");
    assert_eq!(constant().sql("select id from t where day = 'mon' and id > 1").await.unwrap(), "2");
    assert_eq!(constant().sql("select id from t where day = 'tue'").await.unwrap(), "");
    assert_eq!(constant().sql("select upper(day), count(*) from t group by 1").await.unwrap(), "MON|2");
}

#[tokio::test]
async fn a_column_in_the_file_wins_over_the_partition_value() {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file(vec![(field(1, "id", DataType::Int32), ints([1]))]);
    table.task(0).constants = vec![(1, ScalarValue::Int32(Some(9)))];
    assert_eq!(table.sql("select id from t").await.unwrap(), "1");
}

#[tokio::test]
async fn a_required_column_written_as_optional_keeps_its_pruning() {
    let table = Table::new(vec![required(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..40))], small_row_groups());
    let ctx = table.context(&[]);
    let text = query(&ctx, "explain analyze select id from t where id = 35").await.unwrap();
    assert!(text.contains("row_groups_pruned_statistics=4 total → 1 matched"), "{text}");
}

#[tokio::test]
async fn a_renamed_column_keeps_its_pruning_and_pages() {
    let ctx = renamed().context(&[]);
    let text = query(&ctx, "explain analyze select b from t where b = 37").await.unwrap();
    assert!(text.contains("row_groups_pruned_statistics=5 total → 1 matched"), "{text}");
    assert!(text.contains("page_index_rows_pruned=10 total → 5 matched"), "{text}");
}

#[tokio::test]
async fn files_without_ids_are_read_by_name_mapping_only() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(2, "x", DataType::Int32)]).file(vec![
            (Field::new("old", DataType::Int32, true), ints([1])),
            (Field::new("x", DataType::Int32, true), ints([2])),
        ])
    };
    let error = table().sql("select id from t").await.unwrap_err().to_string();
    assert!(error.contains("lake.db.t") && error.contains("not supported yet"), "{error}");
    let mapped = table().with_name_mapping(r#"[{"field-id": 1, "names": ["id", "old"]}]"#);
    assert_eq!(mapped.sql("select * from t").await.unwrap(), "1|");
}

#[tokio::test]
async fn nested_columns_are_read_and_evolve_by_id() {
    let fields = |fields: Vec<Field>| DataType::Struct(fields.into());
    let wanted = fields(vec![
        field(4, "renamed", DataType::Int64),
        field(6, "added", DataType::Utf8View),
        field(5, "n", DataType::Int32),
    ]);
    let list = |element| DataType::List(Arc::new(field(7, "element", element)));
    let stored = vec![
        (
            field(3, "s", fields(vec![field(5, "n", DataType::Int32), field(4, "old", DataType::Int32)])),
            Arc::new(StructArray::from(vec![
                (Arc::new(field(5, "n", DataType::Int32)), ints([1, 2])),
                (Arc::new(field(4, "old", DataType::Int32)), ints([10, 20])),
            ])) as ArrayRef,
        ),
        (field(2, "l", list(DataType::Int32)), {
            let values = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
            let (_, offsets, values, nulls) = values.into_parts();
            Arc::new(ListArray::new(Arc::new(field(7, "element", DataType::Int32)), offsets, values, nulls))
                as ArrayRef
        }),
    ];
    let table = || {
        Table::new(vec![field(2, "l", list(DataType::Int64)), field(3, "s", wanted.clone())])
            .file(stored.clone())
    };
    assert_eq!(
        table().sql("select * from t").await.unwrap(),
        "[1, ]|{renamed: 10, added: , n: 1}\n|{renamed: 20, added: , n: 2}"
    );
    assert_eq!(table().sql("select s['renamed'] from t where s['n'] = 2").await.unwrap(), "20");
    assert_eq!(
        table().sql("select s['n'] from t where s['added'] is null and s['renamed'] < 15").await.unwrap(),
        "1"
    );
    assert_eq!(table().sql("select s['n'] from t where l is null").await.unwrap(), "2");
}

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

/// One byte range for each two row groups of a file.
fn row_group_ranges(path: &std::path::Path) -> Vec<std::ops::Range<u64>> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let starts: Vec<_> = reader
        .metadata()
        .row_groups()
        .iter()
        .step_by(2)
        .map(|group| group.column(0).byte_range().0)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn row_type(fields: Vec<Field>) -> DataType {
    DataType::Struct(fields.into())
}

fn with_default(field: Field, json: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(crate::default::INITIAL_DEFAULT_KEY.to_owned(), json.to_owned());
    field.with_metadata(metadata)
}

#[tokio::test]
async fn a_struct_that_kept_none_of_its_fields_keeps_its_own_nulls() {
    let old = Arc::new(field(2, "old", DataType::Int32));
    let values = Int32Array::from(vec![Some(1), None, None]);
    let nulls = arrow::buffer::NullBuffer::from(vec![true, false, true]);
    let stored = StructArray::new(vec![Arc::clone(&old)].into(), vec![Arc::new(values)], Some(nulls));
    let new = row_type(vec![
        field(3, "new", DataType::Utf8View),
        with_default(field(4, "d", DataType::Int32), "8"),
    ]);
    let table = || {
        Table::new(vec![field(1, "s", new.clone()), field(9, "id", DataType::Int32)]).file(vec![
            (field(1, "s", row_type(vec![old.as_ref().clone()])), Arc::new(stored.clone()) as ArrayRef),
            (field(9, "id", DataType::Int32), ints(0..3)),
        ])
    };
    assert_eq!(table().sql("select id, s is null from t").await.unwrap(), "0|false\n1|true\n2|false");
    assert_eq!(table().sql("select id, s['d'], s['new'] from t").await.unwrap(), "0|8|\n1||\n2|8|");
    assert_eq!(table().sql("select id from t where s['d'] = 8").await.unwrap(), "0\n2");
    assert_eq!(table().sql("select id from t where s['new'] is null").await.unwrap(), "0\n1\n2");
}

#[tokio::test]
async fn a_field_read_alone_of_a_struct_that_evolved_is_the_same_as_within_it() {
    let inner =
        |name: &str, id: i32, t: DataType| row_type(vec![field(id, name, t), field(7, "z", DataType::Int32)]);
    let stored =
        row_type(vec![field(2, "a", DataType::Int32), field(3, "n", inner("x", 4, DataType::Int32))]);
    let DataType::Struct(fields) = &stored else { unreachable!() };
    let DataType::Struct(nested) = fields[1].data_type() else { unreachable!() };
    let nested = StructArray::new(nested.clone(), vec![ints([5, 6]), ints([7, 8])], None);
    let values = StructArray::new(fields.clone(), vec![ints([1, 2]), Arc::new(nested)], None);
    // `a` and `x` were renamed and widened, another `a` was added, `z` moved to the front.
    let wanted = row_type(vec![
        field(8, "a", DataType::Utf8View),
        field(3, "n", row_type(vec![field(7, "z", DataType::Int32), field(4, "y", DataType::Int64)])),
        field(2, "b", DataType::Int64),
    ]);
    let table = || {
        Table::new(vec![field(1, "s", wanted.clone())])
            .file(vec![(field(1, "s", stored.clone()), Arc::new(values.clone()) as ArrayRef)])
    };
    assert_eq!(
        table().sql("select * from t").await.unwrap(),
        "{a: , n: {z: 7, y: 5}, b: 1}\n{a: , n: {z: 8, y: 6}, b: 2}"
    );
    assert_eq!(table().sql("select s['n']['y'], s['b'], s['a'] from t").await.unwrap(), "5|1|\n6|2|");
    assert_eq!(table().sql("select s['n'], s['b'] from t").await.unwrap(), "{z: 7, y: 5}|1\n{z: 8, y: 6}|2");
    assert_eq!(table().sql("select s['b'] from t where s['n']['y'] > 5").await.unwrap(), "2");
    assert_eq!(table().sql("select arrow_typeof(s['n']['y']) from t limit 1").await.unwrap(), "Int64");
}

#[tokio::test]
async fn defaults_are_what_older_rows_have() {
    let table = || {
        Table::new(vec![
            field(1, "id", DataType::Int32),
            with_default(required(2, "n", DataType::Int64), "42"),
            with_default(field(3, "s", DataType::Utf8View), "\"new\""),
        ])
        .file(vec![(field(1, "id", DataType::Int32), ints([1, 2]))])
        .file(vec![
            (field(1, "id", DataType::Int32), ints([3])),
            (field(2, "n", DataType::Int64), Arc::new(Int64Array::from(vec![7])) as ArrayRef),
            (field(3, "s", DataType::Utf8), Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
        ])
    };
    assert_eq!(table().sql("select * from t").await.unwrap(), "1|42|new\n2|42|new\n3|7|");
    assert_eq!(table().sql("select id from t where n = 42 and s = 'new'").await.unwrap(), "1\n2");
    assert_eq!(table().sql("select id from t where s is null").await.unwrap(), "3");
    assert_eq!(table().sql("select n, count(*) from t group by n").await.unwrap(), "42|2\n7|1");
    let mut given = table();
    given.task(0).constants = vec![(3, text("part"))];
    assert_eq!(
        given.sql("select id from t where s = 'part'").await.unwrap(),
        "1\n2",
        "a partition has its own value"
    );
    let mut null = table();
    null.task(0).constants = vec![(3, ScalarValue::Utf8(None))];
    assert_eq!(
        null.sql("select id from t where s is null").await.unwrap(),
        "1\n2\n3",
        "a partition of NULL is not one that says nothing"
    );
    let unreadable = Table::new(vec![with_default(field(2, "n", DataType::Int64), "\"x\"")])
        .file(vec![(field(1, "id", DataType::Int32), ints([1]))]);
    let error = unreadable.sql("select * from t").await.unwrap_err().to_string();
    assert!(error.contains("default value of column \"n\""), "{error}");
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
async fn columns_that_differ_only_by_case_are_two() {
    let table = || {
        Table::new(vec![field(1, "a", DataType::Int32), field(2, "A", DataType::Int32)]).file(vec![
            (field(2, "a", DataType::Int32), ints([20, 21])),
            (field(1, "b", DataType::Int32), ints([10, 11])),
        ])
    };
    assert_eq!(table().sql("select a, \"A\" from t").await.unwrap(), "10|20\n11|21");
    assert_eq!(table().sql("select a from t where \"A\" = 21").await.unwrap(), "11");
}

/// Every metadata column, after the table's own.
fn with_metadata(mut fields: Vec<Field>) -> Vec<Field> {
    let partition = vec![Field::new("day", DataType::Utf8View, true)].into();
    fields.extend(MetadataColumn::ALL.into_iter().map(|column| column.field(&partition)));
    fields
}

#[tokio::test]
async fn metadata_columns_are_right_under_splits_filters_and_pruning() {
    let table = || {
        let mut table = Table::new(with_metadata(vec![field(1, "id", DataType::Int32)]))
            .file_with(vec![(field(1, "id", DataType::Int32), ints(100..140))], small_row_groups());
        table.task(0).first_row_id = Some(1_000);
        table.task(0).spec_id = 3;
        table.task(0).data_sequence_number = 5;
        let ranges = row_group_ranges(&table.path(0));
        let whole = table.groups.remove(0).remove(0);
        for range in ranges {
            let task = FileTask { range: Some(range), ..whole.task.as_ref().clone() };
            table.groups.push(vec![crate::PlannedFile { task: task.into(), statistics: None }]);
        }
        table
    };
    let all = table()
        .sql("select id, _pos, _row_id, _spec_id, _last_updated_sequence_number from t")
        .await
        .unwrap();
    let mut expected: Vec<_> = (0..40).map(|i| format!("{}|{i}|{}|3|5", 100 + i, 1_000 + i)).collect();
    expected.sort();
    assert_eq!(all, expected.join("\n"));
    assert_eq!(table().sql("select _pos, _row_id from t where id = 137").await.unwrap(), "37|1037");
    assert_eq!(table().sql("select id from t where _pos in (3, 21)").await.unwrap(), "103\n121");
    assert_eq!(table().sql("select id from t where _row_id >= 1038 and id <> 139").await.unwrap(), "138");
    assert_eq!(table().sql("select max(_pos + 1) from t where id < 112").await.unwrap(), "12");
    assert_eq!(table().sql("select id, _pos from t order by _pos desc limit 1").await.unwrap(), "139|39");
    assert_eq!(table().sql("select id from t order by id desc limit 1").await.unwrap(), "139");
    assert_eq!(table().sql("select count(distinct _file) from t").await.unwrap(), "1");
    assert_eq!(table().sql("select count(*) from t where _file like '%0.parquet'").await.unwrap(), "40");
}

#[tokio::test]
async fn stored_lineage_wins_and_files_without_row_ids_have_none() {
    let table = || {
        let lineage = |column: MetadataColumn| column.field(&Vec::<Field>::new().into());
        let stored = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let mut table = Table::new(with_metadata(vec![field(1, "id", DataType::Int32)]));
        for first_row_id in [Some(10), None] {
            table = table.file(vec![
                (field(1, "id", DataType::Int32), ints([1, 2])),
                (lineage(MetadataColumn::RowId), stored(vec![Some(3), None])),
                (lineage(MetadataColumn::LastUpdatedSequenceNumber), stored(vec![None, Some(2)])),
            ]);
            let last = table.groups.len() - 1;
            table.task(last).first_row_id = first_row_id;
            table.task(last).data_sequence_number = 7;
        }
        table
    };
    assert_eq!(
        table().sql("select id, _row_id, _last_updated_sequence_number from t").await.unwrap(),
        "1|3|7\n1||\n2|11|2\n2||"
    );
}

#[tokio::test]
async fn lineage_is_inherited_by_a_file_with_the_very_schema_of_the_scan() {
    let lineage = |column: MetadataColumn| column.field(&Vec::<Field>::new().into());
    let stored = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let (id, row_id) = (field(1, "id", DataType::Int32), lineage(MetadataColumn::RowId));
    let number = lineage(MetadataColumn::LastUpdatedSequenceNumber);
    let mut table = Table::new(vec![id.clone(), row_id.clone(), number.clone()]).file(vec![
        (id, ints([5, 6])),
        (row_id, stored(vec![Some(4), None])),
        (number, stored(vec![None, None])),
    ]);
    table.task(0).first_row_id = Some(6);
    table.task(0).data_sequence_number = 5;
    assert_eq!(table.sql("select * from t").await.unwrap(), "5|4|5\n6|7|5");
}

#[tokio::test]
async fn a_tables_own_column_of_such_a_name_is_its_own() {
    let table = Table::new(vec![field(1, "_pos", DataType::Int32), field(2, "_file", DataType::Int32)])
        .file(vec![(field(1, "_pos", DataType::Int32), ints([7, 8]))]);
    assert_eq!(table.sql("select _pos, _file from t where _pos > 7").await.unwrap(), "8|");
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

#[tokio::test]
async fn lists_as_old_spark_wrote_them_are_read_by_name_mapping() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    let message = "message spark_schema {
        optional group l (LIST) { repeated group bag { optional int64 array; } }
        optional group ls (LIST) { repeated group array { required int64 p; required binary q (UTF8); } }
        optional group m (MAP) { repeated group key_value (MAP_KEY_VALUE) {
            required binary key (UTF8); required int64 value; } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let element = row_type(vec![field(7, "p", DataType::Int64), field(8, "q", DataType::Utf8View)]);
    let pair = vec![required(9, "key", DataType::Utf8View), field(10, "value", DataType::Int64)];
    let map = DataType::Map(Arc::new(Field::new("key_value", row_type(pair), false)), false);
    let mapping = r#"[{"field-id": 2, "names": ["l"], "fields": [{"field-id": 5, "names": ["element"]}]},
        {"field-id": 3, "names": ["ls"], "fields": [{"field-id": 6, "names": ["element"], "fields": [
            {"field-id": 7, "names": ["p"]}, {"field-id": 8, "names": ["q"]}]}]},
        {"field-id": 4, "names": ["m"], "fields": [
            {"field-id": 9, "names": ["key"]}, {"field-id": 10, "names": ["value"]}]}]"#;
    let mut table = Table::new(vec![
        field(2, "l", DataType::List(Arc::new(field(5, "element", DataType::Int64)))),
        field(3, "ls", DataType::List(Arc::new(field(6, "element", element)))),
        field(4, "m", map),
    ])
    .with_name_mapping(mapping)
    .file(vec![(field(1, "x", DataType::Int32), ints([0, 0, 0]))]);
    let file = std::fs::File::create(table.path(0)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // Three rows: one or two values, nothing there, an empty list.
    let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[1], Some(&[3, 2, 0, 1]), Some(&[0, 1, 0, 0])).unwrap();
    column.close().unwrap();
    let levels = (Some(&[2, 0, 1][..]), Some(&[0, 0, 0][..]));
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[2], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[text("q")], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[text("k")], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[3], levels.0, levels.1).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    table.task(0).size_bytes = std::fs::metadata(table.path(0)).unwrap().len();
    let ctx = table.context(&[]);
    assert_eq!(query(&ctx, "select l, m from t").await.unwrap(), "[1, ]|{k: 3}\n[]|{}\n|");
    assert_eq!(query(&ctx, "select ls from t").await.unwrap(), "\n[]\n[{p: 2, q: q}]");
}

#[tokio::test]
async fn rows_with_nan_are_not_pruned() {
    let values: Vec<f64> = (0..10).map(f64::from).chain([f64::NAN]).chain((0..9).map(f64::from)).collect();
    let table = || {
        Table::new(vec![field(1, "x", DataType::Float64)]).file_with(
            vec![(field(1, "x", DataType::Float64), Arc::new(Float64Array::from(values.clone())))],
            small_row_groups(),
        )
    };
    assert_eq!(table().sql("select x from t where x > 100").await.unwrap(), "NaN");
    assert_eq!(table().sql("select max(x) from t").await.unwrap(), "NaN");
    assert_eq!(table().sql("select x from t order by x desc limit 1").await.unwrap(), "NaN");
    assert_eq!(table().sql("select count(*) from t where x < 2 or x = 7").await.unwrap(), "6");
}

#[tokio::test]
async fn ranges_of_a_file_read_each_row_once() {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..95))], small_row_groups());
    let whole = table.groups.remove(0).remove(0);
    let size = whole.task.size_bytes;
    for start in (0..size).step_by(97) {
        let range = start..(start + 97).min(size);
        let task = FileTask { range: Some(range), ..whole.task.as_ref().clone() };
        table.groups.push(vec![crate::PlannedFile { task: task.into(), statistics: None }]);
    }
    // The same file many times: the exact count of rows is not what the helper adds up.
    let plan = table.plan();
    let ctx = table.context(&[]);
    let rows = run(plan, &ctx).await.unwrap();
    let mut ids: Vec<i32> = rows.lines().map(|line| line.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..95).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_scan_is_repartitioned_by_ranges_and_stays_ours() {
    let table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..1000))], small_row_groups());
    let ctx = table.context(&[
        ("datafusion.optimizer.repartition_file_min_size", "100"),
        ("datafusion.execution.target_partitions", "4"),
        ("datafusion.execution.batch_size", "100"),
    ]);
    let frame = ctx.sql("select sum(id) from t").await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("4 groups") && text.contains("file_type=iceberg"), "{text}");
    assert_eq!(query(&ctx, "select sum(id), count(*), count(id) from t").await.unwrap(), "499500|1000|1000");
}

#[tokio::test]
async fn count_is_answered_from_exact_rows() {
    let ctx = renamed().context(&[]);
    let plan = ctx.sql("select count(*) from t").await.unwrap().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!text.contains("DataSourceExec: file_groups"), "{text}");
    assert_eq!(query(&ctx, "select count(*) from t").await.unwrap(), "41");
}

#[tokio::test]
async fn top_k_goes_into_the_scan_and_is_right() {
    let ctx = renamed().context(&[]);
    let sql = "select b from t order by b desc limit 2";
    let text = query(&ctx, &format!("explain analyze {sql}")).await.unwrap();
    assert!(text.contains("DynamicFilter"), "{text}");
    assert_eq!(query(&ctx, sql).await.unwrap(), "100\n39");
}

#[tokio::test]
async fn a_file_without_its_task_fails_the_scan() {
    let table = renamed();
    let plan = table.plan();
    let (config, _) = crate::exec::leaf(&plan).unwrap();
    let mut config = config.clone();
    for group in &mut config.file_groups {
        let files =
            group.iter().map(|file| PartitionedFile { extensions: Default::default(), ..file.clone() });
        *group = files.collect::<Vec<_>>().into();
    }
    let plan = datafusion::datasource::source::DataSourceExec::from_data_source(config);
    let ctx = table.context(&[]);
    let error = run(plan, &ctx).await.unwrap_err().to_string();
    assert!(error.contains("no file task") && error.contains("lake.db.t"), "{error}");
}

#[tokio::test]
async fn missing_cut_and_swapped_files_are_errors_that_name_them() {
    let gone = renamed();
    std::fs::remove_file(gone.path(0)).unwrap();
    let cut = renamed();
    let bytes = std::fs::read(cut.path(0)).unwrap();
    std::fs::write(cut.path(0), &bytes[..bytes.len() / 2]).unwrap();
    let empty = renamed();
    std::fs::write(empty.path(0), b"").unwrap();
    let garbled = renamed();
    let mut bytes = std::fs::read(garbled.path(0)).unwrap();
    bytes[4..200].fill(0xff);
    std::fs::write(garbled.path(0), bytes).unwrap();
    let swapped = renamed();
    std::fs::copy(swapped.path(1), swapped.path(0)).unwrap();
    for (what, table) in
        [("gone", gone), ("cut", cut), ("empty", empty), ("garbled", garbled), ("swapped", swapped)]
    {
        let uri = table.groups[0][0].task.uri.clone();
        let error = table.sql("select a, b from t").await.unwrap_err().to_string();
        assert!(error.contains("lake.db.t") && error.contains(&uri), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_length_in_the_manifest_is_survived() {
    for change in [-3_i64, 5] {
        let mut table = renamed();
        let task = table.task(0);
        task.size_bytes = task.size_bytes.checked_add_signed(change).unwrap();
        assert_eq!(table.sql("select count(b) from t where b >= 0").await.unwrap(), "41");
    }
}

#[tokio::test]
async fn footers_are_read_once_and_the_observer_hears_of_files_and_rows() {
    #[derive(Default)]
    struct Observed {
        opened: Mutex<Vec<(Option<String>, String)>>,
        rows: AtomicUsize,
    }
    impl ScanObserver for Observed {
        fn opened(&self, query_id: Option<&str>, task: &FileTask, _range: Option<std::ops::Range<u64>>) {
            self.opened.lock().push((query_id.map(str::to_owned), task.uri.clone()));
        }
        fn rows(&self, n: usize) {
            self.rows.fetch_add(n, Ordering::Relaxed);
        }
    }
    let observed = Arc::new(Observed::default());
    let table = renamed();
    table.router.observe(Arc::clone(&observed) as Arc<dyn ScanObserver>);
    let plan = with_query_id(table.plan(), "q1").unwrap();
    let uris: Vec<_> =
        table.groups.iter().flatten().map(|file| (Some("q1".to_owned()), file.task.uri.clone())).collect();
    let ctx = table.context(&[]);
    run(plan, &ctx).await.unwrap();
    let mut opened = observed.opened.lock().clone();
    opened.sort();
    assert_eq!(opened, uris);
    assert_eq!(observed.rows.load(Ordering::Relaxed), 41);
    let cached = ctx.runtime_env().cache_manager.get_file_metadata_cache().list_entries();
    assert_eq!(cached.len(), 2);
    query(&ctx, "select b from t").await.unwrap();
    let cached = ctx.runtime_env().cache_manager.get_file_metadata_cache().list_entries();
    assert!(cached.values().all(|entry| entry.hits > 0), "{cached:?}");
}

#[tokio::test]
async fn a_leaf_shows_its_files_and_takes_others() {
    let table = renamed();
    let plan = table.plan();
    let view = scan_of(&plan).unwrap();
    assert_eq!(view.scan.table, "lake.db.t");
    assert_eq!(view.groups.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    let one = with_groups(&plan, vec![view.groups[1].clone(), Vec::new()]).unwrap();
    assert_eq!(scan_of(&one).unwrap().groups, [view.groups[1].clone(), Vec::new()]);
    let (config, _) = crate::exec::leaf(&one).unwrap();
    assert_eq!(config.statistics().num_rows.is_exact(), Some(false));
    let ctx = table.context(&[]);
    assert_eq!(run(one, &ctx).await.unwrap(), "5|100|y");
}
