//! Which rows may have a deleted key: asked of every row, answered from a small piece of memory.
//!
//! Nearly all rows stay. So the index of equality deletes, which is large and where each look costs a trip to memory,
//! is asked only about the rows that are left here. Whole numbers that lie close together, as those that a database
//! gave its rows, have a bit each, and the answer is exact; other keys share a filter, which says yes by chance to
//! less than one in a hundred. The rule: never no for a key that is there.

use arrow::array::{Array, Int64Array};
use arrow::buffer::BooleanBuffer;

/// Bits that one key may take before a bit for each number costs more than the index that it spares.
const RANGE_BITS_PER_KEY: u128 = 64;
/// Bits of the filter for each key.
const FILTER_BITS_PER_KEY: usize = 16;
/// Numbers that may be kept more than once, until all are looked through.
const REPEATS_MAX: usize = 64 << 10;
/// 2^64 over the golden ratio: keys that follow a pattern are spread over all numbers when multiplied by it.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bit for every number from the least key to the greatest.
#[derive(Debug)]
pub(super) struct Range {
    first: i64,
    /// The last bit is never a key's: all numbers outside of the range share it.
    bits: Vec<u64>,
}

impl Range {
    /// `None` if the keys are too far apart.
    pub(super) fn new(keys: impl ExactSizeIterator<Item = i64> + Clone) -> Option<Self> {
        let first = keys.clone().min()?;
        let length = (i128::from(keys.clone().max()?) - i128::from(first) + 2) as u128;
        if length > RANGE_BITS_PER_KEY * keys.len() as u128 {
            return None;
        }
        let mut bits = vec![0; (length as usize).div_ceil(64)];
        for key in keys {
            let place = key.wrapping_sub(first) as u64;
            bits[(place / 64) as usize] |= 1 << (place % 64);
        }
        Some(Self { first, bits })
    }

    #[inline]
    pub(super) fn has(&self, key: i64) -> bool {
        let place = (key.wrapping_sub(self.first) as u64).min(self.bits.len() as u64 * 64 - 1);
        self.bits[(place / 64) as usize] >> (place % 64) & 1 != 0
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bits.len() * size_of::<u64>()
    }
}

/// A Bloom filter of which each key has three bits, all in one word.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<u64>,
    /// How far a hash is shifted to be the number of a word.
    shift: u32,
}

impl Filter {
    pub(super) fn new(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let words = (hashes.len().saturating_mul(FILTER_BITS_PER_KEY) / 64).next_power_of_two().max(2);
        let mut filter = Self { words: vec![0; words], shift: u64::BITS - words.trailing_zeros() };
        for hash in hashes {
            let (word, bits) = filter.place(hash);
            filter.words[word] |= bits;
        }
        filter
    }

    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.words[word] & bits == bits
    }

    #[inline]
    fn place(&self, hash: u64) -> (usize, u64) {
        let spread = hash.wrapping_mul(SPREAD);
        let low = spread ^ (spread >> 32);
        let bits = 1 << (low & 63) | 1 << (low >> 6 & 63) | 1 << (low >> 12 & 63);
        ((spread >> self.shift) as usize, bits)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }
}

/// The values of one column of keys that have several.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    has_null: bool,
    /// Until all keys are in.
    values: Vec<i64>,
    /// How many of these, from the first, were distinct when that was last looked at.
    distinct: usize,
    members: Option<Members>,
}

/// Numbers, exactly or nearly.
#[derive(Debug)]
enum Members {
    Range(Range),
    Filter(Filter),
}

impl Numbers {
    pub(super) fn insert(&mut self, column: &Int64Array) {
        self.has_null |= column.null_count() > 0;
        self.values.extend(column.iter().flatten());
        // One key may be deleted many times: it is kept once.
        if self.values.len() > 2 * self.distinct + REPEATS_MAX {
            self.forget_repeats();
        }
    }

    fn forget_repeats(&mut self) {
        self.values.sort_unstable();
        self.values.dedup();
        self.values.shrink_to(self.values.len() + REPEATS_MAX);
        self.distinct = self.values.len();
    }

    /// Says that all keys are in.
    pub(super) fn finish(&mut self) {
        self.forget_repeats();
        let values = std::mem::take(&mut self.values);
        let filter = || Members::Filter(Filter::new(values.iter().map(|value| *value as u64)));
        self.members = Some(Range::new(values.iter().copied()).map_or_else(filter, Members::Range));
    }

    /// The rows whose value is that of a key, and by chance some others.
    pub(super) fn candidates(&self, column: &Int64Array) -> BooleanBuffer {
        let (values, rows) = (column.values(), column.len());
        let found = match &self.members {
            Some(Members::Range(range)) => BooleanBuffer::collect_bool(rows, |row| range.has(values[row])),
            Some(Members::Filter(filter)) => {
                BooleanBuffer::collect_bool(rows, |row| filter.may_have(values[row] as u64))
            }
            None => BooleanBuffer::new_set(rows),
        };
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) if self.has_null => &found | &!nulls.inner(),
            Some(nulls) => &found & nulls.inner(),
            None => found,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.values.capacity() * size_of::<i64>()
            + match &self.members {
                Some(Members::Range(range)) => range.heap_bytes(),
                Some(Members::Filter(filter)) => filter.heap_bytes(),
                None => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_keys_and_no_others() {
        for keys in
            [vec![7], vec![-3, 0, 61, 64, 65], vec![i64::MAX - 1, i64::MAX], vec![i64::MIN, i64::MIN + 63]]
        {
            let range = Range::new(keys.iter().copied()).unwrap();
            let near = keys.iter().flat_map(|key| (-200..200).map(|step| key.wrapping_add(step)));
            for number in near.chain([i64::MIN, -1, 0, 1, i64::MAX]) {
                assert_eq!(range.has(number), keys.contains(&number), "{number} of {keys:?}");
            }
        }
    }

    #[test]
    fn keys_that_are_far_apart_have_no_range() {
        assert!(Range::new([].into_iter()).is_none());
        assert!(Range::new([0, 126].into_iter()).is_some());
        assert!(Range::new([0, 127].into_iter()).is_none());
        assert!(Range::new([i64::MIN, i64::MAX].into_iter()).is_none());
    }

    #[test]
    fn a_filter_has_its_keys_and_few_others() {
        for step in [1, 3, 64, 4096, 1 << 32, 1 << 48] {
            let keys = || (0..10_000_u32).map(|key| u64::from(key).wrapping_mul(step));
            let filter = Filter::new(keys());
            assert!(keys().all(|key| filter.may_have(key)), "step {step}");
            let others = (10_000..60_000_u64).map(|key| key.wrapping_mul(step).wrapping_add(step / 2));
            let chance = others.filter(|key| filter.may_have(*key)).count();
            assert!(chance < 1_000, "step {step}: {chance} of 50000");
        }
        assert!(!Filter::new([].into_iter()).may_have(0));
    }
}
