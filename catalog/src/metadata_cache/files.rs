//! Metadata, manifest lists and manifests, read once and decoded once.
//!
//! Keys are locations: a file of an Iceberg table never changes; of a table without a catalog, whose folder may be made
//! anew, they tell also when its metadata was written. Who asks for
//! a file that another is just reading waits for that one. Weights are the heap
//! bytes of what was decoded, not the length of the file.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use moka::future::Cache;
use moka::notification::RemovalCause;
use tarn_scan::storage::Router;
use tokio::sync::Semaphore;

use super::Config;
use crate::backend::LoadedTable;
use crate::error::{Error, Result};
use crate::iceberg::{ManifestFile, Metadata, Past, Snapshot, decode_list};
use crate::metrics::{
    METADATA_CACHE_BYTES, METADATA_CACHE_EVICTIONS, METADATA_CACHE_HITS, METADATA_CACHE_MISSES,
};
use crate::name::TableName;
use crate::plan::{DeleteBlock, FileBlock, ManifestBlock};

/// Above this length a file is decoded on a thread that may block; below, the hop costs more.
const INLINE_DECODE_BYTES_MAX: usize = 16 << 10;

/// Makes a value of a manifest's bytes, given its line in the list.
type Decode<V> = fn(&[u8], &ManifestFile, &TableName) -> Result<V>;

/// The immutable files of all tables.
#[derive(Debug)]
pub(crate) struct Files {
    router: Router,
    metadata: Tier<Metadata>,
    lists: Tier<ManifestBlock>,
    manifests: Tier<FileBlock>,
    delete_manifests: Tier<DeleteBlock>,
    /// Files that are decoded at once, for all queries: one a core, so that queries under way keep theirs.
    decoders: Arc<Semaphore>,
}

