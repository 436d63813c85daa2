//! The memory of a process, and who may have how much of it.
//!
//! ```text
//!   process (60 % of what there is)
//!   ├── half: promised. A run is promised its part when it begins; within it, it is never refused
//!   └── half: lent. A run that needs more borrows; each takes at most three quarters of what is left
//! ```
//!
//! - [`Ledger`]: the sums of the process
//! - [`Share`]: the part of one run, as the engine's `MemoryPool`
//!
//! The rule: a run is refused memory for what it has itself, never for what another has. Inside a run operators
//! that can spill share evenly what those that cannot have left.

mod ledger;
mod process;
mod share;

pub use ledger::Ledger;
pub(crate) use process::pool_bytes_default;
pub use share::Share;
