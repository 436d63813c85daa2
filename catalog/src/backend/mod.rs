//! Catalogs: from a table's name to its current metadata file, and how that is swapped.
//!
//! A [`Backend`] is one catalog. It knows names, locations and the one
//! pointer a table; what is in the files it leaves to [`crate::iceberg`], and
//! how a new version comes about to [`crate::write`]. The one rule: a commit
//! first writes the whole new metadata file, then swaps the pointer, and the
//! swap happens only if nobody else's came first.

mod location;
mod sql;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::iceberg::Metadata;

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

    /// The tables of a schema, sorted. Fails with [`crate::Error::SchemaNotFound`].
    async fn list_tables(&self, schema: &str) -> Result<Vec<String>>;

    /// The current version of a table. Fails with [`crate::Error::TableNotFound`], which has no near name yet.
    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Writes the first metadata file below the table's location and makes the table point at it.
    /// Fails with [`crate::Error::TableExists`] and [`crate::Error::SchemaNotFound`], with nothing left behind.
    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable>;

    /// Writes the next metadata file and swaps the pointer from `base` to it.
    async fn commit(&self, ident: &TableIdent, base: &LoadedTable, new: Metadata) -> Result<Outcome>;

    /// Makes the catalog forget a table, and returns what it pointed at. No file is deleted.
    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable>;

    /// Makes the catalog forget a table whose metadata cannot be read. No file is deleted.
    async fn forget_table(&self, ident: &TableIdent) -> Result<()>;
}
