//! Iceberg schemas as Arrow has them, with field ids in the metadata at every level.
//!
//! Defaults travel in the metadata of their fields, as JSON. A column of a
//! type that we cannot read (variant, geometry, a type of a format to come)
//! has a place in the schema all the same, so that the others can be read;
//! whoever reads it must ask [`TableSchema::check_readable`] first.

use std::collections::HashMap;
use std::sync::Arc;

use ::iceberg::spec::{NestedField, PrimitiveType, Schema as SpecSchema, Type};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use tarn_scan::FIELD_ID_KEY;
use tarn_scan::default::{INITIAL_DEFAULT_KEY, WRITE_DEFAULT_KEY};

use super::normalise::{Extras, FieldExtra};
use crate::error::{Error, Result};
use crate::name::TableName;

/// Key of the type of a column that cannot be read, in the metadata of an Arrow field.
pub(crate) const UNREADABLE_TYPE_KEY: &str = "iceberg.type";

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
    /// Columns that cannot be read, by index: the column, or the field in it, and its type.
    unreadable: Vec<(usize, String, String)>,
}

impl TableSchema {
    /// Fails with [`Error::NotSupported`], which names the column, if one of the columns cannot be read. `None` are
    /// all columns.
    pub(crate) fn check_readable(&self, columns: Option<&Vec<usize>>, table: &TableName) -> Result<()> {
        let wanted = |index: &usize| columns.is_none_or(|columns| columns.contains(index));
        match self.unreadable.iter().find(|(index, ..)| wanted(index)) {
            Some((_, column, data_type)) => Err(Error::NotSupported {
                table: table.clone(),
                feature: format!("reading column {column:?} of type {data_type}"),
            }),
            None => Ok(()),
        }
    }

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
            unreadable: Vec::new(),
        }
    }
}

/// `extras` are those of the metadata that the schema is from.
pub(super) fn table_schema(schema: &SpecSchema, extras: &Extras, table: &TableName) -> Result<TableSchema> {
    let fields = schema.as_struct().fields();
    let mut fields_of =
        Columns { extras, schema_id: schema.schema_id(), table, index: 0, unreadable: Vec::new() };
    let mut arrow = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        fields_of.index = index;
        arrow.push(fields_of.field(field, "")?);
    }
    Ok(TableSchema {
        id: schema.schema_id(),
        arrow: Arc::new(Schema::new(arrow)),
        field_ids: fields.iter().map(|field| field.id).collect(),
        by_name: fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect(),
        unreadable: fields_of.unreadable,
    })
}

/// Makes Arrow fields, column by column.
struct Columns<'a> {
    extras: &'a Extras,
    schema_id: i32,
    table: &'a TableName,
    /// The current column.
    index: usize,
    unreadable: Vec<(usize, String, String)>,
}

impl Columns<'_> {
    /// `parent` is where the field is in, with a dot at the end.
    fn field(&mut self, field: &NestedField, parent: &str) -> Result<FieldRef> {
        let path = format!("{parent}{}", field.name);
        let extra = self.extras.of_field(self.schema_id, field.id);
        let mut metadata = HashMap::from([(FIELD_ID_KEY.to_owned(), field.id.to_string())]);
        if let Some(doc) = &field.doc {
            metadata.insert(COMMENT_KEY.to_owned(), doc.clone());
        }
        let default = |pick: fn(&FieldExtra) -> Option<&serde_json::Value>| extra.and_then(pick);
        for (key, value) in [
            (INITIAL_DEFAULT_KEY, default(|extra| extra.initial_default.as_ref())),
            (WRITE_DEFAULT_KEY, default(|extra| extra.write_default.as_ref())),
        ] {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value.to_string());
            }
        }
        let rewritten = extra.and_then(|extra| extra.data_type.as_deref());
        let data_type = match rewritten {
            // Has no values but NULL, and is in no file.
            Some("unknown") => DataType::Null,
            Some(name) => {
                metadata.insert(UNREADABLE_TYPE_KEY.to_owned(), name.to_owned());
                self.unreadable.push((self.index, path, name.to_owned()));
                DataType::BinaryView
            }
            None => self.data_type(&field.field_type, &path)?,
        };
        Ok(Arc::new(Field::new(&field.name, data_type, !field.required).with_metadata(metadata)))
    }

    fn data_type(&mut self, data_type: &Type, path: &str) -> Result<DataType> {
        let inside = format!("{path}.");
        Ok(match data_type {
            Type::Primitive(primitive) => primitive_type(primitive).ok_or_else(|| Error::NotSupported {
                table: self.table.clone(),
                feature: format!("column {path:?} of type {primitive}"),
            })?,
            Type::Struct(inner) => {
                let fields = inner.fields().iter().map(|field| self.field(field, &inside));
                DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into())
            }
            Type::List(list) => DataType::List(self.field(&list.element_field, &inside)?),
            Type::Map(map) => {
                let pair = vec![self.field(&map.key_field, &inside)?, self.field(&map.value_field, &inside)?];
                // The entries are no field in Iceberg, and have no id.
                let entries = Field::new("key_value", DataType::Struct(pair.into()), false);
                DataType::Map(Arc::new(entries), false)
            }
        })
    }
}

/// The Arrow type of a primitive type; `None` for a decimal or fixed that Arrow cannot hold.
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
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        PrimitiveType::String => DataType::Utf8View,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(length) => DataType::FixedSizeBinary(i32::try_from(*length).ok()?),
        PrimitiveType::Binary => DataType::BinaryView,
    })
}
