//! Tables of real files, queried: each test with filters in the reader and above it.

mod columns;
mod files;
mod metadata_columns;
mod nested;
mod rows;
mod types;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::*;
use crate::testing::{Table, field, query, required, run, text};

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Ten rows a row group, with page indexes.
fn small_row_groups() -> WriterProperties {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_data_page_row_count_limit(5)
        .set_write_batch_size(5)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

/// `b` was `a` in the first file; a new `a` came later and is only in the second.
fn renamed() -> Table {
    Table::new(vec![
        field(2, "a", DataType::Int32),
        field(1, "b", DataType::Int32),
        field(3, "s", DataType::Utf8View),
    ])
    .file_with(
        vec![
            (field(1, "a", DataType::Int32), ints(0..40)),
            (field(3, "s", DataType::Utf8), strings(&["x"; 40])),
        ],
        small_row_groups(),
    )
    .file(vec![
        (field(1, "b", DataType::Int32), ints([100])),
        (field(2, "a", DataType::Int32), ints([5])),
        (field(3, "s", DataType::Utf8), strings(&["y"])),
    ])
}

/// One byte range for each two row groups of a file.
fn row_group_ranges(path: &std::path::Path) -> Vec<std::ops::Range<u64>> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let starts: Vec<_> = reader
        .metadata()
        .row_groups()
        .iter()
        .step_by(2)
        .map(|group| group.column(0).byte_range().0)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn row_type(fields: Vec<Field>) -> DataType {
    DataType::Struct(fields.into())
}

fn with_default(field: Field, json: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(crate::default::INITIAL_DEFAULT_KEY.to_owned(), json.to_owned());
    field.with_metadata(metadata)
}
