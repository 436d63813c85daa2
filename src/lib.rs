//! Tarn, put together: configuration, servers, demo data.
//!
//! - [`config`]: one typed configuration out of four sources
//! - [`serve`]: the servers of one process, and how they share it
//! - [`demo`]: a small lakehouse made from a seed
//! - [`logs`]: where log lines go
//!
//! The binary is a thin front over this library; tests and benchmarks use it too.

#[cfg(test)]
mod arrows;
pub mod config;
pub mod demo;
pub mod logs;
pub mod serve;
