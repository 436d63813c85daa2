//! Committed answers, and when a result equals one.
//!
//! Rows stand in the order of the ORDER BY keys, and are a multiset among ties and where there is
//! no order. Integers, dates and text are equal when they are the same; decimals when they are the
//! same number; doubles within 1e-9, relative. Where DuckDB has a double and Tarn a decimal of scale
//! s (an average or quotient of decimals), they differ by less than one unit of the last place of s.
//! Column names are the same, column types those that tests/oracle/tpch.py states.

use std::path::PathBuf;

use serde::Deserialize;

use crate::rows::Rows;

const RELATIVE: f64 = 1e-9;

/// The answer to one query.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub query: String,
    pub scale: String,
    /// Column numbers from 1, negative for descending.
    pub order_by: Vec<i32>,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<String>>>,
}

/// A column of an answer.
#[derive(Debug, Deserialize)]
pub struct Column {
    pub name: String,
    pub duckdb: String,
    pub tarn: String,
}

/// Sums over the generator's own files.
#[derive(Debug, Deserialize)]
pub struct Sums {
    pub scale: String,
    /// Table, row count, column, sum.
    pub rows: Vec<[String; 4]>,
}

/// The answer to TPC-H query n.
pub fn tpch(number: usize) -> Answer {
    read(&format!("q{number:02}.json"))
}

/// Row counts and column sums of the TPC-H tables.
pub fn tpch_sums() -> Sums {
    read("tables.json")
}

/// The text of TPC-H query n.
pub fn tpch_query(number: usize) -> String {
    let path = root().join(format!("../queries/tpch/q{number:02}.sql"));
    std::fs::read_to_string(path).unwrap()
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let text = std::fs::read_to_string(root().join("answers/tpch").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Answer {
    /// What is wrong with a result, if anything.
    pub fn compare(&self, result: &Rows) -> Result<(), String> {
        let columns =
            |name: fn(&Column) -> &String| self.columns.iter().map(name).cloned().collect::<Vec<_>>();
        let names: Vec<_> = result.schema.fields().iter().map(|field| field.name().clone()).collect();
        same("column names", &columns(|column| &column.name), &names)?;
        let types: Vec<_> =
            result.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        same("column types", &columns(|column| &column.tarn), &types)?;
        same("number of rows", &self.rows.len(), &result.rows.len())?;

        let mut start = 0;
        while start < self.rows.len() {
            let end = self.end_of_ties(start);
            self.compare_ties(&self.rows[start..end], &result.rows[start..end])
                .map_err(|fault| format!("rows {start} to {end}: {fault}"))?;
            start = end;
        }
        Ok(())
    }

    /// Where the rows end that have the same keys as row `start`; without keys, that is all of them.
    fn end_of_ties(&self, start: usize) -> usize {
        let keys = |row: &[Option<String>]| -> Vec<_> {
            self.order_by.iter().map(|key| row[key.unsigned_abs() as usize - 1].clone()).collect()
        };
        let first = keys(&self.rows[start]);
        let ties = self.rows[start..].iter().take_while(|row| keys(row) == first).count();
        start + ties
    }

    fn compare_ties(
        &self,
        expected: &[Vec<Option<String>>],
        seen: &[Vec<Option<String>>],
    ) -> Result<(), String> {
        let mut left: Vec<_> = seen.iter().collect();
        for row in expected {
            match left.iter().position(|other| self.same_row(row, other)) {
                Some(found) => {
                    left.remove(found);
                }
                None => return Err(format!("expected {row:?}, among {seen:?}")),
            }
        }
        Ok(())
    }

    fn same_row(&self, expected: &[Option<String>], seen: &[Option<String>]) -> bool {
        let cells = expected.iter().zip(seen).zip(&self.columns);
        cells.into_iter().all(|((expected, seen), column)| match (expected, seen) {
            (None, None) => true,
            (Some(expected), Some(seen)) => same_value(expected, seen, column),
            _ => false,
        })
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, seen: &T) -> Result<(), String> {
    if expected == seen { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {seen:?}")) }
}

fn same_value(expected: &str, seen: &str, column: &Column) -> bool {
    if let Some(scale) = decimal_scale(&column.tarn) {
        if column.duckdb == "DOUBLE" {
            let unit = 10f64.powi(-scale);
            return (number(expected) - number(seen)).abs() < unit;
        }
        return same_decimal(expected, seen);
    }
    if column.tarn == "Float64" {
        let (expected, seen) = (number(expected), number(seen));
        return expected == seen || (expected - seen).abs() <= RELATIVE * expected.abs().max(seen.abs());
    }
    expected == seen
}

/// Whether two decimals are the same number, whatever their scale.
pub fn same_decimal(left: &str, right: &str) -> bool {
    let parts = |text: &str| {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0').to_string();
        let whole = whole.trim_start_matches('0').to_string();
        let zero = whole.is_empty() && fraction.is_empty();
        (if zero { 1 } else { sign }, whole, fraction)
    };
    parts(left) == parts(right)
}

fn decimal_scale(data_type: &str) -> Option<i32> {
    let inner = data_type.strip_prefix("Decimal128(")?.strip_suffix(')')?;
    inner.split_once(", ")?.1.parse().ok()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

#[test]
fn decimals_are_compared_as_numbers() {
    assert!(same_decimal("1.50", "1.5"));
    assert!(same_decimal("-0.00", "0"));
    assert!(same_decimal("100", "100.00"));
    assert!(!same_decimal("1.5", "-1.5"));
    assert!(!same_decimal("10", "1"));
}

#[test]
fn ties_are_a_multiset_and_order_is_held() {
    let column = |tarn: &str| Column { name: "c".into(), duckdb: String::new(), tarn: tarn.into() };
    let rows =
        |rows: &[[&str; 2]]| rows.iter().map(|row| row.map(|cell| Some(cell.to_string())).to_vec()).collect();
    let answer = Answer {
        query: String::new(),
        scale: String::new(),
        order_by: vec![1],
        columns: vec![column("Int64"), column("Utf8")],
        rows: rows(&[["1", "a"], ["1", "b"], ["2", "c"]]),
    };
    let fields = vec![
        arrow::datatypes::Field::new("c", arrow::datatypes::DataType::Int64, true),
        arrow::datatypes::Field::new("c", arrow::datatypes::DataType::Utf8, true),
    ];
    let result = |text: &[[&str; 2]]| Rows {
        schema: std::sync::Arc::new(arrow::datatypes::Schema::new(fields.clone())),
        rows: rows(text),
        query_id: String::new(),
    };
    assert!(answer.compare(&result(&[["1", "b"], ["1", "a"], ["2", "c"]])).is_ok());
    assert!(answer.compare(&result(&[["1", "a"], ["2", "c"], ["1", "b"]])).is_err());
    assert!(answer.compare(&result(&[["1", "a"], ["1", "a"], ["2", "c"]])).is_err());
    assert!(answer.compare(&result(&[["1", "a"], ["1", "b"]])).is_err());
}
