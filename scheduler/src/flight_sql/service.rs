//! What the calls share, and the service as it is mounted on a server.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::{Any, Command, ProstMessageExt};
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::stream::BoxStream;
use prost::Message;
use tarn_catalog::Lakehouse;
use tokio::runtime::Handle;
use tonic::{Request, Status};

use super::call::Call;
use super::caller::Callers;
use super::config::Config;
use super::outer::Outer;
use super::prepared::Statements;
use super::status;
use super::ticket::Signer;
use crate::query::Queries;
use crate::session::Store;

/// Largest message that is taken from a client: a batch of parameters, an ingest.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// What every message of the protocol is named with.
const MESSAGE_PREFIX: &str = "type.googleapis.com/";

/// What the front door is made of.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// The name of this scheduler, in every ticket.
    pub scheduler_id: String,
    /// What runs queries.
    pub queries: Queries,
    /// Who is connected.
    pub sessions: Store,
    /// What there is to list.
    pub lakehouse: Lakehouse,
    /// Where results are cast and encoded.
    pub cpu: Handle,
}

/// The service, to be mounted on a tonic server.
///
/// The server's part: connections from [`super::incoming`], so that a client without cookies has
/// a session for each connection; a header list of at least 64 KiB (`http2_max_header_list_size`),
/// because drivers send their whole connection string.
pub fn service(parts: Parts) -> FlightServiceServer<Outer> {
    FlightServiceServer::new(Outer::new(Door::new(parts)))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

/// The state behind every call.
pub(super) struct Door {
    pub config: Config,
    pub queries: Queries,
    pub lakehouse: Lakehouse,
    pub callers: Callers,
    pub signer: Signer,
    pub statements: Statements,
    pub cpu: Handle,
}

/// Messages from a client.
pub(super) type Incoming = BoxStream<'static, Result<FlightData, Status>>;

impl Door {
    fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, scheduler_id, queries, sessions, lakehouse, cpu } = parts;
        let key = Some(config.ticket_key.as_bytes()).filter(|key| !key.is_empty());
        let signer = Signer::new(&scheduler_id, key);
        let statements = Statements::new(config.statements_per_session_max, config.statement_idle());
        let callers = Callers::new(sessions, signer.clone());
        Arc::new(Self { config, queries, lakehouse, callers, signer, statements, cpu })
    }

    /// Who makes a request, and how.
    pub fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        Call::new(&self.callers, &self.config, request.metadata(), request.extensions())
    }
}

/// The command inside a descriptor.
pub(super) fn command_of(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    use arrow_flight::flight_descriptor::DescriptorType;
    if descriptor.r#type != DescriptorType::Cmd as i32 {
        return Err(status::invalid("the descriptor must be a command, not a path"));
    }
    command(&descriptor.cmd)
}

/// The command in the bytes of a descriptor or a ticket.
pub(super) fn command(bytes: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(bytes).map_err(|_| status::invalid("the request is not a Flight SQL message"))?;
    let name = any.type_url.clone();
    if !name.starts_with(MESSAGE_PREFIX) {
        return Err(status::invalid("the request is not a Flight SQL message"));
    }
    Command::try_from(any).map_err(|_| status::invalid(format!("the message \"{name}\" cannot be read")))
}

/// The message of an action, inside its `Any`.
pub(super) fn action_body<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(|_| status::invalid("the action's body cannot be read"))?;
    let name = any.type_url.clone();
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        _ => Err(status::invalid(format!("the action's body holds \"{name}\", which it does not take"))),
    }
}

/// A FlightInfo of one endpoint without a location: "where you are now". Anything else
/// breaks some client: a made-up address, an address of another machine, several endpoints.
pub(super) fn flight_info(
    schema: &Schema,
    descriptor: FlightDescriptor,
    ticket: Bytes,
    rows: Option<i64>,
) -> Result<FlightInfo, Status> {
    let info = FlightInfo::new().try_with_schema(schema).map_err(status::from_arrow)?;
    let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
    Ok(info.with_descriptor(descriptor).with_endpoint(endpoint).with_total_records(rows.unwrap_or(-1)))
}

/// A schema as an encapsulated IPC message.
pub(super) fn encode_schema(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(status::from_arrow)?;
    Ok(bytes)
}
