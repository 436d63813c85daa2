//! Small answers that the scheduler makes itself: `SHOW`, `EXPLAIN`, the count of a change.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Rows that are ready, and small.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Their schema.
    pub schema: SchemaRef,
    /// The rows; possibly none.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// Rows of text columns; `None` is NULL.
    pub fn text<const N: usize>(columns: [&str; N], rows: Vec<[Option<String>; N]>) -> Self {
        let fields: Vec<_> = columns.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays: Vec<ArrayRef> = (0..N)
            .map(|column| {
                Arc::new(rows.iter().map(|row| row[column].as_deref()).collect::<StringArray>()) as ArrayRef
            })
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns fit their own schema");
        Self { schema, batches: vec![batch] }
    }

    /// The count of a change, as drivers that fetch it expect: one row, column `count`.
    pub fn count(rows: i64) -> Self {
        let schema = Self::count_schema();
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![rows]))])
            .expect("one column fits its own schema");
        Self { schema, batches: vec![batch] }
    }

    /// The schema of [`Rows::count`].
    pub fn count_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, false)]))
    }
}
