//! A table as one query sees it: one snapshot, one schema, for the whole query.
//!
//! [`PinnedTable`] is what names become; [`PinnedTable::provider`] is the same
//! thing in DataFusion's terms. Whoever pins a table twice may see two
//! snapshots, so a query pins each of its tables once.

#[cfg(test)]
mod answers_tests;
mod anti_join;
pub(crate) mod metadata_tables;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Fields, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Statistics;
use datafusion::logical_expr::Expr;
use parking_lot::Mutex;
use tarn_scan::write::Transform;
use tarn_scan::{MetadataColumn, TableScan};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::backend::LoadedTable;
use crate::error::Result;
use crate::iceberg::refs::Resolved;
use crate::iceberg::{Metadata, Snapshot, TableSchema};
use crate::metadata_cache::Files;
use crate::name::TableName;
use crate::plan::{self, FilePlan};

/// What a session says of its scans: an extension of DataFusion's session config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Memory that an index of a table's equality deletes may take, as far as planning can tell: what takes more is
    /// joined, which can spill.
    pub equality_delete_bytes_max: u64,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { equality_delete_bytes_max: 256 << 20 }
    }
}

/// What is known of a scan before it is planned: statistics over the table's whole schema, of the files that are left
/// by filters as [`TableProvider::scan`] takes them.
///
/// For a table of ours these are the manifests' counts and bounds. Its files are planned for that, and not again when
/// the scan is; if that fails nothing is known here, and the scan says why. Other tables say what they say.
pub async fn scan_statistics(table: &dyn TableProvider, filters: &[Expr]) -> Option<Statistics> {
    match table.downcast_ref::<table::Provider>() {
        Some(provider) => provider.scan_statistics(filters).await.ok(),
        None => table.statistics(),
    }
}

/// Plans of more sets of filters than this are not kept in a pin.
const PLANS_MAX: usize = 16;

/// Table property with the name mapping, for files without field ids.
const NAME_MAPPING_PROPERTY: &str = "schema.name-mapping.default";

/// One snapshot of one table, pinned for one query. A cheap handle.
#[derive(Clone, Debug)]
pub struct PinnedTable {
    pin: Arc<Pin>,
}

#[derive(Debug)]
struct Pin {
    name: TableName,
    loaded: LoadedTable,
    snapshot: Option<Snapshot>,
    schema: Arc<TableSchema>,
    scan: Arc<TableScan>,
    files: Arc<Files>,
    /// By filters, and whether each file's partition is wanted.
    plans: Mutex<HashMap<(Vec<Expr>, bool), PlanCell>>,
}

/// A plan that is made once, whoever asks meanwhile.
type PlanCell = Arc<OnceCell<Arc<FilePlan>>>;

/// One field of a table's current partition spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The column that it is derived from; dots lead into structs.
    pub column: String,
    /// How; `None` for a transform that we do not know.
    pub transform: Option<Transform>,
    /// Its own name.
    pub name: String,
}

impl PinnedTable {
    pub(crate) fn new(name: TableName, loaded: LoadedTable, at: Resolved, files: Arc<Files>) -> Result<Self> {
        let metadata = &loaded.metadata;
        let schema = metadata.schema(at.schema_id, &name)?;
        let scan = Arc::new(TableScan {
            table: name.to_string(),
            table_uuid: metadata.uuid(),
            snapshot_id: at.snapshot_id,
            schema: Arc::clone(&schema.arrow),
            format_version: metadata.format_version(),
            name_mapping: metadata.properties().get(NAME_MAPPING_PROPERTY).cloned(),
        });
        let snapshot = at.snapshot_id.and_then(|id| metadata.snapshot(id));
        Ok(Self {
            pin: Arc::new(Pin { name, loaded, snapshot, schema, scan, files, plans: Mutex::default() }),
        })
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.pin.name
    }

    /// The table's identity, which a table made again under its name does not share.
    pub fn uuid(&self) -> Uuid {
        self.metadata().uuid()
    }

