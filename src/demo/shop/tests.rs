//! What must hold of the generated shop.

use std::collections::{HashMap, HashSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;

const SCALE: f64 = 0.000_7;

fn table(name: &str, seed: u64) -> Table {
    tables(SCALE, seed).into_iter().find(|table| table.name == name).unwrap()
}

fn rows(name: &str, parts: usize) -> RecordBatch {
    rows_of(&table(name, 42), parts)
}

fn rows_of(table: &Table, parts: usize) -> RecordBatch {
    let batches: Vec<_> =
        (0..parts).flat_map(|part| table.batches(part, parts)).collect::<Result<_, _>>().unwrap();
    concat_batches(&table.schema, &batches).unwrap()
}

fn longs<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn ints<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i32] {
    batch.column_by_name(name).unwrap().as_primitive::<Int32Type>().values()
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().values()
}

fn cents<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i128] {
    batch.column_by_name(name).unwrap().as_primitive::<Decimal128Type>().values()
}

/// A number that any changed value changes: FNV-1a over the printed values.
fn checksum(batch: &RecordBatch) -> u64 {
    let options = FormatOptions::default();
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for row in 0..batch.num_rows() {
        for column in &columns {
            for byte in column.value(row).to_string().bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    hash
}

#[test]
fn the_same_seed_makes_the_same_rows_in_any_parts() {
    let again = tables(SCALE, 42);
    let others = tables(SCALE, 43);
    for ((made, again), other) in tables(SCALE, 42).iter().zip(&again).zip(&others) {
        let whole = checksum(&rows_of(made, 1));
        assert_eq!(whole, checksum(&rows_of(again, 1)), "{made}");
        if made.parts_max > 1 {
            assert_eq!(whole, checksum(&rows_of(made, 3)), "{made} in parts");
        }
        let other = checksum(&rows_of(other, 1));
        assert!(other != whole || made.name == "dim_dates", "{made} does not depend on the seed");
    }
}

#[test]
fn names_are_those_of_the_tables() {
    assert!(tables(SCALE, 42).iter().map(|table| table.name).eq(NAMES.iter().copied()));
}

#[test]
fn tables_have_the_rows_they_announce() {
    assert_eq!(sales_rows(0.1), 1_000_000);
    let expected = [
        ("dim_dates", 1_826),
        ("dim_customers", 20_000),
        ("dim_products", 5_000),
        ("dim_sellers", 1_000),
        ("dim_promotions", 200),
        ("dim_payments", 20),
        ("fact_sales", 7_000),
    ];
    let made = tables(SCALE, 42);
    for ((name, count), table) in expected.into_iter().zip(&made) {
        assert_eq!((table.name, rows_of(table, 1).num_rows(), table.rows), (name, count, count as u64));
    }
    // At this scale the days cut many orders short.
    let payments = rows_of(&made[7], 1).num_rows();
    assert!((3_000..6_000).contains(&payments), "{payments}");
}

#[test]
fn every_fact_points_at_the_version_valid_then() {
    let facts = [("fact_sales", "sold_at"), ("fact_payments", "paid_at")];
    let dimensions = ["customer", "product", "seller", "promotion", "payment"];
    for (fact, time) in facts {
        let fact = rows(fact, 1);
        for dimension in dimensions {
            let key = format!("{dimension}_key");
            if fact.column_by_name(&key).is_none() {
                continue;
            }
            let rows = rows(&format!("dim_{dimension}s"), 1);
            let (from, to) = (times(&rows, "valid_from"), times(&rows, "valid_to"));
            assert!(longs(&rows, &key).iter().copied().eq(1..=rows.num_rows() as i64));
            for (key, at) in longs(&fact, &key).iter().zip(times(&fact, time)) {
                let version = *key as usize - 1;
                assert!(from[version] <= *at && *at < to[version], "{dimension} {key} at {at}");
            }
        }
    }
}

#[test]
fn versions_of_one_entity_neither_overlap_nor_leave_gaps() {
    for (dimension, id) in [("dim_customers", "customer_id"), ("dim_products", "product_id")] {
        let rows = rows(dimension, 1);
        let (from, to) = (times(&rows, "valid_from"), times(&rows, "valid_to"));
        let current = rows.column_by_name("is_current").unwrap().as_boolean();
        let mut versions: HashMap<&str, Vec<(i64, i64, bool)>> = HashMap::new();
        for (row, id) in rows.column_by_name(id).unwrap().as_string::<i32>().iter().enumerate() {
            versions.entry(id.unwrap()).or_default().push((from[row], to[row], current.value(row)));
        }
        for versions in versions.values_mut() {
            versions.sort_unstable();
            assert!(versions.windows(2).all(|pair| pair[0].1 == pair[1].0 && !pair[0].2));
            let last = versions.last().unwrap();
            assert!(last.2 && last.1 == 4_102_444_800_000_000, "{last:?}");
        }
        let superseded = current.iter().filter(|current| *current == Some(false)).count();
        assert_eq!(superseded * 100, rows.num_rows() * 15);
    }
}

#[test]
fn amounts_are_quantity_times_unit() {
    let sales = rows("fact_sales", 1);
    let [regular, discount, net] =
        ["regular_unit_price", "discount_unit_price", "net_unit_price"].map(|name| cents(&sales, name));
    let [gross, less, paid] = ["extended_sales_amount", "extended_discount_amount", "extended_net_amount"]
        .map(|name| cents(&sales, name));
    let prices = rows("dim_products", 1);
    for row in 0..sales.num_rows() {
        let quantity = i128::from(ints(&sales, "sales_quantity")[row]);
        assert!(quantity >= 1 && regular[row] > 0 && discount[row] >= 0);
        assert_eq!(net[row], regular[row] - discount[row]);
        assert_eq!(gross[row], quantity * regular[row]);
        assert_eq!(less[row], quantity * discount[row]);
        assert_eq!(paid[row], gross[row] - less[row]);
        let product = longs(&sales, "product_key")[row] as usize - 1;
        assert_eq!(regular[row], cents(&prices, "list_price")[product]);
    }
}

#[test]
fn payments_sum_up_to_their_orders() {
    let sum = |batch: &RecordBatch, amount: &str| {
        let mut sums: HashMap<i64, i128> = HashMap::new();
        for (order, amount) in longs(batch, "order_number").iter().zip(cents(batch, amount)) {
            *sums.entry(*order).or_default() += amount;
        }
        sums
    };
    assert_eq!(sum(&rows("fact_sales", 1), "extended_net_amount"), sum(&rows("fact_payments", 1), "amount"));
}

#[test]
fn sales_come_by_time_and_their_dates_agree() {
    let sales = rows("fact_sales", 1);
    assert!(times(&sales, "sold_at").is_sorted());
    assert!(longs(&sales, "sale_id").iter().copied().eq(1..=sales.num_rows() as i64));
    let dates = rows("dim_dates", 1);
    let days = dates.column_by_name("full_date").unwrap().as_primitive::<Date32Type>().values();
    let days: HashMap<i32, i32> =
        ints(&dates, "date_key").iter().copied().zip(days.iter().copied()).collect();
    for (key, at) in ints(&sales, "date_key").iter().zip(times(&sales, "sold_at")) {
        assert_eq!(i64::from(days[key]), at.div_euclid(calendar::DAY_US));
    }
    let payments = rows("fact_payments", 1);
    let ids: HashSet<_> = longs(&payments, "payment_id").iter().collect();
    assert_eq!(ids.len(), payments.num_rows());
}
