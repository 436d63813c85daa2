//! The rows that a snapshot's position deletes name, out of delete files and deletion vectors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tarn_scan::{DeleteFile, FileFormat, TableScan, position_deletes, vector_positions};

use super::partition_type::{PartitionType, Tuple};
use super::{Batches, Rows, Source, column, internal};
use crate::error::{Error, Result};
use crate::iceberg::{EntryRow, ListEntry, each_entry};

/// Rows of one batch that a deletion vector becomes.
const VECTOR_ROWS_MAX: usize = 8192;

/// One row for each place that is deleted; the rows of one delete file stand together, in its order.
#[derive(Clone)]
pub(super) struct PositionDeletes {
    source: Source,
    scan: Arc<TableScan>,
    partition: PartitionType,
    /// Columns of the table, for delete files that hold the deleted rows.
    row: Fields,
}

/// A live file of position deletes.
struct Deletes {
    file: DeleteFile,
    spec_id: i32,
    tuple: Tuple,
    /// The data file, the place in the file and the length of a deletion vector.
    vector: Option<(String, i64, i64)>,
}

impl PositionDeletes {
    pub(super) fn new(source: Source, scan: Arc<TableScan>) -> Self {
        let partition = PartitionType::new(&source.metadata);
        // The row may be missing, and then so are its required columns.
        let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
        Self { row: scan.schema.fields().iter().map(nullable).collect(), source, scan, partition }
    }

    fn has_vectors(&self) -> bool {
        self.source.metadata.format_version() >= 3
    }

    /// The live files of position deletes in a manifest.
    async fn files_of(&self, manifest: &ListEntry) -> Result<Vec<Deletes>> {
        let bytes = self.source.files.read(&self.source.table, &manifest.path).await?;
        let (mut found, mut unsupported) = (Vec::new(), None);
        each_entry(&bytes, manifest, &self.source.table, |row| {
            if row.is_alive() && row.entry().content == 1 {
                unsupported = unsupported.or(why_not_readable(&row));
                found.push(deletes(&row)?);
            }
            Ok(())
        })?;
        match unsupported {
            Some(feature) => {
                Err(Error::NotSupported { table: self.source.table.clone(), feature: feature.to_owned() })
            }
            None => Ok(found),
        }
    }

    async fn rows_of(self, deletes: Deletes, ctx: Arc<TaskContext>) -> DfResult<Batches> {
        if let Some((data_file, offset, size_bytes)) = deletes.vector.clone() {
            let places = self.places(&deletes, offset, size_bytes).await?;
            let batch = move |places: Vec<i64>| {
                let paths = StringArray::from_iter_values(std::iter::repeat_n(&data_file, places.len()));
                let row = new_null_array(&DataType::Struct(self.row.clone()), places.len());
                self.batch(&deletes, Arc::new(paths), Arc::new(Int64Array::from(places)), row)
            };
            return Ok(stream::iter(places).chunks(VECTOR_ROWS_MAX).map(batch).err_into().boxed());
        }
        let rows = position_deletes(&self.scan, &deletes.file, &self.row, ctx)?;
        let batch = move |batch: RecordBatch| {
            let paths = cast(batch.column(0), &DataType::Utf8).map_err(internal)?;
            self.batch(&deletes, paths, Arc::clone(batch.column(1)), Arc::clone(batch.column(2)))
        };
        Ok(rows.map(move |rows| Ok(batch(rows?)?)).boxed())
    }

    /// The places in a deletion vector.
    async fn places(
        &self,
        deletes: &Deletes,
        offset: i64,
        size_bytes: i64,
    ) -> Result<impl Iterator<Item = i64> + Send + use<>> {
        let (table, file) = (&self.source.table, &deletes.file);
        let corrupt =
            |reason: String| Error::Corrupt { table: table.clone(), file: file.uri.clone(), reason };
        let start = u64::try_from(offset).map_err(|_| corrupt(format!("no vector begins at {offset}")))?;
        let end = u64::try_from(size_bytes).ok().and_then(|length| start.checked_add(length));
        let end = end.ok_or_else(|| corrupt(format!("no vector is {size_bytes} bytes long")))?;
        let blob = self.source.files.read_range(table, &file.uri, start..end).await?;
        let places = vector_positions(&blob, file.record_count).map_err(corrupt)?;
        Ok(places.map(|place| place as i64))
    }

