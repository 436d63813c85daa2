//! Who runs next: a state machine without clocks, threads or channels.
//!
//! Queries of the express lane go first, in the order in which they came. Of the others the next is of the pool, and in
//! it of the user, that had the least service so far for its weight (start-time fair queueing); among users, a part of
//! what the query itself will take counts too, so that short ones go before long ones. One that does not fit
//! into the free memory is passed over by those that do, until it has waited too long: then the others wait for it.
//! The rule: whoever waits is admitted at last, as long as those who run end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// How long a query lets others pass that fit where it does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a query lets shorter ones of its own user pass.
const PATIENCE_OWN: Duration = Duration::from_secs(30);
/// Part of the memory that only the express lane gets, in percent.
const EXPRESS_MEMORY_PERCENT: u64 = 40;
/// The part of its own service that a query counts for before it has had it. The whole of it let a query of seven
/// seconds wait until each of fifty others had had as much.
const SHORT_FIRST: f64 = 0.25;
/// Seconds of service by which a user who has nothing here may be ahead of the others when he comes back. More of it,
/// from one heavy question, held a dashboard up for most of a minute.
const AHEAD_MAX: f64 = 1.0;
/// Seconds of service that a query counts for at least.
const SERVICE_MIN: f64 = 0.01;
/// Users of a pool whose service is remembered although they have nothing here.
const USERS_MAX: usize = 1000;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// The pool, by position.
    pub pool: usize,
    /// For fairness inside the pool.
    pub user: String,
    /// Bytes of memory in each process.
    pub bytes: u64,
    /// Bytes with which it may begin: of the express lane, that promises more only if there is more.
    pub bytes_min: u64,
    /// Seconds that it is expected to run.
    pub seconds: f64,
    /// Whether it goes by the express lane.
    pub express: bool,
}

/// What there is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory in each process that may be promised.
    pub bytes: u64,
    /// Queries that run at once, those of the express lane apart.
    pub running: usize,
    /// Queries of the express lane that run at once.
    pub express: usize,
}

/// The bounds of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Its part when others wait too.
    pub weight: f64,
    /// The part of the memory that its queries may have, in percent.
    pub memory_percent: u32,
    /// Queries that run at once.
    pub running_max: usize,
    /// Queries that wait.
    pub waiting_max: usize,
}

/// A query that asked, by number.
pub type Number = u64;

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It waits; [`Queue::next`] says when its turn is.
    Waiting(Number),
    /// Too many wait.
    Full,
}

/// What a pool has and waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Queries that run.
    pub running: usize,
    /// Queries that wait.
    pub waiting: usize,
    /// Bytes that its queries were promised in each process.
    pub bytes: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    pools: Vec<Pool>,
    waiting_max: usize,
    next_number: Number,
    /// Who waits, by number.
    waiting: BTreeMap<Number, Waiting>,
    express: VecDeque<Number>,
    running: HashMap<Number, Demand>,
    bytes: u64,
    slow_running: usize,
    express_running: usize,
    /// Bytes that those of the express lane were promised.
    express_bytes: u64,
    /// Service so far of the pool that was served last: who comes anew begins there.
    virtual_time: f64,
}

#[derive(Debug)]
struct Waiting {
    demand: Demand,
    since: Duration,
}

#[derive(Debug)]
struct Pool {
    bounds: Bounds,
    state: PoolState,
    served: f64,
    /// Service of the user that was served last.
    virtual_time: f64,
    users: HashMap<String, User>,
}

#[derive(Debug, Default)]
struct User {
    served: f64,
    waiting: VecDeque<Number>,
}

impl Queue {
    /// An empty queue over these pools, in which so many may wait.
    pub fn new(pools: Vec<Bounds>, waiting_max: usize) -> Self {
        let pool = |bounds| Pool {
            bounds,
            state: PoolState::default(),
            served: 0.0,
            virtual_time: 0.0,
            users: HashMap::new(),
        };
        Self {
            pools: pools.into_iter().map(pool).collect(),
            waiting_max,
            next_number: 0,
            waiting: BTreeMap::new(),
            express: VecDeque::new(),
            running: HashMap::new(),
            bytes: 0,
            slow_running: 0,
            express_running: 0,
            express_bytes: 0,
            virtual_time: 0.0,
        }
    }

