//! Which type a column is read as, and whether that is allowed.
//!
//! Iceberg lets a column's type grow (int to long, float to double, a wider
//! decimal, since version 3 date to timestamp) and nothing else. Everything
//! that this module does not name is a problem with the column: a cast that
//! happens to exist is no reason to apply it. What is read may still differ
//! from the table's type where a lossless cast follows (`Int32` read, `Int64`
//! wanted), or where a nested value is put together anew, see `reshape`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::SchemaDescriptor;

use super::{Problem, default, leaf_count};
use crate::task::field_id;

/// Walks the file's leaf columns in step with its Arrow types.
pub(super) struct Leaves<'a> {
    /// `None` for a file of another format.
    descriptor: Option<&'a SchemaDescriptor>,
    next: usize,
    /// Required fields that the file lacks: it can be read where each has a value by the file's partition.
    missing: Vec<Problem>,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(descriptor: &'a SchemaDescriptor) -> Self {
        Self { descriptor: Some(descriptor), next: 0, missing: Vec::new() }
    }

    /// Of a file that is not Parquet.
    pub(super) fn none() -> Self {
        Self { descriptor: None, next: 0, missing: Vec::new() }
    }

    /// Passes over all leaves of a column.
    pub(super) fn skip(&mut self, data_type: &DataType) {
        self.next += leaf_count(data_type);
    }

    /// What was found missing since it was last asked.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = Problem> + '_ {
        self.missing.drain(..)
    }

    fn take(&mut self) -> Option<PhysicalType> {
        let index = self.next;
        self.next += 1;
        let descriptor = self.descriptor?;
        (index < descriptor.num_columns()).then(|| descriptor.column(index).physical_type())
    }
}

/// The type to ask the reader for, so that `stored` becomes `wanted` with at most a lossless cast.
/// Consumes the column's leaves in any case.
pub(super) fn read_type(
    stored: &DataType,
    wanted: &DataType,
    column: &str,
    leaves: &mut Leaves<'_>,
) -> Result<DataType, Problem> {
    let end = leaves.next + leaf_count(stored);
    let result = resolve(stored, wanted, column, leaves);
    leaves.next = end;
    result
}

fn resolve(
    stored: &DataType,
    wanted: &DataType,
    column: &str,
    leaves: &mut Leaves<'_>,
) -> Result<DataType, Problem> {
    let mismatch = || Problem::Type {
        column: column.to_owned(),
        expected: wanted.to_string(),
        found: stored.to_string(),
    };
    match (stored, wanted) {
        (DataType::Struct(stored), DataType::Struct(wanted)) => {
            Ok(DataType::Struct(resolve_struct(stored, wanted, column, leaves)?))
        }
        (DataType::List(stored), DataType::List(wanted)) => {
            let element = resolve_child(stored, wanted, &format!("{column}.element"), leaves)?;
            Ok(DataType::List(element))
        }
        (DataType::Map(stored, sorted), DataType::Map(wanted, _)) => {
            let (DataType::Struct(pair), DataType::Struct(wanted_pair)) =
                (stored.data_type(), wanted.data_type())
            else {
                return Err(mismatch());
            };
            let ([key, value], [wanted_key, wanted_value]) = (pair.as_ref(), wanted_pair.as_ref()) else {
                return Err(mismatch());
            };
            let key = resolve_child(key, wanted_key, &format!("{column}.key"), leaves)?;
            let value = resolve_child(value, wanted_value, &format!("{column}.value"), leaves)?;
            let pair = DataType::Struct(Fields::from(vec![key, value]));
            let entries = Field::new(stored.name(), pair, stored.is_nullable())
                .with_metadata(wanted.metadata().clone());
            Ok(DataType::Map(Arc::new(entries), *sorted))
        }
        _ if stored.is_nested() || wanted.is_nested() => Err(mismatch()),
        _ => {
            let int96 = leaves.take() == Some(PhysicalType::INT96);
            leaf(stored, wanted, int96).ok_or_else(mismatch)
        }
    }
}

