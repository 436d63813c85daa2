//! The worker process: runs tasks of both engines, holds no catalog and commits nothing.
//!
//! ```text
//!   schedulers <── register, heartbeat ── membership
//!       │
//!       └── plans ──> server: one port ── control ──> pipelined: root of a query, or a task of another root's
//!                                    └── exchange of rows of both engines
//!                     staged: a second port, tasks of the staged engine
//!                     http: probes and metrics
//! ```
//!
//! Rooms, in the order to read them:
//!
//! - [`start`]: from listeners to a member of the cluster, and the orderly end
//! - `membership`: how an executor finds its schedulers and stays known to them
//! - `pipelined`: runs whole queries with all stages at once
//! - [`staged`]: runs tasks whose results are kept on disk
//! - `server`: the one port; `http`: probes, metrics, what ran here
//!
//! The rule: executors outlive their schedulers, and whatever arrives on a port, the process stays.

mod config;
mod error;
mod http;
mod membership;
mod pipelined;
mod server;
mod spill_folder;
pub mod staged;
mod start;
mod storage;

pub use config::Config;
pub use error::{Error, Result};
pub use start::{Addresses, Running, start};
