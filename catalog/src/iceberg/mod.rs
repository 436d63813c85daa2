//! The border of the `iceberg` crate, which we use as a library of the specification.
//!
//! Bytes of metadata files come in, our own types and Arrow schemas of our line
//! go out; the other way round for new versions. The rules: no type of that
//! crate is public here, and no Arrow type of its line is touched at all. Where
//! the crate is known to be wrong or to panic, the guard stands here, too.

mod metadata;
mod normalise;
mod past;
pub mod refs;
mod schema;
mod value;

mod avro;
mod entry;
mod leaves;
mod list_entry;
mod manifest;
mod manifest_header;
mod older;
mod transform;

mod builder;
#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod fuzz_tests;
mod manifest_writer;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;
mod updates;
mod view;

pub use metadata::{
    HistoryEntry, Metadata, PartitionField, PartitionSpec, Reference, ReferenceKind, Retention, Snapshot,
};
pub(crate) use past::Past;
pub use schema::TableSchema;
pub use view::{DIALECT, ViewDefinition, ViewMetadata};

pub(crate) use entry::Entry;
pub(crate) use leaves::Leaf;
pub(crate) use list_entry::ListEntry;
pub(crate) use manifest::{
    ColumnBounds, Content, DELETE_FILE_PATH_ID, DataFile, EntryRow, FileFormat, Manifest, ManifestFile,
    ManifestHead, PartitionSummary, decode_list, decode_manifest, each_entry, list_entries, read_manifest,
};

#[allow(unused_imports, reason = "what the write room takes from here grows with it")]
pub(crate) use builder::*;
#[allow(unused_imports, reason = "what the write room takes from here grows with it")]
pub(crate) use manifest_writer::*;
pub(crate) use updates::Changes;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a parser of the crate over bytes from outside; its panics, of which some are known, become text.
fn guarded<T>(parse: impl FnOnce() -> ::iceberg::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(parse)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("not readable".to_owned()),
    }
}
