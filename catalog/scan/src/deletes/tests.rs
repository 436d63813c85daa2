//! Deletes applied to real files: each query with filters in the reader and above it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use parquet::file::properties::WriterProperties;
use roaring::RoaringTreemap;

use super::*;
use crate::testing::{Table, field, query, run, write};
use crate::{FileTask, PlannedFile};

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn small_row_groups() -> WriterProperties {
    WriterProperties::builder().set_max_row_group_row_count(Some(10)).set_data_page_row_count_limit(5).build()
}

/// One column `id` with a file for each range, whose sequence numbers are 1, 2 and so on.
fn numbers(files: &[Range<i32>]) -> Table {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)]);
    for (number, rows) in files.iter().enumerate() {
        table =
            table.file_with(vec![(field(1, "id", DataType::Int32), ints(rows.clone()))], small_row_groups());
        table.task(number).data_sequence_number = number as i64 + 1;
    }
    table
}

/// The same with one file.
fn one_file(rows: Range<i32>) -> Table {
    numbers(std::slice::from_ref(&rows))
}

fn delete_file(
    table: &Table,
    name: &str,
    sequence_number: i64,
    columns: Vec<(Field, ArrayRef)>,
) -> Arc<DeleteFile> {
    let task = write(&table.folder.path().join(name), columns, WriterProperties::builder().build());
    Arc::new(DeleteFile {
        uri: task.uri,
        format: task.format,
        size_bytes: task.size_bytes,
        record_count: task.record_count,
        data_sequence_number: sequence_number,
    })
}

/// A position delete file, its columns neither in the usual order nor under the usual names.
fn positions(table: &Table, name: &str, rows: &[(&str, i64)]) -> Arc<DeleteFile> {
    let (paths, places): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let columns = vec![
        (field(5, "row", DataType::Int32), ints(rows.iter().map(|_| 7))),
        (field(2_147_483_545, "p", DataType::Int64), longs(places)),
        (field(2_147_483_546, "f", DataType::Utf8), Arc::new(StringArray::from(paths)) as ArrayRef),
    ];
    delete_file(table, name, 9, columns)
}

/// A Puffin file with a blob somewhere in it.
fn vector(table: &Table, positions: &[u64]) -> DeletionVector {
    let positions: RoaringTreemap = positions.iter().copied().collect();
    let blob = vector::encode(&positions);
    let path = table.folder.path().join("dv.puffin");
    std::fs::write(&path, [b"PFA1xyz".as_slice(), &blob, b"footer"].concat()).unwrap();
    let uri = path.to_str().unwrap().to_owned();
    DeletionVector { uri, offset: 7, size_bytes: blob.len() as u64, cardinality: positions.len() }
}

fn equality(keys: Vec<Field>, files: Vec<Arc<DeleteFile>>) -> Vec<Arc<EqualityDeletes>> {
    let keys = keys.into_iter().map(|field| EqualityKey { field: Arc::new(field), path: Vec::new() });
    vec![Arc::new(EqualityDeletes { keys: keys.collect(), files })]
}

fn listed(ids: impl IntoIterator<Item = i32>) -> String {
    let mut lines: Vec<_> = ids.into_iter().map(|id| id.to_string()).collect();
    lines.sort();
    lines.join("\n")
}

#[tokio::test]
async fn position_deletes_in_any_order_twice_or_about_nothing() {
    let table = || {
        let mut table = numbers(&[0..40, 100..140]);
        let (one, two) = (table.task(0).uri.clone(), table.task(1).uri.clone());
        let rows = [
            (two.as_str(), 39),
            (&one, 12),
            (&one, 3),
            (&two, 0),
            (&one, 3),
            (&one, 4000),
            ("/elsewhere/0.parquet", 5),
            (&one, 13),
        ];
        let file = positions(&table, "p.parquet", &rows);
        let more = positions(&table, "q.parquet", &[(&one, 39), (&one, 12)]);
        table.task(0).deletes.positions = vec![Arc::clone(&file), more];
        table.task(1).deletes.positions = vec![file];
        table
    };
    let left = || (0..39).chain(101..139).filter(|id| ![3, 12, 13].contains(id));
    assert_eq!(table().sql("select id from t").await.unwrap(), listed(left()));
    assert_eq!(table().sql("select count(*) from t").await.unwrap(), left().count().to_string());
    assert_eq!(table().sql("select id from t where id in (3, 12, 14, 100, 101)").await.unwrap(), "101\n14");
    assert_eq!(table().sql("select max(id), min(id) from t").await.unwrap(), "138|0");
    assert_eq!(
        table().sql("select id from t where id < 20 order by id desc limit 8").await.unwrap(),
        listed([10, 11, 14, 15, 16, 17, 18, 19])
    );
}

