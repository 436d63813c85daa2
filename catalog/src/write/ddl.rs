//! Tables made, replaced and dropped.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tracing::{info, warn};

use super::append::refuse_unwritable;
use super::commit::{self, Change, Failure};
use super::orphans::delete_all;
use super::{CreateMode, NewTable};
use crate::backend::{LoadedTable, TableIdent};
use crate::error::{Error, Result, nearest};
use crate::iceberg::{self, Metadata};
use crate::name::TableName;
use crate::{Lakehouse, PinnedTable};

/// Stands for the location in a table that has none yet.
const DRAFT_LOCATION: &str = "file:///draft";

/// Manifests read at once when a table is purged.
const READS_MAX: usize = 8;

impl Lakehouse {
    /// Makes a table without rows, and pins it.
    ///
    /// Fails with [`Error::TableExists`], [`Error::SchemaNotFound`], and [`Error::Invalid`] for columns,
    /// partition fields and properties that a table cannot have.
    pub async fn create_table(
        &self,
        name: &TableName,
        new: NewTable,
        mode: CreateMode,
    ) -> Result<PinnedTable> {
        match self.find(name).await? {
            Some(table) if mode == CreateMode::IfNotExists => return self.pin_loaded(name, table),
            Some(_) if mode == CreateMode::Create => return Err(Error::TableExists { name: name.clone() }),
            Some(_) => return self.replace(name, new).await,
            None => {}
        }
        let location = new_location(self, name, &new).await?;
        let first = iceberg::new_table(&new, &location)?;
        let change = Made(first.uuid());
        match commit::create(self, name, &change, first).await.map_err(Failure::into_error) {
            Ok(table) => self.pin_loaded(name, table),
            // Somebody else was faster.
            Err(Error::TableExists { .. }) if mode == CreateMode::IfNotExists => self.pin(name, None).await,
            Err(Error::TableExists { .. }) if mode == CreateMode::OrReplace => self.replace(name, new).await,
            Err(error) => Err(error),
        }
    }

    /// Drops a table. With `purge`, deletes its files, those of older snapshots included.
    pub async fn drop_table(&self, name: &TableName, if_exists: bool, purge: bool) -> Result<()> {
        let backend = self.backend(&name.catalog)?;
        let ident = TableIdent::new(&name.schema, &name.table);
        let table = match backend.load_table(&ident).await {
            Err(Error::TableNotFound { .. } | Error::SchemaNotFound { .. }) if if_exists => return Ok(()),
            Err(Error::TableNotFound { name, .. }) => {
                let tables = backend.list_tables(&name.schema).await.unwrap_or_default();
                let near = nearest(&name.table, tables.iter().map(String::as_str));
                return Err(Error::TableNotFound { name, near });
            }
            // A table that cannot be read can still be forgotten.
            Err(Error::Corrupt { .. } | Error::MetadataFile { .. } | Error::NotSupported { .. })
                if !purge =>
            {
                None
            }
            other => Some(other?),
        };
        let kept =
            |table: &LoadedTable| table.metadata.properties().get("gc.enabled").is_some_and(|v| v == "false");
        if purge && table.as_ref().is_some_and(kept) {
            let name = name.to_string();
            return Err(Error::Invalid(format!(
                "table {name:?} cannot be purged: its property gc.enabled is false"
            )));
        }
        let dropped = {
            let _turn = self.commit_queues().turn(name).await;
            let dropped = match (table, purge) {
                (Some(_), true) => match backend.purge_table(&ident).await {
                    // Nothing is left for us to purge: the catalog did.
                    Ok(true) => Ok(None),
                    Ok(false) => backend.drop_table(&ident).await.map(Some),
                    Err(error) => Err(error),
                },
                (Some(_), false) => backend.drop_table(&ident).await.map(Some),
                (None, _) => backend.forget_table(&ident).await.map(|()| None),
            };
            self.forget(name);
            dropped
        };
        match dropped {
            Ok(Some(table)) if purge => purge_files(self, name, &table).await,
            Ok(_) => {}
            Err(Error::TableNotFound { .. }) if if_exists => {}
            Err(error) => return Err(error),
        }
        info!(table = %name, purge, "table dropped");
        Ok(())
    }

