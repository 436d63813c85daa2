//! Where clients come, and where queries are planned and watched.
//!
//! ```text
//!   client ── Flight SQL ──> flight_sql ──> query ──> engine ──> executors
//!                               │             │          └─ cluster: who is alive, who reads what
//!                            session      sql, planner
//! ```
//!
//! Rooms, in the order to read them:
//!
//! - [`query`]: the life of one query; `run.rs` is the way, top to bottom
//! - [`sql`]: text to statement
//! - [`session`]: who is connected, with which settings
//! - [`planner`]: the engine's session for one query, what a plan will read
//! - [`admission`]: how many run, who is next, how much memory each is promised
//! - [`engine`]: the seam, the choice of mode, the three engines
//! - [`cluster`]: executors alive, draining, their load; the membership service
//! - [`flight_sql`]: the front door
//! - [`web`]: HTTP probes and metrics
//!
//! Arrows: `flight_sql, web -> session, query`; `query -> sql, session, planner, admission, engine`;
//! `engine -> cluster`. None back to `flight_sql` or `web`.

pub mod admission;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod error;
pub mod flight_sql;
mod metrics;
pub mod planner;
pub mod query;
mod server;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod sql;
pub mod web;

pub use config::Config;
pub use error::{Error, ErrorCode, Result};
pub use server::{Addresses, Running, Shared, start};
