//! What planning says of each file holds for every row of it.
//!
//! Scans drop files and row groups by these bounds and counts, some of them while they run, by what a join or a top-k
//! has found so far: a wrong one then costs rows in one run out of many. So each is held against the rows themselves.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::concat_batches;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::prelude::{SessionConfig, SessionContext};
use tarn_catalog::TableName;
use tarn_harness::{fixtures, run_within};

/// All tables, in a debug build on a machine that is busy.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

#[test]
fn what_planning_says_of_a_file_holds_for_each_of_its_rows() {
    run_within(LIMIT, check());
}

async fn check() {
    let all = fixtures::all();
    let data = fixtures::data(&all).await;
    let shared = data.shared(Vec::new()).await;
    let config = SessionConfig::new().with_target_partitions(1);
    let (mut files, mut bounds, mut refused, mut faults) = (0, 0, 0, Vec::new());
    for fixture in &all {
        let (schema, table) = fixture.table.split_once('.').unwrap();
        let name = TableName::new(fixtures::CATALOG, schema, table);
        let Ok(pinned) = shared.lakehouse.pin(&name, None).await else {
            refused += 1;
            continue;
        };
        let ctx = SessionContext::new_with_config_rt(config.clone(), shared.runtime.env());
        let (plan, whole) =
            match (pinned.plan_files(&[]).await, pinned.provider().scan(&ctx.state(), None, &[], None).await)
            {
                (Ok(plan), Ok(whole)) if !plan.files.is_empty() => (plan, whole),
                (Ok(_), Ok(_)) => continue,
                _ => {
                    refused += 1;
                    continue;
                }
            };
        for file in &plan.files {
            let Some(statistics) = &file.statistics else { continue };
            let leaf = tarn_scan::with_groups(&whole, vec![vec![file.task.as_ref().clone()]]).unwrap();
            let schema = leaf.schema();
            let batches = datafusion::physical_plan::collect(leaf, ctx.task_ctx()).await.unwrap();
            let rows = concat_batches(&schema, &batches).unwrap();
            let at = format!("{} {}", fixture.table, file.task.uri.rsplit('/').next().unwrap());
            faults.extend(rows_fault(statistics, rows.num_rows()).map(|fault| format!("{at}: {fault}")));
            for (field, (column, known)) in
                schema.fields().iter().zip(rows.columns().iter().zip(&statistics.column_statistics))
            {
                bounds += usize::from(known.min_value.get_value().is_some());
                let seen = column_faults(column, known, statistics);
                faults.extend(seen.into_iter().map(|fault| format!("{at} {}: {fault}", field.name())));
            }
            files += 1;
        }
    }
    println!("{files} files, {bounds} lower bounds, {refused} tables refused");
    assert!(files > 300 && bounds > 500, "{files} files, {bounds} bounds");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rows_fault(statistics: &Statistics, rows: usize) -> Option<String> {
    (!holds(&statistics.num_rows, rows)).then(|| format!("{rows} rows, said to be {:?}", statistics.num_rows))
}

/// Whether a count may be said of so many: one that is not exact is the most that there may be.
fn holds(said: &Precision<usize>, seen: usize) -> bool {
    match said {
        Precision::Exact(said) => *said == seen,
        Precision::Inexact(said) => *said >= seen,
        Precision::Absent => true,
    }
}

fn column_faults(column: &ArrayRef, known: &ColumnStatistics, file: &Statistics) -> Vec<String> {
    let mut faults = Vec::new();
    let values: Vec<ScalarValue> = (0..column.len())
        .filter(|row| column.is_valid(*row))
        .map(|row| ScalarValue::try_from_array(column, row).unwrap())
        .collect();
    let nulls = column.len() - values.len();
    if !holds(&known.null_count, nulls) {
        faults.push(format!("{nulls} NULLs, said to be {:?}", known.null_count));
    }
    let all_null = known.null_count.get_value().is_some_and(|nulls| file.num_rows.get_value() == Some(nulls));
    if all_null && !values.is_empty() {
        faults.push(format!("said to be all NULL, has {:?}", values[0]));
    }
    for (side, bound, outside) in [
        ("below", &known.min_value, std::cmp::Ordering::Less),
        ("above", &known.max_value, std::cmp::Ordering::Greater),
    ] {
        let Some(limit) = bound.get_value().filter(|limit| !limit.is_null()) else { continue };
        if limit.data_type() != *column.data_type() {
            faults.push(format!("a bound of type {}", limit.data_type()));
            continue;
        }
        let order = |value: &ScalarValue| match is_nan(value) {
            // Greater than all else, which no bound says.
            true => Some(std::cmp::Ordering::Greater),
            false => value.partial_cmp(limit),
        };
        if let Some(value) = values.iter().find(|value| order(value).is_none_or(|order| order == outside)) {
            faults.push(format!("{value:?} is {side} {bound:?}"));
        }
        let exact = matches!(bound, Precision::Exact(_)) && !values.is_empty();
        if exact && !values.contains(limit) {
            faults.push(format!("no value is {bound:?}"));
        }
    }
    faults
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}
