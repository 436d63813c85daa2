//! One partition of a write: rows in, finished files out.
//!
//! ```text
//! batch ── rows of a partition that has an open file ──> that file
//!       └─ rows of other partitions: a new file, while fewer than OPEN_FILES_MAX are open,
//!          else ──> sort by partition tuple (may spill) ──> one file at a time
//! ```
//!
//! So memory is bounded by the open files, whatever the number of partitions,
//! and rows that come in any order still give few files. What was written and
//! not handed over is deleted when [`Written`], or the task, is dropped.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use uuid::Uuid;

use super::conform::conform;
use super::data_file::{Layout, OpenFile, detach};
use super::partition::{Group, Key, Splitter};
use super::path::partition_path;
use super::{WriteSpec, WrittenFile};
use crate::storage::Router;

/// Files open at once in a task; rows of further partitions are sorted first.
const OPEN_FILES_MAX: usize = 64;

/// Rows held in memory by the open files of a task; beyond it the largest ends its row group.
const BUFFERED_BYTES_MAX: usize = 256 << 20;

/// One partition of a [`super::WriteExec`], about to run.
pub(super) struct Task {
    layout: Arc<Layout>,
    context: Arc<TaskContext>,
    files: Files,
}

/// Files that are finished, and deleted unless they are handed over.
pub(super) struct Written(Arc<Ledger>, Vec<WrittenFile>);

impl Written {
    pub(super) fn files(&self) -> &[WrittenFile] {
        &self.1
    }

    /// From here on the files belong to whoever got their descriptions.
    pub(super) fn hand_over(self) {
        self.0.paths.lock().clear();
    }
}

impl Task {
    pub(super) fn new(spec: Arc<WriteSpec>, partition: usize, context: Arc<TaskContext>) -> Result<Self> {
        let layout = Arc::new(Layout::new(spec)?);
        let store = context.runtime_env().object_store(Router::object_store_url())?;
        let splitter = Splitter::new(&layout.spec.partition, &layout.schema)?;
        let consumer = MemoryConsumer::new(format!("WriteExec[{partition}]"));
        let files = Files {
            names: Names { partition, attempt: Uuid::new_v4(), next: 0 },
            ledger: Arc::new(Ledger { store: Arc::clone(&store), paths: Mutex::default() }),
            reservation: consumer.register(context.memory_pool()),
            layout: Arc::clone(&layout),
            store,
            splitter,
            open: HashMap::new(),
            done: Vec::new(),
        };
        Ok(Self { layout, context, files })
    }

    /// Writes all of `input`.
    pub(super) async fn run(self, mut input: SendableRecordBatchStream) -> Result<Written> {
        let Self { layout, context, mut files } = self;
        while let Some(batch) = input.next().await {
            let batch = conform(&batch?, &layout.schema, &layout.spec.table)?;
            if let Some(rest) = files.write_open(&batch).await? {
                return overflow(layout, context, files, rest, input).await;
            }
        }
        files.close_all().await?;
        Ok(files.finish())
    }
}

/// Goes on with `rest`, rows for which no file may be opened, and what is left of `input`.
async fn overflow(
    layout: Arc<Layout>,
    context: Arc<TaskContext>,
    files: Files,
    rest: RecordBatch,
    input: SendableRecordBatchStream,
) -> Result<Written> {
    let schema = rest.schema();
    let keys = schema.fields().len() - layout.schema.fields().len();
    // The sort pulls: each pull writes the rows that have an open file and gives it the others.
    let files = Arc::new(tokio::sync::Mutex::new(files));
    let state = (Some(input), Arc::clone(&files), Arc::clone(&layout));
    let pulled = stream::try_unfold(state, |(input, files, layout)| async move {
        let Some(mut input) = input else {
            return Ok(None);
        };
        let mut open = files.lock().await;
        while let Some(batch) = input.next().await {
            let batch = conform(&batch?, &layout.schema, &layout.spec.table)?;
            if let Some(rest) = open.write_open(&batch).await? {
                drop(open);
                return Ok(Some((rest, (Some(input), files, layout))));
            }
        }
        open.close_all().await?;
        Ok(None)
    });
    let unsorted = stream::once(std::future::ready(Ok(rest))).chain(pulled);
    let mut sorted = sort(Arc::clone(&schema), unsorted.boxed(), keys, context)?;
    while let Some(batch) = sorted.try_next().await? {
        files.lock().await.write_sorted(&batch, keys).await?;
    }
    drop(sorted);
    let files =
        Arc::into_inner(files).ok_or_else(|| exec_datafusion_err!("the sort still holds its input"))?;
    let mut files = files.into_inner();
    files.close_all().await?;
    Ok(files.finish())
}

