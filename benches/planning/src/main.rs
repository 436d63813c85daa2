//! Planning of tables of many data files: time warm and cold, and the bytes that are held.
//!
//! ```text
//! cargo build --release -p tarn-bench-planning
//! target/release/tarn-bench-planning --files 10000,100000
//! ```
//!
//! The tables have no data files: planning does not open any. Their manifests are written by the same
//! commits that a server makes, a thousand files each, into a store that answers over HTTP on loopback.
//! Cold planning asks that store with a delay on every request. Planning is all from a table's name to
//! the scan's plan node, with its file groups: what a query waits for before anything runs.

mod store;
mod table;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Parser;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};
use tarn_catalog::{CatalogConfig, CatalogKind, Config, Lakehouse, TableName};
use tarn_scan::storage::{self, Router};

use store::Store;

/// Anything that ends a benchmark.
type Error = Box<dyn std::error::Error + Send + Sync>;

// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Planning of tables of many data files.
#[derive(Parser)]
struct Flags {
    /// Data files of the tables, one table a number.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    files: Vec<usize>,
    /// Data files a manifest.
    #[arg(long, default_value_t = 1000)]
    files_per_manifest: usize,
    /// Delay of each request in the cold case, in milliseconds.
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
    /// Warm runs; the median counts.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

fn main() -> Result<(), Error> {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let store = Store::start().await?;
    println!("| files | manifests | case | ms | files planned | bar |");
    println!("|---|---|---|---|---|---|");
    for files in &flags.files {
        let name = TableName::new("lake", "bench", format!("t{files}"));
        let writer = open(folder.path(), &store).await?;
        table::create(&writer, &name, *files, flags.files_per_manifest).await?;
        drop(writer);
        measure(&flags, folder.path(), &store, &name, *files).await?;
    }
    Ok(())
}

async fn measure(
    flags: &Flags,
    folder: &std::path::Path,
    store: &Store,
    name: &TableName,
    files: usize,
) -> Result<(), Error> {
    let manifests = files.div_ceil(flags.files_per_manifest);
    let row = |case: &str, took: Duration, planned: usize, bar: &str| {
        println!(
            "| {files} | {manifests} | {case} | {:.1} | {planned} | {bar} |",
            took.as_secs_f64() * 1000.0
        );
    };
    let bars: BTreeMap<usize, &str> = BTreeMap::from([(10_000, "20 ms"), (100_000, "200 ms")]);
    let bar = bars.get(&files).copied().unwrap_or_default();

    let resident = resident_bytes();
    let lakehouse = open(folder, store).await?;
    store.set_delay(Duration::from_millis(flags.delay_ms));
    let gets = store.gets();
    let (took, planned) = plan(&lakehouse, name, &[]).await?;
    store.set_delay(Duration::ZERO);
    let case = format!("cold, {} ms a request, {} GETs", flags.delay_ms, store.gets() - gets);
    row(&case, took, planned, if files == 100_000 { "6000 ms" } else { "" });
    println!("| {files} | {manifests} | held, by the cache's own count | {:.1} MB | | 300 MB |", held());
    let grown = resident_bytes().saturating_sub(resident) as f64 / 1e6;
    println!("| {files} | {manifests} | resident memory grown by | {grown:.1} MB | | |");

    let filters: [(&str, Vec<Expr>); 5] = [
        ("warm, no filter", Vec::new()),
        ("warm, one day", vec![col("day").eq(lit(table::day(files / 2)))]),
        ("warm, one id", vec![col("id").eq(lit(table::first_id(files / 2)))]),
        ("warm, one customer of a text column", vec![col("customer").eq(lit(table::customer(files / 2)))]),
        ("warm, half of the ids", vec![col("id").gt(lit(table::first_id(files / 2)))]),
    ];
    for (case, filters) in filters {
        let mut times = Vec::new();
        let mut planned = 0;
        for _ in 0..flags.rounds.max(1) {
            let (took, files) = plan(&lakehouse, name, &filters).await?;
            times.push(took);
            planned = files;
        }
        times.sort();
        row(case, times[times.len() / 2], planned, bar);
    }
    Ok(())
}

/// From a name to a scan, as a query does it: a pin of its own, and the plan node.
async fn plan(lakehouse: &Lakehouse, name: &TableName, filters: &[Expr]) -> Result<(Duration, usize), Error> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(8)).state();
    let began = Instant::now();
    let pinned = lakehouse.pin(name, None).await?;
    let scan = pinned.provider().scan(&session, None, filters, None).await?;
    let took = began.elapsed();
    let groups = tarn_scan::scan_of(&scan).map(|view| view.groups).unwrap_or_default();
    Ok((took, groups.iter().map(Vec::len).sum()))
}

async fn open(folder: &std::path::Path, store: &Store) -> Result<Lakehouse, Error> {
    let catalog = CatalogConfig {
        kind: CatalogKind::Sql,
        uri: format!("sqlite://{}/catalog.db", folder.display()),
        warehouse: format!("s3://{}/warehouse", store::BUCKET),
        ..CatalogConfig::default()
    };
    let mut config = Config { catalogs: BTreeMap::from([("lake".to_owned(), catalog)]), ..Config::default() };
    // Warm means that nothing has to be asked again.
    config.metadata_cache.pointer_ttl_ms = 3_600_000;
    let storage = storage::Config { s3: store.config(), ..storage::Config::default() };
    Ok(Lakehouse::open(config, Router::new(storage, Vec::new())).await?)
}

/// Megabytes in the metadata cache.
fn held() -> f64 {
    let families = prometheus::gather();
    let gauges = families.iter().filter(|family| family.name() == "catalog_metadata_cache_bytes");
    let bytes: f64 =
        gauges.flat_map(|family| family.get_metric()).map(|metric| metric.get_gauge().get_value()).sum();
    bytes / 1e6
}

/// Bytes of this process in memory, as far as the system tells.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * PAGE_BYTES
}