#[tokio::test]
async fn files_keep_their_pruning_beside_deletes() {
    let with = |deletes: fn(&Table) -> Deletes| {
        let mut table = numbers(&[0..40, 100..140]);
        let deletes = deletes(&table);
        table.task(0).deletes = deletes;
        table
    };
    let by_position = |table: &Table| {
        let uri = table.groups[0][0].task.uri.clone();
        Deletes { positions: vec![positions(table, "p.parquet", &[(&uri, 3)])], ..Deletes::default() }
    };
    let by_key = |table: &Table| {
        let file = delete_file(table, "e.parquet", 9, vec![(field(1, "id", DataType::Int32), ints([3]))]);
        let equality = equality(vec![field(1, "id", DataType::Int32)], vec![file]);
        Deletes { equality, ..Deletes::default() }
    };
    for (what, table) in [("positions", with(by_position)), ("keys", with(by_key))] {
        let ctx = table.context(&[]);
        let text = query(&ctx, "explain analyze select id from t where id = 137").await.unwrap();
        assert!(text.contains("row_groups_pruned_statistics=8 total → 1 matched"), "{what}: {text}");
        assert!(text.contains("page_index_rows_pruned=10 total → 5 matched"), "{what}: {text}");
    }
}

#[tokio::test]
async fn positions_count_from_the_beginning_of_a_file_in_every_range_of_it() {
    let mut table = one_file(0..95);
    let uri = table.task(0).uri.clone();
    let deleted: Vec<i64> = (0..95).filter(|n| n % 7 == 0 || (30..50).contains(n)).collect();
    let rows: Vec<_> = deleted.iter().map(|n| (uri.as_str(), *n)).collect();
    let file = positions(&table, "p.parquet", &rows);
    table.task(0).deletes.positions = vec![file];
    let whole = table.groups.remove(0).remove(0);
    let size = whole.task.size_bytes;
    for start in (0..size).step_by(97) {
        let range = start..(start + 97).min(size);
        let task = FileTask { range: Some(range), ..whole.task.as_ref().clone() };
        table.groups.push(vec![PlannedFile { task: task.into(), statistics: None }]);
    }
    let plan = table.plan();
    let ctx = table.context(&[]);
    let rows = run(plan, &ctx).await.unwrap();
    assert_eq!(rows, listed((0..95).filter(|n| !deleted.contains(&i64::from(*n)))));
}

#[tokio::test]
async fn a_deletion_vector_is_read_out_of_its_file() {
    let table = || {
        let mut table = one_file(0..40);
        let vector = vector(&table, &[0, 1, 2, 25, 39, 77]);
        table.task(0).deletes.vector = Some(vector);
        table
    };
    let left = || (3..39).filter(|id| *id != 25);
    assert_eq!(table().sql("select id from t").await.unwrap(), listed(left()));
    assert_eq!(table().sql("select count(*) from t where id >= 20").await.unwrap(), "18");
}

#[tokio::test]
async fn a_damaged_deletion_vector_is_an_error_and_not_a_row() {
    let mut table = one_file(0..40);
    let good = vector(&table, &[0, 1, 2]);
    let bytes = std::fs::read(&good.uri).unwrap();
    let mut flipped = bytes.clone();
    flipped[7 + good.size_bytes as usize - 6] ^= 1;
    std::fs::write(&good.uri, flipped).unwrap();
    table.task(0).deletes.vector = Some(good.clone());
    let error = table.sql("select id from t").await.unwrap_err().to_string();
    assert!(
        error.contains("lake.db.t") && error.contains("dv.puffin") && error.contains("checksum"),
        "{error}"
    );
    let mut table = one_file(0..40);
    table.task(0).deletes.vector = Some(DeletionVector { uri: "/not/there.puffin".to_owned(), ..good });
    let error = table.sql("select id from t").await.unwrap_err().to_string();
    assert!(error.contains("there.puffin"), "{error}");
}

