//! For tests: small tables of real Parquet files in a folder, queried by SQL.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use uuid::Uuid;

use crate::storage::{Config, Router};
use crate::{FIELD_ID_KEY, FileTask, PlannedFile, TableScan, scan_exec};

/// A field with an id.
pub(crate) fn field(id: i32, name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true).with_metadata([(FIELD_ID_KEY.to_owned(), id.to_string())].into())
}

/// A field with an id that may not be NULL.
pub(crate) fn required(id: i32, name: &str, data_type: DataType) -> Field {
    field(id, name, data_type).with_nullable(false)
}

/// A table under test, known to SQL as `t`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) folder: TempDir,
    pub(crate) scan: Arc<TableScan>,
    pub(crate) groups: Vec<Vec<PlannedFile>>,
    pub(crate) router: Router,
}

impl Table {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        let scan = TableScan {
            table: "lake.db.t".to_owned(),
            table_uuid: Uuid::nil(),
            snapshot_id: Some(7),
            schema: Arc::new(Schema::new(fields)),
            format_version: 2,
            name_mapping: None,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            scan: Arc::new(scan),
            groups: Vec::new(),
            router: Router::new(Config::default(), Vec::new()),
        }
    }

    pub(crate) fn with_name_mapping(mut self, json: &str) -> Self {
        Arc::make_mut(&mut self.scan).name_mapping = Some(json.to_owned());
        self
    }

    /// Adds a file, in a group of its own.
    pub(crate) fn file(self, columns: Vec<(Field, ArrayRef)>) -> Self {
        self.file_with(columns, WriterProperties::builder().build())
    }

    pub(crate) fn file_with(mut self, columns: Vec<(Field, ArrayRef)>, properties: WriterProperties) -> Self {
        let path = self.folder.path().join(format!("{}.parquet", self.groups.len()));
        let task = write(&path, columns, properties);
        self.groups.push(vec![PlannedFile { task: task.into(), statistics: None }]);
        self
    }

    pub(crate) fn task(&mut self, index: usize) -> &mut FileTask {
        Arc::make_mut(&mut self.groups[index][0].task)
    }

    pub(crate) fn path(&self, index: usize) -> PathBuf {
        PathBuf::from(&self.groups[index][0].task.uri)
    }

    pub(crate) fn plan(&self) -> Arc<dyn ExecutionPlan> {
        let options = Default::default();
        scan_exec(Arc::clone(&self.scan), self.groups.clone(), self.statistics(), None, None, &options)
            .unwrap()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let rows = self.groups.iter().flatten().map(|file| file.task.record_count as usize).sum();
        let deletes = self.groups.iter().flatten().any(|file| !file.task.deletes.is_empty());
        Statistics {
            num_rows: if deletes { Precision::Inexact(rows) } else { Precision::Exact(rows) },
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.scan.schema.fields().len()],
        }
    }

    /// A session that reads through the table's router; `t` is the table.
    pub(crate) fn context(self, options: &[(&str, &str)]) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(2);
        for (key, value) in options {
            config.options_mut().set(key, value).unwrap();
        }
        let ctx = SessionContext::new_with_config(config);
        self.router.register(&ctx.runtime_env());
        ctx.register_table("t", Arc::new(self)).unwrap();
        ctx
    }

    /// The answer of a query, the same with and without filters in the reader; or the error.
    pub(crate) async fn sql(self, sql: &str) -> Result<String> {
        let ctx = self.context(&[]);
        let plain = query(&ctx, sql).await;
        let state = ctx.state_ref();
        state.write().config_mut().options_mut().execution.parquet.pushdown_filters = true;
        let pushed = query(&ctx, sql).await;
        if let (Ok(plain), Ok(pushed)) = (&plain, &pushed) {
            assert_eq!(plain, pushed, "filters in the reader change the answer");
        }
        pushed?;
        plain
    }
}

pub(crate) async fn query(ctx: &SessionContext, sql: &str) -> Result<String> {
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(table_text(&batches))
}

pub(crate) async fn run(plan: Arc<dyn ExecutionPlan>, ctx: &SessionContext) -> Result<String> {
    Ok(table_text(&collect(plan, ctx.task_ctx()).await?))
}

/// Rows as `1|a`, one a line, in order.
fn table_text(batches: &[RecordBatch]) -> String {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Writes a Parquet file and describes it.
pub(crate) fn write(
    path: &std::path::Path,
    columns: Vec<(Field, ArrayRef)>,
    properties: WriterProperties,
) -> FileTask {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    FileTask {
        uri: path.to_str().unwrap().to_owned(),
        size_bytes: std::fs::metadata(path).unwrap().len(),
        record_count: batch.num_rows() as u64,
        range: None,
        spec_id: 0,
        constants: Vec::new(),
        data_sequence_number: 1,
        ..FileTask::default()
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.scan.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = state.table_options().parquet.clone();
        let options = datafusion::common::config::TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..options
        };
        let scan = Arc::clone(&self.scan);
        scan_exec(scan, self.groups.clone(), self.statistics(), projection, limit, &options)
    }
}

/// A value as a scalar.
pub(crate) fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_owned()))
}
