//! A plan runs on the CPU runtime and its batches are read elsewhere.
//!
//! Between the two is a channel of a few batches: a slow reader stops the plan, a reader that is gone
//! ends it. A panic of the plan becomes an error of the stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches that may wait between the plan and its reader.
const BATCHES_WAITING_MAX: usize = 2;

/// Executes all partitions of `plan` on `cpu`.
pub(crate) fn run(
    cpu: &Handle,
    plan: Arc<dyn ExecutionPlan>,
    ctx: Arc<TaskContext>,
) -> SendableRecordBatchStream {
    let schema = plan.schema();
    spawn(cpu, schema, move || execute_stream(plan, ctx))
}

/// Makes a stream on `cpu`, polls it there and hands its batches over.
pub(crate) fn spawn(
    cpu: &Handle,
    schema: SchemaRef,
    make: impl FnOnce() -> Result<SendableRecordBatchStream> + Send + 'static,
) -> SendableRecordBatchStream {
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    let task = cpu.spawn(async move {
        let mut stream = make()?;
        loop {
            let item = tokio::select! {
                biased;
                () = sender.closed() => return Ok(()),
                item = stream.next() => item,
            };
            match item {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(batch)) => {
                    if sender.send(batch).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    });
    Box::pin(Handover { schema, receiver, task: Some(task) })
}

/// The reader's end.
struct Handover {
    schema: SchemaRef,
    receiver: mpsc::Receiver<RecordBatch>,
    /// The task that polls the plan, until its end was seen.
    task: Option<JoinHandle<Result<()>>>,
}

impl Stream for Handover {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = std::task::ready!(self.receiver.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(batch)));
        }
        // The channel is empty and closed: only the task knows whether that was the end.
        let Some(task) = self.task.as_mut() else { return Poll::Ready(None) };
        let ended = std::task::ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(error) if error.is_panic() => Some(Err(DataFusionError::Internal(format!(
                "a task panicked: {}",
                panic_message(error.into_panic().as_ref())
            )))),
            Err(_) => Some(Err(DataFusionError::Execution("the task was stopped".to_string()))),
        })
    }
}

impl RecordBatchStream for Handover {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
