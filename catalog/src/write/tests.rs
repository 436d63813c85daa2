//! Writes as a whole, over a SQLite catalog and a folder on disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use futures::future::join_all;
use tarn_scan::storage::{self, Router};
use tarn_scan::write::{WriteExec, WrittenFile};
use tempfile::TempDir;

use super::*;
use crate::backend::{Backend, LoadedTable, LoadedView, Outcome, TableIdent};
use crate::error::{Error, Result};
use crate::iceberg::{Metadata, ViewMetadata};
use crate::{CatalogConfig, Config, Lakehouse, MetadataTable, PinnedTable, TableName, TimeTravel};

#[tokio::test]
async fn appends_add_up_and_keep_what_was_there() {
    let house = House::new().await;
    let table = house.create("t", vec![by("v", Transform::Identity)]).await;
    assert_eq!(house.append(&table, "q1", &[(1, "a"), (2, "b")]).await.unwrap().rows, 2);
    let after = house.pin("t").await;
    let committed = house.append(&after, "q2", &[(3, "a")]).await.unwrap();

    let table = house.pin("t").await;
    assert_eq!(table.snapshot_id(), committed.snapshot_id);
    assert_eq!(house.rows(&table).await, [(1, "a".into()), (2, "b".into()), (3, "a".into())]);
    let snapshot = table.metadata().snapshot(committed.snapshot_id.unwrap()).unwrap();
    assert_eq!(snapshot.parent_id, after.snapshot_id());
    assert_eq!((snapshot.operation.as_str(), snapshot.sequence_number), ("append", 2));
    for (key, value) in [
        ("added-data-files", "1"),
        ("added-records", "1"),
        ("total-data-files", "3"),
        ("total-records", "3"),
        ("total-delete-files", "0"),
        ("changed-partition-count", "1"),
        ("engine-name", "tarn"),
        ("tarn.query-id", "q2"),
    ] {
        assert_eq!(snapshot.summary.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(snapshot.summary.contains_key("tarn.commit-id"));
    let plan = table.plan_files(&[]).await.unwrap();
    assert_eq!((plan.files.len(), plan.manifests_total), (3, 2));
}

#[tokio::test]
async fn a_table_of_format_version_1_is_written_and_read() {
    let house = House::new().await;
    let mut new = new_table(vec![by("id", Transform::Bucket(4))]);
    new.properties.insert("format-version".into(), "1".into());
    let table = house.lakehouse.create_table(&name("t"), new, CreateMode::Create).await.unwrap();
    house.append(&table, "q1", &[(1, "a"), (2, "b")]).await.unwrap();
    house.append(&house.pin("t").await, "q2", &[(3, "c")]).await.unwrap();
    let table = house.pin("t").await;
    assert_eq!(table.metadata().format_version(), 1);
    assert!(!table.properties().contains_key("format-version"));
    assert_eq!(house.rows(&table).await.len(), 3);
}

#[tokio::test]
async fn twenty_appends_at_once_all_land() {
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    let appends = (0..20).map(|i| {
        let (house, table) = (&house, &table);
        async move { house.append(table, &format!("q{i}"), &[(i, "x")]).await.unwrap() }
    });
    let committed = join_all(appends).await;
    let table = house.pin("t").await;
    assert_eq!(house.rows(&table).await.len(), 20);
    let all = table.metadata().snapshots();
    assert!(committed.iter().all(|one| all.iter().any(|snapshot| Some(snapshot.id) == one.snapshot_id)));
    assert_eq!(all.len(), 20);
}

#[tokio::test]
async fn a_long_past_is_kept_by_commits_and_not_by_queries() {
    const COMMITS: i64 = 24;
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    for id in 0..COMMITS {
        house.append(&table, "q", &[(id, "x")]).await.unwrap();
    }
    // The version that a commit of our own left behind, and the one that another process reads.
    for process in [&house, &house.another_process().await] {
        let now = process.pin("t").await;
        assert!(!now.metadata().is_whole());
        assert_eq!(process.rows(&now).await.len(), COMMITS as usize);
        let backend = process.lakehouse.backend("c").unwrap();
        let whole = backend.load_table(&TableIdent::new("shop", "t")).await.unwrap().metadata;
        assert_eq!(whole.history().len(), COMMITS as usize);
        let third = whole.history()[2];
        for at in [TimeTravel::Snapshot(third.snapshot_id), TimeTravel::Timestamp(third.timestamp_ms)] {
            let then = process.lakehouse.pin(&name("t"), Some(&at)).await.unwrap();
            assert_eq!(process.rows(&then).await.len(), 3, "{at}");
        }
        let never = process.lakehouse.pin(&name("t"), Some(&TimeTravel::Snapshot(1))).await;
        assert!(matches!(never, Err(Error::SnapshotNotFound { .. })));
        for kind in ["snapshots", "history", "metadata_log", "all_files"] {
            let (_, kind) = MetadataTable::split(&format!("t${kind}")).unwrap();
            let ctx = SessionContext::new();
            ctx.register_table("m", now.metadata_table(kind, false).unwrap()).unwrap();
            let rows = ctx.sql("select * from m").await.unwrap().count().await.unwrap();
            // Every version before the one of now was logged, the first without rows among them.
            let logged = usize::from(kind == MetadataTable::MetadataLog);
            assert_eq!(rows, COMMITS as usize + logged, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn appends_of_several_processes_all_land() {
    let house = House::new().await;
    house.create("t", vec![]).await;
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(house.another_process().await);
    }
    let appends = processes.iter().enumerate().map(|(i, process)| async move {
        for n in 0..3 {
            let table = process.pin("t").await;
            process.append(&table, &format!("q{i}-{n}"), &[(n, "x")]).await.unwrap();
        }
    });
    join_all(appends).await;
    assert_eq!(house.rows(&house.pin("t").await).await.len(), 12);
    let lists = house.files().into_iter().filter(|file| file.contains("/snap-")).count();
    assert_eq!(lists, 12, "manifest lists of failed attempts are gone");
}

#[tokio::test]
async fn a_table_made_with_rows_is_seen_only_after_the_commit() {
    let house = House::new().await;
    let append =
        house.lakehouse.begin_create(&name("t"), new_table(vec![]), CreateMode::Create, "q1").await.unwrap();
    let files = house.write(&append, &[(1, "a")]).await;
    assert!(matches!(house.lakehouse.pin(&name("t"), None).await, Err(Error::TableNotFound { .. })));
    append.commit(files).await.unwrap();
    assert_eq!(house.rows(&house.pin("t").await).await, [(1, "a".into())]);
    let again =
        house.lakehouse.begin_create(&name("t"), new_table(vec![]), CreateMode::IfNotExists, "q2").await;
    assert!(matches!(again, Err(Error::TableExists { .. })));
}

#[tokio::test]
async fn an_aborted_write_leaves_nothing() {
    let house = House::new().await;
    let append =
        house.lakehouse.begin_create(&name("t"), new_table(vec![]), CreateMode::Create, "q1").await.unwrap();
    house.write(&append, &[(1, "a")]).await;
    assert_eq!(house.files().len(), 1);
    append.abort().await;
    assert_eq!(house.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_replaced_table_keeps_its_history() {
    let house = House::new().await;
    let table = house.create("t", vec![by("v", Transform::Identity)]).await;
    let old = house.append(&table, "q1", &[(1, "a")]).await.unwrap().snapshot_id.unwrap();
    let mut new = new_table(vec![by("id", Transform::Bucket(2))]);
    new.schema = Schema::new(vec![
        Field::new("id", DataType::Int32, true),
        Field::new("v", DataType::LargeUtf8, true),
    ]);

    let append = house.lakehouse.begin_create(&name("t"), new, CreateMode::OrReplace, "q2").await.unwrap();
    let files = house.write(&append, &[(2, "b"), (3, "c")]).await;
    assert_eq!(house.rows(&house.pin("t").await).await, [(1, "a".into())], "not before the commit");
    append.commit(files).await.unwrap();

    let now = house.pin("t").await;
    assert_eq!(now.uuid(), table.uuid());
    assert_eq!(house.rows(&now).await, [(2, "b".into()), (3, "c".into())]);
    assert_eq!(now.row_count(), Some(2));
    assert_eq!(now.partition_columns()[0].transform, Some(Transform::Bucket(2)));
    let ids = |table: &PinnedTable| {
        table.schema().fields().iter().map(|f| tarn_scan::field_id(f).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&now), [3, 2], "a column of the same type keeps its id, one of another type is another");
    let before = house.lakehouse.pin(&name("t"), Some(&TimeTravel::Snapshot(old))).await.unwrap();
    assert_eq!(ids(&before), [1, 2]);
    assert_eq!(house.rows(&before).await, [(1, "a".into())]);

    let empty =
        house.lakehouse.create_table(&name("t"), new_table(vec![]), CreateMode::OrReplace).await.unwrap();
    assert_eq!((empty.snapshot_id(), empty.row_count()), (None, Some(0)));
    assert_eq!(empty.metadata().snapshots().len(), 2);
    house.append(&empty, "q3", &[(9, "z")]).await.unwrap();
    assert_eq!(house.rows(&house.pin("t").await).await, [(9, "z".into())]);
}

#[tokio::test]
async fn create_modes_decide_what_becomes_of_a_table_that_exists() {
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    let again = |mode| house.lakehouse.create_table(&NAME, new_table(vec![]), mode);
    assert!(matches!(again(CreateMode::Create).await, Err(Error::TableExists { .. })));
    assert_eq!(again(CreateMode::IfNotExists).await.unwrap().uuid(), table.uuid());
    let nowhere = TableName::new("c", "shoop", "t");
    let error =
        house.lakehouse.create_table(&nowhere, new_table(vec![]), CreateMode::Create).await.unwrap_err();
    assert!(matches!(error, Error::SchemaNotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_a_table_cannot_have_is_refused_by_name() {
    let house = House::new().await;
    let refusal = async |new: NewTable| {
        let made = house.lakehouse.create_table(&NAME, new, CreateMode::Create).await;
        made.unwrap_err().to_string()
    };
    let column = |data_type| Schema::new(vec![Field::new("x", data_type, true)]);
    let interval = column(DataType::Interval(arrow::datatypes::IntervalUnit::DayTime));
    let error = refusal(NewTable { schema: interval, ..new_table(vec![]) }).await;
    assert!(error.contains("column \"x\" has type Interval"), "{error}");
    let error = refusal(NewTable { schema: column(DataType::Null), ..new_table(vec![]) }).await;
    assert!(error.contains("column \"x\" has no type"), "{error}");
    let error = refusal(new_table(vec![by("nope", Transform::Identity)])).await;
    assert_eq!(error, "partition column \"nope\" not found");
    let error = refusal(new_table(vec![by("v", Transform::Day)])).await;
    assert_eq!(error, "cannot partition by day of column \"v\": it has type string");
    let uuid = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
    let uuid = Schema::new(vec![Field::new("x", DataType::FixedSizeBinary(16), true).with_metadata(uuid)]);
    let error = refusal(NewTable { schema: uuid, ..new_table(vec![by("x", Transform::Identity)]) }).await;
    assert!(error.contains("UUID column \"x\""), "{error}");
    let mut third = new_table(vec![]);
    third.properties.insert("format-version".into(), "3".into());
    assert_eq!(refusal(third).await, "format-version \"3\" is not supported: use 1 or 2");
}

#[tokio::test]
async fn a_purge_deletes_every_file_and_a_drop_none() {
    let house = House::new().await;
    for (query, purge) in [("q1", false), ("q2", true)] {
        let before = house.files().len();
        let table = house.create("t", vec![]).await;
        house.append(&table, query, &[(1, "a")]).await.unwrap();
        house.append(&house.pin("t").await, query, &[(2, "b")]).await.unwrap();
        let grown = house.files().len();
        house.lakehouse.drop_table(&NAME, false, purge).await.unwrap();
        assert!(matches!(house.lakehouse.pin(&NAME, None).await, Err(Error::TableNotFound { .. })));
        assert_eq!(house.files().len(), if purge { before } else { grown });
    }
    house.lakehouse.drop_table(&NAME, true, true).await.unwrap();
    assert!(matches!(
        house.lakehouse.drop_table(&NAME, false, false).await,
        Err(Error::TableNotFound { .. })
    ));
}

#[tokio::test]
async fn leftovers_go_and_committed_files_stay() {
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    let append = house.lakehouse.begin_append(&table, "q1").await.unwrap();
    house.write(&append, &[(1, "lost attempt")]).await;
    let files = house.write(&append, &[(1, "a")]).await;
    append.commit(files).await.unwrap();
    let other = house.lakehouse.begin_append(&house.pin("t").await, "q12").await.unwrap();
    house.write(&other, &[(7, "still running")]).await;

    assert_eq!(house.lakehouse.remove_leftovers(&NAME, "q1").await.unwrap(), 1);
    assert_eq!(house.lakehouse.remove_leftovers(&NAME, "q1").await.unwrap(), 0);
    assert_eq!(house.rows(&house.pin("t").await).await, [(1, "a".into())]);
    assert_eq!(house.data_files(), 2);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_looked_for() {
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    let done = house.with_fault(Fault::LostAnswer);
    let committed = done.append(&table, "q1", &[(1, "a")]).await.unwrap();
    assert_eq!(house.pin("t").await.snapshot_id(), committed.snapshot_id);

    let lost = house.with_fault(Fault::LostRequest);
    let error = lost.append(&house.pin("t").await, "q2", &[(2, "b")]).await.unwrap_err();
    assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
    assert_eq!(house.rows(&house.pin("t").await).await.len(), 1);
    assert_eq!(house.data_files(), 2, "files of an unknown commit stay");
}

#[tokio::test]
async fn a_conflict_that_stays_ends_the_commit_and_deletes_its_files() {
    let house = House::new().await;
    let mut new = new_table(vec![]);
    new.properties.insert("commit.retry.num-retries".into(), "2".into());
    new.properties.insert("commit.retry.min-wait-ms".into(), "1".into());
    let table = house.lakehouse.create_table(&NAME, new, CreateMode::Create).await.unwrap();
    let before = house.files();
    let conflicted = house.with_fault(Fault::Conflict);
    let error = conflicted.append(&table, "q1", &[(1, "a")]).await.unwrap_err();
    assert!(matches!(error, Error::CommitConflict { .. }), "{error}");
    assert_eq!(house.files(), before);
}

#[tokio::test]
async fn rows_for_a_table_that_was_replaced_meanwhile_are_refused() {
    let house = House::new().await;
    let table = house.create("t", vec![]).await;
    let append = house.lakehouse.begin_append(&table, "q1").await.unwrap();
    let files = house.write(&append, &[(1, "a")]).await;
    let mut new = new_table(vec![]);
    new.schema = Schema::new(vec![Field::new("other", DataType::Boolean, false)]);
    house.lakehouse.create_table(&NAME, new, CreateMode::OrReplace).await.unwrap();
    assert!(matches!(append.commit(files).await, Err(Error::CommitConflict { .. })));
    assert_eq!(house.data_files(), 0);
}

#[tokio::test]
async fn every_type_can_be_a_partition_value() {
    use arrow::array::*;
    let house = House::new().await;
    let uuid = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("b", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
        (Field::new("i", DataType::Int32, true), Arc::new(Int32Array::from(vec![Some(-1), None]))),
        (Field::new("f", DataType::Float64, true), Arc::new(Float64Array::from(vec![Some(1.5), None]))),
        (
            Field::new("d", DataType::Decimal128(20, 3), true),
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(20, 3).unwrap(),
            ),
        ),
        (Field::new("day", DataType::Date32, true), Arc::new(Date32Array::from(vec![Some(-1), None]))),
        (
            Field::new(
                "ts",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
                true,
            ),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
        ),
        (
            Field::new("bin", DataType::Binary, true),
            Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0_u8, 255]), None])),
        ),
        (
            Field::new("u", DataType::FixedSizeBinary(16), true).with_metadata(uuid),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([7_u8; 16]), None].into_iter(),
                    16,
                )
                .unwrap(),
            ),
        ),
        (
            Field::new("fix", DataType::FixedSizeBinary(2), true),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([0_u8, 9]), None].into_iter(), 2)
                    .unwrap(),
            ),
        ),
        (Field::new("s", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("x/y z"), None]))),
    ];
    let identity = columns.iter().filter(|(field, _)| field.name() != "u");
    let mut partition = identity.map(|(field, _)| by(field.name(), Transform::Identity)).collect::<Vec<_>>();
    partition.push(by("ts", Transform::Hour));
    partition.push(by("day", Transform::Year));
    partition.push(by("d", Transform::Truncate(10)));
    partition.push(by("u", Transform::Bucket(8)));
    partition.push(by("bin", Transform::Truncate(1)));
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let new = NewTable { schema: Schema::new(fields.clone()), ..new_table(partition) };
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();

    let table = house.lakehouse.create_table(&NAME, new, CreateMode::Create).await.unwrap();
    let append = house.lakehouse.begin_append(&table, "q1").await.unwrap();
    let files = house.write_batch(&append, batch).await;
    let mut written = files.iter().map(|file| file.partition.clone()).collect::<Vec<_>>();
    append.commit(files).await.unwrap();

    let table = house.pin("t").await;
    let snapshot = table.metadata().snapshot(table.snapshot_id().unwrap()).unwrap();
    let list = house.lakehouse.router().get(&snapshot.manifest_list).await.unwrap();
    let manifests = crate::iceberg::decode_list(&list, table.metadata(), &NAME, "list").unwrap();
    let bytes = house.lakehouse.router().get(&manifests[0].path).await.unwrap();
    let manifest = crate::iceberg::decode_manifest(&bytes, &manifests[0], &NAME).unwrap();
    let mut read = manifest.files.iter().map(|file| file.partition.clone()).collect::<Vec<_>>();
    for tuples in [&mut written, &mut read] {
        tuples.sort_by_key(|tuple| tuple[0].is_none());
    }
    let plain = |tuples: Vec<Vec<Option<datafusion::scalar::ScalarValue>>>| {
        tuples
            .into_iter()
            .map(|t| t.into_iter().map(|v| v.map(|v| v.to_string())).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(plain(read), plain(written));
    assert_eq!(house.count(&table).await, 2);
}

#[tokio::test]
async fn nested_columns_come_back() {
    use arrow::array::*;
    use arrow::datatypes::{Float64Type, Int32Type};
    let house = House::new().await;
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for n in 0..3 {
        map.keys().append_value(format!("k{n}"));
        map.values().append_value(f64::from(n));
        map.append(n != 1).unwrap();
    }
    let city: ArrayRef = Arc::new(StringArray::from(vec![Some("Ulm"), None, Some("Bonn")]));
    let inner = arrow::datatypes::Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
    let place = StructArray::new(inner, vec![city], None);
    let (list, map, place): (ArrayRef, ArrayRef, ArrayRef) =
        (Arc::new(list), Arc::new(map.finish()), Arc::new(place));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("l", list, true), ("m", map, true), ("p", place, true)]);
    let batch = batch.unwrap();
    let new = NewTable {
        schema: batch.schema().as_ref().clone(),
        ..new_table(vec![NewPartitionField {
            name: Some("town".into()),
            ..by("p.city", Transform::Truncate(2))
        }])
    };

    let table = house.lakehouse.create_table(&NAME, new, CreateMode::Create).await.unwrap();
    let append = house.lakehouse.begin_append(&table, "q1").await.unwrap();
    let files = house.write_batch(&append, batch).await;
    assert_eq!(files.len(), 3);
    append.commit(files).await.unwrap();

    let sql = "SELECT sum(l[1]), sum(map_values(m)[1]), max(p['city']), count(l), count(m) FROM t";
    let read = house.query(&house.pin("t").await, sql).await.remove(0);
    assert_eq!(read.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 1);
    assert_eq!(read.column(2).as_string_view().value(0), "Ulm");
    assert_eq!(read.column(3).as_primitive::<arrow::datatypes::Int64Type>().value(0), 2);
    assert_eq!(read.column(4).as_primitive::<arrow::datatypes::Int64Type>().value(0), 2);
    assert_eq!(read.column(1).as_primitive::<Float64Type>().value(0), 2.0);
}

