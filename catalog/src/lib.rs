//! The lakehouse: which tables there are, what is in them, how they change.
//!
//! ```text
//!   name ── Lakehouse::pin ──> PinnedTable ── provider() ──> DataFusion's TableProvider
//!             │    backend: name to metadata file               │ filters
//!             │    metadata_cache                               v
//!             │                                  plan: manifests, files pruned ──> FilePlan ──> tarn_scan::scan_exec
//!             └─ write: append, create, drop: new metadata, one swap of the pointer in the backend
//! ```
//!
//! Rooms, in the order to read them:
//!
//! - `lakehouse`: the handle that the scheduler holds; names to pinned tables
//! - [`backend`]: catalogs behind one trait: `sql` over SQLite and PostgreSQL, `rest`, `filesystem`
//! - [`iceberg`]: the border of the `iceberg` crate; no type of it, and no Arrow type of its line, crosses
//! - [`metadata_cache`]: pointers for a moment, immutable files bounded by bytes
//! - [`plan`]: snapshot and filters to file tasks
//! - [`provider`]: a pinned table as DataFusion sees it
//! - `view`: views, by their definitions
//! - [`write`]: snapshots produced and committed, tables made and dropped
//!
//! The one rule: whatever is in a table that this crate cannot read exactly is
//! refused with the table and the feature named, never read in part.

mod config;
mod error;
mod lakehouse;
mod metrics;
mod name;
mod view;

pub mod backend;
pub mod iceberg;
pub mod metadata_cache;
pub mod plan;
pub mod provider;
pub mod write;

pub use backend::RestConfig;
pub use config::{CatalogConfig, CatalogKind, Config};
pub use error::{Error, ErrorKind, Result};
pub use iceberg::ViewDefinition;
pub use lakehouse::{Lakehouse, Relation};
pub use name::{TableName, TimeTravel};
pub use plan::FilePlan;
pub use provider::metadata_tables::MetadataTable;
pub use provider::{PartitionColumn, PinnedTable, ScanOptions, scan_statistics};
pub use view::View;
pub use write::*;
