//! The columns of an Avro file, from the JSON schema in its header.
//!
//! ```text
//!   "fields": [{"name": "id", "type": "long", "field-id": 1}, ...]
//!       ├─ layout   the same bytes without names, ids and logical types: what the decoder is told
//!       ├─ types    what is made of what the decoder gives
//!       └─ columns  as those of a Parquet file: by field id, under the table's names
//! ```
//!
//! Iceberg writes ids into the schema (specification, Appendix A, "Avro") and
//! says there which Avro type each of its types is. A file without ids is
//! read by the table's name mapping. The one rule: a type that Iceberg does
//! not write is a problem with its column, never a guess.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit, UnionFields, UnionMode};
use serde_json::{Value, json};

use super::name_mapping::{self, MappedField};
use super::rename::Names;
use super::{FileColumns, Problem, match_columns, types};
use crate::error::{Error, Result};
use crate::task::{FIELD_ID_KEY, TableScan, field_id};

/// Types in one schema: a name may stand for a type any number of times, so that a short text may mean a huge type.
const TYPES_MAX: usize = 10_000;
/// How deep types may be in one another.
const DEPTH_MAX: usize = 64;
/// Zone of timestamps that are adjusted to UTC.
const UTC: &str = "+00:00";

/// The columns of an Avro file.
#[derive(Debug)]
pub(crate) struct AvroColumns {
    /// The columns as the table's.
    pub(crate) columns: FileColumns,
    /// The schema that the decoder is given.
    pub(crate) layout: String,
    /// What is made of each root column.
    pub(crate) types: Vec<AvroType>,
}

/// What is made of a decoded value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AvroType {
    /// A value of this type, which a cast makes.
    Leaf(DataType),
    /// A number in big-endian bytes, as this decimal type.
    Decimal(DataType),
    /// A record, by its fields.
    Struct(Vec<AvroType>),
    /// An array.
    List(Box<AvroType>),
    /// A map: keys are text.
    Map(Box<AvroType>, Box<AvroType>),
    /// A map as an array of records of a key and a value.
    Pairs(Box<AvroType>, Box<AvroType>),
    /// Nothing that Iceberg writes.
    Other(&'static str),
}

impl AvroType {
    /// What in it Iceberg does not write.
    fn other(&self) -> Option<&'static str> {
        match self {
            Self::Leaf(_) | Self::Decimal(_) => None,
            Self::Struct(fields) => fields.iter().find_map(Self::other),
            Self::List(element) => element.other(),
            Self::Map(key, value) | Self::Pairs(key, value) => key.other().or_else(|| value.other()),
            Self::Other(name) => Some(name),
        }
    }
}

impl AvroColumns {
    /// The columns of a file with this schema; `file` is its URI, for messages.
    pub(crate) fn resolve(scan: &TableScan, schema: &str, file: &str) -> Result<Self> {
        let damaged = |reason: String| Error::DamagedFile {
            table: scan.table.clone(),
            file: file.to_owned(),
            reason: format!("its schema cannot be understood: {reason}"),
        };
        let schema: Value = serde_json::from_str(schema).map_err(|error| damaged(error.to_string()))?;
        let mapping = if has_ids(&schema) { None } else { Some(mapping(scan, file)?) };
        let names = Names::of_table(&scan.schema);
        let mut parser = Parser { names: &names, named: HashMap::new(), types: 0, open: Vec::new() };
        let root = parser.parse(&schema, "", mapping.as_deref()).map_err(damaged)?;
        let (DataType::Struct(fields), AvroType::Struct(types)) = (root.data_type, root.avro_type) else {
            return Err(damaged("it is not a record".to_owned()));
        };
        let mut seen = std::collections::HashSet::new();
        if let Some(id) = fields.iter().filter_map(|field| field_id(field)).find(|id| !seen.insert(*id)) {
            return Err(damaged(format!("two columns with field id {id}")));
        }
        let mut columns = match_columns(scan, &Schema::new(fields.clone()), types::Leaves::none(), None);
        for (field, avro_type) in fields.iter().zip(&types) {
            let Some(other) = avro_type.other() else { continue };
            let id = field_id(field);
            let index = scan.schema.fields().iter().position(|f| id.is_some() && field_id(f) == id);
            if let Some(index) = index {
                let name = scan.schema.field(index).name();
                let feature = format!("column {name:?}, which has {other} in an Avro file,");
                columns.problems.insert(0, (index, Problem::NotSupported { feature }));
            }
        }
        Ok(Self { columns, layout: root.layout.to_string(), types })
    }
}