impl Files {
    pub(crate) fn new(config: &Config, router: Router) -> Self {
        // Lists are what manifests are found by: a small part of their room keeps most of them. Deletes are
        // needed by whoever reads any file of their table, and their manifests are few.
        let lists_bytes_max = config.manifest_bytes_max / 8;
        let deletes_bytes_max = config.manifest_bytes_max / 8;
        Self {
            router,
            metadata: Tier::new("metadata", config.metadata_bytes_max, |value: &Metadata| value.heap_bytes()),
            lists: Tier::new("manifest_list", lists_bytes_max, ManifestBlock::heap_bytes),
            manifests: Tier::new(
                "manifest",
                config.manifest_bytes_max.saturating_sub(lists_bytes_max + deletes_bytes_max),
                FileBlock::heap_bytes,
            ),
            delete_manifests: Tier::new("delete_manifest", deletes_bytes_max, DeleteBlock::heap_bytes),
            decoders: Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get))),
        }
    }

    /// The metadata in a file. A long past is not kept: who wants it waits for the file each time.
    pub(crate) async fn metadata(&self, table: &TableName, file: &str, past: Past) -> Result<Arc<Metadata>> {
        self.metadata_from(table, file, file, past, self.read(table, file)).await
    }

    /// The metadata in a file whose name another may have had before it; `written` tells them apart.
    pub(crate) async fn metadata_written(
        &self,
        table: &TableName,
        file: &str,
        written: &str,
        past: Past,
    ) -> Result<Arc<Metadata>> {
        self.metadata_from(table, file, &format!("{file}#{written}"), past, self.read(table, file)).await
    }

    /// The metadata in a file whose bytes came with an answer of the catalog.
    pub(crate) async fn parsed_metadata(
        &self,
        table: &TableName,
        file: &str,
        bytes: Bytes,
        past: Past,
    ) -> Result<Arc<Metadata>> {
        self.metadata_from(table, file, file, past, async { Ok(bytes) }).await
    }

    async fn metadata_from(
        &self,
        table: &TableName,
        file: &str,
        key: &str,
        past: Past,
        bytes: impl Future<Output = Result<Bytes>>,
    ) -> Result<Arc<Metadata>> {
        let parse = async {
            let (bytes, table, file) = (bytes.await?, table.clone(), file.to_owned());
            self.off_runtime(bytes.len(), move || Metadata::read(bytes, &table, &file, past)).await
        };
        match past {
            Past::Named => self.metadata.get(key, parse).await,
            Past::Whole => match self.metadata.cache.get(key).await.filter(|known| known.is_whole()) {
                Some(known) => Ok(known),
                None => parse.await.map(Arc::new),
            },
        }
    }

    /// Takes in what a commit of our own has just written.
    pub(crate) fn keep(&self, table: &LoadedTable) {
        self.metadata.put(&table.metadata_location, &table.metadata);
    }

    /// The manifests of a snapshot.
    pub(crate) async fn list(
        &self,
        table: &TableName,
        metadata: &Metadata,
        snapshot: &Snapshot,
    ) -> Result<Arc<ManifestBlock>> {
        if let Some(manifests) = &snapshot.manifests {
            return Ok(Arc::new(ManifestBlock::of_paths(manifests, metadata)));
        }
        let file = snapshot.manifest_list.as_str();
        let load = async {
            let bytes = self.read(table, file).await?;
            Ok(ManifestBlock::new(decode_list(&bytes, metadata, table, file)?, metadata))
        };
        self.lists.get(file, load).await
    }

    /// The live files of the manifest at `index` of a list.
    pub(crate) async fn manifest(
        &self,
        table: &TableName,
        list: &Arc<ManifestBlock>,
        index: usize,
    ) -> Result<Arc<FileBlock>> {
        let key = manifest_key(&list.files[index]);
        self.manifests.get(&key, self.decode(table, list, index, FileBlock::read)).await
    }

    /// The live delete files of the manifest at `index` of a list.
    pub(crate) async fn delete_manifest(
        &self,
        table: &TableName,
        list: &Arc<ManifestBlock>,
        index: usize,
    ) -> Result<Arc<DeleteBlock>> {
        let key = manifest_key(&list.files[index]);
        self.delete_manifests.get(&key, self.decode(table, list, index, DeleteBlock::read)).await
    }

    /// Reads a manifest and makes a block of it.
    async fn decode<V: Send + 'static>(
        &self,
        table: &TableName,
        list: &Arc<ManifestBlock>,
        index: usize,
        decode: Decode<V>,
    ) -> Result<V> {
        let bytes = self.read(table, &list.files[index].path).await?;
        let (list, table) = (Arc::clone(list), table.clone());
        self.off_runtime(bytes.len(), move || decode(&bytes, &list.files[index], &table)).await
    }

    /// Decodes a file of this length: not where requests are served, unless it is short.
    async fn off_runtime<V: Send + 'static>(
        &self,
        bytes: usize,
        decode: impl FnOnce() -> Result<V> + Send + 'static,
    ) -> Result<V> {
        if bytes <= INLINE_DECODE_BYTES_MAX {
            return decode();
        }
        let failed = |error: &dyn fmt::Display| Error::Internal(format!("decoding a metadata file: {error}"));
        let permit = Arc::clone(&self.decoders).acquire_owned().await.map_err(|error| failed(&error))?;
        let decoded = tokio::task::spawn_blocking(move || {
            // Held until the work ends, also if nobody waits for it any more.
            let _permit = permit;
            decode()
        });
        decoded.await.map_err(|error| failed(&error))?
    }

    /// The bytes of a metadata file.
    pub(crate) async fn read(&self, table: &TableName, file: &str) -> Result<Bytes> {
        self.router.get(file).await.map_err(|source| failed(table, file, source))
    }

    /// Some of the bytes of a file.
    pub(crate) async fn read_range(&self, table: &TableName, file: &str, range: Range<u64>) -> Result<Bytes> {
        self.router.get_range(file, range).await.map_err(|source| failed(table, file, source))
    }
}

fn failed(table: &TableName, file: &str, source: tarn_scan::Error) -> Error {
    Error::MetadataFile { table: table.clone(), file: file.to_owned(), source: Box::new(source) }
}

/// What a decoded manifest is known by. The row ids of its files depend on its line in the list, which has none
/// until the table is upgraded to version 3.
fn manifest_key(line: &ManifestFile) -> Cow<'_, str> {
    match line.first_row_id {
        Some(first) => Cow::Owned(format!("{}\0{first}", line.path)),
        None => Cow::Borrowed(line.path.as_str()),
    }
}