#[tokio::test]
async fn a_delete_file_that_is_missing_or_is_none_is_an_error() {
    let mut table = one_file(0..10);
    let gone = DeleteFile { uri: "/not/there.parquet".to_owned(), size_bytes: 100, ..DeleteFile::default() };
    table.task(0).deletes.positions = vec![Arc::new(gone)];
    let error = table.sql("select id from t").await.unwrap_err().to_string();
    assert!(error.contains("there.parquet"), "{error}");
    let mut table = one_file(0..10);
    let columns = vec![(
        field(2_147_483_546, "file_path", DataType::Utf8),
        Arc::new(StringArray::from(vec!["x"])) as ArrayRef,
    )];
    let file = delete_file(&table, "p.parquet", 9, columns);
    table.task(0).deletes.positions = vec![file];
    let error = table.sql("select id from t").await.unwrap_err().to_string();
    assert!(error.contains("pos") && error.contains("p.parquet"), "{error}");
}

#[tokio::test]
async fn equality_deletes_are_about_older_files_only() {
    let table = || {
        let mut table = numbers(&[0..10, 0..10, 0..10]);
        let id = |ids: &[i32]| vec![(field(1, "id", DataType::Int32), ints(ids.iter().copied()))];
        let files = vec![
            delete_file(&table, "e2.parquet", 2, id(&[1, 2])),
            delete_file(&table, "e3.parquet", 3, id(&[2, 3, 77])),
        ];
        let deletes = equality(vec![field(1, "id", DataType::Int32)], files);
        (0..3).for_each(|number| table.task(number).deletes.equality = deletes.clone());
        table
    };
    let left = (0..10).filter(|id| ![1, 2, 3].contains(id)).chain((0..10).filter(|id| ![2, 3].contains(id)));
    assert_eq!(table().sql("select id from t").await.unwrap(), listed(left.chain(0..10)));
    assert_eq!(table().sql("select count(*) from t").await.unwrap(), "25");
    assert_eq!(table().sql("select count(*) from t where id = 2").await.unwrap(), "1");
    assert_eq!(
        table().sql("select id from t where id < 4 order by id limit 5").await.unwrap(),
        "0\n0\n0\n1\n1"
    );
    assert_eq!(table().sql("select count(*) from (select id from t limit 20)").await.unwrap(), "20");
}

#[tokio::test]
async fn keys_need_not_be_projected_nor_still_be_in_the_table() {
    let table = || {
        let mut table = Table::new(vec![field(1, "id", DataType::Int32), field(3, "v", DataType::Int32)])
            .file_with(
                vec![
                    (field(1, "id", DataType::Int32), ints(0..20)),
                    (field(2, "gone", DataType::Int32), ints((0..20).map(|n| n / 5))),
                    (field(3, "old", DataType::Int32), ints((0..20).map(|n| n * 10))),
                ],
                small_row_groups(),
            );
        let file = delete_file(
            &table,
            "e.parquet",
            5,
            vec![
                (field(1, "id", DataType::Int32), ints([1, 2, 7])),
                (field(2, "gone", DataType::Int32), ints([0, 9, 1])),
                (field(9, "else", DataType::Int32), ints([0, 0, 0])),
            ],
        );
        let keys = vec![field(1, "id", DataType::Int32), field(2, "gone", DataType::Int64)];
        table.task(0).deletes.equality = equality(keys, vec![file]);
        table
    };
    let left = || (0..20).filter(|id| ![1, 7].contains(id));
    assert_eq!(table().sql("select v from t").await.unwrap(), listed(left().map(|id| id * 10)));
    assert_eq!(table().sql("select count(*) from t").await.unwrap(), "18");
    assert_eq!(table().sql("select v + 1 from t where v in (10, 20) and id < 15").await.unwrap(), "21");
    assert_eq!(table().sql("select * from t where id = 7 or id = 8").await.unwrap(), "8|80");
}