    /// The snapshot; `None` for a table that was never written to.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.pin.scan.snapshot_id
    }

    /// Id of the schema that is read: adding a column makes a new one, and no new snapshot.
    pub fn schema_id(&self) -> i32 {
        self.pin.schema.id
    }

    /// The schema that is read, with field ids in the metadata at every level.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.pin.schema.arrow)
    }

    /// How the table is partitioned now.
    pub fn partition_columns(&self) -> Vec<PartitionColumn> {
        let spec = self.metadata().default_partition_spec();
        let fields = spec.fields.into_iter().map(|field| PartitionColumn {
            column: self.metadata().column_name(field.source_id).unwrap_or_else(|| field.name.clone()),
            transform: field.transform,
            name: field.name,
        });
        fields.filter(|field| field.transform != Some(Transform::Void)).collect()
    }

    /// The table's properties.
    pub fn properties(&self) -> &HashMap<String, String> {
        self.metadata().properties()
    }

    /// URI of the metadata file.
    pub fn metadata_location(&self) -> &str {
        &self.pin.loaded.metadata_location
    }

    /// URI of the table's folder.
    pub fn location(&self) -> &str {
        self.metadata().location()
    }

    /// When the snapshot was made, in milliseconds since the epoch.
    pub fn last_commit_ms(&self) -> Option<i64> {
        self.pin.snapshot.as_ref().map(|snapshot| snapshot.timestamp_ms)
    }

    /// Data files in the snapshot, if its writer said so.
    pub fn file_count(&self) -> Option<u64> {
        self.total("total-data-files")
    }

    /// Rows in the snapshot, if its writer said so.
    pub fn row_count(&self) -> Option<u64> {
        self.total("total-records")
    }

    /// Bytes of the snapshot's data files, if its writer said so.
    pub fn size_bytes(&self) -> Option<u64> {
        self.total("total-files-size")
    }

    /// The table's metadata.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.pin.loaded.metadata
    }

    /// The table in DataFusion's terms.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        self.provider_with(&[])
    }

    /// The same with metadata columns after the table's own.
    pub fn provider_with(&self, columns: &[MetadataColumn]) -> Arc<dyn TableProvider> {
        Arc::new(table::Provider::new(self.clone(), columns))
    }

    /// Those of the metadata columns that the table has: not one that it has a column of its own for.
    pub fn metadata_columns(&self, of: &[MetadataColumn]) -> Vec<MetadataColumn> {
        let schema = self.schema();
        let has = |column: &&MetadataColumn| {
            let no_partitions =
                **column == MetadataColumn::Partition && self.metadata().partition_type().is_empty();
            !no_partitions && schema.index_of(column.name()).is_err()
        };
        of.iter().filter(has).copied().collect()
    }

    /// The files that may hold rows which all `filters` let through. Made once for each set of filters.
    ///
    /// Fails with [`crate::Error::NotSupported`] if the snapshot holds anything that cannot be read exactly.
    pub async fn plan_files(&self, filters: &[Expr]) -> Result<Arc<FilePlan>> {
        self.plan_files_with(filters, &Fields::empty()).await
    }

    /// The same with the partition of each file among its constants, as a struct of these fields.
    async fn plan_files_with(&self, filters: &[Expr], partition: &Fields) -> Result<Arc<FilePlan>> {
        let source = plan::Source {
            table: &self.pin.name,
            metadata: self.metadata(),
            snapshot: self.pin.snapshot.as_ref(),
            schema: &self.pin.schema,
            files: &self.pin.files,
            partition,
        };
        let plan = async { plan::plan_files(source, filters).await.map(Arc::new) };
        let cell = self.plan_cell(filters, !partition.is_empty());
        cell.get_or_try_init(|| plan).await.cloned()
    }

    fn plan_cell(&self, filters: &[Expr], partition: bool) -> PlanCell {
        let mut plans = self.pin.plans.lock();
        let key = (filters.to_vec(), partition);
        if let Some(cell) = plans.get(&key) {
            return Arc::clone(cell);
        }
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        Arc::clone(plans.entry(key).or_default())
    }

    /// Whether the columns of this projection can be read, see [`TableSchema::check_readable`].
    fn check_readable(&self, projection: Option<&Vec<usize>>) -> Result<()> {
        self.pin.schema.check_readable(projection, &self.pin.name)
    }

    fn scan(&self) -> &Arc<TableScan> {
        &self.pin.scan
    }

    fn total(&self, key: &str) -> Option<u64> {
        match &self.pin.snapshot {
            Some(snapshot) => snapshot.summary.get(key)?.parse().ok(),
            None => Some(0),
        }
    }
}
