//! Pruning, by filters written as expressions over files described by hand.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields, TimeUnit};
use datafusion::common::stats::Precision;
use datafusion::logical_expr::{Expr, cast, col, lit};
use datafusion::scalar::ScalarValue;
use tarn_scan::write::Transform;

use super::*;
use crate::iceberg::{
    ColumnBounds, DataFile, Manifest, ManifestFile, ManifestHead, PartitionField, PartitionSpec,
    PartitionSummary,
};

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

#[test]
fn column_bounds_prune_and_a_missing_bound_does_not() {
    let files = vec![
        file(&[], &[(1, bounds(int(0), int(9), 0))]),
        file(&[], &[(1, bounds(int(10), int(19), 0))]),
        file(&[], &[]),
    ];
    let table = Table::new(&[("x", DataType::Int32)]).with(unpartitioned(), &[DataType::Int32], files);
    assert_eq!(table.kept(col("x").eq(lit(5))), [0, 2]);
    assert_eq!(table.kept(col("x").gt(lit(12))), [1, 2]);
    assert_eq!(table.kept(col("x").in_list(vec![lit(1), lit(11)], false)), [0, 1, 2]);
    assert_eq!(table.kept(col("x").gt(lit(5)).and(col("x").lt(lit(7)))), [0, 2]);
    assert_eq!(table.kept(col("x").is_null()), [2]);
    assert_eq!(table.kept(lit(true)), [0, 1, 2]);
}

#[test]
fn a_filter_that_statistics_cannot_decide_keeps_everything() {
    let files = vec![file(&[], &[(1, bounds(int(0), int(9), 0))])];
    let table = Table::new(&[("x", DataType::Int32)]).with(unpartitioned(), &[DataType::Int32], files);
    assert_eq!(table.kept((col("x") % lit(2)).eq(lit(77))), [0]);
    assert_eq!(table.kept(col("y").eq(lit(77))), [0]);
}

#[test]
fn files_of_only_nulls_are_pruned_unless_nulls_are_wanted() {
    let nulls = ColumnBounds { null_count: Some(100), ..ColumnBounds::default() };
    let table = Table::new(&[("x", DataType::Int32)]).with(
        unpartitioned(),
        &[DataType::Int32],
        vec![file(&[], &[(1, nulls)])],
    );
    assert!(table.kept(col("x").eq(lit(1))).is_empty());
    assert!(table.kept(col("x").is_not_null()).is_empty());
    assert_eq!(table.kept(col("x").is_null()), [0]);
}

#[test]
fn float_bounds_count_only_without_nan() {
    let float = |v| Some(ScalarValue::Float64(Some(v)));
    let bounds =
        |nan_count| ColumnBounds { lower: float(0.0), upper: float(3.0), null_count: Some(0), nan_count };
    let files = vec![
        file(&[], &[(1, bounds(Some(0)))]),
        file(&[], &[(1, bounds(Some(1)))]),
        file(&[], &[(1, bounds(None))]),
    ];
    let table = Table::new(&[("x", DataType::Float64)]).with(unpartitioned(), &[DataType::Float64], files);
    assert_eq!(table.kept(col("x").gt(lit(5.0))), [1, 2]);
    assert_eq!(table.kept(col("x").gt_eq(lit(5.0))), [1, 2]);
    // The lower bound of a file that holds both zeros may be either.
    assert_eq!(table.kept(col("x").eq(lit(-0.0))), [0, 1, 2]);
}

#[test]
fn bounds_of_a_narrower_type_are_converted() {
    let files =
        vec![file(&[], &[(1, bounds(int(0), int(9), 0))]), file(&[], &[(1, bounds(int(10), int(19), 0))])];
    let table = Table::new(&[("x", DataType::Int64)]).with(unpartitioned(), &[DataType::Int32], files);
    assert_eq!(table.kept(col("x").gt(lit(9_i64))), [1]);
    // After a promotion the bounds may not stand for values.
    let plan = table.plan(&[]);
    let x = &plan.statistics.column_statistics[0];
    assert_eq!(x.max_value, Precision::Inexact(ScalarValue::Int64(Some(19))));
    assert_eq!(x.null_count, Precision::Exact(0));
}

