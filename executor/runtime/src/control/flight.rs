//! Rows of a run as messages and back.
//!
//! Batches are cut to messages of about two megabytes, uncompressed: both ends are near each other. Messages
//! are counted, and only the end mark with the number of rows makes the stream complete.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::Failure;
use super::messages::{End, RunReply};

/// Bytes of one message, about.
const MESSAGE_BYTES: usize = 2 << 20;
/// Messages that may wait for the network.
const MESSAGES_WAITING_MAX: usize = 4;

/// Messages as a server sends them.
pub(super) type Replies = Pin<Box<dyn Stream<Item = Result<RunReply, Status>> + Send>>;

/// Encodes on `cpu`; dropping the messages drops the rows.
pub(super) fn encode(cpu: &Handle, rows: SendableRecordBatchStream) -> Replies {
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    let task = AbortOnDropHandle::new(cpu.spawn(async move {
        if let Err(error) = send(rows, &sender).await {
            let failure = Failure::find(&error).unwrap_or_else(|| Failure::internal(error.to_string()));
            // The reader may be gone, which is then no error.
            let _ = sender.send(Err(failure.into())).await;
        }
    }));
    Box::pin(ReceiverStream::new(receiver).map(move |item| {
        let _ = &task;
        item
    }))
}

async fn send(
    rows: SendableRecordBatchStream,
    sender: &mpsc::Sender<std::result::Result<RunReply, Status>>,
) -> Result<()> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let schema = rows.schema();
    let rows = rows.map_err(|error| FlightError::ExternalError(Box::new(error))).inspect_ok(move |batch| {
        counted.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    });
    let mut messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MESSAGE_BYTES)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(rows);
    let mut sequence = 0;
    loop {
        let message = tokio::select! {
            biased;
            () = sender.closed() => return Ok(()),
            message = messages.next() => message,
        };
        let Some(message) = message.transpose().map_err(datafusion_error)? else { break };
        let reply = RunReply { sequence, flight: Some(message), end: None };
        if sender.send(Ok(reply)).await.is_err() {
            return Ok(());
        }
        sequence += 1;
    }
    let end = End { rows: count.load(Ordering::Relaxed) };
    let _ = sender.send(Ok(RunReply { sequence, flight: None, end: Some(end) })).await;
    Ok(())
}

/// Decodes a run's messages into rows of `schema`.
pub(super) fn decode(
    schema: SchemaRef,
    replies: impl Stream<Item = Result<RunReply, Status>> + Send + 'static,
) -> SendableRecordBatchStream {
    let expected = Arc::new(AtomicU64::new(0));
    let messages = checked(replies.boxed(), Arc::clone(&expected));
    let batches = FlightRecordBatchStream::new_from_flight_data(messages);
    let rows =
        futures::stream::try_unfold((batches, 0u64), move |(mut batches, seen)| {
            let expected = Arc::clone(&expected);
            async move {
                match batches.try_next().await.map_err(datafusion_error)? {
                    Some(batch) => {
                        let seen = seen + batch.num_rows() as u64;
                        Ok(Some((batch, (batches, seen))))
                    }
                    None if seen == expected.load(Ordering::Relaxed) => Ok(None),
                    None => Err(Failure::executor_lost("rows were lost on the way from the executor")
                        .into_datafusion()),
                }
            }
        });
    let target = Arc::clone(&schema);
    let rows = rows.and_then(move |batch: RecordBatch| futures::future::ready(with_schema(batch, &target)));
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The Flight messages of a run, whose order, completeness and end are checked. The number of rows that the
/// end mark tells is left in `expected`.
fn checked(
    replies: Pin<Box<dyn Stream<Item = Result<RunReply, Status>> + Send>>,
    expected: Arc<AtomicU64>,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send {
    struct State {
        replies: Pin<Box<dyn Stream<Item = Result<RunReply, Status>> + Send>>,
        next: u64,
    }
    let state = State { replies, next: 0 };
    futures::stream::try_unfold(state, move |mut state| {
        let expected = Arc::clone(&expected);
        async move {
            let Some(reply) = state.replies.try_next().await? else {
                return Err(lost("the rows ended without their end mark"));
            };
            if reply.sequence != state.next {
                return Err(lost("a message of rows was lost"));
            }
            state.next += 1;
            match (reply.flight, reply.end) {
                (Some(flight), None) => Ok(Some((flight, state))),
                (None, Some(end)) => {
                    expected.store(end.rows, Ordering::Relaxed);
                    Ok(None)
                }
                _ => Err(lost("a message of rows is empty")),
            }
        }
    })
}

fn lost(message: &str) -> FlightError {
    FlightError::from(Status::from(Failure::executor_lost(message)))
}

/// Keeps a failure's code, whichever way it came.
fn datafusion_error(error: FlightError) -> DataFusionError {
    match error {
        FlightError::Tonic(status) => Failure::from(*status).into_datafusion(),
        FlightError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(error) => *error,
            Err(inner) => DataFusionError::External(inner),
        },
        other => DataFusionError::External(Box::new(other)),
    }
}

/// The same columns under the plan's own schema: field metadata may differ on the way, types may not.
fn with_schema(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringViewArray};
    use arrow::datatypes::Int32Type;

    #[tokio::test]
    async fn rows_cross_whole() {
        let batch = batch();
        let rows = stream(vec![Ok(batch.clone()), Ok(batch.slice(0, 0)), Ok(batch.slice(1, 2))]);
        let crossed: Vec<_> =
            decode(batch.schema(), encode(&Handle::current(), rows)).try_collect().await.unwrap();
        let crossed = arrow::compute::concat_batches(&batch.schema(), &crossed).unwrap();
        assert_eq!(
            crossed,
            arrow::compute::concat_batches(&batch.schema(), [&batch, &batch.slice(1, 2)]).unwrap()
        );
    }

    #[tokio::test]
    async fn failure_keeps_its_code() {
        let rows = stream(vec![Ok(batch()), Err(Failure::new("storage_error", "gone").into_datafusion())]);
        let result: Result<Vec<_>> =
            decode(batch().schema(), encode(&Handle::current(), rows)).try_collect().await;
        assert_eq!(Failure::find(&result.unwrap_err()).unwrap(), Failure::new("storage_error", "gone"));
    }

    #[tokio::test]
    async fn missing_end_or_message_is_an_error() {
        let whole: Vec<_> =
            encode(&Handle::current(), stream(vec![Ok(batch()), Ok(batch())])).collect().await;
        for drop in [whole.len() - 1, whole.len() - 2, 1] {
            let mut cut: Vec<_> = whole.iter().map(|reply| Ok(reply.as_ref().unwrap().clone())).collect();
            let _ = cut.remove(drop);
            let result: Result<Vec<_>> =
                decode(batch().schema(), futures::stream::iter(cut)).try_collect().await;
            assert_eq!(Failure::find(&result.unwrap_err()).unwrap().code(), "executor_lost");
        }
    }

    fn batch() -> RecordBatch {
        let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
            ("s", Arc::new(StringViewArray::from(vec!["x", "a longer text than twelve", "z"]))),
            ("d", Arc::new(names)),
        ])
        .unwrap()
    }

    fn stream(batches: Vec<Result<RecordBatch>>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(batch().schema(), futures::stream::iter(batches)))
    }
}
