//! The files of a snapshot, of all snapshots, and the lines of manifests, out of manifests.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, MapBuilder, RecordBatch,
    StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use super::partition_type::{PartitionType, Tuple};
use super::readable_metrics::{self, ReadableMetrics};
use super::{Batches, Rows, Source, column, internal};
use crate::error::Result;
use crate::iceberg::{EntryRow, ListEntry, each_entry};

/// Manifests that are read ahead of the reader.
const MANIFESTS_AHEAD: usize = 4;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Snapshot,
    AllSnapshots,
    Entries,
}

/// A table with one row a file, or a line of a manifest.
pub(super) struct FileTable {
    source: Source,
    of: Of,
    columns: Columns,
}

/// The columns that depend on the table.
#[derive(Clone)]
struct Columns {
    partition: PartitionType,
    readable: ReadableMetrics,
}

impl FileTable {
    pub(super) fn new(source: Source, of: Of) -> Self {
        let (partition, readable) =
            (PartitionType::new(&source.metadata), ReadableMetrics::new(&source.metadata));
        Self { columns: Columns { partition, readable }, source, of }
    }
}

impl Rows for FileTable {
    fn schema(&self) -> SchemaRef {
        let file = file_fields(&self.columns.partition);
        let readable = Arc::new(column("readable_metrics", self.columns.readable.data_type(), true));
        if self.of != Of::Entries {
            return Arc::new(Schema::new(file.iter().cloned().chain([readable]).collect::<Vec<_>>()));
        }
        Arc::new(Schema::new(vec![
            column("status", DataType::Int32, false),
            column("snapshot_id", DataType::Int64, true),
            column("sequence_number", DataType::Int64, true),
            column("file_sequence_number", DataType::Int64, true),
            column("data_file", DataType::Struct(file), false),
            readable.as_ref().clone(),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let (source, of, columns, schema) =
            (self.source.clone(), self.of, self.columns.clone(), self.schema());
        let manifests = stream::once(async move {
            let manifests = match of {
                Of::AllSnapshots => all_manifests(&source).await?,
                Of::Snapshot | Of::Entries => source.pinned_manifests().await?,
            };
            Ok::<_, crate::Error>((source, manifests))
        });
        manifests
            .map_ok(move |(source, manifests)| {
                let (columns, schema) = (columns.clone(), Arc::clone(&schema));
                let read = move |manifest: ListEntry| {
                    let (source, columns, schema) = (source.clone(), columns.clone(), Arc::clone(&schema));
                    async move { rows_of(&source, &manifest, of, &columns, schema).await }
                };
                stream::iter(manifests).map(read).buffered(MANIFESTS_AHEAD)
            })
            .try_flatten()
            .err_into()
            .boxed()
    }
}

/// The manifests of all snapshots, each once.
async fn all_manifests(source: &Source) -> Result<Vec<ListEntry>> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    for snapshot in source.whole().await?.snapshots() {
        let manifests = source.manifests(&snapshot).await?;
        all.extend(manifests.into_iter().filter(|manifest| seen.insert(manifest.path.clone())));
    }
    Ok(all)
}

async fn rows_of(
    source: &Source,
    manifest: &ListEntry,
    of: Of,
    columns: &Columns,
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let bytes = source.files.read(&source.table, &manifest.path).await?;
    let mut rows = Builder::new(columns);
    each_entry(&bytes, manifest, &source.table, |row| {
        if of == Of::Entries || row.is_alive() {
            rows.append(&row)?;
        }
        Ok(())
    })?;
    rows.finish(of, schema)
}

fn file_fields(partition: &PartitionType) -> Fields {
    let map = |name, value: DataType| {
        let pair = vec![column("keys", DataType::Int32, false), column("values", value, true)];
        let entries = Field::new("entries", DataType::Struct(pair.into()), false);
        column(name, DataType::Map(Arc::new(entries), false), true)
    };
    let list = |name, item| column(name, DataType::List(Arc::new(Field::new("item", item, true))), true);
    let mut fields = vec![
        column("content", DataType::Int32, false),
        column("file_path", DataType::Utf8, false),
        column("file_format", DataType::Utf8, false),
        column("spec_id", DataType::Int32, false),
    ];
    if !partition.is_empty() {
        fields.push(column("partition", partition.data_type(), false));
    }
    fields.extend([
        column("record_count", DataType::Int64, false),
        column("file_size_in_bytes", DataType::Int64, false),
        map("column_sizes", DataType::Int64),
        map("value_counts", DataType::Int64),
        map("null_value_counts", DataType::Int64),
        map("nan_value_counts", DataType::Int64),
        map("lower_bounds", DataType::Binary),
        map("upper_bounds", DataType::Binary),
        column("key_metadata", DataType::Binary, true),
        list("split_offsets", DataType::Int64),
        list("equality_ids", DataType::Int32),
        column("sort_order_id", DataType::Int32, true),
        column("first_row_id", DataType::Int64, true),
        column("referenced_data_file", DataType::Utf8, true),
        column("content_offset", DataType::Int64, true),
        column("content_size_in_bytes", DataType::Int64, true),
    ]);
    fields.into()
}

type Counts = MapBuilder<Int32Builder, Int64Builder>;
type Bounds = MapBuilder<Int32Builder, BinaryBuilder>;

struct Builder<'a> {
    partition: &'a PartitionType,
    status: Int32Builder,
    snapshot_id: Int64Builder,
    sequence_number: Int64Builder,
    file_sequence_number: Int64Builder,
    content: Int32Builder,
    path: StringBuilder,
    format: StringBuilder,
    spec_id: Int32Builder,
    tuples: Vec<Tuple>,
    record_count: Int64Builder,
    size: Int64Builder,
    counts: [Counts; 4],
    bounds: [Bounds; 2],
    key_metadata: BinaryBuilder,
    split_offsets: ListBuilder<Int64Builder>,
    equality_ids: ListBuilder<Int32Builder>,
    sort_order_id: Int32Builder,
    first_row_id: Int64Builder,
    referenced: StringBuilder,
    content_offset: Int64Builder,
    content_size: Int64Builder,
    readable: readable_metrics::Builder<'a>,
}

impl<'a> Builder<'a> {
    fn new(columns: &'a Columns) -> Self {
        let counts = || MapBuilder::new(None, Int32Builder::new(), Int64Builder::new());
        let bounds = || MapBuilder::new(None, Int32Builder::new(), BinaryBuilder::new());
        Self {
            partition: &columns.partition,
            status: Int32Builder::new(),
            snapshot_id: Int64Builder::new(),
            sequence_number: Int64Builder::new(),
            file_sequence_number: Int64Builder::new(),
            content: Int32Builder::new(),
            path: StringBuilder::new(),
            format: StringBuilder::new(),
            spec_id: Int32Builder::new(),
            tuples: Vec::new(),
            record_count: Int64Builder::new(),
            size: Int64Builder::new(),
            counts: [counts(), counts(), counts(), counts()],
            bounds: [bounds(), bounds()],
            key_metadata: BinaryBuilder::new(),
            split_offsets: ListBuilder::new(Int64Builder::new()),
            equality_ids: ListBuilder::new(Int32Builder::new()),
            sort_order_id: Int32Builder::new(),
            first_row_id: Int64Builder::new(),
            referenced: StringBuilder::new(),
            content_offset: Int64Builder::new(),
            content_size: Int64Builder::new(),
            readable: readable_metrics::Builder::new(&columns.readable),
        }
    }

