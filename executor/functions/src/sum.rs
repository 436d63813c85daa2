//! `SUM` of integers and decimals, exact, and an error where the type of the answer cannot hold it.
//!
//! All is added up in 128 bits. No number of integers can overflow there, and an integer's parts are decimals of 38
//! digits on their way between executors, so that only the whole is held against the type. A part of decimals of 38
//! digits may overflow where the whole would not: then it is an error, never another sum. What is neither integer nor
//! decimal is the engine's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type,
    UInt64Type,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::sum::Sum as EngineSum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::NullState;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::nulls::filtered_null_mask;

use crate::arithmetic::sql_name;

/// The engine's, but for how it adds up.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sum {
    engine: EngineSum,
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.engine.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(whole) = Whole::new(args.return_type()).filter(|_| !args.is_distinct) else {
            return self.engine.state_fields(args);
        };
        Ok(vec![Field::new(format_state_name(args.name, "sum"), whole.part_type(), true).into()])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(whole) = Whole::new(args.return_field.data_type()) else {
            return self.engine.accumulator(args);
        };
        Ok(match args.is_distinct {
            true => Box::new(Distinct { whole, values: self.engine.accumulator(args)? }),
            false => Box::new(One { whole, sum: None }),
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.engine.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match Whole::new(args.return_field.data_type()) {
            Some(whole) => Ok(Box::new(Groups { whole, sums: Vec::new(), nulls: NullState::new() })),
            None => self.engine.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Whole::new(args.return_field.data_type()) {
            Some(whole) => Ok(Box::new(Sliding {
                whole,
                sum: 0,
                count: 0,
                distinct: args.is_distinct.then(HashMap::new),
            })),
            None => self.engine.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.engine.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.engine.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.engine.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.engine.set_monotonicity(data_type)
    }
}

/// The type of the answer.
#[derive(Debug, Clone)]
struct Whole(DataType);

impl Whole {
    /// `None` for types that are left to the engine.
    fn new(data_type: &DataType) -> Option<Self> {
        matches!(data_type, DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..))
            .then(|| Self(data_type.clone()))
    }

    /// The type of what has been added up so far.
    fn part_type(&self) -> DataType {
        match &self.0 {
            DataType::Decimal128(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale),
            _ => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        }
    }

    fn part(&self, sum: Option<i128>) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<Decimal128Type>(sum, &self.part_type())
    }

    fn part_array(&self, values: PrimitiveArray<Decimal128Type>) -> ArrayRef {
        Arc::new(values.with_data_type(self.part_type()))
    }

    fn check(&self, sum: i128) -> Result<i128> {
        let fits = match &self.0 {
            DataType::Int64 => i64::try_from(sum).is_ok(),
            DataType::UInt64 => u64::try_from(sum).is_ok(),
            DataType::Decimal128(precision, _) => sum.unsigned_abs() < 10_u128.pow(u32::from(*precision)),
            _ => false,
        };
        if fits { Ok(sum) } else { Err(self.overflow()) }
    }

    fn scalar(&self, sum: Option<i128>) -> Result<ScalarValue> {
        let sum = sum.map(|sum| self.check(sum)).transpose()?;
        match &self.0 {
            DataType::Int64 => Ok(ScalarValue::Int64(sum.map(|sum| sum as i64))),
            DataType::UInt64 => Ok(ScalarValue::UInt64(sum.map(|sum| sum as u64))),
            other => ScalarValue::new_primitive::<Decimal128Type>(sum, other),
        }
    }

    /// Those of the sums that are not NULL have to fit.
    fn array(&self, sums: Decimal128Array) -> Result<ArrayRef> {
        for sum in sums.iter().flatten() {
            self.check(sum)?;
        }
        Ok(match &self.0 {
            DataType::Int64 => Arc::new(sums.unary::<_, Int64Type>(|sum| sum as i64)),
            DataType::UInt64 => Arc::new(sums.unary::<_, UInt64Type>(|sum| sum as u64)),
            other => Arc::new(sums.with_data_type(other.clone())),
        })
    }

    fn overflow(&self) -> DataFusionError {
        exec_datafusion_err!("a SUM is beyond {}", sql_name(&self.0))
    }

    /// All values of a column, which are no NULL; `None` if there are none.
    fn add_up(&self, values: &ArrayRef) -> Result<Option<i128>> {
        if values.null_count() == values.len() {
            return Ok(None);
        }
        match values.data_type() {
            DataType::Int64 => Ok(Some(add_integers::<Int64Type>(values.as_primitive()))),
            DataType::UInt64 => Ok(Some(add_integers::<UInt64Type>(values.as_primitive()))),
            DataType::Decimal128(..) => {
                let values = values.as_primitive::<Decimal128Type>();
                let add = |(sum, overflowed): (i128, bool), value: i128| {
                    let (sum, more) = sum.overflowing_add(value);
                    (sum, overflowed | more)
                };
                let (sum, overflowed) = match values.null_count() {
                    0 => values.values().iter().copied().fold((0, false), add),
                    _ => values.iter().flatten().fold((0, false), add),
                };
                if overflowed { Err(self.overflow()) } else { Ok(Some(sum)) }
            }
            other => internal_err!("a SUM of {other}"),
        }
    }
}

fn add_integers<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>) -> i128
where
    T::Native: Into<i128>,
{
    match values.null_count() {
        0 => values.values().iter().map(|value| (*value).into()).sum(),
        _ => values.iter().flatten().map(Into::into).sum(),
    }
}

