//! Which containers may hold rows that a query's filters let through.
//!
//! DataFusion's `PruningPredicate` decides, over one implementation of its
//! statistics for manifests and for files. A filter that it does not
//! understand keeps everything, and so does an error.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{conjunction, create_physical_expr};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::scalar::ScalarValue;
use tarn_scan::write::Transform;
use tracing::debug;

use super::containers::{Containers, concat, gather};
use crate::iceberg::TableSchema;

/// The filters of a query over one table; `None` if nothing can be pruned by them.
pub(super) fn predicate(filters: &[Expr], schema: &TableSchema) -> Option<PruningPredicate> {
    let df_schema = DFSchema::try_from(Arc::clone(&schema.arrow)).ok()?;
    let properties = ExecutionProps::new();
    let physical = |filter: &Expr| {
        // The provider's schema has no qualifier, whatever alias the query gave the table.
        let filter = unqualified(filter)?;
        if filter.is_volatile() {
            return None;
        }
        create_physical_expr(&filter, &df_schema, &properties, &PhysicalPlanningContext::default()).ok()
    };
    let filters: Vec<_> = filters.iter().filter_map(physical).collect();
    if filters.is_empty() {
        return None;
    }
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&schema.arrow));
    let predicate = builder.try_build(conjunction(filters)).ok()?;
    (!predicate.always_true()).then_some(predicate)
}

fn unqualified(filter: &Expr) -> Option<Expr> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    let strip = |expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    };
    filter.clone().transform(strip).data().ok()
}

/// For each container of all blocks, whether it must be kept.
pub(super) fn keep(
    predicate: Option<&PruningPredicate>,
    schema: &TableSchema,
    blocks: &[&Containers],
) -> Vec<bool> {
    let statistics = Blocks { schema, blocks, len: blocks.iter().map(|block| block.len).sum() };
    let Some(predicate) = predicate.filter(|_| statistics.len > 0) else {
        return vec![true; statistics.len];
    };
    predicate.prune(&statistics).unwrap_or_else(|error| {
        debug!(%error, "filters could not be decided by statistics");
        vec![true; statistics.len]
    })
}

/// The containers of several blocks as one row.
struct Blocks<'a> {
    schema: &'a TableSchema,
    blocks: &'a [&'a Containers],
    len: usize,
}

impl Blocks<'_> {
    fn column(&self, column: &Column) -> Option<(i32, &DataType)> {
        let (field_id, index) = self.schema.column(&column.name)?;
        Some((field_id, self.schema.arrow.field(index).data_type()))
    }

    fn buckets(
        &self,
        field_id: i32,
        data_type: &DataType,
        values: &HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        let mut outside = Vec::with_capacity(self.len);
        let mut known = false;
        for block in self.blocks {
            let found = block.buckets.iter().find(|bucket| bucket.source_id == field_id);
            let Some(found) = found else {
                outside.resize(outside.len() + block.len, None);
                continue;
            };
            let wanted = buckets_of(found.count, data_type, values)?;
            let is_outside =
                |bucket: Option<i32>| bucket.filter(|bucket| !wanted.contains(bucket)).map(|_| false);
            outside.extend(found.buckets.iter().map(is_outside));
            known = true;
        }
        known.then(|| outside.into())
    }
}

impl PruningStatistics for Blocks<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let (field_id, data_type) = self.column(column)?;
        gather(self.blocks, field_id, data_type, |arrays| arrays.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let (field_id, data_type) = self.column(column)?;
        gather(self.blocks, field_id, data_type, |arrays| arrays.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.len
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (field_id, _) = self.column(column)?;
        let arrays = self.blocks.iter().map(|block| match block.columns.get(&field_id) {
            Some(arrays) => Arc::new(arrays.null_count.clone()) as ArrayRef,
            None => new_null_array(&DataType::UInt64, block.len),
        });
        concat(arrays.collect())
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        concat(self.blocks.iter().map(|block| Arc::new(block.rows.clone()) as ArrayRef).collect())
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let (field_id, data_type) = self.column(column)?;
        self.buckets(field_id, data_type, values)
    }
}

/// The buckets that values are in; `None` if that cannot be said of one of them.
fn buckets_of(count: u32, data_type: &DataType, values: &HashSet<ScalarValue>) -> Option<HashSet<i32>> {
    if count == 0 || values.is_empty() {
        return None;
    }
    if values.iter().any(|value| value.data_type() != *data_type) {
        return None;
    }
    let values = ScalarValue::iter_to_array(values.iter().cloned()).ok()?;
    let buckets = Transform::Bucket(count).apply(&values).ok()?;
    let buckets = buckets.as_any().downcast_ref::<arrow::array::Int32Array>()?;
    // A NULL among the values is in no bucket, and equal to nothing.
    Some(buckets.iter().flatten().collect())
}
