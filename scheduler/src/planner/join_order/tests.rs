//! Which orders are chosen, on what estimates, and that rows and columns stay as they were.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::relation::{Values, distinct_of_equals, pairs_of_keys};
use super::*;

#[tokio::test]
async fn a_star_begins_with_the_dimension_that_filters_most() {
    let lakehouse = Tables::default()
        .with("fact", 1_000_000, &[("a", 0, 999), ("b", 0, 9_999), ("c", 0, 99)])
        .with("one", 1_000, &[("a", 0, 999), ("v", 0, 9)])
        .with("two", 10_000, &[("b", 0, 9_999), ("v", 0, 999)])
        .with("three", 100, &[("c", 0, 99)]);
    let sql = "select count(*) from fact, one, two, three
         where fact.a = one.a and fact.b = two.b and fact.c = three.c and two.v = 7";
    let shape = lakehouse.shape(sql).await;
    assert!(shape.contains("(two fact)"), "{shape}");
}

#[tokio::test]
async fn a_chain_is_joined_without_cross_joins_whatever_the_order() {
    let mut tables = Tables::default();
    for (place, rows) in [10, 1_000_000, 20, 500_000, 30, 100_000].iter().enumerate() {
        tables = tables.with(&format!("t{place}"), *rows, &[("a", 0, 999_999), ("b", 0, 999_999)]);
    }
    let plan = tables
        .plan(
            "select t0.a from t0, t2, t4, t1, t3, t5
             where t0.b = t1.a and t1.b = t2.a and t2.b = t3.a and t3.b = t4.a and t4.b = t5.a",
        )
        .await;
    assert_eq!(keys(&plan), [1, 1, 1, 1, 1], "{plan}");
}

#[tokio::test]
async fn every_condition_of_a_cycle_is_kept() {
    let tables = Tables::default()
        .with("x", 100_000, &[("a", 0, 99_999), ("b", 0, 99_999)])
        .with("y", 1_000, &[("b", 0, 999), ("c", 0, 999)])
        .with("z", 10, &[("c", 0, 9), ("a", 0, 9)]);
    let plan = tables.plan("select * from x, y, z where x.b = y.b and y.c = z.c and z.a = x.a").await;
    assert_eq!(keys(&plan).iter().sum::<usize>(), 3, "{plan}");
}

#[tokio::test]
async fn relations_without_a_key_are_joined_last() {
    let tables = Tables::default().with("x", 1_000, &[("a", 0, 999)]).with("y", 2, &[("a", 0, 1)]).with(
        "z",
        100_000,
        &[("a", 0, 999)],
    );
    assert_eq!(tables.shape("select 1 from x, y, z where x.a = z.a").await, "(y (x z))");
    // A condition that is no key is nothing to hash by, but it is kept.
    let plan = tables.plan("select 1 from x, y, z where x.a = z.a and x.a < y.a").await;
    assert_eq!(shape(&plan), "(y (x z))", "{plan}");
    assert!(plan.display_indent().to_string().contains("y.a > x.a"), "{plan}");
}

#[tokio::test]
async fn what_follows_from_two_equalities_is_a_key() {
    let tables = Tables::default()
        .with("large", 10_000, &[("a", 0, 999)])
        .with("small", 100, &[("a", 0, 999)])
        .with("little", 50, &[("a", 0, 999)]);
    let sql = "select 1 from small, large, little where small.a = large.a and large.a = little.a";
    assert_eq!(tables.shape(sql).await, "((little small) large)");
}

#[tokio::test]
async fn the_smaller_side_is_built() {
    let tables =
        Tables::default().with("large", 1_000_000, &[("a", 0, 99)]).with("small", 100, &[("a", 0, 99)]);
    assert_eq!(tables.shape("select 1 from large join small on large.a = small.a").await, "(small large)");
    assert_eq!(tables.shape("select 1 from small join large on large.a = small.a").await, "(small large)");
}

#[tokio::test]
async fn a_relation_of_unknown_rows_leaves_all_as_written() {
    let tables = Tables::default()
        .with("large", 1_000_000, &[("a", 0, 99)])
        .with("small", 100, &[("a", 0, 99)])
        .unknown("dark", &["a"]);
    let sql = "select 1 from large join small on large.a = small.a join dark on dark.a = small.a";
    assert_eq!(tables.shape(sql).await, "((large small) dark)");
}

