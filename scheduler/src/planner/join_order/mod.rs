//! The order of inner joins, by statistics; the engine keeps the order in which they are written.
//!
//! ```text
//! optimized plan --tree--> relations and predicates --graph--> rows of any set of relations --search--> order --tree--> plan
//!                              │ relation, selectivity
//!                              └─ statistics: what the scans say, by the filters that were pushed down to them
//! ```
//!
//! It comes after the engine's rules: filters stand on the scans by then, equalities in the joins, and a table's files
//! can be planned by its filters, which the scan needs anyway. So it runs once a plan, and only the columns that joins
//! carry are pruned anew. The rule: what a plan gives stays as it was, by rows, names, types and order of columns; where
//! anything is not understood, or one relation's rows are not known, joins stay as they are written.

mod graph;
mod relation;
mod search;
mod selectivity;
mod semi;
mod statistics;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion, TreeNodeRewriter};
use datafusion::common::{NullEquality, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{JoinType, LogicalPlan};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::optimize_projections::OptimizeProjections;

use self::graph::Graph;
use self::relation::Relation;
use self::statistics::Known;
use self::tree::Tree;

/// An order is taken only if it costs less than this part of the written one: estimates are no better than that.
const WORTH: f64 = 0.95;

/// What a session wants of the order of its joins: an extension of the engine's session config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum JoinOrder {
    /// The one of least cost.
    #[default]
    Auto,
    /// As they are written.
    Written,
}

/// The optimized plan with its inner joins in the order of least cost.
pub(super) async fn ordered(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let wanted = state.config().get_extension::<JoinOrder>().map(|wanted| *wanted).unwrap_or_default();
    if wanted == JoinOrder::Written || !has_inner_join(&plan) {
        return Ok(plan);
    }
    let known = Known::of(&plan).await;
    let ordered = plan.rewrite_with_subqueries(&mut Orderer { known: &known, nodes: Vec::new() })?;
    if !ordered.transformed {
        return Ok(ordered.data);
    }
    // Columns that a join needs no more are dropped above it, wherever it stands now.
    let pruning = Optimizer::with_rules(vec![Arc::new(OptimizeProjections::new())]);
    pruning.optimize(ordered.data, state, |_, _| ())
}

fn has_inner_join(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        found |= is_ordered(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Whether it is a join that may change places with others of its kind.
fn is_ordered(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Join(join) => {
            join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing
        }
        _ => false,
    }
}

/// Orders each tree of joins when those within its relations are in order.
struct Orderer<'a> {
    known: &'a Known,
    /// From the root of the plan to where it is.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    /// Whether it belongs to a tree of joins.
    member: bool,
    /// Whether it is the tree's root.
    root: bool,
}

impl TreeNodeRewriter for Orderer<'_> {
    type Node = LogicalPlan;

    fn f_down(&mut self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let within = self.nodes.last().is_some_and(|node| node.member);
        let joins = is_ordered(&plan);
        let member = joins || within && tree::is_transparent(&plan);
        self.nodes.push(Node { member, root: joins && !within });
        Ok(Transformed::no(plan))
    }

    fn f_up(&mut self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let is_root = self.nodes.pop().is_some_and(|node| node.root);
        let better = if is_root { reordered(&plan, self.known) } else { semi::sunk(&plan, self.known) };
        match better {
            Ok(Some(plan)) => Ok(Transformed::yes(plan)),
            Ok(None) => Ok(Transformed::no(plan)),
            Err(error) => {
                tracing::debug!(%error, "joins stay as they are written");
                Ok(Transformed::no(plan))
            }
        }
    }
}

/// The tree of joins below this one in a better order; `None` if there is none, or not enough is known.
fn reordered(plan: &LogicalPlan, known: &Known) -> Result<Option<LogicalPlan>> {
    let Some(tree) = Tree::of(plan) else { return Ok(None) };
    let relation = |leaf: &Arc<LogicalPlan>| Relation::of(leaf, known);
    let Some(relations) = tree.leaves.iter().map(relation).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let graph = Graph::new(&tree, relations);
    let best = search::best(&graph);
    if search::cost(&graph, &best) >= WORTH * search::cost(&graph, &tree.written) {
        return Ok(None);
    }
    tree.in_order(plan, &graph, &best).map(Some)
}
