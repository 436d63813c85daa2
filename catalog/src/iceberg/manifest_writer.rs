//! Manifests and manifest lists, written into memory and read back.
//!
//! The `iceberg` crate encodes; where the bytes go is the caller's. Existing
//! manifests are carried into a new list entry by entry, unopened.

use std::sync::Arc;

use ::iceberg::io::{FileIO, FileWrite};
use ::iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, Manifest,
    ManifestFile, ManifestListWriter, ManifestWriterBuilder, PrimitiveType, Schema, Struct, Type,
};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;
use tarn_scan::write::{ColumnMetrics, WrittenFile};
use uuid::Uuid;

use super::manifest::spec_list;
use super::{Metadata, guarded};
use crate::error::{Error, Result};
use crate::name::TableName;

/// Where the crate writes to in its own memory.
const SCRATCH: &str = "memory:///manifest.avro";

/// A new manifest: its bytes, and its entry for the manifest list.
#[derive(Clone, Debug)]
pub(crate) struct NewManifest {
    pub(crate) uri: String,
    pub(crate) bytes: Bytes,
    entry: ManifestFile,
}

/// A manifest at `uri` that adds `files`, all written with partition spec `spec_id`.
pub(crate) async fn manifest(
    metadata: &Metadata,
    spec_id: i32,
    snapshot_id: i64,
    uri: String,
    files: &[WrittenFile],
) -> Result<NewManifest> {
    let table = metadata.spec();
    let schema = table.current_schema();
    let spec = table
        .partition_spec_by_id(spec_id)
        .ok_or_else(|| Error::Internal(format!("there is no partition spec {spec_id}")))?;
    let partition_type = spec.partition_type(schema).map_err(failed)?;
    let io = FileIO::new_with_memory();
    let output = io.new_output(SCRATCH).map_err(failed)?;
    let builder =
        ManifestWriterBuilder::new(output, Some(snapshot_id), Arc::clone(schema), spec.as_ref().clone());
    let mut writer = match table.format_version() {
        FormatVersion::V1 => builder.build_v1(),
        _ => builder.build_v2_data(),
    };
    for file in files {
        let types = partition_type.fields().iter().map(|field| field.field_type.as_ref());
        let partition = partition(&file.partition, types.collect())?;
        // The sequence number is inherited from the manifest list.
        writer.add_file(data_file(file, partition, schema)?, -1).map_err(failed)?;
    }
    let mut entry = writer.write_manifest_file().await.map_err(failed)?;
    let bytes = io.new_input(SCRATCH).map_err(failed)?.read().await.map_err(failed)?;
    entry.manifest_path.clone_from(&uri);
    Ok(NewManifest { uri, bytes, entry })
}

/// The manifest list of a snapshot that adds `new` to the table's current snapshot.
///
/// `existing` is the manifest list of the latter, and its URI.
pub(crate) async fn manifest_list(
    metadata: &Metadata,
    name: &TableName,
    snapshot_id: i64,
    existing: Option<(&Bytes, &str)>,
    new: &[NewManifest],
) -> Result<Bytes> {
    let table = metadata.spec();
    let parent = table.current_snapshot_id();
    let existing = match existing {
        Some((bytes, file)) => spec_list(bytes, metadata, name, file)?,
        None => Vec::new(),
    };
    let buffer = Buffer::default();
    let target = Box::new(buffer.clone());
    let mut writer = match table.format_version() {
        FormatVersion::V1 => ManifestListWriter::v1(target, snapshot_id, parent),
        _ => ManifestListWriter::v2(target, snapshot_id, parent, table.next_sequence_number()),
    };
    let new = new.iter().map(|manifest| manifest.entry.clone());
    writer.add_manifests(new.chain(existing)).map_err(failed)?;
    writer.close().await.map_err(failed)?;
    Ok(Bytes::from(std::mem::take(&mut *buffer.0.lock())))
}

/// URIs of the manifests in the manifest list `file`, with the id of the snapshot that added each.
pub(crate) fn manifests_in(
    metadata: &Metadata,
    name: &TableName,
    list: &Bytes,
    file: &str,
) -> Result<Vec<(String, i64)>> {
    let entries = spec_list(list, metadata, name, file)?.into_iter();
    Ok(entries.map(|entry| (entry.manifest_path, entry.added_snapshot_id)).collect())
}

/// URIs of the files in a manifest, those it says to be deleted included.
pub(crate) fn files_in(manifest: &Bytes) -> Result<Vec<String>> {
    let manifest =
        guarded(|| Manifest::parse_avro(manifest)).map_err(|e| Error::Internal(format!("manifest: {e}")))?;
    Ok(manifest.entries().iter().map(|entry| entry.file_path().to_owned()).collect())
}

