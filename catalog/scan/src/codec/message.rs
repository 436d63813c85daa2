//! What goes over the wire beside DataFusion's own encoding of a scan.

use datafusion::common::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;
use datafusion_proto::protobuf;
use prost::Message;
use uuid::Uuid;

use crate::error::Error;
use crate::task::{FileFormat, FileTask};

/// A leaf: the stock encoding of the Parquet scan within, and what that encoding leaves out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scan {
    /// `PhysicalPlanNode` of the Parquet scan.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) parquet: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) table: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) table_uuid: Vec<u8>,
    #[prost(int64, optional, tag = "4")]
    pub(super) snapshot_id: Option<i64>,
    #[prost(string, optional, tag = "5")]
    pub(super) name_mapping: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(super) query_id: Option<String>,
    /// File tasks in the order of the scan's file groups.
    #[prost(message, repeated, tag = "7")]
    pub(super) groups: Vec<Group>,
    /// A sort that the scan was asked to approximate.
    #[prost(message, repeated, tag = "8")]
    pub(super) sort_hint: Vec<protobuf::PhysicalSortExprNode>,
    /// Whether files must keep their order.
    #[prost(bool, tag = "9")]
    pub(super) preserve_order: bool,
    #[prost(uint32, tag = "10")]
    pub(super) format_version: u32,
    /// Delete files and lists of equality deletes, each once; file tasks refer to them by index.
    #[prost(message, repeated, tag = "11")]
    pub(super) delete_files: Vec<super::deletes::DeleteFile>,
    #[prost(message, repeated, tag = "12")]
    pub(super) equality_lists: Vec<super::deletes::EqualityList>,
}

/// The file tasks of one partition.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Group {
    #[prost(message, repeated, tag = "1")]
    pub(super) files: Vec<File>,
}

/// A file task. Its range is the stock encoding's.
#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(string, tag = "1")]
    uri: String,
    #[prost(uint64, tag = "2")]
    size_bytes: u64,
    #[prost(uint64, tag = "3")]
    record_count: u64,
    #[prost(int32, tag = "4")]
    spec_id: i32,
    #[prost(int64, tag = "5")]
    data_sequence_number: i64,
    #[prost(message, repeated, tag = "6")]
    constants: Vec<Constant>,
    #[prost(message, optional, tag = "7")]
    range: Option<Range>,
    #[prost(int64, optional, tag = "8")]
    first_row_id: Option<i64>,
    #[prost(message, optional, tag = "9")]
    deletes: Option<super::deletes::References>,
    #[prost(uint32, tag = "10")]
    format: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(int32, tag = "1")]
    field_id: i32,
    #[prost(message, optional, tag = "2")]
    value: Option<protobuf::ScalarValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(uint64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    end: u64,
}

impl Scan {
    pub(super) fn format_version(&self) -> Result<u8> {
        u8::try_from(self.format_version)
            .map_err(|_| Error::Codec(format!("format version {}", self.format_version)).into())
    }

    pub(super) fn uuid(&self) -> Result<Uuid> {
        Uuid::from_slice(&self.table_uuid)
            .map_err(|error| Error::Codec(format!("table uuid: {error}")).into())
    }
}

impl File {
    pub(super) fn new(task: &FileTask, deletes: &mut super::deletes::Writer) -> Result<Self> {
        let constant = |(field_id, value): &(i32, ScalarValue)| {
            let value: protobuf::ScalarValue = value.try_into().map_err(external)?;
            Ok(Constant { field_id: *field_id, value: Some(value) })
        };
        Ok(Self {
            uri: task.uri.clone(),
            size_bytes: task.size_bytes,
            record_count: task.record_count,
            spec_id: task.spec_id,
            data_sequence_number: task.data_sequence_number,
            constants: task.constants.iter().map(constant).collect::<Result<_>>()?,
            range: task.range.as_ref().map(|range| Range { start: range.start, end: range.end }),
            first_row_id: task.first_row_id,
            deletes: deletes.references(&task.deletes)?,
            format: format_number(task.format),
        })
    }

    pub(super) fn into_task(self, deletes: &super::deletes::Reader) -> Result<FileTask> {
        let constant = |constant: Constant| {
            let missing = || Error::Codec(format!("constant of field {} has no value", constant.field_id));
            let value = constant.value.as_ref().ok_or_else(missing)?;
            Ok((constant.field_id, ScalarValue::try_from(value).map_err(external)?))
        };
        Ok(FileTask {
            uri: self.uri,
            size_bytes: self.size_bytes,
            record_count: self.record_count,
            range: self.range.map(|range| range.start..range.end),
            spec_id: self.spec_id,
            constants: self.constants.into_iter().map(constant).collect::<Result<_>>()?,
            data_sequence_number: self.data_sequence_number,
            first_row_id: self.first_row_id,
            deletes: deletes.resolve(self.deletes)?,
            format: format(self.format)?,
        })
    }
}

pub(super) fn format_number(format: FileFormat) -> u32 {
    match format {
        FileFormat::Parquet => 0,
        FileFormat::Avro => 1,
    }
}

pub(super) fn format(number: u32) -> Result<FileFormat> {
    match number {
        0 => Ok(FileFormat::Parquet),
        1 => Ok(FileFormat::Avro),
        other => Err(Error::Codec(format!("file format {other}")).into()),
    }
}

pub(super) fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
