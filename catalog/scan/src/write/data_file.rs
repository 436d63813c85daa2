//! One Parquet file being written.
//!
//! [`Layout`] is what all files of a task share; [`OpenFile`] is one of them,
//! from its first row to its [`WrittenFile`]. A file that is dropped before it
//! was closed aborts its upload.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::scalar::ScalarValue;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, AsyncArrowWriter};
use parquet::basic::{Compression, GzipLevel, LogicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use serde_json::Value as Json;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::column_metrics::{Leaf, NanCounts, collect, leaves, longest_bound};
use super::conform::file_schema;
use super::{WriteSpec, WrittenFile};
use crate::error::Error;

/// Rows of a row group are encoded in memory until they reach this size; Iceberg's default.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Bytes handed to the store at once; S3 takes no part below 5 MiB.
const UPLOAD_PART_BYTES: usize = 8 << 20;

/// Parts of one file on their way to the store at once.
const UPLOAD_PARTS_MAX: usize = 4;

/// What the files of one task have in common.
pub(super) struct Layout {
    pub(super) spec: Arc<WriteSpec>,
    /// The schema of the files: the table's, without views.
    pub(super) schema: SchemaRef,
    descriptor: SchemaDescriptor,
    properties: WriterProperties,
    leaves: Vec<Leaf>,
}

impl Layout {
    pub(super) fn new(spec: Arc<WriteSpec>) -> Result<Self> {
        let schema = file_schema(&spec.schema);
        let uuids = uuid_ids(&spec.iceberg_schema_json)?;
        let leaves = leaves(schema.fields(), &spec.metrics, &|id| uuids.contains(&id));
        let arrow =
            ArrowSchemaConverter::new().with_coerce_types(true).schema_root("table").convert(&schema)?;
        let root = with_uuids(&arrow.root_schema_ptr(), &uuids)?;
        let properties = properties(&spec, &leaves)?;
        Ok(Self { spec, schema, descriptor: SchemaDescriptor::new(root), properties, leaves })
    }
}

fn properties(spec: &WriteSpec, leaves: &[Leaf]) -> Result<WriterProperties> {
    let schema = KeyValue::new("iceberg.schema".to_string(), spec.iceberg_schema_json.clone());
    // Parquet cuts by bytes, Iceberg by characters of up to four.
    let statistics = longest_bound(leaves).map(|length| length.saturating_mul(4).max(64));
    Ok(WriterProperties::builder()
        .set_compression(compression(&spec.compression)?)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_key_value_metadata(Some(vec![schema]))
        .set_statistics_truncate_length(statistics)
        .build())
}

fn compression(name: &str) -> Result<Compression> {
    match name.to_ascii_lowercase().as_str() {
        "zstd" => Ok(Compression::ZSTD(ZstdLevel::default())),
        "snappy" => Ok(Compression::SNAPPY),
        "gzip" => Ok(Compression::GZIP(GzipLevel::default())),
        "lz4" | "lz4_raw" => Ok(Compression::LZ4_RAW),
        "uncompressed" | "none" => Ok(Compression::UNCOMPRESSED),
        _ => exec_err!("unknown Parquet compression codec {name:?}"),
    }
}

/// A file that takes rows.
pub(super) struct OpenFile {
    layout: Arc<Layout>,
    uri: String,
    partition: Vec<Option<ScalarValue>>,
    /// Gone once the file is closed.
    writer: Option<AsyncArrowWriter<BufWriter>>,
    nans: NanCounts,
    rows: u64,
}

impl OpenFile {
    /// Starts a file at `uri`, which is `path` in `store`.
    pub(super) fn create(
        layout: Arc<Layout>,
        store: Arc<dyn ObjectStore>,
        uri: String,
        path: Path,
        partition: Vec<Option<ScalarValue>>,
    ) -> Result<Self> {
        let upload =
            BufWriter::with_capacity(store, path, UPLOAD_PART_BYTES).with_max_concurrency(UPLOAD_PARTS_MAX);
        let options = ArrowWriterOptions::new()
            .with_properties(layout.properties.clone())
            .with_parquet_schema(layout.descriptor.clone())
            // Only the Parquet schema counts: it alone has the table's types.
            .with_skip_arrow_metadata(true);
        let writer = AsyncArrowWriter::try_new_with_options(upload, Arc::clone(&layout.schema), options)?;
        let nans = NanCounts::new(&layout.leaves);
        Ok(Self { layout, uri, partition, writer: Some(writer), nans, rows: 0 })
    }

    /// Adds rows, which have the layout's schema.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.nans.add(batch, &self.layout.leaves);
        self.rows += batch.num_rows() as u64;
        let uri = &self.uri;
        writer(&mut self.writer)?.write(batch).await.map_err(|e| failed(e, uri))
    }

    /// Ends the row group, so that its memory is free.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let uri = &self.uri;
        writer(&mut self.writer)?.flush().await.map_err(|e| failed(e, uri))
    }

    /// About how large the file is by now.
    pub(super) fn size_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| (writer.bytes_written() + writer.in_progress_size()) as u64)
    }

    /// Memory that a flush would free.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, AsyncArrowWriter::memory_size)
    }

    /// All memory, the part that waits to be uploaded included.
    pub(super) fn memory_bytes(&self) -> usize {
        let written = self.writer.as_ref().map_or(0, AsyncArrowWriter::bytes_written);
        self.buffered_bytes() + written.min(UPLOAD_PART_BYTES)
    }

    /// Writes the footer and waits until the store has it all.
    pub(super) async fn close(mut self) -> Result<WrittenFile> {
        let uri = self.uri.clone();
        // Taken out: an upload whose end fails is over, and must not be aborted once more.
        let mut open = self.writer.take().ok_or_else(closed)?;
        let footer = open.finish().await.map_err(|e| failed(e, &uri))?;
        let size_bytes = open.bytes_written() as u64;
        debug_assert_eq!(footer.file_metadata().num_rows() as u64, self.rows, "every row is in the footer");
        Ok(WrittenFile {
            uri,
            size_bytes,
            record_count: self.rows,
            spec_id: self.layout.spec.partition.spec_id,
            partition: std::mem::take(&mut self.partition),
            columns: collect(&self.layout.leaves, &self.nans, &footer),
            split_offsets: split_offsets(&footer),
        })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            let mut upload = writer.into_inner();
            detach(async move {
                // An upload that had not begun has nothing to abort, and says so.
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "upload not aborted");
                }
            });
        }
    }
}

