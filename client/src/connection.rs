//! One session on a Flight SQL server.
//!
//! A statement goes out once, by GetFlightInfo; its rows come by DoGet when they are read. A
//! statement that changes something has run when GetFlightInfo answers. Dropping a
//! [`QueryStream`] resets its stream, and the server stops the work; [`QueryStream::cancel`]
//! says so aloud and waits for the answer. The rule: nothing here collects rows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::{FlightSqlServiceClient, PreparedStatement};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, CommandStatementUpdate,
    DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData, FlightDescriptor,
    FlightInfo,
};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tarn_wire::session::{
    CloseSessionRequest, GetSessionOptionsRequest, GetSessionOptionsResult, OptionValue,
};
use tarn_wire::{action as actions, header};
use tonic::metadata::MetadataMap;

use crate::error::{self, Error, Result};
use crate::wire::{Address, Wire};

/// The largest message we take: a row may be big, a batch is at most some megabytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

type Client = FlightSqlServiceClient<Wire>;

/// One session on a server. Clones share the session.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    wire: Wire,
}

/// What a statement answered with.
pub enum Answer {
    /// Rows, to be read.
    Rows(Box<QueryStream>),
    /// A change, made: the rows affected, `None` where the server does not count.
    Count(Option<i64>),
}

/// A table as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its catalog.
    pub catalog: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `TABLE`, `VIEW` or `SYSTEM TABLE`.
    pub kind: String,
}

