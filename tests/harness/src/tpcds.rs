//! TPC-DS as DuckDB's generator wrote it: the Parquet files of `tests/e2e/data/tpcds`, as tables to be loaded.
//!
//! `tests/oracle/tpcds.py` makes the files and the answers to them. The rule: a row is what the file says; only
//! how rows are cut into files is decided here, so that executors share the facts.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tarn::demo::table::{BATCH_ROWS, Batches, Table};

/// The schema of the tables.
pub(crate) const SCHEMA: &str = "tpcds";

/// Tables of fewer rows stay in one file.
const CUT_ROWS: u64 = 5_000;
/// Parts of a larger one; each becomes a file.
const PARTS_MAX: usize = 4;

const NAMES: [&str; 24] = [
    "call_center",
    "catalog_page",
    "catalog_returns",
    "catalog_sales",
    "customer",
    "customer_address",
    "customer_demographics",
    "date_dim",
    "household_demographics",
    "income_band",
    "inventory",
    "item",
    "promotion",
    "reason",
    "ship_mode",
    "store",
    "store_returns",
    "store_sales",
    "time_dim",
    "warehouse",
    "web_page",
    "web_returns",
    "web_sales",
    "web_site",
];

/// All of them.
pub(crate) fn tables() -> impl Iterator<Item = Table> {
    NAMES.into_iter().map(|name| {
        let file = open(name);
        let rows = file.metadata().file_metadata().num_rows() as u64;
        Table {
            schema_name: SCHEMA,
            name,
            schema: Arc::clone(file.schema()),
            partition: Vec::new(),
            rows,
            parts_max: if rows < CUT_ROWS { 1 } else { PARTS_MAX },
            generate: Arc::new(move |part, parts| cut(name, rows as usize, part, parts)),
        }
    })
}

/// The rows of part `part` of `parts`.
fn cut(name: &str, rows: usize, part: usize, parts: usize) -> Batches {
    let (begin, end) = (rows * part / parts, rows * (part + 1) / parts);
    let reader = open(name).with_batch_size(BATCH_ROWS).with_offset(begin).with_limit(end - begin);
    Box::new(reader.build().expect("the file can be read"))
}

fn open(name: &str) -> ParquetRecordBatchReaderBuilder<File> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../e2e/data").join(SCHEMA);
    let file = File::open(folder.join(format!("{name}.parquet"))).expect("the file of a table is there");
    ParquetRecordBatchReaderBuilder::try_new(file).expect("the file is Parquet")
}
