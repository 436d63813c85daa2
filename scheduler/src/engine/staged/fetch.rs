//! The rows of a finished job, read from the executors that hold them.
//!
//! Files are taken as blocks, undecoded by the executor, in the order of their partitions;
//! a bounded number is read ahead, each into a bounded queue. A connection serves one
//! reader at a time, so that a slow client cannot hold up another's rows, and is kept for
//! the next. Each file must deliver the rows its writer counted: fewer is an error, never a
//! short result.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::client::BallistaClient;
use ballista_core::error::BallistaError;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::lineage::Piece;
use super::settings::MESSAGE_BYTES_MAX;
use crate::error::{Error, ErrorCode, Result};

/// Batches that wait, decoded, for the reader of one file.
const BATCHES_AHEAD: usize = 4;
/// An executor that does not answer within this time counts as lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts to open one file.
const OPEN_ATTEMPTS: u8 = 3;
const OPEN_PAUSE_MS: u64 = 150;
/// Flow-control windows of a connection and of one file on it.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Idle connections are closed after this time.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Idle connections kept for one executor.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Connections by host and port, with the time since when each is idle.
type IdleClients = HashMap<(String, u16), VecDeque<(Instant, BallistaClient)>>;

/// Connections to executors, kept while idle.
#[derive(Clone, Default)]
pub(super) struct Clients {
    /// By host and port, the longest idle first.
    idle: Arc<Mutex<IdleClients>>,
}

impl Clients {
    async fn take(&self, host: &str, port: u16) -> Result<BallistaClient, BallistaError> {
        let kept = self.idle.lock().get_mut(&(host.to_string(), port)).and_then(VecDeque::pop_back);
        if let Some((_, client)) = kept {
            return Ok(client);
        }
        let connecting = BallistaClient::try_new(
            host,
            port,
            MESSAGE_BYTES_MAX,
            false,
            None,
            OPEN_ATTEMPTS,
            OPEN_PAUSE_MS,
            CONNECTION_WINDOW_BYTES,
            STREAM_WINDOW_BYTES,
        );
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(BallistaError::GrpcConnectionError("connecting took too long".to_string())),
        }
    }

    fn give_back(&self, host: &str, port: u16, client: BallistaClient) {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|_, kept| {
            while kept.front().is_some_and(|(since, _)| now.duration_since(*since) > IDLE_MAX) {
                kept.pop_front();
            }
            !kept.is_empty()
        });
        let kept = idle.entry((host.to_string(), port)).or_default();
        if kept.len() < IDLE_CONNECTIONS_MAX {
            kept.push_back((now, client));
        }
    }
}

/// Reads files in order, some ahead.
pub(super) struct Fetch {
    clients: Clients,
    schema: SchemaRef,
    waiting: VecDeque<Piece>,
    reading: VecDeque<mpsc::Receiver<Result<RecordBatch>>>,
    ahead: usize,
    /// The readers; they stop when this is dropped.
    tasks: JoinSet<()>,
}

impl Fetch {
    /// Will read `pieces` in their order, `ahead` at a time, as batches of `schema`.
    pub(super) fn new(clients: Clients, pieces: Vec<Piece>, schema: SchemaRef, ahead: usize) -> Self {
        Self {
            clients,
            schema,
            waiting: pieces.into(),
            reading: VecDeque::new(),
            ahead: ahead.max(1),
            tasks: JoinSet::new(),
        }
    }

    /// The next batch, or none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            self.start_readers();
            let front = self.reading.front_mut()?;
            match front.recv().await {
                Some(item) => return Some(item),
                None => {
                    self.reading.pop_front();
                    while let Some(ended) = self.tasks.try_join_next() {
                        if let Err(error) = ended {
                            return Some(
                                Err(Error::internal("a reader of results ended").with_source(error)),
                            );
                        }
                    }
                }
            }
        }
    }

    fn start_readers(&mut self) {
        while self.reading.len() < self.ahead
            && let Some(piece) = self.waiting.pop_front()
        {
            let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
            let (clients, schema) = (self.clients.clone(), Arc::clone(&self.schema));
            self.tasks.spawn(async move {
                if let Err(error) = read(&clients, &piece, &schema, &sender).await {
                    // Whoever asked is gone if this fails.
                    let _ = sender.send(Err(error)).await;
                }
            });
            self.reading.push_back(receiver);
        }
    }
}

async fn read(
    clients: &Clients,
    Piece { location, rows: written }: &Piece,
    schema: &SchemaRef,
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let executor = &location.executor_meta;
    let lost = |error: BallistaError| {
        Error::new(
            ErrorCode::ExecutorLost,
            format!("executor {} was lost with a part of the result", executor.id),
        )
        .with_source(error)
    };
    let mut client = clients.take(&executor.host, executor.port).await.map_err(lost)?;
    let mut batches = client
        .fetch_partition(&executor.id, &location.partition_id, location.file_id, location.layout(), false)
        .await
        .map_err(lost)?
        .map_err(BallistaError::from)
        .map_err(lost);
    let mut rows = 0u64;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        if sender.send(Ok(with_schema(batch, schema)?)).await.is_err() {
            // The connection still carries the rest and is not given back.
            return Ok(());
        }
    }
    drop(batches);
    if rows != *written {
        return Err(lost(BallistaError::General(format!("{rows} of {written} rows arrived"))));
    }
    clients.give_back(&executor.host, executor.port, client);
    Ok(())
}

/// The same columns under the plan's schema: files carry their writer's metadata and
/// nullability.
fn with_schema(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|error| Error::internal("a result file has another schema than its plan").with_source(error))
}
