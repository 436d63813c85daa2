//! Nested values put together anew: a file's struct, list or map as the table's.
//!
//! ```text
//!   file    struct<1: a int, 7: gone int, 3: l list<struct<5: x float>>>
//!   table   struct<3: l list<struct<6: y int default 4, 5: x double>>, 1: a long, 9: new string>
//!           by id: l rebuilt inside, a widened, new all NULL, gone left out
//! ```
//!
//! Fields are found by id at every level; a list's element and a map's key
//! and value by their place, having no other. Two rules. What holds the
//! fields (a struct's or list's own NULLs, a list's lengths) is never made
//! up: it is the file's, whichever of its fields the table still has. And
//! each field is NULL where its struct is: the reader gives a required field
//! some value there, and what reads a field of a struct does not look at the
//! struct's own NULLs.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray, make_array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::default;
use crate::task::field_id;

/// Values by the ids of fields that are the same in every row of a file.
pub(crate) type Constants = HashMap<i32, ScalarValue>;

/// How a value of one type becomes one of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reshape {
    /// The types are the same, and no field lacks the NULLs of its struct.
    Keep,
    /// No nested type: the value grows.
    Cast,
    /// A struct: where each of its fields comes from.
    Struct(Vec<Part>),
    /// A list, by its element.
    List(Box<Reshape>),
    /// A map, by its key and its value.
    Map(Box<Reshape>, Box<Reshape>),
}

/// Where a field of a struct comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The file's field at this place.
    Stored(usize, Reshape),
    /// The file lacks it: in each struct that is there, it has this value.
    Constant(ScalarValue),
}

impl Reshape {
    /// From the file's type to the table's, which were found to fit; `optional` if the value may be NULL, and
    /// `constants` are the values by id of fields that the file lacks. Fails if they do not fit, or for a default
    /// that cannot be read.
    pub(crate) fn new(
        stored: &DataType,
        wanted: &DataType,
        optional: bool,
        constants: &Constants,
    ) -> Result<Self> {
        if stored == wanted && !hides_nulls(stored, optional) {
            return Ok(Self::Keep);
        }
        Ok(match (stored, wanted) {
            (DataType::Struct(stored), DataType::Struct(wanted)) => {
                let part = |wanted: &FieldRef| Part::new(stored, wanted, optional, constants);
                Self::Struct(wanted.iter().map(part).collect::<Result<_>>()?)
            }
            (DataType::List(stored), DataType::List(wanted)) => {
                let optional = stored.is_nullable();
                Self::List(Box::new(Self::new(stored.data_type(), wanted.data_type(), optional, constants)?))
            }
            (DataType::Map(stored, _), DataType::Map(wanted, _)) => {
                let ([stored_key, stored_value], [key, value]) = (pair(stored)?, pair(wanted)?);
                let key = Self::new(stored_key.data_type(), key.data_type(), false, constants)?;
                let optional = stored_value.is_nullable();
                let value = Self::new(stored_value.data_type(), value.data_type(), optional, constants)?;
                Self::Map(Box::new(key), Box::new(value))
            }
            _ if stored.is_nested() || wanted.is_nested() => {
                return internal_err!("{stored} cannot be read as {wanted}");
            }
            _ => Self::Cast,
        })
    }

    /// Does it. `wanted` is the type that this was made for.
    pub(crate) fn apply(&self, array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
        match (self, wanted) {
            (Self::Keep, _) => Ok(Arc::clone(array)),
            (Self::Cast, _) => {
                // A value that does not fit is an error, not NULL.
                let options = CastOptions { safe: false, ..CastOptions::default() };
                Ok(cast_with_options(array, wanted, &options)?)
            }
            (Self::Struct(parts), DataType::Struct(fields)) => apply_struct(parts, array, fields),
            (Self::List(element), DataType::List(field)) => {
                let list = array.as_list::<i32>();
                let values = element.apply(list.values(), field.data_type())?;
                let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls)?))
            }
            (Self::Map(key, value), DataType::Map(entries, sorted)) => {
                let map = array.as_map();
                let [key_field, value_field] = pair(entries)?;
                let keys = key.apply(map.keys(), key_field.data_type())?;
                let values = value.apply(map.values(), value_field.data_type())?;
                let DataType::Struct(fields) = entries.data_type() else {
                    return internal_err!("the entries of a map are no struct");
                };
                let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
                let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
                Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?))
            }
            _ => internal_err!("a nested value was to become {wanted}"),
        }
    }
}

