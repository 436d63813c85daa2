//! A bounded spool between the engine and the reader: memory, then disk.
//!
//! The engine writes as fast as it can; the reader takes batches when it wants. Up to
//! `memory_bytes_max` wait in memory; while the reader stalls, more go to one temporary file up
//! to `disk_bytes_max`; then the engine is slowed down. Nothing reaches the reader before
//! `release_bytes`, or `release_delay` after the first batch, or the end: until then a run that
//! fails of a lost executor, or of memory, is thrown away and begun again. The rule: rows leave in the order
//! in which they came, each once, and an error is never an early end.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::attempt::may_help;
use super::entry::over;
use super::register::{Entry, Register};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;

/// How often a query is run in all, as long as its reader has no row.
const ATTEMPTS_MAX: usize = 3;
/// The reader counts as stalled when it took nothing for so long; then rows go to disk.
const STALL: Duration = Duration::from_millis(100);

/// The bounds of one spool.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes that wait in memory.
    pub memory_bytes_max: usize,
    /// Bytes that wait on disk.
    pub disk_bytes_max: u64,
    /// Bytes after which rows are released to the reader.
    pub release_bytes: usize,
    /// Time after the first batch when rows are released to the reader.
    pub release_delay: Duration,
    /// A reader that takes nothing for so long, while the spool is full, has gone.
    pub idle_timeout: Duration,
    /// Folder of the temporary files.
    pub dir: PathBuf,
}

/// Which run of a query it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// 1 is the first.
    pub number: usize,
    /// How many earlier ones ran out of memory.
    pub out_of_memory: usize,
}

/// Begins one run of the query; called again when a run is thrown away.
pub type Start = Box<dyn Fn(Attempt) -> BoxFuture<'static, Result<SendableRecordBatchStream>> + Send + Sync>;

