//! What of a table's past is kept in memory.
//!
//! A table that is committed to every minute has thousands of snapshots, and
//! its metadata file tells of each. A query of the present needs the current
//! snapshot and those that branches and tags name. The rest is left out when
//! metadata is parsed for queries; who travels in time, looks at the history
//! or commits reads the file again. The one rule: metadata without its past is
//! never written, since that would be the end of the past.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::metadata::Reference;

/// Snapshots and lines of logs up to this number are kept: they take less than reading the file again.
const ENTRIES_KEPT_MAX: usize = 64;

/// How much of the past is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// All of it.
    Whole,
    /// The snapshots that have a name, if there are many others.
    Named,
}

/// Leaves the past out of a table's metadata if it is long; whether it did.
pub(super) fn leave_out(json: &mut Value, refs: &BTreeMap<String, Reference>) -> bool {
    const LOGS: [&str; 2] = ["snapshot-log", "metadata-log"];
    let length = |key: &str| json[key].as_array().map_or(0, Vec::len);
    if length("snapshots") + LOGS.into_iter().map(length).sum::<usize>() <= ENTRIES_KEPT_MAX {
        return false;
    }
    let current = json["current-snapshot-id"].as_i64();
    let named: HashSet<i64> = refs.values().map(|named| named.snapshot_id).chain(current).collect();
    for key in ["snapshots", "statistics", "partition-statistics"] {
        if let Some(entries) = json.get_mut(key).and_then(Value::as_array_mut) {
            entries.retain(|entry| entry["snapshot-id"].as_i64().is_some_and(|id| named.contains(&id)));
            entries.shrink_to_fit();
        }
    }
    for key in LOGS {
        if let Some(log) = json.get_mut(key).and_then(Value::as_array_mut) {
            *log = Vec::new();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::TimeTravel;
    use crate::iceberg::{Metadata, refs};
    use crate::name::TableName;

    const SNAPSHOTS: i64 = 10_000;

    #[test]
    fn ten_thousand_snapshots_cost_what_the_named_ones_do() {
        let (whole, present) = (read(SNAPSHOTS, Past::Whole), read(SNAPSHOTS, Past::Named));
        assert_eq!(whole.snapshots().len(), SNAPSHOTS as usize);
        assert!(whole.heap_bytes() > 1_000_000);
        assert!(present.heap_bytes() < 20_000, "{} bytes", present.heap_bytes());
        let ids: Vec<_> = present.snapshots().iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(ids, [7, SNAPSHOTS]);
        // What a commit would build on is never short of its past.
        assert!(whole.check_whole().is_ok() && whole.to_json().is_ok());
        assert!(present.check_whole().is_err() && present.to_json().is_err());
        let kept = whole.without_past().unwrap().unwrap();
        assert_eq!((kept.snapshots().len(), kept.is_whole()), (2, false));
    }

    #[test]
    fn a_short_past_is_kept() {
        let present = read(20, Past::Named);
        assert!(present.is_whole() && present.without_past().unwrap().is_none());
        assert_eq!((present.snapshots().len(), present.history().len()), (20, 20));
    }

    #[test]
    fn the_past_is_needed_for_what_has_no_name() {
        let present = read(SNAPSHOTS, Past::Named);
        let needs = |at: TimeTravel| refs::needs_past(&present, &at);
        assert!(!needs(TimeTravel::Snapshot(SNAPSHOTS)) && !needs(TimeTravel::Snapshot(7)));
        assert!(!needs(TimeTravel::Ref("tagged".to_owned())) && !needs(TimeTravel::Ref("none".to_owned())));
        assert!(needs(TimeTravel::Snapshot(8)) && needs(TimeTravel::Timestamp(1_000_000)));
        assert!(!refs::needs_past(&read(SNAPSHOTS, Past::Whole), &TimeTravel::Snapshot(8)));
    }

    /// Metadata with so many snapshots, the last of which is the current one and the seventh tagged.
    fn read(snapshots: i64, past: Past) -> Metadata {
        let log = |id: i64| json!({"snapshot-id": id, "timestamp-ms": 1_000_000 + id});
        let file =
            |id: i64| json!({"metadata-file": format!("s3://b/t/{id}.json"), "timestamp-ms": 1_000_000 + id});
        let snapshot = |id: i64| {
            json!({
                "snapshot-id": id, "timestamp-ms": 1_000_000 + id, "sequence-number": id, "schema-id": 0,
                "manifest-list": format!("s3://b/t/metadata/snap-{id}.avro"), "summary": {"operation": "append"},
            })
        };
        let json = json!({
            "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": "s3://b/t",
            "last-sequence-number": snapshots, "last-updated-ms": 2_000_000, "last-column-id": 1,
            "current-schema-id": 0, "default-spec-id": 0, "last-partition-id": 999,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "id", "required": false, "type": "int"}]}],
            "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "current-snapshot-id": snapshots,
            "refs": {"main": {"snapshot-id": snapshots, "type": "branch"}, "tagged": {"snapshot-id": 7, "type": "tag"}},
            "snapshots": (1..=snapshots).map(snapshot).collect::<Vec<_>>(),
            "snapshot-log": (1..=snapshots).map(log).collect::<Vec<_>>(),
            "metadata-log": (1..=snapshots.min(20)).map(file).collect::<Vec<_>>(),
        });
        let name = TableName::new("c", "s", "t");
        Metadata::read(Bytes::from(json.to_string()), &name, "1.metadata.json", past).unwrap()
    }
}
