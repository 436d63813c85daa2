//! What a table says about itself, as tables: `"t$snapshots"`, `"t$files"` and so on.
//!
//! - `history`: snapshots, history, refs, metadata_log; out of the table's metadata
//! - `manifests`: manifests; out of manifest lists
//! - `files`: files, all_files, entries; out of manifests
//! - `readable_metrics`: what these say of each column, by its name and in its type
//! - `partitions`: partitions; files added up
//! - `position_deletes`: position_deletes; out of delete files and deletion vectors
//! - `partition_type`: the struct that partition values of all specs fit into
//! - `listing`: `system.tables`, the tables of a catalog
//!
//! Names and types are those of Iceberg's own metadata tables. The rule: rows
//! are made manifest by manifest while they are read, so memory is bounded by
//! one manifest, or a batch of one delete file, whatever the table's size.

mod files;
#[cfg(test)]
pub(super) mod fixture_tests;
mod history;
mod listing;
mod manifests;
mod partition_type;
mod partitions;
mod position_deletes;
mod readable_metrics;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream::BoxStream;

pub(crate) use listing::tables;

use super::PinnedTable;
use crate::error::{Error, Result};
use crate::iceberg::{ListEntry, Metadata, Past, Snapshot, list_entries};
use crate::metadata_cache::Files;
use crate::name::TableName;

/// The kinds of metadata tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataTable {
    /// Every snapshot.
    Snapshots,
    /// Which snapshots were the current one.
    History,
    /// Branches and tags.
    Refs,
    /// The manifests of a snapshot.
    Manifests,
    /// The live files of a snapshot, delete files included.
    Files,
    /// The live files of all snapshots; one that several manifests list is there more than once.
    AllFiles,
    /// The lines of a snapshot's manifests, those of files that were removed included.
    Entries,
    /// The partitions of a snapshot, with what is in them.
    Partitions,
    /// The rows that a snapshot's position deletes name.
    PositionDeletes,
    /// The metadata files.
    MetadataLog,
}

/// Every kind by its name after the dollar sign.
const NAMES: [(&str, MetadataTable); 11] = [
    ("snapshots", MetadataTable::Snapshots),
    ("history", MetadataTable::History),
    ("refs", MetadataTable::Refs),
    ("manifests", MetadataTable::Manifests),
    ("files", MetadataTable::Files),
    ("all_files", MetadataTable::AllFiles),
    ("entries", MetadataTable::Entries),
    ("partitions", MetadataTable::Partitions),
    ("position_deletes", MetadataTable::PositionDeletes),
    ("metadata_log", MetadataTable::MetadataLog),
    ("metadata_log_entries", MetadataTable::MetadataLog),
];

impl MetadataTable {
    /// The table and the kind in a name such as `orders$files`.
    pub fn split(name: &str) -> Option<(&str, Self)> {
        let (table, suffix) = name.rsplit_once('$')?;
        let (_, kind) = NAMES.iter().find(|(name, _)| *name == suffix)?;
        (!table.is_empty()).then_some((table, *kind))
    }

    fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether it says something about one snapshot, and so can be read at an older one.
    fn is_of_snapshot(self) -> bool {
        matches!(
            self,
            Self::Manifests | Self::Files | Self::Entries | Self::Partitions | Self::PositionDeletes
        )
    }
}

