//! Opening one file: footer, columns, then DataFusion's Parquet morsels.
//!
//! ```text
//!   plan_file ── pruned by a dynamic filter already? ── none
//!       └─ pending: footer, deletes (caches) ── resolve columns ── inner.plan_file ── morsels, filtered, counted
//!                   header, if it is Avro    ── likewise        ── avro::planner ──┘
//! ```
//!
//! Everything that fails on the way names the table and the file.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{ColumnStatistics, DataFusionError, Result, Statistics, internal_err};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::DynamicFilterTracking;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use datafusion::physical_optimizer::pruning::FilePruner;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet};
use datafusion::scalar::ScalarValue;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use parking_lot::Mutex;
use parquet::arrow::RowNumber;

use super::IcebergSource;
use super::adapter::{ColumnAdapterFactory, Given, GivenByFile, ROW_NUMBER};
use super::avro;
use super::footer::{self, Footers};
use super::reader::{LoadedFooter, ReaderFactory};
use crate::columns::{AvroColumns, FileColumns, MetadataColumn, Resolver, marked};
use crate::deletes::{EqualityFilter, EqualityKey, JoinColumn, KeyColumns, Loader, keys_of, placeholder};
use crate::error::{Blame, Error, blame};
use crate::metrics::ROWS;
use crate::observer::ScanObserver;
use crate::storage::attachments;
use crate::task::{FileFormat, FileTask, TableScan, field_id};

/// Rows of a batch if nobody has said how many.
const BATCH_ROWS_DEFAULT: usize = 8192;

/// Opens the files of one partition.
pub(super) struct IcebergMorselizer {
    opener: Arc<Opener>,
    /// The predicate, if it holds a dynamic filter: only then may a planned file have become useless.
    dynamic: Option<Arc<dyn PhysicalExpr>>,
}

/// What every file of the partition shares.
struct Opener {
    /// For files without equality deletes, nearly all.
    plain: Arc<Reading>,
    /// For files with equality deletes, by the columns that these compare. A scan has few such sets.
    keyed: Mutex<Vec<Arc<Keyed>>>,
    store: Arc<dyn ObjectStore>,
    partition: usize,
    batch_size: Option<usize>,
    footers: Footers,
    deletes: Loader,
    report: Arc<Report>,
}

/// How files are read: with which columns.
struct Reading {
    /// For files to which nothing is given, nearly all.
    inner: Arc<dyn Morselizer>,
    source: ParquetSource,
    /// The scan without its files.
    config: FileScanConfig,
    scan: Arc<TableScan>,
    resolver: Arc<Resolver>,
    /// By table column: whether the scan uses it.
    used: Vec<bool>,
    /// Whether any of these is a metadata column, or one for a join.
    metadata: bool,
    /// Whether any is a key for a join.
    joined: bool,
}

/// How files with equality deletes are read: with key columns behind the columns that were asked for.
struct Keyed {
    /// The keys of each list of deletes.
    lists: Vec<Vec<EqualityKey>>,
    reading: Reading,
    columns: Arc<KeyColumns>,
    /// What was asked for, over the table's columns.
    visible: ProjectionExprs,
    /// The metrics of the scan, which those of this reading become part of.
    metrics: ExecutionPlanMetricsSet,
}

impl Drop for Keyed {
    fn drop(&mut self) {
        for metric in self.reading.source.metrics().clone_inner().iter() {
            self.metrics.register(Arc::clone(metric));
        }
    }
}

/// Whom a scan reports to.
struct Report {
    scan: Arc<TableScan>,
    query_id: Option<Arc<str>>,
    observer: Option<Arc<dyn ScanObserver>>,
}