#[tokio::test]
async fn a_session_may_keep_its_own_order() {
    let tables =
        Tables::default().with("large", 1_000_000, &[("a", 0, 99)]).with("small", 100, &[("a", 0, 99)]);
    let context = tables.context(JoinOrder::Written);
    let plan = context.sql("select 1 from large join small on large.a = small.a").await.unwrap();
    let plan = context.state().optimize(plan.logical_plan()).unwrap();
    let plan = ordered(&context.state(), plan).await.unwrap();
    assert_eq!(shape(&plan), "(large small)");
}

#[tokio::test]
async fn joins_are_ordered_on_both_sides_of_an_outer_one() {
    let tables = Tables::default().with("large", 1_000_000, &[("a", 0, 99), ("b", 0, 99)]).with(
        "small",
        100,
        &[("a", 0, 99), ("b", 0, 99)],
    );
    let sql = "select * from (large l1 join small s1 on l1.a = s1.a)
         left join (large l2 join small s2 on l2.a = s2.a) on l1.b = l2.b";
    assert_eq!(tables.shape(sql).await, "((small large) (small large))");
}

#[tokio::test]
async fn a_semi_join_goes_to_the_relation_that_it_filters() {
    let tables = Tables::default()
        .with("lines", 6_000_000, &[("o", 1, 6_000_000)])
        .with("orders", 1_500_000, &[("o", 1, 6_000_000), ("c", 1, 150_000)])
        .with("few", 50, &[("o", 1, 6_000_000)])
        .with("many", 2_000_000, &[("o", 1, 6_000_000)]);
    let joined = "select * from orders, lines where orders.o = lines.o";
    for (condition, order) in [
        ("orders.o in (select o from few)", "((orders few) lines)"),
        ("not exists (select 1 from few where few.o = orders.c)", "((orders few) lines)"),
        // All lines would be looked up for the sake of a few orders.
        ("orders.c < 10 and lines.o in (select o from many)", "((orders lines) many)"),
    ] {
        assert_eq!(tables.shape(&format!("{joined} and {condition}")).await, order, "{condition}");
    }
}

#[tokio::test]
async fn namesakes_below_aliases_are_told_apart() {
    let tables = Tables::default().with("large", 1_000_000, &[("a", 0, 99), ("b", 0, 99)]).with(
        "small",
        100,
        &[("a", 0, 99), ("b", 0, 99)],
    );
    let sql = "select * from (select l.a, s.b from large l join small s on l.a = s.a) x
         join (select l.b, s.a from large l join small s on l.b = s.b) y on x.a = y.a";
    let plan = tables.plan(sql).await;
    let names: Vec<_> = plan.schema().columns().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["x.a", "x.b", "y.b", "y.a"]);
}

#[tokio::test]
async fn an_order_that_was_chosen_is_kept() {
    let tables = Tables::default()
        .with("fact", 1_000_000, &[("a", 0, 999), ("b", 0, 9_999)])
        .with("one", 1_000, &[("a", 0, 999), ("v", 0, 9)])
        .with("two", 10_000, &[("b", 0, 9_999), ("v", 0, 999)]);
    let context = tables.context(JoinOrder::Auto);
    let sql = "select * from fact, one, two where fact.a = one.a and fact.b = two.b and two.v = 7";
    let plan = tables.plan(sql).await;
    let again = ordered(&context.state(), plan.clone()).await.unwrap();
    assert_eq!(plan.display_indent().to_string(), again.display_indent().to_string());
}

#[tokio::test]
async fn many_relations_are_ordered_in_little_time() {
    let mut tables = Tables::default();
    let mut sql = "select count(*) from t0".to_string();
    for place in 0..15 {
        let rows = [1_000_000, 50, 7_000][place % 3];
        tables = tables.with(&format!("t{place}"), rows, &[("a", 0, 9_999), ("b", 0, 9_999)]);
    }
    for place in 1..15 {
        write!(sql, " join t{place} on t{place}.a = t{}.b", place - 1).unwrap();
    }
    let context = tables.context(JoinOrder::Auto);
    let plan = context.sql(&sql).await.unwrap().into_optimized_plan().unwrap();
    let began = Instant::now();
    let ordered = ordered(&context.state(), plan).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(keys(&ordered).len(), 14);
    assert!(keys(&ordered).iter().all(|keys| *keys == 1), "{ordered}");
}

