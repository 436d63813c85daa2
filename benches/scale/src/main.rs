//! How throughput grows with executors: 1, 2 and 4 of them, bound by processors and then by the store.
//!
//! ```text
//! cargo build --release -p tarn -p tarn-bench-scale
//! target/release/tarn-bench-scale --out benches/results
//! ```
//!
//! ```text
//!   clients ──Flight SQL──> scheduler ──> executor 0 … N-1 ──HTTP──> a door each ──> store (files)
//!   cpu:    25 % of core 0 for each executor; scheduler, clients and store on the other cores
//!   store:  20 MB/s for each executor, at its door; nothing else is limited
//! ```
//!
//! - [`questions`]: what is asked: a scan, a join, a dashboard; [`digest`]: what an answer is, as a number
//! - [`data`]: the tables; [`store`]: serves their files, slowly if asked to
//! - [`cages`]: cgroups; [`server`]: Tarn as processes; [`measure`]: rounds, and what they took of whom
//! - [`report`]: efficiency, and the bars
//!
//! The rule: answers are equal however many executors there are, and nothing is left behind: no process, no cgroup.

mod cages;
mod data;
// One code for what an answer is, for all harnesses.
#[path = "../../load/src/digest.rs"]
mod digest;
// One description of the machine for all results.
#[path = "../../suite/src/machine.rs"]
mod machine;
mod measure;
mod questions;
mod report;
mod server;
mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use cages::Cages;
use measure::{Answers, Measured};
use report::{Run, Settings};
use server::{Cluster, Setup};
use store::Store;

/// Anything that ends a benchmark.
type Error = Box<dyn std::error::Error + Send + Sync>;

// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an executor may read of the store in a second, where the store is the limit.
const STORE_BYTES_A_SECOND: u64 = 20_000_000;
/// The longest that a run may take, data included.
const RUN_MAX: Duration = Duration::from_secs(3_600);

/// How throughput grows with executors.
#[derive(Parser)]
struct Flags {
    /// TPC-H scale factor; `fact_sales` of the dashboard has 10 million rows times this.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Timed rounds of each question, after one that does not count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of executors, the first of which is 1.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    executors: Vec<usize>,
    /// What limits the executors, one part of the run each.
    #[arg(long, value_delimiter = ',', default_value = "cpu,store")]
    limits: Vec<Limit>,
    /// Clients that send the dashboard's queries.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Memory for plans of each process, in MiB.
    #[arg(long, default_value_t = 1_024)]
    memory_mib: u64,
    /// Seconds that one query may take.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    /// The binary `tarn` [default: beside this one].
    #[arg(long)]
    tarn: Option<PathBuf>,
    /// Folder of the data, made on the first run and kept.
    #[arg(long, default_value = "target/bench-data/scale")]
    data: PathBuf,
    /// Folder for the result files.
    #[arg(long, default_value = "target/bench-scale")]
    out: PathBuf,
}

/// What the executors have little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Limit {
    /// A quarter of a core each.
    Cpu,
    /// A slow way to the store each.
    Store,
}

impl Limit {
    fn describe(self) -> &'static str {
        match self {
            Self::Cpu => "CPU-bound",
            Self::Store => "store-bound",
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tarn-bench-scale: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prepares, measures and reports; whether all parts came to their end.
async fn run(flags: &Flags) -> Result<bool, Error> {
    if flags.executors.first() != Some(&1) || flags.executors.contains(&0) || flags.rounds == 0 {
        return Err("--executors begins with 1, the base of all ratios, and --rounds is at least 1".into());
    }
    let mut run = Run {
        settings: Settings::new(flags.scale, flags.rounds, flags.clients, flags.memory_mib),
        questions: questions::all(flags.clients),
        measured: Vec::new(),
        faults: Vec::new(),
    };
    let ended = tokio::select! {
        ended = parts(flags, &mut run) => ended,
        () = tokio::time::sleep(RUN_MAX) => Err(format!("not done after {} s", RUN_MAX.as_secs()).into()),
        () = stopped() => Err("stopped".into()),
    };
    if let Err(error) = ended {
        run.faults.push(error.to_string());
    }
    println!("{}", run.markdown());
    run.write(&flags.out)?;
    run.faults.iter().for_each(|fault| eprintln!("tarn-bench-scale: {fault}"));
    Ok(run.faults.is_empty())
}

async fn parts(flags: &Flags, run: &mut Run) -> Result<(), Error> {
    let tarn = match &flags.tarn {
        Some(tarn) => std::path::absolute(tarn)?,
        None => std::env::current_exe()?.with_file_name("tarn"),
    };
    let logs = std::path::absolute(flags.out.join(run.settings.name()).join("logs"))?;
    std::fs::create_dir_all(&logs)?;
    let data = data::prepare(&tarn, &flags.data, flags.scale, &logs).await?;
    let mut answers = Answers::default();
    for limit in &flags.limits {
        let cages = match limit {
            Limit::Store => None,
            Limit::Cpu => match Cages::new(flags.executors.iter().copied().max().unwrap_or(1)) {
                Ok(cages) => Some(cages),
                Err(error) => {
                    let fault = format!("the CPU-bound part is SKIPPED: {error}");
                    eprintln!("{fault}");
                    run.faults.push(fault);
                    continue;
                }
            },
        };
        for executors in &flags.executors {
            let part =
                Part { flags, tarn: &tarn, data: &data, logs: &logs, limit: *limit, cages: cages.as_ref() };
            part.measure(*executors, &mut answers, run).await?;
        }
    }
    Ok(())
}

/// One limit.
struct Part<'a> {
    flags: &'a Flags,
    tarn: &'a Path,
    data: &'a Path,
    logs: &'a Path,
    limit: Limit,
    cages: Option<&'a Cages>,
}

impl Part<'_> {
    /// All questions with so many executors.
    async fn measure(&self, executors: usize, answers: &mut Answers, run: &mut Run) -> Result<(), Error> {
        let rate = (self.limit == Limit::Store).then_some(STORE_BYTES_A_SECOND);
        let store = Store::start(&self.data.join("warehouse"), executors, rate).await?;
        let setup = Setup {
            tarn: self.tarn,
            data: self.data,
            logs: self.logs,
            name: format!("{}-{executors}", self.limit.describe()),
            memory_bytes: self.flags.memory_mib << 20,
            store: &store,
            cages: self.cages,
        };
        let cluster = Cluster::start(&setup).await?;
        let deadline = Duration::from_secs(self.flags.deadline);
        for (number, question) in run.questions.iter().enumerate() {
            let asked = measure::Asked { cluster: &cluster, store: &store, question, number, deadline };
            let rounds = asked.rounds(self.flags.rounds, answers).await.map_err(|error| {
                format!("{}, {}, {executors} executors: {error}", self.limit.describe(), question.name)
            })?;
            let measured = Measured { limit: self.limit, executors, question: number, rounds };
            eprintln!(
                "{}, {executors} executors: {} {:.3} s",
                self.limit.describe(),
                question.name,
                measured.best().seconds
            );
            run.measured.push(measured);
        }
        cluster.stop().await
    }
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