impl IcebergMorselizer {
    pub(super) fn new(
        source: &IcebergSource,
        store: Arc<dyn ObjectStore>,
        base: &FileScanConfig,
        partition: usize,
    ) -> Result<Self> {
        let attachments = attachments(&store);
        let (scan, resolver) = (Arc::clone(&source.scan), Arc::clone(&source.resolver));
        let plain =
            Reading::new(source.parquet()?, scan, resolver, source.batch_size, &store, base, partition)?;
        let predicate = plain.source.filter();
        let options = &plain.source.table_parquet_options().global;
        let footers = Footers {
            store: Arc::clone(&store),
            cache: attachments.footers,
            size_hint: options.metadata_size_hint,
            page_index: options.enable_page_index && predicate.is_some(),
        };
        let opener = Opener {
            plain: Arc::new(plain),
            keyed: Mutex::default(),
            deletes: Loader {
                store: Arc::clone(&store),
                scan: Arc::clone(&source.scan),
                cache: attachments.deletes.unwrap_or_default(),
                deletes: Arc::clone(&source.deletes),
            },
            store,
            partition,
            batch_size: source.batch_size,
            footers,
            report: Arc::new(Report {
                scan: Arc::clone(&source.scan),
                query_id: source.query_id.clone(),
                observer: attachments.observer.filter(|_| source.observed),
            }),
        };
        let dynamic = predicate.filter(|p| DynamicFilterTracking::classify(p).contains_dynamic_filter());
        Ok(Self { opener: Arc::new(opener), dynamic })
    }

    /// Whether a dynamic filter proves by now that no row of the file is wanted. Asked before the
    /// footer is read; the reader asks again, and goes on asking while it reads.
    fn is_pruned(&self, file: &PartitionedFile) -> Result<bool> {
        let Some(predicate) = &self.dynamic else {
            return Ok(false);
        };
        let schema = self.opener.plain.source.table_schema().file_schema();
        match FilePruner::try_new(Arc::clone(predicate), schema, file, Count::new()) {
            Some(mut pruner) => pruner.should_prune(),
            None => Ok(false),
        }
    }
}

impl std::fmt::Debug for IcebergMorselizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IcebergMorselizer").field("partition", &self.opener.partition).finish_non_exhaustive()
    }
}

impl Morselizer for IcebergMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let task = file.extensions.get_arc::<FileTask>().ok_or_else(|| Error::MissingFileTask {
            table: self.opener.report.scan.table.clone(),
            path: file.object_meta.location.to_string(),
        })?;
        if self.is_pruned(&file)? {
            return Ok(Box::new(Pruned));
        }
        Ok(Box::new(OpenPlanner { opener: Arc::clone(&self.opener), file, task }))
    }
}

/// A file of which nothing is wanted.
#[derive(Debug)]
struct Pruned;

impl MorselPlanner for Pruned {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(None)
    }
}

/// A file that is about to be opened.
struct OpenPlanner {
    opener: Arc<Opener>,
    file: PartitionedFile,
    task: Arc<FileTask>,
}

impl std::fmt::Debug for OpenPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenPlanner").field("uri", &self.task.uri).finish_non_exhaustive()
    }
}

impl MorselPlanner for OpenPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(async move {
            let context =
                Arc::new(FileContext { report: Arc::clone(&self.opener.report), uri: self.task.uri.clone() });
            context.report.opened(&self.task, &self.file);
            let open = async {
                if self.task.deletes.equality.is_empty() && !self.opener.plain.joined {
                    let planner = self.opener.open(&self.opener.plain, self.file, &self.task).await?;
                    return Ok((planner, None));
                }
                let (keyed, filter) = self.opener.keyed(&self.task).await?;
                let planner = self.opener.open(&keyed.reading, self.file, &self.task).await?;
                Ok((planner, Some(Arc::new(filter))))
            };
            let (inner, filter) = open.await.map_err(|e| context.name(e))?;
            Ok(Box::new(FilePlanner { inner, filter, context }) as Box<dyn MorselPlanner>)
        })))
    }
}

