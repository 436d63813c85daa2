//! What a scan reads: the table as pinned, and its files.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::Statistics;
use datafusion::scalar::ScalarValue;
use uuid::Uuid;

use crate::deletes::Deletes;

/// Key of the Iceberg field id in the metadata of an Arrow field.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The Iceberg field id of an Arrow field.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}

/// How a data file, or a file of deletes, is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Parquet.
    #[default]
    Parquet,
    /// Avro's object container file.
    Avro,
}

/// One data file, or a range of it, to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileTask {
    /// Location exactly as in the manifest.
    pub uri: String,
    /// How it is written.
    pub format: FileFormat,
    /// Length of the whole file.
    pub size_bytes: u64,
    /// Rows of the whole file.
    pub record_count: u64,
    /// Byte range; a row group belongs to the range that its start lies in, and all of an Avro file to the one that its
    /// first byte lies in. `None` is the whole file.
    pub range: Option<Range<u64>>,
    /// Partition spec that the file was written with.
    pub spec_id: i32,
    /// Source field id and value of each identity partition field, used if the file lacks the column; and by its own
    /// reserved id the value of `_partition`, if the scan asks for that.
    pub constants: Vec<(i32, ScalarValue)>,
    /// Data sequence number, which decides what deletes apply.
    pub data_sequence_number: i64,
    /// Row id of the file's first row; `None` for a file without row ids.
    pub first_row_id: Option<i64>,
    /// What is deleted of it.
    pub deletes: Deletes,
}

/// A file task with what planning knows about its columns.
#[derive(Clone, Debug)]
pub struct PlannedFile {
    /// The file. Shared: plans are kept, grouped and split without a copy of it.
    pub task: Arc<FileTask>,
    /// Statistics of the whole file over the table schema. Bounds that may be truncated must not be exact.
    pub statistics: Option<Arc<Statistics>>,
}

/// One table, pinned to one snapshot and one schema.
#[derive(Clone, Debug, PartialEq)]
pub struct TableScan {
    /// `catalog.schema.table`, for messages.
    pub table: String,
    /// Identity of the table: a table dropped and made again under its name has another.
    pub table_uuid: Uuid,
    /// The snapshot; `None` for a table without one.
    pub snapshot_id: Option<i64>,
    /// The schema to be read, with field ids in the metadata at every level.
    pub schema: SchemaRef,
    /// Version of the table's format: 1, 2 or 3.
    pub format_version: u8,
    /// The table's `schema.name-mapping.default`, for files that carry no field ids.
    pub name_mapping: Option<String>,
}
