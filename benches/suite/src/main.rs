//! TPC-H by Tarn and its peers in one run, on the same files.
//!
//! ```text
//! cargo build --release -p tarn -p tarn-bench-suite
//! target/release/tarn-bench-suite --scale 1 --rounds 3 --out benches/results
//! ```
//!
//! Systems: Tarn all in one; a scheduler with one executor, pipelined; with two; DataFusion in this
//! process; DuckDB in Python. Each query is run `rounds` times after one warm-up, the systems in turn,
//! and the best time counts. The rule: a ratio to a peer in the same run, never a bare time.

mod machine;
mod memory;
mod peers;
mod report;
mod server;
mod small;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

/// Anything that ends a benchmark.
type Error = Box<dyn std::error::Error + Send + Sync>;

// The allocator of the server, so that DataFusion in this process has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// TPC-H by Tarn and its peers.
#[derive(Parser)]
struct Flags {
    /// TPC-H scale factor.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Timed runs a query and system; the best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The binary `tarn` [default: beside this one].
    #[arg(long)]
    tarn: Option<PathBuf>,
    /// Folder of the data, made on the first run and kept.
    #[arg(long, default_value = "target/bench-data")]
    data: PathBuf,
    /// Folder of the 22 queries.
    #[arg(long, default_value = "tests/queries/tpch")]
    queries: PathBuf,
    /// Folder for the result files.
    #[arg(long, default_value = "benches/results")]
    out: PathBuf,
    /// Python with duckdb 1.5.5; without it DuckDB is left out.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Only these queries, such as 1,6.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
}

/// One query of the suite.
pub(crate) struct Query {
    /// Its number, from 1.
    pub number: usize,
    /// Its text.
    pub sql: String,
}

/// Best times of one system, by query.
pub(crate) struct Timed {
    /// The system's name in the report.
    pub system: String,
    /// Best time of each query, in order; `None` where it failed.
    pub best: Vec<Option<Duration>>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let flags = Flags::parse();
    let tarn = match &flags.tarn {
        Some(tarn) => tarn.clone(),
        None => std::env::current_exe()?.with_file_name("tarn"),
    };
    let queries = read_queries(&flags)?;
    let data = std::path::absolute(flags.data.join(format!("sf{}", flags.scale)))?;
    server::make_data(&tarn, &data, flags.scale).await?;
    let tables = server::files(&tarn, &data).await?;

    let resting = server::Cluster::all_in_one(&tarn, &data).await?;
    let memory = memory::measure(&resting).await?;
    resting.stop().await?;

    let mut results = Vec::new();
    let alone = server::Cluster::all_in_one(&tarn, &data).await?;
    results.push(tarn_times("Tarn, all in one", &alone, None, &queries, flags.rounds).await?);
    let small = small::measure(&alone).await?;
    alone.stop().await?;
    for executors in [1, 2] {
        let cluster = server::Cluster::distributed(&tarn, &data, executors).await?;
        let name = format!("Tarn, {executors} executor{}, pipelined", if executors == 1 { "" } else { "s" });
        results.push(tarn_times(&name, &cluster, Some("pipelined"), &queries, flags.rounds).await?);
        cluster.stop().await?;
    }
    results.push(peers::datafusion(&tables, &queries, flags.rounds).await?);
    if let Some(duckdb) = peers::duckdb(&flags.python, &tables, &queries, flags.rounds).await? {
        results.push(duckdb);
    }
    let report = report::Report {
        scale: flags.scale,
        rounds: flags.rounds,
        queries,
        results,
        small,
        memory,
        machine: machine::describe(),
    };
    println!("{}", report.markdown());
    report.write(&flags.out)?;
    Ok(())
}

fn read_queries(flags: &Flags) -> Result<Vec<Query>, Error> {
    let numbers = (1..=22).filter(|number| flags.only.is_empty() || flags.only.contains(number));
    numbers
        .map(|number| {
            let names = [format!("q{number:02}.sql"), format!("q{number}.sql"), format!("{number:02}.sql")];
            let path = names.iter().map(|name| flags.queries.join(name)).find(|path| path.exists());
            let path =
                path.ok_or_else(|| format!("no file for query {number} in {}", flags.queries.display()))?;
            let sql = std::fs::read_to_string(path)?.trim().trim_end_matches(';').to_string();
            Ok(Query { number, sql })
        })
        .collect()
}

async fn tarn_times(
    name: &str,
    cluster: &server::Cluster,
    mode: Option<&str>,
    queries: &[Query],
    rounds: usize,
) -> Result<Timed, Error> {
    let mut connection = tarn_client::Connection::connect(&cluster.url).await?;
    connection.update("use lake.tpch").await?;
    if let Some(mode) = mode {
        connection.update(&format!("set execution_mode = {mode}")).await?;
    }
    let mut best = Vec::new();
    for query in queries {
        let mut fastest = None;
        for round in 0..=rounds {
            let began = Instant::now();
            match server::drain(&mut connection, &query.sql).await {
                Ok(_) if round > 0 => {
                    fastest =
                        Some(fastest.map_or(began.elapsed(), |best: Duration| best.min(began.elapsed())))
                }
                Ok(_) => {}
                Err(error) => {
                    eprintln!("{name}, query {}: {error}", query.number);
                    fastest = None;
                    break;
                }
            }
        }
        eprintln!("{name}: q{} {:.3} s", query.number, fastest.unwrap_or_default().as_secs_f64());
        best.push(fastest);
    }
    Ok(Timed { system: name.to_string(), best })
}
