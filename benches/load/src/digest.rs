//! What an answer is, as one number: the same for the same rows, whoever gave them and in whichever order.
//!
//! Each row becomes text, each text a hash, and the hashes are added; a count of rows goes with the sum. Engines
//! choose types and names for themselves, so neither is part of it: an integer and a decimal of one value are one
//! text (`12`, `12.5`), without zeros at the end. Doubles keep nine significant digits, since sums of them depend
//! on the order of rows; the mix's queries cast to DOUBLE wherever one engine would give a decimal and another a
//! double. NULL is no text at all. The rule: one code for every engine, on Arrow batches.

use std::fmt::{self, Write};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Digits of a double that count, besides the first.
const DOUBLE_DIGITS: usize = 8;

/// The digest of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Its rows.
    pub rows: u64,
    /// The sum of its rows' hashes.
    #[serde(with = "hex")]
    sum: u128,
}

impl Digest {
    /// Takes the rows of a batch in.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        let options = FormatOptions::default();
        let cells =
            columns.iter().map(|column| Cells::new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        let (mut row_text, mut cell) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            row_text.clear();
            for column in &cells {
                cell.clear();
                match column.write(row, &mut cell)? {
                    // The length in front keeps `a|b` and `a`, `b` apart.
                    true => write!(row_text, "{}:{cell}|", cell.len())?,
                    false => row_text.push_str("-|"),
                }
            }
            let hash = Sha256::digest(row_text.as_bytes());
            let mut first = [0; 16];
            first.copy_from_slice(&hash[..16]);
            self.sum = self.sum.wrapping_add(u128::from_le_bytes(first));
            self.rows += 1;
        }
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {:032x}", self.rows, self.sum)
    }
}

/// One column, ready to be written cell by cell.
struct Cells<'a> {
    column: &'a ArrayRef,
    formatter: ArrayFormatter<'a>,
}

impl<'a> Cells<'a> {
    fn new(column: &'a ArrayRef, options: &FormatOptions<'a>) -> Result<Self, Error> {
        Ok(Self { column, formatter: ArrayFormatter::try_new(column.as_ref(), options)? })
    }

    /// Writes the cell; `false` for NULL.
    fn write(&self, row: usize, text: &mut String) -> Result<bool, Error> {
        if self.column.is_null(row) {
            return Ok(false);
        }
        if *self.column.data_type() == DataType::Float64 {
            write_double(self.column.as_primitive::<arrow::datatypes::Float64Type>().value(row), text)?;
            return Ok(true);
        }
        write!(text, "{}", self.formatter.value(row))?;
        if self.column.data_type().is_decimal() {
            trim_zeros(text);
        }
        Ok(true)
    }
}

/// The same values in a type of few: texts as Utf8, single floats as doubles, points in time in microseconds.
fn plain(column: &ArrayRef) -> Result<ArrayRef, Error> {
    let target = match column.data_type() {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone.clone())
        }
        _ => return Ok(std::sync::Arc::clone(column)),
    };
    Ok(cast(column, &target)?)
}

fn write_double(value: f64, text: &mut String) -> fmt::Result {
    // Rounding before the plain form makes 0.1 + 0.2 and 0.3 one; adding zero makes -0 into 0.
    let rounded: f64 = format!("{value:.DOUBLE_DIGITS$e}").parse().unwrap_or(value);
    write!(text, "{}", rounded + 0.0)
}

fn trim_zeros(text: &mut String) {
    if text.contains('.') {
        let kept = text.trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(kept);
    }
}

/// 128 bits as JSON text: its numbers are doubles to many readers.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
        StringArray, StringViewArray,
    };

    use super::*;

    fn digest(columns: &[ArrayRef]) -> Digest {
        let named = columns.iter().enumerate().map(|(at, column)| (format!("c{at}"), Arc::clone(column)));
        let batch =
            RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)));
        let mut digest = Digest::default();
        digest.add(&batch.unwrap()).unwrap();
        digest
    }

    fn decimals(values: &[i128], scale: i8) -> ArrayRef {
        let values = Decimal128Array::from(values.to_vec());
        Arc::new(values.with_precision_and_scale(38, scale).unwrap())
    }

    #[test]
    fn order_of_rows_does_not_matter_and_their_number_does() {
        let of = |values: &[i64]| digest(&[Arc::new(Int64Array::from(values.to_vec()))]);
        assert_eq!(of(&[1, 2, 3]), of(&[3, 1, 2]));
        assert_ne!(of(&[1, 2]), of(&[1, 2, 2]));
        assert_ne!(of(&[1, 2]), of(&[1, 3]));
    }

    #[test]
    fn types_that_hold_the_same_values_are_one() {
        let long: ArrayRef = Arc::new(Int64Array::from(vec![7, -120]));
        let int: ArrayRef = Arc::new(Int32Array::from(vec![7, -120]));
        assert_eq!(digest(&[Arc::clone(&long)]), digest(&[int]));
        assert_eq!(digest(&[Arc::clone(&long)]), digest(&[decimals(&[7, -120], 0)]));
        assert_eq!(digest(&[Arc::clone(&long)]), digest(&[decimals(&[700, -12_000], 2)]));
        assert_eq!(digest(&[long]), digest(&[Arc::new(Float64Array::from(vec![7.0, -120.0]))]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("ä"), None]));
        assert_eq!(digest(&[text]), digest(&[Arc::new(StringViewArray::from(vec![Some("ä"), None]))]));
    }

    #[test]
    fn doubles_count_to_nine_digits() {
        let of = |value: f64| digest(&[Arc::new(Float64Array::from(vec![value]))]);
        assert_eq!(of(0.1 + 0.2), of(0.3));
        assert_eq!(of(-0.0), of(0.0));
        assert_ne!(of(1.234_567_8), of(1.234_567_9));
    }

    #[test]
    fn null_is_not_an_empty_text_and_cells_do_not_run_together() {
        let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        assert_ne!(digest(&[texts(vec![None])]), digest(&[texts(vec![Some("")])]));
        assert_ne!(
            digest(&[texts(vec![Some("ab")]), texts(vec![Some("c")])]),
            digest(&[texts(vec![Some("a")]), texts(vec![Some("bc")])])
        );
        let date = digest(&[Arc::new(Date32Array::from(vec![0]))]);
        assert_eq!(date, digest(&[texts(vec![Some("1970-01-01")])]));
    }
}
