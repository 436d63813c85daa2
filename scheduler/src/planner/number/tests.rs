//! Which numbers are exact and which are doubles, and that names and types stay.

use datafusion::arrow::array::{
    Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use super::*;

// The answers are those of DuckDB 1.5.5, where it is not said otherwise.

#[tokio::test]
async fn decimals_are_compared_with_what_is_written() {
    for (condition, rows) in [
        ("x = 9999999.99", "1"),
        ("x <> 9999999.99", "2 3"),
        ("x in (-100.25, 9999999.99)", "1 2"),
        ("x not in (-100.25, 9999999.99)", "3"),
        ("x in (1, -100.25)", "2"),
        ("x between -100.25 and 0.07", "2 3"),
        ("x between -100.251 and 0.069", "2"),
        ("x between 0.07 and 7", "3"),
        ("x not between 0.06 - 0.01 and 0.06 + 0.01", "1 2"),
        ("x <= 0.06 + 0.01", "3 2"),
        ("x + 0.1 = 0.17", "3"),
        ("x * 3.0 = 0.21", "3"),
        ("-x = 100.25", "2"),
        ("x = -(100.25)", "2"),
        ("x = 100.250 * -1", "2"),
        ("case x when 0.07 then true else false end", "3"),
        ("x is distinct from 9999999.99", "2 3 4"),
        ("x is not distinct from 9999999.990", "1"),
        ("9999999.991 > x", "1 2 3"),
        ("9999999.99 >= x", "1 2 3"),
        ("9999999.99 > x", "2 3"),
        ("x < 0.069", "2"),
        ("x >= 0.069", "1 3"),
        ("x = 0.0700000000000000000001", ""),
        ("x < 0.0700000000000000000001", "2 3"),
        ("x < 1e300", "1 2 3"),
        ("x = 7e-2", "3"),
        ("x < 99999999999999999999999999999999999999.5", "1 2 3"),
        ("w = 12345678901234567890.12345", "1"),
        ("w <> 12345678901234567890.12345", "2 3"),
        ("w in (12345678901234567890.12346, 12345678901234567890.12344)", "2"),
        ("w > 12345678901234567890.12345", "2"),
        ("w = 12345678901234567890.123450", "1"),
        ("v = 123456789012345678901234567890123456.25", "1"),
        ("v > 0.123456789", "1 2"),
        ("v = 0.123456789", ""),
        ("try_cast(12345678901234567890.12345 as decimal(25, 5)) = w", "1"),
        ("12345678901234567890.12345::decimal(25, 5) = w", "1"),
    ] {
        assert_eq!(ids(condition).await, sorted(rows), "{condition}");
    }
}

#[tokio::test]
async fn integers_are_compared_with_what_is_written() {
    for (condition, rows) in [
        ("id = 2.5", ""),
        ("id = 2.0", "2"),
        ("id <> 2.5", "1 2 3 4"),
        ("id < 2.5", "1 2"),
        ("id <= 2.5", "1 2"),
        ("id > 2.5", "3 4"),
        ("id >= 2.5", "3 4"),
        ("2.5 < id", "3 4"),
        ("id < 2.0", "1"),
        ("id > -0.5", "1 2 3 4"),
        ("-id > -2.5", "1 2"),
        ("id in (2.5, 3.0)", "3"),
        ("id not in (2.5, 3.0)", "1 2 4"),
        ("id between 1.5 and 3.5", "2 3"),
        ("id * 0.1 = 0.3", "3"),
        ("id * 0.1 > 0.3", "4"),
        ("big = 9007199254740993.0", "1"),
        ("big < 9007199254740992.5", "2"),
        ("big < 1e300", "1 2 3"),
        ("big > -99999999999999999999999.5", "1 2 3"),
        ("0.1 + 0.2 = 0.3", "1 2 3 4"),
        ("id / 2.0 = 1.5", "3"),
        ("count = 2.0", ""),
    ] {
        let condition = condition.replace("count", "id + 100");
        assert_eq!(ids(&condition).await, sorted(rows), "{condition}");
    }
}

#[tokio::test]
async fn doubles_are_compared_as_doubles() {
    // NaN is the highest number, here and there.
    for (condition, rows) in [
        ("d = 0.1", "1"),
        ("d = 0.10000000000000001", "1"),
        ("d > 1e300", "2 3"),
        ("d < 1.5", "1"),
        ("d between 0.05 and 1e308", "1"),
        ("d in (0.1, 2.5)", "1"),
        ("d + 0.2 = 0.3", ""),
        ("x < d", "2 3"),
        ("d > x", "2 3"),
        ("x + 0.03 = d", ""),
        ("x + 0.03 < d + 0.1", "2 3"),
        // As in Spark; DuckDB compares two floats.
        ("f = 0.1", ""),
        ("f < 0.5", "1"),
        ("f = x", ""),
    ] {
        assert_eq!(ids(condition).await, sorted(rows), "{condition}");
    }
}

#[tokio::test]
async fn a_bound_double_is_compared_as_a_double_and_a_bound_decimal_as_a_decimal() {
    let wide = ScalarValue::Decimal128(Some(1_234_567_890_123_456_789_012_345), 25, 5);
    for (condition, value, rows) in [
        ("x = $1", ScalarValue::Float64(Some(9_999_999.99)), "1"),
        ("x in ($1, -100.25)", ScalarValue::Float64(Some(9_999_999.99)), "1 2"),
        ("x < $1", ScalarValue::Float64(Some(f64::INFINITY)), "1 2 3"),
        ("w = $1", wide, "1"),
    ] {
        let context = table(state());
        let logical = plan(&context, &format!("select id from t where {condition}"), true).await;
        let bound = logical.with_param_values(vec![value]).unwrap();
        assert_eq!(ids_of(&context, bound, condition).await, sorted(rows), "{condition}");
    }
}

#[tokio::test]
async fn what_is_very_long_is_a_double() {
    let sum = vec!["0.1"; 200].join(" + ");
    assert_eq!(ids(&format!("{sum} > x")).await, sorted("2 3"));
}

#[tokio::test]
async fn names_and_types_stay() {
    for sql in [
        "select 1.5, -1.50, 1e3, x * 0.5, id * 0.5, 100.00 * sum(x) / sum(x) from t group by x, id",
        "select x > 1.50, x in (1.5, 2), x between 1.5 and 2, case x when 1.5 then 2.5 end from t",
        "select x > 1.50, count(*) filter (where x > 1.5) from t group by x > 1.5 having count(*) > 0.5",
        "select coalesce(x, 1.5), nullif(x, 1.5), round(d * 1.10, 2), cast(1.10 as decimal(9, 2)) from t",
        "select avg(x) * 0.2, sum(x) / 7.0, sum(d) > 1.5 from t order by sum(x) > 1.5",
        "select * from (values (cast(1.1 as decimal(3, 2)), 1.5), (cast(2.2 as decimal(3, 2)), 2)) as v (a, b)",
        "select id from t where x > (select 0.2 * avg(x) from t) and exists (select 1 from t u where u.x = t.x and u.x > 0.5)",
        "select a.id from t a join t b on a.x = b.x and a.x > b.x * 0.5 and a.d = b.x where a.x > 0.5 limit 3",
        "select rank() over (partition by x > 1.5 order by d * 1.5 rows between 1 preceding and current row) from t",
        "select date '2024-01-01' + interval '1.5' day, array[1.5, 2.5], s = 1.5 from t",
        "select $1 > 1.5, x > $2, x between $3 and 1.5, 1.5 * $4 > d from t",
    ] {
        let plain = SessionStateBuilder::new_with_default_features();
        let plain = plan(&table(plain.build()), sql, false).await;
        let marked = plan(&table(state()), sql, true).await;
        assert_eq!(names_and_types(&marked), names_and_types(&plain), "{sql}");
        assert_eq!(marked.get_parameter_types().unwrap(), plain.get_parameter_types().unwrap(), "{sql}");
        if !sql.contains('$') {
            let optimized = state().optimize(&marked).unwrap();
            assert_eq!(names_and_types(&optimized), names_and_types(&plain), "{sql}");
            assert!(!has_marks(&optimized), "{sql}: {optimized}");
        }
    }
}

#[tokio::test]
async fn a_number_takes_the_type_beside_it_so_that_no_column_is_cast() {
    for (condition, predicate) in [
        ("x < 0.069", "t.x < Decimal128(0.07,9,2)"),
        ("x in (1, 9999999.99)", "t.x = Decimal128(1.00,9,2) OR t.x = Decimal128(9999999.99,9,2)"),
        ("x between 1.25 and 7", "t.x >= Decimal128(1.25,9,2) AND t.x <= Decimal128(7.00,9,2)"),
        ("id < 2.5", "t.id < Int64(3)"),
        ("id = 2.0", "t.id = Int64(2)"),
        ("x = 1.50 and d = 1.50", "t.x = Decimal128(1.50,9,2) AND t.d = Float64(1.5)"),
    ] {
        let context = table(state());
        let logical = plan(&context, &format!("select id from t where {condition}"), true).await;
        let optimized = context.state().optimize(&logical).unwrap().display_indent().to_string();
        assert!(optimized.contains(&format!("Filter: {predicate}")), "{condition}: {optimized}");
    }
}

#[test]
fn numbers_are_read_and_rounded_digit_by_digit() {
    let number = |text: &str| Number::of_text(text).unwrap();
    for (text, canonical, precision, scale) in [
        ("1.50", "1.5", 2, 1),
        (".5", "0.5", 1, 1),
        ("5.", "5.", 1, 0),
        ("-0.070", "-0.07", 2, 2),
        ("00.00", "0.", 1, 0),
        ("-0.0", "0.", 1, 0),
        ("1_000.2_5", "1000.25", 6, 2),
    ] {
        let number = number(text);
        assert_eq!((number.text().as_str(), number.precision(), number.scale), (canonical, precision, scale));
        assert_eq!(Number::of_text(&number.text()).unwrap(), number);
    }
    for text in ["1e3", "1.5E-2", ".", "", "-", "0x10", "inf"] {
        assert_eq!(Number::of_text(text), None, "{text}");
    }
    for (text, scale, down, up) in [
        ("2.5", 0, "2.", "3."),
        ("-2.5", 0, "-3.", "-2."),
        ("0.069", 2, "0.06", "0.07"),
        ("-0.001", 2, "-0.01", "0."),
        ("0.001", 0, "0.", "1."),
        ("9.99", 1, "9.9", "10."),
        ("1.5", 1, "1.5", "1.5"),
    ] {
        assert_eq!(number(text).rounded(scale, false).unwrap().text(), down, "{text} down");
        assert_eq!(number(text).rounded(scale, true).unwrap().text(), up, "{text} up");
    }
}

fn names_and_types(plan: &LogicalPlan) -> Vec<(&str, &DataType)> {
    let fields = plan.schema().fields().iter();
    fields.map(|field| (field.name().as_str(), field.data_type())).collect()
}

fn has_marks(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(mark::marked(expr).is_some()))?;
            Ok(TreeNodeRecursion::Continue)
        })
    });
    walked.unwrap();
    found
}

