//! Many bound rows for one `INSERT … VALUES (?, ?)`: one statement, so one commit, not many.
//!
//! Drivers send a batch of rows with a statement for one. Where the text ends in a single row of
//! values, that row is repeated and the parameters are laid out flat; any other statement is left
//! to run once a row. Works on tokens alone: texts and comments are never touched.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::Result;

/// Values in one statement: beyond it planning gets slow.
const VALUES_MAX: usize = 20_000;

/// A statement that inserts one row of parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowInsert {
    /// Everything before the row.
    head: String,
    /// The row, with its parentheses.
    row: Vec<Part>,
    parameters: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A parameter, counted from 0.
    Parameter(usize),
}

impl RowInsert {
    /// Reads a statement; `None` if it is not of this form.
    pub fn parse(sql: &str, parameters: usize) -> Option<Self> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).with_unescape(false).tokenize().ok()?;
        let row = row_of_values(&tokens)?;
        let has_placeholder =
            |tokens: &[Token]| tokens.iter().any(|token| matches!(token, Token::Placeholder(_)));
        if has_placeholder(&tokens[..row.start]) {
            return None;
        }
        let head = tokens[..row.start].iter().map(ToString::to_string).collect();
        let row = parts(&tokens[row])?;
        let mut used: Vec<usize> = row.iter().filter_map(Part::parameter).collect();
        used.sort_unstable();
        used.dedup();
        // Every parameter is used, or the flat layout would not fit.
        (used.len() == parameters && parameters > 0).then_some(Self { head, row, parameters })
    }

    /// How many rows go into one statement.
    pub fn rows_max(&self) -> usize {
        (VALUES_MAX / self.parameters).max(1)
    }

    /// The statement for all rows of a batch, and their values as one row.
    pub fn unroll(&self, batch: &RecordBatch) -> Result<(String, RecordBatch)> {
        let mut sql = self.head.clone();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_rows() * self.parameters);
        for row in 0..batch.num_rows() {
            if row > 0 {
                sql.push_str(", ");
            }
            for part in &self.row {
                match part {
                    Part::Text(text) => sql.push_str(text),
                    Part::Parameter(index) => sql.push_str(&format!("${}", columns.len() + index + 1)),
                }
            }
            columns.extend(batch.columns().iter().map(|column| column.slice(row, 1)));
        }
        let fields: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| Field::new(format!("${}", index + 1), column.data_type().clone(), true))
            .collect();
        Ok((sql, RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
    }
}

impl Part {
    fn parameter(&self) -> Option<usize> {
        match self {
            Self::Parameter(index) => Some(*index),
            Self::Text(_) => None,
        }
    }
}

/// Where the single row of `INSERT … VALUES (…)` stands, if that is how the statement ends.
fn row_of_values(tokens: &[Token]) -> Option<Range<usize>> {
    let is_space = |token: &Token| matches!(token, Token::Whitespace(_));
    let is_word = |token: &Token, word: &str| match token {
        Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    if !tokens.iter().find(|token| !is_space(token)).is_some_and(|first| is_word(first, "insert")) {
        return None;
    }
    let values = tokens.iter().position(|token| is_word(token, "values"))?;
    let start = values + 1 + tokens[values + 1..].iter().position(|token| !is_space(token))?;
    let mut depth = 0;
    let mut end = start;
    for token in &tokens[start..] {
        end += 1;
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth <= 0 {
            break;
        }
    }
    let closed = matches!(tokens.get(start), Some(Token::LParen)) && depth == 0;
    let nothing_else = tokens[end..].iter().all(|token| is_space(token) || *token == Token::SemiColon);
    (closed && nothing_else).then_some(start..end)
}

fn parts(tokens: &[Token]) -> Option<Vec<Part>> {
    let mut next = 0;
    let part = |token: &Token| match token {
        Token::Placeholder(name) if name == "?" => {
            next += 1;
            Some(Part::Parameter(next - 1))
        }
        Token::Placeholder(name) => {
            let position: usize = name.strip_prefix('$')?.parse().ok()?;
            Some(Part::Parameter(position.checked_sub(1)?))
        }
        other => Some(Part::Text(other.to_string())),
    };
    tokens.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_are_repeated_and_values_laid_out_flat() {
        let insert = RowInsert::parse("insert into t (a, b) values (?, upper(?) || '?''s') ;", 2).unwrap();
        let (sql, values) = insert.unroll(&batch()).unwrap();
        assert_eq!(sql, "insert into t (a, b) values ($1, upper($2) || '?''s'), ($3, upper($4) || '?''s')");
        assert_eq!(values.num_rows(), 1);
        assert_eq!(values.column(2).as_primitive::<Int64Type>().value(0), 2);
        assert_eq!(values.column(3).as_string::<i32>().value(0), "y");
    }

    #[test]
    fn numbered_parameters_keep_their_order() {
        let insert = RowInsert::parse("INSERT INTO t VALUES ($2, $1, $1)", 2).unwrap();
        let (sql, _) = insert.unroll(&batch()).unwrap();
        assert_eq!(sql, "INSERT INTO t VALUES ($2, $1, $1), ($4, $3, $3)");
    }

    #[test]
    fn other_statements_are_left_alone() {
        let others = [
            ("insert into t select ?, ?", 2),
            ("insert into t values (?, ?), (?, ?)", 4),
            ("insert into t values (?, 1)", 2),
            ("delete from t where a = ? and b in (values (?))", 2),
            ("insert into t values (1, 2)", 0),
            ("insert into t values (?, ?", 2),
            ("insert into t values (?, ?) returning a", 2),
            ("select ?", 1),
        ];
        for (sql, parameters) in others {
            assert_eq!(RowInsert::parse(sql, parameters), None, "{sql}");
        }
    }

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("0", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("1", Arc::new(StringArray::from(vec!["x", "y"]))),
        ])
        .unwrap()
    }
}
