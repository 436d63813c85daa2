//! Deletes and data files described by hand; the rules are those of the specification, "Scan Planning".

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields};
use bytes::Bytes;
use datafusion::common::ColumnStatistics;
use serde_json::json;
use tarn_scan::PlannedFile;
use tarn_scan::storage::Router;
use tarn_scan::write::Transform;

use super::*;
use crate::iceberg::{
    ColumnBounds, Content, DELETE_FILE_PATH_ID, DataFile as Line, FileFormat, Manifest, ManifestHead,
    Metadata, PartitionField, PartitionSpec, TableSchema,
};
use crate::metadata_cache::{Config, Files};
use crate::name::TableName;
use crate::plan::collect;

#[tokio::test]
async fn sequence_numbers_decide_strictly_for_values_and_not_for_places() {
    let data = [data("a", 1), data("b", 2), data("c", 3)];
    let files = [positions("p", 2), equality("e", 2)];
    let plan = plan(vec![manifest(spec(0, &[]), &data)], vec![manifest(spec(0, &[]), &files)]).await.unwrap();
    assert_eq!(found(&plan), ["a: p e", "b: p", "c:"]);
    // Version 1 counts as 0, and so does everything from before the upgrade.
    let plan = self::plan(
        vec![manifest(spec(0, &[]), &[self::data("a", 0)])],
        vec![manifest(spec(0, &[]), &[equality("e", 1)])],
    )
    .await
    .unwrap();
    assert_eq!(found(&plan), ["a: e"]);
}

#[tokio::test]
async fn deletes_hold_in_their_partition_and_of_values_everywhere_if_nothing_is_split() {
    let split = || spec(1, &[Transform::Identity]);
    let with =
        |line: Line, value: i32| Line { partition: vec![Some(ScalarValue::Int32(Some(value)))], ..line };
    let data_files = vec![
        manifest(split(), &[with(data("a1", 1), 1), with(data("a2", 1), 2)]),
        manifest(spec(2, &[Transform::Identity]), &[with(data("b1", 1), 1)]),
        manifest(spec(0, &[]), &[data("c", 1)]),
    ];
    let deletes = vec![
        manifest(split(), &[with(positions("p1", 5), 1), with(equality("e1", 5), 1)]),
        manifest(spec(0, &[]), &[positions("p0", 5), equality("e0", 5)]),
        // Void is how a partition field is dropped in version 1.
        manifest(spec(3, &[Transform::Void]), &[Line { partition: vec![None], ..equality("v", 5) }]),
    ];
    let plan = plan(data_files, deletes).await.unwrap();
    assert_eq!(found(&plan), ["a1: p1 e0 e1 v", "a2: e0 v", "b1: e0 v", "c: p0 e0 v"]);
}

#[tokio::test]
async fn null_is_a_partition_of_its_own() {
    let with = |line: Line, value: Option<i32>| Line {
        partition: vec![value.map(|v| ScalarValue::Int32(Some(v)))],
        ..line
    };
    let split = || spec(1, &[Transform::Identity]);
    let data = [with(data("a", 1), None), with(data("b", 1), Some(0))];
    let plan =
        plan(vec![manifest(split(), &data)], vec![manifest(split(), &[with(positions("p", 5), None)])]).await;
    assert_eq!(found(&plan.unwrap()), ["a: p", "b:"]);
}

#[tokio::test]
async fn a_deletion_vector_stands_for_all_places_and_drops_a_file_that_it_empties() {
    let data = [data("a", 1), data("b", 1), data("c", 7)];
    let deletes = || vec![positions("p", 5), vector("a", 5, 40), vector("b", 5, 100), vector("c", 5, 1)];
    let plan_of = async |deletes: Vec<Line>| {
        plan(vec![manifest(spec(0, &[]), &data)], vec![manifest(spec(0, &[]), &deletes)]).await
    };
    let made = plan_of(deletes()).await.unwrap();
    assert_eq!(found(&made), ["a: dv", "c:"]);
    assert_eq!((made.rows_planned, made.places.len()), (160, 2));
    assert_eq!(made.statistics.num_rows, Precision::Exact(160));
    let mut two = deletes();
    two.push(vector("a", 6, 3));
    assert_eq!(plan_of(two).await.unwrap_err().kind(), crate::error::ErrorKind::Corrupt);
}