impl Opener {
    async fn open(
        &self,
        reading: &Reading,
        mut file: PartitionedFile,
        task: &FileTask,
    ) -> Result<Box<dyn MorselPlanner>> {
        if task.format == FileFormat::Avro {
            return self.open_avro(reading, file, task).await;
        }
        let (footer, size) = self.footers.load(&file.object_meta).await?;
        if let Some(range) = &mut file.range
            && range.end >= i64::try_from(file.object_meta.size).unwrap_or(i64::MAX)
        {
            // The last range goes to the end of the file, however short the manifest says that it is.
            range.end = i64::MAX;
        }
        file.object_meta.size = size;
        let metadata = footer.file_metadata();
        let rows = metadata.num_rows();
        if u64::try_from(rows).ok() != Some(task.record_count) {
            let expected = task.record_count;
            let reason = format!("it has {rows} rows where its manifest says {expected}");
            let table = self.report.scan.table.clone();
            return Err(Error::DamagedFile { table, file: task.uri.clone(), reason }.into());
        }
        if let Some(selection) = self.deletes.selection(&task.uri, &task.deletes, task.record_count).await? {
            file.extensions.insert(selection);
        }
        let columns = reading.resolver.resolve(&metadata.schema_descr_ptr(), &task.uri)?;
        let ids: Vec<i32> = task.constants.iter().map(|(id, _)| *id).collect();
        columns.check(&reading.scan, &task.uri, &reading.used, &ids)?;
        let footer = match &columns.renamed {
            Some(schema) => Arc::new(footer::with_schema(&footer, Arc::clone(schema))),
            None => footer,
        };
        file.arrow_schema = Some(Arc::clone(&columns.schema));
        file.extensions.insert(LoadedFooter(footer));
        if let Some(statistics) = file.statistics.as_mut() {
            reading.fit(statistics);
        }
        let given = reading.given(&columns, task)?;
        if given.is_empty() {
            return reading.inner.plan_file(file);
        }
        file.arrow_schema = Some(marked(&columns.schema));
        let mut config = reading.config.clone();
        config.expr_adapter_factory = Some(Arc::new(ColumnAdapterFactory::new(given)));
        reading.source.create_morselizer(Arc::clone(&self.store), &config, self.partition)?.plan_file(file)
    }

    async fn open_avro(
        &self,
        reading: &Reading,
        file: PartitionedFile,
        task: &FileTask,
    ) -> Result<Box<dyn MorselPlanner>> {
        // All of the file belongs to the range that it begins in.
        if range(&file).is_some_and(|range| range.start > 0) {
            return Ok(Box::new(Pruned));
        }
        let place = avro::Place { table: self.report.scan.table.clone(), uri: task.uri.clone() };
        let meta = &file.object_meta;
        let container = avro::Container::open(&self.store, &meta.location, meta.size, place).await?;
        let selection = self.deletes.selection(&task.uri, &task.deletes, task.record_count).await?;
        let columns = AvroColumns::resolve(&reading.scan, container.schema(), &task.uri)?;
        let ids: Vec<i32> = task.constants.iter().map(|(id, _)| *id).collect();
        columns.columns.check(&reading.scan, &task.uri, &reading.used, &ids)?;
        let given = reading.given(&columns.columns, task)?;
        let (table, stored) = (Arc::clone(&reading.scan.schema), avro::physical_schema(&columns));
        let adapter = ColumnAdapterFactory::new(given).create(table, stored)?;
        let Some(projection) = reading.source.projection() else {
            return internal_err!("a Parquet source without a projection");
        };
        let filters = reading.source.table_parquet_options().global.pushdown_filters;
        let wanted = avro::Wanted {
            projection,
            // Otherwise whoever asked filters again.
            predicate: reading.source.filter().filter(|_| filters),
            output: Arc::new(projection.project_schema(reading.source.table_schema().table_schema())?),
            selection: selection.map(ParquetRowSelection::into_inner),
            batch_size: self.batch_size.unwrap_or(BATCH_ROWS_DEFAULT),
        };
        avro::planner(container, columns, adapter.as_ref(), wanted, task.record_count)
    }

    /// How to read a file with equality deletes, and what to take out of it then.
    async fn keyed(&self, task: &FileTask) -> Result<(Arc<Keyed>, EqualityFilter)> {
        let lists = &task.deletes.equality;
        let indexes = try_join_all(lists.iter().map(|list| self.deletes.index(list))).await?;
        let keys = keys_of(&task.deletes);
        let mut known = self.keyed.lock();
        let same = |keyed: &&Arc<Keyed>| keyed.lists.iter().map(Vec::as_slice).eq(keys.iter().copied());
        let found = known.iter().find(same).map(Arc::clone);
        let keyed = match found {
            Some(keyed) => keyed,
            None => {
                let keyed = Arc::new(self.read_keys(&keys, &task.uri)?);
                known.push(Arc::clone(&keyed));
                keyed
            }
        };
        let columns = Arc::clone(&keyed.columns);
        let filter = EqualityFilter::new(columns, indexes, task, &keyed.visible)?;
        Ok((keyed, filter))
    }

