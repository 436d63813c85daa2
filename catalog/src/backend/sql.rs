//! A catalog in a SQLite file or a PostgreSQL database, in the schema that Java's `JdbcCatalog` and PyIceberg's
//! `SqlCatalog` share.
//!
//! Other engines may use it at the same time. So each step is one statement that checks what it
//! relies on, and nothing is kept in memory. The database needs nothing but the two shared tables;
//! the column `iceberg_type`, which came with views, may be missing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tarn_scan::storage::Router;
use tracing::warn;

use super::database::{Database, Failure};
use super::named::Named;
use super::{Backend, LoadedTable, LoadedView, Outcome, TableIdent, location};
use crate::config::{CatalogConfig, is_postgres};
use crate::error::{Error, Result};
use crate::iceberg::{Metadata, Past, ViewMetadata};
use crate::metadata_cache::Files;

/// How often a table is dropped again that others commit to meanwhile.
const DROP_ATTEMPTS_MAX: usize = 8;

const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (\
    catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
    metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5), \
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

const CREATE_NAMESPACE_PROPERTIES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
    catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL, \
    property_value VARCHAR(1000), PRIMARY KEY (catalog_name, namespace, property_key))";

// A namespace exists if it has a property, or if there is a table in it or below it.
const NAMESPACE_EXISTS: &str = "(EXISTS (SELECT 1 FROM iceberg_namespace_properties \
    WHERE catalog_name = $1 AND (namespace = $2 OR substr(namespace, 1, length($2) + 1) = $2 || '.')) \
    OR EXISTS (SELECT 1 FROM iceberg_tables \
    WHERE catalog_name = $1 AND (table_namespace = $2 OR substr(table_namespace, 1, length($2) + 1) = $2 || '.')))";

// What is in a namespace: its tables and views, those below it, and the namespaces below it.
const INSIDE_NAMESPACE: &str = "SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 \
    AND (table_namespace = $2 OR substr(table_namespace, 1, length($2) + 1) = $2 || '.') \
    UNION ALL SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = $1 \
    AND substr(namespace, 1, length($2) + 1) = $2 || '.'";

const ROW: &str = "catalog_name = $1 AND table_namespace = $2 AND table_name = $3";

/// A catalog in a database.
#[derive(Debug)]
pub struct SqlBackend {
    /// Its name in SQL, for messages.
    catalog: String,
    /// Its name inside the database.
    name: String,
    warehouse: String,
    /// Whether the database has the column that tells views from tables.
    has_type: bool,
    database: Database,
    router: Router,
    files: Arc<Files>,
}

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Table,
    View,
}

impl SqlBackend {
    /// Opens the database, and makes the tables in it if there are none.
    pub(crate) async fn open(
        catalog: &str,
        config: &CatalogConfig,
        router: Router,
        files: Arc<Files>,
    ) -> Result<Self> {
        let failed =
            |failure: Failure| Error::Database { catalog: catalog.to_owned(), reason: failure.to_string() };
        let database = match is_postgres(&config.uri) {
            true => Database::postgres(&config.uri, &config.password).map_err(failed)?,
            false => Database::sqlite(file_path(&config.uri)).await.map_err(failed)?,
        };
        for sql in [CREATE_TABLES, CREATE_NAMESPACE_PROPERTIES] {
            match database.execute(sql, &[]).await {
                // Two processes that start at once on PostgreSQL: the other one has made it.
                Ok(_) | Err(Failure::Unique) => {}
                Err(failure) => return Err(failed(failure)),
            }
        }
        let has_type = database.has_column("iceberg_tables", "iceberg_type").await.map_err(failed)?;
        Ok(Self {
            catalog: catalog.to_owned(),
            name: config.name.clone().unwrap_or_else(|| catalog.to_owned()),
            warehouse: config.warehouse.trim_end_matches('/').to_owned(),
            has_type,
            database,
            router,
            files,
        })
    }

    fn failed(&self, failure: Failure) -> Error {
        Error::Database { catalog: self.catalog.clone(), reason: failure.to_string() }
    }

