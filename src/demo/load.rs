//! Loads generated tables into the lakehouse.
//!
//! Each table becomes visible with its one commit, whole, and carries the scale, the seed and
//! the version of the generator among its properties. So a start looks at these marks alone:
//! a table that has the right ones is kept, whatever was done to it since; one with others is
//! replaced; one without any is somebody else's and is left alone. A load that was cut short
//! goes on with the tables that are missing. The rule: rows stream from the generators into
//! files; nothing holds a table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use tarn_catalog::{Append, CreateMode, Lakehouse, NewTable, TableName};
use tarn_runtime::Runtime;
use tarn_scan::write::{WriteExec, WrittenFile};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::demo::table::Table;
use crate::demo::{Error, Result, shop, tpch};

/// Changes when the generators make other rows of the same scale and seed.
const GENERATOR_VERSION: &str = "1";
const VERSION_KEY: &str = "tarn.demo.version";
const SCALE_KEY: &str = "tarn.demo.scale";
const SEED_KEY: &str = "tarn.demo.seed";

/// Smallest and largest scale: below, dimensions of TPC-H come out empty; above, order numbers do.
const SCALES: std::ops::RangeInclusive<f64> = 0.001..=1_000.0;

/// What to load.
#[derive(Debug, Clone)]
pub struct Options {
    /// The catalog in which the schemas are made.
    pub catalog: String,
    /// The schemas to make: `shop`, `tpch`.
    pub schemas: Vec<&'static str>,
    /// TPC-H's scale factor; `fact_sales` has 10 million rows times this.
    pub scale: f64,
    /// The seed of schema `shop`.
    pub seed: u64,
    /// Whether a bar shows how far it is, where standard error is a terminal.
    pub progress: bool,
    /// Ends the load: files of the table that is being written are deleted.
    pub stop: CancellationToken,
}

impl Options {
    /// All of the demo at a scale, by the default seed.
    pub fn new(catalog: impl Into<String>, scale: f64) -> Self {
        let schemas = names().map(|(schema, _)| schema).into();
        Self {
            catalog: catalog.into(),
            schemas,
            scale,
            seed: 42,
            progress: false,
            stop: CancellationToken::new(),
        }
    }
}

/// What a load did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Tables that were made, with their rows.
    pub made: Vec<(TableName, u64)>,
    /// Tables that were there.
    pub kept: Vec<TableName>,
    /// Tables that are not the demo's but have its names.
    pub foreign: Vec<TableName>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Makes whatever of the demo is not there yet.
