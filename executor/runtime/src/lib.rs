//! What every process that runs plans shares.
//!
//! ```text
//!   scheduler (local mode) ──┐                    ┌── CPU runtime: plans
//!   executor (pipelined)  ───┼──> [`Runtime`] ────┼── IO runtime: object stores
//!   executor (staged)     ───┘      one a process └── one memory, spill, metadata cache; an environment a run
//! ```
//!
//! - [`Runtime`]: the process's runtimes and what its runs share; [`Runtime::run_stream`] runs a plan
//! - [`memory`]: the memory of the process, and the share of each run
//! - [`queries`]: which queries run here, their tokens and counters; the guard around every scan
//! - [`control`]: the messages between schedulers and executors, their services and clients
//! - [`affinity`], [`placement`]: which executor reads which file, and as which task
//! - [`options`]: the `tarn.*` settings that travel with a plan
//!
//! The rule: this crate knows neither tables nor engines; it is what both are run with.

pub mod affinity;
pub mod control;
pub mod error;
mod io_store;
pub mod memory;
mod metrics;
pub mod options;
pub mod placement;
pub mod queries;
mod runtime;
mod spill;
mod stream;

pub use error::{Error, Result};
pub use runtime::{Config, Runtime, STACK_BYTES};
