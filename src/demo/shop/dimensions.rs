//! The dimensions: dates, customers, products, sellers, promotions, ways to pay.
//!
//! All but dates change slowly (type 2): attributes of an entity stay, those named "changing"
//! differ from version to version. Facts need prices, discounts and windows, which
//! [`Dimensions`] keeps; everything else is made when the rows are.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use chrono::Datelike;

use crate::demo::random::{Random, Weighted};
use crate::demo::shop::calendar::{DAY_US, DAYS, Day, FIRST_DAY, FOREVER, date_of};
use crate::demo::shop::columns::*;
use crate::demo::shop::history::{Arrival, History, Version};
use crate::demo::shop::names::*;
use crate::demo::table::{Batches, Table};

/// Rows of `dim_customers`.
pub const CUSTOMERS: usize = 20_000;
/// Rows of `dim_products`.
pub const PRODUCTS: usize = 5_000;
/// Rows of `dim_sellers`.
pub const SELLERS: usize = 1_000;
/// Rows of `dim_promotions`.
pub const PROMOTIONS: usize = 200;
/// Rows of `dim_payments`.
pub const PAYMENTS: usize = 20;

/// The promotion that stands for none.
pub const NO_PROMOTION: usize = 0;

/// What facts need to know of the dimensions.
pub struct Dimensions {
    seed: u64,
    pub(super) customers: History,
    pub(super) products: History,
    pub(super) sellers: History,
    pub(super) promotions: History,
    pub(super) payments: History,
    /// List price in cents by product key - 1.
    pub(super) prices: Vec<i64>,
    /// Discount in hundredths of a percent by promotion key - 1.
    pub(super) discounts: Vec<i64>,
    /// First and last day of each promotion.
    pub(super) windows: Vec<(i32, i32)>,
    pub(super) customer_weights: Weighted,
    pub(super) product_weights: Weighted,
    pub(super) seller_weights: Weighted,
    pub(super) payment_weights: Weighted,
}

impl Dimensions {
    /// The dimensions of a seed.
    pub fn generate(seed: u64) -> Self {
        let customers = History::generate(seed, "customers", CUSTOMERS, Arrival::Over(45));
        let products = History::generate(seed, "products", PRODUCTS, Arrival::Over(60));
        let sellers = History::generate(seed, "sellers", SELLERS, Arrival::Over(50));
        let promotions = History::generate(seed, "promotions", PROMOTIONS, Arrival::Before);
        let payments = History::generate(seed, "payments", PAYMENTS, Arrival::Before);
        let prices = products.versions().iter().map(|version| price(seed, *version)).collect();
        let discounts = promotions.versions().iter().map(|version| discount(seed, *version)).collect();
        let windows = (0..promotions.entities()).map(|entity| window(seed, entity)).collect();
        let mut random = Random::new(seed, "weights", 0);
        let customer_weights = Weighted::skewed(&mut random, customers.entities(), 400);
        let product_weights = Weighted::skewed(&mut random, products.entities(), 60);
        let seller_weights = Weighted::skewed(&mut random, sellers.entities(), 25);
        let payment_weights = Weighted::new(PAYMENT_METHODS.iter().map(|method| method.4));
        Self {
            seed,
            customers,
            products,
            sellers,
            promotions,
            payments,
            prices,
            discounts,
            windows,
            customer_weights,
            product_weights,
            seller_weights,
            payment_weights,
        }
    }

    /// Promotions that run on a day, the one for none left out.
    pub(super) fn promotions_on(&self, day: i32) -> Vec<usize> {
        let runs = |entity: &usize| (self.windows[*entity].0..=self.windows[*entity].1).contains(&day);
        (NO_PROMOTION + 1..self.windows.len()).filter(runs).collect()
    }
}

/// The tables of dimensions.
pub fn tables(dimensions: &Arc<Dimensions>) -> Vec<Table> {
    let made = |name, rows: usize, make: fn(&Dimensions) -> RecordBatch| {
        let dimensions = Arc::clone(dimensions);
        let schema = make(&dimensions).schema();
        let generate = move |_: usize, _: usize| Box::new(std::iter::once(Ok(make(&dimensions)))) as Batches;
        Table {
            schema_name: "shop",
            name,
            schema,
            partition: Vec::new(),
            rows: rows as u64,
            parts_max: 1,
            generate: Arc::new(generate),
        }
    };
    vec![
        made("dim_dates", DAYS, |_| dates()),
        made("dim_customers", CUSTOMERS, customers),
        made("dim_products", PRODUCTS, products),
        made("dim_sellers", SELLERS, sellers),
        made("dim_promotions", PROMOTIONS, promotions),
        made("dim_payments", PAYMENTS, payments),
    ]
}

