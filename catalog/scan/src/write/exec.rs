//! The plan node: partitions of rows in, descriptions of written files out.
//!
//! It keeps the partitioning of its input: each partition writes its own files
//! and yields one row a file. Nothing in it is tied to a process, so both
//! engines may run any partition anywhere, and more than once.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{StreamExt, stream};

use super::{WriteSpec, WrittenFile, task};

static OUTPUT_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("file", DataType::Binary, false)])));

/// The schema of what a [`WriteExec`] yields: one binary column `file`, each value a [`WrittenFile`].
pub fn output_schema() -> SchemaRef {
    Arc::clone(&OUTPUT_SCHEMA)
}

/// Writes its input into data files of one table.
#[derive(Debug)]
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl WriteExec {
    /// A write of `input`, whose columns are those of the table by position.
    pub fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<WriteSpec>) -> Result<Self> {
        let (given, wanted) = (input.schema().fields().len(), spec.schema.fields().len());
        if given != wanted {
            return plan_err!(
                "table {} has {wanted} columns, but the rows to be written have {given}",
                spec.table
            );
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(output_schema()),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(
                input.output_partitioning().partition_count(),
            ),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, spec, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What is written, and where.
    pub fn spec(&self) -> &Arc<WriteSpec> {
        &self.spec
    }

    /// The rows to be written.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = self.spec.partition.fields.iter().map(|field| field.name.as_str());
        let partition = partition.collect::<Vec<_>>().join(", ");
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "WriteExec: table={}, partition=[{partition}]", self.spec.table)
            }
            DisplayFormatType::TreeRender => writeln!(f, "table: {}", self.spec.table),
        }
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    // More partitions are more and smaller files; the planner decides how many.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, Arc::clone(&self.spec))?)),
            _ => internal_err!("a write has one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let task = task::Task::new(Arc::clone(&self.spec), partition, context)?;
        let rows = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let files = MetricBuilder::new(&self.metrics).counter("files_written", partition);
        let output = stream::once(async move {
            let written = task.run(input).await?;
            for file in written.files() {
                rows.add(file.record_count as usize);
                bytes.add(file.size_bytes as usize);
                files.add(1);
            }
            let batch = describe(written.files())?;
            written.hand_over();
            Ok(batch)
        })
        .filter(|batch| {
            let empty = batch.as_ref().is_ok_and(|batch: &RecordBatch| batch.num_rows() == 0);
            std::future::ready(!empty)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(output_schema(), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn describe(files: &[WrittenFile]) -> Result<RecordBatch> {
    let encoded = files.iter().map(WrittenFile::encode).collect::<Result<Vec<_>>>()?;
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(encoded));
    Ok(RecordBatch::try_new(output_schema(), vec![column])?)
}
