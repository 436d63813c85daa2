//! Expressions over the table's columns, rewritten for one file.
//!
//! ```text
//!   column   the same type      the column, wherever it stands in the file
//!            another            a cast, or a nested value put together anew by field ids
//!            absent             the file's constant for it, else its default, else NULL
//! ```
//!
//! The file is shown under the table's names (see `columns`). A column that
//! differs only in nullability or metadata is used as it stands; a cast, even
//! one that does nothing, would hide it from pruning. For the same reason a
//! field of a struct is looked up in the file's own struct where that can be.
//! Whether a column may be read so at all was decided when the file's schema
//! was resolved: nothing here refuses.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, IsNotNullExpr, Literal, lit,
};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use crate::columns::{Constants, Part, Reshape, ReshapeExpr, default};

/// Name of the reader's own column with the number of each row in its file.
pub(super) const ROW_NUMBER: &str = "\u{1f}row_number";

/// What a column is in one file, if it is not simply the file's.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// The same value in every row; even if the file has the column.
    Constant(ScalarValue),
    /// The number of the row in the file.
    RowNumber,
    /// What the file has, and where that is NULL or absent, the constant.
    StoredOr(ScalarValue),
    /// What the file has, and where that is NULL or absent, the number of the row, plus this.
    StoredOrRowNumber(i64),
}

impl Given {
    /// The same in the column's type.
    pub(super) fn cast_to(self, data_type: &DataType) -> Result<Self> {
        Ok(match self {
            Self::Constant(value) if value.is_null() => Self::Constant(ScalarValue::try_new_null(data_type)?),
            Self::Constant(value) if value.data_type() != *data_type => {
                Self::Constant(value.cast_to(data_type)?)
            }
            other => other,
        })
    }
}

/// Makes the adapter of a file.
#[derive(Debug, Default)]
pub(super) struct ColumnAdapterFactory {
    given: Arc<GivenByFile>,
}

/// What one file's columns are given.
#[derive(Debug, Default)]
pub(super) struct GivenByFile {
    /// By name of the column.
    pub(super) columns: HashMap<String, Given>,
    /// Values by id of fields inside of columns, which they have where the file lacks them.
    pub(super) fields: Constants,
}

impl GivenByFile {
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.fields.is_empty()
    }
}

impl ColumnAdapterFactory {
    pub(super) fn new(given: GivenByFile) -> Self {
        Self { given: Arc::new(given) }
    }
}

impl PhysicalExprAdapterFactory for ColumnAdapterFactory {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(ColumnAdapter { given: Arc::clone(&self.given), logical, physical }))
    }
}

#[derive(Debug)]
struct ColumnAdapter {
    given: Arc<GivenByFile>,
    /// The table's.
    logical: SchemaRef,
    /// The file's, under the table's names.
    physical: SchemaRef,
}

impl PhysicalExprAdapter for ColumnAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let rewrite = |expr: Arc<dyn PhysicalExpr>| {
            if let Some(column) = expr.downcast_ref::<Column>() {
                return Ok(Transformed::yes(self.column(column.name())?));
            }
            Ok(match self.field_of_struct(&expr)? {
                Some(narrowed) => Transformed::yes(narrowed),
                None => Transformed::no(expr),
            })
        };
        expr.transform_up(rewrite).data()
    }
}

