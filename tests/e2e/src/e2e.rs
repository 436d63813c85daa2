//! End-to-end tests: what a client sees, through Flight SQL.
//!
//! - `tpch`: 22 queries in every mode, equal to DuckDB's answers
//! - `tpcds`: 25 queries on two executors, equal to DuckDB's answers
//! - `slt`: the SQL files of tests/slt, in every mode
//! - `exactness`: each file and range is read once, in every mode
//! - `front_door`: statements, prepared statements, metadata, sessions, tickets
//! - `catalogs`: real catalog servers, by the suite of all backends and by SQL
//! - `cancel`: cancelled work stops everywhere
//! - `bad_input`: mistakes and faults, each with a clear error, the server alive and nothing lost
//! - `damage`: tables of other engines with a file missing, cut, longer, or with a wrong checksum
//! - `commits`: a catalog that does not say whether it committed
//! - `s3`: the same house on an S3 server; `vended`: with keys from the catalog that end
//! - `tables`: what other engines wrote, with their answers, in a cover of all settings
//! - `operations`: metrics, probes, signals of the real process
//!
//! Helpers: `clusters` shared by all tests, `rows` as text, `answers` and when they are equal.

#![allow(clippy::unwrap_used)]

mod admission;
mod answers;
mod bad_input;
mod cancel;
mod catalogs;
mod clouds;
mod clusters;
mod commits;
mod damage;
mod exactness;
mod front_door;
mod operations;
mod rows;
mod s3;
mod slt;
mod tables;
mod tpcds;
mod tpch;
mod vended;
