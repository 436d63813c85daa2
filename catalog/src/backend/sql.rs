//! A catalog in a SQLite file, in the schema that Java's `JdbcCatalog` and PyIceberg's `SqlCatalog` share.
//!
//! Other engines may have the file open at the same time. So each step is one
//! statement that checks what it relies on, and nothing is kept in memory. The
//! file needs nothing but the two shared tables; the column `iceberg_type`,
//! which came with views, may be missing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Row, SqlitePool};
use tarn_scan::storage::Router;
use tracing::warn;

use super::{Backend, LoadedTable, Outcome, TableIdent, location};
use crate::config::CatalogConfig;
use crate::error::{Error, Result};
use crate::iceberg::Metadata;
use crate::metadata_cache::Files;
use crate::name::TableName;

/// How long a statement waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to the file. SQLite writes one after the other anyway; more than a few readers bring nothing.
const CONNECTIONS_MAX: u32 = 4;

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
const NAMESPACE_EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM iceberg_namespace_properties \
    WHERE catalog_name = ?1 AND (namespace = ?2 OR substr(namespace, 1, length(?2) + 1) = ?2 || '.')) \
    OR EXISTS (SELECT 1 FROM iceberg_tables \
    WHERE catalog_name = ?1 AND (table_namespace = ?2 OR substr(table_namespace, 1, length(?2) + 1) = ?2 || '.'))";

/// A catalog in a SQLite file.
#[derive(Debug)]
pub struct SqlBackend {
    /// Its name in SQL, for messages.
    catalog: String,
    /// Its name inside the file.
    name: String,
    warehouse: String,
    /// Whether the file has the column that tells views from tables.
    has_type: bool,
    pool: SqlitePool,
    router: Router,
    files: Arc<Files>,
}

