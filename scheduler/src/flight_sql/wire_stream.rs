//! From the engine's batches to Flight messages: cast, cut to size, encode.
//!
//! Batches are cast to exactly the announced schema and cut so that no message passes the
//! target unless one row alone does. Sizes are measured on the rows of a slice, not on the
//! buffers behind it. The schema goes first, so that an empty result has columns. The work runs
//! on the CPU runtime behind a short queue; dropping the stream stops it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tonic::Status;

use super::row_size::batch_bytes;
use super::status;
use crate::error::{Error, ErrorCode, Result};

/// Messages that wait for a slow client, in each stream.
const MESSAGES_QUEUED_MAX: usize = 2;

/// How large messages may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A message is cut to at most so many bytes of rows.
    pub message_bytes: usize,
    /// A single row of more bytes is refused: the client could not take it.
    pub row_bytes: usize,
}

/// Encodes batches as Flight messages of a schema, on the CPU runtime.
pub(super) fn encode(
    cpu: &Handle,
    schema: SchemaRef,
    batches: BoxStream<'static, std::result::Result<RecordBatch, Status>>,
    limits: Limits,
) -> FlightStream {
    let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED_MAX);
    let mut messages = encoder(schema, batches, limits);
    let mut task = JoinSet::new();
    task.spawn_on(
        async move {
            while let Some(message) = messages.next().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        },
        cpu,
    );
    FlightStream { receiver, deadline: None, _task: task }
}

/// The messages of one DoGet. Dropping it stops the query that feeds it.
pub(super) struct FlightStream {
    receiver: mpsc::Receiver<std::result::Result<FlightData, Status>>,
    /// When the client stops waiting; the query stops then too.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Encodes; aborted with the stream.
    _task: JoinSet<()>,
}

impl FlightStream {
    /// The same messages, cut off with an error after some time.
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        self
    }
}

impl Stream for FlightStream {
    type Item = std::result::Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.deadline = None;
            self._task.abort_all();
            self.receiver.close();
            while self.receiver.try_recv().is_ok() {}
            let late = Error::new(ErrorCode::Timeout, "the client's deadline has passed");
            return Poll::Ready(Some(Err(status::status(late))));
        }
        let next = self.receiver.poll_recv(cx);
        if let Poll::Ready(None) = next
            && let Some(Err(failure)) = self._task.try_join_next()
            && failure.is_panic()
        {
            // A panic must not look like the end of the rows.
            return Poll::Ready(Some(Err(status::status(Error::internal("encoding the result failed")))));
        }
        next
    }
}

/// The messages of a schema and its batches, on the caller's thread.
fn encoder(
    schema: SchemaRef,
    batches: BoxStream<'static, std::result::Result<RecordBatch, Status>>,
    limits: Limits,
) -> BoxStream<'static, std::result::Result<FlightData, Status>> {
    let target = Arc::clone(&schema);
    let pieces = batches.flat_map(move |batch| {
        let pieces = match batch {
            Ok(batch) => pieces(&batch, &target, limits).map_err(status::status),
            Err(failure) => Err(failure),
        };
        let pieces: Vec<std::result::Result<RecordBatch, FlightError>> = match pieces {
            Ok(pieces) => pieces.into_iter().map(Ok).collect(),
            Err(failure) => vec![Err(failure.into())],
        };
        stream::iter(pieces)
    });
    FlightDataEncoderBuilder::new()
        // Cutting is done above, by measure; the encoder would go by the average row.
        .with_max_flight_data_size(usize::MAX)
        .with_schema(schema)
        .build(pieces)
        .map(|message| message.map_err(status::from_flight))
        .boxed()
}

/// Casts a batch to a schema and cuts it into pieces that fit a message.
pub(super) fn pieces(batch: &RecordBatch, schema: &SchemaRef, limits: Limits) -> Result<Vec<RecordBatch>> {
    let mut pieces = Vec::new();
    // Before the cast, by the size after it: a dictionary of long texts may grow beyond what
    // the offsets of a plain column can count.
    for part in cut(batch, limits)? {
        let part = cast_batch(&part, schema)?;
        pieces.extend(cut(&part, limits)?.into_iter().map(compact));
    }
    Ok(pieces)
}

