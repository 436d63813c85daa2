//! Functions that take the place of the engine's, where these answer wrongly.
//!
//! A sum or product that its type cannot hold wraps around in the engine, without a word; here it is an error. Which
//! expressions get these functions is for the planner to say. A plan on its way carries a function's name and no more,
//! so wherever a plan is made or decoded they have to be registered. The rule: what fits has the engine's answer and
//! the engine's type.

mod arithmetic;
mod opaque;
mod sum;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, Operator, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;

use self::arithmetic::Checked;
use self::opaque::{Opacity, Opaque};
use self::sum::Sum;

static ARITHMETIC: LazyLock<[Arc<ScalarUDF>; 3]> =
    LazyLock::new(|| Checked::all().map(|function| Arc::new(ScalarUDF::from(function))));

static OPAQUE: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
    [Arc::new(ScalarUDF::from(Opaque::default())), Arc::new(ScalarUDF::from(Opacity::default()))]
});

static SUM: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(Sum::default())));

/// Two integers of one type, added, subtracted or multiplied; NULL where one is. `None` for other operators.
pub fn checked(operator: Operator) -> Option<Arc<ScalarUDF>> {
    let place = match operator {
        Operator::Plus => 0,
        Operator::Minus => 1,
        Operator::Multiply => 2,
        _ => return None,
    };
    Some(Arc::clone(&ARITHMETIC[place]))
}

/// `SUM`, in the types of the engine's.
pub fn sum() -> Arc<AggregateUDF> {
    Arc::clone(&SUM)
}

/// What `expr` gives, a column of this field, with nothing known of it to the engine: not that it is constant.
pub fn opaque(
    expr: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    config: &Arc<ConfigOptions>,
) -> Arc<dyn PhysicalExpr> {
    opaque::hidden(OPAQUE.each_ref().map(Arc::clone), expr, field, config)
}

/// All that are called row by row.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    ARITHMETIC.iter().chain(OPAQUE.iter()).map(Arc::clone).collect()
}

/// All that make one value of many.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![sum()]
}

/// Puts these functions among those that are found by their names, in place of the engine's.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    Ok(())
}