impl SqlBackend {
    /// Opens the file, and makes it with its tables if it does not exist.
    pub(crate) async fn open(
        catalog: &str,
        config: &CatalogConfig,
        router: Router,
        files: Arc<Files>,
    ) -> Result<Self> {
        let failed = |source| Error::Database { catalog: catalog.to_owned(), source };
        let path = file_path(&config.uri);
        if let Some(folder) = Path::new(path).parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|e| failed(sqlx::Error::Io(e)))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(BUSY_TIMEOUT * 2)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(failed)?;
        sqlx::query(CREATE_TABLES).execute(&pool).await.map_err(failed)?;
        sqlx::query(CREATE_NAMESPACE_PROPERTIES).execute(&pool).await.map_err(failed)?;
        let columns = "SELECT count(*) FROM pragma_table_info('iceberg_tables') WHERE name = 'iceberg_type'";
        let has_type = sqlx::query_scalar::<_, i64>(columns).fetch_one(&pool).await.map_err(failed)? > 0;
        Ok(Self {
            catalog: catalog.to_owned(),
            name: config.name.clone().unwrap_or_else(|| catalog.to_owned()),
            warehouse: config.warehouse.trim_end_matches('/').to_owned(),
            has_type,
            pool,
            router,
            files,
        })
    }

    fn failed(&self, source: sqlx::Error) -> Error {
        Error::Database { catalog: self.catalog.clone(), source }
    }

    fn table_name(&self, ident: &TableIdent) -> TableName {
        TableName::new(&self.catalog, &ident.schema, &ident.table)
    }

    fn table_not_found(&self, ident: &TableIdent) -> Error {
        Error::TableNotFound { name: self.table_name(ident), near: None }
    }

    fn schema_not_found(&self, schema: &str) -> Error {
        Error::SchemaNotFound { catalog: self.catalog.clone(), schema: schema.to_owned(), near: None }
    }

    /// Where a table's current metadata is; `None` if there is no such table.
    async fn pointer(&self, ident: &TableIdent) -> Result<Option<String>> {
        let sql = if self.has_type {
            "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? \
             AND table_name = ? AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)"
        } else {
            "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? \
             AND table_name = ?"
        };
        let row = sqlx::query(sql).bind(&self.name).bind(&ident.schema).bind(&ident.table);
        let row = row.fetch_optional(&self.pool).await.map_err(|e| self.failed(e))?;
        match row {
            Some(row) => row.try_get::<Option<String>, _>(0).map_err(|e| self.failed(e)),
            None => Ok(None),
        }
    }

    /// Writes metadata to a file that nothing points at yet.
    async fn write_metadata(&self, ident: &TableIdent, file: &str, metadata: &Metadata) -> Result<()> {
        let bytes = Bytes::from(metadata.to_json()?);
        self.router.put_new(file, bytes).await.map_err(|source| Error::MetadataFile {
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
    async fn settle(&self, ident: &TableIdent, new: LoadedTable, error: sqlx::Error) -> Result<Outcome> {
        match self.pointer(ident).await {
            Ok(Some(location)) if location == new.metadata_location => Ok(Outcome::Committed(new)),
            Ok(_) => {
                self.discard(&new.metadata_location).await;
                Err(self.failed(error))
            }
            Err(second) => Ok(Outcome::Unknown(format!("{error}; then {second}"))),
        }
    }
}

#[async_trait]
impl Backend for SqlBackend {
    async fn list_schemas(&self) -> Result<Vec<String>> {
        let sql = "SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ?1 \
                   UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = ?1 ORDER BY 1";
        let rows = sqlx::query_scalar(sql).bind(&self.name).fetch_all(&self.pool);
        rows.await.map_err(|e| self.failed(e))
    }

    async fn create_schema(&self, schema: &str, location: Option<&str>) -> Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.failed(e))?;
        let exists = sqlx::query_scalar::<_, i64>(NAMESPACE_EXISTS).bind(&self.name).bind(schema);
        if exists.fetch_one(&mut *transaction).await.map_err(|e| self.failed(e))? != 0 {
            return Err(Error::SchemaExists { catalog: self.catalog.clone(), schema: schema.to_owned() });
        }
        // The row that says no more than that it exists is what the other engines write, too.
        for (key, value) in [("exists", Some("true")), ("location", location)] {
            let Some(value) = value else { continue };
            let sql = "INSERT INTO iceberg_namespace_properties VALUES (?, ?, ?, ?)";
            let insert = sqlx::query(sql).bind(&self.name).bind(schema).bind(key).bind(value);
            insert.execute(&mut *transaction).await.map_err(|e| self.failed(e))?;
        }
        transaction.commit().await.map_err(|e| self.failed(e))
    }

    async fn drop_schema(&self, schema: &str) -> Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.failed(e))?;
        let exists = sqlx::query_scalar::<_, i64>(NAMESPACE_EXISTS).bind(&self.name).bind(schema);
        if exists.fetch_one(&mut *transaction).await.map_err(|e| self.failed(e))? == 0 {
            return Err(self.schema_not_found(schema));
        }
        let sql = "SELECT table_name FROM iceberg_tables WHERE catalog_name = ?1 \
                   AND (table_namespace = ?2 OR substr(table_namespace, 1, length(?2) + 1) = ?2 || '.') \
                   UNION ALL SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = ?1 \
                   AND substr(namespace, 1, length(?2) + 1) = ?2 || '.' LIMIT 1";
        let inside = sqlx::query_scalar::<_, String>(sql).bind(&self.name).bind(schema);
        if let Some(table) = inside.fetch_optional(&mut *transaction).await.map_err(|e| self.failed(e))? {
            let (catalog, schema) = (self.catalog.clone(), schema.to_owned());
            return Err(Error::SchemaNotEmpty { catalog, schema, table });
        }
        let sql = "DELETE FROM iceberg_namespace_properties WHERE catalog_name = ? AND namespace = ?";
        let delete = sqlx::query(sql).bind(&self.name).bind(schema).execute(&mut *transaction);
        delete.await.map_err(|e| self.failed(e))?;
        transaction.commit().await.map_err(|e| self.failed(e))
    }

    async fn schema_exists(&self, schema: &str) -> Result<bool> {
        let exists = sqlx::query_scalar::<_, i64>(NAMESPACE_EXISTS).bind(&self.name).bind(schema);
        Ok(exists.fetch_one(&self.pool).await.map_err(|e| self.failed(e))? != 0)
    }

    async fn schema_location(&self, schema: &str) -> Result<String> {
        let sql = "SELECT property_value FROM iceberg_namespace_properties WHERE catalog_name = ? \
                   AND namespace = ? AND property_key = 'location'";
        let row = sqlx::query_scalar::<_, Option<String>>(sql).bind(&self.name).bind(schema);
        let own = row.fetch_optional(&self.pool).await.map_err(|e| self.failed(e))?.flatten();
        Ok(match own {
            Some(own) => own.trim_end_matches('/').to_owned(),
            None => format!("{}/{}", self.warehouse, schema.replace('.', "/")),
        })
    }

    async fn list_tables(&self, schema: &str) -> Result<Vec<String>> {
        let sql = if self.has_type {
            "SELECT table_name FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? \
             AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL) ORDER BY 1"
        } else {
            "SELECT table_name FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? ORDER BY 1"
        };
        let tables = sqlx::query_scalar(sql).bind(&self.name).bind(schema).fetch_all(&self.pool);
        let tables: Vec<String> = tables.await.map_err(|e| self.failed(e))?;
        if tables.is_empty() && !self.schema_exists(schema).await? {
            return Err(self.schema_not_found(schema));
        }
        Ok(tables)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let metadata_location = self.pointer(ident).await?.ok_or_else(|| self.table_not_found(ident))?;
        let metadata = self.files.metadata(&self.table_name(ident), &metadata_location).await?;
        Ok(LoadedTable { metadata_location, metadata })
    }

    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable> {
        if self.pointer(ident).await?.is_some() {
            return Err(Error::TableExists { name: self.table_name(ident) });
        }
        if !self.schema_exists(&ident.schema).await? {
            return Err(self.schema_not_found(&ident.schema));
        }
        let metadata_location = location::first(&metadata);
        self.write_metadata(ident, &metadata_location, &metadata).await?;
        let sql = if self.has_type {
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, iceberg_type) \
             VALUES (?, ?, ?, ?, 'TABLE')"
        } else {
            "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) \
             VALUES (?, ?, ?, ?)"
        };
        let insert = sqlx::query(sql).bind(&self.name).bind(&ident.schema).bind(&ident.table);
        let inserted = insert.bind(&metadata_location).execute(&self.pool).await;
        let new = LoadedTable { metadata_location, metadata: Arc::new(metadata) };
        match inserted {
            Ok(_) => Ok(new),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                self.discard(&new.metadata_location).await;
                Err(Error::TableExists { name: self.table_name(ident) })
            }
            Err(error) => match self.settle(ident, new, error).await? {
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
        self.write_metadata(ident, &metadata_location, &new).await?;
        let sql = "UPDATE iceberg_tables SET metadata_location = ?1, previous_metadata_location = ?2 \
                   WHERE catalog_name = ?3 AND table_namespace = ?4 AND table_name = ?5 AND metadata_location = ?2";
        let update = sqlx::query(sql).bind(&metadata_location).bind(&base.metadata_location);
        let update = update.bind(&self.name).bind(&ident.schema).bind(&ident.table);
        let updated = update.execute(&self.pool).await;
        let new = LoadedTable { metadata_location, metadata: Arc::new(new) };
        match updated {
            Ok(done) if done.rows_affected() == 1 => Ok(Outcome::Committed(new)),
            Ok(_) => {
                self.discard(&new.metadata_location).await;
                Ok(Outcome::Conflict)
            }
            Err(error) => self.settle(ident, new, error).await,
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let sql = "DELETE FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? \
                   AND metadata_location = ?";
        for _ in 0..DROP_ATTEMPTS_MAX {
            let table = self.load_table(ident).await?;
            let delete = sqlx::query(sql).bind(&self.name).bind(&ident.schema).bind(&ident.table);
            let deleted = delete.bind(&table.metadata_location).execute(&self.pool).await;
            if deleted.map_err(|e| self.failed(e))?.rows_affected() == 1 {
                return Ok(table);
            }
        }
        Err(Error::CommitConflict { table: self.table_name(ident) })
    }

    async fn forget_table(&self, ident: &TableIdent) -> Result<()> {
        if self.pointer(ident).await?.is_none() {
            return Err(self.table_not_found(ident));
        }
        let sql =
            "DELETE FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?";
        let delete = sqlx::query(sql).bind(&self.name).bind(&ident.schema).bind(&ident.table);
        delete.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }
}

