//! What lies between two versions of a table, as a REST catalog takes it: requirements and updates.
//!
//! The write room makes whole versions. A REST catalog makes them itself, from what is to be
//! changed and what must not have changed meanwhile. The rule: whatever our versions can differ
//! in is either said here or refused, and each thing changed is also required to be as it was.

use ::iceberg::spec::{SnapshotReference, TableMetadata};
use ::iceberg::{TableRequirement, TableUpdate};
use serde_json::{Value, json};

use super::Metadata;
use crate::error::{Error, Result};

/// The body of a commit, without the table's name.
#[derive(Debug)]
pub(crate) struct Changes {
    requirements: Vec<TableRequirement>,
    updates: Vec<TableUpdate>,
}

impl Changes {
    /// All of a table that must not exist yet.
    pub(crate) fn create(new: &Metadata) -> Result<Self> {
        let table = new.spec();
        let mut updates = vec![
            TableUpdate::AssignUuid { uuid: table.uuid() },
            TableUpdate::UpgradeFormatVersion { format_version: table.format_version() },
            TableUpdate::AddSchema { schema: table.current_schema().as_ref().clone() },
            TableUpdate::SetCurrentSchema { schema_id: LAST_ADDED },
            TableUpdate::AddSpec { spec: table.default_partition_spec().as_ref().clone().into_unbound() },
            TableUpdate::SetDefaultSpec { spec_id: LAST_ADDED },
            TableUpdate::AddSortOrder { sort_order: table.default_sort_order().as_ref().clone() },
            TableUpdate::SetDefaultSortOrder { sort_order_id: LAST_ADDED.into() },
            TableUpdate::SetLocation { location: table.location().to_owned() },
        ];
        if !table.properties().is_empty() {
            updates.push(TableUpdate::SetProperties { updates: table.properties().clone() });
        }
        add_snapshots(None, table, &mut updates);
        let references = references(table)?;
        updates.extend(references.into_iter().map(|(ref_name, reference)| set_ref(ref_name, reference)));
        Ok(Self { requirements: vec![TableRequirement::NotExist], updates })
    }

    /// From `base` to `new`, two versions of one table.
    pub(crate) fn between(base: &Metadata, new: &Metadata) -> Result<Self> {
        base.check_whole()?;
        let (before, after) = (base.spec(), new.spec());
        if before.uuid() != after.uuid() {
            return Err(Error::Internal("a commit cannot make a table another one".to_owned()));
        }
        let mut changes = Self {
            requirements: vec![TableRequirement::UuidMatch { uuid: before.uuid() }],
            updates: Vec::new(),
        };
        if before.format_version() != after.format_version() {
            changes
                .updates
                .push(TableUpdate::UpgradeFormatVersion { format_version: after.format_version() });
        }
        // The old snapshot goes before what it was written with, and a new one comes after all it refers to.
        changes.removed_refs(before, after)?;
        changes.schema(before, after);
        changes.partition_spec(before, after);
        changes.sort_order(before, after);
        if before.location() != after.location() {
            changes.updates.push(TableUpdate::SetLocation { location: after.location().to_owned() });
        }
        changes.properties(before, after);
        add_snapshots(Some(before), after, &mut changes.updates);
        changes.set_refs(before, after)?;
        changes.removed_snapshots(before, after);
        Ok(changes)
    }

    /// As JSON: requirements and updates.
    pub(crate) fn to_json(&self) -> Result<Value> {
        let failed = |e: serde_json::Error| Error::Internal(format!("a commit is not JSON: {e}"));
        let requirements = serde_json::to_value(&self.requirements).map_err(failed)?;
        let updates = serde_json::to_value(&self.updates).map_err(failed)?;
        Ok(json!({ "requirements": requirements, "updates": updates }))
    }

    fn schema(&mut self, before: &TableMetadata, after: &TableMetadata) {
        let schema = after.current_schema();
        if before.current_schema_id() == after.current_schema_id()
            && before.current_schema() == after.current_schema()
        {
            return;
        }
        self.requirements
            .push(TableRequirement::CurrentSchemaIdMatch { current_schema_id: before.current_schema_id() });
        let known = before.schema_by_id(schema.schema_id()).is_some_and(|known| known == schema);
        let schema_id = if known {
            schema.schema_id()
        } else {
            self.requirements.push(TableRequirement::LastAssignedFieldIdMatch {
                last_assigned_field_id: before.last_column_id(),
            });
            self.updates.push(TableUpdate::AddSchema { schema: schema.as_ref().clone() });
            LAST_ADDED
        };
        self.updates.push(TableUpdate::SetCurrentSchema { schema_id });
    }

