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

use super::credentials::{Credential, Credentials};
use super::metrics::Metered;
use super::rewrite::Rewrites;
use super::store::RouterStore;
use super::{Config, Layer, azure, gcs, s3};
use crate::error::{Error, Result};
use crate::observer::ScanObserver;

/// First path segment of objects in S3.
const S3: &str = "s3";
/// First path segment of objects in Google Cloud Storage.
const GCS: &str = "gs";
/// First path segment of objects in Azure's stores; the authority is `container@account.host`.
const AZURE: &str = "abfs";
/// First path segment of files on the local disk.
const FILE: &str = "file";
/// Stands where a bucket's name would, for the local disk.
const NO_AUTHORITY: &str = "-";

/// Stores that sign with vended keys; beyond that number the least useful go, and are built again when asked for.
const VENDED_STORES_MAX: usize = 256;

/// Every bucket and disk, as one cheap handle. Clones share the stores and their connections.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    layers: Vec<Arc<dyn Layer>>,
    rewrites: Rewrites,
    /// Keys that catalogs vended.
    credentials: Credentials,
    /// Backing stores made so far, by `<scheme>/<authority>`; see [`Vended::name`] for those with vended keys.
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    /// Told about scans that read through this router.
    observer: RwLock<Option<Arc<dyn ScanObserver>>>,
}

