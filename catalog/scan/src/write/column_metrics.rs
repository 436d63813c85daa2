//! What a data file's columns hold: sizes, counts and bounds.
//!
//! Most of it is in the Parquet footer. NaNs are counted as rows pass, and
//! bounds are brought from Parquet's encoding into Iceberg's and cut. As in
//! Java's implementation, values inside lists and maps get counts but no bounds.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

use super::hash::shortest_be_bytes;
use super::transform::prefix;
use super::{ColumnMetrics, MetricsMode, MetricsModes};
use crate::field_id;

/// A leaf column of a file, in the order of its Parquet columns.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    field_id: i32,
    data_type: DataType,
    mode: MetricsMode,
    /// Positions from the root through structs; `None` inside a list or map.
    path: Option<Vec<usize>>,
    uuid: bool,
}

/// The leaves of a file schema, depth first. `is_uuid` tells a UUID from another fixed-size column.
pub(super) fn leaves(fields: &Fields, modes: &MetricsModes, is_uuid: &dyn Fn(i32) -> bool) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        push_leaves(field, Some(vec![position]), modes, is_uuid, &mut leaves);
    }
    leaves
}

fn push_leaves(
    field: &Field,
    path: Option<Vec<usize>>,
    modes: &MetricsModes,
    is_uuid: &dyn Fn(i32) -> bool,
    leaves: &mut Vec<Leaf>,
) {
    match field.data_type() {
        DataType::Struct(children) => {
            for (position, child) in children.iter().enumerate() {
                let path = path.clone().map(|mut path| {
                    path.push(position);
                    path
                });
                push_leaves(child, path, modes, is_uuid, leaves);
            }
        }
        DataType::List(child) | DataType::Map(child, _) => push_leaves(child, None, modes, is_uuid, leaves),
        data_type => {
            let id = field_id(field).unwrap_or_default();
            leaves.push(Leaf {
                field_id: id,
                data_type: data_type.clone(),
                mode: modes.of(id),
                path,
                uuid: is_uuid(id),
            });
        }
    }
}

/// The longest prefix of a string or binary that any bound keeps; `None` if one keeps all.
pub(super) fn longest_bound(leaves: &[Leaf]) -> Option<usize> {
    let lengths = leaves.iter().map(|leaf| match leaf.mode {
        MetricsMode::None | MetricsMode::Counts => Some(0),
        MetricsMode::Truncate(length) => Some(length as usize),
        MetricsMode::Full => None,
    });
    lengths.max_by_key(|length| length.unwrap_or(usize::MAX)).unwrap_or(Some(0))
}

/// Running counts of NaNs, one a leaf.
#[derive(Debug)]
pub(super) struct NanCounts(Vec<u64>);

impl NanCounts {
    pub(super) fn new(leaves: &[Leaf]) -> Self {
        Self(vec![0; leaves.len()])
    }

    /// Counts the NaNs of `batch`, which has the file's schema.
    pub(super) fn add(&mut self, batch: &RecordBatch, leaves: &[Leaf]) {
        for (count, leaf) in self.0.iter_mut().zip(leaves) {
            if leaf.counts_nans() {
                *count += leaf.nans(batch);
            }
        }
    }
}

/// The metrics of a finished file.
pub(super) fn collect(leaves: &[Leaf], nans: &NanCounts, footer: &ParquetMetaData) -> Vec<ColumnMetrics> {
    let columns = leaves.iter().enumerate().filter(|(_, leaf)| leaf.field_id > 0);
    columns
        .filter_map(|(i, leaf)| {
            let chunks = footer.row_groups().iter().map(|group| group.column(i)).collect::<Vec<_>>();
            leaf.metrics(&chunks, nans.0[i])
        })
        .collect()
}

impl Leaf {
    fn is_float(&self) -> bool {
        matches!(self.data_type, DataType::Float32 | DataType::Float64)
    }

    fn counts_nans(&self) -> bool {
        self.is_float() && self.path.is_some() && self.mode != MetricsMode::None
    }

    fn nans(&self, batch: &RecordBatch) -> u64 {
        let Some((first, rest)) = self.path.as_ref().and_then(|path| path.split_first()) else {
            return 0;
        };
        let column = rest.iter().fold(batch.column(*first), |column, i| column.as_struct().column(*i));
        let count = match column.data_type() {
            DataType::Float32 => {
                column.as_primitive::<Float32Type>().iter().filter(|v| v.is_some_and(f32::is_nan)).count()
            }
            _ => column.as_primitive::<Float64Type>().iter().filter(|v| v.is_some_and(f64::is_nan)).count(),
        };
        count as u64
    }

