//! Columns of the table found in files: by id, by name mapping, by default.

use arrow::array::{Float32Array, Int64Array};
use datafusion::scalar::ScalarValue;

use super::*;

#[tokio::test]
async fn columns_are_found_by_id_after_rename_reorder_and_add() {
    assert_eq!(renamed().sql("select a, b, s from t where b >= 38").await.unwrap(), "5|100|y\n|38|x\n|39|x");
    assert_eq!(renamed().sql("select b from t where a = 5").await.unwrap(), "100");
    assert_eq!(renamed().sql("select b from t where b = 5").await.unwrap(), "5");
    assert_eq!(renamed().sql("select count(*) from t where a is null").await.unwrap(), "40");
    assert_eq!(renamed().sql("select sum(b) from t where a is not null or b > 37").await.unwrap(), "177");
    assert_eq!(renamed().sql("select b from t where a is null order by b desc limit 1").await.unwrap(), "39");
}

#[tokio::test]
async fn a_column_dropped_and_added_again_does_not_show_its_old_data() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(5, "v", DataType::Utf8View)])
            .file(vec![
                (field(1, "id", DataType::Int32), ints([1, 2])),
                (field(2, "v", DataType::Int64), Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef),
            ])
            .file(vec![
                (field(5, "v", DataType::Utf8), strings(&["n"])),
                (field(1, "id", DataType::Int32), ints([3])),
            ])
    };
    assert_eq!(table().sql("select * from t").await.unwrap(), "1|\n2|\n3|n");
    assert_eq!(table().sql("select id from t where v is null").await.unwrap(), "1\n2");
    assert_eq!(table().sql("select id from t where v = 'n'").await.unwrap(), "3");
    assert_eq!(table().sql("select count(v) from t").await.unwrap(), "1");
}

#[tokio::test]
async fn types_that_grew_are_widened_and_pruned_rightly() {
    let table = || {
        Table::new(vec![field(1, "i", DataType::Int64), field(2, "f", DataType::Float64)]).file_with(
            vec![
                (field(1, "i", DataType::Int32), ints(0..30)),
                (
                    field(2, "f", DataType::Float32),
                    Arc::new(Float32Array::from_iter_values((0..30).map(|i| i as f32 / 2.0))),
                ),
            ],
            small_row_groups(),
        )
    };
    assert_eq!(table().sql("select i, f from t where i = 25").await.unwrap(), "25|12.5");
    assert_eq!(table().sql("select i from t where f <= 0.5").await.unwrap(), "0\n1");
    assert_eq!(table().sql("select i from t where i > 5000000000").await.unwrap(), "");
    assert_eq!(
        table().sql("select arrow_typeof(i), arrow_typeof(f) from t limit 1").await.unwrap(),
        "Int64|Float64"
    );
}

#[tokio::test]
async fn a_type_that_may_not_be_read_is_an_error_naming_table_column_and_file() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(2, "v", DataType::Int32)]).file(vec![
            (field(1, "id", DataType::Int32), ints([1])),
            (field(2, "v", DataType::Utf8), strings(&["1"])),
        ])
    };
    let error = table().sql("select v from t").await.unwrap_err().to_string();
    for part in ["lake.db.t", "\"v\"", "0.parquet"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(table().sql("select id from t").await.unwrap(), "1", "a column not asked for does no harm");
}

#[tokio::test]
async fn a_missing_required_column_is_an_error_unless_its_partition_has_a_value() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), required(2, "day", DataType::Utf8View)])
            .file(vec![(field(1, "id", DataType::Int32), ints([1, 2]))])
    };
    let error = table().sql("select * from t").await.unwrap_err().to_string();
    assert!(error.contains("required column \"day\"") && error.contains("0.parquet"), "{error}");
    let constant = || {
        let mut table = table();
        table.task(0).constants = vec![(2, text("mon"))];
        table
    };
    assert_eq!(constant().sql("select * from t").await.unwrap(), "1|mon\n2|mon");
    assert_eq!(constant().sql("select id from t where day = 'mon' and id > 1").await.unwrap(), "2");
    assert_eq!(constant().sql("select id from t where day = 'tue'").await.unwrap(), "");
    assert_eq!(constant().sql("select upper(day), count(*) from t group by 1").await.unwrap(), "MON|2");
}

