//! A tree of inner joins taken apart into relations and predicates, and put together in another order.
//!
//! Projections that only choose columns, and aliases, stand between joins; each column is followed through them to the
//! relation that it is from, by its place, and every predicate is said in columns of relations. The rule: what cannot be
//! followed with certainty is a relation, or leaves the whole tree alone.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, NullEquality, Result, internal_err};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator, Projection,
};

use super::graph::Graph;
use super::is_ordered;

/// Most relations of a tree: one bit each in a [`Set`].
const RELATIONS_MAX: usize = 64;

/// Most joins, projections and aliases above each other.
const DEPTH_MAX: usize = 192;

/// A set of relations, a bit each.
pub(super) type Set = u64;

/// The relations, and what of them is joined.
pub(super) struct Tree {
    /// The relations, in the order in which they are written.
    pub(super) leaves: Vec<Arc<LogicalPlan>>,
    /// What all rows of the tree fulfil.
    pub(super) predicates: Vec<Predicate>,
    /// The order in which they are written.
    pub(super) written: Order,
    /// The relations' columns that the tree gives.
    columns: Vec<Column>,
    /// The relation of each column.
    numbers: HashMap<Column, usize>,
}

/// One condition, in columns of the relations.
pub(super) enum Predicate {
    /// Two sides are equal.
    Equal(Side, Side),
    /// Anything else.
    Filter(Side),
}

/// An expression and the relations that it names.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) expr: Expr,
    pub(super) set: Set,
}

/// Which relations are joined with which, the build side first.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// The relation of that number.
    Relation(usize),
    /// A join.
    Join(Box<Order>, Box<Order>),
}

impl Order {
    /// The relations in it.
    pub(super) fn set(&self) -> Set {
        match self {
            Self::Relation(number) => 1 << number,
            Self::Join(left, right) => left.set() | right.set(),
        }
    }
}

/// Whether columns can be followed through it.
pub(super) fn is_transparent(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.iter().all(|expr| chosen(expr).is_some()),
        LogicalPlan::SubqueryAlias(_) => true,
        _ => false,
    }
}

/// The column that an expression is, whatever it calls it.
fn chosen(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => chosen(&alias.expr),
        _ => None,
    }
}

impl Tree {
    /// Takes a tree of joins apart; `None` if it must stay as it is.
    pub(super) fn of(root: &LogicalPlan) -> Option<Self> {
        // Below aliases one table's columns may come twice, which only the aliases tell apart.
        let parts = [true, false].into_iter().find_map(|through_aliases| {
            let mut parts = Parts { through_aliases, ..Parts::default() };
            let (written, columns) = parts.take(root, DEPTH_MAX)?;
            parts.number_columns()?;
            Some((parts, written, columns))
        })?;
        let (mut parts, written, columns) = parts;
        let predicates = parts.predicates()?;
        let Parts { leaves, numbers, .. } = parts;
        Some(Self { leaves, predicates, written, columns, numbers })
    }

    /// The relation's column that the tree gives at this place, and the number of the relation.
    pub(super) fn column(&self, place: usize) -> Option<(usize, &Column)> {
        let column = self.columns.get(place)?;
        Some((*self.numbers.get(column)?, column))
    }

    /// The tree in this order; `root` is the one that it was made of.
    pub(super) fn in_order(&self, root: &LogicalPlan, graph: &Graph, order: &Order) -> Result<LogicalPlan> {
        let joined = self.join(graph, order)?;
        if order.set() != self.written.set() {
            return internal_err!("an order leaves out relations");
        }
        let schema = root.schema();
        let named = self.columns.iter().zip(schema.iter()).map(|(column, (qualifier, field))| {
            match column.relation.as_ref() == qualifier && column.name == *field.name() {
                true => Expr::Column(column.clone()),
                false => Expr::Column(column.clone()).alias_qualified(qualifier.cloned(), field.name()),
            }
        });
        let projection = Projection::try_new(named.collect(), Arc::new(joined))?;
        match same_columns(&projection.schema, schema) {
            true => Ok(LogicalPlan::Projection(projection)),
            false => internal_err!("joins in another order give other columns"),
        }
    }

