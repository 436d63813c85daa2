//! The border, over files as other engines write them and as they should not be.

use std::sync::Arc;

use ::iceberg::MetadataLocation;
use ::iceberg::io::FileIO;
use ::iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, Literal, ManifestListWriter,
    ManifestWriterBuilder, PartitionSpec as SpecPartitionSpec, Struct, TableMetadata,
};
use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use serde_json::{Value, json};
use tarn_scan::field_id;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::name::{TableName, TimeTravel};

#[tokio::test]
async fn metadata_cut_anywhere_is_damaged_and_says_where() {
    let whole = version_2().to_string();
    for length in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole.as_bytes()[..length]);
        let error =
            Metadata::parse(cut, &table(), "s3://b/t/metadata/00001-x.metadata.json").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "at {length}: {error}");
    }
    let error = Metadata::parse(Bytes::new(), &table(), "s3://b/t/00001-x.metadata.json").await.unwrap_err();
    assert!(
        error.to_string().starts_with(r#"table "c.s.t": metadata file "00001-x.metadata.json" is damaged"#)
    );
}

#[tokio::test]
async fn metadata_with_a_value_changed_never_panics() {
    let whole = version_2();
    for pointer in
        ["/format-version", "/schemas", "/current-snapshot-id", "/snapshots", "/refs", "/last-updated-ms"]
    {
        for value in [Value::Null, json!(-1), json!(i64::MIN), json!("x"), json!([]), json!({})] {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let _ = parse(&changed).await;
        }
    }
}

