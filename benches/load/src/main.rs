//! Many analysts at once, on Tarn and on its peers, in one run.
//!
//! ```text
//! cargo build --release -p tarn -p tarn-bench-load
//! target/release/tarn-bench-load --python venv/bin/python --peers --out benches/results
//! target/debug/tarn-bench-load --quick                    a smoke run of half a minute
//! ```
//!
//! ```text
//! data ──> answers ──> Tarn: alone ──> closed loop 1, 5, 10, 20, 50 ──> open loop ──> peers ──> report
//! ```
//!
//! - [`mix`]: what is asked, and in which order; [`digest`]: what an answer is, as a number
//! - [`data`], [`answers`]: the tables, and what is right, by DuckDB
//! - [`server`], [`peers`], [`target`]: who is asked, and how
//! - [`alone`], [`analyst`]: one query by itself; many at once
//! - [`numbers`], [`report`]: what it comes to, and the bars
//!
//! The rule: every answer is checked, every error counted, and a run ends by itself.

mod alone;
mod analyst;
mod answers;
mod data;
mod digest;
// One description of the machine for all results.
#[path = "../../suite/src/machine.rs"]
mod machine;
mod mix;
mod numbers;
mod peers;
mod report;
mod server;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use analyst::{Load, Questions};
use numbers::{Numbers, Phase};
use peers::{ballista, duckdb};
use report::Run;
use server::{Cluster, Setup, Watch, Weight};
use target::Target;

/// Anything that ends a benchmark.
type Error = Box<dyn std::error::Error + Send + Sync>;

// The allocator of the server, for Ballista's processes too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The share of the closed loop's rate that the open loop asks at.
const OPEN_SHARE: f64 = 0.7;
/// The share of a closed phase that is warm-up, and the most of it.
const WARM_SHARE: u32 = 6;
const WARM_MAX: Duration = Duration::from_secs(30);
/// How often memory is looked at in a phase.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long data and answers may take, and what everything else may take besides its phases.
const PREPARE_MAX: Duration = Duration::from_secs(7_200);
const SLACK: Duration = Duration::from_secs(600);
/// Numbers of the phases, which give each its own orders.
const OPEN: u64 = 1_000;
const PEERS: u64 = 2_000;

/// Many analysts at once.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    command: Option<Part>,
    /// Scale of TPC-DS; `fact_sales` has 10 million rows times this.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Seed of the data and of every order.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Analysts of the closed loop, one phase each.
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,20,50")]
    analysts: Vec<usize>,
    /// Minutes of each closed phase.
    #[arg(long, default_value_t = 3.0)]
    closed_minutes: f64,
    /// Minutes of the open loop; 0 leaves it out.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Minutes of each peer.
    #[arg(long, default_value_t = 3.0)]
    peer_minutes: f64,
    /// Measure the peers too: Ballista and DuckDB.
    #[arg(long)]
    peers: bool,
    /// Memory for plans of each server, such as 512MiB or 2GiB.
    #[arg(long, default_value = "512MiB", value_parser = bytes)]
    memory: u64,
    /// Executors besides a scheduler; 0 is everything in one process.
    #[arg(long, default_value_t = 0)]
    executors: usize,
    /// Seconds that one query may take.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    /// Runs of each query alone, after one that does not count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The binary `tarn` [default: beside this one].
    #[arg(long)]
    tarn: Option<PathBuf>,
    /// Python with duckdb 1.5.5, duckdb-extension-tpcds and pyarrow.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Folder of the data, made on the first run and kept.
    #[arg(long, default_value = "target/bench-data/load")]
    data: PathBuf,
    /// Folder for the result files.
    #[arg(long, default_value = "target/bench-load")]
    out: PathBuf,
    /// A smoke run: the smallest scale, few analysts, seconds instead of minutes; fails unless all answers are right.
    #[arg(long)]
    quick: bool,
}

#[derive(Subcommand)]
enum Part {
    /// A part of Ballista, for a run of this program.
    #[command(hide = true)]
    Ballista {
        #[command(subcommand)]
        role: ballista::Role,
    },
}

