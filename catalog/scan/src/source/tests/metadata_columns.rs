//! Metadata columns and row lineage.

use arrow::array::Int64Array;

use super::*;
use crate::FileTask;

/// Every metadata column, after the table's own.
fn with_metadata(mut fields: Vec<Field>) -> Vec<Field> {
    let partition = vec![Field::new("day", DataType::Utf8View, true)].into();
    fields.extend(MetadataColumn::ALL.into_iter().map(|column| column.field(&partition)));
    fields
}

#[tokio::test]
async fn metadata_columns_are_right_under_splits_filters_and_pruning() {
    let table = || {
        let mut table = Table::new(with_metadata(vec![field(1, "id", DataType::Int32)]))
            .file_with(vec![(field(1, "id", DataType::Int32), ints(100..140))], small_row_groups());
        table.task(0).first_row_id = Some(1_000);
        table.task(0).spec_id = 3;
        table.task(0).data_sequence_number = 5;
        let ranges = row_group_ranges(&table.path(0));
        let whole = table.groups.remove(0).remove(0);
        for range in ranges {
            let task = FileTask { range: Some(range), ..whole.task.as_ref().clone() };
            table.groups.push(vec![crate::PlannedFile { task: task.into(), statistics: None }]);
        }
        table
    };
    let all = table()
        .sql("select id, _pos, _row_id, _spec_id, _last_updated_sequence_number from t")
        .await
        .unwrap();
    let mut expected: Vec<_> = (0..40).map(|i| format!("{}|{i}|{}|3|5", 100 + i, 1_000 + i)).collect();
    expected.sort();
    assert_eq!(all, expected.join("\n"));
    assert_eq!(table().sql("select _pos, _row_id from t where id = 137").await.unwrap(), "37|1037");
    assert_eq!(table().sql("select id from t where _pos in (3, 21)").await.unwrap(), "103\n121");
    assert_eq!(table().sql("select id from t where _row_id >= 1038 and id <> 139").await.unwrap(), "138");
    assert_eq!(table().sql("select max(_pos + 1) from t where id < 112").await.unwrap(), "12");
    assert_eq!(table().sql("select id, _pos from t order by _pos desc limit 1").await.unwrap(), "139|39");
    assert_eq!(table().sql("select id from t order by id desc limit 1").await.unwrap(), "139");
    assert_eq!(table().sql("select count(distinct _file) from t").await.unwrap(), "1");
    assert_eq!(table().sql("select count(*) from t where _file like '%0.parquet'").await.unwrap(), "40");
}

#[tokio::test]
async fn stored_lineage_wins_and_files_without_row_ids_have_none() {
    let table = || {
        let lineage = |column: MetadataColumn| column.field(&Vec::<Field>::new().into());
        let stored = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let mut table = Table::new(with_metadata(vec![field(1, "id", DataType::Int32)]));
        for first_row_id in [Some(10), None] {
            table = table.file(vec![
                (field(1, "id", DataType::Int32), ints([1, 2])),
                (lineage(MetadataColumn::RowId), stored(vec![Some(3), None])),
                (lineage(MetadataColumn::LastUpdatedSequenceNumber), stored(vec![None, Some(2)])),
            ]);
            let last = table.groups.len() - 1;
            table.task(last).first_row_id = first_row_id;
            table.task(last).data_sequence_number = 7;
        }
        table
    };
    assert_eq!(
        table().sql("select id, _row_id, _last_updated_sequence_number from t").await.unwrap(),
        "1|3|7\n1||\n2|11|2\n2||"
    );
}

#[tokio::test]
async fn lineage_is_inherited_by_a_file_with_the_very_schema_of_the_scan() {
    let lineage = |column: MetadataColumn| column.field(&Vec::<Field>::new().into());
    let stored = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let (id, row_id) = (field(1, "id", DataType::Int32), lineage(MetadataColumn::RowId));
    let number = lineage(MetadataColumn::LastUpdatedSequenceNumber);
    let mut table = Table::new(vec![id.clone(), row_id.clone(), number.clone()]).file(vec![
        (id, ints([5, 6])),
        (row_id, stored(vec![Some(4), None])),
        (number, stored(vec![None, None])),
    ]);
    table.task(0).first_row_id = Some(6);
    table.task(0).data_sequence_number = 5;
    assert_eq!(table.sql("select * from t").await.unwrap(), "5|4|5\n6|7|5");
}

#[tokio::test]
async fn a_tables_own_column_of_such_a_name_is_its_own() {
    let table = Table::new(vec![field(1, "_pos", DataType::Int32), field(2, "_file", DataType::Int32)])
        .file(vec![(field(1, "_pos", DataType::Int32), ints([7, 8]))]);
    assert_eq!(table.sql("select _pos, _file from t where _pos > 7").await.unwrap(), "8|");
}
