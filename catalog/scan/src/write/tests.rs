//! A write as a whole: a small plan, a folder on disk, and the files read back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{LogicalType, Type as PhysicalType};
use tempfile::TempDir;

use super::*;
use crate::FIELD_ID_KEY;
use crate::storage::{Config, Router};

#[tokio::test]
async fn files_have_the_types_ids_and_metrics_of_the_table() {
    let folder = TempDir::new().unwrap();
    let spec = WriteSpec { iceberg_schema_json: ICEBERG_JSON.into(), ..spec(&folder, wide_schema(), vec![]) };

    let [file] = &write(spec, vec![wide_batch()], 1).await[..] else { panic!("one file") };

    assert_eq!((file.record_count, file.partition.len(), file.split_offsets.len()), (3, 0, 1));
    assert!(file.uri.contains("/data/q1-0-") && file.uri.ends_with("-0.parquet"), "{}", file.uri);
    let bytes = std::fs::read(file.uri.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(bytes.len() as u64, file.size_bytes);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let footer = reader.metadata().file_metadata();
    let pairs = footer.key_value_metadata().unwrap();
    assert_eq!(pairs.iter().map(|pair| pair.key.as_str()).collect::<Vec<_>>(), ["iceberg.schema"]);

    let columns = footer.schema_descr().columns();
    let ids = columns.iter().map(|column| column.self_type().get_basic_info().id()).collect::<Vec<_>>();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 8, 9]);
    let types = columns.iter().map(|column| column.physical_type()).collect::<Vec<_>>();
    assert_eq!(types[2], PhysicalType::INT32, "a decimal of nine digits is an int");
    assert_eq!(columns[3].logical_type_ref(), Some(&LogicalType::Uuid));
    assert_eq!(columns[1].logical_type_ref(), Some(&LogicalType::String));
    assert_eq!(columns[6].path().string(), "l.list.element");
    assert!(
        matches!(columns[4].logical_type_ref(), Some(LogicalType::Timestamp(t)) if t.is_adjusted_to_u_t_c)
    );

    let of = |id: i32| file.columns.iter().find(|column| column.field_id == id).unwrap();
    assert_eq!(
        (of(1).lower.as_deref(), of(1).upper.as_deref()),
        (Some(&1_i64.to_le_bytes()[..]), Some(&3_i64.to_le_bytes()[..]))
    );
    assert_eq!((of(2).null_count, of(2).value_count), (1, 3));
    assert_eq!(of(2).lower.as_deref(), Some(&b"a long text that"[..]));
    assert_eq!(of(2).upper.as_deref(), Some(&b"b"[..]));
    assert_eq!(of(3).lower.as_deref(), Some(&(-150_i16).to_be_bytes()[..]));
    assert_eq!((of(6).nan_count, of(6).lower.as_deref()), (Some(1), Some(&1.5_f64.to_le_bytes()[..])));
    assert_eq!((of(8).lower.as_deref(), of(8).value_count), (None, 4), "a list has counts and no bounds");
    assert_eq!((of(9).nan_count, of(9).null_count), (Some(3), 0));
    assert_eq!((&of(9).lower, &of(9).upper), (&None, &None), "NaNs alone have no bounds");
}

