//! The lakehouse as the scheduler holds it: names in, pinned tables out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use tarn_scan::storage::Router;
use tracing::warn;

use crate::backend::{self, Backend, LoadedTable, TableIdent};
use crate::config::Config;
use crate::error::{Error, Result, nearest};
use crate::iceberg::{Past, refs};
use crate::metadata_cache::{Files, Pointers};
use crate::name::{TableName, TimeTravel};
use crate::provider::{PinnedTable, metadata_tables};
use crate::view::View;
use crate::write::CommitQueues;

/// Time between two looks for keys to storage that are about to expire; a look costs next to nothing.
const CREDENTIALS_INTERVAL: Duration = Duration::from_millis(500);

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table, pinned.
    Table(PinnedTable),
    /// A view.
    View(Box<View>),
}

/// All configured catalogs. A cheap handle.
#[derive(Clone, Debug)]
pub struct Lakehouse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    catalogs: BTreeMap<String, Arc<dyn Backend>>,
    router: Router,
    pointers: Pointers,
    files: Arc<Files>,
    commit_queues: CommitQueues,
}

impl Lakehouse {
    /// Opens every catalog of the configuration.
    pub async fn open(config: Config, router: Router) -> Result<Self> {
        let files = Arc::new(Files::new(&config.metadata_cache, router.clone()));
        let mut catalogs = BTreeMap::new();
        for (name, catalog) in &config.catalogs {
            catalogs.insert(name.clone(), backend::open(name, catalog, &router, &files).await?);
        }
        Ok(Self::new(catalogs, router, config.metadata_cache.pointer_ttl(), files))
    }

    fn new(
        catalogs: BTreeMap<String, Arc<dyn Backend>>,
        router: Router,
        pointer_ttl: Duration,
        files: Arc<Files>,
    ) -> Self {
        let (pointers, commit_queues) = (Pointers::new(pointer_ttl), CommitQueues::default());
        Self { inner: Arc::new(Inner { catalogs, router, pointers, files, commit_queues }) }
    }

    /// A lakehouse of one catalog that a test has made.
    #[cfg(test)]
    pub(crate) fn with_backend(name: &str, backend: Arc<dyn Backend>, other: &Self) -> Self {
        let (router, files) = (other.router().clone(), Arc::clone(&other.inner.files));
        let catalogs = BTreeMap::from([(name.to_owned(), backend)]);
        Self::new(catalogs, router, Duration::ZERO, files)
    }

    /// Renews the keys to storage that catalogs vended, before they expire. Ends when it is dropped.
    pub async fn keep_credentials(&self) {
        let mut ticks = tokio::time::interval(CREDENTIALS_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for backend in self.inner.catalogs.values() {
                backend.renew_credentials().await;
            }
        }
    }

    /// The names of the catalogs, sorted.
    pub fn catalogs(&self) -> Vec<String> {
        self.inner.catalogs.keys().cloned().collect()
    }

    /// Storage.
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    /// The schemas of a catalog, sorted.
    pub async fn schemas(&self, catalog: &str) -> Result<Vec<String>> {
        self.backend(catalog)?.list_schemas().await
    }

    /// Whether there is such a schema. `false`, too, if there is no such catalog.
    pub async fn schema_exists(&self, catalog: &str, schema: &str) -> Result<bool> {
        match self.inner.catalogs.get(catalog) {
            Some(backend) => backend.schema_exists(schema).await,
            None => Ok(false),
        }
    }

    /// The tables of a schema, sorted.
    pub async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<String>> {
        let backend = self.backend(catalog)?;
        match backend.list_tables(schema).await {
            Err(Error::SchemaNotFound { catalog, schema, .. }) => {
                let near = nearest(&schema, backend.list_schemas().await?.iter().map(String::as_str));
                Err(Error::SchemaNotFound { catalog, schema, near })
            }
            other => other,
        }
    }

    /// A table of the schema `system`, which every catalog has beside its own; `None` if there is no such.
    pub fn system_table(&self, catalog: &str, table: &str) -> Option<Arc<dyn TableProvider>> {
        let known = table == "tables" && self.inner.catalogs.contains_key(catalog);
        known.then(|| metadata_tables::tables(self.clone(), catalog))
    }

    /// Makes a schema.
    pub async fn create_schema(&self, catalog: &str, schema: &str, if_not_exists: bool) -> Result<()> {
        if schema.is_empty() || schema.split('.').any(str::is_empty) {
            return Err(Error::Invalid(format!("{schema:?} is not a name for a schema")));
        }
        match self.backend(catalog)?.create_schema(schema, None).await {
            Err(Error::SchemaExists { .. }) if if_not_exists => Ok(()),
            other => other,
        }
    }

