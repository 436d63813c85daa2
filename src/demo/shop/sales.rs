//! The facts: items sold, and payments for their orders.
//!
//! A day is the unit: it is made alone, from its own random stream, so parts may start at any
//! day, and the payments of a day see the very orders that its sales do. Days of one month
//! share a batch while they fit, so that each batch goes into one file. Each key points at
//! the version valid on that day. Amounts are in cents; `extended_*` is quantity × unit.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tarn_catalog::NewPartitionField;
use tarn_scan::write::Transform;

use crate::demo::random::{Random, Weighted};
use crate::demo::shop::calendar::{DAY_US, DAYS, Day, MONTHS, shares};
use crate::demo::shop::columns::*;
use crate::demo::shop::dimensions::{Dimensions, NO_PROMOTION};
use crate::demo::shop::names::GIFT_CARD;
use crate::demo::table::{BATCH_ROWS, Batches, Table};

/// Orders take so many numbers a day at most.
const ORDERS_A_DAY_MAX: i64 = 10_000_000;

/// Everything that facts are made from.
pub struct Sales {
    seed: u64,
    dimensions: Arc<Dimensions>,
    /// Rows up to and including each day.
    shares: Vec<u64>,
    hours: Weighted,
    lines: Weighted,
    quantities: Weighted,
}

/// One item sold.
#[derive(Debug, Clone)]
struct Line {
    order: usize,
    number: i32,
    product_key: i64,
    seller_key: i64,
    promotion_key: i64,
    quantity: i64,
    price: i64,
    discount: i64,
}

/// One order.
#[derive(Debug, Clone)]
struct Order {
    number: i64,
    sold_at: i64,
    customer_key: i64,
    payment: usize,
    payment_key: i64,
    /// What its items cost, discounts taken off.
    total: i64,
}

/// The orders of one day, by time, and their items.
struct DaySales {
    day: Day,
    first_sale: u64,
    orders: Vec<Order>,
    lines: Vec<Line>,
}

impl Sales {
    /// Facts with `rows` items sold.
    pub fn new(seed: u64, rows: u64, dimensions: Arc<Dimensions>) -> Self {
        Self {
            seed,
            dimensions,
            shares: shares(rows),
            hours: Weighted::new([
                8, 5, 3, 2, 2, 3, 6, 12, 22, 34, 42, 46, 50, 47, 44, 43, 45, 52, 62, 74, 78, 66, 42, 20,
            ]),
            lines: Weighted::new([45, 25, 14, 8, 5, 3]),
            quantities: Weighted::new([700, 160, 70, 30, 15, 10, 5, 4, 3, 3]),
        }
    }

    /// Items sold before a day of the calendar.
    fn sold_before(&self, day: usize) -> u64 {
        if day == 0 { 0 } else { self.shares[day - 1] }
    }

    fn rows(&self) -> u64 {
        self.shares[DAYS - 1]
    }

    /// The days of one of so many parts: whole months, about as many rows in each part.
    fn days(&self, part: usize, parts: usize) -> std::ops::Range<usize> {
        let start = |part: usize| {
            let wanted = self.rows() * part as u64 / parts as u64;
            let mut months =
                (0..MONTHS).map(|month| (0..DAYS).position(|day| Day::at(day).month_index() == month));
            let first = months.find_map(|day| day.filter(|day| self.sold_before(*day) >= wanted));
            if part == parts { DAYS } else { first.unwrap_or(DAYS) }
        };
        start(part)..start(part + 1)
    }

    /// Cuts days into groups of one month each, of as many days as fit into a batch.
    fn groups(&self, days: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        for day in days {
            let fits = groups.last().is_some_and(|group| {
                Day::at(group.start).month_index() == Day::at(day).month_index()
                    && self.shares[day] - self.sold_before(group.start) <= BATCH_ROWS as u64
            });
            match groups.last_mut() {
                Some(group) if fits => group.end = day + 1,
                _ => groups.push(day..day + 1),
            }
        }
        groups
    }

    fn day(&self, index: usize) -> DaySales {
        let day = Day::at(index);
        let first_sale = self.sold_before(index);
        let rows = (self.shares[index] - first_sale) as usize;
        let mut random = Random::new(self.seed, "sales", index as u64);
        let mut sizes = Vec::new();
        let mut left = rows;
        while left > 0 {
            let size = (1 + self.lines.draw(&mut random)).min(left);
            sizes.push(size);
            left -= size;
        }
        assert!(sizes.len() as i64 <= ORDERS_A_DAY_MAX, "the scale is too large for the order numbers");
        let mut times: Vec<_> = sizes.iter().map(|_| self.time_of_day(&mut random)).collect();
        times.sort_unstable();

        let promotions = self.dimensions.promotions_on(day.epoch);
        let mut sales = DaySales { day, first_sale, orders: Vec::new(), lines: Vec::with_capacity(rows) };
        for (index, (size, time)) in sizes.into_iter().zip(times).enumerate() {
            let first = sales.lines.len();
            for number in 1..=size as i32 {
                sales.lines.push(self.line(&mut random, &day, &promotions, index, number));
            }
            let total = sales.lines[first..].iter().map(Line::net).sum();
            sales.orders.push(self.order(&mut random, &day, index, time, total));
        }
        sales
    }