impl PinnedTable {
    /// What this table says about itself. `at_snapshot` tells whether a query asked for an older state.
    ///
    /// Fails with [`Error::Invalid`] for an older state of what has none.
    pub fn metadata_table(&self, kind: MetadataTable, at_snapshot: bool) -> Result<Arc<dyn TableProvider>> {
        if at_snapshot && !kind.is_of_snapshot() {
            let name = kind.name();
            return Err(Error::Invalid(format!("table \"{}${name}\" has no older states", self.name())));
        }
        let source = Source {
            table: self.name().clone(),
            metadata: Arc::clone(self.metadata()),
            metadata_location: self.metadata_location().to_owned(),
            snapshot: self.pin.snapshot.clone(),
            files: Arc::clone(&self.pin.files),
        };
        let rows: Arc<dyn Rows> = match kind {
            MetadataTable::Snapshots => Arc::new(history::Snapshots(source)),
            MetadataTable::History => Arc::new(history::History(source)),
            MetadataTable::Refs => Arc::new(history::Refs(source)),
            MetadataTable::MetadataLog => Arc::new(history::MetadataLog(source)),
            MetadataTable::Manifests => Arc::new(manifests::Manifests(source)),
            MetadataTable::Files => Arc::new(files::FileTable::new(source, files::Of::Snapshot)),
            MetadataTable::AllFiles => Arc::new(files::FileTable::new(source, files::Of::AllSnapshots)),
            MetadataTable::Entries => Arc::new(files::FileTable::new(source, files::Of::Entries)),
            MetadataTable::Partitions => Arc::new(partitions::Partitions::new(source)),
            MetadataTable::PositionDeletes => {
                Arc::new(position_deletes::PositionDeletes::new(source, Arc::clone(self.scan())))
            }
        };
        Ok(Arc::new(Provider { schema: rows.schema(), rows }))
    }
}

/// What the tables of this room are made of.
#[derive(Clone)]
struct Source {
    table: TableName,
    metadata: Arc<Metadata>,
    metadata_location: String,
    snapshot: Option<Snapshot>,
    files: Arc<Files>,
}

impl Source {
    /// The metadata with all of its past, which a query of the present does without.
    async fn whole(&self) -> Result<Arc<Metadata>> {
        match self.metadata.is_whole() {
            true => Ok(Arc::clone(&self.metadata)),
            false => self.files.metadata(&self.table, &self.metadata_location, Past::Whole).await,
        }
    }

    /// The manifests of a snapshot, as their list has them.
    async fn manifests(&self, snapshot: &Snapshot) -> Result<Vec<ListEntry>> {
        if snapshot.encrypted || self.metadata.is_encrypted() {
            return Err(Error::NotSupported { table: self.table.clone(), feature: "encryption".to_owned() });
        }
        if let Some(manifests) = &snapshot.manifests {
            let entry = |path: &String| ListEntry { path: path.clone(), ..ListEntry::default() };
            return Ok(manifests.iter().map(entry).collect());
        }
        let bytes = self.files.read(&self.table, &snapshot.manifest_list).await?;
        list_entries(&bytes, &self.table, &snapshot.manifest_list)
    }

    /// Those of the pinned snapshot; none if there is no snapshot.
    async fn pinned_manifests(&self) -> Result<Vec<ListEntry>> {
        match &self.snapshot {
            Some(snapshot) => self.manifests(snapshot).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Rows in batches. Some are read as rows of tables are, with the engine's errors.
type Batches = BoxStream<'static, DfResult<RecordBatch>>;

/// A table of this room: its columns, and its rows, made while they are read.
trait Rows: Send + Sync {
    fn schema(&self) -> SchemaRef;

    fn read(&self, ctx: &Arc<TaskContext>) -> Batches;
}

/// One such table in DataFusion's terms.
struct Provider {
    schema: SchemaRef,
    rows: Arc<dyn Rows>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataTable").finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let partition = Partition { schema: Arc::clone(&self.schema), rows: Arc::clone(&self.rows) };
        let none: [LexOrdering; 0] = [];
        let schema = Arc::clone(&self.schema);
        let exec =
            StreamingTableExec::try_new(schema, vec![Arc::new(partition)], projection, none, false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Partition {
    schema: SchemaRef,
    rows: Arc<dyn Rows>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataTable").finish_non_exhaustive()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), self.rows.read(&ctx)))
    }
}

/// The type of moments: milliseconds of the metadata as microseconds.
fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1000)
}

fn column(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field::new(name, data_type, nullable)
}

/// An Arrow error here is a mistake of ours.
fn internal(error: impl fmt::Display) -> Error {
    Error::Internal(format!("rows of a metadata table: {error}"))
}
