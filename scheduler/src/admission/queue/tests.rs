//! Who runs next, told as short stories.

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
fn of_ones_own_the_shorter_query_is_first_until_the_other_has_waited_too_long() {
    let mut queue = Queue::new(vec![bounds(1.0)], 100);
    let running: Vec<_> = (0..2).map(|_| offer(&mut queue, slow(0, "b", 10), 0)).collect();
    assert_eq!(admit(&mut queue, 0), running);
    let long = offer(&mut queue, Demand { seconds: 12.0, ..slow(0, "a", 10) }, 0);
    let short: Vec<_> = (0..2).map(|_| offer(&mut queue, slow(0, "a", 10), 5)).collect();
    queue.ended(running[0]);
    assert_eq!(admit(&mut queue, 5), [short[0]]);
    queue.ended(running[1]);
    assert_eq!(admit(&mut queue, 31), [long]);
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
    // One of the other lane waits: nobody takes what it needs.
    let heavy = offer(&mut queue, slow(0, "a", 600), 0);
    assert_eq!(admit(&mut queue, 0), [third, heavy]);
    assert_eq!(queue.promised(third), Some(200));
    queue.ended(third);
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
