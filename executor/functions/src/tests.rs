//! `SUM` against the sums of the same values, whole, in parts, by group and over windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::Column;

use super::*;

/// What is made with the arguments of `SUM(x)`.
fn with_args<T>(data_type: &DataType, distinct: bool, make: impl FnOnce(AccumulatorArgs) -> Result<T>) -> T {
    let schema = Schema::new(vec![Field::new("x", data_type.clone(), true)]);
    let return_type = sum().return_type(std::slice::from_ref(data_type)).unwrap();
    let args = AccumulatorArgs {
        return_field: Arc::new(Field::new("sum", return_type, true)),
        schema: &schema,
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name: "sum(x)",
        is_distinct: distinct,
        exprs: &[Arc::new(Column::new("x", 0))],
        expr_fields: &[Arc::new(schema.field(0).clone())],
    };
    make(args).unwrap()
}

fn one(data_type: &DataType, distinct: bool) -> Box<dyn Accumulator> {
    with_args(data_type, distinct, |args| sum().accumulator(args))
}

fn groups(data_type: &DataType) -> Box<dyn GroupsAccumulator> {
    with_args(data_type, false, |args| sum().create_groups_accumulator(args))
}

fn integers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

fn arrays(state: Vec<ScalarValue>) -> Vec<ArrayRef> {
    state.iter().map(|value| value.to_array().unwrap()).collect()
}

#[test]
fn a_sum_that_fits_in_the_end_is_none_the_worse_for_its_way_there() {
    for distinct in [false, true] {
        let [mut first, mut second, mut whole] = [(); 3].map(|()| one(&DataType::Int64, distinct));
        first.update_batch(&[integers([Some(i64::MAX), None, Some(5)])]).unwrap();
        second.update_batch(&[integers([Some(-5), Some(i64::MIN)])]).unwrap();
        assert!(first.evaluate().unwrap_err().to_string().contains("a SUM is beyond BIGINT"));
        whole.merge_batch(&arrays(first.state().unwrap())).unwrap();
        whole.merge_batch(&arrays(second.state().unwrap())).unwrap();
        assert_eq!(whole.evaluate().unwrap(), ScalarValue::Int64(Some(-1)));
    }
}

#[test]
fn sums_by_group_are_those_of_the_values() {
    // Values, their groups, and which of them count.
    let values: Vec<_> = (0..1000_i64).map(|i| (i % 7 != 0).then_some((i * 7919) % 1009 - 500)).collect();
    let places: Vec<usize> = (0..1000).map(|i| i % 10 + i / 500 * 5).collect();
    let filter: BooleanArray = (0..1000)
        .map(|i| match i % 5 {
            0 => Some(false),
            1 => None,
            _ => Some(true),
        })
        .collect();
    for filter in [None, Some(&filter)] {
        let mut expected = [None::<i64>; 16];
        for (row, value) in values.iter().enumerate() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (Some(value), true) = (value, counts) {
                *expected[places[row]].get_or_insert(0) += value;
            }
        }
        let mut direct = groups(&DataType::Int64);
        direct.update_batch(&[integers(values.clone())], &places, filter, 16).unwrap();
        // The same by parts: of groups, and of rows as they are.
        let mut merged = groups(&DataType::Int64);
        let (left, right) = (integers(values[..500].to_vec()), integers(values[500..].to_vec()));
        let [below, above] = [0, 500].map(|at| filter.map(|filter| filter.slice(at, 500)));
        let mut part = groups(&DataType::Int64);
        part.update_batch(&[left], &places[..500], below.as_ref(), 16).unwrap();
        let all: Vec<usize> = (0..16).collect();
        merged.merge_batch(&part.state(EmitTo::All).unwrap(), &all, 16).unwrap();
        let rows = part.convert_to_state(&[right], above.as_ref()).unwrap();
        merged.merge_batch(&rows, &places[500..], 16).unwrap();
        for mut sums in [direct, merged] {
            let first = sums.evaluate(EmitTo::First(4)).unwrap();
            let rest = sums.evaluate(EmitTo::All).unwrap();
            let seen: Vec<_> = [first, rest]
                .iter()
                .flat_map(|sums| sums.as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
                .collect();
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_group_that_is_beyond_its_type_is_an_error() {
    let mut sums = groups(&DataType::Int64);
    sums.update_batch(&[integers([Some(i64::MIN), Some(-1), Some(1)])], &[0, 0, 1], None, 2).unwrap();
    assert!(sums.evaluate(EmitTo::All).unwrap_err().to_string().contains("a SUM is beyond BIGINT"));

    let widest = DataType::Decimal128(38, 2);
    let greatest = 10_i128.pow(38) - 1;
    let column = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
    };
    let mut sums = groups(&widest);
    sums.update_batch(&[column(vec![greatest, 1])], &[0, 0], None, 1).unwrap();
    assert!(sums.evaluate(EmitTo::All).unwrap_err().to_string().contains("a SUM is beyond DECIMAL(38, 2)"));
    let mut sums = groups(&widest);
    assert!(sums.update_batch(&[column(vec![greatest, greatest])], &[0, 0], None, 1).is_err());
    let mut sums = groups(&widest);
    sums.update_batch(&[column(vec![greatest, 1, -1])], &[0, 0, 0], None, 1).unwrap();
    assert_eq!(sums.evaluate(EmitTo::All).unwrap().as_primitive::<Decimal128Type>().value(0), greatest);
}

#[test]
fn a_window_that_moves_forgets_what_it_leaves() {
    let values =
        [Some(2), Some(2), None, Some(3), Some(-1), Some(-1), None, None, None, Some(i64::MAX), Some(1)];
    for distinct in [false, true] {
        let mut window = with_args(&DataType::Int64, distinct, |args| sum().create_sliding_accumulator(args));
        for (row, value) in values.iter().enumerate() {
            window.update_batch(&[integers([*value])]).unwrap();
            let first = (row + 1).saturating_sub(3);
            if first > 0 {
                window.retract_batch(&[integers([values[first - 1]])]).unwrap();
            }
            let mut inside: Vec<i64> = values[first..=row].iter().copied().flatten().collect();
            if distinct {
                inside.sort_unstable();
                inside.dedup();
            }
            let total = inside.iter().map(|value| i128::from(*value)).sum::<i128>();
            match i64::try_from(total) {
                Ok(total) => {
                    let expected = ScalarValue::Int64((!inside.is_empty()).then_some(total));
                    assert_eq!(window.evaluate().unwrap(), expected, "row {row}");
                }
                Err(_) => assert!(window.evaluate().is_err(), "row {row}"),
            }
        }
    }
}
