//! Loaded deletes, shared by the scans of a process.
//!
//! Delete files never change, so what was loaded of one is good for ever. Who
//! asks for what another is just loading waits for that one. All of it is
//! counted in the process's memory pool for as long as somebody holds it, and
//! what no scan uses is bounded by [`IDLE_SHARE`] of the pool. The index of
//! equality deletes is held by its scan, so that it is built once even if it
//! does not fit into the cache.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use moka::future::Cache;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use roaring::{MultiOps, RoaringTreemap};
use tokio::sync::OnceCell;

use super::equality::{EqualityIndex, delete_schema, leaf};
use super::positions::{FilePositions, bitmap_bytes, schema, selection};
use super::{DeleteFile, Deletes, DeletionVector, EqualityDeletes, reader, vector};
use crate::error::{Blame, Error, blame};
use crate::metrics::{DELETE_CACHE_HITS, DELETE_CACHE_MISSES};
use crate::storage::path_of;
use crate::task::TableScan;

/// The part of the memory pool that idle deletes may hold, one over this.
const IDLE_SHARE: usize = 8;
/// The same if the pool has no bound.
const IDLE_BYTES_DEFAULT: usize = 256 << 20;
/// Delete files that one scan reads at once.
const READS_CONCURRENT_MAX: usize = 8;

/// A loaded value, counted in the memory pool until the last one lets go of it.
#[derive(Debug)]
pub(super) struct Held<V> {
    value: V,
    reservation: MemoryReservation,
}

impl<V> Deref for Held<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

/// An index of equality deletes.
#[derive(Clone, Debug)]
pub(crate) struct LoadedIndex {
    list: Arc<EqualityDeletes>,
    index: Arc<Held<EqualityIndex>>,
}

impl LoadedIndex {
    pub(super) fn index(&self) -> &EqualityIndex {
        &self.index.value
    }
}

/// What a process keeps of deletes.
pub(crate) struct DeleteCache {
    pool: Arc<dyn MemoryPool>,
    /// By location and offset.
    vectors: Cache<(Arc<str>, u64), Arc<Held<RoaringTreemap>>>,
    /// By location.
    positions: Cache<Arc<str>, Arc<Held<FilePositions>>>,
    /// By the hash of the list, which is compared after a hit.
    equality: Cache<u64, LoadedIndex>,
}

impl std::fmt::Debug for DeleteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeleteCache").finish_non_exhaustive()
    }
}

impl Default for DeleteCache {
    fn default() -> Self {
        Self::new(Arc::new(UnboundedMemoryPool::default()))
    }
}

impl DeleteCache {
    pub(crate) fn new(pool: Arc<dyn MemoryPool>) -> Self {
        let idle = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / IDLE_SHARE,
            _ => IDLE_BYTES_DEFAULT,
        };
        // Half for indexes of equality deletes, which cost most to build.
        let part = |share: usize| (idle / share / 1024) as u64;
        let (vectors, positions, equality) = (part(4), part(4), part(2));
        Self {
            vectors: Cache::builder()
                .max_capacity(vectors)
                .weigher(|_, value: &Arc<Held<RoaringTreemap>>| value.weight())
                .build(),
            positions: Cache::builder()
                .max_capacity(positions)
                .weigher(|_, value: &Arc<Held<FilePositions>>| value.weight())
                .build(),
            equality: Cache::builder()
                .max_capacity(equality)
                .weigher(|_, value: &LoadedIndex| value.index.weight())
                .build(),
            pool,
        }
    }

    fn reserve(&self, table: &str) -> MemoryReservation {
        MemoryConsumer::new(format!("deletes of table {table}")).register(&self.pool)
    }
}

impl<V> Held<V> {
    /// In KiB, as a weight has 32 bits.
    fn weight(&self) -> u32 {
        u32::try_from(self.reservation.size() / 1024 + 1).unwrap_or(u32::MAX)
    }
}

/// The deletes of one scan.
#[derive(Debug, Default)]
pub(crate) struct ScanDeletes {
    /// Indexes in use, by the address of their list.
    indexes: Mutex<HashMap<usize, InUse>>,
}

/// An index in use, or about to be.
#[derive(Debug)]
struct InUse {
    /// Kept alive, so that its address stays its own.
    _list: Arc<EqualityDeletes>,
    index: Arc<OnceCell<LoadedIndex>>,
}

/// Loads deletes for a scan.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) scan: Arc<TableScan>,
    pub(crate) cache: Arc<DeleteCache>,
    pub(crate) deletes: Arc<ScanDeletes>,
}

impl Loader {
    /// The rows of a data file of so many that are left; `None` if no row is deleted by position.
    pub(crate) async fn selection(
        &self,
        data_file: &str,
        deletes: &Deletes,
        rows: u64,
    ) -> Result<Option<ParquetRowSelection>> {
        if let Some(vector) = &deletes.vector {
            return Ok(selection(&self.vector(vector).await?.value, rows));
        }
        let loads: Vec<_> = deletes.positions.iter().map(|file| self.file_positions(file)).collect();
        let files: Vec<_> = stream::iter(loads).buffered(READS_CONCURRENT_MAX).try_collect().await?;
        let found: Vec<_> = files.iter().filter_map(|file| file.of(data_file)).collect();
        Ok(match found.as_slice() {
            [] => None,
            [one] => selection(one, rows),
            several => selection(&several.iter().map(|bitmap| bitmap.as_ref()).union(), rows),
        })
    }

