//! From text to statement: our dialect, our own statements, positions for errors.
//!
//! [`parse`] turns one SQL text into a [`Statement`]. What the engine's parser does not know
//! (time travel, `PARTITIONED BY (month(x))`, `SHOW`, `USE`, `KILL QUERY`) is taken out of the
//! token stream first; positions stay those of the text. The rule: this room resolves no name
//! and touches no catalog.

mod clauses;
mod create;
mod dialect;
mod like;
mod name;
mod placeholders;
mod show;
mod statement;
mod time_travel;
mod tokens;
mod view;

pub use create::{CreateTable, PartitionField};
pub use name::ObjectName;
pub(crate) use name::fold;
pub use show::Show;
pub use statement::{DropTable, Statement, parse};
pub use time_travel::{Selector, split_selector};
pub use view::{CreateView, DropView};
