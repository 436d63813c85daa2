//! Reading and writing the data files of Iceberg tables.
//!
//! ```text
//!   file tasks ── scan_exec ──> DataSourceExec(FileScanConfig(IcebergSource(ParquetSource)))
//!                                   │  codec: over the wire and back, file tasks beside the stock encoding
//!                                   v
//!   source    a file at a time: footer (cached) ── columns by field id ── DataFusion's Parquet morsels
//!                                   │
//!   storage   one object store for every bucket and disk; layers (cache, IO runtime, faults) wrap what is behind it
//! ```
//!
//! This crate knows neither catalogs nor engines: an executor links it and
//! nothing of the catalog. Both engines know how to slice the plan node it
//! makes, because it is DataFusion's own; what is ours sits one level below.
//! The one rule: a file that cannot be read exactly as the table says is an
//! error that names the table and the file, never fewer rows and never NULLs.

pub mod error;
pub mod observer;
pub mod storage;
mod task;

mod exec;
mod source;

mod columns;

mod deletes;

mod codec;
pub mod write;

mod metrics;

#[cfg(test)]
mod testing;

pub use codec::{Codec, guarded};
pub use columns::{MetadataColumn, default};
pub use deletes::{
    DeleteFile, Deletes, DeletionVector, EqualityDeletes, EqualityKey, JoinColumn, JoinedDeletes,
    joined_schema, position_deletes, vector_positions,
};
pub use error::{Error, ErrorKind, Result};
pub use exec::{ScanView, scan_exec, scan_of, with_groups, with_query_id};
pub use observer::ScanObserver;
pub use source::IcebergSource;
pub use task::{FIELD_ID_KEY, FileFormat, FileTask, PlannedFile, TableScan, field_id};