    fn join(&self, graph: &Graph, order: &Order) -> Result<LogicalPlan> {
        let (left, right) = match order {
            Order::Relation(number) => return self.leaf(graph, *number),
            Order::Join(left, right) => (left, right),
        };
        let (on, filters) = graph.conditions(left.set(), right.set());
        Ok(LogicalPlan::Join(Join::try_new(
            Arc::new(self.join(graph, left)?),
            Arc::new(self.join(graph, right)?),
            on,
            conjunction(filters),
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?))
    }

    fn leaf(&self, graph: &Graph, number: usize) -> Result<LogicalPlan> {
        let leaf = Arc::clone(&self.leaves[number]);
        match conjunction(graph.filters_of(number)) {
            Some(filter) => Ok(LogicalPlan::Filter(Filter::try_new(filter, leaf)?)),
            None => Ok(Arc::unwrap_or_clone(leaf)),
        }
    }
}

fn same_columns(one: &DFSchema, other: &DFSchema) -> bool {
    one.fields().len() == other.fields().len()
        && one.iter().zip(other.iter()).all(|(one, other)| one == other)
}

/// A tree while it is taken apart.
#[derive(Default)]
struct Parts {
    through_aliases: bool,
    leaves: Vec<Arc<LogicalPlan>>,
    equalities: Vec<(Expr, Expr)>,
    filters: Vec<Expr>,
    /// The relation of each column.
    numbers: HashMap<Column, usize>,
}

impl Parts {
    /// The order of a plan's relations, and which of their columns it gives.
    fn take(&mut self, plan: &LogicalPlan, depth: usize) -> Option<(Order, Vec<Column>)> {
        let depth = depth.checked_sub(1)?;
        match plan {
            LogicalPlan::Join(join) if is_ordered(plan) => {
                let (left, mut columns) = self.take(&join.left, depth)?;
                let (right, more) = self.take(&join.right, depth)?;
                columns.extend(more);
                for (left, right) in &join.on {
                    let left = followed(left, &join.schema, &columns)?;
                    self.equalities.push((left, followed(right, &join.schema, &columns)?));
                }
                for filter in join.filter.iter().flat_map(split_conjunction) {
                    let filter = followed(filter, &join.schema, &columns)?;
                    match filter {
                        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                            self.equalities.push((*left, *right));
                        }
                        filter => self.filters.push(filter),
                    }
                }
                Some((Order::Join(Box::new(left), Box::new(right)), columns))
            }
            LogicalPlan::Projection(projection) if is_transparent(plan) && leads_to_join(plan) => {
                let (order, columns) = self.take(&projection.input, depth)?;
                let place = |expr| {
                    let place = projection.input.schema().index_of_column(chosen(expr)?).ok()?;
                    columns.get(place).cloned()
                };
                let columns = projection.expr.iter().map(place).collect::<Option<_>>()?;
                Some((order, columns))
            }
            LogicalPlan::SubqueryAlias(alias) if self.through_aliases && leads_to_join(plan) => {
                self.take(&alias.input, depth)
            }
            leaf => {
                if self.leaves.len() >= RELATIONS_MAX {
                    return None;
                }
                self.leaves.push(Arc::new(leaf.clone()));
                Some((Order::Relation(self.leaves.len() - 1), leaf.schema().columns()))
            }
        }
    }

    /// Finds the relation of each column; `None` if two have one of the same name.
    fn number_columns(&mut self) -> Option<()> {
        for (number, leaf) in self.leaves.iter().enumerate() {
            for column in leaf.schema().columns() {
                if self.numbers.insert(column, number).is_some() {
                    return None;
                }
            }
        }
        Some(())
    }

    fn predicates(&mut self) -> Option<Vec<Predicate>> {
        let equalities = std::mem::take(&mut self.equalities);
        let filters = std::mem::take(&mut self.filters);
        let mut predicates = Vec::with_capacity(equalities.len() + filters.len());
        for (left, right) in equalities {
            let (left, right) = (self.side(left)?, self.side(right)?);
            predicates.push(match left.set & right.set {
                0 if left.set != 0 && right.set != 0 => Predicate::Equal(left, right),
                _ => Predicate::Filter(Side { set: left.set | right.set, expr: left.expr.eq(right.expr) }),
            });
        }
        for filter in filters {
            predicates.push(Predicate::Filter(self.side(filter)?));
        }
        let all = Set::MAX >> (RELATIONS_MAX - self.leaves.len());
        for predicate in &mut predicates {
            if let Predicate::Filter(side) = predicate
                && side.set == 0
            {
                // It names no relation, so it is about all.
                side.set = all;
            }
        }
        Some(predicates)
    }

    fn side(&self, expr: Expr) -> Option<Side> {
        if !may_move(&expr) {
            return None;
        }
        let mut set = 0;
        for column in expr.column_refs() {
            set |= 1 << self.numbers.get(column)?;
        }
        Some(Side { expr, set })
    }
}

/// Whether there is a join below what only chooses and names columns. What else it names is a relation by itself.
fn leads_to_join(plan: &LogicalPlan) -> bool {
    let mut plan = plan;
    for _ in 0..DEPTH_MAX {
        plan = match plan {
            LogicalPlan::Projection(projection) if is_transparent(plan) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            plan => return is_ordered(plan),
        };
    }
    false
}

/// The expression in columns of relations, where `schema` is over `columns`.
fn followed(expr: &Expr, schema: &DFSchema, columns: &[Column]) -> Option<Expr> {
    let follow = |expr: Expr| match &expr {
        Expr::Column(column) => match columns.get(schema.index_of_column(column)?) {
            Some(column) => Ok(Transformed::yes(Expr::Column(column.clone()))),
            None => internal_err!("a schema has more columns than its plan"),
        },
        _ => Ok(Transformed::no(expr)),
    };
    expr.clone().transform_up(follow).ok().map(|followed| followed.data)
}

/// Whether it gives the same wherever it stands among the joins.
pub(super) fn may_move(expr: &Expr) -> bool {
    let fixed = |expr: &Expr| match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..) => {
            true
        }
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        expr => expr.is_volatile_node(),
    };
    // The closure never fails, so neither does the walk.
    !expr.exists(|expr| Ok(fixed(expr))).unwrap_or(true)
}