fn dates() -> RecordBatch {
    let days: Vec<_> = (0..DAYS).map(Day::at).collect();
    let of = |value: fn(&Day) -> i32| int32(days.iter().map(value));
    let formatted =
        |format: &'static str| text(days.iter().map(move |day| day.date.format(format).to_string()));
    let quarter = |day: &Day| day.date.month0() as i32 / 3 + 1;
    let columns = [
        ("date_key", DataType::Int32, "yyyymmdd", of(Day::key)),
        ("full_date", DataType::Date32, "", date(days.iter().map(|day| day.epoch))),
        ("year", DataType::Int32, "", of(|day| day.date.year())),
        ("quarter", DataType::Int32, "1 to 4", int32(days.iter().map(quarter))),
        (
            "year_quarter",
            DataType::Utf8,
            "such as 2024-Q1",
            text(days.iter().map(|day| format!("{}-Q{}", day.date.year(), quarter(day)))),
        ),
        ("month", DataType::Int32, "1 to 12", of(|day| day.date.month() as i32)),
        ("month_name", DataType::Utf8, "", formatted("%B")),
        ("year_month", DataType::Utf8, "such as 2024-01", formatted("%Y-%m")),
        ("week_of_year", DataType::Int32, "ISO 8601", of(|day| day.date.iso_week().week() as i32)),
        ("day_of_month", DataType::Int32, "", of(|day| day.date.day() as i32)),
        ("day_of_year", DataType::Int32, "", of(|day| day.date.ordinal() as i32)),
        (
            "day_of_week",
            DataType::Int32,
            "1 is Monday",
            of(|day| day.date.weekday().number_from_monday() as i32),
        ),
        ("weekday", DataType::Utf8, "", formatted("%A")),
        (
            "is_weekend",
            DataType::Boolean,
            "",
            boolean(days.iter().map(|day| day.date.weekday().number_from_monday() > 5)),
        ),
        ("is_holiday", DataType::Boolean, "", boolean(days.iter().map(Day::is_holiday))),
    ];
    batch(columns.into())
}

fn customers(all: &Dimensions) -> RecordBatch {
    struct Customer {
        first: &'static str,
        last: &'static str,
        email: Option<String>,
        birth: Option<i32>,
        city: (&'static str, &'static str),
        segment: &'static str,
        tier: &'static str,
    }
    let segments = Weighted::new([58, 20, 12, 8, 2]);
    let rows = rows(&all.customers, |version| {
        let mut random = Random::new(all.seed, "customer", version.entity as u64);
        let first = random.pick(FIRST_NAMES);
        let last = random.pick(LAST_NAMES);
        let address = format!("{first}.{last}{}@example.com", version.entity + 1).to_lowercase();
        let email = (!random.percent(6)).then_some(address);
        let birth = random.between(-14_600, 13_800) as i32;
        let birth = (!random.percent(9)).then_some(birth);
        let mut segment = SEGMENTS[segments.draw(&mut random)];
        // Few cities have many customers.
        let mut city =
            CITIES[random.below(CITIES.len() as u64).min(random.below(CITIES.len() as u64)) as usize];
        let mut tier = random.below(3).min(random.below(3)) as usize;
        for _ in 0..version.number {
            // Changing: they move, rise, or become someone else to us.
            match random.below(10) {
                0..4 => city = random.pick(CITIES),
                4..9 => tier = (tier + 1).min(LOYALTY_TIERS.len() - 1),
                _ => segment = random.pick(SEGMENTS),
            }
        }
        Customer { first, last, email, birth, city, segment, tier: LOYALTY_TIERS[tier] }
    });
    let history = &all.customers;
    let mut columns = vec![
        ("customer_key", DataType::Int64, "one version of a customer", keys(history)),
        ("customer_id", DataType::Utf8, "the customer", ids(history, "C", 7)),
        ("first_name", DataType::Utf8, "", text(rows.iter().map(|row| row.first))),
        ("last_name", DataType::Utf8, "", text(rows.iter().map(|row| row.last))),
        (
            "customer_name",
            DataType::Utf8,
            "first and last name",
            text(rows.iter().map(|row| format!("{} {}", row.first, row.last))),
        ),
        ("email?", DataType::Utf8, "", text_or_null(rows.iter().map(|row| row.email.clone()))),
        ("birth_date?", DataType::Date32, "", date_or_null(rows.iter().map(|row| row.birth))),
        ("city", DataType::Utf8, "", text(rows.iter().map(|row| row.city.0))),
        ("country", DataType::Utf8, "", text(rows.iter().map(|row| row.city.1))),
        ("segment", DataType::Utf8, "", text(rows.iter().map(|row| row.segment))),
        ("loyalty_tier", DataType::Utf8, "", text(rows.iter().map(|row| row.tier))),
    ];
    columns.extend(validity(history));
    batch(columns)
}

