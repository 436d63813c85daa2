//! Chaos: real processes over a store that fails, killed, frozen, cut off and restarted at random under load.
//!
//! ```text
//! cargo build --release --workspace --bins
//! target/release/tarn-chaos --minutes 15                       prints its seed
//! target/release/tarn-chaos --minutes 2 --seed 7 --faults kill,stop
//! ```
//!
//! ```text
//! enclosure ──> place ──> store ──> cluster ──> clients and faults ──> settled ──> leaks ──> table
//! ```
//!
//! - [`enclosure`]: namespaces around it all, so that everything ends with them; [`place`]: networks and disks inside
//! - [`store`]: the S3 server and what it does wrong; [`cluster`], [`server`]: Tarn's processes
//! - [`schedule`]: what goes wrong when, from a seed; [`fault`]: how; [`log`]: when it did
//! - [`question`]: what is asked, and what is right; [`client`]: who asks; [`tally`]: what came of it
//! - [`settled`]: after the last fault all is well; [`leaks`]: and nothing is left
//!
//! The rule: an answer is right, or a clear error that a fault explains, within its time; and every wait here has an end.

// The comparison of the end-to-end tests, and their answers.
#[allow(clippy::unwrap_used, dead_code, reason = "written for tests, of which this needs a part")]
#[path = "../../e2e/src/answers.rs"]
mod answers;
mod client;
mod cluster;
mod enclosure;
mod fault;
mod leaks;
mod log;
mod place;
mod question;
mod rows;
mod run;
mod schedule;
mod server;
mod settled;
mod store;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use schedule::Kind;

/// How long the last tasks may take to end.
const END: Duration = Duration::from_secs(5);

/// Anything that ends the chaos before its time.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Chaos on real processes, by a seed.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    part: Option<Part>,
    /// The binary `tarn` [default: $TARN_BIN, else the one beside this, which is built first].
    #[arg(long)]
    tarn: Option<PathBuf>,
    /// Minutes of load with faults; start, last checks and end come on top.
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// Seed of the faults and of the questions [default: by the clock; it is printed].
    #[arg(long, env = enclosure::SEED)]
    seed: Option<u64>,
    /// Executors.
    #[arg(long, default_value_t = 3)]
    executors: usize,
    /// Clients that ask at the same time.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Memory for plans of each process, in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// The faults to choose from [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Keep the logs of the processes also when all went well.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The S3 server of a run, which takes its orders from standard input.
    #[command(hide = true)]
    Store {
        /// Where it listens.
        address: SocketAddr,
    },
}

impl Flags {
    /// How long faults happen.
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(4)
        .thread_stack_size(8 << 20)
        .enable_all()
        .build()
        .expect("threads can be started");
    let ended = runtime.block_on(async {
        if let Some(Part::Store { address }) = flags.part {
            return store::serve(address).await;
        }
        match enclosure::inside() {
            Some(inside) => run::run(flags, inside).await,
            None => enclosure::run(&flags).await,
        }
    });
    // Tasks are dropped, and with them the processes that they hold; threads that block are not waited for.
    runtime.shutdown_timeout(END);
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