#[tokio::test]
async fn each_partition_has_a_folder_and_a_tuple() {
    let folder = TempDir::new().unwrap();
    let fields = vec![field("day", 2, Transform::Month), field("name", 1, Transform::Identity)];
    let schema = Arc::new(Schema::new(vec![
        with_id("name", DataType::Utf8View, true, 1),
        with_id("day", DataType::Date32, true, 2),
    ]));
    let names: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a/b"), None, Some("a/b"), Some("a/b")]));
    let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![0, 40, 30, 40]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![names, days]).unwrap();

    let mut files = write(spec(&folder, schema, fields), vec![batch], 1).await;

    files.sort_by(|a, b| a.uri.cmp(&b.uri));
    let folders = files.iter().map(|file| folder_of(&file.uri)).collect::<Vec<_>>();
    assert_eq!(folders, ["day=1970-01/name=a%2Fb", "day=1970-02/name=a%2Fb", "day=1970-02/name=null"]);
    assert_eq!(files.iter().map(|file| file.record_count).collect::<Vec<_>>(), [2, 1, 1]);
    let text = Some(ScalarValue::Utf8(Some("a/b".into())));
    assert_eq!(files[1].partition, [Some(ScalarValue::Int32(Some(1))), text]);
    assert_eq!(files[2].partition, [Some(ScalarValue::Int32(Some(1))), None]);
    assert!(files.iter().all(|file| std::fs::exists(file.uri.strip_prefix("file://").unwrap()).unwrap()));
}

#[tokio::test]
async fn more_partitions_than_may_be_open_give_one_file_each() {
    let folder = TempDir::new().unwrap();
    let fields = vec![field("k", 1, Transform::Identity)];
    // Each batch holds every partition, so nothing is clustered.
    let batches = (0..5).map(|i| keys((0..200).map(|k| (k * 7 + i) % 200).collect())).collect();

    let files = write(spec(&folder, key_schema(), fields), batches, 1).await;

    assert_eq!(files.len(), 200);
    assert!(files.iter().all(|file| file.record_count == 5));
    let mut tuples = files.iter().map(|file| file.partition[0].clone().unwrap()).collect::<Vec<_>>();
    tuples.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(tuples, (0..200).map(|k| ScalarValue::Int32(Some(k))).collect::<Vec<_>>());
    for file in &files {
        let expected = file.partition[0].clone().unwrap();
        let rows = read(file);
        assert!(rows.column(0).as_primitive::<Int32Type>().iter().all(|k| ScalarValue::Int32(k) == expected));
    }
}

#[tokio::test]
async fn files_roll_at_their_target_size() {
    let folder = TempDir::new().unwrap();
    let spec = WriteSpec { target_file_size_bytes: 4_000, ..spec(&folder, key_schema(), vec![]) };
    let batches = (0..20).map(|i| keys((i * 1_000..(i + 1) * 1_000).collect())).collect();

    let files = write(spec, batches, 1).await;

    assert!(files.len() > 2, "{} files", files.len());
    assert_eq!(files.iter().map(|file| file.record_count).sum::<u64>(), 20_000);
}

#[tokio::test]
async fn partitions_write_files_of_their_own_and_none_for_no_rows() {
    let folder = TempDir::new().unwrap();
    let files = write(spec(&folder, key_schema(), vec![]), vec![keys(vec![1]), keys(vec![2])], 3).await;
    assert_eq!(files.len(), 2);
}

#[tokio::test]
async fn a_failed_write_leaves_no_files() {
    let folder = TempDir::new().unwrap();
    let fields = vec![field("k", 1, Transform::Identity)];
    let spec = WriteSpec { target_file_size_bytes: 1, ..spec(&folder, key_schema(), fields) };
    let rows = Rows(key_schema(), || {
        let batches = vec![Ok(keys((0..100).collect())), Err(exec_datafusion_err!("the input broke"))];
        stream::iter(batches).boxed()
    });

    let error = run(spec, Arc::new(rows)).await.unwrap_err();

    assert!(error.to_string().contains("the input broke"), "{error}");
    until(|| files_below(&folder).is_empty()).await;
}

#[tokio::test]
async fn a_dropped_write_leaves_no_files() {
    let folder = TempDir::new().unwrap();
    let spec = WriteSpec { target_file_size_bytes: 1, ..spec(&folder, key_schema(), vec![]) };
    let rows = Rows(key_schema(), || stream::iter([Ok(keys(vec![1]))]).chain(stream::pending()).boxed());
    let plan = plan(Arc::new(rows));
    let mut output = WriteExec::new(plan, Arc::new(spec)).unwrap().execute(0, context()).unwrap();

    tokio::select! {
        _ = output.next() => panic!("the input does not end"),
        () = until(|| !files_below(&folder).is_empty()) => {}
    }
    drop(output);
    until(|| files_below(&folder).is_empty()).await;
}

