//! Which rows a scan gives: each once, whatever was pruned or split.

use arrow::array::Float64Array;
use datafusion::physical_plan::displayable;

use super::*;
use crate::FileTask;

#[tokio::test]
async fn rows_with_nan_are_not_pruned() {
    let values: Vec<f64> = (0..10).map(f64::from).chain([f64::NAN]).chain((0..9).map(f64::from)).collect();
    let table = || {
        Table::new(vec![field(1, "x", DataType::Float64)]).file_with(
            vec![(field(1, "x", DataType::Float64), Arc::new(Float64Array::from(values.clone())))],
            small_row_groups(),
        )
    };
    assert_eq!(table().sql("select x from t where x > 100").await.unwrap(), "NaN");
    assert_eq!(table().sql("select max(x) from t").await.unwrap(), "NaN");
    assert_eq!(table().sql("select x from t order by x desc limit 1").await.unwrap(), "NaN");
    assert_eq!(table().sql("select count(*) from t where x < 2 or x = 7").await.unwrap(), "6");
}

/// What the one column of a table holds, in order.
async fn ids(table: Table) -> Vec<i32> {
    let plan = table.plan();
    let ctx = table.context(&[]);
    let rows = run(plan, &ctx).await.unwrap();
    let mut ids: Vec<i32> = rows.lines().map(|line| line.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn ranges_of_a_file_read_each_row_once() {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..95))], small_row_groups());
    let whole = table.groups.remove(0).remove(0);
    let size = whole.task.size_bytes;
    for start in (0..size).step_by(97) {
        let range = start..(start + 97).min(size);
        let task = FileTask { range: Some(range), ..whole.task.as_ref().clone() };
        table.groups.push(vec![crate::PlannedFile { task: task.into(), statistics: None }]);
    }
    // The same file many times: the exact count of rows is not what the helper adds up.
    assert_eq!(ids(table).await, (0..95).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cut_file_that_is_longer_than_its_manifest_says_is_read_to_its_end() {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..95))], small_row_groups());
    // A writer that noted its position before it wrote the last row groups.
    let claimed = row_group_ranges(&table.path(0)).last().unwrap().start;
    let mut whole = table.groups.remove(0).remove(0).task.as_ref().clone();
    whole.size_bytes = claimed;
    for range in [0..claimed / 2, claimed / 2..claimed] {
        let task = FileTask { range: Some(range), ..whole.clone() };
        table.groups.push(vec![crate::PlannedFile { task: task.into(), statistics: None }]);
    }
    assert_eq!(ids(table).await, (0..95).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_scan_is_repartitioned_by_ranges_and_stays_ours() {
    let table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..1000))], small_row_groups());
    let ctx = table.context(&[
        ("datafusion.optimizer.repartition_file_min_size", "100"),
        ("datafusion.execution.target_partitions", "4"),
        ("datafusion.execution.batch_size", "100"),
    ]);
    let frame = ctx.sql("select sum(id) from t").await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("4 groups") && text.contains("file_type=iceberg"), "{text}");
    assert_eq!(query(&ctx, "select sum(id), count(*), count(id) from t").await.unwrap(), "499500|1000|1000");
}

#[tokio::test]
async fn count_is_answered_from_exact_rows() {
    let ctx = renamed().context(&[]);
    let plan = ctx.sql("select count(*) from t").await.unwrap().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!text.contains("DataSourceExec: file_groups"), "{text}");
    assert_eq!(query(&ctx, "select count(*) from t").await.unwrap(), "41");
}

#[tokio::test]
async fn top_k_goes_into_the_scan_and_is_right() {
    let ctx = renamed().context(&[]);
    let sql = "select b from t order by b desc limit 2";
    let text = query(&ctx, &format!("explain analyze {sql}")).await.unwrap();
    assert!(text.contains("DynamicFilter"), "{text}");
    assert_eq!(query(&ctx, sql).await.unwrap(), "100\n39");
}

/// What a query's plan says that it left out, in the words of its metrics.
async fn pruned(ctx: &datafusion::prelude::SessionContext, sql: &str, metric: &str) -> String {
    let text = query(ctx, &format!("explain analyze {sql}")).await.unwrap();
    let said = text.split(&format!("{metric}=")).nth(1).and_then(|rest| rest.split([',', ']']).next());
    said.unwrap_or_else(|| panic!("no {metric} in {text}")).to_string()
}

#[tokio::test]
async fn a_bloom_filter_leaves_row_groups_out_by_field_id() {
    // Each row group spans all values, so its bounds leave nothing out.
    let values: Vec<i32> =
        (0..5).flat_map(|group| [0, 1000].into_iter().chain(group * 8 + 1..group * 8 + 9)).collect();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_bloom_filter_enabled(true)
        .build();
    let table = Table::new(vec![field(2, "a", DataType::Int32), field(1, "b", DataType::Int32)])
        .file_with(vec![(field(1, "a", DataType::Int32), ints(values))], properties);
    let ctx = table.context(&[("datafusion.execution.parquet.pushdown_filters", "true")]);
    let sql = "select b from t where b = 20";
    assert_eq!(query(&ctx, sql).await.unwrap(), "20");
    assert_eq!(pruned(&ctx, sql, "row_groups_pruned_statistics").await, "5 total → 5 matched");
    assert_eq!(pruned(&ctx, sql, "row_groups_pruned_bloom_filter").await, "5 total → 1 matched");
    assert_eq!(query(&ctx, "select count(*) from t where a = 20").await.unwrap(), "0");
}

#[tokio::test]
async fn a_join_leaves_row_groups_out_of_the_scan_beside_it() {
    let table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..95))], small_row_groups());
    let ctx = table.context(&[("datafusion.execution.target_partitions", "1")]);
    query(&ctx, "create table few as select arrow_cast(column1, 'Int32') as k from (values (42), (47))")
        .await
        .unwrap();
    let sql = "select id from few join t on id = k";
    assert_eq!(query(&ctx, &format!("{sql} order by 1")).await.unwrap(), "42\n47");
    assert_eq!(pruned(&ctx, sql, "row_groups_pruned_statistics").await, "10 total → 1 matched");
}