#[test]
fn renamed_column_is_found_by_its_id() {
    let files = vec![file(&[], &[(2, bounds(int(0), int(9), 0))])];
    let table = Table::new(&[("b", DataType::Int32), ("a", DataType::Int32)]);
    let table = table.with(unpartitioned(), &[DataType::Int32, DataType::Int32], files);
    assert!(table.kept(col("a").eq(lit(50))).is_empty());
    assert_eq!(table.kept(col("b").eq(lit(50))), [0]);
}

#[test]
fn identity_prunes_by_value_and_null() {
    let files = vec![file(&[text("de")], &[]), file(&[text("fr")], &[]), file(&[None], &[])];
    let table = Table::new(&[("c", DataType::Utf8View)]).with(
        spec(&[Transform::Identity]),
        &[DataType::Utf8View],
        files,
    );
    let value = |v: &str| lit(ScalarValue::Utf8View(Some(v.to_owned())));
    assert_eq!(table.kept(col("c").eq(value("de"))), [0]);
    assert_eq!(table.kept(col("c").not_eq(value("de"))), [1]);
    assert_eq!(table.kept(col("c").is_null()), [2]);
    let constants: Vec<_> = table.plan(&[]).files.iter().map(|file| file.task.constants.clone()).collect();
    assert_eq!(constants[0], [(1, ScalarValue::Utf8View(Some("de".into())))]);
    assert_eq!(constants[2], [(1, ScalarValue::Utf8View(None))]);
}

#[test]
fn time_transforms_prune_timestamps_and_dates() {
    let march_2024 = int((2024 - 1970) * 12 + 2);
    let april_2024 = int((2024 - 1970) * 12 + 3);
    let files = || {
        vec![
            file(std::slice::from_ref(&march_2024), &[]),
            file(std::slice::from_ref(&april_2024), &[]),
            file(&[None], &[]),
        ]
    };
    let table = Table::new(&[("t", MICROS)]).with(spec(&[Transform::Month]), &[MICROS], files());
    let at = |text: &str| lit(micros(text));
    assert_eq!(table.kept(col("t").gt_eq(at("2024-04-01T00:00:00"))), [1]);
    assert_eq!(table.kept(col("t").lt_eq(at("2024-03-31T23:59:59.999999"))), [0]);
    assert_eq!(table.kept(col("t").eq(at("2024-05-01T00:00:00"))), [0_usize; 0]);
    let table =
        Table::new(&[("t", DataType::Date32)]).with(spec(&[Transform::Month]), &[DataType::Date32], files());
    let day = (micros_of("2024-03-31T00:00:00") / 86_400_000_000) as i32;
    assert_eq!(table.kept(col("t").eq(lit(ScalarValue::Date32(Some(day))))), [0]);
    assert_eq!(table.kept(col("t").gt(lit(ScalarValue::Date32(Some(day))))), [1]);
}

#[test]
fn partition_of_a_casted_column_still_prunes() {
    let day = |text: &str| int((micros_of(text) / 86_400_000_000) as i32);
    let files = vec![file(&[day("2024-03-31T00:00:00")], &[]), file(&[day("2024-04-01T00:00:00")], &[])];
    let table = Table::new(&[("t", MICROS)]).with(spec(&[Transform::Day]), &[MICROS], files);
    let date = cast(col("t"), DataType::Date32);
    let last_of_march = (micros_of("2024-03-31T00:00:00") / 86_400_000_000) as i32;
    let kept = table.kept(date.lt_eq(lit(ScalarValue::Date32(Some(last_of_march)))));
    assert!(kept.contains(&0), "{kept:?}");
}

#[test]
fn truncate_prunes_numbers_and_prefixes() {
    let files = vec![file(&[int(-10)], &[]), file(&[int(0)], &[])];
    let table = Table::new(&[("x", DataType::Int32)]).with(
        spec(&[Transform::Truncate(10)]),
        &[DataType::Int32],
        files,
    );
    assert_eq!(table.kept(col("x").eq(lit(-1))), [0]);
    assert_eq!(table.kept(col("x").eq(lit(9))), [1]);
    let files = vec![file(&[text("ic")], &[]), file(&[text("id")], &[])];
    let table = Table::new(&[("s", DataType::Utf8View)]).with(
        spec(&[Transform::Truncate(2)]),
        &[DataType::Utf8View],
        files,
    );
    assert_eq!(table.kept(col("s").eq(lit(ScalarValue::Utf8View(Some("iceberg".into()))))), [0]);
    assert_eq!(table.kept(col("s").gt(lit(ScalarValue::Utf8View(Some("ie".into()))))), [0_usize; 0]);
    assert_eq!(table.kept(col("s").like(lit(ScalarValue::Utf8View(Some("ia%".into()))))), [0_usize; 0]);
}