/// Sorts by the last `keys` columns, on the task's memory pool and disk.
fn sort(
    schema: SchemaRef,
    rows: stream::BoxStream<'static, Result<RecordBatch>>,
    keys: usize,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let first = schema.fields().len() - keys;
    let order = (first..schema.fields().len()).map(|i| {
        PhysicalSortExpr::new(Arc::new(Column::new(schema.field(i).name(), i)), SortOptions::default())
    });
    let order = LexOrdering::new(order).ok_or_else(|| exec_datafusion_err!("nothing to sort by"))?;
    let rows = Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) };
    let rows = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, [], false, None)?;
    SortExec::new(order, Arc::new(rows)).execute(0, context)
}

/// The files of a task.
struct Files {
    layout: Arc<Layout>,
    store: Arc<dyn ObjectStore>,
    names: Names,
    ledger: Arc<Ledger>,
    splitter: Splitter,
    reservation: MemoryReservation,
    open: HashMap<Key, OpenFile>,
    done: Vec<WrittenFile>,
}

impl Files {
    /// Writes the rows that have, or may have, an open file; gives back the others with their keys appended.
    async fn write_open(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        if !self.splitter.is_partitioned() {
            self.write(Key::default(), batch, &[], 0).await?;
            self.account().await?;
            return Ok(None);
        }
        let keys = self.splitter.keys(batch)?;
        let mut rest = Vec::new();
        for group in self.splitter.groups(&keys)? {
            if self.open.contains_key(&group.key) || self.open.len() < OPEN_FILES_MAX {
                self.write_group(batch, &keys, group).await?;
            } else {
                rest.extend(group.rows);
            }
        }
        self.account().await?;
        if rest.is_empty() {
            return Ok(None);
        }
        let keyed = self.with_keys(batch, keys)?;
        Ok(Some(take_record_batch(&keyed, &UInt32Array::from(rest))?))
    }

    /// Writes rows that come sorted by the keys in their last columns.
    async fn write_sorted(&mut self, keyed: &RecordBatch, keys: usize) -> Result<()> {
        let columns = keyed.num_columns() - keys;
        let keys = keyed.columns()[columns..].to_vec();
        let batch =
            RecordBatch::try_new(Arc::clone(&self.layout.schema), keyed.columns()[..columns].to_vec())?;
        for group in self.splitter.groups(&keys)? {
            if !self.open.contains_key(&group.key) {
                self.close_all().await?;
            }
            self.write_group(&batch, &keys, group).await?;
        }
        self.account().await
    }

    async fn write_group(&mut self, batch: &RecordBatch, keys: &[ArrayRef], group: Group) -> Result<()> {
        let first = group.rows.first().map_or(0, |row| *row as usize);
        if group.rows.len() == batch.num_rows() {
            return self.write(group.key, batch, keys, first).await;
        }
        let rows = take_record_batch(batch, &UInt32Array::from(group.rows))?;
        self.write(group.key, &rows, keys, first).await
    }

