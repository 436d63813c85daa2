//! One write: what executors need to begin it, and the commit that ends it.
//!
//! [`Lakehouse::begin_append`] and [`Lakehouse::begin_create`] change nothing; an
//! [`Append`] that is dropped leaves the table as it was, and maybe files, which
//! [`Append::abort`] removes.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use tarn_scan::field_id;
use tarn_scan::write::{MetricsMode, MetricsModes, PartitionField, PartitionSpec, WriteSpec, WrittenFile};
use tracing::warn;
use uuid::Uuid;

use super::commit::{self, Change, Failure};
use super::ddl::new_location;
use super::orphans::delete_by_prefix;
use super::producer::{Producer, data_folder};
use super::{CreateMode, NewTable};
use crate::backend::{LoadedTable, TableIdent};
use crate::error::{Error, Result};
use crate::iceberg::{self, Metadata};
use crate::name::TableName;
use crate::{Lakehouse, PinnedTable};

const TARGET_FILE_SIZE_BYTES: u64 = 512 << 20;

/// Tables with more columns get metrics for the first of them only, unless a property says otherwise.
const METRICS_COLUMNS_MAX: usize = 100;

/// A write that has begun.
#[derive(Debug)]
pub struct Append {
    /// What `WriteExec` needs.
    pub spec: Arc<WriteSpec>,
    lakehouse: Lakehouse,
    name: TableName,
    query_id: String,
    target: Target,
}

/// What a write became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The new snapshot; the current one, if there was nothing to commit.
    pub snapshot_id: Option<i64>,
    /// Rows written.
    pub rows: u64,
}

/// What the files of a write go into.
#[derive(Debug)]
enum Target {
    /// A table that exists, as it was pinned.
    Table(Arc<Metadata>),
    /// A table that is made with the commit.
    New { first: Option<Box<Metadata>>, uuid: Uuid, if_not_exists: bool },
    /// A table that is replaced with the commit: as it was, and what was asked for.
    Replaced { base: Arc<Metadata>, new: Box<NewTable> },
}

impl Lakehouse {
    /// Begins to add rows to a table.
    ///
    /// Fails with [`Error::NotSupported`] for tables that we cannot write, and [`Error::Invalid`] if the pin is
    /// of an older snapshot.
    pub async fn begin_append(&self, table: &PinnedTable, query_id: &str) -> Result<Append> {
        let (name, metadata) = (table.name(), table.metadata());
        self.backend(&name.catalog)?.check_writable()?;
        if table.snapshot_id() != metadata.current_snapshot_id() {
            let name = name.to_string();
            return Err(Error::Invalid(format!(
                "rows cannot be added to an older snapshot of table {name:?}"
            )));
        }
        let spec = write_spec(name, metadata, query_id)?;
        Ok(self.append(name, query_id, spec, Target::Table(Arc::clone(metadata))))
    }

