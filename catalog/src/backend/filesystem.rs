//! A folder of tables without a catalog, as Hadoop's, DuckDB's or a copy of a warehouse is.
//!
//! A folder with a folder `metadata` is a table, any other is a schema; tables that lie in the
//! warehouse itself are in schema `default`. The current version is what `version-hint.text` says
//! and what follows it, else the highest metadata file. The rule: nothing is ever written, since
//! without a catalog two writers cannot be told apart.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore};
use tarn_scan::storage::{Router, path_of, uri_of};

use super::named::Named;
use super::{Backend, LoadedTable, LoadedView, Outcome, TableIdent, location};
use crate::config::CatalogConfig;
use crate::error::{Error, Result};
use crate::iceberg::{Metadata, Past, ViewMetadata};
use crate::metadata_cache::Files;

/// Schema of the tables that lie in the warehouse itself.
const ROOT_SCHEMA: &str = "default";

/// Levels of folders that are looked through.
const LEVELS_MAX: usize = 8;

/// Folders that are listed at once.
const LISTINGS_MAX: usize = 8;

/// Versions after the one that the hint names; a writer that never updates its hint is found by listing.
const VERSIONS_AFTER_HINT_MAX: u32 = 1000;

const METADATA: &str = "metadata";

/// The ends of metadata files: plain, and the two ways to say that one is gzipped.
const ENDS: [&str; 3] = [".metadata.json", ".gz.metadata.json", ".metadata.json.gz"];

/// A folder of tables.
#[derive(Debug)]
pub struct FilesystemBackend {
    /// Its name in SQL, for messages.
    catalog: String,
    warehouse: String,
    router: Router,
    files: Arc<Files>,
}

/// What is in a folder.
struct Folder {
    folders: Vec<String>,
    is_table: bool,
}

impl FilesystemBackend {
    /// A folder that is looked into when it is asked for.
    pub(crate) fn open(catalog: &str, config: &CatalogConfig, router: Router, files: Arc<Files>) -> Self {
        let warehouse = config.warehouse.trim_end_matches('/').to_owned();
        Self { catalog: catalog.to_owned(), warehouse, router, files }
    }

    fn read_only<T>(&self, what: &str) -> Result<T> {
        Err(Error::ReadOnly { catalog: self.catalog.clone(), what: what.to_owned() })
    }

    /// The folders of a schema: one, and for the root's schema the root, too.
    fn folders_of(&self, schema: &str) -> Vec<String> {
        let own = format!("{}/{}", self.warehouse, schema.replace('.', "/"));
        match schema {
            ROOT_SCHEMA => vec![self.warehouse.clone(), own],
            _ => vec![own],
        }
    }

