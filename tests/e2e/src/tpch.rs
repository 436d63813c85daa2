//! TPC-H: the data is the generator's own, and all 22 queries give DuckDB's answers, in every mode.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use tarn::demo;
use tarn_harness::data::TPCH_SCALE;
use tarn_harness::{Cluster, run};

use crate::answers::{self, same_decimal};
use crate::clusters::{connect_in, one_process, two_executors};
use crate::rows::{describe, query, rows};

#[test]
fn local_mode_in_one_process_equals_duckdb() {
    run(async { check(one_process().await, "local").await });
}

#[test]
fn pipelined_mode_in_one_process_equals_duckdb() {
    run(async { check(one_process().await, "pipelined").await });
}

#[test]
fn staged_mode_in_one_process_equals_duckdb() {
    run(async { check(one_process().await, "staged").await });
}

#[test]
fn local_mode_of_a_cluster_equals_duckdb() {
    run(async { check(two_executors().await, "local").await });
}

#[test]
fn pipelined_mode_on_two_executors_equals_duckdb() {
    run(async { check(two_executors().await, "pipelined").await });
}

#[test]
fn staged_mode_on_two_executors_equals_duckdb() {
    run(async { check(two_executors().await, "staged").await });
}

#[test]
fn loaded_tables_have_the_sums_of_the_generators_files() {
    run(async {
        let mut connection = one_process().await.connect().await;
        let sums = answers::tpch_sums();
        let mut tables: BTreeMap<&str, Vec<&[String; 4]>> = BTreeMap::new();
        for row in &sums.rows {
            tables.entry(&row[0]).or_default().push(row);
        }
        for (table, columns) in tables {
            let measures: Vec<_> =
                columns.iter().map(|[_, _, column, _]| format!("sum({})", measure(column))).collect();
            let sql = format!("select count(*), {} from tpch.{table}", measures.join(", "));
            let seen = rows(&mut connection, &sql).await.text().remove(0);
            assert_eq!(columns[0][1], seen[0], "rows of {table}");
            for (position, [_, _, column, sum]) in columns.iter().enumerate() {
                assert!(
                    same_decimal(sum, &seen[position + 1]),
                    "{column}: {sum}, got {}",
                    seen[position + 1]
                );
            }
        }
    });
}

#[test]
fn generator_crate_and_command_line_make_the_same_rows() {
    let sums = answers::tpch_sums();
    assert_eq!(sums.scale, TPCH_SCALE.to_string());
    let mut seen = 0;
    for table in demo::tpch::tables(TPCH_SCALE) {
        let mut count = 0;
        let mut totals = vec![0i128; table.schema.fields().len()];
        for batch in table.batches(0, 1) {
            let batch = batch.unwrap();
            count += batch.num_rows();
            for (column, total) in batch.columns().iter().zip(&mut totals) {
                *total += sum(column);
            }
        }
        for (field, total) in table.schema.fields().iter().zip(totals) {
            let row = sums.rows.iter().find(|row| row[0] == table.name && row[2] == *field.name()).unwrap();
            assert_eq!(row[1], count.to_string(), "rows of {}", table.name);
            assert_eq!(row[3].replace('.', ""), total.to_string(), "{}", field.name());
            seen += 1;
        }
    }
    assert_eq!(seen, sums.rows.len());
}

/// Runs all queries in a mode, and reports every one that differs.
async fn check(cluster: &Cluster, mode: &str) {
    let mut connection = connect_in(cluster, mode).await;
    rows(&mut connection, "show schema").await;
    crate::rows::run(&mut connection, "use tpch").await;
    // At this scale one executor would else do all of a query.
    crate::rows::run(&mut connection, "set split_bytes = 16384").await;
    let mut faults = Vec::new();
    for number in 1..=22 {
        let answer = answers::tpch(number);
        assert_eq!(answer.scale, TPCH_SCALE.to_string());
        let outcome = match query(&mut connection, &answers::query_text("tpch", number)).await {
            Ok(result) => answer.compare(&result),
            Err(error) => Err(describe(&error)),
        };
        if let Err(fault) = outcome {
            faults.push(format!("{}: {fault}", answer.query));
        }
    }
    assert!(faults.is_empty(), "{mode}: {} of 22 differ\n{}", faults.len(), faults.join("\n"));
}

/// What is added up of a column: numbers, days since 1970, lengths of texts.
fn measure(column: &str) -> String {
    let text =
        ["name", "address", "phone", "mktsegment", "comment", "returnflag", "linestatus", "shipinstruct"];
    let more = ["shipmode", "orderstatus", "orderpriority", "clerk", "mfgr", "brand", "type", "container"];
    let (_, plain) = column.split_once('_').unwrap();
    if text.contains(&plain) || more.contains(&plain) {
        format!("length({column})")
    } else if plain.ends_with("date") {
        format!("cast(cast({column} as int) as bigint)")
    } else {
        column.to_string()
    }
}

/// The same, of generated rows; decimals without their point.
fn sum(column: &dyn Array) -> i128 {
    let whole = |column: &dyn Array| -> i128 {
        let column = cast(column, &DataType::Int64).unwrap();
        column.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum()
    };
    match column.data_type() {
        DataType::Utf8View => {
            column.as_string_view().iter().flatten().map(|text| text.chars().count() as i128).sum()
        }
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().iter().flatten().sum(),
        DataType::Date32 => whole(&cast(column, &DataType::Int32).unwrap()),
        _ => whole(column),
    }
}
