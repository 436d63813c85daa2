//! The commit loop: a new version on top of the newest one, again if another came first.
//!
//! Commits of one process to one table queue up, so they never conflict with
//! each other; the loop is for those of other processes and engines. The one
//! rule: after an outcome that nobody knows, nothing is deleted and nothing is
//! tried again until our commit id was looked for in the table itself.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};

use crate::Lakehouse;
use crate::backend::{LoadedTable, Outcome, TableIdent};
use crate::error::{Error, Result};
use crate::iceberg::Metadata;
use crate::name::TableName;

/// Tries of a commit if the table's `commit.retry.num-retries` does not say otherwise. Iceberg's
/// default of 4 retries is too few for 20 writers of one table.
const ATTEMPTS_MAX_DEFAULT: u32 = 21;

/// No table property raises the number of tries above this.
const ATTEMPTS_MAX: u32 = 100;

const WAIT_MIN_DEFAULT_MS: u64 = 50;
const WAIT_MAX_DEFAULT_MS: u64 = 5_000;

/// How often the table is loaded to learn what became of a commit.
const RESOLVE_ATTEMPTS: u32 = 5;

/// Who commits to a table, one after the other.
#[derive(Debug, Default)]
pub(crate) struct CommitQueues {
    /// Protects only the map; turns are waited for outside.
    queues: Mutex<HashMap<TableName, Weak<tokio::sync::Mutex<()>>>>,
}

impl CommitQueues {
    /// Waits for the turn to commit to this table; dropping it lets the next one in.
    pub(crate) async fn turn(&self, name: &TableName) -> OwnedMutexGuard<()> {
        let queue = {
            let mut queues = self.queues.lock();
            queues.retain(|_, queue| queue.strong_count() > 0);
            match queues.get(name).and_then(Weak::upgrade) {
                Some(queue) => queue,
                None => {
                    let queue = Arc::new(tokio::sync::Mutex::new(()));
                    queues.insert(name.clone(), Arc::downgrade(&queue));
                    queue
                }
            }
        };
        queue.lock_owned().await
    }
}

/// How a commit failed, which decides what may be deleted.
#[derive(Debug)]
pub(super) enum Failure {
    /// Certainly nothing was committed.
    Definite(Error),
    /// It may have been.
    Unknown(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Definite(error)
    }
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Definite(error) | Self::Unknown(error) => error,
        }
    }
}

/// A change to a table, computed anew for each version it is tried on.
#[async_trait::async_trait]
pub(super) trait Change: Send + Sync {
    /// The next version on top of `base`. An error ends the commit.
    async fn apply(&mut self, base: &LoadedTable) -> Result<Metadata>;

    /// Whether this version of the table holds our change.
    fn is_in(&self, table: &Metadata) -> bool;
}

/// Commits `change` to the table, and makes the new version known to the queries of this process.
pub(super) async fn commit(
    lakehouse: &Lakehouse,
    name: &TableName,
    change: &mut dyn Change,
) -> Result<LoadedTable, Failure> {
    let backend = lakehouse.backend(&name.catalog)?;
    let ident = TableIdent::new(&name.schema, &name.table);
    let _turn = lakehouse.commit_queues().turn(name).await;
    let mut attempt = 0;
    loop {
        let base = backend.load_table(&ident).await?;
        base.metadata.check_committable(name)?;
        let retry = Retry::of(base.metadata.properties());
        let new = change.apply(&base).await?;
        let outcome = match backend.commit(&ident, &base, new).await {
            Err(error @ Error::Database { .. }) => return settle(lakehouse, name, change, error).await,
            outcome => outcome?,
        };
        match outcome {
            Outcome::Committed(table) => {
                info!(table = %name, attempt, metadata = table.metadata_location, "committed");
                lakehouse.publish(name, table.clone());
                return Ok(table);
            }
            Outcome::Conflict => {
                attempt += 1;
                if attempt >= retry.attempts_max {
                    return Err(Error::CommitConflict { table: name.clone() }.into());
                }
                info!(table = %name, attempt, "commit conflicted");
                tokio::time::sleep(retry.wait(attempt)).await;
            }
            Outcome::Unknown(reason) => return resolve(lakehouse, name, change, reason).await,
        }
    }
}

/// Makes a table; for a change that begins with its first version.
pub(super) async fn create(
    lakehouse: &Lakehouse,
    name: &TableName,
    change: &dyn Change,
    first: Metadata,
) -> Result<LoadedTable, Failure> {
    let backend = lakehouse.backend(&name.catalog)?;
    let ident = TableIdent::new(&name.schema, &name.table);
    let _turn = lakehouse.commit_queues().turn(name).await;
    match backend.create_table(&ident, first).await {
        Ok(table) => {
            lakehouse.publish(name, table.clone());
            Ok(table)
        }
        Err(error @ Error::Database { .. }) => settle(lakehouse, name, change, error).await,
        Err(Error::CommitUnknown { reason, .. }) => resolve(lakehouse, name, change, reason).await,
        Err(error) => Err(error.into()),
    }
}

