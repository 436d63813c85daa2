//! The manifests of a snapshot, out of its manifest list.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use super::partition_type::human;
use super::{Batches, Rows, Source, column, internal};
use crate::error::Result;
use crate::iceberg::{ListEntry, PartitionField};

pub(super) struct Manifests(pub(super) Source);

impl Rows for Manifests {
    fn schema(&self) -> SchemaRef {
        let int = |name| column(name, DataType::Int32, false);
        let summary = Field::new("item", DataType::Struct(summary_fields()), true);
        Arc::new(Schema::new(vec![
            int("content"),
            column("path", DataType::Utf8, false),
            column("length", DataType::Int64, false),
            int("partition_spec_id"),
            column("added_snapshot_id", DataType::Int64, true),
            int("added_data_files_count"),
            int("existing_data_files_count"),
            int("deleted_data_files_count"),
            int("added_delete_files_count"),
            int("existing_delete_files_count"),
            int("deleted_delete_files_count"),
            column("partition_summaries", DataType::List(Arc::new(summary)), false),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let (source, schema) = (self.0.clone(), self.schema());
        stream::once(async move {
            let entries = source.pinned_manifests().await?;
            batch(&source, &entries, schema)
        })
        .err_into()
        .boxed()
    }
}

fn summary_fields() -> Fields {
    vec![
        column("contains_null", DataType::Boolean, false),
        column("contains_nan", DataType::Boolean, true),
        column("lower_bound", DataType::Utf8, true),
        column("upper_bound", DataType::Utf8, true),
    ]
    .into()
}

fn batch(source: &Source, entries: &[ListEntry], schema: SchemaRef) -> Result<RecordBatch> {
    let count = |content: i32, kind: usize| -> ArrayRef {
        let count = |entry: &ListEntry| {
            let count = if entry.content == content { entry.files[kind].unwrap_or(0) } else { 0 };
            Some(i32::try_from(count).unwrap_or(i32::MAX))
        };
        Arc::new(entries.iter().map(count).collect::<Int32Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(entries.iter().map(|entry| Some(entry.content)).collect::<Int32Array>()),
        Arc::new(entries.iter().map(|entry| Some(entry.path.as_str())).collect::<StringArray>()),
        Arc::new(entries.iter().map(|entry| Some(entry.length)).collect::<Int64Array>()),
        Arc::new(entries.iter().map(|entry| Some(entry.spec_id)).collect::<Int32Array>()),
        Arc::new(entries.iter().map(|entry| entry.added_snapshot_id).collect::<Int64Array>()),
        count(0, 0),
        count(0, 1),
        count(0, 2),
        count(1, 0),
        count(1, 1),
        count(1, 2),
        summaries(source, entries)?,
    ];
    RecordBatch::try_new(schema, columns).map_err(internal)
}

fn summaries(source: &Source, entries: &[ListEntry]) -> Result<ArrayRef> {
    let specs = source.metadata.partition_specs();
    let mut lists = ListBuilder::new(StructBuilder::from_fields(summary_fields(), entries.len()));
    for entry in entries {
        let spec = specs.iter().find(|spec| spec.id == entry.spec_id);
        for (index, summary) in entry.partitions.iter().enumerate() {
            let field = spec.and_then(|spec| spec.fields.get(index));
            let bound = |bytes: &Option<Vec<u8>>| text(source, field?, bytes.as_deref()?);
            let row = lists.values();
            let (lower, upper) = (bound(&summary.lower), bound(&summary.upper));
            append::<BooleanBuilder>(row, 0, |builder| builder.append_value(summary.contains_null))?;
            append::<BooleanBuilder>(row, 1, |builder| builder.append_option(summary.contains_nan))?;
            append::<StringBuilder>(row, 2, |builder| builder.append_option(lower))?;
            append::<StringBuilder>(row, 3, |builder| builder.append_option(upper))?;
            row.append(true);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn append<B: arrow::array::ArrayBuilder>(
    row: &mut StructBuilder,
    index: usize,
    put: impl FnOnce(&mut B),
) -> Result<()> {
    put(row.field_builder::<B>(index).ok_or_else(|| internal("a summary has other fields"))?);
    Ok(())
}

fn text(source: &Source, field: &PartitionField, bytes: &[u8]) -> Option<String> {
    let value = source.metadata.partition_value(field, bytes)?;
    human(field.transform?, &value)
}
