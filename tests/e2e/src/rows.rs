//! Results as text, and the few calls that every test makes.

use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tarn_client::{Answer, Connection, Error, QueryStream};

/// A whole result.
#[derive(Debug, Clone)]
pub struct Rows {
    pub schema: SchemaRef,
    pub rows: Vec<Vec<Option<String>>>,
    pub query_id: String,
}

impl Rows {
    /// The rows with `NULL` spelt out, sorted: a multiset.
    pub fn sorted(&self) -> Vec<Vec<String>> {
        let mut rows = self.text();
        rows.sort();
        rows
    }

    /// The rows with `NULL` spelt out, as they came.
    pub fn text(&self) -> Vec<Vec<String>> {
        let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".to_string());
        self.rows.iter().map(|row| row.iter().map(cell).collect()).collect()
    }

    /// The only value.
    pub fn value(&self) -> String {
        match self.text().as_slice() {
            [row] if row.len() == 1 => row[0].clone(),
            other => panic!("not one value: {other:?}"),
        }
    }
}

/// Asks, and reads all rows.
pub async fn query(connection: &mut Connection, sql: &str) -> Result<Rows, Error> {
    collect(connection.query(sql).await?).await
}

/// Reads all rows of a stream.
pub async fn collect(mut stream: QueryStream) -> Result<Rows, Error> {
    let (schema, query_id) = (stream.schema(), stream.query_id().unwrap_or_default().to_string());
    let options = FormatOptions::new();
    let mut rows = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        assert_eq!(batch.schema().fields(), schema.fields(), "the stream's schema is not the announced one");
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cell = |(index, column): (usize, &ArrayFormatter<'_>)| {
                (!batch.column(index).is_null(row)).then(|| column.value(row).to_string())
            };
            rows.push(columns.iter().enumerate().map(cell).collect());
        }
    }
    Ok(Rows { schema, rows, query_id })
}

/// All rows of a query that must succeed.
pub async fn rows(connection: &mut Connection, sql: &str) -> Rows {
    query(connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)))
}

/// The only value of a query that must succeed.
pub async fn value(connection: &mut Connection, sql: &str) -> String {
    rows(connection, sql).await.value()
}

/// Runs a statement that changes something and must succeed.
pub async fn run(connection: &mut Connection, sql: &str) -> i64 {
    match connection.execute(sql).await {
        Ok(Answer::Count(count)) => count.unwrap_or(-1),
        Ok(Answer::Rows(_)) => panic!("{sql}: answered with rows"),
        Err(error) => panic!("{sql}: {}", describe(&error)),
    }
}

/// The error of a statement that must be refused, with code and hint.
pub async fn refused(connection: &mut Connection, sql: &str) -> Error {
    let outcome = match connection.execute(sql).await {
        Ok(Answer::Rows(stream)) => collect(*stream).await.map(|rows| format!("{:?}", rows.text())),
        Ok(Answer::Count(count)) => Ok(format!("count {count:?}")),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) => error,
        Ok(answer) => panic!("{sql}: should be refused, answered {answer}"),
    }
}

/// `code: message (hint)`.
pub fn describe(error: &Error) -> String {
    let Some(refusal) = error.refusal() else { return format!("no refusal: {error}") };
    let hint = refusal.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}: {}{hint}", refusal.code.as_deref().unwrap_or("?"), refusal.message)
}

/// Whether a refusal says that storage or a file failed.
pub fn blames_storage(error: &Error) -> bool {
    const CODES: [&str; 5] =
        ["storage_error", "corrupt_data", "permission_denied", "commit_unknown", "commit_conflict"];
    CODES.contains(&code(error))
}

/// The stable code of a refusal.
pub fn code(error: &Error) -> &str {
    let refusal = error.refusal().unwrap_or_else(|| panic!("not a refusal: {error}"));
    refusal.code.as_deref().unwrap_or_else(|| panic!("a refusal without a code: {refusal:?}"))
}