    /// A query asks at `now`, a time since whatever begin.
    pub fn offer(&mut self, demand: Demand, now: Duration) -> Offer {
        let pool = &mut self.pools[demand.pool];
        if self.waiting.len() >= self.waiting_max || pool.state.waiting >= pool.bounds.waiting_max {
            return Offer::Full;
        }
        let number = self.next_number;
        self.next_number += 1;
        if demand.express {
            self.express.push_back(number);
        } else {
            if pool.state.running == 0 && pool.users.values().all(|user| user.waiting.is_empty()) {
                // Who had nothing to do has saved nothing up.
                pool.served = pool.served.max(self.virtual_time);
            }
            if pool.users.len() > USERS_MAX {
                pool.users.retain(|_, user| !user.waiting.is_empty());
            }
            let begin = pool.virtual_time;
            let user = pool.users.entry(demand.user.clone()).or_default();
            if user.waiting.is_empty() {
                user.served = user.served.clamp(begin, begin + AHEAD_MAX);
            }
            user.waiting.push_back(number);
        }
        pool.state.waiting += 1;
        self.waiting.insert(number, Waiting { demand, since: now });
        Offer::Waiting(number)
    }

    /// The next query that may run, which then runs. Asked again until there is none.
    pub fn next(&mut self, room: Room, now: Duration) -> Option<Number> {
        let number = self.next_express(room).or_else(|| self.next_slow(room, now))?;
        self.start(number, room);
        Some(number)
    }

    /// A query that ran has ended.
    pub fn ended(&mut self, number: Number) {
        let Some(demand) = self.running.remove(&number) else { return };
        let pool = &mut self.pools[demand.pool].state;
        pool.running -= 1;
        pool.bytes -= demand.bytes;
        self.bytes -= demand.bytes;
        match demand.express {
            true => {
                self.express_running -= 1;
                self.express_bytes -= demand.bytes;
            }
            false => self.slow_running -= 1,
        }
    }

    /// A query that waits goes away.
    pub fn withdrawn(&mut self, number: Number) {
        self.take(number);
    }

    /// How many are before it in its lane, as things stand: 0 is the next.
    pub fn position(&self, number: Number) -> Option<usize> {
        let own = self.waiting.get(&number)?;
        let earlier = self.waiting.range(..number);
        Some(earlier.filter(|(_, other)| other.demand.express == own.demand.express).count())
    }

    /// What each pool has, in order.
    pub fn pools(&self) -> Vec<PoolState> {
        self.pools.iter().map(|pool| pool.state).collect()
    }

    /// Bytes that a running query was promised in each process.
    pub fn promised(&self, number: Number) -> Option<u64> {
        self.running.get(&number).map(|demand| demand.bytes)
    }

    fn next_express(&self, room: Room) -> Option<Number> {
        if self.express_running >= room.express {
            return None;
        }
        // In their order but for pools that are full: one pool's bound must not stop another.
        // While one of the other lane waits, the lane has its own memory and no more: there may always be a next one.
        let bytes_max = match self.is_slow_waiting() {
            true => room.bytes - slow_bytes_max(room),
            false => room.bytes,
        };
        let mut fitting = self.express.iter().copied().filter(|number| {
            let demand = &self.waiting[number].demand;
            let is_within =
                self.express_running == 0 || self.express_bytes + self.least(demand, room) <= bytes_max;
            is_within && self.bytes + self.least(demand, room) <= room.bytes && self.pool_takes(demand, room)
        });
        fitting.next()
    }

    fn next_slow(&self, room: Room, now: Duration) -> Option<Number> {
        if self.slow_running >= room.running {
            return None;
        }
        let slow = self.running.values().filter(|demand| !demand.express).map(|demand| demand.bytes);
        let left = slow_bytes_max(room).saturating_sub(slow.sum()).min(room.bytes.saturating_sub(self.bytes));
        let mut pools: Vec<&Pool> = self.pools.iter().collect();
        pools.sort_by(|a, b| a.served.total_cmp(&b.served));
        for pool in pools.into_iter().filter(|pool| pool.state.running < pool.bounds.running_max) {
            // Of two that had as much, a short query goes first.
            let heads = pool.users.values().filter_map(|user| {
                let number = self.head(user, now)?;
                Some((user.served + self.waiting[&number].demand.seconds * SHORT_FIRST, number))
            });
            let mut heads: Vec<(f64, Number)> = heads.collect();
            heads.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (_, number) in heads {
                let waiting = &self.waiting[&number];
                let (room_left, pool_left) =
                    (self.clamped(&waiting.demand, room) <= left, self.pool_takes(&waiting.demand, room));
                if room_left && pool_left {
                    return Some(number);
                }
                if now.saturating_sub(waiting.since) > PATIENCE {
                    // Everybody waits for it, or those of its pool if the pool itself is what is full.
                    match room_left {
                        true => break,
                        false => return None,
                    }
                }
            }
        }
        None
    }