#[tokio::test]
async fn every_pair_of_ten_relations_joined_is_no_burden() {
    let mut tables = Tables::default();
    let mut sql = "select count(*) from t0".to_string();
    for place in 0..10 {
        tables = tables.with(&format!("t{place}"), 1_000 * (place + 1), &[("a", 0, 9_999)]);
    }
    for place in 1..10 {
        write!(sql, " join t{place} on t{place}.a = t{}.a", place - 1).unwrap();
    }
    let context = tables.context(JoinOrder::Auto);
    let plan = context.sql(&sql).await.unwrap().into_optimized_plan().unwrap();
    let began = Instant::now();
    ordered(&context.state(), plan).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_key_has_as_many_values_as_the_table_that_it_is_of() {
    let key = |rows: usize, low: i64, high: i64| (values(rows, low, high), rows as f64);
    // Order numbers with gaps: each order has lines, whatever the numbers between.
    let distinct = distinct_of_equals(&[key(1_500_000, 1, 6_000_000), key(6_001_215, 1, 6_000_000)]);
    assert_eq!(distinct, [1_500_000.0, 1_500_000.0]);
    // A hundred of many keys, of which the other table holds all.
    let distinct = distinct_of_equals(&[key(100, 1, 200_000), key(6_000_000, 1, 200_000)]);
    assert_eq!(distinct, [100.0, 200_000.0]);
    // Nothing known of one.
    let unknown = Values::of_statistics(&ColumnStatistics::new_unknown(), &DataType::Utf8, 9e9);
    assert_eq!(distinct_of_equals(&[key(100, 1, 100), (unknown.clone(), 9e9)]), [100.0, 100.0]);
    assert_eq!(distinct_of_equals(&[(unknown.clone(), 9e9), (unknown, 50.0)]), [50.0, 50.0]);
}

#[test]
fn keys_of_two_columns_depend_on_each_other() {
    // Parts of suppliers, and lines that refer to them.
    let pairs = pairs_of_keys(&[(200_000.0, 200_000.0), (10_000.0, 10_000.0)], 800_000.0, 6_000_000.0);
    assert_eq!(pairs, 800_000.0);
    assert_eq!(pairs_of_keys(&[(10.0, 5.0), (3.0, 4.0)], 1000.0, 1000.0), 30.0);
}

#[tokio::test]
async fn conditions_leave_what_bounds_and_values_say() {
    let tables = Tables::default().with("t", 1_000, &[("a", 0, 999), ("b", 0, 9)]).with(
        "u",
        1_000,
        &[("a", 0, 999), ("s", 0, 0)],
    );
    for (condition, rows) in [
        ("a < 100", 100.0),
        ("a >= 900 and a < 950", 50.0),
        ("a between 100 and 199", 99.0),
        ("b = 3", 100.0),
        ("b in (1, 2, 3)", 300.0),
        ("b <> 3", 900.0),
        ("not (a < 100)", 900.0),
        ("a < 100 and b = 3", 10.0),
        ("a < 100 or a >= 500", 600.0),
        ("a > 5000", 1.0),
        ("a is null", 1.0),
        ("a is not null", 1_000.0),
    ] {
        let estimate = tables.rows(&format!("select * from t where {condition}")).await;
        assert!((estimate / rows - 1.0).abs() < 0.05, "{condition}: {estimate}, not {rows}");
    }
    for (sql, rows) in [
        ("select b, count(*) from t group by b", 10.0),
        ("select distinct b from t", 10.0),
        ("select count(*) from t", 1.0),
        ("select * from t join u on t.a = u.a", 1_000.0),
        ("select * from t left join u on t.a = u.a and u.a < 10", 1_000.0),
        ("select * from t where a in (select b from t)", 10.0),
        ("select * from t limit 7", 7.0),
        ("select a from t union all select a from u", 2_000.0),
    ] {
        let estimate = tables.rows(sql).await;
        assert!((estimate / rows - 1.0).abs() < 0.05, "{sql}: {estimate}, not {rows}");
    }
}

#[tokio::test]
async fn absurd_statistics_end_in_an_order() {
    let tables = Tables::default()
        .with("x", usize::MAX, &[("a", i64::MIN, i64::MAX), ("b", 5, 5)])
        .with("y", 0, &[("a", 0, 0), ("b", 9, 1)])
        .with("z", 1, &[("a", -1, -1), ("b", i64::MAX, i64::MIN)]);
    let sql = "select * from x, y, z where x.a = y.a and y.b = z.b and x.b = z.a and x.a < 5 and z.b = 3";
    assert_eq!(keys(&tables.plan(sql).await).len(), 2);
}

/// Random trees of joins give the same rows and columns in the order that is chosen and in the one that is written.
#[tokio::test]
async fn rows_and_columns_stay_as_they_were() {
    let seed = std::env::var("TARN_PROPERTY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    let mut random = Random(seed);
    let mut reordered = 0;
    for case in 0..120 {
        let tables = Tables::random(&mut random);
        let sql = statement(&mut random);
        let told = format!("seed {seed}, case {case}: {sql}");
        let context = tables.context(JoinOrder::Auto);
        let logical = context.sql(&sql).await.unwrap_or_else(|error| panic!("{told}: {error}"));
        let logical = logical.logical_plan().clone();
        let written = context.state().optimize(&logical).unwrap();
        let chosen = ordered(&context.state(), written.clone()).await.unwrap();
        assert_eq!(written.schema().as_arrow(), chosen.schema().as_arrow(), "{told}");
        assert_eq!(written.schema().columns(), chosen.schema().columns(), "{told}");
        reordered += usize::from(shape(&written) != shape(&chosen));
        let before = rows(&context, &written).await;
        assert_eq!(before, rows(&context, &chosen).await, "{told}\n{written}\n{chosen}");
    }
    assert!(reordered > 30, "{reordered} of 120 orders were changed");
}

/// A join of two to seven relations: keys, other conditions, cross and outer joins, subqueries.
fn statement(random: &mut Random) -> String {
    let count = 2 + random.below(6);
    let mut sql = "select * from ".to_string();
    let any = |random: &mut Random, up_to: usize| {
        format!("r{}.{}", random.below(up_to), ["a", "b", "c"][random.below(3)])
    };
    for place in 0..count {
        let table = format!("t{}", random.below(5));
        let relation = match random.below(6) {
            0 => format!("(select b as a, a as b, c + 1 as c from {table}) r{place}"),
            1 => format!("(select x.a, y.b, x.c from {table} x join t0 y on x.a = y.c) r{place}"),
            2 => format!("(select a, max(b) as b, count(*) as c from {table} group by a) r{place}"),
            _ => format!("{table} r{place}"),
        };
        if place == 0 {
            sql.push_str(&relation);
            continue;
        }
        if random.below(12) == 0 {
            write!(sql, " cross join {relation}").unwrap();
            continue;
        }
        let kind = ["join", "join", "join", "join", "join", "left join"][random.below(6)];
        write!(
            sql,
            " {kind} {relation} on r{place}.{} = {}",
            ["a", "b"][random.below(2)],
            any(random, place)
        )
        .unwrap();
        if random.below(3) == 0 {
            write!(sql, " and r{place}.c = {}", any(random, place)).unwrap();
        }
        if random.below(4) == 0 {
            write!(sql, " and r{place}.b <= {}", any(random, place)).unwrap();
        }
    }
    let mut conditions = Vec::new();
    for _ in 0..random.below(4) {
        let (one, other, third) = (any(random, count), any(random, count), any(random, count));
        conditions.push(match random.below(10) {
            0 => format!("{one} + {other} = {third}"),
            1 => format!("{one} = {other}"),
            2 => format!("({one} = 1 and {other} = 2 or {one} = 2 and {third} > 1)"),
            3 => format!("{one} is not null"),
            4 => format!("{one} in (select a from t1)"),
            5 => format!("{one} not in (select b from t2 where b is not null)"),
            6 => format!("exists (select 1 from t3 where t3.a = {one} and t3.b <> {other})"),
            7 => format!("not exists (select 1 from t4 x where x.a = {one} and x.c > 2)"),
            8 => format!("coalesce({one}, {other}) > {third}"),
            _ => format!("{one} < 4"),
        });
    }
    if !conditions.is_empty() {
        write!(sql, " where {}", conditions.join(" and ")).unwrap();
    }
    sql
}

/// The rows of a plan as text, sorted.
async fn rows(context: &SessionContext, plan: &LogicalPlan) -> Vec<String> {
    let physical =
        context.state().query_planner().create_physical_plan(plan, &context.state()).await.unwrap();
    let batches = datafusion::physical_plan::collect(physical, context.task_ctx()).await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter();
            let texts: Vec<_> = columns.map(|column| array_value_to_string(column, row).unwrap()).collect();
            rows.push(texts.join(","));
        }
    }
    rows.sort();
    rows
}

