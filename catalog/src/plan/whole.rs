//! What is known about one column of many containers together: the table's statistics are made of these.
//!
//! A manifest's block holds that of all of its files, so a query that keeps a
//! manifest whole does not look at its files one by one.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::DataType;
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

/// One column, over some containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Whole {
    /// The least lower bound.
    pub(super) min: Option<ScalarValue>,
    /// The greatest upper bound.
    pub(super) max: Option<ScalarValue>,
    /// NULLs, if each container tells.
    pub(super) null_count: Option<u64>,
    /// Whether every container with values has both bounds.
    pub(super) is_bounded: bool,
    /// Whether the bounds of all of these are values that occur.
    pub(super) is_attained: bool,
}

impl Whole {
    /// Of arrays with an element for each container; bounds are of type `data_type`.
    pub(super) fn of(
        data_type: &DataType,
        min: Option<&ArrayRef>,
        max: Option<&ArrayRef>,
        null_count: &UInt64Array,
        attained: &BooleanArray,
        rows: &UInt64Array,
    ) -> Self {
        // A container without values has no bounds, and needs none.
        let has_values = |index: &usize| {
            let told = |array: &UInt64Array| array.is_valid(*index).then(|| array.value(*index));
            told(rows).is_none_or(|rows| rows > 0 && told(null_count) != Some(rows))
        };
        let has = |array: Option<&ArrayRef>, index| array.is_some_and(|array| array.is_valid(index));
        let with_values = || (0..rows.len()).filter(has_values);
        let all_told = null_count.null_count() == 0;
        Self {
            min: min.and_then(|array| fold(MinAccumulator::try_new(data_type).ok()?, array)),
            max: max.and_then(|array| fold(MaxAccumulator::try_new(data_type).ok()?, array)),
            null_count: all_told.then(|| null_count.values().iter().sum()),
            is_bounded: with_values().all(|index| has(min, index) && has(max, index)),
            is_attained: with_values().all(|index| attained.value(index)),
        }
    }

    /// Of containers that say nothing of the column, some of which may have values.
    pub(super) fn unknown() -> Self {
        Self::default()
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        let nulls = self.null_count.zip(other.null_count);
        let (min, min_is_known) = outer(self.min, other.min, Ordering::Less);
        let (max, max_is_known) = outer(self.max, other.max, Ordering::Greater);
        Self {
            min,
            max,
            null_count: nulls.and_then(|(a, b)| a.checked_add(b)),
            is_bounded: self.is_bounded && other.is_bounded && min_is_known && max_is_known,
            is_attained: self.is_attained && other.is_attained,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        [&self.min, &self.max].into_iter().flatten().map(ScalarValue::size).sum()
    }
}

fn fold(mut accumulator: impl Accumulator, array: &ArrayRef) -> Option<ScalarValue> {
    accumulator.update_batch(std::slice::from_ref(array)).ok()?;
    accumulator.evaluate().ok().filter(|value| !value.is_null())
}

/// The one of two bounds that holds for both; not known if they cannot be compared.
fn outer(a: Option<ScalarValue>, b: Option<ScalarValue>, wanted: Ordering) -> (Option<ScalarValue>, bool) {
    match (a, b) {
        (Some(a), Some(b)) => match a.partial_cmp(&b) {
            None => (None, false),
            Some(order) if order == wanted => (Some(a), true),
            Some(_) => (Some(b), true),
        },
        (a, b) => (a.or(b), true),
    }
}
