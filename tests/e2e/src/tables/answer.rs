//! The answers of tests/fixtures, and when a result equals one: the same columns of the same types, and the same
//! rows as a multiset, or in order where the query orders them by a key without ties.

use arrow::datatypes::{DataType, TimeUnit};
use serde::Deserialize;
use serde_json::Value;
use tarn_harness::fixtures;

use super::cell::{self, Result as Answered};

/// The query of all rows, which most tables have: with its answer, one with a limit can be judged, too.
const ALL: &str = "select * from {t}";
/// Queries of some rows: of these, that with the most has one with a limit, too.
const FILTERED: &str = "select * from {t} where ";
/// Rows of a difference that are shown, of each side.
const ROWS_SHOWN_MAX: usize = 5;

/// A table and what was asked of it.
#[derive(Debug, Deserialize)]
pub struct Table {
    /// `set.table`.
    #[serde(rename = "table")]
    pub name: String,
    #[serde(rename = "queries")]
    pub questions: Vec<Question>,
}

/// One query with its answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    /// With `{t}` for the table.
    pub sql: String,
    /// Name, and type as Iceberg names it; nested types by their kind.
    columns: Vec<(String, String)>,
    rows: Vec<Vec<Value>>,
    #[serde(default)]
    ordered: bool,
    /// Whichever rows come of all these, it must be so many.
    #[serde(skip)]
    any: Option<usize>,
}

/// All tables, in the order of their names.
pub fn tables() -> Vec<Table> {
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read(&path).unwrap();
        let mut table: Table =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let all = table.questions.iter().find(|question| question.sql == ALL);
        let filtered = table.questions.iter().filter(|question| question.sql.starts_with(FILTERED));
        let most =
            filtered.filter(|question| question.any.is_none()).max_by_key(|question| question.rows.len());
        let limited: Vec<_> = all
            .into_iter()
            .chain(most)
            .filter(|question| question.rows.len() > 1)
            .map(Question::limited)
            .collect();
        table.questions.extend(limited);
        table
    };
    fixtures::answer_files().into_iter().map(read).collect()
}

impl Question {
    /// The query with the table's full name.
    pub fn sql_of(&self, table: &str) -> String {
        let (schema, table) = table.split_once('.').unwrap();
        self.sql.replace("{t}", &format!("{}.{schema}.\"{table}\"", fixtures::CATALOG))
    }

    /// The same with a limit that lets half of the rows through, whichever.
    fn limited(&self) -> Self {
        let rows = self.rows.len().div_ceil(2);
        Self { sql: format!("{} limit {rows}", self.sql), ordered: false, any: Some(rows), ..self.clone() }
    }

    /// What is wrong with a result, if anything.
    pub fn compare(&self, result: &Answered) -> Result<(), String> {
        let fields = result.schema.fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let expected: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        if names != expected {
            return Err(format!("columns are {names:?}, should be {expected:?}"));
        }
        for (field, (name, kind)) in fields.iter().zip(&self.columns) {
            if !is_kind(field.data_type(), kind) {
                return Err(format!("column {name:?} is of type {}, should be {kind}", field.data_type()));
            }
        }
        let line = |row: Vec<Value>| serde_json::to_string(&row).unwrap();
        let canonical = |row: &Vec<Value>| {
            let cells = row.iter().zip(fields);
            line(cells.map(|(value, field)| cell::expected(value, field.data_type())).collect())
        };
        let mut expected: Vec<String> = self.rows.iter().map(canonical).collect();
        let mut seen: Vec<String> = result.rows.iter().cloned().map(line).collect();
        if !self.ordered {
            expected.sort();
            seen.sort();
        }
        if expected == seen {
            return Ok(());
        }
        let missing = without(&expected, &seen);
        let extra = without(&seen, &expected);
        if extra.is_empty() && self.any == Some(seen.len()) {
            return Ok(());
        }
        let some = |rows: &[String]| rows.iter().take(ROWS_SHOWN_MAX).cloned().collect::<Vec<_>>().join(" ");
        Err(format!(
            "{} rows, should be {}; missing {}: {}; too many {}: {}",
            seen.len(),
            expected.len(),
            missing.len(),
            some(&missing),
            extra.len(),
            some(&extra)
        ))
    }
}

/// The rows of `all` without those of `other`, as multisets.
fn without(all: &[String], other: &[String]) -> Vec<String> {
    let mut other: Vec<&String> = other.iter().collect();
    let mut left = Vec::new();
    for row in all {
        match other.iter().position(|seen| *seen == row) {
            Some(at) => drop(other.swap_remove(at)),
            None => left.push(row.clone()),
        }
    }
    left
}

fn is_kind(data_type: &DataType, kind: &str) -> bool {
    use DataType as T;
    match (kind, data_type) {
        ("boolean", T::Boolean)
        | ("int", T::Int32)
        | ("long", T::Int64)
        | ("float", T::Float32)
        | ("double", T::Float64)
        | ("string", T::Utf8 | T::LargeUtf8 | T::Utf8View)
        | ("binary", T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_))
        | ("fixed", T::FixedSizeBinary(_))
        | ("uuid", T::FixedSizeBinary(16) | T::Utf8)
        | ("date", T::Date32)
        | ("time", T::Time64(TimeUnit::Microsecond))
        | ("timestamp", T::Timestamp(TimeUnit::Microsecond, None))
        | ("timestamptz", T::Timestamp(TimeUnit::Microsecond, Some(_)))
        | ("timestamp_ns", T::Timestamp(TimeUnit::Nanosecond, None))
        | ("timestamptz_ns", T::Timestamp(TimeUnit::Nanosecond, Some(_)))
        | ("struct", T::Struct(_))
        | ("list", T::List(_) | T::LargeList(_))
        | ("map", T::Map(..))
        | ("unknown", _) => true,
        (_, T::Decimal128(precision, scale)) => kind == format!("decimal({precision},{scale})"),
        _ => false,
    }
}