#[tokio::test]
async fn paths_that_a_position_delete_file_cannot_have_leave_it_out() {
    let data =
        [data("s3://b/t/aa.parquet", 1), data("s3://b/t/ab.parquet", 1), data("s3://b/t/b.parquet", 1)];
    let between = |name: &str, lower: &str, upper: &str| {
        let bounds = ColumnBounds { lower: text(lower), upper: text(upper), ..ColumnBounds::default() };
        Line { columns: vec![(DELETE_FILE_PATH_ID, bounds)], ..positions(name, 5) }
    };
    let named = Line { referenced_data_file: Some("s3://b/t/b.parquet".to_owned()), ..positions("named", 5) };
    let deletes = [
        between("one", "s3://b/t/ab.parquet", "s3://b/t/ab.parquet"),
        between("cut", "s3://b/t/a", "s3://b/t/a"),
        between("wide", "s3://b/t/ab", "s3://b/t/b"),
        named,
    ];
    let plan =
        plan(vec![manifest(spec(0, &[]), &data)], vec![manifest(spec(0, &[]), &deletes)]).await.unwrap();
    assert_eq!(
        found(&plan),
        ["s3://b/t/aa.parquet: cut", "s3://b/t/ab.parquet: cut one wide", "s3://b/t/b.parquet: named wide"]
    );
}

#[tokio::test]
async fn values_that_a_data_file_cannot_have_leave_deletes_out() {
    let with = |line: Line, lower: i32, upper: i32, nulls: Option<u64>| {
        let (lower, upper) = (Some(ScalarValue::Int32(Some(lower))), Some(ScalarValue::Int32(Some(upper))));
        Line { columns: vec![(1, ColumnBounds { lower, upper, null_count: nulls, nan_count: None })], ..line }
    };
    let data = [
        with(data("a", 1), 0, 9, Some(0)),
        with(data("b", 1), 20, 29, Some(0)),
        with(data("c", 1), 90, 99, Some(3)),
        data("d", 1),
    ];
    let deletes = [
        with(equality("e", 5), 9, 15, Some(0)),
        with(equality("n", 5), 50, 60, Some(1)),
        with(equality("u", 5), 29, 29, None),
    ];
    let plan =
        plan(vec![manifest(spec(0, &[]), &data)], vec![manifest(spec(0, &[]), &deletes)]).await.unwrap();
    // One list serves all: of it a file needs what may match, and the others do it no harm.
    assert_eq!(found(&plan), ["a: e n u", "b: e n u", "c: e n u", "d: e n u"]);
    let one = |file: Line| vec![manifest(spec(0, &[]), &[file])];
    let alone = self::plan(one(data[1].clone()), one(deletes[0].clone())).await.unwrap();
    assert_eq!(found(&alone), ["b:"]);
    let alone = self::plan(one(data[2].clone()), one(deletes[0].clone())).await.unwrap();
    assert_eq!(found(&alone), ["c:"]);
    let alone = self::plan(one(data[2].clone()), one(deletes[1].clone())).await.unwrap();
    assert_eq!(found(&alone), ["c: n"]);
}

