//! The mix: what analysts ask, and in which order.
//!
//! Two thirds are dashboard queries, one third is ad-hoc. Every analyst draws from decks of his own, shuffled by
//! seed, phase and number: of three draws in a row two are dashboard and one is ad-hoc, and no query comes again
//! before its deck is through. So phases of one length ask for about the same work. The rule: texts are files
//! in `queries/` or the demo's dashboard, and all of them mean the same to every engine.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tarn::demo::queries::DASHBOARD;

/// Why a query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A tile that is looked at again and again.
    Dashboard,
    /// A question of its own, which reads and joins much.
    AdHoc,
}

/// One query.
#[derive(Clone, Debug, Serialize)]
pub struct Query {
    /// Its name in reports.
    pub name: String,
    /// Why it is asked.
    pub kind: Kind,
    /// Whether its state is meant to exceed the memory given.
    pub exceeds_memory: bool,
    /// Its text, without a semicolon.
    pub sql: String,
}

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../queries/", $folder, "/", $name, ".sql")))),*]
    };
}

/// All queries of the mix.
pub fn queries() -> Vec<Query> {
    let shop = DASHBOARD.iter().flat_map(|query| {
        let by_date = format!("{}_by_date", query.name);
        [(query.name.to_string(), query.sql), (by_date, query.sql_by_date)]
    });
    let tpcds = files!("dashboard":
        "tpcds_03", "tpcds_07", "tpcds_19", "tpcds_27", "tpcds_42", "tpcds_43", "tpcds_52", "tpcds_53",
        "tpcds_55", "tpcds_63", "tpcds_68", "tpcds_73", "tpcds_89", "tpcds_98",
    );
    let adhoc = files!("adhoc":
        "baskets", "buyers_of_months", "channels", "order_audit", "payments_of_orders", "repeat_gap",
        "returned_then_catalog", "stock_swings",
    );
    let named = |(name, sql): (&str, &'static str)| (name.to_string(), sql);
    let dashboard = shop.chain(tpcds.map(named)).map(|(name, sql)| query(name, Kind::Dashboard, sql));
    dashboard.chain(adhoc.map(named).map(|(name, sql)| query(name, Kind::AdHoc, sql))).collect()
}

fn query(name: String, kind: Kind, text: &str) -> Query {
    let exceeds_memory = text.lines().any(|line| line.starts_with("-- Exceeds memory"));
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n").trim().trim_end_matches(';').to_string();
    Query { name, kind, exceeds_memory, sql }
}

/// What one analyst asks, one query after another, for ever.
pub struct Order {
    random: ChaCha8Rng,
    kinds: Deck<Kind>,
    dashboard: Deck<usize>,
    adhoc: Deck<usize>,
}

impl Order {
    /// The order of one analyst in one phase; queries are named by their place in `queries`.
    pub fn new(queries: &[Query], seed: u64, phase: u64, analyst: u64) -> Self {
        let of = |kind| (0..queries.len()).filter(|index| queries[*index].kind == kind).collect::<Vec<_>>();
        Self {
            random: random(seed, phase, analyst),
            kinds: Deck::new(vec![Kind::Dashboard, Kind::Dashboard, Kind::AdHoc]),
            dashboard: Deck::new(of(Kind::Dashboard)),
            adhoc: Deck::new(of(Kind::AdHoc)),
        }
    }

    /// The next query's place.
    pub fn draw(&mut self) -> usize {
        match self.kinds.draw(&mut self.random) {
            Kind::Dashboard => self.dashboard.draw(&mut self.random),
            Kind::AdHoc => self.adhoc.draw(&mut self.random),
        }
    }
}

/// A stream of random numbers of its own for each analyst of each phase.
pub fn random(seed: u64, phase: u64, analyst: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, phase, analyst]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Cards that are shuffled whenever all of them were drawn.
struct Deck<T> {
    cards: Vec<T>,
    left: usize,
}

impl<T: Copy> Deck<T> {
    fn new(cards: Vec<T>) -> Self {
        Self { cards, left: 0 }
    }

    fn draw(&mut self, random: &mut ChaCha8Rng) -> T {
        if self.left == 0 {
            self.cards.shuffle(random);
            self.left = self.cards.len();
        }
        self.left -= 1;
        self.cards[self.left]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mix_is_the_one_of_the_documents() {
        let queries = queries();
        let count = |kind| queries.iter().filter(|query| query.kind == kind).count();
        assert_eq!((count(Kind::Dashboard), count(Kind::AdHoc)), (26, 8));
        assert!(queries.iter().filter(|query| query.exceeds_memory).count() >= 2);
        let names: BTreeSet<_> = queries.iter().map(|query| &query.name).collect();
        assert_eq!(names.len(), queries.len());
        assert!(queries.iter().all(|query| !query.sql.contains(';') && !query.sql.contains("--")));
    }

    #[test]
    fn orders_are_seeded_and_two_thirds_dashboard() {
        let queries = queries();
        let drawn = |seed, analyst| {
            let mut order = Order::new(&queries, seed, 1, analyst);
            (0..78).map(|_| order.draw()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(42, 3), drawn(42, 3));
        assert_ne!(drawn(42, 3), drawn(42, 4));
        assert_ne!(drawn(42, 3), drawn(43, 3));
        let dashboard: Vec<_> =
            drawn(42, 3).into_iter().filter(|index| queries[*index].kind == Kind::Dashboard).collect();
        assert_eq!(dashboard.len(), 52);
        assert_eq!(dashboard[..26].iter().collect::<BTreeSet<_>>().len(), 26);
    }
}
