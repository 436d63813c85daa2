//! The executor's view of object storage: the scheduler's settings, the executor's own keys, and the layers
//! that this process puts around its stores.

use std::ops::Range;
use std::sync::Arc;

use object_store::ObjectStore;
use tarn_runtime::{Runtime, queries};
use tarn_scan::storage::{Config, Layer, Router};
use tarn_scan::{FileTask, ScanObserver};

use crate::error::{Error, Result};

/// A router with the settings that the scheduler sent, registered with the runtime's environment.
pub(crate) fn router(storage_json: &str, runtime: &Runtime) -> Result<Router> {
    let config: Config = serde_json::from_str(storage_json).map_err(Error::StorageSettings)?;
    let router = Router::new(config, vec![Arc::new(OnIoThreads(runtime.clone()))]);
    router.register(&runtime.env());
    Ok(router)
}

/// Lets the register of queries know which files are opened.
pub(crate) fn observe(router: &Router, runtime: &Runtime) {
    router.observe(Arc::new(Opened(runtime.queries().clone())));
}

/// Store calls run on the IO threads, not on those that run plans.
#[derive(Debug)]
struct OnIoThreads(Runtime);

impl Layer for OnIoThreads {
    fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.0.io_store(inner)
    }
}

/// Writes what scans open into the register, under the run that they read for.
struct Opened(queries::Register);

impl ScanObserver for Opened {
    fn opened(&self, query_id: Option<&str>, task: &FileTask, range: Option<Range<u64>>) {
        let Some(run_id) = query_id else { return };
        let (file, bytes) = match range {
            Some(range) => (
                format!("{}[{}..{}]", task.uri, range.start, range.end),
                range.end.saturating_sub(range.start),
            ),
            None => (task.uri.clone(), task.size_bytes),
        };
        self.0.record_opened(run_id, file, bytes);
    }

    fn rows(&self, _: usize) {}
}