    /// The newest version of a table, if there is such a table.
    async fn find(&self, name: &TableName) -> Result<Option<LoadedTable>> {
        let ident = TableIdent::new(&name.schema, &name.table);
        match self.backend(&name.catalog)?.load_table(&ident).await {
            Ok(table) => Ok(Some(table)),
            Err(Error::TableNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn replace(&self, name: &TableName, new: NewTable) -> Result<PinnedTable> {
        let mut change = Replace { name: name.clone(), new, made: None };
        let table = commit::commit(self, name, &mut change).await.map_err(Failure::into_error)?;
        self.pin_loaded(name, table)
    }
}

/// The folder of a new table; an error if its schema does not exist or its name cannot be one.
pub(super) async fn new_location(lakehouse: &Lakehouse, name: &TableName, new: &NewTable) -> Result<String> {
    let bad = |c: char| c == '/' || c == '\\' || c.is_control();
    if name.table.is_empty() || name.table.contains(bad) || matches!(name.table.as_str(), "." | "..") {
        return Err(Error::Invalid(format!("{:?} is not a name for a table", name.table)));
    }
    let backend = lakehouse.backend(&name.catalog)?;
    if !backend.schema_exists(&name.schema).await? {
        let (catalog, schema) = (name.catalog.clone(), name.schema.clone());
        let near = nearest(&schema, backend.list_schemas().await?.iter().map(String::as_str));
        return Err(Error::SchemaNotFound { catalog, schema, near });
    }
    if let Some(location) = &new.location {
        tarn_scan::storage::check_location(location)?;
        return Ok(location.trim_end_matches('/').to_owned());
    }
    // The catalog decides, from what the table will be; only its location is still open.
    let draft = iceberg::new_table(new, DRAFT_LOCATION)?;
    backend.new_table_location(&TableIdent::new(&name.schema, &name.table), &draft).await
}

/// A table that was made: its identity tells whether it is ours.
struct Made(uuid::Uuid);

#[async_trait]
impl Change for Made {
    async fn apply(&mut self, _base: &LoadedTable) -> Result<Metadata> {
        Err(Error::Internal("a new table has no version to build on".to_owned()))
    }

    fn is_in(&self, table: &Metadata) -> bool {
        table.uuid() == self.0
    }
}

/// A table that is replaced by one without rows.
struct Replace {
    name: TableName,
    new: NewTable,
    /// When the version that we tried last was made, and its schema.
    made: Option<(i64, i32)>,
}

#[async_trait]
impl Change for Replace {
    async fn apply(&mut self, base: &LoadedTable) -> Result<Metadata> {
        refuse_unwritable(&self.name, &base.metadata)?;
        let replaced = iceberg::replacement(&base.metadata, &base.metadata_location, &self.new)?;
        self.made = Some((replaced.last_updated_ms(), replaced.current_schema_id()));
        Ok(replaced)
    }

    fn is_in(&self, table: &Metadata) -> bool {
        let found = (table.last_updated_ms(), table.current_schema_id());
        table.current_snapshot_id().is_none() && self.made == Some(found)
    }
}

/// Deletes the files of a table that the catalog has forgotten, as far as they can be read and deleted.
async fn purge_files(lakehouse: &Lakehouse, name: &TableName, table: &LoadedTable) {
    let metadata = &table.metadata;
    let router = lakehouse.router();
    let lists =
        metadata.snapshots().into_iter().map(|snapshot| snapshot.manifest_list).collect::<BTreeSet<_>>();
    let mut manifests = BTreeSet::new();
    for list in &lists {
        let read = async { iceberg::manifests_in(metadata, name, &router.get(list).await?, list) };
        match read.await {
            Ok(found) => manifests.extend(found.into_iter().map(|(uri, _)| uri)),
            Err(error) => warn!(table = %name, list, %error, "manifest list of a purged table not readable"),
        }
    }
    // One manifest's files at a time: a large table has more files than should be held.
    let data = stream::iter(&manifests).for_each_concurrent(READS_MAX, |manifest| async move {
        let read = async { iceberg::files_in(&router.get(manifest).await?) };
        match read.await {
            Ok(files) => delete_all(router, files).await,
            Err(error) => warn!(table = %name, manifest, %error, "manifest of a purged table not readable"),
        }
    });
    data.await;
    delete_all(router, manifests).await;
    delete_all(router, lists).await;
    let mut versions = iceberg::other_files(metadata);
    versions.push(table.metadata_location.clone());
    delete_all(router, versions).await;
}
