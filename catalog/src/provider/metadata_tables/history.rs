//! Snapshots, history, refs and metadata files, out of the table's metadata.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use super::{Batches, Rows, Source, column, internal, micros, moment};
use crate::error::Result;
use crate::iceberg::{Metadata, ReferenceKind};

pub(super) struct Snapshots(pub(super) Source);

pub(super) struct History(pub(super) Source);

pub(super) struct Refs(pub(super) Source);

pub(super) struct MetadataLog(pub(super) Source);

impl Rows for Snapshots {
    fn schema(&self) -> SchemaRef {
        let entries = Field::new(
            "entries",
            DataType::Struct(
                vec![column("keys", DataType::Utf8, false), column("values", DataType::Utf8, true)].into(),
            ),
            false,
        );
        Arc::new(Schema::new(vec![
            column("committed_at", moment(), false),
            column("snapshot_id", DataType::Int64, false),
            column("parent_id", DataType::Int64, true),
            column("operation", DataType::Utf8, true),
            column("manifest_list", DataType::Utf8, true),
            column("summary", DataType::Map(Arc::new(entries), false), true),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let schema = self.schema();
        of_past(&self.0, move |metadata| snapshots(metadata, schema))
    }
}

fn snapshots(metadata: &Metadata, schema: SchemaRef) -> Result<RecordBatch> {
    let snapshots = metadata.snapshots();
    let mut summary = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for snapshot in &snapshots {
        for (key, value) in snapshot.summary.iter().collect::<BTreeMap<_, _>>() {
            summary.keys().append_value(key);
            summary.values().append_value(value);
        }
        summary.append(true).map_err(internal)?;
    }
    let lists = snapshots.iter().map(|s| (!s.manifest_list.is_empty()).then_some(s.manifest_list.as_str()));
    let columns: Vec<ArrayRef> = vec![
        moments(snapshots.iter().map(|snapshot| snapshot.timestamp_ms)),
        Arc::new(snapshots.iter().map(|snapshot| Some(snapshot.id)).collect::<Int64Array>()),
        Arc::new(snapshots.iter().map(|snapshot| snapshot.parent_id).collect::<Int64Array>()),
        Arc::new(snapshots.iter().map(|s| Some(s.operation.as_str())).collect::<StringArray>()),
        Arc::new(lists.collect::<StringArray>()),
        Arc::new(summary.finish()),
    ];
    RecordBatch::try_new(schema, columns).map_err(internal)
}

impl Rows for History {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            column("made_current_at", moment(), false),
            column("snapshot_id", DataType::Int64, false),
            column("parent_id", DataType::Int64, true),
            column("is_current_ancestor", DataType::Boolean, false),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let schema = self.schema();
        of_past(&self.0, move |metadata| history(metadata, schema))
    }
}

fn history(metadata: &Metadata, schema: SchemaRef) -> Result<RecordBatch> {
    let (log, ancestors) = (metadata.history(), current_ancestors(metadata));
    let parents = log.iter().map(|entry| metadata.snapshot(entry.snapshot_id)?.parent_id);
    let ancestors = log.iter().map(|entry| Some(ancestors.contains(&entry.snapshot_id)));
    let columns: Vec<ArrayRef> = vec![
        moments(log.iter().map(|entry| entry.timestamp_ms)),
        Arc::new(log.iter().map(|entry| Some(entry.snapshot_id)).collect::<Int64Array>()),
        Arc::new(parents.collect::<Int64Array>()),
        Arc::new(ancestors.collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema, columns).map_err(internal)
}

impl Rows for Refs {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            column("name", DataType::Utf8, false),
            column("type", DataType::Utf8, false),
            column("snapshot_id", DataType::Int64, false),
            column("max_reference_age_in_ms", DataType::Int64, true),
            column("min_snapshots_to_keep", DataType::Int32, true),
            column("max_snapshot_age_in_ms", DataType::Int64, true),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let refs = self.0.metadata.refs();
        let kind = |kind| match kind {
            ReferenceKind::Branch => "BRANCH",
            ReferenceKind::Tag => "TAG",
        };
        let retention = || refs.values().map(|reference| reference.retention);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(refs.keys().map(|name| Some(name.as_str())).collect::<StringArray>()),
            Arc::new(refs.values().map(|reference| Some(kind(reference.kind))).collect::<StringArray>()),
            Arc::new(refs.values().map(|reference| Some(reference.snapshot_id)).collect::<Int64Array>()),
            Arc::new(retention().map(|retention| retention.max_ref_age_ms).collect::<Int64Array>()),
            Arc::new(retention().map(|retention| retention.min_snapshots_to_keep).collect::<Int32Array>()),
            Arc::new(retention().map(|retention| retention.max_snapshot_age_ms).collect::<Int64Array>()),
        ];
        one(RecordBatch::try_new(self.schema(), columns).map_err(internal))
    }
}

impl Rows for MetadataLog {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            column("timestamp", moment(), false),
            column("file", DataType::Utf8, false),
            column("latest_snapshot_id", DataType::Int64, true),
            column("latest_schema_id", DataType::Int32, true),
            column("latest_sequence_number", DataType::Int64, true),
        ]))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let (schema, location) = (self.schema(), self.0.metadata_location.clone());
        of_past(&self.0, move |metadata| metadata_log(metadata, location, schema))
    }
}

fn metadata_log(metadata: &Metadata, location: String, schema: SchemaRef) -> Result<RecordBatch> {
    let mut log = metadata.metadata_log();
    log.push((metadata.last_updated_ms(), location));
    let history = metadata.history();
    let latest: Vec<_> = log
        .iter()
        .map(|(ms, _)| {
            let entry = history.iter().rev().find(|entry| entry.timestamp_ms <= *ms)?;
            metadata.snapshot(entry.snapshot_id)
        })
        .collect();
    let latest = || latest.iter().map(Option::as_ref);
    let columns: Vec<ArrayRef> = vec![
        moments(log.iter().map(|(ms, _)| *ms)),
        Arc::new(log.iter().map(|(_, file)| Some(file.as_str())).collect::<StringArray>()),
        Arc::new(latest().map(|snapshot| Some(snapshot?.id)).collect::<Int64Array>()),
        Arc::new(latest().map(|snapshot| snapshot?.schema_id).collect::<Int32Array>()),
        Arc::new(latest().map(|snapshot| Some(snapshot?.sequence_number)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema, columns).map_err(internal)
}

/// One batch out of the metadata with all of its past.
fn of_past(
    source: &Source,
    batch: impl FnOnce(&Metadata) -> Result<RecordBatch> + Send + 'static,
) -> Batches {
    let source = source.clone();
    stream::once(async move { batch(source.whole().await?.as_ref()) }).err_into().boxed()
}

/// The current snapshot and what it was made from.
fn current_ancestors(metadata: &Metadata) -> HashSet<i64> {
    let mut found = HashSet::new();
    let mut next = metadata.current_snapshot_id();
    // A parent that is its own ancestor ends the walk.
    while let Some(id) = next.filter(|id| found.insert(*id)) {
        next = metadata.snapshot(id).and_then(|snapshot| snapshot.parent_id);
    }
    found
}

fn moments(ms: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(ms.map(|ms| Some(micros(ms))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn one(batch: Result<RecordBatch>) -> Batches {
    stream::once(async { batch }).err_into().boxed()
}