static NAME: std::sync::LazyLock<TableName> = std::sync::LazyLock::new(|| name("t"));

fn name(table: &str) -> TableName {
    TableName::new("c", "shop", table)
}

fn by(column: &str, transform: Transform) -> NewPartitionField {
    NewPartitionField { column: column.to_owned(), transform, name: None }
}

/// Columns `id` (long, required) and `v` (string).
fn new_table(partition: Vec<NewPartitionField>) -> NewTable {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("v", DataType::Utf8, true)]);
    NewTable { schema, partition, properties: BTreeMap::new(), location: None }
}

struct House {
    folder: Arc<TempDir>,
    lakehouse: Lakehouse,
}

impl House {
    async fn new() -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        let lakehouse = open(&folder).await;
        lakehouse.create_schema("c", "shop", false).await.unwrap();
        Self { folder, lakehouse }
    }

    /// Another lakehouse over the same catalog and folder, with queues and caches of its own.
    async fn another_process(&self) -> Self {
        Self { folder: Arc::clone(&self.folder), lakehouse: open(&self.folder).await }
    }

    fn with_fault(&self, fault: Fault) -> Self {
        let inner = Arc::clone(self.lakehouse.backend("c").unwrap());
        let faulty = Arc::new(Faulty { inner, fault, commits: AtomicUsize::new(0) });
        let lakehouse = Lakehouse::with_backend("c", faulty, &self.lakehouse);
        Self { folder: Arc::clone(&self.folder), lakehouse }
    }

    async fn create(&self, table: &str, partition: Vec<NewPartitionField>) -> PinnedTable {
        self.lakehouse.create_table(&name(table), new_table(partition), CreateMode::Create).await.unwrap()
    }

    async fn pin(&self, table: &str) -> PinnedTable {
        self.lakehouse.pin(&name(table), None).await.unwrap()
    }

    async fn append(&self, table: &PinnedTable, query: &str, rows: &[(i64, &str)]) -> Result<Committed> {
        let append = self.lakehouse.begin_append(table, query).await?;
        let files = self.write(&append, rows).await;
        append.commit(files).await
    }

    async fn write(&self, append: &Append, rows: &[(i64, &str)]) -> Vec<WrittenFile> {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
        self.write_batch(append, RecordBatch::try_from_iter([("id", ids), ("v", values)]).unwrap()).await
    }

    async fn write_batch(&self, append: &Append, batch: RecordBatch) -> Vec<WrittenFile> {
        let input = MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None).unwrap();
        let plan = WriteExec::new(input, Arc::clone(&append.spec)).unwrap();
        let output = collect(Arc::new(plan), self.session().task_ctx()).await.unwrap();
        let rows = output.iter().flat_map(|batch| batch.column(0).as_binary::<i32>().iter().flatten());
        rows.map(|bytes| WrittenFile::decode(bytes).unwrap()).collect()
    }

    async fn rows(&self, table: &PinnedTable) -> Vec<(i64, String)> {
        let mut rows = Vec::new();
        for batch in self
            .query(table, "SELECT CAST(id AS BIGINT) AS a, CAST(v AS VARCHAR) AS b FROM t ORDER BY a")
            .await
        {
            let batch = batch.project(&[0, 1]).unwrap();
            let text = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
            let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().iter();
            rows.extend(
                ids.copied().zip(text.as_string::<i32>().iter().map(|v| v.unwrap_or("NULL").to_owned())),
            );
        }
        rows
    }

    async fn count(&self, table: &PinnedTable) -> usize {
        self.query(table, "SELECT * FROM t").await.iter().map(RecordBatch::num_rows).sum()
    }

    async fn query(&self, table: &PinnedTable, sql: &str) -> Vec<RecordBatch> {
        let session = self.session();
        session.register_table("t", table.provider()).unwrap();
        session.sql(sql).await.unwrap().collect().await.unwrap()
    }

    fn session(&self) -> SessionContext {
        let session = SessionContext::new();
        self.lakehouse.router().register(&session.runtime_env());
        session
    }

    /// All files of the warehouse.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("warehouse")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push(entry.path().display().to_string());
                }
            }
        }
        files.sort();
        files
    }

    fn data_files(&self) -> usize {
        self.files().iter().filter(|file| file.ends_with(".parquet")).count()
    }
}