#[tokio::test]
async fn a_write_survives_the_codec() {
    let folder = TempDir::new().unwrap();
    let mut spec =
        WriteSpec { iceberg_schema_json: ICEBERG_JSON.into(), ..spec(&folder, wide_schema(), vec![]) };
    spec.partition.fields = vec![field("id", 1, Transform::Bucket(16))];
    spec.metrics.columns.insert(3, MetricsMode::Counts);
    let input = MemorySourceConfig::try_new_exec(&[vec![]], wide_schema(), None).unwrap();
    let node: Arc<dyn ExecutionPlan> =
        Arc::new(WriteExec::new(Arc::clone(&input) as _, Arc::new(spec.clone())).unwrap());

    let mut bytes = Vec::new();
    try_encode(&node, &mut bytes).unwrap().unwrap();
    let decoded = try_decode(&bytes, &[input]).unwrap();

    assert_eq!(decoded.downcast_ref::<WriteExec>().unwrap().spec().as_ref(), &spec);
}

#[tokio::test]
async fn rows_with_another_number_of_columns_are_refused() {
    let folder = TempDir::new().unwrap();
    let input = MemorySourceConfig::try_new_exec(&[vec![]], key_schema(), None).unwrap();
    let error =
        WriteExec::new(input, Arc::new(spec(&folder, wide_schema(), vec![]))).unwrap_err().to_string();
    assert!(error.contains("has 8 columns"), "{error}");
}

const ICEBERG_JSON: &str = r#"{"type":"struct","schema-id":0,"fields":[
    {"id":1,"name":"id","required":true,"type":"long"},{"id":2,"name":"s","required":false,"type":"string"},
    {"id":3,"name":"d","required":false,"type":"decimal(9, 2)"},{"id":4,"name":"u","required":false,"type":"uuid"},
    {"id":5,"name":"t","required":false,"type":"timestamptz"},{"id":6,"name":"f","required":false,"type":"double"},
    {"id":7,"name":"l","required":false,"type":{"type":"list","element-id":8,"element":"int","element-required":false}},
    {"id":9,"name":"n","required":false,"type":"double"}]}"#;

fn wide_schema() -> SchemaRef {
    let element = with_id("element", DataType::Int32, true, 8);
    Arc::new(Schema::new(vec![
        with_id("id", DataType::Int64, false, 1),
        with_id("s", DataType::Utf8View, true, 2),
        with_id("d", DataType::Decimal128(9, 2), true, 3),
        with_id("u", DataType::FixedSizeBinary(16), true, 4),
        with_id("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true, 5),
        with_id("f", DataType::Float64, true, 6),
        with_id("l", DataType::List(Arc::new(element)), true, 7),
        with_id("n", DataType::Float64, true, 9),
    ]))
}

fn wide_batch() -> RecordBatch {
    let decimals =
        Decimal128Array::from(vec![Some(-150), Some(99), None]).with_precision_and_scale(9, 2).unwrap();
    let uuids = FixedSizeBinaryArray::try_from_iter([[1_u8; 16], [2; 16], [3; 16]].into_iter()).unwrap();
    let times = TimestampMicrosecondArray::from(vec![1, -1, 0]).with_timezone("UTC");
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), Some(vec![]), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![2, 1, 3])),
        Arc::new(StringViewArray::from(vec![Some("a long text that must be cut"), None, Some("b")])),
        Arc::new(decimals),
        Arc::new(uuids),
        Arc::new(times),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None])),
        Arc::new(list),
        Arc::new(Float64Array::from(vec![f64::NAN; 3])),
    ];
    RecordBatch::try_from_iter(columns.into_iter().enumerate().map(|(i, c)| (format!("c{i}"), c))).unwrap()
}

