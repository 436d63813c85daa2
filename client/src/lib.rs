//! The Flight SQL client library and the SQL shell.
//!
//! ```text
//!   tarn sql ──> shell ──> Connection ──> Wire (cookies, bearer) ──gRPC──> scheduler
//! ```
//!
//! - [`connection`]: one session on a server: query, update, prepare, metadata, cancel
//! - `wire`: the channel below it: URL, session cookie, bearer token
//! - [`error`]: what a server refused, with code, hint and query id
//! - [`shell`]: `tarn sql`: input, commands, formats, progress
//!
//! The rule: this crate knows Flight SQL and nothing of how the server answers it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod connection;
pub mod error;
pub mod shell;
mod wire;

pub use connection::{Answer, Connection, Prepared, QueryStream, Table};
pub use error::{Error, Refusal, Result};
