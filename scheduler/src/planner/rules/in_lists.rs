//! Two lists of one operand: `x IN (…) AND x NOT IN (…)` is NULL where x is, and keeps to the values of the lists.
//!
//! The engine's simplifier makes one list of two, as if no operand were NULL and every member a constant that is like
//! another only when it is written so: `x NOT IN (1, 2) OR x NOT IN (3, 4)` became true for NULL,
//! `x IN (y, 1) AND x IN (z, 2)` never true. So while it works on an expression in which two lists of one operand may
//! meet, each list is away, and a placeholder stands for it. Equalities count too, for it makes lists of them.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_binary;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::super::rewrite::{columns_in_sight, rewrite_expressions};

/// The engine's simplifier, which sees one list of an operand at most.
#[derive(Debug, Default)]
pub(super) struct SimplifyApart(SimplifyExpressions);

impl OptimizerRule for SimplifyApart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut meet = false;
        plan.apply_expressions(|expr| {
            meet |= may_meet(expr);
            Ok(if meet { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !meet {
            return self.0.rewrite(plan, config);
        }
        let simplifier = simplifier(&plan, config)?;
        let mut away = Away::new(&simplifier);
        let plan = rewrite_expressions(plan, |expr| away.put_all(expr))?;
        let simplified = self.0.rewrite(plan.data, config)?;
        Ok(Transformed::yes(simplified.data.map_expressions(|expr| away.take_all(expr))?.data))
    }
}

/// For expressions of this plan by themselves, as the engine makes it.
fn simplifier(plan: &LogicalPlan, config: &dyn OptimizerConfig) -> Result<ExprSimplifier> {
    let context = SimplifyContext::builder()
        .with_schema(columns_in_sight(plan)?.into())
        .with_config_options(config.options())
        .with_query_execution_start_time(config.query_execution_start_time())
        .build();
    Ok(ExprSimplifier::new(context).with_canonicalize(false))
}

/// The lists that are away, each under the number of its placeholder.
struct Away<'a> {
    lists: Vec<Expr>,
    numbers: HashMap<Expr, usize>,
    simplifier: &'a ExprSimplifier,
}

impl<'a> Away<'a> {
    fn new(simplifier: &'a ExprSimplifier) -> Self {
        Self { lists: Vec::new(), numbers: HashMap::new(), simplifier }
    }

    fn put_all(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_down(|expr| match operand(&expr) {
            Some(_) => self.put(expr),
            None => Ok(Transformed::no(expr)),
        })
    }

    fn put(&mut self, list: Expr) -> Result<Transformed<Expr>> {
        // There are functions that only the simplifier knows, so the operand and the members cannot do without it.
        let list = list.map_children(|child| Ok(Transformed::yes(apart(child, self.simplifier)?)))?.data;
        // Lists that are alike have one placeholder, so that what is alike is still seen to be.
        let number = *self.numbers.entry(list).or_insert_with_key(|list| {
            self.lists.push(list.clone());
            self.lists.len() - 1
        });
        let field = Field::new("list", DataType::Boolean, true);
        Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id(number), Some(field.into())))))
    }

    fn take_all(&self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_down(|expr| match &expr {
            Expr::Placeholder(placeholder) => {
                match number(&placeholder.id).and_then(|number| self.lists.get(number)) {
                    Some(list) => Ok(Transformed::new(list.clone(), true, TreeNodeRecursion::Jump)),
                    None => Ok(Transformed::no(expr)),
                }
            }
            _ => Ok(Transformed::no(expr)),
        })
    }
}

/// An expression that is simplified by itself.
fn apart(expr: Expr, simplifier: &ExprSimplifier) -> Result<Expr> {
    if !may_meet(&expr) {
        return simplifier.simplify(expr);
    }
    let mut away = Away::new(simplifier);
    let expr = away.put_all(expr)?.data;
    Ok(away.take_all(simplifier.simplify(expr)?)?.data)
}

/// Begins the id of a placeholder that stands for a list; no other has a space.
const LIST: &str = "$list ";

fn id(number: usize) -> String {
    format!("{LIST}{number}")
}

fn number(id: &str) -> Option<usize> {
    id.strip_prefix(LIST)?.parse().ok()
}

/// Whether the simplifier may see two lists of one operand: two that are there, or that it makes of equalities.
fn may_meet(expr: &Expr) -> bool {
    let mut lists = HashMap::new();
    count(expr, &mut lists);
    lists.values().any(|lists| *lists > 1)
}

/// Adds up the lists by operand. All the equalities of one chain are one list, and so are they with the lists of a
/// chain of ORs, which may be merged. One equality by itself is none, unless what is beside it is known beforehand:
/// then it may come into another chain.
#[allow(clippy::mutable_key_type, reason = "what changes inside an expression is not part of its hash")]
fn count(expr: &Expr, lists: &mut HashMap<Expr, usize>) {
    let members = chain(expr);
    let is_or = matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }));
    let moves = members.len() > 1 && members.iter().any(|member| !member.any_column_refs());
    let mut here: HashMap<&Expr, usize> = HashMap::new();
    for member in members {
        match operand(member) {
            Some((operand, true)) => *here.entry(operand).or_default() += if moves { 2 } else { 1 },
            Some((operand, false)) => match member {
                Expr::InList(list) if is_or && !list.negated => *here.entry(operand).or_default() += 2,
                _ => *lists.entry(operand.clone()).or_default() += 1,
            },
            // A chain of the other kind.
            None if !std::ptr::eq(member, expr) => {
                count(member, lists);
                continue;
            }
            None => {}
        }
        let _ = member.apply_children(|child| {
            count(child, lists);
            Ok(TreeNodeRecursion::Continue)
        });
    }
    for (operand, _) in here.into_iter().filter(|(_, equalities)| *equalities > 1) {
        *lists.entry(operand.clone()).or_default() += 1;
    }
}

/// The members of a chain of ORs or of ANDs; anything else is a chain of one.
fn chain(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::Or | Operator::And), .. }) => {
            split_binary(expr, *op)
        }
        expr => vec![expr],
    }
}

/// What a list, or an equality with a constant, is about, without casts; and whether it is an equality.
fn operand(expr: &Expr) -> Option<(&Expr, bool)> {
    use Operator::{Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
    match expr {
        Expr::InList(list) => Some((without_casts(&list.expr), false)),
        Expr::BinaryExpr(BinaryExpr { left, op: Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom, right }) => {
            match (is_constant(left), is_constant(right)) {
                (false, true) => Some((without_casts(left), true)),
                (true, false) => Some((without_casts(right), true)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => without_casts(expr),
        Expr::Alias(alias) => without_casts(&alias.expr),
        expr => expr,
    }
}

/// Whether it is a value whatever the row.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) | Expr::Negative(expr) => {
            is_constant(expr)
        }
        Expr::Alias(alias) => is_constant(&alias.expr),
        _ => false,
    }
}
