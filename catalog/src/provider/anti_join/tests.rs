//! Layers by hand, and a join that has less memory than an index needs.

use std::path::Path;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use tarn_scan::storage::{Config, Router};
use tarn_scan::{DeleteFile, FIELD_ID_KEY};

use super::*;

/// Less than the keys of the deletes take, in an index or sorted.
const MEMORY_BYTES: usize = 4 << 20;
const ROWS: i64 = 100_000;

fn list(id: i32, rows: u64) -> Arc<EqualityDeletes> {
    let metadata = [(FIELD_ID_KEY.to_owned(), id.to_string())].into();
    let field = Arc::new(Field::new("c", DataType::Int64, true).with_metadata(metadata));
    let file = DeleteFile { record_count: rows, ..DeleteFile::default() };
    Arc::new(EqualityDeletes { keys: vec![EqualityKey { field, path: vec![] }], files: vec![Arc::new(file)] })
}

fn file(lists: &[&Arc<EqualityDeletes>]) -> PlannedFile {
    let equality = lists.iter().map(|list| Arc::clone(list)).collect();
    let deletes = Deletes { equality, ..Deletes::default() };
    PlannedFile { task: Arc::new(FileTask { deletes, ..FileTask::default() }), statistics: None }
}

#[test]
fn a_list_is_in_one_layer_and_no_file_has_two_of_a_layer() {
    let (global, first, second, other) = (list(1, 5), list(1, 5), list(1, 5), list(2, 5));
    let mut files = vec![
        vec![file(&[&first]), file(&[&second])],
        vec![file(&[&global, &first]), file(&[&global, &second, &other]), file(&[])],
    ];
    assert_eq!(index_bytes(files.iter().flatten()), 4 * 5 * NUMBER_BYTES);
    let joins = Joins::take(&mut files).unwrap();
    let sizes: Vec<_> = joins.layers.iter().map(|layer| layer.lists.len()).collect();
    assert_eq!(sizes, [2, 1, 1]);
    let places = |file: &PlannedFile| {
        let joined = file.task.deletes.joined.iter();
        joined.map(|joined| (joined.layer, joined.group)).collect::<Vec<_>>()
    };
    let places: Vec<_> = files.iter().flatten().map(places).collect();
    let expected: [&[(u32, u32)]; 5] =
        [&[(0, 0)], &[(0, 1)], &[(1, 0), (0, 0)], &[(1, 0), (0, 1), (2, 0)], &[]];
    assert_eq!(places, expected);
    assert!(files.iter().flatten().all(|file| file.task.deletes.equality.is_empty()));
}

#[tokio::test]
async fn a_join_spills_where_an_index_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema();
    // Two rows of three are deleted.
    let data = write(&folder.path().join("data.parquet"), 0..ROWS);
    let deleted = write(&folder.path().join("deletes.parquet"), (0..ROWS).filter(|id| id % 3 != 0));
    let file = DeleteFile {
        uri: deleted.uri.clone(),
        size_bytes: deleted.size_bytes,
        record_count: deleted.record_count,
        data_sequence_number: 2,
        ..DeleteFile::default()
    };
    let keys = schema.fields().iter().map(|field| EqualityKey { field: Arc::clone(field), path: Vec::new() });
    let list = Arc::new(EqualityDeletes { keys: keys.collect(), files: vec![Arc::new(file)] });
    let groups = || {
        let deletes = Deletes { equality: vec![Arc::clone(&list)], ..Deletes::default() };
        let task = FileTask { deletes, ..data.clone() };
        vec![vec![PlannedFile { task: Arc::new(task), statistics: None }]]
    };
    assert!(index_bytes(groups().iter().flatten()) > MEMORY_BYTES as u64);

    let (plan, ctx) = (scan(&schema, groups(), None), context());
    let error = collect(plan, ctx.task_ctx()).await.unwrap_err().to_string();
    assert!(error.contains("deletes of table lake.db.t"), "{error}");

    let mut groups = groups();
    let joins = Joins::take(&mut groups).unwrap();
    let fields: Vec<_> = schema.fields().iter().cloned().chain(joins.columns()).collect();
    let data = scan(&Arc::new(Schema::new(fields)), groups, Some(&vec![0, 2, 3]));
    let ctx = context();
    let mut plan = joins.apply(data, &table(&schema), 1, &TableParquetOptions::default()).unwrap();
    for rule in ctx.state().physical_optimizers() {
        plan = rule.optimize(plan, ctx.state().config_options()).unwrap();
    }
    let rows = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    let mut ids: Vec<i64> =
        rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq((0..ROWS).step_by(3)));
    assert!(spills(&plan) > 0, "{}", displayable(plan.as_ref()).indent(false));
}

fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spill_count()).unwrap_or(0);
    own + plan.children().into_iter().map(spills).sum::<usize>()
}

fn context() -> SessionContext {
    let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(MEMORY_BYTES)));
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(1024);
    config.options_mut().execution.sort_spill_reservation_bytes = 256 << 10;
    let ctx = SessionContext::new_with_config_rt(config, Arc::new(env.build().unwrap()));
    Router::new(Config::default(), Vec::new()).register(&ctx.runtime_env());
    ctx
}

fn schema() -> Arc<Schema> {
    let field = |id: i32, name: &str, data_type| {
        Field::new(name, data_type, true).with_metadata([(FIELD_ID_KEY.to_owned(), id.to_string())].into())
    };
    Arc::new(Schema::new(vec![field(1, "id", DataType::Int64), field(2, "text", DataType::Utf8View)]))
}

fn table(schema: &Arc<Schema>) -> TableScan {
    TableScan {
        table: "lake.db.t".to_owned(),
        table_uuid: uuid::Uuid::nil(),
        snapshot_id: Some(1),
        schema: Arc::clone(schema),
        format_version: 2,
        name_mapping: None,
    }
}

fn scan(
    schema: &Arc<Schema>,
    groups: Vec<Vec<PlannedFile>>,
    projection: Option<&Vec<usize>>,
) -> Arc<dyn ExecutionPlan> {
    let statistics = Statistics::new_unknown(schema);
    let options = TableParquetOptions::default();
    tarn_scan::scan_exec(Arc::new(table(schema)), groups, statistics, projection, None, &options).unwrap()
}

/// A file of ids, and of a text for each.
fn write(path: &Path, ids: impl Iterator<Item = i64> + Clone) -> FileTask {
    let texts = ids.clone().map(|id| format!("the text of customer {id:020}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(arrow::compute::cast(&StringArray::from_iter_values(texts), &DataType::Utf8View).unwrap()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    FileTask {
        uri: path.to_str().unwrap().to_owned(),
        size_bytes: std::fs::metadata(path).unwrap().len(),
        record_count: batch.num_rows() as u64,
        data_sequence_number: 1,
        ..FileTask::default()
    }
}
