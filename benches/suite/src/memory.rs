//! What a server weighs: at rest, and while a slow client reads more than fits.
//!
//! Resident bytes as the kernel counts them, so shared pages of the binary are in it.

use std::time::Duration;

use futures::TryStreamExt;
use tarn_client::Connection;

use crate::Error;
use crate::server::Cluster;

/// How long after its start a server is at rest.
const REST: Duration = Duration::from_secs(60);
/// How long the slow client takes over each batch that it reads, at first.
const PAUSE: Duration = Duration::from_millis(20);
/// Batches after which it reads as fast as it can, so that the run ends.
const SLOW_BATCHES: usize = 500;

/// Resident bytes of the process that is scheduler and executor in one.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// After [`REST`], with no query asked.
    pub at_rest: u64,
    /// The most while all of `lineitem` went to a slow client.
    pub slow_client: u64,
    /// Rows that the slow client read.
    pub rows: usize,
}

/// Measures a server that has just been started.
pub(crate) async fn measure(cluster: &Cluster) -> Result<Memory, Error> {
    tokio::time::sleep(REST).await;
    let at_rest = cluster.resident_bytes()?;
    let mut connection = Connection::connect(&cluster.url).await?;
    let mut stream = connection.query("select * from lake.tpch.lineitem").await?;
    let (mut slow_client, mut rows, mut batches) = (at_rest, 0, 0);
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
        batches += 1;
        if batches <= SLOW_BATCHES {
            tokio::time::sleep(PAUSE).await;
        }
        slow_client = slow_client.max(cluster.resident_bytes()?);
    }
    Ok(Memory { at_rest, slow_client, rows })
}