async fn ids(condition: &str) -> Vec<String> {
    let context = table(state());
    let logical = plan(&context, &format!("select id from t where {condition}"), true).await;
    ids_of(&context, logical, condition).await
}

async fn ids_of(context: &SessionContext, logical: LogicalPlan, condition: &str) -> Vec<String> {
    let frame = context.execute_logical_plan(logical).await.unwrap();
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{condition}: {error}"));
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let mut ids: Vec<_> =
        rows.map(|(batch, row)| array_value_to_string(batch.column(0), row).unwrap()).collect();
    ids.sort();
    ids
}

fn sorted(rows: &str) -> Vec<String> {
    let mut rows: Vec<_> = rows.split_whitespace().map(String::from).collect();
    rows.sort();
    rows
}

fn state() -> SessionState {
    install(SessionStateBuilder::new_with_default_features(), datafusion::optimizer::Analyzer::new().rules)
        .build()
}

async fn plan(context: &SessionContext, sql: &str, marks: bool) -> LogicalPlan {
    let state = context.state();
    let statement = state.sql_to_statement(sql, &datafusion::config::Dialect::Generic).unwrap();
    let Statement::Statement(statement) = statement else { panic!("{sql}") };
    let planned = match marks {
        true => logical_plan(&state, Statement::Statement(statement)).await,
        false => state.statement_to_plan(Statement::Statement(statement)).await,
    };
    planned.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Rows 1 to 4; the last is NULL but for its id.
fn table(state: SessionState) -> SessionContext {
    let decimal = |values: [Option<i128>; 4], precision, scale| {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
    };
    let w = [1234567890123456789012345, 1234567890123456789012346, 5, 0];
    let v = [12345678901234567890123456789012345625, 100, 0, 0];
    let [w, v] = [w, v].map(|[a, b, c, _]: [i128; 4]| [Some(a), Some(b), Some(c), None]);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as _, false),
        ("x", decimal([Some(999999999), Some(-10025), Some(7), None], 9, 2) as _, true),
        ("w", decimal(w, 25, 5) as _, true),
        ("v", decimal(v, 38, 2) as _, true),
        (
            "big",
            Arc::new(Int64Array::from(vec![Some((1 << 53) + 1), Some(1 << 53), Some(i64::MAX), None])) as _,
            true,
        ),
        (
            "d",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::INFINITY), Some(f64::NAN), None])) as _,
            true,
        ),
        ("f", Arc::new(Float32Array::from(vec![Some(0.1), Some(1.5), Some(f32::NAN), None])) as _, true),
        ("s", Arc::new(StringArray::from(vec![Some("a"), None, None, None])) as _, true),
    ])
    .unwrap();
    let context = SessionContext::new_with_state(state);
    context.register_batch("t", batch).unwrap();
    context
}