async fn open(folder: &TempDir) -> Lakehouse {
    let path = folder.path().display();
    let catalog = CatalogConfig {
        uri: format!("sqlite://{path}/catalog.db"),
        warehouse: format!("file://{path}/warehouse"),
        ..CatalogConfig::default()
    };
    let catalogs = BTreeMap::from([("c".to_owned(), catalog)]);
    let router = Router::new(storage::Config::default(), vec![]);
    // Each pin asks the catalog, since some tests commit behind its back.
    let metadata_cache = crate::metadata_cache::Config { pointer_ttl_ms: 0, ..Default::default() };
    Lakehouse::open(Config { catalogs, metadata_cache }, router).await.unwrap()
}

/// What goes wrong with commits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// They happen, but nobody hears of it.
    LostAnswer,
    /// They do not happen, and nobody hears of it.
    LostRequest,
    /// Somebody else is always faster.
    Conflict,
}

/// A catalog whose commits go wrong.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Backend>,
    fault: Fault,
    commits: AtomicUsize,
}

#[async_trait]
impl Backend for Faulty {
    async fn list_schemas(&self) -> Result<Vec<String>> {
        self.inner.list_schemas().await
    }

    async fn create_schema(&self, schema: &str, location: Option<&str>) -> Result<()> {
        self.inner.create_schema(schema, location).await
    }

