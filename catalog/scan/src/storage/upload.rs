//! An upload in parts that is aborted unless it was completed.
//!
//! Who writes through a buffer has lost hold of its upload when a part fails, so nobody could abort it, and the
//! store would keep the parts, unseen and paid for. The rule: an upload ends here, one way or the other.

use async_trait::async_trait;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// The guard around a store's upload.
#[derive(Debug)]
pub(super) struct Upload {
    /// Gone once the upload is over.
    inner: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub(super) fn new(inner: Box<dyn MultipartUpload>) -> Self {
        Self { inner: Some(inner) }
    }
}

fn over() -> Error {
    Error::Generic { store: "Router", source: "the upload is over".into() }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.inner {
            Some(inner) => inner.put_part(data),
            None => Box::pin(async { Err(over()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let completed = self.inner.as_mut().ok_or_else(over)?.complete().await?;
        self.inner = None;
        Ok(completed)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.take().ok_or_else(over)?.abort().await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        // Without a runtime the process ends; what is left is for the store's own rules on unfinished uploads.
        let Ok(runtime) = Handle::try_current() else { return };
        let abort = async move {
            if let Err(error) = inner.abort().await {
                tracing::debug!(%error, "upload not aborted");
            }
        };
        TaskTracker::new().spawn_on(abort, &runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::WriteMultipart;
    use parking_lot::Mutex;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn upload_with_a_failed_part_is_aborted_once() {
        for (failing, expected) in [("part", "abort"), ("complete", "abort"), ("nothing", "complete")] {
            let (ends, mut seen) = watch::channel(Vec::new());
            let fake = Fake { failing, ends: Arc::new(Mutex::new(ends)) };
            let mut upload = WriteMultipart::new_with_chunk_size(Box::new(Upload::new(Box::new(fake))), 4);
            upload.write(b"more than one part");
            assert_eq!(upload.finish().await.is_ok(), failing == "nothing");
            seen.wait_for(|ends| !ends.is_empty()).await.unwrap();
            assert_eq!(*seen.borrow(), [expected], "{failing}");
        }
    }

    #[tokio::test]
    async fn upload_that_is_dropped_is_aborted() {
        let (ends, mut seen) = watch::channel(Vec::new());
        let fake = Fake { failing: "nothing", ends: Arc::new(Mutex::new(ends)) };
        drop(Upload::new(Box::new(fake)));
        seen.wait_for(|ends| *ends == ["abort"]).await.unwrap();
    }

    /// Fails where it should, and notes how it ended.
    #[derive(Debug)]
    struct Fake {
        failing: &'static str,
        ends: Arc<Mutex<watch::Sender<Vec<&'static str>>>>,
    }

    impl Fake {
        fn outcome(&self, step: &str) -> Result<()> {
            let failed = || Error::Generic { store: "fake", source: "on purpose".into() };
            if self.failing == step { Err(failed()) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl MultipartUpload for Fake {
        fn put_part(&mut self, _: PutPayload) -> UploadPart {
            let outcome = self.outcome("part");
            Box::pin(async { outcome })
        }

        async fn complete(&mut self) -> Result<PutResult> {
            self.outcome("complete")?;
            self.ends.lock().send_modify(|ends| ends.push("complete"));
            Ok(PutResult { e_tag: None, version: None })
        }

        async fn abort(&mut self) -> Result<()> {
            self.ends.lock().send_modify(|ends| ends.push("abort"));
            Ok(())
        }
    }
}
