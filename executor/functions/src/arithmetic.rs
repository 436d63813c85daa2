//! `+`, `-` and `*` of integers, of which one that its type cannot hold is an error.

use std::sync::Arc;

use arrow::array::{ArrayRef, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_datafusion_err, internal_err, utils::take_function_args};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

/// One of the three. The arguments have one type, which the planner saw to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checked {
    name: &'static str,
    sign: char,
    signature: Signature,
}

impl Checked {
    pub(crate) fn all() -> [Self; 3] {
        [
            Self::new("checked_add", '+'),
            Self::new("checked_subtract", '-'),
            Self::new("checked_multiply", '*'),
        ]
    }

    fn new(name: &'static str, sign: char) -> Self {
        let signature = Signature::any(2, Volatility::Immutable);
        Self { name, sign, signature }
    }

    fn kernel(&self) -> fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self.sign {
            '+' => numeric::add,
            '-' => numeric::sub,
            _ => numeric::mul,
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [left, right] if left == right && left.is_integer() => Ok(left.clone()),
            _ => internal_err!("{} of {types:?}", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = take_function_args(self.name, args.args)?;
        apply(&left, &right, self.kernel()).map_err(|error| match &error {
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                // "Overflow happened on: 9223372036854775807 + 1"
                ArrowError::ArithmeticOverflow(what) => {
                    let what = what.rsplit(": ").next().unwrap_or(what);
                    exec_datafusion_err!("{what} is beyond {}", sql_name(args.return_field.data_type()))
                }
                _ => error,
            },
            _ => error,
        })
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.schema_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [left, right] = args else { return internal_err!("{} of {} arguments", self.name, args.len()) };
        Ok(format!("{} {} {}", left.schema_name(), self.sign, right.schema_name()))
    }
}

/// What SQL calls the type.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => other.to_string(),
    }
}
