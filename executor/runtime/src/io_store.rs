//! A store whose calls run on the IO runtime.
//!
//! Plans are polled by the CPU runtime, where a busy operator may hold a thread for long; a connection
//! that was driven there would stall. So every call hops to the IO runtime, and a body is read there
//! into a short queue. Every method of the trait is forwarded: a default one would hide the inner store's own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// Parts of a body that may wait between the IO runtime and the reader.
const PARTS_WAITING_MAX: usize = 8;

/// `inner`, called on `io`; or `inner` itself if it reads the local disk.
pub(crate) fn wrap(io: Handle, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    if inner.to_string().starts_with("LocalFileSystem") {
        return inner;
    }
    Arc::new(IoStore { io, inner })
}

#[derive(Debug)]
struct IoStore {
    io: Handle,
    inner: Arc<dyn ObjectStore>,
}

impl IoStore {
    /// Runs `call` on the IO runtime; dropping the returned future ends it there.
    async fn hop<T, F>(&self, call: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        joined(self.io.spawn(call(Arc::clone(&self.inner)))).await
    }

    /// Polls `stream` on the IO runtime.
    fn hop_stream<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        forward(&self.io, stream.boxed())
    }
}

impl fmt::Display for IoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoStore({})", self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ObjectStore for IoStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let location = location.clone();
        self.hop(|inner| async move { inner.put_opts(&location, payload, opts).await }).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let location = location.clone();
        let inner = self.hop(|inner| async move { inner.put_multipart_opts(&location, opts).await }).await?;
        Ok(Box::new(IoUpload { io: self.io.clone(), inner: Some(inner) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        let mut result = self.hop(|inner| async move { inner.get_opts(&location, options).await }).await?;
        if let GetResultPayload::Stream(body) = result.payload {
            result.payload = GetResultPayload::Stream(forward(&self.io, body));
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (location, ranges) = (location.clone(), ranges.to_vec());
        self.hop(|inner| async move { inner.get_ranges(&location, &ranges).await }).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.hop_stream(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hop_stream(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hop_stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        self.hop(|inner| async move { inner.list_with_delimiter(prefix.as_ref()).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.hop(|inner| async move { inner.copy_opts(&from, &to, options).await }).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.hop(|inner| async move { inner.rename_opts(&from, &to, options).await }).await
    }
}

/// An upload whose parts are sent on the IO runtime.
struct IoUpload {
    io: Handle,
    /// Away only while a call is under way.
    inner: Option<Box<dyn MultipartUpload>>,
}

impl fmt::Debug for IoUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoUpload").finish_non_exhaustive()
    }
}

impl IoUpload {
    fn inner(&mut self) -> Result<&mut Box<dyn MultipartUpload>> {
        self.inner.as_mut().ok_or_else(|| stopped("an earlier call of the upload was dropped"))
    }
}

#[async_trait]
impl MultipartUpload for IoUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.inner() {
            Ok(inner) => {
                let part = inner.put_part(data);
                joined(self.io.spawn(part)).boxed()
            }
            Err(error) => futures::future::ready(Err(error)).boxed(),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner()?;
        let mut inner = self.inner.take().expect("checked above");
        let (inner, result) = joined(self.io.spawn(async move {
            let result = inner.complete().await;
            Ok((inner, result))
        }))
        .await?;
        self.inner = Some(inner);
        result
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner()?;
        let mut inner = self.inner.take().expect("checked above");
        let (inner, result) = joined(self.io.spawn(async move {
            let result = inner.abort().await;
            Ok((inner, result))
        }))
        .await?;
        self.inner = Some(inner);
        result
    }
}

/// Waits for a task of ours; it ends when the wait is dropped.
async fn joined<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    match AbortOnDrop(task).await {
        Ok(result) => result,
        Err(error) => Err(stopped(error)),
    }
}

fn stopped(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "IoStore", source: source.into() }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.poll_unpin(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads `stream` on `io` into a short queue; ends when the reader is gone.
fn forward<T: Send + 'static>(
    io: &Handle,
    mut stream: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
    let task = AbortOnDrop(io.spawn(async move {
        while let Some(item) = stream.next().await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    }));
    ReceiverStream::new(receiver)
        .map(move |item| {
            let _ = &task;
            item
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn calls_and_bodies_arrive() {
        let store = wrap(Handle::current(), Arc::new(InMemory::new()));
        assert!(store.to_string().starts_with("IoStore"));
        let path = Path::from("a/b");
        store.put(&path, PutPayload::from_static(b"0123456789")).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap().as_ref(), b"0123456789");
        let ranges = store.get_ranges(&path, &[0..2, 8..10]).await.unwrap();
        assert_eq!(ranges, [Bytes::from_static(b"01"), Bytes::from_static(b"89")]);
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        let mut upload = store.put_multipart(&Path::from("c")).await.unwrap();
        upload.put_part(PutPayload::from_static(b"xy")).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.head(&Path::from("c")).await.unwrap().size, 2);
        store.delete(&path).await.unwrap();
        assert!(store.head(&path).await.is_err());
    }

    #[test]
    fn local_disk_is_left_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new());
        let wrapped = wrap(runtime.handle().clone(), Arc::clone(&local));
        assert!(Arc::ptr_eq(&local, &wrapped));
    }
}