#[tokio::test]
async fn gzipped_metadata_is_read() {
    let mut plain = version_2();
    plain["properties"]["write.metadata.compression-codec"] = json!("gzip");
    let spec: TableMetadata = serde_json::from_value(plain).unwrap();
    let io = FileIO::new_with_memory();
    let location = MetadataLocation::new_with_metadata("memory:///t", &spec);
    spec.write_to(&io, &location).await.unwrap();
    let bytes = io.new_input(location.to_string()).unwrap().read().await.unwrap();
    assert_eq!(bytes[..2], [0x1f, 0x8b]);
    let metadata = Metadata::parse(bytes.slice(..), &table(), "f").await.unwrap();
    assert_eq!(metadata.current_snapshot_id(), Some(2));
    let error = Metadata::parse(bytes.slice(..bytes.len() / 2), &table(), "f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn what_is_newer_than_us_is_refused_by_name() {
    let mut changed = version_2();
    changed["format-version"] = json!(4);
    let error = parse(&changed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("format version 4"), "{error}");
}

#[tokio::test]
async fn a_column_that_cannot_be_read_does_not_spoil_the_others() {
    let mut metadata = version_3();
    metadata["schemas"][1]["fields"] = json!([
        {"id": 1, "name": "id", "required": true, "type": "long"},
        {"id": 2, "name": "v", "required": false, "type": "variant"},
        {"id": 3, "name": "s", "required": false, "type": {"type": "struct", "fields": [
            {"id": 4, "name": "where", "required": false, "type": "geometry(srid:4326)"}]}},
        {"id": 5, "name": "u", "required": false, "type": "unknown"},
        {"id": 6, "name": "ns", "required": false, "type": "timestamptz_ns"},
    ]);
    let metadata = parse(&metadata).await.unwrap();
    let schema = metadata.schema(1, &table()).unwrap();
    assert_eq!(schema.arrow.field(3).data_type(), &DataType::Null);
    assert_eq!(
        schema.arrow.field(4).data_type(),
        &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
    );
    schema.check_readable(Some(&vec![0, 3, 4]), &table()).unwrap();
    for (columns, name) in [
        (Some(vec![0, 1]), r#""v" of type variant"#),
        (Some(vec![2]), r#""s.where" of type geometry"#),
        (None, "variant"),
    ] {
        let error = schema.check_readable(columns.as_ref(), &table()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = metadata.check_committable(&table()).unwrap_err();
    assert!(error.to_string().contains("writing to a table with a column of type"), "{error}");
    parse(&version_2()).await.unwrap().check_committable(&table()).unwrap();
}

#[tokio::test]
async fn defaults_travel_with_their_fields_and_none_is_lost_by_a_commit() {
    let mut metadata = version_3();
    metadata["schemas"][1]["fields"] = json!([
        {"id": 1, "name": "id", "required": true, "type": "long", "initial-default": 7, "write-default": 8},
        {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
            {"id": 3, "name": "d", "required": false, "type": "decimal(9, 2)", "initial-default": "14.20"}]}},
    ]);
    let parsed = parse(&metadata).await.unwrap();
    let schema = parsed.schema(1, &table()).unwrap();
    let initial = |field: &arrow::datatypes::Field| tarn_scan::default::initial(field).unwrap();
    assert_eq!(initial(schema.arrow.field(0)), Some(ScalarValue::Int64(Some(7))));
    assert_eq!(tarn_scan::default::write(schema.arrow.field(0)).unwrap(), Some(ScalarValue::Int64(Some(8))));
    let DataType::Struct(fields) = schema.arrow.field(1).data_type() else { panic!("s is a struct") };
    assert_eq!(initial(&fields[0]), Some(ScalarValue::Decimal128(Some(1_420), 9, 2)));
    parsed.check_committable(&table()).unwrap();
    // The crate cannot read this one, and would drop it.
    metadata["schemas"][1]["fields"][0] = json!({"id": 1, "name": "id", "required": true,
        "type": "timestamp_ns", "initial-default": "2026-01-02T03:04:05.000000006"});
    let parsed = parse(&metadata).await.unwrap();
    let nanos = 1_767_323_045_000_000_006;
    let schema = parsed.schema(1, &table()).unwrap();
    assert_eq!(initial(schema.arrow.field(0)), Some(ScalarValue::TimestampNanosecond(Some(nanos), None)));
    assert!(parsed.check_committable(&table()).is_err());
}

#[tokio::test]
async fn schema_has_our_types_and_ids_at_every_level() {
    let mut metadata = version_2();
    metadata["last-column-id"] = json!(40);
    metadata["schemas"][1]["fields"] = json!([
        {"id": 1, "name": "s", "required": true, "type": "string", "doc": "a comment"},
        {"id": 2, "name": "b", "required": false, "type": "binary"},
        {"id": 3, "name": "u", "required": false, "type": "uuid"},
        {"id": 4, "name": "f", "required": false, "type": "fixed[7]"},
        {"id": 5, "name": "t", "required": false, "type": "time"},
        {"id": 6, "name": "z", "required": false, "type": "timestamptz"},
        {"id": 7, "name": "d", "required": false, "type": "decimal(9, 2)"},
        {"id": 8, "name": "l", "required": false,
         "type": {"type": "list", "element-id": 20, "element": "int", "element-required": false}},
        {"id": 9, "name": "m", "required": false,
         "type": {"type": "map", "key-id": 21, "key": "string", "value-id": 22, "value-required": true,
                  "value": {"type": "struct", "fields": [{"id": 23, "name": "x", "required": true, "type": "long"}]}}},
    ]);
    let schema = parse(&metadata).await.unwrap().schema(1, &table()).unwrap();
    let types: Vec<_> = schema.arrow.fields().iter().take(7).map(|field| field.data_type().clone()).collect();
    let expected = [
        DataType::Utf8View,
        DataType::BinaryView,
        DataType::FixedSizeBinary(16),
        DataType::FixedSizeBinary(7),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Decimal128(9, 2),
    ];
    assert_eq!(types, expected);
    assert_eq!(schema.field_ids, (1..10).collect::<Vec<_>>());
    assert!(!schema.arrow.field(0).is_nullable());
    assert_eq!(schema.arrow.field(0).metadata()["comment"], "a comment");
    let DataType::List(element) = schema.arrow.field(7).data_type() else { panic!("a list") };
    assert_eq!((element.name().as_str(), field_id(element)), ("element", Some(20)));
    let DataType::Map(entries, _) = schema.arrow.field(8).data_type() else { panic!("a map") };
    let DataType::Struct(entry) = entries.data_type() else { panic!("entries") };
    assert_eq!(entry.iter().map(|field| field_id(field)).collect::<Vec<_>>(), [Some(21), Some(22)]);
    let DataType::Struct(inner) = entry[1].data_type() else { panic!("a struct") };
    assert_eq!(field_id(&inner[0]), Some(23));
}

#[tokio::test]
async fn snapshots_and_tags_have_their_own_schema_and_branches_the_current() {
    let metadata = parse(&version_2()).await.unwrap();
    let resolve = |at: Option<TimeTravel>| {
        let found = refs::resolve(&table(), &metadata, at.as_ref())?;
        Ok::<_, Error>((found.snapshot_id, found.schema_id))
    };
    assert_eq!(resolve(None).unwrap(), (Some(2), 1));
    assert_eq!(resolve(Some(TimeTravel::Snapshot(1))).unwrap(), (Some(1), 0));
    assert_eq!(resolve(Some(TimeTravel::Ref("main".into()))).unwrap(), (Some(2), 1));
    assert_eq!(resolve(Some(TimeTravel::Ref("audit".into()))).unwrap(), (Some(1), 1));
    assert_eq!(resolve(Some(TimeTravel::Ref("v1".into()))).unwrap(), (Some(1), 0));
    let error = resolve(Some(TimeTravel::Ref("audi".into()))).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some(r#"did you mean "audit"?"#));
    assert_eq!(resolve(Some(TimeTravel::Snapshot(7))).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn time_is_looked_up_in_the_log_and_not_in_the_snapshots() {
    let mut rolled_back = version_2();
    // Snapshot 2 was current for a while, then 1 again.
    rolled_back["snapshot-log"] = json!([
        {"snapshot-id": 1, "timestamp-ms": 1000},
        {"snapshot-id": 2, "timestamp-ms": 2000},
        {"snapshot-id": 1, "timestamp-ms": 3000},
    ]);
    rolled_back["current-snapshot-id"] = json!(1);
    rolled_back["refs"]["main"]["snapshot-id"] = json!(1);
    let metadata = parse(&rolled_back).await.unwrap();
    let at = |ms| {
        refs::resolve(&table(), &metadata, Some(&TimeTravel::Timestamp(ms))).map(|found| found.snapshot_id)
    };
    assert_eq!(at(1000).unwrap(), Some(1));
    assert_eq!(at(2999).unwrap(), Some(2));
    assert_eq!(at(9000).unwrap(), Some(1));
    assert_eq!(at(999).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn version_1_without_schema_ids_is_read() {
    let metadata = json!({
        "format-version": 1, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "/t",
        "last-updated-ms": 1000, "last-column-id": 1,
        "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]},
        "partition-spec": [], "properties": {}, "current-snapshot-id": 1,
        "snapshots": [{"snapshot-id": 1, "timestamp-ms": 1000, "manifest-list": "/t/list.avro"}],
    });
    let metadata = parse(&metadata).await.unwrap();
    assert_eq!(metadata.format_version(), 1);
    let found = refs::resolve(&table(), &metadata, Some(&TimeTravel::Snapshot(1))).unwrap();
    assert_eq!(metadata.schema(found.schema_id, &table()).unwrap().field_ids, [1]);
    assert_eq!(metadata.snapshot(1).unwrap().sequence_number, 0);
    assert_eq!(metadata.refs()["main"].snapshot_id, 1);
}

#[tokio::test]
async fn version_1_snapshots_name_their_manifests_themselves() {
    let metadata = json!({
        "format-version": 1, "location": "/t", "last-updated-ms": 1000, "last-column-id": 1,
        "schema": {"type": "struct", "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]},
        "partition-spec": [], "properties": {}, "current-snapshot-id": 1,
        "snapshots": [{"snapshot-id": 1, "timestamp-ms": 1000, "manifests": ["/t/a.avro", "/t/b.avro"]}],
    });
    let metadata = parse(&metadata).await.unwrap();
    let manifests = metadata.snapshot(1).unwrap().manifests.unwrap();
    assert_eq!(*manifests, ["/t/a.avro", "/t/b.avro"]);
    assert!(metadata.is_read_only());
    assert!(!metadata.uuid().is_nil());
}

#[tokio::test]
async fn names_of_expired_snapshots_are_told_from_names_that_never_were() {
    let mut json = version_2();
    json["refs"]["old"] = json!({"snapshot-id": 99, "type": "branch"});
    json["refs"]["release"] = json!({"snapshot-id": 98, "type": "tag", "max-ref-age-ms": 5});
    json["snapshot-log"] =
        json!([{"snapshot-id": 97, "timestamp-ms": 500}, {"snapshot-id": 2, "timestamp-ms": 2000}]);
    let metadata = parse(&json).await.unwrap();
    assert!(metadata.is_read_only());
    assert_eq!(metadata.refs()["release"].retention.max_ref_age_ms, Some(5));
    let message = |at: TimeTravel| refs::resolve(&table(), &metadata, Some(&at)).unwrap_err().to_string();
    for (at, id) in [
        (TimeTravel::Ref("old".into()), 99),
        (TimeTravel::Ref("release".into()), 98),
        (TimeTravel::Timestamp(700), 97),
    ] {
        let message = message(at);
        assert!(message.contains(&format!("snapshot {id} any more (it was expired)")), "{message}");
    }
    assert!(message(TimeTravel::Ref("never".into())).contains(r#"branch or tag "never""#));
    assert!(refs::resolve(&table(), &metadata, Some(&TimeTravel::Ref("main".into()))).is_ok());
}

#[tokio::test]
async fn manifest_and_list_give_partitions_bounds_and_inherited_numbers() {
    let metadata = parse(&version_2()).await.unwrap();
    let (list, manifest) = written(&metadata, false, DataFileFormat::Parquet).await;
    let lines = decode_list(&list, &metadata, &table(), "list.avro").unwrap();
    let [line] = lines.as_slice() else { panic!("one manifest") };
    assert_eq!((line.deletes, line.live_files, line.live_rows), (false, Some(1), Some(10)));
    let summary = &line.partitions[0];
    assert_eq!(summary.lower, Some(ScalarValue::Int64(Some(7))));
    assert!(!summary.contains_null);
    let decoded = decode_manifest(&manifest, line, &table()).unwrap();
    let file = &decoded.files[0];
    assert_eq!(file.sequence_number, 5);
    assert_eq!(file.partition, [Some(ScalarValue::Int64(Some(7)))]);
    let (id, bounds) = &file.columns[0];
    assert_eq!(*id, 1);
    assert_eq!(bounds.lower, Some(ScalarValue::Int64(Some(7))));
    assert_eq!(bounds.null_count, Some(0));
    assert_eq!(file.unsupported, None);
    let list_cut = decode_list(&list[..list.len() - 20], &metadata, &table(), "list.avro");
    assert_eq!(list_cut.unwrap_err().kind(), ErrorKind::Corrupt);
    let manifest_cut = decode_manifest(&manifest[..manifest.len() / 2], line, &table());
    assert_eq!(manifest_cut.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn list_from_before_an_upgrade_is_read() {
    let metadata = parse(&version_2()).await.unwrap();
    let (list, _) = written(&metadata, true, DataFileFormat::Parquet).await;
    let lines = decode_list(&list, &metadata, &table(), "list.avro").unwrap();
    assert_eq!((lines.len(), lines[0].deletes, lines[0].sequence_number), (1, false, 0));
}

#[tokio::test]
async fn data_files_of_other_formats_are_marked() {
    let metadata = parse(&version_2()).await.unwrap();
    let (list, manifest) = written(&metadata, false, DataFileFormat::Orc).await;
    let line = &decode_list(&list, &metadata, &table(), "list.avro").unwrap()[0];
    let decoded = decode_manifest(&manifest, line, &table()).unwrap();
    assert_eq!(decoded.files[0].unsupported, Some("an ORC data file"));
}

async fn parse(json: &Value) -> crate::Result<Metadata> {
    Metadata::parse(Bytes::from(json.to_string()), &table(), "00001-x.metadata.json").await
}

fn table() -> TableName {
    TableName::new("c", "s", "t")
}

/// Two snapshots, each with its schema, a branch and a tag; partitioned by the column `id`.
fn version_3() -> Value {
    let mut metadata = version_2();
    metadata["format-version"] = json!(3);
    metadata["next-row-id"] = json!(0);
    metadata["last-column-id"] = json!(40);
    metadata
}

fn version_2() -> Value {
    let id = json!({"id": 1, "name": "id", "required": false, "type": "long"});
    let name = json!({"id": 2, "name": "name", "required": false, "type": "string"});
    let snapshot = |id: i64, schema_id: i64| {
        json!({"snapshot-id": id, "sequence-number": id, "timestamp-ms": id * 1000, "schema-id": schema_id,
               "manifest-list": "/t/list.avro", "summary": {"operation": "append", "total-records": "10"}})
    };
    json!({
        "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "/t/",
        "last-sequence-number": 5, "last-updated-ms": 5000, "last-column-id": 2, "current-schema-id": 1,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [id]},
                    {"type": "struct", "schema-id": 1, "fields": [id, name]}],
        "default-spec-id": 0, "last-partition-id": 1000,
        "partition-specs": [{"spec-id": 0,
                             "fields": [{"source-id": 1, "field-id": 1000, "name": "id", "transform": "identity"}]}],
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": {}, "current-snapshot-id": 2, "snapshots": [snapshot(1, 0), snapshot(2, 1)],
        "snapshot-log": [{"snapshot-id": 1, "timestamp-ms": 1000}, {"snapshot-id": 2, "timestamp-ms": 2000}],
        "refs": {"main": {"snapshot-id": 2, "type": "branch"}, "audit": {"snapshot-id": 1, "type": "branch"},
                 "v1": {"snapshot-id": 1, "type": "tag"}},
    })
}

/// A manifest list of one manifest of one file, as the crate writes them.
async fn written(metadata: &Metadata, version_1: bool, format: DataFileFormat) -> (Bytes, Bytes) {
    let io = FileIO::new_with_memory();
    let schema = Arc::clone(metadata.spec().current_schema());
    let spec: SpecPartitionSpec = metadata.spec().default_partition_spec().as_ref().clone();
    let output = io.new_output("memory:///m.avro").unwrap();
    let builder = ManifestWriterBuilder::new(output, Some(2), schema, spec);
    let mut writer = if version_1 { builder.build_v1() } else { builder.build_v2_data() };
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path("/t/f.parquet".to_owned())
        .file_format(format)
        .partition(Struct::from_iter([Some(Literal::long(7))]))
        .partition_spec_id(0)
        .record_count(10)
        .file_size_in_bytes(100)
        .null_value_counts([(1, 0)].into())
        .lower_bounds([(1, Datum::long(7))].into())
        .upper_bounds([(1, Datum::long(7))].into())
        .build()
        .unwrap();
    writer.add_file(file, if version_1 { 0 } else { -1 }).unwrap();
    let manifest = writer.write_manifest_file().await.unwrap();
    let list = io.new_output("memory:///list.avro").unwrap();
    let target = list.writer().await.unwrap();
    let mut writer = match version_1 {
        true => ManifestListWriter::v1(target, 2, None),
        false => ManifestListWriter::v2(target, 2, None, 5),
    };
    writer.add_manifests([manifest].into_iter()).unwrap();
    writer.close().await.unwrap();
    let read = async |file: &str| io.new_input(file).unwrap().read().await.unwrap();
    (read("memory:///list.avro").await, read("memory:///m.avro").await)
}