/// After an error of the catalog's database: it says that the pointer is not ours, but another commit may already
/// have come on top of ours.
async fn settle(
    lakehouse: &Lakehouse,
    name: &TableName,
    change: &dyn Change,
    error: Error,
) -> Result<LoadedTable, Failure> {
    lakehouse.forget(name);
    let ident = TableIdent::new(&name.schema, &name.table);
    match lakehouse.backend(&name.catalog)?.load_table(&ident).await {
        Ok(table) if change.is_in(&table.metadata) => Ok(table),
        Ok(_) | Err(Error::TableNotFound { .. }) => Err(Failure::Definite(error)),
        Err(_) => resolve(lakehouse, name, change, error.to_string()).await,
    }
}

/// Looks for the change in the table, after a commit of unknown outcome.
async fn resolve(
    lakehouse: &Lakehouse,
    name: &TableName,
    change: &dyn Change,
    reason: String,
) -> Result<LoadedTable, Failure> {
    warn!(table = %name, reason, "commit with unknown outcome");
    lakehouse.forget(name);
    let unknown = |reason| Failure::Unknown(Error::CommitUnknown { table: name.clone(), reason });
    let ident = TableIdent::new(&name.schema, &name.table);
    let retry = Retry::of(&HashMap::new());
    let mut seen = "and the catalog could not be asked since";
    for attempt in 1..=RESOLVE_ATTEMPTS {
        tokio::time::sleep(retry.wait(attempt)).await;
        match lakehouse.backend(&name.catalog)?.load_table(&ident).await {
            Ok(table) if change.is_in(&table.metadata) => {
                info!(table = %name, attempt, "commit of unknown outcome was found");
                lakehouse.publish(name, table.clone());
                return Ok(table);
            }
            // It may still be on its way.
            Ok(_) | Err(Error::TableNotFound { .. }) => seen = "and the table does not hold it so far",
            Err(error) => {
                warn!(table = %name, attempt, %error, "cannot look for a commit of unknown outcome")
            }
        }
    }
    Err(unknown(format!("{reason}, {seen}")))
}

/// How often a commit is tried, and how long it waits in between.
struct Retry {
    attempts_max: u32,
    wait_min_ms: u64,
    wait_max_ms: u64,
}

impl Retry {
    fn of(properties: &HashMap<String, String>) -> Self {
        let number = |key: &str| properties.get(key).and_then(|value| value.parse::<u64>().ok());
        let retries = number("commit.retry.num-retries");
        let attempts_max =
            retries.map_or(ATTEMPTS_MAX_DEFAULT, |n| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1));
        Self {
            attempts_max: attempts_max.min(ATTEMPTS_MAX),
            wait_min_ms: number("commit.retry.min-wait-ms").unwrap_or(WAIT_MIN_DEFAULT_MS),
            wait_max_ms: number("commit.retry.max-wait-ms").unwrap_or(WAIT_MAX_DEFAULT_MS).min(60_000),
        }
    }

    /// Twice as long each time, and never the same for two writers.
    fn wait(&self, attempt: u32) -> Duration {
        let doubled = self.wait_min_ms.max(1).saturating_mul(1 << (attempt - 1).min(16));
        let bounded = doubled.min(self.wait_max_ms.max(1));
        Duration::from_millis(rand::random_range(bounded / 2..=bounded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_tries_follow_the_table() {
        let properties = HashMap::from([
            ("commit.retry.num-retries".to_owned(), "3".to_owned()),
            ("commit.retry.min-wait-ms".to_owned(), "10".to_owned()),
            ("commit.retry.max-wait-ms".to_owned(), "50".to_owned()),
        ]);
        let retry = Retry::of(&properties);
        assert_eq!(retry.attempts_max, 4);
        assert!(retry.wait(1) <= Duration::from_millis(10));
        for attempt in 2..40 {
            let wait = retry.wait(attempt);
            assert!(wait >= Duration::from_millis(10) && wait <= Duration::from_millis(50), "{wait:?}");
        }
        assert_eq!(Retry::of(&HashMap::new()).attempts_max, ATTEMPTS_MAX_DEFAULT);
    }

    #[tokio::test]
    async fn turns_to_one_table_come_one_after_the_other() {
        let queues = CommitQueues::default();
        let name = TableName::new("c", "s", "t");
        let first = queues.turn(&name).await;
        let mut second = Box::pin(queues.turn(&name));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let _other = queues.turn(&TableName::new("c", "s", "u")).await;
        drop(first);
        let _second = second.await;
    }
}
