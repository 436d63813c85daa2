//! Frees what the engine keeps of tasks that have ended.
//!
//! The engine's worker holds tasks in a cache. What it takes out of it, the plan with all that its operators hold, is
//! dropped when the cache is used the next time: in an executor that has nothing more to do, never. So the cache is
//! used a while after each run has ended. The rule: only a key that no task has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion_distributed::{MaybeEncoded, SetPlanRequest, TaskKey, Worker};
use futures::StreamExt;
use http::HeaderMap;
use tarn_runtime::Runtime;
use url::Url;
use uuid::Uuid;

/// When the cache is used after the end of a run: what was under way is over by the last.
const AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(500), Duration::from_secs(2)];

/// The worker's cache, to be tidied. A cheap handle.
#[derive(Clone)]
pub(super) struct Tidy {
    runtime: Runtime,
    worker: Worker,
    url: Url,
    /// Whether somebody waits to do it.
    due: Arc<AtomicBool>,
}

impl Tidy {
    pub(super) fn new(runtime: Runtime, worker: Worker, url: Url) -> Self {
        Self { runtime, worker, url, due: Arc::default() }
    }

    /// A run has ended.
    pub(super) fn soon(&self) {
        if self.due.swap(true, Ordering::Relaxed) {
            return;
        }
        let tidy = self.clone();
        let work = async move {
            for (at, wait) in AFTER.into_iter().enumerate() {
                tokio::time::sleep(wait).await;
                // Runs that end from now on are left to the next round.
                if at + 1 == AFTER.len() {
                    tidy.due.store(false, Ordering::Relaxed);
                }
                tidy.touch().await;
            }
        };
        // Ends by itself, or with the runtime.
        drop(self.runtime.io().spawn(work));
    }

    /// Uses the cache. The worker refuses the task, since it belongs to no run.
    async fn touch(&self) {
        let request = SetPlanRequest {
            task_key: TaskKey { query_id: Uuid::nil(), stage_id: 0, task_number: 0 },
            task_count: 1,
            plan: MaybeEncoded::Encoded(Vec::new()),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: self.url.clone(),
            query_start_time_ns: 0,
        };
        let messages = futures::stream::empty().boxed();
        let refused = self.worker.coordinator_channel(HeaderMap::new(), request, messages).await.is_err();
        debug_assert!(refused, "no task has this key");
    }
}
