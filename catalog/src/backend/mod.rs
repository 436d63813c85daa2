//! Catalogs: from a table's name to its current metadata file, and how that is swapped.
//!
//! A [`Backend`] is one catalog. It knows names, locations and the one
//! pointer a table; what is in the files it leaves to [`crate::iceberg`], and
//! how a new version comes about to [`crate::write`]. The one rule: a commit
//! first writes the whole new metadata file, then swaps the pointer, and the
//! swap happens only if nobody else's came first.

mod database;
mod filesystem;
mod location;
mod named;
mod rest;
mod sql;
pub mod suite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use tarn_scan::storage::Router;

use crate::config::{CatalogConfig, CatalogKind};
use crate::error::Result;
use crate::iceberg::{Metadata, ViewMetadata};
use crate::metadata_cache::Files;

pub use filesystem::FilesystemBackend;
pub use rest::{RestBackend, RestConfig};
pub use sql::SqlBackend;

/// A table inside one catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableIdent {
    /// Its schema; the levels of a nested namespace are joined by dots.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableIdent {
    /// A table of a schema.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

/// One version of a table: its metadata, and the file that holds it.
#[derive(Clone, Debug)]
pub struct LoadedTable {
    /// URI of the metadata file.
    pub metadata_location: String,
    /// What is in it.
    pub metadata: Arc<Metadata>,
}

/// One version of a view: its metadata, and the file that holds it.
#[derive(Clone, Debug)]
pub struct LoadedView {
    /// URI of the metadata file.
    pub metadata_location: String,
    /// What is in it.
    pub metadata: ViewMetadata,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Outcome {
    /// The new version is the current one.
    Committed(LoadedTable),
    /// Another version came first: nothing has changed, and nothing is left behind.
    Conflict,
    /// Nobody knows, and why: the files of this commit must stay.
    Unknown(String),
}

/// One catalog.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Fails if nothing can be changed here; asked before a write makes its first file.
    fn check_writable(&self) -> Result<()> {
        Ok(())
    }

    /// The schemas, sorted.
    async fn list_schemas(&self) -> Result<Vec<String>>;

    /// Makes a schema. Fails with [`crate::Error::SchemaExists`].
    async fn create_schema(&self, schema: &str, location: Option<&str>) -> Result<()>;

    /// Drops an empty schema. Fails with [`crate::Error::SchemaNotFound`] and [`crate::Error::SchemaNotEmpty`].
    async fn drop_schema(&self, schema: &str) -> Result<()>;

    /// Whether there is such a schema.
    async fn schema_exists(&self, schema: &str) -> Result<bool>;

    /// The folder that tables of this schema go below, without a slash at the end.
    async fn schema_location(&self, schema: &str) -> Result<String>;

    /// The folder of a table that is about to be made; `draft` is what it will be, at a location that is only a
    /// guess. Fails with [`crate::Error::SchemaNotFound`].
    async fn new_table_location(&self, ident: &TableIdent, _draft: &Metadata) -> Result<String> {
        Ok(format!("{}/{}", self.schema_location(&ident.schema).await?, ident.table))
    }

    /// The tables of a schema, sorted. Fails with [`crate::Error::SchemaNotFound`].
    async fn list_tables(&self, schema: &str) -> Result<Vec<String>>;

    /// The current version of a table, with all of its past: what a commit builds on.
    /// Fails with [`crate::Error::TableNotFound`], which has no near name yet.
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// The same for a query: of a long past only the snapshots that have a name. It is kept for the next query.
    async fn load_present(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Writes the first metadata file below the table's location and makes the table point at it.
    /// Fails with [`crate::Error::TableExists`] and [`crate::Error::SchemaNotFound`], with nothing left behind.
    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable>;

    /// Writes the next metadata file and swaps the pointer from `base` to it.
    async fn commit(&self, ident: &TableIdent, base: &LoadedTable, new: Metadata) -> Result<Outcome>;

    /// Makes the catalog forget a table, and returns what it pointed at. No file is deleted.
    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Makes the catalog forget a table whose metadata cannot be read. No file is deleted.
    async fn forget_table(&self, ident: &TableIdent) -> Result<()>;

    /// Drops a table together with its files, if the catalog does that by itself; says whether it did.
    async fn purge_table(&self, _ident: &TableIdent) -> Result<bool> {
        Ok(false)
    }

    /// The views of a schema, sorted. Fails with [`crate::Error::SchemaNotFound`].
    async fn list_views(&self, _schema: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The current version of a view. Fails with [`crate::Error::ViewNotFound`].
    async fn load_view(&self, ident: &TableIdent) -> Result<LoadedView>;

    /// The folder of a view that is about to be made.
    async fn new_view_location(&self, ident: &TableIdent) -> Result<String> {
        Ok(format!("{}/{}", self.schema_location(&ident.schema).await?, ident.table))
    }

    /// Makes a view. Fails with [`crate::Error::ViewExists`], [`crate::Error::TableExists`] and
    /// [`crate::Error::SchemaNotFound`].
    async fn create_view(&self, ident: &TableIdent, view: ViewMetadata) -> Result<()>;

    /// Puts another version in the place of `base`; `false` if another one came first.
    async fn replace_view(&self, ident: &TableIdent, base: &LoadedView, view: ViewMetadata) -> Result<bool>;

    /// Drops a view. Fails with [`crate::Error::ViewNotFound`].
    async fn drop_view(&self, ident: &TableIdent) -> Result<()>;

    /// Renews those keys to storage that the catalog vended and that are about to expire.
    async fn renew_credentials(&self) {}
}

/// Opens the catalog of a configuration. `name` is its name in SQL.
pub(crate) async fn open(
    name: &str,
    config: &CatalogConfig,
    router: &Router,
    files: &Arc<Files>,
) -> Result<Arc<dyn Backend>> {
    Ok(match config.kind {
        CatalogKind::Sql => {
            Arc::new(SqlBackend::open(name, config, router.clone(), Arc::clone(files)).await?)
        }
        CatalogKind::Rest => Arc::new(RestBackend::open(name, config, router, Arc::clone(files))),
        CatalogKind::Filesystem => {
            Arc::new(FilesystemBackend::open(name, config, router.clone(), Arc::clone(files)))
        }
    })
}