    /// The scan again, with key columns, and without a limit: it would count deleted rows.
    fn read_keys(&self, keys: &[&[EqualityKey]], file: &str) -> Result<Keyed> {
        let plain = &self.plain;
        let columns = KeyColumns::new(&self.report.scan, keys, file)?;
        let scan = Arc::clone(&columns.scan);
        let all: Vec<usize> = (0..self.report.scan.schema.fields().len()).collect();
        let visible = plain.source.projection().cloned();
        let visible = visible.unwrap_or_else(|| ProjectionExprs::from_indices(&all, &scan.schema));
        let schema = Arc::clone(&scan.schema);
        let source =
            reprojected(&plain.source, schema.into(), &columns.projection(&visible), self.batch_size)?;
        let mut base = plain.config.clone();
        base.limit = None;
        let resolver = Arc::new(Resolver::new(Arc::clone(&scan)));
        let reading =
            Reading::new(&source, scan, resolver, self.batch_size, &self.store, &base, self.partition)?;
        let lists = keys.iter().map(|list| list.to_vec()).collect();
        Ok(Keyed {
            lists,
            reading,
            columns: Arc::new(columns),
            visible,
            metrics: plain.source.metrics().clone(),
        })
    }
}

impl Reading {
    fn new(
        source: &ParquetSource,
        scan: Arc<TableScan>,
        resolver: Arc<Resolver>,
        batch_size: Option<usize>,
        store: &Arc<dyn ObjectStore>,
        base: &FileScanConfig,
        partition: usize,
    ) -> Result<Self> {
        let used = used_columns(source);
        let source = match needs_row_numbers(&scan, &used) {
            true => with_row_numbers(source, batch_size)?,
            false => source.clone(),
        };
        let source = source.with_parquet_file_reader_factory(Arc::new(ReaderFactory::new(Arc::clone(store))));
        let config = FileScanConfigBuilder::new(base.object_store_url.clone(), Arc::new(source.clone()))
            .with_limit(base.limit)
            .with_preserve_order(base.preserve_order)
            .with_expr_adapter(Some(Arc::new(ColumnAdapterFactory::default())))
            .build();
        let inner = source.create_morselizer(Arc::clone(store), &config, partition)?.into();
        let mut fields = scan.schema.fields().iter().zip(&used).filter(|(_, used)| **used);
        let is_given = |field: &Field| {
            MetadataColumn::of_field(field).is_some() || JoinColumn::of_field(field).is_some()
        };
        let metadata = fields.clone().any(|(field, _)| is_given(field));
        let joined = fields.any(|(field, _)| matches!(JoinColumn::of_field(field), Some(JoinColumn::Key(_))));
        Ok(Self { inner, source, config, scan, resolver, used, metadata, joined })
    }

    /// Makes statistics of the table's columns statistics of what is read.
    fn fit(&self, statistics: &mut Arc<Statistics>) {
        let columns = self.scan.schema.fields().len();
        if statistics.column_statistics.len() < columns {
            let statistics = Arc::make_mut(statistics);
            statistics.column_statistics.resize(columns, ColumnStatistics::new_unknown());
        }
    }

    /// What the used columns have by the file as a whole.
    fn given(&self, columns: &FileColumns, task: &FileTask) -> Result<GivenByFile> {
        let mut given = GivenByFile::default();
        if task.constants.is_empty() && !self.metadata {
            return Ok(given);
        }
        for (index, field) in self.scan.schema.fields().iter().enumerate() {
            let value = match MetadataColumn::of_field(field) {
                _ if !self.used[index] => None,
                None if JoinColumn::of_field(field).is_some() => {
                    JoinColumn::of_field(field).map(|column| for_join(column, task))
                }
                Some(column) => Some(of_metadata(column, task)),
                None if columns.absent.contains(&index) => constant(field, task),
                None => None,
            };
            if let Some(value) = value {
                given.columns.insert(field.name().clone(), value.cast_to(field.data_type())?);
            }
        }
        let used = self.scan.schema.fields().iter().zip(&self.used).filter(|(_, used)| **used);
        let nested: Vec<_> =
            used.map(|(field, _)| field).filter(|field| field.data_type().is_nested()).collect();
        let inside = task.constants.iter().filter(|(id, _)| {
            *id != MetadataColumn::Partition.id() && nested.iter().any(|field| holds(field.data_type(), *id))
        });
        given.fields = inside.cloned().collect();
        Ok(given)
    }
}