/// One kind of file, with its own room.
struct Tier<V> {
    name: &'static str,
    cache: Cache<Arc<str>, Arc<V>>,
    weigh: fn(&V) -> usize,
}

impl<V> fmt::Debug for Tier<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static> Tier<V> {
    fn new(name: &'static str, bytes_max: u64, weigh: fn(&V) -> usize) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(move |key: &Arc<str>, value: &Arc<V>| entry_bytes(key, weigh(value)))
            .eviction_listener(move |key, value: Arc<V>, cause| {
                METADATA_CACHE_BYTES
                    .with_label_values(&[name])
                    .sub(i64::from(entry_bytes(&key, weigh(&value))));
                if cause == RemovalCause::Size {
                    METADATA_CACHE_EVICTIONS.with_label_values(&[name]).inc();
                }
            })
            .build();
        Self { name, cache, weigh }
    }

    async fn get(&self, file: &str, load: impl Future<Output = Result<V>>) -> Result<Arc<V>> {
        if let Some(value) = self.cache.get(file).await {
            METADATA_CACHE_HITS.with_label_values(&[self.name]).inc();
            return Ok(value);
        }
        METADATA_CACHE_MISSES.with_label_values(&[self.name]).inc();
        let key: Arc<str> = file.into();
        let load = async {
            let value = Arc::new(load.await?);
            self.count(file, &value);
            Ok(value)
        };
        self.cache.try_get_with(key, load).await.map_err(|error: Arc<Error>| Error::from(error))
    }

    /// Puts a value from outside, without waiting.
    fn put(&self, file: &str, value: &Arc<V>) {
        // The cache's own insert is a future only because an eviction listener could be one.
        let insert = self.cache.insert(file.into(), Arc::clone(value));
        self.count(file, value);
        if futures::FutureExt::now_or_never(insert).is_none() {
            METADATA_CACHE_BYTES
                .with_label_values(&[self.name])
                .sub(i64::from(entry_bytes(file, (self.weigh)(value))));
        }
    }

    fn count(&self, file: &str, value: &Arc<V>) {
        let bytes = entry_bytes(file, (self.weigh)(value));
        METADATA_CACHE_BYTES.with_label_values(&[self.name]).add(i64::from(bytes));
    }
}

fn entry_bytes(key: &str, value_bytes: usize) -> u32 {
    u32::try_from(key.len() + value_bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    fn tier(bytes_max: u64) -> Tier<Vec<u8>> {
        Tier::new("test", bytes_max, Vec::len)
    }

    #[tokio::test]
    async fn a_file_that_many_ask_for_is_read_once() {
        let (tier, loads) = (tier(1000), AtomicUsize::new(0));
        let load = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![7; 10])
        };
        let all = join_all((0..8).map(|_| tier.get("a", load()))).await;
        assert!(all.into_iter().all(|value| *value.unwrap() == [7; 10]));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_could_not_be_read_or_was_not_waited_for_is_not_kept() {
        let tier = tier(1000);
        let failed = tier.get("a", async { Err(Error::Internal("on purpose".to_owned())) }).await;
        assert!(failed.is_err());
        let waiting = tier.get("b", futures::future::pending());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), waiting).await.is_err());
        assert!(!tier.cache.contains_key("a") && !tier.cache.contains_key("b"));
        assert_eq!(tier.get("a", async { Ok(vec![1]) }).await.unwrap()[..], [1]);
        assert_eq!(tier.get("b", async { Ok(vec![2]) }).await.unwrap()[..], [2]);
    }

    #[tokio::test]
    async fn no_more_is_kept_than_the_bound_allows() {
        let tier = tier(1000);
        for file in 0..50 {
            tier.get(&file.to_string(), async { Ok(vec![0; 90]) }).await.unwrap();
        }
        tier.cache.run_pending_tasks().await;
        let kept: usize = tier.cache.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!((1..=1000).contains(&kept), "{kept}");
        // What is larger than all of it is answered, and not kept.
        assert_eq!(tier.get("large", async { Ok(vec![0; 2000]) }).await.unwrap().len(), 2000);
        tier.cache.run_pending_tasks().await;
        assert!(!tier.cache.contains_key("large"));
    }
}
