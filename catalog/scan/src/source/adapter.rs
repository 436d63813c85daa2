//! Expressions over the table's columns, rewritten for one file.
//!
//! The file is shown under the table's names (see `columns`), so DataFusion's
//! own rewriting by name does nearly everything: casts, absent columns as
//! NULL. Two things are added: constants of identity partitions for absent
//! columns, and that a column which differs only in nullability or metadata
//! is used as it stands; a cast, even one that does nothing, would hide it
//! from pruning.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory,
    replace_columns_with_literals,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

/// Makes the adapter of a file.
#[derive(Debug, Default)]
pub(super) struct ColumnAdapterFactory {
    /// Values of absent columns, by name.
    constants: Arc<HashMap<String, ScalarValue>>,
}

impl ColumnAdapterFactory {
    pub(super) fn new(constants: HashMap<String, ScalarValue>) -> Self {
        Self { constants: Arc::new(constants) }
    }
}

impl PhysicalExprAdapterFactory for ColumnAdapterFactory {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let logical = if logical == physical { logical } else { as_stored(&logical, &physical) };
        Ok(Arc::new(ColumnAdapter {
            constants: Arc::clone(&self.constants),
            rest: DefaultPhysicalExprAdapter::new(logical, physical),
        }))
    }
}

/// The table's schema with the file's field wherever the types agree.
fn as_stored(logical: &SchemaRef, physical: &SchemaRef) -> SchemaRef {
    let stored: HashMap<&str, &FieldRef> =
        physical.fields().iter().map(|field| (field.name().as_str(), field)).collect();
    let field = |wanted: &FieldRef| match stored.get(wanted.name().as_str()) {
        Some(stored) if stored.data_type() == wanted.data_type() => Arc::clone(stored),
        Some(stored) => Arc::new(Field::clone(wanted).with_nullable(stored.is_nullable())),
        // Whether an absent column may be NULL was decided when the file was resolved.
        None => Arc::new(Field::clone(wanted).with_nullable(true)),
    };
    Arc::new(Schema::new(logical.fields().iter().map(field).collect::<Vec<_>>()))
}

#[derive(Debug)]
struct ColumnAdapter {
    constants: Arc<HashMap<String, ScalarValue>>,
    rest: DefaultPhysicalExprAdapter,
}

impl PhysicalExprAdapter for ColumnAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        if self.constants.is_empty() {
            return self.rest.rewrite(expr);
        }
        self.rest.rewrite(replace_columns_with_literals(expr, self.constants.as_ref())?)
    }
}