fn cut(batch: &RecordBatch, limits: Limits) -> Result<Vec<RecordBatch>> {
    let mut done = Vec::new();
    let mut todo = VecDeque::from([batch.clone()]);
    while let Some(part) = todo.pop_front() {
        let (bytes, rows) = (batch_bytes(&part), part.num_rows());
        if bytes <= limits.message_bytes || rows <= 1 {
            if bytes > limits.row_bytes {
                return Err(row_too_large(bytes, limits.row_bytes));
            }
            done.push(part);
            continue;
        }
        // Even parts by the average row; a part that is still too large is cut again.
        let parts = bytes.div_ceil(limits.message_bytes).clamp(2, rows);
        let step = rows.div_ceil(parts);
        for start in (0..rows).step_by(step).rev() {
            todo.push_front(part.slice(start, step.min(rows - start)));
        }
    }
    Ok(done)
}

fn row_too_large(bytes: usize, limit: usize) -> Error {
    let message = format!("one row takes {bytes} bytes on the wire, the limit is {limit}");
    let hint = format!(
        "if the client takes larger messages (ADBC: adbc.flight.sql.client_option.with_max_msg_size), \
         send their size in the header \"{}\"",
        tarn_wire::header::MESSAGE_BYTES_MAX
    );
    Error::new(ErrorCode::LimitExceeded, message).with_hint(hint)
}

