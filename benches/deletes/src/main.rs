//! Deletes of every kind: how much longer a scan takes than without them.
//!
//! ```text
//! cargo build --release -p tarn-bench-deletes
//! target/release/tarn-bench-deletes --out benches/results
//! ```
//!
//! Data files and delete files are written here by the Parquet writer, deletion vectors byte by byte, and the scan is
//! given its file tasks, as planning would: so planning is not in these times, nor are engine and network. All of it
//! runs in one process, on as many partitions as there are cores, and reads from the local disk. The first run after
//! a start loads footers and deletes. Then, warm, runs with and without deletes take turns: each ratio is of two runs in a
//! row, as machines are noisy, and the median counts. The rows that are left are known by reason, and a run that gives
//! others ends the benchmark.
//!
//! Keys are close together, as those that a database gave its rows, or scattered.
//!
//! Two queries: one reads every column, and one a single column that no delete compares. The first decides; the second
//! is the worst case, since the key has to be read besides.

// One description of the machine for all results.
#[path = "../../suite/src/machine.rs"]
mod machine;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::{SessionConfig, SessionContext};
use serde_json::{Value, json};
use tarn_scan::storage::{Config, Router};

use table::{Kind, Shape, Table};

/// Anything that ends a benchmark.
type Error = Box<dyn std::error::Error + Send + Sync>;

// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The queries: what they are called, their SQL, and whether the bars are for them.
const QUERIES: [(&str, &str, bool); 2] = [
    (
        "every column",
        "select count(*) as n, min(id), sum(a), sum(b), max(day), max(text), max(code) from t",
        true,
    ),
    ("one column, no key", "select count(*) as n, sum(a) from t", false),
];

/// Time of a scan with deletes against the same scan without.
#[derive(Parser)]
struct Flags {
    /// Data files.
    #[arg(long, default_value_t = 200)]
    files: usize,
    /// Rows of each.
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// Rows deleted in all, spread evenly.
    #[arg(long, default_value_t = 1_000_000)]
    deleted: usize,
    /// Delete files, but for vectors, of which each data file has one.
    #[arg(long, default_value_t = 20)]
    delete_files: usize,
    /// Warm pairs of runs; the median ratio counts, and the best time.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Where the result goes; without it, it is only printed.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<(), Error> {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(flags))
}

/// What was measured of one kind of deletes under one query.
struct Measured {
    kind: Kind,
    query: &'static str,
    first: Duration,
    warm: Duration,
    /// The median of warm times to those without deletes just before.
    ratio: f64,
    /// That it may be.
    bar: Option<f64>,
}

async fn run(flags: Flags) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let shape = Shape {
        files: flags.files,
        rows: flags.rows,
        deleted: flags.deleted,
        delete_files: flags.delete_files,
    };
    let table = Table::write(folder.path(), shape)?;
    let mut all: Vec<Measured> = Vec::new();
    for (query, sql, decides) in QUERIES {
        for kind in Kind::ALL {
            let (first, warm, ratio) = times(&table, kind, sql, flags.rounds).await?;
            all.push(Measured { kind, query, first, warm, ratio, bar: kind.bar().filter(|_| decides) });
        }
    }
    let report = report(&table.shape, &flags, &all);
    println!("{report}");
    if let Some(out) = &flags.out {
        let name = format!("deletes-{}", chrono::Utc::now().format("%F"));
        std::fs::write(out.join(format!("{name}.md")), &report)?;
        let json = serde_json::to_string_pretty(&json(&table.shape, &flags, &all))?;
        std::fs::write(out.join(format!("{name}.json")), json + "\n")?;
    }
    Ok(())
}

/// The first time, with nothing in memory but what the system keeps of files; the best of the others; and their median
/// ratio to those without deletes.
async fn times(
    table: &Table,
    kind: Kind,
    sql: &str,
    rounds: usize,
) -> Result<(Duration, Duration, f64), Error> {
    let with = context(table, kind)?;
    let first = time(&with, table, kind, sql).await?;
    let without = context(table, Kind::None)?;
    time(&without, table, Kind::None, sql).await?;
    let (mut best, mut ratios) = (Duration::MAX, Vec::new());
    for _ in 0..rounds.max(1) {
        let base = time(&without, table, Kind::None, sql).await?;
        let seen = time(&with, table, kind, sql).await?;
        best = best.min(seen);
        ratios.push(seen.as_secs_f64() / base.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    Ok((first, best, ratios[ratios.len() / 2]))
}

fn context(table: &Table, kind: Kind) -> Result<SessionContext, Error> {
    let cores = std::thread::available_parallelism()?.get();
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(cores));
    Router::new(Config::default(), Vec::new()).register(&ctx.runtime_env());
    ctx.register_table("t", table.provider(kind, cores)?)?;
    Ok(ctx)
}

async fn time(ctx: &SessionContext, table: &Table, kind: Kind, sql: &str) -> Result<Duration, Error> {
    let began = Instant::now();
    let batches = ctx.sql(sql).await?.collect().await?;
    let took = began.elapsed();
    let counted = batches.iter().find(|batch| batch.num_rows() > 0).ok_or("no answer")?;
    let counted = counted.column(0).as_primitive::<Int64Type>().value(0);
    let expected = table.shape.left(kind) as i64;
    if counted != expected {
        return Err(format!("{kind}: {counted} rows where {expected} are left").into());
    }
    Ok(took)
}

fn report(shape: &Shape, flags: &Flags, all: &[Measured]) -> String {
    let Shape { files, rows, deleted, delete_files } = shape;
    let mut text = format!(
        "# Scans with deletes, {} pairs of warm runs\n\n{}; {}\n\n\
         {deleted} of {} rows deleted, over {files} data files; {delete_files} delete files, or a vector for each data \
         file.\nWarm, the index of keys is in memory; \"first\" builds it. Warm is the best time; the ratio is the median of those to a \
         run without deletes just before.\n\n\
         | query | deletes | first, s | warm, s | ratio to none | bar |\n|---|---|---:|---:|---:|---:|\n",
        flags.rounds,
        machine::describe(),
        chrono::Utc::now().format("%F"),
        files * rows,
    );
    for Measured { kind, query, first, warm, ratio, bar } in all {
        let bar = bar.map_or(String::new(), |bar| format!("{bar:.1}"));
        let (first, warm) = (first.as_secs_f64(), warm.as_secs_f64());
        text += &format!("| {query} | {kind} | {first:.3} | {warm:.3} | {ratio:.2} | {bar} |\n");
    }
    text
}

fn json(shape: &Shape, flags: &Flags, all: &[Measured]) -> Value {
    let one = |measured: &Measured| {
        json!({
            "query": measured.query,
            "deletes": measured.kind.to_string(),
            "first_seconds": measured.first.as_secs_f64(),
            "warm_seconds": measured.warm.as_secs_f64(),
            "ratio": measured.ratio,
            "bar": measured.bar,
        })
    };
    json!({
        "suite": "deletes",
        "machine": machine::describe(),
        "date": chrono::Utc::now().format("%F").to_string(),
        "rounds": flags.rounds,
        "data_files": shape.files,
        "rows_a_file": shape.rows,
        "deleted": shape.deleted,
        "delete_files": shape.delete_files,
        "measured": all.iter().map(one).collect::<Vec<_>>(),
    })
}
