//! String views that carry their own bytes only, before they are written to a shuffle file.
//!
//! A view array keeps every buffer that its views once pointed into, and the file format
//! writes them all, with every batch: a sorted result of a few megabytes could become
//! gigabytes. The writer for hashed exchanges compacts by itself; this node does so for the
//! other one.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ByteViewType, DataType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use ballista_core::execution_plans::ShuffleWriterExec;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;

/// Buffers up to this size are written as they are.
const SLACK_BYTES: usize = 16 << 10;

/// The plan with a compacting node below a plain shuffle writer, if its rows have views.
pub(super) fn apply(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let views = plan.schema().fields().iter().any(|field| is_view(field.data_type()));
    if !views || !plan.is::<ShuffleWriterExec>() {
        return Ok(plan);
    }
    let children = plan
        .children()
        .into_iter()
        .map(|child| Arc::new(CompactExec { input: Arc::clone(child) }) as Arc<dyn ExecutionPlan>);
    let children = children.collect();
    plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

#[derive(Debug)]
struct CompactExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for CompactExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("CompactExec")
    }
}

impl ExecutionPlan for CompactExec {
    fn name(&self) -> &str {
        "CompactExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self { input })),
            _ => Err(DataFusionError::Internal("CompactExec has one child".to_string())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let compacted = input.map(|batch| compact(batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, compacted)))
    }
}

fn is_view(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(compact_column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn compact_column(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => compact_views::<arrow::datatypes::StringViewType>(column),
        DataType::BinaryView => compact_views::<arrow::datatypes::BinaryViewType>(column),
        _ => Arc::clone(column),
    }
}

fn compact_views<T: ByteViewType>(column: &ArrayRef) -> ArrayRef {
    let views = column.as_byte_view::<T>();
    let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    if held <= SLACK_BYTES || held <= 2 * views.total_buffer_bytes_used() {
        return Arc::clone(column);
    }
    Arc::new(views.gc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;

    #[test]
    fn slice_of_a_large_array_is_compacted() {
        let all: StringViewArray =
            (0..10_000).map(|i| Some(format!("a string longer than twelve {i}"))).collect();
        let few: ArrayRef = Arc::new(all.slice(5_000, 3));
        let compacted = compact_column(&few);
        assert_eq!(&few, &compacted);
        let held: usize = compacted.as_string_view().data_buffers().iter().map(|buffer| buffer.len()).sum();
        assert!(held < 200, "{held}");
    }
}