    /// Drops an empty schema.
    pub async fn drop_schema(&self, catalog: &str, schema: &str, if_exists: bool) -> Result<()> {
        let backend = self.backend(catalog)?;
        match backend.drop_schema(schema).await {
            Err(Error::SchemaNotFound { .. }) if if_exists => Ok(()),
            Err(Error::SchemaNotFound { catalog, schema, .. }) => {
                let near = nearest(&schema, backend.list_schemas().await?.iter().map(String::as_str));
                Err(Error::SchemaNotFound { catalog, schema, near })
            }
            other => other,
        }
    }

    /// One snapshot of a table, for one query: the current one, or the one asked for.
    ///
    /// Fails with [`Error::TableNotFound`], [`Error::CatalogNotFound`], [`Error::SnapshotNotFound`], and with
    /// [`Error::NotSupported`] if the table's schema cannot be read exactly.
    pub async fn pin(&self, name: &TableName, at: Option<&TimeTravel>) -> Result<PinnedTable> {
        let loaded = match self.load(name).await {
            Err(Error::TableNotFound { name, .. }) => {
                let near = self.near_table(&name).await;
                return Err(Error::TableNotFound { name, near });
            }
            other => other?,
        };
        self.pin_at(name, loaded, at).await
    }

    /// What a name stands for: a table, pinned for one query, or a view.
    ///
    /// Fails as [`Lakehouse::pin`] does; a view has no snapshots, so with `at` only a table is looked for.
    pub async fn relation(&self, name: &TableName, at: Option<&TimeTravel>) -> Result<Relation> {
        let loaded = match self.load(name).await {
            Err(Error::TableNotFound { .. }) if at.is_none() => match self.view(name).await {
                Ok(view) => return Ok(Relation::View(Box::new(view))),
                Err(Error::ViewNotFound { .. }) => {
                    let near = self.near_table(name).await;
                    return Err(Error::TableNotFound { name: name.clone(), near });
                }
                Err(error) => return Err(error),
            },
            Err(Error::TableNotFound { name, .. }) => {
                let near = self.near_table(&name).await;
                return Err(Error::TableNotFound { name, near });
            }
            other => other?,
        };
        self.pin_at(name, loaded, at).await.map(Relation::Table)
    }

    /// The current version of a table, at most as old as the pointer's lifetime.
    pub(crate) async fn load(&self, name: &TableName) -> Result<LoadedTable> {
        let backend = self.backend(&name.catalog)?;
        let ident = TableIdent::new(&name.schema, &name.table);
        self.inner.pointers.get(name, || backend.load_present(&ident)).await
    }

    /// A pinned table from a version that is at hand, whose past is read if it has to be known.
    async fn pin_at(
        &self,
        name: &TableName,
        mut loaded: LoadedTable,
        at: Option<&TimeTravel>,
    ) -> Result<PinnedTable> {
        if at.is_some_and(|at| refs::needs_past(&loaded.metadata, at)) {
            let file = loaded.metadata_location.as_str();
            loaded.metadata = self.inner.files.metadata(name, file, Past::Whole).await?;
        }
        self.pin_resolved(name, loaded, at)
    }

    /// The current snapshot of a version that is at hand, pinned.
    pub(crate) fn pin_loaded(&self, name: &TableName, loaded: LoadedTable) -> Result<PinnedTable> {
        self.pin_resolved(name, loaded, None)
    }

    fn pin_resolved(
        &self,
        name: &TableName,
        loaded: LoadedTable,
        at: Option<&TimeTravel>,
    ) -> Result<PinnedTable> {
        let pin = refs::resolve(name, &loaded.metadata, at)?;
        PinnedTable::new(name.clone(), loaded, pin, Arc::clone(&self.inner.files))
    }

    /// What a commit of our own made is the current version for every query that begins from now on.
    pub(crate) fn publish(&self, name: &TableName, mut loaded: LoadedTable) {
        match loaded.metadata.without_past() {
            Ok(Some(present)) => loaded.metadata = Arc::new(present),
            Ok(None) => {}
            Err(error) => {
                // The next query reads it, as it would another engine's.
                warn!(table = %name, %error, "a version of a table was not kept");
                return self.forget(name);
            }
        }
        self.inner.files.keep(&loaded);
        self.inner.pointers.replace(name, loaded);
    }

