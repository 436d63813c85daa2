//! A value that is passed on, and nothing known of it.
//!
//! The engine's physical plans carry what is known of columns, such as that one has a single value. Where that stops to
//! be true and the engine does not notice, the planner puts `__opaque(column, __opacity())` in between: an expression
//! counts as constant if all its arguments are, and `__opacity()` never is.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// The value itself, whatever the second argument is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opaque(Signature);

impl Default for Opaque {
    fn default() -> Self {
        Self(Signature::any(2, Volatility::Volatile))
    }
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        "__opaque"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, _] => Ok(value.clone()),
            _ => internal_err!("__opaque of {} arguments", types.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [value, _] => Ok(Arc::clone(value)),
            fields => internal_err!("__opaque of {} arguments", fields.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            // As a column in any case: nobody behind it is to see a single value.
            Some(value) => Ok(ColumnarValue::Array(value.into_array(args.number_rows)?)),
            None => internal_err!("__opaque of no argument"),
        }
    }
}

/// NULL, and volatile by its word.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opacity(Signature);

impl Default for Opacity {
    fn default() -> Self {
        Self(Signature::nullary(Volatility::Volatile))
    }
}

impl ScalarUDFImpl for Opacity {
    fn name(&self) -> &str {
        "__opacity"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)))
    }
}

/// The expression, of this field, with nothing known of it.
pub(crate) fn hidden(
    [opaque, opacity]: [Arc<ScalarUDF>; 2],
    expr: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    config: &Arc<ConfigOptions>,
) -> Arc<dyn PhysicalExpr> {
    let nothing = Arc::new(arrow::datatypes::Field::new("__opacity", DataType::Boolean, true));
    let never = ScalarFunctionExpr::new("__opacity", opacity, Vec::new(), nothing, Arc::clone(config));
    let args = vec![expr, Arc::new(never) as Arc<dyn PhysicalExpr>];
    Arc::new(ScalarFunctionExpr::new("__opaque", opaque, args, field, Arc::clone(config)))
}