fn main() -> ExitCode {
    let mut flags = Flags::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(32 << 20).build();
    let ended = match (runtime, flags.command.take()) {
        (Err(error), _) => Err(error.into()),
        (Ok(runtime), Some(Part::Ballista { role })) => {
            let ended = runtime.block_on(ballista::serve(role));
            // Reading standard input is a thread that cannot be stopped.
            runtime.shutdown_background();
            ended.map(|()| true)
        }
        (Ok(runtime), None) => runtime.block_on(run(flags)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tarn-bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prepares, measures and reports; whether the run came to its end, and a smoke run without a fault.
async fn run(mut flags: Flags) -> Result<bool, Error> {
    if flags.quick {
        flags.scale = 0.01;
        flags.analysts = vec![1, 4];
        (flags.closed_minutes, flags.minutes, flags.peer_minutes, flags.rounds) = (0.08, 0.12, 0.08, 0);
    }
    let queries = mix::queries();
    let prepare = async {
        let data = data::prepare(&flags.data, flags.scale, flags.seed, &flags.python).await?;
        let expected = answers::expected(&data, &queries, &flags.python).await?;
        Ok::<_, Error>((data, expected))
    };
    let (data, expected) = tokio::select! {
        prepared = tokio::time::timeout(PREPARE_MAX, prepare) => prepared??,
        () = stopped() => return Err("stopped".into()),
    };
    let settings = report::Settings::new(flags.scale, flags.seed, flags.memory, flags.executors);
    let mut run = Run { settings, queries, alone: Vec::new(), phases: Vec::new(), ended: None };
    let bound = flags.bound(run.queries.len());
    let ended = tokio::select! {
        ended = measure(&flags, &data, expected, &mut run) => ended,
        () = tokio::time::sleep(bound) => Err(format!("not done after {} s", bound.as_secs()).into()),
        () = stopped() => Err("stopped".into()),
    };
    run.ended = ended.err().map(|error| error.to_string());
    println!("{}", run.write(&flags.out)?);
    let faultless = run.alone.iter().all(|alone| alone.faults.is_empty())
        && run.phases.iter().all(|phase| {
            let numbers = Numbers::of(phase, &run.queries, &run.alone);
            phase.system != "Tarn"
                || numbers.is_ok_and(|numbers| numbers.errors_total() + numbers.wrong_total() == 0)
        });
    Ok(run.ended.is_none() && (!flags.quick || faultless))
}

async fn measure(
    flags: &Flags,
    data: &data::Data,
    expected: Vec<digest::Digest>,
    run: &mut Run,
) -> Result<(), Error> {
    let tarn = match &flags.tarn {
        Some(tarn) => tarn.clone(),
        None => std::env::current_exe()?.with_file_name("tarn"),
    };
    let logs = flags.out.join(run.settings.name()).join("logs");
    let setup = Setup {
        tarn: &tarn,
        data: &data.folder,
        memory_bytes: flags.memory,
        executors: flags.executors,
        logs: &logs,
    };
    let cluster = Cluster::start(&setup).await?;
    let mut questions = Questions {
        queries: Arc::new(run.queries.clone()),
        expected: Arc::new(expected),
        target: Target::FlightSql(cluster.url.clone()),
        deadline: Duration::from_secs(flags.deadline),
        seed: flags.seed,
    };
    let watch = cluster.watch();
    run.alone = alone::measure(&questions, &watch, flags.rounds).await?;
    for (number, analysts) in flags.analysts.iter().enumerate() {
        let load = Load {
            phase: number as u64,
            analysts: *analysts,
            length: minutes(flags.closed_minutes),
            rate: None,
        };
        phase("closed", "Tarn", load, &questions, &watch, run).await?;
    }
    if flags.minutes > 0.0 {
        let (analysts, rate) = open_rate(run)?;
        let load = Load { phase: OPEN, analysts, length: minutes(flags.minutes), rate: Some(rate) };
        phase("open", "Tarn", load, &questions, &watch, run).await?;
    }
    cluster.stop().await?;
    if flags.peers {
        let analysts =
            flags.analysts.iter().copied().filter(|analysts| *analysts <= report::verdict::ANALYSTS);
        let analysts = analysts.max().unwrap_or(report::verdict::ANALYSTS);
        let load = Load { phase: PEERS, analysts, length: minutes(flags.peer_minutes), rate: None };
        let duckdb =
            duckdb::DuckDb::start(&flags.python, &data.tables, flags.memory, &data.folder, &logs).await?;
        questions.target = duckdb.target.clone();
        phase("peer", "DuckDB 1.5.5", load, &questions, &duckdb.watch(), run).await?;
        duckdb.stop().await?;
        let ballista = ballista::Ballista::start(&data.tables, &data.folder, &logs).await?;
        questions.target = ballista.target.clone();
        phase("peer", "Ballista 55", load, &questions, &ballista.watch(), run).await?;
        ballista.stop().await?;
    }
    Ok(())
}

/// Runs a phase and keeps it.
async fn phase(
    name: &'static str,
    system: &'static str,
    load: Load,
    questions: &Questions,
    watch: &Watch,
    run: &mut Run,
) -> Result<(), Error> {
    eprintln!("{name}: {system}, {} analysts, {:.0} s", load.analysts, load.length.as_secs_f64());
    let weight = Mutex::new(Weight::default());
    let seen = tokio::select! {
        seen = analyst::run(questions, load) => seen?,
        () = watch.run(&weight, WATCH_EVERY) => return Err("the watch ended".into()),
    };
    let weight = weight.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    // An open loop's planned times count from the first on.
    let warm = if load.rate.is_some() { Duration::ZERO } else { (load.length / WARM_SHARE).min(WARM_MAX) };
    let phase = Phase { name, system, load, warm, seen, weight };
    let numbers = Numbers::of(&phase, &run.queries, &run.alone)?;
    let (errors, wrong) = (numbers.errors_total(), numbers.wrong_total());
    eprintln!("  {:.1} queries a minute, {errors} errors, {wrong} wrong", numbers.per_minute);
    run.phases.push(phase);
    Ok(())
}

/// Analysts and rate of the open loop, from the closed one at the analysts of the bars.
fn open_rate(run: &Run) -> Result<(usize, f64), Error> {
    let bar = report::verdict::ANALYSTS;
    let exact = run.phases.iter().find(|phase| phase.load.analysts == bar);
    let at = exact.or_else(|| run.phases.iter().max_by_key(|phase| phase.load.analysts));
    let at = at.ok_or("the open loop needs a closed phase for its rate")?;
    let numbers = Numbers::of(at, &run.queries, &run.alone)?;
    if numbers.queries == 0 {
        return Err("no query was answered in the closed loop, so the open one has no rate".into());
    }
    Ok((at.load.analysts, numbers.per_minute / 60.0 * OPEN_SHARE))
}

impl Flags {
    /// How long the measured part may take.
    fn bound(&self, queries: usize) -> Duration {
        let rounds = (self.rounds + 1).min(u32::MAX as usize) as u32;
        let alone = Duration::from_secs(self.deadline) * rounds * queries as u32 / 4;
        let peers = if self.peers { minutes(self.peer_minutes) * 2 } else { Duration::ZERO };
        let phases =
            minutes(self.closed_minutes) * self.analysts.len() as u32 + minutes(self.minutes) + peers;
        let drains = analyst::DRAIN_MAX * (self.analysts.len() as u32 + 3);
        alone + phases + drains + SLACK
    }
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes.max(0.0) * 60.0)
}

/// A number of bytes with a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("unit \"{other}\" is unknown: KiB, MiB or GiB")),
    };
    digits.parse::<u64>().map(|number| number * unit).map_err(|error| error.to_string())
}

/// Waits for a signal that ends the process.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
