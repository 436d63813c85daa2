//! A large cluster, simulated: the real placement and the real queue under a thousand clients, in virtual time.
//!
//! Nothing here but clients, executors and a clock is made up: files are placed by `tarn_runtime::placement`, queries
//! are let in by `admission::queue`. Seeded, so that a failure can be seen again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tarn_runtime::affinity;
use tarn_runtime::placement::{self, File};

use crate::admission::queue::{Bounds, Demand, Number, Offer, Queue, Room};

const EXECUTORS: usize = 64;
const CORES: usize = 4;
const CLIENTS: usize = 1000;
const USERS: usize = 50;
const QUERIES: usize = 20_000;
const SEED: u64 = 20_261_121;
/// Bytes that a core reads in a millisecond.
const BYTES_A_MILLISECOND: u64 = 200_000;
const MEMORY: u64 = 16 << 30;

/// A table: its files' names and bytes.
struct Table {
    name: String,
    files: Vec<(String, u64)>,
}

fn executors(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("10.0.{}.{}:50051#x{at}", at / 256, at % 256)).collect()
}

/// Facts of five years by month, and dimensions of a few files.
fn tables(random: &mut StdRng) -> Vec<Table> {
    let mut tables = Vec::new();
    for number in 0..40 {
        let name = format!("lake.shop.t{number}");
        let (files, largest) = if number % 4 == 0 { (600, 256 << 20) } else { (8, 64 << 20) };
        let file = |at| (format!("s3://b/{name}/{at}.parquet"), random.random_range(4 << 20..largest));
        tables.push(Table { files: (0..files).map(file).collect(), name: name.clone() });
    }
    tables
}

/// Bytes that each executor reads of a part of a table.
fn shares(table: &Table, from: usize, to: usize, members: &[&str]) -> Vec<u64> {
    let files: Vec<File<'_>> =
        table.files[from..to].iter().map(|(uri, bytes)| File { uri, bytes: 0..*bytes }).collect();
    let bytes = files.iter().map(|file| file.bytes.end).sum();
    let tasks = placement::tasks(bytes, 16 << 20, members.len());
    let mut shares = vec![0; members.len()];
    for share in placement::split(&table.name, &files, tasks, CORES, members, 4 << 20) {
        for piece in share.groups.iter().flatten() {
            let range = piece.range.as_ref().unwrap_or(&files[piece.file].bytes);
            shares[share.member] += range.end - range.start;
        }
    }
    shares
}

/// What a run of the cluster showed.
#[derive(Default)]
struct Seen {
    bytes: Vec<u64>,
    /// Milliseconds that queries waited, by user: their sum and the longest.
    waits: BTreeMap<usize, (u64, u64, u64)>,
    longest_run: u64,
    ended: usize,
}

