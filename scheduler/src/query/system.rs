//! `system.queries`, `system.tasks`, `system.executors`, `system.pools`: what the scheduler knows of itself, as tables.
//!
//! Each is made when a query names it, and shows that moment. The rule: small and bounded, so that it is held whole.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};

use super::history::Record;
use super::register::Register;
use crate::admission::Admission;
use crate::cluster::{Members, State};
use crate::error::Result;

/// What the tables are made of. A cheap handle.
#[derive(Clone)]
pub struct System {
    /// Every query.
    pub register: Register,
    /// The pools.
    pub admission: Admission,
    /// The executors.
    pub members: Members,
}

impl System {
    /// The table of that name.
    pub(super) fn table(&self, name: &str) -> Option<Result<Arc<dyn TableProvider>>> {
        let columns = match name {
            "queries" => queries(&self.register.records()),
            "tasks" => tasks(&self.register),
            "executors" => executors(&self.members),
            "pools" => pools(&self.admission),
            _ => return None,
        };
        Some(table(columns))
    }
}

/// A column: its name, its values.
type Column = (&'static str, ArrayRef);

fn table(columns: Vec<Column>) -> Result<Arc<dyn TableProvider>> {
    let fields = columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, values)| values).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn count(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let signed = values.map(|value| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
    Arc::new(signed.collect::<Int64Array>())
}

fn number(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn queries(records: &[Record]) -> Vec<Column> {
    let all = || records.iter();
    let submitted = all().map(|record| Some(record.submitted_us)).collect::<TimestampMicrosecondArray>();
    vec![
        ("query_id", text(all().map(|record| Some(&record.query_id)))),
        ("state", text(all().map(|record| Some(&record.state)))),
        ("user", text(all().map(|record| Some(&record.user)))),
        ("pool", text(all().map(|record| record.pool.as_ref()))),
        ("mode", text(all().map(|record| record.mode.as_ref()))),
        ("mode_reason", text(all().map(|record| record.mode_reason.as_ref()))),
        ("queue_position", count(all().map(|record| record.queue_position))),
        ("submitted_at", Arc::new(submitted.with_timezone("UTC"))),
        ("planning_seconds", number(all().map(|record| record.planning_seconds))),
        ("waiting_seconds", number(all().map(|record| record.waiting_seconds))),
        ("seconds", number(all().map(|record| Some(record.seconds)))),
        ("rows", count(all().map(|record| Some(record.rows)))),
        ("planned_bytes", count(all().map(|record| Some(record.planned_bytes)))),
        ("scanned_bytes", count(all().map(|record| Some(record.scanned_bytes)))),
        ("scanned_rows", count(all().map(|record| Some(record.scanned_rows)))),
        ("promised_bytes", count(all().map(|record| Some(record.promised_bytes)))),
        ("memory_bytes", count(all().map(|record| Some(record.memory_bytes)))),
        ("memory_peak_bytes", count(all().map(|record| Some(record.memory_peak_bytes)))),
        ("spilled_bytes", count(all().map(|record| Some(record.spilled_bytes)))),
        ("attempts", count(all().map(|record| Some(record.attempts)))),
        ("code", text(all().map(|record| record.code.as_ref()))),
        ("error", text(all().map(|record| record.error.as_ref()))),
        ("sql", text(all().map(|record| Some(&record.sql)))),
    ]
}

fn tasks(register: &Register) -> Vec<Column> {
    let tasks = register.tasks();
    let all = || tasks.iter();
    vec![
        ("query_id", text(all().map(|task| Some(task.query_id.as_str())))),
        ("run_id", text(all().map(|task| Some(&task.stats.run_id)))),
        ("executor", text(all().map(|task| Some(&task.executor)))),
        ("active", Arc::new(all().map(|task| Some(task.stats.active)).collect::<BooleanArray>()) as ArrayRef),
        ("scanned_rows", count(all().map(|task| Some(task.stats.rows_scanned)))),
        ("scanned_bytes", count(all().map(|task| Some(task.stats.bytes_opened)))),
        ("memory_bytes", count(all().map(|task| Some(task.stats.memory_bytes)))),
        ("memory_peak_bytes", count(all().map(|task| Some(task.stats.memory_peak_bytes)))),
        ("spilled_bytes", count(all().map(|task| Some(task.stats.spilled_bytes)))),
    ]
}

fn executors(members: &Members) -> Vec<Column> {
    let members = members.all();
    let all = || members.iter();
    let state = |state: State| match state {
        State::Alive => "alive",
        State::Draining => "draining",
    };
    vec![
        ("executor", text(all().map(|(member, _)| Some(&member.id)))),
        ("state", text(all().map(|(member, _)| Some(state(member.state))))),
        ("address", text(all().map(|(member, _)| Some(member.flight_url.as_str())))),
        ("http", text(all().map(|(member, _)| member.http.as_ref()))),
        ("cores", count(all().map(|(member, _)| Some(member.cores as u64)))),
        ("memory_bytes", count(all().map(|(member, _)| Some(member.memory_bytes)))),
        ("memory_used_bytes", count(all().map(|(_, load)| Some(load.memory_used_bytes)))),
        ("queries_active", count(all().map(|(_, load)| Some(u64::from(load.queries_active))))),
        ("version", text(all().map(|(member, _)| Some(&member.version)))),
    ]
}

fn pools(admission: &Admission) -> Vec<Column> {
    let pools = admission.pools();
    let all = || pools.iter();
    vec![
        ("pool", text(all().map(|pool| Some(&pool.config.name)))),
        ("weight", number(all().map(|pool| Some(pool.config.weight)))),
        ("running", count(all().map(|pool| Some(pool.running)))),
        ("waiting", count(all().map(|pool| Some(pool.waiting)))),
        ("memory_bytes", count(all().map(|pool| Some(pool.memory_bytes)))),
        ("memory_bytes_max", count(all().map(|pool| Some(pool.memory_bytes_max)))),
        ("admitted", count(all().map(|pool| Some(pool.admitted)))),
        ("refused", count(all().map(|pool| Some(pool.refused)))),
        ("waited_seconds", number(all().map(|pool| Some(pool.waited.as_secs_f64())))),
    ]
}