#[test]
fn bucket_prunes_by_the_hash_of_literals() {
    // Iceberg specification, Appendix B: the hash of 34 is 2017239379, which is 19 modulo 32.
    let bucket = 2_017_239_379 % 32;
    let files = vec![file(&[int(bucket)], &[]), file(&[int((bucket + 1) % 32)], &[]), file(&[None], &[])];
    let table =
        Table::new(&[("x", DataType::Int64)]).with(spec(&[Transform::Bucket(32)]), &[DataType::Int64], files);
    assert_eq!(table.kept(col("x").eq(lit(34_i64))), [0]);
    assert_eq!(table.kept(col("x").in_list(vec![lit(34_i64), lit(34_i64)], false)), [0]);
    assert_eq!(table.kept(col("x").gt(lit(34_i64))), [0, 1]);
    assert_eq!(table.kept(col("x").not_eq(lit(34_i64))), [0, 1]);
}

#[test]
fn void_says_nothing() {
    let files = vec![file(&[None], &[])];
    let table =
        Table::new(&[("x", DataType::Int32)]).with(spec(&[Transform::Void]), &[DataType::Int32], files);
    assert_eq!(table.kept(col("x").eq(lit(1))), [0]);
}

#[test]
fn files_of_several_specs_are_pruned_each_by_its_own() {
    let table = Table::new(&[("x", DataType::Int32)])
        .with(unpartitioned(), &[DataType::Int32], vec![file(&[], &[(1, bounds(int(0), int(99), 0))])])
        .with(
            spec(&[Transform::Truncate(10)]),
            &[DataType::Int32],
            vec![file(&[int(0)], &[]), file(&[int(50)], &[])],
        )
        .with(
            spec(&[Transform::Identity]),
            &[DataType::Int32],
            vec![file(&[int(55)], &[]), file(&[int(7)], &[])],
        );
    assert_eq!(table.kept(col("x").eq(lit(55))), [0, 2, 3]);
    assert_eq!(table.kept(col("x").lt(lit(5))), [0, 1]);
}

#[test]
fn manifests_are_pruned_by_their_summaries() {
    let summary = |lower, upper, contains_null| ManifestFile {
        partitions: vec![PartitionSummary {
            source_id: 1,
            transform: Transform::Identity,
            contains_null,
            may_contain_nan: true,
            lower,
            upper,
        }],
        ..manifest_line()
    };
    let lines = [
        summary(int(0), int(9), false),
        summary(int(10), int(19), true),
        summary(None, None, true),
        manifest_line(),
    ];
    let mut builder = containers::Builder::default();
    for line in &lines {
        block::add_line(&mut builder, line, |_| Some(DataType::Int32));
    }
    let schema = TableSchema::for_test(&[("x", DataType::Int32)]);
    let containers = builder.finish();
    let kept = |filter| {
        indexes(&prune::keep(prune::predicate(&[filter], &schema).as_ref(), &schema, &[&containers]))
    };
    assert_eq!(kept(col("x").eq(lit(5))), [0, 2, 3]);
    assert_eq!(kept(col("x").gt(lit(15))), [1, 2, 3]);
    assert_eq!(kept(col("x").is_null()), [1, 2, 3]);
}