/// The name mapping of a table, for a file without ids. Without one it is not read, as its names may mean other
/// columns by now.
fn mapping(scan: &TableScan, file: &str) -> Result<Vec<MappedField>> {
    let Some(mapping) = scan.name_mapping.as_deref() else {
        return Err(Error::NotSupported {
            table: scan.table.clone(),
            feature: "an Avro file without field ids in a table without a name mapping (property \
                      \"schema.name-mapping.default\")"
                .to_owned(),
            file: file.to_owned(),
        });
    };
    name_mapping::parse(mapping).map_err(|reason| Error::NameMapping { table: scan.table.clone(), reason })
}

/// Whether anything in a schema has an id. One suffices: then columns without one are not the table's.
fn has_ids(schema: &Value) -> bool {
    match schema {
        Value::Array(branches) => branches.iter().any(has_ids),
        Value::Object(object) => {
            let ids = ["field-id", "element-id", "key-id", "value-id"];
            ids.iter().any(|id| object.contains_key(*id))
                || ["type", "fields", "items", "values"]
                    .iter()
                    .any(|key| object.get(*key).is_some_and(has_ids))
        }
        _ => false,
    }
}

/// One type of a schema.
struct Parsed {
    layout: Value,
    avro_type: AvroType,
    data_type: DataType,
    nullable: bool,
}

impl Parsed {
    fn leaf(layout: Value, data_type: DataType) -> Self {
        let nullable = data_type == DataType::Null;
        Self { layout, avro_type: AvroType::Leaf(data_type.clone()), data_type, nullable }
    }

    fn other(layout: Value, name: &'static str) -> Self {
        // A type that no type of a table can be read from.
        let data_type = DataType::Union(UnionFields::empty(), UnionMode::Sparse);
        Self { layout, avro_type: AvroType::Other(name), data_type, nullable: true }
    }

    fn field(&self, name: &str, id: Option<i32>) -> Arc<Field> {
        let field = Field::new(name, self.data_type.clone(), self.nullable);
        Arc::new(match id {
            Some(id) => field.with_metadata([(FIELD_ID_KEY.to_owned(), id.to_string())].into()),
            None => field,
        })
    }
}

/// Walks a schema.
struct Parser<'a> {
    names: &'a Names<'a>,
    /// Types that have been given a name, by full name, with the namespace that they are in.
    named: HashMap<String, (&'a Value, String)>,
    /// Types met so far.
    types: usize,
    /// The named types around the one that is parsed.
    open: Vec<String>,
}

type Mapping<'a> = Option<&'a [MappedField]>;

