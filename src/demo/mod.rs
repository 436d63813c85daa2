//! The demo: a small lakehouse made from a seed, a server over it, a shell on it.
//!
//! - [`shop`]: an e-commerce star, generated here; [`tpch`]: TPC-H, by the tpchgen crates
//! - [`table`]: what a generated table is; [`random`]: numbers that are the same everywhere
//! - [`load`]: tables into the lakehouse, once; [`queries`]: the dashboard
//!
//! The rule: the data of a scale and a seed is the same on every machine, so tests and
//! benchmarks may know its answers.

pub mod load;
pub mod queries;
pub mod random;
pub mod shop;
pub mod table;
pub mod tpch;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use tarn_client::shell;
use tarn_scheduler::Shared;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::serve::{self, Server};

/// Result of the demo.
pub type Result<T, E = Error> = std::result::Result<T, E>;

const EXIT_INTERRUPTED: u8 = 130;

/// Why the demo's data could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scale makes no sense.
    #[error("scale {0} is out of range: it goes from 0.001 to 1000")]
    Scale(f64),
    /// The lakehouse refused a table.
    #[error("demo data: {0}")]
    Catalog(#[from] tarn_catalog::Error),
    /// The load was stopped before its end.
    #[error("demo data: stopped; the next start loads what is missing")]
    Stopped,
    /// Rows could not be written.
    #[error("demo data: {0}")]
    Write(#[from] datafusion::error::DataFusionError),
}

/// What `tarn demo` was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// TPC-H's scale factor; `fact_sales` has 10 million rows times this.
    pub scale: f64,
    /// Whether a shell is opened, if there is a terminal.
    pub shell: bool,
}

/// Makes the data, serves it, and opens a shell; ends with the shell, or when stopped.
pub async fn run(config: Config, options: Options) -> Result<ExitCode, serve::Error> {
    let interactive = options.shell && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let shared = serve::shared(&config).await?;
    let catalog = match config.scheduler.session.catalog.as_str() {
        "" => shared.lakehouse.catalogs().first().cloned().unwrap_or_default(),
        named => named.to_string(),
    };
    let load_options = load::Options { progress: true, ..load::Options::new(catalog, options.scale) };
    let report = match load_until_stopped(&shared, &load_options).await {
        Err(error @ Error::Stopped) => {
            say(&format!("\n{error}\n"));
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        report => report?,
    };
    describe(&report);

    // With a shell, Ctrl-C belongs to the query that runs there.
    let shutdown = if interactive { CancellationToken::new() } else { serve::stop_on_signal() };
    let server = Server::start(&config, shared, shutdown.clone()).await?;
    server.announce();
    say(&format!("\n{}\n", queries::listing()));
    if !interactive {
        return server.join().await;
    }
    let shell =
        shell::run(shell::Options { url: local_url(server.addresses().flight_sql), ..Default::default() });
    let code = tokio::select! {
        code = shell => code,
        () = terminated() => ExitCode::SUCCESS,
    };
    shutdown.cancel();
    server.join().await?;
    Ok(code)
}

async fn load_until_stopped(shared: &Shared, options: &load::Options) -> Result<load::Report, Error> {
    let mut load = std::pin::pin!(load::load(&shared.lakehouse, &shared.runtime, options));
    tokio::select! {
        report = &mut load => report,
        () = stopped() => {
            options.stop.cancel();
            load.await
        }
    }
}

fn describe(report: &load::Report) {
    for (table, rows) in &report.made {
        say(&format!("loaded {table}: {rows} rows\n"));
    }
    for table in &report.foreign {
        say(&format!("left alone {table}: it was not made by the demo\n"));
    }
    let seconds = report.elapsed.as_secs_f64();
    match report.made.len() {
        0 => say("the demo data is there\n"),
        made => say(&format!("{made} tables in {seconds:.1} s\n")),
    }
}

/// Writes to standard output; that nobody reads it does not keep the server from serving.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The address by which this machine reaches a server that may listen on all of them.
fn local_url(mut address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into())
        }
        _ => {}
    }
    format!("grpc://{address}")
}

/// Ends when the process is told to end, by Ctrl-C or otherwise.
async fn stopped() {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
}

/// Ends when the process is told to end, Ctrl-C aside.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
