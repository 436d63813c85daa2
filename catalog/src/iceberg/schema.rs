//! Iceberg schemas as Arrow has them, with field ids in the metadata at every level.

use std::collections::HashMap;
use std::sync::Arc;

use ::iceberg::spec::{NestedField, PrimitiveType, Schema as SpecSchema, Type};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use serde_json::Value;
use tarn_scan::FIELD_ID_KEY;

use crate::error::{Error, Result};
use crate::name::TableName;

/// Key of a column's comment in the metadata of an Arrow field.
pub(crate) const COMMENT_KEY: &str = "comment";

/// One schema of a table.
#[derive(Debug)]
pub struct TableSchema {
    /// Its id in the table.
    pub id: i32,
    /// As Arrow has it.
    pub arrow: SchemaRef,
    /// Field ids of the columns, in their order.
    pub field_ids: Vec<i32>,
    by_name: HashMap<String, usize>,
}

impl TableSchema {
    /// Field id and index of a column.
    pub(crate) fn column(&self, name: &str) -> Option<(i32, usize)> {
        let index = *self.by_name.get(name)?;
        Some((self.field_ids[index], index))
    }
}

#[cfg(test)]
impl TableSchema {
    /// Columns with ids from 1 on.
    pub(crate) fn for_test(columns: &[(&str, DataType)]) -> Self {
        let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Self {
            id: 0,
            arrow: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            field_ids: (1..).take(columns.len()).collect(),
            by_name: columns
                .iter()
                .enumerate()
                .map(|(index, (name, _))| ((*name).to_owned(), index))
                .collect(),
        }
    }
}

pub(super) fn table_schema(schema: &SpecSchema, table: &TableName) -> Result<TableSchema> {
    let fields = schema.as_struct().fields();
    let arrow = fields.iter().map(|field| arrow_field(field, table)).collect::<Result<Vec<_>>>()?;
    let field_ids = fields.iter().map(|field| field.id).collect();
    let by_name = fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect();
    Ok(TableSchema { id: schema.schema_id(), arrow: Arc::new(Schema::new(arrow)), field_ids, by_name })
}

fn arrow_field(field: &NestedField, table: &TableName) -> Result<FieldRef> {
    if field.initial_default.is_some() {
        let feature = format!("column {:?} with a default value for older rows", field.name);
        return Err(Error::NotSupported { table: table.clone(), feature });
    }
    let data_type = match field.field_type.as_ref() {
        Type::Primitive(primitive) => primitive_type(primitive).ok_or_else(|| Error::NotSupported {
            table: table.clone(),
            feature: format!("column {:?} of type {primitive}", field.name),
        })?,
        Type::Struct(inner) => {
            let fields = inner.fields().iter().map(|field| arrow_field(field, table));
            DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into())
        }
        Type::List(list) => DataType::List(arrow_field(&list.element_field, table)?),
        Type::Map(map) => {
            let fields = vec![arrow_field(&map.key_field, table)?, arrow_field(&map.value_field, table)?];
            // The entries are no field in Iceberg, and have no id.
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(fields.into()), false)), false)
        }
    };
    let mut metadata = HashMap::from([(FIELD_ID_KEY.to_owned(), field.id.to_string())]);
    if let Some(doc) = &field.doc {
        metadata.insert(COMMENT_KEY.to_owned(), doc.clone());
    }
    Ok(Arc::new(Field::new(&field.name, data_type, !field.required).with_metadata(metadata)))
}

/// The Arrow type of a primitive type; `None` for those of version 3.
pub(super) fn primitive_type(primitive: &PrimitiveType) -> Option<DataType> {
    Some(match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?)
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => return None,
        PrimitiveType::String => DataType::Utf8View,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(length) => DataType::FixedSizeBinary(i32::try_from(*length).ok()?),
        PrimitiveType::Binary => DataType::BinaryView,
    })
}

/// The types in a schema's JSON that the crate's parser does not know.
pub(super) fn unknown_types(json: &Value) -> Vec<String> {
    const KNOWN: [&str; 15] = [
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
        "struct",
    ];
    match json {
        Value::String(name) => {
            let known =
                KNOWN.contains(&name.as_str()) || name.starts_with("decimal(") || name.starts_with("fixed[");
            if known { Vec::new() } else { vec![name.clone()] }
        }
        Value::Object(object) => match object.get("type").and_then(Value::as_str) {
            Some("struct") => {
                let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
                fields.filter_map(|field| field.get("type")).flat_map(unknown_types).collect()
            }
            Some("list") => object.get("element").map(unknown_types).unwrap_or_default(),
            Some("map") => {
                ["key", "value"].iter().filter_map(|k| object.get(*k)).flat_map(unknown_types).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
