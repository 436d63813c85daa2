//! Keys of equality deletes as one column, for the join that takes the index's place where that would be too large.
//!
//! The rule: two rows have the same key exactly where the index says that they have.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use arrow::datatypes::DataType;
use arrow::row::RowConverter;
use datafusion::common::Result;

use super::EqualityKey;
use super::equality::{leaf_type, normalised, row_converter};

/// Makes one column of the columns that deletes compare: equal where all of these are.
#[derive(Debug)]
pub(super) struct KeyEncoder {
    types: Vec<DataType>,
    converter: RowConverter,
}

impl KeyEncoder {
    pub(super) fn new(keys: &[EqualityKey]) -> Result<Self> {
        let types = keys.iter().map(leaf_type).collect::<Result<Vec<_>>>()?;
        let converter = row_converter(&types)?;
        Ok(Self { types, converter })
    }

    /// The keys of rows, behind a number that only rows of the same group have.
    pub(super) fn encode(&self, group: u32, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let rows = self.converter.convert_columns(&normalised(columns, &self.types)?)?;
        let mut keys = BinaryBuilder::with_capacity(rows.num_rows(), rows.size());
        let mut key = Vec::new();
        for row in &rows {
            key.clear();
            key.extend_from_slice(&group.to_be_bytes());
            key.extend_from_slice(row.data());
            keys.append_value(&key);
        }
        Ok(Arc::new(keys.finish()))
    }
}
