//! Pruning against a naive reader that prunes nothing: whatever the filter, no file with a row for it is left out.
//!
//! Files hold random rows; their bounds are those of the rows, or missing, or too wide; their partition values come
//! from the writer's own transforms. The seed is fixed, so that a failure comes back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Operator, binary_expr, col, lit};
use datafusion::physical_expr::create_physical_expr;
use datafusion::scalar::ScalarValue;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tarn_scan::write::Transform;

use super::*;
use crate::iceberg::{ColumnBounds, DataFile, Manifest, ManifestHead, PartitionField, PartitionSpec};

const ROUNDS: usize = 150;
const FILES_PER_BLOCK: usize = 12;
const FILTERS_PER_ROUND: usize = 12;

#[test]
fn no_file_with_a_row_for_a_filter_is_pruned() {
    let mut random = SmallRng::seed_from_u64(0x1ce);
    let mut pruned = 0;
    for round in 0..ROUNDS {
        let schema = TableSchema::for_test(&COLUMNS);
        let (mut blocks, mut rows) = (Vec::new(), Vec::new());
        for spec_id in 0..3 {
            let (block, batches) = block(&mut random, &schema, spec_id);
            blocks.push(Arc::new(block));
            rows.extend(batches);
        }
        let containers: Vec<_> = blocks.iter().map(|block| &block.containers).collect();
        for _ in 0..FILTERS_PER_ROUND {
            let filter = filter(&mut random, 2);
            let predicate = prune::predicate(std::slice::from_ref(&filter), &schema);
            let kept = prune::keep(predicate.as_ref(), &schema, &containers);
            for (index, batch) in rows.iter().enumerate() {
                let wanted = matches(&filter, &schema, batch);
                assert!(kept[index] || !wanted, "round {round}, file {index}: {filter}\n{batch:?}");
                pruned += usize::from(!kept[index]);
            }
        }
    }
    // Pruning nothing at all would be right, too.
    assert!(pruned > ROUNDS * FILTERS_PER_ROUND, "{pruned}");
}

const COLUMNS: [(&str, DataType); 5] = [
    ("i", DataType::Int32),
    ("l", DataType::Int64),
    ("d", DataType::Date32),
    ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("f", DataType::Float64),
];

/// A value of a column; small ranges around zero, so that values meet, and days before 1970 are among them.
fn value(random: &mut SmallRng, column: usize) -> ScalarValue {
    match column {
        0 => ScalarValue::Int32(Some(random.random_range(-30..30))),
        1 => ScalarValue::Int64(Some(random.random_range(-30..30))),
        2 => ScalarValue::Date32(Some(random.random_range(-800..800))),
        3 => ScalarValue::TimestampMicrosecond(Some(random.random_range(-800..800) * 43_200_000_007), None),
        _ => ScalarValue::Float64(Some(match random.random_range(0..12) {
            0 => f64::NAN,
            1 => 0.0,
            2 => -0.0,
            3 => f64::INFINITY,
            _ => f64::from(random.random_range(-20..20)) / 2.0,
        })),
    }
}

fn null_of(column: usize) -> ScalarValue {
    ScalarValue::try_new_null(&COLUMNS[column].1).unwrap()
}

fn block(random: &mut SmallRng, schema: &TableSchema, spec_id: i32) -> (FileBlock, Vec<RecordBatch>) {
    let spec = spec(random, spec_id);
    let mut types = Vec::new();
    let (mut files, mut batches) = (Vec::new(), Vec::new());
    while files.len() < FILES_PER_BLOCK {
        // All rows of a file have the same partition tuple, so one row is made and the others like it.
        let rows = random.random_range(1..6);
        let columns: Vec<ArrayRef> = (0..COLUMNS.len()).map(|column| array(random, column, rows)).collect();
        let mut partition = Vec::new();
        let mut whole = true;
        types.clear();
        for field in &spec.fields {
            let source = &columns[field.source_id as usize - 1];
            let values = field.transform.unwrap().apply(source).unwrap();
            let value = |row| ScalarValue::try_from_array(&values, row).unwrap();
            whole &= (1..rows).all(|row| value(row) == value(0));
            types.push(Some(values.data_type().clone()));
            partition.push((!value(0).is_null()).then(|| value(0)));
        }
        if !whole && random.random_range(0..50) > 0 {
            continue;
        }
        if !whole {
            // Rarely do random rows share a tuple: then the first row stands alone.
            let columns = columns.iter().map(|column| column.slice(0, 1)).collect();
            push(random, schema, columns, partition, &mut files, &mut batches);
        } else {
            push(random, schema, columns, partition, &mut files, &mut batches);
        }
    }
    let column_types: HashMap<_, _> =
        (1..).zip(COLUMNS.iter().map(|(_, data_type)| data_type.clone())).collect();
    let manifest = Manifest { head: ManifestHead { spec, partition_types: types, column_types }, files };
    let name = TableName::new("c", "s", "t");
    (FileBlock::new(manifest, &name, "m.avro").unwrap(), batches)
}

