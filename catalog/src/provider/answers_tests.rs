//! Answers from metadata alone, over tables that others wrote: where they are right, and nowhere else.
//!
//! What a plan without a scan says is compared with the rows that the table's writer says are in it.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use tarn_scan::storage::Router;

use super::metadata_tables::fixture_tests::open;
use crate::TableName;

/// Table, query, answer, and whether files have to be read for it.
const CASES: [(&str, &str, &str, &str, bool); 17] = [
    ("deletes", "copy_on_write_v2", "count(*)", "38", false),
    ("deletes", "copy_on_write_v2", "count(id), min(id), max(id)", "38 1 41", false),
    // Bounds of texts may be cut, and bounds of floats leave NaN out.
    ("deletes", "copy_on_write_v2", "min(name)", "inserted", true),
    ("deletes", "copy_on_write_v2", "min(score), max(score)", "-1.0 152.5", true),
    ("schemas", "nan_and_zero", "count(*)", "10", false),
    ("schemas", "nan_and_zero", "max(d)", "NaN", true),
    // NULLs are no values, and the least of all numbers is one.
    (
        "schemas",
        "types_v2",
        "count(*), count(i), min(i), max(l)",
        "6 5 -2147483648 9223372036854775807",
        false,
    ),
    ("schemas", "types_v2", "min(dt), max(d9)", "1900-01-01 9999999.99", false),
    // A partition value stands for the column if it is the column's own.
    ("transforms", "identity_date", "min(x), max(x), count(x)", "1901-01-01 2024-03-01 9", false),
    // Bounds in an older type are bounds still, but not known to be values.
    ("schemas", "promoted_v2", "max(i)", "2147483648", true),
    // How many rows a vector deletes is said; which ones is not.
    ("core", "vectors_in_one_file", "count(*)", "25", false),
    ("core", "vectors_in_one_file", "min(id)", "1", true),
    ("deletes", "merge_on_read_v3", "count(*)", "38", false),
    // Other deletes may name a row twice, or rows that are not there.
    ("core", "positions_unsorted", "count(*)", "15", true),
    ("core", "positions_unsorted", "min(id)", "1", true),
    ("core", "equality_by_id", "count(*)", "16", true),
    ("core", "equality_by_id", "max(id)", "20", true),
];

#[tokio::test]
async fn aggregates_are_answered_from_metadata_where_that_is_right() {
    let lakehouse = open().await;
    let context = SessionContext::new();
    context.register_object_store(Router::object_store_url().as_ref(), lakehouse.router().object_store());
    for (schema, table, aggregates, expected, scans) in CASES {
        let pinned = lakehouse.pin(&TableName::new("f", schema, table), None).await.unwrap();
        context.deregister_table("t").unwrap();
        context.register_table("t", pinned.provider()).unwrap();
        for (filter, scans) in [("", scans), (" where id > -1", true)] {
            let sql = format!("select {aggregates} from t{filter}");
            let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
            assert_eq!(has_scan(&plan), scans, "{schema}.{table}: {sql}");
            let batches = collect(plan, context.task_ctx()).await.unwrap();
            let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
            let row = text.lines().nth(3).unwrap_or_default();
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.join(" "), expected, "{schema}.{table}: {sql}");
        }
    }
}

fn has_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    let walk = plan.apply(|node| {
        found |= tarn_scan::scan_of(node).is_some();
        Ok(TreeNodeRecursion::Continue)
    });
    walk.unwrap();
    found
}
