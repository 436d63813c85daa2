//! Writing data files: rows in, Parquet files in the table's storage out.
//!
//! ```text
//! rows ── conform ──> table types ── partition ──> one open file a tuple ── data_file ──> Parquet
//!                                        └ too many tuples: the rest is sorted, one file at a time
//! footer ── column_metrics ──> WrittenFile ──> the scheduler, which alone commits
//! ```
//!
//! [`WriteExec`] runs on executors and commits nothing: what it yields are
//! descriptions of finished files. What it wrote and did not hand over it
//! deletes. The one rule: a file is described only after its last byte was
//! accepted by the store.

mod column_metrics;
mod conform;
mod data_file;
mod exec;
mod hash;
mod partition;
mod path;
mod proto;
mod task;
#[cfg(test)]
mod tests;
mod transform;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

pub use exec::{WriteExec, output_schema};
pub use path::partition_path;
pub use proto::{try_decode, try_encode};
pub use transform::Transform;

/// What a write needs to know about its table: made by the catalog, carried by [`WriteExec`].
#[derive(Clone, Debug, PartialEq)]
pub struct WriteSpec {
    /// `catalog.schema.table`, for messages.
    pub table: String,
    /// URI of the folder that data files go below, without a slash at the end.
    pub data_location: String,
    /// The table's schema, field ids in the metadata at every level.
    pub schema: SchemaRef,
    /// The Iceberg schema as JSON, kept in each file's footer; names the types that Arrow does not have.
    pub iceberg_schema_json: String,
    /// How rows are split into files.
    pub partition: PartitionSpec,
    /// The query id: every file name begins with it, so that leftovers are found.
    pub file_prefix: String,
    /// A file is closed when it has grown to this size.
    pub target_file_size_bytes: u64,
    /// Parquet codec by its Iceberg name: `zstd`, `snappy`, `gzip`, `lz4`, `uncompressed`.
    pub compression: String,
    /// Which columns get which metrics.
    pub metrics: MetricsModes,
}

/// A partition spec, bound to field ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionSpec {
    /// Id of the spec in the table metadata.
    pub spec_id: i32,
    /// Its fields, in order; none for an unpartitioned table.
    pub fields: Vec<PartitionField>,
}

/// One field of a partition spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionField {
    /// Field id of the column it is derived from.
    pub source_id: i32,
    /// Its own field id.
    pub field_id: i32,
    /// Its name, as in the partition path.
    pub name: String,
    /// What is done to the column's value.
    pub transform: Transform,
}

/// How much is kept about a column's values (`write.metadata.metrics.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricsMode {
    /// Nothing.
    None,
    /// Counts of values, NULLs and NaNs.
    Counts,
    /// Counts, and bounds cut to so many characters or bytes.
    Truncate(u32),
    /// Counts, and whole bounds.
    Full,
}

impl Default for MetricsMode {
    fn default() -> Self {
        Self::Truncate(16)
    }
}

impl std::str::FromStr for MetricsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "none" => Ok(Self::None),
            "counts" => Ok(Self::Counts),
            "full" => Ok(Self::Full),
            _ => text
                .strip_prefix("truncate(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|length| length.trim().parse::<u32>().ok())
                .filter(|length| *length > 0)
                .map(Self::Truncate)
                .ok_or_else(|| format!("{text:?} is not a metrics mode")),
        }
    }
}

/// The metrics modes of a table's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsModes {
    /// For columns not named below.
    pub default: MetricsMode,
    /// By field id of the leaf column.
    pub columns: BTreeMap<i32, MetricsMode>,
}

impl MetricsModes {
    /// The mode of the leaf column with this field id.
    pub fn of(&self, field_id: i32) -> MetricsMode {
        self.columns.get(&field_id).copied().unwrap_or(self.default)
    }
}

/// One finished data file, as the scheduler needs it to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenFile {
    /// Its full URI, as it goes into the manifest.
    pub uri: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its rows.
    pub record_count: u64,
    /// The partition spec it was written with.
    pub spec_id: i32,
    /// The partition tuple: one value a field of the spec, `None` for NULL.
    pub partition: Vec<Option<ScalarValue>>,
    /// Metrics of its leaf columns.
    pub columns: Vec<ColumnMetrics>,
    /// Where its row groups begin.
    pub split_offsets: Vec<i64>,
}

/// What is known about one leaf column of one data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnMetrics {
    /// Its field id.
    pub field_id: i32,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Values, NULLs and NaNs included.
    pub value_count: u64,
    /// NULLs.
    pub null_count: u64,
    /// NaNs; only for floating point columns.
    pub nan_count: Option<u64>,
    /// At most every value, in Iceberg's single-value encoding.
    pub lower: Option<Vec<u8>>,
    /// At least every value, in the same encoding.
    pub upper: Option<Vec<u8>>,
}
