//! Statements: GetFlightInfo, GetSchema, DoGet and updates.
//!
//! A SELECT is planned at GetFlightInfo and starts with its DoGet. A statement that changes
//! something has run when GetFlightInfo answers; its ticket carries the count, so that DoGet may
//! come never, once or twice and nothing runs again.

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightInfo};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};
use prost::Message;
use tonic::{Response, Status};

use super::call::Call;
use super::service::{Door, flight_info};
use super::status;
use super::ticket::{QueryTicket, Subject};
use super::wire_stream::{self, FlightStream};
use super::wire_types::{Profile, wire_schema};
use crate::query::QueryId;
use crate::query::answer::Rows;
use crate::session::Session;

/// Plans a statement, or runs it if it changes something; answers with its ticket. `prepared`
/// is the schema that was announced when the statement was prepared.
pub(super) async fn info(
    door: &Door,
    call: &Call,
    session: &Session,
    sql: &str,
    parameters: Option<RecordBatch>,
    prepared: Option<&SchemaRef>,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let submitted = door.queries.submit(session, sql, parameters).await.map_err(status::status)?;
    let id = submitted.query_id;
    let ticket = ticket(door, session, id.as_str(), call.profile, submitted.rows);
    let schema = match submitted.rows {
        Some(_) => count_schema(),
        None => wire_schema(&submitted.schema, call.profile),
    };
    // Names and types may follow from the bound values, but never the number of columns.
    if prepared.is_some_and(|prepared| prepared.fields().len() != schema.fields().len()) {
        let _ = door.queries.cancel(&id);
        return Err(Status::failed_precondition(
            "[invalid_argument] the columns of the statement have changed since it was prepared (prepare it again)",
        ));
    }
    let info = flight_info(&schema, descriptor, ticket, submitted.rows)?;
    Ok(call.respond_for(&id, FlightInfo { app_metadata: id.as_str().to_string().into(), ..info }))
}

/// The answer for a change that has already run.
pub(super) fn info_of_count(
    door: &Door,
    call: &Call,
    session: &Session,
    rows: i64,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = ticket(door, session, "", call.profile, Some(rows));
    Ok(call.respond(flight_info(&count_schema(), descriptor, ticket, Some(rows))?))
}

/// The schema that the rows of a statement would have; runs and pins nothing.
pub(super) async fn schema(door: &Door, call: &Call, sql: &str) -> Result<SchemaRef, Status> {
    let description = door.queries.describe(call.session(), sql).await.map_err(status::status)?;
    Ok(match description.schema {
        Some(schema) => wire_schema(&schema, call.profile),
        None => count_schema(),
    })
}

/// The rows of a ticket.
pub(super) async fn rows(door: &Door, call: &Call, signed: &[u8]) -> Result<Response<FlightStream>, Status> {
    let ticket = open_ticket(door, call, signed)?;
    let profile = if ticket.native { Profile::Native } else { Profile::Compat };
    if let Some(rows) = ticket.rows {
        let answer = stream::iter(Rows::count(rows).batches).map(Ok).boxed();
        return Ok(call.respond(wire_stream::encode(&door.cpu, count_schema(), answer, call.limits)));
    }
    let id = query_id(&ticket)?;
    let rows = door.queries.stream(&id).await.map_err(status::status)?;
    let schema = wire_schema(&rows.schema(), profile);
    let failed = id.clone();
    let rows = rows.map(move |batch| {
        batch.map_err(|failure| status::status(crate::error::Error::from(failure).with_query(&failed)))
    });
    let stream = wire_stream::encode(&door.cpu, schema, rows.boxed(), call.limits);
    Ok(call.respond_for(&id, stream.with_timeout(call.timeout)))
}

/// Runs a statement that changes something; how many rows it changed.
pub(super) async fn update(door: &Door, call: &Call, sql: &str) -> Result<i64, Status> {
    door.queries.execute_update(call.session(), sql, None).await.map_err(status::status)
}

/// The query of a ticket, if the caller may have it; `None` if it has run to its end already.
pub(super) fn query_of_ticket(door: &Door, call: &Call, signed: &[u8]) -> Result<Option<QueryId>, Status> {
    let ticket = open_ticket(door, call, signed)?;
    if ticket.rows.is_some() {
        return Ok(None);
    }
    query_id(&ticket).map(Some)
}

/// Transactions are not offered; an id of one can only be a mistake.
pub(super) fn refuse_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => {
            Err(status::invalid("there is no such transaction: transactions are not supported"))
        }
        _ => Ok(()),
    }
}

fn ticket(door: &Door, session: &Session, query_id: &str, profile: Profile, rows: Option<i64>) -> Bytes {
    let ticket = QueryTicket { query_id: query_id.to_string(), native: profile == Profile::Native, rows };
    let lifetime = Some(door.config.ticket_ttl());
    let signed = door.signer.sign(session.id(), session.principal(), Subject::Query(ticket), lifetime);
    TicketStatementQuery { statement_handle: signed }.as_any().encode_to_vec().into()
}

fn open_ticket(door: &Door, call: &Call, signed: &[u8]) -> Result<QueryTicket, Status> {
    let claims = door.signer.open(signed).map_err(|refusal| refusal.status("the ticket"))?;
    let Some(Subject::Query(ticket)) = claims.subject else {
        return Err(status::invalid("the ticket names no query"));
    };
    door.callers.of_ticket(&call.caller, &claims.session, &claims.principal)?;
    Ok(ticket)
}

fn query_id(ticket: &QueryTicket) -> Result<QueryId, Status> {
    QueryId::parse(&ticket.query_id).ok_or_else(|| status::invalid("the ticket names no query"))
}

fn count_schema() -> SchemaRef {
    wire_schema(&Rows::count_schema(), Profile::Compat)
}
