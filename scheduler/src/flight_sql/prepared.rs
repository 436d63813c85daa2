//! Prepared statements: a text, its types, and the parameters bound last.
//!
//! Preparing runs and pins nothing; every execution plans anew, so it sees today's tables. The
//! binding stays under the original handle, because some clients ignore the handle that a bind
//! returns. Statements are counted by session and dropped when idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_flight::{FlightDescriptor, FlightInfo};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use tarn_wire::prepared::ActionCreatePreparedStatementResult;
use tonic::{Response, Status};
use uuid::Uuid;

use super::binding::Fit;
use super::call::Call;
use super::multi_insert::RowInsert;
use super::service::{Door, Incoming, encode_schema};
use super::ticket::{StatementHandle, Subject};
use super::wire_types::{Profile, parameter_schema, wire_schema};
use super::{binding, statement, status};
use crate::error::{Error, ErrorCode};
use crate::query::answer::Rows;
use crate::session::Session;

/// A prepared statement.
pub(super) struct Prepared {
    sql: String,
    /// The columns as announced; `None` for a statement that returns a count.
    schema: Option<SchemaRef>,
    /// The parameters as the engine expects them.
    parameters: Vec<FieldRef>,
    /// The text as an insert of one row of values, if it is one.
    row_insert: Option<RowInsert>,
    /// The parameters bound last.
    binding: Mutex<Option<RecordBatch>>,
}

/// The prepared statements of all sessions.
pub(super) struct Statements {
    per_session_max: usize,
    idle: Duration,
    /// By session, then by statement.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sessions: HashMap<String, HashMap<Uuid, Slot>>,
    swept_at: Option<Instant>,
}

struct Slot {
    prepared: Arc<Prepared>,
    used_at: Instant,
}

impl Statements {
    pub fn new(per_session_max: usize, idle: Duration) -> Self {
        Self { per_session_max, idle, held: Mutex::default() }
    }

    /// Keeps a statement of a session. Fails when the session holds too many.
    pub fn insert(&self, session: &str, prepared: Prepared) -> Result<Uuid, Error> {
        self.insert_at(session, prepared, Instant::now())
    }

    fn insert_at(&self, session: &str, prepared: Prepared, now: Instant) -> Result<Uuid, Error> {
        let mut held = self.held();
        let due = held.swept_at.is_none_or(|swept| now - swept > self.idle / 10);
        let full = |held: &Held| held.sessions.get(session).map_or(0, HashMap::len) >= self.per_session_max;
        if due || full(&held) {
            held.sweep(now, self.idle);
        }
        if full(&held) {
            let message =
                format!("the session holds {} prepared statements, the most it may", self.per_session_max);
            return Err(Error::new(ErrorCode::LimitExceeded, message).with_hint("close statements after use"));
        }
        let id = Uuid::new_v4();
        let slot = Slot { prepared: Arc::new(prepared), used_at: now };
        held.sessions.entry(session.to_string()).or_default().insert(id, slot);
        Ok(id)
    }

    /// A statement of a session; this counts as use.
    pub fn get(&self, session: &str, id: &Uuid) -> Option<Arc<Prepared>> {
        self.get_at(session, id, Instant::now())
    }

    fn get_at(&self, session: &str, id: &Uuid, now: Instant) -> Option<Arc<Prepared>> {
        let mut held = self.held();
        let slot = held.sessions.get_mut(session)?.get_mut(id)?;
        slot.used_at = now;
        Some(Arc::clone(&slot.prepared))
    }

    /// Drops one statement, if it is there.
    pub fn remove(&self, session: &str, id: &Uuid) {
        let mut held = self.held();
        if let Some(statements) = held.sessions.get_mut(session) {
            statements.remove(id);
            if statements.is_empty() {
                held.sessions.remove(session);
            }
        }
    }

