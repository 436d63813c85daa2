//! Random numbers that are the same everywhere and always.
//!
//! ChaCha by a key made of the seed and the place of use, so that every piece of data can be
//! made alone, in any order; integers only, so that no machine rounds otherwise. The rule: who
//! needs randomness names the place (table, unit), and draws in a fixed order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one unit (a day, an entity) of one place.
    pub fn new(seed: u64, place: &str, unit: u64) -> Self {
        // The name's bytes, folded by FNV-1a: it must only differ between places.
        let place = place.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&place.to_le_bytes());
        key[16..24].copy_from_slice(&unit.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        debug_assert!(end > 0, "there is no number below zero");
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first + 1) as u64) as i64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// The numbers 0 to `count` - 1 in random order.
    pub fn shuffled(&mut self, count: usize) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count as u32).collect();
        for last in (1..count).rev() {
            numbers.swap(last, self.below(last as u64 + 1) as usize);
        }
        numbers
    }
}

/// Draws indexes by weight.
pub struct Weighted {
    /// Sums of the weights up to and including each index.
    sums: Vec<u64>,
}

impl Weighted {
    /// Index i is drawn in proportion to the i-th weight.
    pub fn new(weights: impl IntoIterator<Item = u64>) -> Self {
        let mut sum = 0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect() }
    }

    /// A few are drawn often and most of them rarely, as with customers and goods: the weight
    /// of the r-th in a random order falls as 1 / (r + `flatness`).
    pub fn skewed(random: &mut Random, count: usize, flatness: u64) -> Self {
        Self::new(random.shuffled(count).into_iter().map(|rank| 1_000_000_000 / (u64::from(rank) + flatness)))
    }

    /// An index.
    pub fn draw(&self, random: &mut Random) -> usize {
        self.draw_below(random, self.sums.len())
    }

    /// An index below `end`.
    pub fn draw_below(&self, random: &mut Random, end: usize) -> usize {
        let at = random.below(self.sums[end - 1]);
        self.sums[..end].partition_point(|sum| *sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_everywhere() {
        let mut random = Random::new(42, "test", 7);
        let numbers: Vec<_> = (0..4).map(|_| random.below(1_000)).collect();
        assert_eq!(numbers, [290, 955, 139, 942]);
    }

    #[test]
    fn places_and_units_differ() {
        let first = |place, unit| Random::new(1, place, unit).below(u64::MAX);
        assert_ne!(first("a", 0), first("b", 0));
        assert_ne!(first("a", 0), first("a", 1));
    }

    #[test]
    fn weights_are_kept() {
        let weighted = Weighted::new([1, 0, 3]);
        let mut random = Random::new(1, "test", 0);
        let mut counts = [0; 3];
        for _ in 0..4_000 {
            counts[weighted.draw(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((2_800..3_200).contains(&counts[2]), "{counts:?}");
        assert!((0..100).all(|_| weighted.draw_below(&mut random, 1) == 0));
    }
}