#[tokio::test]
async fn counts_are_estimates_and_a_limit_takes_every_file_once_rows_are_deleted_by_files() {
    let data = [data("a", 1), data("b", 9), data("c", 1)];
    let deletes = [positions("p", 5), vector("c", 5, 60)];
    let plan =
        plan(vec![manifest(spec(0, &[]), &data)], vec![manifest(spec(0, &[]), &deletes)]).await.unwrap();
    assert_eq!(plan.statistics.num_rows, Precision::Inexact(240));
    let exact = |column: &ColumnStatistics| {
        matches!(column.min_value, Precision::Exact(_)) || matches!(column.null_count, Precision::Exact(_))
    };
    assert!(!plan.statistics.column_statistics.iter().any(exact));
    assert_eq!(plan.first_rows(100).unwrap().files.len(), 2);
    assert!(plan.first_rows(140).is_none());
}

#[tokio::test]
async fn a_dropped_column_is_found_in_an_older_schema_and_an_unknown_one_is_damage() {
    let by = |id: i32| Line { equality_ids: vec![id], ..equality("e", 5) };
    let plan_by = async |id| {
        plan(vec![manifest(spec(0, &[]), &[data("a", 1)])], vec![manifest(spec(0, &[]), &[by(id)])]).await
    };
    let made = plan_by(2).await.unwrap();
    let key = &made.files[0].task.deletes.equality[0].keys[0];
    assert_eq!((key.field.name().as_str(), key.path.as_slice()), ("gone", &[][..]));
    let nested = plan_by(4).await.unwrap();
    let key = &nested.files[0].task.deletes.equality[0].keys[0];
    assert_eq!((key.field.name().as_str(), key.path.as_slice()), ("s", &[4][..]));
    assert_eq!(plan_by(99).await.unwrap_err().kind(), crate::error::ErrorKind::Corrupt);
}

#[test]
fn delete_files_that_say_too_little_are_damage() {
    let name = TableName::new("c", "s", "t");
    let block = |line: Line| DeleteBlock::new(manifest(spec(0, &[]), &[line]), &name, "m.avro");
    assert!(block(Line { referenced_data_file: None, ..vector("a", 1, 1) }).is_err());
    assert!(block(Line { content_offset: Some(-4), ..vector("a", 1, 1) }).is_err());
    assert!(block(Line { content_size_bytes: None, ..vector("a", 1, 1) }).is_err());
    assert!(block(Line { equality_ids: Vec::new(), ..equality("e", 1) }).is_err());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_by_name_if_it_is_needed() {
    let orc = |what, line: Line| Line { unsupported: Some(what), format: FileFormat::Orc, ..line };
    let deletes = |line: Line| vec![manifest(spec(0, &[]), &[orc("an ORC delete file", line)])];
    let data_files = || vec![manifest(spec(0, &[]), &[data("a", 3)])];
    for line in [positions("p", 5), equality("p", 5)] {
        let error = plan(data_files(), deletes(line)).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::NotSupported);
        let error = error.to_string();
        assert!(["c.s.t", "an ORC delete file", "\"p\""].iter().all(|part| error.contains(part)), "{error}");
    }
    // What it deletes is older than all data files.
    for line in [positions("p", 2), equality("p", 3)] {
        assert_eq!(found(&plan(data_files(), deletes(line)).await.unwrap()), ["a:"]);
    }
    let data_files = vec![manifest(spec(0, &[]), &[data("a", 1), orc("an ORC data file", data("b", 1))])];
    let error = plan(data_files, Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains("an ORC data file") && error.contains("\"b\""), "{error}");
}

/// Each file with its deletes, sorted.
fn found(plan: &FilePlan) -> Vec<String> {
    let file = |file: &PlannedFile| {
        let deletes = &file.task.deletes;
        let vector = deletes.vector.iter().map(|_| "dv");
        let mut positions: Vec<_> = deletes.positions.iter().map(|file| file.uri.as_str()).collect();
        let mut equality: Vec<_> =
            deletes.equality.iter().flat_map(|list| &list.files).map(|file| file.uri.as_str()).collect();
        positions.sort_unstable();
        equality.sort_unstable();
        let all: Vec<_> = vector.chain(positions).chain(equality).collect();
        format!("{}: {}", file.task.uri, all.join(" ")).trim_end().to_owned()
    };
    plan.files.iter().map(file).collect()
}

