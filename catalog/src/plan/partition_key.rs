//! Partition tuples as keys: what tells whether a delete file and a data file are in the same partition.
//!
//! Two manifests may have written the same value with different types, as a column's type grows. So values are
//! written down in the widest form of their kind; a tuple is compared only with tuples of the same spec.

use std::borrow::Borrow;
use std::collections::HashMap;

use datafusion::scalar::ScalarValue;

/// A partition tuple in a form of which equal ones have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionKey(Box<[u8]>);

impl PartitionKey {
    pub(super) fn new(partition: &[Option<ScalarValue>]) -> Self {
        let mut bytes = Vec::with_capacity(partition.len() * 9);
        push_tuple(&mut bytes, partition);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl Borrow<[u8]> for PartitionKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Keys, each once, in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    pub(super) keys: Vec<PartitionKey>,
    indexes: HashMap<PartitionKey, u32>,
    /// The key that is looked for; most are there.
    wanted: Vec<u8>,
}

impl Partitions {
    pub(super) fn index_of(&mut self, partition: &[Option<ScalarValue>]) -> u32 {
        self.wanted.clear();
        push_tuple(&mut self.wanted, partition);
        if let Some(index) = self.indexes.get(self.wanted.as_slice()) {
            return *index;
        }
        let key = PartitionKey(self.wanted.as_slice().into());
        let index = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.indexes.insert(key.clone(), index);
        self.keys.push(key);
        index
    }
}

fn push_tuple(bytes: &mut Vec<u8>, partition: &[Option<ScalarValue>]) {
    for value in partition {
        match value {
            Some(value) if !value.is_null() => push(bytes, value),
            _ => bytes.push(0),
        }
    }
}

/// A value with a tag for its kind and, where it has no fixed one, its length.
fn push(bytes: &mut Vec<u8>, value: &ScalarValue) {
    use ScalarValue::*;
    match value {
        Boolean(Some(v)) => fixed(bytes, 1, &[u8::from(*v)]),
        Int32(Some(v)) | Date32(Some(v)) => fixed(bytes, 2, &i64::from(*v).to_le_bytes()),
        Int64(Some(v)) | Time64Microsecond(Some(v)) => fixed(bytes, 2, &v.to_le_bytes()),
        // Apart from days and microseconds by the spec, whose field has one unit.
        TimestampMicrosecond(Some(v), _) | TimestampNanosecond(Some(v), _) => {
            fixed(bytes, 2, &v.to_le_bytes())
        }
        Float32(Some(v)) => fixed(bytes, 3, &float_bits(f64::from(*v))),
        Float64(Some(v)) => fixed(bytes, 3, &float_bits(*v)),
        Decimal128(Some(v), _, _) => fixed(bytes, 4, &v.to_le_bytes()),
        Utf8(Some(v)) | Utf8View(Some(v)) | LargeUtf8(Some(v)) => sized(bytes, 5, v.as_bytes()),
        Binary(Some(v)) | BinaryView(Some(v)) | LargeBinary(Some(v)) | FixedSizeBinary(_, Some(v)) => {
            sized(bytes, 6, v);
        }
        other => sized(bytes, 7, format!("{other:?}").as_bytes()),
    }
}

/// One NaN; two zeros, as Java has it.
fn float_bits(value: f64) -> [u8; 8] {
    let value = if value.is_nan() { f64::NAN } else { value };
    value.to_bits().to_le_bytes()
}

fn fixed(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[ScalarValue]) -> PartitionKey {
        PartitionKey::new(&values.iter().cloned().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_equal_over_types_that_grew() {
        assert_eq!(key(&[ScalarValue::Int32(Some(-7))]), key(&[ScalarValue::Int64(Some(-7))]));
        assert_eq!(key(&[ScalarValue::Float32(Some(0.5))]), key(&[ScalarValue::Float64(Some(0.5))]));
        let decimal = |precision| ScalarValue::Decimal128(Some(125), precision, 2);
        assert_eq!(key(&[decimal(9)]), key(&[decimal(20)]));
    }

    #[test]
    fn keys_tell_null_from_values_and_neighbours_apart() {
        let null = PartitionKey::new(&[None]);
        assert_eq!(null, key(&[ScalarValue::Int32(None)]));
        assert_ne!(null, key(&[ScalarValue::Int32(Some(0))]));
        let text = |v: &str| ScalarValue::Utf8View(Some(v.to_owned()));
        assert_ne!(key(&[text("ab"), text("c")]), key(&[text("a"), text("bc")]));
        assert_ne!(key(&[text("")]), null);
    }

    #[test]
    fn keys_have_one_nan_and_two_zeros() {
        let float = |v| ScalarValue::Float64(Some(v));
        assert_eq!(key(&[float(f64::NAN)]), key(&[float(-f64::NAN)]));
        assert_ne!(key(&[float(0.0)]), key(&[float(-0.0)]));
    }

    #[test]
    fn partitions_are_numbered_once() {
        let mut partitions = Partitions::default();
        let one = [Some(ScalarValue::Int32(Some(1)))];
        assert_eq!(
            (partitions.index_of(&one), partitions.index_of(&[None]), partitions.index_of(&one)),
            (0, 1, 0)
        );
        assert_eq!(partitions.keys.len(), 2);
    }
}
