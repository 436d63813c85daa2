//! One run, from the store to the table: start, load with faults, rest, checks, end.
//!
//! The rule: it reads as the list of its steps, and each of them has an end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tarn_harness::{Data, process};
use tarn_scan::storage::S3Config;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{self, HANGS_AFTER, Shared};
use crate::cluster::Cluster;
use crate::enclosure::{Inside, logs};
use crate::log::Log;
use crate::place::Place;
use crate::question::Questions;
use crate::schedule::{Event, Kind, schedule};
use crate::store::Store;
use crate::tally::Tally;
use crate::{Error, Flags, fault, leaks, settled};

/// The folder of the tables in the store.
const WAREHOUSE: &str = "s3://lake/warehouse";
/// Between two looks at whether processes have fallen.
const WATCH: Duration = Duration::from_millis(500);
/// How long a fault may take beyond its time.
const FAULT: Duration = Duration::from_secs(150);

/// Runs, unless the outside wants the end.
pub async fn run(flags: Flags, inside: Inside) -> Result<ExitCode, Error> {
    let stop = inside.stop.clone();
    tokio::select! {
        ended = steps(&flags, &inside) => ended,
        () = stop.cancelled() => Err("stopped from outside".into()),
    }
}

async fn steps(flags: &Flags, inside: &Inside) -> Result<ExitCode, Error> {
    let place = Place::open(inside, flags.executors).await?;
    let store = Store::start((place.host(), place.port()).into(), &logs(&inside.folder)).await?;
    let began = Instant::now();
    let data = Data::tpch_on(storage(&store), WAREHOUSE).await;
    println!("  data in the store after {:.1} s", began.elapsed().as_secs_f64());
    let tarn = process::binary().to_path_buf();
    let cluster = Cluster::start(place, &store, data, tarn, flags.executors, flags.memory).await?;
    let shared = Shared {
        cluster: Arc::new(cluster),
        questions: Arc::new(Questions::read()),
        log: Arc::new(Log::new()),
        tally: Arc::new(Tally::default()),
    };
    settled::members(&shared).await?;
    println!("  cluster ready after {:.1} s", began.elapsed().as_secs_f64());

    let store = Arc::new(store);
    load_with_faults(flags, &shared, &store).await?;
    rest_and_checks(&shared).await;

    for left in leaks::of_processes(&shared.cluster, store.id()).await {
        shared.tally.fail(&shared.log, format!("LEAK: {left}"));
    }
    shared.tally.print(&shared.log);
    Ok(if shared.tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The settings by which the store is reached from here.
fn storage(store: &Store) -> S3Config {
    let (endpoint, region) = (Some(store.endpoint()), Some("us-east-1".to_string()));
    S3Config { endpoint, region, path_style: true, allow_http: true }
}

/// The faults to choose from: what was asked for, and is possible here.
fn kinds(flags: &Flags, place: &Place) -> Vec<Kind> {
    let asked = if flags.faults.is_empty() { Kind::value_variants() } else { &flags.faults };
    asked.iter().copied().filter(|kind| place.is_private() || !kind.is_private()).collect()
}

/// Clients ask, faults happen, and fallen processes are noticed, for the time of the run.
async fn load_with_faults(flags: &Flags, shared: &Shared, store: &Arc<Store>) -> Result<(), Error> {
    let seed = flags.seed.unwrap_or_default();
    let (stop, mut clients) = (CancellationToken::new(), JoinSet::new());
    for number in 0..flags.clients as u64 {
        clients.spawn(client::run(shared.clone(), seed, number, stop.clone()));
    }
    let mut watch = JoinSet::new();
    watch.spawn(watch_processes(shared.clone()));

    let kinds = kinds(flags, &shared.cluster.place);
    let (began, mut faults) = (Instant::now(), JoinSet::new());
    for event in schedule(seed, &kinds, flags.executors, flags.length()) {
        tokio::time::sleep_until((began + event.at).into()).await;
        faults.spawn(one_fault(shared.clone(), Arc::clone(store), event));
    }
    faults.join_all().await;
    tokio::time::sleep_until((began + flags.length()).into()).await;

    stop.cancel();
    println!("{}  the last fault is over", shared.log.time());
    // A client that does not end by its own bounds would be a defect of this program.
    if tokio::time::timeout(HANGS_AFTER * 2, clients.join_all()).await.is_err() {
        return Err("clients do not end".into());
    }
    watch.shutdown().await;
    for fallen in shared.cluster.fallen().await {
        shared.tally.fail(&shared.log, fallen);
    }
    shared.cluster.raise().await
}

async fn one_fault(shared: Shared, store: Arc<Store>, event: Event) {
    shared.log.begin(&event);
    let inflicted = fault::inflict(&shared.cluster, &store, &shared.tally, &event);
    let note = match tokio::time::timeout(event.lasts + FAULT, inflicted).await {
        Ok(Ok(note)) => note,
        Ok(Err(error)) => {
            shared.tally.fail(&shared.log, format!("in fault {} ({event}): {error}", event.number));
            String::new()
        }
        Err(_) => {
            shared.tally.fail(&shared.log, format!("HUNG: fault {} ({event}) does not end", event.number));
            String::new()
        }
    };
    shared.log.end(&event, &note);
}

/// Processes that end by themselves are a failure, and are started again.
async fn watch_processes(shared: Shared) {
    loop {
        tokio::time::sleep(WATCH).await;
        let fallen = shared.cluster.fallen().await;
        if fallen.is_empty() {
            continue;
        }
        for fallen in fallen {
            shared.tally.fail(&shared.log, fallen);
        }
        if let Err(error) = shared.cluster.raise().await {
            shared.tally.fail(&shared.log, format!("a fallen process does not start again: {error}"));
        }
    }
}

/// After the last fault: all members, all answers, and nothing left.
async fn rest_and_checks(shared: &Shared) {
    match settled::members(shared).await {
        Ok(time) => println!("{}  all are members, after {:.1} s", shared.log.time(), time.as_secs_f64()),
        Err(error) => shared.tally.fail(&shared.log, error.to_string()),
    }
    settled::questions(shared).await;
    println!("{}  every question was asked in every mode", shared.log.time());
    for left in leaks::of_queries(shared).await {
        shared.tally.fail(&shared.log, format!("LEAK: {left}"));
    }
    leaks::print_weights(&shared.cluster).await;
}
