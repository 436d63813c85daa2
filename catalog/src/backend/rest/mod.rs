//! A catalog behind Iceberg's REST protocol, by our own client.
//!
//! ```text
//!   RestBackend ── server: configuration, paths ── client: headers, retries ── auth: tokens
//!        └─ vended: keys to storage that come with tables
//! ```
//!
//! The server makes new versions from what we say has changed ([`crate::iceberg::Changes`]), and
//! writes their metadata files itself. The one rule: an answer that leaves open whether a change
//! was made is [`Outcome::Unknown`], never a failure.

mod auth;
mod client;
mod config;
mod messages;
mod server;
#[cfg(test)]
mod tests;
mod vended;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use reqwest::header::{ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tarn_scan::storage::Router;
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use self::client::{Answer, Call, Failure};
use self::messages::{CommitTable, Identifiers, LoadCredentials, LoadTable, LoadView, Namespace, Namespaces};
use self::server::Server;
use self::vended::Vended;
use super::named::Named;
use super::{Backend, LoadedTable, LoadedView, Outcome, TableIdent};
use crate::config::CatalogConfig;
use crate::error::{Error, Result};
use crate::iceberg::{Changes, Metadata, Past, ViewMetadata};
use crate::metadata_cache::Files;

pub use config::RestConfig;

/// Namespaces whose children are asked for at once.
const LISTINGS_MAX: usize = 8;

/// Levels of namespaces that are listed.
const LEVELS_MAX: usize = 16;

/// Pages of one listing.
const PAGES_MAX: usize = 10_000;

/// Tables whose entity tags are remembered.
const TAGS_MAX: usize = 10_000;

/// Tables whose keys are renewed at once.
const RENEWALS_MAX: usize = 4;

const DELEGATION: HeaderName = HeaderName::from_static("x-iceberg-access-delegation");

/// A catalog behind Iceberg's REST protocol.
pub struct RestBackend {
    /// Its name in SQL, for messages.
    catalog: String,
    uri: String,
    warehouse: String,
    config: RestConfig,
    /// Known from the first use on.
    server: OnceCell<Server>,
    files: Arc<Files>,
    vended: Vended,
    /// What was loaded last, while somebody still holds it. Protects only the map.
    tags: Mutex<HashMap<TableIdent, Tagged>>,
}

struct Tagged {
    tag: HeaderValue,
    metadata_location: String,
    metadata: Weak<Metadata>,
}

impl std::fmt::Debug for RestBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestBackend").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl RestBackend {
    /// A catalog that is asked when it is first used.
    pub(crate) fn open(catalog: &str, config: &CatalogConfig, router: &Router, files: Arc<Files>) -> Self {
        Self {
            catalog: catalog.to_owned(),
            uri: config.uri.clone(),
            warehouse: config.warehouse.clone(),
            config: config.rest.clone(),
            server: OnceCell::new(),
            files,
            vended: Vended::new(catalog, router.credentials().clone()),
            tags: Mutex::default(),
        }
    }

    async fn server(&self) -> Result<&Server> {
        let connect = || Server::connect(&self.uri, &self.warehouse, &self.config);
        self.server.get_or_try_init(connect).await.map_err(|failure| self.failed(failure))
    }

    fn failed(&self, failure: Failure) -> Error {
        let (catalog, reason) = (self.catalog.clone(), failure.to_string());
        match failure.status() {
            Some(401 | 403 | 419) => Error::CatalogRefused { catalog, reason },
            Some(400 | 422) => Error::Invalid(format!("catalog {catalog:?}: {reason}")),
            Some(501) => Error::Invalid(format!("catalog {catalog:?} cannot do this: {reason}")),
            _ => Error::CatalogRequest { catalog, reason },
        }
    }