fn data_file(file: &WrittenFile, partition: Struct, schema: &Schema) -> Result<DataFile> {
    let counts = |count: fn(&ColumnMetrics) -> Option<u64>| {
        file.columns.iter().filter_map(|column| Some((column.field_id, count(column)?))).collect()
    };
    let bounds = |bound: fn(&ColumnMetrics) -> Option<&Vec<u8>>| {
        let columns = file.columns.iter().filter_map(|column| {
            let field = schema.field_by_id(column.field_id)?;
            let data_type = field.field_type.as_primitive_type()?.clone();
            Some((column.field_id, Datum::try_from_bytes(bound(column)?, data_type)))
        });
        columns.map(|(id, datum)| Ok((id, datum.map_err(failed)?))).collect::<Result<_>>()
    };
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_format(DataFileFormat::Parquet)
        .file_path(file.uri.clone())
        .partition(partition)
        .partition_spec_id(file.spec_id)
        .record_count(file.record_count)
        .file_size_in_bytes(file.size_bytes)
        .column_sizes(counts(|column| Some(column.size_bytes)))
        .value_counts(counts(|column| Some(column.value_count)))
        .null_value_counts(counts(|column| Some(column.null_count)))
        .nan_value_counts(counts(|column| column.nan_count))
        .lower_bounds(bounds(|column| column.lower.as_ref())?)
        .upper_bounds(bounds(|column| column.upper.as_ref())?)
        .split_offsets(Some(file.split_offsets.clone()))
        .sort_order_id(0)
        .build()
        .map_err(|e| Error::Internal(format!("data file {:?}: {e}", file.uri)))
}

fn partition(values: &[Option<ScalarValue>], types: Vec<&Type>) -> Result<Struct> {
    if values.len() != types.len() {
        return Err(Error::Internal(format!("{} partition values for {} fields", values.len(), types.len())));
    }
    let literals = values
        .iter()
        .zip(types)
        .map(|(value, data_type)| value.as_ref().map(|value| literal(value, data_type)).transpose());
    Ok(Struct::from_iter(literals.collect::<Result<Vec<_>>>()?))
}

fn literal(value: &ScalarValue, data_type: &Type) -> Result<Literal> {
    use PrimitiveType as P;
    let Type::Primitive(primitive) = data_type else {
        return Err(Error::Internal(format!("a partition value has type {data_type}")));
    };
    Ok(match (value, primitive) {
        (ScalarValue::Boolean(Some(v)), P::Boolean) => Literal::bool(*v),
        (ScalarValue::Int32(Some(v)), P::Int) => Literal::int(*v),
        (ScalarValue::Int32(Some(v)), P::Long) => Literal::long(i64::from(*v)),
        (ScalarValue::Int64(Some(v)), P::Long) => Literal::long(*v),
        (ScalarValue::Float32(Some(v)), P::Float) => Literal::float(*v),
        (ScalarValue::Float64(Some(v)), P::Double) => Literal::double(*v),
        (ScalarValue::Decimal128(Some(v), ..), P::Decimal { .. }) => Literal::decimal(*v),
        // A day partition is a date in some versions of the specification and an int in others.
        (ScalarValue::Date32(Some(v)), P::Date | P::Int) => Literal::date(*v),
        (ScalarValue::Int32(Some(v)), P::Date) => Literal::date(*v),
        (ScalarValue::Time64Microsecond(Some(v)), P::Time) => Literal::time(*v),
        (ScalarValue::TimestampMicrosecond(Some(v), _), P::Timestamp) => Literal::timestamp(*v),
        (ScalarValue::TimestampMicrosecond(Some(v), _), P::Timestamptz) => Literal::timestamptz(*v),
        (ScalarValue::Utf8(Some(v)), P::String) => Literal::string(v),
        (ScalarValue::FixedSizeBinary(16, Some(v)), P::Uuid) => {
            let uuid =
                Uuid::from_slice(v).map_err(|e| Error::Internal(format!("bad UUID in a partition: {e}")))?;
            Literal::uuid(uuid)
        }
        (ScalarValue::FixedSizeBinary(_, Some(v)), P::Fixed(_)) => Literal::fixed(v.iter().copied()),
        (ScalarValue::Binary(Some(v)), P::Binary) => Literal::binary(v.iter().copied()),
        (value, primitive) => {
            return Err(Error::Internal(format!(
                "partition value {value:?} for a field of type {primitive}"
            )));
        }
    })
}

fn failed(error: ::iceberg::Error) -> Error {
    Error::Internal(format!("manifest: {error}"))
}

/// What the crate writes, kept.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl FileWrite for Buffer {
    async fn write(&mut self, bytes: Bytes) -> ::iceberg::Result<()> {
        self.0.lock().extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> ::iceberg::Result<()> {
        Ok(())
    }
}