    /// Microseconds since midnight, on a whole second.
    fn time_of_day(&self, random: &mut Random) -> i64 {
        let hour = self.hours.draw(random) as i64;
        (hour * 3_600 + random.between(0, 3_599)) * 1_000_000
    }

    fn order(&self, random: &mut Random, day: &Day, index: usize, time: i64, total: i64) -> Order {
        let all = &self.dimensions;
        let customer = all.customer_weights.draw_below(random, all.customers.entities_on(day.epoch));
        let payment = all.payment_weights.draw(random);
        Order {
            number: i64::from(day.key()) * ORDERS_A_DAY_MAX + index as i64 + 1,
            sold_at: i64::from(day.epoch) * DAY_US + time,
            customer_key: all.customers.key_on(customer, day.epoch),
            payment,
            payment_key: all.payments.key_on(payment, day.epoch),
            total,
        }
    }

    fn line(&self, random: &mut Random, day: &Day, promotions: &[usize], order: usize, number: i32) -> Line {
        let all = &self.dimensions;
        let product = all.product_weights.draw_below(random, all.products.entities_on(day.epoch));
        let seller = all.seller_weights.draw_below(random, all.sellers.entities_on(day.epoch));
        // People look for discounts when the year ends.
        let share = if day.month_index() % 12 >= 10 { 52 } else { 28 };
        let promoted = random.percent(share) && !promotions.is_empty();
        let promotion = if promoted { random.pick(promotions) } else { NO_PROMOTION };
        let product_key = all.products.key_on(product, day.epoch);
        let promotion_key = all.promotions.key_on(promotion, day.epoch);
        let price = all.prices[product_key as usize - 1];
        let discount = (price * all.discounts[promotion_key as usize - 1] + 5_000) / 10_000;
        Line {
            order,
            number,
            product_key,
            seller_key: all.sellers.key_on(seller, day.epoch),
            promotion_key,
            quantity: 1 + self.quantities.draw(random) as i64,
            price,
            discount,
        }
    }

    /// The payments of an order: one, or a gift card and the rest.
    fn payments(&self, day: &Day, random: &mut Random, order: &Order) -> Vec<Payment> {
        let end = i64::from(day.epoch + 1) * DAY_US - 1_000_000;
        let status = if random.percent(3) { "refunded" } else { "paid" };
        let paid_at = (order.sold_at + random.between(1, 180) * 1_000_000).min(end);
        let installments = if random.percent(88) { 1 } else { random.pick(&[2, 3, 3, 6, 12]) };
        let whole = |key, amount| Payment { number: 1, key, paid_at, amount, installments, status };
        if order.payment == GIFT_CARD || order.total < 100 || !random.percent(6) {
            return vec![whole(order.payment_key, order.total)];
        }
        let part = order.total * random.between(10, 60) / 100;
        let card = self.dimensions.payments.key_on(GIFT_CARD, day.epoch);
        let gift = Payment { number: 2, key: card, paid_at, amount: part, installments: 1, status };
        vec![whole(order.payment_key, order.total - part), gift]
    }
}

impl Line {
    fn net(&self) -> i64 {
        self.quantity * (self.price - self.discount)
    }
}

struct Payment {
    number: i32,
    key: i64,
    paid_at: i64,
    amount: i64,
    installments: i32,
    status: &'static str,
}

/// `fact_sales` and `fact_payments`.
pub fn tables(sales: &Arc<Sales>) -> Vec<Table> {
    let fact = |name, by: &str, rows, schema: SchemaRef, make: Make| {
        let sales = Arc::clone(sales);
        let given = Arc::clone(&schema);
        let month = NewPartitionField { column: by.to_string(), transform: Transform::Month, name: None };
        let generate = move |part: usize, parts: usize| {
            let sales = Arc::clone(&sales);
            let schema = Arc::clone(&given);
            let groups = sales.groups(sales.days(part, parts));
            Box::new(groups.into_iter().flat_map(move |days| batches(&sales, &schema, days, make))) as Batches
        };
        Table {
            schema_name: "shop",
            name,
            schema,
            partition: vec![month],
            rows,
            parts_max: MONTHS,
            generate: Arc::new(generate),
        }
    };
    // An order has 2.12 items, and one in 17 two payments.
    let payments = sales.rows() / 2;
    vec![
        fact("fact_sales", "sold_at", sales.rows(), sales_schema(), sales_columns),
        fact("fact_payments", "paid_at", payments, payments_schema(), payments_columns),
    ]
}

/// Makes the columns of some days.
type Make = fn(&Sales, &[DaySales]) -> Vec<ArrayRef>;

