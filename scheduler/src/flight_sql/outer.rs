//! The gRPC service: every call of Flight, dispatched by the Flight SQL command inside it.
//!
//! Written against Flight itself: arrow-flight's own dispatcher answers GetSchema and
//! PollFlightInfo with "unimplemented", lists actions that do not exist, throws the result of
//! some away and calls garbage an internal error. This file only reads, dispatches and frames.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use prost::Message;
use tarn_wire::action::CLOSE_SESSION;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::Call;
use super::service::{Door, Incoming, command, command_of, encode_schema, flight_info};
use super::wire_stream;
use super::{metadata, prepared, session_actions, statement, status};

/// How long a client that has its answer may take to end its side of the call.
const HALF_CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The Flight service.
#[derive(Clone)]
pub struct Outer {
    door: Arc<Door>,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl Outer {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self { door }
    }
}

#[tonic::async_trait]
impl FlightService for Outer {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    /// Drivers send Basic, Bearer or nothing, and payloads or none; all they want is a token.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let caller = self.door.callers.handshake(request.metadata(), request.extensions())?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Default::default() };
        let ending = ended(request.into_inner().map_ok(drop).boxed());
        Ok(self.door.callers.respond(&caller, stream::iter([Ok(answer)]).chain(ending).boxed()))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let call = self.door.call(&request)?;
        info(&self.door, &call, request.into_inner()).await
    }

    /// The first call already has everything: planning is all that a client would wait for.
    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let info = self.get_flight_info(request).await?;
        Ok(info.map(|info| PollInfo { info: Some(info), progress: Some(1.0), ..Default::default() }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = self.door.call(&request)?;
        let schema = schema(&self.door, &call, request.get_ref()).await?;
        Ok(call.respond(SchemaResult { schema: encode_schema(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = self.door.call(&request)?;
        match command(&request.get_ref().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                let rows = statement::rows(&self.door, &call, &ticket.statement_handle).await?;
                Ok(rows.map(StreamExt::boxed))
            }
            command => Ok(call.respond(metadata_rows(&self.door, &call, command)?)),
        }
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.door.call(&request)?;
        let mut messages = request.into_inner();
        let first = messages.message().await?.ok_or_else(|| status::invalid("the call sent no message"))?;
        let descriptor = first
            .flight_descriptor
            .clone()
            .ok_or_else(|| status::invalid("the first message has no descriptor"))?;
        let command = command_of(&descriptor)?;
        let messages = stream::iter([Ok(first)]).chain(messages).boxed();
        let (result, rest) = put(&self.door, &call, command, messages).await?;
        let answer = stream::iter([Ok(PutResult { app_metadata: result.into() })]);
        Ok(call.respond(answer.chain(rest).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = match self.door.call(&request) {
            // The session is gone already; drivers close it on their way out and look no further.
            Err(refused)
                if refused.code() == Code::Unauthenticated && request.get_ref().r#type == CLOSE_SESSION =>
            {
                let result = arrow_flight::Result { body: session_actions::already_closed() };
                return Ok(Response::new(stream::iter([Ok(result)]).boxed()));
            }
            call => call?,
        };
        let (_, extensions, action) = request.into_parts();
        let body = session_actions::run(&self.door, &call, &action.r#type, &action.body, &extensions).await?;
        let results = stream::iter(body.map(|body| Ok(arrow_flight::Result { body })));
        Ok(call.respond(results.boxed()))
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(stream::iter(session_actions::list().into_iter().map(Ok)).boxed()))
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(status::not_supported("listing flights"))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(status::not_supported("exchanging data"))
    }
}

async fn info(
    door: &Door,
    call: &Call,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    match command_of(&descriptor)? {
        Command::CommandStatementQuery(query) => {
            statement::refuse_transaction(query.transaction_id.as_ref())?;
            statement::info(door, call, call.session(), &query.query, None, None, descriptor).await
        }
        Command::CommandPreparedStatementQuery(query) => {
            prepared::info(door, call, &query.prepared_statement_handle, descriptor).await
        }
        command => {
            let schema = metadata::schema(&command, &door.config).ok_or_else(|| refuse(&command))?;
            // The command is its own ticket: the rows are listed when they are fetched.
            let ticket = descriptor.cmd.clone();
            Ok(call.respond(flight_info(&schema, descriptor, ticket, None)?))
        }
    }
}

async fn schema(door: &Door, call: &Call, descriptor: &FlightDescriptor) -> Result<SchemaRef, Status> {
    match command_of(descriptor)? {
        Command::CommandStatementQuery(query) => statement::schema(door, call, &query.query).await,
        Command::CommandPreparedStatementQuery(query) => {
            prepared::schema(door, call, &query.prepared_statement_handle)
        }
        command => metadata::schema(&command, &door.config).ok_or_else(|| refuse(&command)),
    }
}

fn metadata_rows(door: &Door, call: &Call, command: Command) -> Result<Answers<FlightData>, Status> {
    let schema = metadata::schema(&command, &door.config)
        .ok_or_else(|| status::invalid("the ticket names no rows: call GetFlightInfo first"))?;
    let rows = metadata::rows(door.lakehouse.clone(), command, door.config.clone(), call.profile);
    let stream = wire_stream::encode(&door.cpu, schema, rows.into_stream().boxed(), call.limits);
    Ok(stream.with_timeout(call.timeout).boxed())
}

/// The result of a DoPut, and what is left to wait for.
async fn put(
    door: &Door,
    call: &Call,
    command: Command,
    messages: Incoming,
) -> Result<(Vec<u8>, Answers<PutResult>), Status> {
    let count = |record_count: i64| DoPutUpdateResult { record_count }.encode_to_vec();
    match command {
        Command::CommandStatementUpdate(update) => {
            statement::refuse_transaction(update.transaction_id.as_ref())?;
            let rows = statement::update(door, call, &update.query).await?;
            Ok((count(rows), ended(messages.map_ok(drop).boxed())))
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let rows = prepared::update(door, call, &update.prepared_statement_handle, messages).await?;
            Ok((count(rows), stream::empty().boxed()))
        }
        Command::CommandPreparedStatementQuery(query) => {
            let handle = query.prepared_statement_handle;
            prepared::bind(door, call, &handle, messages).await?;
            // Java reads the handle without looking whether it is there.
            let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
            Ok((result.encode_to_vec(), stream::empty().boxed()))
        }
        command => Err(refuse(&command)),
    }
}

/// Waits a little, without an item, until the client ends its side. An answer that overtakes
/// the client's last message is an error to some, and some end only after they have the answer.
fn ended<T: Send + 'static>(messages: BoxStream<'static, Result<(), Status>>) -> Answers<T> {
    let all = messages.try_for_each(|()| async { Ok(()) });
    let waited = tokio::time::timeout(HALF_CLOSE_WAIT, all).map(|_| stream::empty());
    waited.flatten_stream().boxed()
}

fn refuse(command: &Command) -> Status {
    match command {
        Command::CommandStatementIngest(_) => status::not_supported("bulk ingestion"),
        Command::CommandStatementSubstraitPlan(_) => status::not_supported("Substrait"),
        Command::Unknown(any) => status::not_supported(&format!("the command \"{}\"", any.type_url)),
        other => status::invalid(format!("the command \"{}\" does not fit this call", other.type_url())),
    }
}
