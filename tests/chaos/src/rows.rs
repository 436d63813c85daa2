//! A result as it is read: batch by batch, with how far it is known from outside.
//!
//! The rule: a reader that is given up in the middle leaves its query id and its rows behind.

use std::sync::{Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use tarn_client::{Connection, Error};

/// A whole result, small enough to be held.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its cells as text; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The server's name for the query.
    #[expect(dead_code, reason = "a row of the end-to-end tests has it")]
    pub query_id: String,
}

/// What a result comes to: its rows, and the sum of its first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Rows.
    pub count: u64,
    /// Sum of the first column.
    pub first: i128,
}

/// How far a reader is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Query id and rows so far; short critical sections only.
    inner: Mutex<(Option<String>, u64)>,
}

impl Progress {
    /// The query, once it is known.
    pub fn query_id(&self) -> String {
        self.lock().0.clone().unwrap_or_else(|| "unknown".to_string())
    }

    /// Rows that were read.
    pub fn rows(&self) -> u64 {
        self.lock().1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<String>, u64)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks, and hands each batch on as it comes; `false` from `each` drops the stream.
async fn read(
    connection: &mut Connection,
    sql: &str,
    progress: &Progress,
    mut each: impl FnMut(&RecordBatch) -> Result<bool, Error>,
) -> Result<SchemaRef, Error> {
    let mut stream = connection.query(sql).await?;
    let schema = stream.schema();
    progress.lock().0 = stream.query_id().map(str::to_string);
    while let Some(batch) = stream.try_next().await? {
        if batch.schema().fields() != schema.fields() {
            return Err(Error::Protocol("the stream's schema is not the announced one".to_string()));
        }
        progress.lock().1 += batch.num_rows() as u64;
        if !each(&batch)? {
            break;
        }
    }
    Ok(schema)
}

/// Asks, and holds all rows.
pub async fn collect(connection: &mut Connection, sql: &str, progress: &Progress) -> Result<Rows, Error> {
    let options = FormatOptions::new();
    let mut rows = Vec::new();
    let schema = read(connection, sql, progress, |batch| {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cell = |(index, column): (usize, &ArrayFormatter<'_>)| {
                (!batch.column(index).is_null(row)).then(|| column.value(row).to_string())
            };
            rows.push(columns.iter().enumerate().map(cell).collect());
        }
        Ok(true)
    })
    .await?;
    Ok(Rows { schema, rows, query_id: progress.query_id() })
}

/// Asks, and adds up the first column, which holds whole numbers.
pub async fn sum(connection: &mut Connection, sql: &str, progress: &Progress) -> Result<Sum, Error> {
    let mut sum = Sum::default();
    read(connection, sql, progress, |batch| {
        let Some(numbers) = batch.column(0).as_primitive_opt::<Int64Type>() else {
            return Err(Error::Protocol("the first column is no BIGINT".to_string()));
        };
        sum.count += batch.num_rows() as u64;
        sum.first += numbers.iter().flatten().map(i128::from).sum::<i128>();
        Ok(true)
    })
    .await?;
    Ok(sum)
}

/// Asks, reads the first rows and goes away.
pub async fn abandon(connection: &mut Connection, sql: &str, progress: &Progress) -> Result<(), Error> {
    read(connection, sql, progress, |_| Ok(false)).await?;
    Ok(())
}

/// Asks for few rows, with NULL spelt out.
pub async fn texts(connection: &mut Connection, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let rows = collect(connection, sql, &Progress::default()).await?.rows;
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_string());
    Ok(rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect())
}