    fn partition_spec(&mut self, before: &TableMetadata, after: &TableMetadata) {
        let spec = after.default_partition_spec();
        if before.default_partition_spec() == spec {
            return;
        }
        self.requirements.push(TableRequirement::DefaultSpecIdMatch {
            default_spec_id: before.default_partition_spec_id(),
        });
        let known = before.partition_spec_by_id(spec.spec_id()).is_some_and(|known| known == spec);
        let spec_id = if known {
            spec.spec_id()
        } else {
            self.requirements.push(TableRequirement::LastAssignedPartitionIdMatch {
                last_assigned_partition_id: before.last_partition_id(),
            });
            self.updates.push(TableUpdate::AddSpec { spec: spec.as_ref().clone().into_unbound() });
            LAST_ADDED
        };
        self.updates.push(TableUpdate::SetDefaultSpec { spec_id });
    }

    fn sort_order(&mut self, before: &TableMetadata, after: &TableMetadata) {
        let order = after.default_sort_order();
        if before.default_sort_order() == order {
            return;
        }
        self.requirements.push(TableRequirement::DefaultSortOrderIdMatch {
            default_sort_order_id: before.default_sort_order_id(),
        });
        let known = before.sort_order_by_id(order.order_id).is_some_and(|known| known == order);
        let sort_order_id = if known {
            order.order_id
        } else {
            self.updates.push(TableUpdate::AddSortOrder { sort_order: order.as_ref().clone() });
            LAST_ADDED.into()
        };
        self.updates.push(TableUpdate::SetDefaultSortOrder { sort_order_id });
    }

    fn properties(&mut self, before: &TableMetadata, after: &TableMetadata) {
        let (before, after) = (before.properties(), after.properties());
        let set = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let updates: std::collections::HashMap<_, _> =
            set.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !updates.is_empty() {
            self.updates.push(TableUpdate::SetProperties { updates });
        }
        let removals: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        if !removals.is_empty() {
            self.updates.push(TableUpdate::RemoveProperties { removals });
        }
    }

    fn removed_refs(&mut self, before: &TableMetadata, after: &TableMetadata) -> Result<()> {
        let after = references(after)?;
        for (name, reference) in references(before)? {
            if after.iter().all(|(other, _)| *other != name) {
                self.require_ref(&name, Some(reference.snapshot_id));
                self.updates.push(TableUpdate::RemoveSnapshotRef { ref_name: name });
            }
        }
        Ok(())
    }

    fn set_refs(&mut self, before: &TableMetadata, after: &TableMetadata) -> Result<()> {
        let before = references(before)?;
        for (name, reference) in references(after)? {
            let was = before.iter().find(|(other, _)| *other == name).map(|(_, reference)| reference);
            if was == Some(&reference) {
                continue;
            }
            self.require_ref(&name, was.map(|was| was.snapshot_id));
            self.updates.push(set_ref(name, reference));
        }
        Ok(())
    }