fn cast_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "the engine returned {} columns, {} were announced",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast_array(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Casts without loss, or fails: a value is never silently replaced by null.
pub(super) fn cast_array(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    Ok(cast_with_options(array, data_type, &options)?)
}

/// Copies what a slice of a view column refers to: the writer sends whole view buffers.
fn compact(batch: RecordBatch) -> RecordBatch {
    let is_view = |array: &ArrayRef| matches!(array.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(is_view) {
        return batch;
    }
    let (schema, columns, rows) = batch.into_parts();
    let columns = columns
        .into_iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
            _ => column,
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .expect("copying the views of a batch changes neither types nor lengths")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use datafusion::arrow::array::{
        DictionaryArray, Float32Array, Int32Array, ListArray, RunArray, StringArray, StringViewArray,
        StructArray,
    };
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::{Field, Int32Type, Schema};

    use super::super::wire_types::{Profile, wire_schema};
    use super::*;

    const LIMITS: Limits = Limits { message_bytes: 10_000, row_bytes: 50_000 };

    #[test]
    fn nested_and_encoded_columns_arrive_in_plain_types() {
        let dictionary: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        let runs =
            RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["x", "y"]))
                .unwrap();
        let views = Arc::new(StringViewArray::from(vec!["p", "a text longer than twelve", "q"]));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([1, 0, 2]), views, None);
        let half = cast_array(&(Arc::new(Float32Array::from(vec![0.5; 3])) as ArrayRef), &DataType::Float16)
            .unwrap();
        let inner = Arc::new(Field::new("h", DataType::Float16, false));
        let structs = StructArray::from(vec![(inner, half)]);
        let batch = RecordBatch::try_from_iter([
            ("d", Arc::new(dictionary) as ArrayRef),
            ("r", Arc::new(runs)),
            ("l", Arc::new(list)),
            ("s", Arc::new(structs)),
        ])
        .unwrap();
        let schema = wire_schema(&batch.schema(), Profile::Compat);
        let sent = pieces(&batch, &schema, LIMITS).unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].schema(), schema);
        assert_eq!(texts(sent[0].column(0)), ["a", "b", "a"]);
        assert_eq!(texts(sent[0].column(1)), ["x", "x", "y"]);
        assert_eq!(
            texts(sent[0].column(2).as_list::<i32>().values()),
            ["p", "a text longer than twelve", "q"]
        );
    }

    #[test]
    fn a_batch_with_uneven_rows_is_cut_by_measure_and_loses_nothing() {
        let wide = "w".repeat(9_000);
        let rows: Vec<String> =
            (0..500).map(|i| if i % 97 == 0 { format!("{i}{wide}") } else { i.to_string() }).collect();
        let batch =
            RecordBatch::try_from_iter([("c", Arc::new(StringArray::from(rows.clone())) as ArrayRef)])
                .unwrap()
                .slice(3, 490);
        let schema = wire_schema(&batch.schema(), Profile::Compat);
        let sent = pieces(&batch, &schema, LIMITS).unwrap();
        assert!(sent.iter().all(|piece| batch_bytes(piece) <= LIMITS.message_bytes || piece.num_rows() == 1));
        let received: Vec<String> = sent.iter().flat_map(|piece| texts(piece.column(0))).collect();
        assert_eq!(received, rows[3..493]);
    }

    #[test]
    fn a_dictionary_is_cut_by_its_hydrated_size() {
        let long = "v".repeat(1_000);
        let dictionary: DictionaryArray<Int32Type> = std::iter::repeat_n(long.as_str(), 200).collect();
        let batch = RecordBatch::try_from_iter([("d", Arc::new(dictionary) as ArrayRef)]).unwrap();
        let schema = wire_schema(&batch.schema(), Profile::Compat);
        let sent = pieces(&batch, &schema, LIMITS).unwrap();
        assert!(sent.len() >= 20, "{}", sent.len());
        assert_eq!(sent.iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
    }

    #[test]
    fn a_row_beyond_the_limit_is_a_clear_error() {
        let batch = one_text_column(&["x".repeat(60_000).as_str()]);
        let schema = wire_schema(&batch.schema(), Profile::Compat);
        let failure = pieces(&batch, &schema, LIMITS).unwrap_err();
        assert_eq!(failure.code(), ErrorCode::LimitExceeded);
        assert!(failure.hint().unwrap().contains("with_max_msg_size"));
    }

    #[tokio::test]
    async fn an_empty_result_sends_its_schema_and_a_batch_without_columns_its_rows() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        let sent = messages(Arc::clone(&schema), vec![]).await;
        assert_eq!(sent.len(), 1);
        assert_eq!(Schema::try_from(&sent[0]).unwrap(), *schema);

        let none = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&none), vec![], &options).unwrap();
        assert_eq!(messages(none, vec![Ok(batch)]).await.len(), 2);
    }

    #[tokio::test]
    async fn the_bytes_sent_stay_near_the_target_for_sliced_views() {
        let texts: Vec<String> = (0..4_000).map(|i| format!("a text longer than twelve bytes {i}")).collect();
        let batch = one_text_column(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let views =
            RecordBatch::try_from_iter([("c", cast_array(batch.column(0), &DataType::Utf8View).unwrap())])
                .unwrap();
        let schema = wire_schema(&views.schema(), Profile::Native);
        let sent = messages(schema, vec![Ok(views)]).await;
        assert!(sent.iter().all(|message| message.data_body.len() < 2 * LIMITS.message_bytes));
    }

    #[tokio::test]
    async fn an_error_after_rows_ends_the_stream_with_its_status() {
        let batch = one_text_column(&["a"]);
        let batches = vec![Ok(batch.clone()), Err(status::not_found("gone")), Ok(batch.clone())];
        let stream = stream::iter(batches).boxed();
        let received: Vec<_> = encode(&Handle::current(), batch.schema(), stream, LIMITS).collect().await;
        let codes: HashSet<_> =
            received.iter().filter_map(|message| message.as_ref().err()).map(Status::code).collect();
        assert_eq!(received.len(), 3);
        assert_eq!(codes, HashSet::from([tonic::Code::NotFound]));
    }

    #[tokio::test]
    async fn a_deadline_ends_a_silent_stream() {
        let schema = Arc::new(Schema::empty());
        let silent = stream::pending().boxed();
        let stream = encode(&Handle::current(), schema, silent, LIMITS);
        let received: Vec<_> = stream.with_timeout(Some(Duration::from_millis(5))).collect().await;
        assert_eq!(received.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }

    async fn messages(
        schema: SchemaRef,
        batches: Vec<std::result::Result<RecordBatch, Status>>,
    ) -> Vec<FlightData> {
        let stream = encode(&Handle::current(), schema, stream::iter(batches).boxed(), LIMITS);
        stream.map(std::result::Result::unwrap).collect().await
    }

    fn one_text_column(texts: &[&str]) -> RecordBatch {
        let column = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([("c", column)]).unwrap()
    }

    fn texts(array: &ArrayRef) -> Vec<String> {
        array.as_string::<i32>().iter().map(|text| text.unwrap().to_string()).collect()
    }
}
