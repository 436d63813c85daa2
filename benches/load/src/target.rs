//! Whom the queries go to: a Flight SQL server (Tarn, or DuckDB behind a front), or a Ballista scheduler.
//!
//! A session belongs to one analyst and runs any number of queries, also at once. The rule: an answer is digested
//! as it comes and never kept.

use std::time::Duration;

use datafusion::prelude::SessionContext;
use futures::{Stream, TryStreamExt};
use tarn_client::Connection;
use tokio::time::timeout;

use crate::Error;
use crate::digest::Digest;
use crate::peers::ballista;

/// Letters of an error that are kept.
const MESSAGE_MAX: usize = 400;

/// A server.
#[derive(Clone)]
pub enum Target {
    /// By its URL; each analyst is a user of its own.
    FlightSql(String),
    /// By its URL; it knows no users.
    FlightSqlWithoutUsers(String),
    /// By its scheduler.
    Ballista(ballista::Client),
}

/// One analyst's session.
#[derive(Clone)]
pub enum Session {
    /// One connection.
    FlightSql(Box<Connection>),
    /// One client context.
    Ballista(SessionContext),
}

/// Why there was no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The server's code, or what the client saw.
    pub code: String,
    /// The text.
    pub message: String,
}

impl Target {
    /// Opens the session of a user.
    pub async fn connect(&self, user: &str) -> Result<Session, Error> {
        match self {
            Self::FlightSql(url) => {
                let url = url.replace("grpc://", &format!("grpc://{user}:{user}@"));
                Ok(Session::FlightSql(Box::new(Connection::connect(&url).await?)))
            }
            Self::FlightSqlWithoutUsers(url) => {
                Ok(Session::FlightSql(Box::new(Connection::connect(url).await?)))
            }
            Self::Ballista(client) => Ok(Session::Ballista(client.session()?)),
        }
    }
}

impl Session {
    /// Runs a query and reads its answer, for so long at most.
    pub async fn run(&self, sql: &str, deadline: Duration) -> Result<Digest, Failure> {
        // The stream is dropped at the deadline, and so the server stops the work.
        timeout(deadline, self.answer(sql)).await.unwrap_or_else(|_| {
            let message = format!("no answer after {} s", deadline.as_secs());
            Err(Failure { code: "client_deadline".to_string(), message })
        })
    }

    async fn answer(&self, sql: &str) -> Result<Digest, Failure> {
        match self {
            Self::FlightSql(connection) => {
                let mut connection = Connection::clone(connection);
                digest(connection.query(sql).await.map_err(refused)?, refused).await
            }
            Self::Ballista(context) => {
                let failed = |error: datafusion::error::DataFusionError| Failure {
                    code: "ballista".to_string(),
                    message: short(&error.to_string()),
                };
                let frame = context.sql(sql).await.map_err(failed)?;
                digest(frame.execute_stream().await.map_err(failed)?, failed).await
            }
        }
    }
}

async fn digest<E>(
    mut batches: impl Stream<Item = Result<arrow::array::RecordBatch, E>> + Unpin,
    failed: impl Fn(E) -> Failure,
) -> Result<Digest, Failure> {
    let mut digest = Digest::default();
    while let Some(batch) = batches.try_next().await.map_err(&failed)? {
        digest
            .add(&batch)
            .map_err(|error| Failure { code: "client_digest".to_string(), message: error.to_string() })?;
    }
    Ok(digest)
}

fn refused(error: tarn_client::Error) -> Failure {
    let code = match error.refusal() {
        Some(refusal) => {
            refusal.code.clone().unwrap_or_else(|| format!("{:?}", refusal.status).to_lowercase())
        }
        None if error.is_disconnected() => "client_lost".to_string(),
        None => "client_protocol".to_string(),
    };
    let query = error.refusal().and_then(|refusal| refusal.query_id.as_deref());
    let query = query.map(|id| format!(" (query {id})")).unwrap_or_default();
    Failure { code, message: format!("{}{query}", short(&error.to_string())) }
}

/// The beginning of a text, on one line: some peers answer with stacks.
fn short(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(MESSAGE_MAX).collect()
}
