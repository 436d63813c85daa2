//! How many rows a plan gives, and how many different values its columns hold.
//!
//! Rows are counted by table formats; different values mostly are not, and are told from a column's bounds where it has
//! any. A plan's estimate is made from those of its inputs by the textbook (Selinger 1979), on the assumption that
//! conditions do not depend on each other and that keys of fewer values are among those of more. The rule: every number
//! is finite and at least one, whatever the statistics say, and unknown rows are no number at all.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ColumnStatistics, DFSchemaRef, ScalarValue, Statistics};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, FetchType, Filter, Join, JoinType, Limit, LogicalPlan, Projection,
    TableProviderFilterPushDown, TableScan, utils::split_conjunction,
};

use super::selectivity;
use super::statistics::Known;

/// Nodes above each other that are looked into.
const DEPTH_MAX: usize = 256;

/// More rows than this are not told apart.
pub(super) const ROWS_MAX: f64 = 1e30;

/// Different values of a column of which nothing is known, where one of them is asked for: few enough that the filter is
/// seen to leave little, too many for it to leave next to nothing.
pub(super) const DISTINCT_ASKED: f64 = 25.0;

/// Rows of a group, where nothing is known of the columns that make it.
const GROUP_ROWS: f64 = 10.0;

/// The part of the rows that a semi join leaves, where nothing is known of its keys.
const SEMI_JOIN: f64 = 0.5;

/// A column of integers with this part of the possible values may hold each once, and so be a key that others refer to.
const KEY_DENSITY: f64 = 1.0 / 8.0;

/// What is known of a plan's rows.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// How many there are.
    pub(super) rows: f64,
    /// How many there were before filters, by which keys are judged: a filter takes away rows of a key's table, but
    /// those that refer to it stay.
    pub(super) base_rows: f64,
    schema: DFSchemaRef,
    /// By column of the schema.
    values: Vec<Values>,
}

/// What is known of a column's values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// How many are different, by nothing but filters on the column itself; an upper bound unless it is `known`.
    pub(super) distinct: f64,
    /// Whether that was counted, or told from bounds.
    pub(super) known: bool,
    /// The bounds.
    pub(super) bounds: Option<(f64, f64)>,
    /// How many there can be between the bounds.
    possible: Option<f64>,
    /// The part of the rows that is NULL.
    pub(super) nulls: f64,
}

/// A number of rows, or of anything that they hold.
pub(super) fn counted(rows: f64) -> f64 {
    if rows.is_nan() { ROWS_MAX } else { rows.clamp(1.0, ROWS_MAX) }
}

impl Values {
    fn unknown(rows: f64) -> Self {
        Self { distinct: counted(rows), known: false, bounds: None, possible: None, nulls: 0.0 }
    }

    fn one() -> Self {
        Self { distinct: 1.0, known: true, ..Self::unknown(1.0) }
    }

    pub(super) fn of_statistics(column: &ColumnStatistics, data_type: &DataType, rows: f64) -> Self {
        let bound = |value: Option<&ScalarValue>| value.filter(|value| !value.is_null()).cloned();
        let (min, max) = (bound(column.min_value.get_value()), bound(column.max_value.get_value()));
        let bounds = match (min.as_ref().and_then(number), max.as_ref().and_then(number)) {
            (Some(low), Some(high)) if low <= high => Some((low, high)),
            _ => None,
        };
        let steps = bounds.zip(step(data_type)).map(|((low, high), step)| counted((high - low) / step + 1.0));
        let possible = match min.is_some() && min == max {
            true => Some(1.0),
            false => steps.or((*data_type == DataType::Boolean).then_some(2.0)),
        };
        let distinct = column.distinct_count.get_value().map(|distinct| counted(*distinct as f64));
        let nulls = column.null_count.get_value().map_or(0.0, |nulls| *nulls as f64 / rows);
        Self {
            distinct: counted(distinct.or(possible).unwrap_or(rows).min(rows)),
            known: distinct.is_some() || possible.is_some(),
            bounds,
            possible,
            nulls: if nulls.is_nan() { 0.0 } else { nulls.clamp(0.0, 1.0) },
        }
    }

    /// Those that a filter on the column itself leaves.
    fn filtered(&mut self, selectivity: f64) {
        self.distinct = counted(self.distinct * selectivity);
        self.possible = self.possible.map(|possible| counted(possible * selectivity));
    }

