//! Schema `tpch`: the eight tables of TPC-H, by the tpchgen crates.
//!
//! The rows are those of `dbgen`, whatever the number of parts; the seed is fixed by the
//! benchmark. Nothing here changes a value or a name.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

use crate::demo::table::{BATCH_ROWS, Batches, Table};

/// The tables of the schema, by name.
pub const NAMES: &[&str] =
    &["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];

/// Parts that a large table can be cut into.
const PARTS_MAX: usize = 1_024;

/// The tables of the schema.
pub fn tables(scale: f64) -> Vec<Table> {
    let rows = |at_scale_1: f64| (at_scale_1 * scale).round() as u64;
    macro_rules! table {
        ($name:literal, $rows:expr, $parts_max:expr, $arrow:ident, $generator:ident) => {
            table($name, $rows, $parts_max, $arrow::schema_ref(), move |part, parts| {
                $arrow::new($generator::new(scale, part, parts)).with_batch_size(BATCH_ROWS)
            })
        };
    }
    vec![
        table!("region", 5, 1, RegionArrow, RegionGenerator),
        table!("nation", 25, 1, NationArrow, NationGenerator),
        table!("supplier", rows(10_000.0), 1, SupplierArrow, SupplierGenerator),
        table!("customer", rows(150_000.0), PARTS_MAX, CustomerArrow, CustomerGenerator),
        table!("part", rows(200_000.0), PARTS_MAX, PartArrow, PartGenerator),
        table!("partsupp", rows(800_000.0), PARTS_MAX, PartSuppArrow, PartSuppGenerator),
        table!("orders", rows(1_500_000.0), PARTS_MAX, OrderArrow, OrderGenerator),
        // An estimate: an order has one to seven items.
        table!("lineitem", rows(6_001_215.0), PARTS_MAX, LineItemArrow, LineItemGenerator),
    ]
}

fn table<B>(
    name: &'static str,
    rows: u64,
    parts_max: usize,
    schema: SchemaRef,
    make: impl Fn(i32, i32) -> B + Send + Sync + 'static,
) -> Table
where
    B: Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
{
    // tpchgen counts parts from 1.
    let generate = move |part: usize, parts: usize| Box::new(make(part as i32 + 1, parts as i32)) as Batches;
    Table {
        schema_name: "tpch",
        name,
        schema,
        partition: Vec::new(),
        rows,
        parts_max,
        generate: Arc::new(generate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_tables() {
        assert!(tables(1.0).iter().map(|table| table.name).eq(NAMES.iter().copied()));
    }

    #[test]
    fn parts_are_the_whole() {
        // Customers have no text of the pool in their keys; it is the smallest table cut into parts.
        let tables = tables(0.001);
        let customer = tables.iter().find(|table| table.name == "customer").unwrap();
        let count = |parts| -> usize {
            (0..parts)
                .flat_map(|part| customer.batches(part, parts))
                .map(|batch| batch.unwrap().num_rows())
                .sum()
        };
        assert_eq!((count(1), count(2)), (150, 150));
        assert_eq!(customer.rows, 150);
    }
}
