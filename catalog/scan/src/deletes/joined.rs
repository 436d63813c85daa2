//! Equality deletes as columns of a join, for a plan that takes deleted rows away above the scan.
//!
//! ```text
//!   data files    columns..., sequence, key 0, key 1      delete files of layer 0    sequence, key 0
//!                      └── LEFT ANTI JOIN on key 0, sequence of the delete above that of the row ──┘
//! ```
//!
//! A key is one column of bytes, made where the file is opened and from the
//! same columns, normalised the same way, as those of an index of deletes: so
//! NULL equals NULL, types that grew and columns that were dropped are no
//! matter of the join. It begins with the number of a group, the deletes of one
//! scope, and in one layer a data file has at most one group. The one rule: a
//! row in no group has a key that no delete has, and never NULL, which would
//! bring all such rows to one place.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;

use super::encoder::KeyEncoder;
use super::equality::delete_schema;
use super::filter::KEY_COLUMN;
use super::{EqualityDeletes, EqualityKey};

/// Marks a field of a scan as such a column, in the field's metadata.
const MARK: &str = "tarn.join";
/// The group of rows that no delete is about.
const NO_GROUP: u32 = u32::MAX;

/// A column for a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinColumn {
    /// The data sequence number of the row's file.
    Sequence,
    /// The row's key in this layer.
    Key(u32),
}

impl JoinColumn {
    /// As a field of a scan, behind the table's own.
    pub fn field(self) -> Field {
        let (data_type, mark) = match self {
            Self::Sequence => (DataType::Int64, "sequence".to_owned()),
            Self::Key(layer) => (DataType::Binary, layer.to_string()),
        };
        let name = format!("{KEY_COLUMN}join {mark}");
        Field::new(name, data_type, true).with_metadata([(MARK.to_owned(), mark)].into())
    }

    /// Which of them a field of a scan is, if it is one.
    pub fn of_field(field: &Field) -> Option<Self> {
        match field.metadata().get(MARK)?.as_str() {
            "sequence" => Some(Self::Sequence),
            layer => layer.parse().ok().map(Self::Key),
        }
    }
}

/// What a join takes away from a data file, or what a delete file takes away by one.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedDeletes {
    /// In which join.
    pub layer: u32,
    /// The deletes of one scope: only keys of the same group are compared.
    pub group: u32,
    /// The columns that are compared. Files of it are another scan's.
    pub list: Arc<EqualityDeletes>,
}

/// The schema to scan the delete files of a layer with: what they compare, then sequence and key.
pub fn joined_schema(keys: &[EqualityKey], layer: u32) -> Option<SchemaRef> {
    let (schema, _) = delete_schema(keys)?;
    let own = schema.fields().iter().cloned();
    let columns = [JoinColumn::Sequence, JoinColumn::Key(layer)];
    let fields: Vec<_> = own.chain(columns.map(|column| Arc::new(column.field()))).collect();
    Some(Arc::new(Schema::new(fields)))
}

/// Makes the keys of one file.
#[derive(Debug)]
pub(super) struct Keys {
    group: u32,
    encoder: KeyEncoder,
}

impl Keys {
    pub(super) fn new(deletes: &JoinedDeletes) -> Result<Self> {
        Ok(Self { group: deletes.group, encoder: KeyEncoder::new(&deletes.list.keys)? })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        self.encoder.encode(self.group, columns)
    }
}

/// The keys of rows in no group: all different, so that they spread.
pub(super) fn no_keys(rows: usize) -> ArrayRef {
    let mut keys = BinaryBuilder::with_capacity(rows, rows * 12);
    for row in 0..rows as u64 {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&NO_GROUP.to_be_bytes());
        key[4..].copy_from_slice(&row.to_be_bytes());
        keys.append_value(key);
    }
    Arc::new(keys.finish())
}

/// What the reader puts where a key is to be.
pub(crate) fn placeholder() -> ScalarValue {
    ScalarValue::Binary(None)
}
