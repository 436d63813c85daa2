//! A storage layer that breaks on purpose: fail, slow down, or cut reads and writes by path.
//!
//! A rule holds for every path that contains its text, until the guard that
//! [`Faults::inject`] returned is dropped. The rule to keep: without rules the
//! store behaves as if the layer were not there.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use tarn_scan::storage::Layer;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads fail.
    FailReads,
    /// Writes fail.
    FailWrites,
    /// Reads wait so long before they begin.
    SlowReads(Duration),
    /// The body of a read ends with an error after half of its bytes.
    CutReads,
}

/// The layer. Clones share their rules.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The rules in force; short critical sections only.
    rules: Mutex<Vec<Rule>>,
    next_id: AtomicU64,
    hits: AtomicU64,
}

#[derive(Debug, Clone)]
struct Rule {
    id: u64,
    path_part: String,
    fault: Fault,
}

/// A rule in force; dropping it ends it.
#[derive(Debug)]
#[must_use = "dropping the guard ends the fault"]
pub struct Injected {
    shared: Arc<Shared>,
    id: u64,
}

impl Faults {
    /// Lets the fault happen to every path that contains `path_part`.
    pub fn inject(&self, path_part: &str, fault: Fault) -> Injected {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        self.shared.rules.lock().push(Rule { id, path_part: path_part.to_string(), fault });
        Injected { shared: Arc::clone(&self.shared), id }
    }

    /// How often a fault has happened.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        self.shared.rules.lock().retain(|rule| rule.id != self.id);
    }
}

impl Shared {
    fn of(&self, path: &Path, applies: impl Fn(Fault) -> bool) -> Option<Fault> {
        let rules = self.rules.lock();
        let rule =
            rules.iter().find(|rule| applies(rule.fault) && path.as_ref().contains(&rule.path_part))?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(rule.fault)
    }

    fn check_write(&self, path: &Path) -> Result<()> {
        match self.of(path, |fault| fault == Fault::FailWrites) {
            Some(_) => Err(broken("write", path)),
            None => Ok(()),
        }
    }
}

fn broken(verb: &str, path: &Path) -> Error {
    Error::Generic { store: "faults", source: format!("{verb} of {path} fails on purpose").into() }
}

impl Layer for Faults {
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(FaultStore { inner, shared: Arc::clone(&self.shared) })
    }
}

#[derive(Debug)]
struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.shared.check_write(location)?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.shared.check_write(location)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.shared.of(location, |fault| fault != Fault::FailWrites) {
            Some(Fault::FailReads) => Err(broken("read", location)),
            Some(Fault::SlowReads(delay)) => {
                tokio::time::sleep(delay).await;
                self.inner.get_opts(location, options).await
            }
            Some(Fault::CutReads) => Ok(cut(self.inner.get_opts(location, options).await?, location)),
            _ => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.shared.of(location, |fault| fault != Fault::FailWrites) {
            Some(Fault::FailReads | Fault::CutReads) => Err(broken("read", location)),
            Some(Fault::SlowReads(delay)) => {
                tokio::time::sleep(delay).await;
                self.inner.get_ranges(location, ranges).await
            }
            _ => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let shared = Arc::clone(&self.shared);
        let checked = locations.map(move |location| {
            let location = location?;
            shared.check_write(&location)?;
            Ok(location)
        });
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.shared.check_write(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.shared.check_write(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}

/// The same answer, whose body breaks off in the middle.
fn cut(result: GetResult, location: &Path) -> GetResult {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let half = usize::try_from((range.end - range.start) / 2).unwrap_or(usize::MAX);
    let error = broken("read", location);
    let body = result.into_stream().try_collect::<Vec<_>>();
    let first_half = stream::once(async move {
        let whole = body.await?.concat();
        Ok(Bytes::from(whole).slice(..half))
    });
    let payload = GetResultPayload::Stream(first_half.chain(stream::once(async { Err(error) })).boxed());
    GetResult { payload, meta, range, attributes }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    #[tokio::test]
    async fn fault_ends_with_its_guard() {
        let faults = Faults::default();
        let store = faults.wrap(Arc::new(InMemory::new()));
        let path = Path::from("a/b.parquet");
        store.put(&path, PutPayload::from_static(b"0123456789")).await.unwrap();

        let injected = faults.inject("b.par", Fault::FailReads);
        assert!(store.get(&path).await.is_err());
        drop(injected);
        let cut = faults.inject("b.par", Fault::CutReads);
        let body: Vec<_> = store.get(&path).await.unwrap().into_stream().collect().await;
        assert_eq!(body[0].as_ref().unwrap().as_ref(), b"01234");
        assert!(body[1].is_err());
        drop(cut);
        let injected = faults.inject("elsewhere", Fault::FailReads);
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap().as_ref(), b"0123456789");
        drop(injected);
        assert_eq!(faults.hits(), 2);
    }
}
