//! The router: URIs to paths, paths to backing stores, and plain requests by URI.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::limit::LimitStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::{Mutex, RwLock};

use super::metrics::Metered;
use super::store::RouterStore;
use super::{Config, Layer, s3};
use crate::error::{Error, Result};
use crate::observer::ScanObserver;

/// First path segment of objects in S3.
const S3: &str = "s3";
/// First path segment of files on the local disk.
const FILE: &str = "file";
/// Stands where a bucket's name would, for the local disk.
const NO_AUTHORITY: &str = "-";

/// Every bucket and disk, as one cheap handle. Clones share the stores and their connections.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    layers: Vec<Arc<dyn Layer>>,
    /// Backing stores made so far, by `<scheme>/<authority>`.
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    /// Told about scans that read through this router.
    observer: RwLock<Option<Arc<dyn ScanObserver>>>,
}

impl Router {
    /// A router without any store; stores are built when a path first asks for them.
    pub fn new(config: Config, layers: Vec<Arc<dyn Layer>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                layers,
                stores: Mutex::new(HashMap::new()),
                observer: RwLock::new(None),
            }),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The URL under which DataFusion finds the one store.
    pub fn object_store_url() -> ObjectStoreUrl {
        ObjectStoreUrl::parse("tarn://lakehouse/").expect("a constant, valid URL")
    }

    /// The one store, over all buckets and disks.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(RouterStore::new(self.clone(), None))
    }

    /// Registers the store with `env`; scans in it then keep footers in its file metadata cache.
    pub fn register(&self, env: &RuntimeEnv) {
        let cache = env.cache_manager.get_file_metadata_cache();
        let store = RouterStore::new(self.clone(), Some(cache));
        env.register_object_store(Self::object_store_url().as_ref(), Arc::new(store));
    }

    /// Makes `observer` hear of every scan that reads through this router.
    pub fn observe(&self, observer: Arc<dyn ScanObserver>) {
        *self.inner.observer.write() = Some(observer);
    }

    pub(super) fn observer(&self) -> Option<Arc<dyn ScanObserver>> {
        self.inner.observer.read().clone()
    }

    /// The path of a URI inside the store: see [`path_of`].
    pub fn path_of(&self, uri: &str) -> Result<Path> {
        path_of(uri)
    }

    /// The URI of a path inside the store: see [`uri_of`].
    pub fn uri_of(&self, path: &Path) -> Result<String> {
        uri_of(path)
    }

    /// The whole object.
    pub async fn get(&self, uri: &str) -> Result<Bytes> {
        let (store, path) = self.locate_uri(uri)?;
        let read = async { store.get(&path).await?.bytes().await };
        read.await.map_err(|source| Error::store(uri, source))
    }

    /// A range of the object.
    pub async fn get_range(&self, uri: &str, range: Range<u64>) -> Result<Bytes> {
        let (store, path) = self.locate_uri(uri)?;
        store.get_range(&path, range).await.map_err(|source| Error::store(uri, source))
    }

    /// Writes an object that must not exist yet: [`Error::AlreadyExists`] if it does.
    pub async fn put_new(&self, uri: &str, bytes: Bytes) -> Result<()> {
        let (store, path) = self.locate_uri(uri)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = store.put_opts(&path, PutPayload::from(bytes), options).await;
        put.map(|_| ()).map_err(|source| Error::store(uri, source))
    }

    /// Removes the object; [`Error::NotFound`] where the store can tell that there was none.
    pub async fn delete(&self, uri: &str) -> Result<()> {
        let (store, path) = self.locate_uri(uri)?;
        store.delete(&path).await.map_err(|source| Error::store(uri, source))
    }

    /// The object's size in bytes.
    pub async fn head(&self, uri: &str) -> Result<u64> {
        let (store, path) = self.locate_uri(uri)?;
        let meta = store.head(&path).await.map_err(|source| Error::store(uri, source))?;
        Ok(meta.size)
    }

    /// URIs and sizes of all objects below a folder, at any depth. A folder that does not exist is empty.
    pub async fn list(&self, prefix_uri: &str) -> Result<Vec<(String, u64)>> {
        let path = path_of(prefix_uri)?;
        let failed = |source| Error::store(prefix_uri, source);
        let found: Vec<_> = self.object_store().list(Some(&path)).try_collect().await.map_err(failed)?;
        found.into_iter().map(|meta| Ok((uri_of(&meta.location)?, meta.size))).collect()
    }

    fn locate_uri(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let located = self.locate(&path_of(uri)?).map_err(|source| Error::store(uri, source))?;
        Ok((located.store, located.path))
    }

    /// The backing store of a path, and the path inside it.
    pub(super) fn locate(&self, path: &Path) -> object_store::Result<Located> {
        let raw = path.as_ref();
        let mut parts = raw.splitn(3, '/');
        let (Some(scheme), Some(authority)) = (parts.next(), parts.next()) else {
            return Err(object_store::Error::Generic {
                store: "Router",
                source: format!("path {raw:?} names no store").into(),
            });
        };
        let key = parts.next().unwrap_or_default();
        Ok(Located {
            store: self.store(scheme, authority)?,
            prefix: format!("{scheme}/{authority}"),
            path: Path::parse(key)?,
        })
    }

    fn store(&self, scheme: &str, authority: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
        let name = format!("{scheme}/{authority}");
        let mut stores = self.inner.stores.lock();
        if let Some(store) = stores.get(&name) {
            return Ok(Arc::clone(store));
        }
        let config = &self.inner.config;
        let requests_max = config.concurrent_requests_max.max(1);
        let metered = match scheme {
            S3 => Metered::remote(Arc::new(LimitStore::new(s3::build(config, authority)?, requests_max))),
            FILE => Metered::local(Arc::new(LimitStore::new(LocalFileSystem::new(), requests_max))),
            _ => {
                return Err(object_store::Error::Generic {
                    store: "Router",
                    source: format!("no store for {name:?}").into(),
                });
            }
        };
        let mut store: Arc<dyn ObjectStore> = Arc::new(metered);
        for layer in &self.inner.layers {
            store = layer.wrap(store);
        }
        stores.insert(name, Arc::clone(&store));
        Ok(store)
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// A path, taken apart.
pub(super) struct Located {
    pub(super) store: Arc<dyn ObjectStore>,
    /// `<scheme>/<authority>`, what the backing store does not see.
    pub(super) prefix: String,
    pub(super) path: Path,
}

/// The path of a URI inside the router's store: `s3/<bucket>/<key>` or `file/-/<path>`.
///
/// Understands `s3`, `s3a` and `s3n`, `file:///a`, `file:/a` and a plain `/a`. The key is taken as
/// it stands: percent signs and Unicode stay what they are. Empty segments (`a//b`) are refused.
pub fn path_of(uri: &str) -> Result<Path> {
    let fail = |reason: &str| Error::Location { uri: uri.to_owned(), reason: reason.to_owned() };
    let raw = match uri.split_once(':') {
        Some(("s3" | "s3a" | "s3n", rest)) => {
            let rest = rest.strip_prefix("//").ok_or_else(|| fail("no bucket"))?;
            if rest.is_empty() || rest.starts_with('/') {
                return Err(fail("no bucket"));
            }
            format!("{S3}/{rest}")
        }
        Some(("file", rest)) => {
            let path = match rest.strip_prefix("//") {
                Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                None => rest,
            };
            if !path.starts_with('/') {
                return Err(fail("a file's path must be absolute"));
            }
            format!("{FILE}/{NO_AUTHORITY}{path}")
        }
        _ if uri.starts_with('/') => format!("{FILE}/{NO_AUTHORITY}{uri}"),
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
            return Err(fail("no store for this scheme"));
        }
        _ => return Err(fail("neither a URI nor an absolute path")),
    };
    Path::parse(&raw).map_err(|source| fail(&source.to_string()))
}

/// The URI of a path inside the router's store, as `s3://bucket/key` or `file:///path`.
pub fn uri_of(path: &Path) -> Result<String> {
    let raw = path.as_ref();
    let (scheme, rest) = raw.split_once('/').unwrap_or((raw, ""));
    match (scheme, rest.split_once('/').unwrap_or((rest, ""))) {
        (S3, _) => Ok(format!("s3://{rest}")),
        (FILE, (NO_AUTHORITY, key)) => Ok(format!("file:///{key}")),
        _ => Err(Error::Location { uri: raw.to_owned(), reason: "not a path of the router".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
