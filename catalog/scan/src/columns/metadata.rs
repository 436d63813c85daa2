//! Metadata columns: what is known about a row beside its values.
//!
//! They are columns of a scan like others, known by their reserved field ids
//! (Iceberg specification, "Reserved Field IDs"), and are in the scan's
//! schema only if the query names them. The one rule: they are told apart by
//! id, never by name, since a table may have a column of its own that is
//! called `_pos`.

use arrow::datatypes::{DataType, Field, Fields};

use crate::task::{FIELD_ID_KEY, field_id};

/// A metadata column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataColumn {
    /// `_file`: location of the row's file, exactly as in the manifest.
    File,
    /// `_pos`: number of the row in its file, from 0 on.
    Position,
    /// `_spec_id`: partition spec that the file was written with.
    SpecId,
    /// `_partition`: the file's partition values, over the fields of all of the table's specs.
    Partition,
    /// `_row_id`: what the row keeps for life. NULL if the file is from before the table had row ids.
    RowId,
    /// `_last_updated_sequence_number`: which commit changed the row last. NULL like a row id.
    LastUpdatedSequenceNumber,
}

impl MetadataColumn {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::File,
        Self::Position,
        Self::SpecId,
        Self::Partition,
        Self::RowId,
        Self::LastUpdatedSequenceNumber,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "_file",
            Self::Position => "_pos",
            Self::SpecId => "_spec_id",
            Self::Partition => "_partition",
            Self::RowId => "_row_id",
            Self::LastUpdatedSequenceNumber => "_last_updated_sequence_number",
        }
    }

    /// The metadata column of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    /// Its reserved field id.
    pub fn id(self) -> i32 {
        match self {
            Self::File => 2_147_483_646,
            Self::Position => 2_147_483_645,
            Self::SpecId => 2_147_483_643,
            Self::Partition => 2_147_483_642,
            Self::RowId => 2_147_483_540,
            Self::LastUpdatedSequenceNumber => 2_147_483_539,
        }
    }

    /// Which metadata column a field of a scan is, if it is one.
    pub fn of_field(field: &Field) -> Option<Self> {
        let id = field_id(field)?;
        Self::ALL.into_iter().find(|column| column.id() == id)
    }

    /// As a field of a scan. `partition` are the fields of `_partition`, which a table without any does not have.
    pub fn field(self, partition: &Fields) -> Field {
        let data_type = match self {
            Self::File => DataType::Utf8View,
            Self::SpecId => DataType::Int32,
            Self::Partition => DataType::Struct(partition.clone()),
            Self::Position | Self::RowId | Self::LastUpdatedSequenceNumber => DataType::Int64,
        };
        let id = [(FIELD_ID_KEY.to_owned(), self.id().to_string())];
        Field::new(self.name(), data_type, true).with_metadata(id.into())
    }
}