    /// Begins to make a table together with its rows: `CREATE TABLE AS`, `CREATE OR REPLACE TABLE AS`.
    ///
    /// The table, or its new state, is visible only with the commit. Fails with [`Error::TableExists`] unless it
    /// is to be replaced; with [`CreateMode::IfNotExists`], too, since there is nothing to write then.
    pub async fn begin_create(
        &self,
        name: &TableName,
        new: NewTable,
        mode: CreateMode,
        query_id: &str,
    ) -> Result<Append> {
        let backend = self.backend(&name.catalog)?;
        backend.check_writable()?;
        let base = match backend.load_table(&TableIdent::new(&name.schema, &name.table)).await {
            Ok(base) => Some(base),
            Err(Error::TableNotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match (base, mode) {
            (None, _) => {
                let location = new_location(self, name, &new).await?;
                let first = iceberg::new_table(&new, &location)?;
                let spec = write_spec(name, &first, query_id)?;
                let if_not_exists = mode == CreateMode::IfNotExists;
                let uuid = first.uuid();
                Ok(self.append(
                    name,
                    query_id,
                    spec,
                    Target::New { first: Some(Box::new(first)), uuid, if_not_exists },
                ))
            }
            (Some(base), CreateMode::OrReplace) => {
                refuse_unwritable(name, &base.metadata)?;
                // Computed again at the commit, with the same ids or not at all.
                let staged = iceberg::replacement(&base.metadata, &base.metadata_location, &new)?;
                let spec = write_spec(name, &staged, query_id)?;
                let target = Target::Replaced { base: base.metadata, new: Box::new(new) };
                Ok(self.append(name, query_id, spec, target))
            }
            (Some(_), _) => Err(Error::TableExists { name: name.clone() }),
        }
    }

    fn append(&self, name: &TableName, query_id: &str, spec: WriteSpec, target: Target) -> Append {
        Append {
            spec: Arc::new(spec),
            lakehouse: self.clone(),
            name: name.clone(),
            query_id: query_id.to_owned(),
            target,
        }
    }
}

impl Append {
    /// Commits `files`: all that the write's tasks yielded, each once. One snapshot, or for no files none.
    ///
    /// Fails with [`Error::CommitConflict`], after which the files are deleted, and [`Error::CommitUnknown`],
    /// after which they stay: the commit may have happened.
    pub async fn commit(self, files: Vec<WrittenFile>) -> Result<Committed> {
        let Self { lakehouse, name, query_id, target, spec } = self;
        check_files(&spec, &files)?;
        if let (Target::Table(base), true) = (&target, files.is_empty()) {
            return Ok(Committed { snapshot_id: base.current_snapshot_id(), rows: 0 });
        }
        let mut commit = Commit {
            producer: Producer::new(lakehouse.router(), &name, &query_id, files),
            name: name.clone(),
            spec_id: spec.partition.spec_id,
            target,
        };
        match commit.run(&lakehouse).await {
            Ok(table) => {
                commit.producer.clean_up_attempts().await;
                let snapshot_id =
                    table.metadata.snapshot(commit.producer.snapshot_id()).map(|snapshot| snapshot.id);
                Ok(Committed { snapshot_id, rows: commit.producer.rows() })
            }
            Err(Failure::Definite(Error::TableExists { .. })) if commit.target.gives_way() => {
                commit.producer.clean_up_all().await;
                Ok(Committed { snapshot_id: None, rows: 0 })
            }
            Err(failure) => {
                if let Failure::Definite(error) = &failure {
                    warn!(table = %name, %query_id, %error, "commit failed, its files are deleted");
                    commit.producer.clean_up_all().await;
                }
                Err(failure.into_error())
            }
        }
    }

    /// Ends the write without a commit: deletes every data file that its query wrote for this table.
    ///
    /// For when all its tasks are over. What cannot be deleted is logged and left.
    pub async fn abort(self) {
        self.discard().await;
    }

    /// Deletes every data file that its query wrote so far, to write anew.
    ///
    /// For when all its tasks are over. What cannot be deleted is logged and left.
    pub async fn discard(&self) {
        let (router, folder) = (self.lakehouse.router(), &self.spec.data_location);
        if let Err(error) = delete_by_prefix(router, folder, &self.query_id, &HashSet::new()).await {
            warn!(table = %self.name, query_id = self.query_id, %error, "data files of an aborted write not deleted");
        }
    }
}

impl Target {
    /// Whether a table that somebody else made meanwhile is as good.
    fn gives_way(&self) -> bool {
        matches!(self, Self::New { if_not_exists: true, .. })
    }
}

/// The commit of a write.
struct Commit {
    producer: Producer,
    name: TableName,
    spec_id: i32,
    target: Target,
}

impl Commit {
    async fn run(&mut self, lakehouse: &Lakehouse) -> Result<LoadedTable, Failure> {
        let name = self.name.clone();
        if let Target::New { first, .. } = &mut self.target {
            let Some(mut first) = first.take() else {
                return Err(Error::Internal("a table is made once".to_owned()).into());
            };
            // A table without rows has no snapshot.
            if self.producer.rows() > 0 {
                *first = self.producer.append(&first, None).await?;
            }
            return commit::create(lakehouse, &name, self, *first).await;
        }
        commit::commit(lakehouse, &name, self).await
    }

    fn conflict(&self, reason: &str) -> Error {
        warn!(table = %self.name, reason, "the table has changed since the write began");
        Error::CommitConflict { table: self.name.clone() }
    }
}

#[async_trait]
impl Change for Commit {
    async fn apply(&mut self, now: &LoadedTable) -> Result<Metadata> {
        match &self.target {
            Target::Table(base) => {
                refuse_unwritable(&self.name, &now.metadata)?;
                if let Some(reason) = iceberg::why_not_appendable(base, self.spec_id, &now.metadata) {
                    return Err(self.conflict(&reason));
                }
                self.producer.append_to(now).await
            }
            Target::Replaced { base, new, .. } => {
                if !iceberg::has_same_ids(base, &now.metadata) {
                    return Err(self.conflict("its columns or partition spec were changed"));
                }
                let replaced = iceberg::replacement(&now.metadata, &now.metadata_location, new)?;
                if self.producer.rows() == 0 {
                    return Ok(replaced);
                }
                self.producer.append(&replaced, None).await
            }
            Target::New { .. } => Err(Error::Internal("a new table has no version to build on".to_owned())),
        }
    }

    fn is_in(&self, table: &Metadata) -> bool {
        match &self.target {
            Target::New { uuid, .. } => table.uuid() == *uuid,
            // A replacement without rows leaves no snapshot to look for, so its outcome stays unknown.
            Target::Table(_) | Target::Replaced { .. } => self.producer.is_in(table),
        }
    }
}

/// What executors need to write files for this version of a table.
fn write_spec(name: &TableName, metadata: &Metadata, query_id: &str) -> Result<WriteSpec> {
    refuse_unwritable(name, metadata)?;
    let schema_id = metadata.current_schema_id();
    let schema = Arc::clone(&metadata.schema(schema_id, name)?.arrow);
    let json = metadata.schema_json(schema_id);
    let iceberg_schema_json = json.ok_or_else(|| Error::Internal(format!("no schema {schema_id}")))?;
    let properties = metadata.properties();
    let size = properties.get("write.target-file-size-bytes").and_then(|size| size.parse().ok());
    let compression = properties.get("write.parquet.compression-codec");
    let metrics = metrics_modes(metadata, schema.fields());
    Ok(WriteSpec {
        table: name.to_string(),
        data_location: data_folder(metadata),
        schema,
        iceberg_schema_json,
        partition: partition_spec(name, metadata)?,
        file_prefix: query_id.to_owned(),
        target_file_size_bytes: size.filter(|size| *size > 0).unwrap_or(TARGET_FILE_SIZE_BYTES),
        compression: compression.cloned().unwrap_or_else(|| "zstd".to_owned()),
        metrics,
    })
}

fn partition_spec(name: &TableName, metadata: &Metadata) -> Result<PartitionSpec> {
    if let Some(field) = iceberg::unwritable_partition_field(metadata) {
        let feature = format!("writing UUIDs as values of partition field {field:?}");
        return Err(Error::NotSupported { table: name.clone(), feature });
    }
    let spec = metadata.default_partition_spec();
    let fields = spec.fields.into_iter().map(|field| {
        let transform = field.transform.ok_or_else(|| Error::NotSupported {
            table: name.clone(),
            feature: format!("the transform of partition field {:?}", field.name),
        })?;
        Ok(PartitionField {
            source_id: field.source_id,
            field_id: field.field_id,
            name: field.name,
            transform,
        })
    });
    Ok(PartitionSpec { spec_id: spec.id, fields: fields.collect::<Result<_>>()? })
}

/// Refuses tables whose new rows would be wrong, or unreadable for others.
pub(super) fn refuse_unwritable(name: &TableName, metadata: &Metadata) -> Result<()> {
    let not_supported =
        |feature: &str| Error::NotSupported { table: name.clone(), feature: feature.to_owned() };
    metadata.check_committable(name)?;
    if metadata.format_version() > 2 {
        return Err(not_supported("writing to a table of format version 3"));
    }
    if metadata.is_read_only() {
        return Err(not_supported(
            "writing to a table whose metadata has an older form, or names expired snapshots",
        ));
    }
    if metadata.is_encrypted() {
        return Err(not_supported("writing to an encrypted table"));
    }
    Ok(())
}

/// Metrics modes from the table's properties; a mode that cannot be read counts as not set, as in Java's.
fn metrics_modes(metadata: &Metadata, fields: &[Arc<Field>]) -> MetricsModes {
    const PREFIX: &str = "write.metadata.metrics.";
    let properties = metadata.properties();
    let mode = |value: &String| MetricsMode::from_str(value).ok();
    let default = properties.get(&format!("{PREFIX}default")).and_then(mode);
    let mut modes = MetricsModes { default: default.unwrap_or_default(), ..MetricsModes::default() };
    if default.is_none() {
        let mut leaves = Vec::new();
        fields.iter().for_each(|field| leaf_ids(field, &mut leaves));
        modes.columns =
            leaves.into_iter().skip(METRICS_COLUMNS_MAX).map(|id| (id, MetricsMode::None)).collect();
    }
    for (key, value) in properties {
        let id = key
            .strip_prefix(PREFIX)
            .and_then(|key| key.strip_prefix("column."))
            .and_then(|column| iceberg::column_id(metadata, column));
        if let (Some(id), Some(mode)) = (id, mode(value)) {
            modes.columns.insert(id, mode);
        }
    }
    modes
}

fn leaf_ids(field: &Field, ids: &mut Vec<i32>) {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().for_each(|field| leaf_ids(field, ids)),
        DataType::List(child) | DataType::Map(child, _) => leaf_ids(child, ids),
        _ => ids.extend(field_id(field)),
    }
}

/// Our own invariants, checked where going on would lose or invent rows.
fn check_files(spec: &WriteSpec, files: &[WrittenFile]) -> Result<()> {
    let mut seen = HashSet::new();
    for file in files {
        let expected = file.spec_id == spec.partition.spec_id
            && file.partition.len() == spec.partition.fields.len()
            && file.uri.starts_with(&spec.data_location);
        if !expected {
            return Err(Error::Internal(format!("data file {:?} was written for something else", file.uri)));
        }
        if !seen.insert(&file.uri) {
            return Err(Error::Internal(format!("data file {:?} was reported twice", file.uri)));
        }
    }
    Ok(())
}