    fn is_slow_waiting(&self) -> bool {
        self.waiting.len() > self.express.len()
    }

    /// A user's next query: the shortest, so that a heavy one does not hold up the tiles of a dashboard behind it; but
    /// the first, once that has waited too long.
    fn head(&self, user: &User, now: Duration) -> Option<Number> {
        let first = *user.waiting.front()?;
        if now.saturating_sub(self.waiting[&first].since) > PATIENCE_OWN {
            return Some(first);
        }
        let seconds = |number: &Number| self.waiting[number].demand.seconds;
        user.waiting.iter().copied().min_by(|a, b| seconds(a).total_cmp(&seconds(b)).then(a.cmp(b)))
    }

    /// Bytes with which a query may begin.
    fn least(&self, demand: &Demand, room: Room) -> u64 {
        let clamped = self.clamped(demand, room);
        if demand.express { clamped.min(demand.bytes_min) } else { clamped }
    }

    /// Bytes that a query is promised that begins now. One of the express lane leaves the next as much as it must have
    /// itself, and those that wait in the other lane all that it can.
    fn granted(&self, demand: &Demand, room: Room) -> u64 {
        let (least, clamped) = (self.least(demand, room), self.clamped(demand, room));
        if demand.express && self.is_slow_waiting() {
            return least;
        }
        let pool = &self.pools[demand.pool];
        let pool_left =
            (room.bytes / 100 * u64::from(pool.bounds.memory_percent)).saturating_sub(pool.state.bytes);
        let left = room.bytes.saturating_sub(self.bytes).min(pool_left).saturating_sub(demand.bytes_min);
        if demand.express { clamped.min(left).max(least) } else { clamped }
    }

    /// Bytes that a query gets at most: no more than its lane and its pool may have at all.
    fn clamped(&self, demand: &Demand, room: Room) -> u64 {
        let pool = room.bytes / 100 * u64::from(self.pools[demand.pool].bounds.memory_percent);
        let lane = match demand.express {
            true => room.bytes,
            false => slow_bytes_max(room),
        };
        demand.bytes.min(pool).min(lane)
    }

    fn pool_takes(&self, demand: &Demand, room: Room) -> bool {
        let pool = &self.pools[demand.pool];
        let bytes_max = room.bytes / 100 * u64::from(pool.bounds.memory_percent);
        pool.state.running < pool.bounds.running_max
            && pool.state.bytes + self.least(demand, room) <= bytes_max
    }

    fn start(&mut self, number: Number, room: Room) {
        let Some(mut demand) = self.take(number) else { return };
        demand.bytes = self.granted(&demand, room);
        let pool = &mut self.pools[demand.pool];
        if !demand.express {
            let service = demand.seconds.max(SERVICE_MIN);
            self.virtual_time = self.virtual_time.max(pool.served);
            pool.served += service / pool.bounds.weight;
            if let Some(user) = pool.users.get_mut(&demand.user) {
                pool.virtual_time = pool.virtual_time.max(user.served);
                user.served += service;
            }
        }
        match demand.express {
            true => {
                self.express_running += 1;
                self.express_bytes += demand.bytes;
            }
            false => self.slow_running += 1,
        }
        pool.state.running += 1;
        pool.state.bytes += demand.bytes;
        self.bytes += demand.bytes;
        self.running.insert(number, demand);
    }

    /// Takes a query out of the line.
    fn take(&mut self, number: Number) -> Option<Demand> {
        let Waiting { demand, .. } = self.waiting.remove(&number)?;
        let pool = &mut self.pools[demand.pool];
        pool.state.waiting -= 1;
        match demand.express {
            true => self.express.retain(|other| *other != number),
            false => {
                if let Some(user) = pool.users.get_mut(&demand.user) {
                    user.waiting.retain(|other| *other != number);
                }
            }
        }
        Some(demand)
    }
}

/// Bytes that queries of the slow lane may have in all.
fn slow_bytes_max(room: Room) -> u64 {
    room.bytes - room.bytes / 100 * EXPRESS_MEMORY_PERCENT
}

#[cfg(test)]
mod tests;