/// Runs a query into a spool and returns the reader's end. Dropping it stops the query. With `may_spill` a run that is
/// out of memory is begun again, twice at most.
#[expect(clippy::too_many_arguments, reason = "each is one end of the spool")]
pub fn run(
    schema: SchemaRef,
    start: Start,
    may_spill: bool,
    entry: Arc<Entry>,
    register: Register,
    deadline: Option<Instant>,
    config: Config,
    tasks: &TaskTracker,
) -> SendableRecordBatchStream {
    let spool = Arc::new(Spool {
        config,
        state: Mutex::new(State::default()),
        readable: Notify::new(),
        writable: Notify::new(),
    });
    tasks.spawn(fill(Arc::clone(&spool), start, may_spill, Arc::clone(&entry), deadline));
    let reader = Reader { spool, entry, register, ended: false };
    let batches = futures::stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((next.map_err(Error::into_datafusion), reader))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Spool {
    config: Config,
    /// What waits between writer and reader.
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    memory_bytes: usize,
    /// Bytes received in this run, for the release rule.
    received_bytes: usize,
    first_at: Option<Instant>,
    released: bool,
    taken_at: Option<Instant>,
    file: Option<Arc<File>>,
    file_end: u64,
    file_items: usize,
    finished: Option<Result<()>>,
    reader_gone: bool,
}

enum Item {
    Memory { batch: RecordBatch, bytes: usize },
    Disk { offset: u64, bytes: usize },
}

enum Next {
    Batch(RecordBatch),
    OnDisk {
        file: Arc<File>,
        offset: u64,
        bytes: usize,
    },
    End(Result<()>),
    /// Nothing yet; look again at this time at the latest.
    Wait(Option<Instant>),
}

async fn fill(
    spool: Arc<Spool>,
    start: Start,
    may_spill: bool,
    entry: Arc<Entry>,
    deadline: Option<Instant>,
) {
    let deadline = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut attempt = Attempt { number: 1, out_of_memory: 0 };
    let outcome = loop {
        let result = tokio::select! {
            biased;
            () = entry.token().cancelled() => Err(entry.stopped()),
            () = &mut deadline => {
                entry.stop(ErrorCode::Timeout, "the query passed its deadline (setting query_timeout)");
                Err(entry.stopped())
            }
            result = run_once(&spool, &start, attempt, entry.limits().result_rows) => result,
        };
        match result {
            Err(error)
                if may_help(error.code(), may_spill, attempt.out_of_memory)
                    && attempt.number < ATTEMPTS_MAX
                    && spool.discard() =>
            {
                tracing::warn!(query_id = %entry.id(), attempt = attempt.number, %error, "run failed, running again");
                metrics::query_retried();
                attempt.number += 1;
                attempt.out_of_memory += usize::from(error.code() == ErrorCode::OutOfMemory);
            }
            Err(_) if entry.token().is_cancelled() => break Err(entry.stopped()),
            other => break other,
        }
    };
    spool.finish(outcome);
}

async fn run_once(spool: &Spool, start: &Start, attempt: Attempt, rows_max: Option<u64>) -> Result<()> {
    let (mut stream, mut rows) = (start(attempt).await?, 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        if let Some(limit) = rows_max.filter(|limit| rows > *limit) {
            return Err(Error::new(ErrorCode::LimitExceeded, over("result_rows_max", rows, limit)));
        }
        if batch.num_rows() > 0 {
            spool.push(batch).await?;
        }
    }
    Ok(())
}

impl Spool {
    async fn push(&self, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        let began = Instant::now();
        loop {
            let writable = self.writable.notified();
            let stalled = {
                let mut state = self.state();
                if state.reader_gone {
                    return Err(Error::new(ErrorCode::Cancelled, "the reader has gone"));
                }
                if state.memory_bytes + bytes <= self.config.memory_bytes_max || state.queue.is_empty() {
                    state.received(bytes);
                    state.memory_bytes += bytes;
                    state.queue.push_back(Item::Memory { batch, bytes });
                    drop(state);
                    self.readable.notify_one();
                    return Ok(());
                }
                let idle_since = state.taken_at.map_or(began, |taken| taken.max(began));
                if idle_since.elapsed() > self.config.idle_timeout {
                    return Err(Error::new(ErrorCode::Timeout, "the reader took no rows for too long"));
                }
                idle_since.elapsed() >= STALL && state.file_end + bytes as u64 <= self.config.disk_bytes_max
            };
            if stalled {
                return self.push_to_disk(batch).await;
            }
            // A missed wake-up costs one stall, not the query.
            let _ = tokio::time::timeout(STALL, writable).await;
        }
    }

    async fn push_to_disk(&self, batch: RecordBatch) -> Result<()> {
        let memory = batch.get_array_memory_size();
        let file = self.file()?;
        let offset = self.state().file_end;
        let bytes = blocking(move || {
            let encoded = encode(&compact(&batch)?)?;
            file.write_all_at(&encoded, offset).map_err(disk_error)?;
            Ok(encoded.len())
        })
        .await?;
        let mut state = self.state();
        state.received(memory);
        state.file_end = offset + bytes as u64;
        state.file_items += 1;
        state.queue.push_back(Item::Disk { offset, bytes });
        drop(state);
        metrics::spool_disk_bytes(bytes);
        self.readable.notify_one();
        Ok(())
    }

    fn file(&self) -> Result<Arc<File>> {
        let mut state = self.state();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        std::fs::create_dir_all(&self.config.dir).map_err(disk_error)?;
        let file = Arc::new(tempfile::tempfile_in(&self.config.dir).map_err(disk_error)?);
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn take(&self) -> Next {
        let mut state = self.state();
        if !state.released && state.finished.is_none() {
            let Some(first_at) = state.first_at else { return Next::Wait(None) };
            let release_at = first_at + self.config.release_delay;
            if state.received_bytes < self.config.release_bytes && Instant::now() < release_at {
                return Next::Wait(Some(release_at));
            }
        }
        match state.queue.pop_front() {
            Some(item) => {
                state.released = true;
                state.taken_at = Some(Instant::now());
                match item {
                    Item::Memory { batch, bytes } => {
                        state.memory_bytes -= bytes;
                        Next::Batch(batch)
                    }
                    Item::Disk { offset, bytes } => {
                        let file = state.file.clone().expect("an item on disk has a file");
                        Next::OnDisk { file, offset, bytes }
                    }
                }
            }
            None => match state.finished.take() {
                // The end is kept for a reader that asks again.
                Some(end) => {
                    state.finished = Some(Ok(()));
                    Next::End(end)
                }
                None => Next::Wait(None),
            },
        }
    }

    /// A region of the file was read; once all are, its space is used again.
    fn region_read(&self) {
        let mut state = self.state();
        state.file_items -= 1;
        if state.file_items == 0 {
            state.file_end = 0;
        }
    }

    /// Throws away what a failed run left; false if the reader has rows of it.
    fn discard(&self) -> bool {
        let mut state = self.state();
        if state.released || state.reader_gone {
            return false;
        }
        *state = State { file: state.file.take(), ..State::default() };
        true
    }

    fn finish(&self, outcome: Result<()>) {
        self.state().finished = Some(outcome);
        self.readable.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes;
        self.first_at.get_or_insert_with(Instant::now);
    }
}

struct Reader {
    spool: Arc<Spool>,
    entry: Arc<Entry>,
    register: Register,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.ended {
            return None;
        }
        loop {
            let spool = Arc::clone(&self.spool);
            let readable = spool.readable.notified();
            match spool.take() {
                Next::Batch(batch) => return Some(Ok(self.hand_out(batch))),
                Next::OnDisk { file, offset, bytes } => {
                    let read = blocking(move || {
                        let mut encoded = vec![0; bytes];
                        file.read_exact_at(&mut encoded, offset).map_err(disk_error)?;
                        decode(&encoded)
                    });
                    let read = read.await;
                    self.spool.region_read();
                    return Some(match read {
                        Ok(batch) => Ok(self.hand_out(batch)),
                        Err(error) => Err(self.fail(error)),
                    });
                }
                Next::End(Ok(())) => {
                    self.ended = true;
                    self.register.end(&self.entry, Ok(()));
                    tracing::info!(query_id = %self.entry.id(), rows = self.entry.rows(), "query finished");
                    return None;
                }
                Next::End(Err(error)) => return Some(Err(self.fail(error))),
                Next::Wait(None) => readable.await,
                Next::Wait(Some(until)) => {
                    let _ = tokio::time::timeout_at(until.into(), readable).await;
                }
            }
        }
    }

    fn hand_out(&self, batch: RecordBatch) -> RecordBatch {
        self.spool.writable.notify_one();
        self.entry.add_rows(batch.num_rows());
        metrics::rows_out(batch.num_rows(), batch.get_array_memory_size());
        batch
    }

    fn fail(&mut self, error: Error) -> Error {
        self.ended = true;
        let error = error.with_query(self.entry.id());
        self.entry.set_error(&error);
        self.register.end(&self.entry, Err(error.code()));
        let chain = chain(&error);
        tracing::info!(query_id = %self.entry.id(), code = %error.code(), error = chain, "query failed");
        error
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.spool.state().reader_gone = true;
        self.spool.writable.notify_one();
        if !self.ended {
            self.entry.stop(ErrorCode::Cancelled, "the client went away");
            self.register.end(&self.entry, Err(ErrorCode::Cancelled));
            tracing::info!(query_id = %self.entry.id(), "query cancelled by its client");
        }
        // Whatever still runs for it stops.
        self.entry.token().cancel();
    }
}

/// The whole chain of an error, for the log.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Wrappers often repeat what they wrap.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// View arrays without the bytes that their rows do not use: a slice of a large buffer would
/// be written whole, again and again.
fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
        _ => Arc::clone(column),
    });
    Ok(RecordBatch::try_new(batch.schema(), columns.collect())?)
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

