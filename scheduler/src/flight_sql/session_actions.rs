//! The actions: prepared statements, session options, close, cancel, and the list of them.
//!
//! The list names what works and nothing else: tools believe it.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Command, ProstMessageExt,
};
use arrow_flight::{ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use prost::Message;
use tarn_wire::action::{
    CANCEL_FLIGHT_INFO, CANCEL_QUERY, CLOSE_PREPARED_STATEMENT, CLOSE_SESSION, CREATE_PREPARED_STATEMENT,
    GET_SESSION_OPTIONS, SET_SESSION_OPTIONS,
};
use tarn_wire::session::{
    CloseSessionResult, CloseSessionStatus, GetSessionOptionsResult, OptionValue, SessionOptionValue,
    SetSessionOptionError, SetSessionOptionErrorValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use tonic::{Extensions, Status};

use super::call::Call;
use super::service::{Door, action_body, command};
use super::{prepared, statement, status};
use crate::error::ErrorCode;

/// Every action, with what it takes and returns.
pub(super) fn list() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType {
        r#type: name.to_string(),
        description: description.to_string(),
    };
    vec![
        action(
            CREATE_PREPARED_STATEMENT,
            "Prepares a statement. Takes ActionCreatePreparedStatementRequest, returns ActionCreatePreparedStatementResult.",
        ),
        action(
            CLOSE_PREPARED_STATEMENT,
            "Drops a prepared statement. Takes ActionClosePreparedStatementRequest, returns nothing.",
        ),
        action(
            CANCEL_QUERY,
            "Cancels a query. Takes ActionCancelQueryRequest, returns ActionCancelQueryResult.",
        ),
        action(
            CANCEL_FLIGHT_INFO,
            "Cancels a query. Takes CancelFlightInfoRequest, returns CancelFlightInfoResult.",
        ),
        action(
            SET_SESSION_OPTIONS,
            "Changes catalog, schema and settings of the session. Takes SetSessionOptionsRequest, returns SetSessionOptionsResult.",
        ),
        action(
            GET_SESSION_OPTIONS,
            "Reads catalog, schema and settings of the session. Takes GetSessionOptionsRequest, returns GetSessionOptionsResult.",
        ),
        action(CLOSE_SESSION, "Ends the session. Takes CloseSessionRequest, returns CloseSessionResult."),
    ]
}

/// Does an action; the body of its answer, if it has one.
pub(super) async fn run(
    door: &Door,
    call: &Call,
    name: &str,
    body: &[u8],
    extensions: &Extensions,
) -> Result<Option<Bytes>, Status> {
    match name {
        CREATE_PREPARED_STATEMENT => {
            let request: ActionCreatePreparedStatementRequest = action_body(body)?;
            statement::refuse_transaction(request.transaction_id.as_ref())?;
            let created = prepared::create(door, call, request.query).await?;
            Ok(Some(created.encode_in_any()))
        }
        CLOSE_PREPARED_STATEMENT => {
            let request: ActionClosePreparedStatementRequest = action_body(body)?;
            prepared::close(door, call, &request.prepared_statement_handle)?;
            Ok(None)
        }
        CANCEL_QUERY => {
            let request: ActionCancelQueryRequest = action_body(body)?;
            let info = FlightInfo::decode(request.info)
                .map_err(|_| status::invalid("the FlightInfo cannot be read"))?;
            // Both enumerations number their values alike.
            let result = ActionCancelQueryResult { result: cancel(door, call, &info)? as i32 };
            Ok(Some(result.as_any().encode_to_vec().into()))
        }
        CANCEL_FLIGHT_INFO => {
            let request: CancelFlightInfoRequest = bare(body)?;
            let info = request.info.ok_or_else(|| status::invalid("the request names no FlightInfo"))?;
            let result = CancelFlightInfoResult { status: cancel(door, call, &info)? as i32 };
            Ok(Some(result.encode_to_vec().into()))
        }
        SET_SESSION_OPTIONS => {
            let result = set_options(door, call, bare(body)?);
            Ok(Some(result.encode_to_vec().into()))
        }
        GET_SESSION_OPTIONS => Ok(Some(options(call).encode_to_vec().into())),
        CLOSE_SESSION => {
            door.statements.close(call.session().id());
            door.callers.close(call.session(), extensions);
            let result = CloseSessionResult { status: CloseSessionStatus::Closed as i32 };
            Ok(Some(result.encode_to_vec().into()))
        }
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            Err(status::not_supported("a transaction of several statements"))
        }
        "CreatePreparedSubstraitPlan" => Err(status::not_supported("Substrait")),
        "RenewFlightEndpoint" => Err(status::not_supported("renewing an endpoint")),
        other => Err(status::not_supported(&format!("action \"{other}\""))),
    }
}