fn resolve_child(
    stored: &FieldRef,
    wanted: &FieldRef,
    column: &str,
    leaves: &mut Leaves<'_>,
) -> Result<FieldRef, Problem> {
    let read = resolve(stored.data_type(), wanted.data_type(), column, leaves)?;
    // The reader takes no metadata for what has no id: the element of a list of two levels.
    let identified = if field_id(stored).is_some() { wanted } else { stored };
    let metadata = identified.metadata().clone();
    Ok(Arc::new(Field::new(stored.name(), read, stored.is_nullable()).with_metadata(metadata)))
}

/// Fields of a struct by id: those that the file has, in its order, whether the table has them or not.
fn resolve_struct(
    stored: &Fields,
    wanted: &Fields,
    column: &str,
    leaves: &mut Leaves<'_>,
) -> Result<Fields, Problem> {
    if stored.iter().all(|field| field_id(field).is_none()) {
        let feature = format!("column {column:?}, whose fields have no field ids in the file,");
        return Err(Problem::NotSupported { feature });
    }
    let mut read = Vec::with_capacity(stored.len());
    let mut found = vec![false; wanted.len()];
    for field in stored {
        let id = field_id(field);
        let index = id.and_then(|id| wanted.iter().position(|w| field_id(w) == Some(id)));
        let Some(index) = index else {
            leaves.skip(field.data_type());
            read.push(Arc::clone(field));
            continue;
        };
        found[index] = true;
        let path = format!("{column}.{}", wanted[index].name());
        read.push(resolve_child(field, &wanted[index], &path, leaves)?);
    }
    for (field, _) in wanted.iter().zip(&found).filter(|(_, found)| !**found) {
        match check_absent(field, &format!("{column}.{}", field.name())) {
            Err(problem @ Problem::Missing { .. }) => leaves.missing.push(problem),
            other => other?,
        }
    }
    Ok(Fields::from(read))
}

/// Whether a field that a file lacks has a value all the same.
pub(super) fn check_absent(field: &Field, column: &str) -> Result<(), Problem> {
    match default::initial(field) {
        Ok(Some(_)) => Ok(()),
        Ok(None) if field.is_nullable() => Ok(()),
        Ok(None) => Err(Problem::Missing { column: column.to_owned(), id: field_id(field) }),
        Err(reason) => Err(Problem::Default { column: column.to_owned(), reason }),
    }
}

/// The type to read a leaf column as, or `None` if it may not be read as `wanted`.
fn leaf(stored: &DataType, wanted: &DataType, int96: bool) -> Option<DataType> {
    use DataType::*;
    if int96 {
        // Without a unit or zone of its own; the reader converts to what it is told.
        return matches!(wanted, Timestamp(_, _)).then(|| wanted.clone());
    }
    match (stored, wanted) {
        _ if stored == wanted => Some(stored.clone()),
        // A column that holds only NULLs and was annotated so.
        (Null, _) => Some(Null),
        (Int8 | Int16, Int32) | (Int8 | Int16 | Int32, Int64) | (Float32, Float64) => Some(stored.clone()),
        (Decimal128(precision, scale) | Decimal256(precision, scale), Decimal128(wider, same))
            if precision <= wider && scale == same =>
        {
            Some(stored.clone())
        }
        (Utf8, Utf8View | LargeUtf8) | (Binary, BinaryView | LargeBinary) => Some(wanted.clone()),
        // Old writers left out the annotation of strings. The reader checks the UTF-8.
        (Binary, Utf8 | Utf8View | LargeUtf8) => Some(wanted.clone()),
        (Time32(TimeUnit::Millisecond), Time64(_)) => Some(stored.clone()),
        // Of version 3. Not to a timestamp with a zone; a date out of range is an error when it is read.
        (Date32, Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, None)) => Some(Date32),
        (Timestamp(unit, zone), Timestamp(finer, wanted_zone)) if zone.is_some() == wanted_zone.is_some() => {
            let lossless = unit == finer
                || matches!(
                    (unit, finer),
                    (TimeUnit::Millisecond, TimeUnit::Microsecond | TimeUnit::Nanosecond)
                );
            lossless.then(|| Timestamp(*unit, wanted_zone.clone()))
        }
        _ => None,
    }
}
