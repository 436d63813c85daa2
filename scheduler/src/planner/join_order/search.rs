//! The order of least cost.
//!
//! Up to [`EXACT_MAX`] relations that keys hold together every order is compared, bushy ones too, by the best order of
//! each subset (dynamic programming). More than these are joined greedily, the pair with the fewest rows first. What no
//! key holds together is joined in the same way in the end. The rule: effort has a bound, whatever the tree: 3^10 splits of
//! subsets, or one estimate for each pair of sets that greed may join.

use super::graph::Graph;
use super::relation::counted;
use super::tree::{Order, Set};

/// Most relations whose every order is compared.
pub(super) const EXACT_MAX: u32 = 10;

/// What a row of the build side costs, where one of the probe side, and one that comes out, cost 1: it is kept, and sent
/// to more than one partition.
const BUILD: f64 = 2.0;

/// A set of relations that are joined.
#[derive(Clone)]
struct Joined {
    set: Set,
    order: Order,
    rows: f64,
    cost: f64,
}

/// The order of least cost; the smaller side of each join is its left.
pub(super) fn best(graph: &Graph) -> Order {
    let mut parts = Vec::new();
    for component in graph.components() {
        match component.count_ones() {
            0 => {}
            1..=EXACT_MAX => parts.push(exactly(graph, component)),
            _ => parts
                .push(greedily(graph, numbers(component).map(|number| Joined::one(graph, number)).collect())),
        }
    }
    greedily(graph, parts).order
}

/// What an order costs.
pub(super) fn cost(graph: &Graph, order: &Order) -> f64 {
    joined(graph, order).cost
}

fn joined(graph: &Graph, order: &Order) -> Joined {
    match order {
        Order::Relation(number) => Joined::one(graph, *number),
        Order::Join(left, right) => {
            let (left, right) = (joined(graph, left), joined(graph, right));
            let rows = graph.rows(left.set | right.set);
            let cost = left.cost + right.cost + cost_of_join(graph, &left, &right, rows);
            Joined { set: left.set | right.set, order: order.clone(), rows, cost }
        }
    }
}

/// What one join costs.
fn cost_of_join(graph: &Graph, build: &Joined, probe: &Joined, rows: f64) -> f64 {
    let own = rows + probe.rows + BUILD * build.rows;
    match graph.joins(build.set, probe.set) {
        true => own,
        // Each row meets each.
        false => own + counted(build.rows * probe.rows),
    }
}

fn numbers(set: Set) -> impl Iterator<Item = usize> {
    (0..Set::BITS as usize).filter(move |number| set & (1 << number) != 0)
}

impl Joined {
    fn one(graph: &Graph, number: usize) -> Self {
        let set = 1 << number;
        Self { set, order: Order::Relation(number), rows: graph.rows(set), cost: 0.0 }
    }

    /// Both, the smaller one as the build side.
    fn with(&self, graph: &Graph, other: &Self, rows: f64) -> Self {
        let (build, probe) = if other.rows < self.rows { (other, self) } else { (self, other) };
        Self {
            set: self.set | other.set,
            order: Order::Join(Box::new(build.order.clone()), Box::new(probe.order.clone())),
            rows,
            cost: build.cost + probe.cost + cost_of_join(graph, build, probe, rows),
        }
    }
}

/// The best of one subset: its numbers, and how it is split. An order is made of it in the end only.
#[derive(Clone, Copy)]
struct Best {
    rows: f64,
    cost: f64,
    build: usize,
    probe: usize,
}

/// The best order of relations that keys hold together.
fn exactly(graph: &Graph, component: Set) -> Joined {
    let members: Vec<usize> = numbers(component).collect();
    // A subset is told by its members' places, which are fewer than the tree's relations.
    let set_of = |subset: usize| {
        let member = |(place, number): (usize, &usize)| ((subset >> place & 1) as Set) << number;
        members.iter().enumerate().map(member).fold(0, |all: Set, one| all | one)
    };
    let whole = (1 << members.len()) - 1;
    let sets: Vec<Set> = (0..=whole).map(set_of).collect();
    let mut best: Vec<Option<Best>> = vec![None; whole + 1];
    for subset in 1..=whole {
        if subset.is_power_of_two() {
            best[subset] = Some(Best { rows: graph.rows(sets[subset]), cost: 0.0, build: 0, probe: 0 });
            continue;
        }
        let mut found: Option<Best> = None;
        let mut rows = None;
        // Half of the splits: the others are these with sides changed.
        let lowest = subset & subset.wrapping_neg();
        let mut part = (subset - 1) & subset;
        while part > 0 {
            let rest = subset ^ part;
            if part & lowest != 0
                && let (Some(one), Some(other)) = (best[part], best[rest])
                && graph.joins(sets[part], sets[rest])
            {
                let rows = *rows.get_or_insert_with(|| graph.rows(sets[subset]));
                let (build, probe) = if other.rows < one.rows { (rest, part) } else { (part, rest) };
                let (least, most) = (one.rows.min(other.rows), one.rows.max(other.rows));
                let cost = one.cost + other.cost + rows + most + BUILD * least;
                if found.is_none_or(|found| cost < found.cost) {
                    found = Some(Best { rows, cost, build, probe });
                }
            }
            part = (part - 1) & subset;
        }
        best[subset] = found;
    }
    match best[whole] {
        Some(found) => {
            let order = order_of(&best, &members, whole);
            Joined { set: component, order, rows: found.rows, cost: found.cost }
        }
        // Held together only by a key of more than two of them at once.
        None => greedily(graph, members.into_iter().map(|number| Joined::one(graph, number)).collect()),
    }
}

fn order_of(best: &[Option<Best>], members: &[usize], subset: usize) -> Order {
    match best[subset] {
        Some(Best { build, probe, .. }) if build != 0 => {
            let (build, probe) = (order_of(best, members, build), order_of(best, members, probe));
            Order::Join(Box::new(build), Box::new(probe))
        }
        _ => Order::Relation(members[subset.trailing_zeros() as usize]),
    }
}

/// Joins these, the pair with the fewest rows first, and pairs that no key joins last.
fn greedily(graph: &Graph, mut parts: Vec<Joined>) -> Joined {
    // Which two, how many rows they give, and whether a key joins them.
    let pair = |one: &Joined, other: &Joined| {
        (graph.joins(one.set, other.set), graph.rows(one.set | other.set), one.set, other.set)
    };
    let mut pairs = Vec::new();
    for (place, one) in parts.iter().enumerate() {
        pairs.extend(parts[place + 1..].iter().map(|other| pair(one, other)));
    }
    while parts.len() > 1 {
        let next = pairs.iter().min_by(|one, other| other.0.cmp(&one.0).then(one.1.total_cmp(&other.1)));
        let Some((_, rows, one, other)) = next.copied() else { break };
        pairs.retain(|(_, _, left, right)| [left, right].iter().all(|set| **set & (one | other) == 0));
        let (mut taken, rest): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| part.set & (one | other) != 0);
        parts = rest;
        let second = taken.pop();
        if let Some((first, second)) = taken.pop().zip(second) {
            let joined = first.with(graph, &second, rows);
            pairs.extend(parts.iter().map(|part| pair(part, &joined)));
            parts.push(joined);
        }
    }
    parts.pop().expect("a tree has relations")
}