/// The joins of a plan, by names of tables.
fn shape(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::TableScan(scan) => scan.table_name.table().to_string(),
        plan => match plan.inputs().as_slice() {
            [left, right] => format!("({} {})", shape(left), shape(right)),
            inputs => inputs.iter().map(|input| shape(input)).collect(),
        },
    }
}

/// How many keys each inner join has.
fn keys(plan: &LogicalPlan) -> Vec<usize> {
    let own = match plan {
        LogicalPlan::Join(join) => vec![join.on.len()],
        _ => Vec::new(),
    };
    plan.inputs().iter().flat_map(|input| keys(input)).chain(own).collect()
}

fn values(rows: usize, low: i64, high: i64) -> Values {
    Values::of_statistics(&bounds(low, high), &DataType::Int64, rows as f64)
}

fn bounds(low: i64, high: i64) -> ColumnStatistics {
    ColumnStatistics {
        null_count: Precision::Exact(0),
        min_value: Precision::Exact(ScalarValue::Int64(Some(low))),
        max_value: Precision::Exact(ScalarValue::Int64(Some(high))),
        ..ColumnStatistics::new_unknown()
    }
}

/// Tables that say of themselves what they are told to, whatever is in them.
#[derive(Default)]
struct Tables(Vec<(String, Arc<Stated>)>);