/// The rows of some days, cut into batches.
fn batches(
    sales: &Sales,
    schema: &SchemaRef,
    days: std::ops::Range<usize>,
    make: Make,
) -> Vec<Result<RecordBatch, ArrowError>> {
    let days: Vec<_> = days.map(|index| sales.day(index)).collect();
    let whole = match RecordBatch::try_new(Arc::clone(schema), make(sales, &days)) {
        Ok(whole) => whole,
        Err(error) => return vec![Err(error)],
    };
    let starts = (0..whole.num_rows()).step_by(BATCH_ROWS);
    starts.map(|start| Ok(whole.slice(start, BATCH_ROWS.min(whole.num_rows() - start)))).collect()
}

fn sales_schema() -> SchemaRef {
    schema(&[
        ("sale_id", DataType::Int64, "one item sold"),
        ("order_number", DataType::Int64, "the order it belongs to"),
        ("order_line", DataType::Int32, "its place in the order, from 1"),
        ("sold_at", TIMESTAMP, ""),
        ("date_key", DataType::Int32, "to dim_dates"),
        ("customer_key", DataType::Int64, "to dim_customers, the version valid at sold_at"),
        ("product_key", DataType::Int64, "to dim_products, the version valid at sold_at"),
        ("seller_key", DataType::Int64, "to dim_sellers, the version valid at sold_at"),
        ("promotion_key", DataType::Int64, "to dim_promotions, the version valid at sold_at"),
        ("payment_key", DataType::Int64, "to dim_payments, the version valid at sold_at"),
        ("sales_quantity", DataType::Int32, ""),
        ("regular_unit_price", PRICE, "list price"),
        ("discount_unit_price", PRICE, "taken off the list price"),
        ("net_unit_price", PRICE, "regular less discount"),
        ("extended_sales_amount", AMOUNT, "quantity × regular unit price"),
        ("extended_discount_amount", AMOUNT, "quantity × discount unit price"),
        ("extended_net_amount", AMOUNT, "quantity × net unit price"),
    ])
}

fn sales_columns(_: &Sales, days: &[DaySales]) -> Vec<ArrayRef> {
    let first = days.first().map_or(0, |day| day.first_sale as i64) + 1;
    let count: usize = days.iter().map(|day| day.lines.len()).sum();
    let lines = || days.iter().flat_map(|day| &day.lines);
    let orders = || days.iter().flat_map(|day| day.lines.iter().map(|line| &day.orders[line.order]));
    let keys = days.iter().flat_map(|day| std::iter::repeat_n(day.day.key(), day.lines.len()));
    vec![
        int64(first..first + count as i64),
        int64(orders().map(|order| order.number)),
        int32(lines().map(|line| line.number)),
        timestamp(orders().map(|order| order.sold_at)),
        int32(keys),
        int64(orders().map(|order| order.customer_key)),
        int64(lines().map(|line| line.product_key)),
        int64(lines().map(|line| line.seller_key)),
        int64(lines().map(|line| line.promotion_key)),
        int64(orders().map(|order| order.payment_key)),
        int32(lines().map(|line| line.quantity as i32)),
        decimal(10, lines().map(|line| line.price)),
        decimal(10, lines().map(|line| line.discount)),
        decimal(10, lines().map(|line| line.price - line.discount)),
        decimal(12, lines().map(|line| line.quantity * line.price)),
        decimal(12, lines().map(|line| line.quantity * line.discount)),
        decimal(12, lines().map(Line::net)),
    ]
}

fn payments_schema() -> SchemaRef {
    schema(&[
        ("payment_id", DataType::Int64, "one payment"),
        ("order_number", DataType::Int64, "the order it pays"),
        ("payment_sequence", DataType::Int32, "its place among the payments of the order, from 1"),
        ("paid_at", TIMESTAMP, ""),
        ("date_key", DataType::Int32, "to dim_dates"),
        ("customer_key", DataType::Int64, "to dim_customers, the version valid at paid_at"),
        ("payment_key", DataType::Int64, "to dim_payments, the version valid at paid_at"),
        ("installments", DataType::Int32, ""),
        ("amount", AMOUNT, "the payments of an order sum up to its net amounts"),
        ("status", DataType::Utf8, "paid or refunded"),
    ])
}

fn payments_columns(sales: &Sales, days: &[DaySales]) -> Vec<ArrayRef> {
    let mut rows = Vec::new();
    for day in days {
        let mut random = Random::new(sales.seed, "payments of sales", day.day.index as u64);
        for order in &day.orders {
            let payments = sales.payments(&day.day, &mut random, order);
            rows.extend(payments.into_iter().map(|payment| (day.day.key(), order, payment)));
        }
    }
    vec![
        int64(rows.iter().map(|(_, order, payment)| order.number * 10 + i64::from(payment.number))),
        int64(rows.iter().map(|(_, order, _)| order.number)),
        int32(rows.iter().map(|(.., payment)| payment.number)),
        timestamp(rows.iter().map(|(.., payment)| payment.paid_at)),
        int32(rows.iter().map(|(key, ..)| *key)),
        int64(rows.iter().map(|(_, order, _)| order.customer_key)),
        int64(rows.iter().map(|(.., payment)| payment.key)),
        int32(rows.iter().map(|(.., payment)| payment.installments)),
        decimal(12, rows.iter().map(|(.., payment)| payment.amount)),
        text(rows.iter().map(|(.., payment)| payment.status)),
    ]
}