/// One sum.
#[derive(Debug)]
struct One {
    whole: Whole,
    sum: Option<i128>,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(more) = self.whole.add_up(&values[0])? {
            let sum = self.sum.unwrap_or_default().checked_add(more);
            self.sum = Some(sum.ok_or_else(|| self.whole.overflow())?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.whole.part(self.sum)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.whole.scalar(self.sum)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// A sum of values that differ, which the engine gathers.
#[derive(Debug)]
struct Distinct {
    whole: Whole,
    values: Box<dyn Accumulator>,
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let [ScalarValue::List(list)] = state.as_slice() else {
            return internal_err!("the values of a SUM(DISTINCT …) are no list");
        };
        self.whole.scalar(self.whole.add_up(&list.value(0))?)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.size()
    }
}

/// A sum over a window that moves.
#[derive(Debug)]
struct Sliding {
    whole: Whole,
    sum: i128,
    /// Rows, or values that differ.
    count: usize,
    /// How often each value is there, if only those count that differ.
    distinct: Option<HashMap<i128, usize>>,
}

impl Sliding {
    fn each(&mut self, values: &ArrayRef, mut step: impl FnMut(&mut Self, i128) -> Option<()>) -> Result<()> {
        let mut fits = true;
        match values.data_type() {
            DataType::Int64 => {
                values
                    .as_primitive::<Int64Type>()
                    .iter()
                    .flatten()
                    .for_each(|v| fits &= step(self, v.into()).is_some());
            }
            DataType::UInt64 => {
                values
                    .as_primitive::<UInt64Type>()
                    .iter()
                    .flatten()
                    .for_each(|v| fits &= step(self, v.into()).is_some());
            }
            DataType::Decimal128(..) => {
                values
                    .as_primitive::<Decimal128Type>()
                    .iter()
                    .flatten()
                    .for_each(|v| fits &= step(self, v).is_some());
            }
            other => return internal_err!("a SUM of {other}"),
        }
        if fits { Ok(()) } else { Err(self.whole.overflow()) }
    }

    fn come(&mut self, value: i128) -> Option<()> {
        let first = self.distinct.as_mut().is_none_or(|counts| {
            let count = counts.entry(value).or_default();
            *count += 1;
            *count == 1
        });
        if first {
            self.sum = self.sum.checked_add(value)?;
            self.count += 1;
        }
        Some(())
    }

    fn go(&mut self, value: i128) -> Option<()> {
        let last = match &mut self.distinct {
            None => true,
            Some(counts) => {
                let count = counts.get_mut(&value)?;
                *count -= 1;
                let last = *count == 0;
                if last {
                    counts.remove(&value);
                }
                last
            }
        };
        if last {
            self.sum = self.sum.checked_sub(value)?;
            self.count -= 1;
        }
        Some(())
    }
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], Self::come)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], Self::go)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a window has no parts")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a window has no parts")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.whole.scalar((self.count > 0).then_some(self.sum))
    }

    fn size(&self) -> usize {
        let entries = self.distinct.as_ref().map_or(0, HashMap::capacity);
        size_of_val(self) + entries * size_of::<(i128, usize, u8)>()
    }
}

/// Sums by group.
struct Groups {
    whole: Whole,
    sums: Vec<i128>,
    nulls: NullState,
}

impl Groups {
    fn add(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        match values.data_type() {
            DataType::Int64 => self.add_typed::<Int64Type>(values, groups, filter, total),
            DataType::UInt64 => self.add_typed::<UInt64Type>(values, groups, filter, total),
            DataType::Decimal128(..) => self.add_typed::<Decimal128Type>(values, groups, filter, total),
            other => internal_err!("a SUM of {other}"),
        }
    }

    fn add_typed<T: ArrowPrimitiveType + Send>(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()>
    where
        T::Native: Into<i128>,
    {
        self.sums.resize(total, 0);
        let sums = self.sums.as_mut_slice();
        let mut overflowed = false;
        self.nulls.accumulate(groups, values.as_primitive::<T>(), filter, total, |group, value| {
            let (sum, more) = sums[group].overflowing_add(value.into());
            sums[group] = sum;
            overflowed |= more;
        });
        if overflowed { Err(self.whole.overflow()) } else { Ok(()) }
    }

    fn emit(&mut self, emit_to: EmitTo) -> Decimal128Array {
        let sums = emit_to.take_needed(&mut self.sums);
        Decimal128Array::new(sums.into(), self.nulls.build(emit_to))
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.add(&values[0], groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.add(&states[0], groups, None, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = self.emit(emit_to);
        self.whole.array(sums)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = self.emit(emit_to);
        Ok(vec![self.whole.part_array(sums)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let (values, counted) = (&values[0], filtered_null_mask(filter, &values[0]));
        let part: Decimal128Array = match values.data_type() {
            DataType::Int64 => values.as_primitive::<Int64Type>().unary(i128::from),
            DataType::UInt64 => values.as_primitive::<UInt64Type>().unary(i128::from),
            DataType::Decimal128(..) => values.as_primitive::<Decimal128Type>().clone(),
            other => return internal_err!("a SUM of {other}"),
        };
        let part = Decimal128Array::new(part.values().clone(), counted);
        Ok(vec![self.whole.part_array(part)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.nulls.size()
    }
}