fn products(all: &Dimensions) -> RecordBatch {
    struct Product {
        name: String,
        category: &'static str,
        subcategory: &'static str,
        brand: &'static str,
        color: &'static str,
    }
    let rows = rows(&all.products, |version| {
        let mut random = Random::new(all.seed, "product", version.entity as u64);
        let index = category_of(version.entity);
        let (category, subcategories, nouns, _) = CATEGORIES[index];
        let subcategory = random.pick(subcategories);
        // A brand is at home in some categories.
        let brand = BRANDS[(index * 7 + random.below(9) as usize * 5) % BRANDS.len()];
        let color = random.pick(COLORS);
        let (adjective, noun) = (random.pick(ADJECTIVES), random.pick(nouns));
        let name = format!("{brand} {adjective} {noun} {}", 100 + random.below(900));
        Product { name, category, subcategory, brand, color }
    });
    let history = &all.products;
    let launched = history.versions().iter().map(|version| history.first_day(version.entity));
    let mut columns = vec![
        ("product_key", DataType::Int64, "one version of a product", keys(history)),
        ("product_id", DataType::Utf8, "the product", ids(history, "P", 5)),
        ("product_name", DataType::Utf8, "", text(rows.iter().map(|row| &row.name))),
        ("category", DataType::Utf8, "", text(rows.iter().map(|row| row.category))),
        ("subcategory", DataType::Utf8, "", text(rows.iter().map(|row| row.subcategory))),
        ("brand", DataType::Utf8, "", text(rows.iter().map(|row| row.brand))),
        ("color", DataType::Utf8, "", text(rows.iter().map(|row| row.color))),
        ("list_price", PRICE, "price of this version", decimal(10, all.prices.iter().copied())),
        ("launched_on", DataType::Date32, "", date(launched)),
    ];
    columns.extend(validity(history));
    batch(columns)
}

fn sellers(all: &Dimensions) -> RecordBatch {
    let rows = rows(&all.sellers, |version| {
        let mut random = Random::new(all.seed, "seller", version.entity as u64);
        let name = format!("{} {}", random.pick(LAST_NAMES), random.pick(SELLER_SUFFIXES));
        let city = random.pick(CITIES);
        let mut tier = random.below(3) as usize;
        let mut rating = random.between(310, 490);
        for _ in 0..version.number {
            tier = (tier + 1).min(SELLER_TIERS.len() - 1);
            rating = (rating + random.between(-30, 40)).clamp(100, 500);
        }
        (name, city, SELLER_TIERS[tier], rating)
    });
    let history = &all.sellers;
    let joined = history.versions().iter().map(|version| history.first_day(version.entity));
    let mut columns = vec![
        ("seller_key", DataType::Int64, "one version of a seller", keys(history)),
        ("seller_id", DataType::Utf8, "the seller", ids(history, "S", 4)),
        ("seller_name", DataType::Utf8, "", text(rows.iter().map(|row| &row.0))),
        ("city", DataType::Utf8, "", text(rows.iter().map(|row| row.1.0))),
        ("country", DataType::Utf8, "", text(rows.iter().map(|row| row.1.1))),
        ("tier", DataType::Utf8, "", text(rows.iter().map(|row| row.2))),
        ("rating", SMALL_DECIMAL, "1 to 5", decimal(5, rows.iter().map(|row| row.3))),
        ("joined_on", DataType::Date32, "", date(joined)),
    ];
    columns.extend(validity(history));
    batch(columns)
}

fn promotions(all: &Dimensions) -> RecordBatch {
    let rows = rows(&all.promotions, |version| {
        if version.entity == NO_PROMOTION {
            return ("No promotion".to_string(), "none");
        }
        let mut random = Random::new(all.seed, "promotion name", version.entity as u64);
        let kind = random.pick(PROMOTION_TYPES);
        let starts = date_of(all.windows[version.entity].0);
        let mut title = kind.to_string();
        title[..1].make_ascii_uppercase();
        (format!("{title} {} {}", starts.format("%b %Y"), version.entity), kind)
    });
    let history = &all.promotions;
    let window = |version: &Version| all.windows[version.entity];
    let mut columns = vec![
        ("promotion_key", DataType::Int64, "one version of a promotion", keys(history)),
        ("promotion_id", DataType::Utf8, "the promotion", ids(history, "PR", 4)),
        ("promotion_name", DataType::Utf8, "", text(rows.iter().map(|row| &row.0))),
        ("promotion_type", DataType::Utf8, "", text(rows.iter().map(|row| row.1))),
        ("discount_percent", SMALL_DECIMAL, "", decimal(5, all.discounts.iter().copied())),
        ("starts_on", DataType::Date32, "", date(history.versions().iter().map(|version| window(version).0))),
        ("ends_on", DataType::Date32, "", date(history.versions().iter().map(|version| window(version).1))),
    ];
    columns.extend(validity(history));
    batch(columns)
}