fn key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![with_id("k", DataType::Int32, true, 1)]))
}

fn keys(keys: Vec<i32>) -> RecordBatch {
    RecordBatch::try_new(key_schema(), vec![Arc::new(Int32Array::from(keys))]).unwrap()
}

fn with_id(name: &str, data_type: DataType, nullable: bool, id: i32) -> Field {
    Field::new(name, data_type, nullable)
        .with_metadata(HashMap::from([(FIELD_ID_KEY.into(), id.to_string())]))
}

fn field(name: &str, source_id: i32, transform: Transform) -> PartitionField {
    PartitionField { source_id, field_id: 1000 + source_id, name: name.into(), transform }
}

fn spec(folder: &TempDir, schema: SchemaRef, fields: Vec<PartitionField>) -> WriteSpec {
    WriteSpec {
        table: "c.s.t".into(),
        data_location: format!("file://{}/data", folder.path().display()),
        schema,
        iceberg_schema_json: "{}".into(),
        partition: PartitionSpec { spec_id: 0, fields },
        file_prefix: "q1".into(),
        target_file_size_bytes: 1 << 30,
        compression: "zstd".into(),
        metrics: MetricsModes::default(),
    }
}

fn context() -> Arc<TaskContext> {
    let env = RuntimeEnv::default();
    Router::new(Config::default(), vec![]).register(&env);
    Arc::new(TaskContext::default().with_runtime(Arc::new(env)))
}

async fn write(spec: WriteSpec, batches: Vec<RecordBatch>, partitions: usize) -> Vec<WrittenFile> {
    let schema = batches[0].schema();
    let mut split = vec![Vec::new(); partitions];
    for (i, batch) in batches.into_iter().enumerate() {
        split[i % partitions].push(batch);
    }
    let input = MemorySourceConfig::try_new_exec(&split, schema, None).unwrap();
    let plan = WriteExec::new(input, Arc::new(spec)).unwrap();
    decode(collect(Arc::new(plan), context()).await.unwrap())
}

async fn run(
    spec: WriteSpec,
    rows: Arc<dyn PartitionStream>,
) -> Result<Vec<WrittenFile>, datafusion::error::DataFusionError> {
    let plan = WriteExec::new(plan(rows), Arc::new(spec))?;
    collect(Arc::new(plan), context()).await.map(decode)
}

fn plan(rows: Arc<dyn PartitionStream>) -> Arc<dyn ExecutionPlan> {
    Arc::new(
        StreamingTableExec::try_new(Arc::clone(rows.schema()), vec![rows], None, [], false, None).unwrap(),
    )
}

fn decode(batches: Vec<RecordBatch>) -> Vec<WrittenFile> {
    let rows = batches.iter().flat_map(|batch| batch.column(0).as_binary::<i32>().iter().flatten());
    rows.map(|bytes| WrittenFile::decode(bytes).unwrap()).collect()
}

fn read(file: &WrittenFile) -> RecordBatch {
    let bytes = bytes::Bytes::from(std::fs::read(file.uri.strip_prefix("file://").unwrap()).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batches = reader.map(Result::unwrap).collect::<Vec<_>>();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn folder_of(uri: &str) -> String {
    let (folder, _) = uri.rsplit_once('/').unwrap();
    folder.split_once("/data/").unwrap().1.to_string()
}

fn files_below(folder: &TempDir) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path())
            } else {
                files.push(entry.path())
            }
        }
    }
    files
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition comes true");
}

/// A stream as a plan's leaf.
#[derive(Debug)]
struct Rows(
    SchemaRef,
    fn() -> stream::BoxStream<'static, Result<RecordBatch, datafusion::error::DataFusionError>>,
);

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _context: Arc<TaskContext>) -> datafusion::execution::SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0), (self.1)()))
    }
}
