//! How many queries run, and who is next.
//!
//! ```text
//!   query ── demand: memory, seconds, user, pool ──> queue ── permit ──> engine
//!                                                      │ express lane: what is over in a second never waits for long
//!                                                      └ the others: fair between pools, then between users
//! ```
//!
//! - [`Admission`]: the door; [`Permit`]: the right to run, given back when dropped
//! - [`queue`]: who is next, without clocks or threads, so that a simulation can drive it
//! - [`pools`]: whose queries go where, and what each pool may have
//! - [`learned`]: what earlier runs of the same plan used
//!
//! The rule: every wait has an end and a place in the line; a full queue refuses at once with a code that says
//! "later"; memory that is promised here is there when the query asks for it.

mod config;
mod door;
pub mod learned;
pub mod pools;
pub mod queue;

pub use config::Config;
pub use door::{Admission, Permit, PoolInfo};
pub use pools::{PoolConfig, Who};