fn payments(all: &Dimensions) -> RecordBatch {
    let history = &all.payments;
    let rows = rows(history, |version| {
        let (method, provider, online, fee, _) = PAYMENT_METHODS[version.entity];
        (method, provider, online, fee + 15 * version.number as i64)
    });
    let mut columns = vec![
        ("payment_key", DataType::Int64, "one version of a way to pay", keys(history)),
        ("payment_method_id", DataType::Utf8, "the way to pay", ids(history, "M", 2)),
        ("payment_method", DataType::Utf8, "", text(rows.iter().map(|row| row.0))),
        ("provider", DataType::Utf8, "", text(rows.iter().map(|row| row.1))),
        ("is_online", DataType::Boolean, "", boolean(rows.iter().map(|row| row.2))),
        ("fee_percent", SMALL_DECIMAL, "", decimal(5, rows.iter().map(|row| row.3))),
    ];
    columns.extend(validity(history));
    batch(columns)
}

/// Goods of each category come in turn, so that each has as many.
fn category_of(product: usize) -> usize {
    product % CATEGORIES.len()
}

/// The list price of a version in cents: cheap things are common; changes are some percent.
fn price(seed: u64, version: Version) -> i64 {
    let mut random = Random::new(seed, "price", version.entity as u64);
    let (low, high) = CATEGORIES[category_of(version.entity)].3;
    let share = random.below(1_000) as i64 * random.below(1_000) as i64;
    let mut price = low + (high - low) * share / 1_000_000;
    for _ in 0..version.number {
        price = price * random.between(90, 118) / 100;
    }
    // Prices end in 9.
    price.max(low) / 10 * 10 + 9
}

/// The discount of a version in hundredths of a percent.
fn discount(seed: u64, version: Version) -> i64 {
    if version.entity == NO_PROMOTION {
        return 0;
    }
    let mut random = Random::new(seed, "discount", version.entity as u64);
    let percent = random.pick(&[5, 5, 10, 10, 10, 15, 15, 20, 20, 25, 30, 40, 50]);
    (percent + 5 * version.number as i64).min(60) * 100
}

/// The first and last day of a promotion: some weeks, spread over all years.
fn window(seed: u64, entity: usize) -> (i32, i32) {
    if entity == NO_PROMOTION {
        return (FIRST_DAY, FOREVER);
    }
    let mut random = Random::new(seed, "window", entity as u64);
    let first = FIRST_DAY + random.between(-10, DAYS as i64 - 10) as i32;
    (first, first + random.between(6, 90) as i32)
}

fn rows<T>(history: &History, make: impl Fn(&Version) -> T) -> Vec<T> {
    history.versions().iter().map(make).collect()
}

fn keys(history: &History) -> ArrayRef {
    int64((0..history.versions().len() as i64).map(|index| index + 1))
}

fn ids(history: &History, prefix: &str, digits: usize) -> ArrayRef {
    text(history.versions().iter().map(|version| format!("{prefix}{:0digits$}", version.entity + 1)))
}

type Column = (&'static str, DataType, &'static str, ArrayRef);

/// What every dimension of type 2 ends with.
fn validity(history: &History) -> [Column; 3] {
    let versions = history.versions();
    let midnight = |day: i32| i64::from(day) * DAY_US;
    [
        (
            "valid_from",
            TIMESTAMP,
            "inclusive",
            timestamp(versions.iter().map(|version| midnight(version.from))),
        ),
        (
            "valid_to",
            TIMESTAMP,
            "exclusive; 2100-01-01 for the current version",
            timestamp(versions.iter().map(|version| midnight(version.to))),
        ),
        ("is_current", DataType::Boolean, "", boolean(versions.iter().map(|version| version.to == FOREVER))),
    ]
}

fn batch(columns: Vec<Column>) -> RecordBatch {
    let declared: Vec<_> =
        columns.iter().map(|(name, data_type, comment, _)| (*name, data_type.clone(), *comment)).collect();
    let arrays = columns.into_iter().map(|(_, _, _, array)| array).collect();
    RecordBatch::try_new(schema(&declared), arrays).expect("columns fit their own declarations")
}