#[tokio::test]
async fn keys_compare_null_with_null_and_over_types_that_grew() {
    let maybe = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let table = || {
        let mut table = Table::new(vec![field(1, "id", DataType::Int64), field(2, "s", DataType::Utf8View)])
            .file(vec![
                (field(1, "id", DataType::Int32), maybe(vec![Some(1), None, Some(2), None])),
                (
                    field(2, "s", DataType::Utf8),
                    Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, None])) as ArrayRef,
                ),
            ]);
        let ids =
            delete_file(&table, "id.parquet", 5, vec![(field(1, "id", DataType::Int32), maybe(vec![None]))]);
        let strings = Arc::new(StringArray::from(vec![Some("a"), Some("zz")])) as ArrayRef;
        let strings = delete_file(&table, "s.parquet", 5, vec![(field(2, "s", DataType::Utf8), strings)]);
        table.task(0).deletes.equality = [
            equality(vec![field(1, "id", DataType::Int64)], vec![ids]),
            equality(vec![field(2, "s", DataType::Utf8View)], vec![strings]),
        ]
        .concat();
        table
    };
    assert_eq!(table().sql("select id, s from t").await.unwrap(), "2|");
}

#[tokio::test]
async fn a_column_that_a_delete_file_lacks_is_null() {
    let maybe = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let mut table =
        Table::new(vec![field(1, "id", DataType::Int32), field(2, "b", DataType::Int32)]).file(vec![
            (field(1, "id", DataType::Int32), ints([1, 1, 2])),
            (field(2, "b", DataType::Int32), maybe(vec![None, Some(5), None])),
        ]);
    let file = delete_file(&table, "e.parquet", 5, vec![(field(1, "id", DataType::Int32), ints([1]))]);
    let keys = vec![field(1, "id", DataType::Int32), field(2, "b", DataType::Int32)];
    table.task(0).deletes.equality = equality(keys, vec![file]);
    assert_eq!(table.sql("select id, b from t").await.unwrap(), "1|5\n2|");
}

#[tokio::test]
async fn one_nan_equals_another_and_the_two_zeros_differ() {
    let float = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let column = || field(1, "x", DataType::Float64);
    let other_nan = f64::from_bits(0xfff8_0000_0000_0123);
    let mut table = Table::new(vec![column()]).file(vec![(column(), float(vec![1.5, other_nan, -0.0, 0.0]))]);
    let file = delete_file(&table, "e.parquet", 5, vec![(column(), float(vec![f64::NAN, 0.0]))]);
    table.task(0).deletes.equality = equality(vec![column()], vec![file]);
    assert_eq!(table.sql("select x from t").await.unwrap(), "-0.0\n1.5");
}

#[tokio::test]
async fn a_field_of_a_struct_can_be_a_key() {
    let leaf = |id, name| field(id, name, DataType::Int32);
    let whole = || field(2, "s", DataType::Struct(Fields::from(vec![leaf(3, "a"), leaf(4, "b")])));
    let stored: ArrayRef = {
        let fields = Fields::from(vec![leaf(3, "a"), leaf(4, "b")]);
        let nulls = arrow::buffer::NullBuffer::from(vec![true, true, false]);
        Arc::new(StructArray::new(fields, vec![ints([1, 2, 3]), ints([10, 20, 30])], Some(nulls)))
    };
    let table = || {
        let mut table = Table::new(vec![leaf(1, "id"), whole()])
            .file(vec![(leaf(1, "id"), ints([1, 2, 3])), (whole(), Arc::clone(&stored))]);
        let fields = Fields::from(vec![leaf(4, "b")]);
        let deleted = Arc::new(StructArray::new(fields.clone(), vec![ints([20, 30])], None)) as ArrayRef;
        let file =
            delete_file(&table, "e.parquet", 5, vec![(field(2, "s", DataType::Struct(fields)), deleted)]);
        let key = EqualityKey { field: Arc::new(whole()), path: vec![4] };
        table.task(0).deletes.equality =
            vec![Arc::new(EqualityDeletes { keys: vec![key], files: vec![file] })];
        table
    };
    assert_eq!(table().sql("select id from t").await.unwrap(), "1\n3");
}

