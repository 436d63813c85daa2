//! The columns of a schema that are not nested, at any depth, under their names in full.
//!
//! Iceberg's metrics are of these: `a` for a column, `a.b` inside a struct,
//! `a.element` of a list, `a.key` and `a.value` of a map.

use ::iceberg::spec::{PrimitiveType, Schema, Type};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::schema::primitive_type;
use super::value::scalar_of_bytes;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Its field id.
    pub(crate) id: i32,
    /// Its name in full.
    pub(crate) name: String,
    /// Its type.
    pub(crate) data_type: DataType,
    primitive: PrimitiveType,
}

impl Leaf {
    /// A bound of its values, as manifests have it; `None` if it cannot be read.
    pub(crate) fn bound(&self, bytes: &[u8]) -> Option<ScalarValue> {
        scalar_of_bytes(bytes, &self.primitive)
    }
}

/// The leaves of a schema, by name. Those of types that Arrow cannot hold are left out.
pub(super) fn leaves(schema: &Schema) -> Vec<Leaf> {
    let mut found = Vec::new();
    for field in schema.as_struct().fields() {
        collect(field.id, field.name.clone(), &field.field_type, &mut found);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn collect(id: i32, name: String, data_type: &Type, found: &mut Vec<Leaf>) {
    match data_type {
        Type::Primitive(primitive) => {
            if let Some(data_type) = primitive_type(primitive) {
                found.push(Leaf { id, name, data_type, primitive: primitive.clone() });
            }
        }
        Type::Struct(inner) => {
            for field in inner.fields() {
                collect(field.id, format!("{name}.{}", field.name), &field.field_type, found);
            }
        }
        Type::List(list) => {
            let element = &list.element_field;
            collect(element.id, format!("{name}.element"), &element.field_type, found);
        }
        Type::Map(map) => {
            for (part, field) in [("key", &map.key_field), ("value", &map.value_field)] {
                collect(field.id, format!("{name}.{part}"), &field.field_type, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_are_named_in_full_and_sorted() {
        let field = |id: i32, name: &str, data_type: serde_json::Value| json!({"id": id, "name": name, "required": false, "type": data_type});
        let inner = json!({"type": "struct", "fields": [field(6, "y", json!("double")), field(7, "x", json!("string"))]});
        let list = json!({"type": "list", "element-id": 8, "element-required": false, "element": inner});
        let map = json!({
            "type": "map", "key-id": 9, "key": "string", "value-id": 10, "value-required": false, "value": "long",
        });
        let fields = [
            field(1, "z", json!("int")),
            field(2, "l", list),
            field(3, "a.b", json!("date")),
            field(4, "m", map),
        ];
        let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
        let found = leaves(&serde_json::from_value::<Schema>(schema).unwrap());
        let found: Vec<_> = found.iter().map(|leaf| (leaf.name.as_str(), leaf.id)).collect();
        let expected =
            [("a.b", 3), ("l.element.x", 7), ("l.element.y", 6), ("m.key", 9), ("m.value", 10), ("z", 1)];
        assert_eq!(found, expected);
    }
}
