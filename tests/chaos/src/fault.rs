//! How each fault is done, and undone.
//!
//! A fault holds the lock of the process that it strikes until that is well again. The rule: whatever goes wrong on the way, the
//! network is mended, the disk emptied, the store healed.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Error;
use crate::cluster::{Cluster, END, Executor};
use crate::schedule::{Event, Kind};
use crate::store::Store;
use crate::tally::Tally;

/// A piece of the ballast on a disk, and how often what queries free is taken again.
const PIECE: usize = 1 << 20;
const TOP_UP: Duration = Duration::from_millis(200);

/// Does one fault from beginning to end: a note on how it ended, or what must not have happened.
pub async fn inflict(
    cluster: &Cluster,
    store: &Store,
    tally: &Tally,
    event: &Event,
) -> Result<String, Error> {
    match event.kind {
        kind if kind.is_of_executor() => {
            let mut executor = cluster.executors[event.executor].lock().await;
            of_executor(cluster, &mut executor, tally, event).await
        }
        kind if kind.is_of_scheduler() => of_scheduler(cluster, event).await,
        kind => {
            store.trouble(kind, event.percent).await?;
            tokio::time::sleep(event.lasts).await;
            store.heal().await?;
            Ok(String::new())
        }
    }
}

async fn of_executor(
    cluster: &Cluster,
    executor: &mut Executor,
    tally: &Tally,
    event: &Event,
) -> Result<String, Error> {
    let Some(server) = &mut executor.server else { return Ok("it is not there".to_string()) };
    if server.ended().is_some() {
        // Nobody has noticed yet; who watches will, and starts it again.
        return Ok("it has fallen by itself".to_string());
    }
    match event.kind {
        Kind::Stop => {
            server.signal("STOP").await?;
            tokio::time::sleep(event.lasts).await;
            server.signal("CONT").await?;
        }
        Kind::Cut => {
            cluster.place.set_network(event.executor, false).await?;
            tokio::time::sleep(event.lasts).await;
            cluster.place.set_network(event.executor, true).await?;
        }
        Kind::Disk => fill(&cluster.place.disk(event.executor), event.lasts).await?,
        Kind::Drain => {
            let began = Instant::now();
            let drained = server.terminate(END).await;
            let took = began.elapsed();
            executor.server = None;
            let joined = cluster.start_executor(executor, true).await?;
            tally.joined(joined);
            drained?;
            return Ok(format!(
                "gone after {:.1} s, the next joined after {:.1} s",
                took.as_secs_f64(),
                joined.as_secs_f64()
            ));
        }
        _ => {
            server.kill().await?;
            executor.server = None;
            tokio::time::sleep(event.lasts).await;
            let joined = cluster.start_executor(executor, event.new_ports).await?;
            tally.joined(joined);
            return Ok(format!("joined again after {:.1} s", joined.as_secs_f64()));
        }
    }
    Ok(String::new())
}

async fn of_scheduler(cluster: &Cluster, event: &Event) -> Result<String, Error> {
    let mut scheduler = cluster.scheduler.lock().await;
    let Some(server) = &mut scheduler.server else { return Ok("it is not there".to_string()) };
    if server.ended().is_some() {
        return Ok("it has fallen by itself".to_string());
    }
    let began = Instant::now();
    let ended = match event.kind {
        Kind::SchedulerRestart => server.terminate(END).await,
        _ => server.kill().await,
    };
    let gone = began.elapsed();
    cluster.new_epoch();
    scheduler.server = None;
    tokio::time::sleep(event.lasts).await;
    let ready = cluster.start_scheduler(&mut scheduler).await?;
    ended?;
    Ok(format!("gone after {:.1} s, ready again after {:.1} s", gone.as_secs_f64(), ready.as_secs_f64()))
}

/// Keeps a disk full for a while.
async fn fill(disk: &Path, lasts: Duration) -> Result<(), Error> {
    let ballast = disk.join("ballast");
    let until = Instant::now() + lasts;
    let path = ballast.clone();
    let filled = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(path)?;
        let piece = vec![0; PIECE];
        while Instant::now() < until {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => std::thread::sleep(TOP_UP),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
    .await;
    std::fs::remove_file(ballast)?;
    Ok(filled??)
}