    /// Names in a folder; `None` if there is nothing below it.
    async fn folder(&self, uri: &str) -> Result<Option<Folder>> {
        let path = path_of(uri)?;
        let listed = match self.router.object_store().list_with_delimiter(Some(&path)).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(tarn_scan::Error::Store { uri: uri.to_owned(), source }.into()),
        };
        if listed.common_prefixes.is_empty() && listed.objects.is_empty() {
            return Ok(None);
        }
        let name = |path: &object_store::path::Path| path.as_ref().rsplit('/').next().map(str::to_owned);
        let mut folders: Vec<_> = listed.common_prefixes.iter().filter_map(name).collect();
        folders.sort_unstable();
        let is_table = folders.iter().any(|folder| folder == METADATA);
        // What begins with a dot or an underscore is for tools.
        folders.retain(|folder| !folder.starts_with(['.', '_']));
        Ok(Some(Folder { folders, is_table }))
    }

    /// The tables in a folder, and the other folders in it.
    async fn inside(&self, uri: &str) -> Result<(Vec<String>, Vec<String>)> {
        let Some(folder) = self.folder(uri).await? else { return Ok((Vec::new(), Vec::new())) };
        let look = |name: String| async move {
            let inside = self.folder(&format!("{uri}/{name}")).await?;
            Ok::<_, Error>((name, inside.is_some_and(|inside| inside.is_table)))
        };
        let looked = stream::iter(folder.folders).map(look).buffered(LISTINGS_MAX);
        let looked: Vec<_> = looked.try_collect().await?;
        let (tables, others): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, is_table)| *is_table);
        let names = |found: Vec<(String, bool)>| found.into_iter().map(|(name, _)| name).collect();
        Ok((names(tables), names(others)))
    }

    /// The schemas below a folder, in full. Names with dots cannot be told from nested ones, so they are left out.
    fn schemas_below<'a>(
        &'a self,
        uri: String,
        schema: Option<String>,
        levels: usize,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            if levels == 0 {
                return Ok(Vec::new());
            }
            let (tables, folders) = self.inside(&uri).await?;
            let mut found = Vec::new();
            if schema.is_none() && !tables.is_empty() {
                found.push(ROOT_SCHEMA.to_owned());
            }
            for folder in folders.into_iter().filter(|folder| !folder.contains('.')) {
                let name =
                    schema.as_ref().map_or_else(|| folder.clone(), |schema| format!("{schema}.{folder}"));
                let below = self.schemas_below(format!("{uri}/{folder}"), Some(name.clone()), levels - 1);
                found.push(name);
                found.extend(below.await?);
            }
            Ok(found)
        })
    }

    /// The current metadata file of a table's folder; `None` if it is no table.
    async fn current(&self, folder: &str) -> Result<Option<String>> {
        let metadata = format!("{folder}/{METADATA}");
        let hint = match self.router.get(&format!("{metadata}/version-hint.text")).await {
            Ok(hint) => String::from_utf8_lossy(&hint).trim().to_owned(),
            Err(tarn_scan::Error::NotFound { .. }) => return self.highest(&metadata).await,
            Err(error) => return Err(error.into()),
        };
        let Ok(version) = hint.parse::<u32>() else {
            // Some writers leave the name, or all of it but the end.
            let named = ENDS.iter().map(|end| format!("{metadata}/{hint}{end}"));
            return match self.first_of(named.chain([format!("{metadata}/{hint}")])).await? {
                Some(file) => Ok(Some(file)),
                None => self.highest(&metadata).await,
            };
        };
        let Some(mut file) = self.version(&metadata, version).await? else {
            return self.highest(&metadata).await;
        };
        // The hint is written after the version, so it may be behind.
        for version in (version.saturating_add(1)..).take(VERSIONS_AFTER_HINT_MAX as usize) {
            match self.version(&metadata, version).await? {
                Some(next) => file = next,
                None => return Ok(Some(file)),
            }
        }
        self.highest(&metadata).await
    }

    async fn version(&self, metadata: &str, version: u32) -> Result<Option<String>> {
        self.first_of(ENDS.iter().map(|end| format!("{metadata}/v{version}{end}"))).await
    }

    async fn first_of(&self, files: impl Iterator<Item = String>) -> Result<Option<String>> {
        for file in files {
            match self.router.head(&file).await {
                Ok(_) => return Ok(Some(file)),
                Err(tarn_scan::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The metadata file with the highest version; of two, the one that was written last.
    async fn highest(&self, metadata: &str) -> Result<Option<String>> {
        let path = path_of(metadata)?;
        let store = self.router.object_store();
        let listed = match store.list_with_delimiter(Some(&path)).await {
            Ok(listed) => listed.objects,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(tarn_scan::Error::Store { uri: metadata.to_owned(), source }.into()),
        };
        let versioned = |object: ObjectMeta| {
            let name = object.location.as_ref();
            let version = ENDS.iter().any(|end| name.ends_with(end)).then(|| location::version(name))??;
            Some((version, object.last_modified, object.location))
        };
        let highest = listed.into_iter().filter_map(versioned).max();
        Ok(highest.map(|(_, _, location)| uri_of(&location)).transpose()?)
    }

    async fn load(&self, ident: &TableIdent, past: Past) -> Result<LoadedTable> {
        if is_name(&ident.table) && ident.schema.split('.').all(is_name) {
            for folder in self.folders_of(&ident.schema) {
                if let Some(file) = self.current(&format!("{folder}/{}", ident.table)).await? {
                    // A folder that was deleted and made anew has files of the same names.
                    let written = self.router.version(&file).await?;
                    let name = self.table_name(ident);
                    let metadata = self.files.metadata_written(&name, &file, &written, past).await?;
                    return Ok(LoadedTable { metadata_location: file, metadata });
                }
            }
        }
        Err(self.table_not_found(ident))
    }
}

impl Named for FilesystemBackend {
    fn catalog(&self) -> &str {
        &self.catalog
    }
}

#[async_trait]
impl Backend for FilesystemBackend {
    fn check_writable(&self) -> Result<()> {
        self.read_only("take rows")
    }

    async fn list_schemas(&self) -> Result<Vec<String>> {
        let mut schemas = self.schemas_below(self.warehouse.clone(), None, LEVELS_MAX).await?;
        schemas.sort_unstable();
        schemas.dedup();
        Ok(schemas)
    }

    async fn create_schema(&self, _: &str, _: Option<&str>) -> Result<()> {
        self.read_only("make a schema")
    }

    async fn drop_schema(&self, _: &str) -> Result<()> {
        self.read_only("drop a schema")
    }

    async fn schema_exists(&self, schema: &str) -> Result<bool> {
        if schema.split('.').any(|level| !is_name(level)) {
            return Ok(false);
        }
        for folder in self.folders_of(schema) {
            if self.folder(&folder).await?.is_some_and(|found| !found.is_table) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn schema_location(&self, _: &str) -> Result<String> {
        self.read_only("make a table")
    }

    async fn list_tables(&self, schema: &str) -> Result<Vec<String>> {
        if !self.schema_exists(schema).await? {
            return Err(self.schema_not_found(schema));
        }
        let mut tables = Vec::new();
        for folder in self.folders_of(schema) {
            tables.extend(self.inside(&folder).await?.0);
        }
        tables.sort_unstable();
        tables.dedup();
        Ok(tables)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load(ident, Past::Whole).await
    }

    async fn load_present(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load(ident, Past::Named).await
    }

    async fn create_table(&self, _: &TableIdent, _: Metadata) -> Result<LoadedTable> {
        self.read_only("make a table")
    }

    async fn commit(&self, _: &TableIdent, _: &LoadedTable, _: Metadata) -> Result<Outcome> {
        self.read_only("change a table")
    }

    async fn drop_table(&self, _: &TableIdent) -> Result<LoadedTable> {
        self.read_only("drop a table")
    }

    async fn forget_table(&self, _: &TableIdent) -> Result<()> {
        self.read_only("drop a table")
    }

    async fn load_view(&self, ident: &TableIdent) -> Result<LoadedView> {
        Err(self.view_not_found(ident))
    }

    async fn create_view(&self, _: &TableIdent, _: ViewMetadata) -> Result<()> {
        self.read_only("make a view")
    }

    async fn replace_view(&self, _: &TableIdent, _: &LoadedView, _: ViewMetadata) -> Result<bool> {
        self.read_only("change a view")
    }

    async fn drop_view(&self, _: &TableIdent) -> Result<()> {
        self.read_only("drop a view")
    }
}

/// Whether a name can be that of a folder, and of no other than the one that is meant.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['/', '\\'])
        && !matches!(name, "." | "..")
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::metadata_cache;

    #[tokio::test]
    async fn folders_are_schemas_and_tables() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path());
        for table in ["top", "sales/orders", "sales/eu/Größe 1%20"] {
            write(folder.path(), &format!("{table}/metadata/v1.metadata.json"), 1);
        }
        assert_eq!(backend.list_schemas().await.unwrap(), ["default", "sales", "sales.eu"]);
        assert_eq!(backend.list_tables("default").await.unwrap(), ["top"]);
        assert_eq!(backend.list_tables("sales").await.unwrap(), ["orders"]);
        assert_eq!(backend.list_tables("sales.eu").await.unwrap(), ["Größe 1%20"]);
        let odd = TableIdent::new("sales.eu", "Größe 1%20");
        assert_eq!(backend.load_table(&odd).await.unwrap().metadata.last_updated_ms(), 1);
        assert_eq!(backend.list_tables("none").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!backend.schema_exists("sales.orders").await.unwrap());
        for (schema, table) in [("sales", "none"), ("..", "top"), ("sales", "../top"), ("sales", "")] {
            let error = backend.load_table(&TableIdent::new(schema, table)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{schema} {table}");
        }
    }

    #[tokio::test]
    async fn current_version_is_found_by_hint_or_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path());
        let newest =
            async || backend.load_table(&TableIdent::new("s", "t")).await.unwrap().metadata.last_updated_ms();
        let file = |name: &str, version| write(folder.path(), &format!("s/t/metadata/{name}"), version);
        let hint =
            |text: &str| std::fs::write(folder.path().join("s/t/metadata/version-hint.text"), text).unwrap();
        file("v2.metadata.json", 2);
        file("v10.metadata.json", 10);
        assert_eq!(newest().await, 10, "by number, not by text");
        hint("2\n");
        assert_eq!(newest().await, 2, "the hint's version, after which there is none");
        file("v3.metadata.json", 3);
        assert_eq!(newest().await, 3, "the hint is behind");
        hint("77");
        assert_eq!(newest().await, 10, "the hint names nothing");
        file("00011-0b1e.metadata.json", 11);
        hint("00011-0b1e");
        assert_eq!(newest().await, 11, "the hint is a name");
    }

    #[tokio::test]
    async fn a_folder_that_was_made_anew_is_another_table() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path());
        let loaded = async || backend.load_present(&TableIdent::new("s", "t")).await.unwrap().metadata;
        write(folder.path(), "s/t/metadata/v1.metadata.json", 1);
        let first = loaded().await;
        assert!(Arc::ptr_eq(&first, &loaded().await), "read once");
        std::fs::remove_dir_all(folder.path().join("s/t")).unwrap();
        write(folder.path(), "s/t/metadata/v1.metadata.json", 22);
        assert_eq!((first.last_updated_ms(), loaded().await.last_updated_ms()), (1, 22));
    }

    #[tokio::test]
    async fn writes_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let backend = open(folder.path());
        let ident = TableIdent::new("s", "t");
        let error = backend.forget_table(&ident).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert_eq!(error.to_string(), r#"catalog "files" is read-only: it does not drop a table"#);
        assert!(backend.create_schema("x", None).await.is_err());
    }

    fn open(folder: &Path) -> FilesystemBackend {
        let warehouse = format!("file://{}", folder.display());
        let config = CatalogConfig { warehouse, ..CatalogConfig::default() };
        let router = Router::new(tarn_scan::storage::Config::default(), Vec::new());
        let files = Arc::new(Files::new(&metadata_cache::Config::default(), router.clone()));
        FilesystemBackend::open("files", &config, router, files)
    }

    /// Metadata of a table that was last changed at `version`.
    fn write(folder: &Path, file: &str, version: i64) {
        let json = json!({
            "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "file:///t",
            "last-sequence-number": 0, "last-updated-ms": version, "last-column-id": 0, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
        });
        let file = folder.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, json.to_string()).unwrap();
    }
}