impl Tables {
    fn with(self, name: &str, rows: usize, columns: &[(&str, i64, i64)]) -> Self {
        let statistics = Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: columns.iter().map(|(_, low, high)| bounds(*low, *high)).collect(),
        };
        let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
        let empty = RecordBatch::new_empty(schema(&names));
        self.holding(name, empty, Some(statistics))
    }

    fn unknown(self, name: &str, columns: &[&str]) -> Self {
        self.holding(name, RecordBatch::new_empty(schema(columns)), None)
    }

    fn holding(mut self, name: &str, batch: RecordBatch, statistics: Option<Statistics>) -> Self {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        self.0.push((name.to_string(), Arc::new(Stated { table, statistics })));
        self
    }

    /// Five small ones, of which some tell lies.
    fn random(random: &mut Random) -> Self {
        let mut tables = Self::default();
        for place in 0..5 {
            let rows = 1 + random.below(10);
            let column = |random: &mut Random| {
                let values = (0..rows).map(|_| (random.below(6) > 0).then(|| random.below(5) as i64));
                Arc::new(values.collect::<Int64Array>()) as ArrayRef
            };
            let columns = vec![column(random), column(random), column(random)];
            let batch = RecordBatch::try_new(schema(&["a", "b", "c"]), columns).unwrap();
            let stated = if random.below(4) == 0 { 1 + random.below(1_000_000) } else { rows };
            let statistics = Statistics {
                num_rows: Precision::Exact(stated),
                total_byte_size: Precision::Absent,
                column_statistics: vec![bounds(0, 4); 3],
            };
            tables = tables.holding(&format!("t{place}"), batch, Some(statistics));
        }
        tables
    }

    fn context(&self, order: JoinOrder) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(2).with_extension(Arc::new(order));
        let context = SessionContext::new_with_config(config);
        for (name, table) in &self.0 {
            context.register_table(name, Arc::clone(table) as Arc<dyn TableProvider>).unwrap();
        }
        context
    }

    async fn plan(&self, sql: &str) -> LogicalPlan {
        let context = self.context(JoinOrder::Auto);
        let plan = context.sql(sql).await.unwrap().into_optimized_plan().unwrap();
        ordered(&context.state(), plan).await.unwrap()
    }

    async fn shape(&self, sql: &str) -> String {
        shape(&self.plan(sql).await)
    }

    /// How many rows a query is believed to give.
    async fn rows(&self, sql: &str) -> f64 {
        let context = self.context(JoinOrder::Written);
        let plan = context.sql(sql).await.unwrap().into_optimized_plan().unwrap();
        Relation::of(&plan, &Known::of(&plan).await).unwrap().rows
    }
}

fn schema(columns: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

#[derive(Debug)]
struct Stated {
    table: MemTable,
    statistics: Option<Statistics>,
}

#[async_trait]
impl TableProvider for Stated {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        self.statistics.clone()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.table.scan(state, projection, filters, limit).await
    }
}

/// A generator that needs no more than to differ (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}
