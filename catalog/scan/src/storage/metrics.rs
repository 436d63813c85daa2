//! A store that counts: requests, bytes and errors by verb.
//!
//! It sits next to the real store, below every layer, so that a cache's hits
//! are not counted as requests.

use std::fmt::{Debug, Display, Formatter};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, coalesce_ranges,
};

use crate::metrics::{STORE_BYTES, STORE_ERRORS, STORE_REQUESTS};

/// Counts what passes through it.
#[derive(Debug)]
pub(super) struct Metered {
    inner: Arc<dyn ObjectStore>,
    ranges: Ranges,
}

/// What becomes of a call for many ranges of one object.
#[derive(Debug)]
enum Ranges {
    /// Handed on: the store reads them all in one go.
    Whole,
    /// Near ones joined, then a request each, so that each is counted, limited and retried by itself.
    Requests,
}

impl Metered {
    /// Around a disk.
    pub(super) fn local(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, ranges: Ranges::Whole }
    }

    /// Around a store that is reached by requests.
    pub(super) fn remote(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, ranges: Ranges::Requests }
    }
}

impl Display for Metered {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metered({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let length = payload.content_length();
        let result = count("put", self.inner.put_opts(location, payload, opts).await)?;
        bytes("put", length as u64);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = count("put_multipart", self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(MeteredUpload { inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let verb = if options.head { "head" } else { "get" };
        let result = count(verb, self.inner.get_opts(location, options).await)?;
        if verb == "get" {
            bytes(verb, result.range.end.saturating_sub(result.range.start));
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Ranges::Requests = self.ranges {
            let get = |range| self.get_range(location, range);
            return coalesce_ranges(ranges, get, OBJECT_STORE_COALESCE_DEFAULT).await;
        }
        let result = count("get", self.inner.get_ranges(location, ranges).await)?;
        bytes("get", result.iter().map(|part| part.len() as u64).sum());
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations).map(|result| count("delete", result)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        STORE_REQUESTS.with_label_values(&["list"]).inc();
        self.inner.list(prefix).inspect(|result| errors("list", result)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        STORE_REQUESTS.with_label_values(&["list"]).inc();
        self.inner.list_with_offset(prefix, offset).inspect(|result| errors("list", result)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        count("list", self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        count("copy", self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        count("rename", self.inner.rename_opts(from, to, options).await)
    }
}

/// Counts the parts of an upload.
#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        let length = data.content_length() as u64;
        let part = self.inner.put_part(data);
        Box::pin(async move {
            count("put", part.await)?;
            bytes("put", length);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        count("put_multipart", self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        count("put_multipart", self.inner.abort().await)
    }
}

fn count<T>(verb: &str, result: Result<T>) -> Result<T> {
    STORE_REQUESTS.with_label_values(&[verb]).inc();
    errors(verb, &result);
    result
}

fn errors<T>(verb: &str, result: &Result<T>) {
    if result.is_err() {
        STORE_ERRORS.with_label_values(&[verb]).inc();
    }
}

fn bytes(verb: &str, n: u64) {
    STORE_BYTES.with_label_values(&[verb]).inc_by(n);
}