impl Connection {
    /// Connects to `grpc://[user:password@]host[:port]`.
    pub async fn connect(url: &str) -> Result<Self> {
        let address = Address::parse(url)?;
        let wire = Wire::connect(url, &address).await?;
        let flight = FlightServiceClient::new(wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut client = Client::new_from_inner(flight);
        if let Some((user, password)) = &address.credentials {
            client.handshake(user, password).await?;
            // The wire has the token by now, and sends it.
            client.clear_token();
        }
        Ok(Self { client, wire })
    }

    /// Connects with a bearer token.
    pub async fn connect_with_token(url: &str, token: &str) -> Result<Self> {
        let connection = Self::connect(url).await?;
        connection.wire.set_bearer(token)?;
        Ok(connection)
    }

    /// Sends a statement that returns rows.
    pub async fn query(&mut self, sql: &str) -> Result<QueryStream> {
        let command = CommandStatementQuery { query: sql.to_string(), transaction_id: None };
        self.query_command(command).await
    }

    /// Sends any statement, and says whether rows come or something was changed.
    pub async fn execute(&mut self, sql: &str) -> Result<Answer> {
        let stream = self.query(sql).await?;
        if !stream.is_count() {
            return Ok(Answer::Rows(Box::new(stream)));
        }
        let announced = stream.info.total_records;
        let count = match stream.try_collect::<Vec<_>>().await?.first() {
            Some(batch) if batch.num_rows() > 0 => count_of(batch.column(0))?,
            _ => None,
        };
        Ok(Answer::Count(count.or((announced >= 0).then_some(announced))))
    }

    /// Runs a statement that changes something; returns the rows affected, -1 when unknown.
    pub async fn update(&mut self, sql: &str) -> Result<i64> {
        let command = CommandStatementUpdate { query: sql.to_string(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let message = FlightData { flight_descriptor: Some(descriptor), ..Default::default() };
        let mut answers = self.client.do_put(stream::iter([message])).await?;
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Error::Protocol("an update was answered with nothing".into()))?;
        Ok(DoPutUpdateResult::decode(answer.app_metadata)?.record_count)
    }

    /// Prepares a statement: nothing runs yet.
    pub async fn prepare(&mut self, sql: &str) -> Result<Prepared> {
        let statement = self.client.prepare(sql.to_string(), None).await?;
        let schema = Arc::new(statement.dataset_schema()?.clone());
        let parameters = Arc::new(statement.parameter_schema()?.clone());
        Ok(Prepared { client: self.client.clone(), statement, schema, parameters })
    }

    /// The catalogs of the server.
    pub async fn catalogs(&mut self) -> Result<Vec<String>> {
        let stream = self.query_command(CommandGetCatalogs {}).await?;
        Ok(texts(stream, ["catalog_name"]).await?.into_iter().map(|[name]| name).collect())
    }

    /// The (catalog, schema) pairs of one catalog, or of all.
    pub async fn schemas(&mut self, catalog: Option<&str>) -> Result<Vec<(String, String)>> {
        let command =
            CommandGetDbSchemas { catalog: catalog.map(str::to_string), db_schema_filter_pattern: None };
        let stream = self.query_command(command).await?;
        let rows = texts(stream, ["catalog_name", "db_schema_name"]).await?;
        Ok(rows.into_iter().map(|[catalog, schema]| (catalog, schema)).collect())
    }

    /// The tables of a catalog (all, if `None`) and a schema pattern (`%`, `_`; all, if `None`).
    pub async fn tables(&mut self, catalog: Option<&str>, schema: Option<&str>) -> Result<Vec<Table>> {
        let command = CommandGetTables {
            catalog: catalog.map(str::to_string),
            db_schema_filter_pattern: schema.map(str::to_string),
            ..Default::default()
        };
        let stream = self.query_command(command).await?;
        let rows = texts(stream, ["catalog_name", "db_schema_name", "table_name", "table_type"]).await?;
        Ok(rows
            .into_iter()
            .map(|[catalog, schema, name, kind]| Table { catalog, schema, name, kind })
            .collect())
    }

    /// The first column of the first row of a query, as text: for `SHOW` and the like.
    pub async fn scalar(&mut self, sql: &str) -> Result<Option<String>> {
        let mut stream = self.query(sql).await?;
        while let Some(batch) = stream.try_next().await? {
            if batch.num_rows() > 0 && batch.num_columns() > 0 {
                return Ok(as_strings(batch.column(0))?.iter().next().flatten().map(str::to_string));
            }
        }
        Ok(None)
    }

    /// The current catalog and schema, where unqualified names resolve.
    pub async fn location(&mut self) -> Result<(String, String)> {
        let body = GetSessionOptionsRequest {}.encode_to_vec();
        let answers = self.action(actions::GET_SESSION_OPTIONS, body).await?;
        let answer = answers.into_iter().next().unwrap_or_default();
        let mut options = GetSessionOptionsResult::decode(answer)?.session_options;
        let mut take = |name| match options.remove(name).and_then(|option| option.option_value) {
            Some(OptionValue::String(value)) => value,
            _ => String::new(),
        };
        Ok((take("catalog"), take("schema")))
    }

    /// Ends the session on the server. Clones can no longer be used.
    pub async fn close(mut self) -> Result<()> {
        self.action(actions::CLOSE_SESSION, CloseSessionRequest {}.encode_to_vec()).await?;
        Ok(())
    }

    /// Runs a Flight action and returns the bodies of its results.
    pub async fn action(&mut self, name: &str, body: Vec<u8>) -> Result<Vec<bytes::Bytes>> {
        action(&mut self.client, name, body).await
    }

    async fn query_command(&mut self, command: impl ProstMessageExt) -> Result<QueryStream> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let response = self.client.inner_mut().get_flight_info(descriptor).await?;
        let (metadata, info, _) = response.into_parts();
        QueryStream::new(self.client.clone(), info, &metadata)
    }
}

/// The rows of one query, read as they come.
pub struct QueryStream {
    client: Client,
    info: FlightInfo,
    schema: SchemaRef,
    query_id: Option<String>,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl QueryStream {
    fn new(client: Client, info: FlightInfo, metadata: &MetadataMap) -> Result<Self> {
        let schema =
            if info.schema.is_empty() { Schema::empty() } else { info.clone().try_decode_schema()? };
        let query_id = error::text(metadata, header::QUERY_ID).or_else(|| {
            let text = std::str::from_utf8(&info.app_metadata).ok()?;
            (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_string())
        });
        let tickets: Vec<_> = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
        // One endpoint after another, each opened when the one before is read.
        let reader = client.clone();
        let batches = stream::iter(tickets)
            .then(move |ticket| {
                let mut reader = reader.clone();
                async move {
                    let batches = reader.do_get(ticket).await?;
                    Ok::<_, Error>(batches.map_err(Error::from))
                }
            })
            .try_flatten()
            .boxed();
        Ok(Self { client, info, schema: Arc::new(schema), query_id, batches })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The server's name for this query.
    pub fn query_id(&self) -> Option<&str> {
        self.query_id.as_deref()
    }

    /// Number of rows, where the server knows it beforehand.
    pub fn total_rows(&self) -> Option<i64> {
        (self.info.total_records >= 0).then_some(self.info.total_records)
    }

    /// A handle that cancels this query while the stream is read elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller { client: self.client.clone(), info: self.info.clone() }
    }

    /// Ends the stream and has the server stop the work.
    pub async fn cancel(self) -> Result<bool> {
        let canceller = self.canceller();
        drop(self);
        canceller.cancel().await
    }

    /// Whether this is the count of a change that was made: one row is announced, or a number
    /// of affected rows, over the single column that counts go by.
    fn is_count(&self) -> bool {
        let [field] = self.schema.fields().as_ref() else { return self.schema.fields().is_empty() };
        self.info.total_records >= 0
            && field.name() == "count"
            && matches!(field.data_type(), DataType::Int64 | DataType::UInt64)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

/// Cancels one query.
#[derive(Debug, Clone)]
pub struct Canceller {
    client: Client,
    info: FlightInfo,
}

impl Canceller {
    /// Has the server stop the work; `false` when there was none left to stop.
    pub async fn cancel(mut self) -> Result<bool> {
        let request = CancelFlightInfoRequest::new(self.info);
        let bodies = action(&mut self.client, actions::CANCEL_FLIGHT_INFO, request.encode_to_vec()).await?;
        let body = bodies.into_iter().next();
        let body = body.ok_or_else(|| Error::Protocol("a cancel was answered with nothing".into()))?;
        let status = CancelFlightInfoResult::decode(body)?.status();
        Ok(matches!(status, CancelStatus::Cancelled | CancelStatus::Cancelling))
    }
}

/// A prepared statement.
#[derive(Debug)]
pub struct Prepared {
    client: Client,
    statement: PreparedStatement<Wire>,
    schema: SchemaRef,
    parameters: SchemaRef,
}

impl Prepared {
    /// The schema of the rows; empty for a statement that changes something.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> SchemaRef {
        Arc::clone(&self.parameters)
    }

    /// Binds parameters for the executions that follow.
    pub fn bind(&mut self, parameters: RecordBatch) -> Result<()> {
        Ok(self.statement.set_parameters(parameters)?)
    }

    /// Runs it for rows.
    pub async fn query(&mut self) -> Result<QueryStream> {
        let info = self.statement.execute().await?;
        QueryStream::new(self.client.clone(), info, &MetadataMap::new())
    }

    /// Runs it for a change; returns the rows affected, -1 when unknown.
    pub async fn update(&mut self) -> Result<i64> {
        Ok(self.statement.execute_update().await?)
    }

    /// Frees it on the server.
    pub async fn close(self) -> Result<()> {
        Ok(self.statement.close().await?)
    }
}

async fn action(client: &mut Client, name: &str, body: Vec<u8>) -> Result<Vec<bytes::Bytes>> {
    let results = client.do_action(Action::new(name, body)).await?;
    Ok(results.map_ok(|result| result.body).try_collect().await?)
}

/// Rows of short texts: for listings, which are bounded by the server's catalog.
async fn texts<const N: usize>(mut stream: QueryStream, names: [&str; N]) -> Result<Vec<[String; N]>> {
    let mut rows = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        let mut columns = Vec::with_capacity(N);
        for name in names {
            let column = batch.column_by_name(name);
            let column = column.ok_or_else(|| Error::Protocol(format!("a listing lacks \"{name}\"")))?;
            columns.push(as_strings(column)?);
        }
        rows.extend((0..batch.num_rows()).map(|row| {
            std::array::from_fn(|index| {
                let column = &columns[index];
                if column.is_null(row) { String::new() } else { column.value(row).to_string() }
            })
        }));
    }
    Ok(rows)
}

fn as_strings(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_any().downcast_ref::<StringArray>().cloned().unwrap_or_else(|| {
        // A cast to Utf8 gives a StringArray; nulls stand in should that ever change.
        StringArray::new_null(column.len())
    }))
}

fn count_of(column: &ArrayRef) -> Result<Option<i64>> {
    let column = cast(column, &DataType::Int64)?;
    let column = column.as_any().downcast_ref::<arrow::array::Int64Array>();
    Ok(column.and_then(|column| column.iter().next().flatten()))
}