fn decode(encoded: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(encoded, None)?;
    match reader.next() {
        Some(batch) => Ok(batch?),
        None => Err(Error::internal("a spooled batch was empty")),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("the spool's disk work did not end").with_source(error)),
    }
}

fn disk_error(error: std::io::Error) -> Error {
    Error::new(ErrorCode::LimitExceeded, "the result spool could not use its disk").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn config(memory_bytes_max: usize) -> Config {
        Config {
            memory_bytes_max,
            disk_bytes_max: 1 << 30,
            release_bytes: 1 << 20,
            release_delay: Duration::from_millis(50),
            idle_timeout: Duration::from_secs(5),
            dir: std::env::temp_dir(),
        }
    }

    fn batch(from: i64) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(from..from + 100))]).unwrap()
    }

    fn stream(batches: Vec<datafusion::error::Result<RecordBatch>>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), futures::stream::iter(batches)))
    }

    fn start(
        runs: impl Fn(usize) -> Vec<datafusion::error::Result<RecordBatch>> + Send + Sync + 'static,
    ) -> Start {
        Box::new(move |attempt| {
            let stream = stream(runs(attempt.number));
            Box::pin(async move { Ok(stream) })
        })
    }

    fn spooled(start: Start, config: Config) -> (SendableRecordBatchStream, Arc<Entry>, TaskTracker) {
        let register = Register::default();
        let entry = register.enter("ana", "select").unwrap();
        let tasks = TaskTracker::new();
        let stream = run(batch(0).schema(), start, true, Arc::clone(&entry), register, None, config, &tasks);
        (stream, entry, tasks)
    }

    #[tokio::test]
    async fn rows_keep_their_order_through_memory_and_disk() {
        let start = start(|_| (0..50).map(|n| Ok(batch(n * 100))).collect());
        let (mut reader, _, _tasks) = spooled(start, config(2000));
        let first = reader.next().await.unwrap().unwrap();
        assert_eq!(first, batch(0));
        // The reader stalls: the rest goes to disk.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut from = 100;
        while let Some(next) = reader.next().await {
            assert_eq!(next.unwrap(), batch(from));
            from += 100;
        }
        assert_eq!(from, 5000);
    }

    #[tokio::test]
    async fn a_lost_executor_before_the_first_row_is_run_again() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let start = start(move |attempt| {
            counted.fetch_add(1, Ordering::Relaxed);
            let lost = Error::new(ErrorCode::ExecutorLost, "gone").into_datafusion();
            if attempt == 1 { vec![Ok(batch(0)), Err(lost)] } else { vec![Ok(batch(0)), Ok(batch(100))] }
        });
        let (reader, _, _tasks) = spooled(start, config(1 << 20));
        let rows: Vec<_> = reader.collect().await;
        assert_eq!(rows.len(), 2);
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn one_without_memory_is_run_again_twice_at_most() {
        let start: Start = Box::new(|attempt| {
            let poor = Error::new(ErrorCode::OutOfMemory, format!("run {}", attempt.number));
            let rows = stream(vec![Err(poor.into_datafusion())]);
            Box::pin(async move { Ok(rows) })
        });
        let (reader, entry, _tasks) = spooled(start, config(1 << 20));
        let rows: Vec<_> = reader.collect().await;
        assert_eq!(rows.len(), 1);
        let error = rows[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("run 3"), "{error}");
        assert!(entry.token().is_cancelled());
    }

    #[tokio::test]
    async fn an_error_is_never_an_early_end() {
        let start = start(|_| vec![Ok(batch(0)), Err(Error::internal("broken").into_datafusion())]);
        let (reader, entry, _tasks) = spooled(start, config(1 << 20));
        let rows: Vec<_> = reader.collect().await;
        assert!(rows.last().unwrap().is_err());
        assert!(entry.token().is_cancelled());
    }

    #[tokio::test]
    async fn dropping_the_reader_stops_the_query() {
        let start: Start = Box::new(|_| {
            let endless = futures::stream::repeat_with(|| Ok(batch(0)));
            let stream = RecordBatchStreamAdapter::new(batch(0).schema(), endless);
            Box::pin(async move { Ok(Box::pin(stream) as SendableRecordBatchStream) })
        });
        let (reader, entry, tasks) = spooled(start, config(10_000));
        drop(reader);
        assert!(entry.token().is_cancelled());
        tasks.close();
        tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.unwrap();
    }
}
