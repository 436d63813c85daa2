//! Semi and anti joins, which filter one relation of a tree of inner joins: at that relation, where this costs less than
//! above the tree.
//!
//! Such a join keeps or drops a row of its left side for what is in that row, as a filter does, and the engine leaves it
//! above all joins that are written beside it. So `o_orderkey IN (few)` waited for every line of every order.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};

use super::graph::Graph;
use super::relation::Relation;
use super::statistics::Known;
use super::tree::{Set, Tree};
use super::{WORTH, search};

/// The plan of a semi or anti join with it inside the tree of joins on its left; `None` if it stays above, or is none.
pub(super) fn sunk(plan: &LogicalPlan, known: &Known) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Join(join) = plan else { return Ok(None) };
    if !matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) {
        return Ok(None);
    }
    let Some(mut tree) = Tree::of(&join.left).filter(|tree| tree.leaves.len() > 1) else { return Ok(None) };
    let Some((number, filtered)) = at_relation(join, &tree)? else { return Ok(None) };
    let relation = |leaf: &Arc<LogicalPlan>| Relation::of(leaf, known);
    let Some(relations) = tree.leaves.iter().map(relation).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let Some(kept) = Relation::of(&filtered, known) else { return Ok(None) };
    let probed = relations[number].rows;

    let above = Graph::new(&tree, relations.clone());
    let cost_above = search::cost(&above, &search::best(&above)) + above.rows(tree.written.set());
    let mut relations = relations;
    relations[number] = kept;
    tree.leaves[number] = Arc::new(filtered);
    let below = Graph::new(&tree, relations);
    let best = search::best(&below);
    if search::cost(&below, &best) + probed >= WORTH * cost_above {
        return Ok(None);
    }
    tree.in_order(plan, &below, &best).map(Some)
}

/// The join with one relation of the tree on its left, and the number of that; `None` if it is about more than one.
fn at_relation(join: &Join, tree: &Tree) -> Result<Option<(usize, LogicalPlan)>> {
    let mut set: Set = 0;
    let mut ambiguous = false;
    let mut follow = |expr: &Expr| {
        let follow = |expr: Expr| match &expr {
            Expr::Column(column) => {
                let left = join.left.schema().maybe_index_of_column(column);
                let right = join.right.schema().maybe_index_of_column(column);
                match (left, right) {
                    (Some(place), None) => match tree.column(place) {
                        Some((number, column)) => {
                            set |= 1 << number;
                            Ok(Transformed::yes(Expr::Column(column.clone())))
                        }
                        None => {
                            ambiguous = true;
                            Ok(Transformed::no(expr))
                        }
                    },
                    (left, _) => {
                        ambiguous |= left.is_some();
                        Ok(Transformed::no(expr))
                    }
                }
            }
            _ => Ok(Transformed::no(expr)),
        };
        expr.clone().transform_up(follow).map(|followed| followed.data)
    };
    let mut on = Vec::with_capacity(join.on.len());
    for (left, right) in &join.on {
        on.push((follow(left)?, right.clone()));
    }
    let filter = join.filter.as_ref().map(&mut follow).transpose()?;
    if ambiguous || !set.is_power_of_two() {
        return Ok(None);
    }
    let number = set.trailing_zeros() as usize;
    let leaf = &tree.leaves[number];
    let namesakes = leaf.schema().columns().iter().any(|column| join.right.schema().has_column(column));
    let expressions = on.iter().flat_map(|(left, right)| [left, right]).chain(&filter);
    if namesakes || expressions.into_iter().any(|expr| !super::tree::may_move(expr)) {
        return Ok(None);
    }
    let filtered =
        Join { left: Arc::clone(leaf), on, filter, schema: Arc::clone(leaf.schema()), ..join.clone() };
    Ok(Some((number, LogicalPlan::Join(filtered))))
}
