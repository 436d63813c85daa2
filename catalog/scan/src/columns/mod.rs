//! Columns by field id: how one file's columns become the table's.
//!
//! ```text
//!   Parquet schema ── ids (own, or by name mapping) ── rename ──> columns named as in the table
//!                                                       types ──> what the reader is asked for, or a problem
//!   what was read ── reshape ──> the table's nested values      default ──> values that a file lacks
//! ```
//!
//! DataFusion's reader, its pruning and its filters find columns by name. So
//! a file whose names differ from the table's is shown to them under the
//! table's names: that way statistics, page indexes, bloom filters and row
//! filters all follow the ids with no code of their own. Files that agree
//! with the table, nearly all, are left as they are. The columns of an Avro
//! file are found the same way, see `avro`. A problem with a column
//! is an error only for a scan that uses the column.

mod avro;
mod name_mapping;
mod rename;
mod types;

pub mod default;
mod metadata;
mod reshape;

pub(crate) use avro::{AvroColumns, AvroType};
pub use metadata::MetadataColumn;
pub(crate) use reshape::{Constants, Part, Reshape, ReshapeExpr};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parking_lot::Mutex;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, TypePtr};

use crate::error::{Error, Result};
use crate::task::{TableScan, field_id};

/// Distinct file schemas remembered by one scan; a table has few.
const FILE_SCHEMAS_MAX: usize = 64;

/// How the columns of files with one schema become the table's.
#[derive(Debug)]
pub(crate) struct FileColumns {
    /// What the reader is asked for: one field a root column of the file, in its order.
    pub(crate) schema: SchemaRef,
    /// The file's schema under the table's names; `None` if the names agree.
    pub(crate) renamed: Option<SchemaDescPtr>,
    /// Indexes of the table's columns that the file lacks.
    pub(crate) absent: Vec<usize>,
    /// Table columns that cannot be read from the file, and why.
    problems: Vec<(usize, Problem)>,
}

/// Why a column cannot be read.
#[derive(Clone, Debug, PartialEq)]
enum Problem {
    /// Its type may not be read as the table's.
    Type { column: String, expected: String, found: String },
    /// A required column, or a required field inside one, of this id, is absent.
    Missing { column: String, id: Option<i32> },
    /// One of its name is there without an id, beside others that have one.
    WithoutId { column: String, id: Option<i32> },
    /// It is absent, and its default cannot be read.
    Default { column: String, reason: String },
    /// Legal, but not done yet.
    NotSupported { feature: String },
}

impl FileColumns {
    /// Where a file has ids, what has none is none of the table's columns, and to be ignored. One that has the name of
    /// a column which the file lacks may well be that: it is not read as NULL.
    fn doubt(&mut self, scan: &TableScan, without_ids: &[String]) {
        for index in &self.absent {
            let field = scan.schema.field(*index);
            if without_ids.contains(field.name()) {
                let (column, id) = (field.name().clone(), field_id(field));
                self.problems.push((*index, Problem::WithoutId { column, id }));
            }
        }
    }

    /// Fails if one of the `used` table columns cannot be read. `constants` are ids with a value for this file.
    pub(crate) fn check(&self, scan: &TableScan, file: &str, used: &[bool], constants: &[i32]) -> Result<()> {
        let is_used = |index: &usize| used.get(*index).copied().unwrap_or(false);
        let is_given = |id: Option<i32>| id.is_some_and(|id| constants.contains(&id));
        let is_one = |(index, problem): &&(usize, Problem)| match problem {
            Problem::Missing { id, .. } | Problem::WithoutId { id, .. } => is_used(index) && !is_given(*id),
            _ => is_used(index),
        };
        if let Some((_, problem)) = self.problems.iter().find(is_one) {
            return Err(problem.clone().into_error(scan, file));
        }
        for index in self.absent.iter().filter(|index| is_used(index)) {
            let field = scan.schema.field(*index);
            if !is_given(field_id(field)) {
                types::check_absent(field, field.name()).map_err(|problem| problem.into_error(scan, file))?;
            }
        }
        Ok(())
    }
}

impl Problem {
    fn into_error(self, scan: &TableScan, file: &str) -> Error {
        let (table, file) = (scan.table.clone(), file.to_owned());
        match self {
            Self::Type { column, expected, found } => {
                Error::ColumnType { table, column, expected, found, file }
            }
            Self::Missing { column, .. } => Error::RequiredColumnMissing { table, column, file },
            Self::WithoutId { column, .. } => {
                let feature = format!("column {column:?} without a field id in a file that has some");
                Error::NotSupported { table, feature, file }
            }
            Self::Default { column, reason } => Error::DefaultValue { table, column, reason, file },
            Self::NotSupported { feature } => Error::NotSupported { table, feature, file },
        }
    }
}

/// Resolves file schemas, each distinct one once.
#[derive(Debug)]
pub(crate) struct Resolver {
    scan: Arc<TableScan>,
    /// Schemas seen so far; searched in order, as there are few.
    seen: Mutex<Vec<(SchemaDescPtr, Arc<FileColumns>)>>,
}

impl Resolver {
    pub(crate) fn new(scan: Arc<TableScan>) -> Self {
        Self { scan, seen: Mutex::new(Vec::new()) }
    }