impl Router {
    /// A router without any store; stores are built when a path first asks for them.
    pub fn new(config: Config, layers: Vec<Arc<dyn Layer>>) -> Self {
        let rewrites = Rewrites::new(&config.rewrites);
        Self {
            inner: Arc::new(Inner {
                config,
                layers,
                rewrites,
                credentials: Credentials::default(),
                stores: Mutex::new(HashMap::new()),
                observer: RwLock::new(None),
            }),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The keys that catalogs vended, for this process.
    pub fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    /// The URL under which DataFusion finds the one store.
    pub fn object_store_url() -> ObjectStoreUrl {
        ObjectStoreUrl::parse("tarn://lakehouse/").expect("a constant, valid URL")
    }

    /// The one store, over all buckets and disks.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(RouterStore::new(self.clone()))
    }

    /// Registers the store with `env`; scans in it then keep footers in its file metadata cache, and deletes
    /// counted in its memory pool.
    pub fn register(&self, env: &RuntimeEnv) {
        let store = RouterStore::of_environment(self.clone(), env);
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

    /// A text that differs when an object has been written anew.
    pub async fn version(&self, uri: &str) -> Result<String> {
        let (store, path) = self.locate_uri(uri)?;
        let meta = store.head(&path).await.map_err(|source| Error::store(uri, source))?;
        let written = meta.last_modified.timestamp_micros();
        Ok(format!("{}-{written}-{}", meta.size, meta.e_tag.or(meta.version).unwrap_or_default()))
    }

    /// URIs and sizes of all objects below a folder, at any depth. A folder that does not exist is empty.
    pub async fn list(&self, prefix_uri: &str) -> Result<Vec<(String, u64)>> {
        let path = path_of(prefix_uri)?;
        let failed = |source| Error::store(prefix_uri, source);
        let found: Vec<_> = self.object_store().list(Some(&path)).try_collect().await.map_err(failed)?;
        let real = self.inner.rewrites.apply(path.as_ref());
        // By the names that were asked for, which a rewrite may have led elsewhere: callers compare them.
        let name = |location: &Path| match location.as_ref().strip_prefix(real.as_ref()) {
            Some(rest) => Path::parse(format!("{path}{rest}")).map_err(|source| failed(source.into())),
            None => Ok(location.clone()),
        };
        found.into_iter().map(|meta| Ok((uri_of(&name(&meta.location)?)?, meta.size))).collect()
    }

    fn locate_uri(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let path = path_of(uri)?;
        let real = self.inner.rewrites.apply(path.as_ref());
        if !has_store(real.split('/').next().unwrap_or_default()) {
            return Err(Error::Location { uri: uri.to_owned(), reason: NO_STORE.to_owned() });
        }
        let located = self.locate(&path).map_err(|source| Error::store(uri, source))?;
        Ok((located.store, located.path))
    }

    /// The backing store of a path, and the path inside it.
    pub(super) fn locate(&self, path: &Path) -> object_store::Result<Located> {
        let raw = self.inner.rewrites.apply(path.as_ref());
        let raw = raw.as_ref();
        let mut parts = raw.splitn(3, '/');
        let (Some(scheme), Some(authority)) = (parts.next(), parts.next()) else {
            return Err(object_store::Error::Generic {
                store: "Router",
                source: format!("path {raw:?} names no store").into(),
            });
        };
        let key = parts.next().unwrap_or_default();
        let vended = (scheme != FILE).then(|| Vended::find(&self.inner.credentials, raw)).flatten();
        Ok(Located {
            store: self.store(scheme, authority, vended)?,
            prefix: format!("{scheme}/{authority}"),
            path: Path::parse(key)?,
        })
    }

    fn store(
        &self,
        scheme: &str,
        authority: &str,
        vended: Option<Vended>,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        let place = format!("{scheme}/{authority}");
        let name = vended.as_ref().map_or_else(|| place.clone(), |vended| vended.name(&place));
        let mut stores = self.inner.stores.lock();
        if let Some(store) = stores.get(&name) {
            return Ok(Arc::clone(store));
        }
        let mut store: Arc<dyn ObjectStore> = Arc::new(self.build(scheme, authority, vended.as_ref())?);
        for layer in &self.inner.layers {
            store = layer.wrap(store);
        }
        if vended.is_some() {
            bound(&mut stores);
        }
        stores.insert(name, Arc::clone(&store));
        Ok(store)
    }

    fn build(&self, scheme: &str, authority: &str, vended: Option<&Vended>) -> object_store::Result<Metered> {
        let config = &self.inner.config;
        let keys = &self.inner.credentials;
        Ok(match (scheme, vended) {
            (S3, None) => self.remote(s3::build(config, authority)?),
            (S3, Some(Vended { prefix, credential })) => {
                self.remote(s3::build_vended(config, authority, credential, prefix, keys)?)
            }
            (GCS, None) => self.remote(gcs::build(config, authority)?),
            (GCS, Some(Vended { prefix, credential })) => {
                self.remote(gcs::build_vended(config, authority, credential, prefix, keys)?)
            }
            (AZURE, None) => self.remote(azure::build(config, authority)?),
            (AZURE, Some(Vended { prefix, credential })) => {
                self.remote(azure::build_vended(config, authority, credential, prefix, keys)?)
            }
            (FILE, _) => {
                Metered::local(Arc::new(LimitStore::new(LocalFileSystem::new(), self.requests_max())))
            }
            _ => {
                return Err(object_store::Error::Generic {
                    store: "Router",
                    source: format!("{scheme:?}: {NO_STORE}").into(),
                });
            }
        })
    }

    fn remote<S: ObjectStore>(&self, store: S) -> Metered {
        Metered::remote(Arc::new(LimitStore::new(store, self.requests_max())))
    }

    fn requests_max(&self) -> usize {
        self.inner.config.concurrent_requests_max.max(1)
    }
}

/// The part of storage that a vended key is for.
struct Vended {
    prefix: String,
    credential: Arc<Credential>,
}

/// Stands between the parts of the name of a store with vended keys; no bucket's name holds it.
const VENDED: char = '\u{1f}';

impl Vended {
    fn find(credentials: &Credentials, path: &str) -> Option<Self> {
        let (prefix, credential) = credentials.find(path)?;
        Some(Self { prefix, credential })
    }

    /// Another prefix is another store, and so are other settings; a newer key is not.
    fn name(&self, place: &str) -> String {
        let settings = s3::SETTINGS.iter().chain(&gcs::SETTINGS);
        let settings: Vec<_> =
            settings.map(|key| self.credential.property(key).unwrap_or_default()).collect();
        let keyed = if self.credential.has_key() { "key" } else { "" };
        format!("{place}{VENDED}{}{VENDED}{keyed}{VENDED}{}", self.prefix, settings.join("\u{1f}"))
    }
}

fn bound(stores: &mut HashMap<String, Arc<dyn ObjectStore>>) {
    let vended = |name: &&String| name.contains(VENDED);
    // Of those that nobody is using, any will do: building one again costs no request.
    while stores.keys().filter(vended).count() >= VENDED_STORES_MAX {
        let idle = stores.iter().find(|(name, store)| name.contains(VENDED) && Arc::strong_count(store) == 1);
        let any = idle.map(|(name, _)| name).or_else(|| stores.keys().find(vended)).cloned();
        let Some(name) = any else { return };
        stores.remove(&name);
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

/// The path of a URI inside the router's store: `s3/<bucket>/<key>`, `file/-/<path>`, and so on.
///
/// Understands any `scheme://authority/key`, with `s3a` and `s3n` as `s3` and the four names of Azure's
/// stores as `abfs`; `file:///a`, `file:/a` and a plain `/a`. The key is taken as it stands: percent
/// signs and Unicode stay what they are. Empty segments (`a//b`) are refused. Whether there is a store
/// for it is another question: see [`check_location`].
pub fn path_of(uri: &str) -> Result<Path> {
    let fail = |reason: &str| Error::Location { uri: uri.to_owned(), reason: reason.to_owned() };
    let raw = match uri.split_once(':') {
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
        Some((scheme, rest)) if is_scheme(scheme) => {
            let rest = rest.strip_prefix("//").ok_or_else(|| fail("no bucket"))?;
            match scheme {
                // Hadoop's file systems may have a default authority.
                "hdfs" | "viewfs" if rest.starts_with('/') => format!("{scheme}/{NO_AUTHORITY}{rest}"),
                _ if rest.is_empty() || rest.starts_with('/') => return Err(fail("no bucket")),
                "s3" | "s3a" | "s3n" => format!("{S3}/{rest}"),
                "abfs" | "abfss" | "wasb" | "wasbs" => format!("{AZURE}/{rest}"),
                scheme => format!("{scheme}/{rest}"),
            }
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
        (FILE, (NO_AUTHORITY, key)) => Ok(format!("file:///{key}")),
        ("hdfs" | "viewfs", (NO_AUTHORITY, key)) => Ok(format!("{scheme}:///{key}")),
        (S3 | AZURE | GCS | "az" | "hdfs" | "viewfs", (authority, _)) if !authority.is_empty() => {
            Ok(format!("{scheme}://{rest}"))
        }
        _ => Err(Error::Location { uri: raw.to_owned(), reason: "not a path of the router".to_owned() }),
    }
}

/// Fails unless there is a store for this location, by its scheme.
pub fn check_location(uri: &str) -> Result<()> {
    let path = path_of(uri)?;
    if has_store(path.as_ref().split('/').next().unwrap_or_default()) {
        return Ok(());
    }
    Err(Error::Location { uri: uri.to_owned(), reason: NO_STORE.to_owned() })
}

fn is_scheme(scheme: &str) -> bool {
    !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Whether there is a store for a scheme, as paths of the router begin with it.
fn has_store(scheme: &str) -> bool {
    matches!(scheme, S3 | GCS | AZURE | FILE)
}

/// Said of the others.
const NO_STORE: &str =
    "no store for this scheme (s3, s3a, s3n, gs, abfs, abfss, wasb, wasbs and file have one)";

#[cfg(test)]
mod tests;
