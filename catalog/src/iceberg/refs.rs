//! Which snapshot is read, and with which schema.
//!
//! The rule of the reference implementation: the current snapshot and branches
//! are read with the table's current schema, so a column added since the last
//! write is there; a snapshot asked for by id, tag or time is read with the
//! schema it was written with.

use super::metadata::{MAIN_BRANCH, Metadata, ReferenceKind};
use crate::error::{Error, Result, nearest};
use crate::name::{TableName, TimeTravel};

/// What of a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The snapshot; `None` for a table that was never written to.
    pub snapshot_id: Option<i64>,
    /// The schema.
    pub schema_id: i32,
}

/// Whether metadata without its past cannot tell which snapshot that is.
pub(crate) fn needs_past(metadata: &Metadata, at: &TimeTravel) -> bool {
    let is_named = match at {
        TimeTravel::Snapshot(id) => metadata.spec().snapshot_by_id(*id).is_some(),
        TimeTravel::Timestamp(_) => false,
        TimeTravel::Ref(_) => true,
    };
    !metadata.is_whole() && !is_named
}

/// Finds the snapshot and the schema that a query reads.
pub(crate) fn resolve(table: &TableName, metadata: &Metadata, at: Option<&TimeTravel>) -> Result<Resolved> {
    let Some(at) = at else {
        return Ok(with_current_schema(metadata, metadata.current_snapshot_id()));
    };
    let not_found = |near| Error::SnapshotNotFound { table: table.clone(), what: describe(at), near };
    // What it names was there, and is not any more.
    let expired = |id| Error::SnapshotNotFound {
        table: table.clone(),
        what: format!("snapshot {id} any more (it was expired), which is the {}", describe(at)),
        near: None,
    };
    match at {
        TimeTravel::Snapshot(id) => with_own_schema(metadata, *id).ok_or_else(|| not_found(None)),
        TimeTravel::Timestamp(ms) => {
            let id = snapshot_at(metadata, *ms).ok_or_else(|| not_found(None))?;
            with_own_schema(metadata, id).ok_or_else(|| expired(id))
        }
        TimeTravel::Ref(name) => match metadata.refs().get(name) {
            Some(found) if found.kind == ReferenceKind::Tag => {
                with_own_schema(metadata, found.snapshot_id).ok_or_else(|| expired(found.snapshot_id))
            }
            Some(found) if metadata.spec().snapshot_by_id(found.snapshot_id).is_none() => {
                Err(expired(found.snapshot_id))
            }
            Some(found) => Ok(with_current_schema(metadata, Some(found.snapshot_id))),
            None if name == MAIN_BRANCH => Ok(with_current_schema(metadata, None)),
            None => Err(not_found(nearest(name, metadata.refs().keys().map(String::as_str)))),
        },
    }
}

fn describe(at: &TimeTravel) -> String {
    match at {
        TimeTravel::Snapshot(id) => format!("snapshot {id}"),
        TimeTravel::Ref(name) => format!("branch or tag {name:?}"),
        TimeTravel::Timestamp(_) => format!("snapshot that was current at {at}"),
    }
}

fn with_current_schema(metadata: &Metadata, snapshot_id: Option<i64>) -> Resolved {
    Resolved { snapshot_id, schema_id: metadata.current_schema_id() }
}

fn with_own_schema(metadata: &Metadata, id: i64) -> Option<Resolved> {
    let snapshot = metadata.spec().snapshot_by_id(id)?;
    // Snapshots of version 1 may not know their schema.
    let schema_id = snapshot.schema_id().filter(|id| metadata.spec().schema_by_id(*id).is_some());
    let schema_id = schema_id.unwrap_or_else(|| metadata.current_schema_id());
    Some(Resolved { snapshot_id: Some(id), schema_id })
}

/// The last snapshot that became current at or before a time. By the log, not by the snapshots' own times: one
/// that was rolled back is in the log only as long as it was current, and one of another branch never.
fn snapshot_at(metadata: &Metadata, ms: i64) -> Option<i64> {
    let log = metadata.spec().history();
    log.iter().rev().find(|entry| entry.timestamp_ms() <= ms).map(|entry| entry.snapshot_id)
}