pub async fn load(lakehouse: &Lakehouse, runtime: &Runtime, options: &Options) -> Result<Report> {
    let started = Instant::now();
    if !SCALES.contains(&options.scale) {
        return Err(Error::Scale(options.scale));
    }
    let mut report = Report::default();
    let mut missing = Vec::new();
    let marks = marks(options);
    // Names alone decide here: nothing is generated for a second start.
    for (schema, names) in names().into_iter().filter(|(schema, _)| options.schemas.contains(schema)) {
        lakehouse.create_schema(&options.catalog, schema, true).await?;
        for name in names {
            let name = TableName {
                catalog: options.catalog.clone(),
                schema: schema.to_string(),
                table: name.to_string(),
            };
            match look(lakehouse, &name, &marks).await? {
                Found::Right => report.kept.push(name),
                Found::Foreign => report.foreign.push(name),
                Found::Missing => missing.push((name, CreateMode::Create)),
                Found::Stale => missing.push((name, CreateMode::OrReplace)),
            }
        }
    }
    if !missing.is_empty() {
        report.made = make(lakehouse, runtime, options, &marks, missing).await?;
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Makes one table that is not the demo's, whole, in a schema that is there; gives its rows.
pub async fn make_table(
    lakehouse: &Lakehouse,
    runtime: &Runtime,
    catalog: &str,
    table: &Table,
) -> Result<u64> {
    let (schema, table_name) = (table.schema_name.to_string(), table.name.to_string());
    let name = TableName { catalog: catalog.to_string(), schema, table: table_name };
    let append = begin(lakehouse, &name, table, CreateMode::Create, BTreeMap::new()).await?;
    write(append, runtime, table, &ProgressBar::hidden(), &CancellationToken::new()).await
}

/// Schemas and their tables.
fn names() -> [(&'static str, &'static [&'static str]); 2] {
    [("shop", shop::NAMES), ("tpch", tpch::NAMES)]
}

fn marks(options: &Options) -> BTreeMap<String, String> {
    BTreeMap::from([
        (VERSION_KEY.to_string(), GENERATOR_VERSION.to_string()),
        (SCALE_KEY.to_string(), options.scale.to_string()),
        (SEED_KEY.to_string(), options.seed.to_string()),
    ])
}

enum Found {
    Right,
    Stale,
    Foreign,
    Missing,
}

async fn look(lakehouse: &Lakehouse, name: &TableName, marks: &BTreeMap<String, String>) -> Result<Found> {
    let table = match lakehouse.pin(name, None).await {
        Ok(table) => table,
        Err(tarn_catalog::Error::TableNotFound { .. }) => return Ok(Found::Missing),
        Err(error) => return Err(error.into()),
    };
    let properties = table.properties();
    if !properties.contains_key(VERSION_KEY) {
        return Ok(Found::Foreign);
    }
    let right = marks.iter().all(|(key, value)| properties.get(key) == Some(value));
    Ok(if right { Found::Right } else { Found::Stale })
}

async fn make(
    lakehouse: &Lakehouse,
    runtime: &Runtime,
    options: &Options,
    marks: &BTreeMap<String, String>,
    missing: Vec<(TableName, CreateMode)>,
) -> Result<Vec<(TableName, u64)>> {
    let wanted = |table: &Table| {
        let found =
            missing.iter().find(|(name, _)| name.schema == table.schema_name && name.table == table.name);
        found.cloned()
    };
    let tables: Vec<_> = shop::tables(options.scale, options.seed)
        .into_iter()
        .chain(tpch::tables(options.scale))
        .filter_map(|table| wanted(&table).map(|(name, mode)| (table, name, mode)))
        .collect();
    let bar = bar(options.progress, tables.iter().map(|(table, ..)| table.rows).sum());
    let mut made = Vec::with_capacity(tables.len());
    for (table, name, mode) in tables {
        bar.set_message(table.to_string());
        let append = begin(lakehouse, &name, &table, mode, marks.clone()).await?;
        let rows = write(append, runtime, &table, &bar, &options.stop).await?;
        tracing::debug!(table = %name, rows, "demo table loaded");
        made.push((name, rows));
    }
    bar.finish_and_clear();
    Ok(made)
}

async fn begin(
    lakehouse: &Lakehouse,
    name: &TableName,
    table: &Table,
    mode: CreateMode,
    properties: BTreeMap<String, String>,
) -> Result<Append> {
    let new = NewTable {
        schema: table.schema.as_ref().clone(),
        partition: table.partition.clone(),
        properties,
        location: None,
    };
    let load_id = format!("demo-{}", Uuid::now_v7());
    Ok(lakehouse.begin_create(name, new, mode, &load_id).await?)
}

/// Writes all rows of a table and commits them.
async fn write(
    append: Append,
    runtime: &Runtime,
    table: &Table,
    bar: &ProgressBar,
    stop: &CancellationToken,
) -> Result<u64> {
    let files = tokio::select! {
        files = write_files(&append, runtime, table, bar) => files.map_err(Error::from),
        () = stop.cancelled() => Err(Error::Stopped),
    };
    match files {
        Ok(files) => Ok(append.commit(files).await?.rows),
        Err(error) => {
            append.abort().await;
            Err(error)
        }
    }
}

async fn write_files(
    append: &Append,
    runtime: &Runtime,
    table: &Table,
    bar: &ProgressBar,
) -> Result<Vec<WrittenFile>, DataFusionError> {
    let parts = runtime.cores().clamp(1, table.parts_max.max(1));
    let streams = (0..parts).map(|part| {
        let part = Part { table: table.clone(), part, parts, bar: bar.clone() };
        Arc::new(part) as Arc<dyn PartitionStream>
    });
    let rows =
        StreamingTableExec::try_new(Arc::clone(&table.schema), streams.collect(), None, [], false, None)?;
    let plan = Arc::new(WriteExec::new(Arc::new(rows), Arc::clone(&append.spec))?);
    let state = SessionStateBuilder::new().with_runtime_env(runtime.env()).build();
    let mut stream = runtime.run_stream(plan, state.task_ctx());
    let mut files = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        for file in batch.column(0).as_binary::<i32>().iter().flatten() {
            files.push(WrittenFile::decode(file)?);
        }
    }
    Ok(files)
}

/// One part of a table as the engine reads it.
struct Part {
    table: Table,
    part: usize,
    parts: usize,
    bar: ProgressBar,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.table.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let bar = self.bar.clone();
        let batches = futures::stream::iter(self.table.batches(self.part, self.parts)).map(move |batch| {
            let batch = batch.map_err(DataFusionError::from)?;
            bar.inc(batch.num_rows() as u64);
            Ok(batch)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.table.schema), batches))
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {} of {}", self.part, self.parts, self.table)
    }
}

fn bar(wanted: bool, rows: u64) -> ProgressBar {
    if !wanted {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("loading {bar:30} {percent:>3} %  {human_pos} rows  {elapsed}  {msg}");
    ProgressBar::new(rows).with_style(style.expect("the template is a constant"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::datatypes::{DataType, Field, Schema};
    use tarn_catalog::CatalogConfig;
    use tarn_scan::storage::Router;

    use super::*;

    const CATALOG: &str = "lake";

    #[tokio::test(flavor = "multi_thread")]
    async fn load_makes_what_is_missing_once_and_leaves_the_rest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (lakehouse, runtime) = open(folder.path()).await;
        lakehouse.create_schema(CATALOG, "tpch", true).await.unwrap();
        let column = Schema::new(vec![Field::new("x", DataType::Int32, true)]);
        let foreign =
            NewTable { schema: column, partition: vec![], properties: Default::default(), location: None };
        lakehouse.create_table(&name("tpch", "part"), foreign, CreateMode::Create).await.unwrap();

        let options = Options::new(CATALOG, 0.001);
        let first = load(&lakehouse, &runtime, &options).await.unwrap();
        assert_eq!(first.made.len(), shop::NAMES.len() + tpch::NAMES.len() - 1);
        assert_eq!(first.foreign, [name("tpch", "part")]);
        for (table, rows) in [("fact_sales", 10_000), ("dim_customers", 20_000), ("dim_dates", 1_826)] {
            let pinned = lakehouse.pin(&name("shop", table), None).await.unwrap();
            assert_eq!(pinned.row_count(), Some(rows), "{table}");
            assert!(first.made.contains(&(name("shop", table), rows)));
        }
        let sales = lakehouse.pin(&name("shop", "fact_sales"), None).await.unwrap();
        let plan = sales.plan_files(&[]).await.unwrap();
        assert_eq!(plan.files_total, shop::calendar::MONTHS, "one file a month");

        lakehouse.drop_table(&name("shop", "dim_sellers"), false, true).await.unwrap();
        let again = load(&lakehouse, &runtime, &options).await.unwrap();
        assert_eq!(again.made, [(name("shop", "dim_sellers"), 1_000)]);
        assert_eq!(again.kept.len(), first.made.len() - 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stopped_load_leaves_no_table_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (lakehouse, runtime) = open(folder.path()).await;
        let options = Options::new(CATALOG, 0.001);
        options.stop.cancel();
        let error = load(&lakehouse, &runtime, &options).await.unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error}");
        assert!(lakehouse.tables(CATALOG, "shop").await.unwrap().len() <= 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn scale_out_of_range_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (lakehouse, runtime) = open(folder.path()).await;
        for scale in [0.0, -1.0, 1e6, f64::NAN] {
            let error = load(&lakehouse, &runtime, &Options::new(CATALOG, scale)).await.unwrap_err();
            assert!(matches!(error, Error::Scale(_)), "{error}");
        }
    }

    async fn open(folder: &Path) -> (Lakehouse, Runtime) {
        let catalog = CatalogConfig {
            uri: format!("sqlite://{}/catalog.db", folder.display()),
            warehouse: format!("file://{}/warehouse", folder.display()),
            ..CatalogConfig::default()
        };
        let runtime = Runtime::new(tarn_runtime::Config {
            cpu_threads: 2,
            spill_dir: folder.join("spill"),
            ..Default::default()
        });
        let runtime = runtime.unwrap();
        let router = Router::new(Default::default(), vec![]);
        router.register(&runtime.env());
        let config = tarn_catalog::Config {
            catalogs: BTreeMap::from([(CATALOG.to_string(), catalog)]),
            metadata_cache: Default::default(),
        };
        (Lakehouse::open(config, router).await.unwrap(), runtime)
    }

    fn name(schema: &str, table: &str) -> TableName {
        TableName { catalog: CATALOG.to_string(), schema: schema.to_string(), table: table.to_string() }
    }
}
