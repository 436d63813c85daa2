//! Avro files written byte by byte here, after the specifications of Avro and Iceberg; what comes out is reasoned.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::scalar::ScalarValue;

use super::container::write_number;
use crate::columns::MetadataColumn;
use crate::default::INITIAL_DEFAULT_KEY;
use crate::deletes::{DeleteFile, EqualityDeletes, EqualityKey};
use crate::testing::{Table, field, query, required};
use crate::{FileFormat, FileTask, PlannedFile};

const MARKER: [u8; 16] = *b"marker of blocks";

/// Rows in Avro's encoding.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn long(mut self, value: i64) -> Self {
        write_number(&mut self.0, value);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.long(bytes.len() as i64).raw(bytes)
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }
}

fn container(schema: &str, codec: &str, blocks: &[(i64, Bytes)]) -> Vec<u8> {
    let mut file = Bytes::default().raw(b"Obj\x01").long(2);
    file = file.text("avro.schema").text(schema).text("avro.codec").text(codec).long(0).raw(&MARKER);
    for (rows, bytes) in blocks {
        file = file.long(*rows).bytes(&bytes.0).raw(&MARKER);
    }
    file.0
}

fn task_of(table: &Table, name: &str, bytes: &[u8], rows: u64) -> FileTask {
    let path = table.folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    FileTask {
        uri: path.to_str().unwrap().to_owned(),
        format: FileFormat::Avro,
        size_bytes: bytes.len() as u64,
        record_count: rows,
        data_sequence_number: 1,
        ..FileTask::default()
    }
}

fn with_file(mut table: Table, schema: &str, blocks: &[(i64, Bytes)]) -> Table {
    let rows = blocks.iter().map(|(rows, _)| *rows as u64).sum();
    let name = format!("{}.avro", table.groups.len());
    let task = task_of(&table, &name, &container(schema, "null", blocks), rows);
    table.groups.push(vec![PlannedFile { task: Arc::new(task), statistics: None }]);
    table
}

fn record(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "table", "fields": [{fields}]}}"#)
}