/// Runs clean-up that nobody waits for; without a runtime it is left to the removal of orphans.
pub(super) fn detach(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        TaskTracker::new().spawn_on(work, &runtime);
    }
}

fn writer(open: &mut Option<AsyncArrowWriter<BufWriter>>) -> Result<&mut AsyncArrowWriter<BufWriter>> {
    open.as_mut().ok_or_else(closed)
}

fn closed() -> DataFusionError {
    exec_datafusion_err!("the data file is closed")
}

/// Names the file if its store failed; any other error is about the rows.
fn failed(error: ParquetError, uri: &str) -> DataFusionError {
    match error {
        ParquetError::External(_) => Error::Write { uri: uri.to_owned(), source: error }.into(),
        error => DataFusionError::from(error).context(format!("cannot write data file {uri:?}")),
    }
}

fn split_offsets(footer: &ParquetMetaData) -> Vec<i64> {
    let first = footer.row_groups().iter().filter_map(|group| group.columns().first());
    first.map(|chunk| chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset())).collect()
}

/// The ids of the UUID columns in an Iceberg schema.
fn uuid_ids(schema_json: &str) -> Result<HashSet<i32>> {
    fn walk(json: &Json, ids: &mut HashSet<i32>) {
        let mut typed = |id: &Json, data_type: &Json| {
            if data_type.as_str() == Some("uuid") {
                ids.extend(id.as_i64().and_then(|id| i32::try_from(id).ok()));
            }
            walk(data_type, ids);
        };
        for field in json["fields"].as_array().into_iter().flatten() {
            typed(&field["id"], &field["type"]);
        }
        for part in ["element", "key", "value"] {
            if let (Some(id), Some(data_type)) = (json.get(format!("{part}-id")), json.get(part)) {
                typed(id, data_type);
            }
        }
    }
    let json =
        serde_json::from_str(schema_json).map_err(|e| exec_datafusion_err!("bad Iceberg schema: {e}"))?;
    let mut ids = HashSet::new();
    walk(&json, &mut ids);
    Ok(ids)
}

/// The Parquet type with UUID annotations, which Arrow types cannot ask for.
fn with_uuids(node: &TypePtr, uuids: &HashSet<i32>) -> Result<TypePtr> {
    let info = node.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if node.is_group() {
        let children =
            node.get_fields().iter().map(|child| with_uuids(child, uuids)).collect::<Result<Vec<_>>>()?;
        let mut group = Type::group_type_builder(node.name())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(children)
            .with_id(id);
        if info.has_repetition() {
            group = group.with_repetition(info.repetition());
        }
        return Ok(Arc::new(group.build()?));
    }
    if !id.is_some_and(|id| uuids.contains(&id)) {
        return Ok(Arc::clone(node));
    }
    let uuid = Type::primitive_type_builder(node.name(), node.get_physical_type())
        .with_repetition(info.repetition())
        .with_length(16)
        .with_logical_type(Some(LogicalType::Uuid))
        .with_id(id);
    Ok(Arc::new(uuid.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_columns_are_found_at_every_level() {
        let json = r#"{"type":"struct","fields":[
            {"id":1,"name":"a","type":"uuid"},
            {"id":2,"name":"b","type":{"type":"list","element-id":3,"element":"uuid"}},
            {"id":4,"name":"c","type":{"type":"map","key-id":5,"key":"string","value-id":6,
                "value":{"type":"struct","fields":[{"id":7,"name":"d","type":"uuid"}]}}}]}"#;
        assert_eq!(uuid_ids(json).unwrap(), HashSet::from([1, 3, 7]));
        assert!(uuid_ids("{").is_err());
    }
}