async fn plan(data: Vec<Manifest>, deletes: Vec<Manifest>) -> Result<FilePlan> {
    let field = |id: i32, name: &str, kind: serde_json::Value| json!({"id": id, "name": name, "required": false, "type": kind});
    let nested = json!({"type": "struct", "fields": [field(4, "x", json!("int"))]});
    let id = field(1, "id", json!("int"));
    let metadata = json!({
        "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "/t",
        "last-sequence-number": 9, "last-updated-ms": 1, "last-column-id": 4, "current-schema-id": 1,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [id, field(2, "gone", json!("int"))]},
                    {"type": "struct", "schema-id": 1, "fields": [id, field(3, "s", nested)]}],
        "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {},
        "snapshots": [],
    });
    let name = TableName::new("c", "s", "t");
    let metadata = Metadata::parse(Bytes::from(metadata.to_string()), &name, "00001-x.metadata.json").await?;
    let schema = TableSchema::for_test(&[("id", DataType::Int32)]);
    let router = Router::new(tarn_scan::storage::Config::default(), Vec::new());
    let files = Files::new(&Config::default(), router);
    let partition = Fields::empty();
    let source = Source {
        table: &name,
        metadata: &metadata,
        snapshot: None,
        schema: &schema,
        files: &files,
        partition: &partition,
    };
    let blocks: Vec<_> = data
        .into_iter()
        .map(|manifest| FileBlock::new(manifest, &name, "m.avro").map(Arc::new))
        .collect::<Result<_>>()?;
    let deletes: Vec<_> = deletes
        .into_iter()
        .map(|manifest| DeleteBlock::new(manifest, &name, "d.avro").map(Arc::new))
        .collect::<Result<_>>()?;
    let kept = vec![true; blocks.iter().map(|block| block.files.len()).sum()];
    source.check(&blocks, &kept)?;
    let mut plan = collect(&schema, blocks, &kept, &partition);
    assign(&mut plan, &source, &deletes)?;
    Ok(plan)
}

fn manifest(spec: PartitionSpec, files: &[Line]) -> Manifest {
    let types: HashMap<_, _> = [(1, DataType::Int32), (2, DataType::Int32)].into();
    let partition_types = vec![Some(DataType::Int32); spec.fields.len()];
    Manifest { head: ManifestHead { spec, partition_types, column_types: types }, files: files.to_vec() }
}

fn spec(id: i32, transforms: &[Transform]) -> PartitionSpec {
    let field = |transform: &Transform| PartitionField {
        source_id: 2,
        field_id: 1000,
        name: "p".to_owned(),
        transform: Some(*transform),
    };
    PartitionSpec { id, fields: transforms.iter().map(field).collect() }
}

/// A data file of 100 rows.
fn data(path: &str, sequence_number: i64) -> Line {
    Line { path: path.to_owned(), size_bytes: 1000, record_count: 100, sequence_number, ..Line::default() }
}

fn positions(path: &str, sequence_number: i64) -> Line {
    Line { content: Content::PositionDeletes, record_count: 5, ..data(path, sequence_number) }
}

fn equality(path: &str, sequence_number: i64) -> Line {
    Line {
        content: Content::EqualityDeletes,
        equality_ids: vec![1],
        record_count: 5,
        ..data(path, sequence_number)
    }
}

fn vector(data_file: &str, sequence_number: i64, cardinality: u64) -> Line {
    Line {
        content: Content::PositionDeletes,
        format: FileFormat::Puffin,
        referenced_data_file: Some(data_file.to_owned()),
        content_offset: Some(4),
        content_size_bytes: Some(40),
        record_count: cardinality,
        ..data("dv.puffin", sequence_number)
    }
}

fn text(value: &str) -> Option<ScalarValue> {
    Some(ScalarValue::Utf8View(Some(value.to_owned())))
}
