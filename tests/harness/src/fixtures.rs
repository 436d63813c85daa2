//! Tables that other engines wrote: tests/fixtures, read where they lie in the checkout.
//!
//! Their metadata holds absolute locations below [`PLACE`], a folder that need not exist: a storage
//! layer maps it to `tests/fixtures/tables`, or to a copy that a test may damage. They are registered
//! in a fresh SQLite catalog, one schema a set. Nothing writes to the tables of the checkout.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use serde::Deserialize;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tarn_scan::storage::Layer;

use crate::data::Data;

/// The catalog that the tables are in.
pub const CATALOG: &str = "fixtures";
/// Where the tables were made, as a path in the store of the local disk.
const PLACE: &str = "var/tmp/tarn-fixtures";

/// One table: its name and where its metadata is.
#[derive(Debug, Clone, Deserialize)]
pub struct Fixture {
    /// `set.table`.
    pub table: String,
    /// Location of its current metadata.
    pub metadata: String,
}

/// The folder tests/fixtures.
pub fn folder() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The files of answers, in order.
pub fn answer_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = |folder: &FilePath| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("tests/fixtures/answers can be read");
        entries.map(|entry| entry.expect("a folder entry").path()).collect()
    };
    for set in entries(&folder().join("answers")) {
        found.extend(
            entries(&set).into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")),
        );
    }
    found.sort();
    found
}

/// All tables.
pub fn all() -> Vec<Fixture> {
    let read = |path: PathBuf| {
        let text = std::fs::read(&path).expect("an answer file can be read");
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    answer_files().into_iter().map(read).collect()
}

/// A lakehouse over the tables: catalog `fixtures`, beside the empty catalog of every data folder.
pub async fn data(fixtures: &[Fixture]) -> Data {
    let mut data = Data::empty();
    let database = data.folder().join("fixtures.db");
    register(&database, fixtures).await;
    let mut catalog = data.config.catalogs[crate::data::CATALOG].clone();
    catalog.uri = format!("sqlite://{}", database.display());
    catalog.name = Some(CATALOG.to_string());
    data.config.catalogs.insert(CATALOG.to_string(), catalog);
    data.config.scheduler.session.catalog = CATALOG.to_string();
    data
}

/// The table of a name, copied so that a test may damage it: its folder, and a lakehouse over the copy.
pub async fn copy(table: &str) -> (PathBuf, Data) {
    let found = all().into_iter().find(|fixture| fixture.table == table);
    let fixture = found.unwrap_or_else(|| panic!("no fixture {table}"));
    let mut data = data(std::slice::from_ref(&fixture)).await;
    let path = table.replace('.', "/");
    let copy = data.folder().join("tables");
    copy_folder(&data.tables.join(&path), &copy.join(&path));
    data.tables = copy;
    (data.tables.join(path), data)
}

fn copy_folder(from: &FilePath, to: &FilePath) {
    std::fs::create_dir_all(to).expect("a temporary folder takes a folder");
    for entry in std::fs::read_dir(from).expect("a fixture can be read") {
        let entry = entry.expect("a folder entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy_folder(&from, &to),
            false => drop(std::fs::copy(from, to).expect("a fixture can be copied")),
        }
    }
}

/// Writes a catalog with the tables, in the schema that Java's and PyIceberg's SQL catalogs share.
pub async fn register(database: &FilePath, fixtures: &[Fixture]) {
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.expect("a database can be made");
    let create = "CREATE TABLE IF NOT EXISTS iceberg_tables (catalog_name VARCHAR(255) NOT NULL, \
        table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), \
        previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5), \
        PRIMARY KEY (catalog_name, table_namespace, table_name))";
    sqlx::query(create).execute(&pool).await.expect("a table can be made");
    for fixture in fixtures {
        let (schema, table) = fixture.table.split_once('.').expect("a name of the form set.table");
        let insert = "INSERT OR REPLACE INTO iceberg_tables \
            (catalog_name, table_namespace, table_name, metadata_location, iceberg_type) VALUES (?, ?, ?, ?, 'TABLE')";
        let insert = sqlx::query(insert).bind(CATALOG).bind(schema).bind(table).bind(&fixture.metadata);
        insert.execute(&pool).await.expect("a row can be written");
    }
    pool.close().await;
}

/// The layer that finds the tables: paths below [`PLACE`] become paths below a folder of this machine.
#[derive(Debug, Clone)]
pub struct Moved {
    folder: String,
}

impl Moved {
    /// To a folder that holds `<set>/<table>`.
    pub fn to(folder: &FilePath) -> Self {
        let folder = std::path::absolute(folder).expect("a current folder");
        // Normalised by hand: `canonicalize` would want it to exist, and `..` is no segment of a store's path.
        let mut parts: Vec<String> = Vec::new();
        for part in folder.components() {
            match part {
                std::path::Component::ParentDir => drop(parts.pop()),
                std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
                _ => {}
            }
        }
        Self { folder: parts.join("/") }
    }

    fn inner(&self, path: &Path) -> Result<Path> {
        match path.as_ref().strip_prefix(PLACE) {
            Some(rest) => Ok(Path::parse(format!("{}{rest}", self.folder))?),
            None => Ok(path.clone()),
        }
    }

    fn outer(&self, meta: ObjectMeta) -> Result<ObjectMeta> {
        match meta.location.as_ref().strip_prefix(&self.folder) {
            Some(rest) => Ok(ObjectMeta { location: Path::parse(format!("{PLACE}{rest}"))?, ..meta }),
            None => Ok(meta),
        }
    }
}

impl Layer for Moved {
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(MovedStore { inner, moved: self.clone() })
    }
}

#[derive(Debug)]
struct MovedStore {
    inner: Arc<dyn ObjectStore>,
    moved: Moved,
}

impl fmt::Display for MovedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moved({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for MovedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(&self.moved.inner(location)?, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(&self.moved.inner(location)?, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.inner.get_opts(&self.moved.inner(location)?, options).await?;
        result.meta = self.moved.outer(result.meta)?;
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(&self.moved.inner(location)?, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let moved = self.moved.clone();
        self.inner.delete_stream(locations.map(move |location| moved.inner(&location?)).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let moved = self.moved.clone();
        let prefix = prefix.and_then(|prefix| self.moved.inner(prefix).ok());
        self.inner.list(prefix.as_ref()).map(move |meta| moved.outer(meta?)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        let after =
            move |meta: &Result<ObjectMeta>| meta.as_ref().map_or(true, |meta| meta.location > offset);
        self.list(prefix).filter(move |meta| std::future::ready(after(meta))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let inner = prefix.map(|prefix| self.moved.inner(prefix)).transpose()?;
        let found = self.inner.list_with_delimiter(inner.as_ref()).await?;
        let outer = |path: &Path| match path.as_ref().strip_prefix(&self.moved.folder) {
            Some(rest) => Path::parse(format!("{PLACE}{rest}")),
            None => Ok(path.clone()),
        };
        Ok(ListResult {
            common_prefixes: found.common_prefixes.iter().map(outer).collect::<Result<_, _>>()?,
            objects: found.objects.into_iter().map(|meta| self.moved.outer(meta)).collect::<Result<_>>()?,
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(&self.moved.inner(from)?, &self.moved.inner(to)?, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(&self.moved.inner(from)?, &self.moved.inner(to)?, options).await
    }
}
