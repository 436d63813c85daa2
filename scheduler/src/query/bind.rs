//! Names to tables: every table is pinned once for the query that names it.
//!
//! The engine asks for tables through the three provider traits; behind them each table is
//! loaded at most once and stays at its snapshot for the whole query, so a self-join reads
//! one state. A view is expanded where it is named (`views`), over the same pins. Names of schemas and
//! tables are listed only for `information_schema`. The rule: a catalog list lives as long as its
//! query, never longer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::TableType;
use futures::{StreamExt, TryStreamExt};
use tarn_catalog::{Lakehouse, MetadataTable, PinnedTable, Relation, TableName, TimeTravel, View};

use super::metadata_columns::split_columns;
use super::views::Expander;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sql::{ObjectName, Selector, split_selector};

/// The schema with tables about a catalog's tables, and about the server: `system.tables`, `system.queries`, …. Not listed, like metadata tables.
const SYSTEM_SCHEMA: &str = "system";

/// How many schemas are listed at once.
const LISTINGS_CONCURRENT: usize = 8;

/// The tables that one query named. A cheap handle.
#[derive(Clone)]
pub struct Pins {
    pub(super) inner: Arc<Inner>,
    /// The views that are being expanded, outermost first.
    pub(super) views: Arc<[TableName]>,
}

pub(super) struct Inner {
    lakehouse: Lakehouse,
    time_zone: String,
    listing: Listing,
    pub(super) expander: Expander,
    /// What was pinned so far, by plain name and the selector's text.
    tables: Mutex<HashMap<(TableName, String), PinnedTable>>,
    /// The views that were named so far.
    views: Mutex<HashMap<TableName, Arc<View>>>,
}

/// What a name stands for, once for the whole query.
pub(super) enum Named {
    Table(PinnedTable),
    View(Arc<View>),
}

/// Schemas with their tables, and which of these are views, by catalog; empty unless the query asks for them.
type Listing = BTreeMap<String, BTreeMap<String, BTreeMap<String, bool>>>;

impl Pins {
    /// No table pinned yet, and nothing listed.
    pub(super) fn new(lakehouse: Lakehouse, session: &Session, expander: Expander) -> Self {
        Self::with_listing(lakehouse, session, expander, Listing::new())
    }

    /// The same with every catalog listed, for `information_schema`.
    pub(super) async fn listed(lakehouse: Lakehouse, session: &Session, expander: Expander) -> Result<Self> {
        let mut listing = Listing::new();
        for catalog in lakehouse.catalogs() {
            let schemas = lakehouse.schemas(&catalog).await?;
            let tables = futures::stream::iter(schemas.into_iter().map(|schema| {
                let (lakehouse, catalog) = (lakehouse.clone(), catalog.clone());
                async move {
                    let tables = lakehouse.tables(&catalog, &schema).await?;
                    let views = lakehouse.views(&catalog, &schema).await?;
                    let tables = tables.into_iter().map(|table| (table, false));
                    let all = tables.chain(views.into_iter().map(|view| (view, true)));
                    Ok::<_, Error>((schema, all.collect()))
                }
            }));
            let tables = tables.buffer_unordered(LISTINGS_CONCURRENT).try_collect().await?;
            listing.insert(catalog, tables);
        }
        Ok(Self::with_listing(lakehouse, session, expander, listing))
    }

    fn with_listing(lakehouse: Lakehouse, session: &Session, expander: Expander, listing: Listing) -> Self {
        let time_zone = session.settings().timezone().to_string();
        let (tables, views) = (Mutex::default(), Mutex::default());
        let inner = Inner { lakehouse, time_zone, listing, expander, tables, views };
        Self { inner: Arc::new(inner), views: Arc::new([]) }
    }

    /// The table or view of a name as it stands after the time-travel rewrite.
    pub(super) async fn named(&self, catalog: &str, schema: &str, name: &str) -> Result<Named> {
        let (plain, selector) = split_selector(name);
        let table = TableName { catalog: catalog.into(), schema: schema.into(), table: plain.into() };
        let key = (table.clone(), name[plain.len()..].to_string());
        if let Some(pinned) = self.tables().get(&key) {
            return Ok(Named::Table(pinned.clone()));
        }
        if selector.is_none()
            && let Some(view) = self.known_views().get(&table)
        {
            return Ok(Named::View(Arc::clone(view)));
        }
        let at = selector.map(|selector| self.time_travel(selector)).transpose()?;
        match self.inner.lakehouse.relation(&table, at.as_ref()).await? {
            // Two scans of one table may have raced; the first pin stands for both.
            Relation::Table(pinned) => Ok(Named::Table(self.tables().entry(key).or_insert(pinned).clone())),
            Relation::View(view) => {
                let mut views = self.known_views();
                Ok(Named::View(Arc::clone(views.entry(table).or_insert_with(|| Arc::new(*view)))))
            }
        }
    }

    /// The table of a name, pinned; a view is not one.
    pub async fn pin(&self, catalog: &str, schema: &str, name: &str) -> Result<PinnedTable> {
        match self.named(catalog, schema, name).await? {
            Named::Table(pinned) => Ok(pinned),
            Named::View(view) => Err(Error::invalid(format!("\"{}\" is a view, not a table", view.name()))),
        }
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

    pub(super) fn known_views(&self) -> std::sync::MutexGuard<'_, HashMap<TableName, Arc<View>>> {
        self.inner.views.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
        let catalogs = Arc::new(Catalogs(self.pins.clone()));
        if let Some(schema) = self.pins.inner.expander.planner.information_schema(name, catalogs) {
            return Some(schema);
        }
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
        self.listed().map(|names| names.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(
        &self,
        name: &str,
    ) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.schema == SYSTEM_SCHEMA {
            if let Some(table) = self.pins.inner.lakehouse.system_table(&self.catalog, name) {
                return Ok(Some(table));
            }
            if let Some(table) = self.pins.inner.expander.system.table(name) {
                return table.map(Some).map_err(Error::into_datafusion);
            }
        }
        if let Some((table, kind)) = MetadataTable::split(split_selector(name).0) {
            let metadata = self.pins.metadata_table(&self.catalog, &self.schema, table, kind, name).await;
            return metadata.map(Some).map_err(Error::into_datafusion);
        }
        let (name, columns) = split_columns(name);
        let found = match self.pins.named(&self.catalog, &self.schema, name).await {
            Ok(Named::Table(pinned)) => Ok(pinned.provider_with(&columns)),
            Ok(Named::View(view)) => self.pins.expand(&view).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(provider) => Ok(Some(provider)),
            // One broken table must not hide the others from `information_schema`.
            Err(error) if self.table_exist(name) => {
                tracing::warn!(table = name, %error, "table left out of a listing");
                Ok(None)
            }
            Err(error) => Err(error.into_datafusion()),
        }
    }

    // For `information_schema.tables`, which then loads no table.
    async fn table_type(&self, name: &str) -> datafusion::error::Result<Option<TableType>> {
        let is_view = self.listed().and_then(|names| names.get(name));
        Ok(is_view.map(|is_view| if *is_view { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.listed().is_some_and(|names| names.contains_key(name))
    }
}

impl Schema {
    fn listed(&self) -> Option<&BTreeMap<String, bool>> {
        self.pins.inner.listing.get(&self.catalog)?.get(&self.schema)
    }
}