/// What a column that the file lacks has by the file's partition.
fn constant(field: &Field, task: &FileTask) -> Option<Given> {
    let id = field_id(field)?;
    let (_, value) = task.constants.iter().find(|(source, _)| *source == id)?;
    Some(Given::Constant(value.clone()))
}

/// Whether a field of a struct has the id, at any depth of structs: nothing else can be partitioned by.
fn holds(data_type: &DataType, id: i32) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            fields.iter().any(|field| field_id(field) == Some(id) || holds(field.data_type(), id))
        }
        _ => false,
    }
}

fn for_join(column: JoinColumn, task: &FileTask) -> Given {
    Given::Constant(match column {
        JoinColumn::Sequence => ScalarValue::Int64(Some(task.data_sequence_number)),
        // Made of the key columns once these are read.
        JoinColumn::Key(_) => placeholder(),
    })
}

fn of_metadata(column: MetadataColumn, task: &FileTask) -> Given {
    match column {
        MetadataColumn::File => Given::Constant(ScalarValue::Utf8View(Some(task.uri.clone()))),
        MetadataColumn::Position => Given::RowNumber,
        MetadataColumn::SpecId => Given::Constant(ScalarValue::Int32(Some(task.spec_id))),
        MetadataColumn::Partition => {
            let value = task.constants.iter().find(|(id, _)| *id == column.id());
            Given::Constant(value.map_or(ScalarValue::Null, |(_, value)| value.clone()))
        }
        // A file from before the table had row ids has none, whatever is in it.
        MetadataColumn::RowId => match task.first_row_id {
            Some(first) => Given::StoredOrRowNumber(first),
            None => Given::Constant(ScalarValue::Null),
        },
        MetadataColumn::LastUpdatedSequenceNumber => match task.first_row_id {
            Some(_) => Given::StoredOr(ScalarValue::Int64(Some(task.data_sequence_number))),
            None => Given::Constant(ScalarValue::Null),
        },
    }
}

/// Whether the scan needs the number of each row in its file.
fn needs_row_numbers(scan: &TableScan, used: &[bool]) -> bool {
    let fields = scan.schema.fields().iter().zip(used).filter(|(_, used)| **used);
    let mut columns = fields.filter_map(|(field, _)| MetadataColumn::of_field(field));
    columns.any(|column| matches!(column, MetadataColumn::Position | MetadataColumn::RowId))
}

/// The source with a column of the reader's own for row numbers, which stay right whatever is skipped. Made only
/// here: the encoding of plans would lose it.
fn with_row_numbers(source: &ParquetSource, batch_size: Option<usize>) -> Result<ParquetSource> {
    let number = Field::new(ROW_NUMBER, DataType::Int64, true).with_extension_type(RowNumber);
    let schema = TableSchema::builder(Arc::clone(source.table_schema().file_schema()))
        .with_virtual_columns(Fields::from(vec![number]))
        .build();
    match source.projection() {
        Some(projection) => reprojected(source, schema, projection, batch_size),
        None => internal_err!("a Parquet source without a projection"),
    }
}

/// The source with another table schema and another projection, its filter and options the same.
fn reprojected(
    source: &ParquetSource,
    schema: TableSchema,
    projection: &ProjectionExprs,
    batch_size: Option<usize>,
) -> Result<ParquetSource> {
    let options = source.table_parquet_options().clone();
    let mut other = ParquetSource::new(schema).with_table_parquet_options(options);
    if let Some(predicate) = source.filter() {
        other = other.with_predicate(predicate);
    }
    let mut other: Arc<dyn FileSource> = Arc::new(other);
    if let Some(size) = batch_size {
        other = other.with_batch_size(size);
    }
    other = other.try_pushdown_projection(projection)?.unwrap_or(other);
    match other.downcast_ref::<ParquetSource>() {
        Some(other) => Ok(other.clone()),
        None => internal_err!("a Parquet source became another"),
    }
}

