//! Rules that make the engine's answers those of the SQL standard, where its own are not.
//!
//! Each file is one defect of the engine and its cure; when the engine mends it, the file goes. Those of the analyzer
//! run after types were made equal. Not here: numbers with a point, which have a room of their own beside this one. The rule: a cure
//! changes which rows come out, never their names or types.

mod constants;
mod extremes;
mod in_lists;
mod members;
mod multiplicity;
mod namesakes;
mod overflow;
mod truth;
mod windows;
mod zeros;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use super::rewrite::rewrite_expressions;

/// The analyzer's rules, in their order: the engine's, then those here.
pub(super) fn of_analyzer() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(multiplicity::Multiplicity));
    rules.push(Arc::new(ByExpression { name: "both_zeros_in_lists", rewrite: zeros::both_zeros }));
    rules.push(Arc::new(ByExpression { name: "members_of_lists", rewrite: members::one_by_one }));
    rules.push(Arc::new(overflow::Overflow));
    rules.push(Arc::new(ByExpression { name: "truth_tests", rewrite: truth::as_run }));
    rules
}

/// The optimizer's rules, in their order: the engine's, of which those here replace the ones of their name.
pub(super) fn of_optimizer() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(in_lists::SimplifyApart::default());
    let replaced = |rule: Arc<dyn OptimizerRule + Send + Sync>| match rule.name() == ours.name() {
        true => Arc::clone(&ours),
        false => rule,
    };
    Optimizer::new().rules.into_iter().map(replaced).collect()
}

/// The rules for physical plans, in their order: ours, then the engine's, some of them fenced.
pub(super) fn of_physical_optimizer() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let ours: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] =
        [Arc::new(constants::Constants), Arc::new(windows::Windows)];
    let engine = PhysicalOptimizer::new().rules.into_iter();
    let engine = engine.map(extremes::Reserved::if_needed).map(namesakes::Fenced::if_needed);
    ours.into_iter().chain(engine).collect()
}

/// A rule of the analyzer that rewrites each expression by itself, those within others first.
struct ByExpression {
    name: &'static str,
    rewrite: fn(Expr) -> Transformed<Expr>,
}

impl std::fmt::Debug for ByExpression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl AnalyzerRule for ByExpression {
    fn name(&self) -> &str {
        self.name
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewrite = |expr: Expr| expr.transform_up(|expr| Ok((self.rewrite)(expr)));
        Ok(plan.transform_up_with_subqueries(|plan| rewrite_expressions(plan, rewrite))?.data)
    }
}
