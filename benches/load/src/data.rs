//! The data: `shop` by Tarn's demo, TPC-DS by DuckDB's dsdgen, both as Iceberg tables of one lakehouse.
//!
//! Made once for a scale and a seed, in a folder that a server takes as its own. A mark is written last, so a load
//! that was cut short begins again. Peers read the very data files: `files.json` names them by table. The rule: rows
//! go through Tarn's own writer, never around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use tarn::config;
use tarn::demo::load;
use tarn::serve;
use tarn_catalog::{CreateMode, Lakehouse, NewPartitionField, NewTable, TableName};
use tarn_scan::write::{Transform, WriteExec, WrittenFile};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Error;

const CATALOG: &str = "lake";
/// Written when everything else is there.
const FILES: &str = "files.json";
/// From this scale the largest facts are cut by months of their days; below, the files would be tiny.
const MONTHS_FROM_SCALE: f64 = 1.0;
/// Days that a partition of a fact holds: its day is a number, which counts days.
const DAYS_A_MONTH: u32 = 30;
/// The facts that are cut, and the day of each.
const CUT: [(&str, &str); 4] = [
    ("catalog_sales", "cs_sold_date_sk"),
    ("inventory", "inv_date_sk"),
    ("store_sales", "ss_sold_date_sk"),
    ("web_sales", "ws_sold_date_sk"),
];

/// Data files by table, such as `shop.fact_sales`.
pub type Tables = BTreeMap<String, Vec<PathBuf>>;

/// The data of one scale and seed.
pub struct Data {
    /// The server's data folder.
    pub folder: PathBuf,
    /// What peers read.
    pub tables: Tables,
}

/// Makes the data unless the folder holds it.
pub async fn prepare(parent: &Path, scale: f64, seed: u64, python: &str) -> Result<Data, Error> {
    let folder = std::path::absolute(parent.join(format!("sf{scale}-seed{seed}")))?;
    let mark = folder.join(FILES);
    if !mark.exists() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let tables = make(&folder, scale, seed, python).await?;
        std::fs::write(&mark, serde_json::to_string_pretty(&tables)?)?;
    }
    let tables = serde_json::from_str(&std::fs::read_to_string(&mark)?)?;
    Ok(Data { folder, tables })
}

async fn make(folder: &Path, scale: f64, seed: u64, python: &str) -> Result<Tables, Error> {
    let folder_text = folder.display().to_string();
    let flags = vec![("data_dir", folder_text.into())];
    // Nothing from the environment: the data is the same everywhere.
    let config = config::load(None, std::iter::empty(), flags)?;
    let shared = serve::shared(&config).await?;
    let options = load::Options { schemas: vec!["shop"], seed, ..load::Options::new(CATALOG, scale) };
    let report = load::load(&shared.lakehouse, &shared.runtime, &options).await?;
    eprintln!("shop: {} tables in {:.1} s", report.made.len(), report.elapsed.as_secs_f64());
    let staging = tempfile::tempdir_in(folder)?;
    let request = serde_json::json!({ "scale": scale, "folder": staging.path() });
    let tables = python_answer(python, include_str!("../python/tpcds.py"), &request).await?;
    let tables: Vec<String> = serde_json::from_slice(&tables)?;
    shared.lakehouse.create_schema(CATALOG, "tpcds", true).await?;
    for table in &tables {
        let rows = write(&shared, &staging.path().join(format!("{table}.parquet")), table, scale).await?;
        eprintln!("tpcds.{table}: {rows} rows");
    }
    files(&shared.lakehouse).await
}

/// Writes the rows of a Parquet file into a new table.
async fn write(
    shared: &tarn_scheduler::Shared,
    source: &Path,
    table: &str,
    scale: f64,
) -> Result<u64, Error> {
    // One stream of rows keeps their order, so each file has a narrow range of days.
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let frame = context.read_parquet(source.display().to_string(), ParquetReadOptions::default()).await?;
    let fields = frame.schema().fields().iter().map(|field| {
        // As the writer wants them: plain strings.
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let cut = CUT.iter().filter(|(name, _)| *name == table && scale >= MONTHS_FROM_SCALE);
    let partition = cut.map(|(_, day)| NewPartitionField {
        column: (*day).to_string(),
        transform: Transform::Truncate(DAYS_A_MONTH),
        name: None,
    });
    let new =
        NewTable { schema, partition: partition.collect(), properties: BTreeMap::new(), location: None };
    let name = name("tpcds", table);
    let load_id = format!("load-{}", uuid::Uuid::now_v7());
    let append = shared.lakehouse.begin_create(&name, new, CreateMode::Create, &load_id).await?;
    let plan = Arc::new(WriteExec::new(frame.create_physical_plan().await?, Arc::clone(&append.spec))?);
    let state = SessionStateBuilder::new().with_runtime_env(shared.runtime.env()).build();
    let mut stream = shared.runtime.run_stream(plan, state.task_ctx());
    let mut files = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        for file in batch.column(0).as_binary::<i32>().iter().flatten() {
            files.push(WrittenFile::decode(file)?);
        }
    }
    Ok(append.commit(files).await?.rows)
}

/// The data files of every table, as paths.
async fn files(lakehouse: &Lakehouse) -> Result<Tables, Error> {
    let mut all = Tables::new();
    for schema in ["shop", "tpcds"] {
        for table in lakehouse.tables(CATALOG, schema).await? {
            let pinned = lakehouse.pin(&name(schema, &table), None).await?;
            let plan = pinned.plan_files(&[]).await?;
            let paths = plan.files.iter().map(|file| {
                let uri = file.task.uri.as_str();
                PathBuf::from(uri.strip_prefix("file://").unwrap_or(uri))
            });
            all.insert(format!("{schema}.{table}"), paths.collect());
        }
    }
    Ok(all)
}

fn name(schema: &str, table: &str) -> TableName {
    TableName { catalog: CATALOG.to_string(), schema: schema.to_string(), table: table.to_string() }
}

/// Runs a Python program with a request as its input; returns what it printed.
pub async fn python_answer(
    python: &str,
    program: &str,
    request: &serde_json::Value,
) -> Result<Vec<u8>, Error> {
    let mut command = Command::new(python);
    command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{python} does not start: {error}"))?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    input.write_all(request.to_string().as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "{python} ended with {}; it needs duckdb 1.5.5, duckdb-extension-tpcds and pyarrow",
            output.status
        )
        .into()),
    }
}