    async fn load(&self, ident: &TableIdent, past: Past) -> Result<LoadedTable> {
        let metadata_location =
            self.pointer(ident, Kind::Table).await?.ok_or_else(|| self.table_not_found(ident))?;
        let metadata = self.files.metadata(&self.table_name(ident), &metadata_location, past).await?;
        Ok(LoadedTable { metadata_location, metadata })
    }

    async fn query(&self, sql: &str, parameters: &[&str]) -> Result<Vec<Option<String>>> {
        let parameters: Vec<_> = parameters.iter().map(|parameter| Some(*parameter)).collect();
        self.database.query(sql, &parameters).await.map_err(|failure| self.failed(failure))
    }

    async fn execute(&self, sql: &str, parameters: &[&str]) -> Result<u64, Failure> {
        let parameters: Vec<_> = parameters.iter().map(|parameter| Some(*parameter)).collect();
        self.database.execute(sql, &parameters).await
    }

    /// What narrows a statement to tables, or to views; `None` if there can be none.
    fn only(&self, kind: Kind) -> Option<&'static str> {
        match (kind, self.has_type) {
            (Kind::Table, true) => Some(" AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)"),
            (Kind::Table, false) => Some(""),
            (Kind::View, true) => Some(" AND iceberg_type = 'VIEW'"),
            (Kind::View, false) => None,
        }
    }

    /// Where the current metadata of a table or view is; `None` if there is no such one.
    async fn pointer(&self, ident: &TableIdent, kind: Kind) -> Result<Option<String>> {
        let Some(only) = self.only(kind) else { return Ok(None) };
        let sql = format!("SELECT metadata_location FROM iceberg_tables WHERE {ROW}{only}");
        let found = self.query(&sql, &[&self.name, &ident.schema, &ident.table]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Fails if the name is taken, or its schema does not exist.
    async fn check_free(&self, ident: &TableIdent) -> Result<()> {
        if self.pointer(ident, Kind::Table).await?.is_some() {
            return Err(Error::TableExists { name: self.table_name(ident) });
        }
        if self.pointer(ident, Kind::View).await?.is_some() {
            return Err(Error::ViewExists { name: self.table_name(ident) });
        }
        match self.schema_exists(&ident.schema).await? {
            true => Ok(()),
            false => Err(self.schema_not_found(&ident.schema)),
        }
    }

    async fn insert(&self, ident: &TableIdent, location: &str, kind: Kind) -> Result<u64, Failure> {
        let sql = match (self.has_type, kind) {
            (true, Kind::Table) => {
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                 iceberg_type) VALUES ($1, $2, $3, $4, 'TABLE')"
            }
            (true, Kind::View) => {
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                 iceberg_type) VALUES ($1, $2, $3, $4, 'VIEW')"
            }
            (false, _) => {
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) \
                 VALUES ($1, $2, $3, $4)"
            }
        };
        self.execute(sql, &[&self.name, &ident.schema, &ident.table, location]).await
    }

    /// Puts `new` in the place of `base`, if that is still the current one; returns how many rows that changed.
    async fn swap(&self, ident: &TableIdent, base: &str, new: &str, kind: Kind) -> Result<u64, Failure> {
        let Some(only) = self.only(kind) else { return Ok(0) };
        let sql = format!(
            "UPDATE iceberg_tables SET metadata_location = $4, previous_metadata_location = $5 \
             WHERE {ROW} AND metadata_location = $5{only}"
        );
        self.execute(&sql, &[&self.name, &ident.schema, &ident.table, new, base]).await
    }

    /// Writes metadata to a file that nothing points at yet.
    async fn write(&self, ident: &TableIdent, file: &str, json: Vec<u8>) -> Result<()> {
        self.router.put_new(file, Bytes::from(json)).await.map_err(|source| Error::MetadataFile {
            table: self.table_name(ident),
            file: file.to_owned(),
            source: Box::new(source),
        })
    }

    /// Deletes a metadata file that nothing came to point at.
    async fn discard(&self, file: &str) {
        if let Err(error) = self.router.delete(file).await {
            warn!(%error, "metadata file of a failed commit could not be deleted");
        }
    }

    /// How a swap ended that the database called an error: the pointer itself knows.
    async fn settle(&self, ident: &TableIdent, new: LoadedTable, failure: Failure) -> Result<Outcome> {
        match self.pointer(ident, Kind::Table).await {
            Ok(Some(location)) if location == new.metadata_location => Ok(Outcome::Committed(new)),
            // A server may yet come to the statement.
            Ok(_) if matches!(failure, Failure::Lost(_)) => Ok(Outcome::Unknown(failure.to_string())),
            Ok(_) => {
                self.discard(&new.metadata_location).await;
                Err(self.failed(failure))
            }
            Err(second) => Ok(Outcome::Unknown(format!("{failure}; then {second}"))),
        }
    }

    async fn names(&self, schema: &str, kind: Kind) -> Result<Vec<String>> {
        let mut names: Vec<String> = match self.only(kind) {
            Some(only) => {
                let sql = format!(
                    "SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2{only}"
                );
                self.query(&sql, &[&self.name, schema]).await?.into_iter().flatten().collect()
            }
            None => Vec::new(),
        };
        if names.is_empty() && !self.schema_exists(schema).await? {
            return Err(self.schema_not_found(schema));
        }
        // Not by the database, whose order depends on its language.
        names.sort_unstable();
        Ok(names)
    }
}