    async fn drop_schema(&self, schema: &str) -> Result<()> {
        self.inner.drop_schema(schema).await
    }

    async fn schema_exists(&self, schema: &str) -> Result<bool> {
        self.inner.schema_exists(schema).await
    }

    async fn schema_location(&self, schema: &str) -> Result<String> {
        self.inner.schema_location(schema).await
    }

    async fn list_tables(&self, schema: &str) -> Result<Vec<String>> {
        self.inner.list_tables(schema).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.inner.load_table(ident).await
    }

    async fn load_present(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.inner.load_present(ident).await
    }

    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable> {
        self.inner.create_table(ident, metadata).await
    }

    async fn commit(&self, ident: &TableIdent, base: &LoadedTable, new: Metadata) -> Result<Outcome> {
        assert!(self.commits.fetch_add(1, Ordering::Relaxed) < 10, "tries are bounded");
        match self.fault {
            Fault::LostAnswer => {
                self.inner.commit(ident, base, new).await?;
                Ok(Outcome::Unknown("the line went dead".to_owned()))
            }
            Fault::LostRequest => Ok(Outcome::Unknown("the line went dead".to_owned())),
            Fault::Conflict => Ok(Outcome::Conflict),
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.inner.drop_table(ident).await
    }

    async fn forget_table(&self, ident: &TableIdent) -> Result<()> {
        self.inner.forget_table(ident).await
    }

    async fn load_view(&self, ident: &TableIdent) -> Result<LoadedView> {
        self.inner.load_view(ident).await
    }

    async fn create_view(&self, ident: &TableIdent, view: ViewMetadata) -> Result<()> {
        self.inner.create_view(ident, view).await
    }

    async fn replace_view(&self, ident: &TableIdent, base: &LoadedView, view: ViewMetadata) -> Result<bool> {
        self.inner.replace_view(ident, base, view).await
    }

    async fn drop_view(&self, ident: &TableIdent) -> Result<()> {
        self.inner.drop_view(ident).await
    }
}
