//! The bytes of a write: its node for the codec, and its result for the scheduler.
//!
//! The codec adds magic and version around the node; a written file carries a
//! version of its own, since it crosses the cluster as a plain binary value.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion_proto::protobuf;
use prost::Message;

use super::{ColumnMetrics, MetricsModes, PartitionField, PartitionSpec, WriteExec, WriteSpec, WrittenFile};

/// Raised when the meaning of a field of [`File`] changes.
const FILE_VERSION: u32 = 1;

/// Appends the bytes of `node` to `buf` if it is a [`WriteExec`]; `None` for any other node.
pub fn try_encode(node: &Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>) -> Option<Result<()>> {
    let write = node.downcast_ref::<WriteExec>()?;
    Some(
        encode_spec(write.spec()).and_then(|spec| {
            spec.encode(buf).map_err(|e| exec_datafusion_err!("cannot encode a write: {e}"))
        }),
    )
}

/// The [`WriteExec`] whose bytes [`try_encode`] made, over its one input.
pub fn try_decode(payload: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    let [input] = inputs else {
        return internal_err!("a write has one input, not {}", inputs.len());
    };
    let spec = Spec::decode(payload).map_err(|e| exec_datafusion_err!("cannot decode a write: {e}"))?;
    Ok(Arc::new(WriteExec::new(Arc::clone(input), Arc::new(decode_spec(spec)?))?))
}

impl WrittenFile {
    /// This description as bytes, one value of the column `file`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let partition = self.partition.iter().map(encode_value).collect::<Result<_>>()?;
        let file = File {
            version: FILE_VERSION,
            uri: self.uri.clone(),
            size_bytes: self.size_bytes,
            record_count: self.record_count,
            spec_id: self.spec_id,
            partition,
            columns: self.columns.iter().map(Column::from).collect(),
            split_offsets: self.split_offsets.clone(),
        };
        Ok(file.encode_to_vec())
    }

    /// The description in `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let file =
            File::decode(bytes).map_err(|e| exec_datafusion_err!("cannot decode a written file: {e}"))?;
        if file.version != FILE_VERSION {
            return exec_err!("cannot decode a written file of version {}", file.version);
        }
        Ok(Self {
            uri: file.uri,
            size_bytes: file.size_bytes,
            record_count: file.record_count,
            spec_id: file.spec_id,
            partition: file.partition.iter().map(decode_value).collect::<Result<_>>()?,
            columns: file.columns.into_iter().map(ColumnMetrics::from).collect(),
            split_offsets: file.split_offsets,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Spec {
    #[prost(string, tag = "1")]
    table: String,
    #[prost(string, tag = "2")]
    data_location: String,
    #[prost(message, optional, tag = "3")]
    schema: Option<protobuf::Schema>,
    #[prost(string, tag = "4")]
    iceberg_schema_json: String,
    #[prost(int32, tag = "5")]
    partition_spec_id: i32,
    #[prost(message, repeated, tag = "6")]
    partition_fields: Vec<SpecField>,
    #[prost(string, tag = "7")]
    file_prefix: String,
    #[prost(uint64, tag = "8")]
    target_file_size_bytes: u64,
    #[prost(string, tag = "9")]
    compression: String,
    #[prost(string, tag = "10")]
    metrics_json: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpecField {
    #[prost(int32, tag = "1")]
    source_id: i32,
    #[prost(int32, tag = "2")]
    field_id: i32,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    transform: String,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    uri: String,
    #[prost(uint64, tag = "3")]
    size_bytes: u64,
    #[prost(uint64, tag = "4")]
    record_count: u64,
    #[prost(int32, tag = "5")]
    spec_id: i32,
    #[prost(message, repeated, tag = "6")]
    partition: Vec<Value>,
    #[prost(message, repeated, tag = "7")]
    columns: Vec<Column>,
    #[prost(int64, repeated, tag = "8")]
    split_offsets: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(message, optional, tag = "1")]
    scalar: Option<protobuf::ScalarValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Column {
    #[prost(int32, tag = "1")]
    field_id: i32,
    #[prost(uint64, tag = "2")]
    size_bytes: u64,
    #[prost(uint64, tag = "3")]
    value_count: u64,
    #[prost(uint64, tag = "4")]
    null_count: u64,
    #[prost(uint64, optional, tag = "5")]
    nan_count: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "6")]
    lower: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "7")]
    upper: Option<Vec<u8>>,
}

