//! The peers, on the very files that Tarn reads: DataFusion in this process, DuckDB in Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Error, Query, Timed};

type Tables = BTreeMap<String, Vec<PathBuf>>;

/// DataFusion in this process, with its own defaults.
pub(crate) async fn datafusion(tables: &Tables, queries: &[Query], rounds: usize) -> Result<Timed, Error> {
    let config = SessionConfig::new().with_collect_statistics(true);
    let context = SessionContext::new_with_config(config);
    for (name, files) in tables {
        let urls = files.iter().map(|file| ListingTableUrl::parse(file.display().to_string()));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
        let config = config.infer_schema(&context.state()).await?;
        context.register_table(name.as_str(), Arc::new(ListingTable::try_new(config)?))?;
    }
    let mut best = Vec::new();
    for query in queries {
        let mut fastest: Option<Duration> = None;
        for round in 0..=rounds {
            let began = Instant::now();
            let mut stream = context.sql(&query.sql).await?.execute_stream().await?;
            while stream.try_next().await?.is_some() {}
            if round > 0 {
                fastest = Some(fastest.map_or(began.elapsed(), |best| best.min(began.elapsed())));
            }
        }
        eprintln!("DataFusion: q{} {:.3} s", query.number, fastest.unwrap_or_default().as_secs_f64());
        best.push(fastest);
    }
    Ok(Timed { system: "DataFusion in process".to_string(), best })
}

/// DuckDB in Python; `None` if it is not there.
pub(crate) async fn duckdb(
    python: &str,
    tables: &Tables,
    queries: &[Query],
    rounds: usize,
) -> Result<Option<Timed>, Error> {
    const SCRIPT: &str = include_str!("duckdb_times.py");
    let queries: Vec<_> = queries.iter().map(|query| &query.sql).collect();
    let request = serde_json::json!({ "tables": tables, "queries": queries, "rounds": rounds });
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return Ok(None) };
    let mut input = child.stdin.take().ok_or("no standard input")?;
    input.write_all(request.to_string().as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        eprintln!("DuckDB is left out: {} ended with {}", python, output.status);
        return Ok(None);
    }
    let seconds: Vec<Option<f64>> = serde_json::from_slice(&output.stdout)?;
    let best = seconds.into_iter().map(|seconds| seconds.map(Duration::from_secs_f64)).collect();
    Ok(Some(Timed { system: "DuckDB 1.5.5 on the Parquet files".to_string(), best }))
}
