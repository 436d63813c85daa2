//! The table of the benchmark: orders by day, sixteen columns with metrics, ids that rise with time.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::scalar::ScalarValue;
use tarn_catalog::{CreateMode, Lakehouse, NewPartitionField, NewTable, TableName};
use tarn_scan::write::{ColumnMetrics, Transform, WrittenFile};

use crate::Error;

/// Rows of each file.
const ROWS_PER_FILE: u64 = 100_000;

/// Files of one day.
const FILES_PER_DAY: usize = 50;

const FIRST_DAY: i32 = 18_262;

/// Columns after the first four, numbers all.
const MEASURES: i32 = 12;

/// Makes the table, in as many commits as it gets manifests.
pub(crate) async fn create(
    lakehouse: &Lakehouse,
    name: &TableName,
    files: usize,
    files_per_manifest: usize,
) -> Result<(), Error> {
    lakehouse.create_schema(&name.catalog, &name.schema, true).await?;
    let mut columns = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("day", DataType::Date32, false),
        Field::new("customer", DataType::Utf8, true),
        Field::new("sold_at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ];
    columns.extend((1..=MEASURES).map(|n| Field::new(format!("m{n}"), DataType::Int64, true)));
    let day = NewPartitionField { column: "day".to_owned(), transform: Transform::Identity, name: None };
    let new = NewTable {
        schema: Schema::new(columns),
        partition: vec![day],
        properties: BTreeMap::new(),
        location: None,
    };
    lakehouse.create_table(name, new, CreateMode::Create).await?;
    for first in (0..files).step_by(files_per_manifest) {
        let pinned = lakehouse.pin(name, None).await?;
        let append = lakehouse.begin_append(&pinned, "bench").await?;
        let last = (first + files_per_manifest).min(files);
        let spec_id = append.spec.partition.spec_id;
        let folder = append.spec.data_location.clone();
        let files = (first..last).map(|n| file(n, spec_id, &folder));
        append.commit(files.collect()).await?;
    }
    Ok(())
}

/// The day of a file.
pub(crate) fn day(file: usize) -> ScalarValue {
    ScalarValue::Date32(Some(FIRST_DAY + (file / FILES_PER_DAY) as i32))
}

/// The first id in a file.
pub(crate) fn first_id(file: usize) -> i64 {
    file as i64 * ROWS_PER_FILE as i64
}

/// A customer that is named in a file's bounds: any between the first and the last of the file.
pub(crate) fn customer(file: usize) -> ScalarValue {
    ScalarValue::Utf8View(Some(format!("customer-{file:07}-m")))
}

fn file(number: usize, spec_id: i32, folder: &str) -> WrittenFile {
    let (id, day) = (first_id(number), FIRST_DAY + (number / FILES_PER_DAY) as i32);
    let micros = i64::from(day) * 86_400_000_000 + (number % FILES_PER_DAY) as i64 * 1_000_000_000;
    let column = |field_id, lower: Vec<u8>, upper: Vec<u8>| ColumnMetrics {
        field_id,
        size_bytes: 800_000,
        value_count: ROWS_PER_FILE,
        null_count: 0,
        nan_count: None,
        lower: Some(lower),
        upper: Some(upper),
    };
    let long = |field_id, lower: i64, upper: i64| {
        column(field_id, lower.to_le_bytes().to_vec(), upper.to_le_bytes().to_vec())
    };
    let customer = |end: &str| format!("customer-{number:07}-{end}").into_bytes();
    let mut columns = vec![
        long(1, id, id + ROWS_PER_FILE as i64 - 1),
        column(2, day.to_le_bytes().to_vec(), day.to_le_bytes().to_vec()),
        column(3, customer("a"), customer("z")),
        long(4, micros, micros + 999_999_999),
    ];
    columns.extend((1..=MEASURES).map(|n| {
        let seed = (number as i64).wrapping_mul(2_862_933_555_777_941_757).wrapping_add(i64::from(n));
        long(4 + n, seed % 1000, 1000 + seed.rem_euclid(100_000))
    }));
    WrittenFile {
        uri: format!("{folder}/day={day}/019a5c1e-0000-7000-8000-{number:012}-0-00001.parquet"),
        size_bytes: 16_000_000 + (number % 97) as u64 * 10_000,
        record_count: ROWS_PER_FILE,
        spec_id,
        partition: vec![Some(ScalarValue::Date32(Some(day)))],
        columns,
        split_offsets: vec![4, 8_000_000],
    }
}
