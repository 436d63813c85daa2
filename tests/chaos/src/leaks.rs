//! What must not be left: queries, runs, memory, promises, files, processes.
//!
//! Looked at from outside: system tables, metrics, `/runs`, folders, `/proc`. Each thing has some time to go. The
//! rule: a look that fails is a leak, too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;
use crate::client::{self, Shared};
use crate::cluster::{Cluster, END};
use crate::rows;
use crate::server::Server;

/// How long what is over may still be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks, and how long one may take.
const POLL: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(20);
/// Files that live as long as an executor.
const LOCKS: [&str; 2] = ["lock", ".lock"];

/// What every row of these must not be: a question to the scheduler, and what it finds.
const TABLES: [(&str, &str); 4] = [
    (
        "queries that have not ended",
        "select query_id, state, mode, seconds, sql from system.queries where sql not like '%system.queries%' \
         and state not in ('finished', 'failed', 'cancelled')",
    ),
    ("tasks that are active", "select query_id, run_id, executor from system.tasks where active"),
    (
        "executors that work, or hold memory",
        "select executor, state, queries_active, memory_used_bytes from system.executors \
         where queries_active > 0 or memory_used_bytes > 0",
    ),
    (
        "pools with running or waiting queries",
        // The one that asks runs, too.
        "select pool, running, waiting, memory_bytes from system.pools where running > 1 or waiting > 0",
    ),
];

/// Metrics that must come to nothing, by a part of their labels.
const METRICS: [(&str, &str); 4] = [
    ("runtime_queries_active", ""),
    ("runtime_memory_pool_bytes", "used"),
    ("runtime_memory_pool_bytes", "promised"),
    ("runtime_spill_bytes", ""),
];

/// Waits until nothing is left of all queries; what still is.
pub async fn of_queries(shared: &Shared) -> Vec<String> {
    let began = Instant::now();
    loop {
        let left = match tokio::time::timeout(LOOK, look(shared)).await {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => vec![format!("what is left cannot be seen: {error}")],
            Err(_) => vec!["what is left cannot be seen: no answer".to_string()],
        };
        if left.is_empty() || began.elapsed() > PATIENCE {
            return left;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn look(shared: &Shared) -> Result<Vec<String>, Error> {
    let (cluster, mut left) = (&shared.cluster, Vec::new());
    let mut connection = client::open(&cluster.url(), "local").await?;
    for (what, sql) in TABLES {
        let rows = rows::texts(&mut connection, sql).await?;
        left.extend(rows.iter().map(|row| format!("{what}: {}", row.join(" | "))));
    }
    let _ = connection.close().await;
    let scheduler = cluster.scheduler.lock().await;
    if let Some(server) = &scheduler.server {
        left.extend(of_process(server, &cluster.scheduler_work()).await?);
    }
    for executor in &cluster.executors {
        let executor = executor.lock().await;
        let Some(server) = &executor.server else { continue };
        left.extend(of_process(server, &cluster.place.disk(executor.number)).await?);
        let (_, runs) = server.get("/runs").await?;
        let runs: Vec<serde_json::Value> = serde_json::from_str(&runs)?;
        // What has ended is listed with what it held at that moment; the metrics say what is held now.
        let active = runs.iter().filter(|run| run["active"] == true);
        left.extend(active.map(|run| format!("a run on {}: {}", server.name(), run["run_id"])));
    }
    Ok(left)
}

/// What a process that nobody asks anything still has.
async fn of_process(server: &Server, folder: &Path) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for (name, label) in METRICS {
        let samples = server.metric(name).await?;
        let held = samples.iter().filter(|(labels, value)| labels.contains(label) && *value != 0.0);
        left.extend(held.map(|(labels, value)| format!("{} says {name}{labels} = {value}", server.name())));
    }
    let files = files_below(folder).into_iter();
    let files = files.filter(|file| !LOCKS.iter().any(|lock| file.ends_with(lock)));
    left.extend(files.map(|file| format!("a file of {}: {}", server.name(), file.display())));
    left.extend(
        deleted(server, folder).into_iter().map(|file| format!("{} holds {file} open", server.name())),
    );
    Ok(left)
}

/// Files of a folder that are deleted and still open.
fn deleted(server: &Server, folder: &Path) -> Vec<String> {
    let open = server.id().and_then(|id| std::fs::read_dir(format!("/proc/{id}/fd")).ok());
    let targets =
        open.into_iter().flatten().flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let texts = targets.map(|target| target.display().to_string());
    let folder = folder.display().to_string();
    texts.filter(|text| text.starts_with(&folder) && text.ends_with("(deleted)")).collect()
}

/// Prints what the processes weigh now.
pub async fn print_weights(cluster: &Cluster) {
    let scheduler = cluster.scheduler.lock().await;
    print_weight(scheduler.server.as_ref());
    for executor in &cluster.executors {
        print_weight(executor.lock().await.server.as_ref());
    }
}

fn print_weight(server: Option<&Server>) {
    let Some((server, id)) = server.and_then(|server| Some((server, server.id()?))) else { return };
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?");
        line.trim().to_string()
    };
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
    println!("{}: {} resident, {} threads, {files} open files", server.name(), of("VmRSS:"), of("Threads:"));
}

/// Ends all processes in order; what of them did not go, or was left.
pub async fn of_processes(cluster: &Cluster, store: Option<u32>) -> Vec<String> {
    let mut left = Vec::new();
    for executor in &cluster.executors {
        if let Some(mut server) = executor.lock().await.server.take() {
            left.extend(server.terminate(END).await.err().map(|error| error.to_string()));
        }
    }
    if let Some(mut server) = cluster.scheduler.lock().await.server.take() {
        left.extend(server.terminate(END).await.err().map(|error| error.to_string()));
    }
    let disks = (0..cluster.executors.len()).map(|executor| cluster.place.disk(executor));
    for folder in disks.chain([cluster.scheduler_work()]) {
        left.extend(
            files_below(&folder).iter().map(|file| format!("a file after the end: {}", file.display())),
        );
    }
    if cluster.place.is_private() {
        left.extend(others(&[Some(std::process::id()), store]));
    }
    left
}

/// Every process in this namespace but the known ones.
fn others(known: &[Option<u32>]) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ids = ids.filter(|id| !known.contains(&Some(*id)));
    let name = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    ids.map(|id| format!("a process after the end: {id} {}", name(id).trim())).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
