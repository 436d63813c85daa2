//! One query on its way through the engine: submit, wait, read; once more if an executor
//! was lost before the first row left.
//!
//! The run is a task of the engine that feeds a bounded channel. It ends when its rows are
//! read, when the reader is gone or when the query's token is cancelled; whichever it is,
//! the job goes with it.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use tarn_runtime::options::TarnOptions;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use super::Inner;
use super::failure::Failure;
use super::fetch::Fetch;
use super::submit::Job;
use crate::engine::Execution;
use crate::error::{Error, ErrorCode};

/// Batches between the run and its reader.
const BATCHES_AHEAD: usize = 2;
/// Times that a query is run at most.
const ATTEMPTS_MAX: usize = 2;

type Item = Result<RecordBatch, DataFusionError>;

/// Starts the run; its rows come out of the stream.
pub(super) fn start(inner: &Arc<Inner>, execution: Execution) -> SendableRecordBatchStream {
    let schema = execution.plan.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    inner.tracker.spawn(run(Arc::clone(inner), execution, sender));
    Box::pin(RecordBatchStreamAdapter::new(schema, ReceiverStream::new(receiver)))
}

async fn run(inner: Arc<Inner>, execution: Execution, sender: mpsc::Sender<Item>) {
    let outcome = tokio::select! {
        outcome = attempts(&inner, &execution, &sender) => outcome,
        // The reader is gone, and nobody is left to tell.
        () = sender.closed() => return,
        () = execution.token.cancelled() => {
            Err(Error::new(ErrorCode::Cancelled, "the query was cancelled"))
        }
        () = inner.stop.cancelled() => {
            Err(Error::new(ErrorCode::ShuttingDown, "the server is stopping"))
        }
    };
    if let Err(error) = outcome {
        let error = error.with_query(&execution.query_id).into_datafusion();
        // The same: whoever does not listen any more is not told.
        let _ = sender.send(Err(error)).await;
    }
}

async fn attempts(
    inner: &Arc<Inner>,
    execution: &Execution,
    sender: &mpsc::Sender<Item>,
) -> Result<(), Error> {
    let mut released = false;
    for number in 1.. {
        match attempt(inner, execution, number, sender, &mut released).await {
            Ok(()) => return Ok(()),
            Err(Failure { error, passing: true }) if !released && number < ATTEMPTS_MAX => {
                warn!(query_id = %execution.query_id, number, %error, "staged query runs again");
            }
            Err(Failure { error, .. }) => return Err(error),
        }
    }
    unreachable!("the last attempt returns")
}

async fn attempt(
    inner: &Arc<Inner>,
    execution: &Execution,
    number: usize,
    sender: &mpsc::Sender<Item>,
    released: &mut bool,
) -> Result<(), Failure> {
    let patience = Duration::from_secs(inner.config.executors_wait_seconds);
    if !inner.cluster.wait_for_one(patience).await {
        return Err(Failure::lasting(
            Error::new(ErrorCode::NoExecutors, "no executor is available for staged execution")
                .with_hint("start one with `tarn executor`"),
        ));
    }
    let mut config = execution.config.clone();
    let mut options = TarnOptions::of(&config);
    if options.run_id.is_empty() {
        options.run_id = execution.query_id.to_string();
    }
    // Executors must not take what was cancelled with one attempt for the next.
    options.run_id = format!("{}.{number}", options.run_id);
    options.query_id = execution.query_id.to_string();
    options.apply(&mut config);

    let name = execution.query_id.as_str();
    let mut job = Job::submit(inner, name, Arc::clone(&execution.plan), config).await?;
    let pieces = job.finished().await?;
    info!(query_id = name, number, pieces = pieces.len(), "staged query ran");
    let schema: SchemaRef = execution.plan.schema();
    let mut rows = Fetch::new(inner.clients.clone(), pieces, schema, inner.config.prefetch_partitions);
    while let Some(batch) = rows.next().await {
        let batch =
            batch.map_err(|error| Failure { passing: error.code() == ErrorCode::ExecutorLost, error })?;
        *released = true;
        if sender.send(Ok(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}