    async fn write(&mut self, key: Key, rows: &RecordBatch, keys: &[ArrayRef], row: usize) -> Result<()> {
        if !self.open.contains_key(&key) {
            let file = self.create(Splitter::tuple(keys, row)?)?;
            self.open.insert(key.clone(), file);
        }
        let file =
            self.open.get_mut(&key).ok_or_else(|| exec_datafusion_err!("the data file is not open"))?;
        file.write(rows).await?;
        if file.size_bytes() >= self.layout.spec.target_file_size_bytes {
            self.close(&key).await?;
        }
        Ok(())
    }

    fn create(&mut self, tuple: Vec<Option<ScalarValue>>) -> Result<OpenFile> {
        let folder = partition_path(&self.layout.spec.partition, &tuple);
        let uri = self.names.next(&self.layout.spec, &folder);
        let path = crate::storage::path_of(&uri)?;
        self.ledger.paths.lock().push(path.clone());
        OpenFile::create(Arc::clone(&self.layout), Arc::clone(&self.store), uri, path, tuple)
    }

    async fn close(&mut self, key: &Key) -> Result<()> {
        if let Some(file) = self.open.remove(key) {
            self.done.push(file.close().await?);
        }
        Ok(())
    }

    async fn close_all(&mut self) -> Result<()> {
        for (_, file) in self.open.drain() {
            self.done.push(file.close().await?);
        }
        self.reservation.free();
        Ok(())
    }

    /// Books the memory of the open files, and ends row groups until it is within bounds.
    async fn account(&mut self) -> Result<()> {
        loop {
            let buffered: usize = self.open.values().map(OpenFile::buffered_bytes).sum();
            let memory: usize = self.open.values().map(OpenFile::memory_bytes).sum();
            let booked = self.reservation.try_resize(memory);
            if booked.is_ok() && buffered <= BUFFERED_BYTES_MAX {
                return Ok(());
            }
            let largest = self.open.values_mut().max_by_key(|file| file.buffered_bytes());
            match largest.filter(|file| file.buffered_bytes() > 0) {
                Some(file) => file.flush().await?,
                // What is left waits to be uploaded: it goes away by itself.
                None => return booked,
            }
        }
    }

    fn with_keys(&self, batch: &RecordBatch, keys: Vec<ArrayRef>) -> Result<RecordBatch> {
        let fields = batch.schema().fields().iter().map(|field| Field::clone(field)).collect::<Vec<_>>();
        let schema = Schema::new([fields, self.splitter.key_fields()].concat());
        Ok(RecordBatch::try_new(Arc::new(schema), [batch.columns().to_vec(), keys].concat())?)
    }

    fn finish(self) -> Written {
        debug_assert!(self.open.is_empty(), "a write ends when its files are closed");
        Written(self.ledger, self.done)
    }
}

/// Names of a task's files: never the same twice, in any attempt.
struct Names {
    partition: usize,
    attempt: Uuid,
    next: usize,
}

impl Names {
    fn next(&mut self, spec: &WriteSpec, folder: &str) -> String {
        let slash = if folder.is_empty() { "" } else { "/" };
        let location = spec.data_location.trim_end_matches('/');
        let n = self.next;
        self.next += 1;
        format!(
            "{location}/{folder}{slash}{}-{}-{}-{n}.parquet",
            spec.file_prefix, self.partition, self.attempt
        )
    }
}

/// The files a task began; those still listed when it is dropped are deleted.
struct Ledger {
    store: Arc<dyn ObjectStore>,
    paths: Mutex<Vec<Path>>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let paths = std::mem::take(self.paths.get_mut());
        if paths.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        detach(async move {
            for path in paths {
                // Most often it was never finished and is not there.
                if let Err(error) = store.delete(&path).await {
                    tracing::debug!(%path, %error, "data file of a failed write not deleted");
                }
            }
        });
    }
}

/// A stream as a plan's leaf; it can be run once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<stream::BoxStream<'static, Result<RecordBatch>>>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().take().unwrap_or_else(|| {
            stream::once(std::future::ready(Err(exec_datafusion_err!("the rows were read already")))).boxed()
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
