//! Names to tables: every table is pinned once for the query that names it.
//!
//! The engine asks for tables through the three provider traits; behind them each table is
//! loaded at most once and stays at its snapshot for the whole query, so a self-join reads
//! one state. Names of schemas and tables are listed only for `information_schema`. The rule:
//! a catalog list lives as long as its query, never longer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt};
use tarn_catalog::{Lakehouse, MetadataTable, PinnedTable, TableName, TimeTravel};

use super::metadata_columns::split_columns;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sql::{ObjectName, Selector, split_selector};

/// The schema with tables about a catalog's tables: `system.tables`. Not listed, like metadata tables.
const SYSTEM_SCHEMA: &str = "system";

/// How many schemas are listed at once.
const LISTINGS_CONCURRENT: usize = 8;

/// The tables that one query named. A cheap handle.
#[derive(Clone)]
pub struct Pins {
    inner: Arc<Inner>,
}

struct Inner {
    lakehouse: Lakehouse,
    time_zone: String,
    listing: Listing,
    /// What was pinned so far, by plain name and the selector's text.
    tables: Mutex<HashMap<(TableName, String), PinnedTable>>,
}

/// Schemas and their tables by catalog; empty unless the query asks for them.
type Listing = BTreeMap<String, BTreeMap<String, Vec<String>>>;

impl Pins {
    /// No table pinned yet, and nothing listed.
    pub fn new(lakehouse: Lakehouse, session: &Session) -> Self {
        Self::with_listing(lakehouse, session, Listing::new())
    }

    /// The same with every catalog listed, for `information_schema`.
    pub async fn listed(lakehouse: Lakehouse, session: &Session) -> Result<Self> {
        let mut listing = Listing::new();
        for catalog in lakehouse.catalogs() {
            let schemas = lakehouse.schemas(&catalog).await?;
            let tables = futures::stream::iter(schemas.into_iter().map(|schema| {
                let (lakehouse, catalog) = (lakehouse.clone(), catalog.clone());
                async move {
                    let tables = lakehouse.tables(&catalog, &schema).await?;
                    Ok::<_, Error>((schema, tables))
                }
            }));
            let tables = tables.buffer_unordered(LISTINGS_CONCURRENT).try_collect().await?;
            listing.insert(catalog, tables);
        }
        Ok(Self::with_listing(lakehouse, session, listing))
    }

    fn with_listing(lakehouse: Lakehouse, session: &Session, listing: Listing) -> Self {
        let time_zone = session.settings().timezone().to_string();
        Self { inner: Arc::new(Inner { lakehouse, time_zone, listing, tables: Mutex::default() }) }
    }

    /// The table of a name as it stands after the time-travel rewrite, pinned.
    pub async fn pin(&self, catalog: &str, schema: &str, name: &str) -> Result<PinnedTable> {
        let (plain, selector) = split_selector(name);
        let table = TableName { catalog: catalog.into(), schema: schema.into(), table: plain.into() };
        let key = (table.clone(), name[plain.len()..].to_string());
        if let Some(pinned) = self.tables().get(&key) {
            return Ok(pinned.clone());
        }
        let at = selector.map(|selector| self.time_travel(selector)).transpose()?;
        let pinned = self.inner.lakehouse.pin(&table, at.as_ref()).await?;
        // Two scans of one table may have raced; the first pin stands for both.
        Ok(self.tables().entry(key).or_insert(pinned).clone())
    }

    /// What a table says about itself: `name` is `table$kind`, with a selector of time travel if there is one.
    async fn metadata_table(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
        kind: MetadataTable,
        name: &str,
    ) -> Result<Arc<dyn TableProvider>> {
        let (plain, _) = split_selector(name);
        let selector = &name[plain.len()..];
        let pinned = self.pin(catalog, schema, &format!("{table}{selector}")).await?;
        Ok(pinned.metadata_table(kind, !selector.is_empty())?)
    }

    /// Every table pinned so far.
    pub fn pinned(&self) -> Vec<PinnedTable> {
        self.tables().values().cloned().collect()
    }

    fn time_travel(&self, selector: Selector) -> Result<TimeTravel> {
        match selector {
            Selector::Snapshot(id) => Ok(TimeTravel::Snapshot(id)),
            Selector::Ref(name) => Ok(TimeTravel::Ref(name)),
            Selector::Timestamp(text) => {
                let zone: Tz = self.inner.time_zone.parse()?;
                let time = string_to_datetime(&zone, &text)
                    .map_err(|_| Error::invalid(format!("\"{text}\" is not a timestamp")))?;
                Ok(TimeTravel::Timestamp(time.timestamp_millis()))
            }
        }
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, HashMap<(TableName, String), PinnedTable>> {
        self.inner.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("tables", &self.tables().keys()).finish()
    }
}

/// A name in full: missing parts are the session's catalog and schema.
pub fn resolve(session: &Session, name: &ObjectName) -> TableName {
    let (catalog, schema) = match name.qualifiers() {
        [] => (session.catalog(), session.schema()),
        [schema] => (session.catalog(), schema.clone()),
        [catalog, schema, ..] => (catalog.clone(), schema.clone()),
    };
    TableName { catalog, schema, table: name.last().to_string() }
}

/// The catalogs that the engine sees.
#[derive(Debug)]
pub struct Catalogs(pub Pins);

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.0.inner.listing.keys().cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::new(Catalog { pins: self.0.clone(), catalog: name.to_string() }))
    }
}

#[derive(Debug)]
struct Catalog {
    pins: Pins,
    catalog: String,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.pins
            .inner
            .listing
            .get(&self.catalog)
            .map(|schemas| schemas.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(Schema {
            pins: self.pins.clone(),
            catalog: self.catalog.clone(),
            schema: name.to_string(),
        }))
    }
}

#[derive(Debug)]
struct Schema {
    pins: Pins,
    catalog: String,
    schema: String,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        let listing = self.pins.inner.listing.get(&self.catalog);
        listing.and_then(|schemas| schemas.get(&self.schema)).cloned().unwrap_or_default()
    }

    async fn table(
        &self,
        name: &str,
    ) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.schema == SYSTEM_SCHEMA
            && let Some(table) = self.pins.inner.lakehouse.system_table(&self.catalog, name)
        {
            return Ok(Some(table));
        }
        if let Some((table, kind)) = MetadataTable::split(split_selector(name).0) {
            let metadata = self.pins.metadata_table(&self.catalog, &self.schema, table, kind, name).await;
            return metadata.map(Some).map_err(Error::into_datafusion);
        }
        let listed = self.table_names();
        let (name, columns) = split_columns(name);
        match self.pins.pin(&self.catalog, &self.schema, name).await {
            Ok(pinned) => Ok(Some(pinned.provider_with(&columns))),
            // One broken table must not hide the others from `information_schema`.
            Err(error) if listed.iter().any(|table| table == name) => {
                tracing::warn!(table = name, %error, "table left out of a listing");
                Ok(None)
            }
            Err(error) => Err(error.into_datafusion()),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|table| table == name)
    }
}
