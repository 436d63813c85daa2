//! The Parquet reader's view of a file whose footer is at hand already.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::PartitionedFile;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

/// The footer to use for a file, under the table's names; an extension of its `PartitionedFile`.
pub(super) struct LoadedFooter(pub(super) Arc<ParquetMetaData>);

/// Makes readers that take their footer from [`LoadedFooter`].
#[derive(Debug)]
pub(super) struct ReaderFactory {
    inner: DefaultParquetFileReaderFactory,
}

impl ReaderFactory {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { inner: DefaultParquetFileReaderFactory::new(store) }
    }
}

impl ParquetFileReaderFactory for ReaderFactory {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let footer = file.extensions.get_arc::<LoadedFooter>();
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(match footer {
            Some(footer) => Box::new(Reader { inner, footer }),
            None => inner,
        })
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    footer: Arc<LoadedFooter>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let wanted = range.clone();
        let read = self.inner.get_bytes(range);
        async move { whole(&wanted, read.await?) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let wanted = ranges.clone();
        let read = self.inner.get_byte_ranges(ranges);
        async move {
            let parts = read.await?;
            wanted.iter().zip(parts).map(|(range, bytes)| whole(range, bytes)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        std::future::ready(Ok(Arc::clone(&self.footer.0))).boxed()
    }
}

/// A store that answers with less than was asked for holds a file that was cut; the decoder
/// would panic over it.
fn whole(range: &Range<u64>, bytes: Bytes) -> parquet::errors::Result<Bytes> {
    let wanted = range.end - range.start;
    match bytes.len() as u64 == wanted {
        true => Ok(bytes),
        false => Err(ParquetError::EOF(format!(
            "{wanted} bytes at {} were asked for, {} came",
            range.start,
            bytes.len()
        ))),
    }
}