#[test]
fn statistics_are_exact_only_for_what_occurs() {
    let table = Table::new(&[("i", DataType::Int32), ("s", DataType::Utf8View), ("u", DataType::Int32)])
        .with(
            unpartitioned(),
            &[DataType::Int32, DataType::Utf8View, DataType::Int32],
            vec![
                file(&[], &[(1, bounds(int(3), int(9), 1)), (2, bounds(text("a"), text("c"), 0))]),
                file(&[], &[(1, bounds(int(5), int(12), 0)), (2, bounds(text("b"), text("d"), 0))]),
            ],
        );
    let plan = table.plan(&[]);
    let [i, s, u] = plan.statistics.column_statistics.as_slice() else { panic!("three columns") };
    assert_eq!(plan.statistics.num_rows, Precision::Exact(200));
    assert_eq!(i.min_value, Precision::Exact(ScalarValue::Int32(Some(3))));
    assert_eq!(i.max_value, Precision::Exact(ScalarValue::Int32(Some(12))));
    assert_eq!(i.null_count, Precision::Exact(1));
    assert_eq!(s.max_value, Precision::Inexact(ScalarValue::Utf8View(Some("d".into()))));
    assert_eq!(u.max_value, Precision::Absent);
    let first = plan.files[0].statistics.as_ref().unwrap();
    assert_eq!(first.column_statistics[0].max_value, Precision::Exact(ScalarValue::Int32(Some(9))));
    let plan = table.plan(&[col("i").gt(lit(10))]);
    assert_eq!(plan.statistics.num_rows, Precision::Exact(100));
    assert_eq!(plan.statistics.column_statistics[0].min_value, Precision::Exact(ScalarValue::Int32(Some(5))));
}

#[test]
fn a_file_without_rows_says_nothing_of_any_value() {
    let empty = |partition| DataFile {
        record_count: 0,
        ..file(
            &[int(partition)],
            &[(1, bounds(int(partition), int(partition), 0)), (2, bounds(int(0), int(99), 0))],
        )
    };
    let nulls = ColumnBounds { null_count: Some(100), ..bounds(int(-7), int(77), 0) };
    let files = vec![
        empty(1),
        file(&[int(4)], &[(1, bounds(int(4), int(4), 0)), (2, bounds(int(5), int(6), 0))]),
        file(&[int(4)], &[(1, bounds(int(4), int(4), 0)), (2, nulls)]),
        empty(9),
    ];
    let table = Table::new(&[("p", DataType::Int32), ("x", DataType::Int32)]).with(
        spec(&[Transform::Identity]),
        &[DataType::Int32, DataType::Int32],
        files,
    );
    let plan = table.plan(&[]);
    for (column, (min, max)) in plan.statistics.column_statistics.iter().zip([(4, 4), (5, 6)]) {
        assert_eq!(column.min_value, Precision::Exact(ScalarValue::Int32(Some(min))));
        assert_eq!(column.max_value, Precision::Exact(ScalarValue::Int32(Some(max))));
    }
    assert_eq!(plan.files[0].statistics.as_ref().unwrap().column_statistics[0].min_value, Precision::Absent);
}

#[test]
fn bounds_that_may_be_milliseconds_are_no_bounds() {
    let at = |micros| Some(ScalarValue::TimestampMicrosecond(Some(micros), None));
    // As some writers note 2024-01-01 of files that they import; a value that stands for "never"; a real one.
    let milliseconds = bounds(at(1_704_067_200_000), at(1_704_067_200_000), 0);
    let never = bounds(at(0), Some(micros("2024-01-01T00:00:00")), 0);
    let real = bounds(Some(micros("2024-01-01T00:00:00")), Some(micros("2024-01-02T00:00:00")), 0);
    // Milliseconds with a year 9999 or a year 1 among them.
    let (last, first) = (at(253_402_300_799_000), at(-62_135_596_800_000));
    let late = bounds(at(1_704_067_200_000), last, 0);
    let early = bounds(first, at(1_704_067_200_000), 0);
    let files = [milliseconds, never, real, late, early].map(|bounds| file(&[], &[(1, bounds)])).to_vec();
    let table = Table::new(&[("t", MICROS)]).with(unpartitioned(), &[MICROS], files);
    assert_eq!(table.kept(col("t").gt(lit(micros("2024-01-01T12:00:00")))), [0, 2, 3, 4]);
    assert_eq!(table.kept(col("t").lt(lit(micros("1950-01-01T00:00:00")))), [0, 3, 4]);
    let plan = table.plan(&[]);
    assert_eq!(plan.files[0].statistics.as_ref().unwrap().column_statistics[0].max_value, Precision::Absent);
    assert!(!matches!(plan.statistics.column_statistics[0].max_value, Precision::Exact(_)));
}

