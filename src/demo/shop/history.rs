//! How dimensions change: the versions of each entity, and which was valid when.
//!
//! A dimension of n rows has n × 85 % entities; the other rows are later versions of some of
//! them, so that 15 % of all rows are superseded. Versions of an entity follow each other
//! without gap or overlap, begin at midnight, and the last is valid until 2100-01-01. Surrogate
//! keys count from 1 in order of time, as a warehouse would have given them.

use crate::demo::random::Random;
use crate::demo::shop::calendar::{DAYS, FIRST_DAY, FOREVER};

/// Of 100 rows, those that are superseded.
pub const SUPERSEDED_PERCENT: usize = 15;
/// Versions that one entity has at most.
const VERSIONS_MAX: usize = 4;
/// Days between an entity's first day and its first change.
const SETTLED_DAYS: i64 = 20;

/// One row of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Which entity, from 0.
    pub entity: usize,
    /// Which of its versions, from 0.
    pub number: usize,
    /// The first day on which it is valid, since 1970.
    pub from: i32,
    /// The first day on which it is no longer.
    pub to: i32,
}

/// When the entities of a dimension came to be.
#[derive(Debug, Clone, Copy)]
pub enum Arrival {
    /// All before the calendar begins.
    Before,
    /// Some part (of 100) before the calendar begins, the others over the years.
    Over(u64),
}

/// All versions of a dimension.
pub struct History {
    /// In order of their keys, which count from 1.
    versions: Vec<Version>,
    /// First day of each entity, ascending.
    first_days: Vec<i32>,
    /// Keys of each entity's versions, ascending.
    keys: Vec<Vec<i64>>,
}

impl History {
    /// A history of `rows` versions.
    pub fn generate(seed: u64, dimension: &str, rows: usize, arrival: Arrival) -> Self {
        let mut random = Random::new(seed, dimension, u64::MAX);
        let superseded = rows * SUPERSEDED_PERCENT / 100;
        let mut starts = first_days(&mut random, rows - superseded, arrival);
        add_changes(&mut random, &mut starts, superseded);

        let mut versions = Vec::with_capacity(rows);
        for (entity, days) in starts.iter().enumerate() {
            for (number, from) in days.iter().enumerate() {
                let to = days.get(number + 1).copied().unwrap_or(FOREVER);
                versions.push(Version { entity, number, from: *from, to });
            }
        }
        versions.sort_by_key(|version| (version.from, version.entity));
        let mut keys = vec![Vec::new(); starts.len()];
        for (index, version) in versions.iter().enumerate() {
            keys[version.entity].push(index as i64 + 1);
        }
        Self { versions, first_days: starts.iter().map(|days| days[0]).collect(), keys }
    }

    /// The versions, in order of their keys.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The version of a key.
    pub fn version(&self, key: i64) -> Version {
        self.versions[key as usize - 1]
    }

    /// Number of entities.
    pub fn entities(&self) -> usize {
        self.keys.len()
    }

    /// The day an entity came to be.
    pub fn first_day(&self, entity: usize) -> i32 {
        self.first_days[entity]
    }

    /// Entities there are on a day: those below this number.
    pub fn entities_on(&self, day: i32) -> usize {
        self.first_days.partition_point(|first| *first <= day)
    }

    /// The key of the version of an entity that is valid on a day on which the entity exists.
    pub fn key_on(&self, entity: usize, day: i32) -> i64 {
        let keys = &self.keys[entity];
        let later = keys.iter().rposition(|key| self.version(*key).from <= day);
        keys[later.expect("the entity exists on that day")]
    }
}

/// The first days of entities, ascending.
fn first_days(random: &mut Random, count: usize, arrival: Arrival) -> Vec<Vec<i32>> {
    let before = |random: &mut Random| FIRST_DAY - random.between(1, 3 * 365) as i32;
    let mut days: Vec<i32> = (0..count as u64)
        .map(|entity| match arrival {
            Arrival::Before => before(random),
            Arrival::Over(percent) if entity * 100 < count as u64 * percent => before(random),
            Arrival::Over(_) => FIRST_DAY + random.between(0, DAYS as i64 - 90) as i32,
        })
        .collect();
    days.sort_unstable();
    days.into_iter().map(|day| vec![day]).collect()
}

/// Lets random entities change on random days within the calendar.
fn add_changes(random: &mut Random, starts: &mut [Vec<i32>], count: usize) {
    let last = i64::from(FIRST_DAY) + DAYS as i64 - 5;
    let mut added = 0;
    while added < count {
        let days = &mut starts[random.below(starts.len() as u64) as usize];
        let first = (i64::from(days[0]) + SETTLED_DAYS).max(i64::from(FIRST_DAY) + SETTLED_DAYS);
        let day = random.between(first.min(last), last) as i32;
        if days.len() < VERSIONS_MAX && !days.contains(&day) && day > days[0] {
            days.push(day);
            days.sort_unstable();
            added += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_an_entity_follow_each_other() {
        for (rows, arrival) in [(2_000, Arrival::Over(40)), (20, Arrival::Before)] {
            let history = History::generate(7, "test", rows, arrival);
            assert_eq!(history.versions().len(), rows);
            let current = history.versions().iter().filter(|version| version.to == FOREVER).count();
            assert_eq!(rows - current, rows * SUPERSEDED_PERCENT / 100);
            assert_eq!(current, history.entities());
            for entity in 0..history.entities() {
                let versions: Vec<_> =
                    history.versions().iter().filter(|version| version.entity == entity).collect();
                assert!(versions.iter().all(|version| version.from < version.to));
                assert!(versions.windows(2).all(|pair| pair[0].to == pair[1].from));
                assert_eq!(versions.last().unwrap().to, FOREVER);
            }
        }
    }

    #[test]
    fn the_key_on_a_day_is_of_the_version_valid_then() {
        let history = History::generate(7, "test", 500, Arrival::Over(40));
        for day in (FIRST_DAY..FIRST_DAY + DAYS as i32).step_by(97) {
            for entity in 0..history.entities_on(day) {
                let version = history.version(history.key_on(entity, day));
                assert!(version.entity == entity && version.from <= day && day < version.to);
            }
        }
    }
}