#[tokio::test]
async fn a_column_in_the_file_wins_over_the_partition_value() {
    let mut table = Table::new(vec![field(1, "id", DataType::Int32)])
        .file(vec![(field(1, "id", DataType::Int32), ints([1]))]);
    table.task(0).constants = vec![(1, ScalarValue::Int32(Some(9)))];
    assert_eq!(table.sql("select id from t").await.unwrap(), "1");
}

#[tokio::test]
async fn a_required_column_written_as_optional_keeps_its_pruning() {
    let table = Table::new(vec![required(1, "id", DataType::Int32)])
        .file_with(vec![(field(1, "id", DataType::Int32), ints(0..40))], small_row_groups());
    let ctx = table.context(&[]);
    let text = query(&ctx, "explain analyze select id from t where id = 35").await.unwrap();
    assert!(text.contains("row_groups_pruned_statistics=4 total → 1 matched"), "{text}");
}

#[tokio::test]
async fn a_renamed_column_keeps_its_pruning_and_pages() {
    let ctx = renamed().context(&[]);
    let text = query(&ctx, "explain analyze select b from t where b = 37").await.unwrap();
    assert!(text.contains("row_groups_pruned_statistics=5 total → 1 matched"), "{text}");
    assert!(text.contains("page_index_rows_pruned=10 total → 5 matched"), "{text}");
}

#[tokio::test]
async fn files_without_ids_are_read_by_name_mapping_only() {
    let table = || {
        Table::new(vec![field(1, "id", DataType::Int32), field(2, "x", DataType::Int32)]).file(vec![
            (Field::new("old", DataType::Int32, true), ints([1])),
            (Field::new("x", DataType::Int32, true), ints([2])),
        ])
    };
    let error = table().sql("select id from t").await.unwrap_err().to_string();
    assert!(error.contains("lake.db.t") && error.contains("not supported yet"), "{error}");
    let mapped = table().with_name_mapping(r#"[{"field-id": 1, "names": ["id", "old"]}]"#);
    assert_eq!(mapped.sql("select * from t").await.unwrap(), "1|");
}

#[tokio::test]
async fn defaults_are_what_older_rows_have() {
    let table = || {
        Table::new(vec![
            field(1, "id", DataType::Int32),
            with_default(required(2, "n", DataType::Int64), "42"),
            with_default(field(3, "s", DataType::Utf8View), "\"new\""),
        ])
        .file(vec![(field(1, "id", DataType::Int32), ints([1, 2]))])
        .file(vec![
            (field(1, "id", DataType::Int32), ints([3])),
            (field(2, "n", DataType::Int64), Arc::new(Int64Array::from(vec![7])) as ArrayRef),
            (field(3, "s", DataType::Utf8), Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
        ])
    };
    assert_eq!(table().sql("select * from t").await.unwrap(), "1|42|new\n2|42|new\n3|7|");
    assert_eq!(table().sql("select id from t where n = 42 and s = 'new'").await.unwrap(), "1\n2");
    assert_eq!(table().sql("select id from t where s is null").await.unwrap(), "3");
    assert_eq!(table().sql("select n, count(*) from t group by n").await.unwrap(), "42|2\n7|1");
    let mut given = table();
    given.task(0).constants = vec![(3, text("part"))];
    assert_eq!(
        given.sql("select id from t where s = 'part'").await.unwrap(),
        "1\n2",
        "a partition has its own value"
    );
    let mut null = table();
    null.task(0).constants = vec![(3, ScalarValue::Utf8(None))];
    assert_eq!(
        null.sql("select id from t where s is null").await.unwrap(),
        "1\n2\n3",
        "a partition of NULL is not one that says nothing"
    );
    let unreadable = Table::new(vec![with_default(field(2, "n", DataType::Int64), "\"x\"")])
        .file(vec![(field(1, "id", DataType::Int32), ints([1]))]);
    let error = unreadable.sql("select * from t").await.unwrap_err().to_string();
    assert!(error.contains("default value of column \"n\""), "{error}");
}

#[tokio::test]
async fn columns_that_differ_only_by_case_are_two() {
    let table = || {
        Table::new(vec![field(1, "a", DataType::Int32), field(2, "A", DataType::Int32)]).file(vec![
            (field(2, "a", DataType::Int32), ints([20, 21])),
            (field(1, "b", DataType::Int32), ints([10, 11])),
        ])
    };
    assert_eq!(table().sql("select a, \"A\" from t").await.unwrap(), "10|20\n11|21");
    assert_eq!(table().sql("select a from t where \"A\" = 21").await.unwrap(), "11");
}