    /// The columns of a file with this schema; `file` is its URI, for messages.
    pub(crate) fn resolve(&self, schema: &SchemaDescPtr, file: &str) -> Result<Arc<FileColumns>> {
        {
            let seen = self.seen.lock();
            let same = |known: &SchemaDescPtr| Arc::ptr_eq(known, schema) || known == schema;
            if let Some((_, columns)) = seen.iter().find(|(known, _)| same(known)) {
                return Ok(Arc::clone(columns));
            }
        }
        let columns = Arc::new(resolve(&self.scan, schema, file)?);
        let mut seen = self.seen.lock();
        if seen.len() < FILE_SCHEMAS_MAX {
            seen.push((Arc::clone(schema), Arc::clone(&columns)));
        }
        Ok(columns)
    }
}

fn resolve(scan: &TableScan, schema: &SchemaDescPtr, file: &str) -> Result<FileColumns> {
    let damaged = |error: parquet::errors::ParquetError| Error::DamagedFile {
        table: scan.table.clone(),
        file: file.to_owned(),
        reason: format!("its schema cannot be understood: {error}"),
    };
    let own = schema.root_schema_ptr();
    let has_ids = rename::has_ids(&own);
    let identified = if has_ids { own } else { identify(scan, &own, file)? };
    // Told now: under the table's names none of these has one any more.
    let without_ids = if has_ids { rename::names_without_ids(&identified) } else { Vec::new() };
    let shown = rename::to_table_names(&identified, &scan.schema).map_err(damaged)?;
    if let Some(id) = rename::duplicate_root_id(&shown) {
        return Err(damaged(parquet::errors::ParquetError::General(format!(
            "two columns with field id {id}"
        ))));
    }
    let renamed = (!Arc::ptr_eq(&shown, &schema.root_schema_ptr()))
        .then(|| Arc::new(SchemaDescriptor::new(Arc::clone(&shown))));
    let descriptor = renamed.as_ref().unwrap_or(schema);
    let stored = parquet_to_arrow_schema(descriptor, None).map_err(damaged)?;
    let mut columns = match_columns(scan, &stored, types::Leaves::new(descriptor), renamed.clone());
    columns.doubt(scan, &without_ids);
    Ok(columns)
}

/// A file without ids is read by the table's name mapping. Without one, its columns are in tables of version 1 those
/// that the table began with, in their order; a later table is not read, as its names may mean other columns by now.
fn identify(scan: &TableScan, root: &TypePtr, file: &str) -> Result<TypePtr> {
    let unusable = |reason| Error::NameMapping { table: scan.table.clone(), reason };
    match scan.name_mapping.as_deref() {
        Some(mapping) => name_mapping::parse(mapping)
            .and_then(|mapping| name_mapping::assign(root, &mapping).map_err(|error| error.to_string()))
            .map_err(unusable),
        None if scan.format_version == 1 => {
            rename::with_ids_by_place(root).map_err(|error| unusable(error.to_string()))
        }
        None => Err(Error::NotSupported {
            table: scan.table.clone(),
            feature: "a data file without field ids in a table without a name mapping \
                      (property \"schema.name-mapping.default\")"
                .to_owned(),
            file: file.to_owned(),
        }),
    }
}

fn match_columns(
    scan: &TableScan,
    stored: &Schema,
    mut leaves: types::Leaves<'_>,
    renamed: Option<SchemaDescPtr>,
) -> FileColumns {
    let by_id: HashMap<i32, usize> =
        scan.schema.fields().iter().enumerate().filter_map(|(i, f)| Some((field_id(f)?, i))).collect();
    let mut problems = Vec::new();
    let mut present = HashSet::new();
    let mut fields = Vec::with_capacity(stored.fields().len());
    for field in stored.fields() {
        let target = field_id(field).and_then(|id| by_id.get(&id).copied());
        let Some(index) = target else {
            leaves.skip(field.data_type());
            fields.push(Arc::clone(field));
            continue;
        };
        present.insert(index);
        let wanted = scan.schema.field(index);
        let read = types::read_type(field.data_type(), wanted.data_type(), wanted.name(), &mut leaves);
        problems.extend(leaves.missing().map(|problem| (index, problem)));
        match read {
            Ok(read) => fields.push(Arc::new(
                Field::new(field.name(), read, field.is_nullable()).with_metadata(wanted.metadata().clone()),
            )),
            Err(problem) => {
                problems.push((index, problem));
                fields.push(Arc::clone(field));
            }
        }
    }
    let hides_nulls = fields.iter().any(|field| reshape::hides_nulls(field.data_type(), field.is_nullable()));
    let schema = Arc::new(Schema::new(Fields::from(fields)));
    FileColumns {
        schema: if hides_nulls { marked(&schema) } else { schema },
        renamed,
        absent: (0..scan.schema.fields().len()).filter(|index| !present.contains(index)).collect(),
        problems,
    }
}

/// The schema, different from every table's: the reader leaves expressions as they are for a file whose schema is
/// the table's, and so would take what is stored for what is given.
pub(crate) fn marked(schema: &SchemaRef) -> SchemaRef {
    let mark = HashMap::from([("tarn.given".to_owned(), String::new())]);
    Arc::new(schema.as_ref().clone().with_metadata(mark))
}

/// Leaf columns below a type, in Parquet's order.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaf_count(f.data_type())).sum(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaf_count(field.data_type()),
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
