//! The door: queries wait here for their permit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::config::Config;
use super::learned::Learned;
use super::pools::{PoolConfig, Pools, Who};
use super::queue::{Bounds, Demand, Number, Offer, PoolState, Queue, Room};
use crate::error::{Error, ErrorCode, Result};
use crate::metrics;

/// The part of the memory that one query of the express lane is promised at most, in percent.
const EXPRESS_QUERY_PERCENT: u64 = 20;
/// How often those who wait are looked at although nobody ended: executors may have joined.
const LOOK: Duration = Duration::from_millis(500);

/// Who may run, and what runs used. A cheap handle.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    pools: Pools,
    began: Instant,
    /// What there is to give now.
    room: Box<dyn Fn() -> Room + Send + Sync>,
    /// The queue and those who wait. For short sections; no other lock is taken inside.
    state: Mutex<State>,
    learned: Learned,
}

struct State {
    queue: Queue,
    /// Whom to tell that their turn has come.
    waiting: HashMap<Number, oneshot::Sender<()>>,
    totals: Vec<Totals>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    admitted: u64,
    refused: u64,
    waited: Duration,
}

/// The right to run. Dropping it lets the next one in.
pub struct Permit {
    place: Place,
    /// Bytes of memory that the query is promised in each process.
    pub bytes: u64,
}

/// What `SHOW POOLS` says of one pool.
#[derive(Debug, Clone)]
pub struct PoolInfo {
    /// How it is configured.
    pub config: PoolConfig,
    /// Queries that run.
    pub running: u64,
    /// Queries that wait.
    pub waiting: u64,
    /// Bytes that its queries are promised in each process.
    pub memory_bytes: u64,
    /// Bytes that they may be promised.
    pub memory_bytes_max: u64,
    /// Queries let in since the start.
    pub admitted: u64,
    /// Queries refused since the start, or that waited too long.
    pub refused: u64,
    /// How long those that were let in waited, in all.
    pub waited: Duration,
}

/// A place in the line or inside; given back when dropped.
struct Place {
    inner: Arc<Inner>,
    number: Number,
}

impl Admission {
    /// Nobody yet. `room` says what there is to give: it is asked again and again.
    pub fn new(config: Config, room: impl Fn() -> Room + Send + Sync + 'static) -> Self {
        let pools = Pools::new(config.pools.clone());
        let or_all = |bound: usize| if bound == 0 { usize::MAX } else { bound };
        let bounds = |pool: &PoolConfig| Bounds {
            weight: pool.weight,
            memory_percent: pool.memory_percent,
            running_max: or_all(pool.running_max),
            waiting_max: or_all(pool.queue_max),
        };
        let queue = Queue::new(pools.all().iter().map(bounds).collect(), config.queue_max);
        let totals = vec![Totals::default(); pools.all().len()];
        let state = State { queue, waiting: HashMap::new(), totals };
        let (config_room, room) = (config.clone(), Box::new(room));
        let room = Box::new(move || {
            let Room { bytes, running, express } = room();
            let or = |bound: usize, usual: usize| if bound == 0 { usual.max(1) } else { bound };
            Room {
                bytes,
                running: or(config_room.running_max, running),
                express: or(config_room.express_max, express),
            }
        });
        Self {
            inner: Arc::new(Inner {
                config,
                pools,
                began: Instant::now(),
                room,
                state: Mutex::new(state),
                learned: Learned::default(),
            }),
        }
    }

    /// What runs of plans used.
    pub fn learned(&self) -> &Learned {
        &self.inner.learned
    }

    /// The pool of a query.
    pub fn pool(&self, who: &Who<'_>) -> Result<(usize, &str)> {
        let at = self.inner.pools.of(who)?;
        Ok((at, &self.inner.pools.all()[at].name))
    }

    /// The bytes with which a query of the express lane may begin; none of one that does not go there. It goes there if
    /// it is over soon. Asking for much memory, it must be known from its runs: it begins with a part and borrows the
    /// rest, for it loses little if it must begin again; a guess may be wrong in both. For all that it asks for it
    /// would wait as long as a heavy query runs, and in the lane everybody would wait with it.
    pub fn express(&self, seconds: f64, is_known: bool, bytes: u64) -> Option<u64> {
        let bytes_max = self.bytes_max() / 100 * EXPRESS_QUERY_PERCENT;
        let is_short = seconds * 1000.0 < self.inner.config.express_ms as f64;
        (is_short && (is_known || bytes <= bytes_max)).then_some(bytes.min(bytes_max))
    }

    /// Bytes that may be promised in each process now.
    pub fn bytes_max(&self) -> u64 {
        (self.inner.room)().bytes
    }