impl Part {
    fn new(stored: &Fields, wanted: &FieldRef, optional: bool, constants: &Constants) -> Result<Self> {
        let id = field_id(wanted);
        let found = stored.iter().position(|field| id.is_some() && field_id(field) == id);
        if let Some(index) = found {
            let optional = optional || stored[index].is_nullable();
            let reshape = Reshape::new(stored[index].data_type(), wanted.data_type(), optional, constants)?;
            return Ok(Self::Stored(index, reshape));
        }
        if let Some(value) = id.and_then(|id| constants.get(&id)) {
            let data_type = wanted.data_type();
            return Ok(Self::Constant(match value.is_null() {
                true => ScalarValue::try_new_null(data_type)?,
                false => value.cast_to(data_type)?,
            }));
        }
        match default::initial(wanted) {
            Ok(Some(value)) => Ok(Self::Constant(value)),
            Ok(None) => Ok(Self::Constant(ScalarValue::try_new_null(wanted.data_type())?)),
            Err(reason) => exec_err!("default value of field {:?}: {reason}", wanted.name()),
        }
    }
}

/// Whether a field is required in a struct that may be NULL, at any depth.
pub(super) fn hides_nulls(data_type: &DataType, optional: bool) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| {
            let nullable = field.is_nullable();
            optional && !nullable || hides_nulls(field.data_type(), optional || nullable)
        }),
        DataType::List(element) => hides_nulls(element.data_type(), element.is_nullable()),
        // A key is never NULL, and the entries are no field.
        DataType::Map(entries, _) => match pair(entries) {
            Ok([key, value]) => {
                hides_nulls(key.data_type(), false) || hides_nulls(value.data_type(), value.is_nullable())
            }
            Err(_) => false,
        },
        _ => false,
    }
}

/// Key and value of a map's entries.
fn pair(entries: &FieldRef) -> Result<[&FieldRef; 2]> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok([&fields[0], &fields[1]]),
        other => internal_err!("the entries of a map are {other}"),
    }
}

fn apply_struct(parts: &[Part], array: &ArrayRef, fields: &Fields) -> Result<ArrayRef> {
    let stored = array.as_struct();
    let nulls = stored.nulls();
    let part = |(part, field): (&Part, &FieldRef)| match part {
        Part::Stored(index, reshape) => {
            let column = stored.column(*index);
            let column = match stored.fields()[*index].is_nullable() {
                true => Arc::clone(column),
                false => masked(column, nulls)?,
            };
            reshape.apply(&column, field.data_type())
        }
        Part::Constant(value) if value.is_null() => Ok(new_null_array(field.data_type(), stored.len())),
        Part::Constant(value) => masked(&value.to_array_of_size(stored.len())?, nulls),
    };
    let columns = parts.iter().zip(fields).map(part).collect::<Result<Vec<_>>>()?;
    let length = stored.len();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls.cloned(), length)?))
}

/// A constant or a required field, except where the struct around it is NULL.
fn masked(array: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
        return Ok(Arc::clone(array));
    };
    let both = NullBuffer::union(array.nulls(), Some(nulls));
    Ok(make_array(array.to_data().into_builder().nulls(both).build()?))
}

/// An expression whose nested value is put together anew. Lives for one file, and never travels.
#[derive(Debug, Eq)]
pub(crate) struct ReshapeExpr {
    pub(crate) value: Arc<dyn PhysicalExpr>,
    pub(crate) reshape: Arc<Reshape>,
    /// The field of the table.
    pub(crate) field: FieldRef,
}

// Not derived, since the derived code would move the expression out of its pointer.
impl PartialEq for ReshapeExpr {
    fn eq(&self, other: &Self) -> bool {
        self.value.eq(&other.value) && self.reshape == other.reshape && self.field == other.field
    }
}

impl Hash for ReshapeExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
        self.reshape.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for ReshapeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reshape({})", self.value)
    }
}

impl PhysicalExpr for ReshapeExpr {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.value.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(self.reshape.apply(&array, self.field.data_type())?))
    }

    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.value]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (Some(value), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("a reshaped value is made of one expression");
        };
        let (reshape, field) = (Arc::clone(&self.reshape), Arc::clone(&self.field));
        Ok(Arc::new(Self { value, reshape, field }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reshape({})", self.value)
    }
}
