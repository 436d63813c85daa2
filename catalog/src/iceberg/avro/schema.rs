//! The schema that an Avro file was written with.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::Result;

/// Schemas nest at most so deep, references followed.
const DEPTH_MAX: usize = 32;

/// Schemas have at most so many parts, references followed: one that refers to itself twice would double each time.
const PARTS_MAX: usize = 100_000;

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::iceberg) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Array(Box<Kind>),
    Map(Box<Kind>),
    Record(Vec<Field>),
    Union(Vec<Kind>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::iceberg) struct Field {
    pub(in crate::iceberg) name: String,
    /// Iceberg's id, if the writer put it down.
    pub(in crate::iceberg) id: Option<i32>,
    pub(in crate::iceberg) kind: Kind,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Int | Self::Long => "a whole number",
            Self::Float | Self::Double => "a floating point number",
            Self::Bytes => "bytes",
            Self::Text => "a text",
            Self::Fixed(_) => "a fixed number of bytes",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Record(_) => "a record",
            Self::Union(_) => "a union",
        })
    }
}

/// Reads a schema's JSON.
pub(super) fn parse(json: &[u8]) -> Result<Kind> {
    let json = serde_json::from_slice(json).map_err(|error| format!("an Avro schema: {error}"))?;
    let mut parser = Parser { named: HashMap::new(), parts: 0 };
    parser.kind(&json, DEPTH_MAX)
}

struct Parser {
    named: HashMap<String, Kind>,
    parts: usize,
}

impl Parser {
    fn kind(&mut self, json: &Value, depth: usize) -> Result<Kind> {
        let depth = depth.checked_sub(1).ok_or("an Avro schema is nested too deep")?;
        match json {
            Value::String(name) => self.by_name(name),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.kind(branch, depth));
                Ok(Kind::Union(branches.collect::<Result<_>>()?))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.complex(name, json, depth),
                Some(inner) => self.kind(inner, depth),
                None => Err("a part of an Avro schema has no type".to_owned()),
            },
            _ => Err("an Avro schema is not what it should be".to_owned()),
        }
    }

    fn complex(&mut self, name: &str, json: &Value, depth: usize) -> Result<Kind> {
        let mut part = |key: &str| match &json[key] {
            Value::Null => Err(format!("a part of an Avro schema has no {key}")),
            inner => self.kind(inner, depth).map(Box::new),
        };
        let kind = match name {
            "array" => Kind::Array(part("items")?),
            "map" => Kind::Map(part("values")?),
            "record" => {
                let fields = json["fields"].as_array().ok_or("an Avro record has no fields")?;
                Kind::Record(fields.iter().map(|field| self.field(field, depth)).collect::<Result<_>>()?)
            }
            "fixed" => {
                let size = json["size"].as_u64().and_then(|size| usize::try_from(size).ok());
                Kind::Fixed(size.ok_or("an Avro fixed has no size")?)
            }
            "enum" => Kind::Int,
            name => return self.by_name(name),
        };
        if let Some(name) = json["name"].as_str() {
            self.named.insert(name.to_owned(), kind.clone());
            if let Some(space) = json["namespace"].as_str() {
                self.named.insert(format!("{space}.{name}"), kind.clone());
            }
        }
        self.count(&kind)?;
        Ok(kind)
    }

    fn field(&mut self, json: &Value, depth: usize) -> Result<Field> {
        let name = json["name"].as_str().ok_or("a field of an Avro record has no name")?;
        let id = json["field-id"].as_i64().and_then(|id| i32::try_from(id).ok());
        let kind = self.kind(&json["type"], depth)?;
        Ok(Field { name: name.to_owned(), id, kind })
    }

    fn by_name(&mut self, name: &str) -> Result<Kind> {
        let kind = match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::Text,
            name => {
                let known = self.named.get(name).cloned();
                known.ok_or_else(|| format!("Avro type {name:?} is not known"))?
            }
        };
        self.count(&kind)?;
        Ok(kind)
    }

    fn count(&mut self, kind: &Kind) -> Result<()> {
        self.parts = self.parts.saturating_add(parts(kind));
        if self.parts > PARTS_MAX {
            return Err("an Avro schema is too long".to_owned());
        }
        Ok(())
    }
}

fn parts(kind: &Kind) -> usize {
    1 + match kind {
        Kind::Array(inner) | Kind::Map(inner) => parts(inner),
        Kind::Record(fields) => fields.iter().map(|field| parts(&field.kind)).sum(),
        Kind::Union(branches) => branches.iter().map(parts).sum(),
        _ => 0,
    }
}