    /// Waits for the right to run. `queued` hears of the place in the line, each time that it is looked at: 0 is the
    /// next. Fails with `overloaded` when too many wait already, or when the wait was too long.
    pub async fn admit(&self, demand: Demand, mut queued: impl FnMut(usize)) -> Result<Permit> {
        let (began, pool) = (Instant::now(), demand.pool);
        let (turn, mut is_ours) = oneshot::channel();
        let place = {
            let mut state = self.inner.state.lock();
            match state.queue.offer(demand, self.inner.began.elapsed()) {
                Offer::Full => {
                    state.totals[pool].refused += 1;
                    let waiting = state.waiting.len();
                    drop(state);
                    return Err(self.refusal(pool, format!("{waiting} queries wait already")));
                }
                Offer::Waiting(number) => {
                    state.waiting.insert(number, turn);
                    Place { inner: Arc::clone(&self.inner), number }
                }
            }
        };
        self.inner.look();
        let timeout = Duration::from_secs(self.inner.config.queue_timeout_s);
        loop {
            tokio::select! {
                biased;
                // Never lost: the sender lives until it says so.
                _ = &mut is_ours => break,
                () = tokio::time::sleep(LOOK) => self.inner.look(),
            }
            if let Some(position) = self.inner.state.lock().queue.position(place.number) {
                queued(position);
            }
            if began.elapsed() > timeout {
                self.inner.state.lock().totals[pool].refused += 1;
                return Err(self.refusal(pool, format!("the query waited for {} s", timeout.as_secs())));
            }
        }
        let bytes = {
            let mut state = self.inner.state.lock();
            state.totals[pool].admitted += 1;
            state.totals[pool].waited += began.elapsed();
            state.queue.promised(place.number).unwrap_or_default()
        };
        metrics::phase("queued", began.elapsed());
        Ok(Permit { place, bytes })
    }

    /// Every pool as it stands.
    pub fn pools(&self) -> Vec<PoolInfo> {
        let bytes = self.bytes_max();
        let state = self.inner.state.lock();
        let all = self.inner.pools.all().iter().zip(state.queue.pools()).zip(&state.totals);
        all.map(|((config, PoolState { running, waiting, bytes: used }), totals)| PoolInfo {
            config: config.clone(),
            running: running as u64,
            waiting: waiting as u64,
            memory_bytes: used,
            memory_bytes_max: bytes / 100 * u64::from(config.memory_percent),
            admitted: totals.admitted,
            refused: totals.refused,
            waited: totals.waited,
        })
        .collect()
    }

    fn refusal(&self, pool: usize, why: String) -> Error {
        let name = &self.inner.pools.all()[pool].name;
        metrics::query_refused(name);
        Error::new(ErrorCode::Overloaded, format!("pool \"{name}\" takes no more queries now: {why}"))
            .with_hint("send it again later; SHOW POOLS tells what runs and waits")
    }
}

impl Inner {
    /// Lets in whoever may run now.
    fn look(&self) {
        let room = (self.room)();
        let now = self.began.elapsed();
        let mut state = self.state.lock();
        while let Some(number) = state.queue.next(room, now) {
            // One that went away at this moment gives its place back itself.
            if let Some(turn) = state.waiting.remove(&number) {
                let _ = turn.send(());
            }
        }
    }
}

impl Permit {
    /// The number under which the queue knows it.
    pub fn number(&self) -> Number {
        self.place.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.inner.state.lock();
            state.waiting.remove(&self.number);
            state.queue.withdrawn(self.number);
            state.queue.ended(self.number);
        }
        self.inner.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    fn demand(bytes: u64) -> Demand {
        Demand { pool: 0, user: "ana".to_string(), bytes, bytes_min: bytes, seconds: 5.0, express: false }
    }

    fn admission(config: Config) -> Admission {
        Admission::new(config, || Room { bytes: 1000, running: 1, express: 1 })
    }

    #[tokio::test]
    async fn the_next_runs_when_one_ends_and_one_that_leaves_is_not_waited_for() {
        let door = admission(Config::default());
        let first = door.admit(demand(10), |_| {}).await.unwrap();
        assert_eq!(first.bytes, 10);
        let gone = tokio::time::timeout(Duration::from_millis(200), door.admit(demand(10), |_| {})).await;
        assert!(gone.is_err(), "there is one place");
        let (next, places) = (door.clone(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&places);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { next.admit(demand(20), |at| seen.lock().push(at)).await });
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert_eq!(door.pools()[0].waiting, 1);
        assert_eq!(places.lock().first(), Some(&0));
        drop(first);
        let second = tasks.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!((door.pools()[0].running, door.pools()[0].memory_bytes), (1, 20));
        drop(second);
        let pool = &door.pools()[0];
        assert_eq!((pool.running, pool.waiting, pool.memory_bytes, pool.admitted), (0, 0, 0, 2));
    }

    #[tokio::test]
    async fn who_waits_too_long_or_finds_the_queue_full_is_told_to_come_later() {
        let door = admission(Config { queue_max: 1, queue_timeout_s: 1, ..Config::default() });
        let _first = door.admit(demand(10), |_| {}).await.unwrap();
        let next = door.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { next.admit(demand(10), |_| {}).await.map(|_| ()) });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let refused = door.admit(demand(10), |_| {}).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Overloaded);
        assert!(refused.code().is_retryable());
        let late = tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(late.code(), ErrorCode::Overloaded);
        assert_eq!((door.pools()[0].waiting, door.pools()[0].refused), (0, 2));
    }
}
