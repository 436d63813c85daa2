//! Name mapping: field ids for files that were written without them.
//!
//! The mapping is the table's property `schema.name-mapping.default`, JSON as
//! in the Iceberg specification, section "Column Projection". A column that it
//! does not name gets no id and is not the table's.

use std::sync::Arc;

use parquet::errors::Result as ParquetResult;
use parquet::schema::types::TypePtr;
use serde::Deserialize;

use super::rename::{Repeated, Shape, with};

/// Names that one field goes by.
#[derive(Debug, Deserialize)]
pub(super) struct MappedField {
    #[serde(rename = "field-id")]
    pub(super) field_id: Option<i32>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    pub(super) fields: Vec<MappedField>,
}

/// Reads the property.
pub(super) fn parse(json: &str) -> Result<Vec<MappedField>, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// The schema with the ids that the mapping gives to its names.
pub(super) fn assign(root: &TypePtr, mapping: &[MappedField]) -> ParquetResult<TypePtr> {
    with(root, root.name(), None, Some(assign_fields(root, mapping)?))
}

fn assign_fields(group: &TypePtr, mapping: &[MappedField]) -> ParquetResult<Vec<TypePtr>> {
    group.get_fields().iter().map(|field| assign_one(field, find(mapping, field.name()))).collect()
}

fn assign_one(node: &TypePtr, mapped: Option<&MappedField>) -> ParquetResult<TypePtr> {
    let Some(mapped) = mapped else {
        return Ok(Arc::clone(node));
    };
    if node.is_primitive() {
        return with(node, node.name(), mapped.field_id, None);
    }
    let children = match Shape::of(node) {
        Shape::Struct => assign_fields(node, &mapped.fields)?,
        Shape::Repeating => node
            .get_fields()
            .iter()
            .map(|child| assign_repeated(node, child, mapped))
            .collect::<ParquetResult<_>>()?,
    };
    with(node, node.name(), mapped.field_id, Some(children))
}

/// Below a list or map: the mapping calls the parts `element`, `key` and `value`, whatever the file does.
fn assign_repeated(outer: &TypePtr, repeated: &TypePtr, mapped: &MappedField) -> ParquetResult<TypePtr> {
    match Shape::of_repeated(outer, repeated) {
        Repeated::Leaf => Ok(Arc::clone(repeated)),
        Repeated::IsElement => {
            let fields = find(&mapped.fields, "element").map_or(&[][..], |element| &element.fields);
            with(repeated, repeated.name(), None, Some(assign_fields(repeated, fields)?))
        }
        Repeated::HoldsElement => {
            let parts: &[&str] =
                if repeated.get_fields().len() == 1 { &["element"] } else { &["key", "value"] };
            let children = repeated.get_fields().iter().zip(parts);
            let children = children
                .map(|(child, part)| assign_one(child, find(&mapped.fields, part)))
                .collect::<ParquetResult<_>>()?;
            with(repeated, repeated.name(), None, Some(children))
        }
    }
}

/// What the mapping says of a name.
pub(super) fn find<'a>(mapping: &'a [MappedField], name: &str) -> Option<&'a MappedField> {
    mapping.iter().find(|field| field.names.iter().any(|known| known == name))
}