    async fn vector(&self, vector: &DeletionVector) -> Result<Arc<Held<RoaringTreemap>>> {
        let key = (Arc::from(vector.uri.as_str()), vector.offset);
        let load = async {
            let blob = self.blob(vector).await?;
            let positions = vector::decode(&blob, vector.cardinality).map_err(|reason| {
                self.damaged(&vector.uri, format!("deletion vector at byte {}: {reason}", vector.offset))
            })?;
            self.hold(positions, bitmap_bytes)
        };
        get(&self.cache.vectors, "vector", key, load).await
    }

    async fn blob(&self, vector: &DeletionVector) -> Result<bytes::Bytes> {
        let range = vector.offset..vector.offset.saturating_add(vector.size_bytes);
        let read = self.store.get_range(&path_of(&vector.uri)?, range).await;
        let blob = read.map_err(|error| self.named(&vector.uri, DataFusionError::from(error)))?;
        if blob.len() as u64 != vector.size_bytes {
            let reason = format!("{} bytes of a deletion vector of {}", blob.len(), vector.size_bytes);
            return Err(self.damaged(&vector.uri, reason));
        }
        Ok(blob)
    }

    async fn file_positions(&self, file: &DeleteFile) -> Result<Arc<Held<FilePositions>>> {
        let load = async {
            let mut positions = FilePositions::default();
            let each = |batch| positions.add(&batch).map_err(|reason| self.damaged(&file.uri, reason));
            reader::read(&self.store, &self.scan, file, schema(), each).await?;
            self.hold(positions, FilePositions::heap_bytes)
        };
        get(&self.cache.positions, "position", Arc::from(file.uri.as_str()), load).await
    }

    /// The index of a list of equality deletes.
    pub(crate) async fn index(&self, list: &Arc<EqualityDeletes>) -> Result<LoadedIndex> {
        let address = Arc::as_ptr(list) as usize;
        let cell = {
            let mut indexes = self.deletes.indexes.lock();
            let new = || InUse { _list: Arc::clone(list), index: Arc::default() };
            Arc::clone(&indexes.entry(address).or_insert_with(new).index)
        };
        cell.get_or_try_init(|| self.cached_index(list)).await.cloned()
    }

    async fn cached_index(&self, list: &Arc<EqualityDeletes>) -> Result<LoadedIndex> {
        let mut hasher = DefaultHasher::new();
        list.files.hash(&mut hasher);
        list.keys.iter().for_each(|key| (&key.field, &key.path).hash(&mut hasher));
        let found = get(&self.cache.equality, "equality", hasher.finish(), self.build(list)).await?;
        match found.list == *list {
            true => Ok(found),
            false => self.build(list).await,
        }
    }

    async fn build(&self, list: &Arc<EqualityDeletes>) -> Result<LoadedIndex> {
        let no_id = || Error::Codec("a column of equality deletes has no field id".to_owned());
        let (schema, places) = delete_schema(&list.keys).ok_or_else(no_id)?;
        let index = Mutex::new(EqualityIndex::new(&list.keys)?);
        let reservation = self.cache.reserve(&self.scan.table);
        let read = |file: &Arc<DeleteFile>| {
            let (file, schema) = (Arc::clone(file), Arc::clone(&schema));
            let (index, places, reservation) = (&index, &places, &reservation);
            async move {
                let each = |batch: arrow::array::RecordBatch| {
                    let keys = places.iter().map(|(column, place)| leaf(batch.column(*column), place));
                    let keys = keys.collect::<Result<Vec<_>>>()?;
                    let mut index = index.lock();
                    index.insert(&keys, file.data_sequence_number)?;
                    reservation.try_resize(index.heap_bytes())
                };
                reader::read(&self.store, &self.scan, &file, schema, each).await
            }
        };
        let reads: Vec<_> = list.files.iter().map(read).collect();
        stream::iter(reads).buffer_unordered(READS_CONCURRENT_MAX).try_collect::<()>().await?;
        let mut index = index.into_inner();
        index.finish();
        reservation.try_resize(index.heap_bytes())?;
        let held = Held { value: index, reservation };
        Ok(LoadedIndex { list: Arc::clone(list), index: Arc::new(held) })
    }

    fn hold<V>(&self, value: V, bytes: impl Fn(&V) -> usize) -> Result<Arc<Held<V>>> {
        let reservation = self.cache.reserve(&self.scan.table);
        reservation.try_resize(bytes(&value))?;
        Ok(Arc::new(Held { value, reservation }))
    }

    fn damaged(&self, file: &str, reason: String) -> DataFusionError {
        Error::DamagedFile { table: self.scan.table.clone(), file: file.to_owned(), reason }.into()
    }

    /// Says that it is the delete file which cannot be read, and not the data file that is being opened.
    fn named(&self, file: &str, error: DataFusionError) -> DataFusionError {
        let damaged = blame(&error) == Some(Blame::File);
        let (table, file) = (self.scan.table.clone(), file.to_owned());
        Error::Read { table, file, damaged, cause: Box::new(error) }.into()
    }
}

async fn get<K, V>(
    cache: &Cache<K, V>,
    kind: &'static str,
    key: K,
    load: impl Future<Output = Result<V>>,
) -> Result<V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let load = async {
        DELETE_CACHE_MISSES.with_label_values(&[kind]).inc();
        load.await
    };
    if let Some(value) = cache.get(&key).await {
        DELETE_CACHE_HITS.with_label_values(&[kind]).inc();
        return Ok(value);
    }
    cache.try_get_with(key, load).await.map_err(DataFusionError::Shared)
}