    /// Those of at most so many rows.
    fn at_most(mut self, rows: f64) -> Self {
        self.distinct = self.distinct.min(counted(rows));
        self
    }

    /// How many are different, for a condition that asks for one of them.
    pub(super) fn asked(&self) -> f64 {
        if self.known { self.distinct } else { self.distinct.min(DISTINCT_ASKED) }
    }

    /// Whether it may be a key of so many rows: no value twice, and not many missing between.
    fn key_of(&self, base_rows: f64) -> bool {
        self.possible.is_some_and(|possible| base_rows < possible && base_rows >= KEY_DENSITY * possible)
    }
}

/// How many different values columns hold that equal each other, each with the base rows of its relation.
///
/// What is not counted is bounded by rows. Among columns of integers one with few gaps and no more rows than possible
/// values is taken for the key that the others refer to, and they hold no other values than it; of columns without
/// bounds it is the one with the fewest rows.
pub(super) fn distinct_of_equals(columns: &[(Values, f64)]) -> Vec<f64> {
    let least = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::min);
    let keys = &mut columns.iter().filter(|(values, rows)| values.key_of(*rows)).map(|(_, rows)| *rows);
    let key = least(keys).unwrap_or(ROWS_MAX);
    let known = columns.iter().filter(|(values, _)| values.known).map(|(values, _)| values.distinct.min(key));
    let unknown = known.reduce(f64::max).or_else(|| least(&mut columns.iter().map(|(_, rows)| *rows)));
    let distinct = |(values, _): &(Values, f64)| match values.known {
        true => values.distinct.min(key),
        false => values.distinct.min(unknown.unwrap_or(ROWS_MAX)),
    };
    columns.iter().map(distinct).collect()
}

/// Of how many pairs of rows one joins, where several keys are equal: by each key how many values it has on both sides,
/// and the base rows of the sides.
///
/// Keys of one table depend on each other. Where on both sides there are more combinations than rows, the side with fewer
/// rows is taken for the one that the other refers to.
pub(super) fn pairs_of_keys(keys: &[(f64, f64)], left_rows: f64, right_rows: f64) -> f64 {
    let product =
        |side: fn(&(f64, f64)) -> f64| keys.iter().map(side).fold(1.0, |all, one| counted(all * one));
    let (left, right) = (product(|key| key.0), product(|key| key.1));
    if keys.len() > 1 && left > left_rows && right > right_rows {
        return left_rows.min(right_rows);
    }
    match keys.len() {
        0 => 1.0,
        1 => left.max(right),
        _ => left.min(left_rows).max(right.min(right_rows)),
    }
}

impl Relation {
    /// What is known of a plan's rows; `None` if that is not even how many there are.
    pub(super) fn of(plan: &LogicalPlan, known: &Known) -> Option<Self> {
        Self::at_depth(plan, known, DEPTH_MAX)
    }

    fn new(rows: f64, base_rows: f64, schema: DFSchemaRef, values: impl FnMut(usize) -> Values) -> Self {
        let values = (0..schema.fields().len()).map(values).collect();
        let rows = counted(rows);
        Self { rows, base_rows: counted(base_rows).max(rows), schema, values }
    }