impl<'a> Parser<'a> {
    fn parse(&mut self, schema: &'a Value, namespace: &str, mapping: Mapping<'_>) -> Result<Parsed, String> {
        self.types += 1;
        if self.types > TYPES_MAX || self.open.len() > DEPTH_MAX {
            return Err(format!("more than {TYPES_MAX} types, or {DEPTH_MAX} in one another"));
        }
        match schema {
            Value::String(name) => self.by_name(name, namespace, mapping),
            Value::Array(branches) => self.union(branches, namespace, mapping),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.complex(name, schema, namespace, mapping),
                // A type within a type says the same as the type alone.
                Some(inner) => self.parse(inner, namespace, mapping),
                None => Err("a type without its name".to_owned()),
            },
            other => Err(format!("a type is {other}")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str, mapping: Mapping<'_>) -> Result<Parsed, String> {
        if let Some(data_type) = primitive(name) {
            return Ok(Parsed::leaf(json!(name), data_type));
        }
        let full = full_name(name, namespace);
        let known = self.named.get_key_value(&full).or_else(|| self.named.get_key_value(name));
        let (full, (schema, namespace)) = known
            .map(|(full, known)| (full.clone(), known.clone()))
            .ok_or_else(|| format!("no type {name:?}"))?;
        if self.open.contains(&full) {
            return Err(format!("type {name:?} is inside itself"));
        }
        self.parse(schema, &namespace, mapping)
    }

    fn union(
        &mut self,
        branches: &'a [Value],
        namespace: &str,
        mapping: Mapping<'_>,
    ) -> Result<Parsed, String> {
        let is_null = |branch: &Value| {
            branch.as_str() == Some("null") || branch.get("type").and_then(Value::as_str) == Some("null")
        };
        let nulls = branches.iter().filter(|branch| is_null(branch)).count();
        let mut parsed = branches
            .iter()
            .map(|branch| self.parse(branch, namespace, mapping))
            .collect::<Result<Vec<_>, _>>()?;
        let layout = Value::Array(parsed.iter().map(|branch| branch.layout.clone()).collect());
        match (parsed.len(), nulls) {
            (2, 1) => {
                let place = usize::from(is_null(&branches[0]));
                let value = parsed.swap_remove(place);
                Ok(Parsed { layout, nullable: true, ..value })
            }
            _ => Ok(Parsed::other(layout, "a union of several types")),
        }
    }

    fn complex(
        &mut self,
        name: &str,
        schema: &'a Value,
        namespace: &str,
        mapping: Mapping<'_>,
    ) -> Result<Parsed, String> {
        match name {
            "record" | "error" => self.named(schema, namespace, |parser, namespace, layout_name| {
                parser.record(schema, namespace, layout_name, mapping)
            }),
            "fixed" => self.named(schema, namespace, |_, _, layout_name| fixed(schema, layout_name)),
            "enum" => self.named(schema, namespace, |_, _, layout_name| {
                let symbols = schema.get("symbols").cloned().unwrap_or_default();
                let layout = json!({"type": "enum", "name": layout_name, "symbols": symbols});
                Ok(Parsed::other(layout, "an enum"))
            }),
            "array" => self.array(schema, namespace, mapping),
            "map" => self.map(schema, namespace, mapping),
            name => match (primitive(name), schema.get("logicalType").and_then(Value::as_str)) {
                (Some(data_type), None) => Ok(Parsed::leaf(json!(name), data_type)),
                (Some(data_type), Some(logical)) => logical_type(name, data_type, logical, schema),
                (None, _) => self.by_name(name, namespace, mapping),
            },
        }
    }

    /// A type with a name, under which it is known from here on.
    fn named(
        &mut self,
        schema: &'a Value,
        namespace: &str,
        parse: impl FnOnce(&mut Self, &str, &str) -> Result<Parsed, String>,
    ) -> Result<Parsed, String> {
        let name = schema.get("name").and_then(Value::as_str).unwrap_or_default();
        let namespace = match (name.rsplit_once('.'), schema.get("namespace").and_then(Value::as_str)) {
            (Some((namespace, _)), _) => namespace,
            (None, Some(namespace)) => namespace,
            (None, None) => namespace,
        };
        let full = full_name(name, namespace);
        self.named.insert(full.clone(), (schema, namespace.to_owned()));
        self.open.push(full);
        // Each time it is met it is a type of its own, with a name of its own.
        let layout_name = format!("t{}", self.types);
        let parsed = parse(self, namespace, &layout_name);
        self.open.pop();
        parsed
    }

    fn record(
        &mut self,
        schema: &'a Value,
        namespace: &str,
        layout_name: &str,
        mapping: Mapping<'_>,
    ) -> Result<Parsed, String> {
        let fields = schema.get("fields").and_then(Value::as_array).ok_or("a record without fields")?;
        let (mut layouts, mut types, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (position, field) in fields.iter().enumerate() {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
            let mapped = mapping.map(|mapping| name_mapping::find(mapping, name));
            let id = match mapped {
                None => id(field, "field-id")?,
                Some(mapped) => mapped.and_then(|mapped| mapped.field_id),
            };
            let below = mapped.map(|mapped| mapped.map_or(&[][..], |mapped| &mapped.fields));
            let parsed = self.parse(field.get("type").ok_or("a field without a type")?, namespace, below)?;
            columns.push(parsed.field(&self.names.of(id, name, position), id));
            layouts.push(json!({"name": format!("f{position}"), "type": parsed.layout}));
            types.push(parsed.avro_type);
        }
        Ok(Parsed {
            layout: json!({"type": "record", "name": layout_name, "fields": layouts}),
            avro_type: AvroType::Struct(types),
            data_type: DataType::Struct(Fields::from(columns)),
            nullable: false,
        })
    }

    fn array(&mut self, schema: &'a Value, namespace: &str, mapping: Mapping<'_>) -> Result<Parsed, String> {
        let items = schema.get("items").ok_or("an array without items")?;
        if schema.get("logicalType").and_then(Value::as_str) == Some("map") {
            return self.pairs(items, namespace, mapping);
        }
        let (mapped, below) = part(mapping, "element");
        let id = if mapping.is_some() { mapped } else { id(schema, "element-id")? };
        let element = self.parse(items, namespace, below)?;
        Ok(Parsed {
            data_type: DataType::List(element.field("element", id)),
            layout: json!({"type": "array", "items": element.layout}),
            avro_type: AvroType::List(Box::new(element.avro_type)),
            nullable: false,
        })
    }

    /// A map whose keys are not text: an array of records, of which the first field is the key.
    fn pairs(&mut self, items: &'a Value, namespace: &str, mapping: Mapping<'_>) -> Result<Parsed, String> {
        let entry = self.parse(items, namespace, mapping)?;
        let (DataType::Struct(fields), AvroType::Struct(mut types)) = (entry.data_type, entry.avro_type)
        else {
            return Err("a map is an array of no records".to_owned());
        };
        let (Some(value), Some(key), true) = (types.pop(), types.pop(), types.is_empty()) else {
            return Err("a map is an array of records that are no pairs".to_owned());
        };
        let pair = [(&fields[0], "key"), (&fields[1], "value")];
        let pair = pair.map(|(field, name)| Arc::new(field.as_ref().clone().with_name(name)));
        Ok(Parsed {
            data_type: map_of(pair.to_vec()),
            layout: json!({"type": "array", "items": entry.layout}),
            avro_type: AvroType::Pairs(Box::new(key), Box::new(value)),
            nullable: false,
        })
    }

    fn map(&mut self, schema: &'a Value, namespace: &str, mapping: Mapping<'_>) -> Result<Parsed, String> {
        let values = schema.get("values").ok_or("a map without values")?;
        let ((mapped_key, _), (mapped_value, below)) = (part(mapping, "key"), part(mapping, "value"));
        let (key_id, value_id) = match mapping {
            Some(_) => (mapped_key, mapped_value),
            None => (id(schema, "key-id")?, id(schema, "value-id")?),
        };
        let value = self.parse(values, namespace, below)?;
        let key = Parsed::leaf(json!("string"), DataType::Utf8View);
        Ok(Parsed {
            data_type: map_of(vec![key.field("key", key_id), value.field("value", value_id)]),
            layout: json!({"type": "map", "values": value.layout}),
            avro_type: AvroType::Map(Box::new(key.avro_type), Box::new(value.avro_type)),
            nullable: false,
        })
    }
}

fn map_of(pair: Vec<Arc<Field>>) -> DataType {
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
}

/// Id and fields that a name mapping gives to a part of a list or map.
fn part<'m>(mapping: Mapping<'m>, name: &str) -> (Option<i32>, Mapping<'m>) {
    let Some(mapping) = mapping else {
        return (None, None);
    };
    match name_mapping::find(mapping, name) {
        Some(mapped) => (mapped.field_id, Some(&mapped.fields)),
        None => (None, Some(&[])),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match namespace.is_empty() || name.contains('.') {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn id(schema: &Value, key: &str) -> Result<Option<i32>, String> {
    let Some(id) = schema.get(key) else {
        return Ok(None);
    };
    let id = id.as_i64().and_then(|id| i32::try_from(id).ok());
    id.map(Some).ok_or_else(|| format!("an id is {}", schema[key]))
}

fn primitive(name: &str) -> Option<DataType> {
    Some(match name {
        "null" => DataType::Null,
        "boolean" => DataType::Boolean,
        "int" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "bytes" => DataType::BinaryView,
        "string" => DataType::Utf8View,
        _ => return None,
    })
}

/// A primitive type that stands for another. One that is not known stands for itself, as Avro has it.
fn logical_type(name: &str, primitive: DataType, logical: &str, schema: &Value) -> Result<Parsed, String> {
    let timestamp = |unit| {
        // Java's rule: what does not say so is not adjusted.
        let adjusted = schema.get("adjust-to-utc").and_then(Value::as_bool).unwrap_or(false);
        DataType::Timestamp(unit, adjusted.then(|| UTC.into()))
    };
    let data_type = match (name, logical) {
        ("int", "date") => DataType::Date32,
        ("int", "time-millis") => DataType::Time32(TimeUnit::Millisecond),
        ("long", "time-micros") => DataType::Time64(TimeUnit::Microsecond),
        ("long", "timestamp-millis") => timestamp(TimeUnit::Millisecond),
        ("long", "timestamp-micros") => timestamp(TimeUnit::Microsecond),
        ("long", "timestamp-nanos") => timestamp(TimeUnit::Nanosecond),
        ("long", "local-timestamp-millis") => DataType::Timestamp(TimeUnit::Millisecond, None),
        ("long", "local-timestamp-micros") => DataType::Timestamp(TimeUnit::Microsecond, None),
        ("long", "local-timestamp-nanos") => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ("bytes", "decimal") => return Ok(decimal(json!("bytes"), schema)),
        _ => primitive,
    };
    Ok(Parsed::leaf(json!(name), data_type))
}

fn fixed(schema: &Value, layout_name: &str) -> Result<Parsed, String> {
    let size = schema.get("size").and_then(Value::as_i64).and_then(|size| i32::try_from(size).ok());
    let size = size.filter(|size| *size >= 0).ok_or("a fixed without its size")?;
    let layout = json!({"type": "fixed", "name": layout_name, "size": size});
    Ok(match schema.get("logicalType").and_then(Value::as_str) {
        Some("decimal") => decimal(layout, schema),
        _ => Parsed::leaf(layout, DataType::FixedSizeBinary(size)),
    })
}

fn decimal(layout: Value, schema: &Value) -> Parsed {
    let number = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    let (precision, scale) = (number("precision"), number("scale").unwrap_or(0));
    match precision.filter(|precision| (1..=38).contains(precision) && scale <= *precision) {
        Some(precision) => {
            let data_type = DataType::Decimal128(precision, scale as i8);
            Parsed { layout, avro_type: AvroType::Decimal(data_type.clone()), data_type, nullable: false }
        }
        None => Parsed::other(layout, "a decimal of more than 38 digits"),
    }
}