/// By table column: whether projection or predicate mention it.
fn used_columns(source: &ParquetSource) -> Vec<bool> {
    let mut used = vec![false; source.table_schema().table_schema().fields().len()];
    let projected = source.projection().into_iter().flat_map(|p| p.expr_iter());
    for expr in projected.chain(source.filter()) {
        for column in collect_columns(&expr) {
            if let Some(slot) = used.get_mut(column.index()) {
                *slot = true;
            }
        }
    }
    used
}

impl Report {
    fn opened(&self, task: &FileTask, file: &PartitionedFile) {
        if let Some(observer) = &self.observer {
            observer.opened(self.query_id.as_deref(), task, range(file));
        }
    }

    fn rows(&self, n: usize) {
        ROWS.inc_by(n as u64);
        if let Some(observer) = &self.observer {
            observer.rows_of(self.query_id.as_deref(), n);
        }
    }
}

/// The byte range of a file that is to be read, if not all of it.
pub(crate) fn range(file: &PartitionedFile) -> Option<Range<u64>> {
    let range = file.range.as_ref()?;
    Some(u64::try_from(range.start).unwrap_or(0)..u64::try_from(range.end).unwrap_or(0))
}

/// One file being read: names its errors and counts its rows.
struct FileContext {
    report: Arc<Report>,
    uri: String,
}

impl FileContext {
    /// Says which file and table an error is about, unless it says so itself, or is the query's own
    /// (a division by zero in a pushed expression) and has nothing to do with the file.
    fn name(&self, error: DataFusionError) -> DataFusionError {
        // Also if another scan loaded the same delete file, and this is what it got.
        if let DataFusionError::External(source) = error.find_root()
            && source.downcast_ref::<Error>().is_some()
        {
            return error;
        }
        let Some(blame) = blame(&error) else {
            return error;
        };
        let (table, file) = (self.report.scan.table.clone(), self.uri.clone());
        Error::Read { table, file, damaged: blame == Blame::File, cause: Box::new(error) }.into()
    }
}

/// A planner of the Parquet source, and whatever it turns into.
struct FilePlanner {
    inner: Box<dyn MorselPlanner>,
    /// Deletes that are yet to be applied.
    filter: Option<Arc<EqualityFilter>>,
    context: Arc<FileContext>,
}

impl std::fmt::Debug for FilePlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilePlanner").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl MorselPlanner for FilePlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, filter, context } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| context.name(error))? else {
            return Ok(None);
        };
        let planner = |inner, filter: &Option<Arc<EqualityFilter>>, context: &Arc<FileContext>| {
            let (filter, context) = (filter.clone(), Arc::clone(context));
            Box::new(FilePlanner { inner, filter, context }) as Box<dyn MorselPlanner>
        };
        let morsel = |inner| {
            let (filter, context) = (filter.clone(), Arc::clone(&context));
            Box::new(FileMorsel { inner, filter, context }) as Box<dyn Morsel>
        };
        let mut wrapped = MorselPlan::new()
            .with_morsels(plan.take_morsels().into_iter().map(morsel).collect())
            .with_planners(
                plan.take_ready_planners().into_iter().map(|p| planner(p, &filter, &context)).collect(),
            );
        if let Some(pending) = plan.take_pending_planner() {
            wrapped.set_pending_planner(async move {
                let inner = pending.await.map_err(|error| context.name(error))?;
                Ok(planner(inner, &filter, &context))
            });
        }
        Ok(Some(wrapped))
    }
}

struct FileMorsel {
    inner: Box<dyn Morsel>,
    filter: Option<Arc<EqualityFilter>>,
    context: Arc<FileContext>,
}

impl std::fmt::Debug for FileMorsel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileMorsel").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Morsel for FileMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, filter, context } = *self;
        let apply = move |batch: RecordBatch| match &filter {
            Some(filter) => filter.apply(&batch),
            None => Ok(batch),
        };
        let watch = move |batch: Result<RecordBatch>| match batch.and_then(&apply) {
            Ok(batch) => {
                context.report.rows(batch.num_rows());
                Ok(batch)
            }
            Err(error) => Err(context.name(error)),
        };
        inner.into_stream().map(watch).boxed()
    }
}