    fn at_depth(plan: &LogicalPlan, known: &Known, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let input = |input: &LogicalPlan| Self::at_depth(input, known, depth);
        match plan {
            LogicalPlan::TableScan(scan) => Self::of_scan(scan, &[], known),
            LogicalPlan::Filter(filter) => match filter.input.as_ref() {
                LogicalPlan::TableScan(scan) => {
                    Self::of_scan(scan, &split_conjunction(&filter.predicate), known)
                }
                _ => Some(input(&filter.input)?.filtered_by(filter)),
            },
            LogicalPlan::Projection(projection) => Some(input(&projection.input)?.projected(projection)),
            LogicalPlan::SubqueryAlias(alias) => {
                Some(Self { schema: Arc::clone(&alias.schema), ..input(&alias.input)? })
            }
            LogicalPlan::Aggregate(aggregate) => Some(input(&aggregate.input)?.aggregated(aggregate)),
            LogicalPlan::Join(join) => Self::joined(join, &input(&join.left)?, &input(&join.right)?),
            LogicalPlan::Distinct(Distinct::All(distinct)) => Some(input(distinct)?.made_distinct()),
            LogicalPlan::Window(window) => {
                let of = input(&window.input)?;
                let rows = of.rows;
                let values = |index| of.values.get(index).cloned().unwrap_or_else(|| Values::unknown(rows));
                Some(Self::new(rows, of.base_rows, Arc::clone(&window.schema), values))
            }
            LogicalPlan::Sort(sort) => Some(input(&sort.input)?.limited(sort.fetch)),
            LogicalPlan::Limit(limit) => {
                let fetch = fetch(limit);
                match input(&limit.input) {
                    Some(of) => Some(of.limited(fetch)),
                    None => fetch.map(|fetch| {
                        let rows = fetch as f64;
                        Self::new(rows, rows, Arc::clone(limit.input.schema()), |_| Values::unknown(rows))
                    }),
                }
            }
            LogicalPlan::Repartition(repartition) => input(&repartition.input),
            LogicalPlan::Subquery(subquery) => input(&subquery.subquery),
            LogicalPlan::Union(union) => {
                let of = union.inputs.iter().map(|of| input(of)).collect::<Option<Vec<_>>>()?;
                let rows = of.iter().map(|of| of.rows).sum();
                let base_rows = of.iter().map(|of| of.base_rows).sum();
                Some(Self::new(rows, base_rows, Arc::clone(&union.schema), |_| Values::unknown(base_rows)))
            }
            LogicalPlan::Values(values) => {
                let rows = values.values.len() as f64;
                Some(Self::new(rows, rows, Arc::clone(&values.schema), |_| Values::unknown(rows)))
            }
            LogicalPlan::EmptyRelation(empty) => {
                Some(Self::new(1.0, 1.0, Arc::clone(&empty.schema), |_| Values::one()))
            }
            _ => None,
        }
    }

    /// A scan, with the filters that stand upon it.
    fn of_scan(scan: &TableScan, above: &[&Expr], known: &Known) -> Option<Self> {
        let statistics = known.scan(scan)?;
        let rows = counted(*statistics.num_rows.get_value()? as f64);
        let table_rows = Known::table_rows(scan).map_or(rows, |rows| rows as f64);
        let of_table = Self::of_table(scan, statistics, rows, table_rows)?;
        // Filters that the table does not apply exactly stand above the scan, too.
        let pushed: Vec<_> = scan.filters.iter().collect();
        let exact = scan.source.supports_filters_pushdown(&pushed).ok()?;
        let exact = pushed.into_iter().zip(exact).filter_map(|(filter, pushdown)| {
            (pushdown == TableProviderFilterPushDown::Exact && !above.contains(&filter)).then_some(filter)
        });
        let filters: Vec<_> = exact.chain(above.iter().copied()).collect();
        let filtered = of_table.filtered(&filters);
        let value = |index: usize| match &scan.projection {
            Some(projection) => filtered.values[projection[index]].clone(),
            None => filtered.values[index].clone(),
        };
        let schema = Arc::clone(&scan.projected_schema);
        let fits = scan.projection.as_ref().is_none_or(|projection| {
            projection.len() >= schema.fields().len()
                && projection.iter().all(|column| *column < filtered.values.len())
        });
        let of = fits.then(|| Self::new(filtered.rows, filtered.base_rows, schema, value))?;
        Some(of.limited(scan.fetch))
    }