impl ColumnAdapter {
    fn column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(given) = self.given.columns.get(name) else {
            return self.stored(name);
        };
        let row_number = || self.reader_column(ROW_NUMBER);
        Ok(match given {
            Given::Constant(value) => lit(value.clone()),
            Given::RowNumber => row_number()?,
            Given::StoredOr(value) => self.stored_or(name, lit(value.clone()))?,
            Given::StoredOrRowNumber(first) => {
                let first = lit(ScalarValue::Int64(Some(*first)));
                self.stored_or(name, Arc::new(BinaryExpr::new(row_number()?, Operator::Plus, first)))?
            }
        })
    }

    /// A column that only the reader knows.
    fn reader_column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Column::new_with_schema(name, &self.physical)?))
    }

    fn stored_or(&self, name: &str, other: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        if self.physical.index_of(name).is_err() {
            return Ok(other);
        }
        let stored = self.stored(name)?;
        let there = Arc::new(IsNotNullExpr::new(Arc::clone(&stored)));
        Ok(Arc::new(CaseExpr::try_new(None, vec![(there, stored)], Some(other))?))
    }

    /// The file's column as the table's.
    fn stored(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let Ok(wanted) = self.logical.field_with_name(name) else {
            return self.reader_column(name);
        };
        let Ok(index) = self.physical.index_of(name) else {
            return Ok(lit(absent(wanted)?));
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, index));
        let stored = self.physical.field(index);
        let field = Arc::new(wanted.clone().with_nullable(stored.is_nullable()));
        as_wanted(column, stored.data_type(), field, &self.given.fields)
    }

    /// A field of a nested value that is put together anew, taken from the file's value.
    fn field_of_struct(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(access) = ScalarFunctionExpr::try_downcast_func::<GetFieldFunc>(expr.as_ref()) else {
            return Ok(None);
        };
        let Some((outer, keys)) = access.args().split_first() else {
            return Ok(None);
        };
        let Some(outer) = outer.downcast_ref::<ReshapeExpr>() else {
            return Ok(None);
        };
        let stored = outer.value.data_type(&self.physical)?;
        let Some(found) = find(&outer.reshape, &stored, &outer.field, keys) else {
            return Ok(None);
        };
        let Found::Stored { names, data_type, field } = found else {
            let Found::Null(data_type) = found else { return Ok(None) };
            return Ok(Some(lit(ScalarValue::try_new_null(&data_type)?)));
        };
        let mut args = vec![Arc::clone(&outer.value)];
        args.extend(names.into_iter().map(lit));
        let fun = Arc::new(access.fun().clone());
        let options = Arc::new(access.config_options().clone());
        let narrowed = ScalarFunctionExpr::try_new(fun, args, &self.physical, options)?;
        as_wanted(Arc::new(narrowed), &data_type, field, &self.given.fields).map(Some)
    }
}

/// A value of the file as a field of the table.
fn as_wanted(
    value: Arc<dyn PhysicalExpr>,
    stored: &DataType,
    field: FieldRef,
    constants: &Constants,
) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(match Reshape::new(stored, field.data_type(), field.is_nullable(), constants)? {
        Reshape::Keep => value,
        Reshape::Cast => Arc::new(CastExpr::new_with_target_field(value, field, None)),
        reshape => Arc::new(ReshapeExpr { value, reshape: Arc::new(reshape), field }),
    })
}

/// The value of a column that the file lacks.
fn absent(field: &Field) -> Result<ScalarValue> {
    match default::initial(field) {
        Ok(Some(value)) => Ok(value),
        // One that is needed and cannot be read was found when the file was resolved.
        Ok(None) | Err(_) => ScalarValue::try_new_null(field.data_type()),
    }
}

/// Where a path into a nested value leads.
enum Found {
    Stored { names: Vec<String>, data_type: DataType, field: FieldRef },
    Null(DataType),
}

/// Follows the names of struct fields. `None` if they lead elsewhere: into a map, or to what only a struct that is
/// there has, a default or a required field.
fn find(
    reshape: &Reshape,
    stored: &DataType,
    wanted: &FieldRef,
    keys: &[Arc<dyn PhysicalExpr>],
) -> Option<Found> {
    let mut names = Vec::with_capacity(keys.len());
    let (mut stored, mut wanted, mut reshape) = (stored, wanted, reshape);
    let mut optional = wanted.is_nullable();
    for key in keys {
        let key = key.downcast_ref::<Literal>()?.value().try_as_str().flatten()?;
        let (DataType::Struct(from), DataType::Struct(to)) = (stored, wanted.data_type()) else {
            return None;
        };
        let (place, field) = to.iter().enumerate().find(|(_, field)| field.name() == key)?;
        let index = match reshape {
            Reshape::Struct(parts) => match parts.get(place)? {
                Part::Stored(index, inner) => {
                    reshape = inner;
                    *index
                }
                Part::Constant(value) => {
                    return value.is_null().then(|| Found::Null(to[place].data_type().clone()));
                }
            },
            Reshape::Keep => place,
            _ => return None,
        };
        let name = from.get(index)?.name();
        if optional && !from[index].is_nullable() {
            return None;
        }
        optional |= from[index].is_nullable();
        // The reader looks it up by name.
        if from.iter().filter(|field| field.name() == name).count() > 1 {
            return None;
        }
        names.push(name.clone());
        stored = from[index].data_type();
        wanted = field;
    }
    Some(Found::Stored {
        names,
        data_type: stored.clone(),
        field: Arc::new(wanted.as_ref().clone().with_nullable(true)),
    })
}
