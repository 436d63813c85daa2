//! A table that is generated: its schema, its partitioning, its rows.
//!
//! Rows are made in parts, each alone, batch by batch; the parts of a table in their order hold
//! the same rows in the same order, however many there are. The rule: generating is a pure
//! function of scale and seed, and never holds more than a batch and what it is cut from.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tarn_catalog::NewPartitionField;

/// Rows of a batch.
pub const BATCH_ROWS: usize = 8_192;

/// The batches of a part.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// A table that is generated.
#[derive(Clone)]
pub struct Table {
    /// The schema it belongs to.
    pub schema_name: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
    /// How it is partitioned.
    pub partition: Vec<NewPartitionField>,
    /// Its rows; an estimate for tables whose rows follow from other tables.
    pub rows: u64,
    /// Into how many parts it can be cut.
    pub parts_max: usize,
    /// Makes part `.0` of `.1` parts.
    pub generate: Arc<dyn Fn(usize, usize) -> Batches + Send + Sync>,
}

impl Table {
    /// The batches of one part of so many.
    pub fn batches(&self, part: usize, parts: usize) -> Batches {
        assert!(part < parts && parts <= self.parts_max.max(1), "no part {part} of {parts} in {self}");
        (self.generate)(part, parts)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema_name, self.name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.to_string())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}