    fn append(&mut self, row: &EntryRow<'_>) -> std::result::Result<(), String> {
        let entry = row.entry();
        self.status.append_value(entry.status);
        self.snapshot_id.append_option(row.snapshot_id());
        self.sequence_number.append_option(row.sequence_number());
        self.file_sequence_number.append_option(row.file_sequence_number());
        self.content.append_value(entry.content);
        self.path.append_value(entry.path);
        self.format.append_value(entry.format.to_ascii_uppercase());
        self.spec_id.append_value(row.spec_id());
        self.tuples.push(row.partition()?);
        self.record_count.append_value(entry.record_count);
        self.size.append_value(entry.size_bytes);
        let counts = [&entry.column_sizes, &entry.value_counts, &entry.null_counts, &entry.nan_counts];
        for (builder, counts) in self.counts.iter_mut().zip(counts) {
            for (id, count) in counts {
                builder.keys().append_value(*id);
                builder.values().append_value(*count);
            }
            // A map that the writer left out comes as an empty one.
            builder.append(!counts.is_empty()).map_err(|error| error.to_string())?;
        }
        for (builder, bounds) in self.bounds.iter_mut().zip([&entry.lower_bounds, &entry.upper_bounds]) {
            for (id, bound) in bounds {
                builder.keys().append_value(*id);
                builder.values().append_value(bound);
            }
            builder.append(!bounds.is_empty()).map_err(|error| error.to_string())?;
        }
        self.key_metadata.append_option(entry.key_metadata);
        self.split_offsets.values().append_slice(&entry.split_offsets);
        self.split_offsets.append(!entry.split_offsets.is_empty());
        self.equality_ids.values().append_slice(&entry.equality_ids);
        self.equality_ids.append(!entry.equality_ids.is_empty());
        self.sort_order_id.append_option(entry.sort_order_id);
        self.first_row_id.append_option(entry.first_row_id);
        self.referenced.append_option(entry.referenced_data_file);
        self.content_offset.append_option(entry.content_offset);
        self.content_size.append_option(entry.content_size_bytes);
        self.readable.append(entry);
        Ok(())
    }

    fn finish(mut self, of: Of, schema: SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.content.finish()),
            Arc::new(self.path.finish()),
            Arc::new(self.format.finish()),
            Arc::new(self.spec_id.finish()),
        ];
        if !self.partition.is_empty() {
            columns.push(self.partition.array(&self.tuples)?);
        }
        columns.push(Arc::new(self.record_count.finish()));
        columns.push(Arc::new(self.size.finish()));
        columns.extend(self.counts.iter_mut().map(|counts| Arc::new(counts.finish()) as ArrayRef));
        columns.extend(self.bounds.iter_mut().map(|bounds| Arc::new(bounds.finish()) as ArrayRef));
        let rest: [&mut dyn ArrayBuilder; 8] = [
            &mut self.key_metadata,
            &mut self.split_offsets,
            &mut self.equality_ids,
            &mut self.sort_order_id,
            &mut self.first_row_id,
            &mut self.referenced,
            &mut self.content_offset,
            &mut self.content_size,
        ];
        columns.extend(rest.into_iter().map(|builder| builder.finish()));
        let readable = self.readable.finish()?;
        if of != Of::Entries {
            columns.push(readable);
            return RecordBatch::try_new(schema, columns).map_err(internal);
        }
        let file = StructArray::try_new(file_fields(self.partition), columns, None).map_err(internal)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.status.finish()),
            Arc::new(self.snapshot_id.finish()),
            Arc::new(self.sequence_number.finish()),
            Arc::new(self.file_sequence_number.finish()),
            Arc::new(file),
            readable,
        ];
        RecordBatch::try_new(schema, columns).map_err(internal)
    }
}
