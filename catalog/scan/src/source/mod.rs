//! The file source: DataFusion's Parquet source, reading as an Iceberg table. Avro files have a reader here (`avro`).
//!
//! [`IcebergSource`] sits inside the stock `DataSourceExec(FileScanConfig)`,
//! which both engines know how to slice. It leaves planning (projection,
//! filters, sort, limits) to the Parquet source within and wraps what that
//! returns; what it changes is how one file is opened, see `morsel`. Two
//! rules: whatever the inner source returns is wrapped again, and
//! `try_to_proto` is never delegated, since the stock encoding would drop the
//! file tasks without a word.

mod adapter;
mod avro;
mod footer;
mod morsel;
mod pushdown;
mod reader;

pub(crate) use morsel::range as file_range;

use std::fmt::Formatter;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::morsel::Morselizer;
use object_store::ObjectStore;

use crate::columns::{MetadataColumn, Resolver};
use crate::deletes::ScanDeletes;
use crate::task::TableScan;

/// Reads the data files of one table, pinned to one snapshot.
#[derive(Clone)]
pub struct IcebergSource {
    /// Always a [`ParquetSource`].
    inner: Arc<dyn FileSource>,
    scan: Arc<TableScan>,
    resolver: Arc<Resolver>,
    query_id: Option<Arc<str>>,
    /// Rows a batch, once that is known.
    batch_size: Option<usize>,
    /// A sort that the inner source was asked to approximate. Kept because the stock encoding drops it.
    sort_hint: Option<LexOrdering>,
    /// Loaded deletes, for as long as the scan lives.
    deletes: Arc<ScanDeletes>,
    /// Whether the process's observer hears of what is read.
    observed: bool,
}

impl IcebergSource {
    /// Around a Parquet source whose table schema is the scan's.
    pub(crate) fn new(inner: ParquetSource, scan: Arc<TableScan>) -> Self {
        let resolver = Arc::new(Resolver::new(Arc::clone(&scan)));
        Self {
            inner: Arc::new(inner),
            scan,
            resolver,
            query_id: None,
            batch_size: None,
            sort_hint: None,
            deletes: Arc::default(),
            observed: true,
        }
    }

    /// The same without a word to the observer: for files that are not the query's own.
    pub(crate) fn unobserved(self) -> Self {
        Self { observed: false, ..self }
    }

    /// What it reads.
    pub fn scan(&self) -> &Arc<TableScan> {
        &self.scan
    }

    /// The query it reads for, if that is known.
    pub fn query_id(&self) -> Option<&str> {
        self.query_id.as_deref()
    }

    pub(crate) fn with_query_id(&self, query_id: Option<&str>) -> Self {
        Self { query_id: query_id.map(Arc::from), ..self.clone() }
    }

    /// The Parquet source within, as the stock encoding wants it.
    pub(crate) fn inner(&self) -> &Arc<dyn FileSource> {
        &self.inner
    }

    pub(crate) fn sort_hint(&self) -> Option<&LexOrdering> {
        self.sort_hint.as_ref()
    }

    fn parquet(&self) -> Result<&ParquetSource> {
        match self.inner.downcast_ref::<ParquetSource>() {
            Some(parquet) => Ok(parquet),
            None => internal_err!("the source within an Iceberg source is not Parquet"),
        }
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }
}

impl FileSource for IcebergSource {
    fn create_file_opener(
        &self,
        _object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        internal_err!("an Iceberg source is read through morsels")
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        Ok(Box::new(morsel::IcebergMorselizer::new(self, object_store, base_config, partition)?))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let inner = self.inner.with_batch_size(batch_size);
        Arc::new(Self { inner, batch_size: Some(batch_size), ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        "iceberg"
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> std::fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, ", table={}", self.scan.table)?;
                if let Some(snapshot) = self.scan.snapshot_id {
                    write!(f, ", snapshot={snapshot}")?;
                }
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={}", self.scan.table)?,
        }
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        // The config holds this source, so what comes back keeps it.
        self.inner.repartitioned(target_partitions, repartition_file_min_size, output_ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let schema = self.table_schema().table_schema();
        let accepted: Vec<bool> = filters.iter().map(|f| pushdown::is_safe(f, schema)).collect();
        let offered = filters.into_iter().zip(&accepted).filter_map(|(f, ok)| ok.then_some(f)).collect();
        let inner = self.inner.try_pushdown_filters(offered, config)?;
        let mut answers = inner.filters.into_iter();
        let answer = |ok: &bool| if *ok { answers.next().unwrap_or(PushedDown::No) } else { PushedDown::No };
        Ok(FilterPushdownPropagation {
            filters: accepted.iter().map(answer).collect(),
            updated_node: inner.updated_node.map(|node| self.wrap(node)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        let schema = self.table_schema().table_schema();
        let is_metadata = |column: &Column| {
            schema.fields().get(column.index()).is_some_and(|field| MetadataColumn::of_field(field).is_some())
        };
        if order.iter().any(|sort| collect_columns(&sort.expr).iter().any(is_metadata)) {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let hint = LexOrdering::new(order.iter().cloned());
        Ok(match self.inner.try_pushdown_sort(order, eq_properties)? {
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact {
                inner: Arc::new(Self { inner, sort_hint: hint, ..self.clone() }),
            },
            other => other.map(|inner| self.wrap(inner)),
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[cfg(test)]
mod evolution;
#[cfg(test)]
mod tests;