impl From<&ColumnMetrics> for Column {
    fn from(metrics: &ColumnMetrics) -> Self {
        let ColumnMetrics { field_id, size_bytes, value_count, null_count, nan_count, lower, upper } =
            metrics.clone();
        Self { field_id, size_bytes, value_count, null_count, nan_count, lower, upper }
    }
}

impl From<Column> for ColumnMetrics {
    fn from(column: Column) -> Self {
        let Column { field_id, size_bytes, value_count, null_count, nan_count, lower, upper } = column;
        Self { field_id, size_bytes, value_count, null_count, nan_count, lower, upper }
    }
}

fn encode_spec(spec: &WriteSpec) -> Result<Spec> {
    Ok(Spec {
        table: spec.table.clone(),
        data_location: spec.data_location.clone(),
        schema: Some(protobuf::Schema::try_from(spec.schema.as_ref()).map_err(to_error)?),
        iceberg_schema_json: spec.iceberg_schema_json.clone(),
        partition_spec_id: spec.partition.spec_id,
        partition_fields: spec.partition.fields.iter().map(encode_field).collect(),
        file_prefix: spec.file_prefix.clone(),
        target_file_size_bytes: spec.target_file_size_bytes,
        compression: spec.compression.clone(),
        metrics_json: serde_json::to_string(&spec.metrics).map_err(to_error)?,
    })
}

fn encode_field(field: &PartitionField) -> SpecField {
    SpecField {
        source_id: field.source_id,
        field_id: field.field_id,
        name: field.name.clone(),
        transform: field.transform.to_string(),
    }
}

fn decode_spec(spec: Spec) -> Result<WriteSpec> {
    let Some(schema) = &spec.schema else {
        return internal_err!("an encoded write lacks its schema");
    };
    let fields = spec.partition_fields.into_iter().map(|field| {
        let transform = field.transform.parse().map_err(DataFusionError::Execution)?;
        Ok(PartitionField {
            source_id: field.source_id,
            field_id: field.field_id,
            name: field.name,
            transform,
        })
    });
    Ok(WriteSpec {
        table: spec.table,
        data_location: spec.data_location,
        schema: Arc::new(Schema::try_from(schema).map_err(to_error)?),
        iceberg_schema_json: spec.iceberg_schema_json,
        partition: PartitionSpec { spec_id: spec.partition_spec_id, fields: fields.collect::<Result<_>>()? },
        file_prefix: spec.file_prefix,
        target_file_size_bytes: spec.target_file_size_bytes,
        compression: spec.compression,
        metrics: serde_json::from_str::<MetricsModes>(&spec.metrics_json).map_err(to_error)?,
    })
}

fn encode_value(value: &Option<ScalarValue>) -> Result<Value> {
    let scalar = value.as_ref().map(protobuf::ScalarValue::try_from).transpose().map_err(to_error)?;
    Ok(Value { scalar })
}

fn decode_value(value: &Value) -> Result<Option<ScalarValue>> {
    value.scalar.as_ref().map(ScalarValue::try_from).transpose().map_err(to_error)
}

fn to_error(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_survives_the_wire() {
        let file = WrittenFile {
            uri: "s3://bucket/t/data/x=1/q-0-a-0.parquet".into(),
            size_bytes: 10,
            record_count: 3,
            spec_id: 2,
            partition: vec![
                None,
                Some(ScalarValue::Int32(Some(7))),
                Some(ScalarValue::Decimal128(Some(-5), 20, 3)),
                Some(ScalarValue::FixedSizeBinary(16, Some(vec![1; 16]))),
                Some(ScalarValue::TimestampMicrosecond(Some(1), Some("UTC".into()))),
            ],
            columns: vec![ColumnMetrics {
                field_id: 1,
                size_bytes: 5,
                value_count: 3,
                null_count: 1,
                nan_count: Some(0),
                lower: Some(vec![0]),
                upper: None,
            }],
            split_offsets: vec![4],
        };
        assert_eq!(WrittenFile::decode(&file.encode().unwrap()).unwrap(), file);
    }

    #[test]
    fn another_version_is_refused() {
        let bytes = File { version: FILE_VERSION + 1, ..File::default() }.encode_to_vec();
        assert!(WrittenFile::decode(&bytes).unwrap_err().to_string().contains("version"));
    }
}
