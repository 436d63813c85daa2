//! Metadata rewritten so that the crate can parse it, and what was lost by that.
//!
//! The crate knows neither the types `unknown`, `variant`, `geometry` and
//! `geography` nor types of formats to come, and fails to parse a whole table
//! over one such column; defaults that it cannot read it drops without a
//! word. Here such types become `binary` before the crate sees them, and what
//! the columns truly are is kept beside. The one rule: metadata that was
//! rewritten is read, and never committed, since the commit would write the
//! rewritten form back.

use std::collections::HashMap;

use serde_json::Value;

/// What becomes of a type that the crate does not know.
const STAND_IN: &str = "binary";

/// The primitive types that the crate knows, but for those with parameters.
const KNOWN: [&str; 14] = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp_ns",
    "timestamptz_ns",
    "string",
    "uuid",
    "binary",
];

/// What the crate does not say about a table's schemas.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// By schema id, then by field id.
    schemas: HashMap<i32, HashMap<i32, FieldExtra>>,
}

/// What the crate does not say about one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FieldExtra {
    /// Its type, if the crate was given another.
    pub(super) data_type: Option<String>,
    /// What older rows have in it.
    pub(super) initial_default: Option<Value>,
    /// What new rows get in it.
    pub(super) write_default: Option<Value>,
}

impl Extras {
    pub(super) fn of_field(&self, schema_id: i32, field_id: i32) -> Option<&FieldExtra> {
        self.schemas.get(&schema_id)?.get(&field_id)
    }

    /// A type in any of the schemas that was rewritten.
    pub(super) fn rewritten(&self) -> Option<&str> {
        self.schemas.values().flat_map(HashMap::values).find_map(|extra| extra.data_type.as_deref())
    }

    /// Every field with a default.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (i32, i32, &FieldExtra)> {
        let fields = self
            .schemas
            .iter()
            .flat_map(|(schema, fields)| fields.iter().map(|(field, extra)| (*schema, *field, extra)));
        fields.filter(|(_, _, extra)| extra.initial_default.is_some() || extra.write_default.is_some())
    }
}

/// Rewrites table metadata in place.
pub(super) fn table(json: &mut Value) -> Extras {
    let mut extras = Extras::default();
    // Version 1 may have its only schema at the top, and no id in it.
    if let Some(schema) = json.get_mut("schema") {
        one_schema(schema, &mut extras);
    }
    for schema in json.get_mut("schemas").and_then(Value::as_array_mut).into_iter().flatten() {
        one_schema(schema, &mut extras);
    }
    extras
}

fn one_schema(schema: &mut Value, extras: &mut Extras) {
    let id = schema.get("schema-id").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok());
    fields(schema, extras.schemas.entry(id.unwrap_or(0)).or_default());
}

fn fields(node: &mut Value, extras: &mut HashMap<i32, FieldExtra>) {
    for field in node.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
        let mut extra = FieldExtra {
            initial_default: default(field, "initial-default"),
            write_default: default(field, "write-default"),
            data_type: None,
        };
        let id = field_id(field, "id");
        if let Some(data_type) = field.get_mut("type") {
            extra.data_type = one_type(data_type, extras);
        }
        keep(extras, id, extra);
    }
}

fn default(field: &Value, key: &str) -> Option<Value> {
    field.get(key).filter(|value| !value.is_null()).cloned()
}

fn field_id(node: &Value, key: &str) -> Option<i32> {
    node.get(key).and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok())
}

fn keep(extras: &mut HashMap<i32, FieldExtra>, id: Option<i32>, extra: FieldExtra) {
    if let Some(id) = id.filter(|_| extra != FieldExtra::default()) {
        extras.insert(id, extra);
    }
}

/// Rewrites a type; returns its name if it was not known.
fn one_type(data_type: &mut Value, extras: &mut HashMap<i32, FieldExtra>) -> Option<String> {
    match data_type {
        Value::String(name) => {
            let with_parameters = name.starts_with("decimal(") || name.starts_with("fixed[");
            if with_parameters || KNOWN.contains(&name.as_str()) {
                return None;
            }
            Some(std::mem::replace(name, STAND_IN.to_owned()))
        }
        Value::Object(object) => {
            let parts: &[(&str, &str)] = match object.get("type").and_then(Value::as_str) {
                Some("list") => &[("element", "element-id")],
                Some("map") => &[("key", "key-id"), ("value", "value-id")],
                _ => &[],
            };
            for (part, id) in parts {
                let id = field_id(data_type, id);
                let name = data_type.get_mut(part).and_then(|part| one_type(part, extras));
                keep(extras, id, FieldExtra { data_type: name, ..FieldExtra::default() });
            }
            if parts.is_empty() {
                fields(data_type, extras);
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_types_become_binary_and_are_remembered() {
        let mut metadata = json!({"schemas": [{"schema-id": 3, "type": "struct", "fields": [
            {"id": 1, "name": "a", "type": "long", "initial-default": 5, "write-default": null},
            {"id": 2, "name": "v", "type": "variant"},
            {"id": 3, "name": "l", "type": {"type": "list", "element-id": 4, "element": "geometry(srid:3857)"}},
            {"id": 5, "name": "m", "type": {"type": "map", "key-id": 6, "key": "string", "value-id": 7, "value":
                {"type": "struct", "fields": [{"id": 8, "name": "u", "type": "unknown"},
                    {"id": 9, "name": "d", "type": "decimal(9, 2)", "initial-default": "1.50"}]}}},
        ]}]});
        let extras = table(&mut metadata);
        let data_type = |id| extras.of_field(3, id).and_then(|extra| extra.data_type.as_deref());
        assert_eq!(data_type(2), Some("variant"));
        assert_eq!(data_type(4), Some("geometry(srid:3857)"));
        assert_eq!(data_type(8), Some("unknown"));
        assert_eq!((data_type(1), data_type(9)), (None, None));
        assert_eq!(extras.of_field(3, 9).unwrap().initial_default, Some(json!("1.50")));
        assert_eq!(extras.of_field(3, 1).unwrap().write_default, None);
        assert_eq!(extras.defaults().count(), 2);
        assert!(extras.rewritten().is_some());
        let text = metadata.to_string();
        for gone in ["variant", "geometry", "unknown"] {
            assert!(!text.contains(gone), "{text}");
        }
    }

    #[test]
    fn metadata_that_the_crate_knows_is_left_as_it_is() {
        let mut metadata = json!({"schema": {"type": "struct", "fields": [
            {"id": 1, "name": "a", "type": "fixed[3]"}, {"id": 2, "name": "b", "type": "timestamptz_ns"}]}});
        let before = metadata.clone();
        let extras = table(&mut metadata);
        assert_eq!(metadata, before);
        assert_eq!(extras.rewritten(), None);
    }
}