fn push(
    random: &mut SmallRng,
    schema: &TableSchema,
    columns: Vec<ArrayRef>,
    partition: Vec<Option<ScalarValue>>,
    files: &mut Vec<DataFile>,
    batches: &mut Vec<RecordBatch>,
) {
    if random.random_range(0..8) == 0 {
        // Of a file without rows anything may be said.
        let bounds = columns.iter().zip(1..).map(|(column, id)| (id, bounds(random, column)));
        files.push(DataFile {
            path: format!("{}.parquet", files.len()),
            size_bytes: 1,
            record_count: 0,
            partition: partition.clone(),
            columns: bounds.collect(),
            ..DataFile::default()
        });
        batches.push(RecordBatch::new_empty(Arc::clone(&schema.arrow)));
    }
    let bounds = columns.iter().zip(1..).map(|(column, id)| (id, bounds(random, column)));
    files.push(DataFile {
        path: format!("{}.parquet", files.len()),
        size_bytes: 1,
        record_count: columns[0].len() as u64,
        partition,
        columns: bounds.collect(),
        ..DataFile::default()
    });
    batches.push(RecordBatch::try_new(Arc::clone(&schema.arrow), columns).unwrap());
}

fn array(random: &mut SmallRng, column: usize, rows: usize) -> ArrayRef {
    let nulls = random.random_range(0..4);
    let base = value(random, column);
    let values: Vec<_> = (0..rows)
        .map(|_| match random.random_range(0..4) {
            0 if nulls == 0 => null_of(column),
            1 => value(random, column),
            _ => base.clone(),
        })
        .collect();
    ScalarValue::iter_to_array(values).unwrap()
}

/// One or two fields over any columns.
fn spec(random: &mut SmallRng, id: i32) -> PartitionSpec {
    let fields = (0..random.random_range(0..3)).map(|index| {
        let column = random.random_range(0..COLUMNS.len());
        let number = random.random_range(1..20);
        let transform = match (column, random.random_range(0..5)) {
            (_, 0) => Transform::Identity,
            (0 | 1, 1) => Transform::Truncate(number),
            (0..=3, 2) => Transform::Bucket(number),
            (2 | 3, 1) => Transform::Day,
            (2 | 3, 3) => Transform::Month,
            (2 | 3, 4) => Transform::Year,
            _ => Transform::Void,
        };
        PartitionField {
            source_id: column as i32 + 1,
            field_id: 1000 + index,
            name: format!("p{index}"),
            transform: Some(transform),
        }
    });
    PartitionSpec { id, fields: fields.collect() }
}

/// What a writer may say of a column: its bounds without NULL and NaN, or wider ones, or nothing.
fn bounds(random: &mut SmallRng, column: &ArrayRef) -> ColumnBounds {
    let is_nan = |value: &ScalarValue| matches!(value, ScalarValue::Float64(Some(v)) if v.is_nan());
    let values: Vec<_> =
        (0..column.len()).map(|row| ScalarValue::try_from_array(column, row).unwrap()).collect();
    let nans = values.iter().filter(|value| is_nan(value)).count() as u64;
    let mut real: Vec<_> = values.into_iter().filter(|value| !value.is_null() && !is_nan(value)).collect();
    real.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let says = |random: &mut SmallRng| random.random_range(0..5) > 0;
    ColumnBounds {
        lower: real.first().cloned().filter(|_| says(random)),
        upper: real.last().cloned().filter(|_| says(random)),
        null_count: says(random).then_some(column.null_count() as u64),
        nan_count: says(random).then_some(nans),
    }
}

fn filter(random: &mut SmallRng, depth: usize) -> Expr {
    if depth > 0 && random.random_range(0..2) == 0 {
        let left = filter(random, depth - 1);
        return match random.random_range(0..3) {
            0 => left.and(filter(random, depth - 1)),
            1 => left.or(filter(random, depth - 1)),
            _ => Expr::Not(Box::new(left)),
        };
    }
    let column = random.random_range(0..COLUMNS.len());
    let name = col(COLUMNS[column].0);
    match random.random_range(0..9) {
        0 => name.is_null(),
        1 => name.is_not_null(),
        2 => {
            let values = (0..random.random_range(1..4)).map(|_| lit(value(random, column)));
            name.in_list(values.collect(), random.random())
        }
        operator => {
            let operators =
                [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];
            binary_expr(name, operators[operator - 3], lit(value(random, column)))
        }
    }
}

/// Whether any row of a file is let through.
fn matches(filter: &Expr, schema: &TableSchema, batch: &RecordBatch) -> bool {
    let df_schema = DFSchema::try_from(Schema::clone(&schema.arrow)).unwrap();
    let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let physical = create_physical_expr(filter, &df_schema, &properties, &context).unwrap();
    let result = physical.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap();
    result.as_boolean().iter().any(|row| row == Some(true))
}