    fn require_ref(&mut self, name: &str, snapshot_id: Option<i64>) {
        self.requirements.push(TableRequirement::RefSnapshotIdMatch { r#ref: name.to_owned(), snapshot_id });
    }

    fn removed_snapshots(&mut self, before: &TableMetadata, after: &TableMetadata) {
        let gone = before.snapshots().map(|snapshot| snapshot.snapshot_id());
        let snapshot_ids: Vec<_> = gone.filter(|id| after.snapshot_by_id(*id).is_none()).collect();
        if !snapshot_ids.is_empty() {
            self.updates.push(TableUpdate::RemoveSnapshots { snapshot_ids });
        }
    }
}

/// Stands for the id of what the same commit has added.
const LAST_ADDED: i32 = -1;

fn add_snapshots(before: Option<&TableMetadata>, after: &TableMetadata, updates: &mut Vec<TableUpdate>) {
    let is_new = |id| before.is_none_or(|before| before.snapshot_by_id(id).is_none());
    let mut added: Vec<_> = after.snapshots().filter(|snapshot| is_new(snapshot.snapshot_id())).collect();
    added.sort_by_key(|snapshot| (snapshot.sequence_number(), snapshot.timestamp_ms()));
    updates.extend(
        added.into_iter().map(|snapshot| TableUpdate::AddSnapshot { snapshot: snapshot.as_ref().clone() }),
    );
}

fn set_ref(ref_name: String, reference: SnapshotReference) -> TableUpdate {
    TableUpdate::SetSnapshotRef { ref_name, reference }
}

/// The references with what they keep; the crate has them only in its JSON.
fn references(table: &TableMetadata) -> Result<Vec<(String, SnapshotReference)>> {
    let failed =
        |e: serde_json::Error| Error::Internal(format!("references of a table are not readable: {e}"));
    let mut json = serde_json::to_value(table).map_err(failed)?;
    let Some(Value::Object(refs)) = json.get_mut("refs").map(Value::take) else { return Ok(Vec::new()) };
    let references = refs.into_iter().map(|(name, value)| Ok((name, serde_json::from_value(value)?)));
    references.collect::<serde_json::Result<_>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ::iceberg::spec::TableMetadataBuilder;
    use arrow::datatypes::{DataType, Field, Schema};
    use tarn_scan::write::Transform;

    use super::*;
    use crate::iceberg::{NewSnapshot, new_table, replacement, with_snapshot};
    use crate::write::{NewPartitionField, NewTable};

    #[test]
    fn creation_says_all_that_the_table_is() {
        let first = with_snapshot(&table("a", Some(Transform::Bucket(4))), None, &snapshot(7)).unwrap();
        let changes = Changes::create(&first).unwrap();
        assert_eq!(actions(&changes, "requirements", "type"), ["assert-create"]);
        let spec = first.spec();
        let empty = TableMetadataBuilder::new(
            spec.current_schema().as_ref().clone(),
            ::iceberg::spec::UnboundPartitionSpec::builder().build(),
            ::iceberg::spec::SortOrder::unsorted_order(),
            "file:///elsewhere".to_owned(),
            spec.format_version(),
            Default::default(),
        );
        assert_same(&applied(empty.unwrap(), &changes), spec);
    }

    #[test]
    fn append_requires_the_snapshot_that_it_stands_on() {
        let base = with_snapshot(&table("a", None), None, &snapshot(1)).unwrap();
        let next = with_snapshot(&base, Some("file:///t/1.json"), &snapshot(2)).unwrap();
        let changes = Changes::between(&base, &next).unwrap();
        assert_eq!(actions(&changes, "updates", "action"), ["add-snapshot", "set-snapshot-ref"]);
        let json = changes.to_json().unwrap();
        assert_eq!(json["requirements"][1]["snapshot-id"], 1);
        assert_same(&applied(builder(&base), &changes), next.spec());
    }

    #[test]
    fn replacement_and_its_rows_are_one_commit_that_requires_all_it_replaces() {
        let base = with_snapshot(&table("a", None), None, &snapshot(1)).unwrap();
        let mut other = new("b", Some(Transform::Identity));
        other.properties.insert("k".to_owned(), "v".to_owned());
        let replaced = replacement(&base, "file:///t/1.json", &other).unwrap();
        let next = with_snapshot(&replaced, None, &snapshot(2)).unwrap();
        let changes = Changes::between(&base, &next).unwrap();
        let required = actions(&changes, "requirements", "type");
        for requirement in ["assert-ref-snapshot-id", "assert-current-schema-id", "assert-default-spec-id"] {
            assert!(required.iter().any(|found| found == requirement), "{required:?}");
        }
        assert_same(&applied(builder(&base), &changes), next.spec());
    }

    #[test]
    fn another_table_is_no_version() {
        assert!(Changes::between(&table("a", None), &table("a", None)).is_err());
    }

    fn applied(builder: TableMetadataBuilder, changes: &Changes) -> TableMetadata {
        let apply = |builder, update: &TableUpdate| update.clone().apply(builder).unwrap();
        changes.updates.iter().fold(builder, apply).build().unwrap().metadata
    }

    fn builder(base: &Metadata) -> TableMetadataBuilder {
        TableMetadata::clone(base.spec()).into_builder(None)
    }

    fn assert_same(made: &TableMetadata, meant: &TableMetadata) {
        assert_eq!(made.uuid(), meant.uuid());
        assert_eq!(made.location(), meant.location());
        assert_eq!(made.current_schema(), meant.current_schema());
        assert_eq!(made.default_partition_spec().fields(), meant.default_partition_spec().fields());
        assert_eq!(made.current_snapshot(), meant.current_snapshot());
        assert_eq!(references(made).unwrap(), references(meant).unwrap());
        assert_eq!(made.properties(), meant.properties());
    }

    fn actions(changes: &Changes, list: &str, key: &str) -> Vec<String> {
        let json = changes.to_json().unwrap();
        json[list].as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    }

    fn table(column: &str, transform: Option<Transform>) -> Metadata {
        new_table(&new(column, transform), "file:///t").unwrap()
    }

    fn new(column: &str, transform: Option<Transform>) -> NewTable {
        let partition =
            transform.map(|transform| NewPartitionField { column: column.to_owned(), transform, name: None });
        NewTable {
            schema: Schema::new(vec![Field::new(column, DataType::Int64, true)]),
            partition: partition.into_iter().collect(),
            properties: BTreeMap::new(),
            location: None,
        }
    }

    fn snapshot(id: i64) -> NewSnapshot {
        NewSnapshot {
            snapshot_id: id,
            manifest_list: format!("file:///t/{id}.avro"),
            summary: BTreeMap::new(),
        }
    }
}