impl Named for SqlBackend {
    fn catalog(&self) -> &str {
        &self.catalog
    }
}

#[async_trait]
impl Backend for SqlBackend {
    async fn list_schemas(&self) -> Result<Vec<String>> {
        let sql = "SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = $1 \
                   UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = $1";
        let mut schemas: Vec<_> = self.query(sql, &[&self.name]).await?.into_iter().flatten().collect();
        schemas.sort_unstable();
        Ok(schemas)
    }

    async fn create_schema(&self, schema: &str, location: Option<&str>) -> Result<()> {
        let exists = || Error::SchemaExists { catalog: self.catalog.clone(), schema: schema.to_owned() };
        // The row that says no more than that it exists is what the other engines write, too.
        let sql = format!(
            "INSERT INTO iceberg_namespace_properties SELECT $1, $2, property_key, property_value FROM \
             (SELECT 'exists' AS property_key, 'true' AS property_value UNION ALL \
             SELECT 'location', CAST($3 AS VARCHAR(1000)) WHERE $3 IS NOT NULL) AS properties \
             WHERE NOT {NAMESPACE_EXISTS}"
        );
        match self.database.execute(&sql, &[Some(&self.name), Some(schema), location]).await {
            Ok(0) | Err(Failure::Unique) => Err(exists()),
            Ok(_) => Ok(()),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn drop_schema(&self, schema: &str) -> Result<()> {
        if !self.schema_exists(schema).await? {
            return Err(self.schema_not_found(schema));
        }
        let sql = format!(
            "DELETE FROM iceberg_namespace_properties WHERE catalog_name = $1 AND namespace = $2 \
             AND NOT EXISTS ({INSIDE_NAMESPACE})"
        );
        let deleted = self.execute(&sql, &[&self.name, schema]).await;
        if deleted.map_err(|failure| self.failed(failure))? > 0 {
            return Ok(());
        }
        match self.query(INSIDE_NAMESPACE, &[&self.name, schema]).await?.into_iter().flatten().next() {
            Some(table) => {
                let (catalog, schema) = (self.catalog.clone(), schema.to_owned());
                Err(Error::SchemaNotEmpty { catalog, schema, table })
            }
            None => Err(self.schema_not_found(schema)),
        }
    }

    async fn schema_exists(&self, schema: &str) -> Result<bool> {
        let sql = format!("SELECT 'yes' WHERE {NAMESPACE_EXISTS}");
        Ok(!self.query(&sql, &[&self.name, schema]).await?.is_empty())
    }

    async fn schema_location(&self, schema: &str) -> Result<String> {
        let sql = "SELECT property_value FROM iceberg_namespace_properties WHERE catalog_name = $1 \
                   AND namespace = $2 AND property_key = 'location'";
        let own = self.query(sql, &[&self.name, schema]).await?.into_iter().next().flatten();
        Ok(match own {
            Some(own) => own.trim_end_matches('/').to_owned(),
            None => format!("{}/{}", self.warehouse, schema.replace('.', "/")),
        })
    }

    async fn list_tables(&self, schema: &str) -> Result<Vec<String>> {
        self.names(schema, Kind::Table).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load(ident, Past::Whole).await
    }

    async fn load_present(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load(ident, Past::Named).await
    }

    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable> {
        self.check_free(ident).await?;
        let metadata_location = location::first(&metadata);
        self.write(ident, &metadata_location, metadata.to_json()?).await?;
        let inserted = self.insert(ident, &metadata_location, Kind::Table).await;
        let new = LoadedTable { metadata_location, metadata: Arc::new(metadata) };
        match inserted {
            Ok(_) => Ok(new),
            Err(Failure::Unique) => {
                self.discard(&new.metadata_location).await;
                Err(Error::TableExists { name: self.table_name(ident) })
            }
            Err(failure) => match self.settle(ident, new, failure).await? {
                Outcome::Committed(new) => Ok(new),
                Outcome::Conflict => Err(Error::TableExists { name: self.table_name(ident) }),
                Outcome::Unknown(reason) => {
                    Err(Error::CommitUnknown { table: self.table_name(ident), reason })
                }
            },
        }
    }

    async fn commit(&self, ident: &TableIdent, base: &LoadedTable, new: Metadata) -> Result<Outcome> {
        let metadata_location = location::next(&base.metadata_location, &new);
        self.write(ident, &metadata_location, new.to_json()?).await?;
        let updated = self.swap(ident, &base.metadata_location, &metadata_location, Kind::Table).await;
        let new = LoadedTable { metadata_location, metadata: Arc::new(new) };
        match updated {
            Ok(1) => Ok(Outcome::Committed(new)),
            Ok(_) => {
                self.discard(&new.metadata_location).await;
                Ok(Outcome::Conflict)
            }
            Err(failure) => self.settle(ident, new, failure).await,
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let sql = format!("DELETE FROM iceberg_tables WHERE {ROW} AND metadata_location = $4");
        for _ in 0..DROP_ATTEMPTS_MAX {
            let table = self.load_table(ident).await?;
            let parameters = [&*self.name, &*ident.schema, &*ident.table, &*table.metadata_location];
            let deleted = self.execute(&sql, &parameters).await;
            if deleted.map_err(|failure| self.failed(failure))? == 1 {
                return Ok(table);
            }
        }
        Err(Error::CommitConflict { table: self.table_name(ident) })
    }

    async fn forget_table(&self, ident: &TableIdent) -> Result<()> {
        let only = self.only(Kind::Table).unwrap_or_default();
        let sql = format!("DELETE FROM iceberg_tables WHERE {ROW}{only}");
        let deleted = self.execute(&sql, &[&self.name, &ident.schema, &ident.table]).await;
        match deleted.map_err(|failure| self.failed(failure))? {
            0 => Err(self.table_not_found(ident)),
            _ => Ok(()),
        }
    }

    async fn list_views(&self, schema: &str) -> Result<Vec<String>> {
        self.names(schema, Kind::View).await
    }

    async fn load_view(&self, ident: &TableIdent) -> Result<LoadedView> {
        let metadata_location =
            self.pointer(ident, Kind::View).await?.ok_or_else(|| self.view_not_found(ident))?;
        let name = self.table_name(ident);
        let bytes = self.files.read(&name, &metadata_location).await?;
        let metadata = ViewMetadata::parse(&bytes, &name, &metadata_location)?;
        Ok(LoadedView { metadata_location, metadata })
    }

    async fn create_view(&self, ident: &TableIdent, view: ViewMetadata) -> Result<()> {
        if !self.has_type {
            return Err(Error::Invalid(format!(
                "catalog {:?} cannot hold views: its database was made without the column iceberg_type",
                self.catalog
            )));
        }
        self.check_free(ident).await?;
        let file = location::first_of_view(&view);
        self.write(ident, &file, view.to_json()?).await?;
        match self.insert(ident, &file, Kind::View).await {
            Ok(_) => Ok(()),
            Err(Failure::Lost(reason)) => Err(Error::CommitUnknown { table: self.table_name(ident), reason }),
            Err(failure) => {
                self.discard(&file).await;
                match failure {
                    Failure::Unique => Err(Error::ViewExists { name: self.table_name(ident) }),
                    failure => Err(self.failed(failure)),
                }
            }
        }
    }

    async fn replace_view(&self, ident: &TableIdent, base: &LoadedView, view: ViewMetadata) -> Result<bool> {
        let file = location::next_of_view(&base.metadata_location, &view);
        self.write(ident, &file, view.to_json()?).await?;
        match self.swap(ident, &base.metadata_location, &file, Kind::View).await {
            Ok(1) => Ok(true),
            Ok(_) => {
                self.discard(&file).await;
                Ok(false)
            }
            Err(Failure::Lost(reason)) => Err(Error::CommitUnknown { table: self.table_name(ident), reason }),
            Err(failure) => {
                self.discard(&file).await;
                Err(self.failed(failure))
            }
        }
    }

    async fn drop_view(&self, ident: &TableIdent) -> Result<()> {
        let Some(only) = self.only(Kind::View) else { return Err(self.view_not_found(ident)) };
        let sql = format!("DELETE FROM iceberg_tables WHERE {ROW}{only}");
        let deleted = self.execute(&sql, &[&self.name, &ident.schema, &ident.table]).await;
        match deleted.map_err(|failure| self.failed(failure))? {
            0 => Err(self.view_not_found(ident)),
            _ => Ok(()),
        }
    }
}

/// The path in a URI. `sqlite:///a/b.db` is `/a/b.db`; a fourth slash, as SQLAlchemy wants it, does no harm.
fn file_path(uri: &str) -> &str {
    let path = uri.strip_prefix("sqlite:").unwrap_or(uri);
    path.strip_prefix("//").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::suite::suite;
    use crate::metadata_cache;

    #[tokio::test]
    async fn sqlite_does_what_every_backend_must() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        suite(&backend, &format!("{}/t", backend.warehouse), true).await;
        let left = std::fs::read_dir(folder.path().join("warehouse/t/metadata")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // Of the commits to one version and to a table that was gone, only what landed is left.
        assert_eq!(left.iter().filter(|name| name.starts_with("00001-")).count(), 1, "{left:?}");
    }

    #[tokio::test]
    async fn schemas_exist_if_their_tables_do() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        let insert = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                      iceberg_type) VALUES ('lake', 's', 't', 'x', NULL), ('lake', 's', 'v', 'x', 'VIEW'), \
                      ('other', 'o', 't', 'x', 'TABLE')";
        backend.execute(insert, &[]).await.unwrap();
        assert_eq!(backend.list_schemas().await.unwrap(), ["s"]);
        assert_eq!(backend.list_tables("s").await.unwrap(), ["t"]);
        assert!(!backend.schema_exists("o").await.unwrap());
        backend.create_schema("a.b", None).await.unwrap();
        assert!(backend.schema_exists("a").await.unwrap(), "a schema exists if one is in it");
    }

    #[tokio::test]
    async fn file_without_the_type_column_is_used_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        backend.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type", &[]).await.unwrap();
        drop(backend);
        let backend = open(folder.path()).await;
        assert!(!backend.has_type);
        suite(&backend, &format!("{}/t", backend.warehouse), false).await;
    }

    #[test]
    fn path_of_a_uri() {
        assert_eq!(file_path("sqlite:///a/b.db"), "/a/b.db");
        assert_eq!(file_path("sqlite:////a/b.db"), "//a/b.db");
        assert_eq!(file_path("sqlite:b.db"), "b.db");
    }

    async fn open(folder: &Path) -> SqlBackend {
        let config = CatalogConfig {
            uri: format!("sqlite://{}/catalog.db", folder.display()),
            warehouse: format!("file://{}/warehouse/", folder.display()),
            ..CatalogConfig::default()
        };
        let router = Router::new(tarn_scan::storage::Config::default(), Vec::new());
        let files = Arc::new(Files::new(&metadata_cache::Config::default(), router.clone()));
        SqlBackend::open("lake", &config, router, files).await.unwrap()
    }
}
