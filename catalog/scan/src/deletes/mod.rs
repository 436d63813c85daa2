//! Deletes: which rows of a data file are no longer there.
//!
//! ```text
//!   position delete files, deletion vectors ── positions ──> a bitmap ──> a row selection for the reader
//!   equality delete files ── equality ──> key -> highest sequence number ──> a filter on batches
//!                         └─ joined    ──> a column of keys, for a join above the scan
//! ```
//!
//! Deletes belong to a file task and are loaded when its file is opened, so
//! they hold in every mode and for every range of a file: positions count from
//! the beginning of the file. What was loaded is shared by all scans of a
//! process (`cache`). The one rule: a delete that cannot be read and applied
//! exactly is an error; a row is never shown because its delete was not
//! understood.

mod cache;
mod encoder;
mod equality;
mod filter;
mod joined;
mod members;
mod positions;
mod reader;
mod rows;
mod vector;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::FieldRef;

use crate::task::{FileFormat, FileTask};

pub(crate) use cache::{DeleteCache, Loader, ScanDeletes};
pub use rows::{position_deletes, vector_positions};

pub(crate) use filter::{EqualityFilter, KeyColumns, keys_of};
pub(crate) use joined::placeholder;
pub use joined::{JoinColumn, JoinedDeletes, joined_schema};

/// What is deleted of a data file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deletes {
    /// Files of places; what they say about other data files does not matter.
    pub positions: Vec<Arc<DeleteFile>>,
    /// The deletion vector, which takes the place of files of places.
    pub vector: Option<DeletionVector>,
    /// Values of deleted rows: those deleted after the data file was written.
    pub equality: Vec<Arc<EqualityDeletes>>,
    /// What is not taken away here, but by a join above, which is given the rows' keys.
    pub joined: Vec<JoinedDeletes>,
}

impl Deletes {
    /// The lists by whose columns rows are compared: here, then by a join.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Arc<EqualityDeletes>> {
        self.equality.iter().chain(self.joined.iter().map(|joined| &joined.list))
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        let by_value = self.equality.is_empty() && self.joined.is_empty();
        by_value && self.positions.is_empty() && self.vector.is_none()
    }
}

/// A file of deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeleteFile {
    /// Location exactly as in the manifest.
    pub uri: String,
    /// How it is written.
    pub format: FileFormat,
    /// Its length.
    pub size_bytes: u64,
    /// Its rows.
    pub record_count: u64,
    /// Data sequence number, which decides what data files it is about.
    pub data_sequence_number: i64,
}

impl DeleteFile {
    /// The reading of its rows, which are like those of a data file.
    fn task(&self) -> FileTask {
        FileTask {
            uri: self.uri.clone(),
            format: self.format,
            size_bytes: self.size_bytes,
            record_count: self.record_count,
            data_sequence_number: self.data_sequence_number,
            ..FileTask::default()
        }
    }
}

/// A deletion vector: a blob in a Puffin file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeletionVector {
    /// Location of the Puffin file exactly as in the manifest.
    pub uri: String,
    /// Where the blob begins.
    pub offset: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Rows that it deletes.
    pub cardinality: u64,
}

/// Files that delete rows by the values of the same columns: one group of data files' shared list.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualityDeletes {
    /// The columns, ascending by the field id of what is compared.
    pub keys: Vec<EqualityKey>,
    /// The files, in any order. A row is deleted by those with a higher sequence number than its own file's.
    pub files: Vec<Arc<DeleteFile>>,
}

/// A column that deletes compare.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualityKey {
    /// The column of the table, with field ids at every level. It may have been dropped since.
    pub field: FieldRef,
    /// Field ids that lead from the column into structs; empty for the column itself.
    pub path: Vec<i32>,
}