    fn of_table(scan: &TableScan, statistics: &Statistics, rows: f64, table_rows: f64) -> Option<Self> {
        let schema = scan.source.schema();
        let qualified =
            datafusion::common::DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema).ok()?;
        let value = |index: usize| match statistics.column_statistics.get(index) {
            Some(column) => Values::of_statistics(column, schema.field(index).data_type(), rows),
            None => Values::unknown(rows),
        };
        Some(Self::new(rows, table_rows, qualified.into(), value))
    }

    fn filtered_by(self, filter: &Filter) -> Self {
        self.filtered(&split_conjunction(&filter.predicate))
    }

    /// The rows that fulfil all of these.
    pub(super) fn filtered(mut self, filters: &[&Expr]) -> Self {
        let selectivity = selectivity::of_all(filters, &self);
        for (column, selectivity) in selectivity.by_column {
            if let Some(index) = self.schema.maybe_index_of_column(&column) {
                self.values[index].filtered(selectivity);
            }
        }
        self.rows = counted(self.rows * selectivity.all);
        self
    }

    /// Both beside each other, for conditions about both; rows are those of the larger.
    pub(super) fn beside(&self, other: &Self) -> Self {
        match self.schema.join(&other.schema) {
            Ok(schema) => Self {
                rows: self.rows.max(other.rows),
                base_rows: self.base_rows.max(other.base_rows),
                schema: schema.into(),
                values: self.values.iter().chain(&other.values).cloned().collect(),
            },
            Err(_) => self.clone(),
        }
    }

    fn limited(mut self, rows: Option<usize>) -> Self {
        if let Some(rows) = rows.map(|rows| counted(rows as f64)).filter(|rows| *rows < self.rows) {
            (self.rows, self.base_rows) = (rows, rows);
            self.values = self.values.into_iter().map(|values| values.at_most(rows)).collect();
        }
        self
    }

    fn projected(self, projection: &Projection) -> Self {
        let values = |index: usize| match projection.expr.get(index) {
            Some(expr) => self.values_of(expr),
            None => Values::unknown(self.base_rows),
        };
        Self::new(self.rows, self.base_rows, Arc::clone(&projection.schema), values)
    }

    fn aggregated(self, aggregate: &Aggregate) -> Self {
        let keys: Vec<_> = aggregate.group_expr.iter().map(|key| self.values_of(key)).collect();
        let rows = if keys.is_empty() { 1.0 } else { self.groups(&keys) };
        let value = |index: usize| match keys.get(index) {
            // A key of one column is there once.
            Some(key) if keys.len() == 1 => Values { known: true, ..key.clone().at_most(rows) },
            Some(key) => key.clone().at_most(rows),
            None => Values::unknown(rows),
        };
        Self::new(rows, rows, Arc::clone(&aggregate.schema), value)
    }

    fn made_distinct(self) -> Self {
        let rows = self.groups(&self.values);
        let values = |index: usize| self.values[index].clone().at_most(rows);
        Self::new(rows, rows, Arc::clone(&self.schema), values)
    }

    /// Rows that differ in these columns.
    fn groups(&self, keys: &[Values]) -> f64 {
        let distinct = |key: &Values| match key.known {
            true => key.distinct,
            false => key.distinct.min((self.rows / GROUP_ROWS).max(DISTINCT_ASKED)),
        };
        keys.iter().map(distinct).fold(1.0, |all, one| counted(all * one)).min(self.rows)
    }

    fn joined(join: &Join, left: &Self, right: &Self) -> Option<Self> {
        let keys: Vec<_> = join.on.iter().map(|(l, r)| (left.values_of(l), right.values_of(r))).collect();
        let distinct = keys.iter().map(|(l, r)| {
            let both = [(l.clone(), left.base_rows), (r.clone(), right.base_rows)];
            let distinct = distinct_of_equals(&both);
            (distinct[0], distinct[1])
        });
        let distinct: Vec<_> = distinct.collect();
        let pairs = pairs_of_keys(&distinct, left.base_rows, right.base_rows);
        let values = left.values.iter().chain(&right.values).cloned().collect();
        let both = match join.join_type.is_outer() || join.join_type == JoinType::Inner {
            true => Self {
                rows: counted(left.rows * right.rows / pairs),
                base_rows: left.base_rows.max(right.base_rows),
                schema: Arc::clone(&join.schema),
                values,
            },
            false => left.clone(),
        };
        let filters: Vec<_> = join.filter.iter().flat_map(split_conjunction).collect();
        let of_keys = |side: fn(&(f64, f64)) -> f64| {
            distinct.iter().map(side).fold(1.0, |all, one| counted(all * one)).min(pairs)
        };
        // The part of a side's keys that the other has.
        let met = |own: f64, other: f64, rows: f64| match distinct.is_empty() {
            true => SEMI_JOIN,
            false => (other.min(rows) / own).min(1.0),
        };
        let keys = (of_keys(|key| key.0), of_keys(|key| key.1));
        let (left_met, right_met) = (met(keys.0, keys.1, right.rows), met(keys.1, keys.0, left.rows));
        let part = |of: &Self, part: f64| Self { rows: counted(of.rows * part), ..of.clone() };
        let outer = |rows: f64| {
            let inner = both.clone().filtered(&filters);
            Self { rows: inner.rows.max(rows), ..inner }
        };
        Some(match join.join_type {
            JoinType::Inner => both.filtered(&filters),
            JoinType::Left => outer(left.rows),
            JoinType::Right => outer(right.rows),
            JoinType::Full => outer(left.rows.max(right.rows)),
            JoinType::LeftSemi => part(left, left_met),
            JoinType::RightSemi => part(right, right_met),
            JoinType::LeftAnti => part(left, (1.0 - left_met).max(0.1)),
            JoinType::RightAnti => part(right, (1.0 - right_met).max(0.1)),
            JoinType::LeftMark | JoinType::RightMark => {
                let of = if join.join_type == JoinType::LeftMark { left } else { right };
                let value = |index| of.values.get(index).cloned().unwrap_or_else(|| Values::unknown(2.0));
                Self::new(of.rows, of.base_rows, Arc::clone(&join.schema), value)
            }
            // A kind that is not known here.
            #[allow(unreachable_patterns)]
            _ => return None,
        })
    }

    /// What is known of a column.
    pub(super) fn column(&self, column: &Column) -> Option<&Values> {
        self.values.get(self.schema.maybe_index_of_column(column)?)
    }

    /// What is known of an expression's values.
    pub(super) fn values_of(&self, expr: &Expr) -> Values {
        match expr {
            Expr::Column(column) => {
                self.column(column).cloned().unwrap_or_else(|| Values::unknown(self.base_rows))
            }
            Expr::Alias(alias) => self.values_of(&alias.expr),
            Expr::Cast(cast) => self.values_of(&cast.expr),
            Expr::TryCast(cast) => self.values_of(&cast.expr),
            Expr::Literal(..) => Values::one(),
            expr => {
                let columns = expr.column_refs();
                let distinct = columns.iter().filter_map(|column| self.column(column)).map(|of| of.distinct);
                let distinct = distinct.fold(1.0, |all, one| counted(all * one));
                Values::unknown(distinct.min(self.base_rows))
            }
        }
    }
}

