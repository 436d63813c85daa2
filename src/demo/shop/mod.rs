//! Schema `shop`: an e-commerce star.
//!
//! ```text
//!   dim_customers  dim_products  dim_sellers  dim_promotions  dim_payments  dim_dates
//!         └─────────────┴────── fact_sales ──────┴──────────────┘ │             │
//!                               fact_payments ────────────────────┴─────────────┘
//! ```
//!
//! - [`calendar`]: the days and their share in the business; [`names`]: words
//! - [`history`]: versions of slowly changing entities; [`dimensions`]; [`sales`]: the facts
//! - [`columns`]: types and arrays
//!
//! Facts grow with the scale, dimensions do not. The rule: a fact's key points at the version
//! that was valid when the fact happened.

pub mod calendar;
pub mod columns;
pub mod dimensions;
pub mod history;
pub mod names;
pub mod sales;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::demo::table::Table;
use dimensions::Dimensions;
use sales::Sales;

/// The tables of the schema, by name.
pub const NAMES: &[&str] = &[
    "dim_dates",
    "dim_customers",
    "dim_products",
    "dim_sellers",
    "dim_promotions",
    "dim_payments",
    "fact_sales",
    "fact_payments",
];

/// Rows of `fact_sales` at scale 1.
const SALES_ROWS: f64 = 10_000_000.0;

/// Rows of `fact_sales` at a scale.
pub fn sales_rows(scale: f64) -> u64 {
    (SALES_ROWS * scale).round() as u64
}

/// The tables of the schema.
pub fn tables(scale: f64, seed: u64) -> Vec<Table> {
    let dimensions = Arc::new(Dimensions::generate(seed));
    let sales = Arc::new(Sales::new(seed, sales_rows(scale), Arc::clone(&dimensions)));
    let mut tables = dimensions::tables(&dimensions);
    tables.extend(sales::tables(&sales));
    tables
}
