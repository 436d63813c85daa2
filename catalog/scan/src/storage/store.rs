//! The one object store: takes a path apart and asks the store behind it.

use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;

use super::Router;
use super::router::Located;
use super::upload::Upload;
use crate::deletes::DeleteCache;
use crate::observer::ScanObserver;

/// Deletes in flight of one `delete_stream`.
const CONCURRENT_DELETES_MAX: usize = 16;

/// The router as DataFusion sees it.
#[derive(Debug)]
pub(super) struct RouterStore {
    router: Router,
    /// Footer cache of the environment that this store is registered with.
    footers: Option<Arc<FileMetadataCache>>,
    /// Deletes kept by that environment's process.
    deletes: Option<Arc<DeleteCache>>,
}

impl RouterStore {
    pub(super) fn new(router: Router) -> Self {
        Self { router, footers: None, deletes: None }
    }

    /// For an environment, which lends its footer cache and its memory.
    pub(super) fn of_environment(router: Router, env: &RuntimeEnv) -> Self {
        Self {
            router,
            footers: Some(env.cache_manager.get_file_metadata_cache()),
            deletes: Some(Arc::new(DeleteCache::new(Arc::clone(&env.memory_pool)))),
        }
    }
}

/// What a scan gets from the store that it reads through. A file source sees
/// no task context, only its store; so this is how it finds its process.
#[derive(Clone, Default)]
pub(crate) struct Attachments {
    pub(crate) footers: Option<Arc<FileMetadataCache>>,
    pub(crate) observer: Option<Arc<dyn ScanObserver>>,
    pub(crate) deletes: Option<Arc<DeleteCache>>,
}

/// Asks `store` for its attachments. Any wrapper that passes options on lets the question through.
pub(crate) fn attachments(store: &Arc<dyn ObjectStore>) -> Attachments {
    let question = Question::default();
    let mut options = GetOptions { head: true, ..GetOptions::default() };
    options.extensions.insert(question.clone());
    // The answer is immediate; a store that is no router is not waited for.
    let _ = store.get_opts(&Path::default(), options).now_or_never();
    let answer = question.answer.lock().take();
    answer.unwrap_or_default()
}

#[derive(Clone, Default)]
struct Question {
    answer: Arc<Mutex<Option<Attachments>>>,
}

impl Display for RouterStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Router")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for RouterStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let Located { store, path, .. } = self.router.locate(location)?;
        store.put_opts(&path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let Located { store, path, .. } = self.router.locate(location)?;
        Ok(Box::new(Upload::new(store.put_multipart_opts(&path, opts).await?)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some(question) = options.extensions.get::<Question>() {
            let answer = Attachments {
                footers: self.footers.clone(),
                observer: self.router.observer(),
                deletes: self.deletes.clone(),
            };
            *question.answer.lock() = Some(answer);
            return Err(object_store::Error::NotImplemented {
                operation: "get_opts".to_owned(),
                implementer: "Router".to_owned(),
            });
        }
        let Located { store, path, .. } = self.router.locate(location)?;
        let asked = options.range.clone().filter(|_| !options.head);
        let mut result = store.get_opts(&path, options).await?;
        if let Some(GetRange::Bounded(asked)) = asked {
            check_whole(&path, &asked, result.range.end.saturating_sub(result.range.start))?;
        }
        // By the name that was asked for, which a rewrite may have led elsewhere.
        result.meta.location = location.clone();
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Located { store, path, .. } = self.router.locate(location)?;
        let parts = store.get_ranges(&path, ranges).await?;
        for (range, bytes) in ranges.iter().zip(&parts) {
            check_whole(&path, range, bytes.len() as u64)?;
        }
        Ok(parts)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let router = self.router.clone();
        let delete = move |location: Result<Path>| {
            let router = router.clone();
            async move {
                let location = location?;
                let Located { store, path, .. } = router.locate(&location)?;
                store.delete(&path).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(CONCURRENT_DELETES_MAX).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.router.locate(prefix.unwrap_or(&Path::default())) {
            Ok(Located { store, prefix, path }) => {
                store.list(Some(&path)).map(move |meta| outer(&prefix, meta?)).boxed()
            }
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let Located { store, prefix, path } = self.router.locate(prefix.unwrap_or(&Path::default()))?;
        let found = store.list_with_delimiter(Some(&path)).await?;
        Ok(ListResult {
            common_prefixes: found
                .common_prefixes
                .iter()
                .map(|path| join(&prefix, path))
                .collect::<Result<_>>()?,
            objects: found.objects.into_iter().map(|meta| outer(&prefix, meta)).collect::<Result<_>>()?,
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = self.same_store(from, to, "copy")?;
        from.store.copy_opts(&from.path, &to.path, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = self.same_store(from, to, "rename")?;
        from.store.rename_opts(&from.path, &to.path, options).await
    }
}

impl RouterStore {
    fn same_store(&self, from: &Path, to: &Path, operation: &str) -> Result<(Located, Located)> {
        let (from, to) = (self.router.locate(from)?, self.router.locate(to)?);
        if from.prefix != to.prefix {
            return Err(object_store::Error::NotImplemented {
                operation: format!("{operation} from {:?} to {:?}", from.prefix, to.prefix),
                implementer: "Router".to_owned(),
            });
        }
        Ok((from, to))
    }
}

/// Stores cut a range at the end of an object and say nothing; readers would fail in odd ways over it.
fn check_whole(path: &Path, asked: &Range<u64>, came: u64) -> Result<()> {
    let wanted = asked.end.saturating_sub(asked.start);
    if came == wanted {
        return Ok(());
    }
    let reason = format!(
        "{wanted} bytes at {} of {path} were asked for, {came} came: the object is shorter than it should be",
        asked.start
    );
    Err(object_store::Error::Generic { store: "Router", source: reason.into() })
}

/// What the backing store says about an object, with its path in the router.
fn outer(prefix: &str, meta: ObjectMeta) -> Result<ObjectMeta> {
    Ok(ObjectMeta { location: join(prefix, &meta.location)?, ..meta })
}

fn join(prefix: &str, path: &Path) -> Result<Path> {
    Ok(Path::parse(format!("{prefix}/{path}"))?)
}