#[test]
fn bounds_of_a_column_that_a_filter_casts_are_not_told() {
    let noon = |text: &str| Some(micros(text));
    let files = vec![file(&[], &[(1, bounds(noon("2024-03-01T12:00:00"), noon("2024-03-03T12:00:00"), 0))])];
    let table = Table::new(&[("t", MICROS)]).with(unpartitioned(), &[MICROS], files);
    let first = |plan: FilePlan| plan.statistics.column_statistics[0].min_value.clone();
    assert!(matches!(
        first(table.plan(&[col("t").gt(lit(micros("2024-03-01T00:00:00")))])),
        Precision::Exact(_)
    ));
    let date = cast(col("t"), DataType::Date32).gt(lit(ScalarValue::Date32(Some(0))));
    assert_eq!(first(table.plan(&[date.or(col("t").is_null())])), Precision::Absent);
}

#[test]
fn bounds_from_partitions_are_not_exact_unless_they_are_the_value() {
    let table = Table::new(&[("a", DataType::Int32), ("b", DataType::Int32)]);
    let mut spec = spec(&[Transform::Identity, Transform::Truncate(10)]);
    spec.fields[1].source_id = 2;
    let files = vec![file(&[int(4), int(20)], &[])];
    let plan = table.with(spec, &[DataType::Int32, DataType::Int32], files).plan(&[]);
    let [a, b] = plan.statistics.column_statistics.as_slice() else { panic!("two columns") };
    assert_eq!(a.min_value, Precision::Exact(ScalarValue::Int32(Some(4))));
    assert_eq!(b.max_value, Precision::Inexact(ScalarValue::Int32(Some(29))));
}

#[test]
fn statistics_do_not_depend_on_how_files_are_spread_over_manifests() {
    let types = [DataType::Int32, DataType::Utf8View, DataType::Float64];
    let columns = [("i", DataType::Int64), ("s", DataType::Utf8View), ("f", DataType::Float64)];
    let float = |v| Some(ScalarValue::Float64(Some(v)));
    let counted = |lower, upper| ColumnBounds { nan_count: Some(0), ..bounds(lower, upper, 3) };
    let files = [
        file(
            &[],
            &[
                (1, bounds(int(3), int(9), 1)),
                (2, bounds(text("b"), text("c"), 0)),
                (3, counted(float(0.0), float(2.0))),
            ],
        ),
        // Only NULLs of the first, and nothing known of the others.
        file(&[], &[(1, bounds(None, None, 100))]),
        file(
            &[],
            &[
                (1, bounds(int(-5), int(4), 0)),
                (2, bounds(text("a"), text("d"), 2)),
                (3, counted(float(-1.0), float(1.0))),
            ],
        ),
        file(&[], &[(1, bounds(int(70), int(90), 0)), (3, counted(float(5.0), float(6.0)))]),
    ];
    let one = |files: Vec<DataFile>| Table::new(&columns).with(unpartitioned(), &types, files);
    let each = |files: Vec<DataFile>| {
        let table = Table::new(&columns);
        files.into_iter().fold(table, |table, file| table.with(unpartitioned(), &types, vec![file]))
    };
    for chosen in 1..1_usize << files.len() {
        let kept: Vec<bool> = (0..files.len()).map(|index| chosen & (1 << index) != 0).collect();
        let some =
            || files.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(file, _)| file.clone()).collect();
        let of = |table: Table, kept: &[bool]| collect(&table.schema, table.blocks, kept, &Fields::empty());
        let expected = of(each(some()), &vec![true; chosen.count_ones() as usize]).statistics;
        assert_eq!(of(one(some()), &vec![true; chosen.count_ones() as usize]).statistics, expected);
        assert_eq!(of(one(files.to_vec()), &kept).statistics, expected, "{kept:?}");
        assert_eq!(of(each(files.to_vec()), &kept).statistics, expected, "{kept:?}");
    }
}

