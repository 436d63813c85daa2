//! Parameters: from a bound batch to the values of `$1`, `$2`, …

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::Expr;

use crate::error::{Error, Result};

/// How many parameters a plan has: the highest position named.
pub(super) fn count(plan: &LogicalPlan) -> Result<usize> {
    let mut highest = 0;
    for name in plan.get_parameter_names()? {
        let position: usize = name
            .strip_prefix('$')
            .and_then(|digits| digits.parse().ok())
            .filter(|position| *position > 0)
            .ok_or_else(|| {
                Error::not_supported(format!("named parameter \"{name}\"")).with_hint("use ? or $1")
            })?;
        highest = highest.max(position);
    }
    Ok(highest)
}

/// The parameters in order, all nullable: the type where the plan tells it, whole numbers where
/// rows are counted, text elsewhere.
pub(super) fn fields(plan: &LogicalPlan) -> Result<Vec<FieldRef>> {
    let known = plan.get_parameter_fields()?;
    let counts = counts(plan)?;
    let field = |position: usize| {
        let name = format!("${position}");
        let inferred = known.get(&name).cloned().flatten().map(|field| field.data_type().clone());
        let data_type = match inferred.filter(|data_type| !data_type.is_null()) {
            Some(data_type) => data_type,
            None if counts.contains(&name) => DataType::Int64,
            None => DataType::Utf8,
        };
        Arc::new(Field::new(name, data_type, true))
    };
    Ok((1..=count(plan)?).map(field).collect())
}

/// The parameters of `LIMIT` and `OFFSET`.
fn counts(plan: &LogicalPlan) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in [&limit.skip, &limit.fetch].into_iter().flatten() {
                expr.apply(|expr| {
                    if let Expr::Placeholder(placeholder) = expr {
                        names.insert(placeholder.id.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// The plan with its parameters replaced by one row of values. Refuses too few or too many.
pub(super) fn replace(plan: LogicalPlan, parameters: Option<&RecordBatch>) -> Result<LogicalPlan> {
    let wanted = count(&plan)?;
    let given = parameters.map_or(0, |batch| batch.num_columns());
    if wanted != given {
        return Err(Error::invalid(format!("the statement has {wanted} parameters, {given} were bound")));
    }
    let Some(batch) = parameters.filter(|_| wanted > 0) else { return Ok(plan) };
    if batch.num_rows() != 1 {
        return Err(Error::invalid(format!(
            "one row of parameters is needed, {} were bound",
            batch.num_rows()
        )));
    }
    let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    let values = values.map(|value| value.map(ScalarAndMetadata::from)).collect::<Result<Vec<_>, _>>()?;
    Ok(plan.with_param_values(ParamValues::List(values))?)
}