    /// Drops every statement of a session.
    pub fn close(&self, session: &str) {
        self.held().sessions.remove(session);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Held {
    fn sweep(&mut self, now: Instant, idle: Duration) {
        self.swept_at = Some(now);
        self.sessions.retain(|_, statements| {
            statements.retain(|_, slot| now - slot.used_at < idle);
            !statements.is_empty()
        });
    }
}

impl Prepared {
    fn binding(&self) -> Option<RecordBatch> {
        self.binding.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn bind(&self, batch: Option<RecordBatch>) {
        *self.binding.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = batch;
    }

    fn is_update(&self) -> bool {
        self.schema.is_none()
    }
}

/// Prepares a statement: text and types, nothing runs.
pub(super) async fn create(
    door: &Door,
    call: &Call,
    sql: String,
) -> Result<ActionCreatePreparedStatementResult, Status> {
    let session = call.session();
    let description = door.queries.describe(session, &sql).await.map_err(status::status)?;
    let schema = match (description.is_update, description.schema) {
        (false, Some(schema)) => Some(wire_schema(&schema, call.profile)),
        _ => None,
    };
    let declared = parameter_schema(&description.parameters);
    let encode = |schema: &SchemaRef| match schema.fields().is_empty() {
        true => Ok(Bytes::new()),
        false => encode_schema(schema),
    };
    // A SELECT without columns still has a schema: empty bytes would say that it is an update.
    let dataset_schema = schema.as_ref().map(|schema| encode_schema(schema)).transpose()?;
    let mut result = ActionCreatePreparedStatementResult {
        prepared_statement_handle: Bytes::new(),
        dataset_schema: dataset_schema.unwrap_or_default(),
        parameter_schema: encode(&declared)?,
        is_update: Some(schema.is_none()),
    };
    let row_insert = RowInsert::parse(&sql, description.parameters.len());
    let parameters = description.parameters;
    let prepared = Prepared { sql, schema, parameters, row_insert, binding: Mutex::default() };
    let id = door.statements.insert(session.id(), prepared).map_err(status::status)?;
    let subject = Subject::Statement(StatementHandle { id: id.into_bytes().to_vec() });
    result.prepared_statement_handle = door.signer.sign(session.id(), session.principal(), subject, None);
    Ok(result)
}

/// Drops a statement. Closing twice, or after the session has ended, is no error.
pub(super) fn close(door: &Door, call: &Call, handle: &[u8]) -> Result<(), Status> {
    let (owner, principal, id) = open_handle(door, handle)?;
    if let Ok(session) = door.callers.of_ticket(&call.caller, &owner, &principal) {
        door.statements.remove(session.id(), &id);
    }
    Ok(())
}

/// Plans an execution with the bound parameters; a change runs here, once.
pub(super) async fn info(
    door: &Door,
    call: &Call,
    handle: &[u8],
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let (session, prepared) = lookup(door, call, handle)?;
    let binding = prepared.binding();
    match &binding {
        Some(batch) if batch.num_rows() != 1 && prepared.is_update() => {
            let rows = update_rows(door, &session, &prepared, batch).await?;
            statement::info_of_count(door, call, &session, rows, descriptor)
        }
        Some(batch) if batch.num_rows() != 1 => Err(status::invalid(format!(
            "a query takes one row of parameters, {} were bound",
            batch.num_rows()
        ))),
        _ => {
            statement::info(
                door,
                call,
                &session,
                &prepared.sql,
                binding,
                prepared.schema.as_ref(),
                descriptor,
            )
            .await
        }
    }
}

/// The schema of a statement's rows; nothing runs.
pub(super) fn schema(door: &Door, call: &Call, handle: &[u8]) -> Result<SchemaRef, Status> {
    let (_, prepared) = lookup(door, call, handle)?;
    Ok(match &prepared.schema {
        Some(schema) => Arc::clone(schema),
        None => wire_schema(&Rows::count_schema(), Profile::Compat),
    })
}

/// Binds parameters; they stay until they are bound anew.
pub(super) async fn bind(door: &Door, call: &Call, handle: &[u8], messages: Incoming) -> Result<(), Status> {
    let (_, prepared) = lookup(door, call, handle)?;
    let batch = read_binding(&prepared, messages).await?;
    prepared.bind(batch);
    Ok(())
}

/// Runs a change, once for each row of parameters; how many rows it changed.
pub(super) async fn update(
    door: &Door,
    call: &Call,
    handle: &[u8],
    messages: Incoming,
) -> Result<i64, Status> {
    let (session, prepared) = lookup(door, call, handle)?;
    // No columns at all means "no parameters here", not "no rows".
    let batch = match read_binding(&prepared, messages).await? {
        Some(batch) => Some(batch),
        None => prepared.binding(),
    };
    match batch {
        Some(batch) => update_rows(door, &session, &prepared, &batch).await,
        None => door.queries.execute_update(&session, &prepared.sql, None).await.map_err(status::status),
    }
}

async fn read_binding(prepared: &Prepared, messages: Incoming) -> Result<Option<RecordBatch>, Status> {
    match binding::read(messages).await? {
        Some(batch) => {
            let how = if prepared.row_insert.is_some() { Fit::Assign } else { Fit::Lossless };
            binding::fit(&batch, &prepared.parameters, how).map(Some).map_err(status::status)
        }
        None => Ok(None),
    }
}

async fn update_rows(
    door: &Door,
    session: &Session,
    prepared: &Prepared,
    batch: &RecordBatch,
) -> Result<i64, Status> {
    let (total, mut done, mut changed) = (batch.num_rows(), 0, 0);
    let insert = prepared.row_insert.as_ref().filter(|_| total > 1);
    while done < total {
        let step = insert.map_or(1, RowInsert::rows_max).min(total - done);
        let part = batch.slice(done, step);
        let result = match insert {
            Some(insert) => {
                let (sql, values) = insert.unroll(&part).map_err(status::status)?;
                door.queries.execute_update(session, &sql, Some(values)).await
            }
            None => door.queries.execute_update(session, &prepared.sql, Some(part)).await,
        };
        changed += result.map_err(|failure| status::status(after_rows(failure, done, total)))?;
        done += step;
    }
    Ok(changed)
}

/// Says how far the rows got, because what was done before the error stays done.
fn after_rows(failure: Error, done: usize, total: usize) -> Error {
    if done == 0 {
        return failure;
    }
    let message = format!("{}; {done} of {total} rows of parameters were applied before", failure.message());
    let mut said = Error::new(failure.code(), message);
    if let Some(hint) = failure.hint() {
        said = said.with_hint(hint);
    }
    if let Some(id) = failure.query_id() {
        said = said.with_query(id);
    }
    said.with_source(failure)
}

fn lookup(door: &Door, call: &Call, handle: &[u8]) -> Result<(Session, Arc<Prepared>), Status> {
    let (owner, principal, id) = open_handle(door, handle)?;
    let session = door.callers.of_ticket(&call.caller, &owner, &principal)?;
    let prepared = door.statements.get(session.id(), &id);
    let prepared = prepared.ok_or_else(|| {
        status::not_found("the prepared statement is closed, or was dropped because it was not used")
    })?;
    Ok((session, prepared))
}

fn open_handle(door: &Door, handle: &[u8]) -> Result<(String, String, Uuid), Status> {
    let claims =
        door.signer.open(handle).map_err(|refusal| refusal.status("the prepared statement's handle"))?;
    let id = match claims.subject {
        Some(Subject::Statement(statement)) => Uuid::from_slice(&statement.id).ok(),
        _ => None,
    };
    let id = id.ok_or_else(|| status::invalid("the handle names no prepared statement"))?;
    Ok((claims.session, claims.principal, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_holds_so_many_and_idle_ones_make_room() {
        let (statements, start) = (Statements::new(2, IDLE), Instant::now());
        let first = statements.insert("s", prepared()).unwrap();
        let second = statements.insert("s", prepared()).unwrap();
        assert_eq!(statements.insert("s", prepared()).unwrap_err().code(), ErrorCode::LimitExceeded);
        assert!(statements.insert("other", prepared()).is_ok());
        assert!(statements.get_at("s", &first, start + IDLE / 2).is_some());
        assert!(statements.insert_at("s", prepared(), start + IDLE * 5 / 4).is_ok());
        assert!(statements.get("s", &second).is_none());
        assert!(statements.get("s", &first).is_some());
    }

    #[test]
    fn statements_end_with_their_session_and_belong_to_it() {
        let statements = Statements::new(2, IDLE);
        let id = statements.insert("s", prepared()).unwrap();
        assert!(statements.get("other", &id).is_none());
        statements.remove("other", &id);
        assert!(statements.get("s", &id).is_some());
        statements.close("s");
        assert!(statements.get("s", &id).is_none());
    }

    fn prepared() -> Prepared {
        let sql = String::new();
        Prepared { sql, schema: None, parameters: Vec::new(), row_insert: None, binding: Mutex::default() }
    }
}