#[test]
fn a_file_takes_no_more_than_its_numbers_and_the_end_of_its_path() {
    const FILES: i32 = 1000;
    const COLUMNS: i32 = 16;
    let names: Vec<String> = (0..COLUMNS).map(|column| format!("c{column}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (name.as_str(), DataType::Int32)).collect();
    let files = (0..FILES).map(|number| DataFile {
        path: format!("s3://warehouse/lake/sales/data/day=2024-01-01/{number:036}.parquet"),
        ..file(
            &[],
            &(1..=COLUMNS).map(|id| (id, bounds(int(number), int(number + id), 0))).collect::<Vec<_>>(),
        )
    });
    let table = Table::new(&columns).with(unpartitioned(), &vec![DataType::Int32; 16], files.collect());
    // Two bounds of four bytes, a count of eight and some bits for each column; about a hundred for the rest.
    let bytes = table.blocks[0].heap_bytes() / FILES as usize;
    assert!((16 * 16..16 * 17 + 150).contains(&bytes), "{bytes} bytes a file");
}

struct Table {
    schema: TableSchema,
    blocks: Vec<Arc<FileBlock>>,
}

impl Table {
    fn new(columns: &[(&str, DataType)]) -> Self {
        Self { schema: TableSchema::for_test(columns), blocks: Vec::new() }
    }

    /// Adds a manifest whose columns have ids from 1 on, and these types.
    fn with(mut self, spec: PartitionSpec, types: &[DataType], files: Vec<DataFile>) -> Self {
        let column_types: HashMap<_, _> = (1..).zip(types.iter().cloned()).collect();
        let partition_types = spec.fields.iter().map(|field| match field.transform {
            Some(Transform::Identity | Transform::Truncate(_)) => column_types.get(&field.source_id).cloned(),
            _ => Some(DataType::Int32),
        });
        let partition_types = partition_types.collect();
        let manifest = Manifest { head: ManifestHead { partition_types, spec, column_types }, files };
        let name = TableName::new("c", "s", "t");
        self.blocks.push(Arc::new(FileBlock::new(manifest, &name, "m.avro").unwrap()));
        self
    }

    fn plan(&self, filters: &[Expr]) -> FilePlan {
        let containers: Vec<_> = self.blocks.iter().map(|block| &block.containers).collect();
        let predicate = prune::predicate(filters, &self.schema);
        let kept = prune::keep(predicate.as_ref(), &self.schema, &containers);
        let mut plan = collect(&self.schema, self.blocks.clone(), &kept, &Fields::empty());
        statistics::forget_bounds_of_casts(&mut plan.statistics, &self.schema, filters);
        plan
    }

    fn kept(&self, filter: Expr) -> Vec<usize> {
        let containers: Vec<_> = self.blocks.iter().map(|block| &block.containers).collect();
        let predicate = prune::predicate(&[filter], &self.schema);
        indexes(&prune::keep(predicate.as_ref(), &self.schema, &containers))
    }
}

fn indexes(kept: &[bool]) -> Vec<usize> {
    kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(index, _)| index).collect()
}

fn unpartitioned() -> PartitionSpec {
    spec(&[])
}

/// Fields over the column with id 1.
fn spec(transforms: &[Transform]) -> PartitionSpec {
    let fields = transforms.iter().enumerate().map(|(index, transform)| PartitionField {
        source_id: 1,
        field_id: 1000 + index as i32,
        name: format!("p{index}"),
        transform: Some(*transform),
    });
    PartitionSpec { id: transforms.len() as i32, fields: fields.collect() }
}

/// A file of 100 rows.
fn file(partition: &[Option<ScalarValue>], columns: &[(i32, ColumnBounds)]) -> DataFile {
    DataFile {
        path: "f.parquet".to_owned(),
        size_bytes: 1000,
        record_count: 100,
        sequence_number: 1,
        unsupported: None,
        partition: partition.to_vec(),
        split_offsets: vec![4],
        columns: columns.to_vec(),
        ..DataFile::default()
    }
}

fn manifest_line() -> ManifestFile {
    ManifestFile {
        path: "m.avro".to_owned(),
        deletes: false,
        spec_id: 0,
        sequence_number: 1,
        first_row_id: None,
        live_files: Some(1),
        live_rows: Some(100),
        encrypted: false,
        partitions: Vec::new(),
    }
}

fn bounds(lower: Option<ScalarValue>, upper: Option<ScalarValue>, nulls: u64) -> ColumnBounds {
    ColumnBounds { lower, upper, null_count: Some(nulls), nan_count: None }
}

fn int(value: i32) -> Option<ScalarValue> {
    Some(ScalarValue::Int32(Some(value)))
}

fn text(value: &str) -> Option<ScalarValue> {
    Some(ScalarValue::Utf8View(Some(value.to_owned())))
}

fn micros_of(text: &str) -> i64 {
    text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp_micros()
}

fn micros(text: &str) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(micros_of(text)), None)
}