    /// A table that was dropped, or whose state is not known, is looked up again by the next query.
    pub(crate) fn forget(&self, name: &TableName) {
        self.inner.pointers.forget(name);
    }

    /// The catalog of this name.
    pub(crate) fn backend(&self, catalog: &str) -> Result<&Arc<dyn Backend>> {
        self.inner.catalogs.get(catalog).ok_or_else(|| Error::CatalogNotFound {
            catalog: catalog.to_owned(),
            near: nearest(catalog, self.inner.catalogs.keys().map(String::as_str)),
        })
    }

    /// Who commits to which table.
    pub(crate) fn commit_queues(&self) -> &CommitQueues {
        &self.inner.commit_queues
    }

    /// A name like the one not found: of a table beside it, or of its schema. Only a hint, so faults make none.
    async fn near_table(&self, name: &TableName) -> Option<String> {
        let backend = self.backend(&name.catalog).ok()?;
        if let Ok(tables) = backend.list_tables(&name.schema).await {
            return nearest(&name.table, tables.iter().map(String::as_str));
        }
        let schemas = backend.list_schemas().await.ok()?;
        let schema = nearest(&name.schema, schemas.iter().map(String::as_str))?;
        let tables = backend.list_tables(&schema).await.ok()?;
        let table = nearest(&name.table, tables.iter().map(String::as_str))?;
        Some(format!("{schema}.{table}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CatalogConfig;
    use crate::error::ErrorKind;
    use crate::metadata_cache;

    #[tokio::test]
    async fn what_is_not_there_is_named_with_what_is_like_it() {
        let folder = tempfile::tempdir().unwrap();
        let lakehouse = open(&folder).await;
        lakehouse.create_schema("lake", "sales", false).await.unwrap();
        let hint = |error: Error| (error.kind(), error.hint());
        let found = lakehouse.tables("lake", "sale").await.unwrap_err();
        assert_eq!(hint(found), (ErrorKind::NotFound, Some(r#"did you mean "sales"?"#.to_owned())));
        let found = lakehouse.schemas("lakes").await.unwrap_err();
        assert_eq!(hint(found), (ErrorKind::NotFound, Some(r#"did you mean "lake"?"#.to_owned())));
        let found = lakehouse.pin(&TableName::new("lake", "sales", "t"), None).await.unwrap_err();
        assert_eq!(found.to_string(), r#"table "lake.sales.t" not found"#);
        assert_eq!(hint(found), (ErrorKind::NotFound, None));
    }

    #[tokio::test]
    async fn schemas_are_made_and_dropped_once_or_if_they_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let lakehouse = open(&folder).await;
        lakehouse.create_schema("lake", "s", false).await.unwrap();
        lakehouse.create_schema("lake", "s", true).await.unwrap();
        assert_eq!(
            lakehouse.create_schema("lake", "s", false).await.unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            lakehouse.create_schema("lake", "a..b", false).await.unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert!(lakehouse.schema_exists("lake", "s").await.unwrap());
        lakehouse.drop_schema("lake", "s", false).await.unwrap();
        lakehouse.drop_schema("lake", "s", true).await.unwrap();
        assert_eq!(lakehouse.drop_schema("lake", "s", false).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn every_fault_of_the_settings_is_reported_with_its_key() {
        let bad = CatalogConfig {
            uri: "mysql://x".to_owned(),
            warehouse: "ftp://x".to_owned(),
            ..CatalogConfig::default()
        };
        let catalogs = BTreeMap::from([("a.b".to_owned(), bad)]);
        let metadata_cache = metadata_cache::Config { pointer_ttl_ms: u64::MAX, ..Default::default() };
        let faults = Config { catalogs, metadata_cache }.validate();
        let keys =
            ["metadata_cache.pointer_ttl_ms", "catalogs.a.b", "catalogs.a.b.uri", "catalogs.a.b.warehouse"];
        assert_eq!(faults.len(), keys.len(), "{faults:?}");
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
    }

    async fn open(folder: &tempfile::TempDir) -> Lakehouse {
        let path = folder.path().display();
        let catalog = CatalogConfig {
            uri: format!("sqlite://{path}/catalog.db"),
            warehouse: format!("file://{path}/warehouse"),
            ..CatalogConfig::default()
        };
        let config = Config { catalogs: BTreeMap::from([("lake".to_owned(), catalog)]), ..Config::default() };
        Lakehouse::open(config, Router::new(tarn_scan::storage::Config::default(), Vec::new())).await.unwrap()
    }
}
