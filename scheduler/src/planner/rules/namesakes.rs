//! Filters that are pushed down a physical plan go to the column that they are about, and not to its namesake.
//!
//! On its way a filter's columns are looked up by their names, and a join of two tables that both have an `id` gives
//! two columns of that name: the first is taken. So a filter, or the dynamic filter of a join or of a top-k, could end
//! at the wrong scan, and rows were missing. While the engine's rule works, a fence stands above every node with
//! namesakes among its columns, through which only filters come that name none of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// The name of the engine's rules that push filters down.
pub(super) const PUSHDOWN: &str = "FilterPushdown";

/// One of the engine's rules that push filters down, between fences.
#[derive(Debug)]
pub(super) struct Fenced(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl Fenced {
    /// The rule, which is fenced if it pushes filters down.
    pub(super) fn if_needed(
        rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
    ) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
        match rule.name().starts_with(PUSHDOWN) {
            true => Arc::new(Self(rule)),
            false => rule,
        }
    }
}

impl PhysicalOptimizerRule for Fenced {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let fenced = plan.transform_up(|node| {
            Ok(match unmistakable(&node) {
                Some(columns) => {
                    Transformed::yes(Arc::new(Fence { input: node, columns }) as Arc<dyn ExecutionPlan>)
                }
                None => Transformed::no(node),
            })
        })?;
        if !fenced.transformed {
            return self.0.optimize(fenced.data, config);
        }
        let optimized = self.0.optimize(fenced.data, config)?;
        let without = optimized.transform_up(|node| {
            Ok(match node.downcast_ref::<Fence>() {
                Some(fence) => Transformed::yes(Arc::clone(&fence.input)),
                None => Transformed::no(node),
            })
        })?;
        Ok(without.data)
    }
}

/// The places of the columns whose names no other has, if there are others.
fn unmistakable(node: &Arc<dyn ExecutionPlan>) -> Option<HashSet<usize>> {
    let schema = node.schema();
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, field) in schema.fields().iter().enumerate() {
        places.entry(field.name()).or_default().push(place);
    }
    (places.len() < schema.fields().len())
        .then(|| places.into_values().filter(|places| places.len() == 1).flatten().collect())
}

/// Lets through what is about these columns of its input. Never executed.
#[derive(Debug)]
struct Fence {
    input: Arc<dyn ExecutionPlan>,
    columns: HashSet<usize>,
}

impl DisplayAs for Fence {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fence")
    }
}

impl ExecutionPlan for Fence {
    fn name(&self) -> &str {
        "Fence"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input, columns: self.columns.clone() })),
            _ => internal_err!("a fence has one input"),
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a fence was left in a plan")
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let columns = self.columns.clone();
        let child =
            ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, columns, &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }
}