/// A file of one column `n` with id 1: 0, 1, 2 and so on, a few rows a block.
fn numbers(rows: i64, rows_a_block: i64) -> (String, Vec<(i64, Bytes)>) {
    let block = |first: i64| {
        let last = rows.min(first + rows_a_block);
        (last - first, (first..last).fold(Bytes::default(), |bytes, n| bytes.long(n)))
    };
    let blocks = (0..rows).step_by(rows_a_block as usize).map(block).collect();
    (record(r#"{"name": "n", "type": "long", "field-id": 1}"#), blocks)
}

fn numbered(rows: i64, rows_a_block: i64) -> Table {
    let (schema, blocks) = numbers(rows, rows_a_block);
    with_file(Table::new(vec![field(1, "n", DataType::Int64)]), &schema, &blocks)
}

fn listed(numbers: impl IntoIterator<Item = i64>) -> String {
    let mut lines: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    lines.sort();
    lines.join("\n")
}

#[tokio::test]
async fn columns_are_found_by_id_and_grow_and_are_defaulted() {
    let schema = record(
        r#"{"name": "old", "type": ["null", "int"], "default": null, "field-id": 1},
           {"name": "gone", "type": "string", "field-id": 2},
           {"name": "f", "type": "float", "field-id": 3},
           {"name": "d", "type": {"type": "fixed", "name": "decimal_9_2", "size": 4, "logicalType": "decimal",
            "precision": 9, "scale": 2}, "field-id": 4},
           {"name": "again", "type": ["decimal_9_2", "null"], "field-id": 5}"#,
    );
    let rows = Bytes::default()
        .long(1)
        .long(7)
        .text("x")
        .raw(&1.5_f32.to_le_bytes())
        .raw(&(-123_i32).to_be_bytes())
        .long(1)
        .long(0)
        .text("y")
        .raw(&2.5_f32.to_le_bytes())
        .raw(&999_999_999_i32.to_be_bytes())
        .long(0)
        .raw(&[0, 0, 0, 5]);
    let mut added = field(9, "gone", DataType::Int32);
    added.set_metadata(
        [added.metadata().clone(), [(INITIAL_DEFAULT_KEY.to_owned(), "42".to_owned())].into()]
            .into_iter()
            .flatten()
            .collect(),
    );
    let table = || {
        let table = Table::new(vec![
            field(4, "d", DataType::Decimal128(12, 2)),
            field(1, "n", DataType::Int64),
            added.clone(),
            field(10, "new", DataType::Utf8View),
            field(3, "f", DataType::Float64),
            field(5, "e", DataType::Decimal128(9, 2)),
        ]);
        with_file(table, &schema, &[(2, rows.clone())])
    };
    assert_eq!(table().sql("select * from t").await.unwrap(), "-1.23|7|42||1.5|\n9999999.99||42||2.5|0.05");
    assert_eq!(table().sql("select f, n + 1 from t where n is not null").await.unwrap(), "1.5|8");
    assert_eq!(table().sql("select n from t where gone = 42 and d > 0").await.unwrap(), "");
    assert_eq!(table().sql("select count(*) from t where new is null").await.unwrap(), "2");
}

#[tokio::test]
async fn types_are_those_of_iceberg() {
    let schema = record(
        r#"{"name": "b", "type": "boolean", "field-id": 1},
           {"name": "dt", "type": {"type": "int", "logicalType": "date"}, "field-id": 2},
           {"name": "tm", "type": {"type": "long", "logicalType": "time-micros"}, "field-id": 3},
           {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": false}, "field-id": 4},
           {"name": "tz", "type": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true}, "field-id": 5},
           {"name": "ns", "type": {"type": "long", "logicalType": "timestamp-nanos", "adjust-to-utc": false}, "field-id": 6},
           {"name": "u", "type": {"type": "fixed", "name": "uuid_fixed", "size": 16, "logicalType": "uuid"}, "field-id": 7},
           {"name": "fx", "type": {"type": "fixed", "name": "fixed_3", "size": 3}, "field-id": 8},
           {"name": "y", "type": "bytes", "field-id": 9},
           {"name": "s", "type": "string", "field-id": 10},
           {"name": "big", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}, "field-id": 11},
           {"name": "nothing", "type": "null", "field-id": 12}"#,
    );
    let row = Bytes::default()
        .raw(&[1])
        .long(-1)
        .long(3_661_000_001)
        .long(1_000_001)
        .long(-1)
        .long(1_500_000_000_000_000_001)
        .raw(&[0xab; 16])
        .raw(&[1, 2, 3])
        .bytes(&[0, 255])
        .text("ä")
        .bytes(&[0xff, 0x00]);
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let table = Table::new(vec![
        field(1, "b", DataType::Boolean),
        field(2, "dt", DataType::Date32),
        field(3, "tm", DataType::Time64(TimeUnit::Microsecond)),
        field(4, "ts", micros(None)),
        field(5, "tz", micros(Some("UTC"))),
        field(6, "ns", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field(7, "u", DataType::FixedSizeBinary(16)),
        field(8, "fx", DataType::FixedSizeBinary(3)),
        field(9, "y", DataType::BinaryView),
        field(10, "s", DataType::Utf8View),
        field(11, "big", DataType::Decimal128(38, 0)),
        field(12, "nothing", DataType::Int32),
    ]);
    let table = with_file(table, &schema, &[(1, row)]);
    let expected = "true|1969-12-31|01:01:01.000001|1970-01-01T00:00:01.000001|1969-12-31T23:59:59.999999Z\
                    |2017-07-14T02:40:00.000000001|abababababababababababababababab|010203|00ff|ä|-256|";
    assert_eq!(table.sql("select * from t").await.unwrap(), expected);
}

#[tokio::test]
async fn null_is_null_in_every_type() {
    let types = [
        (r#""boolean""#, DataType::Boolean),
        (r#""int""#, DataType::Int32),
        (r#""long""#, DataType::Int64),
        (r#""float""#, DataType::Float32),
        (r#""double""#, DataType::Float64),
        (r#""string""#, DataType::Utf8View),
        (r#""bytes""#, DataType::BinaryView),
        (r#"{"type": "fixed", "name": "f7", "size": 2}"#, DataType::FixedSizeBinary(2)),
        (
            r#"{"type": "fixed", "name": "f8", "size": 16, "logicalType": "uuid"}"#,
            DataType::FixedSizeBinary(16),
        ),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 1}"#,
            DataType::Decimal128(5, 1),
        ),
        (
            r#"{"type": "fixed", "name": "f10", "size": 3, "logicalType": "decimal", "precision": 5, "scale": 1}"#,
            DataType::Decimal128(5, 1),
        ),
        (r#"{"type": "int", "logicalType": "date"}"#, DataType::Date32),
        (
            r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ),
        (
            r#"{"type": "array", "items": ["null", "string"], "element-id": 100}"#,
            DataType::List(Arc::new(field(100, "element", DataType::Utf8View))),
        ),
        (
            r#"{"type": "record", "name": "r14", "fields": [{"name": "a", "type": ["null", "string"], "field-id": 101}]}"#,
            DataType::Struct(Fields::from(vec![field(101, "a", DataType::Utf8View)])),
        ),
    ];
    for nulls_first in [true, false] {
        let columns = (1..).zip(&types).map(|(id, (avro, _))| {
            let union =
                if nulls_first { format!(r#"["null", {avro}]"#) } else { format!(r#"[{avro}, "null"]"#) };
            format!(r#"{{"name": "c{id}", "type": {union}, "field-id": {id}}}"#)
        });
        let schema = record(&columns.collect::<Vec<_>>().join(", "));
        let (null, there) = if nulls_first { (0, 1) } else { (1, 0) };
        let nulls = types.iter().fold(Bytes::default(), |bytes, _| bytes.long(null));
        let values = [
            Bytes::default().raw(&[1]),
            Bytes::default().long(-2),
            Bytes::default().long(3),
            Bytes::default().raw(&0.5_f32.to_le_bytes()),
            Bytes::default().raw(&0.25_f64.to_le_bytes()),
            Bytes::default().text(""),
            Bytes::default().bytes(&[7]),
            Bytes::default().raw(&[1, 2]),
            Bytes::default().raw(&[0x11; 16]),
            Bytes::default().bytes(&[0xff]),
            Bytes::default().raw(&[0, 0, 25]),
            Bytes::default().long(1),
            Bytes::default().long(1_000_000),
            Bytes::default().long(2).long(0).long(1).text("x").long(0),
            Bytes::default().long(0),
        ];
        let values = values.iter().fold(Bytes::default(), |bytes, value| bytes.long(there).raw(&value.0));
        let table = || {
            let columns =
                (1..).zip(&types).map(|(id, (_, data_type))| field(id, &format!("c{id}"), data_type.clone()));
            let rows = nulls.clone().raw(&values.0).raw(&nulls.0);
            with_file(Table::new(columns.collect()), &schema, &[(3, rows)])
        };
        let none = "|".repeat(types.len() - 1);
        let some = format!(
            "true|-2|3|0.5|0.25||07|0102|{}|-0.1|2.5|1970-01-02|1970-01-01T00:00:01|[, x]|{{a: }}",
            "11".repeat(16)
        );
        assert_eq!(table().sql("select * from t").await.unwrap(), format!("{some}\n{none}\n{none}"));
        let counts = (1..=types.len()).map(|id| format!("count(c{id})")).collect::<Vec<_>>().join(", ");
        let ones = vec!["1"; types.len()].join("|");
        assert_eq!(table().sql(&format!("select {counts} from t")).await.unwrap(), ones);
    }
}

#[tokio::test]
async fn a_zone_that_the_table_does_not_have_is_an_error() {
    let schema = record(
        r#"{"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true}, "field-id": 1},
           {"name": "n", "type": "long", "field-id": 2}"#,
    );
    let table = || {
        let columns = vec![
            field(1, "ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
            field(2, "n", DataType::Int64),
        ];
        with_file(Table::new(columns), &schema, &[(1, Bytes::default().long(5).long(6))])
    };
    let error = table().sql("select ts from t").await.unwrap_err().to_string();
    assert!(error.contains("\"ts\"") && error.contains("0.avro"), "{error}");
    assert_eq!(table().sql("select n from t").await.unwrap(), "6");
}

#[tokio::test]
async fn nested_values_are_put_together_by_id() {
    let schema = record(
        r#"{"name": "s", "type": ["null", {"type": "record", "name": "r1", "fields": [
              {"name": "a", "type": ["null", "int"], "field-id": 2},
              {"name": "gone", "type": "string", "field-id": 3},
              {"name": "l", "type": {"type": "array", "items": ["null", "int"], "element-id": 5}, "field-id": 4}]}], "field-id": 1},
           {"name": "m", "type": {"type": "map", "values": "int", "key-id": 7, "value-id": 8}, "field-id": 6},
           {"name": "p", "type": ["null", {"type": "array", "logicalType": "map", "items": {"type": "record", "name": "k10_v11",
              "fields": [{"name": "key", "type": "int", "field-id": 10},
                         {"name": "value", "type": ["null", "string"], "field-id": 11}]}}], "field-id": 9}"#,
    );
    let rows = Bytes::default()
        // {a: 1, gone: "g", l: [NULL, 4]}, {x: 1, y: 2}, {5: "v", 6: NULL}
        .long(1)
        .long(1)
        .long(1)
        .text("g")
        .long(2)
        .long(0)
        .long(1)
        .long(4)
        .long(0)
        .long(1)
        .text("x")
        .long(1)
        .long(-1)
        .long(3)
        .text("y")
        .long(2)
        .long(0)
        .long(1)
        .long(2)
        .long(5)
        .long(1)
        .text("v")
        .long(6)
        .long(0)
        .long(0)
        // NULL, {}, NULL
        .long(0)
        .long(0)
        .long(0);
    let leaf = |id, name, data_type| Arc::new(field(id, name, data_type));
    let pair = |key: Field, value: Field| {
        let entries = Field::new("key_value", DataType::Struct(Fields::from(vec![key, value])), false);
        DataType::Map(Arc::new(entries), false)
    };
    let table = || {
        let of_struct = Fields::from(vec![
            leaf(4, "list", DataType::List(leaf(5, "element", DataType::Int64))),
            leaf(12, "b", DataType::Utf8View),
            leaf(2, "renamed", DataType::Int64),
        ]);
        let table = Table::new(vec![
            field(9, "p", pair(required(10, "key", DataType::Int64), field(11, "value", DataType::Utf8View))),
            field(1, "s", DataType::Struct(of_struct)),
            field(6, "m", pair(required(7, "key", DataType::Utf8View), field(8, "value", DataType::Int64))),
        ]);
        with_file(table, &schema, &[(2, rows.clone())])
    };
    assert_eq!(
        table().sql("select * from t").await.unwrap(),
        "{5: v, 6: }|{list: [, 4], b: , renamed: 1}|{x: 1, y: 2}\n||{}"
    );
    assert_eq!(
        table().sql("select s.renamed, m from t where s.renamed = 1").await.unwrap(),
        "1|{x: 1, y: 2}"
    );
    assert_eq!(table().sql("select count(*) from t where s is null").await.unwrap(), "1");
    assert_eq!(
        table().sql("select s.list[2] from t where s.b is null and s is not null").await.unwrap(),
        "4"
    );
}

#[tokio::test]
async fn a_file_without_ids_is_read_by_the_name_mapping_or_not_at_all() {
    let schema = record(
        r#"{"name": "a", "type": "int"}, {"name": "l", "type": {"type": "array", "items":
           {"type": "record", "name": "r", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "int"}]}}},
           {"name": "m", "type": {"type": "map", "values": "int"}}, {"name": "b", "type": "int"}"#,
    );
    let row =
        Bytes::default().long(1).long(1).long(2).long(3).long(0).long(1).text("k").long(4).long(0).long(5);
    let table = || {
        let element =
            field(5, "element", DataType::Struct(Fields::from(vec![field(7, "yy", DataType::Int32)])));
        let entries = vec![required(8, "key", DataType::Utf8View), field(9, "value", DataType::Int32)];
        let entries = Field::new("key_value", DataType::Struct(entries.into()), false);
        let table = Table::new(vec![
            field(1, "first", DataType::Int32),
            field(2, "b", DataType::Int32),
            field(3, "l", DataType::List(Arc::new(element))),
            field(4, "m", DataType::Map(Arc::new(entries), false)),
        ]);
        with_file(table, &schema, &[(1, row.clone())])
    };
    let mapping = r#"[{"field-id": 1, "names": ["first", "a"]}, {"field-id": 3, "names": ["l"], "fields": [
        {"field-id": 5, "names": ["element"], "fields": [{"field-id": 6, "names": ["x"]}, {"field-id": 7, "names": ["y"]}]}]},
        {"field-id": 4, "names": ["m"], "fields": [{"field-id": 8, "names": ["key"]}, {"field-id": 9, "names": ["value"]}]}]"#;
    // The mapping does not have b, so that the table's column of this name is not the file's.
    assert_eq!(
        table().with_name_mapping(mapping).sql("select * from t").await.unwrap(),
        "1||[{yy: 3}]|{k: 4}"
    );
    let error = table().sql("select * from t").await.unwrap_err().to_string();
    assert!(error.contains("name mapping") && error.contains("not supported"), "{error}");
}

#[tokio::test]
async fn types_that_iceberg_does_not_write_spoil_only_their_columns() {
    let schema = record(
        r#"{"name": "u", "type": ["null", "int", "string"], "field-id": 1},
           {"name": "e", "type": {"type": "enum", "name": "suit", "symbols": ["A", "B"]}, "field-id": 2},
           {"name": "n", "type": "long", "field-id": 3}"#,
    );
    let rows = Bytes::default().long(2).text("x").long(1).long(10).long(0).long(0).long(20);
    let table = || {
        let columns = [(1, "u", DataType::Int32), (2, "e", DataType::Utf8View), (3, "n", DataType::Int64)];
        let columns = columns.into_iter().map(|(id, name, data_type)| field(id, name, data_type)).collect();
        with_file(Table::new(columns), &schema, &[(2, rows.clone())])
    };
    assert_eq!(table().sql("select n from t").await.unwrap(), "10\n20");
    for (column, what) in [("u", "a union"), ("e", "an enum")] {
        let error = table().sql(&format!("select {column} from t")).await.unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains("not supported") && error.contains("0.avro"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn blocks_batches_limits_and_ranges_give_each_row_once() {
    for rows_a_block in [1, 7, 1000] {
        let table = || numbered(100, rows_a_block);
        assert_eq!(table().sql("select n from t").await.unwrap(), listed(0..100));
        assert_eq!(table().sql("select count(*), sum(n) from t").await.unwrap(), "100|4950");
        assert_eq!(table().sql("select count(*) from (select n from t limit 13)").await.unwrap(), "13");
        let ctx = table().context(&[("datafusion.execution.batch_size", "1")]);
        assert_eq!(
            query(&ctx, "select n from t where n % 10 = 3").await.unwrap(),
            listed((3..100).step_by(10))
        );
        let mut split = table();
        let whole = split.groups[0][0].clone();
        let size = whole.task.size_bytes;
        let piece = |range| PlannedFile {
            task: Arc::new(FileTask { range: Some(range), ..whole.task.as_ref().clone() }),
            statistics: None,
        };
        split.groups = vec![vec![piece(0..50)], vec![piece(50..size / 2), piece(size / 2..size)]];
        assert_eq!(split.sql("select n from t").await.unwrap(), listed(0..100));
    }
    // What the manifest says of the length does not matter.
    let mut table = numbered(100, 7);
    table.task(0).size_bytes = 3;
    assert_eq!(table.sql("select count(n) from t").await.unwrap(), "100");
}

#[tokio::test]
async fn metadata_columns_row_ids_and_constants_are_given() {
    let (schema, blocks) = numbers(5, 2);
    let of = |column: MetadataColumn| column.field(&Fields::empty());
    let columns = || {
        vec![
            field(1, "n", DataType::Int64),
            field(2, "p", DataType::Int32),
            of(MetadataColumn::Position),
            of(MetadataColumn::RowId),
            of(MetadataColumn::LastUpdatedSequenceNumber),
        ]
    };
    let mut table = with_file(Table::new(columns()), &schema, &blocks);
    table.task(0).first_row_id = Some(1000);
    table.task(0).constants = vec![(2, ScalarValue::Int32(Some(8)))];
    let answer = table.sql("select * from t where n >= 2").await.unwrap();
    assert_eq!(answer, "2|8|2|1002|1\n3|8|3|1003|1\n4|8|4|1004|1");
    let table = with_file(Table::new(columns()), &schema, &blocks);
    assert_eq!(table.sql("select _pos, _row_id from t where n = 3").await.unwrap(), "3|");
}

#[tokio::test]
async fn deletes_of_every_kind_hold() {
    let key = |table: &mut Table, file| {
        let key = EqualityKey { field: Arc::new(field(1, "n", DataType::Int64)), path: Vec::new() };
        table.task(0).deletes.equality =
            vec![Arc::new(EqualityDeletes { keys: vec![key], files: vec![file] })];
    };
    let table = || {
        let mut table = numbered(40, 7);
        let uri = table.task(0).uri.clone();
        let schema = record(
            r#"{"name": "file_path", "type": "string", "field-id": 2147483546},
               {"name": "pos", "type": "long", "field-id": 2147483545}"#,
        );
        let rows = [(uri.as_str(), 39), (&uri, 0), ("other", 5), (&uri, 7), (&uri, 8), (&uri, 77)];
        let rows = rows.into_iter().fold(Bytes::default(), |bytes, (path, at)| bytes.text(path).long(at));
        let positions = task_of(&table, "p.avro", &container(&schema, "null", &[(6, rows)]), 6);
        table.task(0).deletes.positions = vec![delete_file(positions, 1)];
        let schema = record(r#"{"name": "other", "type": ["null", "int"], "field-id": 1}"#);
        let rows = Bytes::default().long(1).long(20).long(0).long(1).long(7);
        let values = task_of(&table, "e.avro", &container(&schema, "null", &[(3, rows)]), 3);
        key(&mut table, delete_file(values, 2));
        table
    };
    let left = || (0..40).filter(|n| ![0, 7, 8, 20, 39].contains(n));
    assert_eq!(table().sql("select n from t").await.unwrap(), listed(left()));
    assert_eq!(table().sql("select count(*) from t").await.unwrap(), left().count().to_string());
    assert_eq!(
        table().sql("select n from t where n < 10").await.unwrap(),
        listed(left().filter(|n| *n < 10))
    );
    assert_eq!(table().sql("select count(*) from (select n from t limit 30)").await.unwrap(), "30");
}

#[tokio::test]
async fn a_parquet_file_beside_an_avro_file_reads_the_same() {
    let ints = |range: std::ops::Range<i32>| Arc::new(Int32Array::from_iter_values(range)) as ArrayRef;
    let table = || {
        let table = Table::new(vec![field(1, "n", DataType::Int64)])
            .file(vec![(field(1, "n", DataType::Int32), ints(10..20))]);
        let (schema, blocks) = numbers(10, 3);
        with_file(table, &schema, &blocks)
    };
    assert_eq!(table().sql("select n from t").await.unwrap(), listed(0..20));
    assert_eq!(table().sql("select n from t where n > 7 and n < 12").await.unwrap(), listed(8..12));
}

#[tokio::test]
async fn compressed_blocks_are_read() {
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use arrow_avro::compression::CompressionCodec;
    use arrow_avro::writer::WriterBuilder;
    use arrow_avro::writer::format::AvroOcfFormat;
    for codec in [CompressionCodec::Deflate, CompressionCodec::Snappy, CompressionCodec::ZStandard] {
        let arrow = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let rows = Arc::new(arrow::array::Int64Array::from_iter_values(0..1000)) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::new(arrow.clone()), vec![rows]).unwrap();
        let writer = WriterBuilder::new(arrow).with_compression(Some(codec));
        let mut writer = writer.build::<_, AvroOcfFormat>(Vec::new()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let mapping = r#"[{"field-id": 1, "names": ["n"]}]"#;
        let mut table = Table::new(vec![field(1, "n", DataType::Int64)]).with_name_mapping(mapping);
        let task = task_of(&table, "c.avro", &writer.into_inner(), 1000);
        table.groups.push(vec![PlannedFile { task: Arc::new(task), statistics: None }]);
        assert_eq!(table.sql("select count(n), sum(n) from t").await.unwrap(), "1000|499500", "{codec:?}");
    }
    let mut table = numbered(0, 1);
    let bytes = container(&numbers(0, 1).0, "bzip2", &[]);
    *table.task(0) = task_of(&table, "c.avro", &bytes, 0);
    let error = table.sql("select n from t").await.unwrap_err().to_string();
    assert!(error.contains("bzip2") && error.contains("not supported"), "{error}");
}

#[tokio::test]
async fn a_file_that_was_cut_or_has_other_rows_is_damaged() {
    let (schema, blocks) = numbers(9, 4);
    let good = container(&schema, "null", &blocks);
    let read = async |bytes: &[u8], rows: u64, sql: &str| {
        let mut table = numbered(0, 1);
        *table.task(0) = task_of(&table, "x.avro", bytes, rows);
        table.sql(sql).await.map_err(|error| error.to_string())
    };
    let all = "select n from t";
    assert_eq!(read(&good, 9, all).await, Ok(listed(0..9)));
    for length in (0..good.len()).step_by(3) {
        for sql in [all, "select count(n) from t"] {
            let error = read(&good[..length], 9, sql).await.unwrap_err();
            assert!(error.contains("lake.db.t") && error.contains("x.avro"), "cut at {length}: {error}");
            assert!(error.contains("damaged"), "cut at {length}: {error}");
        }
    }
    for rows in [0, 8, 10] {
        let error = read(&good, rows, all).await.unwrap_err();
        assert!(error.contains("damaged") && error.contains("manifest says"), "{error}");
    }
    assert!(read(b"PAR1 and no Avro", 9, all).await.unwrap_err().contains("does not begin as an Avro file"));
}

#[tokio::test]
async fn garbage_never_panics_nor_gives_another_number_of_rows() {
    let (schema, blocks) = numbers(9, 4);
    let good = container(&schema, "null", &blocks);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
        let mut table = numbered(0, 1);
        *table.task(0) = task_of(&table, "x.avro", &bad, 9);
        // Numbers have no checksum; how many there are is known.
        match table.sql("select n from t").await {
            Ok(rows) => assert_eq!(rows.split('\n').count(), 9, "byte {at}"),
            Err(error) => assert!(error.to_string().contains("lake.db.t"), "byte {at}: {error}"),
        }
    }
}

fn delete_file(task: FileTask, sequence_number: i64) -> Arc<DeleteFile> {
    Arc::new(DeleteFile {
        uri: task.uri,
        format: task.format,
        size_bytes: task.size_bytes,
        record_count: task.record_count,
        data_sequence_number: sequence_number,
    })
}
