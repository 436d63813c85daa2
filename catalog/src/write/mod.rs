//! How tables change: snapshots produced and committed, tables made and dropped.
//!
//! ```text
//! begin_append ─> Append { spec } ─> WriteExec on executors ─> files ─> Append::commit
//!                                                                         │ producer: manifest, manifest list
//!                                                                         v
//!                                        newest metadata + snapshot ─> Backend::commit ─ conflict: reload, again
//!                                                                         └ unknown: look for our commit id
//! ```
//!
//! Only a commit makes anything visible, and a commit is one swap of a table's
//! metadata pointer. The one rule: files are deleted only if it is certain that
//! no snapshot refers to them.

mod append;
mod commit;
mod ddl;
mod orphans;
mod producer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use tarn_scan::write::Transform;

pub use append::{Append, Committed};
pub(crate) use commit::CommitQueues;

/// A table to be made.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Its columns, as Arrow has them and without field ids; metadata `comment` is kept.
    pub schema: Schema,
    /// How it is partitioned.
    pub partition: Vec<NewPartitionField>,
    /// Its properties; `format-version` is 1 or 2 (the default).
    pub properties: BTreeMap<String, String>,
    /// Its folder; by default one of its name in that of its schema.
    pub location: Option<String>,
}

/// One field of a new table's partition spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitionField {
    /// The column; dots lead into structs.
    pub column: String,
    /// What is done to its value.
    pub transform: Transform,
    /// The field's name; by default made of column and transform.
    pub name: Option<String>,
}

/// A view to be made.
#[derive(Clone, Debug)]
pub struct NewView {
    /// The columns that its query gives, with the names that they have in the view; metadata `comment` is kept.
    pub schema: Schema,
    /// Its query, as text.
    pub sql: String,
    /// The catalog of names without one; `None` is the view's own.
    pub default_catalog: Option<String>,
    /// The schema of names without one.
    pub default_schema: String,
    /// Its properties; its comment is property `comment`.
    pub properties: BTreeMap<String, String>,
}

/// What to do if the table or view exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// It is an error.
    Create,
    /// Keep it as it is.
    IfNotExists,
    /// Replace its columns and rows; its history stays readable.
    OrReplace,
}