    /// Rows of one delete file, with what is the same for all of them.
    fn batch(
        &self,
        deletes: &Deletes,
        paths: ArrayRef,
        places: ArrayRef,
        row: ArrayRef,
    ) -> Result<RecordBatch> {
        let count = paths.len();
        let mut columns = vec![paths, places, row];
        if !self.partition.is_empty() {
            let one = self.partition.array(std::slice::from_ref(&deletes.tuple))?;
            let same = UInt32Array::from(vec![0; count]);
            columns.push(take(&one, &same, None).map_err(internal)?);
        }
        columns.push(Arc::new(Int32Array::from(vec![deletes.spec_id; count])));
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&deletes.file.uri, count))));
        if self.has_vectors() {
            let (offset, length) =
                deletes.vector.as_ref().map(|(_, offset, length)| (*offset, *length)).unzip();
            columns.push(Arc::new(Int64Array::from(vec![offset; count])));
            columns.push(Arc::new(Int64Array::from(vec![length; count])));
        }
        RecordBatch::try_new(self.schema(), columns).map_err(internal)
    }
}

impl Rows for PositionDeletes {
    fn schema(&self) -> SchemaRef {
        let mut fields = vec![
            column("file_path", DataType::Utf8, false),
            column("pos", DataType::Int64, false),
            Field::new("row", DataType::Struct(self.row.clone()), true),
        ];
        if !self.partition.is_empty() {
            fields.push(column("partition", self.partition.data_type(), false));
        }
        fields.push(column("spec_id", DataType::Int32, false));
        fields.push(column("delete_file_path", DataType::Utf8, false));
        if self.has_vectors() {
            fields.push(column("content_offset", DataType::Int64, true));
            fields.push(column("content_size_in_bytes", DataType::Int64, true));
        }
        Arc::new(Schema::new(fields))
    }

    fn read(&self, ctx: &Arc<TaskContext>) -> Batches {
        let (table, ctx) = (self.clone(), Arc::clone(ctx));
        let manifests = async move {
            let manifests = table.source.pinned_manifests().await?;
            let of_deletes = manifests.into_iter().filter(|manifest| manifest.content != 0);
            let files = stream::iter(of_deletes.collect::<Vec<_>>()).then(move |manifest| {
                let (table, ctx) = (table.clone(), Arc::clone(&ctx));
                async move {
                    let files = table.files_of(&manifest).await?;
                    let rows = move |deletes| table.clone().rows_of(deletes, Arc::clone(&ctx));
                    Ok::<_, DataFusionError>(stream::iter(files).then(rows).try_flatten())
                }
            });
            Ok::<_, DataFusionError>(files.try_flatten())
        };
        stream::once(manifests).try_flatten().boxed()
    }
}

/// Why a delete file cannot be read, if it cannot.
fn why_not_readable(row: &EntryRow<'_>) -> Option<&'static str> {
    let is = |format: &str| row.entry().format.eq_ignore_ascii_case(format);
    if row.entry().key_metadata.is_some() {
        return Some("encryption");
    }
    match () {
        () if is("parquet") || is("puffin") || is("avro") => None,
        () if is("orc") => Some("an ORC delete file"),
        () => Some("a delete file of an unknown format"),
    }
}

fn deletes(row: &EntryRow<'_>) -> std::result::Result<Deletes, String> {
    let entry = row.entry();
    let count = |value: i64| u64::try_from(value).map_err(|_| format!("{value} is no size of a delete file"));
    let vector = match entry.format.eq_ignore_ascii_case("puffin") {
        true => {
            let data_file = entry.referenced_data_file.ok_or("a deletion vector that names no data file")?;
            let place = entry.content_offset.zip(entry.content_size_bytes);
            let (offset, length) = place.ok_or("a deletion vector without its place in its file")?;
            Some((data_file.to_owned(), offset, length))
        }
        false => None,
    };
    Ok(Deletes {
        file: DeleteFile {
            uri: entry.path.to_owned(),
            format: match entry.format.eq_ignore_ascii_case("avro") {
                true => FileFormat::Avro,
                false => FileFormat::Parquet,
            },
            size_bytes: count(entry.size_bytes)?,
            record_count: count(entry.record_count)?,
            data_sequence_number: row.sequence_number().unwrap_or_default(),
        },
        spec_id: row.spec_id(),
        tuple: row.partition()?,
        vector,
    })
}