fn fetch(limit: &Limit) -> Option<usize> {
    match limit.get_fetch_type() {
        Ok(FetchType::Literal(fetch)) => fetch,
        _ => None,
    }
}

/// A value as a number to reckon with: times in seconds, so that days and timestamps compare.
pub(super) fn number(value: &ScalarValue) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    let decimal = |value: f64, scale: i8| value / 10f64.powi(i32::from(scale));
    let number = match value {
        ScalarValue::Int8(value) => f64::from((*value)?),
        ScalarValue::Int16(value) => f64::from((*value)?),
        ScalarValue::Int32(value) => f64::from((*value)?),
        ScalarValue::Int64(value) => (*value)? as f64,
        ScalarValue::UInt8(value) => f64::from((*value)?),
        ScalarValue::UInt16(value) => f64::from((*value)?),
        ScalarValue::UInt32(value) => f64::from((*value)?),
        ScalarValue::UInt64(value) => (*value)? as f64,
        ScalarValue::Float32(value) => f64::from((*value)?),
        ScalarValue::Float64(value) => (*value)?,
        ScalarValue::Decimal32(value, _, scale) => decimal(f64::from((*value)?), *scale),
        ScalarValue::Decimal64(value, _, scale) => decimal((*value)? as f64, *scale),
        ScalarValue::Decimal128(value, _, scale) => decimal((*value)? as f64, *scale),
        ScalarValue::Date32(value) => f64::from((*value)?) * DAY,
        ScalarValue::Date64(value) => (*value)? as f64 / 1e3,
        ScalarValue::TimestampSecond(value, _) => (*value)? as f64,
        ScalarValue::TimestampMillisecond(value, _) => (*value)? as f64 / 1e3,
        ScalarValue::TimestampMicrosecond(value, _) => (*value)? as f64 / 1e6,
        ScalarValue::TimestampNanosecond(value, _) => (*value)? as f64 / 1e9,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// Between two neighbouring values of a type, as [`number`] reckons; `None` if there is always one between.
fn step(data_type: &DataType) -> Option<f64> {
    match data_type {
        data_type if data_type.is_integer() => Some(1.0),
        DataType::Date32 | DataType::Date64 => Some(86_400.0),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(10f64.powi(-i32::from(*scale))),
        DataType::Timestamp(..) => Some(1e-6),
        _ => None,
    }
}
