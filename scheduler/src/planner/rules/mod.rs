//! Rules that make the engine's answers those of the SQL standard, where its own are not.
//!
//! Each file is one defect of the engine and its cure; when the engine mends it, the file goes. Those of the analyzer
//! run after types were made equal. Not here: numbers with a point, which have a room of their own beside this one. The rule: a cure
//! changes which rows come out, never their names or types.

mod constants;
mod in_lists;
mod members;
mod multiplicity;
mod namesakes;
mod overflow;
mod truth;
mod zeros;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

/// The analyzer's rules, in their order: the engine's, then those here.
pub(super) fn of_analyzer() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(multiplicity::Multiplicity));
    rules.push(Arc::new(zeros::Zeros));
    rules.push(Arc::new(members::Members));
    rules.push(Arc::new(overflow::Overflow));
    rules.push(Arc::new(truth::Truth));
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
    let ours: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(constants::Constants);
    let engine = PhysicalOptimizer::new().rules.into_iter().map(namesakes::Fenced::if_needed);
    std::iter::once(ours).chain(engine).collect()
}

/// Rewrites the expressions of one node, each of which keeps its name.
fn rewrite_expressions(
    plan: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let mut named = |expr: Expr| {
        let name = names.save(&expr);
        Ok(rewrite(expr)?.update_data(|expr| name.restore(expr)))
    };
    plan.map_expressions(|expr| match expr {
        // Its members have names; the engine does not know it under one of its own.
        Expr::GroupingSet(_) => expr.map_children(&mut named),
        expr => named(expr),
    })
}
