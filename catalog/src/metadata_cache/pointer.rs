//! Which version of a table is the current one, for a moment.
//!
//! One load at a time a table: whoever asks meanwhile waits for it. A commit
//! of our own puts a new entry in the place of the old one, so a load that
//! was under way cannot bring the old version back.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::backend::LoadedTable;
use crate::error::Result;
use crate::metrics::{METADATA_CACHE_HITS, METADATA_CACHE_MISSES};
use crate::name::TableName;

/// More tables than this are not kept.
const ENTRIES_MAX: usize = 10_000;

const TIER: &str = "pointer";

/// The current versions, by name.
#[derive(Debug)]
pub(crate) struct Pointers {
    ttl: Duration,
    /// Protects only the map; loads happen outside.
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_name: HashMap<TableName, Arc<Entry>>,
    /// When stale ones were last removed. They would hold metadata that the cache of files has let go.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// When its load began: nothing committed before is missed.
    since: Instant,
    version: OnceCell<LoadedTable>,
}

impl Pointers {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, entries: Mutex::default() }
    }

    /// The version of a table, loaded if none is at hand or it is too old.
    pub(crate) async fn get<F>(&self, name: &TableName, load: impl FnOnce() -> F) -> Result<LoadedTable>
    where
        F: Future<Output = Result<LoadedTable>>,
    {
        let entry = self.entry(name);
        if let Some(version) = entry.version.get() {
            METADATA_CACHE_HITS.with_label_values(&[TIER]).inc();
            return Ok(version.clone());
        }
        METADATA_CACHE_MISSES.with_label_values(&[TIER]).inc();
        entry.version.get_or_try_init(load).await.cloned()
    }

    /// Puts a version that is known to be the current one.
    pub(crate) fn replace(&self, name: &TableName, version: LoadedTable) {
        let entry = Entry { since: Instant::now(), version: OnceCell::new_with(Some(version)) };
        self.insert(name, Arc::new(entry));
    }

    /// Drops what is known of a table.
    pub(crate) fn forget(&self, name: &TableName) {
        self.entries.lock().by_name.remove(name);
    }

    fn entry(&self, name: &TableName) -> Arc<Entry> {
        if let Some(entry) = self.entries.lock().by_name.get(name).filter(|entry| self.is_fresh(entry)) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry { since: Instant::now(), version: OnceCell::new() });
        self.insert(name, Arc::clone(&entry));
        entry
    }

    fn insert(&self, name: &TableName, entry: Arc<Entry>) {
        let mut entries = self.entries.lock();
        let is_due = entries.swept.is_none_or(|swept| swept.elapsed() >= self.ttl);
        if is_due || entries.by_name.len() >= ENTRIES_MAX {
            entries.by_name.retain(|_, entry| self.is_fresh(entry));
            entries.swept = Some(Instant::now());
        }
        if entries.by_name.len() >= ENTRIES_MAX {
            entries.by_name.clear();
        }
        entries.by_name.insert(name.clone(), entry);
    }

    fn is_fresh(&self, entry: &Entry) -> bool {
        entry.since.elapsed() < self.ttl
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use serde_json::json;
    use tokio::sync::Notify;

    use super::*;
    use crate::iceberg::Metadata;

    const TTL: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn pointer_is_loaded_once_in_its_lifetime() {
        for (ttl, expected) in [(TTL, 1), (Duration::ZERO, 3)] {
            let (pointers, name, loads) = (Pointers::new(ttl), name(), AtomicUsize::new(0));
            let load = async || {
                loads.fetch_add(1, Ordering::Relaxed);
                Ok(version("1").await)
            };
            for _ in 0..3 {
                pointers.get(&name, load).await.unwrap();
            }
            assert_eq!(loads.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test]
    async fn own_commit_is_seen_although_an_older_load_ends_later() {
        let (pointers, name, commit) = (Pointers::new(TTL), name(), Notify::new());
        let slow = pointers.get(&name, || async {
            commit.notified().await;
            Ok(version("old").await)
        });
        let own = async {
            pointers.replace(&name, version("new").await);
            commit.notify_one();
        };
        let (slow, ()) = tokio::join!(slow, own);
        assert_eq!(slow.unwrap().metadata_location, "old");
        let now = pointers.get(&name, || async { panic!("nothing is loaded") }).await.unwrap();
        assert_eq!(now.metadata_location, "new");
    }

    #[tokio::test]
    async fn what_is_stale_is_not_held() {
        let (pointers, other) = (Pointers::new(Duration::ZERO), TableName::new("c", "s", "u"));
        let loaded = pointers.get(&name(), || async { Ok(version("1").await) }).await.unwrap();
        assert_eq!(Arc::strong_count(&loaded.metadata), 2);
        pointers.get(&other, || async { Ok(version("2").await) }).await.unwrap();
        assert_eq!(Arc::strong_count(&loaded.metadata), 1);
    }

    fn name() -> TableName {
        TableName::new("c", "s", "t")
    }

    async fn version(location: &str) -> LoadedTable {
        let json = json!({
            "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "/t",
            "last-sequence-number": 0, "last-updated-ms": 0, "last-column-id": 0, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
        });
        let metadata = Metadata::parse(Bytes::from(json.to_string()), &name(), location).await.unwrap();
        LoadedTable { metadata_location: location.to_owned(), metadata: Arc::new(metadata) }
    }
}
