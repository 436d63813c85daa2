//! Footers: read once, kept in the environment's file metadata cache.
//!
//! Keys of the cache are paths of the storage router, unique over buckets;
//! data files never change, so an entry is valid as long as the length agrees.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use futures::FutureExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::schema::types::SchemaDescPtr;

use crate::metrics::FILE_SIZE_MISMATCHES;

/// How the footers of a scan are read.
#[derive(Clone)]
pub(super) struct Footers {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) cache: Option<Arc<FileMetadataCache>>,
    /// Bytes read from the end of a file at first, in the hope that the footer is among them.
    pub(super) size_hint: Option<usize>,
    /// Whether the scan can use page indexes.
    pub(super) page_index: bool,
}

impl Footers {
    /// The footer of a file, and the file's true length.
    ///
    /// Manifests in the field hold wrong lengths. So if there is no footer where one should end,
    /// the store is asked once for the length; a file that was cut has no footer there either.
    pub(super) async fn load(&self, meta: &ObjectMeta) -> Result<(Arc<ParquetMetaData>, u64)> {
        let first = match self.fetch(meta).await {
            Ok(footer) => return Ok((footer, meta.size)),
            Err(error) if is_not_found(&error) => return Err(error),
            Err(error) => error,
        };
        let actual = match self.store.head(&meta.location).await {
            Ok(actual) if actual.size != meta.size => actual.size,
            _ => return Err(first),
        };
        FILE_SIZE_MISMATCHES.inc();
        tracing::warn!(path = %meta.location, claimed = meta.size, actual, "data file has another length");
        let meta = ObjectMeta { size: actual, ..meta.clone() };
        match self.fetch(&meta).await {
            Ok(footer) => Ok((footer, actual)),
            Err(error) => {
                Err(error.context(format!("the file has {actual} bytes where its manifest says otherwise")))
            }
        }
    }

    async fn fetch(&self, meta: &ObjectMeta) -> Result<Arc<ParquetMetaData>> {
        let footer = self.fetch_with(meta, PageIndexPolicy::Skip).await?;
        if self.page_index && has_page_index(&footer) && !page_index_loaded(&footer) {
            // Goes into the cache with the rest, which the reader's own, later loading would not.
            return self.fetch_with(meta, PageIndexPolicy::Optional).await;
        }
        Ok(footer)
    }

    async fn fetch_with(&self, meta: &ObjectMeta, policy: PageIndexPolicy) -> Result<Arc<ParquetMetaData>> {
        let metadata = DFParquetMetadata::new(&self.store, meta)
            .with_metadata_size_hint(self.size_hint)
            .with_file_metadata_cache(self.cache.clone())
            .with_page_index_policy(Some(policy));
        // The decoder counts on lengths in the file where it should not.
        match AssertUnwindSafe(metadata.fetch_metadata()).catch_unwind().await {
            Ok(footer) => footer,
            Err(_) => Err(ParquetError::General("its footer is not what it should be".to_owned()).into()),
        }
    }
}

/// The footer with another schema, of which only names may differ.
pub(super) fn with_schema(footer: &ParquetMetaData, schema: SchemaDescPtr) -> ParquetMetaData {
    use parquet::file::metadata::{FileMetaData, ParquetMetaDataBuilder};
    let file = footer.file_metadata();
    let renamed = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        schema,
        file.column_orders().cloned(),
    );
    ParquetMetaDataBuilder::new(renamed)
        .set_row_groups(footer.row_groups().to_vec())
        .set_column_index(footer.column_index().cloned())
        .set_offset_index(footer.offset_index().cloned())
        .build()
}

fn has_page_index(footer: &ParquetMetaData) -> bool {
    let mut columns = footer.row_groups().iter().flat_map(|group| group.columns());
    columns.any(|column| column.column_index_offset().is_some() && column.offset_index_offset().is_some())
}

fn page_index_loaded(footer: &ParquetMetaData) -> bool {
    footer.column_index().is_some() && footer.offset_index().is_some()
}

fn is_not_found(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ObjectStore(source)
        if matches!(source.as_ref(), object_store::Error::NotFound { .. }))
}
