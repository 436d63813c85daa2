//! The two databases that a SQL catalog may lie in, behind texts that go in and come out.
//!
//! All statements are the same for both: parameters are `$1` and so on, and every value is a text.
//! The rule: whether a statement that failed may have been done all the same is said by
//! [`Failure`]; what is in a file of our own either was done or was not.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Row, SqlitePool};
use tarn_scan::storage::Secret;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

/// How long a statement waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Deadline of a statement at a server, which ends it itself a little earlier.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
const SERVER_TIMEOUT_MS: u32 = 10_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to the file. SQLite writes one after the other anyway; more than a few readers bring nothing.
const CONNECTIONS_MAX: u32 = 4;

/// An open database.
#[derive(Debug)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    Postgres(Box<Postgres>),
}

/// How a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The row is there already.
    Unique,
    /// It was not done.
    Definite(String),
    /// It may have been done, or may yet be.
    Lost(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unique => f.write_str("the row exists"),
            Self::Definite(reason) | Self::Lost(reason) => f.write_str(reason),
        }
    }
}

impl Database {
    /// Opens a SQLite file, and makes it if it does not exist.
    pub(super) async fn sqlite(path: &str) -> Result<Self, Failure> {
        if let Some(folder) = Path::new(path).parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|e| Failure::Definite(e.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(BUSY_TIMEOUT * 2)
            .test_before_acquire(false)
            .connect_with(options);
        Ok(Self::Sqlite(pool.await.map_err(sqlite_failure)?))
    }

    /// Prepares for a PostgreSQL server; it is connected to by the first statement.
    pub(super) fn postgres(uri: &str, password: &Secret) -> Result<Self, Failure> {
        // The parser's message may quote the URI.
        let config = uri.parse::<Config>();
        let mut config =
            config.map_err(|_| Failure::Definite("its URI is not one of PostgreSQL".to_owned()))?;
        if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
            return Err(Failure::Definite("sslmode=require is not supported yet".to_owned()));
        }
        if !password.is_empty() {
            config.password(password.expose());
        }
        config.application_name("tarn");
        config.connect_timeout(CONNECT_TIMEOUT);
        config.options(format!("-c statement_timeout={SERVER_TIMEOUT_MS}"));
        Ok(Self::Postgres(Box::new(Postgres { config, link: Mutex::new(None) })))
    }

    /// Runs a statement that changes something; returns how many rows it changed.
    pub(super) async fn execute(&self, sql: &str, parameters: &[Option<&str>]) -> Result<u64, Failure> {
        match self {
            Self::Sqlite(pool) => {
                let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
                for parameter in parameters {
                    query = query.bind(*parameter);
                }
                Ok(query.execute(pool).await.map_err(sqlite_failure)?.rows_affected())
            }
            Self::Postgres(server) => {
                let client = server.client().await?;
                let parameters = typed(parameters);
                in_time(client.execute_typed(sql, &parameters)).await
            }
        }
    }

    /// The first column of the rows of a query.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Option<String>>, Failure> {
        match self {
            Self::Sqlite(pool) => {
                let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
                for parameter in parameters {
                    query = query.bind(*parameter);
                }
                let rows = query.fetch_all(pool).await.map_err(sqlite_failure)?;
                rows.iter().map(|row| row.try_get(0).map_err(sqlite_failure)).collect()
            }
            Self::Postgres(server) => {
                let client = server.client().await?;
                let parameters = typed(parameters);
                let rows = in_time(client.query_typed(sql, &parameters)).await?;
                rows.iter().map(|row| row.try_get(0).map_err(|e| postgres_failure(&e))).collect()
            }
        }
    }

    /// Whether a table has a column.
    pub(super) async fn has_column(&self, table: &str, column: &str) -> Result<bool, Failure> {
        let sql = match self {
            Self::Sqlite(_) => "SELECT name FROM pragma_table_info($1) WHERE name = $2",
            Self::Postgres(_) => {
                "SELECT column_name::text FROM information_schema.columns \
                 WHERE table_schema = ANY (current_schemas(false)) AND table_name = $1 AND column_name = $2"
            }
        };
        Ok(!self.query(sql, &[Some(table), Some(column)]).await?.is_empty())
    }
}

/// A PostgreSQL server. One connection takes the statements of all, since it keeps them apart itself.
pub(super) struct Postgres {
    config: Config,
    /// The connection, and the task that drives it.
    link: Mutex<Option<(std::sync::Arc<Client>, JoinSet<()>)>>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    async fn client(&self) -> Result<std::sync::Arc<Client>, Failure> {
        let mut link = self.link.lock().await;
        if let Some((client, _)) = link.as_ref().filter(|(client, _)| !client.is_closed()) {
            return Ok(std::sync::Arc::clone(client));
        }
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.config.connect(NoTls)).await;
        let connected = connecting.map_err(|_| Failure::Definite("the server does not answer".to_owned()))?;
        // Nothing was asked for yet.
        let (client, connection) = connected.map_err(|e| Failure::Definite(text(&e)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = text(&error), "connection to a catalog's database broke");
            }
        });
        let client = std::sync::Arc::new(client);
        *link = Some((std::sync::Arc::clone(&client), driver));
        Ok(client)
    }
}

fn typed<'a>(parameters: &'a [Option<&'a str>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|parameter| (parameter as &(dyn ToSql + Sync), Type::TEXT)).collect()
}

async fn in_time<T>(call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, call).await {
        Ok(done) => done.map_err(|error| postgres_failure(&error)),
        Err(_) => Err(Failure::Lost("the server did not answer in time".to_owned())),
    }
}

fn postgres_failure(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(error) if *error.code() == SqlState::UNIQUE_VIOLATION => Failure::Unique,
        // The server says so itself, after it has undone the statement.
        Some(_) => Failure::Definite(text(error)),
        None => Failure::Lost(text(error)),
    }
}

/// The error's own text says little.
fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => {
            let mut cause: &(dyn std::error::Error + 'static) = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        }
    }
}

fn sqlite_failure(error: sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => Failure::Unique,
        error => Failure::Definite(error.to_string()),
    }
}
