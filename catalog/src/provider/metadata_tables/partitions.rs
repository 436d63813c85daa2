//! The partitions of a snapshot, with what is in them: its files added up.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use super::partition_type::{PartitionType, Tuple};
use super::{Batches, Rows, Source, column, internal, micros, moment};
use crate::error::{Error, Result};
use crate::iceberg::{EntryRow, each_entry};

/// A table of more partitions than this is refused: they are added up in memory.
const PARTITIONS_MAX: usize = 1_000_000;

pub(super) struct Partitions {
    source: Source,
    partition: PartitionType,
}

impl Partitions {
    pub(super) fn new(source: Source) -> Self {
        Self { partition: PartitionType::new(&source.metadata), source }
    }
}

impl Rows for Partitions {
    fn schema(&self) -> SchemaRef {
        let long = |name| column(name, DataType::Int64, false);
        let int = |name| column(name, DataType::Int32, false);
        let mut fields = Vec::new();
        if !self.partition.is_empty() {
            fields.push(column("partition", self.partition.data_type(), false));
            fields.push(int("spec_id"));
        }
        fields.extend([
            long("record_count"),
            int("file_count"),
            long("total_data_file_size_in_bytes"),
            long("position_delete_record_count"),
            int("position_delete_file_count"),
            long("equality_delete_record_count"),
            int("equality_delete_file_count"),
            column("last_updated_at", moment(), true),
            column("last_updated_snapshot_id", DataType::Int64, true),
        ]);
        Arc::new(Schema::new(fields))
    }

    fn read(&self, _ctx: &Arc<TaskContext>) -> Batches {
        let (source, partition, schema) = (self.source.clone(), self.partition.clone(), self.schema());
        stream::once(async move {
            let totals = totals(&source).await?;
            batch(&totals, &partition, schema)
        })
        .err_into()
        .boxed()
    }
}

/// What is in one partition.
#[derive(Default)]
struct Total {
    tuple: Tuple,
    spec_id: i32,
    rows: i64,
    files: i32,
    bytes: i64,
    /// Rows and files of position deletes, then of equality deletes.
    deletes: [(i64, i32); 2],
    /// When, and by which snapshot.
    last_updated: Option<(i64, i64)>,
}

impl Total {
    fn add(&mut self, row: &EntryRow<'_>, committed_ms: Option<i64>) {
        let entry = row.entry();
        match entry.content {
            0 => {
                self.rows = self.rows.saturating_add(entry.record_count);
                self.files = self.files.saturating_add(1);
                self.bytes = self.bytes.saturating_add(entry.size_bytes);
            }
            content => {
                let (rows, files) = &mut self.deletes[usize::from(content != 1)];
                *rows = rows.saturating_add(entry.record_count);
                *files = files.saturating_add(1);
            }
        }
        if let Some(updated) = committed_ms.zip(row.snapshot_id()) {
            self.last_updated = self.last_updated.max(Some(updated));
        }
    }
}

async fn totals(source: &Source) -> Result<Vec<Total>> {
    let times: HashMap<i64, i64> = source
        .whole()
        .await?
        .snapshots()
        .iter()
        .map(|snapshot| (snapshot.id, snapshot.timestamp_ms))
        .collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut totals: Vec<Total> = Vec::new();
    for manifest in source.pinned_manifests().await? {
        let bytes = source.files.read(&source.table, &manifest.path).await?;
        each_entry(&bytes, &manifest, &source.table, |row| {
            if !row.is_alive() {
                return Ok(());
            }
            let tuple = row.partition()?;
            // As text, since floats are no keys: the same values print the same.
            let key = format!("{}{tuple:?}", row.spec_id());
            let place = *places.entry(key).or_insert(totals.len());
            if place == totals.len() {
                totals.push(Total { tuple, spec_id: row.spec_id(), ..Total::default() });
            }
            totals[place].add(&row, row.snapshot_id().and_then(|id| times.get(&id).copied()));
            Ok(())
        })?;
        if totals.len() > PARTITIONS_MAX {
            let feature = format!("metadata table \"partitions\" with more than {PARTITIONS_MAX} rows");
            return Err(Error::NotSupported { table: source.table.clone(), feature });
        }
    }
    Ok(totals)
}

fn batch(totals: &[Total], partition: &PartitionType, schema: SchemaRef) -> Result<RecordBatch> {
    let long = |value: fn(&Total) -> i64| -> ArrayRef {
        Arc::new(totals.iter().map(|total| Some(value(total))).collect::<Int64Array>())
    };
    let int = |value: fn(&Total) -> i32| -> ArrayRef {
        Arc::new(totals.iter().map(|total| Some(value(total))).collect::<Int32Array>())
    };
    let mut columns: Vec<ArrayRef> = Vec::new();
    if !partition.is_empty() {
        let tuples: Vec<_> = totals.iter().map(|total| total.tuple.clone()).collect();
        columns.push(partition.array(&tuples)?);
        columns.push(int(|total| total.spec_id));
    }
    let updated = totals.iter().map(|total| total.last_updated.map(|(ms, _)| micros(ms)));
    let by = totals.iter().map(|total| total.last_updated.map(|(_, id)| id));
    columns.extend([
        long(|total| total.rows),
        int(|total| total.files),
        long(|total| total.bytes),
        long(|total| total.deletes[0].0),
        int(|total| total.deletes[0].1),
        long(|total| total.deletes[1].0),
        int(|total| total.deletes[1].1),
        Arc::new(updated.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(by.collect::<Int64Array>()),
    ]);
    RecordBatch::try_new(schema, columns).map_err(internal)
}
