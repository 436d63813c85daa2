//! The peers: each a process of its own on loopback, on the very files that Tarn reads.
//!
//! - [`duckdb`]: DuckDB in Python behind a small Flight SQL front
//! - [`ballista`]: Ballista as it comes: its scheduler, and an executor that is pushed to
//!
//! Both end with the value that holds them, and by themselves when this process is gone: their standard input
//! closes with it.

pub mod ballista;
pub mod duckdb;