    fn metrics(&self, chunks: &[&ColumnChunkMetaData], nans: u64) -> Option<ColumnMetrics> {
        if self.mode == MetricsMode::None {
            return None;
        }
        let value_count = chunks.iter().map(|chunk| chunk.num_values() as u64).sum();
        // A chunk without statistics has an unknown number of NULLs, and so has the file.
        let null_counts = chunks.iter().map(|chunk| chunk.statistics().and_then(Statistics::null_count_opt));
        let null_count = null_counts.sum::<Option<u64>>()?;
        let nan_count = self.counts_nans().then_some(nans);
        let bounds = self.path.is_some() && self.mode != MetricsMode::Counts;
        let has_values = value_count > null_count + nan_count.unwrap_or(0);
        let (lower, upper) = if bounds && has_values { self.bounds(chunks) } else { (None, None) };
        Some(ColumnMetrics {
            field_id: self.field_id,
            size_bytes: chunks.iter().map(|chunk| chunk.compressed_size() as u64).sum(),
            value_count,
            null_count,
            nan_count,
            lower,
            upper,
        })
    }

    fn bounds(&self, chunks: &[&ColumnChunkMetaData]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut range: Option<(Value, Value)> = None;
        for chunk in chunks {
            let Some(statistics) = chunk.statistics() else {
                return (None, None);
            };
            match (self.range(statistics), &mut range) {
                (Some((low, high)), Some((lower, upper))) => {
                    *lower = lower.clone().least(low);
                    *upper = upper.clone().greatest(high);
                }
                (Some(found), range) => *range = Some(found),
                // Only NULLs, or NULLs and NaNs, have no bounds and do not widen those of others.
                (None, _) if self.is_float() || holds_only_nulls(chunk, statistics) => {}
                (None, _) => return (None, None),
            }
        }
        match range {
            Some((lower, upper)) => (self.cut_lower(lower), self.cut_upper(upper)),
            None => (None, None),
        }
    }

    fn range(&self, statistics: &Statistics) -> Option<(Value, Value)> {
        let decimal = matches!(self.data_type, DataType::Decimal128(..));
        let whole = |value: i64| if decimal { Value::Decimal(value.into()) } else { Value::Whole(value) };
        let bytes =
            |value: &[u8]| if decimal { decimal_of(value) } else { Some(Value::Bytes(value.to_vec())) };
        match statistics {
            Statistics::Boolean(s) => Some((Value::Bool(*s.min_opt()?), Value::Bool(*s.max_opt()?))),
            Statistics::Int32(s) => Some((whole((*s.min_opt()?).into()), whole((*s.max_opt()?).into()))),
            Statistics::Int64(s) => Some((whole(*s.min_opt()?), whole(*s.max_opt()?))),
            Statistics::Float(s) => float_range((*s.min_opt()?).into(), (*s.max_opt()?).into()),
            Statistics::Double(s) => float_range(*s.min_opt()?, *s.max_opt()?),
            Statistics::ByteArray(s) => Some((bytes(s.min_bytes_opt()?)?, bytes(s.max_bytes_opt()?)?)),
            Statistics::FixedLenByteArray(s) => {
                Some((bytes(s.min_bytes_opt()?)?, bytes(s.max_bytes_opt()?)?))
            }
            Statistics::Int96(_) => None,
        }
    }

    fn cut_lower(&self, value: Value) -> Option<Vec<u8>> {
        let Value::Bytes(bytes) = value else {
            return self.encode(value);
        };
        let Some(length) = self.bound_length() else {
            return Some(bytes);
        };
        if self.data_type != DataType::Utf8 {
            return Some(bytes[..bytes.len().min(length)].to_vec());
        }
        Some(prefix(std::str::from_utf8(&bytes).ok()?, length).as_bytes().to_vec())
    }

    fn cut_upper(&self, value: Value) -> Option<Vec<u8>> {
        let Value::Bytes(bytes) = value else {
            return self.encode(value);
        };
        let Some(length) = self.bound_length() else {
            return Some(bytes);
        };
        if self.data_type != DataType::Utf8 {
            return if bytes.len() <= length { Some(bytes) } else { next_bytes(&bytes[..length]) };
        }
        let text = std::str::from_utf8(&bytes).ok()?;
        let cut = prefix(text, length);
        if cut.len() == text.len() { Some(bytes) } else { next_text(cut) }
    }

    /// How much of a string or binary a bound keeps; UUIDs are always whole.
    fn bound_length(&self) -> Option<usize> {
        match self.mode {
            MetricsMode::Truncate(length) if !self.uuid => Some(length as usize),
            _ => None,
        }
    }