/// The path in a URI. `sqlite:///a/b.db` is `/a/b.db`; a fourth slash, as SQLAlchemy wants it, does no harm.
fn file_path(uri: &str) -> &str {
    let path = uri.strip_prefix("sqlite:").unwrap_or(uri);
    path.strip_prefix("//").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::suite::suite;
    use crate::metadata_cache;

    #[tokio::test]
    async fn sqlite_does_what_every_backend_must() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        suite(&backend, &format!("{}/t", backend.warehouse)).await;
        let left: Vec<_> = std::fs::read_dir(folder.path().join("warehouse/t/metadata")).unwrap().collect();
        assert_eq!(left.len(), 5, "what failed left no file: {left:?}");
    }

    #[tokio::test]
    async fn schemas_exist_if_their_tables_do() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        let insert = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                      iceberg_type) VALUES ('lake', 's', 't', 'x', NULL), ('lake', 's', 'v', 'x', 'VIEW'), \
                      ('other', 'o', 't', 'x', 'TABLE')";
        sqlx::query(insert).execute(&backend.pool).await.unwrap();
        assert_eq!(backend.list_schemas().await.unwrap(), ["s"]);
        assert_eq!(backend.list_tables("s").await.unwrap(), ["t"]);
        assert!(!backend.schema_exists("o").await.unwrap());
    }

    #[tokio::test]
    async fn file_without_the_type_column_is_used_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path()).await;
        sqlx::query("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
            .execute(&backend.pool)
            .await
            .unwrap();
        drop(backend);
        let backend = open(folder.path()).await;
        assert!(!backend.has_type);
        suite(&backend, &format!("{}/t", backend.warehouse)).await;
    }

    #[test]
    fn path_of_a_uri() {
        assert_eq!(file_path("sqlite:///a/b.db"), "/a/b.db");
        assert_eq!(file_path("sqlite:////a/b.db"), "//a/b.db");
        assert_eq!(file_path("sqlite:b.db"), "b.db");
    }

    async fn open(folder: &Path) -> SqlBackend {
        let config = CatalogConfig {
            kind: crate::CatalogKind::Sql,
            uri: format!("sqlite://{}/catalog.db", folder.display()),
            warehouse: format!("file://{}/warehouse/", folder.display()),
            name: None,
        };
        let router = Router::new(tarn_scan::storage::Config::default(), Vec::new());
        let files = Arc::new(Files::new(&metadata_cache::Config::default(), router.clone()));
        SqlBackend::open("lake", &config, router, files).await.unwrap()
    }
}
