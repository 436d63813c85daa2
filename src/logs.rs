//! Logs: to standard error, as text for people or as JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What is quieted unless the filter names it: libraries that talk at `info`, and what Ballista warns of with every
/// stage that spills or ends, which is no fault.
const QUIET: &str = "ballista_core=warn,ballista_core::execution_plans=error,ballista_scheduler=warn,\
    ballista_scheduler::state=error,ballista_executor=warn,datafusion=warn,sqlx=warn,h2=warn,hyper=warn";

/// Begins logging. Called once, before anything else runs.
pub fn start(config: &Log) {
    let filter = match config.filter.contains('=') {
        true => config.filter.clone(),
        false => format!("{},{QUIET}", config.filter),
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    // A second start, as in tests, keeps the first.
    let _ = started;
}