    /// A value that is not cut, in Iceberg's single-value encoding.
    fn encode(&self, value: Value) -> Option<Vec<u8>> {
        match (value, &self.data_type) {
            (Value::Bool(value), _) => Some(vec![value.into()]),
            (Value::Whole(value), DataType::Int32 | DataType::Date32) => {
                Some(i32::try_from(value).ok()?.to_le_bytes().to_vec())
            }
            (Value::Whole(value), _) => Some(value.to_le_bytes().to_vec()),
            (Value::Float(value), DataType::Float32) => Some((value as f32).to_le_bytes().to_vec()),
            (Value::Float(value), _) => Some(value.to_le_bytes().to_vec()),
            (Value::Decimal(value), _) => Some(shortest_be_bytes(value)),
            (Value::Bytes(_), _) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Value {
    Bool(bool),
    Whole(i64),
    Float(f64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

impl Value {
    fn least(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    fn greatest(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

fn holds_only_nulls(chunk: &ColumnChunkMetaData, statistics: &Statistics) -> bool {
    statistics.null_count_opt() == u64::try_from(chunk.num_values()).ok()
}

/// Bounds of floats; zero is written so that it covers both zeros.
fn float_range(low: f64, high: f64) -> Option<(Value, Value)> {
    if low.is_nan() || high.is_nan() {
        return None;
    }
    let low = if low == 0.0 { -0.0 } else { low };
    let high = if high == 0.0 { 0.0 } else { high };
    Some((Value::Float(low), Value::Float(high)))
}

fn decimal_of(bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(Value::Decimal(i128::from_be_bytes(wide)))
}

/// The shortest bytes above everything that begins with `prefix`; `None` if there are none.
fn next_bytes(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// The shortest text above everything that begins with `prefix`; `None` if there is none.
fn next_text(prefix: &str) -> Option<Vec<u8>> {
    let mut characters = prefix.chars().collect::<Vec<_>>();
    while let Some(last) = characters.pop() {
        let next = match last {
            char::MAX => continue,
            // The surrogates between these two are no characters.
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(other as u32 + 1),
        };
        characters.push(next?);
        return Some(characters.into_iter().collect::<String>().into_bytes());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(data_type: DataType) -> Leaf {
        Leaf { field_id: 1, data_type, mode: MetricsMode::default(), path: Some(vec![0]), uuid: false }
    }

    #[test]
    fn a_cut_upper_bound_is_above_all_it_was_cut_from() {
        let text = |value: &str| leaf(DataType::Utf8).cut_upper(Value::Bytes(value.into()));
        assert_eq!(text("short").unwrap(), b"short");
        assert_eq!(text("exactly sixteen!").unwrap(), b"exactly sixteen!");
        assert_eq!(text("exactly sixteen!!").unwrap(), b"exactly sixteen\"");
        assert_eq!(text(&"ü".repeat(17)).unwrap(), format!("{}ý", "ü".repeat(15)).as_bytes());
        assert_eq!(text(&format!("a{}", "\u{10ffff}".repeat(16))).unwrap(), b"b");
        assert_eq!(text(&"\u{10ffff}".repeat(17)), None);
        assert_eq!(
            text(&"\u{d7ff}".repeat(17)).unwrap(),
            format!("{}\u{e000}", "\u{d7ff}".repeat(15)).as_bytes()
        );

        let bytes = |value: &[u8]| leaf(DataType::Binary).cut_upper(Value::Bytes(value.into()));
        assert_eq!(bytes(&[0xff; 17]), None);
        assert_eq!(bytes(&[0xff; 16]).unwrap(), [0xff; 16]);
        assert_eq!(bytes(&[&[1][..], &[0xff; 16]].concat()).unwrap(), [2]);
    }

    #[test]
    fn a_cut_lower_bound_is_a_prefix_in_characters() {
        let text = |value: &str| leaf(DataType::Utf8).cut_lower(Value::Bytes(value.into())).unwrap();
        assert_eq!(text(&"ü".repeat(20)), "ü".repeat(16).as_bytes());
        assert_eq!(text(""), b"");
    }

    #[test]
    fn a_uuid_keeps_its_sixteen_bytes_and_full_mode_keeps_all() {
        let mut uuid = leaf(DataType::FixedSizeBinary(16));
        uuid.uuid = true;
        uuid.mode = MetricsMode::Truncate(4);
        assert_eq!(uuid.cut_upper(Value::Bytes(vec![7; 16])).unwrap(), [7; 16]);
        let mut full = leaf(DataType::Utf8);
        full.mode = MetricsMode::Full;
        assert_eq!(full.cut_upper(Value::Bytes(vec![b'x'; 99])).unwrap(), [b'x'; 99]);
    }

    #[test]
    fn values_have_the_single_value_encoding_of_the_specification() {
        assert_eq!(leaf(DataType::Int32).encode(Value::Whole(-2)).unwrap(), (-2_i32).to_le_bytes());
        assert_eq!(leaf(DataType::Int64).encode(Value::Whole(-2)).unwrap(), (-2_i64).to_le_bytes());
        assert_eq!(leaf(DataType::Boolean).encode(Value::Bool(true)).unwrap(), [1]);
        assert_eq!(leaf(DataType::Float32).encode(Value::Float(1.5)).unwrap(), 1.5_f32.to_le_bytes());
        assert_eq!(leaf(DataType::Decimal128(20, 2)).encode(Value::Decimal(-129)).unwrap(), [0xff, 0x7f]);
        assert_eq!(decimal_of(&[0xff, 0x7f]), Some(Value::Decimal(-129)));
    }

    #[test]
    fn zero_bounds_cover_both_zeros() {
        let (low, high) = float_range(0.0, -0.0).unwrap();
        let bits = |value| match value {
            Value::Float(value) => value.to_bits(),
            _ => unreachable!(),
        };
        assert_eq!((bits(low), bits(high)), ((-0.0_f64).to_bits(), 0.0_f64.to_bits()));
    }
}