/// What a client of an ended session is told when it closes it once more: it is closed.
pub(super) fn already_closed() -> Bytes {
    CloseSessionResult { status: CloseSessionStatus::Closed as i32 }.encode_to_vec().into()
}

fn bare<M: Message + Default>(body: &[u8]) -> Result<M, Status> {
    M::decode(body).map_err(|_| status::invalid("the action's body cannot be read"))
}

/// Cancels the queries of a FlightInfo, each named by the ticket of an endpoint.
fn cancel(door: &Door, call: &Call, info: &FlightInfo) -> Result<CancelStatus, Status> {
    let mut cancelled = CancelStatus::NotCancellable;
    for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
        let Command::TicketStatementQuery(ticket) = command(&ticket.ticket)? else { continue };
        // A change has run when its ticket is known: there is nothing left to cancel.
        let Some(id) = statement::query_of_ticket(door, call, &ticket.statement_handle)? else { continue };
        match door.queries.cancel(&id) {
            Ok(()) => cancelled = CancelStatus::Cancelled,
            Err(failure) if failure.code() == ErrorCode::NotFound => {}
            Err(failure) => return Err(status::status(failure)),
        }
    }
    Ok(cancelled)
}

fn set_options(door: &Door, call: &Call, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut options: Vec<_> = request.session_options.into_iter().collect();
    // A new catalog before a new schema, whatever order the map has.
    options.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let refused = options.into_iter().filter_map(|(name, value)| {
        let value = set_option(door, call, &name, value).err()? as i32;
        Some((name, SetSessionOptionError { value }))
    });
    SetSessionOptionsResult { errors: refused.collect() }
}

fn set_option(
    door: &Door,
    call: &Call,
    name: &str,
    value: SessionOptionValue,
) -> Result<(), SetSessionOptionErrorValue> {
    use SetSessionOptionErrorValue::{InvalidName, InvalidValue};
    let session = call.session();
    let text = match value.option_value {
        None => None,
        Some(OptionValue::String(text)) => Some(text),
        Some(OptionValue::Bool(flag)) => Some(flag.to_string()),
        Some(OptionValue::Int64(number)) => Some(number.to_string()),
        Some(OptionValue::Double(number)) => Some(number.to_string()),
        Some(OptionValue::StringList(_)) => return Err(InvalidValue),
    };
    match (name, text) {
        ("catalog", Some(catalog)) => {
            if !door.lakehouse.catalogs().contains(&catalog) {
                return Err(InvalidValue);
            }
            session.set_catalog(&catalog);
            Ok(())
        }
        // A schema may be made later; `USE` of SQL is as lenient.
        ("schema", Some(schema)) => {
            session.set_schema(&schema);
            Ok(())
        }
        ("catalog" | "schema", None) => Err(InvalidValue),
        (setting, text) => {
            let changed = match text {
                Some(text) => door.queries.set(session, setting, &text),
                None => session.reset(setting),
            };
            changed.map_err(|failure| match failure.code() {
                // A pool that is not there is a value, too.
                ErrorCode::NotFound if setting != "pool" => InvalidName,
                _ => InvalidValue,
            })
        }
    }
}

fn options(call: &Call) -> GetSessionOptionsResult {
    let session = call.session();
    let mut options = HashMap::from([
        ("catalog".to_string(), SessionOptionValue::from(session.catalog().as_str())),
        ("schema".to_string(), SessionOptionValue::from(session.schema().as_str())),
    ]);
    let settings = session.settings();
    options
        .extend(settings.all().map(|(name, value, _)| (name.to_string(), SessionOptionValue::from(value))));
    GetSessionOptionsResult { session_options: options }
}
