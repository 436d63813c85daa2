//! What the tests share: a cluster in a line, a real process, data, an S3 server, faults.
//!
//! ```text
//!   test ──> Cluster (scheduler + n executors in this process) ──> data folder, or S3Server
//!       └──> Process (the real binary) ───────────────────────────┘
//! ```
//!
//! - [`cluster`]: servers in this process; what their scans opened
//! - [`data`]: data folders, TPC-H among them; `tpcds`: TPC-DS from DuckDB's files
//! - [`fixtures`]: tables that other engines wrote
//! - [`process`]: the binary: start, ready, terminate, kill
//! - [`s3`]: an S3 server on loopback; [`trouble`]: what it does wrong on purpose; [`clouds`]: emulators of Google's and Azure's storage
//! - [`postgres`] and [`rest`]: servers of catalogs; [`rest_proxy`]: in front of the latter, vends keys, fails commits
//! - [`faults`]: a storage layer that fails, slows and cuts
//! - [`net`]: free ports, HTTP, metrics; [`wait`]: for a condition, with a deadline
//!
//! Nothing here asserts how Tarn answers; that is what the tests are for.

use std::future::Future;
use std::sync::LazyLock;

pub mod clouds;
pub mod cluster;
pub mod data;
pub mod faults;
pub mod fixtures;
pub mod net;
pub mod postgres;
pub mod process;
mod programs;
pub mod rest;
pub mod rest_proxy;
pub mod s3;
mod tpcds;
pub mod trouble;
pub mod wait;

pub use cluster::Cluster;
pub use data::Data;
pub use faults::{Fault, Faults};
pub use process::Process;
pub use rest_proxy::{CommitFault, RestProxy};
pub use s3::S3Server;

/// Runs a test. All tests share one runtime, so that they can share servers; a test that hangs fails.
pub fn run<F: Future>(test: F) -> F::Output {
    run_within(std::time::Duration::from_secs(300), test)
}

/// Runs a test that may take so long.
pub fn run_within<F: Future>(limit: std::time::Duration, test: F) -> F::Output {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(4)
            .thread_stack_size(8 << 20)
            .enable_all()
            .build()
            .expect("threads can be started")
    });
    RUNTIME
        .block_on(async { tokio::time::timeout(limit, test).await })
        .unwrap_or_else(|_| panic!("the test took more than {limit:?}"))
}