#[tokio::test]
async fn a_join_is_given_sequence_and_key_of_each_row() {
    let mut table = Table::new(vec![
        field(1, "id", DataType::Int64),
        JoinColumn::Sequence.field(),
        JoinColumn::Key(0).field(),
        JoinColumn::Key(1).field(),
    ]);
    for _ in 0..2 {
        table = table.file(vec![
            (field(1, "id", DataType::Int32), ints([4, 5, 6])),
            (field(2, "gone", DataType::Int32), Arc::new(Int32Array::from(vec![Some(1), None, Some(-1)]))),
        ]);
    }
    let keys =
        |id, name| vec![EqualityKey { field: Arc::new(field(id, name, DataType::Int32)), path: Vec::new() }];
    let list = |keys| Arc::new(EqualityDeletes { keys, files: Vec::new() });
    table.task(0).data_sequence_number = 9;
    table.task(0).deletes.joined = vec![
        JoinedDeletes { layer: 1, group: 3, list: list(keys(2, "gone")) },
        JoinedDeletes { layer: 0, group: 258, list: list(keys(1, "id")) },
    ];
    let sql = "select id, \"\u{1e}join sequence\" as s, encode(\"\u{1e}join 0\", 'hex') as k0, \
               encode(\"\u{1e}join 1\", 'hex') as k1 from (select distinct * from t) where id < 6";
    // Arrow's row format: a byte that says whether there is a value, then its bytes, the sign turned. In a file that a
    // layer is not about, the number of the row in its batch.
    let expected = "4|1|ffffffff0000000000000000|ffffffff0000000000000000\n\
                    4|9|000001020180000004|000000030180000001\n\
                    5|1|ffffffff0000000000000001|ffffffff0000000000000001\n\
                    5|9|000001020180000005|000000030000000000";
    assert_eq!(table.sql(sql).await.unwrap(), expected);
}

#[tokio::test]
async fn deletes_by_place_and_by_value_hold_together() {
    let table = || {
        let mut table = one_file(0..40);
        let vector = vector(&table, &[0, 10, 20]);
        table.task(0).deletes.vector = Some(vector);
        let ids = vec![(field(1, "id", DataType::Int32), ints([1, 10, 39]))];
        let file = delete_file(&table, "e.parquet", 5, ids);
        table.task(0).deletes.equality = equality(vec![field(1, "id", DataType::Int32)], vec![file]);
        table
    };
    let left = || (0..39).filter(|id| ![0, 1, 10, 20].contains(id));
    assert_eq!(table().sql("select id from t").await.unwrap(), listed(left()));
    assert_eq!(table().sql("select count(*) from t where id > 5 and id < 25").await.unwrap(), "17");
}

#[tokio::test]
async fn an_index_is_built_once_a_scan_and_found_by_the_next() {
    let cache = Arc::new(DeleteCache::default());
    let table = one_file(0..10);
    let ids = vec![(field(1, "id", DataType::Int32), ints([1]))];
    let file = delete_file(&table, "e.parquet", 5, ids);
    let lists = equality(vec![field(1, "id", DataType::Int32)], vec![file]);
    let loader = || Loader {
        store: table.router.object_store(),
        scan: Arc::clone(&table.scan),
        cache: Arc::clone(&cache),
        deletes: Arc::default(),
    };
    loader().index(&lists[0]).await.unwrap();
    // Another scan has the same list as a value of its own, as after decoding.
    let again = Arc::new(EqualityDeletes::clone(&lists[0]));
    std::fs::remove_file(&again.files[0].uri).unwrap();
    loader().index(&again).await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_into_the_memory_pool_is_refused() {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    let table = one_file(0..10);
    let ids = vec![(field(1, "id", DataType::Int32), ints(0..5000))];
    let file = delete_file(&table, "e.parquet", 5, ids);
    let lists = equality(vec![field(1, "id", DataType::Int32)], vec![file]);
    let loader = Loader {
        store: table.router.object_store(),
        scan: Arc::clone(&table.scan),
        cache: Arc::new(DeleteCache::new(Arc::new(GreedyMemoryPool::new(20_000)))),
        deletes: Arc::default(),
    };
    let error = loader.index(&lists[0]).await.unwrap_err();
    assert!(error.to_string().contains("deletes of table lake.db.t"), "{error}");
}

#[test]
fn a_delete_by_a_dropped_field_of_a_struct_is_refused_by_name() {
    let of = |child| field(1, "s", DataType::Struct(vec![field(child, "x", DataType::Int32)].into()));
    let table = Table::new(vec![of(3)]);
    let key = |child| EqualityKey { field: Arc::new(of(child)), path: vec![child] };
    let error = KeyColumns::new(&table.scan, &[&[key(2)]], "s3://b/f.parquet").unwrap_err();
    assert!(error.to_string().contains("a dropped field of column \"s\""), "{error}");
    KeyColumns::new(&table.scan, &[&[key(3)]], "s3://b/f.parquet").unwrap();
}
