//! The binary `tarn`: flags, configuration, logs, run, exit code.
//!
//! With [`tarn`] it is the composition root: the only code that knows every crate. The rule:
//! nothing here plans, scans or answers.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tarn::config::{self, Config, LogFormat};
use tarn::{demo, logs, serve};
use toml::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A distributed SQL query engine over an Iceberg lakehouse.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make demo data, serve it, and open the SQL shell.
    Demo {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        server: ServerFlags,
        /// TPC-H scale factor; fact_sales has 10 million rows times this.
        #[arg(long, default_value_t = 0.1)]
        scale: f64,
        /// Serve without opening the shell.
        #[arg(long)]
        no_shell: bool,
    },
    /// Scheduler and executor in one process.
    Serve {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// The scheduler alone; executors come to its cluster address.
    Scheduler {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// An executor for one scheduler, or for the first that answers of several.
    Executor {
        #[command(flatten)]
        common: Common,
        /// Cluster addresses of the schedulers.
        #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
        scheduler: Vec<String>,
        /// Address for queries [default: a free port on loopback].
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
        /// Address for probes and metrics [default: a free port on loopback].
        #[arg(long, value_name = "ADDRESS")]
        http_listen: Option<String>,
        /// Host by which the others reach this executor [default: the address it listens on].
        #[arg(long, value_name = "HOST")]
        advertise: Option<String>,
    },
    /// The SQL shell.
    Sql(SqlFlags),
    /// Print the annotated defaults, for a tarn.toml.
    Config,
}

#[derive(Args)]
struct Common {
    /// Configuration file [default: tarn.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the embedded catalog, the warehouse and the work folders.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Allow addresses off loopback, although nothing authenticates clients yet.
    #[arg(long)]
    insecure: bool,
    /// How log lines are written.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or target=level,…
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Args)]
struct ServerFlags {
    /// Address of the Flight SQL server [default: 127.0.0.1:32010].
    #[arg(long, value_name = "ADDRESS")]
    flight_sql_listen: Option<String>,
    /// Address of probes and metrics [default: 127.0.0.1:8090].
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Address to which executors come [default: 127.0.0.1:50050].
    #[arg(long, value_name = "ADDRESS")]
    cluster_listen: Option<String>,
}

#[derive(Args)]
struct SqlFlags {
    /// Where the server is.
    #[arg(long, default_value = "grpc://127.0.0.1:32010")]
    url: String,
    /// Run these statements and leave.
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    command: Option<String>,
    /// Run the statements of a file and leave; - is standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t)]
    format: tarn_client::shell::Format,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo { mut common, server, scale, no_shell } => {
            if !no_shell && common.log.is_none() && std::io::stdin().is_terminal() {
                // The shell has the terminal; a line for each query would break into it.
                common.log = Some("warn".to_string());
            }
            let flags = server_flags(server);
            with_config(common, flags, |config| {
                run(demo::run(config, demo::Options { scale, shell: !no_shell }))
            })
        }
        Command::Serve { common, server } => {
            with_config(common, server_flags(server), |config| run(serve::serve(config)))
        }
        Command::Scheduler { common, server } => {
            with_config(common, server_flags(server), |config| run(serve::scheduler(config)))
        }
        Command::Executor { common, scheduler, listen, http_listen, advertise } => {
            let schedulers = scheduler.into_iter().map(Value::String).collect();
            let mut flags = vec![("executor.schedulers", Value::Array(schedulers))];
            flags.extend(text("executor.listen", listen));
            flags.extend(text("executor.http_listen", http_listen));
            flags.extend(text("executor.advertise", advertise));
            with_config(common, flags, |config| run(serve::executor(config)))
        }
        Command::Sql(flags) => {
            let options = tarn_client::shell::Options {
                url: flags.url,
                command: flags.command,
                file: flags.file,
                format: flags.format,
                ..Default::default()
            };
            runtime().block_on(tarn_client::shell::run(options))
        }
        Command::Config => {
            print!("{}", config::ANNOTATED_DEFAULTS);
            ExitCode::SUCCESS
        }
    }
}

fn server_flags(server: ServerFlags) -> Vec<(&'static str, Value)> {
    [
        ("scheduler.flight_sql_listen", server.flight_sql_listen),
        ("scheduler.http_listen", server.http_listen),
        ("scheduler.cluster_listen", server.cluster_listen),
    ]
    .into_iter()
    .filter_map(|(key, value)| text(key, value))
    .collect()
}

fn text(key: &'static str, value: Option<String>) -> Option<(&'static str, Value)> {
    value.map(|value| (key, Value::String(value)))
}

fn with_config(
    common: Common,
    mut flags: Vec<(&'static str, Value)>,
    run: impl FnOnce(Config) -> ExitCode,
) -> ExitCode {
    flags.extend(text("data_dir", common.data_dir.map(|folder| folder.display().to_string())));
    flags.extend(text("log.filter", common.log));
    if common.insecure {
        flags.push(("scheduler.insecure", Value::Boolean(true)));
        flags.push(("executor.insecure", Value::Boolean(true)));
    }
    if let Some(format) = common.log_format {
        let format = if format == LogFormat::Json { "json" } else { "text" };
        flags.push(("log.format", Value::String(format.to_string())));
    }
    match config::load(common.config.as_deref(), std::env::vars(), flags) {
        Ok(config) => {
            logs::start(&config.log);
            run(config)
        }
        Err(faults) => {
            eprintln!("error: {faults}");
            ExitCode::from(2)
        }
    }
}

fn run(work: impl Future<Output = Result<ExitCode, serve::Error>>) -> ExitCode {
    match runtime().block_on(work) {
        Ok(code) => code,
        Err(error) => {
            tracing::debug!(?error, "stopped by an error");
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime of requests and connections; plans have one of their own.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tarn-request")
        // Statements are parsed here, by recursion.
        .thread_stack_size(tarn_runtime::STACK_BYTES)
        .build()
        .expect("threads can be started")
}
