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
            true => self.express_running -= 1,
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
        let mut fitting = self.express.iter().copied().filter(|number| {
            let demand = &self.waiting[number].demand;
            self.bytes + self.least(demand, room) <= room.bytes && self.pool_takes(demand, room)
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
            let mut users: Vec<&User> = pool.users.values().filter(|user| !user.waiting.is_empty()).collect();
            // Of two that had as much, a short query goes first.
            let tag = |user: &User| user.served + self.waiting[&user.waiting[0]].demand.seconds * SHORT_FIRST;
            users.sort_by(|a, b| tag(a).total_cmp(&tag(b)).then(a.waiting[0].cmp(&b.waiting[0])));
            for user in users {
                let waiting = &self.waiting[&user.waiting[0]];
                let (room_left, pool_left) =
                    (self.clamped(&waiting.demand, room) <= left, self.pool_takes(&waiting.demand, room));
                if room_left && pool_left {
                    return Some(user.waiting[0]);
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

    /// Bytes with which a query may begin.
    fn least(&self, demand: &Demand, room: Room) -> u64 {
        let clamped = self.clamped(demand, room);
        if demand.express { clamped.min(demand.bytes_min) } else { clamped }
    }

    /// Bytes that a query is promised that begins now. One of the express lane leaves the next as much as it must have
    /// itself.
    fn granted(&self, demand: &Demand, room: Room) -> u64 {
        let (least, clamped) = (self.least(demand, room), self.clamped(demand, room));
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
            true => self.express_running += 1,
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
mod tests {
    use super::*;

    const ROOM: Room = Room { bytes: 1000, running: 2, express: 4 };

    fn bounds(weight: f64) -> Bounds {
        Bounds { weight, memory_percent: 100, running_max: 100, waiting_max: 100 }
    }

    fn slow(pool: usize, user: &str, bytes: u64) -> Demand {
        Demand { pool, user: user.to_string(), bytes, bytes_min: bytes, seconds: 1.0, express: false }
    }

    fn offer(queue: &mut Queue, demand: Demand, now: u64) -> Number {
        match queue.offer(demand, Duration::from_secs(now)) {
            Offer::Waiting(number) => number,
            Offer::Full => panic!("full"),
        }
    }

    fn admit(queue: &mut Queue, now: u64) -> Vec<Number> {
        std::iter::from_fn(|| queue.next(ROOM, Duration::from_secs(now))).collect()
    }

    #[test]
    fn users_take_turns_however_many_each_sends() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let greedy: Vec<_> = (0..4).map(|_| offer(&mut queue, slow(0, "greedy", 10), 0)).collect();
        let modest = offer(&mut queue, slow(0, "modest", 10), 0);
        assert_eq!(admit(&mut queue, 0), [greedy[0], modest]);
        assert_eq!(queue.position(greedy[1]), Some(0));
        queue.ended(greedy[0]);
        assert_eq!(admit(&mut queue, 0), [greedy[1]]);
    }

    #[test]
    fn of_users_that_had_as_much_the_shorter_query_is_first() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let long = offer(&mut queue, Demand { seconds: 12.0, ..slow(0, "long", 10) }, 0);
        let short: Vec<_> = (0..20).map(|_| offer(&mut queue, slow(0, "short", 10), 0)).collect();
        let mut order = Vec::new();
        while let Some(number) = queue.next(ROOM, Duration::ZERO) {
            order.push(number);
            queue.ended(number);
        }
        assert_eq!(order[0], short[0]);
        let turn = order.iter().position(|number| *number == long);
        assert_eq!(turn, Some(3), "its turn comes once the others had a quarter of that");
    }

    #[test]
    fn one_heavy_question_does_not_hold_up_the_next() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let heavy = offer(&mut queue, Demand { seconds: 60.0, ..slow(0, "a", 10) }, 0);
        assert_eq!(admit(&mut queue, 0), [heavy]);
        queue.ended(heavy);
        let others: Vec<_> = (0..10).map(|n| offer(&mut queue, slow(0, &n.to_string(), 10), 1)).collect();
        let next = offer(&mut queue, slow(0, "a", 10), 1);
        assert_eq!(admit(&mut queue, 1), others[..2]);
        queue.ended(others[0]);
        let late = offer(&mut queue, slow(0, "0", 10), 1);
        for number in &others[2..] {
            assert_eq!(admit(&mut queue, 1), [*number]);
            queue.ended(*number);
        }
        assert_eq!(admit(&mut queue, 1), [next], "before {late}");
    }

    #[test]
    fn a_pool_gets_its_weight() {
        let mut queue = Queue::new(vec![bounds(3.0), bounds(1.0)], 1000);
        for _ in 0..40 {
            offer(&mut queue, slow(0, "a", 10), 0);
            offer(&mut queue, slow(1, "b", 10), 0);
        }
        let mut served = [0, 0];
        for _ in 0..20 {
            for number in admit(&mut queue, 0) {
                served[queue.running[&number].pool] += 1;
                queue.ended(number);
            }
            if served[0] + served[1] >= 40 {
                break;
            }
        }
        assert_eq!(served, [30, 10]);
    }

    #[test]
    fn the_express_lane_passes_those_that_wait() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let running: Vec<_> = (0..2).map(|_| offer(&mut queue, slow(0, "a", 300), 0)).collect();
        assert_eq!(admit(&mut queue, 0), running);
        let heavy = offer(&mut queue, slow(0, "b", 10), 0);
        let quick = offer(&mut queue, Demand { express: true, ..slow(0, "c", 50) }, 0);
        assert_eq!(admit(&mut queue, 0), [quick]);
        queue.ended(running[0]);
        assert_eq!(admit(&mut queue, 0), [heavy]);
        for number in [running[1], heavy, quick] {
            queue.ended(number);
        }
        assert_eq!(queue.pools(), [PoolState::default()]);
    }

    #[test]
    fn one_that_does_not_fit_is_passed_until_it_has_waited_too_long() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let first = offer(&mut queue, slow(0, "a", 400), 0);
        assert_eq!(admit(&mut queue, 0), [first]);
        let large = offer(&mut queue, slow(0, "b", 500), 0);
        let small = offer(&mut queue, slow(0, "c", 100), 0);
        assert_eq!(admit(&mut queue, 0), [small]);
        queue.ended(small);
        let small = offer(&mut queue, slow(0, "d", 100), 20);
        assert!(admit(&mut queue, 20).is_empty(), "the large one has waited long enough");
        queue.ended(first);
        assert_eq!(admit(&mut queue, 20), [large, small]);
    }

    #[test]
    fn more_than_there_is_becomes_what_there_is() {
        let mut queue = Queue::new(vec![Bounds { memory_percent: 50, ..bounds(1.0) }], 100);
        let huge = offer(&mut queue, slow(0, "a", u64::MAX), 0);
        assert_eq!(admit(&mut queue, 0), [huge]);
        assert_eq!(queue.promised(huge), Some(500));
        let other = offer(&mut queue, slow(0, "a", 1), 0);
        assert!(admit(&mut queue, 0).is_empty(), "the pool has its part");
        queue.withdrawn(other);
        assert_eq!(queue.pools()[0].waiting, 0);
    }

    #[test]
    fn neither_lane_takes_the_memory_of_the_other() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let huge = offer(&mut queue, slow(0, "a", u64::MAX), 0);
        let next = offer(&mut queue, slow(0, "b", 10), 0);
        let quick = offer(&mut queue, Demand { express: true, ..slow(0, "c", 300) }, 0);
        assert_eq!(admit(&mut queue, 0), [quick, huge]);
        assert_eq!(queue.promised(huge), Some(600));
        let quick = offer(&mut queue, Demand { express: true, ..slow(0, "c", 100) }, 0);
        assert_eq!(admit(&mut queue, 0), [quick]);
        queue.ended(huge);
        assert_eq!(admit(&mut queue, 0), [next]);
    }

    #[test]
    fn the_express_lane_promises_what_there_is_and_waits_for_a_part_only() {
        let mut queue = Queue::new(vec![bounds(1.0)], 100);
        let quick = |bytes| Demand { express: true, bytes_min: 200, ..slow(0, "c", bytes) };
        let alone = offer(&mut queue, quick(900), 0);
        let next = offer(&mut queue, quick(900), 0);
        let third = offer(&mut queue, quick(900), 0);
        assert_eq!(admit(&mut queue, 0), [alone, next]);
        assert_eq!((queue.promised(alone), queue.promised(next)), (Some(800), Some(200)));
        queue.ended(alone);
        let heavy = offer(&mut queue, slow(0, "a", 600), 0);
        assert_eq!(admit(&mut queue, 0), [third]);
        assert_eq!(queue.promised(third), Some(600));
        queue.ended(third);
        assert_eq!(admit(&mut queue, 0), [heavy]);
        let small = offer(&mut queue, Demand { express: true, bytes_min: 5, ..slow(0, "c", 5) }, 0);
        assert_eq!(admit(&mut queue, 0), [small]);
        assert_eq!(queue.promised(small), Some(5));
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = Queue::new(vec![Bounds { waiting_max: 1, ..bounds(1.0) }, bounds(1.0)], 2);
        offer(&mut queue, slow(0, "a", 1), 0);
        assert_eq!(queue.offer(slow(0, "a", 1), Duration::ZERO), Offer::Full);
        offer(&mut queue, slow(1, "a", 1), 0);
        assert_eq!(queue.offer(slow(1, "a", 1), Duration::ZERO), Offer::Full);
    }
}