fn simulate() -> Seen {
    let mut random = StdRng::seed_from_u64(SEED);
    let (tables, names) = (tables(&mut random), executors(EXECUTORS));
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let bounds =
        |weight| Bounds { weight, memory_percent: 100, running_max: usize::MAX, waiting_max: CLIENTS };
    let mut queue = Queue::new(vec![bounds(1.0), bounds(2.0)], CLIENTS);
    let room = Room { bytes: MEMORY / 2, running: EXECUTORS * CORES / 8, express: 4 * EXECUTORS };
    let mut placed: HashMap<(usize, usize, usize), Vec<u64>> = HashMap::new();
    // Clients that ask, and queries that end, by millisecond.
    let mut asks: BinaryHeap<Reverse<(u64, usize)>> =
        (0..CLIENTS).map(|client| Reverse((0, client))).collect();
    let mut ends: BinaryHeap<Reverse<(u64, Number, usize)>> = BinaryHeap::new();
    let mut waiting: HashMap<Number, (usize, u64, u64)> = HashMap::new();
    let mut seen = Seen { bytes: vec![0; EXECUTORS], ..Seen::default() };
    let mut offered = 0;
    while seen.ended < QUERIES {
        let next_ask = asks.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let next_end = ends.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let now = next_ask.min(next_end);
        if next_end <= next_ask {
            let Some(Reverse((_, number, client))) = ends.pop() else {
                panic!("nobody asks and nothing runs")
            };
            queue.ended(number);
            seen.ended += 1;
            asks.push(Reverse((now + random.random_range(0..200), client)));
        } else if let Some(Reverse((_, client))) = asks.pop()
            && offered < QUERIES
        {
            offered += 1;
            let at = random.random_range(0..tables.len());
            let table = &tables[at];
            // Dashboards ask for a month or two, others for all.
            let (from, to) = match table.files.len() {
                600 if random.random_range(0..3) > 0 => {
                    let month = random.random_range(0..59) * 10;
                    (month, month + 20)
                }
                all => (0, all),
            };
            let shares = placed.entry((at, from, to)).or_insert_with(|| shares(table, from, to, &members));
            shares.iter().zip(&mut seen.bytes).for_each(|(share, sum)| *sum += share);
            let busiest = shares.iter().max().copied().unwrap_or_default();
            let millis = 1 + busiest / (BYTES_A_MILLISECOND * CORES as u64);
            let seconds = millis as f64 / 1000.0;
            // A fifth of the users sends to the heavier pool.
            let user = client % USERS;
            let bytes = random.random_range(16 << 20..3 << 30);
            let demand = Demand {
                pool: usize::from(user.is_multiple_of(5)),
                user: format!("user {user}"),
                bytes,
                bytes_min: bytes.min(MEMORY / 10),
                seconds,
                express: seconds < 0.05,
            };
            match queue.offer(demand, Duration::from_millis(now)) {
                Offer::Waiting(number) => waiting.insert(number, (client, now, millis)),
                Offer::Full => panic!("there is room for every client"),
            };
        }
        while let Some(number) = queue.next(room, Duration::from_millis(now)) {
            let (client, since, millis) = waiting.remove(&number).expect("who is let in has waited");
            let entry = seen.waits.entry(client % USERS).or_default();
            *entry = (entry.0 + now - since, entry.1.max(now - since), entry.2 + 1);
            seen.longest_run = seen.longest_run.max(millis);
            ends.push(Reverse((now + millis, number, client)));
        }
    }
    assert_eq!(queue.pools().iter().map(|pool| pool.running + pool.waiting).sum::<usize>(), 0);
    seen
}

#[test]
fn a_thousand_clients_are_served_evenly_by_even_executors() {
    let seen = simulate();
    let mean = seen.bytes.iter().sum::<u64>() as f64 / EXECUTORS as f64;
    let busiest = seen.bytes.iter().max().copied().unwrap_or_default() as f64 / mean;
    println!("busiest executor: {busiest:.3} of the mean");
    assert!(busiest <= 1.25, "the busiest executor has {busiest:.3} of the mean");
    assert_eq!(seen.waits.len(), USERS);
    let mut means: Vec<f64> =
        seen.waits.values().map(|(sum, _, count)| *sum as f64 / *count as f64).collect();
    means.sort_by(f64::total_cmp);
    let (median, worst) = (means[USERS / 2], means[USERS - 1]);
    let longest = seen.waits.values().map(|(_, longest, _)| *longest).max().unwrap_or_default();
    println!("mean wait by user: median {median:.0} ms, worst {worst:.0} ms; longest wait {longest} ms");
    assert!(worst <= 2.0 * median + 1.0, "one user waits {worst:.0} ms, the median one {median:.0} ms");
    // Nobody starves: not longer than everybody's queries in a row, a few times over.
    assert!(longest as f64 <= 12.0 * median + 60_000.0, "one query waited {longest} ms");
}

#[test]
fn an_executor_that_joins_moves_little_more_than_its_share() {
    let mut random = StdRng::seed_from_u64(SEED);
    let tables = tables(&mut random);
    let files: Vec<(&str, u64)> =
        tables.iter().flat_map(|table| &table.files).map(|(uri, bytes)| (uri.as_str(), *bytes)).collect();
    let (before, after) = (executors(EXECUTORS), executors(EXECUTORS + 1));
    let owners =
        |names: &[String]| affinity::assign(&files, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let moved = owners(&before).iter().zip(owners(&after)).filter(|(a, b)| **a != *b).count();
    let part = moved as f64 / files.len() as f64 * EXECUTORS as f64;
    println!("{moved} of {} files moved: {part:.2}/{EXECUTORS}", files.len());
    assert!(part <= 1.3, "{moved} of {} files moved: {part:.2}/{EXECUTORS}", files.len());
}
