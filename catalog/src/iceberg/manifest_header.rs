//! What a manifest says about itself: the schema and the partition spec of its files.
//!
//! Columns of types that we do not know are left out: they are not pruned by,
//! and the rest of the manifest is read all the same.

use std::collections::HashMap;

use ::iceberg::spec::{PrimitiveType, Transform as SpecTransform};
use serde_json::Value;
use tarn_scan::write::Transform;

use super::avro::{Container, Result};
use super::guarded;
use super::metadata::{PartitionField, PartitionSpec};
use super::transform::transform;

/// The first id of partition fields that have none, as version 1 allows.
const PARTITION_FIELD_ID_FIRST: i32 = 1000;

/// Schemas nest at most so deep.
const DEPTH_MAX: usize = 64;

/// The header of a manifest.
#[derive(Debug)]
pub(super) struct Header {
    /// The partition spec of its files.
    pub(super) spec: PartitionSpec,
    /// Types of the partition fields; `None` for one that is not known.
    pub(super) partition_types: Vec<Option<PrimitiveType>>,
    /// Types of the top-level columns that are not nested.
    pub(super) columns: HashMap<i32, PrimitiveType>,
}

impl Header {
    pub(super) fn read(container: &Container<'_>) -> Result<Self> {
        let json =
            |key: &str| container.header(key).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let schema = json("schema").unwrap_or_default();
        let (mut columns, mut all) = (HashMap::new(), HashMap::new());
        for field in schema["fields"].as_array().into_iter().flatten() {
            if let (Some(id), Some(primitive)) = (field_id(&field["id"]), primitive(&field["type"])) {
                columns.insert(id, primitive);
            }
            types_in(field, &mut all, DEPTH_MAX);
        }
        let spec_id = container.header("partition-spec-id").and_then(|id| std::str::from_utf8(id).ok());
        let spec_id = spec_id.and_then(|id| id.trim().parse().ok()).unwrap_or(0);
        let fields = json("partition-spec").ok_or("a manifest without a partition spec")?;
        // Some writers put the whole spec here, not just its fields.
        let fields = fields.as_array().or_else(|| fields["fields"].as_array());
        let fields = fields.ok_or("a partition spec that is not a list of fields")?;
        let spec = PartitionSpec {
            id: spec_id,
            fields: fields.iter().enumerate().map(|(index, field)| partition_field(index, field)).collect(),
        };
        let partition_types =
            spec.fields.iter().map(|field| result_type(field.transform?, all.get(&field.source_id)));
        Ok(Self { partition_types: partition_types.collect(), spec, columns })
    }
}

/// The type of a partition field's values.
pub(super) fn result_type(transform: Transform, source: Option<&PrimitiveType>) -> Option<PrimitiveType> {
    match transform {
        Transform::Identity | Transform::Truncate(_) | Transform::Void => source.cloned(),
        Transform::Bucket(_) | Transform::Year | Transform::Month | Transform::Hour => {
            Some(PrimitiveType::Int)
        }
        Transform::Day => Some(PrimitiveType::Date),
    }
}

fn partition_field(index: usize, json: &Value) -> PartitionField {
    // A transform of several columns is none that we know.
    let several = json["source-ids"].as_array();
    let source = several.and_then(|ids| ids.first()).unwrap_or(&json["source-id"]);
    let known = several.is_none_or(|ids| ids.len() == 1);
    let spec_transform = guarded(|| Ok(serde_json::from_value::<SpecTransform>(json["transform"].clone())?));
    PartitionField {
        source_id: field_id(source).unwrap_or(-1),
        field_id: field_id(&json["field-id"]).unwrap_or(PARTITION_FIELD_ID_FIRST + index as i32),
        name: json["name"].as_str().unwrap_or_default().to_owned(),
        transform: spec_transform.ok().filter(|_| known).and_then(transform),
    }
}

fn field_id(json: &Value) -> Option<i32> {
    json.as_i64().and_then(|id| i32::try_from(id).ok())
}

fn primitive(json: &Value) -> Option<PrimitiveType> {
    json.as_str()?;
    guarded(|| Ok(serde_json::from_value::<PrimitiveType>(json.clone())?)).ok()
}

/// The types of a field and of the fields of structs in it. Nothing is partitioned by what is in lists and maps.
fn types_in(field: &Value, types: &mut HashMap<i32, PrimitiveType>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    if let (Some(id), Some(primitive)) = (field_id(&field["id"]), primitive(&field["type"])) {
        types.insert(id, primitive);
    }
    for inner in field["type"]["fields"].as_array().into_iter().flatten() {
        types_in(inner, types, depth);
    }
}
