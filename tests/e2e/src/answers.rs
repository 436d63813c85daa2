//! Committed answers, and when a result equals one.
//!
//! Rows stand in the order of the ORDER BY keys, and are a multiset among ties and where there is
//! no order. Integers, dates and text are equal when they are the same; decimals when they are the
//! same number; doubles within 1e-9, relative. Where DuckDB has a double and Tarn a decimal of scale
//! s (an average or quotient of decimals), they differ by less than one unit of the last place of s.
//! Column types are those that tests/oracle/tpch.py states, with the same names; where an answer states none (TPC-DS),
//! a type of the kind that DuckDB's is. Of rows that tie with the last one that a LIMIT allows, any may come.

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
    #[serde(default)]
    pub order_by: Vec<i32>,
    /// In place of `order_by`: how many rows of equal keys stand together.
    pub ties: Option<Vec<usize>>,
    /// How many rows a result has, if the answer has more.
    pub limit: Option<usize>,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// A column of an answer.
#[derive(Debug, Deserialize)]
pub struct Column {
    pub name: String,
    pub duckdb: String,
    /// The type that Tarn announces, if it is stated.
    pub tarn: Option<String>,
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
    read(&format!("tpch/q{number:02}.json"))
}

/// The committed answers to TPC-DS queries, with their numbers.
pub fn tpcds() -> Vec<(usize, Answer)> {
    let files = std::fs::read_dir(root().join("answers/tpcds")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<usize> = names
        .map(|name| name.strip_prefix('q').unwrap().strip_suffix(".json").unwrap().parse().unwrap())
        .collect();
    numbers.sort();
    numbers.into_iter().map(|number| (number, read(&format!("tpcds/q{number:02}.json")))).collect()
}

/// Row counts and column sums of the TPC-H tables.
pub fn tpch_sums() -> Sums {
    read("tpch/tables.json")
}

/// The text of query n of `tpch` or `tpcds`.
pub fn query_text(suite: &str, number: usize) -> String {
    let path = root().join(format!("../queries/{suite}/q{number:02}.sql"));
    std::fs::read_to_string(path).unwrap()
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let text = std::fs::read_to_string(root().join("answers").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The folder of the end-to-end tests; the chaos beside them compares with the same answers.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../e2e")
}

impl Answer {
    /// What is wrong with a result, if anything.
    pub fn compare(&self, result: &Rows) -> Result<(), String> {
        let types: Vec<_> =
            result.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        same("number of columns", &self.columns.len(), &types.len())?;
        for ((column, field), seen) in self.columns.iter().zip(result.schema.fields()).zip(&types) {
            match &column.tarn {
                Some(stated) => {
                    same("column name", &column.name, field.name())?;
                    same(&format!("type of {}", column.name), stated, seen)?;
                }
                None if same_kind(&column.duckdb, seen) => {}
                None => {
                    return Err(format!("{}: DuckDB's type is {}, got {seen}", column.name, column.duckdb));
                }
            }
        }
        let count = self.limit.unwrap_or(usize::MAX).min(self.rows.len());
        same("number of rows", &count, &result.rows.len())?;

        let mut start = 0;
        while start < count {
            let end = self.end_of_ties(start);
            self.compare_ties(&self.rows[start..end], &result.rows[start..end.min(count)], &types)
                .map_err(|fault| format!("rows {start} to {end}: {fault}"))?;
            start = end;
        }
        Ok(())
    }

    /// Where the rows end that have the same keys as row `start`; without keys, that is all of them.
    fn end_of_ties(&self, start: usize) -> usize {
        if let Some(ties) = &self.ties {
            let mut end = 0;
            return ties.iter().map(|ties| (end += ties, end).1).find(|end| *end > start).unwrap();
        }
        let keys = |row: &[Option<String>]| -> Vec<_> {
            self.order_by.iter().map(|key| row[key.unsigned_abs() as usize - 1].clone()).collect()
        };
        let first = keys(&self.rows[start]);
        let ties = self.rows[start..].iter().take_while(|row| keys(row) == first).count();
        start + ties
    }

    /// Each row seen must be one of those expected, which are at least as many.
    fn compare_ties(&self, expected: &[Row], seen: &[Row], types: &[String]) -> Result<(), String> {
        let mut left: Vec<_> = expected.iter().collect();
        for row in seen {
            match left.iter().position(|other| self.same_row(other, row, types)) {
                Some(found) => {
                    left.remove(found);
                }
                None => return Err(format!("got {row:?}, expected of {left:?}")),
            }
        }
        Ok(())
    }

    fn same_row(&self, expected: &[Option<String>], seen: &[Option<String>], types: &[String]) -> bool {
        let cells = expected.iter().zip(seen).zip(self.columns.iter().zip(types));
        cells.into_iter().all(|((expected, seen), (column, data_type))| match (expected, seen) {
            (None, None) => true,
            (Some(expected), Some(seen)) => same_value(expected, seen, &column.duckdb, data_type),
            _ => false,
        })
    }
}

type Row = Vec<Option<String>>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, seen: &T) -> Result<(), String> {
    if expected == seen { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {seen:?}")) }
}

fn same_value(expected: &str, seen: &str, duckdb: &str, tarn: &str) -> bool {
    if let Some(scale) = decimal_scale(tarn) {
        if duckdb == "DOUBLE" {
            let unit = 10f64.powi(-scale);
            return (number(expected) - number(seen)).abs() < unit;
        }
        return same_decimal(expected, seen);
    }
    if tarn == "Float64" {
        let (expected, seen) = (number(expected), number(seen));
        return expected == seen || (expected - seen).abs() <= RELATIVE * expected.abs().max(seen.abs());
    }
    expected == seen
}

/// Whether both are integers, both text, and so on; a decimal may be a double.
fn same_kind(duckdb: &str, tarn: &str) -> bool {
    match duckdb {
        "VARCHAR" => tarn.starts_with("Utf8"),
        "DATE" => tarn == "Date32",
        "DOUBLE" => tarn == "Float64" || tarn.starts_with("Decimal"),
        _ if duckdb.ends_with("INT") || duckdb == "INTEGER" => {
            tarn.trim_start_matches('U').starts_with("Int")
        }
        _ if duckdb.starts_with("DECIMAL") => tarn == "Float64" || tarn.starts_with("Decimal"),
        _ => false,
    }
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
    let column = |tarn: &str| Column { name: "c".into(), duckdb: String::new(), tarn: Some(tarn.into()) };
    let rows =
        |rows: &[[&str; 2]]| rows.iter().map(|row| row.map(|cell| Some(cell.to_string())).to_vec()).collect();
    let mut answer = Answer {
        query: String::new(),
        scale: String::new(),
        order_by: vec![1],
        ties: None,
        limit: None,
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

    // Of what ties with the last row that is allowed, any may come; nothing else.
    (answer.ties, answer.limit) = (Some(vec![2, 1]), Some(1));
    assert!(answer.compare(&result(&[["1", "b"]])).is_ok());
    assert!(answer.compare(&result(&[["2", "c"]])).is_err());
    assert!(answer.compare(&result(&[["1", "a"], ["1", "b"]])).is_err());
}