    /// All pages of a listing.
    async fn pages<P: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
        next: impl Fn(&P) -> Option<String>,
    ) -> Result<Result<Vec<P>, Failure>> {
        let server = self.server().await?;
        let mut pages = Vec::new();
        // An empty token asks for pages; a server without them answers with everything.
        let mut token = String::new();
        for _ in 0..PAGES_MAX {
            let mut call = Call::get(path.to_owned()).query("pageToken", token.clone());
            call.query.extend(query.iter().cloned());
            let page: P = match server.client.send(call).await.and_then(|answer| answer.json()) {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            let following = next(&page).filter(|following| !following.is_empty());
            pages.push(page);
            match following {
                Some(following) if following != token => token = following,
                _ => return Ok(Ok(pages)),
            }
        }
        let (catalog, reason) = (self.catalog.clone(), format!("a listing has more than {PAGES_MAX} pages"));
        Err(Error::CatalogRequest { catalog, reason })
    }

    /// The namespaces directly in this one.
    async fn children(&self, parent: &[String]) -> Result<Vec<Vec<String>>> {
        let server = self.server().await?;
        let query: Vec<_> = match parent.is_empty() {
            true => Vec::new(),
            false => vec![("parent", server.parent(parent))],
        };
        let next = |page: &Namespaces| page.next_page_token.clone();
        let found = match self.pages(&server.namespaces(), &query, next).await? {
            Ok(pages) => pages.into_iter().flat_map(|page| page.namespaces),
            // A server without nested namespaces, or one that was dropped just now.
            Err(failure) if !parent.is_empty() && matches!(failure.status(), Some(400 | 404 | 406 | 501)) => {
                return Ok(Vec::new());
            }
            Err(failure) => return Err(self.failed(failure)),
        };
        // Some servers answer with the parent itself, or with all descendants.
        let is_child = |levels: &Vec<String>| levels.len() == parent.len() + 1 && levels.starts_with(parent);
        Ok(found.filter(is_child).filter(|levels| self.can_be_named(levels)).collect())
    }

    fn can_be_named(&self, levels: &[String]) -> bool {
        let named = levels.iter().all(|level| !level.is_empty() && !level.contains('.'));
        if !named {
            debug!(catalog = self.catalog, ?levels, "namespace with a dot in a name left out of a listing");
        }
        named
    }

    async fn names(&self, path: String, schema: &str) -> Result<Vec<String>> {
        let next = |page: &Identifiers| page.next_page_token.clone();
        let pages = match self.pages(&path, &[], next).await? {
            Ok(pages) => pages,
            Err(failure) if failure.status() == Some(404) => return Err(self.schema_not_found(schema)),
            Err(failure) => return Err(self.failed(failure)),
        };
        let found = pages.into_iter().flat_map(|page| page.identifiers);
        let mut names: Vec<_> = found
            .filter(|identifier| identifier.namespace.is_empty() || identifier.namespace.join(".") == schema)
            .map(|identifier| identifier.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The table, unless it is as `known` says.
    async fn load(&self, ident: &TableIdent, known: Option<HeaderValue>) -> Result<Answer> {
        let server = self.server().await?;
        let mut call = Call::get(server.table(&ident.schema, &ident.table)).query("snapshots", "all");
        call.headers.extend(self.delegation());
        call.headers.extend(known.map(|tag| (IF_NONE_MATCH, tag)));
        server.client.send(call).await.map_err(|failure| match failure.status() {
            Some(404) => {
                self.forget(ident);
                self.table_not_found(ident)
            }
            _ => self.failed(failure),
        })
    }

    fn delegation(&self) -> Option<(HeaderName, HeaderValue)> {
        let wanted = self.config.vended_credentials;
        wanted.then(|| (DELEGATION, HeaderValue::from_static("vended-credentials")))
    }

    async fn take_in(&self, ident: &TableIdent, answer: &Answer, past: Past) -> Result<LoadedTable> {
        let loaded: LoadTable = answer.json().map_err(|failure| self.failed(failure))?;
        let Some(metadata_location) = loaded.metadata_location else {
            let (catalog, table) = (self.catalog.clone(), self.table_name(ident).to_string());
            let reason = format!("the answer for table {table:?} has no metadata location");
            return Err(Error::CatalogRequest { catalog, reason });
        };
        let table = self.parsed(ident, metadata_location, &loaded.metadata, past).await?;
        if self.config.vended_credentials {
            let (config, parts) = (loaded.config, loaded.storage_credentials);
            self.vended.put(ident, &table.metadata, &self.server().await?.storage, config, parts);
        }
        // What is not kept for the next query could not be what its tag stands for.
        if let Some(tag) = answer.headers.get(ETAG).filter(|_| past == Past::Named) {
            self.remember(ident, tag, &table);
        }
        Ok(table)
    }

    async fn load_with(&self, ident: &TableIdent, past: Past) -> Result<LoadedTable> {
        if ident.table.is_empty() || ident.schema.split('.').any(str::is_empty) {
            return Err(self.table_not_found(ident));
        }
        let is_enough = |known: &LoadedTable| past == Past::Named || known.metadata.is_whole();
        let remembered = self.remembered(ident).filter(|(_, known)| is_enough(known));
        let (tag, known) = remembered.filter(|_| self.vended.used(ident)).unzip();
        let answer = self.load(ident, tag).await?;
        match known {
            Some(known) if answer.status == StatusCode::NOT_MODIFIED => Ok(known),
            _ => self.take_in(ident, &answer, past).await,
        }
    }

    /// The metadata of an answer, parsed only if it is not at hand.
    async fn parsed(
        &self,
        ident: &TableIdent,
        location: String,
        metadata: &RawValue,
        past: Past,
    ) -> Result<LoadedTable> {
        let name = self.table_name(ident);
        let bytes = Bytes::from(metadata.get().to_owned());
        let metadata = self.files.parsed_metadata(&name, &location, bytes, past).await?;
        Ok(LoadedTable { metadata_location: location, metadata })
    }

    fn remember(&self, ident: &TableIdent, tag: &HeaderValue, table: &LoadedTable) {
        let mut tags = self.tags.lock();
        if tags.len() >= TAGS_MAX {
            tags.retain(|_, tagged| tagged.metadata.strong_count() > 0);
        }
        if tags.len() >= TAGS_MAX {
            tags.clear();
        }
        let metadata = Arc::downgrade(&table.metadata);
        let metadata_location = table.metadata_location.clone();
        tags.insert(ident.clone(), Tagged { tag: tag.clone(), metadata_location, metadata });
    }

    /// What was loaded last and its tag, if it is still held by somebody.
    fn remembered(&self, ident: &TableIdent) -> Option<(HeaderValue, LoadedTable)> {
        let tags = self.tags.lock();
        let tagged = tags.get(ident)?;
        let metadata = tagged.metadata.upgrade()?;
        let metadata_location = tagged.metadata_location.clone();
        Some((tagged.tag.clone(), LoadedTable { metadata_location, metadata }))
    }

    fn forget(&self, ident: &TableIdent) {
        self.tags.lock().remove(ident);
        self.vended.forget(ident);
    }

    async fn delete_table(&self, ident: &TableIdent, purge: bool) -> Result<()> {
        let server = self.server().await?;
        let path = server.table(&ident.schema, &ident.table);
        let call = Call::new(Method::DELETE, path).query("purgeRequested", purge.to_string());
        match server.client.send(call).await {
            Ok(_) => {
                self.forget(ident);
                Ok(())
            }
            Err(failure) if failure.status() == Some(404) => Err(self.table_not_found(ident)),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn renew(&self, ident: &TableIdent) -> Result<()> {
        let server = self.server().await?;
        if server.has_credentials_endpoint
            && let Some((_, table)) = self.remembered(ident)
        {
            let path = format!("{}/credentials", server.table(&ident.schema, &ident.table));
            let answer = server.client.send(Call::get(path)).await.map_err(|failure| self.failed(failure))?;
            let found: LoadCredentials = answer.json().map_err(|failure| self.failed(failure))?;
            if self.vended.renew(ident, &table.metadata, &server.storage, found.storage_credentials) {
                return Ok(());
            }
        }
        let answer = self.load(ident, None).await?;
        self.take_in(ident, &answer, Past::Named).await.map(drop)
    }

    /// Sends requirements and updates of one table, which may be about to be made.
    async fn send_commit(
        server: &Server,
        ident: &TableIdent,
        mut changes: Value,
    ) -> Result<CommitTable, Failure> {
        changes["identifier"] = Self::identifier(ident);
        server.client.send(Call::post(server.table(&ident.schema, &ident.table), changes)).await?.json()
    }

    fn identifier(ident: &TableIdent) -> Value {
        json!({ "namespace": levels(&ident.schema), "name": ident.table })
    }
}

impl Named for RestBackend {
    fn catalog(&self) -> &str {
        &self.catalog
    }
}

#[async_trait]
impl Backend for RestBackend {
    async fn list_schemas(&self) -> Result<Vec<String>> {
        let mut all: Vec<Vec<String>> = Vec::new();
        let mut level = self.children(&[]).await?;
        for _ in 1..LEVELS_MAX {
            let next = match self.config.nested_namespaces {
                true => {
                    let listings: Vec<_> = level.iter().map(|parent| self.children(parent)).collect();
                    stream::iter(listings).buffered(LISTINGS_MAX).try_collect::<Vec<_>>().await?.concat()
                }
                false => Vec::new(),
            };
            all.append(&mut level);
            level = next;
            if level.is_empty() {
                break;
            }
        }
        let mut names: Vec<_> = all.into_iter().map(|levels| levels.join(".")).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn create_schema(&self, schema: &str, location: Option<&str>) -> Result<()> {
        let server = self.server().await?;
        let properties = location.map_or_else(|| json!({}), |location| json!({ "location": location }));
        let body = json!({ "namespace": levels(schema), "properties": properties });
        match server.client.send(Call::post(server.namespaces(), body)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.status() == Some(409) => {
                Err(Error::SchemaExists { catalog: self.catalog.clone(), schema: schema.to_owned() })
            }
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn drop_schema(&self, schema: &str) -> Result<()> {
        let server = self.server().await?;
        let failure = match server.client.send(Call::new(Method::DELETE, server.namespace(schema))).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let not_empty =
            matches!(&failure, Failure::Answer { kind, .. } if kind == "NamespaceNotEmptyException");
        match failure.status() {
            Some(404) => Err(self.schema_not_found(schema)),
            Some(status) if status == 409 || not_empty => {
                let tables = self.list_tables(schema).await.unwrap_or_default();
                let table = tables.into_iter().next().unwrap_or_else(|| "?".to_owned());
                let (catalog, schema) = (self.catalog.clone(), schema.to_owned());
                Err(Error::SchemaNotEmpty { catalog, schema, table })
            }
            _ => Err(self.failed(failure)),
        }
    }

    async fn schema_exists(&self, schema: &str) -> Result<bool> {
        if schema.split('.').any(str::is_empty) {
            return Ok(false);
        }
        let server = self.server().await?;
        match server.client.send(Call::get(server.namespace(schema))).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.status() == Some(404) => Ok(false),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn schema_location(&self, schema: &str) -> Result<String> {
        let server = self.server().await?;
        let answer = server.client.send(Call::get(server.namespace(schema))).await;
        let answer = answer.map_err(|failure| match failure.status() {
            Some(404) => self.schema_not_found(schema),
            _ => self.failed(failure),
        })?;
        let namespace: Namespace = answer.json().map_err(|failure| self.failed(failure))?;
        match namespace.properties.get("location") {
            Some(location) => Ok(location.trim_end_matches('/').to_owned()),
            None => Err(Error::Invalid(format!(
                "catalog {:?} gives schema {schema:?} no location: name one with LOCATION",
                self.catalog
            ))),
        }
    }

    async fn new_table_location(&self, ident: &TableIdent, draft: &Metadata) -> Result<String> {
        let server = self.server().await?;
        let body = json!({
            "name": ident.table, "stage-create": true,
            "schema": draft.schema_value(draft.current_schema_id()),
            "properties": draft.properties(),
        });
        let mut call = Call::post(server.tables(&ident.schema), body);
        call.headers.extend(self.delegation());
        let answer = server.client.send(call).await.map_err(|failure| match failure.status() {
            Some(404) => self.schema_not_found(&ident.schema),
            Some(409) => Error::TableExists { name: self.table_name(ident) },
            _ => self.failed(failure),
        })?;
        let staged: LoadTable = answer.json().map_err(|failure| self.failed(failure))?;
        let name = self.table_name(ident);
        let bytes = Bytes::from(staged.metadata.get().to_owned());
        let metadata = Metadata::read(bytes, &name, "staged", Past::Whole)?;
        if self.config.vended_credentials {
            // Its rows are written before there is a table to load.
            self.vended.put(ident, &metadata, &server.storage, staged.config, staged.storage_credentials);
        }
        Ok(metadata.location().trim_end_matches('/').to_owned())
    }

    async fn list_tables(&self, schema: &str) -> Result<Vec<String>> {
        if schema.split('.').any(str::is_empty) {
            return Err(self.schema_not_found(schema));
        }
        let path = self.server().await?.tables(schema);
        self.names(path, schema).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load_with(ident, Past::Whole).await
    }

    async fn load_present(&self, ident: &TableIdent) -> Result<LoadedTable> {
        self.load_with(ident, Past::Named).await
    }

    async fn create_table(&self, ident: &TableIdent, metadata: Metadata) -> Result<LoadedTable> {
        let server = self.server().await?;
        // Not every server looks for the namespace of what a commit creates.
        if !self.schema_exists(&ident.schema).await? {
            return Err(self.schema_not_found(&ident.schema));
        }
        let changes = Changes::create(&metadata)?.to_json()?;
        match Self::send_commit(server, ident, changes).await {
            Ok(made) => self.parsed(ident, made.metadata_location, &made.metadata, Past::Named).await,
            Err(failure) if failure.status() == Some(409) => {
                Err(Error::TableExists { name: self.table_name(ident) })
            }
            Err(failure) if failure.status() == Some(404) => Err(self.schema_not_found(&ident.schema)),
            Err(failure) if failure.is_unknown() => {
                Err(Error::CommitUnknown { table: self.table_name(ident), reason: failure.to_string() })
            }
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn commit(&self, ident: &TableIdent, base: &LoadedTable, new: Metadata) -> Result<Outcome> {
        let server = self.server().await?;
        let changes = Changes::between(&base.metadata, &new)?.to_json()?;
        match Self::send_commit(server, ident, changes).await {
            Ok(made) => match self.parsed(ident, made.metadata_location, &made.metadata, Past::Named).await {
                Ok(table) => Ok(Outcome::Committed(table)),
                Err(error) => Ok(Outcome::Unknown(error.to_string())),
            },
            // A table that is gone is another version, too; the next load says so.
            Err(failure) if matches!(failure.status(), Some(404 | 409)) => Ok(Outcome::Conflict),
            Err(failure) if failure.is_unknown() => Ok(Outcome::Unknown(failure.to_string())),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<LoadedTable> {
        let table = self.load_table(ident).await?;
        self.delete_table(ident, false).await?;
        Ok(table)
    }

    async fn forget_table(&self, ident: &TableIdent) -> Result<()> {
        self.delete_table(ident, false).await
    }

    async fn purge_table(&self, ident: &TableIdent) -> Result<bool> {
        self.delete_table(ident, true).await.map(|()| true)
    }

    async fn list_views(&self, schema: &str) -> Result<Vec<String>> {
        let server = self.server().await?;
        if !server.has_views {
            return Ok(Vec::new());
        }
        self.names(server.views(schema), schema).await
    }

    async fn load_view(&self, ident: &TableIdent) -> Result<LoadedView> {
        let server = self.server().await?;
        let named = !ident.table.is_empty() && !ident.schema.split('.').any(str::is_empty);
        if !server.has_views || !named {
            return Err(self.view_not_found(ident));
        }
        let call = Call::get(server.view(&ident.schema, &ident.table));
        let answer = server.client.send(call).await.map_err(|failure| match failure.status() {
            // A server without views knows no such path.
            Some(404 | 405 | 501) => self.view_not_found(ident),
            _ => self.failed(failure),
        })?;
        let loaded: LoadView = answer.json().map_err(|failure| self.failed(failure))?;
        let bytes = Bytes::from(loaded.metadata.get().to_owned());
        let metadata = ViewMetadata::parse(&bytes, &self.table_name(ident), &loaded.metadata_location)?;
        Ok(LoadedView { metadata_location: loaded.metadata_location, metadata })
    }

    async fn create_view(&self, ident: &TableIdent, view: ViewMetadata) -> Result<()> {
        let server = self.server().await?;
        if !server.has_views {
            return Err(Error::Invalid(format!("catalog {:?} cannot hold views", self.catalog)));
        }
        let body = view.creation_json(&ident.table)?;
        match server.client.send(Call::post(server.views(&ident.schema), body)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.status() == Some(404) => Err(self.schema_not_found(&ident.schema)),
            Err(failure) if failure.status() == Some(409) => match self.load_view(ident).await {
                Ok(_) => Err(Error::ViewExists { name: self.table_name(ident) }),
                Err(_) => Err(Error::TableExists { name: self.table_name(ident) }),
            },
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn replace_view(&self, ident: &TableIdent, base: &LoadedView, view: ViewMetadata) -> Result<bool> {
        let server = self.server().await?;
        let mut body = view.replacement_json(&base.metadata)?;
        body["identifier"] = Self::identifier(ident);
        match server.client.send(Call::post(server.view(&ident.schema, &ident.table), body)).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.status() == Some(409) => Ok(false),
            Err(failure) if failure.status() == Some(404) => Err(self.view_not_found(ident)),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn drop_view(&self, ident: &TableIdent) -> Result<()> {
        let server = self.server().await?;
        let call = Call::new(Method::DELETE, server.view(&ident.schema, &ident.table));
        match server.client.send(call).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.status() == Some(404) => Err(self.view_not_found(ident)),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    async fn renew_credentials(&self) {
        let due = self.vended.due();
        let renewals: Vec<_> =
            due.iter().map(|ident| async move { (ident, self.renew(ident).await) }).collect();
        let mut renewals = stream::iter(renewals).buffer_unordered(RENEWALS_MAX);
        while let Some((ident, renewed)) = renewals.next().await {
            if let Err(error) = renewed {
                warn!(table = %self.table_name(ident), %error, "vended credentials not renewed");
            }
        }
    }
}

fn levels(schema: &str) -> Vec<&str> {
    schema.split('.').collect()
}
