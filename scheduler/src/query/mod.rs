//! The life of one query, from its text to its last batch.
//!
//! [`Queries`] is what the front door calls. `run.rs` is the way of a query, top to bottom;
//! `spool.rs` stands between the engine and the reader; `register.rs` knows every query that
//! lives, `entry.rs` what is known of one, `history.rs` those before. The rule: nothing here knows Flight SQL, and nothing collects a stream without a
//! byte bound beside it.

mod analyze;
pub mod answer;
mod attempt;
pub mod bind;
mod changes;
mod entry;
mod explain;
pub mod history;
mod id;
mod metadata_columns;
mod parameters;
mod plan;
pub mod register;
pub(crate) mod run;
mod show;
pub mod spool;
mod system;
mod views;

pub use id::QueryId;
pub use run::{Description, Engines, Limits, Parts, Queries, Submitted};
pub use system::System;
